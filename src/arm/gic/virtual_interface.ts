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
import type { ViewOf } from "../../base/struct.ts";
import { LINE } from "../arch/cpu_state.ts";
import {
  fieldOf,
  ICC_CTLR,
  ICH_HCR,
  ICH_LR_HI,
  ICH_MISR,
  ICH_VMCR,
  IDLE_PRIORITY,
  INTID,
  INTID_MASK,
  MAINTENANCE_INTID,
  withField,
} from "../arch/gic.ts";
import { R } from "../arch/sysregs.ts";
import type { Bank } from "./bank.ts";
import type { CpuLines } from "./cpu_lines.ts";
import type { Interrupts } from "./interrupts.ts";
import * as priorities from "./priorities.ts";
import { binaryPoint, type BinaryPoints, MIN_BPR0, MIN_BPR1 } from "./priorities.ts";
import {
  CTLR_FIXED,
  GichLayout,
  HCR_MAPPED,
  HCR_WRITABLE,
  LR_HI_RES0,
  VMCR_MAPPED,
  VMCR_WRITABLE,
  VTR_FIXED,
} from "./virtual_layout.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones: functions, too.
const { activeBit, groupMask0, groupMask1, preempts, runningGroup, runningPriority } = priorities;
const field = fieldOf;
const HCR = ICH_HCR, LR_HI = ICH_LR_HI, VMCR = ICH_VMCR, LINES = LINE, IDLE = IDLE_PRIORITY;
const INTIDS = INTID, INTID_BITS = INTID_MASK, MAINTENANCE_BIT = 1 << MAINTENANCE_INTID;
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

const STATE_INVALID = 0;
const ENDED_MASK = ICH_LR_HI.PENDING | ICH_LR_HI.ACTIVE | ICH_LR_HI.HW | ICH_LR_HI.EOI;
const STATE_PENDING = 1;

/** What a virtual interface is part of. */
export interface VirtualParts {
  /** List registers, 1 to 16. */
  readonly lrs: number;
  /** What ICV_CTLR_EL1.RSS says. */
  readonly rangeSelector: boolean;
  /** Of a GICv2. */
  readonly mapped: boolean;
  /** The physical interrupts, of which list registers with HW deactivate some, and one is the maintenance interrupt. */
  readonly interrupts: Interrupts;
  readonly lines: CpuLines;
  readonly watcher: VirtualWatcher;
}

/** Called when a guest has deactivated the interrupt of a list register. For whoever watches. */
export interface VirtualWatcher {
  virtualDeactivated: ((cpuIndex: number, intid: number) => void) | undefined;
}

/** A view of one virtual CPU interface. Methods change state only; {@link refresh} makes of it what is signalled. */
export class VirtualInterface implements BinaryPoints {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly state: ViewOf<typeof GichLayout>;
  declare readonly lrs: number;
  declare readonly rangeSelector: boolean;
  declare readonly mapped: boolean;
  declare readonly interrupts: Interrupts;
  declare private readonly lines: CpuLines;
  declare private readonly watcher: VirtualWatcher;
  /** The state's words: V8 reads one at a constant place with three instructions. */
  declare private readonly words: Int32Array;
  declare private readonly lr: number;
  /** The CPU's private interrupts. */
  declare private readonly bank: Bank;

  constructor(arena: Arena, parts: VirtualParts) {
    this.lrs = parts.lrs;
    this.rangeSelector = parts.rangeSelector;
    this.mapped = parts.mapped;
    this.interrupts = parts.interrupts;
    this.lines = parts.lines;
    this.watcher = parts.watcher;
    this.state = arena.make(GichLayout);
    const { memory, base, lr } = this.state;
    this.words = new Int32Array(memory.i32.buffer, base, GichLayout.size >>> 2);
    this.lr = lr;
    this.bank = parts.interrupts.privates[parts.lines.cpuIndex] as Bank;
  }

  /** The byte addresses of ICH_VMCR_EL2 and ICH_HCR_EL2, each a word. */
  get vmcrAt(): number {
    return this.state.base + GichLayout.offset.vmcr;
  }
  get hcrAt(): number {
    return this.state.base + GichLayout.offset.hcr;
  }
  /** ICH_HCR_EL2, signed. */
  get hcr(): number {
    return this.words[WORD.HCR] as number;
  }
  /** Puts the registers to their reset values: all empty and disabled, VPMR masking everything. */
  reset(): void {
    const { state } = this;
    state.memory.u8.fill(0, state.base, state.base + GichLayout.size);
    this.writeVmcr(0);
  }

  /** Bits 31 to 0 of ICH_LR<n>_EL2: the virtual INTID. */
  lrLo(n: number): number {
    return this.state.memory.ld32(this.lr + 8 * n);
  }

  /** Bits 63 to 32 of ICH_LR<n>_EL2. */
  lrHi(n: number): number {
    return this.state.memory.ld32(this.lr + 8 * n + 4);
  }

  /** The virtual INTID in list register `n`, without the sending CPU of a GICv2's SGI. */
  intid(n: number): number {
    return this.mapped ? this.lrLo(n) & 0x3ff : this.lrLo(n);
  }

  /** Writes ICH_LR<n>_EL2. */
  writeLr(n: number, lo: number, hi: number): void {
    this.state.memory.st32(this.lr + 8 * n, lo);
    this.#setLrHi(n, hi & ~LR_HI_RES0);
  }

  #setLrHi(n: number, hi: number): void {
    this.state.memory.st32(this.lr + 8 * n + 4, hi);
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
    vmcr = withField(vmcr, ICH_VMCR.VBPR0, binaryPoint(field(vmcr, ICH_VMCR.VBPR0), MIN_BPR0));
    this.state.vmcr = withField(
      vmcr,
      ICH_VMCR.VBPR1,
      binaryPoint(field(vmcr, ICH_VMCR.VBPR1), MIN_BPR1),
    );
  }

  get bpr0(): number {
    return field(this.state.vmcr, ICH_VMCR.VBPR0);
  }
  get bpr1(): number {
    return field(this.state.vmcr, ICH_VMCR.VBPR1);
  }
  get common(): boolean {
    return (this.state.vmcr & ICH_VMCR.VCBPR) !== 0;
  }
  #splitsEoi(): boolean {
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
      (this.common ? ICC_CTLR.CBPR : 0) | (this.#splitsEoi() ? ICC_CTLR.EOImode : 0);
  }

  /** ICH_VTR_EL2. */
  get vtr(): number {
    return (VTR_FIXED | (this.lrs - 1)) >>> 0;
  }

  /** The list register with the highest priority pending interrupt of an enabled group, or -1; the lowest among equals. */
  highestPending(): number {
    const { words } = this;
    if ((this.#anySetFrom1() & LR_HI.PENDING) !== 0) return this.#searchPending();
    return isDeliverable(words[WORD.LR_HI] as number, words[WORD.VMCR] as number) ? 0 : -1;
  }

  #searchPending(): number {
    const { words } = this, vmcr = words[WORD.VMCR] as number;
    let found = -1, best: number = IDLE;
    for (let n = 0; n < this.lrs; n++) {
      const hi = words[(WORD.LR_HI + 2 * n) | 0] as number;
      if (!isDeliverable(hi, vmcr)) continue;
      const priority = (hi >>> LR_HI.Priority.shift) & 0xff;
      if (priority < best) {
        best = priority;
        found = n;
      }
    }
    return found;
  }

  /** Whether a list register's interrupt passes the mask and the running priority. `hi`: its bits 63 to 32. */
  #passes(hi: number): boolean {
    const { words } = this, priority = (hi >>> LR_HI.Priority.shift) & 0xff;
    if (priority >= (words[WORD.VMCR] as number) >>> VMCR.VPMR.shift) return false;
    const active = (words[WORD.AP0R] as number) | (words[WORD.AP1R] as number);
    return active === 0 || preempts(priority, active, this.#mask(hi & LR_HI.Group));
  }

  /** Whether list register `n`'s interrupt would be taken now. */
  #signals(n: number): boolean {
    return this.on && this.#passes(this.words[(WORD.LR_HI + 2 * n) | 0] as number);
  }

  /** The mask of the group priority bits: of group 0 if `group1` is 0. */
  #mask(group1: number): number {
    const vmcr = this.words[WORD.VMCR] as number;
    return group1 === 0 || (vmcr & VMCR.VCBPR) !== 0
      ? groupMask0(field(vmcr, VMCR.VBPR0))
      : groupMask1(field(vmcr, VMCR.VBPR1));
  }

  /** Signals to the guest, and drives the maintenance interrupt, as the registers say now. */
  refresh(): void {
    const { words } = this, hcr = words[WORD.HCR] as number;
    let line = 0, maintenance = 0;
    if ((hcr & HCR.En) !== 0) {
      const set = (words[WORD.LR_HI] as number) | this.#anySetFrom1();
      if ((set & LR_HI.PENDING) !== 0) line = this.#line();
      // Most often nothing but an EOI can be the maintenance interrupt's reason.
      if ((hcr & REASONS) !== 0) maintenance = this.misr();
      else if ((set & LR_HI.EOI) !== 0) maintenance = this.eisr();
    }
    this.lines.driveVirtual(line);
    const bank = this.bank, level = (bank.words[bank.level] as number) & MAINTENANCE_BIT;
    if ((level !== 0) !== (maintenance !== 0)) this.#driveMaintenance(maintenance !== 0);
  }

  /**
   * The bits 63 to 32 that any list register but the first has set. Those that do not exist are zero; of those that
   * do the first is the only one in use most often.
   */
  #anySetFrom1(): number {
    const { words } = this;
    const set = (words[WORD.LR_HI + 2] as number) | (words[WORD.LR_HI + 4] as number) |
      (words[WORD.LR_HI + 6] as number);
    return this.lrs <= 4 ? set : set | this.#anySetFrom4();
  }

  #anySetFrom4(): number {
    let set = 0;
    for (let n = 4; n < this.lrs; n++) set |= this.lrHi(n);
    return set;
  }

  #driveMaintenance(level: boolean): void {
    this.interrupts.drive(this.lines.cpuIndex, MAINTENANCE_INTID, level);
  }

  /** LINE.VIRQ, LINE.VFIQ or 0: what the guest is signalled while the interface is on. */
  #line(): number {
    const n = this.highestPending();
    if (n < 0) return 0;
    const { words } = this, hi = words[(WORD.LR_HI + 2 * n) | 0] as number;
    if (!this.#passes(hi)) return 0;
    const fiq = (hi & LR_HI.Group) === 0 && ((words[WORD.VMCR] as number) & VMCR.VFIQEn) !== 0;
    return fiq ? LINES.VFIQ : LINES.VIRQ;
  }

  /** ICH_HCR_EL2.En. */
  get on(): boolean {
    return ((this.words[WORD.HCR] as number) & HCR.En) !== 0;
  }

  /** The pending list register if its interrupt is of `group`, or -1. */
  #pendingOf(group: number): number {
    const n = this.highestPending();
    if (n < 0) return -1;
    const group1 = (this.words[(WORD.LR_HI + 2 * n) | 0] as number) & LR_HI.Group;
    return (group1 !== 0 ? 1 : 0) === group ? n : -1;
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
    if (n < 0 || !this.#signals(n)) return INTIDS.SPURIOUS;
    const { words } = this, hiAt = (WORD.LR_HI + 2 * n) | 0;
    const intid = (words[(hiAt - 1) | 0] as number) >>> 0, hi = words[hiAt] as number;
    if (isSpecial(intid)) {
      words[hiAt] = hi & ~LR_HI.PENDING;
      return intid;
    }
    words[hiAt] = (hi & ~LR_HI.PENDING) | LR_HI.ACTIVE;
    const bit = activeBit((hi >>> LR_HI.Priority.shift) & this.#mask(hi & LR_HI.Group));
    if (group === 0 || this.mapped) words[WORD.AP0R] = (words[WORD.AP0R] as number) | bit;
    else words[WORD.AP1R] = (words[WORD.AP1R] as number) | bit;
    return intid;
  }

  /** The list register in which `intid` is active, or -1. */
  #findActive(intid: number): number {
    const { words } = this, { lrs } = this;
    for (let n = 0; n < lrs; n++) {
      const hiAt = (WORD.LR_HI + 2 * n) | 0;
      if (((words[hiAt] as number) & LR_HI.ACTIVE) === 0) continue;
      if (words[(hiAt - 1) | 0] === intid) return n;
    }
    return -1;
  }

  /** Drops the highest active priority. */
  #dropPriority(): void {
    const { words } = this;
    const ap0 = words[WORD.AP0R] as number, ap1 = words[WORD.AP1R] as number;
    if (runningGroup(ap0, ap1) === 0) words[WORD.AP0R] = ap0 & (ap0 - 1);
    else words[WORD.AP1R] = ap1 & (ap1 - 1);
  }

  #bumpEoiCount(): void {
    const { state } = this;
    const count = field(state.hcr, ICH_HCR.EOIcount);
    state.hcr = withField(state.hcr, ICH_HCR.EOIcount, count + 1);
  }

  /** Active to invalid, or pending and active to pending; with HW the physical interrupt too. */
  #deactivateLr(n: number): void {
    const { words } = this, hiAt = (WORD.LR_HI + 2 * n) | 0, hi = words[hiAt] as number;
    words[hiAt] = hi & ~LR_HI.ACTIVE;
    const { cpuIndex } = this.lines;
    if ((hi & LR_HI.HW) !== 0) this.interrupts.deactivate(cpuIndex, field(hi, LR_HI.pINTID));
    const { virtualDeactivated } = this.watcher;
    if (virtualDeactivated !== undefined) virtualDeactivated(cpuIndex, this.intid(n));
  }

  /** Group of the list register in which `intid` is active; 0 when it is in none. */
  groupOfActive(intid: number): number {
    const n = this.#findActive(intid);
    return n >= 0 && (this.lrHi(n) & ICH_LR_HI.Group) !== 0 ? 1 : 0;
  }

  /** ICV_EOIR<group>_EL1. */
  endOfInterrupt(group: number, value: number): void {
    const intid = value & INTID_BITS;
    if (isSpecial(intid)) return;
    const { words } = this;
    const running = (words[WORD.AP0R] as number) | (words[WORD.AP1R] as number);
    if (running === 0) return;
    this.#dropPriority();
    const isLpi = intid >= INTIDS.FIRST_LPI;
    const deactivates = isLpi || ((words[WORD.VMCR] as number) & VMCR.VEOIM) === 0;
    const n = this.#findActive(intid);
    if (n >= 0) {
      if (deactivates && this.#isRunning(n, group, running)) this.#deactivateLr(n);
    } else if (deactivates && !isLpi) this.#bumpEoiCount();
  }

  /** Whether list register `n`'s interrupt is of `group`, and of the highest of the priorities `active`. */
  #isRunning(n: number, group: number, active: number): boolean {
    const hi = this.words[(WORD.LR_HI + 2 * n) | 0] as number, group1 = hi & LR_HI.Group;
    if ((group1 !== 0 ? 1 : 0) !== group) return false;
    const priority = (hi >>> LR_HI.Priority.shift) & this.#mask(group1);
    return priority === runningPriority(active, 0);
  }

  /** ICV_DIR_EL1. */
  deactivate(value: number): void {
    const intid = value & INTID_BITS;
    if (!this.#splitsEoi() || isSpecial(intid) || intid >= INTID.FIRST_LPI) return;
    const n = this.#findActive(intid);
    if (n < 0) this.#bumpEoiCount();
    else this.#deactivateLr(n);
  }

  /** ICH_EISR_EL2: invalid, not HW, EOI wanted. */
  eisr(): number {
    let value = 0;
    const { words } = this, { lrs } = this;
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
    if (hcr & ICH_HCR.LRENPIE && field(hcr, ICH_HCR.EOIcount) !== 0) misr |= ICH_MISR.LRENP;
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

/** Whether an interrupt is pending, of a group that is enabled. `hi`: bits 63 to 32 of its list register. */
function isDeliverable(hi: number, vmcr: number): boolean {
  if (hi >>> LR_HI.State.shift !== STATE_PENDING) return false;
  return (vmcr & ((hi & LR_HI.Group) !== 0 ? VMCR.VENG1 : VMCR.VENG0)) !== 0;
}

/** Whether `intid` is no interrupt but says something. */
export function isSpecial(intid: number): boolean {
  return intid >= INTIDS.FIRST_SPECIAL && intid < INTIDS.END_SPECIAL;
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
