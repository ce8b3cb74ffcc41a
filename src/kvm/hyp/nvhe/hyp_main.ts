/**
 * The hypercalls of the host. Mirrors arch/arm64/kvm/hyp/nvhe/hyp-main.c without protected mode.
 *
 * What differs: __kvm_vcpu_run's answer is given where the guest is left (nvhe/host.ts).
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { EC } from "../../../arm/arch/syndrome.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import type { KvmCpuContext } from "../../kvm_host.ts";
import { kvmAdjustPc } from "../exception.ts";
import {
  HOST_SMCCC_FUNC,
  type HostSmcccFunc,
  hostSmcccId,
  HYP_FUNCTION_BYTES,
  kernHypVa,
  SMCCC_RET_NOT_SUPPORTED,
  SMCCC_RET_SUCCESS,
} from "../kvm_asm.ts";
import {
  __vgicV3GetGicConfig,
  __vgicV3InitLrs,
  __vgicV3ReadVmcr,
  __vgicV3RestoreAprs,
  __vgicV3SaveAprs,
  __vgicV3WriteVmcr,
} from "../vgic_v3_sr.ts";
import { kvmGetMdcrEl2 } from "./debug_sr.ts";
import type { HypMemory } from "./hyp_memory.ts";
import { kvmVcpuRun } from "./switch.ts";
import { kvmTimerSetCntvoff } from "./timer_sr.ts";
import {
  kvmFlushCpuContext,
  kvmFlushVmContext,
  kvmTlbFlushVmid,
  kvmTlbFlushVmidIpa,
} from "./tlb.ts";

/** SCTLR_EL2.DSSBS, bit 44. */
const SCTLR_DSSBS_HI = 1 << 12;
const TWO32 = 0x1_0000_0000;

/** One hypercall: what it needs to reach. */
interface Call {
  readonly port: El2Port;
  readonly memory: HypMemory;
  readonly hostCtxt: KvmCpuContext;
}

/** cpu_reg(host_ctxt, n), by its halves; as a number, exact below 2^53; as a pointer of the kernel's. */
function regLo({ hostCtxt }: Call, n: number): number {
  return hostCtxt.memory.ld32(hostCtxt.regs + 8 * n);
}
function regHi({ hostCtxt }: Call, n: number): number {
  return hostCtxt.memory.ld32(hostCtxt.regs + 8 * n + 4);
}
function regNum(call: Call, n: number): number {
  return regLo(call, n) + regHi(call, n) * TWO32;
}
function pointer(call: Call, n: number): number {
  return kernHypVa(call.memory.va, regLo(call, n));
}

function setReg({ hostCtxt }: Call, n: number, value: number): void {
  hostCtxt.memory.st32(hostCtxt.regs + 8 * n, value);
  hostCtxt.memory.st32(hostCtxt.regs + 8 * n + 4, value < 0 ? -1 : 0);
}

/** host_hcall. */
const HOST_HCALL: Readonly<Partial<Record<HostSmcccFunc, (call: Call) => void>>> = {
  __kvm_get_mdcr_el2: (c) => setReg(c, 1, kvmGetMdcrEl2(c.port)),
  __kvm_enable_ssbs: ({ port }) =>
    port.write(R.SCTLR_EL2, port.readLo(R.SCTLR_EL2), port.readHi(R.SCTLR_EL2) | SCTLR_DSSBS_HI),
  __vgic_v3_init_lrs: ({ port }) => __vgicV3InitLrs(port),
  __vgic_v3_get_gic_config: (c) => setReg(c, 1, __vgicV3GetGicConfig(c.port)),
  __kvm_adjust_pc: (c) => kvmAdjustPc(c.port, c.memory.vcpu(c.port, pointer(c, 1))),
  __kvm_vcpu_run: (c) => kvmVcpuRun(c.port, c.memory, pointer(c, 1)),
  __kvm_flush_vm_context: ({ port }) => kvmFlushVmContext(port),
  __kvm_tlb_flush_vmid_ipa: (c) =>
    kvmTlbFlushVmidIpa(c.port, c.memory.kvm(c.port, pointer(c, 1)), regNum(c, 2)),
  __kvm_tlb_flush_vmid: (c) => kvmTlbFlushVmid(c.port, c.memory.kvm(c.port, pointer(c, 1))),
  __kvm_flush_cpu_context: (c) => kvmFlushCpuContext(c.port, c.memory.kvm(c.port, pointer(c, 1))),
  __kvm_timer_set_cntvoff: (c) => kvmTimerSetCntvoff(c.port, regLo(c, 1), regHi(c, 1)),
  __vgic_v3_read_vmcr: (c) => setReg(c, 1, __vgicV3ReadVmcr(c.port)),
  __vgic_v3_write_vmcr: (c) => __vgicV3WriteVmcr(c.port, regLo(c, 1)),
  __vgic_v3_save_aprs: (c) => __vgicV3SaveAprs(c.port, c.memory.cpuIf(c.port, pointer(c, 1), true)),
  __vgic_v3_restore_aprs: (c) =>
    __vgicV3RestoreAprs(c.port, c.memory.cpuIf(c.port, pointer(c, 1), false)),
};

/** The table by number: the function, if there is one. */
const BY_NUMBER = Object.entries(HOST_SMCCC_FUNC).reduce((table, [name, number]) => {
  table[number] = HOST_HCALL[name as HostSmcccFunc];
  return table;
}, [] as (((call: Call) => void) | undefined)[]);

/** Names of EL2's functions by number, for addresses of theirs: as nm shows them. */
export const HYP_FUNCTION_NAMES: readonly string[] = Object.entries(HOST_SMCCC_FUNC).reduce(
  (names, [name, number]) => {
    names[number] = `__kvm_nvhe_handle_${name}`;
    return names;
  },
  [] as string[],
);

/** handle_host_hcall. */
function handleHostHcall(call: Call): void {
  const number = regNum(call, 0) - hostSmcccId(0);
  const hcall = BY_NUMBER[number];
  if (hcall === undefined) return setReg(call, 0, SMCCC_RET_NOT_SUPPORTED);
  setReg(call, 0, SMCCC_RET_SUCCESS);
  const va = call.memory.symbols.functions + HYP_FUNCTION_BYTES * number;
  call.port.branch(va % TWO32, Math.floor(va / TWO32));
  hcall(call);
}

/** handle_trap: what the host at EL1 has done that leads to EL2. There is nobody to forward an SMC to. */
export function handleTrap(port: El2Port, memory: HypMemory, hostCtxt: KvmCpuContext): void {
  if (port.readLo(R.ESR_EL2) >>> 26 !== EC.HVC64) memory.bug(port);
  handleHostHcall({ port, memory, hostCtxt });
}
