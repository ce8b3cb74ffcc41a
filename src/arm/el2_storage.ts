/**
 * The system registers that are plain storage to software at EL2 while that is TypeScript: where each
 * lies and which of its bits are kept, as tables made once for each CPU, so that a world switch moves
 * them as memory. Whatever is not plain (interrupt controller, timers, PSTATE, identification, registers
 * that something checks) goes by {@link SysregAccess} like an MRS or MSR.
 *
 * What a write does beyond storing can wait here where it only recomputes caches of how instructions
 * execute (translation context, FP access, interrupts to look at, stepping): the host executes none, and
 * the ERET that leaves it recomputes them all.
 */
import * as cpuState from "./arch/cpu_state.ts";
import { CpuLayout } from "./arch/cpu_state.ts";
import * as fields from "./arch/fields.ts";
import * as sysregs from "./arch/sysregs.ts";
import type { Core, Halves } from "./parts.ts";
import * as sysregAccess from "./sysreg_access.ts";
import { CHECKS } from "./sysreg_traps.ts";
import * as sysregViews from "./sysreg_views.ts";
import type { Effects, Reader, Writer } from "./sysreg_views.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { sysregOffset } = cpuState;
const { HCR_HI } = fields;
const { R, SYSREGS } = sysregs;
const { isReadable, isWritable, resolve } = sysregAccess;
const { READERS, READS_STORED, STORAGE, WRITERS } = sysregViews;

const ALL = 0xffff_ffff;

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const BY_READ = READERS, BY_WRITE = WRITERS, E2H = HCR_HI.E2H;

const EL_WORD = CpuLayout.offset.el >>> 2;
const SPSEL_WORD = CpuLayout.offset.spsel >>> 2;
const HCR_HI_WORD = (sysregOffset(R.HCR_EL2) >>> 2) + 1;

/** Effects that the next ERET makes good. */
function canWait({ armed, pmu, timer }: Effects): boolean {
  return !armed && !pmu && !timer;
}

/** Whether EL2 may access the register whatever the state; SP_EL0 wants SPSel, which {@link El2Storage} looks at. */
function isUnchecked(reg: number): boolean {
  return reg === R.SP_EL0 || CHECKS[2][reg] === undefined;
}

/**
 * What there is of a name, with HCR_EL2.E2H clear and set: words of one table, so that an access loads one
 * base address.
 */
const ENTRY = {
  /** The word where the register is read, 0 where that is not plain. */
  READ: 0,
  /** The same for a write; the bits whose change would not be plain; those that are kept, those that are set. */
  WRITE: 1,
  WATCH_LO: 2,
  WATCH_HI: 3,
  KEEP_LO: 4,
  KEEP_HI: 5,
  SET_LO: 6,
  SET_HI: 7,
} as const;
const ENTRY_SHIFT = 3;
const NAMES = SYSREGS.length;

function entryOf(reg: number, e2h: boolean): number {
  return ((e2h ? NAMES : 0) + reg) << ENTRY_SHIFT;
}

/** How a register that is plain storage is written: all are 64 bits. */
export interface PlainWrite {
  /** Its byte address. */
  readonly address: number;
  /** Bits whose change would not be plain; those that are kept of a value, those that are set. */
  readonly watch: bigint;
  readonly keep: bigint;
  readonly set: bigint;
}

/** One CPU's. */
export class El2Storage {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly core: Core;
  /** Signed: what has bit 31 set stays a small integer to V8. */
  declare private readonly words: Int32Array;
  /** Those of the CPU. */
  declare private readonly cpuWords: Int32Array;
  /** An {@link ENTRY} for each name with E2H clear, then as many with it set. */
  readonly #table = new Int32Array((2 * NAMES) << ENTRY_SHIFT);
  /** The register that is read and written by each name, when nothing but the level has a say in it; else -1. */
  readonly #reads = new Int16Array(2 * NAMES).fill(-1);
  readonly #writes = new Int16Array(2 * NAMES).fill(-1);

  constructor(core: Core) {
    this.core = core;
    this.words = core.platform.memory.i32;
    this.cpuWords = core.words;
    for (const { index } of SYSREGS) {
      this.#enter(index, false);
      this.#enter(index, true);
    }
  }

  #enter(index: number, e2h: boolean): void {
    const at = resolve(this.core, index, 2, e2h);
    if (at < 0 || !isUnchecked(index)) return;
    const place = (e2h ? NAMES : 0) + index;
    // What is checked besides must find its way as an instruction does.
    if (index !== R.SP_EL0 && isReadable(index)) this.#reads[place] = at;
    if (index !== R.SP_EL0 && isWritable(index)) this.#writes[place] = at;
    const word = this.core.regs.addressOf(at) >>> 2;
    if (isReadable(index) && READS_STORED[at]) {
      this.#table[(place << ENTRY_SHIFT) + ENTRY.READ] = word;
    }
    if (isWritable(index)) this.#enterWrite(place << ENTRY_SHIFT, at, word, e2h ? 0 : 1);
  }

  #enterWrite(entry: number, at: number, word: number, layout: 0 | 1): void {
    const storage = STORAGE[at];
    if (storage === undefined) return;
    const mask = storage.masks[layout];
    const res0 = this.core.platform.model.res0[layout];
    const { effects, watched = 0 } = storage;
    const waits = effects === undefined || canWait(effects);
    const table = this.#table;
    table[entry + ENTRY.WRITE] = word;
    table[entry + ENTRY.WATCH_LO] = waits ? watched : ALL;
    table[entry + ENTRY.WATCH_HI] = waits ? 0 : ALL;
    table[entry + ENTRY.KEEP_LO] = mask[0] & ~(res0[2 * at] as number);
    table[entry + ENTRY.KEEP_HI] = mask[1] & ~(res0[2 * at + 1] as number);
    table[entry + ENTRY.SET_LO] = mask[2];
    table[entry + ENTRY.SET_HI] = mask[3];
  }

  /** Where the names of now begin, 0 or {@link NAMES}; -1 unless the CPU is at EL2 on EL2's own stack. */
  #names(): number {
    if (!this.atEl2) return -1;
    return ((this.cpuWords[HCR_HI_WORD] as number) & E2H) !== 0 ? NAMES : 0;
  }

  /** Whether the CPU is at EL2 on EL2's own stack. */
  get atEl2(): boolean {
    const words = this.cpuWords;
    return words[EL_WORD] === 2 && words[SPSEL_WORD] === 1;
  }

  /** Reads what is not plain into `out`, if nothing but the level has a say in it; else false, and nothing is done. */
  readOther(reg: number, out: Halves): boolean {
    const names = this.#names();
    const index = names < 0 ? -1 : this.#reads[(names + reg) | 0] as number;
    if (index < 0) return false;
    (BY_READ[index] as Reader)(this.core, index, out);
    return true;
  }

  /** HCR_EL2.E2H; undefined unless the CPU is at EL2 on EL2's own stack. */
  get e2h(): boolean | undefined {
    const names = this.#names();
    return names < 0 ? undefined : names !== 0;
  }

  /**
   * The register that EL2 reads or writes by this name, with HCR_EL2.E2H as in `e2h`, when nothing but the
   * level has a say in it; else -1.
   */
  readsAs(reg: number, e2h: boolean): number {
    return this.#reads[(e2h ? NAMES : 0) + reg] as number;
  }
  writesTo(reg: number, e2h: boolean): number {
    return this.#writes[(e2h ? NAMES : 0) + reg] as number;
  }

  /** The byte address where EL2 reads the register, with HCR_EL2.E2H as in `e2h`; 0 where that is not plain. */
  plainRead(reg: number, e2h: boolean): number {
    return 4 * (this.#table[entryOf(reg, e2h) + ENTRY.READ] as number);
  }

  /** How EL2 writes the register, with HCR_EL2.E2H as in `e2h`; undefined where that is not plain. */
  plainWrite(reg: number, e2h: boolean): PlainWrite | undefined {
    const entry = entryOf(reg, e2h);
    const bits = (lo: number) =>
      BigInt.asUintN(32, BigInt(this.#table[entry + lo] as number)) |
      (BigInt.asUintN(32, BigInt(this.#table[entry + lo + 1] as number)) << 32n);
    const address = 4 * (this.#table[entry + ENTRY.WRITE] as number);
    if (address === 0) return undefined;
    const watch = bits(ENTRY.WATCH_LO), keep = bits(ENTRY.KEEP_LO), set = bits(ENTRY.SET_LO);
    // Names mean other registers from there on.
    const names = address === this.core.cpu.base + 4 * HCR_HI_WORD - 4
      ? BigInt(HCR_HI.E2H) << 32n
      : 0n;
    return { address, watch: watch | names, keep, set };
  }

  /** The word where register `reg`, of two words, can be read now; 0 where that is not plain. */
  at(reg: number): number {
    const names = this.#names();
    return names < 0 ? 0 : this.#table[((names + reg) << ENTRY_SHIFT) + ENTRY.READ] as number;
  }

  /** Copies the register to the word `to` and the next; false where it is not plain, and nothing is done. */
  save(reg: number, to: number): boolean {
    const from = this.at(reg);
    if (from === 0) return false;
    const words = this.words;
    words[to] = words[from] as number;
    words[(to + 1) | 0] = words[(from + 1) | 0] as number;
    return true;
  }

  /** Writes the register, if nothing but the level has a say in it; else false, and nothing is done. */
  write(reg: number, lo: number, hi: number): boolean {
    const names = this.#names();
    if (names < 0) return false;
    const place = (names + reg) | 0;
    if (store(this.#table, this.words, place, lo, hi)) return true;
    const index = this.#writes[place] as number;
    if (index < 0) return false;
    (BY_WRITE[index] as Writer)(this.core, index, lo, hi);
    return true;
  }
}

/** Writes the register that the table has at `place`, if its write is plain. */
function store(
  table: Int32Array,
  words: Int32Array,
  place: number,
  lo: number,
  hi: number,
): boolean {
  const entry = place << ENTRY_SHIFT;
  const to = table[entry + ENTRY.WRITE] as number;
  if (to === 0) return false;
  const newLo = (lo & (table[entry + ENTRY.KEEP_LO] as number)) |
    (table[entry + ENTRY.SET_LO] as number);
  const newHi = (hi & (table[entry + ENTRY.KEEP_HI] as number)) |
    (table[entry + ENTRY.SET_HI] as number);
  const changedLo = (newLo ^ (words[to] as number)) & (table[entry + ENTRY.WATCH_LO] as number);
  const changedHi = (newHi ^ (words[to + 1] as number)) & (table[entry + ENTRY.WATCH_HI] as number);
  if ((changedLo | changedHi) !== 0) return false;
  words[to] = newLo;
  words[to + 1] = newHi;
  return true;
}
