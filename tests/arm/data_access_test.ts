import assert from "node:assert/strict";
import { R } from "../../src/arm/arch/sysregs.ts";
import { CODE, Machine, RAM } from "./core_fixture.ts";

const LDR_X1_X2 = 0xf940_0041, STR_X1_X2 = 0xf900_0041, LDRSB_W1_X2 = 0x39c0_0041;
const STRB_W1_X2 = 0x3900_0041, LDAR_X1_X2 = 0xc8df_fc41;
const DATA = RAM + 0x8000;
const TABLE = RAM + 0x2_0000;

/** Stage 1 on at EL1: identity for the first 2 MiB of RAM by 4K pages, each with `extra` bits. */
function mapped(extra: (page: number) => bigint = () => 0n): Machine {
  const m = new Machine();
  const st = (pa: number, value: bigint) => m.memory.st64(m.at(pa), value);
  st(TABLE + 8, BigInt(TABLE + 0x1000) | 3n);
  st(TABLE + 0x1000, BigInt(TABLE + 0x2000) | 3n);
  for (let page = 0; page < 256; page++) {
    st(TABLE + 0x2000 + 8 * page, BigInt(RAM + page * 4096) | 0x403n | extra(page));
  }
  m.set({
    MAIR_EL1: 0x00ffn, // index 0 Normal, 1 Device
    TCR_EL1: 25n | (1n << 23n),
    TTBR0_EL1: BigInt(TABLE),
    SCTLR_EL1: 1n,
  });
  m.enter(1);
  return m;
}

const esr1 = (m: Machine) => m.core().regs.lo(R.ESR_EL1);
const far1 = (m: Machine) => m.core().regs.num(R.FAR_EL1);
const done = (m: Machine) => m.core().cpu.pc === BigInt(CODE + 4);

Deno.test("a device is read and written at its size; beyond it is an external abort", () => {
  const m = new Machine({ el: 1 });
  const seen: unknown[] = [];
  m.bus.add("probe", 0x900_0000, 0x1000, {
    read: (offset, size, cpu) => (seen.push(["r", offset, size, cpu]), 0xfff0),
    write: (offset, size, value) => void seen.push(["w", offset, size, value]),
  });
  m.setX(2, 0x900_0010n);
  m.execute(LDRSB_W1_X2);
  assert.equal(m.x(1), 0xffff_fff0n);
  m.setX(1, 0x1234n);
  m.execute(STRB_W1_X2);
  m.execute(STR_X1_X2);
  assert.deepEqual(seen, [["r", 0x10, 1, 0], ["w", 0x10, 1, 0x34n], ["w", 0x10, 8, 0x1234n]]);
  m.setX(2, 0x901_0000n);
  m.execute(LDR_X1_X2);
  assert.equal(esr1(m), 0x9600_0010);
  assert.equal(far1(m), 0x901_0000);
  m.execute(STR_X1_X2);
  assert.equal(esr1(m), 0x9600_0050);
});

Deno.test("with the MMU off a misaligned access faults, an aligned one does not", () => {
  const m = new Machine({ el: 1 });
  m.setX(2, BigInt(DATA + 4));
  m.execute(LDR_X1_X2);
  assert.equal(esr1(m), 0x9600_0021);
  assert.equal(far1(m), DATA + 4);
  m.setX(2, BigInt(DATA));
  m.execute(STR_X1_X2);
  assert.ok(done(m));
});

Deno.test("misaligned access: to Normal memory done, to Device a fault, acquire always a fault", () => {
  const m = mapped((page) => page === 9 ? 4n : 0n);
  m.memory.st64(m.at(DATA), 0x8877_6655_4433_2211n);
  m.setX(2, BigInt(DATA + 1));
  m.execute(LDR_X1_X2);
  assert.equal(m.x(1), 0x0088_7766_5544_3322n);
  m.execute(LDAR_X1_X2);
  assert.equal(esr1(m), 0x9600_0021);
  m.setX(2, BigInt(RAM + 0x9001));
  m.execute(LDR_X1_X2);
  assert.equal(esr1(m), 0x9600_0021);
  assert.equal(far1(m), RAM + 0x9001);
});

Deno.test("an access across two pages is whole, or nothing is stored", () => {
  const m = mapped((page) => page === 11 ? 0x80n : 0n);
  const edge = RAM + 0x9ffc;
  m.setX(1, 0x1122_3344_5566_7788n);
  m.setX(2, BigInt(edge));
  m.execute(STR_X1_X2);
  m.setX(1, 0n);
  m.execute(LDR_X1_X2);
  assert.equal(m.x(1), 0x1122_3344_5566_7788n);
  // The second page is read-only: a permission fault of level 3 at its start
  m.setX(2, BigInt(edge + 0x1000));
  m.execute(STR_X1_X2);
  assert.equal(esr1(m), 0x9600_004f);
  assert.equal(far1(m), RAM + 0xb000);
  assert.equal(m.memory.ld32(m.at(edge + 0x1000)), 0);
  m.execute(LDR_X1_X2);
  assert.ok(done(m));
});

Deno.test("translation faults: levels, EL0 and EL1 classes, instruction aborts", () => {
  const m = mapped((page) => page === 12 ? 0x40n : 0n);
  m.setX(2, 0x8000_0000n);
  m.execute(LDR_X1_X2);
  assert.equal(esr1(m), 0x9600_0005);
  m.setX(2, BigInt(RAM + 0x20_0000));
  m.execute(STR_X1_X2);
  assert.equal(esr1(m), 0x9600_0046);
  m.core().cpu.pc = 0x8000_0000n;
  m.core().executeSlow();
  assert.equal(esr1(m), 0x8600_0005);
  m.enter(0);
  m.core().cpu.pc = BigInt(RAM + 0x20_0000);
  m.core().executeSlow();
  assert.equal(esr1(m), 0x8200_0006);
});

/** Adds a stage 2 with only the first pages of RAM: an identity map without page `hole`. */
function staged(hole: number): Machine {
  const m = mapped();
  const tables = RAM + 0x3_0000;
  const st = (pa: number, value: bigint) => m.memory.st64(m.at(pa), value);
  st(tables + 8, BigInt(tables + 0x1000) | 3n);
  st(tables + 0x1000, BigInt(tables + 0x2000) | 3n);
  for (let page = 0; page < 256; page++) {
    const entry = BigInt(RAM + page * 4096) | 0x7ffn;
    st(tables + 0x2000 + 8 * page, page === hole ? 0n : entry);
  }
  m.set({
    VTTBR_EL2: BigInt(tables),
    VTCR_EL2: 25n | (1n << 6n) | (2n << 16n),
    HCR_EL2: 0x8000_0001n,
  });
  return m;
}

Deno.test("a stage 2 fault goes to EL2 with ISV, FAR and HPFAR", () => {
  const rows = [
    [LDR_X1_X2, 0x93c1_8007],
    [STRB_W1_X2, 0x9301_0047],
    [LDRSB_W1_X2, 0x9321_0007],
    [LDAR_X1_X2, 0x93c1_c007],
    [0xf840_8441, 0x9200_0007], // ldr x1, [x2], #8
    [0xa940_0c41, 0x9200_0007], // ldp
    [0xc85f_7c41, 0x9200_0007], // ldxr
  ] as const;
  for (const [word, esr] of rows) {
    const m = staged(8);
    m.setX(2, BigInt(DATA + 0x120));
    m.execute(word);
    const { cpu, regs } = m.core();
    assert.deepEqual([cpu.el, regs.lo(R.ESR_EL2)], [2, esr]);
    assert.equal(regs.num(R.FAR_EL2), DATA + 0x120);
    assert.equal(regs.num(R.HPFAR_EL2), DATA / 256);
    assert.equal(m.x(2), BigInt(DATA + 0x120));
  }
});

Deno.test("a stage 2 fault on the walk of stage 1 says S1PTW and the table's address", () => {
  const m = staged(0x22);
  m.setX(2, BigInt(DATA));
  m.core().cpu.pc = BigInt(CODE);
  m.core().executeSlow();
  const { regs } = m.core();
  assert.equal(regs.lo(R.ESR_EL2), 0x8200_0087);
  assert.equal(regs.num(R.HPFAR_EL2), (TABLE + 0x2000) / 256);
  assert.equal(regs.num(R.FAR_EL2), CODE);
});

Deno.test("exclusives: success, broken by a store, by CLREX, by another address, pairs", () => {
  const m = new Machine({ el: 1 });
  const ldxr = 0xc85f_7c41, stxr = 0xc800_7c43; // stxr w0, x3, [x2]
  const run = (between: () => void) => {
    m.setX(2, BigInt(DATA));
    m.setX(3, 7n);
    m.memory.st64(m.at(DATA), 1n);
    m.execute(ldxr);
    assert.equal(m.x(1), 1n);
    between();
    m.execute(stxr);
    return [m.x(0), m.memory.ld64(m.at(DATA))];
  };
  assert.deepEqual(run(() => {}), [0n, 7n]);
  assert.deepEqual(run(() => m.memory.st64(m.at(DATA), 5n)), [1n, 5n]);
  assert.deepEqual(run(() => m.execute(0xd503_305f)), [1n, 1n]);
  assert.deepEqual(run(() => m.setX(2, BigInt(DATA + 8))), [1n, 1n]);
  const words = () => [m.memory.ld32(m.at(DATA)), m.memory.ld32(m.at(DATA) + 4)];
  m.setX(2, BigInt(DATA));
  m.memory.st64(m.at(DATA), 0x2_0000_0001n);
  m.execute(0x887f_1041); // ldxp w1, w4, [x2]
  assert.deepEqual([m.x(1), m.x(4)], [1n, 2n]);
  m.setX(3, 8n);
  m.execute(0x8820_1043); // stxp w0, w3, w4, [x2]
  assert.deepEqual([m.x(0), words()], [0n, [8, 2]]);
});

Deno.test("a misaligned exclusive faults even on Normal memory; outside RAM it is not supported", () => {
  const m = mapped();
  m.setX(2, BigInt(DATA + 4));
  m.execute(0xc85f_7c41);
  assert.equal(esr1(m), 0x9600_0021);
  const flat = new Machine({ el: 1 });
  flat.setX(2, 0x900_0000n);
  flat.execute(0xc85f_7c41);
  assert.equal(esr1(flat), 0x9600_0035);
});

const LDADD_X1_X3_X2 = 0xf821_0043, CAS_X1_X3_X2 = 0xc8a1_7c43, CASP_X4_X6_X2 = 0x4824_7c46;
const SWPB_W1_W3_X2 = 0x3821_8043;

Deno.test("an atomic access reads and writes; aligned to its whole size, pairs too", () => {
  const m = mapped();
  m.setX(1, 5n);
  m.setX(2, BigInt(DATA + 8));
  m.memory.st64(m.at(DATA + 8), 0xffff_ffff_ffff_fffen);
  m.execute(LDADD_X1_X3_X2);
  assert.deepEqual([m.x(3), m.memory.ld64(m.at(DATA + 8))], [0xffff_ffff_ffff_fffen, 3n]);
  m.execute(CASP_X4_X6_X2);
  assert.equal(esr1(m), 0x9600_0061);
  assert.equal(far1(m), DATA + 8);
  m.setX(2, BigInt(DATA + 4));
  m.execute(LDADD_X1_X3_X2);
  assert.equal(esr1(m), 0x9600_0061);
  m.setX(2, BigInt(DATA + 9));
  m.execute(SWPB_W1_W3_X2);
  assert.ok(done(m));
});

Deno.test("an atomic access needs the permission to write even where it stores nothing", () => {
  const m = mapped((page) => page === 9 ? 0x80n : 0n);
  m.memory.st64(m.at(RAM + 0x9000), 77n);
  m.setX(1, 1n);
  m.setX(2, BigInt(RAM + 0x9000));
  for (const word of [CAS_X1_X3_X2, LDADD_X1_X3_X2]) {
    m.execute(word);
    // A read would have been allowed: WnR
    assert.equal(esr1(m), 0x9600_004f);
    assert.equal(m.x(1), 1n);
  }
  assert.equal(m.memory.ld64(m.at(RAM + 0x9000)), 77n);
  // Where a read would have faulted the fault is a read's.
  m.setX(2, 0x8000_0000n);
  m.execute(LDADD_X1_X3_X2);
  assert.equal(esr1(m), 0x9600_0005);
});

Deno.test("a page that stage 2 makes write-only takes stores, and atomic accesses fault as reads", () => {
  const m = staged(-1);
  const leaf = RAM + 0x3_2000 + 8 * 8;
  m.memory.st64(m.at(leaf), BigInt(DATA) | 0x7bfn);
  m.setX(1, 1n);
  m.setX(2, BigInt(DATA));
  m.execute(STR_X1_X2);
  assert.ok(done(m));
  m.execute(LDADD_X1_X3_X2);
  const { cpu, regs } = m.core();
  assert.deepEqual([cpu.el, regs.lo(R.ESR_EL2)], [2, 0x9200_000f]);
  assert.equal(m.memory.ld64(m.at(DATA)), 1n);
});

Deno.test("an atomic access outside RAM is not supported", () => {
  const m = new Machine({ el: 1 });
  m.setX(2, 0x900_0000n);
  m.execute(LDADD_X1_X3_X2);
  assert.equal(esr1(m), 0x9600_0035);
});

Deno.test("an atomic access breaks a monitor over the same memory", () => {
  const m = new Machine({ cpus: 2, el: 1 });
  m.setX(2, BigInt(DATA));
  m.execute(0xc85f_7c41); // ldxr x1, [x2]
  const other = m.core(1);
  m.setX(1, 1n, other);
  m.setX(2, BigInt(DATA), other);
  m.execute(LDADD_X1_X3_X2, other);
  m.execute(0xc800_7c43); // stxr w0, x3, [x2]
  assert.equal(m.x(0), 1n);
});

Deno.test("unprivileged accesses are EL0's, and with PSTATE.UAO the level's own", () => {
  const LDTR_X1_X2 = 0xf840_0841;
  const m = mapped();
  m.setX(2, BigInt(DATA));
  m.execute(LDTR_X1_X2);
  assert.equal(esr1(m), 0x9600_000f);
  // Taking the exception has cleared it.
  m.execute(0xd500_417f); // msr uao, #1
  assert.equal(m.core().cpu.uao, 1);
  m.execute(LDTR_X1_X2);
  assert.ok(done(m));
  m.execute(0xd400_0001); // svc
  assert.equal(m.core().cpu.uao, 0);
  assert.equal(m.core().regs.lo(R.SPSR_EL1) & (1 << 23), 1 << 23);
  m.execute(0xd69f_03e0); // eret
  assert.equal(m.core().cpu.uao, 1);
});
