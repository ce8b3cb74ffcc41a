/**
 * Which accesses to system registers trap, and where to. Source: Arm Architecture Reference Manual
 * (DDI 0487), the access pseudocode of each register in D19 and D13; GICv3 (IHI 0069) chapter 12.
 *
 * Each register has, for each exception level, a list of checks in the architecture's priority; the
 * first that does not say OK decides. No NV, no FGT, no EL3.
 */
import { MDSCR } from "./arch/debug_registers.ts";
import { CNTHCTL, CNTKCTL, HCR, HCR_HI, ICH_HCR, MDCR, SCTLR } from "./arch/fields.ts";
import { EVENT_COUNTERS, PMUSERENR } from "./arch/pmu.ts";
import { sysregOffset } from "./arch/cpu_state.ts";
import { R, type SysregName, SYSREGS } from "./arch/sysregs.ts";
import { fpTrap } from "./exceptions.ts";
import type { VirtualInterface } from "./gic/virtual_interface.ts";
import type { Core } from "./parts.ts";
import { reachesCounter, selectsCounter } from "./pmu_registers.ts";
import { elOf, isE2h, isEl0Host, isTge } from "./pstate.ts";

/** What a check says: go on, a SYS64 trap to EL1 or EL2, UNDEFINED, or the FP trap that `fpTrap` names. */
export const VERDICT = { OK: 0, EL1: 1, EL2: 2, UNDEFINED: 3, FP: 4 } as const;

/** One condition on an access (`write`: MSR or SYS): a {@link VERDICT}. */
export type Check = (core: Core, write: boolean) => number;
/** The accesses a trap is for. */
export type Direction = "read" | "write" | "both";

/** Of a check that traps EL1 to EL2 while one of these bits of HCR_EL2 (31 to 0) or ICH_HCR_EL2 is set: that. */
interface BitCheck {
  readonly hcr: number;
  readonly ich: number;
  readonly on: Direction;
}
const BIT_CHECKS = new Map<Check, BitCheck>();

/** A trap to EL1 that HCR_EL2.TGE turns into one to EL2. */
function trapEl1(core: Core): number {
  return isTge(core.regs) ? VERDICT.EL2 : VERDICT.EL1;
}

/** Traps to EL2 while any bit of `mask` in HCR_EL2 (or another register) is set, but never the host's EL0. */
function bitTrap(reg: number, high: boolean, mask: number, on: Direction): Check {
  const check: Check = (core, write) => {
    if (on !== "both" && write !== (on === "write")) return VERDICT.OK;
    const value = high ? core.regs.hi(reg) : core.regs.lo(reg);
    if ((value & mask) === 0) return VERDICT.OK;
    return core.cpu.el === 0 && isEl0Host(core.regs) ? VERDICT.OK : VERDICT.EL2;
  };
  if (reg === R.HCR_EL2 && !high) BIT_CHECKS.set(check, { hcr: mask, ich: 0, on });
  return check;
}

/** A trap by HCR_EL2 bits 31 to 0. */
export function hcrTrap(mask: number, on: Direction = "both"): Check {
  return bitTrap(R.HCR_EL2, false, mask, on);
}

/**
 * EL0 traps unless SCTLR_ELx has `mask` set: to EL1, or to EL2 for the host's EL0, whose SCTLR is
 * SCTLR_EL2.
 */
export function sctlrEl0Trap(mask: number): Check {
  return (core) => {
    const host = isEl0Host(core.regs);
    if (core.regs.lo(host ? R.SCTLR_EL2 : R.SCTLR_EL1) & mask) return VERDICT.OK;
    return trapEl1(core);
  };
}

// Debug

function debugTrap(mask: number): Check {
  return (core) => {
    const { cpu, regs } = core;
    const trapped = (regs.lo(R.MDCR_EL2) & (mask | MDCR.TDE)) !== 0 ||
      (cpu.el === 0 && isTge(regs));
    return trapped ? VERDICT.EL2 : VERDICT.OK;
  };
}

const commsEl0: Check = (core) =>
  core.regs.lo(R.MDSCR_EL1) & MDSCR.TDCC ? trapEl1(core) : VERDICT.OK;

// Performance monitors

/** EL0: PMUSERENR_EL0.EN, or another bit of it that opens the register for reading and writing. */
function userMonitor(read: number, write = read): Check {
  return (core, writes) => {
    const open = PMUSERENR.EN | (writes ? write : read);
    return core.regs.lo(R.PMUSERENR_EL0) & open ? VERDICT.OK : trapEl1(core);
  };
}

function monitorTrap(mask: number): Check {
  return (core) => core.regs.lo(R.MDCR_EL2) & mask ? VERDICT.EL2 : VERDICT.OK;
}

/** A counter beyond those that the level has, where the architecture leaves the choice. */
function orUndefined(there: boolean): number {
  return there ? VERDICT.OK : VERDICT.UNDEFINED;
}

// Timers and counters

/** EL0: CNTKCTL_EL1 `kernel` bits (any of them lets in), or for the host's EL0 the same of CNTHCTL_EL2. */
function counterEl0(kernel: number): Check {
  return (core) => {
    const host = isEl0Host(core.regs);
    if (core.regs.lo(host ? R.CNTHCTL_EL2 : R.CNTKCTL_EL1) & kernel) return VERDICT.OK;
    return trapEl1(core);
  };
}

/** EL1, and EL0 of a guest: CNTHCTL_EL2 in its layout with or without E2H. */
function counterEl2(withE2h: number, without: number): Check {
  return (core) => {
    const { cpu, regs } = core;
    if (cpu.el === 0 && isEl0Host(regs)) return VERDICT.OK;
    return regs.lo(R.CNTHCTL_EL2) & (isE2h(regs) ? withE2h : without) ? VERDICT.OK : VERDICT.EL2;
  };
}

const physicalCounter = counterEl2(CNTKCTL.EL1PCTEN, CNTHCTL.EL1PCTEN);
const physicalTimer = counterEl2(CNTKCTL.EL1PTEN, CNTHCTL.EL1PCEN);

// Interrupt controller

function ichHcr(core: Core): number {
  return core.platform.gic.virtualInterface(core.cpu.index).hcr;
}

function ichTrap(mask: number): Check {
  const check: Check = (core) => ichHcr(core) & mask ? VERDICT.EL2 : VERDICT.OK;
  BIT_CHECKS.set(check, { hcr: 0, ich: mask, on: "both" });
  return check;
}

const sgiRouted = hcrTrap(HCR.FMO | HCR.IMO);

const sreEnable: Check = (core) =>
  core.platform.gic.iccRead(core.cpu.index, R.ICC_SRE_EL2) & 8 ? VERDICT.OK : VERDICT.EL2;

// Others

const fp: Check = (core) => fpTrap(core) === 0 ? VERDICT.OK : VERDICT.FP;
const never: Check = () => VERDICT.UNDEFINED;
const notWritten: Check = (_, write) => write ? VERDICT.UNDEFINED : VERDICT.OK;
const stackInUse: Check = (core) => core.cpu.spsel === 0 ? VERDICT.UNDEFINED : VERDICT.OK;

/** DAIF at EL0: SCTLR_EL1.UMA opens it, never for the host's EL0. */
const maskAccess: Check = (core) => {
  const open = core.regs.lo(R.SCTLR_EL1) & SCTLR.UMA && !isEl0Host(core.regs);
  return open ? VERDICT.OK : trapEl1(core);
};

type Levels = readonly (0 | 1 | 2)[];
type Row = readonly [levels: Levels, check: Check, registers: readonly SysregName[]];

const TRANSLATION: readonly SysregName[] = [
  "SCTLR_EL1",
  "TTBR0_EL1",
  "TTBR1_EL1",
  "TCR_EL1",
  "ESR_EL1",
  "FAR_EL1",
  "AFSR0_EL1",
  "AFSR1_EL1",
  "MAIR_EL1",
  "AMAIR_EL1",
  "CONTEXTIDR_EL1",
];

const named = (pattern: RegExp): readonly SysregName[] =>
  SYSREGS.map((r) => r.name).filter((name) => pattern.test(name));

/** Rows in priority order: of two rows for the same register and level, the earlier decides first. */
const ROWS: readonly Row[] = [
  [[0], sctlrEl0Trap(SCTLR.UCT), ["CTR_EL0"]],
  [[0], maskAccess, ["DAIF"]],
  [[0, 1, 2], fp, ["FPCR", "FPSR"]],
  [[0], notWritten, ["TPIDRRO_EL0", "CNTFRQ_EL0"]],
  [[1], notWritten, ["CNTFRQ_EL0"]],
  [[1, 2], stackInUse, ["SP_EL0"]],
  // HCR_EL2
  [[1], hcrTrap(HCR.TVM, "write"), TRANSLATION],
  [[1], hcrTrap(HCR.TRVM, "read"), TRANSLATION],
  [[1], hcrTrap(HCR.TACR), ["ACTLR_EL1"]],
  [[1], hcrTrap(HCR.TID1), ["REVIDR_EL1", "AIDR_EL1"]],
  [[0, 1], hcrTrap(HCR.TID2), ["CTR_EL0"]],
  [[1], hcrTrap(HCR.TID2), ["CCSIDR_EL1", "CLIDR_EL1", "CSSELR_EL1"]],
  [[1], hcrTrap(HCR.TID3), named(/^ID_/)],
  [[1], bitTrap(R.HCR_EL2, true, HCR_HI.TLOR, "both"), named(/^LOR/)],
  [[1], bitTrap(R.CPTR_EL2, false, 1 << 31, "both"), ["CPACR_EL1"]],
  // Debug
  [[0], commsEl0, ["MDCCSR_EL0", "DBGDTR_EL0", "DBGDTRRX_EL0"]],
  [[1], debugTrap(MDCR.TDRA), ["MDRAR_EL1"]],
  [[1], debugTrap(MDCR.TDOSA), ["OSLAR_EL1", "OSLSR_EL1", "OSDLR_EL1", "DBGPRCR_EL1"]],
  [
    [1],
    debugTrap(MDCR.TDA),
    named(
      /^(MDSCR|MDCCINT|OSECCR|OSDTR[RT]X|DBG[BW][CV]R\d+|DBGCLAIM(SET|CLR)|DBGAUTHSTATUS)_EL1$/,
    ),
  ],
  [[0, 1], debugTrap(MDCR.TDA), ["MDCCSR_EL0", "DBGDTR_EL0", "DBGDTRRX_EL0"]],
  // Performance monitors
  [[0], notWritten, ["PMUSERENR_EL0"]],
  [[0], userMonitor(PMUSERENR.SW), ["PMSWINC_EL0"]],
  [[0], userMonitor(PMUSERENR.CR, 0), ["PMCCNTR_EL0"]],
  [[0], userMonitor(PMUSERENR.ER), ["PMSELR_EL0"]],
  [[0], userMonitor(PMUSERENR.ER, 0), named(/^PM(EVCNTR\d+|XEVCNTR)_EL0$/)],
  [[0], userMonitor(0), named(/^PM(CR|CNTEN(SET|CLR)|OVS(SET|CLR)|CEID[01]|CCFILTR)_EL0$/)],
  [[0], userMonitor(0), named(/^PM(EVTYPER\d+|XEVTYPER)_EL0$/)],
  [[0, 1], monitorTrap(MDCR.TPM), named(/^PM/)],
  [[0, 1], monitorTrap(MDCR.TPMCR), ["PMCR_EL0"]],
  [[0, 1, 2], (core) => orUndefined(selectsCounter(core, false)), ["PMXEVCNTR_EL0"]],
  [[0, 1, 2], (core) => orUndefined(selectsCounter(core, true)), ["PMXEVTYPER_EL0"]],
  ...Array.from({ length: EVENT_COUNTERS }, (_, n): Row => [
    [0, 1],
    (core) => orUndefined(reachesCounter(core, n)),
    [`PMEVCNTR${n}_EL0` as SysregName, `PMEVTYPER${n}_EL0` as SysregName],
  ]),
  // Counters and timers
  [[0], counterEl0(CNTKCTL.EL0PCTEN | CNTKCTL.EL0VCTEN), ["CNTFRQ_EL0"]],
  [[0], counterEl0(CNTKCTL.EL0PCTEN), ["CNTPCT_EL0"]],
  [[0], counterEl0(CNTKCTL.EL0VCTEN), ["CNTVCT_EL0"]],
  [[0], counterEl0(CNTKCTL.EL0PTEN), named(/^CNTP_.*_EL0$/)],
  [[0], counterEl0(CNTKCTL.EL0VTEN), named(/^CNTV_.*_EL0$/)],
  [[0, 1], physicalCounter, ["CNTPCT_EL0"]],
  [[0, 1], physicalTimer, named(/^CNTP_.*_EL0$/)],
  // Interrupt controller
  [[1], sreEnable, ["ICC_SRE_EL1"]],
  [[1], ichTrap(ICH_HCR.TALL0), named(/^ICC_(IAR0|EOIR0|HPPIR0|BPR0|AP0R\d|IGRPEN0)_EL1$/)],
  [[1], ichTrap(ICH_HCR.TALL1), named(/^ICC_(IAR1|EOIR1|HPPIR1|BPR1|AP1R\d|IGRPEN1)_EL1$/)],
  [[1], ichTrap(ICH_HCR.TC | ICH_HCR.TDIR), ["ICC_DIR_EL1"]],
  [[1], ichTrap(ICH_HCR.TC), named(/^ICC_(PMR|RPR|CTLR|A?SGI\dR)_EL1$/)],
  [[1], sgiRouted, named(/^ICC_A?SGI\dR_EL1$/)],
];

function compile(level: 0 | 1 | 2): readonly (readonly Check[] | undefined)[] {
  const all: (Check[] | undefined)[] = SYSREGS.map(({ minEl }) =>
    level < minEl ? [never] : undefined
  );
  for (const [levels, check, names] of ROWS) {
    if (!levels.includes(level)) continue;
    for (const name of names) {
      const checks = all[R[name]] ??= [];
      if (checks[0] !== never) checks.push(check);
    }
  }
  return all;
}

/** `CHECKS[el][index]`: the checks of a register, or undefined where it has none. */
export const CHECKS = [compile(0), compile(1), compile(2)] as const;

/**
 * EL1's checks where all of them look at bits, as tables by register: 1 where that is so, the bits of HCR_EL2
 * that trap a read and a write, the bits of ICH_HCR_EL2.
 */
const BY_BITS = new Uint8Array(SYSREGS.length);
const HCR_ON_READ = new Int32Array(SYSREGS.length), HCR_ON_WRITE = new Int32Array(SYSREGS.length);
const ICH_ON_ACCESS = new Int32Array(SYSREGS.length);
CHECKS[1].forEach((checks = [], index) => {
  const bits = checks.map((check) => BIT_CHECKS.get(check));
  if (bits.includes(undefined)) return;
  BY_BITS[index] = 1;
  for (const { hcr, ich, on } of bits as BitCheck[]) {
    if (on !== "write") HCR_ON_READ[index] = (HCR_ON_READ[index] as number) | hcr;
    if (on !== "read") HCR_ON_WRITE[index] = (HCR_ON_WRITE[index] as number) | hcr;
    ICH_ON_ACCESS[index] = (ICH_ON_ACCESS[index] as number) | ich;
  }
});

// V8 folds what it knows of a constant of the module itself.
const VERDICTS = VERDICT;
/** The word of HCR_EL2 in a CPU's state. */
const HCR_WORD = sysregOffset(R.HCR_EL2) >>> 2;

/** {@link verdictOn} at EL1; `virtual`: the CPU's virtual interface. */
export function verdictAtEl1(
  core: Core,
  virtual: VirtualInterface,
  index: number,
  write: boolean,
): number {
  if (BY_BITS[index] === 0) return firstVerdict(core, CHECKS[1][index], write);
  const traps = (write ? HCR_ON_WRITE : HCR_ON_READ)[index] as number;
  if (((core.words[HCR_WORD] as number) & traps) !== 0) return VERDICTS.EL2;
  const ich = ICH_ON_ACCESS[index] as number;
  return ich !== 0 && (virtual.hcr & ich) !== 0 ? VERDICTS.EL2 : VERDICTS.OK;
}

/** The verdict on an access to register `index` at the current level, which is `el`. */
export function verdictOn(
  core: Core,
  index: number,
  write: boolean,
  el = elOf(core.cpu),
): number {
  const checks = CHECKS[el as 0 | 1 | 2][index];
  return checks === undefined ? VERDICT.OK : firstVerdict(core, checks, write);
}

/** The first verdict that is not OK. */
export function firstVerdict(
  core: Core,
  checks: readonly Check[] | undefined,
  write: boolean,
): number {
  if (checks === undefined) return VERDICT.OK;
  for (const check of checks) {
    const verdict = check(core, write);
    if (verdict !== VERDICT.OK) return verdict;
  }
  return VERDICT.OK;
}
