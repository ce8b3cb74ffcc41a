/** Adds to a word that only the machine lock protects. */
import { SharedMemory } from "../../../src/base/memory.ts";
import { MachineLock } from "../../../src/arm/parallel/machine_lock.ts";

/** Where the lock and the word are, and how often each worker adds one. */
export const LOCK_AT = 1024, WORD_AT = 2048, TIMES = 50_000;

export function addUnderLock(memory: SharedMemory): void {
  const lock = new MachineLock(memory, LOCK_AT);
  for (let i = 0; i < TIMES; i++) {
    lock.take();
    memory.st32(WORD_AT, memory.ld32(WORD_AT) + 1);
    lock.drop();
  }
}
