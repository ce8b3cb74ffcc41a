/** The machine lock between two real workers. */
import assert from "node:assert/strict";
import { InternalError } from "../../../src/base/errors.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import { MachineLock } from "../../../src/arm/parallel/machine_lock.ts";
import { addUnderLock, LOCK_AT, TIMES, WORD_AT } from "./lock_counter.ts";

Deno.test("what two workers count under the lock is exact, and each acquisition is counted", async () => {
  const memory = SharedMemory.create(65536);
  const worker = new Worker(new URL("./lock_worker.ts", import.meta.url), { type: "module" });
  const done = new Promise<void>((resolve) => worker.onmessage = () => resolve());
  worker.postMessage(memory.memory);
  while (memory.ld32(WORD_AT) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  addUnderLock(memory);
  await done;
  worker.terminate();
  assert.equal(memory.ld32(WORD_AT), 2 * TIMES);
  assert.equal(new MachineLock(memory, LOCK_AT).stats.acquisitions, 2 * TIMES);
});

Deno.test("taking it twice or dropping what is not held is an internal error", () => {
  const lock = new MachineLock(SharedMemory.create(65536), LOCK_AT);
  assert.throws(() => lock.drop(), InternalError);
  lock.take();
  assert.throws(() => lock.take(), InternalError);
  lock.drop();
});
