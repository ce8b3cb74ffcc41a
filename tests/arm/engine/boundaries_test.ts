/**
 * A hot loop that is left at each of its instructions: by the end of a slice, an interrupt, a fault of
 * each access. On every tier the state is the interpreter's.
 */
import assert from "node:assert/strict";
import { Asm, COND } from "../../support/asm.ts";
import {
  BASES,
  callHotLoop,
  enterHotLoop,
  FAR_FUNCTION,
  type HotLoop,
  hotLoop,
  interruptedLoop,
  INTERRUPTS,
  pageOf,
  setPointers,
} from "../../support/hot_loop.ts";
import {
  difference,
  logException,
  logWord,
  MAP,
  off,
  onEveryTier,
  openGic,
  prologue,
  PTE,
  SCTLR,
  SCTLR_ON,
  TierMachine,
  TIERS,
  VECTOR,
  vectors,
} from "../../support/tier_machine.ts";

const ENDLESS = 60_000;
/** The loop in full, about; its callees' instructions too. */
const TURN = 49;

Deno.test("slices that end after every number of instructions leave the interpreter's state", () => {
  const machines = Object.entries(TIERS).map(([tier, regions]) => {
    const m = new TierMachine(regions);
    const a = enterHotLoop(prologue(m), ENDLESS);
    hotLoop(m, a);
    m.load(a);
    m.machine.run(20_000);
    return { tier, m };
  });
  const [first, ...others] = machines as [typeof machines[0], ...typeof machines];
  // Each number in one turn and the next; then some of those with which regions run for longer.
  const portions = Array.from({ length: 2 * TURN + 40 }, (_, i) => i < 2 * TURN ? i + 1 : 11 * i);
  for (const k of portions) {
    for (let done = 0; done < 2 * TURN + k; done += k) {
      for (const { m } of machines) m.machine.stepRound(k);
      for (const { tier, m } of others) {
        assert.equal(m.machine.insns, first.m.machine.insns, `${tier}: turns of ${k}`);
        // The registers each time; RAM only now and then
        const cpu = m.machine.platform.cpus[0], reference = first.m.machine.platform.cpus[0];
        assert.equal(cpu?.pc, reference?.pc, `${tier}: turns of ${k}`);
        assert.equal(cpu?.nzcv, reference?.nzcv, `${tier}: turns of ${k}`);
        for (let n = 0; n < 33; n++) assert.equal(m.x(n), first.m.x(n), `${tier}: ${k}, X${n}`);
      }
    }
    for (const { tier, m } of others) {
      assert.equal(difference(first.m.machine, m.machine), undefined, `${tier}: turns of ${k}`);
    }
  }
  for (const { m } of others) {
    assert.ok(m.regionInsns > 0.5 * m.machine.insns, `${m.regionInsns} of ${m.machine.insns}`);
  }
});

const SGI = 5;

/** The loop of the last machine that was loaded: it is the same in all of a test. */
let loop: HotLoop | undefined;
function loopOf(): HotLoop {
  if (loop === undefined) throw new Error("nothing was loaded");
  return loop;
}

onEveryTier("a timer's interrupt comes at every instruction of the loop", {
  load: (m) => {
    loop = interruptedLoop(m);
  },
  check: (m) => {
    const seen = new Set(m.log());
    assert.equal(m.log().length, INTERRUPTS);
    const missing = loopOf().addresses.filter((at) => !seen.has(at.toString(16)));
    // The one behind the loop
    assert.ok(missing.length <= 1, missing.map((at) => at.toString(16)).join());
    assert.ok(seen.has(FAR_FUNCTION.toString(16)), "in the other function");
  },
});

onEveryTier("interrupts that are pending come where they are unmasked, in hot code too", {
  load: (m) => {
    const a = openGic(prologue(m), 1 << SGI).mov(0, 0).mov(11, 300).mov(4, SGI << 24 | 1);
    // Regions begin at branches, and the register that sends is not theirs.
    const send = (label: string) => a.msr("ICC_SGI1R_EL1", 4).b(label).label(label);
    send("loop").isb().add(0, 0, 0x100).add(0, 0, 1);
    a.daifClr(2).label("first").add(0, 0, 1).label("second").daifSet(2);
    // MSR DAIF, and unmasked all the time
    send("by register").isb().mov(5, 0).add(0, 0, 2).msr("DAIF", 5).label("third").add(0, 0, 3);
    send("at once").add(0, 0, 4).daifSet(2).add(0, 0, 1);
    // And several in one region, of which one finds something
    send("more").daifSet(2).daifClr(2).add(0, 0, 5).daifSet(2).daifClr(2).add(0, 0, 6).daifSet(2);
    a.msr("ICC_SGI1R_EL1", 4);
    off(a.subs(11, 11, 1).bCond(COND.NE, "loop"));
    const v = vectors();
    v.label("sync").b("sync").label("irq").mrs(20, "ICC_IAR1_EL1").mrs(21, "ELR_EL1");
    logWord(logWord(v, 21), 0).msr("ICC_EOIR1_EL1", 20).eret();
    m.load(a, v);
  },
  check: (m) => {
    const log = m.log();
    assert.equal(log.length, 2 * 4 * 300);
    const places = new Set(log.filter((_, i) => i % 2 === 0));
    assert.equal(places.size, 4, [...places].join());
  },
});

// Faults

const TURNS = 24;
/** In X19: what the vector does. Skip the instruction that faults, or put the descriptor in X25 at X26 right. */
const SKIP = 0, REPAIR = 1;

/** Vectors that log an exception with registers, and skip it until X24 says that there were enough of them. */
function faultVectors(): Asm {
  const a = vectors();
  a.label("irq").b("irq").label("sync");
  logException(a);
  for (const n of [3, 4, 9, 12, 13, 14, 15, 30]) logWord(a, n);
  a.subs(24, 24, 1).bCond(COND.LS, "repair").cbnz(19, "repair");
  a.add(21, 21, 4).msr("ELR_EL1", 21).eret();
  a.label("repair").str(25, 26).dsb().tlbiVmalle1().dsb().isb().mov(24, 0);
  // SCTLR_EL1 as at first; SP and the pointers too
  a.mov(20, SCTLR_ON).msr("SCTLR_EL1", 20).isb();
  return setPointers(a).mov(24, 1000).eret();
}

/** What is wrong with a page, as a descriptor for `pa`. */
const FAULTS: Readonly<Record<string, (pa: bigint) => bigint>> = {
  "not mapped": () => 0n,
  "read-only": (pa) => pa | PTE.RO,
  "without access flag": (pa) => (pa | PTE.RW) & ~0x400n,
  "at an address too large": (pa) => (1n << 40n) | pa | PTE.RW,
};

for (const [what, descriptor] of Object.entries(FAULTS)) {
  onEveryTier(`each access of the loop faults: pages are ${what}`, {
    load: (m) => {
      const a = enterHotLoop(prologue(m), TURNS).mov(19, SKIP);
      for (const base of BASES) {
        const entry = m.tables.entryOf(pageOf(base));
        const good = BigInt(MAP.data + 0x1000 * BASES.indexOf(base)) | PTE.RW;
        setPointers(a).mov(24, 40).mov(25, good).mov(26, entry);
        a.mov(1, descriptor(good & 0xffff_f000n)).str(1, 26).dsb().tlbiVmalle1().dsb().isb();
        callHotLoop(a, TURNS);
        a.str(25, 26).dsb().tlbiVmalle1().dsb().isb();
        callHotLoop(setPointers(a), TURNS);
      }
      off(a);
      loop = hotLoop(m, a);
      m.load(a, faultVectors());
    },
    check: (m) => {
      const log = m.log();
      assert.equal(log.length % 12, 0);
      const seen = new Set(log.filter((_, i) => i % 12 === 1));
      // A store-exclusive whose load has faulted stores nothing.
      const expected = loopOf().accesses.filter(({ writes, at }) =>
        what === "read-only" ? writes : !isStoreExclusive(m, at)
      );
      const missing = expected.filter(({ at }) => !seen.has(at.toString(16)));
      assert.deepEqual(missing.map(({ at }) => at.toString(16)), []);
      assert.ok(log.length / 12 > 150, `${log.length / 12} faults`);
    },
  });
}

function isStoreExclusive(m: TierMachine, at: number): boolean {
  return ((Number(m.get64(at) & 0xffff_ffffn) & 0xffe0_8000) >>> 0) === 0xc800_0000;
}

/** SCTLR_EL1.A for all, SA for SP, which is checked without A too. */
function misaligned(m: TierMachine, bases: readonly number[]): void {
  const a = enterHotLoop(prologue(m), TURNS).mov(19, SKIP).mov(25, 0).mov(26, MAP.data + 0x8000);
  for (const base of bases) {
    const sctlr = base === 31 ? SCTLR_ON | SCTLR.SA : SCTLR_ON | SCTLR.A;
    setPointers(a).mov(24, 40).mov(1, sctlr).msr("SCTLR_EL1", 1).isb();
    a.add(base, base, base === 31 ? 8 : 1);
    callHotLoop(a, TURNS);
    a.mov(1, SCTLR_ON).msr("SCTLR_EL1", 1).isb();
    callHotLoop(setPointers(a), TURNS);
  }
  off(a);
  hotLoop(m, a);
  m.load(a, faultVectors());
}

function classesOf(m: TierMachine): number[] {
  const syndromes = m.log().filter((_, i) => i % 12 === 0);
  return [...new Set(syndromes.map((esr) => parseInt(esr, 16) >>> 26))];
}

onEveryTier("each access of the loop is misaligned where that is checked", {
  load: (m) => misaligned(m, BASES.filter((base) => base !== 31)),
  check: (m) => {
    assert.deepEqual(classesOf(m), [0x25], "data aborts");
    assert.ok(m.log().length / 12 >= 40 * 4);
  },
});

onEveryTier("SP is misaligned where that is checked", {
  load: (m) => misaligned(m, [31]),
  check: (m) => {
    assert.deepEqual(classesOf(m), [0x26], "SP alignment faults");
    assert.equal(m.log().length, 12 * 40);
  },
});

onEveryTier("the page of the function that the loop calls goes, and floating point is closed", {
  load: (m) => {
    const a = enterHotLoop(prologue(m), TURNS).mov(19, REPAIR).mov(
      26,
      m.tables.entryOf(FAR_FUNCTION),
    );
    a.ldr(25, 26);
    for (const bad of [0n, BigInt(MAP.hot + 0x8000) | PTE.RW | PTE.PXN]) {
      for (let i = 0; i < 4; i++) {
        a.mov(24, 2).mov(1, bad).str(1, 26).dsb().tlbiVmalle1().dsb().isb();
        callHotLoop(a, TURNS);
      }
    }
    a.mov(1, 0).msr("CPACR_EL1", 1).isb();
    callHotLoop(a, TURNS);
    off(a);
    hotLoop(m, a);
    const v = faultVectors();
    m.load(a, v);
    // FP traps are answered by opening it
    const open = new Asm(MAP.vectors + VECTOR.SYNC);
    open.mrs(20, "ESR_EL1").lsr(20, 20, 26).mov(21, 7).cmp(20, 21).bCond(COND.EQ, "fp");
    open.mov(20, v.addressOf("sync")).br(20).label("fp").mrs(21, "ELR_EL1");
    m.load(logWord(open, 21).mov(20, 0x30_0000).msr("CPACR_EL1", 20).isb().eret());
  },
  check: (m) => assert.equal(m.log().length, 8 * 12 + 1),
});

/** Addresses that cannot be mapped: bit 55 alone, and with the bits below, of the other half; and the ends of both. */
const UNMAPPABLE = [
  1n << 55n,
  (1n << 55n) + 0xff0n,
  1n << 54n,
  1n << 63n,
  (1n << 56n) - 8n,
  1n << 39n,
];

onEveryTier("addresses that cannot be mapped fault in hot code, at once and each time", {
  // Each of the accesses that fault leads to its handler.
  leastShare: 0.05,
  load: (m) => {
    const a = prologue(m).mov(24, 0);
    for (const [i, address] of UNMAPPABLE.entries()) {
      for (const good of [BigInt(MAP.data), address]) {
        const label = `loop ${i} ${good}`;
        // The good ones until they have been translated.
        const turns = good === address ? 40 : 400;
        a.mov(10, turns).mov(12, good).label(label).ldr(3, 12).str(3, 12).add(24, 24, 1);
        a.subs(10, 10, 1).bCond(COND.NE, label);
      }
    }
    const v = vectors();
    v.label("irq").b("irq").label("sync");
    logException(v).add(21, 21, 4).msr("ELR_EL1", 21).eret();
    m.load(off(a), v);
  },
  check: (m) => {
    const addresses = m.log().filter((_, i) => i % 4 === 2);
    const expected = UNMAPPABLE.flatMap((va) => new Array<string>(80).fill(va.toString(16)));
    assert.deepEqual(addresses, expected);
  },
});

/** Values of SPSR_EL1: flags and modes, fields that not every core has, bits that none has. */
const SAVED_STATES = [
  0x3c5n,
  0xf070_03dfn,
  1n << 23n,
  0x8180_0000n,
  0x0e0f_fc20n,
  0xffff_ffffn,
  (1n << 32n) + 5n,
  1n << 63n,
];
/** What is kept of them by a core that has all. */
const SAVED_BITS = 0xf1f0_03dfn;

onEveryTier("SPSR_EL1 is written in hot code with bits that it has and with others", {
  load: (m) => {
    const a = prologue(m);
    for (const [i, value] of SAVED_STATES.entries()) {
      a.mov(10, 60).mov(5, value).mov(7, 0).label(`loop ${i}`).msr("SPSR_EL1", 5).mrs(
        6,
        "SPSR_EL1",
      );
      a.addReg(7, 7, 6).subs(10, 10, 1).bCond(COND.NE, `loop ${i}`);
      logWord(logWord(a, 6), 7);
    }
    m.load(off(a), vectors().label("sync").b("sync").label("irq").b("irq"));
  },
  check: (m) => {
    const kept = SAVED_STATES.map((value) => value & SAVED_BITS);
    assert.deepEqual(
      m.log(),
      kept.flatMap((value) => [value, 60n * value].map((n) => n.toString(16))),
    );
  },
});
