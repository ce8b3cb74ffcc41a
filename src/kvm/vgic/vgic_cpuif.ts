/**
 * The virtual CPU interface, whichever version the hardware has: the static functions of
 * arch/arm64/kvm/vgic/vgic.c that choose between vgic-v2.c and vgic-v3.c.
 */
import * as vgicV3Sr from "../hyp/vgic_v3_sr.ts";
import type { El2Port } from "../../arm/el2_port.ts";
import type { Vcpu, VgicIrq } from "../kvm_host.ts";
import * as vgicGlobalModule from "./vgic_global.ts";
import { GIC_TYPE } from "./vgic_global.ts";
import { vgicInitialized, type VgicVmcr } from "./vgic_irq.ts";
import {
  vgicV2ClearLr,
  vgicV2FoldLrState,
  vgicV2GetVmcr,
  vgicV2Load,
  vgicV2PopulateLr,
  vgicV2Put,
  vgicV2RestoreState,
  vgicV2SaveState,
  vgicV2SetUnderflow,
  vgicV2SetVmcr,
  vgicV2VmcrSync,
} from "./vgic_v2.ts";
import {
  vgicV3ClearLr,
  vgicV3FoldLrState,
  vgicV3GetVmcr,
  vgicV3Load,
  vgicV3PopulateLr,
  vgicV3Put,
  vgicV3SetUnderflow,
  vgicV3SetVmcr,
  vgicV3VmcrSync,
} from "./vgic_v3.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { __vgicV3RestoreState, __vgicV3SaveState } = vgicV3Sr;
const { vgicGlobal } = vgicGlobalModule;
const V2 = GIC_TYPE.V2;

/** Writes the interrupt into the shadow of list register `lr`. Requires the irq lock. */
export function vgicPopulateLr(vcpu: Vcpu, irq: VgicIrq, lr: number): void {
  if (hasGicv2(vcpu)) vgicV2PopulateLr(vcpu, irq, lr);
  else vgicV3PopulateLr(vcpu, irq, lr);
}

/** Empties the shadows of list registers `from` to `end` - 1. */
export function vgicClearLrs(vcpu: Vcpu, from: number, end: number): void {
  if (hasGicv2(vcpu)) { for (let lr = from; lr < end; lr++) vgicV2ClearLr(vcpu, lr); }
  else for (let lr = from; lr < end; lr++) vgicV3ClearLr(vcpu, lr);
}

/** Wants a maintenance interrupt when the list registers run empty. */
export function vgicSetUnderflow(vcpu: Vcpu): void {
  if (hasGicv2(vcpu)) vgicV2SetUnderflow(vcpu);
  else vgicV3SetUnderflow(vcpu);
}

/** List registers that the last flush has filled. */
export function usedLrs(vcpu: Vcpu): number {
  return hasGicv2(vcpu) ? vcpu.vgicV2.usedLrs : vcpu.cpuIf.usedLrs;
}

export function setUsedLrs(vcpu: Vcpu, used: number): void {
  if (hasGicv2(vcpu)) vcpu.vgicV2.usedLrs = used;
  else vcpu.cpuIf.usedLrs = used;
}

/** Takes the state of the list registers back into the interrupts. */
export function vgicFoldLrState(vcpu: Vcpu): void {
  if (hasGicv2(vcpu)) vgicV2FoldLrState(vcpu);
  else vgicV3FoldLrState(vcpu);
}

/** The hardware's kind of CPU interface (the negation of gicv3_cpuif). */
function hasGicv2(vcpu: Vcpu): boolean {
  return vgicGlobal(vcpu.kvm.host).type === V2;
}

// What the kernel can reach (can_access_vgic_from_kernel): a GICv2 is memory, and with VHE it has EL2's registers; else
// the list registers are moved at EL2, within the world switch.

/** Reads the used list registers back, from where they can be reached. */
export function vgicSaveState(vcpu: Vcpu, port: El2Port): void {
  const { host } = vcpu.kvm;
  if (vgicGlobal(host).type === V2) vgicV2SaveState(vcpu);
  else if (host.hyp.vhe) __vgicV3SaveState(port, vcpu);
}

/** Fills the used list registers, from where they can be reached. */
export function vgicRestoreState(vcpu: Vcpu, port: El2Port): void {
  const { host } = vcpu.kvm;
  if (vgicGlobal(host).type === V2) vgicV2RestoreState(vcpu);
  else if (host.hyp.vhe) __vgicV3RestoreState(port, vcpu);
}

/** vcpu_load: the virtual CPU interface's registers that stay in hardware until {@link kvmVgicPut}. */
export function kvmVgicLoad(vcpu: Vcpu): void {
  if (!vgicInitialized(vcpu.kvm)) return;
  if (hasGicv2(vcpu)) vgicV2Load(vcpu);
  else vgicV3Load(vcpu);
}

/** vcpu_put. */
export function kvmVgicPut(vcpu: Vcpu): void {
  if (!vgicInitialized(vcpu.kvm)) return;
  if (hasGicv2(vcpu)) vgicV2Put(vcpu);
  else vgicV3Put(vcpu);
}

/** Before blocking: reads ICH_VMCR_EL2 or GICH_VMCR back, for the priority mask. */
export function kvmVgicVmcrSync(vcpu: Vcpu): void {
  if (!vcpu.kvm.vgic.inKernel) return;
  if (hasGicv2(vcpu)) vgicV2VmcrSync(vcpu);
  else vgicV3VmcrSync(vcpu);
}

/** The virtual CPU interface as it was saved. */
export function vgicGetVmcr(vcpu: Vcpu): VgicVmcr {
  return hasGicv2(vcpu) ? vgicV2GetVmcr(vcpu) : vgicV3GetVmcr(vcpu);
}

export function vgicSetVmcr(vcpu: Vcpu, vmcr: Readonly<VgicVmcr>): void {
  if (hasGicv2(vcpu)) vgicV2SetVmcr(vcpu, vmcr);
  else vgicV3SetVmcr(vcpu, vmcr);
}
