/** What system registers hold: which one a name reaches with E2H, what reads give and writes keep. */
import assert from "node:assert/strict";
import { R, sysreg, type SysregName } from "../../src/arm/arch/sysregs.ts";
import { E2H, Machine, RW, TGE } from "./core_fixture.ts";
import { bit, open, outcome, UNDEFINED } from "./sysreg_outcome.ts";

const REDIRECTED = [
  "SCTLR",
  "CPACR",
  "TTBR0",
  "TTBR1",
  "TCR",
  "AFSR0",
  "AFSR1",
  "ESR",
  "FAR",
  "MAIR",
  "AMAIR",
  "VBAR",
  "CONTEXTIDR",
  "CNTKCTL",
  "SPSR",
  "ELR",
] as const;

for (const name of REDIRECTED) {
  const el1 = `${name}_EL1` as SysregName, el12 = `${name}_EL12` as SysregName;
  const twin = sysreg(el1).target as SysregName;
  Deno.test(`E2H: ${el1} reaches ${twin} at EL2, ${el12} reaches ${el1}`, () => {
    const m = open();
    m.set({ [el1]: 0n, [twin]: 0n });
    m.set({ HCR_EL2: RW | E2H });
    const { regs } = m.core();
    // Within what every one of these registers holds
    const at = name === "CPACR"
      ? 0x30_0000n
      : name.startsWith("CNT")
      ? 0x300n
      : 0x4001_1000n & maskOf(name);
    const before = regs.get(el1);
    m.msr(el1, at);
    assert.equal(regs.get(el1), before);
    assert.equal(regs.get(twin) & at, at);
    assert.equal(m.mrs(el1), regs.get(twin));
    const twinValue = regs.get(twin);
    m.msr(el12, at);
    assert.equal(regs.get(twin), twinValue);
    assert.equal(regs.get(el1) & at, at);
    assert.equal(m.mrs(el12), regs.get(el1));
    if (name === "SCTLR" || name === "TCR" || name === "CNTKCTL") return;
    // Without E2H the EL1 name is the EL1 register
    m.set({ HCR_EL2: RW, [el1]: 0n });
    m.msr(el1, at);
    assert.equal(regs.get(el1) & at, at);
  });
}
function maskOf(name: string): bigint {
  return name === "SPSR" ? 0xf000_03c0n : name === "SCTLR" ? 0x1000n : 0xffff_ffffn;
}

Deno.test("E2H redirects the EL1 timers' names, _EL02 reaches them; the host's EL0 too", () => {
  const m = open();
  m.set({ HCR_EL2: RW | E2H });
  const { regs } = m.core();
  m.msr("CNTP_CVAL_EL0", 0x1111n);
  m.msr("CNTV_CVAL_EL0", 0x2222n);
  m.msr("CNTP_CVAL_EL02", 0x3333n);
  m.msr("CNTV_CVAL_EL02", 0x4444n);
  const values = () =>
    (["CNTHP_CVAL_EL2", "CNTHV_CVAL_EL2", "CNTP_CVAL_EL0", "CNTV_CVAL_EL0"] as const).map((n) =>
      regs.get(n)
    );
  assert.deepEqual(values(), [0x1111n, 0x2222n, 0x3333n, 0x4444n]);
  m.set({ HCR_EL2: RW | E2H | TGE, CNTHCTL_EL2: 0xfffn });
  m.enter(0);
  m.msr("CNTV_CVAL_EL0", 0x5555n);
  assert.equal(regs.get("CNTHV_CVAL_EL2"), 0x5555n);
  assert.equal(m.mrs("CNTP_CVAL_EL0"), 0x1111n);
});

// Values

Deno.test("MIDR and MPIDR are virtual at EL1", () => {
  const m = open();
  m.set({ VPIDR_EL2: 0x1234n, VMPIDR_EL2: 0x80_8000_0102n });
  assert.equal(m.mrs("MPIDR_EL1"), 0x8000_0000n);
  const midr = m.mrs("MIDR_EL1");
  assert.equal(midr >> 24n, 0n);
  m.enter(1);
  assert.equal(m.mrs("MIDR_EL1"), 0x1234n);
  assert.equal(m.mrs("MPIDR_EL1"), 0x80_8000_0102n);
});

Deno.test("a core of Armv8.0 says what is there", () => {
  const m = new Machine({ cpu: "v8.0" });
  const pfr0 = m.mrs("ID_AA64PFR0_EL1"), mmfr0 = m.mrs("ID_AA64MMFR0_EL1");
  const mmfr1 = m.mrs("ID_AA64MMFR1_EL1"), dfr0 = m.mrs("ID_AA64DFR0_EL1");
  const field = (value: bigint, at: number) => (value >> BigInt(at)) & 15n;
  assert.deepEqual([0, 4, 8, 12, 16, 20, 24].map((at) => field(pfr0, at)), [
    1n,
    1n,
    1n,
    0n,
    0n,
    0n,
    1n,
  ]);
  assert.deepEqual([0, 4, 20, 24, 28].map((at) => field(mmfr0, at)), [5n, 2n, 1n, 0n, 0n]);
  assert.deepEqual([0, 4, 8, 20].map((at) => field(mmfr1, at)), [0n, 0n, 1n, 1n]);
  assert.deepEqual([0, 8, 12, 20, 28].map((at) => field(dfr0, at)), [7n, 1n, 5n, 3n, 1n]);
  for (const name of ["ID_AA64ISAR1_EL1", "ID_AA64MMFR2_EL1"] as const) {
    assert.equal(m.mrs(name), 0n);
  }
});

Deno.test("cache identification is consistent", () => {
  const m = open();
  const ctr = m.mrs("CTR_EL0");
  assert.equal((ctr >> 29n) & 1n, 0n); // DIC
  assert.equal((ctr >> 14n) & 3n, 3n); // L1Ip PIPT
  const line = 4n << ((ctr >> 16n) & 15n);
  for (const [selector, bytes] of [[0n, 32], [1n, 32], [2n, 1024]] as const) {
    m.msr("CSSELR_EL1", selector);
    const c = m.mrs("CCSIDR_EL1");
    const size = (16n << (c & 7n)) * (((c >> 3n) & 0x3ffn) + 1n) * ((c >> 13n) + 1n);
    assert.deepEqual([size, 16n << (c & 7n)], [BigInt(bytes * 1024), line]);
  }
});

Deno.test("DCZID_EL0 tells where DC ZVA is prohibited", () => {
  const m = open();
  assert.equal(m.mrs("DCZID_EL0"), 4n);
  m.enter(0);
  assert.equal(m.mrs("DCZID_EL0"), 4n);
  m.set({ SCTLR_EL1: 0n });
  assert.equal(m.mrs("DCZID_EL0"), 0x14n);
  m.enter(1);
  assert.equal(m.mrs("DCZID_EL0"), 4n);
  m.set({ HCR_EL2: RW | bit(28) });
  assert.equal(m.mrs("DCZID_EL0"), 0x14n);
});

Deno.test("PSTATE fields by MSR, register and immediate", () => {
  const m = open();
  m.enter(1);
  const { cpu } = m.core();
  m.msr("NZCV", 0xa000_0000n);
  m.msr("DAIF", 0x240n);
  m.msr("PAN", 1n << 22n);
  assert.deepEqual([cpu.nzcv, cpu.daif, cpu.pan], [10, 9, 1]);
  assert.deepEqual([m.mrs("NZCV"), m.mrs("DAIF"), m.mrs("PAN")], [0xa000_0000n, 0x240n, 1n << 22n]);
  m.execute(0xd503_42df); // msr daifset, #2
  m.execute(0xd503_41ff); // msr daifclr, #1
  m.execute(0xd500_409f); // msr pan, #0
  m.execute(0xd500_40bf); // msr spsel, #0
  m.execute(0xd503_415f); // msr dit, #1
  m.execute(0xd500_417f); // msr uao, #1
  assert.deepEqual([cpu.daif, cpu.pan, cpu.spsel], [10, 0, 0]);
  assert.deepEqual([m.mrs("DIT"), m.mrs("UAO")], [1n << 24n, 1n << 23n]);
  m.execute(0xd400_0001); // svc
  assert.deepEqual([m.mrs("DIT"), m.mrs("UAO")], [0n, 0n]);
  assert.equal(m.core().regs.lo(R.SPSR_EL1) & 0x180_0000, 0x180_0000);
  m.enter(0);
  m.msr("DIT", 1n << 24n);
  assert.equal(m.mrs("DIT"), 1n << 24n);
});

Deno.test("MSR DAIFSet at EL0 traps with its own encoding", () => {
  const m = open();
  m.enter(0);
  m.execute(0xd503_42df);
  assert.equal(m.core().cpu.daif, 2);
  m.set({ SCTLR_EL1: 0n });
  m.execute(0xd503_42df);
  // op0 0, op2 6, op1 3, CRn 4, Rt 31, CRm 2, write
  assert.equal(m.core().regs.lo(R.ESR_EL1), 0x620c_d3e4);
  m.enter(0);
  m.execute(0xd500_40bf); // msr spsel: UNDEFINED at EL0
  assert.equal(m.core().regs.lo(R.ESR_EL1), UNDEFINED);
});

Deno.test("the OS lock, claim tags", () => {
  const m = open();
  m.enter(1);
  assert.equal(m.mrs("OSLSR_EL1"), 0xan);
  m.msr("OSLAR_EL1", 0n);
  assert.equal(m.mrs("OSLSR_EL1"), 8n);
  m.msr("DBGCLAIMSET_EL1", 0x1ffn);
  assert.equal(m.mrs("DBGCLAIMCLR_EL1"), 0xffn);
  m.msr("DBGCLAIMCLR_EL1", 0xf0n);
  assert.deepEqual([m.mrs("DBGCLAIMCLR_EL1"), m.mrs("DBGCLAIMSET_EL1")], [0xfn, 0xffn]);
});

Deno.test("reserved bits on a write", () => {
  const m = open();
  const all = 0xffff_ffff_ffff_ffffn;
  const written = (name: SysregName, value = all) => {
    m.msr(name, value);
    return m.core().regs.get(name);
  };
  assert.equal(written("SPSR_EL1"), 0xf1f0_03dfn);
  const plain = new Machine({ cpu: "v8.0" });
  plain.msr("SPSR_EL2", all);
  assert.equal(plain.core().regs.get("SPSR_EL2"), 0xf070_03dfn);
  plain.msr("TCR_EL1", all);
  plain.msr("TCR_EL2", all);
  plain.msr("VTCR_EL2", all);
  const { regs } = plain.core();
  assert.deepEqual(
    [regs.get("TCR_EL1"), regs.get("TCR_EL2"), regs.get("VTCR_EL2")],
    [0x77_ffff_ffbfn, 0x8097_ff3fn, 0x8007_ffffn],
  );
  plain.set({ HCR_EL2: RW | E2H });
  plain.msr("TCR_EL2", all);
  assert.equal(regs.get("TCR_EL2"), 0x77_ffff_ffbfn);
  assert.equal(written("SCTLR_EL1", 0n), 0x3050_0980n);
  assert.equal(written("TCR_EL1"), 0x7f7_ffff_ffbfn);
  assert.equal(written("VBAR_EL1"), 0xffff_ffff_ffff_f800n);
  assert.equal(written("CPTR_EL2", 0n), 0x33ffn);
  assert.equal(written("VTTBR_EL2"), 0x00ff_ffff_ffff_fffen);
  assert.equal(written("HCR_EL2", E2H), E2H | RW);
  assert.equal(written("CPTR_EL2"), 0x9030_0000n);
  assert.equal(written("CNTHCTL_EL2"), 0xfffn);
  assert.equal(written("MAIR_EL2"), all);
});

Deno.test("FPCR and FPSR are masked, and trap like FP", () => {
  const m = open();
  m.enter(1);
  m.msr("FPCR", 0xffff_ffff_ffffn);
  m.msr("FPSR", 0xffff_ffffn);
  assert.deepEqual([m.mrs("FPCR"), m.mrs("FPSR")], [0x07c8_0000n, 0x0800_009fn]);
  const plain = new Machine({ cpu: "v8.0", el: 1 });
  plain.set({ CPACR_EL1: 3n << 20n });
  plain.msr("FPCR", 0xffff_ffffn);
  assert.equal(plain.mrs("FPCR"), 0x07c0_0000n, "FZ16 comes with half precision");
  m.set({ CPACR_EL1: 0n });
  assert.deepEqual(outcome(m, 1, sysreg("FPCR").key, false), [1, 0x1fe0_0000]);
});
