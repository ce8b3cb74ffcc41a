/**
 * A machine whose physical CPUs run in several workers (CPU n in worker n mod workers). Every worker
 * has all of the machine's objects, made in the same order over the same memory, and runs its own CPUs
 * by turns; time is the host's clock.
 */
import type { Cpu } from "../arch/cpu_state.ts";
import { HALT } from "../arch/cpu_state.ts";
import type { SharedMemory } from "../../base/memory.ts";
import type { Clock } from "../clock.ts";
import type { Interpreter } from "../engine/interpreter.ts";
import type { StopReason } from "../machine_options.ts";
import type { PowerEvent } from "../parts.ts";
import type { Team, TeamPlace } from "./team.ts";

/** What a worker's machine is to be told. */
export interface TeamOptions extends TeamPlace {
  /** The memory that another worker has made; without it, one is made. */
  readonly memory?: SharedMemory;
  /** `performance.timeOrigin` of the main worker. */
  readonly timeOriginMs: number;
}

/** Instructions of a turn, at first. */
export const TEAM_QUANTUM = 20_000;
/** How long a turn may last, in ns: so long another CPU may have to wait for the completion of its maintenance. */
const TURN_NS = { least: 50_000, most: 100_000 } as const;
const TURN_INSNS = { least: 5_000, most: 1_000_000 } as const;

/** Instructions of the next turn, where one of `insns` has taken `ns`. */
export function nextQuantum(quantum: number, insns: number, ns: number): number {
  if (ns > TURN_NS.most) return Math.max(TURN_INSNS.least, Math.floor(quantum / 2));
  if (insns < quantum || ns > TURN_NS.least) return quantum;
  return Math.min(TURN_INSNS.most, 2 * quantum);
}
/** A deadline that is nearer than this many instructions is not waited for by shorter and shorter turns. */
export const TEAM_LEAST_SLICE = 500;
/**
 * How long a CPU stays in WFE, in ns: a write by another CPU to what it has reserved is no event that its worker is
 * told of, and WFE may end without one.
 */
const WFE_NS = 100_000;

/** The host's clock in ns from the main worker's start, the same in all workers. */
export function hostClock({ timeOriginMs }: TeamOptions): () => number {
  const shiftMs = performance.timeOrigin - timeOriginMs;
  return () => (performance.now() + shiftMs) * 1e6;
}

/** Pages of predecoded code that each of `workers` may have where one would have `pages`. */
export function teamCodePages(pages: number, workers: number): number {
  return Math.min(pages, Math.ceil((2 * pages) / workers));
}

/** What the run loop needs of the machine. */
export interface TeamMachine {
  readonly team: Team | undefined;
  readonly interpreter: Interpreter;
  readonly platform: { readonly clock: Clock };
  readonly ram: { readonly pa: number; readonly at: number };
  /** The CPUs of this worker. */
  readonly ownCpus: readonly Cpu[];
  readonly power: PowerEvent | undefined;
  /** Earliest moment at which something happens to one of them of itself; Infinity if never. */
  readonly deadlineNs: number;
  /** Looks at timers again, and ends the running slice. */
  rearm(): void;
  updateTimers(): void;
  /** A turn of each of them; false when none had anything to do. */
  round(limitNs: number): boolean;
}

/** Connects a worker's machine with its team. */
export function joinTeam(machine: TeamMachine, team: Team): void {
  const { interpreter, ram } = machine;
  interpreter.gate = team;
  team.onBell = () => machine.rearm();
  team.onMessage = (at, length) => {
    if (length === 0) interpreter.invalidateAll();
    else interpreter.invalidateRange(at - ram.at + ram.pa, length);
  };
}

/** The moment at which something happens to one of this worker's CPUs of itself; Infinity if never. */
function nextNs({ ownCpus, deadlineNs, platform: { clock } }: TeamMachine): number {
  const waits = ownCpus.some((cpu) => cpu.halt === HALT.WFE);
  return waits ? Math.min(deadlineNs, clock.now() + WFE_NS) : deadlineNs;
}

/** Sleeps until something happens to one of this worker's CPUs, or `limitNs`. */
function rest(machine: TeamMachine, team: Team, limitNs: number): void {
  const next = nextNs(machine);
  team.sleep((Math.min(next, limitNs) - machine.platform.clock.now()) / 1e6, next);
  for (const cpu of machine.ownCpus) if (cpu.halt === HALT.WFE) cpu.eventRegister = 1;
  machine.rearm();
}

/** One look at what there is to do: false when nothing was done. */
function work(machine: TeamMachine, limitNs: number): boolean {
  machine.updateTimers();
  return machine.round(limitNs);
}

/**
 * The main worker's share, under the lock: until virtual time reaches `limitNs`, a power event comes, or nothing
 * will ever happen again without outside input. InternalError when another worker has failed.
 */
export function runMain(machine: TeamMachine, team: Team, limitNs: number): StopReason {
  machine.rearm();
  while (machine.power === undefined) {
    team.throwFailure();
    if (machine.platform.clock.now() >= limitNs) return "limit";
    if (work(machine, limitNs)) continue;
    if (nextNs(machine) === Infinity && team.othersStalled) return "stalled";
    rest(machine, team, limitNs);
  }
  return "power";
}

/**
 * A helper's life until `untilMs`, as of `performance.now()`, or longer where there is nothing to do; under the lock
 * from its beginning. It ends by what {@link Team.acquire} throws.
 */
export function runHelper(machine: TeamMachine, team: Team, untilMs: number): void {
  machine.rearm();
  while (performance.now() < untilMs) {
    if (machine.power !== undefined) team.sleep(Infinity, Infinity);
    else if (!work(machine, Infinity)) rest(machine, team, Infinity);
  }
}
