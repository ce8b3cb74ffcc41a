/**
 * CRC32 and the manipulation of the flags (manual: C4.1.95 "Data-processing (2 source)", "Rotate
 * right into flags", "Evaluate into flags"; C4.1.93 for CFINV, AXFLAG, XAFLAG).
 */
import type { Builder, V32, V64 } from "./builder.ts";
import { type Row, row, xr, xw } from "./row.ts";
import { reg } from "./text.ts";

/** The polynomials of CRC32 and CRC32C with their bits reversed. */
const POLYNOMIALS = [0xedb8_8320, 0x82f6_3b78] as const;

/** The remainder of `value` (`bits` long, lowest bit first) after what `accumulator` stands for. */
function crc(b: Builder, accumulator: V32, value: V64, bits: number, polynomial: V64): V32 {
  let remainder = b.xor(b.zext(accumulator), value);
  for (let i = 0; i < bits; i++) {
    const odd = b.neg(b.and(remainder, b.c64(1)));
    remainder = b.xor(b.shrU(remainder, b.c64(1)), b.and(odd, polynomial));
  }
  return b.wrap(remainder);
}

interface Flags {
  readonly n: V32;
  readonly z: V32;
  readonly c: V32;
  readonly v: V32;
}

function bit(b: Builder, value: V32, at: number): V32 {
  return b.and(b.shrU(value, b.c32(at)), b.c32(1));
}

function flags(b: Builder): Flags {
  const all = b.nzcv();
  return { n: bit(b, all, 3), z: bit(b, all, 2), c: bit(b, all, 1), v: bit(b, all, 0) };
}

function setFlags(b: Builder, { n, z, c, v }: Flags): void {
  const high = b.or(b.shl(n, b.c32(3)), b.shl(z, b.c32(2)));
  b.setNzcv(b.or(high, b.or(b.shl(c, b.c32(1)), v)));
}

const none = { shape: {}, slots: {}, consts: {} } as const;

export const crc32AndFlags: readonly Row[] = [
  row({
    name: "CRC32",
    pattern: "s0011010110mmmmm010czznnnnnddddd",
    feature: "FEAT_CRC32",
    disassemble: (f) => {
      const name = `crc32${f.c ? "c" : ""}${"bhwx"[f.z]}`;
      return `${name}\t${reg(0, f.d)}, ${reg(0, f.n)}, ${reg(f.s, f.m)}`;
    },
    predecode: (f) =>
      f.s !== (f.z === 3 ? 1 : 0) ? null : {
        shape: { bits: 8 << f.z },
        slots: { d: xw(f.d), n: xr(f.n), m: xr(f.m) },
        consts: { polynomial: BigInt(POLYNOMIALS[f.c] as number) },
      },
    semantics: (b, o, { bits }) => {
      const mask = (1n << BigInt(bits)) - 1n;
      const value = bits === 64 ? b.x(o.m) : b.and(b.x(o.m), b.c64(mask));
      b.setW(o.d, crc(b, b.w(o.n), value, bits, o.polynomial));
    },
  }),
  row({
    name: "RMIF",
    pattern: "10111010000iiiiii00001nnnnn0mmmm",
    feature: "FEAT_FlagM",
    disassemble: (f) => `rmif\t${reg(1, f.n)}, #${f.i}, #${f.m}`,
    predecode: (f) => ({
      shape: {},
      slots: { n: xr(f.n) },
      consts: { shift: BigInt(f.i), mask: f.m, keep: 15 & ~f.m },
    }),
    semantics: (b, o) => {
      const rotated = b.wrap(b.rotr(b.x(o.n), o.shift));
      b.setNzcv(b.or(b.and(rotated, o.mask), b.and(b.nzcv(), o.keep)));
    },
  }),
  row({
    name: "SETF",
    pattern: "00111010000000000s0010nnnnn01101",
    feature: "FEAT_FlagM",
    disassemble: (f) => `setf${f.s ? 16 : 8}\t${reg(0, f.n)}`,
    predecode: (f) => ({ shape: { bits: f.s ? 16 : 8 }, slots: { n: xr(f.n) }, consts: {} }),
    semantics: (b, o, { bits }) => {
      const value = b.w(o.n);
      const n = bit(b, value, bits - 1);
      const z = b.isZero(b.and(value, b.c32((1 << bits) - 1)));
      setFlags(b, { n, z, c: flags(b).c, v: b.xor(n, bit(b, value, bits)) });
    },
  }),
  row({
    name: "CFINV",
    pattern: "11010101000000000100000000011111",
    feature: "FEAT_FlagM",
    disassemble: () => "cfinv",
    predecode: () => none,
    semantics: (b) => b.setNzcv(b.xor(b.nzcv(), b.c32(2))),
  }),
  row({
    name: "XAFLAG",
    pattern: "11010101000000000100000000111111",
    feature: "FEAT_FlagM2",
    disassemble: () => "xaflag",
    predecode: () => none,
    semantics: (b) => {
      const { z, c } = flags(b);
      const noC = b.isZero(c);
      setFlags(b, { n: b.and(noC, b.isZero(z)), z: b.and(z, c), c: b.or(c, z), v: b.and(noC, z) });
    },
  }),
  row({
    name: "AXFLAG",
    pattern: "11010101000000000100000001011111",
    feature: "FEAT_FlagM2",
    disassemble: () => "axflag",
    predecode: () => none,
    semantics: (b) => {
      const { z, c, v } = flags(b);
      setFlags(b, { n: b.c32(0), z: b.or(z, v), c: b.and(c, b.isZero(v)), v: b.c32(0) });
    },
  }),
];
