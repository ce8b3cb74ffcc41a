/**
 * The GICv3 as data: register offsets, field places and INTID ranges. Shared by the emulated hardware
 * and by the hypervisor's virtual distributor. Source: GIC Architecture Specification (IHI 0069),
 * chapter 12 "Programmers' Model".
 *
 * Names are the manual's. A one-bit field is its mask; a wider one is a {@link BitField}. Fields of
 * 64-bit registers are given within the half that holds them.
 */

/** Bits `shift + width - 1` down to `shift` of a 32-bit word. */
export interface BitField {
  readonly shift: number;
  readonly width: number;
}

/** The field's value, unsigned. */
export function fieldOf(word: number, field: BitField): number {
  return (word >>> field.shift) & ((1 << field.width) - 1);
}

/** `word` with the field replaced by the low bits of `value`, unsigned. */
export function withField(word: number, field: BitField, value: number): number {
  const mask = (1 << field.width) - 1;
  return ((word & ~(mask << field.shift)) | ((value & mask) << field.shift)) >>> 0;
}

/** INTID ranges and special values (IHI 0069, 2.2). */
export const INTID = {
  /** SGIs are 0 to 15, PPIs 16 to 31, SPIs from 32. */
  FIRST_PPI: 16,
  FIRST_SPI: 32,
  /** SPIs end before the four special INTIDs. */
  END_SPI: 1020,
  FIRST_SPECIAL: 1020,
  END_SPECIAL: 1024,
  SPURIOUS: 1023,
  FIRST_LPI: 8192,
} as const;

/** The PPI of the virtual interface's maintenance interrupt (Arm Base System Architecture). */
export const MAINTENANCE_INTID = 25;

/** Bytes of the distributor's frame. */
export const GICD_SIZE = 0x1_0000;
/** Bytes of one of a redistributor's two frames. */
export const GICR_FRAME_SIZE = 0x1_0000;
/** Bytes per CPU in the redistributor region: RD_base, then SGI_base. */
export const GICR_SIZE = 2 * GICR_FRAME_SIZE;

/** Distributor registers (IHI 0069, 12.8 and 12.9). */
export const GICD = {
  CTLR: 0x0000,
  TYPER: 0x0004,
  IIDR: 0x0008,
  TYPER2: 0x000c,
  STATUSR: 0x0010,
  SETSPI_NSR: 0x0040,
  CLRSPI_NSR: 0x0048,
  IGROUPR: 0x0080,
  ISENABLER: 0x0100,
  ICENABLER: 0x0180,
  ISPENDR: 0x0200,
  ICPENDR: 0x0280,
  ISACTIVER: 0x0300,
  ICACTIVER: 0x0380,
  IPRIORITYR: 0x0400,
  ITARGETSR: 0x0800,
  ICFGR: 0x0c00,
  IGRPMODR: 0x0d00,
  NSACR: 0x0e00,
  SGIR: 0x0f00,
  CPENDSGIR: 0x0f10,
  SPENDSGIR: 0x0f20,
  IROUTER: 0x6000,
  PIDR4: 0xffd0,
  PIDR2: 0xffe8,
} as const;

/** GICD_CTLR with one Security state (DS is 1). */
export const GICD_CTLR = {
  EnableGrp0: 1 << 0,
  EnableGrp1: 1 << 1,
  ARE: 1 << 4,
  DS: 1 << 6,
  E1NWF: 1 << 7,
  RWP: 0x8000_0000,
} as const;

export const GICD_TYPER = {
  /** (Number of INTIDs of SGIs, PPIs and SPIs) / 32 - 1. */
  ITLinesNumber: { shift: 0, width: 5 },
  CPUNumber: { shift: 5, width: 3 },
  SecurityExtn: 1 << 10,
  MBIS: 1 << 16,
  LPIS: 1 << 17,
  DVIS: 1 << 18,
  /** INTID bits - 1. */
  IDbits: { shift: 19, width: 5 },
  A3V: 1 << 24,
  No1N: 1 << 25,
  RSS: 1 << 26,
} as const;

/** GICD_IROUTER<n>: bits 31 to 0, and Aff3 in bits 7 to 0 of the upper half. */
export const GICD_IROUTER = {
  /** Aff2, Aff1, Aff0. */
  AFF210: 0x00ff_ffff,
  IRM: 0x8000_0000,
  AFF3_HI: 0xff,
} as const;

/** Redistributor registers of RD_base (IHI 0069, 12.10). */
export const GICR = {
  CTLR: 0x0000,
  IIDR: 0x0004,
  TYPER: 0x0008,
  STATUSR: 0x0010,
  WAKER: 0x0014,
  PROPBASER: 0x0070,
  PENDBASER: 0x0078,
  SYNCR: 0x00c0,
  PIDR4: 0xffd0,
  PIDR2: 0xffe8,
} as const;

/** Redistributor registers of SGI_base, from RD_base (IHI 0069, 12.10). */
export const GICR_SGI = {
  IGROUPR0: 0x1_0080,
  ISENABLER0: 0x1_0100,
  ICENABLER0: 0x1_0180,
  ISPENDR0: 0x1_0200,
  ICPENDR0: 0x1_0280,
  ISACTIVER0: 0x1_0300,
  ICACTIVER0: 0x1_0380,
  IPRIORITYR: 0x1_0400,
  ICFGR0: 0x1_0c00,
  ICFGR1: 0x1_0c04,
  IGRPMODR0: 0x1_0d00,
  NSACR: 0x1_0e00,
} as const;

/** GICR_TYPER bits 31 to 0; the upper half is Aff3.Aff2.Aff1.Aff0. */
export const GICR_TYPER = {
  PLPIS: 1 << 0,
  VLPIS: 1 << 1,
  DirectLPI: 1 << 3,
  Last: 1 << 4,
  DPGS: 1 << 5,
  Processor_Number: { shift: 8, width: 16 },
} as const;

export const GICR_WAKER = { ProcessorSleep: 1 << 1, ChildrenAsleep: 1 << 2 } as const;

/** ICC_CTLR_EL1 and ICV_CTLR_EL1. */
export const ICC_CTLR = {
  CBPR: 1 << 0,
  EOImode: 1 << 1,
  PMHE: 1 << 6,
  /** Priority bits - 1. */
  PRIbits: { shift: 8, width: 3 },
  /** INTID bits: 0 for 16, 1 for 24. */
  IDbits: { shift: 11, width: 3 },
  SEIS: 1 << 14,
  A3V: 1 << 15,
  RSS: 1 << 18,
} as const;

/** ICC_SRE_EL1 and ICC_SRE_EL2. */
export const ICC_SRE = { SRE: 1 << 0, DFB: 1 << 1, DIB: 1 << 2, Enable: 1 << 3 } as const;

/** ICC_SGI0R_EL1, ICC_SGI1R_EL1 and ICC_ASGI1R_EL1: lower half. */
export const SGIR_LO = {
  TargetList: { shift: 0, width: 16 },
  Aff1: { shift: 16, width: 8 },
  INTID: { shift: 24, width: 4 },
} as const;

/** The same registers' upper half: bits 63 to 32. */
export const SGIR_HI = {
  Aff2: { shift: 0, width: 8 },
  IRM: 1 << 8,
  /** Range selector: the target list is for Aff0 of 16 * RS to 16 * RS + 15. */
  RS: { shift: 12, width: 4 },
  Aff3: { shift: 16, width: 8 },
} as const;

/** INTID of ICC_IAR, EOIR, DIR, HPPIR: 24 bits. */
export const INTID_MASK = 0x00ff_ffff;

/** ICC_RPR_EL1 when nothing is active. */
export const IDLE_PRIORITY = 0xff;

export const ICH_HCR = {
  En: 1 << 0,
  UIE: 1 << 1,
  LRENPIE: 1 << 2,
  NPIE: 1 << 3,
  VGrp0EIE: 1 << 4,
  VGrp0DIE: 1 << 5,
  VGrp1EIE: 1 << 6,
  VGrp1DIE: 1 << 7,
  TC: 1 << 10,
  TALL0: 1 << 11,
  TALL1: 1 << 12,
  TSEI: 1 << 13,
  TDIR: 1 << 14,
  EOIcount: { shift: 27, width: 5 },
} as const;

export const ICH_VTR = {
  /** List registers - 1. */
  ListRegs: { shift: 0, width: 5 },
  DVIM: 1 << 18,
  TDS: 1 << 19,
  nV4: 1 << 20,
  A3V: 1 << 21,
  SEIS: 1 << 22,
  /** INTID bits: 0 for 16, 1 for 24. */
  IDbits: { shift: 23, width: 3 },
  /** Preemption bits - 1. */
  PREbits: { shift: 26, width: 3 },
  /** Priority bits - 1. */
  PRIbits: { shift: 29, width: 3 },
} as const;

export const ICH_VMCR = {
  VENG0: 1 << 0,
  VENG1: 1 << 1,
  VAckCtl: 1 << 2,
  VFIQEn: 1 << 3,
  VCBPR: 1 << 4,
  VEOIM: 1 << 9,
  VBPR1: { shift: 18, width: 3 },
  VBPR0: { shift: 21, width: 3 },
  VPMR: { shift: 24, width: 8 },
} as const;

export const ICH_MISR = {
  EOI: 1 << 0,
  U: 1 << 1,
  LRENP: 1 << 2,
  NP: 1 << 3,
  VGrp0E: 1 << 4,
  VGrp0D: 1 << 5,
  VGrp1E: 1 << 6,
  VGrp1D: 1 << 7,
} as const;

/** ICH_LR<n>_EL2 bits 63 to 32, where all but the virtual INTID lies. */
export const ICH_LR_HI = {
  /** Physical INTID, when HW is 1. */
  pINTID: { shift: 0, width: 13 },
  /** EOI maintenance interrupt wanted, when HW is 0. */
  EOI: 1 << 9,
  Priority: { shift: 16, width: 8 },
  Group: 1 << 28,
  HW: 1 << 29,
  State: { shift: 30, width: 2 },
  PENDING: 1 << 30,
  ACTIVE: 0x8000_0000,
} as const;

/** Values of ICH_LR<n>_EL2.State. */
const LR_STATE = ["invalid", "pending", "active", "pending and active"] as const;

/** A list register in plain words. */
export interface LrFields {
  readonly intid: number;
  /** Of an SGI of a guest with a GICv2: the CPU that sent it; else 0. */
  readonly source: number;
  readonly state: (typeof LR_STATE)[number];
  readonly priority: number;
  readonly group: 0 | 1;
  /** Whether deactivation is passed on to the physical interrupt `hwIntid`. */
  readonly hw: boolean;
  readonly hwIntid: number | undefined;
  /** Whether its end raises the maintenance interrupt. */
  readonly eoi: boolean;
}

/** A list register's halves read out for people: bits 31 to 0 and 63 to 32 of ICH_LR<n>_EL2. */
export function lrFields(lo: number, hi: number): LrFields {
  const hw = (hi & ICH_LR_HI.HW) !== 0;
  // INTIDs from 1024 to 8191 are reserved, so that these bits are a sender's.
  const low = lo >>> 0 < INTID.FIRST_LPI;
  return {
    intid: low ? lo & 0x3ff : lo >>> 0,
    source: low ? lo >>> 10 : 0,
    state: LR_STATE[fieldOf(hi, ICH_LR_HI.State)] ?? "invalid",
    priority: fieldOf(hi, ICH_LR_HI.Priority),
    group: hi & ICH_LR_HI.Group ? 1 : 0,
    hw,
    hwIntid: hw ? fieldOf(hi, ICH_LR_HI.pINTID) : undefined,
    eoi: !hw && (hi & ICH_LR_HI.EOI) !== 0,
  };
}

/**
 * Aff3.Aff2.Aff1.Aff0 packed into 32 bits, as GICR_TYPER's upper half holds them, from an MPIDR_EL1
 * (Aff3 in its bits 39 to 32).
 */
export function packedAffinity(mpidr: number): number {
  const aff3 = Math.floor(mpidr / 2 ** 32) & 0xff;
  return ((aff3 << 24) | (mpidr % 2 ** 32 & 0x00ff_ffff)) >>> 0;
}
