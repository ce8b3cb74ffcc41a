/** Where the state of a virtual CPU interface lies, and which bits its registers have (IHI 0069, 12.4 and 12.7; IHI 0048, chapter 5). */
import { array, layout, u32 } from "../../base/struct.ts";
import { ICC_CTLR, ICH_HCR, ICH_LR_HI, ICH_VMCR, ICH_VTR } from "../arch/gic.ts";
import { PRIBITS, PRIORITY_MASK } from "./bank.ts";
import { MIN_BPR0, MIN_BPR1 } from "./priorities.ts";

/** The most list registers there can be. */
export const MAX_LRS = 16;

/** State of one virtual CPU interface. */
export const GichLayout = layout("gich", {
  hcr: u32(),
  vmcr: u32(),
  /** ICH_AP0R0_EL2 and ICH_AP1R0_EL2. */
  ap0r: u32(),
  ap1r: u32(),
  lr: array("u64", MAX_LRS),
});

export const HCR_WRITABLE: number = 0xff | ICH_HCR.TC | ICH_HCR.TALL0 | ICH_HCR.TALL1 |
  ICH_HCR.TSEI |
  ICH_HCR.TDIR | (0x1f << ICH_HCR.EOIcount.shift);
export const VMCR_WRITABLE: number = ICH_VMCR.VENG0 | ICH_VMCR.VENG1 | ICH_VMCR.VCBPR |
  ICH_VMCR.VEOIM |
  (7 << ICH_VMCR.VBPR1.shift) | (7 << ICH_VMCR.VBPR0.shift) |
  (PRIORITY_MASK << ICH_VMCR.VPMR.shift);
/** What a GICv2 has besides in VMCR. Its GICH_VMCR has no more. */
export const VMCR_MAPPED: number = ICH_VMCR.VAckCtl | ICH_VMCR.VFIQEn;
export const HCR_MAPPED: number = 0xff | (0x1f << ICH_HCR.EOIcount.shift);
export const VTR_FIXED: number = ICH_VTR.TDS | ICH_VTR.nV4 | ICH_VTR.A3V |
  (1 << ICH_VTR.IDbits.shift) |
  ((PRIBITS - 1) << ICH_VTR.PREbits.shift) | ((PRIBITS - 1) << ICH_VTR.PRIbits.shift);
export const CTLR_FIXED: number = ICC_CTLR.A3V | ((PRIBITS - 1) << ICC_CTLR.PRIbits.shift) |
  (1 << ICC_CTLR.IDbits.shift);
/** What a write to a GICv3's ICH_VMCR_EL2 keeps and sets, unless a field is one of `never`: that is raised. */
export const PLAIN_VMCR = {
  keep: VMCR_WRITABLE,
  set: ICH_VMCR.VFIQEn,
  never: [...below(ICH_VMCR.VBPR0, MIN_BPR0), ...below(ICH_VMCR.VBPR1, MIN_BPR1)],
} as const;

/** The values of a field of 3 bits that are less than `least`. */
function below({ shift }: { readonly shift: number }, least: number) {
  return Array.from({ length: least }, (_, n) => ({ mask: 7 << shift, value: n << shift }));
}

/** What a write to a GICv3's ICH_HCR_EL2 keeps, and to bits 63 to 32 of a list register. */
export const PLAIN_HCR: number = HCR_WRITABLE;
/** Priority bits of a list register that are RES0. */
export const LR_HI_RES0: number = (~PRIORITY_MASK & 0xff) << ICH_LR_HI.Priority.shift;

export const PLAIN_LR_HI: number = ~LR_HI_RES0;
