/**
 * The virtual CPU interface of one CPU: ICH_*_EL2 for the hypervisor, ICV_* for the guest (IHI 0069,
 * chapter 6, 12.4 and 12.7), or GICH and GICV of a GICv2 (IHI 0048, chapter 5). What the guest sees has no
 * state of its own: it is a window on ICH_VMCR_EL2, the list registers and the virtual active priorities.
 *
 * With a GICv2 the list registers are kept as a GICv3 keeps those of a guest with a GICv2 (gicv2.ts,
 * lrLoOf), and `ap0r` alone is GICH_APR.
 *
 * Choices where behaviour is unpredictable: an EOI with no virtual priority active is ignored; an EOI
 * drops the priority before anything is checked; DIR with EOImode 0 is ignored.
 */
import type { Arena } from "../../base/arena.ts";
import { array, layout, u32, type ViewOf } from "../../base/struct.ts";
import { LINE } from "../arch/cpu_state.ts";
import {
  fieldOf,
  ICC_CTLR,
  ICH_HCR,
  ICH_LR_HI,
  ICH_MISR,
  ICH_VMCR,
  ICH_VTR,
  IDLE_PRIORITY,
  INTID,
  INTID_MASK,
  withField,
} from "../arch/gic.ts";
import { R } from "../arch/sysregs.ts";
import { PRIBITS, PRIORITY_MASK } from "./bank.ts";
import {
  activeBit,
  binaryPoint,
  type BinaryPoints,
  groupMask,
  MIN_BPR0,
  MIN_BPR1,
  preempts,
  runningGroup,
  runningPriority,
} from "./priorities.ts";

/** The most list registers there can be. */
export const MAX_LRS = 16;

/** State of one virtual CPU interface. */
const GichLayout = layout("gich", {
  hcr: u32(),
  vmcr: u32(),
  /** ICH_AP0R0_EL2 and ICH_AP1R0_EL2. */
  ap0r: u32(),
  ap1r: u32(),
  lr: array("u64", MAX_LRS),
});

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const HCR = ICH_HCR, LR_HI = ICH_LR_HI, VMCR = ICH_VMCR, LINES = LINE, IDLE = IDLE_PRIORITY;
/** Words of a state; that of the first list register's bits 63 to 32. */
const WORD = {
  HCR: GichLayout.offset.hcr >>> 2,
  VMCR: GichLayout.offset.vmcr >>> 2,
  AP0R: GichLayout.offset.ap0r >>> 2,
  AP1R: GichLayout.offset.ap1r >>> 2,
  LR_HI: (GichLayout.offset.lr >>> 2) + 1,
} as const;
/** What else than an EOI can be a reason for a maintenance interrupt. */
const REASONS = 0xff & ~ICH_HCR.En;

const HCR_WRITABLE = 0xff | ICH_HCR.TC | ICH_HCR.TALL0 | ICH_HCR.TALL1 | ICH_HCR.TSEI |
  ICH_HCR.TDIR | (0x1f << ICH_HCR.EOIcount.shift);
const VMCR_WRITABLE = ICH_VMCR.VENG0 | ICH_VMCR.VENG1 | ICH_VMCR.VCBPR | ICH_VMCR.VEOIM |
  (7 << ICH_VMCR.VBPR1.shift) | (7 << ICH_VMCR.VBPR0.shift) |
  (PRIORITY_MASK << ICH_VMCR.VPMR.shift);
/** What a GICv2 has besides in VMCR. Its GICH_VMCR has no more. */
const VMCR_MAPPED = ICH_VMCR.VAckCtl | ICH_VMCR.VFIQEn;
const HCR_MAPPED = 0xff | (0x1f << ICH_HCR.EOIcount.shift);
const VTR_FIXED = ICH_VTR.TDS | ICH_VTR.nV4 | ICH_VTR.A3V | (1 << ICH_VTR.IDbits.shift) |
  ((PRIBITS - 1) << ICH_VTR.PREbits.shift) | ((PRIBITS - 1) << ICH_VTR.PRIbits.shift);
const CTLR_FIXED = ICC_CTLR.A3V | ((PRIBITS - 1) << ICC_CTLR.PRIbits.shift) |
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
const LR_HI_RES0 = (~PRIORITY_MASK & 0xff) << ICH_LR_HI.Priority.shift;

export const PLAIN_LR_HI: number = ~LR_HI_RES0;

const STATE_INVALID = 0;
const ENDED_MASK = ICH_LR_HI.PENDING | ICH_LR_HI.ACTIVE | ICH_LR_HI.HW | ICH_LR_HI.EOI;
const STATE_PENDING = 1;

/** Passes a deactivation on to the physical interrupt. */
export type DeactivatePhysical = (cpu: number, hwIntid: number) => void;

/** A view of one virtual CPU interface. Methods change state only; the controller refreshes the lines afterwards. */
export class VirtualInterface implements BinaryPoints {
  readonly state: ViewOf<typeof GichLayout>;
  /** The state's words: V8 reads one at a constant place with three instructions. */
  readonly #words: Int32Array;
  readonly #lr: number;
  /** Called when the guest has deactivated the interrupt of a list register. */
  deactivated: (intid: number) => void = () => {};

  /** `lrs`: list registers, 1 to 16. `rangeSelector`: what ICV_CTLR_EL1.RSS says. `mapped`: of a GICv2. */
  constructor(
    arena: Arena,
    readonly cpu: number,
    readonly lrs: number,
    readonly rangeSelector: boolean,
    readonly deactivatePhysical: DeactivatePhysical,
    readonly mapped = false,
  ) {
    this.state = arena.make(GichLayout);
    const { memory, base, lr } = this.state;
    this.#words = new Int32Array(memory.i32.buffer, base, GichLayout.size >>> 2);
    this.#lr = lr;
  }

  /** The byte addresses of ICH_VMCR_EL2 and ICH_HCR_EL2, each a word. */
  get vmcrAt(): number {
    return this.state.base + GichLayout.offset.vmcr;
  }
  get hcrAt(): number {
    return this.state.base + GichLayout.offset.hcr;
  }
  /** Puts the registers to their reset values: all empty and disabled, VPMR masking everything. */
  reset(): void {
    const { state } = this;
    state.memory.u8.fill(0, state.base, state.base + GichLayout.size);
    this.writeVmcr(0);
  }

  /** Bits 31 to 0 of ICH_LR<n>_EL2: the virtual INTID. */
  lrLo(n: number): number {
    return this.state.memory.ld32(this.#lr + 8 * n);
  }

  /** Bits 63 to 32 of ICH_LR<n>_EL2. */
  lrHi(n: number): number {
    return this.state.memory.ld32(this.#lr + 8 * n + 4);
  }

  /** The virtual INTID in list register `n`, without the sending CPU of a GICv2's SGI. */
  intid(n: number): number {
    return this.mapped ? this.lrLo(n) & 0x3ff : this.lrLo(n);
  }

  /** Writes ICH_LR<n>_EL2. */
  writeLr(n: number, lo: number, hi: number): void {
    this.state.memory.st32(this.#lr + 8 * n, lo);
    this.#setLrHi(n, hi & ~LR_HI_RES0);
  }

  #setLrHi(n: number, hi: number): void {
    this.state.memory.st32(this.#lr + 8 * n + 4, hi);
  }

  /** Writes ICH_HCR_EL2. */
  writeHcr(value: number): void {
    this.state.hcr = value & (this.mapped ? HCR_MAPPED : HCR_WRITABLE);
  }

  /** Writes ICH_VMCR_EL2: VFIQEn is one with system registers, the binary points have a minimum. */
  writeVmcr(value: number): void {
    let vmcr = this.mapped
      ? value & (VMCR_WRITABLE | VMCR_MAPPED)
      : (value & VMCR_WRITABLE) | ICH_VMCR.VFIQEn;
    vmcr = withField(vmcr, ICH_VMCR.VBPR0, binaryPoint(fieldOf(vmcr, ICH_VMCR.VBPR0), MIN_BPR0));
    this.state.vmcr = withField(
      vmcr,
      ICH_VMCR.VBPR1,
      binaryPoint(fieldOf(vmcr, ICH_VMCR.VBPR1), MIN_BPR1),
    );
  }

  get bpr0(): number {
    return fieldOf(this.state.vmcr, ICH_VMCR.VBPR0);
  }
  get bpr1(): number {
    return fieldOf(this.state.vmcr, ICH_VMCR.VBPR1);
  }
  get common(): boolean {
    return (this.state.vmcr & ICH_VMCR.VCBPR) !== 0;
  }
  get #splitsEoi(): boolean {
    return (this.state.vmcr & ICH_VMCR.VEOIM) !== 0;
  }

  /** ICV_RPR_EL1. */
  get running(): number {
    return runningPriority(this.state.ap0r, this.state.ap1r);
  }

  /** ICV_PMR_EL1. */
  get pmr(): number {
    return this.state.vmcr >>> ICH_VMCR.VPMR.shift;
  }

  /** ICV_CTLR_EL1. */
  get ctlr(): number {
    return CTLR_FIXED | (this.rangeSelector ? ICC_CTLR.RSS : 0) |
      (this.common ? ICC_CTLR.CBPR : 0) | (this.#splitsEoi ? ICC_CTLR.EOImode : 0);
  }

  /** ICH_VTR_EL2. */
  get vtr(): number {
    return (VTR_FIXED | (this.lrs - 1)) >>> 0;
  }

  /** The list register with the highest priority pending interrupt of an enabled group, or -1; the lowest among equals. */
  highestPending(): number {
    const words = this.#words, { lrs } = this;
    const enabled = (words[WORD.VMCR] as number) & (VMCR.VENG0 | VMCR.VENG1);
    let found = -1;
    if (enabled === 0) return found;
    let best: number = IDLE;
    for (let n = 0; n < lrs; n++) {
      const hi = words[(WORD.LR_HI + 2 * n) | 0] as number;
      if (hi >>> LR_HI.State.shift !== STATE_PENDING) continue;
      if ((enabled & (hi & LR_HI.Group ? VMCR.VENG1 : VMCR.VENG0)) === 0) continue;
      const priority = (hi >>> LR_HI.Priority.shift) & 0xff;
      if (priority < best) {
        best = priority;
        found = n;
      }
    }
    return found;
  }

  /** Whether list register `n`'s interrupt passes the mask and the running priority. */
  #signals(n: number): boolean {
    const words = this.#words;
    if (((words[WORD.HCR] as number) & HCR.En) === 0) return false;
    const hi = words[(WORD.LR_HI + 2 * n) | 0] as number;
    const priority = (hi >>> LR_HI.Priority.shift) & 0xff;
    const vmcr = words[WORD.VMCR] as number;
    const active = (words[WORD.AP0R] as number) | (words[WORD.AP1R] as number);
    if (active === 0) return priority < vmcr >>> VMCR.VPMR.shift;
    const mask = groupMask(this, hi & LR_HI.Group ? 1 : 0);
    return preempts(priority, this.pmr, this.running, mask);
  }

  /** LINE.VIRQ, LINE.VFIQ or 0: what the guest is signalled. */
  lines(): number {
    const words = this.#words;
    if (((words[WORD.HCR] as number) & HCR.En) === 0) return 0;
    const n = this.highestPending();
    if (n < 0 || !this.#signals(n)) return 0;
    const ofGroup0 = ((words[(WORD.LR_HI + 2 * n) | 0] as number) & LR_HI.Group) === 0;
    return ofGroup0 && ((words[WORD.VMCR] as number) & VMCR.VFIQEn) !== 0 ? LINES.VFIQ : LINES.VIRQ;
  }

  /** ICH_HCR_EL2.En. */
  get on(): boolean {
    return ((this.#words[WORD.HCR] as number) & HCR.En) !== 0;
  }

  /** The level of the maintenance interrupt. */
  get maintenance(): boolean {
    const words = this.#words, hcr = words[WORD.HCR] as number;
    if ((hcr & HCR.En) === 0) return false;
    // Most often nothing but an EOI can be its reason.
    return (hcr & REASONS) === 0 ? this.eisr() !== 0 : this.misr() !== 0;
  }

  /** The pending list register if its interrupt is of `group`, or -1. */
  #pendingOf(group: number): number {
    const n = this.highestPending();
    if (n < 0) return -1;
    return (this.lrHi(n) & ICH_LR_HI.Group ? 1 : 0) === group ? n : -1;
  }

  /** GICV_CTLR.AckCtl. */
  get ackCtl(): boolean {
    return (this.state.vmcr & ICH_VMCR.VAckCtl) !== 0;
  }

  /** Whether an interrupt of `group` is pending that would be taken now. */
  signals(group: number): boolean {
    const n = this.#pendingOf(group);
    return n >= 0 && this.#signals(n);
  }

  /** ICV_HPPIR<group>_EL1. */
  pending(group: number): number {
    const n = this.#pendingOf(group);
    return n < 0 ? INTID.SPURIOUS : this.lrLo(n);
  }

  /** ICV_IAR<group>_EL1: pending to active. A special INTID in a list register is returned and dropped. */
  acknowledge(group: number): number {
    const n = this.#pendingOf(group);
    if (n < 0 || !this.#signals(n)) return INTID.SPURIOUS;
    const intid = this.lrLo(n);
    const hi = this.lrHi(n) & ~ICH_LR_HI.PENDING;
    if (isSpecial(intid)) {
      this.#setLrHi(n, hi);
      return intid;
    }
    this.#setLrHi(n, hi | ICH_LR_HI.ACTIVE);
    const bit = activeBit(fieldOf(hi, ICH_LR_HI.Priority) & groupMask(this, group));
    if (group === 0 || this.mapped) this.state.ap0r |= bit;
    else this.state.ap1r |= bit;
    return intid;
  }

  /** The list register in which `intid` is active, or -1. */
  #findActive(intid: number): number {
    for (let n = 0; n < this.lrs; n++) {
      if ((this.lrHi(n) & ICH_LR_HI.ACTIVE) !== 0 && this.lrLo(n) === intid) return n;
    }
    return -1;
  }

  /** Drops the highest active priority and returns it; idle if there was none. */
  #dropPriority(): number {
    const { state } = this;
    const dropped = this.running;
    if (runningGroup(state.ap0r, state.ap1r) === 0) state.ap0r &= state.ap0r - 1;
    else state.ap1r &= state.ap1r - 1;
    return dropped;
  }

  #bumpEoiCount(): void {
    const { state } = this;
    const count = fieldOf(state.hcr, ICH_HCR.EOIcount);
    state.hcr = withField(state.hcr, ICH_HCR.EOIcount, count + 1);
  }

  /** Active to invalid, or pending and active to pending; with HW the physical interrupt too. */
  #deactivateLr(n: number): void {
    const hi = this.lrHi(n);
    this.#setLrHi(n, hi & ~ICH_LR_HI.ACTIVE);
    if (hi & ICH_LR_HI.HW) this.deactivatePhysical(this.cpu, fieldOf(hi, ICH_LR_HI.pINTID));
    this.deactivated(this.lrLo(n));
  }

  /** Group of the list register in which `intid` is active; 0 when it is in none. */
  groupOfActive(intid: number): number {
    const n = this.#findActive(intid);
    return n >= 0 && (this.lrHi(n) & ICH_LR_HI.Group) !== 0 ? 1 : 0;
  }

  /** ICV_EOIR<group>_EL1. */
  endOfInterrupt(group: number, value: number): void {
    const intid = value & INTID_MASK;
    if (isSpecial(intid)) return;
    const dropped = this.#dropPriority();
    if (dropped === IDLE_PRIORITY) return;
    const isLpi = intid >= INTID.FIRST_LPI;
    const n = this.#findActive(intid);
    if (n < 0) {
      if (!this.#splitsEoi && !isLpi) this.#bumpEoiCount();
      return;
    }
    const hi = this.lrHi(n);
    if ((hi & ICH_LR_HI.Group ? 1 : 0) !== group) return;
    if ((fieldOf(hi, ICH_LR_HI.Priority) & groupMask(this, group)) !== dropped) return;
    if (!this.#splitsEoi || isLpi) this.#deactivateLr(n);
  }

  /** ICV_DIR_EL1. */
  deactivate(value: number): void {
    const intid = value & INTID_MASK;
    if (!this.#splitsEoi || isSpecial(intid) || intid >= INTID.FIRST_LPI) return;
    const n = this.#findActive(intid);
    if (n < 0) this.#bumpEoiCount();
    else this.#deactivateLr(n);
  }

  /** ICH_EISR_EL2: invalid, not HW, EOI wanted. */
  eisr(): number {
    let value = 0;
    const words = this.#words, { lrs } = this;
    for (let n = 0; n < lrs; n++) {
      if (((words[(WORD.LR_HI + 2 * n) | 0] as number) & ENDED_MASK) === LR_HI.EOI) value |= 1 << n;
    }
    return value;
  }

  /** ICH_ELRSR_EL2: invalid, and with no EOI maintenance interrupt waiting. */
  elrsr(): number {
    let value = 0;
    for (let n = 0; n < this.lrs; n++) {
      const hi = this.lrHi(n);
      if (hi >>> ICH_LR_HI.State.shift !== STATE_INVALID) continue;
      if ((hi & (ICH_LR_HI.HW | ICH_LR_HI.EOI)) !== ICH_LR_HI.EOI) value |= 1 << n;
    }
    return value;
  }

  /** ICH_MISR_EL2. */
  misr(): number {
    const { hcr, vmcr } = this.state;
    let misr = this.eisr() !== 0 ? ICH_MISR.EOI : 0;
    if (hcr & (ICH_HCR.UIE | ICH_HCR.NPIE)) misr |= this.#occupancy(hcr);
    if (hcr & ICH_HCR.LRENPIE && fieldOf(hcr, ICH_HCR.EOIcount) !== 0) misr |= ICH_MISR.LRENP;
    // The four group bits lie at the same places in both registers; a group is on or off.
    const on = vmcr & ICH_VMCR.VENG0 ? ICH_MISR.VGrp0E : ICH_MISR.VGrp0D;
    const on1 = vmcr & ICH_VMCR.VENG1 ? ICH_MISR.VGrp1E : ICH_MISR.VGrp1D;
    return misr | (hcr & (on | on1));
  }

  /** MISR.U (fewer than two valid) and MISR.NP (none pending), where enabled. */
  #occupancy(hcr: number): number {
    let valid = 0;
    let pending = 0;
    for (let n = 0; n < this.lrs; n++) {
      const state = this.lrHi(n) >>> ICH_LR_HI.State.shift;
      if (state !== STATE_INVALID) valid++;
      if (state === STATE_PENDING) pending++;
    }
    return (hcr & ICH_HCR.UIE && valid < 2 ? ICH_MISR.U : 0) |
      (hcr & ICH_HCR.NPIE && pending === 0 ? ICH_MISR.NP : 0);
  }
}

function isSpecial(intid: number): boolean {
  return intid >= INTID.FIRST_SPECIAL && intid < INTID.END_SPECIAL;
}

/** The byte address of bits 63 to 32 of list register `n`. */
export function lrHiAt({ state }: VirtualInterface, n: number): number {
  return state.lr + 8 * n + 4;
}

/** The byte address of a GICv3's ICH_AP0R0_EL2 or ICH_AP1R0_EL2, a word; undefined for another register. */
export function apRegisterAt({ state }: VirtualInterface, reg: number): number | undefined {
  if (reg === R.ICH_AP0R0_EL2) return state.base + GichLayout.offset.ap0r;
  return reg === R.ICH_AP1R0_EL2 ? state.base + GichLayout.offset.ap1r : undefined;
}
