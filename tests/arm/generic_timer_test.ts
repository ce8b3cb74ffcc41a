import assert from "node:assert/strict";
import { HALT } from "../../src/arm/arch/cpu_state.ts";
import { type SysregName } from "../../src/arm/arch/sysregs.ts";
import { NS_PER_TICK } from "../../src/arm/clock.ts";
import { SliceLayout } from "../../src/arm/engine/turn_loop.ts";
import { TIMER, type Timer } from "../../src/arm/generic_timer.ts";
import { E2H, Machine, RW, TGE, WFE } from "./core_fixture.ts";

const TICK = NS_PER_TICK;
const NAMES: readonly (readonly [Timer, string, string, number])[] = [
  [TIMER.CNTP, "CNTP", "EL0", 30],
  [TIMER.CNTV, "CNTV", "EL0", 27],
  [TIMER.CNTHP, "CNTHP", "EL2", 26],
  [TIMER.CNTHV, "CNTHV", "EL2", 28],
];
const name = (timer: string, register: string, el: string) =>
  `${timer}_${register}_${el}` as SysregName;

for (const [timer, prefix, el, ppi] of NAMES) {
  const ctl = name(prefix, "CTL", el),
    cval = name(prefix, "CVAL", el),
    tval = name(prefix, "TVAL", el);

  Deno.test(`${prefix}: level PPI ${ppi} follows the condition, ENABLE and IMASK`, () => {
    const m = new Machine();
    const pending = () => m.gic.interrupt(0, ppi)?.level;
    m.clock.jumpTo(100 * TICK);
    m.msr(cval, 150n);
    m.msr(ctl, 1n);
    assert.deepEqual([m.mrs(ctl), pending()], [1n, false]);
    assert.equal(m.timer.nextDeadlineNs(0), 150 * TICK);
    m.clock.jumpTo(150 * TICK - 1);
    m.timer.update(0);
    assert.equal(pending(), false);
    m.clock.jumpTo(150 * TICK);
    m.timer.update(0);
    assert.deepEqual([m.mrs(ctl), pending(), m.timer.line(0, timer)], [5n, true, true]);
    assert.equal(m.timer.nextDeadlineNs(0), Infinity);
    m.msr(ctl, 3n);
    assert.deepEqual([m.mrs(ctl), pending()], [7n, false]);
    m.msr(ctl, 0n);
    assert.deepEqual([m.mrs(ctl), pending()], [0n, false]);
    m.msr(ctl, 1n);
    assert.equal(pending(), true);
    m.msr(cval, 1000n);
    assert.deepEqual([m.mrs(ctl), pending()], [1n, false]);
  });

  Deno.test(`${prefix}: TVAL is a signed view of CVAL`, () => {
    const m = new Machine();
    m.clock.jumpTo(1000 * TICK);
    m.msr(tval, 50n);
    assert.equal(m.mrs(cval), 1050n);
    m.clock.jumpTo(1060 * TICK);
    assert.equal(m.mrs(tval), 0xffff_fff6n);
    m.msr(tval, 0xffff_ffffn);
    assert.equal(m.mrs(cval), 1059n);
    m.msr(ctl, 1n);
    assert.equal(m.mrs(ctl), 5n);
  });
}

Deno.test("the virtual counter and timer are offset by CNTVOFF_EL2, modulo 2^64", () => {
  const m = new Machine();
  m.clock.jumpTo(100 * TICK);
  m.msr("CNTVOFF_EL2", 40n);
  assert.equal(m.mrs("CNTVCT_EL0"), 60n);
  m.msr("CNTV_CVAL_EL0", 70n);
  m.msr("CNTV_CTL_EL0", 1n);
  assert.equal(m.timer.nextDeadlineNs(0), 110 * TICK);
  m.msr("CNTVOFF_EL2", 30n);
  assert.equal(m.gic.interrupt(0, 27)?.level, true);
  m.msr("CNTVOFF_EL2", 101n);
  assert.equal(m.mrs("CNTVCT_EL0"), 0xffff_ffff_ffff_ffffn);
  m.msr("CNTV_TVAL_EL0", 2n);
  assert.equal(m.mrs("CNTV_CVAL_EL0"), 1n);
  assert.equal(m.mrs("CNTV_TVAL_EL0"), 2n);
});

Deno.test("CNTVCT has no offset at EL2 with E2H, nor in the host's EL0", () => {
  const m = new Machine();
  m.clock.jumpTo(100 * TICK);
  m.set({ CNTVOFF_EL2: 40n, HCR_EL2: RW | E2H | TGE, CNTHCTL_EL2: 0xfffn, CNTKCTL_EL1: 0x3n });
  assert.equal(m.mrs("CNTVCT_EL0"), 100n);
  m.enter(0);
  assert.equal(m.mrs("CNTVCT_EL0"), 100n);
  m.set({ HCR_EL2: RW | E2H });
  assert.equal(m.mrs("CNTVCT_EL0"), 60n);
});

Deno.test("a compare value at the top of the range never fires and has no deadline", () => {
  const m = new Machine();
  m.msr("CNTV_CVAL_EL0", 0xffff_ffff_ffff_ffffn);
  m.msr("CNTV_CTL_EL0", 1n);
  assert.equal(m.mrs("CNTV_CTL_EL0"), 1n);
  assert.equal(m.timer.nextDeadlineNs(0), Infinity);
});

Deno.test("timers of CPUs are apart; writing one ends the slice", () => {
  const m = new Machine({ cpus: 2 });
  const before = m.endedSlices;
  m.msr("CNTP_CTL_EL0", 1n, 1, m.core(1));
  assert.ok(m.endedSlices > before);
  assert.equal(m.gic.interrupt(1, 30)?.level, true);
  assert.equal(m.gic.interrupt(0, 30)?.level, false);
  assert.equal(m.mrs("CNTP_CTL_EL0"), 0n);
});

Deno.test("the event stream wakes WFE at the next edge of its counter bit", () => {
  const m = new Machine();
  m.clock.jumpTo(100 * TICK);
  m.enter(1);
  m.set({ CNTKCTL_EL1: 4n | (4n << 4n) }); // EVNTEN, bit 4 rising
  m.core().cpu.eventRegister = 0;
  m.execute(WFE);
  assert.equal(m.core().cpu.halt, HALT.WFE);
  // 100 is 0b1100100: bit 4 next rises at 112
  assert.equal(m.timer.nextDeadlineNs(0), 112 * TICK);
  m.clock.jumpTo(112 * TICK);
  m.timer.update(0);
  assert.equal(m.core().cpu.eventRegister, 1);
  assert.equal(m.timer.nextDeadlineNs(0), Infinity);
});

Deno.test("the clock inside a slice is exact", () => {
  const m = new Machine();
  const { cpu } = m.core();
  const slice = SliceLayout.at(cpu.memory, m.clock.sliceAt);
  m.clock.jumpTo(160);
  slice.cpu = cpu.base;
  slice.budget = 1000;
  cpu.budget = 968;
  assert.deepEqual([m.clock.now(), m.clock.ticks()], [192, 12]);
  assert.equal(m.mrs("CNTPCT_EL0"), 12n);
  m.clock.advance(8);
  assert.equal(m.clock.now(), 200);
  m.clock.cutSlice();
  assert.deepEqual([cpu.budget, slice.budget, m.clock.now()], [0, 32, 200]);
  slice.cpu = 0;
  assert.equal(m.clock.now(), 168);
  m.clock.advance(32);
  m.clock.jumpTo(100);
  assert.equal(m.clock.now(), 200);
});
