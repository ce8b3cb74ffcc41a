/**
 * The one lock of a machine whose CPUs run in several workers. Whoever executes TypeScript for the
 * machine (hardware model, host kernel, hypervisor, devices) holds it; it is dropped around generated
 * code and while there is nothing to do. So generated code alone runs in parallel, and everything
 * else is as in a machine of one worker.
 */
import { InternalError } from "../../base/errors.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { layout, u32, u53, type ViewOf } from "../../base/struct.ts";

const FREE = 0, HELD = 1, WANTED = 2;

/**
 * Looks at a held lock, with a pause of 30 ns after each, before its owner is slept for: together less than it costs
 * to sleep and to be woken (20 us and more), and longer than most exits take.
 */
const SPINS = 500;
/** How long those who have just had the lock leave it to one who has waited in vain, in ms at most. */
const YIELD_MS = 2;
/** Looks of a second each at a lock that nobody drops: then its owner is gone. */
const LOOKS = 60, LOOK_MS = 1000;

/** The lock and what it has seen. */
export const MachineLockLayout = layout("machine_lock", {
  /** FREE, HELD, or WANTED: held, and somebody sleeps until it is dropped. */
  word: u32("observe"),
  /** Not 0: somebody was woken and found it taken again; all others wait until he has had it. */
  starving: u32("observe"),
  acquisitions: u53("observe"),
  /** Of these, those that found it held. */
  contended: u53("observe"),
});

/** One worker's side of the lock. */
export class MachineLock {
  readonly stats: ViewOf<typeof MachineLockLayout>;
  readonly #words: Int32Array;
  readonly #word: number;
  readonly #starving: number;
  #held = false;

  /** `at`: address of a {@link MachineLockLayout}, zeroed. */
  constructor(memory: SharedMemory, at: number) {
    this.stats = MachineLockLayout.at(memory, at);
    this.#words = memory.i32;
    this.#word = (at + MachineLockLayout.offset.word) >>> 2;
    this.#starving = (at + MachineLockLayout.offset.starving) >>> 2;
  }

  /** Whether this worker has it. */
  get held(): boolean {
    return this.#held;
  }

  take(): void {
    if (this.#held) throw new InternalError("the machine lock is taken twice");
    const words = this.#words;
    const contended = Atomics.load(words, this.#starving) !== 0 ||
      Atomics.compareExchange(words, this.#word, FREE, HELD) !== FREE;
    if (contended) this.#wait();
    this.#held = true;
    this.stats.acquisitions++;
    if (contended) this.stats.contended++;
  }

  #wait(): void {
    const words = this.#words;
    if (Atomics.load(words, this.#starving) !== 0) {
      Atomics.wait(words, this.#starving, 1, YIELD_MS);
    }
    for (let i = 0; i < SPINS; i++) {
      const isFree = Atomics.load(words, this.#word) === FREE;
      if (isFree && Atomics.compareExchange(words, this.#word, FREE, HELD) === FREE) return;
      Atomics.pause();
    }
    this.#sleep();
  }

  #sleep(): void {
    const words = this.#words;
    let looks = 0;
    for (
      let starves = false;
      Atomics.exchange(words, this.#word, WANTED) !== FREE;
      starves = true
    ) {
      if (starves) Atomics.store(words, this.#starving, 1);
      if (Atomics.wait(words, this.#word, WANTED, LOOK_MS) !== "timed-out") looks = 0;
      else if (++looks === LOOKS) {
        throw new InternalError(
          "a worker does not drop the machine lock",
        );
      }
    }
    if (Atomics.exchange(words, this.#starving, 0) !== 0) Atomics.notify(words, this.#starving);
  }

  drop(): void {
    if (!this.#held) throw new InternalError("the machine lock is dropped but not held");
    this.#held = false;
    const words = this.#words;
    if (Atomics.exchange(words, this.#word, FREE) === WANTED) {
      Atomics.notify(words, this.#word, 1);
    }
  }
}
