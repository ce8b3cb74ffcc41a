/**
 * What a translation reports when it fails. Source: Arm Architecture Reference Manual (DDI 0487),
 * D8 "Address translation", and the DFSC/IFSC fields of ESR_ELx.
 */
import { TWO32 } from "../../base/bits.ts";
import { ACCESS, type Access } from "../arch/tlb_layout.ts";

/** Fault status codes (DFSC/IFSC). Those that depend on a level have it, 0 to 3, added. */
export const FSC = {
  ADDRESS_SIZE: 0x00,
  TRANSLATION: 0x04,
  ACCESS_FLAG: 0x08,
  PERMISSION: 0x0c,
  /** Synchronous external abort on the access itself: raised by the bus, never by a walk. */
  EXTERNAL: 0x10,
  /** Synchronous external abort on a translation table walk. */
  EXTERNAL_ON_WALK: 0x14,
  ALIGNMENT: 0x21,
} as const;

/** Whether `fsc` is one of the kind `kind` (one of the levelled codes of {@link FSC}). */
export function isFault(fsc: number, kind: number): boolean {
  return (fsc & 0x3c) === kind;
}

/**
 * The one scratch record of a failed translation: valid until the next translation begins. The caller
 * makes the exception of it (target EL, ESR, FAR, HPFAR).
 */
export class TranslationFault {
  /** DFSC/IFSC, level included. */
  fsc = 0;
  /** Found by stage 2: taken to EL2, HPFAR_EL2 from `ipa`. */
  stage2 = false;
  /** A stage 2 fault on the walk of stage 1 (ISS.S1PTW). */
  s1ptw = false;
  /** For a stage 2 fault, the intermediate physical address that did not translate. */
  ipa = 0;
  /** The address as the instruction gave it, for FAR. */
  vaLo = 0;
  vaHi = 0;
  /** ISS.WnR. */
  write = false;
  /** An address translation (or cache maintenance) instruction: ISS.CM. */
  cm = false;

  /** Begins a translation: nothing is known but the access. */
  begin(vaLo: number, vaHi: number, access: Access): void {
    this.fsc = 0;
    this.stage2 = false;
    this.s1ptw = false;
    this.ipa = 0;
    this.vaLo = vaLo >>> 0;
    this.vaHi = vaHi >>> 0;
    this.write = access === ACCESS.WRITE;
    this.cm = false;
  }

  /** Records a fault of stage 1. Always false, so that a walk can return it. */
  stage1(fsc: number): false {
    this.fsc = fsc;
    return false;
  }

  /** Records a fault of stage 2 at an IPA in halves. Always false. */
  second(fsc: number, ipaLo: number, ipaHi: number): false {
    this.fsc = fsc;
    this.stage2 = true;
    this.ipa = (ipaLo >>> 0) + ipaHi * TWO32;
    return false;
  }
}
