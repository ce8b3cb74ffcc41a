/** What is executed without the evaluator does what the evaluator does. */
import assert from "node:assert/strict";
import { CpuLayout } from "../../src/arm/arch/cpu_state.ts";
import { SYSREGS } from "../../src/arm/arch/sysregs.ts";
import { SYSTEM_OPERATIONS } from "../../src/arm/system_operations.ts";
import {
  brk,
  CODE,
  E2H,
  ERET,
  hvc,
  Machine,
  msrWord,
  RAM,
  RW,
  smc,
  svc,
  TGE,
  VM,
  WFE,
  WFI,
} from "./core_fixture.ts";

const HCRS = [RW, RW | E2H, RW | E2H | TGE, RW | 0x7fff_ffffn & ~VM, RW | E2H | 0x77ff_fffen];
const EVERYTHING = [
  svc(5),
  hvc(0xffff),
  smc(1),
  brk(3),
  0xd440_0000,
  ERET,
  WFI,
  WFE,
  // SEV, NOP, ISB, DSB SY, MSR DAIFSet, SYSL, MRS and MSR of encodings without a register
  0xd503_209f,
  0xd503_201f,
  0xd503_3fdf,
  0xd503_3f9f,
  0xd503_42df,
  0xd52b_7421,
  0xd53b_f3e1,
  0xd518_ffe1,
  ...SYSREGS.flatMap(({ key }) =>
    [1, 31].flatMap((rt) => [
      msrWord(key, rt),
      (msrWord(key, rt) | 0x20_0000) >>> 0,
    ])
  ),
  ...SYSTEM_OPERATIONS.flatMap(({ key }) => [msrWord(key, 2), msrWord(key, 31)]),
];

/** A machine with the same in all registers, and a value to write in X1 and an address in X2. */
function prepared(hcr: bigint, el: number, round: number): Machine {
  const m = new Machine();
  m.set({ HCR_EL2: hcr, ELR_EL1: BigInt(CODE + 64), SPSR_EL1: round === 0 ? 0n : 0x3c5n });
  m.set({ ELR_EL2: BigInt(CODE + 128), SPSR_EL2: 5n, CNTKCTL_EL1: 3n });
  m.enter(el);
  m.core().cpu.eventRegister = round;
  for (let n = 0; n < 31; n++) m.setX(n, BigInt(RAM + 64 * n));
  m.setX(1, round === 0 ? 0n : 0x8765_4321_fedc_ba98n);
  m.memory.st32(m.at(CODE), 0);
  return m;
}

function assertSame(a: Uint32Array, b: Uint32Array, what: string): void {
  const at = a.findIndex((word, i) => word !== b[i]);
  assert.equal(at, -1, `${what}: word ${at} is ${a[at]} and ${b[at]}`);
}

function cpuState(m: Machine): Uint32Array {
  const base = m.core().cpu.base >>> 2;
  return m.memory.u32.subarray(base, base + CpuLayout.size / 4);
}

/** Executes everything on both, each from the same state of the CPU. */
function compare(direct: Machine, reference: Machine, what: string): void {
  const start = cpuState(direct).slice();
  for (const word of EVERYTHING) {
    for (const m of [direct, reference]) {
      cpuState(m).set(start);
      m.memory.st32(m.at(CODE), word);
      m.core().cpu.pc = BigInt(CODE);
    }
    direct.core().executeSlow();
    reference.core().executeByEvaluator();
    const which = `${word.toString(16)} ${what}`;
    assertSame(cpuState(direct), cpuState(reference), which);
    assert.deepEqual(direct.invalidated.splice(0), reference.invalidated.splice(0), which);
    assert.equal(direct.endedSlices, reference.endedSlices, which);
  }
  assertSame(direct.memory.u32, reference.memory.u32, what);
}

Deno.test("calls, ERET, system registers and operations, WFI and WFE as the evaluator has them", () => {
  for (const hcr of HCRS) {
    for (const el of [0, 1, 2]) {
      for (const round of [0, 1]) {
        const what = `at EL${el}, HCR_EL2 ${hcr.toString(16)}, ${round}`;
        compare(prepared(hcr, el, round), prepared(hcr, el, round), what);
      }
    }
  }
});
