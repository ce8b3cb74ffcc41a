import assert from "node:assert/strict";
import { Arena } from "../../../src/base/arena.ts";
import { CpuLayout } from "../../../src/arm/arch/cpu_state.ts";
import { GICD } from "../../../src/arm/arch/gic.ts";
import { R } from "../../../src/arm/arch/sysregs.ts";
import { Gicv3 } from "../../../src/arm/gic/gicv3.ts";
import { Machine, SPURIOUS } from "./machine.ts";

Deno.test("edge: inactive, pending, active, active and pending, pending again", () => {
  const m = new Machine();
  m.enable(40);
  m.makeEdge(40);
  assert.equal(m.state(40), "inactive");
  m.pulse(40);
  assert.equal(m.state(40), "pending");
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  assert.equal(m.state(40), "active");
  assert.deepEqual(m.lines(), []);
  m.pulse(40);
  assert.equal(m.state(40), "pending and active");
  assert.deepEqual(m.lines(), []);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.state(40), "pending");
  assert.deepEqual(m.lines(), ["IRQ"]);
});

Deno.test("edge: a line that stays high is one interrupt", () => {
  const m = new Machine();
  m.enable(40);
  m.makeEdge(40);
  m.gic.setSpi(40, true);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.state(40), "inactive");
  m.gic.setSpi(40, true);
  assert.equal(m.state(40), "inactive");
  assert.deepEqual(m.lines(), []);
});

Deno.test("level: dropped before the acknowledgement is gone", () => {
  const m = new Machine();
  m.enable(40);
  m.gic.setSpi(40, true);
  assert.deepEqual(m.lines(), ["IRQ"]);
  m.gic.setSpi(40, false);
  assert.deepEqual(m.lines(), []);
  assert.equal(m.icc("ICC_IAR1_EL1"), SPURIOUS);
});

Deno.test("level: resampled after EOI", () => {
  const m = new Machine();
  m.enable(40);
  m.gic.setSpi(40, true);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  assert.equal(m.state(40), "pending and active");
  assert.deepEqual(m.lines(), []);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.deepEqual(m.lines(), ["IRQ"]);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  m.gic.setSpi(40, false);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.state(40), "inactive");
});

Deno.test("level: ISPENDR latches apart from the line, ICPENDR clears the latch only", () => {
  const m = new Machine();
  m.enable(40);
  m.set("ISPENDR", 40);
  m.gic.setSpi(40, true);
  m.gic.setSpi(40, false);
  assert.equal(m.state(40), "pending");
  m.set("ICPENDR", 40);
  assert.equal(m.state(40), "inactive");
  m.gic.setSpi(40, true);
  m.set("ICPENDR", 40);
  assert.equal(m.state(40), "pending");
  assert.equal(m.d(GICD.ISPENDR + 4), 1 << 8);
  m.set("ISPENDR", 40);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  m.gic.setSpi(40, false);
  assert.equal(m.state(40), "active");
});

Deno.test("disabled, active, or cleared by ICACTIVER", () => {
  const m = new Machine();
  m.enable(40);
  m.gic.setSpi(40, true);
  m.set("ICENABLER", 40);
  assert.deepEqual(m.lines(), []);
  m.set("ISENABLER", 40);
  m.set("ISACTIVER", 40);
  assert.deepEqual(m.lines(), []);
  m.set("ICACTIVER", 40);
  assert.deepEqual(m.lines(), ["IRQ"]);
});

Deno.test("spurious: nothing pending, wrong group's register, masked", () => {
  const m = new Machine();
  assert.equal(m.icc("ICC_IAR0_EL1"), SPURIOUS);
  assert.equal(m.icc("ICC_IAR1_EL1"), SPURIOUS);
  m.enable(40, 0xa0, 0);
  m.gic.setSpi(40, true);
  assert.deepEqual(m.lines(), ["FIQ"]);
  assert.equal(m.icc("ICC_IAR1_EL1"), SPURIOUS);
  assert.equal(m.icc("ICC_HPPIR1_EL1"), SPURIOUS);
  assert.equal(m.state(40), "pending");
  m.icc("ICC_PMR_EL1", 0xa0);
  assert.equal(m.icc("ICC_IAR0_EL1"), SPURIOUS);
  assert.equal(m.icc("ICC_RPR_EL1"), 0xff);
  m.icc("ICC_EOIR0_EL1", SPURIOUS);
  assert.equal(m.icc("ICC_HPPIR0_EL1"), 40);
});

Deno.test("PMR masks its own value and below, and implements five bits", () => {
  const m = new Machine();
  m.icc("ICC_PMR_EL1", 0xff);
  assert.equal(m.icc("ICC_PMR_EL1"), 0xf8);
  m.enable(40, 0x80);
  m.gic.setSpi(40, true);
  m.icc("ICC_PMR_EL1", 0x80);
  assert.deepEqual(m.lines(), []);
  m.icc("ICC_PMR_EL1", 0x88);
  assert.deepEqual(m.lines(), ["IRQ"]);
});

Deno.test("HPPIR shows the highest priority, lowest INTID, whatever PMR says", () => {
  const m = new Machine();
  m.enable(50, 0x40);
  m.enable(33, 0x80);
  m.enable(60, 0x40);
  m.enable(20, 0x48);
  for (const intid of [33, 50, 60]) m.gic.setSpi(intid, true);
  m.gic.setPpi(0, 20, true);
  m.icc("ICC_PMR_EL1", 0);
  assert.equal(m.icc("ICC_HPPIR1_EL1"), 50);
  m.gic.setSpi(50, false);
  assert.equal(m.icc("ICC_HPPIR1_EL1"), 60);
  m.gic.setSpi(60, false);
  assert.equal(m.icc("ICC_HPPIR1_EL1"), 20);
});

Deno.test("a group disabled at the CPU interface does not hide the other", () => {
  const m = new Machine();
  m.enable(40, 0x20, 0);
  m.enable(41, 0x80, 1);
  m.gic.setSpi(40, true);
  m.gic.setSpi(41, true);
  m.icc("ICC_IGRPEN0_EL1", 0);
  assert.equal(m.icc("ICC_IGRPEN0_EL1"), 0);
  assert.deepEqual(m.lines(), ["IRQ"]);
  assert.equal(m.icc("ICC_HPPIR1_EL1"), 41);
  m.icc("ICC_IGRPEN0_EL1", 1);
  assert.deepEqual(m.lines(), ["FIQ"]);
});

Deno.test("preemption: a higher group priority interrupts, an equal one waits", () => {
  const m = new Machine();
  m.enable(40, 0x80);
  m.enable(41, 0x80);
  m.enable(42, 0x40);
  m.gic.setSpi(40, true);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  assert.equal(m.icc("ICC_RPR_EL1"), 0x80);
  m.gic.setSpi(41, true);
  assert.deepEqual(m.lines(), []);
  m.gic.setSpi(42, true);
  assert.deepEqual(m.lines(), ["IRQ"]);
  assert.equal(m.icc("ICC_IAR1_EL1"), 42);
  assert.equal(m.icc("ICC_RPR_EL1"), 0x40);
  assert.equal(m.icc("ICC_AP1R0_EL1"), (1 << 16) | (1 << 8));
  m.gic.setSpi(42, false);
  m.icc("ICC_EOIR1_EL1", 42);
  assert.equal(m.icc("ICC_RPR_EL1"), 0x80);
  assert.equal(m.icc("ICC_IAR1_EL1"), SPURIOUS);
  m.gic.setSpi(40, false);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.icc("ICC_RPR_EL1"), 0xff);
  assert.equal(m.icc("ICC_IAR1_EL1"), 41);
});

Deno.test("BPR1: subpriority orders but does not preempt", () => {
  const m = new Machine();
  m.icc("ICC_BPR1_EL1", 5);
  m.enable(40, 0x98);
  m.enable(41, 0x80);
  m.enable(42, 0x78);
  m.gic.setSpi(40, true);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  assert.equal(m.icc("ICC_RPR_EL1"), 0x80);
  m.gic.setSpi(41, true);
  assert.deepEqual(m.lines(), []);
  m.icc("ICC_BPR1_EL1", 3);
  assert.deepEqual(m.lines(), []);
  m.gic.setSpi(42, true);
  assert.deepEqual(m.lines(), ["IRQ"]);
});

Deno.test("BPR minima, reset values and the limits of CBPR", () => {
  const m = new Machine();
  assert.equal(m.icc("ICC_BPR0_EL1"), 2);
  assert.equal(m.icc("ICC_BPR1_EL1"), 3);
  m.icc("ICC_BPR0_EL1", 0);
  m.icc("ICC_BPR1_EL1", 8);
  assert.equal(m.icc("ICC_BPR0_EL1"), 2);
  assert.equal(m.icc("ICC_BPR1_EL1"), 3);
  m.icc("ICC_BPR0_EL1", 6);
  m.icc("ICC_CTLR_EL1", 1);
  assert.equal(m.icc("ICC_BPR1_EL1"), 7);
  m.icc("ICC_BPR0_EL1", 7);
  m.icc("ICC_BPR1_EL1", 4);
  assert.equal(m.icc("ICC_BPR1_EL1"), 7);
  m.icc("ICC_CTLR_EL1", 0);
  assert.equal(m.icc("ICC_BPR1_EL1"), 3);
});

Deno.test("CBPR: group 1 is grouped by BPR0", () => {
  const m = new Machine();
  m.icc("ICC_BPR0_EL1", 7);
  m.enable(40, 0xf0);
  m.enable(41, 0x08);
  m.gic.setSpi(40, true);
  m.icc("ICC_CTLR_EL1", 1);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  assert.equal(m.icc("ICC_RPR_EL1"), 0);
  m.gic.setSpi(41, true);
  assert.deepEqual(m.lines(), []);
});

Deno.test("groups 0 and 1 preempt each other and have their own active priorities", () => {
  const m = new Machine();
  m.enable(40, 0x80, 1);
  m.enable(41, 0x40, 0);
  m.gic.setSpi(40, true);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  m.gic.setSpi(41, true);
  assert.deepEqual(m.lines(), ["FIQ"]);
  assert.equal(m.icc("ICC_IAR0_EL1"), 41);
  assert.equal(m.icc("ICC_AP0R0_EL1"), 1 << 8);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.icc("ICC_RPR_EL1"), 0x40, "EOIR1 while group 0 runs is ignored");
  assert.equal(m.state(40), "pending and active");
  m.gic.setSpi(41, false);
  m.icc("ICC_EOIR0_EL1", 41);
  assert.equal(m.icc("ICC_RPR_EL1"), 0x80);
});

Deno.test("at equal priority the active group 0 counts as the higher", () => {
  const m = new Machine();
  m.icc("ICC_AP0R0_EL1", 1 << 8);
  m.icc("ICC_AP1R0_EL1", 1 << 8);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.icc("ICC_AP1R0_EL1"), 1 << 8);
  m.icc("ICC_EOIR0_EL1", 40);
  assert.equal(m.icc("ICC_AP0R0_EL1"), 0);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.icc("ICC_RPR_EL1"), 0xff);
});

Deno.test("EOImode 0: EOI drops and deactivates, DIR does nothing", () => {
  const m = new Machine();
  m.enable(40);
  m.set("ISPENDR", 40);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  m.icc("ICC_DIR_EL1", 40);
  assert.equal(m.state(40), "active");
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.state(40), "inactive");
  assert.equal(m.icc("ICC_RPR_EL1"), 0xff);
});

Deno.test("EOImode 1: EOI drops the priority, DIR deactivates", () => {
  const m = new Machine();
  m.icc("ICC_CTLR_EL1", 2);
  m.enable(40);
  m.gic.setSpi(40, true);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.icc("ICC_RPR_EL1"), 0xff);
  assert.equal(m.state(40), "pending and active");
  assert.deepEqual(m.lines(), []);
  m.icc("ICC_DIR_EL1", 40);
  assert.deepEqual(m.lines(), ["IRQ"]);
});

Deno.test("DIR on one CPU of an SPI routed to another signals the other", () => {
  const m = new Machine({ cpus: 2 });
  m.icc("ICC_CTLR_EL1", 2);
  m.enable(40);
  m.gic.setSpi(40, true);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  m.gic.distWrite(GICD.IROUTER + 8 * 40, 8, 1, 0);
  assert.deepEqual(m.lines(1), []);
  m.icc("ICC_EOIR1_EL1", 40);
  m.icc("ICC_DIR_EL1", 40);
  assert.deepEqual([m.lines(0), m.lines(1)], [[], ["IRQ"]]);
});

Deno.test("EOI and DIR of INTIDs that are not implemented are ignored", () => {
  const m = new Machine();
  m.enable(40);
  m.set("ISPENDR", 40);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
  for (const intid of [256, 1019, 1020, 1023, 8192, 0xff_ffff]) m.icc("ICC_EOIR1_EL1", intid);
  assert.equal(m.icc("ICC_RPR_EL1"), 0xa0);
  m.icc("ICC_EOIR1_EL1", 40);
  m.icc("ICC_EOIR1_EL1", 40);
  assert.equal(m.icc("ICC_RPR_EL1"), 0xff);
});

Deno.test("ICC_CTLR_EL1 and ICC_SRE: fixed fields", () => {
  const m = new Machine();
  m.icc("ICC_CTLR_EL1", 0xffff_ffff);
  assert.equal(m.icc("ICC_CTLR_EL1"), 0x8c03);
  m.icc("ICC_SRE_EL1", 0);
  m.icc("ICC_SRE_EL2", 0);
  assert.equal(m.icc("ICC_SRE_EL1"), 7);
  assert.equal(m.icc("ICC_SRE_EL2"), 15);
  assert.equal(new Machine({ rangeSelector: true }).icc("ICC_CTLR_EL1"), 0x4_8c00);
});

Deno.test("with five priority bits there is one active priorities register per group", () => {
  const { gic } = new Machine();
  assert.ok(gic.implemented(R.ICC_AP0R0_EL1) && gic.implemented(R.ICH_AP1R0_EL2));
  for (const reg of [R.ICC_AP0R1_EL1, R.ICC_AP1R3_EL1, R.ICH_AP0R1_EL2, R.HCR_EL2]) {
    assert.equal(gic.implemented(reg), false);
  }
  assert.throws(() => gic.iccRead(0, R.ICC_AP0R1_EL1), /no register ICC_AP0R1_EL1/);
});

Deno.test("linesChanged is called once per change", () => {
  const m = new Machine({ cpus: 2 });
  const seen: [number, string[]][] = [];
  m.gic.linesChanged = (cpu) => seen.push([cpu, m.lines(cpu)]);
  m.enable(40);
  m.gic.setSpi(40, true);
  m.gic.setSpi(40, true);
  m.icc("ICC_IAR1_EL1");
  assert.deepEqual(seen, [[0, ["IRQ"]], [0, []]]);
});

Deno.test("a snapshot put back goes on as it was, whatever the cached candidate says", () => {
  const m = new Machine();
  m.enable(40, 0x80);
  m.enable(41, 0x40);
  m.gic.setSpi(40, true);
  m.icc("ICC_IAR1_EL1");
  m.gic.setSpi(41, true);
  const snapshot = m.memory.u8.slice();
  m.icc("ICC_IAR1_EL1");
  m.gic.reset();
  assert.deepEqual(m.lines(), []);
  m.memory.u8.set(snapshot);
  const { state } = m.gic.cpuInterface(0);
  state.pending = state.pendingPriority = state.pendingGroup = 0;
  m.gic.updateAll();
  assert.deepEqual(m.lines(), ["IRQ"]);
  assert.equal(m.icc("ICC_IAR1_EL1"), 41);
  assert.equal(m.icc("ICC_RPR_EL1"), 0x40);
});

Deno.test("all state lies in the memory: another view of it goes on where the first was", () => {
  const m = new Machine({ cpus: 2 });
  m.enable(40, 0x80);
  m.gic.setSpi(40, true);
  m.icc("ICC_IAR1_EL1");
  m.virtualOn();
  m.writeLr(3, { intid: 33, state: "pending" });
  const used = 1 << 20;
  const arena = new Arena("second", m.memory, 64, used);
  const cpus = m.cpus.map(() => arena.make(CpuLayout));
  const second = new Gicv3(m.memory, arena, { cpus, lrs: 4, attach: true });
  assert.equal(second.icvRead(0, R.ICC_IAR1_EL1), 33);
  assert.equal(m.lr(3).state, "active");
  second.iccWrite(0, R.ICC_EOIR1_EL1, 40, 0);
  assert.deepEqual(m.lines(), ["IRQ"]);
  assert.equal(m.icc("ICC_IAR1_EL1"), 40);
});
