import assert from "node:assert/strict";
import { DAIF, LINE, SLOT } from "../../src/arm/arch/cpu_state.ts";
import { R } from "../../src/arm/arch/sysregs.ts";
import {
  exceptionReturn,
  pollInterrupts,
  refreshInterrupts,
  takeException,
  VECTOR,
} from "../../src/arm/exceptions.ts";
import { pstateToSpsr, setElAndSpsel } from "../../src/arm/pstate.ts";
import {
  brk,
  CODE,
  E2H,
  ERET,
  hvc,
  Machine,
  mrsWord,
  RW,
  smc,
  svc,
  TGE,
  VBAR1,
  VBAR2,
} from "./core_fixture.ts";

const esr1 = (m: Machine) => m.core().regs.lo(R.ESR_EL1);
const esr2 = (m: Machine) => m.core().regs.lo(R.ESR_EL2);

Deno.test("SVC at EL0 enters EL1's lower-level vector with PSTATE saved", () => {
  const m = new Machine({ el: 1 });
  m.enter(0);
  m.core().cpu.nzcv = 6;
  m.execute(svc(5));
  const { cpu, regs } = m.core();
  assert.equal(esr1(m), 0x5600_0005);
  assert.equal(regs.num(R.ELR_EL1), CODE + 4);
  assert.equal(regs.lo(R.SPSR_EL1), 0x6000_0000);
  assert.equal(cpu.pc, BigInt(VBAR1 + 0x400));
  assert.deepEqual([cpu.el, cpu.spsel, cpu.daif, cpu.pan], [1, 1, 15, 1]);
});

Deno.test("the vector depends on the level and stack it came from", () => {
  for (const [el, spsel, offset] of [[0, 0, 0x480], [1, 0, 0x080], [1, 1, 0x280]] as const) {
    const m = new Machine({ el: 1 });
    setElAndSpsel(m.core().cpu, el, spsel);
    takeException(m.core(), 1, VECTOR.IRQ, -1);
    assert.equal(m.core().cpu.pc, BigInt(VBAR1 + offset));
  }
});

Deno.test("SCTLR_EL1.SPAN keeps PAN on entry", () => {
  const m = new Machine({ el: 1 });
  m.set({ SCTLR_EL1: 1n << 23n });
  m.enter(0);
  m.execute(svc(0));
  assert.equal(m.core().cpu.pan, 0);
});

Deno.test("each level has its stack pointer, SPSel 0 shares EL0's", () => {
  const m = new Machine({ el: 2 });
  const { cpu, regs } = m.core();
  regs.put("SP_EL0", 0x10n);
  regs.put("SP_EL1", 0x20n);
  m.setX(SLOT.SP, 0x30n);
  setElAndSpsel(cpu, 1, 1);
  assert.equal(m.sp(), 0x20n);
  setElAndSpsel(cpu, 1, 0);
  assert.equal(m.sp(), 0x10n);
  m.setX(SLOT.SP, 0x11n);
  setElAndSpsel(cpu, 0, 0);
  assert.equal(m.sp(), 0x11n);
  setElAndSpsel(cpu, 2, 1);
  assert.deepEqual([m.sp(), regs.get("SP_EL0"), regs.get("SP_EL1")], [0x30n, 0x11n, 0x20n]);
});

Deno.test("entry and return is the identity on PSTATE, PC and SP for every legal state", () => {
  for (const [el, spsel] of [[0, 0], [1, 0], [1, 1], [2, 0], [2, 1]] as const) {
    for (const nzcv of [0, 5, 15]) {
      const m = new Machine({ el: 2 });
      const { cpu } = m.core();
      // Debug exceptions below EL2 go to EL2, and step what is returned to.
      m.set({ SCTLR_EL1: 0n, MDSCR_EL1: 1n, MDCR_EL2: 0x100n, OSLSR_EL1: 8n });
      setElAndSpsel(cpu, el, spsel);
      cpu.nzcv = nzcv;
      cpu.daif = 5;
      cpu.pan = 1;
      cpu.ss = el < 2 ? 1 : 0;
      m.setX(SLOT.SP, 0x1234n);
      const before = [pstateToSpsr(cpu), cpu.pc, m.sp()];
      takeException(m.core(), 2, VECTOR.SYNC, 0);
      if (!(el === 2 && spsel === 1)) m.setX(SLOT.SP, 0x9999n);
      cpu.monitorOpen = 1;
      exceptionReturn(m.core());
      assert.deepEqual([pstateToSpsr(cpu), cpu.pc, m.sp()], before);
      assert.deepEqual([cpu.monitorOpen, cpu.eventRegister], [0, 1]);
    }
  }
});

for (
  const [what, spsr, hcr] of [
    ["AArch32", 0x1d0n, RW],
    ["EL0 with SP_ELx", 0x1n, RW],
    ["a reserved mode", 0x6n, RW],
    ["EL3", 0xdn, RW],
    ["EL1 under TGE", 0x5n, RW | TGE],
  ] as const
) {
  Deno.test(`an exception return to ${what} is illegal`, () => {
    const m = new Machine({ el: 2 });
    m.set({ HCR_EL2: hcr, SPSR_EL2: spsr | 0x9000_0000n, ELR_EL2: BigInt(CODE) });
    m.execute(ERET);
    const { cpu } = m.core();
    assert.deepEqual([cpu.il, cpu.el, cpu.spsel, cpu.nzcv], [1, 2, 1, 9]);
    assert.equal(cpu.pc, BigInt(CODE));
    m.execute(0xd503_201f);
    assert.equal(esr2(m), 0x3a00_0000);
    assert.equal(m.core().regs.lo(R.SPSR_EL2) & (1 << 20), 1 << 20);
    assert.equal(cpu.il, 0);
  });
}

Deno.test("ERET strips a tag where TBI is on, by the target's regime", () => {
  const m = new Machine({ el: 2 });
  m.set({ SPSR_EL2: 5n, ELR_EL2: 0x5a00_0000_4000_0000n, TCR_EL1: 1n << 37n });
  m.execute(ERET);
  assert.equal(m.core().cpu.pc, 0x4000_0000n);
  m.enter(2);
  m.set({ SPSR_EL2: 5n, ELR_EL2: 0x5a00_0000_4000_0000n, TCR_EL1: 1n << 38n });
  m.execute(ERET);
  assert.equal(m.core().cpu.pc, 0x5a00_0000_4000_0000n);
});

type Row = readonly [
  what: string,
  word: number,
  el: number,
  set: Parameters<Machine["set"]>[0],
  target: 1 | 2,
  esr: number,
  returnOffset: number,
];

const FMOV = 0x9e66_0000; // fmov x0, d0

const ROUTES: readonly Row[] = [
  ["SVC at EL0", svc(1), 0, {}, 1, 0x5600_0001, 4],
  ["SVC at EL0 under TGE", svc(1), 0, { HCR_EL2: RW | TGE }, 2, 0x5600_0001, 4],
  ["SVC at EL1", svc(0xffff), 1, {}, 1, 0x5600_ffff, 4],
  ["SVC at EL2", svc(2), 2, {}, 2, 0x5600_0002, 4],
  ["HVC at EL1", hvc(3), 1, {}, 2, 0x5a00_0003, 4],
  ["HVC at EL2", hvc(3), 2, {}, 2, 0x5a00_0003, 4],
  ["HVC at EL0", hvc(3), 0, {}, 1, 0x0200_0000, 0],
  ["HVC at EL1 with HCD", hvc(3), 1, { HCR_EL2: RW | 1n << 29n }, 1, 0x0200_0000, 0],
  ["SMC at EL1 with TSC", smc(1), 1, { HCR_EL2: RW | 1n << 19n }, 2, 0x5e00_0001, 0],
  ["SMC at EL1", smc(1), 1, {}, 1, 0x0200_0000, 0],
  ["SMC at EL0", smc(1), 0, { HCR_EL2: RW | 1n << 19n }, 1, 0x0200_0000, 0],
  ["BRK at EL0", brk(0x800), 0, {}, 1, 0xf200_0800, 0],
  ["BRK at EL1 with TDE", brk(0x800), 1, { MDCR_EL2: 1n << 8n }, 2, 0xf200_0800, 0],
  ["BRK at EL0 under TGE", brk(1), 0, { HCR_EL2: RW | TGE }, 2, 0xf200_0001, 0],
  ["HLT", 0xd440_0000, 1, {}, 1, 0x0200_0000, 0],
  ["UDF at EL1", 0, 1, {}, 1, 0x0200_0000, 0],
  ["UDF at EL0 under TGE", 0, 0, { HCR_EL2: RW | TGE }, 2, 0x0200_0000, 0],
  ["ERET at EL0", ERET, 0, {}, 1, 0x0200_0000, 0],
  ["FP at EL0, CPACR closed", FMOV, 0, { CPACR_EL1: 0n }, 1, 0x1fe0_0000, 0],
  ["FP at EL0, CPACR 01", FMOV, 0, { CPACR_EL1: 1n << 20n }, 1, 0x1fe0_0000, 0],
  ["FP at EL1, CPTR.TFP", FMOV, 1, { CPACR_EL1: 3n << 20n, CPTR_EL2: 0x37ffn }, 2, 0x1fe0_0000, 0],
  [
    "FP at EL0 under TGE, CPACR closed",
    FMOV,
    0,
    { CPACR_EL1: 0n, HCR_EL2: RW | TGE },
    2,
    0x0200_0000,
    0,
  ],
  [
    "FP at EL1, CPTR with E2H",
    FMOV,
    1,
    { CPACR_EL1: 3n << 20n, CPTR_EL2: 1n << 21n, HCR_EL2: RW | E2H },
    2,
    0x1fe0_0000,
    0,
  ],
  ["FP at EL2 with E2H", FMOV, 2, { CPTR_EL2: 0n, HCR_EL2: RW | E2H }, 2, 0x1fe0_0000, 0],
  [
    "FP of the host's EL0",
    FMOV,
    0,
    { CPTR_EL2: 1n << 20n, HCR_EL2: RW | E2H | TGE },
    2,
    0x1fe0_0000,
    0,
  ],
];

for (const [what, word, el, set, target, syndrome, returnOffset] of ROUTES) {
  Deno.test(`${what} goes to EL${target} with ESR ${syndrome.toString(16)}`, () => {
    const m = new Machine({ el: 2 });
    m.set(set);
    m.enter(el);
    m.execute(word);
    const { cpu, regs } = m.core();
    assert.equal(cpu.el, target);
    assert.equal(target === 1 ? esr1(m) : esr2(m), syndrome);
    assert.equal(regs.num(target === 1 ? R.ELR_EL1 : R.ELR_EL2), CODE + returnOffset);
  });
}

Deno.test("CPACR 01 lets EL1 use FP, 11 EL0 too", () => {
  for (const [el, fpen] of [[1, 1n], [0, 3n], [1, 3n]] as const) {
    const m = new Machine({ el: 2 });
    m.set({ CPACR_EL1: fpen << 20n });
    m.enter(el);
    assert.equal(m.core().cpu.fpEnabled, true);
    m.execute(FMOV);
    assert.equal(m.core().cpu.pc, BigInt(CODE + 4));
  }
});

Deno.test("a misaligned PC faults with FAR", () => {
  const m = new Machine({ el: 1 });
  m.core().cpu.pc = BigInt(CODE + 2);
  m.core().executeSlow();
  assert.equal(esr1(m), 0x8a00_0000);
  assert.equal(m.core().regs.num(R.FAR_EL1), CODE + 2);
});

Deno.test("a fetch from nowhere is a synchronous external abort", () => {
  const m = new Machine({ el: 1 });
  m.core().cpu.pc = 0x1000n;
  m.core().executeSlow();
  assert.equal(esr1(m), 0x8600_0010);
  assert.equal(m.core().regs.num(R.FAR_EL1), 0x1000);
});

Deno.test("a misaligned SP faults where SCTLR.SA checks it", () => {
  const m = new Machine({ el: 1 });
  m.setX(SLOT.SP, BigInt(RAM_WORD + 8));
  m.execute(0xf940_03e0); // ldr x0, [sp]
  assert.equal(m.core().cpu.pc, BigInt(CODE + 4));
  m.set({ SCTLR_EL1: 8n });
  m.execute(0xf940_03e0);
  assert.equal(esr1(m), 0x9a00_0000);
});
const RAM_WORD = 0x4000_8000;

// Interrupts: level, mask, HCR_EL2, lines, then what is taken: [target, vector offset] or nothing.
type InterruptRow = readonly [
  el: number,
  daif: number,
  hcr: bigint,
  lines: number,
  taken: readonly [1 | 2, number] | undefined,
];
const FMO = 8n, IMO = 16n, AMO = 32n, VF = 64n, VI = 128n, VSE = 256n;
const INTERRUPTS: readonly InterruptRow[] = [
  [0, 0, RW, LINE.IRQ, [1, 0x480]],
  [1, 0, RW, LINE.IRQ, [1, 0x280]],
  [1, DAIF.I, RW, LINE.IRQ, undefined],
  [0, DAIF.I, RW, LINE.IRQ, undefined],
  [1, DAIF.F, RW, LINE.IRQ | LINE.FIQ, [1, 0x280]],
  [1, 0, RW, LINE.IRQ | LINE.FIQ, [1, 0x300]],
  [2, 0, RW, LINE.IRQ, undefined],
  [2, 0, RW | IMO, LINE.IRQ, [2, 0x280]],
  [2, DAIF.I, RW | IMO, LINE.IRQ, undefined],
  [1, DAIF.I, RW | IMO, LINE.IRQ, [2, 0x480]],
  [0, DAIF.I, RW | TGE, LINE.IRQ, [2, 0x480]],
  [2, 0, RW | TGE, LINE.IRQ, [2, 0x280]],
  [2, 0, RW | E2H | TGE, LINE.FIQ, [2, 0x300]],
  [1, 0, RW | FMO, LINE.FIQ, [2, 0x500]],
  [1, 0, RW | IMO, LINE.VIRQ, [1, 0x280]],
  [1, DAIF.I, RW | IMO, LINE.VIRQ, undefined],
  [1, 0, RW, LINE.VIRQ, undefined],
  [2, 0, RW | IMO, LINE.VIRQ, undefined],
  [0, 0, RW | IMO | TGE, LINE.VIRQ, undefined],
  [0, 0, RW | IMO | VI, 0, [1, 0x480]],
  [0, 0, RW | VI, 0, undefined],
  [1, 0, RW | FMO | VF, 0, [1, 0x300]],
  [1, 0, RW | AMO | VSE, 0, [1, 0x380]],
  [1, DAIF.A, RW | AMO | VSE, 0, undefined],
  [1, 0, RW | VSE, 0, undefined],
  [1, 0, RW, LINE.SERROR, [1, 0x380]],
  [1, DAIF.A, RW, LINE.SERROR, undefined],
  [0, 0, RW, LINE.SERROR, [1, 0x580]],
  [0, DAIF.A, RW | TGE, LINE.SERROR, [2, 0x580]],
  [2, 0, RW, LINE.SERROR, undefined],
  [2, 0, RW | AMO, LINE.SERROR, [2, 0x380]],
  [2, DAIF.A, RW | AMO, LINE.SERROR, undefined],
  [2, 0, RW | TGE, LINE.SERROR, [2, 0x380]],
  [2, 0, RW | AMO | VSE, 0, undefined],
  [0, 0, RW | AMO | VSE, 0, [1, 0x580]],
  [0, 0, RW | AMO | TGE | VSE, 0, undefined],
  [1, 0, RW | AMO | VSE, LINE.SERROR, [2, 0x580]],
  [1, DAIF.A, RW | AMO, LINE.SERROR, [2, 0x580]],
  [1, 0, RW | IMO | VI, LINE.IRQ, [2, 0x480]],
];

INTERRUPTS.forEach(([el, daif, hcr, lines, taken], i) => {
  Deno.test(`interrupt routing ${i}: EL${el} DAIF ${daif} HCR ${hcr.toString(16)} lines ${lines}`, () => {
    const m = new Machine({ el: 2 });
    const { cpu } = m.core();
    cpu.irqLines = lines;
    m.set({ HCR_EL2: hcr });
    m.enter(el);
    cpu.daif = daif;
    assert.equal(pollInterrupts(m.core()), taken !== undefined);
    if (taken === undefined) return;
    assert.equal(cpu.el, taken[0]);
    assert.equal(cpu.pc, BigInt((taken[0] === 1 ? VBAR1 : VBAR2) + taken[1]));
  });
});

Deno.test("a virtual SError is consumed and has a syndrome; an IRQ leaves ESR alone", () => {
  const m = new Machine({ el: 2 });
  m.set({ HCR_EL2: RW | AMO | VSE | IMO | VI });
  m.enter(1);
  m.set({ ESR_EL1: 0x1234n });
  assert.equal(pollInterrupts(m.core()), true);
  assert.equal(esr1(m), 0xbe00_0000);
  assert.equal(m.core().regs.lo(R.HCR_EL2) & 0x100, 0);
  m.core().cpu.daif = 0;
  m.set({ ESR_EL1: 0x1234n });
  assert.equal(pollInterrupts(m.core()), true);
  assert.equal(esr1(m), 0x1234);
});

Deno.test("checkIrq tells whether opening DAIF would let something in", () => {
  const m = new Machine({ el: 1 });
  const { cpu } = m.core();
  assert.equal(cpu.checkIrq, 0);
  cpu.irqLines = LINE.IRQ;
  refreshInterrupts(m.core());
  assert.equal(cpu.checkIrq, 1);
  m.enter(2);
  assert.equal(cpu.checkIrq, 0);
});

Deno.test("ISR_EL1 shows physical interrupts, and virtual ones where they are routed", () => {
  const m = new Machine({ el: 2 });
  m.core().cpu.irqLines = LINE.IRQ | LINE.VFIQ;
  assert.equal(m.mrs("ISR_EL1"), 0x80n);
  m.set({ HCR_EL2: RW | IMO | FMO | AMO | VSE });
  assert.equal(m.mrs("ISR_EL1"), 0x80n);
  m.enter(1);
  assert.equal(m.mrs("ISR_EL1"), 0x140n);
});

Deno.test("CurrentEL", () => {
  const m = new Machine({ el: 2 });
  assert.equal(m.mrs("CurrentEL"), 8n);
  m.enter(1);
  assert.equal(m.mrs("CurrentEL"), 4n);
  m.enter(0);
  m.execute(mrsWord(0xc212, 1)); // CurrentEL
  assert.equal(esr1(m), 0x0200_0000);
});
