/**
 * The vgic on GICv3 hardware: list registers, ICH_VMCR_EL2, probe. Mirrors
 * arch/arm64/kvm/vgic/vgic-v3.c.
 *
 * What differs: no GICv2 guests, no LPIs (pending tables), no GICv4, no trapping of ICC_* registers.
 * With a single list register an overflow waits for EOI, not for underflow, and mapped interrupts are
 * deactivated by software, since the hardware reports no end of those.
 * The redistributor regions of that file are in vgic_v3_redist.ts.
 */
import * as gic from "../../arm/arch/gic.ts";
import { fieldOf, ICC_SRE } from "../../arm/arch/gic.ts";
import * as lockModule from "../../base/lock.ts";
import * as vgicV3Sr from "../hyp/vgic_v3_sr.ts";
import { vtrToMaxLrIdx } from "../hyp/vgic_v3_sr.ts";
import type { El2Port } from "../../arm/el2_port.ts";
import * as kvmHost from "../kvm_host.ts";
import { KVM_MAX_VCPUS, type KvmHost, type Vcpu, type VgicIrq } from "../kvm_host.ts";
import * as vgicGlobalModule from "./vgic_global.ts";
import { GIC_TYPE, type GicKvmInfo } from "./vgic_global.ts";
import * as vgicLr from "./vgic_lr.ts";
import * as vgicIrq from "./vgic_irq.ts";
import type { VgicVmcr } from "./vgic_irq.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { LOCK_RANK } = lockModule;
const { ICH_HCR, ICH_LR_HI, ICH_VMCR, ICH_VTR, withField } = gic;
const { vgicV3LoadVhe, vgicV3PutVhe } = vgicV3Sr;
const { VGIC_NR_PRIVATE_IRQS } = kvmHost;
const { setVgicGlobal, vgicGlobal } = vgicGlobalModule;
const { allowsPending, flushedAsPending, foldLr, noteFlushedActive } = vgicLr;
const {
  dropIrq,
  irqIsPending,
  takeIrq,
  VGIC_CONFIG_LEVEL,
  vgicGetIrq,
  vgicIrqNeedsResampling,
  vgicPutIrq,
  vgicValidSpi,
} = vgicIrq;

const { PENDING, ACTIVE, EOI, HW, Group, Priority } = ICH_LR_HI;

/**
 * Wants a maintenance interrupt when at most one list register is still in use. Of a single one that
 * always holds, and no guest would get anywhere: there it is wanted at the end of what is in it.
 */
export function vgicV3SetUnderflow(vcpu: Vcpu): void {
  const { cpuIf, kvm } = vcpu;
  if (vgicGlobal(kvm.host).nrLr > 1) cpuIf.vgicHcr |= ICH_HCR.UIE;
  else cpuIf.memory.st32(cpuIf.lr + 4, cpuIf.memory.ld32(cpuIf.lr + 4) | EOI);
}

function lrSignalsEoiMi(hi: number): boolean {
  return (hi & (PENDING | ACTIVE)) === 0 && (hi & EOI) !== 0 && (hi & HW) === 0;
}

/** Takes the state of the used list registers back into the interrupts. Interrupts off. */
export function vgicV3FoldLrState(vcpu: Vcpu): void {
  const { kvm, cpuIf } = vcpu;
  const { host } = kvm, { alone } = host.locks;
  const info = vgicGlobal(host).info;
  const words = cpuIf.memory.i32, lrs = cpuIf.lr >>> 2, used = cpuIf.usedLrs;
  cpuIf.vgicHcr &= ~ICH_HCR.UIE;
  let touched = 0;
  for (let lr = 0; lr < used; lr++) {
    const intid = words[lrs + 2 * lr] as number;
    const hi = words[lrs + 2 * lr + 1] as number;
    if (lrSignalsEoiMi(hi) && vgicValidSpi(kvm, intid)) {
      info.notifyAckedIrq?.(kvm, intid - VGIC_NR_PRIVATE_IRQS);
    }
    const irq = vgicGetIrq(kvm, vcpu, intid);
    if (!irq) continue;
    if (!alone) takeIrq(host, irq);
    foldLr(vcpu, irq, lr, (hi & PENDING) !== 0, (hi & ACTIVE) !== 0);
    if (!alone) dropIrq(host, irq);
    vgicPutIrq(kvm, irq);
    touched++;
  }
  if (alone) host.locks.passed(LOCK_RANK.irq, touched);
  cpuIf.usedLrs = 0;
}

/** Bits 63 to 32 of the list register that presents the interrupt, without its state. */
function lrAttributes(host: KvmHost, irq: VgicIrq): number {
  let hi = irq.priority << Priority.shift;
  if (irq.group) hi |= Group;
  if (irq.hw && !vgicIrqNeedsResampling(host, irq)) hi |= HW | irq.hwIntid;
  else if (irq.config === VGIC_CONFIG_LEVEL) hi |= EOI;
  return hi;
}

/** Writes the interrupt into the shadow of list register `lr`. Requires the irq lock. */
export function vgicV3PopulateLr(vcpu: Vcpu, irq: VgicIrq, lr: number): void {
  const { cpuIf } = vcpu;
  let hi = lrAttributes(vcpu.kvm.host, irq);
  if (irq.active) {
    hi |= ACTIVE;
    noteFlushedActive(vcpu, lr);
  }
  if (allowsPending(irq, (hi & HW) !== 0) && irqIsPending(irq)) {
    hi |= PENDING;
    flushedAsPending(vcpu, irq, lr);
  }
  cpuIf.memory.st32(cpuIf.lr + 8 * lr, irq.intid);
  cpuIf.memory.st32(cpuIf.lr + 8 * lr + 4, hi);
}

/** Empties the shadow of list register `lr`. */
export function vgicV3ClearLr(vcpu: Vcpu, lr: number): void {
  const { cpuIf } = vcpu, words = cpuIf.memory.i32, at = (cpuIf.lr >>> 2) + 2 * lr;
  words[at] = 0;
  words[at + 1] = 0;
}

/** Sets the shadow of ICH_VMCR_EL2. With SRE, VFIQEn reads as one and VAckCtl as zero. */
export function vgicV3SetVmcr(vcpu: Vcpu, vmcr: Readonly<VgicVmcr>): void {
  let value: number = ICH_VMCR.VFIQEn;
  if (vmcr.grpen0 & 1) value |= ICH_VMCR.VENG0;
  if (vmcr.grpen1 & 1) value |= ICH_VMCR.VENG1;
  if (vmcr.cbpr & 1) value |= ICH_VMCR.VCBPR;
  if (vmcr.eoim & 1) value |= ICH_VMCR.VEOIM;
  value = withField(value, ICH_VMCR.VBPR1, vmcr.abpr);
  value = withField(value, ICH_VMCR.VBPR0, vmcr.bpr);
  vcpu.cpuIf.vgicVmcr = withField(value, ICH_VMCR.VPMR, vmcr.pmr);
}

/** The shadow of ICH_VMCR_EL2 in parts. */
export function vgicV3GetVmcr(vcpu: Vcpu): VgicVmcr {
  const value = vcpu.cpuIf.vgicVmcr;
  return {
    grpen0: value & ICH_VMCR.VENG0 ? 1 : 0,
    grpen1: value & ICH_VMCR.VENG1 ? 1 : 0,
    ackctl: 0,
    fiqen: 1,
    cbpr: value & ICH_VMCR.VCBPR ? 1 : 0,
    eoim: value & ICH_VMCR.VEOIM ? 1 : 0,
    abpr: fieldOf(value, ICH_VMCR.VBPR1),
    bpr: fieldOf(value, ICH_VMCR.VBPR0),
    pmr: fieldOf(value, ICH_VMCR.VPMR),
  };
}

/** Gives the vCPU a CPU interface in its reset state. */
export function vgicV3Enable(vcpu: Vcpu): void {
  const { cpuIf, vgic } = vcpu;
  const vtr = vgicGlobal(vcpu.kvm.host).ichVtrEl2;
  // Zero makes the hardware put the binary points to their reset values; all else resets to zero.
  cpuIf.vgicVmcr = 0;
  cpuIf.vgicSre = ICC_SRE.DIB | ICC_SRE.DFB | ICC_SRE.SRE;
  vgic.numIdBits = fieldOf(vtr, ICH_VTR.IDbits);
  vgic.numPriBits = fieldOf(vtr, ICH_VTR.PRIbits) + 1;
  cpuIf.vgicHcr = ICH_HCR.En;
}

/** Reads the virtual CPU interface's properties from the current physical CPU. Returns 0. */
export function vgicV3Probe(host: KvmHost, port: El2Port, info: GicKvmInfo): number {
  const ichVtrEl2 = host.hyp.vgicV3GetGicConfig(port);
  setVgicGlobal(host, {
    info,
    type: GIC_TYPE.V3,
    vctrlBase: 0,
    vcpuBase: 0,
    canEmulateGicv2: false,
    maxGicVcpus: KVM_MAX_VCPUS,
    ichVtrEl2,
    nrLr: vtrToMaxLrIdx(ichVtrEl2) + 1,
    irqOps: [],
  });
  return 0;
}

/** vcpu_load. */
export function vgicV3Load(vcpu: Vcpu): void {
  const port = vcpu.port();
  const { host } = vcpu.kvm;
  if (host.hyp.vhe) return vgicV3LoadVhe(port, vcpu.cpuIf, vgicGlobal(host).ichVtrEl2);
  host.hyp.vgicV3WriteVmcr(port, vcpu.cpuIf.vgicVmcr);
  host.hyp.vgicV3RestoreAprs(port, vcpu.cpuIf);
}

/** Reads ICH_VMCR_EL2 back. */
export function vgicV3VmcrSync(vcpu: Vcpu): void {
  vcpu.cpuIf.vgicVmcr = vcpu.kvm.host.hyp.vgicV3ReadVmcr(vcpu.port());
}

/** vcpu_put. */
export function vgicV3Put(vcpu: Vcpu): void {
  const port = vcpu.port();
  const { host } = vcpu.kvm;
  if (host.hyp.vhe) return vgicV3PutVhe(port, vcpu.cpuIf, vgicGlobal(host).ichVtrEl2);
  vgicV3VmcrSync(vcpu);
  host.hyp.vgicV3SaveAprs(port, vcpu.cpuIf);
}
