/** Self-hosted debug, one instruction at a time: what is enabled, what matches, what the syndrome says. */
import assert from "node:assert/strict";
import { ARMED } from "../../src/arm/arch/debug_registers.ts";
import type { SysregName } from "../../src/arm/arch/sysregs.ts";
import { R, sysreg } from "../../src/arm/arch/sysregs.ts";
import { debugEnabled, setDaif, stepOnReturn } from "../../src/arm/debug_enable.ts";
import { refreshArmed } from "../../src/arm/debug.ts";
import {
  CODE,
  E2H,
  ERET,
  hvc,
  Machine,
  msrWord,
  RAM,
  RW,
  svc,
  TGE,
  VBAR1,
} from "./core_fixture.ts";

const TDE = 0x100n;
const KDE = 0x2000n, MDE = 0x8000n, SS = 1n;
const UNLOCKED = 8n;
const D = 8;

const NOP = 0xd503_201f;
/** str x3, [x2]; ldr x3, [x2]; their forms of 1, 2, 4 and 16 bytes, and unprivileged ones. */
const STORE = { 1: 0x3900_0043, 2: 0x7900_0043, 4: 0xb900_0043, 8: 0xf900_0043, 16: 0x3d80_0043 };
const LOAD = { 1: 0x3940_0043, 2: 0x7940_0043, 4: 0xb940_0043, 8: 0xf940_0043, 16: 0x3dc0_0043 };
const STTR = 0xf800_0843, LDTR = 0xf840_0843;
const LDXR = 0xc85f_7c43, STXR = 0xc804_7c43, CLREX = 0xd503_3f5f;
const STP = 0xa900_0c43, DC_ZVA = 0xd50b_7422, DC_IVAC = 0xd508_7622, DC_CVAC = 0xd50b_7a22;
const DATA = RAM + 0x3000;

type Registers = Partial<Record<SysregName, bigint>>;

/** A machine at `el` with the OS lock off and PSTATE.DAIF clear. */
function machine(el: number, set: Registers = {}): Machine {
  const m = new Machine({ el: 2 });
  m.set({ OSLSR_EL1: UNLOCKED, CPACR_EL1: 3n << 20n, CPTR_EL2: 0x33ffn, ...set });
  m.enter(el);
  refreshArmed(m.core());
  return m;
}

function control(fields: Record<string, number>): bigint {
  const at = { E: 0, PXC: 1, LSC: 3, BAS: 5, HMC: 13, SSC: 14, LBN: 16, WT: 20, BT: 20, MASK: 24 };
  return Object.entries(fields).reduce(
    (value, [name, field]) => value | (BigInt(field) << BigInt(at[name as keyof typeof at])),
    0n,
  );
}

/** The class of the exception that the last instruction ended in at `target`, or 0. */
function taken(m: Machine, target: 1 | 2): number {
  const { cpu, regs } = m.core();
  const vectored = cpu.el === target && cpu.daif === 15;
  return vectored ? regs.lo(target === 1 ? R.ESR_EL1 : R.ESR_EL2) >>> 26 : 0;
}

Deno.test("debug exceptions are enabled by target, KDE, PSTATE.D and the locks (D2.4)", () => {
  const rows: [el: number, d: number, set: Registers, enabled: boolean][] = [
    [0, 0, {}, true],
    [0, D, {}, true],
    [1, 0, {}, false],
    [1, 0, { MDSCR_EL1: KDE }, true],
    [1, D, { MDSCR_EL1: KDE }, false],
    [1, D, { MDCR_EL2: TDE }, true],
    [2, 0, { MDCR_EL2: TDE }, false],
    [2, 0, { MDCR_EL2: TDE, MDSCR_EL1: KDE }, true],
    [2, D, { MDCR_EL2: TDE, MDSCR_EL1: KDE }, false],
    [2, 0, { HCR_EL2: RW | TGE | E2H }, false],
    [2, 0, { HCR_EL2: RW | TGE | E2H, MDSCR_EL1: KDE }, true],
    [0, D, { HCR_EL2: RW | TGE | E2H }, true],
    [0, 0, { OSLSR_EL1: 0xan }, false],
    [0, 0, { OSDLR_EL1: 1n }, false],
    [0, 0, { OSDLR_EL1: 1n, DBGPRCR_EL1: 1n }, true],
  ];
  for (const [el, d, set, enabled] of rows) {
    const m = machine(el, set);
    m.core().cpu.daif = d;
    const text = Object.keys(set).join(" ");
    assert.equal(debugEnabled(m.core()), enabled, `EL${el} D ${d} ${text}`);
  }
});

Deno.test("a return takes SPSR.SS over when stepping is enabled there and was not here", () => {
  const rows: [from: number, set: Registers, to: number, d: boolean, ss: 0 | 1][] = [
    [1, { MDSCR_EL1: SS }, 0, false, 1],
    [1, { MDSCR_EL1: SS }, 0, true, 1],
    [1, {}, 0, false, 0],
    [1, { MDSCR_EL1: SS | KDE }, 0, false, 0],
    [1, { MDSCR_EL1: SS, OSLSR_EL1: 0xan }, 0, false, 0],
    [2, { MDSCR_EL1: SS, MDCR_EL2: TDE }, 1, true, 1],
    [2, { MDSCR_EL1: SS, MDCR_EL2: TDE }, 2, false, 0],
    [2, { MDSCR_EL1: SS }, 1, false, 0],
    [2, { MDSCR_EL1: SS | KDE }, 1, false, 0],
  ];
  for (const [from, set, to, d, ss] of rows) {
    const m = machine(from, set);
    assert.equal(stepOnReturn(m.core(), to, d, true), ss, `EL${from} to EL${to}`);
    assert.equal(stepOnReturn(m.core(), to, d, false), 0);
  }
  const masked = machine(1, { MDSCR_EL1: SS | KDE });
  masked.core().cpu.daif = D;
  assert.equal(stepOnReturn(masked.core(), 1, false, true), 1, "a kernel that steps itself");
});

/** D2 "Execution conditions": what HMC, SSC and PMC select without EL3; all else is reserved. */
const CONDITIONS: readonly [hmc: number, ssc: number, pxc: number, levels: readonly number[]][] = [
  [0, 0, 1, [1]],
  [0, 0, 2, [0]],
  [0, 0, 3, [0, 1]],
  [1, 0, 1, [1, 2]],
  [1, 0, 3, [0, 1, 2]],
  [1, 1, 0, [2]],
  [1, 3, 0, [2]],
  [1, 3, 1, [1, 2]],
  [1, 3, 3, [0, 1, 2]],
];

function selectedBy(hmc: number, ssc: number, pxc: number): readonly number[] {
  return CONDITIONS.find(([h, s, p]) => h === hmc && s === ssc && p === pxc)?.[3] ?? [];
}

Deno.test("breakpoints and watchpoints: every HMC, SSC and PMC at every level", () => {
  for (let code = 0; code < 32; code++) {
    const hmc = code >> 4, ssc = (code >> 2) & 3, pxc = code & 3;
    const cr = control({ E: 1, HMC: hmc, SSC: ssc, PXC: pxc });
    for (const el of [0, 1, 2]) {
      const expected = selectedBy(hmc, ssc, pxc).includes(el);
      const text = `HMC ${hmc} SSC ${ssc} PMC ${pxc} EL${el}`;
      const common = { MDSCR_EL1: KDE | MDE, MDCR_EL2: TDE };
      const b = machine(el, { ...common, DBGBVR0_EL1: BigInt(CODE), DBGBCR0_EL1: cr | 0x1e0n });
      b.execute(NOP);
      assert.equal(taken(b, 2), expected ? (el === 2 ? 0x31 : 0x30) : 0, text);
      const wcr = cr | control({ LSC: 3, BAS: 0xff });
      const w = machine(el, { ...common, DBGWVR0_EL1: BigInt(DATA), DBGWCR0_EL1: wcr });
      w.setX(2, BigInt(DATA));
      w.execute(STORE[8]);
      assert.equal(taken(w, 2), expected ? (el === 2 ? 0x35 : 0x34) : 0, `watch ${text}`);
    }
  }
});

const BP = { MDSCR_EL1: KDE | MDE, DBGBVR0_EL1: BigInt(CODE), DBGBCR0_EL1: 0x1e7n } as const;

Deno.test("a breakpoint: before the instruction, with its address and no FAR", () => {
  const m = machine(1, { ...BP, FAR_EL1: 5n });
  m.setX(1, 0x77n);
  m.execute(0x9100_0421); // add x1, x1, #1
  const { cpu, regs } = m.core();
  assert.equal(regs.lo(R.ESR_EL1), 0xc600_0022);
  assert.deepEqual([regs.num(R.ELR_EL1), cpu.pc], [CODE, BigInt(VBAR1 + 0x200)]);
  assert.deepEqual([m.x(1), regs.num(R.FAR_EL1)], [0x77n, 5]);
});

Deno.test("a breakpoint needs E, MDE, its address, and an unlocked OS lock", () => {
  const rows: [Registers, boolean][] = [
    [{}, true],
    [{ DBGBCR0_EL1: 0x1e6n }, false],
    [{ MDSCR_EL1: KDE }, false],
    [{ DBGBVR0_EL1: BigInt(CODE + 4) }, false],
    [{ DBGBVR0_EL1: BigInt(CODE) + (1n << 40n) }, false],
    [{ DBGBVR0_EL1: BigInt(CODE) + (1n << 52n) }, true],
    [{ OSLSR_EL1: 0xan }, false],
  ];
  for (const [set, hit] of rows) {
    const m = machine(1, { ...BP, ...set });
    m.execute(NOP);
    assert.equal(taken(m, 1), hit ? 0x31 : 0, Object.keys(set).join());
  }
});

Deno.test("a breakpoint comes after an abort of the fetch and before illegal state", () => {
  const m = machine(1, BP);
  m.core().cpu.il = 1;
  m.execute(NOP);
  assert.equal(taken(m, 1), 0x31);
  const far = BigInt(RAM - 0x1000);
  const away = machine(1, { ...BP, DBGBVR0_EL1: far });
  away.core().cpu.pc = far;
  away.core().executeSlow();
  assert.equal(taken(away, 1), 0x21, "nothing answers there");
});

Deno.test("context matching breakpoints: linked, unlinked, by VMID, only units 4 and 5", () => {
  const context = { CONTEXTIDR_EL1: 0x1234n, VTTBR_EL2: 7n << 48n, CONTEXTIDR_EL2: 0x99n };
  const el1 = { ...context, MDSCR_EL1: KDE | MDE };
  const address = (lbn: number) => control({ E: 1, PXC: 3, BAS: 15, BT: 1, LBN: lbn });
  const unit = (bt: number) => control({ E: 1, PXC: 3, BAS: 15, BT: bt });
  const vmid = (id: bigint, ctx = 0n) => (id << 32n) | ctx;
  const rows: [string, Registers, boolean][] = [
    ["linked, same", { DBGBVR5_EL1: 0x1234n, DBGBCR5_EL1: unit(3) }, true],
    ["linked, other", { DBGBVR5_EL1: 0x1235n, DBGBCR5_EL1: unit(3) }, false],
    ["linked to an address", { DBGBVR5_EL1: 0x1234n, DBGBCR5_EL1: unit(0) }, false],
    ["linked to an unlinked one", { DBGBVR5_EL1: 0x1111n, DBGBCR5_EL1: unit(2) }, false],
    ["linked to one that is off", { DBGBVR5_EL1: 0x1234n, DBGBCR5_EL1: unit(3) & ~1n }, false],
    ["VMID", { DBGBVR5_EL1: vmid(7n), DBGBCR5_EL1: unit(9) }, true],
    ["other VMID", { DBGBVR5_EL1: vmid(8n), DBGBCR5_EL1: unit(9) }, false],
    ["VMID and context", { DBGBVR5_EL1: vmid(7n, 0x1234n), DBGBCR5_EL1: unit(11) }, true],
    ["VMID, other context", { DBGBVR5_EL1: vmid(7n, 1n), DBGBCR5_EL1: unit(11) }, false],
    ["CONTEXTIDR_EL1", { DBGBVR5_EL1: 0x1234n, DBGBCR5_EL1: unit(7) }, true],
    ["CONTEXTIDR_EL2", { DBGBVR5_EL1: vmid(0x99n), DBGBCR5_EL1: unit(13) }, true],
    ["both", { DBGBVR5_EL1: vmid(0x99n, 0x1234n), DBGBCR5_EL1: unit(15) }, true],
    ["both, one other", { DBGBVR5_EL1: vmid(0x98n, 0x1234n), DBGBCR5_EL1: unit(15) }, false],
  ];
  for (const [text, set, hit] of rows) {
    const m = machine(1, { ...el1, ...set, DBGBVR0_EL1: BigInt(CODE), DBGBCR0_EL1: address(5) });
    m.execute(NOP);
    assert.equal(taken(m, 1), hit ? 0x31 : 0, text);
  }
  const notAware = machine(1, {
    ...el1,
    DBGBVR0_EL1: BigInt(CODE),
    DBGBCR0_EL1: address(3),
    DBGBVR3_EL1: 0x1234n,
    DBGBCR3_EL1: unit(3),
  });
  notAware.execute(NOP);
  assert.equal(taken(notAware, 1), 0, "unit 3 does not match contexts");
  const unlinked = machine(1, { ...el1, DBGBVR4_EL1: 0x1234n, DBGBCR4_EL1: unit(2) });
  assert.notEqual(unlinked.core().cpu.debugArmed & ARMED.ALL_CODE, 0);
  unlinked.execute(NOP);
  assert.equal(taken(unlinked, 1), 0x31, "unlinked: every instruction");
});

Deno.test("in the host, a context breakpoint compares CONTEXTIDR_EL2 and no VMID", () => {
  const host = { HCR_EL2: RW | TGE | E2H, MDSCR_EL1: KDE | MDE, VTTBR_EL2: 7n << 48n };
  for (
    const [bt, bvr, hit] of [[2, 0x99n, true], [8, 7n << 32n, false], [6, 0x99n, false]] as const
  ) {
    const m = machine(0, {
      ...host,
      CONTEXTIDR_EL2: 0x99n,
      DBGBVR4_EL1: bvr,
      DBGBCR4_EL1: control({ E: 1, PXC: 2, BAS: 15, BT: bt }),
    });
    m.execute(NOP);
    assert.equal(taken(m, 2), hit ? 0x30 : 0, `BT ${bt}`);
  }
});

/** Stage 1 with one block of 1 GiB of Normal memory, the RAM. */
const TABLE = RAM + 0x5000;
const NORMAL_MEMORY: Registers = {
  SCTLR_EL1: 0x30d0_0801n,
  TCR_EL1: 25n | (1n << 23n),
  TTBR0_EL1: BigInt(TABLE),
  MAIR_EL1: 0xffn,
};

/** A watchpoint for EL1 and EL0, loads and stores. */
const WCR = { E: 1, PXC: 3, LSC: 3, BAS: 0xff };

function watch(wvr: number, fields: Record<string, number>, word: number, at: number): Machine {
  const set = { MDSCR_EL1: KDE | MDE, DBGWVR0_EL1: BigInt(wvr) };
  const m = machine(1, { ...set, DBGWCR0_EL1: control({ ...WCR, ...fields }) });
  m.setX(2, BigInt(at));
  m.execute(word);
  return m;
}

Deno.test("a watchpoint covers the bytes of BAS or MASK, for accesses of every size (D2.10)", () => {
  type Size = keyof typeof STORE;
  const rows: [string, number, Record<string, number>, Size, number, boolean][] = [
    ["doubleword", DATA, {}, 8, DATA, true],
    ["its last byte", DATA, {}, 1, DATA + 7, true],
    ["the byte behind", DATA, {}, 1, DATA + 8, false],
    ["the byte before", DATA + 8, {}, 1, DATA + 7, false],
    ["a word of it", DATA, { BAS: 0xf0 }, 4, DATA + 4, true],
    ["the other word", DATA, { BAS: 0xf0 }, 4, DATA, false],
    ["one byte, touched by 8", DATA, { BAS: 0x08 }, 8, DATA, true],
    ["one byte, beside it", DATA, { BAS: 0x08 }, 2, DATA + 4, false],
    ["one byte, touched by 2", DATA, { BAS: 0x08 }, 2, DATA + 2, true],
    ["odd word uses BAS[3:0]", DATA + 4, { BAS: 0xf1 }, 1, DATA + 4, true],
    ["odd word uses BAS[3:0] only", DATA + 4, { BAS: 0xf1 }, 1, DATA + 5, false],
    ["16 bytes reach it", DATA + 8, {}, 16, DATA, true],
    ["no byte selected", DATA, { BAS: 0 }, 8, DATA, false],
    ["mask of 16", DATA, { MASK: 4 }, 1, DATA + 15, true],
    ["behind a mask of 16", DATA, { MASK: 4 }, 1, DATA + 16, false],
    ["mask of 2 GiB", 0x4000_0000, { MASK: 31 }, 1, DATA, true],
    ["reserved mask", DATA, { MASK: 2 }, 8, DATA, false],
    ["loads only", DATA, { LSC: 1 }, 8, DATA, false],
    ["stores only", DATA, { LSC: 2 }, 8, DATA, true],
  ];
  for (const [text, wvr, fields, size, at, hit] of rows) {
    const m = watch(wvr, fields, STORE[size], at);
    assert.equal(taken(m, 1), hit ? 0x35 : 0, text);
    // A vector register is accessed by doublewords.
    if (hit) assert.equal(m.core().regs.num(R.FAR_EL1), size === 16 ? at + 8 : at, text);
    const lsc = fields["LSC"];
    if (lsc !== undefined) {
      assert.equal(taken(watch(wvr, fields, LOAD[size], at), 1) !== 0, lsc === 1);
    }
  }
});

Deno.test("a watchpoint's syndrome says write and cache maintenance; nothing is stored", () => {
  const rows: [string, number, number][] = [
    ["load", LOAD[8], 0xd600_0022],
    ["store", STORE[8], 0xd600_0062],
    ["load exclusive", LDXR, 0xd600_0022],
    ["second of a pair", STP, 0xd600_0062],
    ["DC ZVA", DC_ZVA, 0xd600_0062],
    ["DC IVAC", DC_IVAC, 0xd600_0162],
    ["DC CVAC is no access", DC_CVAC, 0],
  ];
  for (const [text, word, esr] of rows) {
    const m = machine(1, {
      MDSCR_EL1: KDE | MDE,
      ...NORMAL_MEMORY,
      DBGWVR0_EL1: BigInt(DATA + 8),
      DBGWCR0_EL1: control(WCR),
    });
    m.memory.st64(m.at(TABLE) + 8, 0x4000_0401n);
    m.memory.st64(m.at(DATA + 8), 0x55n);
    m.setX(2, BigInt(word === STP ? DATA : DATA + 8));
    m.execute(word);
    assert.equal(m.core().regs.lo(R.ESR_EL1), esr, text);
    assert.equal(m.memory.ld64(m.at(DATA + 8)), 0x55n, text);
  }
});

Deno.test("an exclusive store is watched once its monitor is open", () => {
  const m = watch(DATA, { LSC: 2 }, LDXR, DATA);
  m.execute(STXR);
  assert.equal(taken(m, 1), 0x35);
  const closed = watch(DATA, { LSC: 2 }, CLREX, DATA);
  closed.execute(STXR);
  assert.equal(closed.x(4), 1n);
});

Deno.test("LDTR and STTR are EL0's for a watchpoint", () => {
  for (const [pxc, word, hit] of [[2, STTR, true], [1, STTR, false], [2, LDTR, true]] as const) {
    assert.equal(taken(watch(DATA, { PXC: pxc }, word, DATA), 1) !== 0, hit);
  }
  assert.equal(taken(watch(DATA, { PXC: 2 }, STORE[8], DATA), 1), 0);
});

Deno.test("a linked watchpoint matches in its context only; the MMU's faults come first", () => {
  for (const [context, hit] of [[0x1234n, true], [0x1235n, false]] as const) {
    const m = machine(1, {
      MDSCR_EL1: KDE | MDE,
      CONTEXTIDR_EL1: 0x1234n,
      DBGBVR4_EL1: context,
      DBGBCR4_EL1: control({ E: 1, PXC: 3, BAS: 15, BT: 3 }),
      DBGWVR0_EL1: BigInt(DATA),
      DBGWCR0_EL1: control({ ...WCR, WT: 1, LBN: 4 }),
    });
    m.setX(2, BigInt(DATA));
    m.execute(STORE[8]);
    assert.equal(taken(m, 1) !== 0, hit);
  }
  const misaligned = watch(DATA, {}, STORE[8], DATA + 1);
  assert.equal(taken(misaligned, 1), 0x25, "Device memory");
});

/** At EL1, stepping itself: the state after ERET from a masked PSTATE.D with SPSR.SS. */
function stepping(program: readonly number[], set: Registers = {}): Machine {
  const m = machine(1, {
    MDSCR_EL1: KDE | SS,
    ELR_EL1: BigInt(CODE),
    SPSR_EL1: 5n | (1n << 21n),
    ...set,
  });
  setDaif(m.core(), D);
  m.execute(ERET);
  assert.equal(m.core().cpu.ss, 1, "active, not pending");
  program.forEach((word, i) => m.memory.st32(m.at(CODE) + 4 * i, word));
  return m;
}

Deno.test("software step: one instruction, then the exception with ISV, and EX for Load-Exclusive", () => {
  for (const [word, iss] of [[NOP, 0x100_0022], [LDXR, 0x100_0062], [CLREX, 0x100_0022]] as const) {
    const m = stepping([word]);
    m.setX(2, BigInt(DATA));
    m.core().executeSlow();
    const { cpu, regs } = m.core();
    assert.deepEqual([cpu.pc, cpu.ss], [BigInt(CODE + 4), 0], "active, pending");
    m.core().executeSlow();
    assert.equal(regs.lo(R.ESR_EL1), (0xce00_0000 | iss) >>> 0);
    assert.deepEqual([regs.num(R.ELR_EL1), cpu.stepped], [CODE + 4, 0]);
    assert.equal(regs.lo(R.SPSR_EL1) >>> 21 & 1, 0);
  }
});

Deno.test("software step: an instruction that aborts was not stepped, SVC was", () => {
  const aborted = stepping([LOAD[8]]);
  aborted.setX(2, 0n);
  aborted.core().executeSlow();
  assert.equal(taken(aborted, 1), 0x25);
  assert.equal((aborted.core().regs.lo(R.SPSR_EL1) >>> 21) & 1, 1, "it is to be stepped again");
  for (const word of [svc(0), hvc(0)]) {
    const m = stepping([word]);
    m.core().executeSlow();
    const spsr = m.core().regs.lo(word === svc(0) ? R.SPSR_EL1 : R.SPSR_EL2);
    assert.equal((spsr >>> 21) & 1, 0, "its step exception is pending at the return");
  }
});

Deno.test("software step: an unmasked D makes a step due at once, not stepped", () => {
  const m = machine(1, { MDSCR_EL1: KDE });
  m.core().cpu.daif = D;
  m.msr("MDSCR_EL1", KDE | SS);
  assert.equal(m.core().cpu.single, 0);
  m.execute(0xd503_48ff); // msr daifclr, #8
  m.core().executeSlow();
  assert.equal(m.core().regs.lo(R.ESR_EL1), 0xce00_0022, "ISV clear");
});

Deno.test("software step: masking, disabling or locking stops it", () => {
  const off: [string, (m: Machine) => void][] = [
    ["D set", (m) => m.execute(0xd503_48df)],
    ["MDSCR_EL1.SS", (m) => m.msr("MDSCR_EL1", KDE)],
    ["OS lock", (m) => m.msr("OSLAR_EL1", 1n)],
    ["double lock", (m) => m.msr("OSDLR_EL1", 1n)],
  ];
  for (const [text, stop] of off) {
    const m = stepping([]);
    stop(m);
    assert.deepEqual([m.core().cpu.single, m.core().cpu.stepped], [0, 0], text);
    const before = m.core().cpu.pc;
    m.memory.st32(m.at(Number(before)), NOP);
    m.core().executeSlow();
    assert.equal(m.core().cpu.pc, before + 4n, text);
  }
});

Deno.test("software step goes to EL2 under MDCR_EL2.TDE and HCR_EL2.TGE", () => {
  for (const set of [{ MDCR_EL2: TDE }, { HCR_EL2: RW | TGE }]) {
    const m = machine(0, { MDSCR_EL1: SS, ...set });
    m.core().executeSlow();
    assert.equal(taken(m, 2), 0x32);
    assert.equal(m.core().regs.lo(R.ESR_EL2) & 0x1ff_ffff, 0x22);
  }
});

Deno.test("MDSCR_EL1: the external debugger's fields change under the OS lock only", () => {
  const m = machine(2, { OSLSR_EL1: 0xan });
  setDaif(m.core(), D);
  m.msr("MDSCR_EL1", 0xffff_ffffn);
  assert.equal(m.mrs("MDSCR_EL1"), 0x6ce0_f041n);
  m.msr("OSLAR_EL1", 0n);
  assert.equal(m.mrs("OSLSR_EL1"), 8n);
  m.msr("MDSCR_EL1", 0n);
  assert.equal(m.mrs("MDSCR_EL1"), 0x6ce0_4040n);
});

Deno.test("debug registers keep the bits there are; units beyond the sixth and fourth do not exist", () => {
  const m = machine(2);
  const rows: [SysregName, bigint][] = [
    ["DBGBVR5_EL1", 0xffff_ffff_ffff_ffffn],
    ["DBGBCR5_EL1", 0x00ff_e1e7n],
    ["DBGWVR3_EL1", 0xffff_ffff_ffff_fffcn],
    ["DBGWCR3_EL1", 0x1f1f_ffffn],
    ["OSDLR_EL1", 1n],
  ];
  for (const [name, kept] of rows) {
    m.msr(name, 0xffff_ffff_ffff_ffffn);
    assert.equal(m.mrs(name), kept, name);
  }
  for (const name of ["DBGBVR6_EL1", "DBGWCR4_EL1"] as const) {
    m.execute(msrWord(sysreg(name).key, 1));
    assert.equal(m.core().regs.lo(R.ESR_EL2), 0x0200_0000, name);
  }
});
