/**
 * Spinlocks as words in the shared memory, each of a class. The classes' order is the system-wide
 * locking rule, outermost first (DESIGN: threads and time; after the comment on top of the kernel's
 * vgic.c). Taking a lock against the order, or one found held in deterministic mode, fails at once.
 */
import type { Arena } from "./arena.ts";
import { InternalError } from "./errors.ts";
import type { SharedMemory } from "./memory.ts";
import { layout, u53 } from "./struct.ts";

/** Lock classes, outermost first. From `apList` inward interrupts must be off. */
export const LOCK_CLASSES = [
  "kvm",
  "vcpuMutex",
  "config",
  "itsCommand",
  "its",
  "mmu",
  "apList",
  "lpiList",
  "irq",
  "vmid",
  "timerQueue",
  "runQueue",
] as const;

export type LockClass = (typeof LOCK_CLASSES)[number];

/** Positions of the classes in {@link LOCK_CLASSES}. */
export const LOCK_RANK = Object.fromEntries(LOCK_CLASSES.map((c, i) => [c, i])) as Readonly<
  Record<LockClass, number>
>;
const FIRST_IRQS_OFF = LOCK_CLASSES.indexOf("apList");

/** What one class has seen: `observe` state. */
export interface LockStats {
  acquisitions: number;
  contended: number;
}

const LockStatsLayout = layout("lock_stats", {
  acquisitions: u53("observe"),
  contended: u53("observe"),
});

/** Waits of a millisecond for a lock that another context has, after which it will never be dropped. */
const MAX_WAITS = 30_000;

/** Called before a lock is taken and after it is dropped, so that tests can force an interleaving. */
export type SchedulePoint = (event: "take" | "drop", lockClass: LockClass, at: number) => void;

/**
 * The locks of one execution context (a worker). `order` breaks ties within a class: ap_list locks
 * are taken lowest vCPU number first.
 */
export class Locks {
  readonly stats: Record<LockClass, LockStats>;
  readonly #ranked: readonly LockStats[];
  readonly #apLists: LockStats;
  readonly #irqs: LockStats;
  readonly #deterministic: boolean;
  /** The locks held, outermost first: their words' addresses, ranks and orders. */
  readonly #at: number[] = [];
  readonly #rank: number[] = [];
  readonly #order: number[] = [];
  #count = 0;
  /** Whether interrupts are masked right now, asserted from the ap_list lock inward. */
  irqsOff: () => boolean = () => true;
  schedulePoint: SchedulePoint | undefined;

  /** `shared`: where all contexts count together, which they do one at a time; without it each counts for itself. */
  constructor(
    readonly memory: SharedMemory,
    readonly mode: "deterministic" | "parallel",
    shared?: Arena,
  ) {
    const stats = () => shared?.make(LockStatsLayout) ?? { acquisitions: 0, contended: 0 };
    this.stats = Object.fromEntries(LOCK_CLASSES.map((c) => [c, stats()])) as Record<
      LockClass,
      LockStats
    >;
    this.#ranked = LOCK_CLASSES.map((c) => this.stats[c]);
    this.#apLists = this.stats.apList;
    this.#irqs = this.stats.irq;
    this.#deterministic = mode === "deterministic";
  }

  /** Locks held now, outermost first: must be 0 at every suspension point. */
  get heldCount(): number {
    return this.#count;
  }

  #checkNesting(rank: number, order: number): void {
    if (this.#count > 0) {
      const last = this.#rank[this.#count - 1] as number;
      const lastOrder = this.#order[this.#count - 1] as number;
      if (last > rank || (last === rank && lastOrder >= order)) {
        const inner = `${LOCK_CLASSES[rank]} (${order})`;
        const outer = `${LOCK_CLASSES[last]} (${lastOrder})`;
        throw new InternalError(`lock order: ${inner} taken under ${outer}`);
      }
    }
  }

  #checkOrder(rank: number, order: number): void {
    this.#checkNesting(rank, order);
    if (rank >= FIRST_IRQS_OFF && !this.irqsOff()) this.#failIrqsOn(rank);
  }

  #failIrqsOn(rank: number): never {
    throw new InternalError(`${LOCK_CLASSES[rank]} lock taken with interrupts on`);
  }

  /** Takes the lock word at `at`. `order`: position within the class, for classes of which two may be held. */
  take(lockClass: LockClass, at: number, order = 0): void {
    this.takeRank(LOCK_RANK[lockClass], at, order);
  }

  /** The same by the class's {@link LOCK_RANK}: a look-up by name costs as much as the rest. */
  takeRank(rank: number, at: number, order: number): void {
    this.#checkOrder(rank, order);
    if (this.schedulePoint !== undefined) this.#atSchedulePoint("take", rank, at);
    const stats = this.#ranked[rank] as LockStats;
    stats.acquisitions++;
    if (this.mode === "parallel") this.#spin(rank, at, stats);
    else this.#takeUncontended(rank, at);
    this.#at[this.#count] = at;
    this.#rank[this.#count] = rank;
    this.#order[this.#count++] = order;
  }

  /**
   * Takes and drops the lock word at `at` at once, for whoever only looks at what it guards and has
   * interrupts masked meanwhile. False where another context could come between: nothing is done.
   */
  passRank(rank: number, at: number, order: number): boolean {
    if (this.mode === "parallel" || this.schedulePoint !== undefined) return false;
    this.#checkNesting(rank, order);
    this.#checkFree(rank, at);
    (this.#ranked[rank] as LockStats).acquisitions++;
    return true;
  }

  /**
   * Whether nobody can come between what this context does until it gives up the CPU, and it holds no lock.
   * Then locks that guard only what it does meanwhile need not be taken: they are counted by {@link passed}.
   */
  get alone(): boolean {
    return this.#deterministic && this.#count === 0 && this.schedulePoint === undefined;
  }

  /** Counts `times` locks of a class that were passed {@link alone}. InternalError where interrupts must be off and are on. */
  passed(rank: number, times: number): void {
    if (rank >= FIRST_IRQS_OFF && !this.irqsOff()) this.#failIrqsOn(rank);
    (this.#ranked[rank] as LockStats).acquisitions += times;
  }

  /** The same of one lock of class `outer`, and `times` of class `rank` within it. */
  passedWithin(outer: number, rank: number, times: number): void {
    this.passed(outer, 1);
    (this.#ranked[rank] as LockStats).acquisitions += times;
  }

  /** The same of so many of class apList and of class irq. */
  passedIrqs(apLists: number, irqs: number): void {
    if (!this.irqsOff()) this.#failIrqsOn(LOCK_RANK.irq);
    this.#apLists.acquisitions += apLists;
    this.#irqs.acquisitions += irqs;
  }

  #atSchedulePoint(event: "take" | "drop", rank: number, at: number): void {
    this.schedulePoint?.(event, LOCK_CLASSES[rank] as LockClass, at);
  }

  /** One context takes all locks: one found held is a deadlock. */
  #checkFree(rank: number, at: number): void {
    if (this.memory.ld32(at) !== 0) {
      throw new InternalError(`deadlock: ${LOCK_CLASSES[rank]} lock at ${at} is held`);
    }
  }

  #takeUncontended(rank: number, at: number): void {
    this.#checkFree(rank, at);
    this.memory.st32(at, 1);
  }

  #spin(rank: number, at: number, stats: LockStats): void {
    const { i32 } = this.memory;
    for (let waits = 0; Atomics.compareExchange(i32, at >>> 2, 0, 1) !== 0; waits++) {
      if (waits === 0) stats.contended++;
      if (waits === MAX_WAITS) {
        throw new InternalError(`deadlock: ${LOCK_CLASSES[rank]} lock at ${at} is not dropped`);
      }
      Atomics.wait(i32, at >>> 2, 1, 1);
    }
  }

  #release(at: number): void {
    const { i32 } = this.memory;
    Atomics.store(i32, at >>> 2, 0);
    Atomics.notify(i32, at >>> 2, 1);
  }

  /** Drops the lock word at `at`; InternalError if this context does not hold it. */
  drop(lockClass: LockClass, at: number): void {
    this.dropRank(LOCK_RANK[lockClass], at);
  }

  /** The same by the class's {@link LOCK_RANK}. */
  dropRank(rank: number, at: number): void {
    let index = this.#count - 1;
    while (index >= 0 && this.#at[index] !== at) index--;
    if (index < 0) {
      throw new InternalError(`${LOCK_CLASSES[rank]} lock at ${at} dropped but not held`);
    }
    // Nearly always the innermost one.
    if (index < this.#count - 1) {
      for (const list of [this.#at, this.#rank, this.#order]) list.copyWithin(index, index + 1);
    }
    this.#count--;
    if (this.mode === "parallel") this.#release(at);
    else this.memory.st32(at, 0);
    if (this.schedulePoint !== undefined) this.#atSchedulePoint("drop", rank, at);
  }

  /** Runs `body` with the lock held. */
  with<T>(lockClass: LockClass, at: number, body: () => T): T {
    this.take(lockClass, at);
    try {
      return body();
    } finally {
      this.drop(lockClass, at);
    }
  }
}
