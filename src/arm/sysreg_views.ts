/**
 * What reading and writing a system register does once the access is allowed. Registers not named here
 * are plain storage under their write mask. Source: Arm Architecture Reference Manual (DDI 0487), D19;
 * GICv3 (IHI 0069) chapter 12.
 */
import { MDSCR, MDSCR_EXTERNAL, OSLSR } from "./arch/debug_registers.ts";
import { CpuLayout, sysregOffset } from "./arch/cpu_state.ts";
import { HCR } from "./arch/fields.ts";
import { R, type SysregName, SYSREGS } from "./arch/sysregs.ts";
import { FPCR_MASK, FPSR_MASK } from "./fp/format.ts";
import { refreshArmed } from "./debug.ts";
import { refreshSingle, setDaif } from "./debug_enable.ts";
import { contextSwitched, isrEl1, refreshFp, refreshInterrupts } from "./exceptions.ts";
import { TIMER, type Timer } from "./generic_timer.ts";
import { ccsidr, MIDR, ZVA_BYTES } from "./id_registers.ts";
import type { Core, Halves } from "./parts.ts";
import { pmuChanged, syncPmu } from "./pmu.ts";
import { PMU_VIEWS } from "./pmu_registers.ts";
import { isE2h, isEl0Host, switchStack } from "./pstate.ts";
import { TWO32 } from "../base/bits.ts";
import {
  CNTHCTL_E2H,
  CNTHCTL_PLAIN,
  CPTR_E2H,
  CPTR_PLAIN,
  SCTLR_ONE_LEVEL,
  SCTLR_TWO_LEVELS,
  TCR_ONE_RANGE,
  TCR_TWO_RANGES,
  WRITE_MASKS,
  type WriteMask,
} from "./sysreg_masks.ts";
import { SCTLR } from "./arch/fields.ts";

/** Puts register `index` into `out`. */
export type Reader = (core: Core, index: number, out: Halves) => void;
/** Writes (lo, hi) to register `index`, with its side effects. */
export type Writer = (core: Core, index: number, lo: number, hi: number) => void;

const constant = (lo: number, hi = 0): Reader => (_, __, out) => {
  out.lo = lo;
  out.hi = hi;
};
const low = (value: (core: Core, index: number) => number): Reader => (core, index, out) => {
  out.lo = value(core, index);
  out.hi = 0;
};
const ignored: Writer = () => {};

const stored: Reader = (core, index, out) => {
  out.lo = core.regs.lo(index);
  out.hi = core.regs.hi(index);
};

// Identification

const identified =
  (physical: (core: Core) => number, virtual: number): Reader => (core, _, out) => {
    out.lo = core.cpu.el === 1 ? core.regs.lo(virtual) : physical(core) % TWO32;
    out.hi = core.cpu.el === 1 ? core.regs.hi(virtual) : Math.floor(physical(core) / TWO32);
  };

/** What the model of core says; zero for registers that say nothing. */
const IDENTIFICATION: View = {
  read: (core, index, out) => {
    const value = core.platform.model.ids[index] as bigint;
    out.lo = Number(value & 0xffff_ffffn);
    out.hi = Number(value >> 32n);
  },
  write: ignored,
};

/** DCZID_EL0: log2 of the block in words, and whether DC ZVA is prohibited at the current level. */
function dczid(core: Core): number {
  const { cpu, regs } = core;
  const host = cpu.el === 0 && isEl0Host(regs);
  const denied = cpu.el === 0 &&
    (regs.lo(host ? R.SCTLR_EL2 : R.SCTLR_EL1) & SCTLR.DZE) === 0;
  const trapped = cpu.el < 2 && !host && (regs.lo(R.HCR_EL2) & HCR.TDZ) !== 0;
  return (Math.log2(ZVA_BYTES) - 2) | (denied || trapped ? 16 : 0);
}

// Timers

function ended(core: Core): void {
  core.platform.hooks.onEndSlice(core.cpu);
}

const ctlView = (timer: Timer): View => ({
  read: low((c) => c.platform.timer.control(c.cpu.index, timer)),
  write: (c, _, lo) => {
    c.platform.timer.setControl(c.cpu.index, timer, lo);
    ended(c);
  },
});
const cvalView = (timer: Timer): View => ({
  write: (c, _, lo, hi) => {
    c.platform.timer.setCompare(c.cpu.index, timer, lo, hi);
    ended(c);
  },
});
const tvalView = (timer: Timer): View => ({
  read: low((c) => c.platform.timer.timerValue(c.cpu.index, timer)),
  write: (c, _, lo) => {
    c.platform.timer.setTimerValue(c.cpu.index, timer, lo);
    ended(c);
  },
});

/** CNTVCT_EL0 has no offset at EL2 with E2H and in the host's EL0. */
function counter(virtual: boolean): Reader {
  return (core, _, out) => {
    const { cpu, regs } = core;
    const host = cpu.el === 2 ? isE2h(regs) : cpu.el === 0 && isEl0Host(regs);
    const { timer } = core.platform;
    timer.count(cpu.index, virtual && !host);
    out.lo = timer.countLo;
    out.hi = timer.countHi;
  };
}

// Interrupt controller: lines that change are told of ({@link Gic.linesChanged})

/** Words of a CPU's state. */
const WORD = {
  EL: CpuLayout.offset.el >>> 2,
  INDEX: CpuLayout.offset.index >>> 2,
  HCR: sysregOffset(R.HCR_EL2) >>> 2,
} as const;

/** Whether ICC_* at the current level reaches the virtual CPU interface: EL1 under the routing bits `mask`. */
function isVirtual(core: Core, mask: number): boolean {
  const { words } = core;
  return words[WORD.EL] === 1 && ((words[WORD.HCR] as number) & mask) !== 0;
}

/** V8 knows what a function of the module sees, and not what one of several that were made alike does. */
function readIcc(core: Core, index: number, mask: number): number {
  const { gic } = core.platform;
  const cpu = core.words[WORD.INDEX] as number;
  return isVirtual(core, mask) ? gic.icvRead(cpu, index) : gic.iccRead(cpu, index);
}

function writeIcc(core: Core, index: number, mask: number, lo: number, hi: number): void {
  const { gic, hooks } = core.platform;
  const cpu = core.words[WORD.INDEX] as number;
  if (isVirtual(core, mask)) gic.icvWrite(cpu, index, lo, hi);
  else gic.iccWrite(cpu, index, lo, hi);
  hooks.onEndSlice(core.cpu, true);
}

function iccView(mask: number): View {
  return {
    read: (core, index, out) => {
      out.lo = readIcc(core, index, mask);
      out.hi = 0;
    },
    write: (core, index, lo, hi) => writeIcc(core, index, mask, lo, hi),
  };
}

/** ICH_*: a change is seen by the guest, after the next entry; it does not end the hypervisor's slice. */
const ICH_VIEW: View = {
  read: (core, index, out) => {
    out.lo = core.platform.gic.ichRead(core.cpu.index, index);
    out.hi = core.platform.gic.hi;
  },
  write: (core, index, lo, hi) => {
    core.platform.gic.ichWrite(core.cpu.index, index, lo, hi);
  },
};

/** HCR_EL2 bits that send a register to the virtual interface, by the register's interrupt group. */
function iccRouting(name: string): number {
  if (/(SRE|SGI\dR)_EL/.test(name)) return 0;
  if (/(IAR|EOIR|HPPIR|BPR|IGRPEN)0|AP0R/.test(name)) return HCR.FMO;
  if (/(IAR|EOIR|HPPIR|BPR|IGRPEN)1|AP1R/.test(name)) return HCR.IMO;
  return HCR.FMO | HCR.IMO;
}

// Control registers

/** What else must be recomputed when a stored register changes. */
export interface Effects {
  readonly translation?: boolean;
  readonly fp?: boolean;
  readonly interrupts?: boolean;
  readonly timer?: boolean;
  /** Software step: enabled, active. */
  readonly step?: boolean;
  /** Which breakpoints and watchpoints are armed. */
  readonly armed?: boolean;
  /** Which performance monitors count. */
  readonly pmu?: boolean;
}

const TRANSLATION: Effects = { translation: true };
const ARMED: Effects = { armed: true };
const LOCK: Effects = { step: true, armed: true };

const EFFECTS: Readonly<Partial<Record<SysregName, Effects>>> = {
  SCTLR_EL1: TRANSLATION,
  TCR_EL1: TRANSLATION,
  MAIR_EL1: TRANSLATION,
  TTBR0_EL1: TRANSLATION,
  TTBR1_EL1: TRANSLATION,
  SCTLR_EL2: TRANSLATION,
  TCR_EL2: TRANSLATION,
  MAIR_EL2: TRANSLATION,
  TTBR0_EL2: TRANSLATION,
  TTBR1_EL2: TRANSLATION,
  VTCR_EL2: TRANSLATION,
  VTTBR_EL2: TRANSLATION,
  HCR_EL2: { translation: true, fp: true, interrupts: true, step: true },
  MDCR_EL2: { step: true, pmu: true },
  OSDLR_EL1: LOCK,
  DBGPRCR_EL1: LOCK,
  CPACR_EL1: { fp: true },
  CPTR_EL2: { fp: true },
  CNTVOFF_EL2: { timer: true },
};

/** Masks that depend on HCR_EL2.E2H: [set, clear]. */
const BY_E2H: Readonly<Partial<Record<SysregName, readonly [WriteMask, WriteMask]>>> = {
  SCTLR_EL2: [SCTLR_TWO_LEVELS, SCTLR_ONE_LEVEL],
  TCR_EL2: [TCR_TWO_RANGES, TCR_ONE_RANGE],
  CPTR_EL2: [CPTR_E2H, CPTR_PLAIN],
  CNTHCTL_EL2: [CNTHCTL_E2H, CNTHCTL_PLAIN],
};

const KEEP_ALL: WriteMask = [0xffff_ffff, 0xffff_ffff, 0, 0];

function applyEffects(core: Core, index: number, effects: Effects): void {
  const { mmu, timer, hooks } = core.platform;
  if (effects.translation) mmu.controlChanged(core.cpu, index);
  if (effects.fp) refreshFp(core);
  if (effects.interrupts) refreshInterrupts(core);
  if (effects.step) refreshSingle(core);
  if (effects.armed) refreshArmed(core);
  if (effects.pmu) pmuChanged(core);
  if (effects.timer) {
    timer.update(core.cpu.index);
    hooks.onEndSlice(core.cpu);
  }
}

/** How a register that is stored is written. */
export interface Storage {
  /** What can be written, with HCR_EL2.E2H set and clear; fields of absent features are not left out. */
  readonly masks: readonly [WriteMask, WriteMask];
  readonly effects: Effects | undefined;
  /** Bits 31 to 0 of which none may change for that to be true. */
  readonly watched?: number;
}

function storageOf(name: SysregName): Storage {
  const plain = WRITE_MASKS[name] ?? KEEP_ALL;
  const effects = EFFECTS[name] ?? (/^DBG[BW][CV]R/.test(name) ? ARMED : undefined);
  return { masks: BY_E2H[name] ?? [plain, plain], effects };
}

/** Plain storage: masked, with the register's effects if the value is another. */
function storeWriter({ masks, effects }: Storage): Writer {
  return (core, index, lo, hi) => {
    const { regs } = core;
    const layout = isE2h(regs) ? 0 : 1;
    const mask = masks[layout];
    const res0 = core.platform.model.res0[layout];
    const keepLo = mask[0] & ~(res0[2 * index] as number);
    const keepHi = mask[1] & ~(res0[2 * index + 1] as number);
    const newLo = ((lo & keepLo) | mask[2]) >>> 0, newHi = ((hi & keepHi) | mask[3]) >>> 0;
    const changed = effects && (regs.lo(index) !== newLo || regs.hi(index) !== newHi);
    if (changed && effects.pmu) syncPmu(core);
    regs.set(index, newLo, newHi);
    if (changed) applyEffects(core, index, effects);
  };
}

// The table

/** A register whose value is not just stored. */
export interface View {
  readonly read?: Reader;
  readonly write?: Writer;
  /** Set if it is just stored after all when it is written. */
  readonly storage?: Storage;
}
export type Views = Readonly<Partial<Record<SysregName, View>>>;

const pstateField = (
  read: (core: Core) => number,
  write: (core: Core, lo: number) => void,
): View => ({ read: low(read), write: (core, _, lo) => write(core, lo) });

/** Bits of FPCR that this core has. */
export function fpcrMask(core: Core): number {
  return FPCR_MASK & ~(core.platform.model.res0[0][2 * R.FPCR] as number);
}

const PSTATE_VIEWS: Views = {
  CurrentEL: { read: low((c) => c.cpu.el << 2) },
  SPSel: pstateField((c) => c.cpu.spsel, (c, lo) => switchStack(c.words, c.cpu.el, lo & 1)),
  PAN: pstateField((c) => c.cpu.pan << 22, (c, lo) => {
    c.cpu.pan = (lo >>> 22) & 1;
    contextSwitched(c);
  }),
  UAO: pstateField((c) => c.cpu.uao << 23, (c, lo) => {
    c.cpu.uao = (lo >>> 23) & 1;
    contextSwitched(c);
  }),
  DIT: pstateField((c) => c.cpu.dit << 24, (c, lo) => (c.cpu.dit = (lo >>> 24) & 1)),
  NZCV: pstateField((c) => (c.cpu.nzcv << 28) >>> 0, (c, lo) => (c.cpu.nzcv = lo >>> 28)),
  DAIF: pstateField((c) => c.cpu.daif << 6, (c, lo) => setDaif(c, (lo >>> 6) & 15)),
  FPCR: pstateField((c) => c.cpu.fpcr, (c, lo) => {
    c.cpu.fpcr = lo & fpcrMask(c);
  }),
  FPSR: pstateField((c) => c.cpu.fpsr, (c, lo) => (c.cpu.fpsr = lo & FPSR_MASK)),
};

const NOTHING: View = { read: constant(0), write: ignored };

const claimClear: Writer = (c, _, lo) => {
  c.regs.set(R.DBGCLAIMCLR_EL1, c.regs.lo(R.DBGCLAIMCLR_EL1) & ~lo, 0);
};
const claimSet: Writer = (c, _, lo) => {
  c.regs.set(R.DBGCLAIMCLR_EL1, c.regs.lo(R.DBGCLAIMCLR_EL1) | (lo & 0xff), 0);
};
/** OSLAR_EL1.OSLK goes to OSLSR_EL1.OSLK; OSLSR_EL1.OSLM says that the lock is implemented. */
const osLock: Writer = (c, _, lo) => {
  c.regs.set(R.OSLSR_EL1, OSLSR.OSLM | (lo & 1 ? OSLSR.OSLK : 0), 0);
  debugControlChanged(c);
};

/** MDSCR_EL1: the external debugger's fields can be restored under the OS lock only. */
const monitorControl: Writer = (c, index, lo) => {
  const old = c.regs.lo(index);
  const locked = (c.regs.lo(R.OSLSR_EL1) & OSLSR.OSLK) !== 0;
  const kept = locked ? 0 : MDSCR_EXTERNAL;
  const mask = (WRITE_MASKS.MDSCR_EL1 as WriteMask)[0];
  const value = ((lo & mask & ~kept) | (old & kept)) >>> 0;
  c.regs.set(index, value, 0);
  if (((value ^ old) & MDSCR_CONTROLS) !== 0) debugControlChanged(c);
};
const MDSCR_CONTROLS = MDSCR.SS | MDSCR.KDE | MDSCR.MDE;
const MDSCR_STORAGE: Storage = {
  ...storageOf("MDSCR_EL1"),
  watched: MDSCR_EXTERNAL | MDSCR_CONTROLS,
};

function debugControlChanged(core: Core): void {
  refreshInterrupts(core);
  refreshSingle(core);
  refreshArmed(core);
}

const DEBUG_VIEWS: Views = {
  MDSCR_EL1: { write: monitorControl, storage: MDSCR_STORAGE },
  OSLAR_EL1: { write: osLock },
  DBGCLAIMSET_EL1: { read: constant(0xff), write: claimSet },
  DBGCLAIMCLR_EL1: { write: claimClear },
  MDRAR_EL1: NOTHING,
  DBGAUTHSTATUS_EL1: NOTHING,
  MDCCSR_EL0: NOTHING,
  DBGDTR_EL0: NOTHING,
  DBGDTRRX_EL0: NOTHING,
};

/** ID_AA64PFR0_EL1.GIC: the system register interface, which only a GICv3 has. */
const PFR0_GIC = 0xf << 24;
const PFR0: View = {
  read: (core, index, out) => {
    IDENTIFICATION.read?.(core, index, out);
    if (core.platform.gic.version !== 3) out.lo &= ~PFR0_GIC;
  },
  write: ignored,
};

const VIEWS: Views = {
  ID_AA64PFR0_EL1: PFR0,
  ...PSTATE_VIEWS,
  ...DEBUG_VIEWS,
  ...PMU_VIEWS,
  MIDR_EL1: { read: identified(() => MIDR, R.VPIDR_EL2) },
  MPIDR_EL1: { read: identified((c) => c.cpu.mpidr, R.VMPIDR_EL2) },
  CCSIDR_EL1: { read: low((c) => ccsidr(c.regs.lo(R.CSSELR_EL1))) },
  DCZID_EL0: { read: low(dczid) },
  ISR_EL1: { read: low(isrEl1) },
  CNTPCT_EL0: { read: counter(false) },
  CNTVCT_EL0: { read: counter(true) },
  CNTP_CTL_EL0: ctlView(TIMER.CNTP),
  CNTP_CVAL_EL0: cvalView(TIMER.CNTP),
  CNTP_TVAL_EL0: tvalView(TIMER.CNTP),
  CNTV_CTL_EL0: ctlView(TIMER.CNTV),
  CNTV_CVAL_EL0: cvalView(TIMER.CNTV),
  CNTV_TVAL_EL0: tvalView(TIMER.CNTV),
  CNTHP_CTL_EL2: ctlView(TIMER.CNTHP),
  CNTHP_CVAL_EL2: cvalView(TIMER.CNTHP),
  CNTHP_TVAL_EL2: tvalView(TIMER.CNTHP),
  CNTHV_CTL_EL2: ctlView(TIMER.CNTHV),
  CNTHV_CVAL_EL2: cvalView(TIMER.CNTHV),
  CNTHV_TVAL_EL2: tvalView(TIMER.CNTHV),
};

function storedView(name: SysregName): View {
  const storage = storageOf(name);
  return { read: stored, write: storeWriter(storage), storage };
}

function viewOf(name: SysregName, kind: string): View {
  const view = VIEWS[name];
  if (view?.write) return { read: stored, ...view };
  if (view) return { ...storedView(name), ...view };
  if (name.startsWith("ICC_")) return iccView(iccRouting(name));
  if (name.startsWith("ICH_")) return ICH_VIEW;
  return kind === "store" ? storedView(name) : IDENTIFICATION;
}

const TABLE = SYSREGS.map((r) => viewOf(r.name, r.kind));

/** How each register is read, by register-file index; rules of access are not applied. */
export const READERS: readonly Reader[] = TABLE.map((v) => v.read ?? stored);
/** How each register is written, by register-file index. */
export const WRITERS: readonly Writer[] = TABLE.map((v) => v.write ?? ignored);
/** Whether a read of the register, by register-file index, gives what is stored. */
export const READS_STORED: readonly boolean[] = READERS.map((reader) => reader === stored);
/** How registers that are stored are written, by register-file index; undefined for others. */
export const STORAGE: readonly (Storage | undefined)[] = TABLE.map((v) => v.storage);
