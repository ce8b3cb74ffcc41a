/**
 * The virtual GICv3's registers as tables; SGIs are in vgic_sgi.ts. Mirrors
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
  withField,
} from "../../arm/arch/gic.ts";
import { bits53 } from "../../base/bits.ts";
import { ERRNO } from "./errno.ts";
import { type Kvm, type Vcpu, VGIC_NR_PRIVATE_IRQS } from "../kvm_host.ts";
import { vgicKickVcpus } from "./vgic.ts";
import {
  dropIrqRestore,
  IMPLEMENTER_ARM,
  KVM_VGIC_IMP_REV_2,
  KVM_VGIC_IMP_REV_3,
  kvmMpidrToVcpu,
  kvmVcpuGetMpidrAff,
  PRODUCT_ID_KVM,
  takeIrqSave,
  vgicGetIrq,
  vgicPutIrq,
} from "./vgic_irq.ts";
import * as mmio from "./vgic_mmio.ts";
import { type Handlers, perIrqShared, withLength } from "./vgic_mmio.ts";
import { vgicMmioVcpuRdistIsLast } from "./vgic_v3_redist.ts";

const IIDR_REVISION = { shift: 12, width: 4 } as const;
/** Bits of an SPI's number, less one of them as GICD_TYPER.IDbits has it. */
const INTERRUPT_ID_BITS_SPIS = 10;
const GICR_CTLR_CES = 1 << 1;
const GICR_CTLR_IR = 1 << 2;
/** Registers that gic.ts has no use for. */
const GICR_INVLPIR = 0x00a0;
const GICR_INVALLR = 0x00b0;
const IDREGS = 0xffd0;
/** GICD_PIDR2 and GICR_PIDR2: ArchRev is GICv3. */
const PIDR2_GICV3 = 0x3b;

/** `len` bytes at byte `offset` of a 64-bit value below 2^53. */
function extractBytes(value: number, offset: number, len: number): number {
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

const W = mmio.VGIC_ACCESS_32BIT;
const BW = mmio.VGIC_ACCESS_32BIT | mmio.VGIC_ACCESS_8BIT;
const WX = mmio.VGIC_ACCESS_32BIT | mmio.VGIC_ACCESS_64BIT;
const { vgicMmioReadRaz: raz, vgicMmioReadRao: rao, vgicMmioWriteWi: wi } = mmio;

const GROUP: Handlers = [mmio.vgicMmioReadGroup, mmio.vgicMmioWriteGroup];
const ISPENDR: Handlers = [
  mmio.vgicMmioReadPending,
  mmio.vgicMmioWriteSpending,
  [mmio.vgicUaccessReadPending, mmio.vgicV3UaccessWritePending],
];
const ICPENDR: Handlers = [
  mmio.vgicMmioReadPending,
  mmio.vgicMmioWriteCpending,
  [raz, mmio.vgicMmioUaccessWriteWi],
];
const { ISENABLER, ICENABLER, ISACTIVER, ICACTIVER, PRIORITY, CONFIG } = mmio;
const ROUTER: Handlers = [vgicMmioReadIrouter, vgicMmioWriteIrouter];
const MISC: Handlers = [
  vgicMmioReadV3Misc,
  vgicMmioWriteV3Misc,
  [undefined, vgicMmioUaccessWriteV3Misc],
];

/** The distributor's frame, by offset. */
export const VGIC_V3_DIST_REGISTERS: readonly mmio.VgicRegisterRegion[] = [
  withLength("GICD_CTLR", GICD.CTLR, 16, W, ...MISC),
  withLength("GICD_STATUSR", GICD.STATUSR, 4, W, rao, wi),
  ...perIrqShared("GICD_IGROUPR", GICD.IGROUPR, 1, W, ...GROUP),
  ...perIrqShared("GICD_ISENABLER", GICD.ISENABLER, 1, W, ...ISENABLER),
  ...perIrqShared("GICD_ICENABLER", GICD.ICENABLER, 1, W, ...ICENABLER),
  ...perIrqShared("GICD_ISPENDR", GICD.ISPENDR, 1, W, ...ISPENDR),
  ...perIrqShared("GICD_ICPENDR", GICD.ICPENDR, 1, W, ...ICPENDR),
  ...perIrqShared("GICD_ISACTIVER", GICD.ISACTIVER, 1, W, ...ISACTIVER),
  ...perIrqShared("GICD_ICACTIVER", GICD.ICACTIVER, 1, W, ...ICACTIVER),
  ...perIrqShared("GICD_IPRIORITYR", GICD.IPRIORITYR, 8, BW, ...PRIORITY),
  ...perIrqShared("GICD_ITARGETSR", GICD.ITARGETSR, 8, BW, raz, wi),
  ...perIrqShared("GICD_ICFGR", GICD.ICFGR, 2, W, ...CONFIG),
  ...perIrqShared("GICD_IGRPMODR", GICD.IGRPMODR, 1, W, raz, wi),
  ...perIrqShared("GICD_IROUTER", GICD.IROUTER, 64, WX, ...ROUTER),
  withLength("GICD_IDREGS", IDREGS, 48, W, vgicMmioReadV3Idregs, wi),
];

/** A redistributor's two frames, by offset from RD_base. */
export const VGIC_V3_RD_REGISTERS: readonly mmio.VgicRegisterRegion[] = [
  withLength("GICR_CTLR", GICR.CTLR, 4, W, vgicMmioReadV3rCtlr, wi),
  withLength("GICR_IIDR", GICR.IIDR, 4, W, vgicMmioReadV3rIidr, wi),
  withLength("GICR_TYPER", GICR.TYPER, 8, WX, vgicMmioReadV3rTyper, wi, [
    undefined,
    mmio.vgicMmioUaccessWriteWi,
  ]),
  withLength("GICR_STATUSR", GICR.STATUSR, 4, W, raz, wi),
  withLength("GICR_WAKER", GICR.WAKER, 4, W, raz, wi),
  withLength("GICR_PROPBASER", GICR.PROPBASER, 8, WX, raz, wi),
  withLength("GICR_PENDBASER", GICR.PENDBASER, 8, WX, raz, wi),
  withLength("GICR_INVLPIR", GICR_INVLPIR, 8, WX, raz, wi),
  withLength("GICR_INVALLR", GICR_INVALLR, 8, WX, raz, wi),
  withLength("GICR_SYNCR", GICR.SYNCR, 4, W, raz, wi),
  withLength("GICR_IDREGS", IDREGS, 48, W, vgicMmioReadV3Idregs, wi),
  withLength("GICR_IGROUPR0", GICR_SGI.IGROUPR0, 4, W, ...GROUP),
  withLength("GICR_ISENABLER0", GICR_SGI.ISENABLER0, 4, W, ...ISENABLER),
  withLength("GICR_ICENABLER0", GICR_SGI.ICENABLER0, 4, W, ...ICENABLER),
  withLength("GICR_ISPENDR0", GICR_SGI.ISPENDR0, 4, W, ...ISPENDR),
  withLength("GICR_ICPENDR0", GICR_SGI.ICPENDR0, 4, W, ...ICPENDR),
  withLength("GICR_ISACTIVER0", GICR_SGI.ISACTIVER0, 4, W, ...ISACTIVER),
  withLength("GICR_ICACTIVER0", GICR_SGI.ICACTIVER0, 4, W, ...ICACTIVER),
  withLength("GICR_IPRIORITYR", GICR_SGI.IPRIORITYR, 32, BW, ...PRIORITY),
  withLength("GICR_ICFGR", GICR_SGI.ICFGR0, 8, W, ...CONFIG),
  withLength("GICR_IGRPMODR0", GICR_SGI.IGRPMODR0, 4, W, raz, wi),
  withLength("GICR_NSACR", GICR_SGI.NSACR, 4, W, raz, wi),
];

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
