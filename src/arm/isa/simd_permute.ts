/** Advanced SIMD permute, extract and table lookup (manual: C4.1.96): bytes move, none changes. */
import type { Builder, Slot, V128 } from "./builder.ts";
import { type Row, vr } from "./row.ts";
import { lookUpBytes } from "./simd_bits.ts";
import { add, bytes, constant, everySecond, gtU } from "./simd_lanes.ts";
import {
  arrangement,
  BHSD,
  type FieldsM,
  listText,
  vectorRow,
  vectorText,
  write,
} from "./simd_rows.ts";

/** Which lane of the result is which: lanes of the second source follow those of the first. */
type Order = (lane: number, lanes: number) => number;

/** The shuffle of bytes that puts lanes in `order`; what is beyond `width` is not looked at. */
function shuffleOrder(order: Order, bits: number, width: number): number[] {
  const [size, lanes] = [bits / 8, width / bits];
  return Array.from({ length: 16 }, (_, i) => {
    const lane = Math.floor(i / size);
    if (lane >= lanes) return 0;
    const from = order(lane, lanes);
    return (from < lanes ? 0 : 16) + (from % lanes) * size + (i % size);
  });
}

function permute(name: string, opcode: string, order: Order): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q001110ss0mmmmm0${opcode}10nnnnnddddd`,
    disassemble: (f: FieldsM) => {
      const registers = [f.d, f.n, f.m].map((r) => vectorText(r, f.s, f.q));
      return `${name.toLowerCase()}\t${registers.join(", ")}`;
    },
    predecode: (f: FieldsM) => {
      const shape = arrangement(f, BHSD);
      return shape && { shape, slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) }, consts: {} };
    },
    semantics: (b, o, { bits, width }) => {
      b.fpAccess();
      const moved = b.shuffle(shuffleOrder(order, bits, width), b.q(o.n), b.q(o.m));
      write(b, width, o.d, moved);
    },
  });
}

/** Part 0 or 1 of ZIP, UZP and TRN. */
const zip = (part: 0 | 1): Order => (lane, lanes) =>
  (lane % 2) * lanes + part * (lanes / 2) + (lane >> 1);
const unzip = (part: 0 | 1): Order => (lane) => 2 * lane + part;
const transpose = (part: 0 | 1): Order => (lane, lanes) =>
  (lane % 2) * lanes + (lane - (lane % 2)) + part;

const iota = (b: Builder): V128 => bytes(b, (i) => i);

const EXT: Row = vectorRow({
  name: "EXT_v",
  pattern: "0q101110000mmmmm0iiii0nnnnnddddd",
  disassemble: (f: FieldsM & { readonly i: number }) => {
    const registers = [f.d, f.n, f.m].map((r) => vectorText(r, 0, f.q));
    return `ext\t${registers.join(", ")}, #${f.i}`;
  },
  predecode: (f: FieldsM & { readonly i: number }) =>
    f.q === 0 && f.i >= 8 ? null : {
      shape: { width: f.q ? 128 : 64 },
      slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
      consts: { first: BigInt(f.i) },
    },
  semantics: (b, o, { width }) => {
    b.fpAccess();
    const from = add(b, 8, iota(b), b.splat(8, o.first));
    const [n, m] = [b.q(o.n), b.q(o.m)];
    if (width === 64) {
      write(b, 64, o.d, b.vector("i8x16.swizzle", everySecond(b, 64, 0, n, m), from));
      return;
    }
    b.setQ(o.d, lookUpBytes(b, [n, m], from));
  },
});

const TABLE_SLOTS = ["n", "t1", "t2", "t3"] as const;

/** TBL, TBX over `count` registers. */
function table(name: "TBL" | "TBX", count: 1 | 2 | 3 | 4): Row {
  const len = (count - 1).toString(2).padStart(2, "0");
  const names = TABLE_SLOTS.slice(0, count);
  return vectorRow({
    name: `${name}_${count}`,
    pattern: `0q001110000mmmmm0${len}${name === "TBX" ? 1 : 0}00nnnnnddddd`,
    disassemble: (f: FieldsM) =>
      `${name.toLowerCase()}\t${vectorText(f.d, 0, f.q)}, ${listText(f.n, count, "16b")}, ${
        vectorText(f.m, 0, f.q)
      }`,
    predecode: (f: FieldsM) => ({
      shape: { width: f.q ? 128 : 64 },
      slots: {
        d: vr(f.d),
        m: vr(f.m),
        ...Object.fromEntries(names.map((slot, i) => [slot, vr((f.n + i) % 32)])),
      } as Record<string, number>,
      consts: {},
    }),
    semantics: (b, o, { width }) => {
      b.fpAccess();
      const slots: Readonly<Record<string, Slot>> = o;
      const slot = (name: string) => slots[name] as Slot;
      const indices = b.q(slot("m"));
      const found = lookUpBytes(b, names.map((n) => b.q(slot(n))), indices);
      if (name === "TBL") return write(b, width, slot("d"), found);
      const beyond = gtU(b, 8, indices, constant(b, 8, BigInt(16 * count - 1)));
      write(b, width, slot("d"), b.bitselect(beyond, b.q(slot("d")), found));
    },
  });
}

export const simdPermute: readonly Row[] = [
  permute("UZP1", "001", unzip(0)),
  permute("TRN1", "010", transpose(0)),
  permute("ZIP1", "011", zip(0)),
  permute("UZP2", "101", unzip(1)),
  permute("TRN2", "110", transpose(1)),
  permute("ZIP2", "111", zip(1)),
  EXT,
  ...(["TBL", "TBX"] as const).flatMap((name) =>
    ([1, 2, 3, 4] as const).map((count) => table(name, count))
  ),
];
