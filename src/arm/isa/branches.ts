/** Branches (manual: C4.1.93, "Branches, Exception Generating and System instructions"). */
import { signExtend } from "../../base/bits.ts";
import { read } from "./operand.ts";
import { conditionMask, type Row, row, xr, xw } from "./row.ts";
import { condition, reg, target } from "./text.ts";

/** The byte offset of a branch whose immediate of `width` bits counts words. */
function offsetOf(imm: number, width: number): number {
  return signExtend(imm, width) * 4;
}

export const branches: readonly Row[] = [
  row({
    name: "B",
    pattern: "000101iiiiiiiiiiiiiiiiiiiiiiiiii",
    disassemble: (f, at) => `b\t${target(at.address, offsetOf(f.i, 26))}`,
    predecode: (f) => ({ shape: {}, slots: {}, consts: { offset: BigInt(offsetOf(f.i, 26)) } }),
    semantics: (b, o) => b.branch(o.offset),
  }),
  row({
    name: "BL",
    pattern: "100101iiiiiiiiiiiiiiiiiiiiiiiiii",
    disassemble: (f, at) => `bl\t${target(at.address, offsetOf(f.i, 26))}`,
    predecode: (f) => ({
      shape: {},
      slots: { link: xw(30) },
      consts: { offset: BigInt(offsetOf(f.i, 26)) },
    }),
    semantics: (b, o) => {
      b.setX(o.link, b.add(b.pc(), b.c64(4)));
      b.branch(o.offset, "call");
    },
  }),
  row({
    name: "B_cond",
    pattern: "01010100iiiiiiiiiiiiiiiiiii0cccc",
    disassemble: (f, at) => `b.${condition(f.c)}\t${target(at.address, offsetOf(f.i, 19))}`,
    predecode: (f) => ({
      shape: {},
      slots: {},
      consts: { offset: BigInt(offsetOf(f.i, 19)), cond: conditionMask(f.c) },
    }),
    semantics: (b, o) => b.branchIf(b.condition(o.cond), o.offset),
  }),
  row({
    name: "CBZ",
    pattern: "f011010oiiiiiiiiiiiiiiiiiiittttt",
    disassemble: (f, at) =>
      `${f.o ? "cbnz" : "cbz"}\t${reg(f.f, f.t)}, ${target(at.address, offsetOf(f.i, 19))}`,
    predecode: (f) => ({
      shape: { sf: f.f, nonzero: f.o },
      slots: { t: xr(f.t) },
      consts: { offset: BigInt(offsetOf(f.i, 19)) },
    }),
    semantics: (b, o, { sf, nonzero }) => {
      const zero = b.isZero(read(b, sf, o.t));
      b.branchIf(nonzero ? b.isZero(zero) : zero, o.offset);
    },
  }),
  row({
    name: "TBZ",
    pattern: "b011011obbbbbiiiiiiiiiiiiiittttt",
    disassemble: (f, at) =>
      `${f.o ? "tbnz" : "tbz"}\t${reg(f.b >> 5, f.t)}, #${f.b}, ${
        target(at.address, offsetOf(f.i, 14))
      }`,
    predecode: (f) => ({
      shape: { nonzero: f.o },
      slots: { t: xr(f.t) },
      consts: { bit: 1n << BigInt(f.b), offset: BigInt(offsetOf(f.i, 14)) },
    }),
    semantics: (b, o, { nonzero }) => {
      const zero = b.isZero(b.and(b.x(o.t), o.bit));
      b.branchIf(nonzero ? b.isZero(zero) : zero, o.offset);
    },
  }),
  row({
    name: "BR",
    pattern: "1101011000011111000000nnnnn00000",
    disassemble: (f) => `br\t${reg(1, f.n)}`,
    predecode: (f) => ({ shape: {}, slots: { n: xr(f.n) }, consts: {} }),
    semantics: (b, o) => b.branchTo(b.x(o.n), "jump"),
  }),
  row({
    name: "BLR",
    pattern: "1101011000111111000000nnnnn00000",
    disassemble: (f) => `blr\t${reg(1, f.n)}`,
    predecode: (f) => ({ shape: {}, slots: { n: xr(f.n), link: xw(30) }, consts: {} }),
    semantics: (b, o) => {
      const to = b.x(o.n);
      b.setX(o.link, b.add(b.pc(), b.c64(4)));
      b.branchTo(to, "call");
    },
  }),
  row({
    name: "RET",
    pattern: "1101011001011111000000nnnnn00000",
    disassemble: (f) => f.n === 30 ? "ret" : `ret\t${reg(1, f.n)}`,
    predecode: (f) => ({ shape: {}, slots: { n: xr(f.n) }, consts: {} }),
    semantics: (b, o) => b.branchTo(b.x(o.n), "return"),
  }),
];
