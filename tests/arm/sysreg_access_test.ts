import assert from "node:assert/strict";
import { R, sysreg, sysregKey, type SysregName } from "../../src/arm/arch/sysregs.ts";
import { CODE, E2H, Machine, mrsWord, msrWord, RW, TGE } from "./core_fixture.ts";

type Values = Parameters<Machine["set"]>[0];

/** Executes MRS (or MSR) x3 at `el` and says what came of it: the ESR and its level, or undefined. */
function outcome(
  m: Machine,
  el: number,
  key: number,
  write: boolean,
): readonly [1 | 2, number] | undefined {
  m.enter(el);
  m.set({ ESR_EL1: 0n, ESR_EL2: 0n });
  m.execute(write ? msrWord(key, 3) : mrsWord(key, 3));
  const { cpu, regs } = m.core();
  if (cpu.pc === BigInt(CODE + 4)) return undefined;
  assert.equal(regs.num(cpu.el === 1 ? R.ELR_EL1 : R.ELR_EL2), CODE);
  return [cpu.el as 1 | 2, regs.lo(cpu.el === 1 ? R.ESR_EL1 : R.ESR_EL2)];
}

const UNDEFINED = 0x0200_0000;

/** ESR of class 0x18 for x3, from the fields as the manual lists them. */
function sys64(name: SysregName, write: boolean): number {
  const key = sysreg(name).key;
  const [op0, op1, crn, crm, op2] = [
    key >> 14,
    (key >> 11) & 7,
    (key >> 7) & 15,
    (key >> 3) & 15,
    key & 7,
  ];
  return 0x6200_0000 + op0 * 2 ** 20 + op2 * 2 ** 17 + op1 * 2 ** 14 + crn * 2 ** 10 + 3 * 32 +
    crm * 2 + (write ? 0 : 1);
}

type Trap = readonly [
  what: string,
  el: 0 | 1 | 2,
  set: Values,
  names: readonly SysregName[],
  on: "read" | "write" | "both",
  target: 1 | 2,
];

const bit = (n: number) => 1n << BigInt(n);
const VM_REGS: readonly SysregName[] = [
  "SCTLR_EL1",
  "TTBR0_EL1",
  "TTBR1_EL1",
  "TCR_EL1",
  "ESR_EL1",
  "FAR_EL1",
  "AFSR0_EL1",
  "AFSR1_EL1",
  "MAIR_EL1",
  "AMAIR_EL1",
  "CONTEXTIDR_EL1",
];

/** With `set` the access traps to `target`; with HCR_EL2 = RW and everything else open it does not. */
const TRAPS: readonly Trap[] = [
  ["TVM", 1, { HCR_EL2: RW | bit(26) }, VM_REGS, "write", 2],
  ["TRVM", 1, { HCR_EL2: RW | bit(30) }, VM_REGS, "read", 2],
  ["TACR", 1, { HCR_EL2: RW | bit(21) }, ["ACTLR_EL1"], "both", 2],
  ["TID1", 1, { HCR_EL2: RW | bit(16) }, ["REVIDR_EL1", "AIDR_EL1"], "read", 2],
  ["TID2", 1, { HCR_EL2: RW | bit(17) }, ["CTR_EL0", "CCSIDR_EL1", "CLIDR_EL1"], "read", 2],
  ["TID2", 1, { HCR_EL2: RW | bit(17) }, ["CSSELR_EL1"], "both", 2],
  ["TID2 at EL0", 0, { HCR_EL2: RW | bit(17) }, ["CTR_EL0"], "read", 2],
  [
    "TID3",
    1,
    { HCR_EL2: RW | bit(18) },
    ["ID_AA64PFR0_EL1", "ID_AA64MMFR2_EL1", "ID_AA64ISAR0_EL1", "ID_AA64DFR0_EL1"],
    "read",
    2,
  ],
  [
    "TLOR",
    1,
    { HCR_EL2: RW | bit(35) },
    ["LORSA_EL1", "LOREA_EL1", "LORN_EL1", "LORC_EL1"],
    "both",
    2,
  ],
  ["TLOR", 1, { HCR_EL2: RW | bit(35) }, ["LORID_EL1"], "read", 2],
  ["TCPAC", 1, { CPTR_EL2: bit(31) }, ["CPACR_EL1"], "both", 2],
  ["UCT", 0, { SCTLR_EL1: 0n }, ["CTR_EL0"], "read", 1],
  ["UMA", 0, { SCTLR_EL1: 0n }, ["DAIF"], "both", 1],
  ["UMA under TGE", 0, { SCTLR_EL1: 0n, HCR_EL2: RW | TGE }, ["DAIF"], "both", 2],
  ["host EL0", 0, { HCR_EL2: RW | TGE | E2H }, ["DAIF"], "both", 2],
  ["TDA", 1, { MDCR_EL2: bit(9) }, ["MDSCR_EL1", "DBGBVR0_EL1", "DBGWCR1_EL1"], "both", 2],
  ["TDA", 1, { MDCR_EL2: bit(9) }, ["DBGCLAIMSET_EL1", "OSECCR_EL1"], "both", 2],
  ["TDE", 1, { MDCR_EL2: bit(8) }, ["MDSCR_EL1", "OSDLR_EL1"], "both", 2],
  ["TDA at EL0", 0, { MDCR_EL2: bit(9) }, ["MDCCSR_EL0"], "read", 2],
  ["TDCC", 0, { MDSCR_EL1: bit(12) }, ["MDCCSR_EL0"], "read", 1],
  ["TDOSA", 1, { MDCR_EL2: bit(10) }, ["OSDLR_EL1", "DBGPRCR_EL1"], "both", 2],
  ["TDOSA", 1, { MDCR_EL2: bit(10) }, ["OSLAR_EL1"], "write", 2],
  ["TDRA", 1, { MDCR_EL2: bit(11) }, ["MDRAR_EL1"], "read", 2],
  ["EL0PCTEN", 0, { CNTKCTL_EL1: 0x302n }, ["CNTPCT_EL0"], "read", 1],
  ["EL0VCTEN", 0, { CNTKCTL_EL1: 0x301n }, ["CNTVCT_EL0"], "read", 1],
  [
    "EL0PTEN",
    0,
    { CNTKCTL_EL1: 0x103n },
    ["CNTP_CTL_EL0", "CNTP_CVAL_EL0", "CNTP_TVAL_EL0"],
    "both",
    1,
  ],
  [
    "EL0VTEN",
    0,
    { CNTKCTL_EL1: 0x203n },
    ["CNTV_CTL_EL0", "CNTV_CVAL_EL0", "CNTV_TVAL_EL0"],
    "both",
    1,
  ],
  ["EL0xCTEN", 0, { CNTKCTL_EL1: 0x300n }, ["CNTFRQ_EL0"], "read", 1],
  ["EL0PTEN under TGE", 0, { CNTKCTL_EL1: 0n, HCR_EL2: RW | TGE }, ["CNTP_CTL_EL0"], "both", 2],
  ["EL1PCTEN", 1, { CNTHCTL_EL2: 2n }, ["CNTPCT_EL0"], "read", 2],
  ["EL1PCTEN at EL0", 0, { CNTHCTL_EL2: 2n }, ["CNTPCT_EL0"], "read", 2],
  [
    "EL1PCEN",
    1,
    { CNTHCTL_EL2: 1n },
    ["CNTP_CTL_EL0", "CNTP_CVAL_EL0", "CNTP_TVAL_EL0"],
    "both",
    2,
  ],
  ["EL1PCTEN, E2H", 1, { HCR_EL2: RW | E2H, CNTHCTL_EL2: 0xbffn }, ["CNTPCT_EL0"], "read", 2],
  ["EL1PTEN, E2H", 1, { HCR_EL2: RW | E2H, CNTHCTL_EL2: 0x7ffn }, ["CNTP_CTL_EL0"], "both", 2],
  ["EL1PTEN, E2H, EL0", 0, { HCR_EL2: RW | E2H, CNTHCTL_EL2: 0x7ffn }, ["CNTP_CTL_EL0"], "both", 2],
  [
    "EL0PTEN of the host",
    0,
    { HCR_EL2: RW | E2H | TGE, CNTHCTL_EL2: 0xdffn },
    ["CNTP_CTL_EL0"],
    "both",
    2,
  ],
  [
    "IMO",
    1,
    { HCR_EL2: RW | bit(4) },
    ["ICC_SGI1R_EL1", "ICC_SGI0R_EL1", "ICC_ASGI1R_EL1"],
    "write",
    2,
  ],
  ["FMO", 1, { HCR_EL2: RW | bit(3) }, ["ICC_SGI1R_EL1"], "write", 2],
];

/** A machine where nothing below EL2 traps. */
function open(): Machine {
  const m = new Machine({ el: 2 });
  m.set({
    HCR_EL2: RW,
    SCTLR_EL1: bit(9) | bit(15) | bit(26) | bit(14) | bit(16) | bit(18),
    CNTKCTL_EL1: 0x303n,
    CNTHCTL_EL2: 3n,
    CPACR_EL1: 3n << 20n,
  });
  m.gic.iccWrite(0, R.ICC_SRE_EL2, 0xf, 0);
  return m;
}

for (const [what, el, set, names, on, target] of TRAPS) {
  for (const name of names) {
    for (const write of on === "both" ? [false, true] : [on === "write"]) {
      Deno.test(`${what}: ${write ? "write" : "read"} of ${name} at EL${el} traps to EL${target}`, () => {
        const m = open();
        m.set(set);
        assert.deepEqual(outcome(m, el, sysreg(name).key, write), [target, sys64(name, write)]);
        const free = open();
        assert.equal(outcome(free, el, sysreg(name).key, write), undefined);
      });
    }
  }
}

Deno.test("ICH_HCR_EL2 traps by group", () => {
  const rows = [
    [10, ["ICC_PMR_EL1", "ICC_CTLR_EL1"], "ICC_IAR1_EL1"],
    [11, ["ICC_IGRPEN0_EL1", "ICC_BPR0_EL1", "ICC_AP0R0_EL1"], "ICC_PMR_EL1"],
    [12, ["ICC_IGRPEN1_EL1", "ICC_IAR1_EL1", "ICC_HPPIR1_EL1"], "ICC_PMR_EL1"],
  ] as const;
  for (const [at, names, untouched] of rows) {
    const m = open();
    m.gic.ichWrite(0, R.ICH_HCR_EL2, 1 << at, 0);
    for (const name of names) {
      assert.deepEqual(outcome(m, 1, sysreg(name).key, false), [2, sys64(name, false)]);
    }
    assert.equal(outcome(m, 1, sysreg(untouched).key, false), undefined);
  }
  const m = open();
  m.gic.ichWrite(0, R.ICH_HCR_EL2, 1 << 14, 0);
  assert.deepEqual(outcome(m, 1, sysreg("ICC_DIR_EL1").key, true), [2, sys64("ICC_DIR_EL1", true)]);
});

Deno.test("IMO and FMO select the virtual interface at EL1 only", () => {
  const m = open();
  m.set({ HCR_EL2: RW | bit(3) | bit(4) });
  m.gic.ichWrite(0, R.ICH_HCR_EL2, 1, 0);
  m.gic.iccWrite(0, R.ICC_PMR_EL1, 0xf8, 0);
  m.enter(1);
  m.msr("ICC_PMR_EL1", 0x50n);
  assert.equal(m.mrs("ICC_PMR_EL1"), 0x50n);
  assert.equal(m.gic.iccRead(0, R.ICC_PMR_EL1), 0xf8);
  m.enter(2);
  assert.equal(m.mrs("ICC_PMR_EL1"), 0xf8n);
  assert.equal(m.mrs("ICH_VMCR_EL2") >> 24n, 0x50n);
});

Deno.test("a key of the exact syndrome: ICC_SGI1R_EL1 from x3 and from x0", () => {
  const m = open();
  m.set({ HCR_EL2: RW | bit(4) });
  m.enter(1);
  m.msr("ICC_SGI1R_EL1", 0n, 0);
  assert.equal(m.core().regs.lo(R.ESR_EL2), 0x623a_3016);
});

// Existence and levels

const UNDEFINED_CASES: readonly (readonly [string, 0 | 1 | 2, bigint, number, boolean])[] = [
  ["an EL1 register at EL0", 0, RW, sysreg("SCTLR_EL1").key, false],
  ["an EL2 register at EL1", 1, RW, sysreg("HCR_EL2").key, false],
  ["an EL2 register at EL1, written", 1, RW, sysreg("VTTBR_EL2").key, true],
  ["a read-only register written", 1, RW, sysreg("MIDR_EL1").key, true],
  ["a read-only view written at EL2", 2, RW, sysreg("CurrentEL").key, true],
  ["a write-only register read", 1, RW, sysreg("OSLAR_EL1").key, false],
  ["TPIDRRO_EL0 written at EL0", 0, RW, sysreg("TPIDRRO_EL0").key, true],
  ["CNTFRQ_EL0 written at EL1", 1, RW, sysreg("CNTFRQ_EL0").key, true],
  ["_EL12 at EL1", 1, RW | E2H, sysreg("SCTLR_EL12").key, false],
  ["_EL12 at EL2 without E2H", 2, RW, sysreg("SCTLR_EL12").key, false],
  ["_EL02 at EL2 without E2H", 2, RW, sysreg("CNTV_CTL_EL02").key, true],
  ["SP_EL2 at EL2", 2, RW, sysreg("SP_EL2").key, false],
  ["a list register beyond those there are", 2, RW, sysreg("ICH_LR4_EL2").key, false],
  ["ICH_AP1R1_EL2 with 5 priority bits", 2, RW, sysreg("ICH_AP1R1_EL2").key, false],
  ["DBGBVR6_EL1 with six breakpoints", 1, RW, sysreg("DBGBVR6_EL1").key, false],
  ["DACR32_EL2 without AArch32", 2, RW, sysreg("DACR32_EL2").key, false],
  ["PMEVCNTR6_EL0 with six counters", 1, RW, sysreg("PMEVCNTR6_EL0").key, false],
  ["PMMIR_EL1 without PMUv3p4", 1, RW, sysregKey(3, 0, 9, 14, 6), false],
  ["an implementation-defined register", 1, RW, sysregKey(3, 0, 15, 2, 0), false],
  ["an ID register at EL0", 0, RW, sysreg("ID_AA64PFR0_EL1").key, false],
  ["a reserved ID register at EL0", 0, RW, sysregKey(3, 0, 0, 7, 7), false],
  ["a reserved ID register written", 1, RW, sysregKey(3, 0, 0, 7, 7), true],
];

for (const [what, el, hcr, key, write] of UNDEFINED_CASES) {
  Deno.test(`${what} is UNDEFINED`, () => {
    const m = open();
    m.set({ HCR_EL2: hcr });
    assert.deepEqual(outcome(m, el, key, write), [el === 2 ? 2 : 1, UNDEFINED]);
  });
}

Deno.test("TIDCP traps implementation-defined registers, TID3 the reserved ID registers", () => {
  const m = open();
  m.set({ HCR_EL2: RW | bit(20) | bit(18) });
  // S3_0_C15_C2_0 read into x3; op0 3, CRn 15, CRm 2
  assert.deepEqual(outcome(m, 1, sysregKey(3, 0, 15, 2, 0), false), [2, 0x6230_3c65]);
  assert.deepEqual(outcome(m, 1, sysregKey(3, 0, 0, 7, 7), false), [2, 0x623e_006f]);
  m.set({ HCR_EL2: RW });
  m.setX(3, 5n);
  assert.equal(outcome(m, 1, sysregKey(3, 0, 0, 7, 7), false), undefined);
  assert.equal(m.x(3), 0n);
});

Deno.test("SP_EL0 is UNDEFINED while it is the stack pointer in use", () => {
  const m = open();
  m.core().regs.put("SP_EL0", 0x77n);
  assert.equal(m.mrs("SP_EL0"), 0x77n);
  m.msr("SPSel", 0n);
  assert.equal(m.sp(), 0x77n);
  m.execute(mrsWord(sysreg("SP_EL0").key, 1));
  assert.equal(m.core().regs.lo(R.ESR_EL2), UNDEFINED);
});

// E2H

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
