/**
 * Single-copy atomic accesses to the shared memory from TypeScript, of 1, 2, 4 or 8 naturally aligned
 * bytes: for what other threads access meanwhile. Values are unsigned bigints: cold paths only.
 */
import type { SharedMemory } from "./memory.ts";

type Words = Uint8Array | Uint16Array | Uint32Array;

function wordsOf(memory: SharedMemory, size: number): Words {
  return size === 1 ? memory.u8 : size === 2 ? memory.u16 : memory.u32;
}

/** Loads `size` bytes at `at`. */
export function atomicLoad(memory: SharedMemory, at: number, size: number): bigint {
  if (size === 8) return Atomics.load(memory.u64, at >>> 3);
  return BigInt(Atomics.load(wordsOf(memory, size), at / size));
}

/** Stores the low `size` bytes of `value` at `at`. */
export function atomicStore(memory: SharedMemory, at: number, size: number, value: bigint): void {
  if (size === 8) Atomics.store(memory.u64, at >>> 3, value);
  else Atomics.store(wordsOf(memory, size), at / size, Number(BigInt.asUintN(8 * size, value)));
}

/** Stores the low `size` bytes of `value` at `at` if `expected` is there; returns what was there. */
export function atomicCompareExchange(
  memory: SharedMemory,
  at: number,
  size: number,
  expected: bigint,
  value: bigint,
): bigint {
  if (size === 8) return Atomics.compareExchange(memory.u64, at >>> 3, expected, value);
  const to = Number(BigInt.asUintN(8 * size, value));
  const words = wordsOf(memory, size);
  return BigInt(Atomics.compareExchange(words, at / size, Number(expected), to));
}

/** Runs `body` while no other 16-byte access is being made: those take the word at `lock` too. */
export function withPairLock<T>(memory: SharedMemory, lock: number, body: () => T): T {
  const { i32 } = memory;
  while (Atomics.compareExchange(i32, lock >>> 2, 0, 1) !== 0);
  try {
    return body();
  } finally {
    Atomics.store(i32, lock >>> 2, 0);
  }
}
