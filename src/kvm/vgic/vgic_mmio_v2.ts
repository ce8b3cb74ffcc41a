/**
 * The virtual GICv2's registers as tables, and SGIs by GICD_SGIR. Mirrors
 * arch/arm64/kvm/vgic/vgic-mmio-v2.c.
 *
 * What differs: nothing in behaviour. The CPU interface's registers are here for user space alone, the
 * guest has the hardware's (GICV).
 *
 * GICD_IIDR.Revision: 1 reported GICv2 interrupts as group 0 instead of 1; with 2 the guest can choose
 * groups and they are signalled as chosen.
 */
import { fieldOf, GICD, GICD_CTLR, GICD_TYPER, withField } from "../../arm/arch/gic.ts";
import { GICC, GICC_CTLR, GICD_SGIR, SGIR_FILTER } from "../../arm/arch/gicv2.ts";
import { ERRNO } from "./errno.ts";
import { type Vcpu, VGIC_NR_PRIVATE_IRQS, type VgicIrq } from "../kvm_host.ts";
import { vgicGetVmcr, vgicKickVcpus, vgicQueueIrqUnlock, vgicSetVmcr } from "./vgic.ts";
import {
  dropIrqRestore,
  IMPLEMENTER_ARM,
  irqIsPending,
  KVM_VGIC_IMP_REV_2,
  KVM_VGIC_IMP_REV_3,
  noteRaised,
  PRODUCT_ID_KVM,
  takeIrqSave,
  vgicGetIrq,
  vgicPutIrq,
} from "./vgic_irq.ts";
import * as mmio from "./vgic_mmio.ts";
import { type Handlers, perIrq, withLength } from "./vgic_mmio.ts";

const IIDR_REVISION = { shift: 12, width: 4 } as const;
/** GICC_IIDR's architecture version. */
const GICC_ARCH_VERSION_V2 = 2;

/** GICD_CTLR, TYPER and IIDR. */
function vgicMmioReadV2Misc(vcpu: Vcpu, offset: number): number {
  const { vgic, state } = vcpu.kvm;
  switch (offset & 0xc) {
    case GICD.CTLR:
      return vgic.enabled ? GICD_CTLR.EnableGrp0 : 0;
    case GICD.TYPER: {
      const lines = ((vgic.nrSpis + VGIC_NR_PRIVATE_IRQS) >>> 5) - 1;
      const cpus = withField(0, GICD_TYPER.CPUNumber, state.onlineVcpus - 1);
      return withField(cpus, GICD_TYPER.ITLinesNumber, lines);
    }
    case GICD.IIDR:
      return withField(
        (PRODUCT_ID_KVM << 24) | IMPLEMENTER_ARM,
        IIDR_REVISION,
        vgic.implementationRev,
      );
    default:
      return 0;
  }
}

const vgicMmioWriteV2Misc: mmio.RegionWrite = (vcpu, offset, _len, lo) => {
  if ((offset & 0xc) !== GICD.CTLR) return;
  const dist = vcpu.kvm.vgic;
  const wasEnabled = dist.enabled;
  dist.enabled = (lo & GICD_CTLR.EnableGrp0) !== 0;
  if (!wasEnabled && dist.enabled) vgicKickVcpus(vcpu.kvm);
};

/** User space that writes GICD_IIDR knows of groups: from then on it may write them. */
const vgicMmioUaccessWriteV2Misc: mmio.UaccessWrite = (vcpu, offset, len, value) => {
  if ((offset & 0xc) !== GICD.IIDR) {
    vgicMmioWriteV2Misc(vcpu, offset, len, value, 0);
    return 0;
  }
  const differs = (vgicMmioReadV2Misc(vcpu, offset) ^ value) >>> 0;
  if (withField(differs, IIDR_REVISION, 0) !== 0) return ERRNO.EINVAL;
  const revision = fieldOf(value, IIDR_REVISION);
  if (revision !== KVM_VGIC_IMP_REV_2 && revision !== KVM_VGIC_IMP_REV_3) return ERRNO.EINVAL;
  vcpu.kvm.vgic.v2GroupsUserWritable = true;
  vcpu.kvm.vgic.implementationRev = revision;
  return 0;
};

const vgicMmioUaccessWriteV2Group: mmio.UaccessWrite = (vcpu, offset, len, value) => {
  if (vcpu.kvm.vgic.v2GroupsUserWritable) mmio.vgicMmioWriteGroup(vcpu, offset, len, value, 0);
  return 0;
};

/** The vCPUs, a bit each, that a write of GICD_SGIR by `source` is for. */
function sgirTargets(source: Vcpu, value: number): number {
  const self = 1 << source.state.vcpuId;
  switch (fieldOf(value, GICD_SGIR.TargetListFilter)) {
    case SGIR_FILTER.LIST:
      return fieldOf(value, GICD_SGIR.CPUTargetList);
    case SGIR_FILTER.OTHERS:
      return ((1 << source.kvm.state.onlineVcpus) - 1) & ~self;
    case SGIR_FILTER.SELF:
      return self;
    default:
      return 0;
  }
}

/** Makes an SGI pending from more senders. Requires the irq lock by takeIrqSave, which is dropped. */
function addSources(vcpu: Vcpu, irq: VgicIrq, sources: number, flags: number): void {
  noteRaised(vcpu.kvm, irq, irqIsPending(irq));
  irq.pendingLatch = true;
  irq.source |= sources;
  vgicQueueIrqUnlock(vcpu.kvm, irq, flags);
}

const vgicMmioWriteSgir: mmio.RegionWrite = (source, _offset, _len, lo) => {
  const { kvm } = source;
  const targets = sgirTargets(source, lo);
  kvm.vcpus.forEach((vcpu, c) => {
    const irq = (targets >>> c) & 1
      ? vgicGetIrq(kvm, vcpu, fieldOf(lo, GICD_SGIR.INTID))
      : undefined;
    if (!irq) return;
    const flags = takeIrqSave(kvm.host, irq);
    addSources(source, irq, 1 << source.state.vcpuId, flags);
    vgicPutIrq(kvm, irq);
  });
};

/** ITARGETSR: a byte per interrupt. */
function vgicMmioReadTarget(vcpu: Vcpu, offset: number, len: number): number {
  const intid = mmio.vgicAddrToIntid(offset, 8);
  let value = 0;
  for (let i = 0; i < len; i++) {
    value |= (vgicGetIrq(vcpu.kvm, vcpu, intid + i)?.targets ?? 0) << (8 * i);
  }
  return value >>> 0;
}

/** Those of private interrupts are read-only. An SPI goes to the lowest numbered of its targets, without any to vCPU 0. */
const vgicMmioWriteTarget: mmio.RegionWrite = (vcpu, offset, len, lo) => {
  const { kvm } = vcpu;
  const intid = mmio.vgicAddrToIntid(offset, 8);
  if (intid < VGIC_NR_PRIVATE_IRQS) return;
  const cpus = (1 << kvm.state.onlineVcpus) - 1;
  for (let i = 0; i < len; i++) {
    const irq = vgicGetIrq(kvm, undefined, intid + i);
    if (!irq) continue;
    const flags = takeIrqSave(kvm.host, irq);
    irq.targets = (lo >>> (8 * i)) & cpus;
    const target = irq.targets === 0 ? 0 : 31 - Math.clz32(irq.targets & -irq.targets);
    irq.targetVcpu = kvm.vcpus[target]?.state.base ?? 0;
    dropIrqRestore(kvm.host, irq, flags);
    vgicPutIrq(kvm, irq);
  }
};

/** SPENDSGIR and CPENDSGIR: who has sent, a byte per SGI. */
function vgicMmioReadSgipend(vcpu: Vcpu, offset: number, len: number): number {
  let value = 0;
  for (let i = 0; i < len; i++) {
    value |= (vgicGetIrq(vcpu.kvm, vcpu, (offset & 15) + i)?.source ?? 0) << (8 * i);
  }
  return value >>> 0;
}

const vgicMmioWriteSgipendc: mmio.RegionWrite = (vcpu, offset, len, lo) => {
  const { host } = vcpu.kvm;
  for (let i = 0; i < len; i++) {
    const irq = vgicGetIrq(vcpu.kvm, vcpu, (offset & 15) + i);
    if (!irq) continue;
    const flags = takeIrqSave(host, irq);
    irq.source &= ~((lo >>> (8 * i)) & 0xff);
    if (irq.source === 0) irq.pendingLatch = false;
    dropIrqRestore(host, irq, flags);
    vgicPutIrq(vcpu.kvm, irq);
  }
};

const vgicMmioWriteSgipends: mmio.RegionWrite = (vcpu, offset, len, lo) => {
  const { host } = vcpu.kvm;
  for (let i = 0; i < len; i++) {
    const irq = vgicGetIrq(vcpu.kvm, vcpu, (offset & 15) + i);
    if (!irq) continue;
    const flags = takeIrqSave(host, irq);
    const sources = (lo >>> (8 * i)) & 0xff;
    if ((irq.source | sources) !== 0) addSources(vcpu, irq, sources, flags);
    else dropIrqRestore(host, irq, flags);
    vgicPutIrq(vcpu.kvm, irq);
  }
};

/** The CPU interface for user space. PMR is the field of GICH_VMCR: the upper five bits, as an old interface has it. */
function vgicMmioReadVcpuif(vcpu: Vcpu, offset: number): number {
  const vmcr = vgicGetVmcr(vcpu);
  switch (offset & 0xff) {
    case GICC.CTLR:
      return (vmcr.grpen0 ? GICC_CTLR.EnableGrp0 : 0) | (vmcr.grpen1 ? GICC_CTLR.EnableGrp1 : 0) |
        (vmcr.ackctl ? GICC_CTLR.AckCtl : 0) | (vmcr.fiqen ? GICC_CTLR.FIQEn : 0) |
        (vmcr.cbpr ? GICC_CTLR.CBPR : 0) | (vmcr.eoim ? GICC_CTLR.EOImode : 0);
    case GICC.PMR:
      return vmcr.pmr >>> 3;
    case GICC.BPR:
      return vmcr.bpr;
    case GICC.ABPR:
      return vmcr.abpr;
    case GICC.IIDR:
      return (PRODUCT_ID_KVM << 20) | (GICC_ARCH_VERSION_V2 << 16) | IMPLEMENTER_ARM;
    default:
      return 0;
  }
}

const vgicMmioWriteVcpuif: mmio.RegionWrite = (vcpu, offset, _len, lo) => {
  const vmcr = vgicGetVmcr(vcpu);
  const bit = (mask: number): number => (lo & mask) !== 0 ? 1 : 0;
  switch (offset & 0xff) {
    case GICC.CTLR:
      vmcr.grpen0 = bit(GICC_CTLR.EnableGrp0);
      vmcr.grpen1 = bit(GICC_CTLR.EnableGrp1);
      vmcr.ackctl = bit(GICC_CTLR.AckCtl);
      vmcr.fiqen = bit(GICC_CTLR.FIQEn);
      vmcr.cbpr = bit(GICC_CTLR.CBPR);
      vmcr.eoim = bit(GICC_CTLR.EOImode);
      break;
    case GICC.PMR:
      vmcr.pmr = (lo << 3) & 0xf8;
      break;
    case GICC.BPR:
      vmcr.bpr = lo;
      break;
    case GICC.ABPR:
      vmcr.abpr = lo;
      break;
  }
  vgicSetVmcr(vcpu, vmcr);
};

/** GICC_APR0 to 3: GICv2 hardware has 32 priorities, hence one register. */
function vgicMmioReadApr(vcpu: Vcpu, offset: number): number {
  return ((offset >> 2) & 3) === 0 ? vcpu.vgicV2.vgicApr : 0;
}

const vgicMmioWriteApr: mmio.RegionWrite = (vcpu, offset, _len, lo) => {
  if (((offset >> 2) & 3) === 0) vcpu.vgicV2.vgicApr = lo;
};

const W = mmio.VGIC_ACCESS_32BIT;
const BW = mmio.VGIC_ACCESS_32BIT | mmio.VGIC_ACCESS_8BIT;

const GROUP: Handlers = [
  mmio.vgicMmioReadGroup,
  mmio.vgicMmioWriteGroup,
  [undefined, vgicMmioUaccessWriteV2Group],
];
const ISPENDR: Handlers = [
  mmio.vgicMmioReadPending,
  mmio.vgicMmioWriteSpending,
  [mmio.vgicUaccessReadPending, mmio.vgicUaccessWriteSpending],
];
const ICPENDR: Handlers = [
  mmio.vgicMmioReadPending,
  mmio.vgicMmioWriteCpending,
  [mmio.vgicUaccessReadPending, mmio.vgicUaccessWriteCpending],
];

/** The distributor's frame, by offset. */
export const VGIC_V2_DIST_REGISTERS: readonly mmio.VgicRegisterRegion[] = [
  withLength(
    "GICD_CTLR",
    GICD.CTLR,
    12,
    W,
    vgicMmioReadV2Misc,
    vgicMmioWriteV2Misc,
    [undefined, vgicMmioUaccessWriteV2Misc],
  ),
  perIrq("GICD_IGROUPR", GICD.IGROUPR, 1, W, ...GROUP),
  perIrq("GICD_ISENABLER", GICD.ISENABLER, 1, W, ...mmio.ISENABLER),
  perIrq("GICD_ICENABLER", GICD.ICENABLER, 1, W, ...mmio.ICENABLER),
  perIrq("GICD_ISPENDR", GICD.ISPENDR, 1, W, ...ISPENDR),
  perIrq("GICD_ICPENDR", GICD.ICPENDR, 1, W, ...ICPENDR),
  perIrq("GICD_ISACTIVER", GICD.ISACTIVER, 1, W, ...mmio.ISACTIVER),
  perIrq("GICD_ICACTIVER", GICD.ICACTIVER, 1, W, ...mmio.ICACTIVER),
  perIrq("GICD_IPRIORITYR", GICD.IPRIORITYR, 8, BW, ...mmio.PRIORITY),
  perIrq("GICD_ITARGETSR", GICD.ITARGETSR, 8, BW, vgicMmioReadTarget, vgicMmioWriteTarget),
  perIrq("GICD_ICFGR", GICD.ICFGR, 2, W, ...mmio.CONFIG),
  withLength("GICD_SGIR", GICD.SGIR, 4, W, mmio.vgicMmioReadRaz, vgicMmioWriteSgir),
  withLength("GICD_CPENDSGIR", GICD.CPENDSGIR, 16, BW, vgicMmioReadSgipend, vgicMmioWriteSgipendc),
  withLength("GICD_SPENDSGIR", GICD.SPENDSGIR, 16, BW, vgicMmioReadSgipend, vgicMmioWriteSgipends),
];

/** The CPU interface's frame as user space sees it, by offset. */
export const VGIC_V2_CPU_REGISTERS: readonly mmio.VgicRegisterRegion[] = [
  withLength("GICC_CTLR", GICC.CTLR, 4, W, vgicMmioReadVcpuif, vgicMmioWriteVcpuif),
  withLength("GICC_PMR", GICC.PMR, 4, W, vgicMmioReadVcpuif, vgicMmioWriteVcpuif),
  withLength("GICC_BPR", GICC.BPR, 4, W, vgicMmioReadVcpuif, vgicMmioWriteVcpuif),
  withLength("GICC_ABPR", GICC.ABPR, 4, W, vgicMmioReadVcpuif, vgicMmioWriteVcpuif),
  withLength("GICC_APR", GICC.APR0, 16, W, vgicMmioReadApr, vgicMmioWriteApr),
  withLength("GICC_IIDR", GICC.IIDR, 4, W, vgicMmioReadVcpuif, vgicMmioWriteVcpuif),
];

/** A 32-bit access of user space to the distributor; see {@link mmio.vgicUaccessRead}. */
export const vgicV2DistUaccessRead = (vcpu: Vcpu, offset: number): number =>
  mmio.vgicUaccessRead(vcpu, VGIC_V2_DIST_REGISTERS, offset);
export const vgicV2DistUaccessWrite = (vcpu: Vcpu, offset: number, value: number): number =>
  mmio.vgicUaccessWrite(vcpu, VGIC_V2_DIST_REGISTERS, offset, value);

/** A 32-bit access of user space to the vCPU's CPU interface. */
export const vgicV2CpuifUaccessRead = (vcpu: Vcpu, offset: number): number =>
  mmio.vgicUaccessRead(vcpu, VGIC_V2_CPU_REGISTERS, offset);
export const vgicV2CpuifUaccessWrite = (vcpu: Vcpu, offset: number, value: number): number =>
  mmio.vgicUaccessWrite(vcpu, VGIC_V2_CPU_REGISTERS, offset, value);
