/** Data Processing -- Register (manual: C4.1.95), the integer part of Armv8.0 without CRC32. */
import type { Builder, Slot, V32, V64, Value } from "./builder.ts";
import { constant, read, sized, write } from "./operand.ts";
import { conditionMask, type Row, row, xr, xsp, xw } from "./row.ts";
import { condition, EXTENDS, hex, reg, regSp, shifted } from "./text.ts";

type Shift = "shl" | "shrU" | "shrS" | "rotr";

const SHIFT_OPS = ["shl", "shrU", "shrS", "rotr"] as const;

interface LogicalShifted {
  readonly f: number;
  readonly o: number;
  readonly N: number;
  readonly m: number;
  readonly s: number;
  readonly n: number;
  readonly d: number;
}

const LOGIC_NAMES = ["and", "orr", "eor", "ands", "bic", "orn", "eon", "bics"] as const;

function logicalText(f: LogicalShifted, type: number): string {
  const m = `${reg(f.f, f.m)}${shifted(type, f.s)}`;
  if (f.o === 1 && f.n === 31 && f.N) return `mvn\t${reg(f.f, f.d)}, ${m}`;
  if (f.o === 1 && f.n === 31 && f.s === 0 && type === 0) return `mov\t${reg(f.f, f.d)}, ${m}`;
  if (f.o === 3 && f.d === 31 && !f.N) return `tst\t${reg(f.f, f.n)}, ${m}`;
  return `${LOGIC_NAMES[f.N * 4 + f.o]}\t${reg(f.f, f.d)}, ${reg(f.f, f.n)}, ${m}`;
}

function logicalPredecode(f: LogicalShifted, shift: Shift) {
  if (f.f === 0 && f.s >= 32) return null;
  return {
    shape: { sf: f.f, opc: f.o, invert: f.N, shift },
    slots: { d: xw(f.d), n: xr(f.n), m: xr(f.m) },
    consts: { amount: BigInt(f.s) },
  };
}

type ShiftedOperands = {
  readonly d: Slot;
  readonly n: Slot;
  readonly m: Slot;
  readonly amount: V64;
};

function logicalSemantics(
  b: Builder,
  o: ShiftedOperands,
  shape: { sf: number; opc: number; invert: number; shift: Shift },
): void {
  const { sf, opc, invert } = shape;
  const y = b[shape.shift](read(b, sf, o.m), sized(b, sf, o.amount));
  const x = read(b, sf, o.n);
  const operand = invert ? b.not(y) : y;
  const result = opc === 1 ? b.or(x, operand) : opc === 2 ? b.xor(x, operand) : b.and(x, operand);
  write(b, sf, o.d, opc === 3 ? b.logicFlags(result) : result);
}

interface AddShifted {
  readonly f: number;
  readonly o: number;
  readonly s: number;
  readonly m: number;
  readonly i: number;
  readonly n: number;
  readonly d: number;
}

function addName(sub: number, setFlags: number): string {
  return (sub ? "sub" : "add") + (setFlags ? "s" : "");
}

function addShiftedText(f: AddShifted, type: number): string {
  const m = `${reg(f.f, f.m)}${shifted(type, f.i)}`;
  if (f.s && f.d === 31) return `${f.o ? "cmp" : "cmn"}\t${reg(f.f, f.n)}, ${m}`;
  if (f.o && f.n === 31) return `neg${f.s ? "s" : ""}\t${reg(f.f, f.d)}, ${m}`;
  return `${addName(f.o, f.s)}\t${reg(f.f, f.d)}, ${reg(f.f, f.n)}, ${m}`;
}

function addShiftedPredecode(f: AddShifted, shift: Shift) {
  if (f.f === 0 && f.i >= 32) return null;
  return {
    shape: { sf: f.f, sub: f.o, setFlags: f.s, shift },
    slots: { d: xw(f.d), n: xr(f.n), m: xr(f.m) },
    consts: { amount: BigInt(f.i) },
  };
}

function addOrSub(b: Builder, sub: number, setFlags: number, x: Value, y: Value): Value {
  const op = sub ? (setFlags ? "subFlags" : "sub") : (setFlags ? "addFlags" : "add");
  return b[op](x, y);
}

function addShiftedSemantics(
  b: Builder,
  o: ShiftedOperands,
  shape: { sf: number; sub: number; setFlags: number; shift: Shift },
): void {
  const { sf, sub, setFlags } = shape;
  const y = b[shape.shift](read(b, sf, o.m), sized(b, sf, o.amount));
  write(b, sf, o.d, addOrSub(b, sub, setFlags, read(b, sf, o.n), y));
}

interface AddExtended {
  readonly f: number;
  readonly p: number;
  readonly s: number;
  readonly m: number;
  readonly o: number;
  readonly i: number;
  readonly n: number;
  readonly d: number;
}

function addExtendedText(f: AddExtended): string {
  const usesSp = f.n === 31 || (f.d === 31 && !f.s);
  const plain = usesSp && f.o === (f.f ? 3 : 2);
  const amount = f.i ? ` #${f.i}` : "";
  const extension = plain ? (f.i ? `, lsl${amount}` : "") : `, ${EXTENDS[f.o]}${amount}`;
  const m = `${reg(f.f && (f.o & 3) === 3, f.m)}${extension}`;
  if (f.s && f.d === 31) return `${f.p ? "cmp" : "cmn"}\t${regSp(f.f, f.n)}, ${m}`;
  const rd = f.s ? reg(f.f, f.d) : regSp(f.f, f.d);
  return `${addName(f.p, f.s)}\t${rd}, ${regSp(f.f, f.n)}, ${m}`;
}

/** Extension `option` as the constants of `((x & mask) ^ sign) - sign`. */
function extension(option: number): { readonly mask: bigint; readonly sign: bigint } {
  const bits = BigInt(8 << (option & 3));
  const mask = (1n << bits) - 1n;
  const signed = option >= 4 && bits < 64n;
  return { mask, sign: signed ? 1n << (bits - 1n) : 0n };
}

interface ConditionalCompare {
  readonly f: number;
  readonly o: number;
  readonly m: number;
  readonly c: number;
  readonly n: number;
  readonly v: number;
}

function conditionalCompareText(f: ConditionalCompare, operand: string): string {
  const name = f.o ? "ccmp" : "ccmn";
  return `${name}\t${reg(f.f, f.n)}, ${operand}, ${hex(f.v)}, ${condition(f.c)}`;
}

function conditionalCompare(
  b: Builder,
  shape: { sf: number; sub: number },
  o: { readonly n: Slot; readonly cond: V32; readonly nzcv: V32 },
  operand: Value,
): void {
  const holds = b.condition(o.cond);
  addOrSub(b, shape.sub, 1, read(b, shape.sf, o.n), operand);
  b.when(b.isZero(holds), () => b.setNzcv(o.nzcv));
}

interface ConditionalSelect {
  readonly f: number;
  readonly o: number;
  readonly i: number;
  readonly m: number;
  readonly c: number;
  readonly n: number;
  readonly d: number;
}

function conditionalSelectText(f: ConditionalSelect): string {
  const kind = f.o * 2 + f.i;
  const rd = reg(f.f, f.d);
  if (kind !== 0 && f.n === f.m && f.c < 14) {
    const inverse = condition(f.c ^ 1);
    if (f.n === 31 && kind !== 3) return `${kind === 1 ? "cset" : "csetm"}\t${rd}, ${inverse}`;
    return `${["", "cinc", "cinv", "cneg"][kind]}\t${rd}, ${reg(f.f, f.n)}, ${inverse}`;
  }
  const name = ["csel", "csinc", "csinv", "csneg"][kind];
  return `${name}\t${rd}, ${reg(f.f, f.n)}, ${reg(f.f, f.m)}, ${condition(f.c)}`;
}

interface ThreeSource {
  readonly o: number;
  readonly m: number;
  readonly a: number;
  readonly n: number;
  readonly d: number;
}

/** `names`: with addend, subtracting, and the aliases of both where the addend is the zero register. */
function threeSourceText(
  f: ThreeSource,
  names: readonly [string, string, string, string],
  sf: number,
  sourceSf: number,
): string {
  const name = names[(f.a === 31 ? 2 : 0) + f.o];
  const addend = f.a === 31 ? "" : `, ${reg(sf, f.a)}`;
  return `${name}\t${reg(sf, f.d)}, ${reg(sourceSf, f.n)}, ${reg(sourceSf, f.m)}${addend}`;
}

function threeSlots(f: { readonly m: number; readonly n: number; readonly d: number }) {
  return { d: xw(f.d), n: xr(f.n), m: xr(f.m) };
}

function twoSourceText(
  name: string,
  f: { readonly f: number; readonly m: number; readonly n: number; readonly d: number },
): string {
  return `${name}\t${reg(f.f, f.d)}, ${reg(f.f, f.n)}, ${reg(f.f, f.m)}`;
}

/** Swaps neighbouring groups of `by` bits; `mask` selects the lower group of each pair. */
function swapGroups(b: Builder, sf: number, x: Value, by: number, mask: bigint): Value {
  const keep = constant(b, sf, mask);
  const amount = constant(b, sf, by);
  return b.or(b.shl(b.and(x, keep), amount), b.and(b.shrU(x, amount), keep));
}

const BYTES = 0x00ff_00ff_00ff_00ffn;
const HALVES = 0x0000_ffff_0000_ffffn;

/** Reverses the bytes within groups of 16, 32 or 64 bits. */
function reverseBytes(b: Builder, sf: number, x: Value, group: number): Value {
  let result = swapGroups(b, sf, x, 8, BYTES);
  if (group > 16 && sf === 0) result = b.rotr(result, b.c32(16) as Value);
  if (group > 16 && sf === 1) result = swapGroups(b, sf, result, 16, HALVES);
  return group > 32 ? b.rotr(result, b.c64(32) as Value) : result;
}

function reverseBits(b: Builder, sf: number, x: Value): Value {
  const ones = swapGroups(b, sf, x, 1, 0x5555_5555_5555_5555n);
  const twos = swapGroups(b, sf, ones, 2, 0x3333_3333_3333_3333n);
  const fours = swapGroups(b, sf, twos, 4, 0x0f0f_0f0f_0f0f_0f0fn);
  return reverseBytes(b, sf, fours, sf ? 64 : 32);
}

function countLeadingSign(b: Builder, sf: number, x: Value): Value {
  const changes = b.xor(x, b.shrS(x, constant(b, sf, 1)));
  return b.sub(b.clz(changes), constant(b, sf, 1));
}

function oneSource(b: Builder, sf: number, opcode: number, x: Value): Value {
  if (opcode === 0) return reverseBits(b, sf, x);
  if (opcode === 4) return b.clz(x);
  if (opcode === 5) return countLeadingSign(b, sf, x);
  return reverseBytes(b, sf, x, 8 << opcode);
}

export const dataProcessingRegister: readonly Row[] = [
  row({
    name: "LOGIC_lsl",
    pattern: "foo0101000Nmmmmmssssssnnnnnddddd",
    disassemble: (f) => logicalText(f, 0),
    predecode: (f) => logicalPredecode(f, "shl"),
    semantics: (b, o, shape) => logicalSemantics(b, o, shape),
  }),
  row({
    name: "LOGIC_lsr",
    pattern: "foo0101001Nmmmmmssssssnnnnnddddd",
    disassemble: (f) => logicalText(f, 1),
    predecode: (f) => logicalPredecode(f, "shrU"),
    semantics: (b, o, shape) => logicalSemantics(b, o, shape),
  }),
  row({
    name: "LOGIC_asr_ror",
    pattern: "foo010101tNmmmmmssssssnnnnnddddd",
    disassemble: (f) => logicalText(f, 2 + f.t),
    predecode: (f) => logicalPredecode(f, f.t ? "rotr" : "shrS"),
    semantics: (b, o, shape) => logicalSemantics(b, o, shape),
  }),
  row({
    name: "ADDSUB_lsl",
    pattern: "fos01011000mmmmmiiiiiinnnnnddddd",
    disassemble: (f) => addShiftedText(f, 0),
    predecode: (f) => addShiftedPredecode(f, "shl"),
    semantics: (b, o, shape) => addShiftedSemantics(b, o, shape),
  }),
  row({
    name: "ADDSUB_lsr",
    pattern: "fos01011010mmmmmiiiiiinnnnnddddd",
    disassemble: (f) => addShiftedText(f, 1),
    predecode: (f) => addShiftedPredecode(f, "shrU"),
    semantics: (b, o, shape) => addShiftedSemantics(b, o, shape),
  }),
  row({
    name: "ADDSUB_asr",
    pattern: "fos01011100mmmmmiiiiiinnnnnddddd",
    disassemble: (f) => addShiftedText(f, 2),
    predecode: (f) => addShiftedPredecode(f, "shrS"),
    semantics: (b, o, shape) => addShiftedSemantics(b, o, shape),
  }),
  row({
    name: "ADDSUB_ext",
    pattern: "fps01011001mmmmmoooiiinnnnnddddd",
    disassemble: addExtendedText,
    predecode: (f) => {
      if (f.i > 4) return null;
      return {
        shape: { sf: f.f, sub: f.p, setFlags: f.s },
        slots: { d: f.s ? xw(f.d) : xsp(f.d), n: xsp(f.n), m: xr(f.m) },
        consts: { ...extension(f.o), amount: f.i },
      };
    },
    semantics: (b, o, { sf, sub, setFlags }) => {
      const extended = b.sub(b.xor(b.and(b.x(o.m), o.mask), o.sign), o.sign);
      const y = sized(b, sf, b.shl(extended, b.zext(o.amount)));
      write(b, sf, o.d, addOrSub(b, sub, setFlags, read(b, sf, o.n), y));
    },
  }),
  row({
    name: "ADCSBC",
    pattern: "fos11010000mmmmm000000nnnnnddddd",
    disassemble: (f) => {
      const s = f.s ? "s" : "";
      if (f.o && f.n === 31) return `ngc${s}\t${reg(f.f, f.d)}, ${reg(f.f, f.m)}`;
      return twoSourceText(`${f.o ? "sbc" : "adc"}${s}`, f);
    },
    predecode: (f) => ({
      shape: { sf: f.f, sub: f.o, setFlags: f.s },
      slots: threeSlots(f),
      consts: {},
    }),
    semantics: (b, o, { sf, sub, setFlags }) => {
      const m = read(b, sf, o.m);
      const result = b[setFlags ? "adcFlags" : "adc"](read(b, sf, o.n), sub ? b.not(m) : m);
      write(b, sf, o.d, result);
    },
  }),
  row({
    name: "DIV",
    pattern: "f0011010110mmmmm00001onnnnnddddd",
    disassemble: (f) => twoSourceText(f.o ? "sdiv" : "udiv", f),
    predecode: (f) => ({
      shape: { sf: f.f, signed: f.o },
      slots: threeSlots(f),
      consts: {},
    }),
    semantics: (b, o, { sf, signed }) =>
      write(b, sf, o.d, b[signed ? "sdiv" : "udiv"](read(b, sf, o.n), read(b, sf, o.m))),
  }),
  row({
    name: "SHIFT_reg",
    pattern: "f0011010110mmmmm0010ttnnnnnddddd",
    disassemble: (f) => twoSourceText(["lsl", "lsr", "asr", "ror"][f.t] as string, f),
    predecode: (f) => ({
      shape: { sf: f.f, shift: SHIFT_OPS[f.t] as Shift },
      slots: threeSlots(f),
      consts: {},
    }),
    semantics: (b, o, { sf, shift }) =>
      write(b, sf, o.d, b[shift](read(b, sf, o.n), read(b, sf, o.m))),
  }),
  row({
    name: "DP_1src",
    pattern: "f101101011000000000ooonnnnnddddd",
    disassemble: (f) => {
      const rev = f.f ? "rev32" : "rev";
      const name = ["rbit", "rev16", rev, "rev", "clz", "cls"][f.o];
      return `${name}\t${reg(f.f, f.d)}, ${reg(f.f, f.n)}`;
    },
    predecode: (f) => {
      if (f.o > 5 || (f.o === 3 && f.f === 0)) return null;
      return {
        shape: { sf: f.f, opcode: f.o },
        slots: { d: xw(f.d), n: xr(f.n) },
        consts: {},
      };
    },
    semantics: (b, o, { sf, opcode }) =>
      write(b, sf, o.d, oneSource(b, sf, opcode, read(b, sf, o.n))),
  }),
  row({
    name: "CCMP_reg",
    pattern: "fo111010010mmmmmcccc00nnnnn0vvvv",
    disassemble: (f) => conditionalCompareText(f, reg(f.f, f.m)),
    predecode: (f) => ({
      shape: { sf: f.f, sub: f.o },
      slots: { n: xr(f.n), m: xr(f.m) },
      consts: { cond: conditionMask(f.c), nzcv: f.v },
    }),
    semantics: (b, o, shape) => conditionalCompare(b, shape, o, read(b, shape.sf, o.m)),
  }),
  row({
    name: "CCMP_imm",
    pattern: "fo111010010mmmmmcccc10nnnnn0vvvv",
    disassemble: (f) => conditionalCompareText(f, hex(f.m)),
    predecode: (f) => ({
      shape: { sf: f.f, sub: f.o },
      slots: { n: xr(f.n) },
      consts: { imm: BigInt(f.m), cond: conditionMask(f.c), nzcv: f.v },
    }),
    semantics: (b, o, shape) => conditionalCompare(b, shape, o, sized(b, shape.sf, o.imm)),
  }),
  row({
    name: "CSEL",
    pattern: "fo011010100mmmmmcccc0innnnnddddd",
    disassemble: conditionalSelectText,
    predecode: (f) => ({
      shape: { sf: f.f, invert: f.o, increment: f.i },
      slots: threeSlots(f),
      consts: { cond: conditionMask(f.c) },
    }),
    semantics: (b, o, { sf, invert, increment }) => {
      const m = read(b, sf, o.m);
      const other = invert
        ? (increment ? b.neg(m) : b.not(m))
        : (increment ? b.add(m, constant(b, sf, 1)) : m);
      write(b, sf, o.d, b.select(b.condition(o.cond), read(b, sf, o.n), other));
    },
  }),
  row({
    name: "MADD",
    pattern: "f0011011000mmmmmoaaaaannnnnddddd",
    disassemble: (f) => threeSourceText(f, ["madd", "msub", "mul", "mneg"], f.f, f.f),
    predecode: (f) => ({
      shape: { sf: f.f, sub: f.o },
      slots: { ...threeSlots(f), a: xr(f.a) },
      consts: {},
    }),
    semantics: (b, o, { sf, sub }) => {
      const product = b.mul(read(b, sf, o.n), read(b, sf, o.m));
      write(b, sf, o.d, b[sub ? "sub" : "add"](read(b, sf, o.a), product));
    },
  }),
  row({
    name: "MADDL",
    pattern: "10011011u01mmmmmoaaaaannnnnddddd",
    disassemble: (f) =>
      threeSourceText(
        f,
        f.u ? ["umaddl", "umsubl", "umull", "umnegl"] : ["smaddl", "smsubl", "smull", "smnegl"],
        1,
        0,
      ),
    predecode: (f) => ({
      shape: { unsigned: f.u, sub: f.o },
      slots: { ...threeSlots(f), a: xr(f.a) },
      consts: {},
    }),
    semantics: (b, o, { unsigned, sub }) => {
      const extend = unsigned ? b.zext : b.sext;
      const product = b.mul(extend.call(b, b.w(o.n)), extend.call(b, b.w(o.m)));
      b.setX(o.d, b[sub ? "sub" : "add"](b.x(o.a), product));
    },
  }),
  row({
    name: "MULH",
    pattern: "10011011u10mmmmm0aaaaannnnnddddd",
    disassemble: (f) =>
      `${f.u ? "umulh" : "smulh"}\t${reg(1, f.d)}, ${reg(1, f.n)}, ${reg(1, f.m)}`,
    predecode: (f) => ({ shape: { unsigned: f.u }, slots: threeSlots(f), consts: {} }),
    semantics: (b, o, { unsigned }) =>
      b.setX(o.d, b[unsigned ? "umulh" : "smulh"](b.x(o.n), b.x(o.m))),
  }),
];
