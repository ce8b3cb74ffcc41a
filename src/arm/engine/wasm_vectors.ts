/** Vector registers, their lanes, and the status of floating point. */
import { CpuLayout, vregOffset } from "../arch/cpu_state.ts";
import { ACCESS } from "../arch/tlb_layout.ts";
import type { AccessOptions, Slot, V128, V32, V64, Value } from "../isa/builder.ts";
import type {
  LaneBits,
  VectorBinary,
  VectorShift,
  VectorTest,
  VectorUnary,
} from "../isa/vector_ops.ts";
import { ExclusiveBuilder } from "./wasm_exclusives.ts";
import type { AnyValue, LowLanes, Node } from "./wasm_nodes.ts";

const O = CpuLayout.offset;

/**
 * A slot that is known. A row may name the upper half of a vector register as a slot, whose low half it
 * reads then: it stays a half of the register here, which a register in a local could not be otherwise.
 */
export function constantSlot(offset: number): Slot {
  const upper = offset > O.vreg && offset < vregOffset(32) && (offset - O.vreg) % 16 === 8;
  return { slot: true, offset: upper ? offset - 8 : offset, upper } as unknown as Slot;
}

/** The high half twice, as a byte order of `shuffle`. */
const HIGH_TWICE = [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15];

/** What the masks of the lowest 64 and 32 bits leave, as numbers. */
const LOWEST: ReadonlyMap<bigint, "f32" | "f64"> = new Map([
  [(1n << 64n) - 1n, "f64"],
  [(1n << 32n) - 1n, "f32"],
]);

/** The index of the one lane of `bits` that a mask has set, if that is all of it. */
function laneOfMask(bits: LaneBits, low: bigint, high: bigint): number | undefined {
  const mask = (high << 64n) | low;
  const lane = (1n << BigInt(bits)) - 1n;
  for (let index = 0; index < 128 / bits; index++) {
    if (mask === lane << BigInt(bits * index)) return index;
  }
  return undefined;
}

/** Undefined of a slot that is not known. */
function upperHalf(slot: Slot): boolean | undefined {
  return (slot as Slot & { readonly upper?: boolean }).upper;
}

/** {@link ExclusiveBuilder} with vector registers. */
export abstract class VectorBuilder extends ExclusiveBuilder {
  get usualFp(): boolean {
    return this.frame.usualFp ?? false;
  }
  fpAccess(): void {
    if (this.usualFp) return;
    this.require(this.steady(O.fpEnabled));
  }
  v(slot: Slot, half: 0 | 1): V64 {
    const low = half === 0 && !upperHalf(slot);
    const value: V64 = this.register("i64", slot, low ? "low" : "high");
    const node = value as unknown as Node;
    if (low) node.lowOf = { slot, bits: 64 };
    if (upperHalf(slot) !== undefined) node.partOf = { slot, at: low ? 0 : 64 };
    return value;
  }
  /** A number without its sign, or with the other. */
  override and<T extends Value>(a: T, b: T): T {
    return this.#withSign("abs", a, b, super.and(a, b));
  }
  override xor<T extends Value>(a: T, b: T): T {
    return this.#withSign("neg", a, b, super.xor(a, b));
  }
  #withSign<T extends Value>(op: "abs" | "neg", a: T, b: T, out: T): T {
    const { lowOf } = a as unknown as Node;
    const { value } = b as unknown as Node;
    if (a.type !== "i64" || lowOf === undefined || value === undefined) return out;
    const { bits, slot } = lowOf;
    const sign = 1n << BigInt(bits - 1);
    if (value !== (op === "abs" ? sign - 1n : sign)) return out;
    const { offset } = slot as unknown as { offset: number };
    (out as unknown as Node).signOf = {
      op,
      slot,
      bits,
      zeroFrom: op === "abs" ? [offset] : undefined,
    };
    return out;
  }
  override shrU<T extends Value>(a: T, b: T): T {
    const out = super.shrU(a, b);
    const { partOf } = a as unknown as Node;
    const { value } = b as unknown as Node;
    if (partOf === undefined || value === undefined) return out;
    (out as unknown as Node).partOf = { slot: partOf.slot, at: partOf.at + Number(value) };
    return out;
  }
  /** Where the low `bits` of a value are a lane of a vector register: the register and the lane's index. */
  #laneOf(bits: LaneBits, value: V64): { readonly slot: Slot; readonly index: number } | undefined {
    const { partOf } = value as unknown as Node;
    if (partOf === undefined || partOf.at % bits !== 0) return undefined;
    return { slot: partOf.slot, index: partOf.at / bits };
  }
  setV(slot: Slot, low: V64, high: V64): void {
    if ((high as unknown as Node).value === 0n && !upperHalf(slot)) {
      return this.#setNumber(slot, low, high);
    }
    this.setRegister(slot, "low", low);
    this.setRegister(slot, "high", high);
  }

  /** Writes the lowest bits of a register and 0 above. */
  #setNumber(slot: Slot, low: V64, high: V64): void {
    const { bitsOf } = low as unknown as Node;
    if (bitsOf !== undefined) {
      return this.setRegister(slot, bitsOf.type as "f32" | "f64", bitsOf);
    }
    const lanes = this.frame.registers.lowParts ? this.#lowLanes(low) : undefined;
    if (lanes !== undefined) return this.#setLanes(slot, lanes);
    this.setQ(slot, this.v128(low, high));
  }
  /** What a value is as the low lane of a vector, if that is how to have it best. */
  #lowLanes(value: V64): LowLanes | undefined {
    const { low, lowOf, partOf, signOf } = value as unknown as Node;
    if (low !== undefined) return low;
    if (lowOf !== undefined) {
      const { slot, bits } = lowOf;
      const vector = this.register("v128", slot, bits === 64 ? "d" : "s");
      return { bits, vector, zeroFrom: [(slot as unknown as { offset: number }).offset] };
    }
    if (signOf !== undefined) {
      const { op, slot, bits, zeroFrom } = signOf;
      const of = this.register("v128", slot, bits === 64 ? "d" : "s");
      return {
        bits,
        vector: this.vector(`${bits === 64 ? "f64x2" : "f32x4"}.${op}`, of),
        zeroFrom,
      };
    }
    if (partOf?.at !== 64) return undefined;
    const all = this.q(partOf.slot);
    return { bits: 64, vector: this.shuffle(HIGH_TWICE, all, all), zeroFrom: undefined };
  }
  /** The vector register of which `value` is the lowest bits, its upper lanes being anything. */
  protected lowest(size: 32 | 64, value: V64): V128 | undefined {
    const { lowOf } = value as unknown as Node;
    if (lowOf === undefined || lowOf.bits < size || !this.frame.registers.lowParts) {
      return undefined;
    }
    return this.register("v128", lowOf.slot, size === 64 ? "d" : "s");
  }
  protected lowBits(lanes: LowLanes): V64 {
    const { bits, vector } = lanes;
    const value: V64 = this.node("i64", [vector], () => {
      this.push(vector);
      this.frame.asm.extractLane(bits, 0);
      if (bits === 32) this.frame.asm.op("i64.extend_i32_u");
    });
    (value as unknown as Node).low = lanes;
    return value;
  }
  q(slot: Slot): V128 {
    return this.register("v128", slot, "q");
  }
  setQ(slot: Slot, value: V128): void {
    const { low, zeroFromBit } = value as unknown as Node;
    if (!this.frame.registers.lowParts) return this.setRegister(slot, "q", value);
    if (low !== undefined) return this.#setLanes(slot, low);
    this.setRegister(slot, zeroFromBit === undefined ? "q" : `q${zeroFromBit}`, value);
  }
  #setLanes(slot: Slot, { bits, vector, zeroFrom }: LowLanes): void {
    this.setRegister(slot, bits === 64 ? "d" : "s", vector, zeroFrom);
  }
  fpcr(): V32 {
    if (this.usualFp) return this.c32(0);
    return this.field(O.fpcr);
  }
  fpsr(): V32 {
    return this.field(O.fpsr);
  }
  raiseFpsr(bits: V32): void {
    this.setField(O.fpsr, this.or(this.field(O.fpsr), bits));
  }

  #vectorNode(args: AnyValue[], op: () => void): V128 {
    return this.node("v128", args, () => {
      for (const a of args) this.push(a);
      op();
    });
  }
  c128(low: bigint, high: bigint): V128 {
    const vector = { low: BigInt.asUintN(64, low), high: BigInt.asUintN(64, high) };
    const zeroFromBit = vector.high > 0n ? undefined : vector.low >> 32n ? 64 : 32;
    return this.node("v128", [], () => this.frame.asm.v128(low, high), {
      repeat: true,
      vector,
      ...(zeroFromBit && { zeroFromBit }),
    });
  }
  v128(low: V64, high: V64): V128 {
    const [{ loadOf, value: lowValue }, { value: highValue }] = [low, high] as unknown as [
      Node,
      Node,
    ];
    if (lowValue !== undefined && highValue !== undefined) return this.c128(lowValue, highValue);
    if (highValue !== 0n) {
      return this.withLane(64, this.splat(64, low), 1, high);
    }
    const out = this.#withoutHigh(low, loadOf);
    (out as unknown as Node).zeroFromBit = loadOf !== undefined && loadOf.size <= 4 ? 32 : 64;
    return out;
  }
  #withoutHigh(low: V64, loadOf: Node["loadOf"]): V128 {
    if (loadOf === undefined || loadOf.size < 4) {
      return this.withLane(64, this.c128(0n, 0n), 0, low);
    }
    const { at, offset, size } = loadOf;
    const place = this.use(at);
    return this.node("v128", [], () => {
      this.push(place);
      this.frame.asm.vectorMem(size === 8 ? "load64_zero" : "load32_zero", offset);
    }, { pinned: true });
  }
  vector(op: VectorUnary | VectorBinary | VectorShift, a: V128, b?: V128 | V32): V128 {
    if (op === "v128.and") {
      const type = LOWEST.get((b as unknown as Node).vector?.low ?? 0n);
      if (type && (b as unknown as Node).vector?.high === 0n) return this.#lowest(type, a);
    }
    const by = (b as unknown as Node | undefined)?.value;
    if (by !== undefined) return this.#shiftLanes(op as VectorShift, a, Number(by));
    return this.#vectorNode(b ? [a, b] : [a], () => this.frame.asm.vector(op));
  }
  /** Lane 0 of numbers, with zeros above. */
  #lowest(type: "f32" | "f64", a: V128): V128 {
    const { asm } = this.frame;
    const low = { bits: type === "f64" ? 64 : 32, vector: a, zeroFrom: undefined };
    return this.node("v128", [a], () => {
      asm.v128(0n, 0n);
      this.push(a);
      asm.extractNumber(type, 0).replaceNumber(type, 0);
    }, { low } as Partial<Node>);
  }
  /** Two shifts to the right in a row by constants are one. */
  #shiftLanes(op: VectorShift, a: V128, amount: number): V128 {
    const { shiftedLanes } = a as unknown as Node;
    const bits = Number(/\d+/.exec(op)?.[0]);
    const again = shiftedLanes?.op === op && !op.endsWith("shl");
    const of = again ? shiftedLanes.of : a;
    const by = amount % bits + (again ? shiftedLanes.by : 0);
    if (by >= bits && op.endsWith("shr_u")) return this.c128(0n, 0n);
    const shift = Math.min(by, bits - 1);
    const out = this.#vectorNode([of, this.c32(shift)], () => this.frame.asm.vector(op));
    (out as unknown as Node).shiftedLanes = { op, of, by: shift };
    return out;
  }
  vectorTest(op: VectorTest, a: V128): V32 {
    return this.node("i32", [a], () => {
      this.push(a);
      this.frame.asm.vector(op);
    });
  }
  bitselect(mask: V128, a: V128, b: V128): V128 {
    const { vector } = mask as unknown as Node;
    const { splatOf } = a as unknown as Node;
    if (vector && splatOf) {
      const { bits, value } = splatOf;
      const index = laneOfMask(bits, vector.low, vector.high);
      if (index !== undefined) return this.withLane(bits, b, index, value);
    }
    return this.#vectorNode([a, b, mask], () => this.frame.asm.vector("v128.bitselect"));
  }
  shuffle(lanes: readonly number[], a: V128, b: V128): V128 {
    return this.#vectorNode([a, b], () => this.frame.asm.shuffle(lanes));
  }
  /** A register of which the lane that begins at a bit is wanted. */
  #laneSource(slot: Slot, bit: number): V128 {
    if (bit >= 64 || !this.frame.registers.lowParts) return this.q(slot);
    return this.register("v128", slot, "d");
  }
  /** A value as the lane instructions take it. */
  #laneValue(bits: LaneBits, value: V64): Value {
    return bits === 64 ? value : this.wrap(value);
  }
  splat(bits: LaneBits, value: V64): V128 {
    const from = this.#laneOf(bits, value);
    if (from !== undefined) {
      const register = this.#laneSource(from.slot, bits * from.index);
      const bytes = bits / 8;
      return this.shuffle(
        Array.from({ length: 16 }, (_, i) => from.index * bytes + i % bytes),
        register,
        register,
      );
    }
    const out = this.#vectorNode(
      [this.#laneValue(bits, value)],
      () => this.frame.asm.splat(bits),
    );
    (out as unknown as Node).splatOf = { bits, value };
    return out;
  }
  lane(bits: LaneBits, a: V128, index: number): V64 {
    return this.node("i64", [a], () => {
      this.push(a);
      this.frame.asm.extractLane(bits, index);
      if (bits !== 64) this.frame.asm.op("i64.extend_i32_u");
    });
  }
  withLane(bits: LaneBits, a: V128, index: number, value: V64): V128 {
    const from = this.#laneOf(bits, value);
    if (from !== undefined) return this.#moveLane(bits, a, index, from.slot, from.index);
    const out = this.#vectorNode(
      [a, this.#laneValue(bits, value)],
      () => this.frame.asm.replaceLane(bits, index),
    );
    const set = { bits, index, of: a as unknown as Node, value: value as unknown as Node };
    (out as unknown as Node).laneSet = set;
    return out;
  }
  /** `a` with lane `index` from lane `from` of a register. */
  #moveLane(bits: LaneBits, a: V128, index: number, slot: Slot, from: number): V128 {
    const { asm } = this.frame;
    const type = bits === 64 ? "f64" : bits === 32 ? "f32" : undefined;
    return this.#vectorNode([a, this.#laneSource(slot, bits * from)], () => {
      if (type) asm.extractNumber(type, from).replaceNumber(type, index);
      else asm.extractLane(bits, from).replaceLane(bits, index);
    });
  }
  loadQ(address: V64, options: AccessOptions = {}): V128 {
    const { at, offset } = this.place(address, ACCESS.READ, 16, options);
    const place = this.use(at);
    return this.node("v128", [], () => {
      this.push(place);
      this.frame.asm.vectorMem("load", offset);
    }, { pinned: true });
  }
  storeQ(address: V64, value: V128, options: AccessOptions = {}): void {
    const { at, offset } = this.place(address, ACCESS.WRITE, 16, options);
    const place = this.use(at);
    const node = this.use(value);
    this.run(() => {
      this.push(place);
      this.push(node);
      this.frame.asm.vectorMem("store", offset);
    });
  }
}
