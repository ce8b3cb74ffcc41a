/**
 * Switching of the debug registers while the guest uses them. Mirrors
 * arch/arm64/kvm/hyp/include/hyp/debug-sr.h.
 */
import type { El2Port } from "../../arm/el2_port.ts";
import * as sysregsModule from "../../arm/arch/sysregs.ts";
import type { SysregName } from "../../arm/arch/sysregs.ts";
import * as kvmHost from "../kvm_host.ts";
import type { HypVcpu } from "../kvm_host.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { R } = sysregsModule;
const { IFLAG, SAVED, vcpuClearFlag, vcpuGetFlag } = kvmHost;

const numbered = (kind: string): readonly number[] =>
  Array.from({ length: 16 }, (_, n) => R[`DBG${kind}R${n}_EL1` as SysregName]);
const BCR = numbered("BC"), BVR = numbered("BV"), WCR = numbered("WC"), WVR = numbered("WV");

/** Where a set of debug registers is kept: addresses of arrays of 64-bit words. */
interface DebugState {
  readonly bcr: number;
  readonly bvr: number;
  readonly wcr: number;
  readonly wvr: number;
}

function move(
  action: "save" | "restore",
  port: El2Port,
  regs: readonly number[],
  count: number,
  at: number,
): void {
  for (let i = 0; i < count; i++) port[action](regs[i] as number, at + 8 * i);
}

function moveAll(action: "save" | "restore", port: El2Port, state: DebugState): void {
  const dfr0 = port.readLo(R.ID_AA64DFR0_EL1);
  const brps = ((dfr0 >>> 12) & 15) + 1, wrps = ((dfr0 >>> 20) & 15) + 1;
  move(action, port, BCR, brps, state.bcr);
  move(action, port, BVR, brps, state.bvr);
  move(action, port, WCR, wrps, state.wcr);
  move(action, port, WVR, wrps, state.wvr);
}

/** What `debug_ptr` points to: the guest's units, or user space's. */
function guestState(vcpu: HypVcpu): DebugState {
  if (vcpu.state.externalDebug) {
    const { externalDbgBcr: bcr, externalDbgBvr: bvr } = vcpu.state;
    return { bcr, bvr, wcr: vcpu.state.externalDbgWcr, wvr: vcpu.state.externalDbgWvr };
  }
  const { dbgBcr: bcr, dbgBvr: bvr, dbgWcr: wcr, dbgWvr: wvr } = vcpu.state;
  return { bcr, bvr, wcr, wvr };
}

function hostState(vcpu: HypVcpu): DebugState {
  const { hostDbgBcr: bcr, hostDbgBvr: bvr, hostDbgWcr: wcr, hostDbgWvr: wvr } = vcpu.state;
  return { bcr, bvr, wcr, wvr };
}

const MDCCINT_AT = 8 * SAVED.MDCCINT_EL1;

/** __debug_switch_to_guest. */
export function debugSwitchToGuest(port: El2Port, vcpu: HypVcpu): void {
  if (!vcpuGetFlag(vcpu, IFLAG.DEBUG_DIRTY)) return;
  moveAll("save", port, hostState(vcpu));
  port.save(R.MDCCINT_EL1, vcpu.hostCtxt.sysregs + MDCCINT_AT);
  moveAll("restore", port, guestState(vcpu));
  port.restore(R.MDCCINT_EL1, vcpu.ctxt.sysregs + MDCCINT_AT);
}

/** __debug_switch_to_host. */
export function debugSwitchToHost(port: El2Port, vcpu: HypVcpu): void {
  if (!vcpuGetFlag(vcpu, IFLAG.DEBUG_DIRTY)) return;
  moveAll("save", port, guestState(vcpu));
  port.save(R.MDCCINT_EL1, vcpu.ctxt.sysregs + MDCCINT_AT);
  moveAll("restore", port, hostState(vcpu));
  port.restore(R.MDCCINT_EL1, vcpu.hostCtxt.sysregs + MDCCINT_AT);
  vcpuClearFlag(vcpu, IFLAG.DEBUG_DIRTY);
}
