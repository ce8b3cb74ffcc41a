/** Loads and stores of structures where memory does not let them: alignment, faults, SP. */
import assert from "node:assert/strict";
import { gprOffset, SLOT, vregOffset } from "../../../src/arm/arch/cpu_state.ts";
import { disassemble } from "../../../src/arm/isa/table.ts";
import { FlatEnvironment, NotFlat } from "../../support/flat_environment.ts";
import { FlatInterpreter } from "../../support/flat_interpreter.ts";

const START = 0x4800_0000;
const SIZE = 3 * 4096;
const DATA = START + 4096;
/** Bytes of an element where alignment is looked at. */
const ELEMENT = 4;

/** Leaves misaligned accesses to the evaluator, which would raise the fault. */
class Lab extends FlatInterpreter {
  override dataMiss(): boolean {
    const misaligned = Number(this.cpu.faultVa) % ELEMENT !== 0;
    return misaligned && this.cpu.alignMask !== 0 ? false : super.dataMiss();
  }
}

/** One instruction at START with x1 the base; V registers and memory hold their own numbers. */
function prepared(word: number, text: string, base: number): Lab {
  assert.equal(disassemble(word, START), text);
  const flat = new Lab(START, SIZE);
  const { cpu, memory } = flat;
  flat.useEnvironment(new FlatEnvironment(cpu, memory, { va: START, size: SIZE, at: flat.flatAt }));
  memory.st32(flat.flatAt, word);
  for (let i = 0; i < SIZE - 4096; i++) memory.u8[flat.offsetOf(DATA) + i] = i % 251;
  for (let i = 0; i < 512; i++) memory.u8[cpu.base + vregOffset(0) + i] = 255 - (i % 256);
  memory.st64(cpu.gpr + 8, BigInt(base));
  cpu.pc = BigInt(START);
  return flat;
}

/** Vector registers and the base register. */
function registers(flat: FlatInterpreter): string {
  const { cpu, memory } = flat;
  const v = memory.u8.slice(cpu.base + vregOffset(0), cpu.base + vregOffset(32));
  return `${v} ${memory.ld64(cpu.gpr + 8)}`;
}

const LD4 = [0x4cdf0820, "ld4\t{v0.4s-v3.4s}, [x1], #64"] as const;
const ST4 = [0x4c9f0820, "st4\t{v0.4s-v3.4s}, [x1], #64"] as const;
const LD3_LANE = [0x4ddf7020, "ld3\t{v0.h-v2.h}[6], [x1], #6"] as const;
const LD2R = [0x4dffcc20, "ld2r\t{v0.2d, v1.2d}, [x1], #16"] as const;

Deno.test("a load that faults at any of its elements changes no register", () => {
  for (const [[word, text], bytes] of [[LD4, 64], [LD3_LANE, 6], [LD2R, 16]] as const) {
    const step = bytes === 64 ? 20 : bytes === 6 ? 2 : 8;
    for (let inside = 0; inside < bytes; inside += step) {
      const flat = prepared(word, text, START + SIZE - inside);
      const before = registers(flat);
      assert.throws(() => flat.run(1), NotFlat);
      assert.equal(registers(flat), before, `${text}: ${inside} bytes inside`);
      assert.equal(Number(flat.cpu.pc), START);
    }
    const flat = prepared(word, text, START + SIZE - bytes);
    const before = registers(flat);
    flat.run(1);
    assert.notEqual(registers(flat), before);
    assert.equal(Number(flat.memory.ld64(flat.cpu.gpr + 8)), START + SIZE);
  }
});

Deno.test("a load across the end of a page takes both pages", () => {
  const across = prepared(...LD4, DATA + 4096 - 24);
  const inside = prepared(...LD4, DATA);
  const bytes = inside.offsetOf(DATA);
  for (let i = 0; i < 64; i++) {
    inside.memory.u8[bytes + i] = across.memory.u8[across.offsetOf(DATA + 4096 - 24 + i)] as number;
  }
  for (const flat of [across, inside]) flat.run(1);
  assert.equal(registers(across).split(" ")[0], registers(inside).split(" ")[0]);
});

Deno.test("a store that faults leaves the base register", () => {
  const flat = prepared(...ST4, START + SIZE - 32);
  const before = registers(flat);
  assert.throws(() => flat.run(1), NotFlat);
  assert.equal(registers(flat), before);
});

Deno.test("where alignment is checked, each element is to be aligned for itself", () => {
  for (const [word, text] of [LD4, ST4]) {
    for (const [offset, slow] of [[0, 0], [4, 0], [12, 0], [2, 1], [1, 1], [6, 1]] as const) {
      const flat = prepared(word, text, DATA + offset);
      flat.cpu.alignMask = 0xffff_ffff;
      flat.run(1);
      assert.equal(flat.slow, slow, `${text} at ${offset}`);
      assert.equal(Number(flat.cpu.pc), START + 4);
    }
    const flat = prepared(word, text, DATA + 1);
    flat.run(1);
    assert.equal(flat.slow, 0, "nothing is checked");
  }
});

Deno.test("the alignment of SP is checked where it is the base, and only there", () => {
  const ofSp = [0x4cdf0be0, "ld4\t{v0.4s-v3.4s}, [sp], #64"] as const;
  for (const [[word, text], slow] of [[LD4, 0], [ofSp, 1]] as const) {
    const flat = prepared(word, text, DATA + 4);
    flat.cpu.spAlignMask = 15;
    flat.memory.st64(flat.cpu.base + gprOffset(SLOT.SP), BigInt(DATA + 4));
    flat.run(1);
    assert.equal(flat.slow, slow, text);
  }
});
