/** Which accesses to system registers trap, where to and with what syndrome, and which are UNDEFINED. */
import assert from "node:assert/strict";
import { R, sysreg, sysregKey, type SysregName } from "../../src/arm/arch/sysregs.ts";
import { E2H, type Machine, mrsWord, RW, TGE } from "./core_fixture.ts";
import { bit, open, outcome, UNDEFINED } from "./sysreg_outcome.ts";

type Values = Parameters<Machine["set"]>[0];

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
