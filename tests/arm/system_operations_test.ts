import assert from "node:assert/strict";
import { R, sysregKey } from "../../src/arm/arch/sysregs.ts";
import { SYSTEM_OPERATIONS, systemOperationByKey } from "../../src/arm/system_operations.ts";
import { CODE, Machine, msrWord, RAM, RW, TGE } from "./core_fixture.ts";

const key = (name: string): number => {
  const found = SYSTEM_OPERATIONS.find((o) => o.name === name);
  assert.ok(found, name);
  return found.key;
};
// SYS is MSR's encoding with op0 1.
const sys = (name: string, rt = 3): number => msrWord(key(name), rt);
const bit = (n: number) => 1n << BigInt(n);

const UCI = bit(26), DZE = bit(14);

/** ESR of class 0x18 for SYS from x3. */
function esrOf(name: string): number {
  const k = key(name);
  const [op1, crn, crm, op2] = [(k >> 11) & 7, (k >> 7) & 15, (k >> 3) & 15, k & 7];
  return 0x6210_0060 + op2 * 2 ** 17 + op1 * 2 ** 14 + crn * 2 ** 10 + crm * 2;
}

const TRAPS: readonly (readonly [string, 0 | 1, bigint, bigint, readonly string[], 1 | 2])[] = [
  ["TSW", 1, RW | bit(22), UCI, ["ISW", "CSW", "CISW"], 2],
  ["TPCP", 1, RW | bit(23), UCI, ["IVAC", "CVAC", "CIVAC"], 2],
  ["TPCP at EL0", 0, RW | bit(23), UCI, ["CVAC", "CIVAC"], 2],
  ["TPU", 1, RW | bit(24), UCI, ["CVAU", "IVAU", "IALLU", "IALLUIS"], 2],
  ["TPU at EL0", 0, RW | bit(24), UCI, ["CVAU", "IVAU"], 2],
  ["TTLB", 1, RW | bit(25), UCI, ["VMALLE1", "VMALLE1IS", "VAE1IS", "ASIDE1IS", "VAALE1"], 2],
  ["TDZ", 1, RW | bit(28), UCI, ["ZVA"], 2],
  ["TDZ at EL0", 0, RW | bit(28), DZE, ["ZVA"], 2],
  ["DZE", 0, RW | bit(28), UCI, ["ZVA"], 1],
  ["UCI", 0, RW | bit(23), DZE, ["CVAC", "CIVAC", "CVAU", "IVAU"], 1],
  ["UCI under TGE", 0, RW | TGE, DZE, ["CVAC"], 2],
];

for (const [what, el, hcr, sctlr, names, target] of TRAPS) {
  for (const name of names) {
    Deno.test(`${what}: ${name} at EL${el} traps to EL${target}`, () => {
      const m = new Machine();
      m.set({ HCR_EL2: hcr, SCTLR_EL1: sctlr });
      m.enter(el);
      m.setX(3, BigInt(CODE));
      m.execute(sys(name));
      const { cpu, regs } = m.core();
      assert.equal(cpu.el, target);
      assert.equal(regs.lo(target === 1 ? R.ESR_EL1 : R.ESR_EL2), esrOf(name));
    });
  }
}

Deno.test("levels: EL2's operations at EL1, EL1's at EL0, and what does not exist are UNDEFINED", () => {
  const rows = [
    [1, key("ALLE1IS")],
    [1, key("S12E1R")],
    [1, key("IPAS2E1IS")],
    [0, key("VAE1IS")],
    [0, key("IALLU")],
    [0, key("IVAC")],
    [1, sysregKey(1, 6, 8, 7, 0)], // TLBI ALLE3
  ] as const;
  for (const [el, k] of rows) {
    const m = new Machine();
    m.enter(el);
    m.execute(msrWord(k, 3));
    assert.equal(m.core().regs.lo(R.ESR_EL1), 0x0200_0000, String(k));
  }
});

Deno.test("an operation of a feature is UNDEFINED on a core that has it not", () => {
  for (const name of ["S1E1RP", "S1E1WP", "CVAP", "CVADP"]) {
    for (const [cpu, esr] of [["v8.0", 0x0200_0000], ["max", 0]] as const) {
      const m = new Machine({ cpu });
      m.enter(1);
      m.execute(sys(name));
      assert.equal(m.core().regs.lo(R.ESR_EL1), esr, `${name} ${cpu}`);
    }
  }
});

Deno.test("TIDCP traps implementation-defined operations", () => {
  const m = new Machine();
  m.set({ HCR_EL2: RW | bit(20) });
  m.enter(1);
  m.execute(msrWord(sysregKey(1, 0, 15, 0, 0), 3));
  assert.equal(m.core().regs.lo(R.ESR_EL2), 0x6210_3c60);
});

Deno.test("DC ZVA clears its block; with the MMU off it is an alignment fault", () => {
  const m = new Machine();
  const base = RAM + 0x8000;
  m.memory.u8.fill(0xff, m.at(base - 64), m.at(base + 128));
  m.setX(3, BigInt(base + 17));
  m.enter(1);
  m.execute(sys("ZVA"));
  assert.equal(m.core().regs.lo(R.ESR_EL1), 0x9600_0061);
  assert.equal(m.core().regs.num(R.FAR_EL1), base + 17);
  // One block of 1 GiB, Normal
  m.memory.st64(m.at(RAM + 0x9008), BigInt(RAM) | 0x401n);
  m.set({
    SCTLR_EL1: 1n,
    TCR_EL1: 25n | bit(23),
    TTBR0_EL1: BigInt(RAM + 0x9000),
    MAIR_EL1: 0xffn,
  });
  m.execute(sys("ZVA"));
  const bytes = (at: number, n: number) => [...m.memory.u8.subarray(m.at(at), m.at(at) + n)];
  assert.deepEqual(bytes(base, 64), new Array(64).fill(0));
  assert.deepEqual([bytes(base - 1, 1), bytes(base + 64, 1)], [[0xff], [0xff]]);
});

Deno.test("maintenance by address translates: a fault says CM and WnR, without ISV", () => {
  const m = new Machine();
  m.enter(1);
  m.set({ SCTLR_EL1: 1n | UCI, TCR_EL1: 25n | bit(23), TTBR0_EL1: BigInt(RAM + 0x9000) });
  // Fetches need a mapping: one block of 1 GiB at 0x40000000, nothing at 0x80000000
  m.memory.st64(m.at(RAM + 0x9008), BigInt(RAM) | 0x401n);
  for (const name of ["CVAC", "CIVAC", "CVAU", "IVAC", "IVAU"]) {
    m.setX(3, 0x8000_1234n);
    m.execute(sys(name));
    assert.equal(m.core().regs.lo(R.ESR_EL1), 0x9600_0145, name);
    assert.equal(m.core().regs.num(R.FAR_EL1), 0x8000_1234);
    m.setX(3, BigInt(CODE));
    m.execute(sys(name));
    assert.equal(m.core().cpu.pc, BigInt(CODE + 4), name);
  }
  m.setX(3, 0x8000_1234n);
  m.execute(sys("CISW"));
  assert.equal(m.core().cpu.pc, BigInt(CODE + 4));
});

Deno.test("IC reaches the hook: a physical address, or all", () => {
  const m = new Machine();
  m.enter(1);
  m.setX(3, BigInt(CODE + 8));
  m.execute(sys("IVAU"));
  m.execute(sys("IALLUIS"));
  m.execute(sys("IALLU"));
  assert.deepEqual(m.invalidated, [CODE + 8, "all", "all"]);
  assert.deepEqual(m.broadcasts, [true, true, false]);
});

Deno.test("IC IALLU reaches all CPUs where HCR_EL2.FB says so, from EL1", () => {
  const m = new Machine();
  m.core().regs.setNum(R.HCR_EL2, 2 ** 31 + (1 << 9));
  m.enter(2);
  m.execute(sys("IALLU"));
  m.enter(1);
  m.execute(sys("IALLU"));
  assert.deepEqual(m.broadcasts, [false, true]);
});

Deno.test("AT leaves its result in PAR_EL1", () => {
  const m = new Machine();
  m.enter(1);
  m.setX(3, BigInt(CODE + 0x123));
  m.execute(sys("S1E1R"));
  assert.equal(m.mrs("PAR_EL1") & 0xff_ffff_f001n, BigInt(CODE));
});

Deno.test("SYSL does not exist", () => {
  const m = new Machine();
  m.enter(1);
  m.execute(0xd528_7620);
  assert.equal(m.core().regs.lo(R.ESR_EL1), 0x0200_0000);
  assert.equal(systemOperationByKey(0), undefined);
});
