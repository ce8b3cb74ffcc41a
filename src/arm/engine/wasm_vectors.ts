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
import type { AnyValue, Node } from "./wasm_nodes.ts";

const O = CpuLayout.offset;

/**
 * A slot that is known. A row may name the upper half of a vector register as a slot, whose low half it
 * reads then: it stays a half of the register here, which a register in a local could not be otherwise.
 */
export function constantSlot(offset: number): Slot {
  const upper = offset > O.vreg && offset < vregOffset(32) && (offset - O.vreg) % 16 === 8;
  return { slot: true, offset: upper ? offset - 8 : offset, upper } as unknown as Slot;
}

function upperHalf(slot: Slot): boolean {
  return (slot as Slot & { readonly upper?: boolean }).upper ?? false;
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
    if (low) (value as unknown as Node).lowOf = { slot, bits: 64 };
    return value;
  }
  setV(slot: Slot, low: V64, high: V64): void {
    const { bitsOf } = low as unknown as Node;
    if ((high as unknown as Node).value === 0n && !upperHalf(slot)) {
      if (bitsOf === undefined) return this.setQ(slot, this.v128(low, high));
      return this.setRegister(slot, bitsOf.type as "f32" | "f64", bitsOf);
    }
    this.setRegister(slot, "low", low);
    this.setRegister(slot, "high", high);
  }

  q(slot: Slot): V128 {
    return this.register("v128", slot, "q");
  }
  setQ(slot: Slot, value: V128): void {
    this.setRegister(slot, "q", value);
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
    return this.node("v128", [], () => this.frame.asm.v128(low, high), { repeat: true });
  }
  v128(low: V64, high: V64): V128 {
    const { loadOf } = low as unknown as Node;
    if ((high as unknown as Node).value !== 0n) {
      return this.withLane(64, this.splat(64, low), 1, high);
    }
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
    return this.#vectorNode(b ? [a, b] : [a], () => this.frame.asm.vector(op));
  }
  vectorTest(op: VectorTest, a: V128): V32 {
    return this.node("i32", [a], () => {
      this.push(a);
      this.frame.asm.vector(op);
    });
  }
  bitselect(mask: V128, a: V128, b: V128): V128 {
    return this.#vectorNode([a, b, mask], () => this.frame.asm.vector("v128.bitselect"));
  }
  shuffle(lanes: readonly number[], a: V128, b: V128): V128 {
    return this.#vectorNode([a, b], () => this.frame.asm.shuffle(lanes));
  }
  /** A value as the lane instructions take it. */
  #laneValue(bits: LaneBits, value: V64): Value {
    return bits === 64 ? value : this.wrap(value);
  }
  splat(bits: LaneBits, value: V64): V128 {
    return this.#vectorNode([this.#laneValue(bits, value)], () => this.frame.asm.splat(bits));
  }
  lane(bits: LaneBits, a: V128, index: number): V64 {
    return this.node("i64", [a], () => {
      this.push(a);
      this.frame.asm.extractLane(bits, index);
      if (bits !== 64) this.frame.asm.op("i64.extend_i32_u");
    });
  }
  withLane(bits: LaneBits, a: V128, index: number, value: V64): V128 {
    return this.#vectorNode(
      [a, this.#laneValue(bits, value)],
      () => this.frame.asm.replaceLane(bits, index),
    );
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
