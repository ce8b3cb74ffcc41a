/**
 * Advanced SIMD load and store of structures (manual: C4.1.94): elements that lie one after the other
 * in memory go to the same lane of one to four registers in turn.
 */
import type { AccessSize, Builder, Slot, V128, V32, V64 } from "./builder.ts";
import { type Row, vr, xr, xsp } from "./row.ts";
import { bytes, eq } from "./simd_lanes.ts";
import { laneBits, listText, vectorRow, write } from "./simd_rows.ts";
import { reg, regSp } from "./text.ts";
import type { LaneBits } from "./vector_ops.ts";

interface Fields {
  readonly q: number;
  readonly l: number;
  /** Offset register of the post-indexed form: 31 means the number of bytes. */
  readonly m: number;
  readonly s: number;
  readonly n: number;
  readonly t: number;
}

const REGISTERS = ["t0", "t1", "t2", "t3"] as const;
type Count = 1 | 2 | 3 | 4;

/** The operands that all of these have: `step` bytes more than m are added to the base. */
type Common = {
  readonly n: Slot;
  readonly m: Slot;
  readonly step: V32;
  readonly sp: V32;
};

function registerSlots(t: number, count: Count): Record<string, number> {
  return Object.fromEntries(
    REGISTERS.slice(0, count).map((name, i) => [name, vr((t + i) % 32)]),
  );
}

function slotsOf(o: object, count: Count): Slot[] {
  const slots = o as Readonly<Record<string, Slot>>;
  return REGISTERS.slice(0, count).map((name) => slots[name] as Slot);
}

/** Slots and constants of base and post-index, for `size` bytes in all. */
function common(f: Fields, post: boolean, count: Count, size: number) {
  const byRegister = post && f.m !== 31;
  return {
    slots: {
      n: xsp(f.n),
      m: xr(byRegister ? f.m : 31),
      ...registerSlots(f.t, count),
    } as Record<string, number> & { n: number; m: number },
    consts: { step: post && !byRegister ? size : 0, sp: f.n === 31 ? 1 : 0 },
  };
}

function addressText(f: Fields, post: boolean, size: number): string {
  const base = `[${regSp(1, f.n)}]`;
  if (!post) return base;
  return `${base}, ${f.m === 31 ? `#${size}` : reg(1, f.m)}`;
}

function baseOf(b: Builder, o: Common): V64 {
  const base = b.x(o.n);
  b.when(o.sp, () => b.checkSp(base));
  return base;
}

function writeBack(b: Builder, o: Common, base: V64): void {
  b.setX(o.n, b.add(base, b.add(b.x(o.m), b.zext(o.step))));
}

/**
 * Sixteen bytes gathered from vectors; `from` gives, for each, a byte of them all in a row, or -1 for
 * any.
 */
function gather(b: Builder, vectors: readonly V128[], from: (byte: number) => number): V128 {
  const pick = (first: number) =>
    Array.from({ length: 16 }, (_, i) => {
      const at = from(i) - 16 * first;
      return at >= 0 && at < 32 ? at : 0;
    });
  const [a, c, d, e] = vectors as [V128, V128?, V128?, V128?];
  const low = b.shuffle(pick(0), a, c ?? a);
  if (!d) return low;
  const high = b.shuffle(pick(2), d, e ?? d);
  return b.shuffle(Array.from({ length: 16 }, (_, i) => from(i) >= 32 ? i + 16 : i), low, high);
}

/** `total` bytes as vectors of 16, the last perhaps of 8. Each element is aligned for itself. */
function loadBytes(b: Builder, base: V64, total: number, aligned: 1 | 2 | 4 | 8): V128[] {
  const out: V128[] = [];
  for (let at = 0; at < total; at += 16) {
    const address = b.add(base, b.c64(at));
    if (total - at >= 16) out.push(b.loadQ(address, { aligned }));
    else out.push(b.v128(b.load(address, 8, { aligned }), b.c64(0)));
  }
  return out;
}

function storeBytes(
  b: Builder,
  base: V64,
  vectors: readonly V128[],
  total: number,
  aligned: 1 | 2 | 4 | 8,
): void {
  vectors.forEach((value, i) => {
    const address = b.add(base, b.c64(16 * i));
    if (total - 16 * i >= 16) b.storeQ(address, value, { aligned });
    else b.store(address, 8, b.lane(64, value, 0), { aligned });
  });
}

/** How the multiple structures of an opcode lie in memory. */
interface Multiple {
  readonly opcode: string;
  readonly count: Count;
  /** Elements of all registers in turn, instead of one register after the other. */
  readonly interleaved: boolean;
}

type MultipleShape = {
  readonly bits: LaneBits;
  readonly width: number;
  readonly load: number;
};

/** Byte `at` of register `r` as the byte of memory it is. */
function memoryByte(r: number, at: number, { count, interleaved }: Multiple, how: MultipleShape) {
  const [size, bytes] = [how.bits / 8, how.width / 8];
  if (!interleaved) return r * bytes + at;
  return (Math.floor(at / size) * count + r) * size + (at % size);
}

/** Byte `at` of memory as the byte of the registers, 16 each, that it is. */
function registerByte(at: number, { count, interleaved }: Multiple, how: MultipleShape): number {
  const [size, bytes] = [how.bits / 8, how.width / 8];
  if (!interleaved) return Math.floor(at / bytes) * 16 + (at % bytes);
  const element = Math.floor(at / size);
  return (element % count) * 16 + Math.floor(element / count) * size + (at % size);
}

function multipleSemantics(
  b: Builder,
  kind: Multiple,
  how: MultipleShape,
  base: V64,
  registers: readonly Slot[],
): void {
  const width = how.width / 8;
  const total = width * kind.count;
  const aligned = (how.bits / 8) as 1 | 2 | 4 | 8;
  if (how.load) {
    const memory = loadBytes(b, base, total, aligned);
    const values = registers.map((_, r) =>
      gather(b, memory, (at) => at < width ? memoryByte(r, at, kind, how) : -1)
    );
    values.forEach((value, r) => write(b, how.width, registers[r] as Slot, value));
    return;
  }
  const values = registers.map((slot) => b.q(slot));
  const memory = Array.from(
    { length: Math.ceil(total / 16) },
    (_, i) =>
      gather(b, values, (at) => 16 * i + at < total ? registerByte(16 * i + at, kind, how) : -1),
  );
  storeBytes(b, base, memory, total, aligned);
}

const LANE_NAMES = ["8b", "16b", "4h", "8h", "2s", "4s", "1d", "2d"] as const;

function multiple(kind: Multiple, post: boolean): Row {
  const { count, interleaved, opcode } = kind;
  const size = (f: Fields) => (f.q ? 16 : 8) * count;
  const structure = interleaved ? count : 1;
  return vectorRow({
    name: `LD${structure}_ST${structure}_multiple_${count}${post ? "_post" : ""}`,
    pattern: `0q001100${post ? "1l0mmmmm" : "0l000000"}${opcode}ssnnnnnttttt`,
    disassemble: (f: Fields) => {
      const list = listText(f.t, count, LANE_NAMES[2 * f.s + f.q] as string);
      return `${f.l ? "ld" : "st"}${structure}\t${list}, ${addressText(f, post, size(f))}`;
    },
    predecode: (f: Fields) =>
      interleaved && f.s === 3 && f.q === 0 ? null : {
        shape: { bits: laneBits(f.s), width: f.q ? 128 : 64, load: f.l },
        ...common(f, post, count, size(f)),
      },
    semantics: (b, o, how) => {
      b.fpAccess();
      const base = baseOf(b, o);
      multipleSemantics(b, kind, how, base, slotsOf(o, count));
      if (post) writeBack(b, o, base);
    },
  });
}

const MULTIPLES: readonly Multiple[] = [
  { opcode: "0000", count: 4, interleaved: true },
  { opcode: "0010", count: 4, interleaved: false },
  { opcode: "0100", count: 3, interleaved: true },
  { opcode: "0110", count: 3, interleaved: false },
  { opcode: "0111", count: 1, interleaved: false },
  { opcode: "1000", count: 2, interleaved: true },
  { opcode: "1010", count: 2, interleaved: false },
];

/** The bits that choose element size and, with Q, the index: of each size, logarithm of bytes `s`. */
const SINGLES = [
  { s: 0, opcode: "00", index: "iii" },
  { s: 1, opcode: "01", index: "ii0" },
  { s: 2, opcode: "10", index: "i00" },
  { s: 3, opcode: "10", index: "001" },
] as const;

interface SingleFields extends Fields {
  /** The bits of the index below Q. */
  readonly i?: number;
}

/** Elements of `count` registers that lie one after the other at `base`. */
function elementAddress(b: Builder, base: V64, i: number, size: number): V64 {
  return i === 0 ? base : b.add(base, b.c64(i * size));
}

/** One lane of each register; the lane is a constant of the record. */
function single(
  { s, opcode, index }: (typeof SINGLES)[number],
  count: Count,
  post: boolean,
): Row {
  const size = (1 << s) as AccessSize;
  const bits = laneBits(s);
  const lane = (f: SingleFields) => s === 3 ? f.q : (f.q << (3 - s)) | (f.i ?? 0);
  const r = count % 2 === 0 ? 1 : 0;
  const top = count > 2 ? 1 : 0;
  return vectorRow({
    name: `LD${count}_ST${count}_single_${bits}${post ? "_post" : ""}`,
    pattern: `0q001101${post ? "1" : "0"}l${r}${post ? "mmmmm" : "00000"}${opcode}${top}${index}` +
      "nnnnnttttt",
    disassemble: (f: SingleFields) => {
      const list = listText(f.t, count, "bhsd"[s] as string);
      const address = addressText(f, post, size * count);
      return `${f.l ? "ld" : "st"}${count}\t${list}[${lane(f)}], ${address}`;
    },
    predecode: (f: SingleFields) => {
      const { slots, consts } = common(f, post, count, size * count);
      return { shape: { load: f.l }, slots, consts: { ...consts, lane: lane(f) } };
    },
    semantics: (b, o, { load }) => {
      b.fpAccess();
      const base = baseOf(b, o);
      const registers = slotsOf(o, count);
      if (load) loadLanes(b, bits, o.lane, base, registers);
      else storeLanes(b, bits, o.lane, base, registers);
      if (post) writeBack(b, o, base);
    },
  });
}

function loadLanes(
  b: Builder,
  bits: LaneBits,
  lane: V32,
  base: V64,
  registers: readonly Slot[],
): void {
  const size = (bits / 8) as AccessSize;
  const numbers = bytes(b, (i) => i % size === 0 ? i / size : 0);
  const mask = eq(b, bits, numbers, b.splat(bits, b.zext(lane)));
  const values = registers.map((_, i) => b.load(elementAddress(b, base, i, size), size));
  registers.forEach((slot, i) => {
    b.setQ(slot, b.bitselect(mask, b.splat(bits, values[i] as V64), b.q(slot)));
  });
}

function storeLanes(
  b: Builder,
  bits: LaneBits,
  lane: V32,
  base: V64,
  registers: readonly Slot[],
): void {
  const size = (bits / 8) as AccessSize;
  const first = b.splat(8, b.mul(b.zext(lane), b.c64(size)));
  const order = b.vector("i8x16.add", first, bytes(b, (i) => i));
  registers.forEach((slot, i) => {
    const moved = b.vector("i8x16.swizzle", b.q(slot), order);
    b.store(elementAddress(b, base, i, size), size, b.lane(64, moved, 0));
  });
}

/** LD1R to LD4R: one element to all lanes. */
function replicated(count: Count, post: boolean): Row {
  const r = count % 2 === 0 ? 1 : 0;
  const top = count > 2 ? 1 : 0;
  return vectorRow({
    name: `LD${count}R${post ? "_post" : ""}`,
    pattern: `0q001101${post ? "1" : "0"}1${r}${post ? "mmmmm" : "00000"}11${top}0ssnnnnnttttt`,
    disassemble: (f: Fields) => {
      const list = listText(f.t, count, LANE_NAMES[2 * f.s + f.q] as string);
      return `ld${count}r\t${list}, ${addressText(f, post, count << f.s)}`;
    },
    predecode: (f: Fields) => ({
      shape: { bits: laneBits(f.s), width: f.q ? 128 : 64 },
      ...common(f, post, count, count << f.s),
    }),
    semantics: (b, o, { bits, width }) => {
      b.fpAccess();
      const base = baseOf(b, o);
      const size = (bits / 8) as AccessSize;
      const registers = slotsOf(o, count);
      const values = registers.map((_, i) => b.load(elementAddress(b, base, i, size), size));
      registers.forEach((slot, i) => write(b, width, slot, b.splat(bits, values[i] as V64)));
      if (post) writeBack(b, o, base);
    },
  });
}

const COUNTS: readonly Count[] = [1, 2, 3, 4];

export const loadsAndStoresStructures: readonly Row[] = [false, true].flatMap((post) => [
  ...MULTIPLES.map((kind) => multiple(kind, post)),
  ...SINGLES.flatMap((element) => COUNTS.map((count) => single(element, count, post))),
  ...COUNTS.map((count) => replicated(count, post)),
]);
