/** Integer arithmetic as nodes, and values as other types. */
import type { V32, V64, Value } from "../isa/builder.ts";
import type { Float } from "./fp_kinds.ts";
import type { OpName } from "./wasm_assembler.ts";
import { type AnyValue, type Node, NodeBuilder, sumOf } from "./wasm_nodes.ts";

/** {@link NodeBuilder} with integer arithmetic. */
export abstract class ArithmeticBuilder extends NodeBuilder {
  #same<T extends AnyValue>(a: T, b: T): T["type"] {
    if (a.type !== b.type) throw new RangeError(`operands of types ${a.type} and ${b.type}`);
    return a.type;
  }
  #binary<T extends Value>(name: string, a: T, b: T): T {
    const type = this.#same(a, b);
    return this.operation(type, `${type}.${name}` as OpName, a, b);
  }
  #compare<T extends Value>(name: string, a: T, b: T): V32 {
    return this.operation("i32", `${this.#same(a, b)}.${name}` as OpName, a, b);
  }
  #const<T extends Value>(like: T, value: bigint | number): T {
    return (like.type === "i64" ? this.c64(value) : this.c32(Number(value))) as T;
  }

  add<T extends Value>(a: T, b: T): T {
    const sum = this.#binary("add", a, b);
    const [x, y, out] = [a, b, sum] as unknown as [Node, Node, Node];
    const base = x.base ?? y.base;
    if (base !== undefined) out.base = base;
    out.sum = [x, y];
    if (y.value !== undefined) {
      const { node, offset } = sumOf(x);
      out.sumOf = { node, offset: offset + Number(y.value) };
    }
    return sum;
  }
  sub<T extends Value>(a: T, b: T): T {
    const out = this.#binary("sub", a, b);
    (out as unknown as Node).difference = [a, b] as unknown as [Node, Node];
    return out;
  }
  mul<T extends Value>(a: T, b: T): T {
    return this.#binary("mul", a, b);
  }
  /** A part of a rotated value is a shifted one, which needs no mask if it reaches to the end. */
  and<T extends Value>(a: T, b: T): T {
    const { rotated } = a as unknown as Node;
    const { value } = b as unknown as Node;
    if (rotated === undefined || value === undefined) return this.#binary("and", a, b);
    const bits = a.type === "i64" ? 64 : 32;
    const { by } = rotated;
    const of = rotated.of as T;
    const mask = BigInt.asUintN(bits, value);
    const right = (1n << BigInt(bits - by)) - 1n;
    const left = BigInt.asUintN(bits, ~right);
    if ((mask & left) === 0n) {
      const part = by === 0 ? of : this.shrU(of, this.#const(of, by));
      return mask === right ? part : this.#binary("and", part, b);
    }
    if ((mask & right) !== 0n) return this.#binary("and", a, b);
    const part = this.shl(of, this.#const(of, bits - by));
    return mask === left ? part : this.#binary("and", part, b);
  }
  or<T extends Value>(a: T, b: T): T {
    const out = this.#binary("or", a, b);
    (out as unknown as Node).either = [a, b] as unknown as [Node, Node];
    return out;
  }
  xor<T extends Value>(a: T, b: T): T {
    return this.#binary("xor", a, b);
  }
  /** Two shifts in a row by constants are one. */
  shl<T extends Value>(a: T, b: T): T {
    const { value } = b as unknown as Node;
    if (value === undefined) return this.#binary("shl", a, b);
    const bits = a.type === "i64" ? 64 : 32;
    const { shifted } = a as unknown as Node;
    const by = (Number(value) & (bits - 1)) + (shifted?.by ?? 0);
    if (by >= bits) return this.#const(a, 0);
    const of = (shifted?.of ?? a) as T;
    const out = this.#binary("shl", of, this.#const(a, by));
    (out as unknown as Node).shifted = { of, by };
    return out;
  }
  shrU<T extends Value>(a: T, b: T): T {
    return this.#binary("shr_u", a, b);
  }
  /** A value shifted left and right again as far has its sign extended. */
  shrS<T extends Value>(a: T, b: T): T {
    const { shifted } = a as unknown as Node;
    const left = (a.type === "i64" ? 64 : 32) - (shifted?.by ?? 0);
    if (shifted && Number((b as unknown as Node).value) === shifted.by) {
      const of = shifted.of as T;
      if (left === 8 || left === 16 || left === 32) return this.signExtend(of, left);
    }
    return this.#binary("shr_s", a, b);
  }
  rotr<T extends Value>(a: T, b: T): T {
    const out = this.#binary("rotr", a, b);
    const { value } = b as unknown as Node;
    const bits = a.type === "i64" ? 64n : 32n;
    if (value !== undefined) {
      (out as unknown as Node).rotated = { of: a, by: Number(value & (bits - 1n)) };
    }
    return out;
  }
  not<T extends Value>(a: T): T {
    return this.xor(a, this.#const(a, -1));
  }
  neg<T extends Value>(a: T): T {
    return this.sub(this.#const(a, 0), a);
  }
  clz<T extends Value>(a: T): T {
    return this.operation(a.type, `${a.type}.clz`, a);
  }
  udiv<T extends Value>(a: T, b: T): T {
    const zero = this.isZero(b);
    const safe = this.select(zero, this.#const(b, 1), b);
    return this.select(zero, this.#const(a, 0), this.#binary("div_u", a, safe));
  }
  sdiv<T extends Value>(a: T, b: T): T {
    const zero = this.isZero(b);
    const minusOne = this.eq(b, this.#const(b, -1));
    const safe = this.select(this.or(zero, minusOne), this.#const(b, 1), b);
    const quotient = this.#binary("div_s", a, safe);
    return this.select(zero, this.#const(a, 0), this.select(minusOne, this.neg(a), quotient));
  }
  umulh(a: V64, b: V64): V64 {
    const low = this.c64(0xffff_ffff);
    const by32 = this.c64(32);
    const [al, ah] = [this.and(a, low), this.shrU(a, by32)];
    const [bl, bh] = [this.and(b, low), this.shrU(b, by32)];
    const middle = this.add(this.mul(ah, bl), this.shrU(this.mul(al, bl), by32));
    const other = this.add(this.mul(al, bh), this.and(middle, low));
    return this.add(
      this.mul(ah, bh),
      this.add(this.shrU(middle, by32), this.shrU(other, by32)),
    );
  }
  smulh(a: V64, b: V64): V64 {
    const sign = this.c64(63);
    const fromA = this.and(this.shrS(a, sign), b);
    const fromB = this.and(this.shrS(b, sign), a);
    return this.sub(this.umulh(a, b), this.add(fromA, fromB));
  }
  eq<T extends Value>(a: T, b: T): V32 {
    return this.#compare("eq", a, b);
  }
  ne<T extends Value>(a: T, b: T): V32 {
    return this.#compare("ne", a, b);
  }
  ltU<T extends Value>(a: T, b: T): V32 {
    return this.#compare("lt_u", a, b);
  }
  ltS<T extends Value>(a: T, b: T): V32 {
    return this.#compare("lt_s", a, b);
  }
  isZero(a: Value): V32 {
    const { value } = a as unknown as Node;
    if (value !== undefined) return this.c32(value === 0n ? 1 : 0);
    return this.operation("i32", `${a.type}.eqz`, a);
  }
  select<T extends AnyValue>(condition: V32, a: T, b: T): T {
    return this.node(this.#same(a, b), [a, b, condition], () => {
      this.push(a);
      this.push(b);
      this.push(condition);
      if (a.type === "v128") this.frame.asm.selectVector();
      else this.frame.asm.op("select");
    });
  }
  wrap(a: V64): V32 {
    const { recordOffset, value } = a as unknown as Node;
    if (value !== undefined) return this.c32(Number(BigInt.asIntN(32, value)));
    if (recordOffset === undefined) {
      const low: V32 = this.operation("i32", "i32.wrap_i64", a);
      const { lowOf, compared } = a as unknown as Node;
      const node = low as unknown as Node;
      if (lowOf) node.lowOf = { slot: lowOf.slot, bits: 32 };
      if (compared) node.compared = compared;
      return low;
    }
    return this.node("i32", [], () => this.frame.pushOperand("i32", recordOffset));
  }
  zext(a: V32): V64 {
    const { lowOf, value, compared } = a as unknown as Node;
    if (value !== undefined) return this.c64(BigInt.asUintN(32, value));
    const wide: V64 = this.operation("i64", "i64.extend_i32_u", a);
    const node = wide as unknown as Node;
    if (lowOf) node.lowOf = lowOf;
    if (compared) node.compared = compared;
    return wide;
  }
  /** The number of the type whose bits are the lowest of `value`. */
  fromBits(type: "f32" | "f64", value: V64): Float {
    const { lowOf } = value as unknown as Node;
    if (lowOf && (type === "f32" || lowOf.bits === 64)) {
      return this.register(type, lowOf.slot, type);
    }
    if ((value as unknown as Node).value === 0n) return this.float(type, 0);
    if (type === "f64") return this.operation("f64", "f64.reinterpret_i64", value);
    return this.operation("f32", "f32.reinterpret_i32", this.wrap(value));
  }
  /** The bits of a number. */
  toBits(type: "f32" | "f64", number: Float): V64 {
    const bits: V64 = type === "f64"
      ? this.operation("i64", "i64.reinterpret_f64", number)
      : this.zext(this.operation("i32", "i32.reinterpret_f32", number));
    (bits as unknown as Node).bitsOf = number;
    return bits;
  }
  sext(a: V32): V64 {
    return this.operation("i64", "i64.extend_i32_s", a);
  }
  signExtend<T extends Value>(a: T, bits: 8 | 16 | 32): T {
    if (a.type === "i32" && bits === 32) return a;
    return this.operation(a.type, `${a.type}.extend${bits}_s` as OpName, a);
  }
  apply<T extends AnyValue>(type: T["type"], op: OpName, ...operands: AnyValue[]): T {
    return this.operation(type, op, ...operands);
  }
  float(type: "f32" | "f64", value: number): Float {
    return this.node(type, [], () => this.frame.asm[type](value), { repeat: true, number: value });
  }
}
