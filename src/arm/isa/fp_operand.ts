/** Floating-point registers as rows use them: elements of 16, 32 or 64 bits, and their names. */
import type { FpSize } from "../fp/format.ts";
import { formatOf, fpInfinity } from "../fp/format.ts";
import type { Builder, Slot, V64 } from "./builder.ts";

/** The size a pattern's type bit `t` means; half precision where the pattern has none. */
export function sizeOfType(f: { readonly t?: number }): FpSize {
  return f.t === undefined ? 16 : f.t ? 64 : 32;
}

/** The letter of a scalar register of `bits` bits. */
export function letterOf(bits: number): string {
  return bits === 16 ? "h" : bits === 32 ? "s" : bits === 64 ? "d" : bits === 8 ? "b" : "q";
}

/** A scalar register: `d3`. */
export function fpReg(bits: number, n: number): string {
  return `${letterOf(bits)}${n}`;
}

/** Several scalar registers of one size: `s1, s2`. */
export function fpRegs(bits: number, ...numbers: number[]): string {
  return numbers.map((n) => fpReg(bits, n)).join(", ");
}

/** A vector register: `v3.4s`. */
export function vectorReg(size: number, q: number | boolean, n: number): string {
  return `v${n}.${(q ? 128 : 64) / size}${letterOf(size)}`;
}

/** Several vector registers of one arrangement. */
export function vectorRegs(size: number, q: number | boolean, ...numbers: number[]): string {
  return numbers.map((n) => vectorReg(size, q, n)).join(", ");
}

/** The element in the lowest bits of a V register, zero-extended. */
export function element(b: Builder, size: FpSize, slot: Slot): V64 {
  const low = b.v(slot, 0);
  if (size === 64) return low;
  const narrow = b.wrap(low);
  return b.zext(size === 32 ? narrow : b.and(narrow, b.c32(0xffff)));
}

/** Writes an element that is zero-extended, and clears the rest of the register. */
export function setElement(b: Builder, slot: Slot, value: V64): void {
  b.setV(slot, value, b.c64(0));
}

/** The sign bit of an element. */
export function signBit(size: FpSize): bigint {
  return 1n << BigInt(size - 1);
}

/** Manual: FPNeg: of any element, NaNs too. */
export function negate(b: Builder, size: FpSize, value: V64): V64 {
  return b.xor(value, b.c64(signBit(size)));
}

/** Manual: FPAbs. */
export function absolute(b: Builder, size: FpSize, value: V64): V64 {
  return b.and(value, b.c64(signBit(size) - 1n));
}

/** Manual: VFPExpandImm: the 8-bit immediate of FMOV as an element. */
export function expandImmediate(size: FpSize, imm8: number): bigint {
  const f = formatOf(size);
  const sign = BigInt(imm8 >> 7) << BigInt(size - 1);
  // The exponent is NOT(b) followed by copies of b, then two bits; the fraction four bits at the top.
  const high = (imm8 >> 6) & 1 ? (1n << BigInt(f.exponent - 3)) - 1n : 1n << BigInt(f.exponent - 3);
  const exponent = (high << 2n) | BigInt((imm8 >> 4) & 3);
  const fraction = BigInt(imm8 & 15) << BigInt(f.fraction - 4);
  return sign | ((exponent << BigInt(f.fraction)) & fpInfinity(size, 0)) | fraction;
}

/** The value of an FMOV immediate as objdump prints it: `1.000000000000000000e+00`. */
export function immediateText(imm8: number): string {
  const exponent = ((imm8 >> 4) & 7) ^ 4;
  const value = (imm8 & 0x80 ? -1 : 1) * (1 + (imm8 & 15) / 16) * 2 ** (exponent - 3);
  return `#${value.toExponential(18).replace(/e([+-])(\d)$/, "e$10$2")}`;
}
