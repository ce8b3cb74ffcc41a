/** Cryptographic AES and SHA (manual: C4.1.96, and the functions of J1.3 "aarch64/functions/crypto"). */
import { once } from "../../base/once.ts";
import type { Builder, Slot, V128, V32 } from "./builder.ts";
import { type Row, vr } from "./row.ts";
import { lookUpBytes } from "./simd_bits.ts";
import { add, and, bytes, constant, or, shl, shrU, sign, xor } from "./simd_lanes.ts";
import { type FieldsM, vectorRow } from "./simd_rows.ts";

/** Product in the field of AES: polynomials modulo x^8 + x^4 + x^3 + x + 1. */
function fieldMul(a: number, b: number): number {
  let product = 0;
  for (let bit = 0; bit < 8; bit++) {
    if ((b >> bit) & 1) product ^= a << bit;
  }
  for (let bit = 14; bit >= 8; bit--) {
    if ((product >> bit) & 1) product ^= 0x11b << (bit - 8);
  }
  return product;
}

/** The S-box (FIPS 197, 5.1.1): the inverse in the field, then an affine map of its bits. */
function substitution(): Uint8Array {
  const box = new Uint8Array(256);
  for (let a = 0; a < 256; a++) {
    // Of a to the 254, which is the inverse and keeps 0.
    let inverse = 1;
    for (let i = 0; i < 254; i++) inverse = fieldMul(inverse, a);
    const twice = inverse * 0x101;
    const rotated = [0, 1, 2, 3, 4].map((by) => (twice >> (8 - by)) & 0xff);
    box[a] = rotated.reduce((x, y) => x ^ y) ^ 0x63;
  }
  return box;
}

const sbox = once(substitution);
const inverseSbox = once(() => {
  const box = new Uint8Array(256);
  sbox().forEach((to, from) => box[to] = from);
  return box;
});

/** ShiftRows: byte `i` of the result is byte `order[i]`; rows are every fourth byte. */
const SHIFT_ROWS = Array.from({ length: 16 }, (_, i) => (i + 4 * (i % 4)) % 16);
const INVERSE_SHIFT_ROWS = Array.from({ length: 16 }, (_, i) => (i + 12 * (i % 4)) % 16);

/** Each byte through a table of 256. */
function substitute(b: Builder, box: Uint8Array, a: V128): V128 {
  const tables = Array.from(
    { length: 16 },
    (_, high) => bytes(b, (low) => box[16 * high + low] as number),
  );
  return lookUpBytes(b, tables, a);
}

/** Each byte times x in the field. */
function timesX(b: Builder, a: V128): V128 {
  return xor(b, shl(b, 8, a, 1), and(b, sign(b, 8, a), constant(b, 8, 0x1bn)));
}

/** Each byte replaced by the one `by` further on in its column of four. */
function nextInColumn(b: Builder, by: number, a: V128): V128 {
  return b.shuffle(Array.from({ length: 16 }, (_, i) => (i & 12) | ((i + by) & 3)), a, a);
}

/** 2 a0 + 3 a1 + a2 + a3 of each column's bytes from each byte on. */
function mixColumns(b: Builder, a: V128): V128 {
  const next = nextInColumn(b, 1, a);
  const pair = xor(b, a, next);
  return xor(b, xor(b, timesX(b, pair), next), nextInColumn(b, 2, pair));
}

/** The inverse is the same after adding 4 (a0 + a2) to each byte. */
function inverseMixColumns(b: Builder, a: V128): V128 {
  const opposite = xor(b, a, nextInColumn(b, 2, a));
  return mixColumns(b, xor(b, a, timesX(b, timesX(b, opposite))));
}

function aes(name: string, opcode: string, op: (b: Builder, d: V128, n: V128) => V128): Row {
  return vectorRow({
    name,
    pattern: `010011100010100${opcode}10nnnnnddddd`,
    feature: "FEAT_AES",
    disassemble: (f: FieldsM) => `${name.toLowerCase()}\tv${f.d}.16b, v${f.n}.16b`,
    predecode: (f: FieldsM) => ({ shape: {}, slots: { d: vr(f.d), n: vr(f.n) }, consts: {} }),
    semantics: (b, o) => {
      b.fpAccess();
      b.setQ(o.d, op(b, b.q(o.d), b.q(o.n)));
    },
  });
}

const AES: readonly Row[] = [
  aes("AESE", "00100", (b, d, n) => {
    const state = xor(b, d, n);
    return substitute(b, sbox(), b.shuffle(SHIFT_ROWS, state, state));
  }),
  aes("AESD", "00101", (b, d, n) => {
    const state = xor(b, d, n);
    return substitute(b, inverseSbox(), b.shuffle(INVERSE_SHIFT_ROWS, state, state));
  }),
  aes("AESMC", "00110", (b, _, n) => mixColumns(b, n)),
  aes("AESIMC", "00111", (b, _, n) => inverseMixColumns(b, n)),
];

type Words = [V32, V32, V32, V32];

function wordsOf(b: Builder, v: V128): Words {
  return [0, 1, 2, 3].map((i) => b.wrap(b.lane(32, v, i))) as Words;
}

function fromWords(b: Builder, words: readonly V32[]): V128 {
  const [w0, w1, w2, w3] = words.map((w) => b.zext(w)) as ReturnType<Builder["zext"]>[];
  const half = (low = b.c64(0), high = b.c64(0)) => b.or(low, b.shl(high, b.c64(32)));
  return b.v128(half(w0, w1), half(w2, w3));
}

function rotateLeft(b: Builder, word: V32, by: number): V32 {
  return b.rotr(word, b.c32(32 - by));
}

/** Each word rotated right. */
function rotateRight(b: Builder, v: V128, by: number): V128 {
  return or(b, shrU(b, 32, v, by), shl(b, 32, v, 32 - by));
}

/** Each word rotated by two amounts and shifted by one. */
function sigma(b: Builder, v: V128, [r1, r2, s]: readonly [number, number, number]): V128 {
  return xor(b, xor(b, rotateRight(b, v, r1), rotateRight(b, v, r2)), shrU(b, 32, v, s));
}

function rotations(b: Builder, word: V32, amounts: readonly number[]): V32 {
  return amounts.map((by) => b.rotr(word, b.c32(by))).reduce((x, y) => b.xor(x, y));
}

type WordFunction = (b: Builder, x: V32, y: V32, z: V32) => V32;

/** y where x has a 1, else z. */
const choose: WordFunction = (b, x, y, z) => b.xor(b.and(b.xor(y, z), x), z);
const parity: WordFunction = (b, x, y, z) => b.xor(b.xor(x, y), z);
const majority: WordFunction = (b, x, y, z) => b.or(b.and(x, y), b.and(b.or(x, y), z));

/** Four rounds of SHA-1. */
function sha1Rounds(b: Builder, f: WordFunction, d: V128, n: V32, m: V128): V128 {
  const [x, words] = [wordsOf(b, d), wordsOf(b, m)];
  let y = n;
  for (const word of words) {
    const t = f(b, x[1], x[2], x[3]);
    const sum = b.add(b.add(y, rotateLeft(b, x[0], 5)), b.add(t, word));
    y = x[3];
    [x[3], x[2], x[1], x[0]] = [x[2], rotateLeft(b, x[1], 30), x[0], sum];
  }
  return fromWords(b, x);
}

/** Four rounds of SHA-256 on the halves x and y of the state: both afterwards. */
function sha256Rounds(b: Builder, first: V128, second: V128, m: V128): readonly [Words, Words] {
  const [x, y] = [wordsOf(b, first), wordsOf(b, second)];
  for (const word of wordsOf(b, m)) {
    const sum1 = rotations(b, y[0], [6, 11, 25]);
    const t = b.add(b.add(y[3], sum1), b.add(choose(b, y[0], y[1], y[2]), word));
    const sum0 = rotations(b, x[0], [2, 13, 22]);
    const low = b.add(t, x[3]);
    const high = b.add(t, b.add(sum0, majority(b, x[0], x[1], x[2])));
    [x[3], x[2], x[1], x[0]] = [x[2], x[1], x[0], high];
    [y[3], y[2], y[1], y[0]] = [y[2], y[1], y[0], low];
  }
  return [x, y];
}

/** Words from `from` on of `a` and then `c`. */
function wordsFrom(b: Builder, from: number, a: V128, c: V128): V128 {
  return b.shuffle(Array.from({ length: 16 }, (_, i) => 4 * from + i), a, c);
}

/** SHA1SU1: each word needs the rotated one before it; the last also the new first. */
function sha1Schedule(b: Builder, d: V128, n: V128): V128 {
  const zero = b.c128(0n, 0n);
  const t = xor(b, d, wordsFrom(b, 1, n, zero));
  const first = b.shuffle([...Array(12).fill(16), 0, 1, 2, 3], t, zero);
  return xor(b, rotateRight(b, t, 31), rotateRight(b, first, 30));
}

/** SHA256SU1: the upper two words need the lower two. */
function sha256Schedule(b: Builder, d: V128, n: V128, m: V128): V128 {
  const sum = add(b, 32, d, wordsFrom(b, 1, n, m));
  const rotations = [17, 19, 10] as const;
  const low = add(b, 32, sum, sigma(b, wordsFrom(b, 2, m, m), rotations));
  const high = add(b, 32, sum, sigma(b, wordsFrom(b, 2, low, low), rotations));
  return b.shuffle(Array.from({ length: 16 }, (_, i) => i < 8 ? i : i + 16), low, high);
}

type Text = (f: FieldsM) => string;

function threeRegisters(
  name: string,
  opcode: string,
  feature: "FEAT_SHA1" | "FEAT_SHA256",
  text: Text,
  op: (b: Builder, d: V128, n: V128, m: V128) => V128,
): Row {
  return vectorRow({
    name,
    pattern: `01011110000mmmmm0${opcode}00nnnnnddddd`,
    feature,
    disassemble: (f: FieldsM) => `${name.toLowerCase()}\t${text(f)}`,
    predecode: (f: FieldsM) => ({
      shape: {},
      slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
      consts: {},
    }),
    semantics: (b, o) => {
      b.fpAccess();
      b.setQ(o.d, op(b, b.q(o.d), b.q(o.n), b.q(o.m)));
    },
  });
}

function twoRegisters(
  name: string,
  opcode: string,
  feature: "FEAT_SHA1" | "FEAT_SHA256",
  text: Text,
  semantics: (b: Builder, o: { d: Slot; n: Slot }) => void,
): Row {
  return vectorRow({
    name,
    pattern: `010111100010100${opcode}10nnnnnddddd`,
    feature,
    disassemble: (f: FieldsM) => `${name.toLowerCase()}\t${text(f)}`,
    predecode: (f: FieldsM) => ({ shape: {}, slots: { d: vr(f.d), n: vr(f.n) }, consts: {} }),
    semantics: (b, o) => {
      b.fpAccess();
      semantics(b, o);
    },
  });
}

const hashOneText: Text = (f) => `q${f.d}, s${f.n}, v${f.m}.4s`;
const hashTwoText: Text = (f) => `q${f.d}, q${f.n}, v${f.m}.4s`;
const threeText: Text = (f) => `v${f.d}.4s, v${f.n}.4s, v${f.m}.4s`;
const twoText: Text = (f) => `v${f.d}.4s, v${f.n}.4s`;

function sha1Hash(name: string, opcode: string, f: WordFunction): Row {
  return threeRegisters(
    name,
    opcode,
    "FEAT_SHA1",
    hashOneText,
    (b, d, n, m) => sha1Rounds(b, f, d, b.wrap(b.lane(32, n, 0)), m),
  );
}

const SHA: readonly Row[] = [
  sha1Hash("SHA1C", "000", choose),
  sha1Hash("SHA1P", "001", parity),
  sha1Hash("SHA1M", "010", majority),
  threeRegisters(
    "SHA1SU0",
    "011",
    "FEAT_SHA1",
    threeText,
    (b, d, n, m) => xor(b, xor(b, wordsFrom(b, 2, d, n), d), m),
  ),
  threeRegisters(
    "SHA256H",
    "100",
    "FEAT_SHA256",
    hashTwoText,
    (b, d, n, m) => fromWords(b, sha256Rounds(b, d, n, m)[0]),
  ),
  threeRegisters(
    "SHA256H2",
    "101",
    "FEAT_SHA256",
    hashTwoText,
    (b, d, n, m) => fromWords(b, sha256Rounds(b, n, d, m)[1]),
  ),
  threeRegisters("SHA256SU1", "110", "FEAT_SHA256", threeText, sha256Schedule),
  twoRegisters("SHA1H", "00000", "FEAT_SHA1", (f) => `s${f.d}, s${f.n}`, (b, o) => {
    const word = rotateLeft(b, b.wrap(b.v(o.n, 0)), 30);
    b.setV(o.d, b.zext(word), b.c64(0));
  }),
  twoRegisters(
    "SHA1SU1",
    "00001",
    "FEAT_SHA1",
    twoText,
    (b, o) => b.setQ(o.d, sha1Schedule(b, b.q(o.d), b.q(o.n))),
  ),
  twoRegisters("SHA256SU0", "00010", "FEAT_SHA256", twoText, (b, o) => {
    const d = b.q(o.d);
    b.setQ(o.d, add(b, 32, d, sigma(b, wordsFrom(b, 1, d, b.q(o.n)), [7, 18, 3])));
  }),
];

export const simdCrypto: readonly Row[] = [...AES, ...SHA];
