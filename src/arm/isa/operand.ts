/** Operands of either width, chosen by a row's `sf` shape. */
import type { Builder, Slot, V64, Value } from "./builder.ts";

/** Xn when `sf`, else Wn. */
export function read(b: Builder, sf: number | boolean, slot: Slot): Value {
  return sf ? b.x(slot) : b.w(slot);
}

/** Writes Xd when `sf`, else Wd (clearing the upper half); `value` must be of that width. */
export function write(b: Builder, sf: number | boolean, slot: Slot, value: Value): void {
  if (value.type === "i64") {
    if (!sf) throw new RangeError("a 64-bit value for a W register");
    b.setX(slot, value);
  } else {
    if (sf) throw new RangeError("a 32-bit value for an X register");
    b.setW(slot, value);
  }
}

/** A 64-bit value cut to the instruction's width. */
export function sized(b: Builder, sf: number | boolean, value: V64): Value {
  return sf ? value : b.wrap(value);
}

/** A constant of the instruction's width. */
export function constant(b: Builder, sf: number | boolean, value: bigint | number): Value {
  return sf ? b.c64(value) : b.c32(Number(BigInt.asIntN(32, BigInt(value))));
}
