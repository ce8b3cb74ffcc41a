/**
 * The fast path of floating point: that it is taken for ordinary numbers, and that what it computes is
 * what the evaluator computes, for numbers chosen to make it go wrong.
 */
import assert from "node:assert/strict";
import { CpuLayout } from "../../../src/arm/arch/cpu_state.ts";
import { Evaluator } from "../../../src/arm/engine/evaluator.ts";
import { FPCR, FPSR } from "../../../src/arm/fp/format.ts";
import { exceptionsAndSystem } from "../../../src/arm/isa/exceptions_and_system.ts";
import { floatingPoint } from "../../../src/arm/isa/floating_point.ts";
import { floatingPointInteger } from "../../../src/arm/isa/floating_point_integer.ts";
import {
  Random,
  type RandomInstruction,
  randomInstruction,
  shapeKey,
  shapesOf,
} from "../../../src/arm/isa/random.ts";
import type { Row } from "../../../src/arm/isa/row.ts";
import { DECODER } from "../../../src/arm/isa/table.ts";
import { simdFpByElement } from "../../../src/arm/isa/simd_fp_by_element.ts";
import { simdFpMisc } from "../../../src/arm/isa/simd_fp_misc.ts";
import { simdFpThreeSame } from "../../../src/arm/isa/simd_fp_three_same.ts";
import { FlatEnvironment } from "../../support/flat_environment.ts";
import { FlatInterpreter } from "../../support/flat_interpreter.ts";

const ROWS = [
  ...floatingPoint,
  ...floatingPointInteger,
  ...simdFpThreeSame,
  ...simdFpByElement,
  ...simdFpMisc,
];

const CODE = 0x10000;
const VREG = CpuLayout.offset.vreg;

/** One CPU whose instruction is executed by generated code, and again by the evaluator from the same state. */
class Pair {
  readonly flat = new FlatInterpreter(CODE, 0x1000, [...ROWS, ...exceptionsAndSystem]);
  readonly #evaluator: Evaluator;
  readonly #before = new Uint8Array(CpuLayout.size);
  readonly #after = new Uint8Array(CpuLayout.size);

  constructor() {
    const { flat } = this;
    const range = { va: CODE, size: 0x1000, at: flat.flatAt };
    const environment = new FlatEnvironment(flat.cpu, flat.memory, range);
    flat.useEnvironment(environment);
    this.#evaluator = new Evaluator(flat.cpu, environment);
  }

  place(word: number): void {
    this.flat.memory.st32(this.flat.flatAt, word);
    this.flat.interpreter.dropAll();
  }

  /** Whether generated code executed the instruction at CODE without the evaluator. */
  execute(): boolean {
    const { flat } = this;
    flat.cpu.pc = BigInt(CODE);
    const { slow } = flat;
    flat.run(1);
    return flat.slow === slow;
  }

  /** Executes twice. An empty text if both did the same. */
  compare({ row, decoded }: RandomInstruction): { fast: boolean; difference: string } {
    const { flat } = this;
    const { u8 } = flat.memory;
    const [from, to] = [flat.cpu.base, flat.cpu.base + VREG + 512 + 12];
    this.#before.set(u8.subarray(from, to));
    const fast = this.execute();
    if (!fast) return { fast, difference: "" };
    this.#after.set(u8.subarray(from, to));
    u8.set(this.#before.subarray(0, to - from), from);
    flat.cpu.pc = BigInt(CODE);
    this.#evaluator.execute(row, decoded);
    const at = u8.subarray(from, to).findIndex((byte, i) => byte !== this.#after[i]);
    return { fast, difference: at < 0 ? "" : `byte ${at} of the CPU` };
  }

  /** Fills all V registers: `lane` makes elements of `bits` bits. */
  fill(bits: 32 | 64, lane: (index: number) => number): void {
    const { memory, cpu } = this.flat;
    const view = new DataView(memory.u8.buffer, cpu.base + VREG, 512);
    for (let i = 0; i < 512 / (bits / 8); i++) {
      if (bits === 32) view.setFloat32(4 * i, lane(i), true);
      else view.setFloat64(8 * i, lane(i), true);
    }
  }
  setGeneral(value: (n: number) => bigint): void {
    for (let n = 0; n < 31; n++) {
      this.flat.memory.st64(this.flat.cpu.base + CpuLayout.offset.gpr + 8 * n, value(n));
    }
  }
}

/** Operations that always go to the evaluator. */
const SLOW = /recpx|urecpe|ursqrte/;
const SLOW_ROWS = /^(FML[AS]L|FCVTXN)/;

/** Size of the numbers that an instruction works on; null where it is not one with a fast path. */
function sizeOf(row: Row, shape: Readonly<Record<string, unknown>>): 32 | 64 | null {
  const { size, from, elements, op } = shape;
  if (SLOW_ROWS.test(row.name) || (typeof op === "string" && SLOW.test(op))) return null;
  const bits = elements ?? size ?? from ?? 64;
  return bits === 16 ? null : bits as 32 | 64;
}

/** An instruction of each shape that has a fast path. */
function* fastInstructions(random: Random): Generator<RandomInstruction & { size: 32 | 64 }> {
  for (const row of ROWS) {
    for (const [key, { decoded }] of shapesOf(row)) {
      const size = sizeOf(row, decoded.shape);
      if (size === null) continue;
      const accept = (d: RandomInstruction["decoded"]) =>
        shapeKey(d.shape) === key && Number(d.consts["fraction"] ?? 0) < 16;
      yield { ...randomInstruction(row, random, accept), size };
    }
  }
}

Deno.test("ordinary numbers take the fast path in every operation that has one", () => {
  const random = new Random(1);
  const pair = new Pair();
  let shapes = 0;
  for (const instruction of fastInstructions(random)) {
    pair.place(instruction.word);
    shapes++;
    for (let i = 0; i < 20; i++) {
      pair.fill(instruction.size, () => 1 + random.below(1000) + random.u32() / 2 ** 32);
      pair.setGeneral(() => BigInt(random.below(1 << 30)));
      pair.flat.cpu.fpsr = FPSR.IXC;
      const { fast, difference } = pair.compare(instruction);
      const what = `${instruction.row.name} ${shapeKey(instruction.decoded.shape)}`;
      assert.ok(fast, what);
      assert.equal(difference, "", what);
    }
  }
  assert.ok(shapes > 300, `${shapes} shapes`);
});

Deno.test("exact arithmetic takes the fast path without IXC, and sets nothing", () => {
  const random = new Random(2);
  const pair = new Pair();
  // A quotient of integers is mostly not exact.
  const inexact = /op=(div|recps|rsqrts|sqrt)/;
  for (const instruction of fastInstructions(random)) {
    const key = shapeKey(instruction.decoded.shape);
    pair.place(instruction.word);
    for (let i = 0; i < 20; i++) {
      pair.fill(instruction.size, () => 2 ** (2 * random.below(6)) * (inexact.test(key) ? 1 : 3));
      pair.setGeneral(() => BigInt(random.below(1000)));
      pair.flat.cpu.fpsr = 0;
      const { fast, difference } = pair.compare(instruction);
      if (/op=(recps|rsqrts)/.test(key)) continue;
      assert.ok(fast, `${instruction.row.name} ${key}`);
      assert.equal(difference, "");
      assert.equal(pair.flat.cpu.fpsr, 0);
    }
  }
});

Deno.test("conversions of half precision are the evaluator's, for halves of all magnitudes and between two", () => {
  const pair = new Pair();
  const { memory, cpu } = pair.flat;
  const run = (word: number, values: (half: number) => bigint[], least: number) => {
    const found = DECODER.decode(word);
    assert.ok(found);
    pair.place(word);
    let fastCases = 0;
    for (let half = 0; half < 0x10000; half += 7) {
      for (const value of values(half)) {
        memory.st64(cpu.base + VREG, value);
        cpu.fpsr = half & 1 ? FPSR.IXC : 0;
        const { fast, difference } = pair.compare({ word, ...found });
        if (fast) fastCases++;
        assert.equal(difference, "", `0x${word.toString(16)} of 0x${value.toString(16)}`);
      }
    }
    assert.ok(fastCases > least, `${fastCases}`);
  };
  run(0x1ee2_4000, (half) => [BigInt(half)], 8000); // fcvt s0, h0
  run(0x1ee2_c000, (half) => [BigInt(half)], 8000); // fcvt d0, h0
  // The half, the middle to the next, and next to both.
  const around = (bits: number, cut: number, bias: number) => (half: number) => {
    const magnitude = (BigInt(half & 0x7fff) + BigInt((bias - 15) << 10)) << BigInt(cut);
    const middle = 1n << BigInt(cut - 1);
    const sign = BigInt(half >> 15) << BigInt(bits - 1);
    return [0n, 1n, middle - 1n, middle, middle + 1n].map((more) => sign | (magnitude + more));
  };
  run(0x1e23_c000, around(32, 13, 127), 20_000); // fcvt h0, s0
  run(0x1e63_c000, around(64, 42, 1023), 20_000); // fcvt h0, d0
});

Deno.test("estimates of every table entry are the evaluator's", () => {
  const pair = new Pair();
  // frecpe, frsqrte: d0, d0 and s0, s0
  for (
    const [word, size] of [
      [0x5ee1_d800, 64],
      [0x7ee1_d800, 64],
      [0x5ea1_d800, 32],
      [0x7ea1_d800, 32],
    ] as const
  ) {
    const found = DECODER.decode(word);
    assert.ok(found);
    pair.place(word);
    for (let i = 0; i < 512; i++) {
      pair.fill(size, () => (1 + (i & 255) / 256) * 2 ** (i >> 8));
      const { fast, difference } = pair.compare({ word, ...found });
      assert.ok(fast);
      assert.equal(difference, "", `0x${word.toString(16)}, entry ${i}`);
    }
  }
});

Deno.test("an inexact result goes to the evaluator once: it sets IXC", () => {
  const pair = new Pair();
  pair.place(0x1e61_2800); // fadd d0, d0, d1
  pair.fill(64, (i) => (i === 0 ? 1 : 0.1));
  pair.flat.cpu.fpsr = 0;
  assert.equal(pair.execute(), false);
  assert.equal(pair.flat.cpu.fpsr, FPSR.IXC);
  assert.equal(pair.execute(), true);
});

Deno.test("FPCR and FPSR are read, and FPSR written, by generated code, unless that traps", () => {
  const pair = new Pair();
  // mrs x0, fpcr; mrs x0, fpsr; msr fpsr, x0
  for (const word of [0xd53b_4400, 0xd53b_4420, 0xd51b_4420]) {
    const found = DECODER.decode(word);
    assert.ok(found);
    pair.place(word);
    pair.setGeneral(() => BigInt(FPSR.IXC | FPSR.IDC));
    pair.flat.cpu.fpcr = FPCR.DN | FPCR.FZ;
    assert.deepEqual(pair.compare({ word, ...found }), { fast: true, difference: "" });
    pair.flat.cpu.fpEnabled = false;
    assert.equal(pair.execute(), false);
    pair.flat.cpu.fpEnabled = true;
  }
});

Deno.test("what must not be fast is not", () => {
  const pair = new Pair();
  pair.place(0x1e61_0800); // fmul d0, d0, d1
  const attempt = (a: number, b: number, fpcr = 0) => {
    pair.fill(64, (i) => (i === 0 ? a : i === 2 ? b : 1));
    pair.flat.cpu.fpsr = FPSR.IXC;
    pair.flat.cpu.fpcr = fpcr;
    return pair.execute();
  };
  assert.ok(attempt(3, 5) && attempt(0, 5) && attempt(-0, 0.1));
  assert.ok(!attempt(NaN, 5) && !attempt(Infinity, 0) && !attempt(1e200, 1e200));
  assert.ok(!attempt(1e-200, 1e-200) && !attempt(2 ** -1022, 1 - 2 ** -53));
  for (const fpcr of [1 << 22, 2 << 22, 3 << 22]) assert.ok(!attempt(3, 5, fpcr));
  assert.ok(attempt(3, 5, FPCR.FZ) && attempt(0, 5, FPCR.FZ));
  assert.ok(attempt(2 ** -1030, 2 ** 100) && !attempt(2 ** -1030, 2 ** 100, FPCR.FZ));
});

/** Few bits, all ones, or anything, at exponents near enough to meet in a sum. */
function awkward(random: Random, size: 32 | 64): number {
  const digits = size === 32 ? 24 : 53;
  const fraction =
    [0, 1 - 2 ** -digits, 2 ** (1 - digits), 0.5, random.below(16) / 16][random.below(8)] ??
      random.u32() / 2 ** 32 + random.u32() / 2 ** 64;
  const exponent = random.pick([0, random.below(5), random.below(digits + 3), -random.below(60)]);
  const number = (1 + fraction) * 2 ** exponent * (random.below(2) ? 1 : -1);
  return random.below(24) === 0 ? random.pick([0, -0, 2 ** -140, 2 ** 120, Infinity]) : number;
}

/** Numbers of which sums of products cancel, or come close to the middle between two numbers. */
function awkwardLanes(random: Random, size: 32 | 64): (index: number) => number {
  if (random.below(8) === 0) {
    // Sums and differences of these are subnormal.
    const least = 2 ** (size === 32 ? -126 : -1022);
    return () => random.pick([1.5, 1.25, -1, -1.5, 0.75, 2 / least]) * least;
  }
  const set = [0, 1, 2].map(() => awkward(random, size));
  const [a, b] = set as [number, number];
  const half = 2 ** (size === 32 ? 24 : 53);
  const more = [-a * b, a * b, a * b * half, -a * b * half * 1.5, a * b / half, 1 / a];
  return () => random.pick(random.below(2) ? set : more);
}

Deno.test("the fast path computes what the evaluator does", () => {
  const random = new Random(3);
  const pair = new Pair();
  let fastCases = 0, all = 0;
  for (const instruction of fastInstructions(random)) {
    const fused = /muladd|FP_three|FML|recps|rsqrts/.test(
      instruction.row.name + shapeKey(instruction.decoded.shape),
    );
    pair.place(instruction.word);
    for (let i = 0; i < (fused ? 1000 : 200); i++) {
      pair.fill(instruction.size, awkwardLanes(random, instruction.size));
      pair.setGeneral(() => random.value());
      pair.flat.cpu.fpsr = i & 1 ? FPSR.IXC : 0;
      pair.flat.cpu.fpcr = i & 4 ? FPCR.FZ : 0;
      const { fast, difference } = pair.compare(instruction);
      all++;
      if (fast) fastCases++;
      const what = `${instruction.row.name} ${shapeKey(instruction.decoded.shape)}`;
      assert.equal(difference, "", `${what}: 0x${instruction.word.toString(16)}, case ${i}`);
    }
  }
  assert.ok(fastCases > all / 4, `${fastCases} of ${all}`);
});
