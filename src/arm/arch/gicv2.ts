/**
 * What a GICv2 has otherwise than a GICv3: frames, register offsets and field places. Shared by the
 * emulated hardware and by the hypervisor. Source: GIC Architecture Specification 2.0 (IHI 0048),
 * chapters 4 (distributor, CPU interface) and 5 (virtualization). The distributor's offsets are those of
 * gic.ts; the fields of GICH_HCR, GICH_VTR, GICH_VMCR and GICH_MISR lie as in their ICH namesakes.
 */
import { type BitField, fieldOf, ICH_LR_HI } from "./gic.ts";

/** CPUs a GICv2 can serve: a byte of GICD_ITARGETSR has a bit for each. */
export const GICV2_MAX_CPUS = 8;

/** GICD_SGIR. */
export const GICD_SGIR = {
  INTID: { shift: 0, width: 4 },
  CPUTargetList: { shift: 16, width: 8 },
  TargetListFilter: { shift: 24, width: 2 },
} as const satisfies Record<string, BitField>;

/** Values of GICD_SGIR.TargetListFilter. */
export const SGIR_FILTER = { LIST: 0, OTHERS: 1, SELF: 2 } as const;

/** The identification registers of a 4 KiB frame, from PIDR4. */
export const GICV2_PIDR4 = 0xfd0;

/** CPU interface registers; the virtual interface (GICV) has the same. */
export const GICC = {
  CTLR: 0x0000,
  PMR: 0x0004,
  BPR: 0x0008,
  IAR: 0x000c,
  EOIR: 0x0010,
  RPR: 0x0014,
  HPPIR: 0x0018,
  ABPR: 0x001c,
  AIAR: 0x0020,
  AEOIR: 0x0024,
  AHPPIR: 0x0028,
  APR0: 0x00d0,
  NSAPR0: 0x00e0,
  IIDR: 0x00fc,
  DIR: 0x1000,
} as const;

/** GICC_CTLR without Security Extensions, and GICV_CTLR. */
export const GICC_CTLR = {
  EnableGrp0: 1 << 0,
  EnableGrp1: 1 << 1,
  AckCtl: 1 << 2,
  FIQEn: 1 << 3,
  CBPR: 1 << 4,
  EOImode: 1 << 9,
} as const;

/** GICC_IAR, EOIR, DIR and HPPIR: the interrupt, and of an SGI the CPU that sent it. */
export const GICC_IAR = {
  INTID: { shift: 0, width: 10 },
  CPUID: { shift: 10, width: 3 },
} as const satisfies Record<string, BitField>;

/** What GICC_IAR gives when the pending interrupt is of group 1 and AckCtl is clear. */
export const INTID_GROUP1 = 1022;

/** Hypervisor control registers. */
export const GICH = {
  HCR: 0x000,
  VTR: 0x004,
  VMCR: 0x008,
  MISR: 0x010,
  EISR0: 0x020,
  EISR1: 0x024,
  ELRSR0: 0x030,
  ELRSR1: 0x034,
  APR: 0x0f0,
  LR0: 0x100,
} as const;

/** GICH_VMCR.VMPriMask: the upper five bits of the mask. */
export const GICH_VMCR_PMR = { shift: 27, width: 5 } as const satisfies BitField;

/** GICH_LR<n>. */
export const GICH_LR = {
  VirtualID: { shift: 0, width: 10 },
  /** Physical interrupt, when HW is 1. */
  PhysicalID: { shift: 10, width: 10 },
  /** The sending CPU of an SGI, when HW is 0. */
  CPUID: { shift: 10, width: 3 },
  /** EOI maintenance interrupt wanted, when HW is 0. */
  EOI: 1 << 19,
  Priority: { shift: 23, width: 5 },
  State: { shift: 28, width: 2 },
  PENDING: 1 << 28,
  ACTIVE: 1 << 29,
  Group1: 1 << 30,
  HW: 0x8000_0000,
} as const;

/**
 * Bits 31 to 0 of the ICH_LR<n>_EL2 that says the same as a GICH_LR<n>: virtual INTID, and in bits 12 to
 * 10 the CPU that sent an SGI, as a GICv3 keeps it for guests with a GICv2 (IHI 0069, ICH_LR).
 */
export function lrLoOf(lr: number): number {
  const intid = fieldOf(lr, GICH_LR.VirtualID);
  return lr & GICH_LR.HW ? intid : intid | (fieldOf(lr, GICH_LR.CPUID) << GICH_LR.CPUID.shift);
}

/** Bits 63 to 32 of the same. */
export function lrHiOf(lr: number): number {
  const hi = (fieldOf(lr, GICH_LR.State) << ICH_LR_HI.State.shift) |
    (fieldOf(lr, GICH_LR.Priority) << (ICH_LR_HI.Priority.shift + 3)) |
    (lr & GICH_LR.Group1 ? ICH_LR_HI.Group : 0);
  if (lr & GICH_LR.HW) return (hi | ICH_LR_HI.HW | fieldOf(lr, GICH_LR.PhysicalID)) >>> 0;
  return (hi | (lr & GICH_LR.EOI ? ICH_LR_HI.EOI : 0)) >>> 0;
}

/** The GICH_LR<n> that says the same as an ICH_LR<n>_EL2 of a GICv2 guest, given in halves. */
export function lrOf(lo: number, hi: number): number {
  const lr = fieldOf(lo, GICH_LR.VirtualID) |
    (fieldOf(hi, ICH_LR_HI.State) << GICH_LR.State.shift) |
    ((fieldOf(hi, ICH_LR_HI.Priority) >>> 3) << GICH_LR.Priority.shift) |
    (hi & ICH_LR_HI.Group ? GICH_LR.Group1 : 0);
  if (hi & ICH_LR_HI.HW) {
    const physical = hi & ((1 << GICH_LR.PhysicalID.width) - 1);
    return (lr | GICH_LR.HW | (physical << GICH_LR.PhysicalID.shift)) >>> 0;
  }
  const source = fieldOf(lo, GICH_LR.CPUID) << GICH_LR.CPUID.shift;
  return (lr | source | (hi & ICH_LR_HI.EOI ? GICH_LR.EOI : 0)) >>> 0;
}
