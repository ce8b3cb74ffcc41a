/**
 * The reference: executes one instruction directly from its row, in bigints, slow and obvious. It is
 * what the interpreter is compared with, and what executes every instruction that generated code
 * leaves to it (system instructions, device accesses, accesses that cross a page).
 */
import { MASK64, signExtend64, u64 } from "../../base/bits.ts";
import { type Cpu, CpuLayout } from "../arch/cpu_state.ts";
import type {
  AccessOptions,
  AccessSize,
  AtomicOp,
  Barrier,
  BranchKind,
  Builder,
  ExceptionCall,
  Hint,
  Slot,
  V128,
  V32,
  V64,
  Value,
} from "../isa/builder.ts";
import type {
  LaneBits,
  VectorBinary,
  VectorShift,
  VectorTest,
  VectorUnary,
} from "../isa/vector_ops.ts";
import type { Consts, Decoded, Row, Shape, Slots } from "../isa/row.ts";
import type { Environment } from "./environment.ts";
import { type FpSize, FpState } from "../fp/format.ts";
import { evaluateFp, type FpOperation, isComparison } from "../fp/operations.ts";
import { applyVector, Lanes, lanes, shiftVector, testVector } from "./vector_lanes.ts";

class Concrete {
  constructor(readonly type: "i32" | "i64", readonly bits: bigint) {}
}

const M32 = 0xffff_ffffn;

function v32(bits: bigint): V32 {
  return new Concrete("i32", bits & M32) as V32;
}
function v64(bits: bigint): V64 {
  return new Concrete("i64", bits & MASK64) as V64;
}
function bitsOf(v: Value): bigint {
  return (v as unknown as Concrete).bits;
}
function numberOf(v: V32): number {
  return Number(bitsOf(v));
}
function widthOf(v: Value): bigint {
  return v.type === "i64" ? 64n : 32n;
}
function signedOf(v: Value): bigint {
  return BigInt.asIntN(v.type === "i64" ? 64 : 32, bitsOf(v));
}
function like<T extends Value>(v: T, bits: bigint): T {
  return (v.type === "i64" ? v64(bits) : v32(bits)) as T;
}
function flag(condition: boolean): V32 {
  return v32(condition ? 1n : 0n);
}
function vector(lanes: Lanes): V128 {
  return lanes as unknown as V128;
}
function lanesOf(v: V128): Lanes {
  return v as unknown as Lanes;
}
function sameType(a: Value | V128, b: Value | V128): void {
  if (a.type !== b.type) throw new RangeError(`operands of types ${a.type} and ${b.type}`);
}

/** What each operation stores; both operands are unsigned and `bits` wide. */
const ATOMIC: Readonly<Record<AtomicOp, (x: bigint, y: bigint, bits: number) => bigint>> = {
  swap: (_, y) => y,
  add: (x, y) => x + y,
  clear: (x, y) => x & ~y,
  xor: (x, y) => x ^ y,
  set: (x, y) => x | y,
  smax: (x, y, bits) => BigInt.asIntN(bits, x) > BigInt.asIntN(bits, y) ? x : y,
  smin: (x, y, bits) => BigInt.asIntN(bits, x) < BigInt.asIntN(bits, y) ? x : y,
  umax: (x, y) => x > y ? x : y,
  umin: (x, y) => x < y ? x : y,
};

/** Executes instructions of one CPU. */
export class Evaluator implements Builder {
  #branched = false;

  constructor(readonly cpu: Cpu, readonly env: Environment) {}

  /** Executes one decoded instruction at the CPU's pc. Throws EXCEPTION_TAKEN when it raised one. */
  execute(row: Row, decoded: Decoded<Shape, Slots, Consts>): void {
    this.#branched = false;
    const operands: Record<string, Slot | V32 | V64> = {};
    for (const [name, offset] of Object.entries(decoded.slots)) {
      operands[name] = (this.cpu.base + offset) as unknown as Slot;
    }
    for (const [name, value] of Object.entries(decoded.consts)) {
      operands[name] = typeof value === "bigint" ? v64(value) : v32(BigInt(value));
    }
    row.semantics(this, operands, decoded.shape);
    if (!this.#branched) this.cpu.pc = u64(this.cpu.pc + 4n);
  }

  #at(slot: Slot): number {
    return slot as unknown as number;
  }

  c32(value: number): V32 {
    return v32(BigInt(value));
  }
  c64(value: bigint | number): V64 {
    return v64(BigInt(value));
  }
  x(slot: Slot): V64 {
    return v64(this.cpu.memory.ld64(this.#at(slot)));
  }
  xPair(slot: Slot): readonly [V64, V64] {
    const at = this.#at(slot);
    return [v64(this.cpu.memory.ld64(at)), v64(this.cpu.memory.ld64(at + 8))];
  }
  w(slot: Slot): V32 {
    return v32(BigInt(this.cpu.memory.ld32(this.#at(slot))));
  }
  setX(slot: Slot, value: V64): void {
    this.cpu.memory.st64(this.#at(slot), bitsOf(value));
  }
  setW(slot: Slot, value: V32): void {
    this.cpu.memory.st64(this.#at(slot), bitsOf(value));
  }

  #binary<T extends Value>(a: T, b: T, f: (x: bigint, y: bigint) => bigint): T {
    sameType(a, b);
    return like(a, f(bitsOf(a), bitsOf(b)));
  }
  #shift<T extends Value>(a: T, b: T, f: (x: bigint, by: bigint, width: bigint) => bigint): T {
    sameType(a, b);
    const width = widthOf(a);
    return like(a, f(bitsOf(a), bitsOf(b) % width, width));
  }
  add<T extends Value>(a: T, b: T): T {
    return this.#binary(a, b, (x, y) => x + y);
  }
  sub<T extends Value>(a: T, b: T): T {
    return this.#binary(a, b, (x, y) => x - y);
  }
  mul<T extends Value>(a: T, b: T): T {
    return this.#binary(a, b, (x, y) => x * y);
  }
  and<T extends Value>(a: T, b: T): T {
    return this.#binary(a, b, (x, y) => x & y);
  }
  or<T extends Value>(a: T, b: T): T {
    return this.#binary(a, b, (x, y) => x | y);
  }
  xor<T extends Value>(a: T, b: T): T {
    return this.#binary(a, b, (x, y) => x ^ y);
  }
  shl<T extends Value>(a: T, b: T): T {
    return this.#shift(a, b, (x, by) => x << by);
  }
  shrU<T extends Value>(a: T, b: T): T {
    return this.#shift(a, b, (x, by) => x >> by);
  }
  shrS<T extends Value>(a: T, b: T): T {
    return this.#shift(a, b, (_, by) => signedOf(a) >> by);
  }
  rotr<T extends Value>(a: T, b: T): T {
    return this.#shift(a, b, (x, by, width) => (x >> by) | (x << (width - by)));
  }
  not<T extends Value>(a: T): T {
    return like(a, ~bitsOf(a));
  }
  neg<T extends Value>(a: T): T {
    return like(a, -bitsOf(a));
  }
  clz<T extends Value>(a: T): T {
    const width = widthOf(a);
    const x = bitsOf(a);
    return like(a, x === 0n ? width : width - BigInt(x.toString(2).length));
  }
  udiv<T extends Value>(a: T, b: T): T {
    return this.#binary(a, b, (x, y) => (y === 0n ? 0n : x / y));
  }
  sdiv<T extends Value>(a: T, b: T): T {
    return this.#binary(a, b, (_, y) => (y === 0n ? 0n : signedOf(a) / signedOf(b)));
  }
  umulh(a: V64, b: V64): V64 {
    return v64((bitsOf(a) * bitsOf(b)) >> 64n);
  }
  smulh(a: V64, b: V64): V64 {
    return v64((signedOf(a) * signedOf(b)) >> 64n);
  }
  eq<T extends Value>(a: T, b: T): V32 {
    sameType(a, b);
    return flag(bitsOf(a) === bitsOf(b));
  }
  ne<T extends Value>(a: T, b: T): V32 {
    sameType(a, b);
    return flag(bitsOf(a) !== bitsOf(b));
  }
  ltU<T extends Value>(a: T, b: T): V32 {
    sameType(a, b);
    return flag(bitsOf(a) < bitsOf(b));
  }
  ltS<T extends Value>(a: T, b: T): V32 {
    sameType(a, b);
    return flag(signedOf(a) < signedOf(b));
  }
  isZero(a: Value): V32 {
    return flag(bitsOf(a) === 0n);
  }
  select<T extends Value | V128>(condition: V32, a: T, b: T): T {
    sameType(a, b);
    return bitsOf(condition) !== 0n ? a : b;
  }
  when(condition: V32, then: () => void): void {
    if (bitsOf(condition) !== 0n) then();
  }
  wrap(a: V64): V32 {
    return v32(bitsOf(a));
  }
  zext(a: V32): V64 {
    return v64(bitsOf(a));
  }
  sext(a: V32): V64 {
    return v64(signedOf(a));
  }
  signExtend<T extends Value>(a: T, bits: 8 | 16 | 32): T {
    return like(a, signExtend64(bitsOf(a), bits));
  }

  #addWithCarry<T extends Value>(a: T, b: T, carry: bigint, setFlags: boolean): T {
    sameType(a, b);
    const width = widthOf(a);
    const unsigned = bitsOf(a) + bitsOf(b) + carry;
    const signed = signedOf(a) + signedOf(b) + carry;
    const result = like(a, unsigned);
    if (setFlags) {
      const n = signedOf(result) < 0n ? 8 : 0;
      const z = bitsOf(result) === 0n ? 4 : 0;
      const c = unsigned >> width !== 0n ? 2 : 0;
      const v = signed !== signedOf(result) ? 1 : 0;
      this.cpu.nzcv = n | z | c | v;
    }
    return result;
  }
  #carry(): bigint {
    return BigInt((this.cpu.nzcv >> 1) & 1);
  }
  addFlags<T extends Value>(a: T, b: T): T {
    return this.#addWithCarry(a, b, 0n, true);
  }
  subFlags<T extends Value>(a: T, b: T): T {
    return this.#addWithCarry(a, this.not(b), 1n, true);
  }
  adc<T extends Value>(a: T, b: T): T {
    return this.#addWithCarry(a, b, this.#carry(), false);
  }
  adcFlags<T extends Value>(a: T, b: T): T {
    return this.#addWithCarry(a, b, this.#carry(), true);
  }
  logicFlags<T extends Value>(a: T): T {
    this.cpu.nzcv = (signedOf(a) < 0n ? 8 : 0) | (bitsOf(a) === 0n ? 4 : 0);
    return a;
  }
  nzcv(): V32 {
    return v32(BigInt(this.cpu.nzcv));
  }
  setNzcv(value: V32): void {
    this.cpu.nzcv = numberOf(value) & 15;
  }
  condition(mask: V32): V32 {
    return flag(((numberOf(mask) >>> this.cpu.nzcv) & 1) === 1);
  }

  pc(): V64 {
    return v64(this.cpu.pc);
  }
  branch(offset: V64, kind: BranchKind = "jump"): void {
    this.branchTo(v64(this.cpu.pc + bitsOf(offset)), kind);
  }
  branchIf(condition: V32, offset: V64): void {
    if (bitsOf(condition) !== 0n) this.branch(offset);
  }
  branchTo(target: V64, _kind: BranchKind): void {
    this.cpu.pc = bitsOf(target);
    this.#branched = true;
  }

  checkSp(base: V64): void {
    this.env.checkSp(bitsOf(base));
  }
  load(address: V64, size: AccessSize, options: AccessOptions = {}): V64 {
    return v64(this.env.load(bitsOf(address), size, options));
  }
  store(address: V64, size: AccessSize, value: V64, options: AccessOptions = {}): void {
    this.env.store(bitsOf(address), size, BigInt.asUintN(size * 8, bitsOf(value)), options);
  }
  loadExclusive(address: V64, size: AccessSize, options: AccessOptions = {}): V64 {
    return v64(this.env.loadExclusive(bitsOf(address), size, 1, options)[0] as bigint);
  }
  loadExclusivePair(address: V64, size: 4 | 8, options: AccessOptions = {}): readonly [V64, V64] {
    const [lo, hi] = this.env.loadExclusive(bitsOf(address), size, 2, options);
    return [v64(lo as bigint), v64(hi as bigint)];
  }
  storeExclusive(address: V64, size: AccessSize, value: V64, options: AccessOptions = {}): V32 {
    const cut = BigInt.asUintN(size * 8, bitsOf(value));
    return v32(BigInt(this.env.storeExclusive(bitsOf(address), size, [cut], options)));
  }
  storeExclusivePair(
    address: V64,
    size: 4 | 8,
    values: readonly [V64, V64],
    options: AccessOptions = {},
  ): V32 {
    const cut = values.map((v) => BigInt.asUintN(size * 8, bitsOf(v)));
    return v32(BigInt(this.env.storeExclusive(bitsOf(address), size, cut, options)));
  }
  clearExclusive(): void {
    this.env.clearExclusive();
  }
  atomic(op: AtomicOp, address: V64, size: AccessSize, operand: V64): V64 {
    const bits = size * 8;
    const y = BigInt.asUintN(bits, bitsOf(operand));
    const update = ([x]: readonly bigint[]) => [
      BigInt.asUintN(bits, ATOMIC[op](x as bigint, y, bits)),
    ];
    return v64(this.env.atomic(bitsOf(address), size, 1, update)[0] as bigint);
  }
  compareAndSwap(address: V64, size: AccessSize, expected: V64, value: V64): V64 {
    const [wanted, stored] = [expected, value].map((v) => BigInt.asUintN(size * 8, bitsOf(v)));
    const update = ([x]: readonly bigint[]) => x === wanted ? [stored as bigint] : undefined;
    return v64(this.env.atomic(bitsOf(address), size, 1, update)[0] as bigint);
  }
  compareAndSwapPair(
    address: V64,
    size: 4 | 8,
    expected: readonly [V64, V64],
    values: readonly [V64, V64],
  ): readonly [V64, V64] {
    const cut = (pair: readonly [V64, V64]) => pair.map((v) => BigInt.asUintN(size * 8, bitsOf(v)));
    const [low, high] = cut(expected);
    const update = ([x, y]: readonly bigint[]) => x === low && y === high ? cut(values) : undefined;
    const [x, y] = this.env.atomic(bitsOf(address), size, 2, update);
    return [v64(x as bigint), v64(y as bigint)];
  }
  prefetch(_address: V64): void {}

  fpAccess(): void {
    this.env.fpAccess();
  }
  v(slot: Slot, half: 0 | 1): V64 {
    return v64(this.cpu.memory.ld64(this.#at(slot) + 8 * half));
  }
  setV(slot: Slot, low: V64, high: V64): void {
    this.cpu.memory.st64(this.#at(slot), bitsOf(low));
    this.cpu.memory.st64(this.#at(slot) + 8, bitsOf(high));
  }
  q(slot: Slot): V128 {
    return this.v128(this.v(slot, 0), this.v(slot, 1));
  }
  setQ(slot: Slot, value: V128): void {
    this.setV(slot, this.lane(64, value, 0), this.lane(64, value, 1));
  }
  fpcr(): V32 {
    return v32(BigInt(this.cpu.fpcr));
  }
  fpsr(): V32 {
    return v32(BigInt(this.cpu.fpsr));
  }
  raiseFpsr(bits: V32): void {
    this.cpu.fpsr = (this.cpu.fpsr | numberOf(bits)) >>> 0;
  }

  #fp(operation: FpOperation, size: FpSize, operands: readonly bigint[]): bigint {
    const state = new FpState(this.cpu.fpcr);
    const result = evaluateFp(state, operation, size, operands);
    this.cpu.fpsr = (this.cpu.fpsr | state.flags) >>> 0;
    return result;
  }
  fp(operation: FpOperation, size: FpSize, ...operands: V64[]): V64 {
    return v64(this.#fp(operation, size, operands.map(bitsOf)));
  }
  fpVector(operation: FpOperation, size: FpSize, q: boolean, ...operands: V128[]): V128 {
    return vector(lanes(size, (i) => {
      if (!q && i >= 64 / size) return 0n;
      const result = this.#fp(operation, size, operands.map((v) => lanesOf(v).get(size, i)));
      return isComparison(operation) ? -result : result;
    }));
  }

  c128(low: bigint, high: bigint): V128 {
    return vector(lanes(64, (i) => i === 0 ? low : high));
  }
  v128(low: V64, high: V64): V128 {
    return this.c128(bitsOf(low), bitsOf(high));
  }
  vector(op: VectorUnary | VectorBinary | VectorShift, a: V128, b?: V128 | V32): V128 {
    if (b === undefined) return vector(applyVector(op, lanesOf(a)));
    if (b.type === "i32") return vector(shiftVector(op, lanesOf(a), bitsOf(b)));
    return vector(applyVector(op, lanesOf(a), lanesOf(b)));
  }
  vectorTest(op: VectorTest, a: V128): V32 {
    return v32(testVector(op, lanesOf(a)));
  }
  bitselect(mask: V128, a: V128, b: V128): V128 {
    return vector(lanes(64, (i) => {
      const m = lanesOf(mask).get(64, i);
      return (lanesOf(a).get(64, i) & m) | (lanesOf(b).get(64, i) & ~m);
    }));
  }
  shuffle(order: readonly number[], a: V128, b: V128): V128 {
    return vector(lanes(8, (i) => {
      const from = order[i] as number;
      return from < 16 ? lanesOf(a).get(8, from) : lanesOf(b).get(8, from - 16);
    }));
  }
  splat(bits: LaneBits, value: V64): V128 {
    return vector(lanes(bits, () => bitsOf(value)));
  }
  lane(bits: LaneBits, a: V128, index: number): V64 {
    return v64(lanesOf(a).get(bits, index));
  }
  withLane(bits: LaneBits, a: V128, index: number, value: V64): V128 {
    return vector(lanes(bits, (i) => i === index ? bitsOf(value) : lanesOf(a).get(bits, i)));
  }
  loadQ(address: V64, options: AccessOptions = {}): V128 {
    const low = this.load(address, 8, { ...options, aligned: options.aligned ?? 16 });
    return this.v128(low, this.load(v64(bitsOf(address) + 8n), 8, options));
  }
  storeQ(address: V64, value: V128, options: AccessOptions = {}): void {
    const low = this.lane(64, value, 0);
    this.store(address, 8, low, { ...options, aligned: options.aligned ?? 16 });
    this.store(v64(bitsOf(address) + 8n), 8, this.lane(64, value, 1), options);
  }

  exceptionCall(call: ExceptionCall, immediate: V32): void {
    this.env.exceptionCall(call, numberOf(immediate));
  }
  mrs(key: number, to: Slot): void {
    this.setX(to, v64(this.env.mrs(key)));
  }
  msr(key: number, value: V64): void {
    this.env.msr(key, bitsOf(value));
  }
  msrImmediate(op1: number, op2: number, immediate: V32): void {
    this.env.msrImmediate(op1, op2, numberOf(immediate));
  }
  sys(key: number, value: V64): void {
    this.env.sys(key, bitsOf(value));
  }
  sysl(key: number, to: Slot): void {
    this.setX(to, v64(this.env.sysl(key)));
  }
  barrier(kind: Barrier): void {
    this.env.barrier(kind);
  }
  hint(kind: Hint): void {
    this.env.hint(kind);
  }
  eret(): void {
    this.env.eret();
    this.#branched = true;
  }
  undefined(): void {
    this.env.undefined();
  }
}

/** Byte offset of the program counter in the CPU state, for those that read it from generated code. */
export const PC_OFFSET = CpuLayout.offset.pc;
