/**
 * The performance monitors' counting. Nothing counts while instructions run: what they add follows from
 * how many of them a CPU has begun since the last look, and is added where something changes (a level, a
 * register, the end of a slice). An overflow that interrupts bounds the slice, so that it comes at the
 * exact instruction. Source: Arm Architecture Reference Manual (DDI 0487), D11 and the pseudocode
 * CountPMUEvents, IncrementEventCounter, CheckForPMUOverflow.
 *
 * A cycle is an instruction begun on this CPU, whether it ends in an exception or not. What the software
 * at EL2 does in TypeScript is no instruction: it counts nothing. Accesses to memory are counted one by
 * one; while a counter counts them, no access hits a TLB.
 */
import { TWO32 } from "../base/bits.ts";
import { MDCR } from "./arch/fields.ts";
import {
  counterRegister,
  CYCLE_COUNTER,
  EVENT_COUNTERS,
  PMCR,
  PMEVTYPER,
  PMU_EVENT,
  PMU_PPI,
  typeRegister,
} from "./arch/pmu.ts";
import { R } from "./arch/sysregs.ts";
import type { Core } from "./parts.ts";

/** Bits of a CPU's `pmuActive`. */
const ACTIVE = { INSTRUCTIONS: 1, EVENTS: 2 } as const;

/** How many event counters EL1 and EL0 have: MDCR_EL2.HPMN. */
export function guestCounters(core: Core): number {
  return Math.min(core.regs.lo(R.MDCR_EL2) & MDCR.HPMN, EVENT_COUNTERS);
}

/** Whether the counter's control bit is set: PMCR_EL0.E, or MDCR_EL2.HPME for EL2's own. */
function isOn(core: Core, n: number): boolean {
  const { regs } = core;
  const own = n !== CYCLE_COUNTER && n >= guestCounters(core);
  return own ? (regs.lo(R.MDCR_EL2) & MDCR.HPME) !== 0 : (regs.lo(R.PMCR_EL0) & PMCR.E) !== 0;
}

function isEnabled(core: Core, n: number): boolean {
  return (core.regs.lo(R.PMCNTENSET_EL0) & (1 << n)) !== 0 && isOn(core, n);
}

/** Whether the counter counts at the current level. */
function countsHere(core: Core, n: number): boolean {
  if (!isEnabled(core, n)) return false;
  const type = core.regs.lo(typeRegister(n));
  const { el } = core.cpu;
  if (el === 2) return (type & PMEVTYPER.NSH) !== 0;
  return (type & (el === 1 ? PMEVTYPER.P : PMEVTYPER.U)) === 0;
}

function eventOf(core: Core, n: number): number {
  if (n === CYCLE_COUNTER) return PMU_EVENT.CPU_CYCLES;
  return core.regs.lo(typeRegister(n)) & PMEVTYPER.EVENT;
}

/** Instructions begun on the CPU so far, the one at hand included. */
function begun(core: Core): number {
  return core.platform.clock.begunOn(core.cpu);
}

// Counting

function overflowed(core: Core, n: number): void {
  const { regs } = core;
  regs.set(R.PMOVSSET_EL0, (regs.lo(R.PMOVSSET_EL0) | (1 << n)) >>> 0, 0);
}

/** Adds to a counter; an event counter's overflows go on to the odd one above it that counts CHAIN. */
function increment(core: Core, n: number, amount: number): void {
  const { regs } = core;
  const register = counterRegister(n);
  const sum = regs.lo(register) + amount;
  const carry = Math.floor(sum / TWO32);
  if (n === CYCLE_COUNTER) {
    const hi = regs.hi(register) + carry;
    regs.set(register, sum >>> 0, hi >>> 0);
    if (hi >= TWO32) overflowed(core, n);
    return;
  }
  regs.set(register, sum >>> 0, 0);
  if (carry === 0) return;
  overflowed(core, n);
  const next = n + 1;
  const chained = n % 2 === 0 && next < EVENT_COUNTERS && countsHere(core, next);
  if (chained && eventOf(core, next) === PMU_EVENT.CHAIN) increment(core, next, carry);
}

function addInstructions(core: Core, n: number, cycles: number, retired: number): void {
  const event = eventOf(core, n);
  const amount = event === PMU_EVENT.CPU_CYCLES
    ? cycles
    : event === PMU_EVENT.INST_RETIRED
    ? retired
    : 0;
  if (amount !== 0 && countsHere(core, n)) increment(core, n, amount);
}

function addSince(core: Core, upTo: number): void {
  const { cpu } = core;
  const cycles = upTo - cpu.pmuAt;
  const retired = cycles - (cpu.aborted - cpu.pmuAbortedAt);
  cpu.pmuAt = upTo;
  cpu.pmuAbortedAt = cpu.aborted;
  if (cycles === 0) return;
  for (let n = 0; n < EVENT_COUNTERS; n++) addInstructions(core, n, cycles, retired);
  addInstructions(core, CYCLE_COUNTER, cycles, retired);
  updateLine(core);
}

/**
 * Brings the counters up to date, the instruction at hand included: before anything changes that they
 * depend on, and at the end of each slice. To be called while `cpu.pmuActive` is not 0.
 */
export function syncPmu(core: Core): void {
  if (core.cpu.pmuActive & ACTIVE.INSTRUCTIONS) addSince(core, begun(core));
}

/** The same for an instruction that reads a counter: it does not count itself yet. */
export function syncPmuForRead(core: Core): void {
  if ((core.cpu.pmuActive & ACTIVE.INSTRUCTIONS) === 0) return;
  const inSlice = core.platform.clock.isRunning(core.cpu) ? 1 : 0;
  addSince(core, begun(core) - inSlice);
}

/** Counts `event` once in every counter of `mask` that counts it now. */
export function countEvent(core: Core, event: number, mask = -1): void {
  for (let n = 0; n < EVENT_COUNTERS; n++) {
    if ((mask & (1 << n)) === 0 || eventOf(core, n) !== event) continue;
    if (countsHere(core, n)) increment(core, n, 1);
  }
  updateLine(core);
}

/** Counts an exception taken from, or a return from, the current level. */
export function countException(core: Core, event: number): void {
  if (core.cpu.pmuActive & ACTIVE.EVENTS) countEvent(core, event);
}

// The interrupt

function interrupts(core: Core): boolean {
  const { regs } = core;
  const pending = regs.lo(R.PMOVSSET_EL0) & regs.lo(R.PMINTENSET_EL1);
  if (pending === 0) return false;
  if (pending & (1 << CYCLE_COUNTER) && isOn(core, CYCLE_COUNTER)) return true;
  for (let n = 0; n < EVENT_COUNTERS; n++) if (pending & (1 << n) && isOn(core, n)) return true;
  return false;
}

function updateLine(core: Core): void {
  const { cpu, platform } = core;
  const level = interrupts(core) ? 1 : 0;
  if (level === cpu.pmuLine) return;
  cpu.pmuLine = level;
  platform.gic.setPpi(cpu.index, PMU_PPI, level === 1);
}

/** Instructions until the counter overflows, if it counts them here: a lower bound. */
function untilOverflow(core: Core, n: number): number {
  const event = eventOf(core, n);
  const counts = event === PMU_EVENT.CPU_CYCLES || event === PMU_EVENT.INST_RETIRED;
  if (!counts || !countsHere(core, n)) return Infinity;
  const { regs } = core;
  const register = counterRegister(n);
  if (n === CYCLE_COUNTER && regs.hi(register) !== 0xffff_ffff) return Infinity;
  return TWO32 - regs.lo(register);
}

/** Instructions that the CPU may run at its level before an overflow interrupts, at the least. */
export function untilPmuInterrupt(core: Core): number {
  const enabled = core.regs.lo(R.PMINTENSET_EL1);
  let least = Infinity;
  for (let n = 0; enabled !== 0 && n < EVENT_COUNTERS; n++) {
    // An even counter's overflow may make the one above it overflow.
    if (enabled & (1 << n | 2 << n)) least = Math.min(least, untilOverflow(core, n));
  }
  if (enabled & (1 << CYCLE_COUNTER)) least = Math.min(least, untilOverflow(core, CYCLE_COUNTER));
  return least;
}

/** The level has changed: the running slice ends no later than the next overflow that interrupts. */
export function boundSliceByPmu(core: Core): void {
  core.platform.clock.shortenSlice(untilPmuInterrupt(core));
}

// Control

/** Whether any enabled counter counts `event`. */
function isCounted(core: Core, event: number): boolean {
  if (core.regs.lo(R.PMCNTENSET_EL0) === 0) return false;
  for (let n = 0; n < EVENT_COUNTERS; n++) {
    if (eventOf(core, n) === event && isEnabled(core, n)) return true;
  }
  return false;
}

function activity(core: Core): number {
  if (core.regs.lo(R.PMCNTENSET_EL0) === 0) return 0;
  const instructions = isEnabled(core, CYCLE_COUNTER) ||
    isCounted(core, PMU_EVENT.CPU_CYCLES) || isCounted(core, PMU_EVENT.INST_RETIRED);
  const events = isCounted(core, PMU_EVENT.EXC_TAKEN) || isCounted(core, PMU_EVENT.EXC_RETURN);
  return (instructions ? ACTIVE.INSTRUCTIONS : 0) | (events ? ACTIVE.EVENTS : 0);
}

/** Recomputes what is `cache` of the monitors: after a snapshot was restored, and by {@link pmuChanged}. */
export function refreshPmu(core: Core): void {
  const { cpu } = core;
  cpu.pmuActive = activity(core);
  const accesses = isCounted(core, PMU_EVENT.MEM_ACCESS) ? 1 : 0;
  if (accesses === cpu.countsAccesses) return;
  cpu.countsAccesses = accesses;
  core.platform.mmu.contextChanged(cpu);
}

/** The monitors after a reset of the CPU's registers. */
export function resetPmu(core: Core): void {
  refreshPmu(core);
  updateLine(core);
}

/** To be called after a register of the monitors has been written; {@link syncPmu} came before. */
export function pmuChanged(core: Core): void {
  const { cpu } = core;
  cpu.pmuAt = begun(core);
  cpu.pmuAbortedAt = cpu.aborted;
  refreshPmu(core);
  updateLine(core);
  core.platform.hooks.onEndSlice(cpu);
}
