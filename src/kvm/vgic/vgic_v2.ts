/**
 * The vgic on GICv2 hardware: list registers and GICH, the guest's CPU interface, probe. Mirrors
 * arch/arm64/kvm/vgic/vgic-v2.c, with vgic_irq_get_lr_count of vgic.h.
 *
 * What differs: GICV is always a whole number of pages, so that guests have it directly (no
 * vgic-v2-cpuif-proxy). With a single list register an overflow waits for EOI, as with GICv3 (vgic_v3.ts).
 * GICH is memory, which the host kernel reaches itself, with VHE and without.
 */
import { fieldOf, ICH_HCR, ICH_VMCR, withField } from "../../arm/arch/gic.ts";
import { GICH, GICH_LR, GICH_VMCR_PMR, GICV2_MAX_CPUS } from "../../arm/arch/gicv2.ts";
import type { El2Port } from "../../arm/el2_port.ts";
import { ERRNO } from "./errno.ts";
import {
  type Kvm,
  type KvmHost,
  type Vcpu,
  VGIC_NR_PRIVATE_IRQS,
  type VgicIrq,
} from "../kvm_host.ts";
import { kvmPhysAddrIoremap } from "../mmu.ts";
import { GIC_TYPE, type GicKvmInfo, setVgicGlobal, vgicGlobal } from "./vgic_global.ts";
import {
  dropIrq,
  irqIsPending,
  takeIrq,
  VGIC_ADDR_UNDEF,
  VGIC_CONFIG_LEVEL,
  vgicGetIrq,
  vgicIrqIsMultiSgi,
  vgicIrqIsSgi,
  vgicIrqNeedsResampling,
  vgicPutIrq,
  vgicValidSpi,
  type VgicVmcr,
} from "./vgic_irq.ts";
import { allowsPending, flushedAsPending, foldLr, noteFlushedActive } from "./vgic_lr.ts";

const { PENDING, ACTIVE, EOI, HW, Group1, VirtualID, PhysicalID, CPUID, Priority } = GICH_LR;
const STATE = PENDING | ACTIVE;

/** Bytes of the frames that a guest sees. */
export const KVM_VGIC_V2_DIST_SIZE = 0x1000;
export const KVM_VGIC_V2_CPU_SIZE = 0x2000;

const vctrl = (vcpu: Vcpu): number => vgicGlobal(vcpu.kvm.host).vctrlBase;

/** Empties every list register of the port's CPU. */
export function vgicV2InitLrs(host: KvmHost, port: El2Port): void {
  const { nrLr, vctrlBase } = vgicGlobal(host);
  for (let lr = 0; lr < nrLr; lr++) port.mmioWrite(vctrlBase + GICH.LR0 + 4 * lr, 0);
}

function lrOf(vcpu: Vcpu, lr: number): number {
  return vcpu.vgicV2.memory.ld32(vcpu.vgicV2.lr + 4 * lr);
}

function setLr(vcpu: Vcpu, lr: number, value: number): void {
  vcpu.vgicV2.memory.st32(vcpu.vgicV2.lr + 4 * lr, value);
}

/** Wants a maintenance interrupt when at most one list register is still in use; see vgicV3SetUnderflow. */
export function vgicV2SetUnderflow(vcpu: Vcpu): void {
  if (vgicGlobal(vcpu.kvm.host).nrLr > 1) vcpu.vgicV2.vgicHcr |= ICH_HCR.UIE;
  else setLr(vcpu, 0, lrOf(vcpu, 0) | EOI);
}

function lrSignalsEoiMi(lr: number): boolean {
  return (lr & STATE) === 0 && (lr & EOI) !== 0 && (lr & HW) === 0;
}

/** One list register's state back into its interrupt, and the sender of an SGI. Requires the irq lock. */
function foldV2Lr(vcpu: Vcpu, irq: VgicIrq, lr: number, value: number): void {
  const pending = (value & PENDING) !== 0;
  const active = (value & ACTIVE) !== 0;
  foldLr(vcpu, irq, lr, pending, active);
  if (!vgicIrqIsSgi(irq.intid)) return;
  const cpuid = fieldOf(value, CPUID);
  if (active) irq.activeSource = cpuid;
  if (pending) irq.source |= 1 << cpuid;
}

/** Takes the state of the used list registers back into the interrupts. Interrupts off. */
export function vgicV2FoldLrState(vcpu: Vcpu): void {
  const { kvm, vgicV2 } = vcpu;
  const { info } = vgicGlobal(kvm.host);
  vgicV2.vgicHcr &= ~ICH_HCR.UIE;
  for (let lr = 0; lr < vgicV2.usedLrs; lr++) {
    const value = lrOf(vcpu, lr);
    const intid = fieldOf(value, VirtualID);
    if (lrSignalsEoiMi(value) && vgicValidSpi(kvm, intid)) {
      info.notifyAckedIrq?.(kvm, intid - VGIC_NR_PRIVATE_IRQS);
    }
    const irq = vgicGetIrq(kvm, vcpu, intid);
    if (!irq) continue;
    takeIrq(kvm.host, irq);
    foldV2Lr(vcpu, irq, lr, value);
    dropIrq(kvm.host, irq);
    vgicPutIrq(kvm, irq);
  }
  vgicV2.usedLrs = 0;
}

/** What of a list register does not depend on the interrupt's state. */
function lrAttributes(host: KvmHost, irq: VgicIrq): number {
  // Five bits of priority are all it holds.
  let value = irq.intid | ((irq.priority >>> 3) << Priority.shift);
  if (irq.group) value |= Group1;
  if (irq.hw && !vgicIrqNeedsResampling(host, irq)) {
    value |= HW | (irq.hwIntid << PhysicalID.shift);
  } else if (irq.config === VGIC_CONFIG_LEVEL) value |= EOI;
  return value;
}

/** An active interrupt's bits; of an SGI that other CPUs have sent too, the end is wanted to be seen. */
function activeBits(irq: VgicIrq): number {
  let value: number = ACTIVE;
  if (vgicIrqIsSgi(irq.intid)) value |= irq.activeSource << CPUID.shift;
  if (vgicIrqIsMultiSgi(irq)) value |= EOI;
  return value;
}

/**
 * A pending SGI's bits: the lowest numbered sender's, whose bit is cleared. While there are more it stays
 * pending, and the end is wanted to be seen. -1 when nobody has sent it, which cannot be.
 */
function takeSgiSource(irq: VgicIrq): number {
  const { source } = irq;
  if (source === 0) return -1;
  const lowest = 31 - Math.clz32(source & -source);
  irq.source = source & (source - 1);
  if (irq.source !== 0) irq.pendingLatch = true;
  return (lowest << CPUID.shift) | (irq.source !== 0 ? EOI : 0);
}

/** Writes the interrupt into the shadow of list register `lr`. Requires the irq lock. */
export function vgicV2PopulateLr(vcpu: Vcpu, irq: VgicIrq, lr: number): void {
  let value = lrAttributes(vcpu.kvm.host, irq);
  let pendingAllowed = allowsPending(irq, (value & HW) !== 0);
  if (irq.active) {
    value |= activeBits(irq);
    noteFlushedActive(vcpu, lr);
    pendingAllowed &&= !vgicIrqIsMultiSgi(irq);
  }
  if (pendingAllowed && irqIsPending(irq)) {
    value |= PENDING;
    flushedAsPending(vcpu, irq, lr);
    if (vgicIrqIsSgi(irq.intid)) {
      const sender = takeSgiSource(irq);
      // The kernel warns ("No SGI source") and leaves the list register as it was.
      if (sender < 0) return;
      value |= sender;
    }
  }
  setLr(vcpu, lr, value);
}

/** Empties the shadow of list register `lr`. */
export function vgicV2ClearLr(vcpu: Vcpu, lr: number): void {
  setLr(vcpu, lr, 0);
}

/** Sets the shadow of GICH_VMCR. */
export function vgicV2SetVmcr(vcpu: Vcpu, vmcr: Readonly<VgicVmcr>): void {
  let value = 0;
  if (vmcr.grpen0 & 1) value |= ICH_VMCR.VENG0;
  if (vmcr.grpen1 & 1) value |= ICH_VMCR.VENG1;
  if (vmcr.ackctl & 1) value |= ICH_VMCR.VAckCtl;
  if (vmcr.fiqen & 1) value |= ICH_VMCR.VFIQEn;
  if (vmcr.cbpr & 1) value |= ICH_VMCR.VCBPR;
  if (vmcr.eoim & 1) value |= ICH_VMCR.VEOIM;
  value = withField(value, ICH_VMCR.VBPR1, vmcr.abpr);
  value = withField(value, ICH_VMCR.VBPR0, vmcr.bpr);
  vcpu.vgicV2.vgicVmcr = withField(value, GICH_VMCR_PMR, vmcr.pmr >>> 3);
}

/** The shadow of GICH_VMCR in parts. */
export function vgicV2GetVmcr(vcpu: Vcpu): VgicVmcr {
  const value = vcpu.vgicV2.vgicVmcr;
  const bit = (mask: number): number => (value & mask) !== 0 ? 1 : 0;
  return {
    grpen0: bit(ICH_VMCR.VENG0),
    grpen1: bit(ICH_VMCR.VENG1),
    ackctl: bit(ICH_VMCR.VAckCtl),
    fiqen: bit(ICH_VMCR.VFIQEn),
    cbpr: bit(ICH_VMCR.VCBPR),
    eoim: bit(ICH_VMCR.VEOIM),
    abpr: fieldOf(value, ICH_VMCR.VBPR1),
    bpr: fieldOf(value, ICH_VMCR.VBPR0),
    pmr: fieldOf(value, GICH_VMCR_PMR) << 3,
  };
}

/** Gives the vCPU a CPU interface in its reset state: the hardware makes a zero the binary points' reset values. */
export function vgicV2Enable(vcpu: Vcpu): void {
  vcpu.vgicV2.vgicVmcr = 0;
  vcpu.vgicV2.vgicHcr = ICH_HCR.En;
}

/** Whether the frames of distributor and CPU interface do not overlap. */
function vgicV2CheckBase(distBase: number, cpuBase: number): boolean {
  return distBase + KVM_VGIC_V2_DIST_SIZE <= cpuBase || cpuBase + KVM_VGIC_V2_CPU_SIZE <= distBase;
}

/**
 * Before the first run: checks the frames, initialises if nobody has (`init` is vgicInit), and gives the
 * guest GICV at the address of its GICC. 0 or a negative error number.
 */
export function vgicV2MapResources(kvm: Kvm, init: (kvm: Kvm) => number): number {
  const { distBase, cpuBase } = kvm.vgic;
  if (distBase === VGIC_ADDR_UNDEF || cpuBase === VGIC_ADDR_UNDEF) return ERRNO.ENXIO;
  if (!vgicV2CheckBase(distBase, cpuBase)) return ERRNO.EINVAL;
  const { vcpuBase } = vgicGlobal(kvm.host);
  return init(kvm) || kvmPhysAddrIoremap(kvm, cpuBase, vcpuBase, KVM_VGIC_V2_CPU_SIZE, true);
}

/** Reads what the hardware has, from the port's CPU. Returns 0, or -ENXIO without GICH. */
export function vgicV2Probe(host: KvmHost, port: El2Port, info: GicKvmInfo): number {
  if (info.vctrl === 0) return ERRNO.ENXIO;
  const vtr = port.mmioRead(info.vctrl + GICH.VTR);
  setVgicGlobal(host, {
    info,
    type: GIC_TYPE.V2,
    vctrlBase: info.vctrl,
    vcpuBase: info.vcpu,
    canEmulateGicv2: true,
    maxGicVcpus: GICV2_MAX_CPUS,
    ichVtrEl2: 0,
    nrLr: (vtr & 0x3f) + 1,
    irqOps: [],
  });
  return 0;
}

function saveLrs(port: El2Port, vcpu: Vcpu): void {
  const base = vctrl(vcpu);
  const elrsr = port.mmioRead(base + GICH.ELRSR0);
  for (let lr = 0; lr < vcpu.vgicV2.usedLrs; lr++) {
    const at = base + GICH.LR0 + 4 * lr;
    setLr(vcpu, lr, elrsr & (1 << lr) ? lrOf(vcpu, lr) & ~STATE : port.mmioRead(at));
    port.mmioWrite(at, 0);
  }
}

/** After an exit: reads the used list registers back and turns the interface off. */
export function vgicV2SaveState(vcpu: Vcpu): void {
  if (vcpu.vgicV2.usedLrs === 0) return;
  const port = vcpu.port();
  saveLrs(port, vcpu);
  port.mmioWrite(vctrl(vcpu) + GICH.HCR, 0);
}

/** Before an entry: turns the interface on and fills the used list registers. Nothing when none is used. */
export function vgicV2RestoreState(vcpu: Vcpu): void {
  const { usedLrs, vgicHcr } = vcpu.vgicV2;
  if (usedLrs === 0) return;
  const port = vcpu.port();
  const base = vctrl(vcpu);
  port.mmioWrite(base + GICH.HCR, vgicHcr);
  for (let lr = 0; lr < usedLrs; lr++) port.mmioWrite(base + GICH.LR0 + 4 * lr, lrOf(vcpu, lr));
}

/** vcpu_load. */
export function vgicV2Load(vcpu: Vcpu): void {
  const port = vcpu.port();
  port.mmioWrite(vctrl(vcpu) + GICH.VMCR, vcpu.vgicV2.vgicVmcr);
  port.mmioWrite(vctrl(vcpu) + GICH.APR, vcpu.vgicV2.vgicApr);
}

/** Reads GICH_VMCR back. */
export function vgicV2VmcrSync(vcpu: Vcpu): void {
  vcpu.vgicV2.vgicVmcr = vcpu.port().mmioRead(vctrl(vcpu) + GICH.VMCR);
}

/** vcpu_put. */
export function vgicV2Put(vcpu: Vcpu): void {
  vgicV2VmcrSync(vcpu);
  vcpu.vgicV2.vgicApr = vcpu.port().mmioRead(vctrl(vcpu) + GICH.APR);
}
