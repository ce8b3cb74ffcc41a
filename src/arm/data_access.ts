/**
 * Loads and stores that generated code does not do itself: TLB misses, accesses that cross a page,
 * devices, exclusives. Every function takes the exception itself and returns false, with the PC and
 * PSTATE of the handler, when the access is not made.
 */
import { PMU_EVENT } from "./arch/pmu.ts";
import { ACCESS, type Access, ramOffset } from "./arch/tlb_layout.ts";
import { atomicCompareExchange, atomicLoad, atomicStore, withPairLock } from "../base/atomics.ts";
import type { SharedMemory } from "../base/memory.ts";
import { PAIR_LOCK } from "./engine/wasm_atomics.ts";
import type { AccessOptions, AccessSize } from "./isa/builder.ts";
import {
  takeAlignmentFault,
  takeDataAbort,
  takeExternalAbort,
  takeUnsupportedExclusive,
} from "./aborts.ts";
import { meetsWatchpoint, takeWatchpoint } from "./debug.ts";
import { FILL } from "./mmu/mmu.ts";
import { countEvent } from "./pmu.ts";
import type { Core } from "./parts.ts";

const PAGE = 4096;

/** The memory accesses of one CPU. A read's result is in `value`. */
export class DataAccess {
  value = 0n;
  /** The instruction being executed, for the syndrome of a stage 2 fault. */
  word = 0;

  constructor(readonly core: Core) {}

  /** Translates the address with the alignment check of an access aligned to `align`; then `mmu.pa` is set. */
  #translate(va: bigint, access: Access, align: number, unprivileged: boolean): boolean {
    const { cpu, platform } = this.core;
    const lo = Number(va & 0xffff_ffffn), hi = Number(va >> 32n);
    if (platform.mmu.fillData(cpu, lo, hi, access, align, unprivileged) !== FILL.FAULT) return true;
    takeDataAbort(this.core, this.word);
    return false;
  }

  /** Takes the exception if the access, which the MMU allows, meets a watchpoint; else counts it where that is wanted. */
  #unwatched(va: bigint, size: number, access: Access, unprivileged: boolean): boolean {
    const { core } = this;
    const write = access === ACCESS.WRITE;
    const lo = Number(va & 0xffff_ffffn), hi = Number(va >> 32n);
    if (core.cpu.debugArmed !== 0 && meetsWatchpoint(core, lo, hi, size, write, unprivileged)) {
      takeWatchpoint(core, lo, hi, write);
      return false;
    }
    if (core.cpu.countsAccesses !== 0) countEvent(core, PMU_EVENT.MEM_ACCESS);
    return true;
  }

  #aligned(va: bigint, access: Access, align: number): boolean {
    const lo = Number(va & 0xffff_ffffn);
    if ((lo & (align - 1)) === 0) return true;
    takeAlignmentFault(this.core, lo, Number(va >> 32n), access);
    return false;
  }

  #external(va: bigint, access: Access): false {
    takeExternalAbort(this.core, Number(va & 0xffff_ffffn), Number(va >> 32n), access);
    return false;
  }

  #readAt(pa: number, va: bigint, size: number): boolean {
    const { memory, ram, bus } = this.core.platform;
    const at = ramOffset(ram, pa, size);
    if (at >= 0) {
      this.value = at % size === 0 ? atomicLoad(memory, at, size) : memory.getUnsigned(at, size);
      return true;
    }
    const region = bus.find(pa, size);
    if (region === undefined) return this.#external(va, ACCESS.READ);
    const value = region.device.read(pa - region.base, size, this.core.cpu.index);
    this.value = BigInt.asUintN(8 * size, BigInt(value));
    return true;
  }

  #writeAt(pa: number, va: bigint, size: number, value: bigint): boolean {
    const { memory, ram, bus } = this.core.platform;
    const at = ramOffset(ram, pa, size);
    if (at >= 0) {
      if (at % size === 0) atomicStore(memory, at, size, value);
      else memory.setUnsigned(at, size, value);
      return true;
    }
    const region = bus.find(pa, size);
    if (region === undefined) return this.#external(va, ACCESS.WRITE);
    region.device.write(pa - region.base, size, value, this.core.cpu.index);
    return true;
  }

  /** Loads `size` bytes, zero-extended, into `value`. */
  load(va: bigint, size: AccessSize, options: AccessOptions): boolean {
    const { ordered, unprivileged = false, aligned = size } = options;
    if (ordered && !this.#aligned(va, ACCESS.READ, size)) return false;
    if (!this.#translate(va, ACCESS.READ, aligned, unprivileged)) return false;
    const { pa } = this.core.platform.mmu;
    const first = PAGE - pa % PAGE;
    const next = BigInt.asUintN(64, va + BigInt(first));
    if (first < size && !this.#translate(next, ACCESS.READ, 1, unprivileged)) return false;
    if (!this.#unwatched(va, size, ACCESS.READ, unprivileged)) return false;
    if (first >= size) return this.#readAt(pa, va, size);
    return this.#loadBytes(va, size, pa, this.core.platform.mmu.pa, first);
  }

  #loadBytes(va: bigint, size: number, pa: number, nextPa: number, first: number): boolean {
    let value = 0n;
    for (let i = 0; i < size; i++) {
      const from = i < first ? pa + i : nextPa + i - first;
      if (!this.#readAt(from, va + BigInt(i), 1)) return false;
      value |= this.value << BigInt(8 * i);
    }
    this.value = value;
    return true;
  }

  /** Stores the low `size` bytes of `value`; nothing is stored unless both pages allow it. */
  store(va: bigint, size: AccessSize, value: bigint, options: AccessOptions): boolean {
    const { ordered, unprivileged = false, aligned = size } = options;
    if (ordered && !this.#aligned(va, ACCESS.WRITE, size)) return false;
    if (!this.#translate(va, ACCESS.WRITE, aligned, unprivileged)) return false;
    const { pa } = this.core.platform.mmu;
    const first = PAGE - pa % PAGE;
    const next = BigInt.asUintN(64, va + BigInt(first));
    if (first < size && !this.#translate(next, ACCESS.WRITE, 1, unprivileged)) return false;
    if (!this.#unwatched(va, size, ACCESS.WRITE, unprivileged)) return false;
    if (first >= size) return this.#writeAt(pa, va, size, value);
    const nextPa = this.core.platform.mmu.pa;
    for (let i = 0; i < size; i++) {
      const to = i < first ? pa + i : nextPa + i - first;
      const byte = (value >> BigInt(8 * i)) & 0xffn;
      if (!this.#writeAt(to, va + BigInt(i), 1, byte)) return false;
    }
    return true;
  }

  /** The byte offset in the shared memory for an exclusive access, or -1 after an exception. */
  #exclusiveAt(va: bigint, access: Access, size: number): number {
    if (!this.#aligned(va, access, size)) return -1;
    if (!this.#translate(va, access, size, false)) return -1;
    if (!this.#unwatched(va, size, access, false)) return -1;
    const { ram, mmu } = this.core.platform;
    const at = ramOffset(ram, mmu.pa, size);
    if (at < 0) {
      const lo = Number(va & 0xffff_ffffn);
      takeUnsupportedExclusive(this.core, lo, Number(va >> 32n), access);
    }
    return at;
  }

  /**
   * Atomic read-modify-write of `count` elements of `size` bytes, whose new values `update` gives
   * (undefined: they stay). Returns the old ones, or undefined after an exception. Both permissions are
   * checked whatever is stored; a fault that a read would meet is reported as a read's.
   */
  atomic(
    va: bigint,
    size: AccessSize,
    count: 1 | 2,
    update: (old: readonly bigint[]) => readonly bigint[] | undefined,
  ): readonly bigint[] | undefined {
    const bytes = size * count;
    if (!this.#aligned(va, ACCESS.WRITE, bytes)) return undefined;
    if (this.#exclusiveAt(va, ACCESS.READ, bytes) < 0) return undefined;
    const at = this.#exclusiveAt(va, ACCESS.WRITE, bytes);
    if (at < 0) return undefined;
    return updateElements(this.core.platform.memory, at, size, count, update);
  }

  /** Opens the monitor over `count` elements of `size` bytes and returns them, or undefined after an exception. */
  loadExclusive(va: bigint, size: AccessSize, count: 1 | 2): bigint[] | undefined {
    const at = this.#exclusiveAt(va, ACCESS.READ, size * count);
    if (at < 0) return undefined;
    const { cpu } = this.core;
    const values = readElements(this.core.platform.memory, at, size, count);
    const [low = 0n, high = 0n] = values;
    cpu.monitorOpen = 1;
    cpu.monitorAt = at;
    cpu.monitorSize = size * count;
    // Two words make one value, as two doublewords cannot.
    cpu.monitorLo = size === 4 ? low | (high << 32n) : low;
    cpu.monitorHi = size === 4 ? 0n : high;
    return values;
  }

  /** 0: stored; 1: the monitor was not open for this; undefined after an exception. The monitor is closed. */
  storeExclusive(va: bigint, size: AccessSize, values: readonly bigint[]): 0 | 1 | undefined {
    const { cpu } = this.core;
    if (!cpu.monitorOpen) {
      return this.#aligned(va, ACCESS.WRITE, size * values.length) ? 1 : undefined;
    }
    const at = this.#exclusiveAt(va, ACCESS.WRITE, size * values.length);
    if (at < 0) return undefined;
    const mine = cpu.monitorAt === at && cpu.monitorSize === size * values.length;
    cpu.monitorOpen = 0;
    if (!mine) return 1;
    const seen = size === 4 && values.length === 2
      ? [cpu.monitorLo & 0xffff_ffffn, cpu.monitorLo >> 32n]
      : [cpu.monitorLo, cpu.monitorHi].slice(0, values.length);
    const { memory } = this.core.platform;
    const there = updateElements(
      memory,
      at,
      size,
      values.length as 1 | 2,
      (old) => old.every((value, i) => value === seen[i]) ? values : undefined,
    );
    return there.every((value, i) => value === seen[i]) ? 0 : 1;
  }
}

/** One or two elements in one value, the first lowest, and back. */
function joined(values: readonly bigint[], size: number): bigint {
  const [low = 0n, high = 0n] = values.map((value) => BigInt.asUintN(8 * size, value));
  return low | (high << BigInt(8 * size));
}
function parted(value: bigint, size: number, count: number): bigint[] {
  const low = BigInt.asUintN(8 * size, value);
  return count === 1 ? [low] : [low, value >> BigInt(8 * size)];
}

/** `count` elements of `size` bytes at byte `at` of the memory, read at once. */
function readElements(memory: SharedMemory, at: number, size: number, count: number): bigint[] {
  const bytes = size * count;
  if (bytes < 16) return parted(atomicLoad(memory, at, bytes), size, count);
  return withPairLock(memory, PAIR_LOCK, () => [memory.get64(at), memory.get64(at + 8)]);
}

/** Read-modify-write at once; the elements that were there. */
function updateElements(
  memory: SharedMemory,
  at: number,
  size: number,
  count: 1 | 2,
  update: (old: readonly bigint[]) => readonly bigint[] | undefined,
): readonly bigint[] {
  const bytes = size * count;
  if (bytes === 16) {
    return withPairLock(memory, PAIR_LOCK, () => {
      const old = [memory.get64(at), memory.get64(at + 8)];
      update(old)?.forEach((value, i) => memory.set64(at + 8 * i, value));
      return old;
    });
  }
  for (let was = atomicLoad(memory, at, bytes);;) {
    const old = parted(was, size, count);
    const values = update(old);
    if (values === undefined) return old;
    const now = atomicCompareExchange(memory, at, bytes, was, joined(values, size));
    if (now === was) return old;
    was = now;
  }
}

/** Whether the memory under the open monitor still holds what the load saw. */
export function isMonitorUntouched(core: Core): boolean {
  const { cpu } = core;
  const size = cpu.monitorSize;
  const [low, high] = readElements(
    core.platform.memory,
    cpu.monitorAt,
    Math.min(size, 8),
    size > 8 ? 2 : 1,
  );
  return low === cpu.monitorLo && (size <= 8 || high === cpu.monitorHi);
}
