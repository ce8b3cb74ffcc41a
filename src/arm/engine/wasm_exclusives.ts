/** Exclusive and atomic accesses: the monitor, compare and swap, read-modify-write. */
import { CpuLayout } from "../arch/cpu_state.ts";
import { ACCESS } from "../arch/tlb_layout.ts";
import type { AccessOptions, AccessSize, AtomicOp, V32, V64 } from "../isa/builder.ts";
import { I32, I64 } from "./wasm_assembler.ts";
import { atomicUpdate, lockPair, unlockPair } from "./wasm_atomics.ts";
import { MemoryBuilder } from "./wasm_memory.ts";
import type { Node } from "./wasm_nodes.ts";

const O = CpuLayout.offset;

/** {@link MemoryBuilder} with exclusives and atomics. */
export abstract class ExclusiveBuilder extends MemoryBuilder {
  #openMonitor(at: V32, size: number, lo: V64, hi: V64): void {
    this.setField(O.monitorOpen, this.c32(1));
    this.setField(O.monitorSize, this.c32(size));
    this.setField(O.monitorAt, this.zext(at));
    this.setField(O.monitorLo, lo);
    this.setField(O.monitorHi, hi);
  }
  loadExclusive(address: V64, size: AccessSize, options: AccessOptions = {}): V64 {
    const at = this.address(address, ACCESS.READ, size, options);
    const value = this.loadAt(at, size, 0, this.ordered(options));
    this.#openMonitor(at, size, value, this.c64(0));
    return value;
  }
  loadExclusivePair(address: V64, size: 4 | 8, options: AccessOptions = {}): readonly [V64, V64] {
    const at = this.address(address, ACCESS.READ, 2 * size, options);
    if (size === 4) {
      const both = this.loadAt(at, 8, 0, this.ordered(options));
      this.#openMonitor(at, 8, both, this.c64(0));
      return [this.zext(this.wrap(both)), this.shrU(both, this.c64(32))];
    }
    return this.#alone(() => {
      const pair = [this.loadAt(at, 8), this.loadAt(at, 8, 8)] as const;
      this.#openMonitor(at, 16, pair[0], pair[1]);
      return pair;
    });
  }
  /** What `make` emits excludes other 16-byte accesses, and may not leave. */
  #alone<T>(make: () => T): T {
    if (!this.parallel) return make();
    this.run(() => lockPair(this.frame.asm));
    const result = make();
    this.run(() => unlockPair(this.frame.asm));
    return result;
  }
  /** Whether the open monitor is over `size` bytes at `at`; closes it. */
  #takeMonitor(at: V32, size: number): V32 {
    const same = this.and(
      this.eq(this.field(O.monitorSize), this.c32(size)),
      this.eq(this.wrap(this.field64(O.monitorAt)), at),
    );
    const held = this.and(this.field(O.monitorOpen), same);
    this.clearExclusive();
    return held;
  }
  storeExclusive(address: V64, size: AccessSize, value: V64, options: AccessOptions = {}): V32 {
    const at = this.address(address, ACCESS.WRITE, size, options);
    const status = this.variable(1);
    const seen = this.field64(O.monitorLo);
    this.when(this.#takeMonitor(at, size), () => {
      const nodes = [at, seen, value].map((v) => this.use(v));
      const cut: V64 = size === 8
        ? value
        : this.and(value, this.c64((1n << BigInt(8 * size)) - 1n));
      const cutNode = this.use(cut);
      const old: V64 = this.node("i64", [], () => {
        this.push(nodes[0] as Node);
        this.push(nodes[1] as Node);
        this.push(cutNode);
        this.frame.asm.cmpxchg(size);
      }, { pinned: true });
      status.set(this.ne(old, seen));
    });
    return status.get;
  }
  storeExclusivePair(
    address: V64,
    size: 4 | 8,
    values: readonly [V64, V64],
    options: AccessOptions = {},
  ): V32 {
    if (size === 4) {
      return this.storeExclusive(address, 8, this.#joined(values), options);
    }
    const at = this.address(address, ACCESS.WRITE, 16, options);
    const status = this.variable(1);
    this.#alone(() => {
      const unchanged = this.and(
        this.eq(this.loadAt(at, 8), this.field64(O.monitorLo)),
        this.eq(this.loadAt(at, 8, 8), this.field64(O.monitorHi)),
      );
      this.when(this.and(this.#takeMonitor(at, 16), unchanged), () => {
        values.forEach((value, i) => this.storeAt(at, 8, value, 8 * i));
        status.set(this.c32(0));
      });
    });
    return status.get;
  }
  clearExclusive(): void {
    this.setField(O.monitorOpen, this.c32(0));
  }
  /** The low `size` bytes of a value, extended to 64 bits. */
  #cut(value: V64, size: AccessSize, signed = false): V64 {
    if (size === 8) return value;
    if (signed) return this.signExtend(value, (8 * size) as 8 | 16 | 32);
    return this.and(value, this.c64((1n << BigInt(8 * size)) - 1n));
  }
  /**
   * Atomic accesses are plain ones while one thread runs all CPUs. A page whose write tag hits can be
   * read, too.
   */
  atomic(op: AtomicOp, address: V64, size: AccessSize, operand: V64): V64 {
    const at = this.address(address, ACCESS.WRITE, size, {});
    if (this.parallel) return this.#atomicAt(op, at, size, operand);
    const old = this.loadAt(at, size);
    this.storeAt(at, size, this.#updated(op, old, operand, size));
    return old;
  }
  #atomicAt(op: AtomicOp, at: V32, size: AccessSize, operand: V64): V64 {
    const nodes = [at, operand].map((v) => this.use(v)) as [Node, Node];
    return this.node("i64", [], () => {
      const { frame } = this;
      const locals = [frame.temporary(I32), frame.temporary(I64)] as const;
      nodes.forEach((node, i) => {
        this.push(node);
        frame.asm.set(locals[i] as number);
      });
      atomicUpdate(frame.asm, op, size, ...locals, (type) => frame.temporary(type));
    }, { pinned: true });
  }
  /** The old value, where `value` (its low bytes) is stored if it is `expected`. */
  #compareExchange(at: V32, size: AccessSize, expected: V64, value: V64): V64 {
    const cut = [this.#cut(expected, size), this.#cut(value, size)];
    const nodes = [at, ...cut].map((v) => this.use(v));
    return this.node("i64", [], () => {
      for (const node of nodes) this.push(node);
      this.frame.asm.cmpxchg(size);
    }, { pinned: true });
  }
  #updated(op: AtomicOp, old: V64, operand: V64, size: AccessSize): V64 {
    const signed = op === "smax" || op === "smin";
    const x = this.#cut(old, size, signed), y = this.#cut(operand, size, signed);
    switch (op) {
      case "swap":
        return operand;
      case "add":
        return this.add(old, operand);
      case "clear":
        return this.and(old, this.not(operand));
      case "xor":
        return this.xor(old, operand);
      case "set":
        return this.or(old, operand);
      case "smax":
        return this.select(this.ltS(x, y), operand, old);
      case "smin":
        return this.select(this.ltS(x, y), old, operand);
      case "umax":
        return this.select(this.ltU(x, y), operand, old);
      case "umin":
        return this.select(this.ltU(x, y), old, operand);
    }
  }
  compareAndSwap(address: V64, size: AccessSize, expected: V64, value: V64): V64 {
    const at = this.address(address, ACCESS.WRITE, size, {});
    if (this.parallel) return this.#compareExchange(at, size, expected, value);
    const old = this.loadAt(at, size);
    const same = this.eq(old, this.#cut(expected, size));
    this.storeAt(at, size, this.select(same, value, old));
    return old;
  }
  compareAndSwapPair(
    address: V64,
    size: 4 | 8,
    expected: readonly [V64, V64],
    values: readonly [V64, V64],
  ): readonly [V64, V64] {
    const at = this.address(address, ACCESS.WRITE, 2 * size, {});
    if (this.parallel) return this.#swapPairAt(at, size, expected, values);
    const old = [this.loadAt(at, size), this.loadAt(at, size, size)] as const;
    const same = this.and(
      this.eq(old[0], this.#cut(expected[0], size)),
      this.eq(old[1], this.#cut(expected[1], size)),
    );
    this.storeAt(at, size, this.select(same, values[0], old[0]));
    this.storeAt(at, size, this.select(same, values[1], old[1]), size);
    return old;
  }
  #swapPairAt(
    at: V32,
    size: 4 | 8,
    expected: readonly [V64, V64],
    values: readonly [V64, V64],
  ): readonly [V64, V64] {
    if (size === 4) {
      const [from, to] = [this.#joined(expected), this.#joined(values)];
      const both = this.#compareExchange(at, 8, from, to);
      return [this.zext(this.wrap(both)), this.shrU(both, this.c64(32))];
    }
    return this.#alone(() => {
      const old = [this.loadAt(at, 8), this.loadAt(at, 8, 8)] as const;
      const same = this.and(this.eq(old[0], expected[0]), this.eq(old[1], expected[1]));
      this.when(same, () => values.forEach((value, i) => this.storeAt(at, 8, value, 8 * i)));
      return old;
    });
  }
  /** Two words as one doubleword. */
  #joined([low, high]: readonly [V64, V64]): V64 {
    return this.or(this.zext(this.wrap(low)), this.shl(high, this.c64(32)));
  }
}
