/**
 * The virtual GICv3's registers as tables, and SGIs by ICC_SGI<n>R_EL1. Mirrors
 * arch/arm64/kvm/vgic/vgic-mmio-v3.c.
 *
 * What differs: no LPIs, hence GICR_CTLR.EnableLPIs, PROPBASER, PENDBASER and the invalidation
 * registers read as zero and ignore writes; no GICv4.1, hence no nASSGIreq.
 */
import {
  fieldOf,
  GICD,
  GICD_CTLR,
  GICD_TYPER,
  GICR,
  GICR_SGI,
  GICR_TYPER,
  SGIR_HI,
  SGIR_LO,
  withField,
} from "../../arm/arch/gic.ts";
import { bits53 } from "../../base/bits.ts";
import { ERRNO } from "./errno.ts";
import { type Kvm, type Vcpu, VGIC_NR_PRIVATE_IRQS } from "../kvm_host.ts";
import { vgicKickVcpus, vgicQueueIrqUnlock } from "./vgic.ts";
import {
  dropIrqRestore,
  irqIsPending,
  kvmMpidrToVcpu,
  kvmVcpuGetMpidrAff,
  noteRaised,
  takeIrqSave,
  vgicGetIrq,
  vgicPutIrq,
} from "./vgic_irq.ts";
import * as mmio from "./vgic_mmio.ts";
import {
  addIodev,
  KVM_VGIC_V3_DIST_SIZE,
  KVM_VGIC_V3_REDIST_SIZE,
  vgicMmioVcpuRdistIsLast,
} from "./vgic_v3_redist.ts";

const PRODUCT_ID_KVM = 0x4b;
const IMPLEMENTER_ARM = 0x43b;
const IIDR_REVISION = { shift: 12, width: 4 } as const;
/** Bits of an SPI's number, less one of them as GICD_TYPER.IDbits has it. */
const INTERRUPT_ID_BITS_SPIS = 10;
/** GICD_IIDR.Revision: what the guest may rely on. 3 adds GICR_CTLR.CES and IR. */
export const KVM_VGIC_IMP_REV_2 = 2;
export const KVM_VGIC_IMP_REV_3 = 3;
export const KVM_VGIC_IMP_REV_LATEST = KVM_VGIC_IMP_REV_3;
const GICR_CTLR_CES = 1 << 1;
const GICR_CTLR_IR = 1 << 2;
/** Registers that gic.ts has no use for. */
const GICR_INVLPIR = 0x00a0;
const GICR_INVALLR = 0x00b0;
const IDREGS = 0xffd0;
/** GICD_PIDR2 and GICR_PIDR2: ArchRev is GICv3. */
const PIDR2_GICV3 = 0x3b;

/** `len` bytes at byte `offset` of a 64-bit value below 2^53. */
export function extractBytes(value: number, offset: number, len: number): number {
  return bits53(value, 8 * (offset + len) - 1, 8 * offset);
}

function readTyper(kvm: Kvm): number {
  const lines = ((kvm.vgic.nrSpis + VGIC_NR_PRIVATE_IRQS) >>> 5) - 1;
  return withField(
    withField(0, GICD_TYPER.ITLinesNumber, lines),
    GICD_TYPER.IDbits,
    INTERRUPT_ID_BITS_SPIS - 1,
  );
}

/** GICD_CTLR, TYPER, IIDR and TYPER2. */
function vgicMmioReadV3Misc(vcpu: Vcpu, offset: number): number {
  const { vgic } = vcpu.kvm;
  switch (offset & 0xc) {
    case GICD.CTLR:
      // EnableGrp1 with one Security state; affinity routing and DS are fixed.
      return (vgic.enabled ? GICD_CTLR.EnableGrp1 : 0) | GICD_CTLR.ARE | GICD_CTLR.DS;
    case GICD.TYPER:
      return readTyper(vcpu.kvm);
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

const vgicMmioWriteV3Misc: mmio.RegionWrite = (vcpu, offset, _len, lo) => {
  if ((offset & 0xc) !== GICD.CTLR) return;
  mmio.withConfigLock(vcpu.kvm, () => {
    const dist = vcpu.kvm.vgic;
    const wasEnabled = dist.enabled;
    dist.enabled = (lo & GICD_CTLR.EnableGrp1) !== 0;
    if (!wasEnabled && dist.enabled) vgicKickVcpus(vcpu.kvm);
  });
};

function uaccessWriteIidr(vcpu: Vcpu, value: number): number {
  const differs = (vgicMmioReadV3Misc(vcpu, GICD.IIDR) ^ value) >>> 0;
  if (withField(differs, IIDR_REVISION, 0) !== 0) return ERRNO.EINVAL;
  const revision = fieldOf(value, IIDR_REVISION);
  if (revision !== KVM_VGIC_IMP_REV_2 && revision !== KVM_VGIC_IMP_REV_3) return ERRNO.EINVAL;
  vcpu.kvm.vgic.implementationRev = revision;
  return 0;
}

const vgicMmioUaccessWriteV3Misc: mmio.UaccessWrite = (vcpu, offset, _len, value) => {
  switch (offset & 0xc) {
    case GICD.TYPER2:
      return value === vgicMmioReadV3Misc(vcpu, offset) ? 0 : ERRNO.EINVAL;
    case GICD.IIDR:
      return uaccessWriteIidr(vcpu, value);
    case GICD.CTLR:
      vcpu.kvm.vgic.enabled = (value & GICD_CTLR.EnableGrp1) !== 0;
      return 0;
    default:
      return 0;
  }
};

/** IROUTER: Aff2 to Aff0; the upper word (Aff3) is not implemented. */
function vgicMmioReadIrouter(vcpu: Vcpu, offset: number, len: number): number {
  const irq = vgicGetIrq(vcpu.kvm, undefined, mmio.vgicAddrToIntid(offset, 64) | 0);
  if (!irq || offset & 4) return 0;
  return extractBytes(irq.mpidr, offset & 7, len);
}

/**
 * Routes an SPI. Where it is now does not matter: if it is on another vCPU's ap_list, that vCPU moves
 * it the next time it leaves the guest; if active, after its end.
 */
const vgicMmioWriteIrouter: mmio.RegionWrite = (vcpu, offset, _len, lo) => {
  const { kvm } = vcpu;
  const irq = vgicGetIrq(kvm, undefined, mmio.vgicAddrToIntid(offset, 64) | 0);
  if (!irq || offset & 4) return;
  const flags = takeIrqSave(kvm.host, irq);
  irq.mpidr = lo & 0x00ff_ffff;
  irq.targetVcpu = kvmMpidrToVcpu(kvm, irq.mpidr)?.state.base ?? 0;
  dropIrqRestore(kvm.host, irq, flags);
  vgicPutIrq(kvm, irq);
};

function vgicMmioReadV3rCtlr(vcpu: Vcpu): number {
  return vcpu.kvm.vgic.implementationRev >= KVM_VGIC_IMP_REV_3 ? GICR_CTLR_IR | GICR_CTLR_CES : 0;
}

function vgicMmioReadV3rTyper(vcpu: Vcpu, offset: number, len: number): number {
  let lo = withField(0, GICR_TYPER.Processor_Number, vcpu.state.vcpuId);
  if (vgicMmioVcpuRdistIsLast(vcpu)) lo |= GICR_TYPER.Last;
  const affinity = kvmVcpuGetMpidrAff(vcpu) % 2 ** 24;
  return extractBytes(affinity * 2 ** 32 + lo, offset & 7, len);
}

const vgicMmioReadV3rIidr = (): number => (PRODUCT_ID_KVM << 24) | IMPLEMENTER_ARM;

const vgicMmioReadV3Idregs = (_vcpu: Vcpu, offset: number): number =>
  (offset & 0xffff) === GICD.PIDR2 ? PIDR2_GICV3 : 0;

type Uaccess = [read?: mmio.UaccessRead | undefined, write?: mmio.UaccessWrite];

/** A register of `len` bytes that is not a field per interrupt, or one redistributor bank. */
function fixed(
  name: string,
  regOffset: number,
  len: number,
  accessFlags: number,
  read: mmio.RegionRead,
  write: mmio.RegionWrite,
  [uaccessRead, uaccessWrite]: Uaccess = [],
): mmio.VgicRegisterRegion {
  return {
    name,
    regOffset,
    len,
    bitsPerIrq: 0,
    accessFlags,
    read,
    write,
    uaccessRead,
    uaccessWrite,
  };
}

/**
 * A distributor register with `bits` bits for each of 1024 interrupts. The private ones' share is in
 * the redistributors, so here it reads as zero and ignores writes.
 */
function shared(
  name: string,
  offset: number,
  bits: number,
  accessFlags: number,
  read: mmio.RegionRead,
  write: mmio.RegionWrite,
  [uaccessRead, uaccessWrite]: Uaccess = [],
): mmio.VgicRegisterRegion[] {
  const bank = (bits * VGIC_NR_PRIVATE_IRQS) / 8;
  const common = { bitsPerIrq: bits, accessFlags };
  const { vgicMmioReadRaz, vgicMmioWriteWi } = mmio;
  return [
    {
      name,
      regOffset: offset,
      len: bank,
      ...common,
      read: vgicMmioReadRaz,
      write: vgicMmioWriteWi,
    },
    {
      name,
      regOffset: offset + bank,
      len: (bits * 1024) / 8 - bank,
      ...common,
      read,
      write,
      uaccessRead,
      uaccessWrite,
    },
  ];
}

const W = mmio.VGIC_ACCESS_32BIT;
const BW = mmio.VGIC_ACCESS_32BIT | mmio.VGIC_ACCESS_8BIT;
const WX = mmio.VGIC_ACCESS_32BIT | mmio.VGIC_ACCESS_64BIT;
const { vgicMmioReadRaz: raz, vgicMmioReadRao: rao, vgicMmioWriteWi: wi } = mmio;

const ENABLE = [mmio.vgicMmioReadEnable] as const;
const SET_ENABLE: Uaccess = [undefined, mmio.vgicUaccessWriteSenable];
const CLEAR_ENABLE: Uaccess = [undefined, mmio.vgicUaccessWriteCenable];
const SET_PENDING: Uaccess = [mmio.vgicUaccessReadPending, mmio.vgicV3UaccessWritePending];
const CLEAR_PENDING: Uaccess = [raz, mmio.vgicMmioUaccessWriteWi];
const SET_ACTIVE: Uaccess = [mmio.vgicUaccessReadActive, mmio.vgicMmioUaccessWriteSactive];
const CLEAR_ACTIVE: Uaccess = [mmio.vgicUaccessReadActive, mmio.vgicMmioUaccessWriteCactive];

type Handlers = readonly [mmio.RegionRead, mmio.RegionWrite, Uaccess?];
const GROUP: Handlers = [mmio.vgicMmioReadGroup, mmio.vgicMmioWriteGroup];
const ISENABLER: Handlers = [...ENABLE, mmio.vgicMmioWriteSenable, SET_ENABLE];
const ICENABLER: Handlers = [...ENABLE, mmio.vgicMmioWriteCenable, CLEAR_ENABLE];
const ISPENDR: Handlers = [mmio.vgicMmioReadPending, mmio.vgicMmioWriteSpending, SET_PENDING];
const ICPENDR: Handlers = [mmio.vgicMmioReadPending, mmio.vgicMmioWriteCpending, CLEAR_PENDING];
const ISACTIVER: Handlers = [mmio.vgicMmioReadActive, mmio.vgicMmioWriteSactive, SET_ACTIVE];
const ICACTIVER: Handlers = [mmio.vgicMmioReadActive, mmio.vgicMmioWriteCactive, CLEAR_ACTIVE];
const PRIORITY: Handlers = [mmio.vgicMmioReadPriority, mmio.vgicMmioWritePriority];
const CONFIG: Handlers = [mmio.vgicMmioReadConfig, mmio.vgicMmioWriteConfig];
const ROUTER: Handlers = [vgicMmioReadIrouter, vgicMmioWriteIrouter];
const MISC: Handlers = [
  vgicMmioReadV3Misc,
  vgicMmioWriteV3Misc,
  [undefined, vgicMmioUaccessWriteV3Misc],
];

/** The distributor's frame, by offset. */
export const VGIC_V3_DIST_REGISTERS: readonly mmio.VgicRegisterRegion[] = [
  fixed("GICD_CTLR", GICD.CTLR, 16, W, ...MISC),
  fixed("GICD_STATUSR", GICD.STATUSR, 4, W, rao, wi),
  ...shared("GICD_IGROUPR", GICD.IGROUPR, 1, W, ...GROUP),
  ...shared("GICD_ISENABLER", GICD.ISENABLER, 1, W, ...ISENABLER),
  ...shared("GICD_ICENABLER", GICD.ICENABLER, 1, W, ...ICENABLER),
  ...shared("GICD_ISPENDR", GICD.ISPENDR, 1, W, ...ISPENDR),
  ...shared("GICD_ICPENDR", GICD.ICPENDR, 1, W, ...ICPENDR),
  ...shared("GICD_ISACTIVER", GICD.ISACTIVER, 1, W, ...ISACTIVER),
  ...shared("GICD_ICACTIVER", GICD.ICACTIVER, 1, W, ...ICACTIVER),
  ...shared("GICD_IPRIORITYR", GICD.IPRIORITYR, 8, BW, ...PRIORITY),
  ...shared("GICD_ITARGETSR", GICD.ITARGETSR, 8, BW, raz, wi),
  ...shared("GICD_ICFGR", GICD.ICFGR, 2, W, ...CONFIG),
  ...shared("GICD_IGRPMODR", GICD.IGRPMODR, 1, W, raz, wi),
  ...shared("GICD_IROUTER", GICD.IROUTER, 64, WX, ...ROUTER),
  fixed("GICD_IDREGS", IDREGS, 48, W, vgicMmioReadV3Idregs, wi),
];

/** A redistributor's two frames, by offset from RD_base. */
export const VGIC_V3_RD_REGISTERS: readonly mmio.VgicRegisterRegion[] = [
  fixed("GICR_CTLR", GICR.CTLR, 4, W, vgicMmioReadV3rCtlr, wi),
  fixed("GICR_IIDR", GICR.IIDR, 4, W, vgicMmioReadV3rIidr, wi),
  fixed("GICR_TYPER", GICR.TYPER, 8, WX, vgicMmioReadV3rTyper, wi, [
    undefined,
    mmio.vgicMmioUaccessWriteWi,
  ]),
  fixed("GICR_STATUSR", GICR.STATUSR, 4, W, raz, wi),
  fixed("GICR_WAKER", GICR.WAKER, 4, W, raz, wi),
  fixed("GICR_PROPBASER", GICR.PROPBASER, 8, WX, raz, wi),
  fixed("GICR_PENDBASER", GICR.PENDBASER, 8, WX, raz, wi),
  fixed("GICR_INVLPIR", GICR_INVLPIR, 8, WX, raz, wi),
  fixed("GICR_INVALLR", GICR_INVALLR, 8, WX, raz, wi),
  fixed("GICR_SYNCR", GICR.SYNCR, 4, W, raz, wi),
  fixed("GICR_IDREGS", IDREGS, 48, W, vgicMmioReadV3Idregs, wi),
  fixed("GICR_IGROUPR0", GICR_SGI.IGROUPR0, 4, W, ...GROUP),
  fixed("GICR_ISENABLER0", GICR_SGI.ISENABLER0, 4, W, ...ISENABLER),
  fixed("GICR_ICENABLER0", GICR_SGI.ICENABLER0, 4, W, ...ICENABLER),
  fixed("GICR_ISPENDR0", GICR_SGI.ISPENDR0, 4, W, ...ISPENDR),
  fixed("GICR_ICPENDR0", GICR_SGI.ICPENDR0, 4, W, ...ICPENDR),
  fixed("GICR_ISACTIVER0", GICR_SGI.ISACTIVER0, 4, W, ...ISACTIVER),
  fixed("GICR_ICACTIVER0", GICR_SGI.ICACTIVER0, 4, W, ...ICACTIVER),
  fixed("GICR_IPRIORITYR", GICR_SGI.IPRIORITYR, 32, BW, ...PRIORITY),
  fixed("GICR_ICFGR", GICR_SGI.ICFGR0, 8, W, ...CONFIG),
  fixed("GICR_IGRPMODR0", GICR_SGI.IGRPMODR0, 4, W, raz, wi),
  fixed("GICR_NSACR", GICR_SGI.NSACR, 4, W, raz, wi),
];

/** Puts the distributor's frame on the VM's bus. */
export function vgicRegisterDistIodev(kvm: Kvm, base: number): number {
  const device = mmio.vgicIoDevice(VGIC_V3_DIST_REGISTERS);
  return addIodev(kvm, base, KVM_VGIC_V3_DIST_SIZE, device);
}

/** Puts all frames that the VM's state says are mapped on a fresh bus again, after a restore. */
export function vgicReregisterIodevs(kvm: Kvm): number {
  if (kvm.vgic.ready) {
    const ret = vgicRegisterDistIodev(kvm, kvm.vgic.distBase);
    if (ret) return ret;
  }
  for (const vcpu of kvm.vcpus) {
    if (!vcpu.vgic.rdRegistered) continue;
    const device = mmio.vgicIoDevice(VGIC_V3_RD_REGISTERS, vcpu);
    const ret = addIodev(kvm, vcpu.vgic.rdBase, KVM_VGIC_V3_REDIST_SIZE, device);
    if (ret) return ret;
  }
  return 0;
}

/** Makes one SGI of a vCPU pending, if its group may be reached by the register that was written. */
function raiseSgi(vcpu: Vcpu, sgi: number, allowGroup1: boolean): void {
  const { kvm } = vcpu;
  const irq = vgicGetIrq(kvm, vcpu, sgi);
  if (!irq) return;
  const flags = takeIrqSave(kvm.host, irq);
  if (irq.group === 0 || allowGroup1) {
    noteRaised(kvm, irq, irqIsPending(irq));
    irq.pendingLatch = true;
    vgicQueueIrqUnlock(kvm, irq, flags);
  } else {
    dropIrqRestore(kvm.host, irq, flags);
  }
  vgicPutIrq(kvm, irq);
}

/**
 * A vCPU has written ICC_SGI1R_EL1 (`allowGroup1`), ICC_SGI0R_EL1 or ICC_ASGI1R_EL1: `lo` and `hi` are
 * the value's halves. With IRM all vCPUs but the writer get the SGI, else those of the target list
 * under the affinity. The range selector is not implemented, as KVM says in ICC_CTLR_EL1.RSS.
 */
export function vgicV3DispatchSgi(vcpu: Vcpu, lo: number, hi: number, allowGroup1: boolean): void {
  const sgi = fieldOf(lo, SGIR_LO.INTID);
  const broadcast = (hi & SGIR_HI.IRM) !== 0;
  const affinity = (fieldOf(lo, SGIR_LO.Aff1) << 8) + (fieldOf(hi, SGIR_HI.Aff2) << 16) +
    fieldOf(hi, SGIR_HI.Aff3) * 2 ** 32;
  let targets = fieldOf(lo, SGIR_LO.TargetList);
  for (const target of vcpu.kvm.vcpus) {
    if (broadcast) {
      if (target !== vcpu) raiseSgi(target, sgi, allowGroup1);
      continue;
    }
    if (targets === 0) break;
    const aff = kvmVcpuGetMpidrAff(target);
    const bit = aff % 256 < 16 ? 1 << (aff % 256) : 0;
    if (aff - (aff % 256) !== affinity || (targets & bit) === 0) continue;
    targets &= ~bit;
    raiseSgi(target, sgi, allowGroup1);
  }
}

/** A 32-bit access of user space to the distributor; see {@link mmio.vgicUaccessRead}. */
export const vgicV3DistUaccessRead = (vcpu: Vcpu, offset: number): number =>
  mmio.vgicUaccessRead(vcpu, VGIC_V3_DIST_REGISTERS, offset);
export const vgicV3DistUaccessWrite = (vcpu: Vcpu, offset: number, value: number): number =>
  mmio.vgicUaccessWrite(vcpu, VGIC_V3_DIST_REGISTERS, offset, value);

/** A 32-bit access of user space to the vCPU's redistributor. */
export const vgicV3RedistUaccessRead = (vcpu: Vcpu, offset: number): number =>
  mmio.vgicUaccessRead(vcpu, VGIC_V3_RD_REGISTERS, offset);
export const vgicV3RedistUaccessWrite = (vcpu: Vcpu, offset: number, value: number): number =>
  mmio.vgicUaccessWrite(vcpu, VGIC_V3_RD_REGISTERS, offset, value);
