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
import { CpuLayout, sysregOffset } from "./arch/cpu_state.ts";
import { HCR_HI } from "./arch/fields.ts";
import { R, SYSREGS } from "./arch/sysregs.ts";
import type { Core } from "./parts.ts";
import { isReadable, isWritable, resolve } from "./sysreg_access.ts";
import { CHECKS } from "./sysreg_traps.ts";
import { type Effects, READS_STORED, STORAGE } from "./sysreg_views.ts";

const ALL = 0xffff_ffff;

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

/** What EL2 has by each name with HCR_EL2.E2H as given. */
class Names {
  /** By the register-file index of the name: the word where it is read, 0 where that is not plain. */
  readonly read = new Uint32Array(SYSREGS.length);
  /** The word where it is written, 0 where that is not plain, and the bits whose change would not be. */
  readonly write = new Uint32Array(SYSREGS.length);
  readonly watchLo = new Uint32Array(SYSREGS.length);
  readonly watchHi = new Uint32Array(SYSREGS.length);
  readonly keepLo = new Uint32Array(SYSREGS.length);
  readonly keepHi = new Uint32Array(SYSREGS.length);
  readonly setLo = new Uint32Array(SYSREGS.length);
  readonly setHi = new Uint32Array(SYSREGS.length);

  constructor(core: Core, e2h: boolean) {
    for (const { index } of SYSREGS) {
      const at = resolve(core, index, 2, e2h);
      if (at < 0 || !isUnchecked(index)) continue;
      const word = core.regs.addressOf(at) >>> 2;
      if (isReadable(index) && READS_STORED[at]) this.read[index] = word;
      if (isWritable(index)) this.#written(core, index, at, word, e2h ? 0 : 1);
    }
  }

  #written(core: Core, name: number, at: number, word: number, layout: 0 | 1): void {
    const storage = STORAGE[at];
    if (storage === undefined) return;
    const mask = storage.masks[layout];
    const res0 = core.platform.model.res0[layout];
    this.write[name] = word;
    const { effects, watched = 0 } = storage;
    const waits = effects === undefined || canWait(effects);
    this.watchLo[name] = waits ? watched : ALL;
    this.watchHi[name] = waits ? 0 : ALL;
    this.keepLo[name] = mask[0] & ~(res0[2 * at] as number);
    this.keepHi[name] = mask[1] & ~(res0[2 * at + 1] as number);
    this.setLo[name] = mask[2];
    this.setHi[name] = mask[3];
  }
}

/** One CPU's. */
export class El2Storage {
  readonly #words: Uint32Array;
  readonly #cpu: number;
  readonly #plain: Names;
  readonly #e2h: Names;

  constructor(core: Core) {
    this.#words = core.platform.memory.u32;
    this.#cpu = core.cpu.base >>> 2;
    this.#plain = new Names(core, false);
    this.#e2h = new Names(core, true);
  }

  /** Whether the CPU is at EL2 on EL2's own stack. */
  get #here(): boolean {
    return this.#words[this.#cpu + EL_WORD] === 2 && this.#words[this.#cpu + SPSEL_WORD] === 1;
  }

  get #names(): Names {
    const hcr = this.#words[this.#cpu + HCR_HI_WORD] as number;
    return (hcr & HCR_HI.E2H) !== 0 ? this.#e2h : this.#plain;
  }

  /** The word where register `reg`, of two words, can be read now; 0 where that is not plain. */
  at(reg: number): number {
    return this.#here ? this.#names.read[reg] as number : 0;
  }

  /** Copies the register to the word `to` and the next; false where it is not plain, and nothing is done. */
  save(reg: number, to: number): boolean {
    const from = this.at(reg);
    if (from === 0) return false;
    const words = this.#words;
    words[to] = words[from] as number;
    words[to + 1] = words[from + 1] as number;
    return true;
  }

  /** Writes the register; false where that is not plain, and nothing is done. */
  write(reg: number, lo: number, hi: number): boolean {
    if (!this.#here) return false;
    const names = this.#names, words = this.#words;
    const to = names.write[reg] as number;
    if (to === 0) return false;
    const newLo = (lo & (names.keepLo[reg] as number)) | (names.setLo[reg] as number);
    const newHi = (hi & (names.keepHi[reg] as number)) | (names.setHi[reg] as number);
    const changedLo = (newLo ^ (words[to] as number)) & (names.watchLo[reg] as number);
    const changedHi = (newHi ^ (words[to + 1] as number)) & (names.watchHi[reg] as number);
    if ((changedLo | changedHi) !== 0) return false;
    words[to] = newLo;
    words[to + 1] = newHi;
    return true;
  }
}
