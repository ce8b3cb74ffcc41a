/**
 * Access to system registers by MRS and MSR: does the register exist, at which level, what redirects
 * it (HCR_EL2.E2H), what traps it, then what it does. Source: Arm Architecture Reference Manual (DDI
 * 0487), D19 and "Redirection of accesses" in D8.
 *
 * All of it is tables by register-file index: `sysreg_traps.ts`, `sysreg_views.ts`,
 * `sysreg_masks.ts`; this file only puts them in order.
 */
import { CpuLayout } from "./arch/cpu_state.ts";
import { HCR } from "./arch/fields.ts";
import { EC, issSys64 } from "./arch/syndrome.ts";
import { setDaif } from "./debug_enable.ts";
import { R, SYSREGS } from "./arch/sysregs.ts";
import { fpTrap, takeFpTrap, takeSync, takeUndefined, type Target } from "./exceptions.ts";
import { ABSENT } from "./id_registers.ts";
import type { VirtualInterface } from "./gic/virtual_interface.ts";
import type { Core, Halves } from "./parts.ts";
import { elOf, isE2h, isEl0Host } from "./pstate.ts";
import { VERDICT, verdictAtEl1, verdictOn } from "./sysreg_traps.ts";
import { type Reader, READERS, type Writer, WRITERS } from "./sysreg_views.ts";

const NONE = -1;
const KEYS = 1 << 16;

/** Register-file index by encoding, or -1. */
const INDEX_OF = new Int16Array(KEYS).fill(NONE);
for (const r of SYSREGS) if (!ABSENT.has(r.name)) INDEX_OF[r.key] = r.index;

function redirect(e2h: boolean): Int16Array {
  return Int16Array.from(SYSREGS, (r) => {
    if (ABSENT.has(r.name)) return NONE;
    if (r.kind === "alias") return e2h && r.target ? R[r.target] : NONE;
    return e2h && r.target ? R[r.target] : r.index;
  });
}

/** What EL2 reaches by a register's name, with E2H clear and set; -1 is UNDEFINED. */
const AT_EL2 = [redirect(false), redirect(true)] as const;

/** The same for EL0 and EL1, where the aliases do not exist. */
const BELOW = AT_EL2[0];

/** The same for the host's EL0: the EL1 timers' names reach the EL2 timers. */
const HOST_EL0 = Int16Array.from(SYSREGS, (r) => {
  const timer = r.minEl === 0 && r.target !== undefined;
  return (timer ? AT_EL2[1] : BELOW)[r.index] as number;
});

const READABLE = Uint8Array.from(SYSREGS, (r) => r.access === "wo" ? 0 : 1);
const WRITABLE = Uint8Array.from(SYSREGS, (r) => r.access === "ro" ? 0 : 1);

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const VERDICTS = VERDICT, BY_READ = READERS, BY_WRITE = WRITERS;
/** The word of a CPU's level. */
const EL = CpuLayout.offset.el >>> 2;

const LR0 = R.ICH_LR0_EL2, LR15 = R.ICH_LR15_EL2;
/** What only a GICv3 has. */
const OF_GICV3 = SYSREGS.map((r) => /^IC[CH]_/.test(r.name));

/** Whether MRS reaches the register named by file index `named`, and MSR. */
export function isReadable(named: number): boolean {
  return READABLE[named] === 1;
}
export function isWritable(named: number): boolean {
  return WRITABLE[named] === 1;
}

/**
 * What register `index` is for a level after redirection, or -1 where there is none; for EL2 with
 * HCR_EL2.E2H as in `e2h`.
 */
export function resolve(
  core: Core,
  index: number,
  el = elOf(core.cpu),
  e2h = isE2h(core.regs),
): number {
  const { regs, platform } = core;
  if (platform.model.absent[index] !== 0) return NONE;
  if (index >= LR0 && index <= LR15 && index - LR0 >= platform.gic.lrs) return NONE;
  if (OF_GICV3[index] && platform.gic.version !== 3) return NONE;
  if (el === 2) return (e2h ? AT_EL2[1] : AT_EL2[0])[index] as number;
  if (el === 0 && isEl0Host(regs)) return HOST_EL0[index] as number;
  return BELOW[index] as number;
}

/** Registers of implementation-defined encodings: CRn 11 or 15. */
function isImplementationDefined(key: number): boolean {
  const crn = (key >> 7) & 15;
  return (crn === 11 || crn === 15) && (key >> 14 === 3 || key >> 14 === 1);
}

/** Encodings reserved for identification: op0 3, op1 0, CRn 0, CRm 1 to 7. They read as zero. */
function isIdSpace(key: number): boolean {
  const crm = (key >> 3) & 15;
  return key >> 7 === 3 << 7 && crm >= 1 && crm <= 7;
}

/** One CPU's system registers as its instructions reach them. A read's result is in `lo` and `hi`. */
export class SysregAccess implements Halves {
  lo = 0;
  hi = 0;

  /** The register that EL1 reaches by each name: nothing of it changes in a run. */
  #atEl1: Int16Array | undefined;

  readonly #virtual: VirtualInterface;

  constructor(readonly core: Core) {
    this.#virtual = core.platform.gic.virtualInterface(core.cpu.index);
  }

  #resolveAtEl1(): Int16Array {
    return this.#atEl1 = Int16Array.from(SYSREGS, ({ index }) => resolve(this.core, index, 1));
  }

  /** MRS of encoding `key` into Xrt. False: an exception has been taken instead. */
  read(key: number, rt: number): boolean {
    const named = INDEX_OF[key] as number;
    if (named === NONE) return this.#readUnnamed(key, rt);
    const verdict = this.tryRead(named);
    return verdict === VERDICT.OK || this.trap(verdict, key, rt, true);
  }

  /** MSR of Xrt, whose value is (lo, hi), to encoding `key`. False: an exception has been taken. */
  write(key: number, rt: number, lo: number, hi: number): boolean {
    const named = INDEX_OF[key] as number;
    if (named === NONE) return this.#unnamed(key, rt, false);
    const verdict = this.tryWrite(named, lo, hi);
    return verdict === VERDICT.OK || this.trap(verdict, key, rt, false);
  }

  /** Reads the register named by file index `named` from the current level, if the verdict is OK. */
  tryRead(named: number): number {
    const { core } = this;
    const el = core.words[EL] as number;
    const index = el === 1
      ? (this.#atEl1 ?? this.#resolveAtEl1())[named] as number
      : resolve(core, named, el);
    if (index === NONE || READABLE[named] === 0) return VERDICTS.UNDEFINED;
    const verdict = el === 1
      ? verdictAtEl1(core, this.#virtual, named, false)
      : verdictOn(core, named, false, el);
    if (verdict === VERDICTS.OK) (BY_READ[index] as Reader)(core, index, this);
    return verdict;
  }

  /** Writes the register named by file index `named` from the current level, if the verdict is OK. */
  tryWrite(named: number, lo: number, hi: number): number {
    const { core } = this;
    const el = core.words[EL] as number;
    const index = el === 1
      ? (this.#atEl1 ?? this.#resolveAtEl1())[named] as number
      : resolve(core, named, el);
    if (index === NONE || WRITABLE[named] === 0) return VERDICTS.UNDEFINED;
    const verdict = el === 1
      ? verdictAtEl1(core, this.#virtual, named, true)
      : verdictOn(core, named, true, el);
    if (verdict === VERDICTS.OK) (BY_WRITE[index] as Writer)(core, index, lo, hi);
    return verdict;
  }

  /** Takes the exception of a verdict that is not OK. Always false. */
  trap(verdict: number, key: number, rt: number, read: boolean): false {
    if (verdict === VERDICT.UNDEFINED) takeUndefined(this.core);
    else if (verdict === VERDICT.FP) takeFpTrap(this.core, fpTrap(this.core));
    else takeSync(this.core, verdict as Target, EC.SYS64, issSys64(key, rt, read));
    return false;
  }

  #undefined(): false {
    takeUndefined(this.core);
    return false;
  }

  /** Encodings without a register: HCR_EL2.TIDCP traps the implementation-defined ones from EL1, else UNDEFINED. */
  #unnamed(key: number, rt: number, read: boolean): false {
    const { cpu, regs } = this.core;
    const trapped = isImplementationDefined(key) && cpu.el === 1 &&
      (regs.lo(R.HCR_EL2) & HCR.TIDCP) !== 0;
    return this.trap(trapped ? VERDICT.EL2 : VERDICT.UNDEFINED, key, rt, read);
  }

  #readUnnamed(key: number, rt: number): boolean {
    const { cpu, regs } = this.core;
    if (!isIdSpace(key) || cpu.el === 0) return this.#unnamed(key, rt, true);
    if (cpu.el === 1 && regs.lo(R.HCR_EL2) & HCR.TID3) return this.trap(VERDICT.EL2, key, rt, true);
    this.lo = 0;
    this.hi = 0;
    return true;
  }

  /** A SYS or SYSL encoding without an operation. Always false. */
  unnamedOperation(key: number, rt: number, read: boolean): false {
    return this.#unnamed(key, rt, read);
  }

  /**
   * MSR (immediate) of the PSTATE field that op1 and op2 name. False: an exception has been taken.
   */
  writeImmediate(op1: number, op2: number, immediate: number): boolean {
    const field = PSTATE_FIELDS.find((f) => f.op1 === op1 && f.op2 === op2);
    const { core } = this;
    if (field === undefined || core.cpu.el < field.minEl) return this.#undefined();
    if (core.cpu.el === 0 && op2 >= 6) {
      const verdict = verdictOn(core, R.DAIF, true);
      const key = (op1 << 11) | (4 << 7) | (immediate << 3) | op2;
      if (verdict !== VERDICT.OK) return this.trap(verdict, key, 31, false);
    }
    field.apply(core, immediate);
    return true;
  }
}

interface PstateField {
  readonly op1: number;
  readonly op2: number;
  readonly minEl: 0 | 1;
  apply(core: Core, immediate: number): void;
}

function viaRegister(index: number, shift: number): (core: Core, immediate: number) => void {
  return (core, immediate) =>
    (WRITERS[index] as typeof WRITERS[number])(core, index, (immediate & 1) << shift, 0);
}

/** MSR (immediate): SPSel, PAN, UAO, DIT, DAIFSet, DAIFClr. */
const PSTATE_FIELDS: readonly PstateField[] = [
  { op1: 0, op2: 5, minEl: 1, apply: viaRegister(R.SPSel, 0) },
  { op1: 0, op2: 4, minEl: 1, apply: viaRegister(R.PAN, 22) },
  { op1: 0, op2: 3, minEl: 1, apply: viaRegister(R.UAO, 23) },
  { op1: 3, op2: 2, minEl: 0, apply: viaRegister(R.DIT, 24) },
  {
    op1: 3,
    op2: 6,
    minEl: 0,
    apply: (core, immediate) => setDaif(core, core.cpu.daif | immediate & 15),
  },
  {
    op1: 3,
    op2: 7,
    minEl: 0,
    apply: (core, immediate) => setDaif(core, core.cpu.daif & ~immediate & 15),
  },
];
