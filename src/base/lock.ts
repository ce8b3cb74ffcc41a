/**
 * Spinlocks as words in the shared memory, each of a class. The classes' order is the system-wide
 * locking rule, outermost first (DESIGN: threads and time; after the comment on top of the kernel's
 * vgic.c). Taking a lock against the order, or one found held in deterministic mode, fails at once.
 */
import { InternalError } from "./errors.ts";
import type { SharedMemory } from "./memory.ts";

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

const RANK = Object.fromEntries(LOCK_CLASSES.map((c, i) => [c, i])) as Record<LockClass, number>;
const FIRST_IRQS_OFF = LOCK_CLASSES.indexOf("apList");

/** What one class has seen: `observe` state. */
export interface LockStats {
  acquisitions: number;
  contended: number;
}

/** Called before a lock is taken and after it is dropped, so that tests can force an interleaving. */
export type SchedulePoint = (event: "take" | "drop", lockClass: LockClass, at: number) => void;

/**
 * The locks of one execution context (a worker). `order` breaks ties within a class: ap_list locks
 * are taken lowest vCPU number first.
 */
export class Locks {
  readonly stats: Record<LockClass, LockStats>;
  /** The locks held, outermost first: their words' addresses, ranks and orders. */
  readonly #at: number[] = [];
  readonly #rank: number[] = [];
  readonly #order: number[] = [];
  #count = 0;
  /** Whether interrupts are masked right now, asserted from the ap_list lock inward. */
  irqsOff: () => boolean = () => true;
  schedulePoint: SchedulePoint | undefined;

  constructor(readonly memory: SharedMemory, readonly mode: "deterministic" | "parallel") {
    this.stats = Object.fromEntries(
      LOCK_CLASSES.map((c) => [c, { acquisitions: 0, contended: 0 }]),
    ) as Record<LockClass, LockStats>;
  }

  /** Locks held now, outermost first: must be 0 at every suspension point. */
  get heldCount(): number {
    return this.#count;
  }

  #checkOrder(lockClass: LockClass, rank: number, order: number): void {
    if (this.#count > 0) {
      const last = this.#rank[this.#count - 1] as number;
      const lastOrder = this.#order[this.#count - 1] as number;
      if (last > rank || (last === rank && lastOrder >= order)) {
        throw new InternalError(
          `lock order: ${lockClass} (${order}) taken under ${LOCK_CLASSES[last]} (${lastOrder})`,
        );
      }
    }
    if (rank >= FIRST_IRQS_OFF && !this.irqsOff()) {
      throw new InternalError(`${lockClass} lock taken with interrupts on`);
    }
  }

  /** Takes the lock word at `at`. `order`: position within the class, for classes of which two may be held. */
  take(lockClass: LockClass, at: number, order = 0): void {
    const rank = RANK[lockClass];
    this.#checkOrder(lockClass, rank, order);
    this.schedulePoint?.("take", lockClass, at);
    const stats = this.stats[lockClass];
    stats.acquisitions++;
    if (this.mode === "parallel") this.#spin(at, stats);
    else this.#takeUncontended(lockClass, at);
    this.#at[this.#count] = at;
    this.#rank[this.#count] = rank;
    this.#order[this.#count++] = order;
  }

  /** One context takes all locks: one found held is a deadlock. */
  #takeUncontended(lockClass: LockClass, at: number): void {
    if (this.memory.ld32(at) !== 0) {
      throw new InternalError(`deadlock: ${lockClass} lock at ${at} is held`);
    }
    this.memory.st32(at, 1);
  }

  #spin(at: number, stats: LockStats): void {
    const { i32 } = this.memory;
    while (Atomics.compareExchange(i32, at >>> 2, 0, 1) !== 0) {
      stats.contended++;
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
    let index = this.#count - 1;
    while (index >= 0 && this.#at[index] !== at) index--;
    if (index < 0) throw new InternalError(`${lockClass} lock at ${at} dropped but not held`);
    // Nearly always the innermost one.
    if (index < this.#count - 1) {
      for (const list of [this.#at, this.#rank, this.#order]) list.copyWithin(index, index + 1);
    }
    this.#count--;
    if (this.mode === "parallel") this.#release(at);
    else this.memory.st32(at, 0);
    this.schedulePoint?.("drop", lockClass, at);
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
