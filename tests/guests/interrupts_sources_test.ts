/** Every kind of interrupt reaches the guest, once, where it is meant to go. */
import assert from "node:assert/strict";
import { KIND, type UnitGuest } from "../support/unit_guest.ts";
import { CONFIG, OP, op, TIMER, TIMER_INTID, UNMASK } from "../support/unit_operations.ts";
import {
  EDGE,
  GICD_SGIR,
  IN_FLIGHT,
  irqsOfCpu0,
  LEVEL,
  loggingTicks,
  LOWER,
  onEveryShape,
  PRIORITY,
  PULSE,
  RAISE,
  SHAPES,
  SIGNAL_REGISTER,
  sleepUntil,
  SPI,
  startCpus,
  tellCpu0,
  withSpiSignals,
} from "./matrix.ts";

const PPI = 20;
const SGI = 3;

/** The interrupt is neither pending nor active where CPU `cpu` looked at it last. */
function assertGone(guest: UnitGuest, cpu = 0): void {
  const state = guest.results(cpu, OP.GIC_STATE).at(-1);
  assert.equal(state && state.value & IN_FLIGHT, 0, "still pending or active");
}

onEveryShape("SGI to itself", (guest) => {
  guest.script(0, [
    op.config(SGI, PRIORITY, LEVEL),
    op.sgi(SGI, 0),
    op.mark(1),
    op.unmask(),
    sleepUntil(1),
    op.sgi(SGI, 0),
    sleepUntil(2),
    op.gicState(SGI),
  ]).run();
  const [first] = guest.entries(0, KIND.IRQ);
  assert.deepEqual(guest.irqs(0), [SGI, SGI]);
  assert.equal(first?.value, PRIORITY, "running priority");
  assert.ok(first.cntvct >= (guest.results(0, OP.MARK)[0]?.cntvct ?? Infinity), "while masked");
  assertGone(guest);
});

onEveryShape("SGI to another CPU", (guest) => {
  guest.script(0, [...startCpus([2]), op.sgi(SGI, 2), sleepUntil(2)]);
  guest.script(2, [
    op.config(SGI, PRIORITY, LEVEL),
    op.unmask(),
    tellCpu0(2),
    sleepUntil(1),
    tellCpu0(2),
    op.end(),
  ]).run();
  assert.deepEqual(guest.irqs(2), [SGI]);
  assert.deepEqual(irqsOfCpu0(guest), []);
  assert.equal(guest.count(1) + guest.count(3), 0, "CPUs that never ran");
});

onEveryShape("SGI to all other CPUs", (guest, { gic }) => {
  const toOthers = gic === 2 ? op.write(GICD_SGIR, (1 << 24) | SGI) : op.sgiOthers(SGI);
  const others = [1, 2, 3];
  guest.script(0, [
    op.config(SGI, PRIORITY, LEVEL),
    ...startCpus(others),
    toOthers,
    sleepUntil(6),
  ]);
  for (const cpu of others) {
    guest.script(cpu, [
      op.config(SGI, PRIORITY, LEVEL),
      op.unmask(),
      tellCpu0(cpu),
      sleepUntil(1),
      tellCpu0(cpu),
      op.end(),
    ]);
  }
  guest.run();
  for (const cpu of others) assert.deepEqual(guest.irqs(cpu), [SGI], `CPU ${cpu}`);
  assert.deepEqual(irqsOfCpu0(guest), []);
});

/** Ticks that may pass from a timer's deadline to the guest's vector, with nothing else to do: 5 us. */
const TIMER_LATENCY_TICKS = 5000 / 16;
const DELTA = 5000;

for (const [name, timer] of [["virtual", TIMER.VIRTUAL], ["physical", TIMER.PHYSICAL]] as const) {
  onEveryShape(`PPI of the ${name} timer`, (guest, shape) => {
    const intid = TIMER_INTID[timer];
    guest.script(0, [
      op.config(intid, PRIORITY, LEVEL),
      op.unmask(),
      op.timerIn(timer, DELTA),
      sleepUntil(1),
      op.timerRead(timer),
      op.timerIn(timer, DELTA),
      op.spin(50_000),
      sleepUntil(2),
      op.timerCtl(timer, 0),
      op.gicState(intid),
    ]).run();
    assert.deepEqual(guest.irqs(0), [intid, intid]);
    const programmed = guest.results(0, OP.TIMER_IN);
    guest.entries(0, KIND.IRQ).forEach(({ cntvct }, i) => {
      // The log has the virtual counter, CVAL may be of the physical one: both count from the same moment.
      const late = cntvct - (programmed[i]?.cntvct ?? 0) - DELTA +
        loggingTicks(shape, timer);
      assert.ok(late >= 0 && late <= TIMER_LATENCY_TICKS, `${late} ticks late`);
    });
    // The handler has masked it: enabled, masked, condition met.
    assert.equal(guest.results(0, OP.TIMER_READ)[0]?.intid, 7);
    assertGone(guest);
  });
}

onEveryShape("virtual and physical timers tick on four CPUs at once", (guest) => {
  const script = (cpu: number) => [
    op.config(27, PRIORITY, LEVEL),
    op.config(30, PRIORITY, LEVEL),
    op.timerPeriod(TIMER.VIRTUAL, 6000 + 1000 * cpu, 6),
    op.timerPeriod(TIMER.PHYSICAL, 9000 - 1000 * cpu, 5),
    op.timerIn(TIMER.VIRTUAL, 1000),
    op.timerIn(TIMER.PHYSICAL, 1000),
    op.unmask(),
    sleepUntil(11),
    op.mask(),
  ];
  const others = [1, 2, 3];
  guest.script(0, [
    ...startCpus(others),
    op.resetCount(),
    ...script(0),
    op.unmask(),
    op.timerIn(TIMER.VIRTUAL, 600_000),
    // The others are done by then, whether their word comes before or after.
    op.waitMemory(0x4030_0010 + 0x8000, -1n, 2),
    op.waitMemory(0x4030_0010 + 0x10000, -1n, 2),
    op.waitMemory(0x4030_0010 + 0x18000, -1n, 2),
    op.timerCtl(TIMER.VIRTUAL, 0),
  ]);
  for (const cpu of others) guest.script(cpu, [tellCpu0(cpu), ...script(cpu), op.end()]);
  guest.run({ insns: 40_000_000 });
  for (const cpu of others) {
    const irqs = guest.irqs(cpu);
    assert.equal(irqs.filter((intid) => intid === 27).length, 6, `CPU ${cpu}, virtual`);
    assert.equal(irqs.filter((intid) => intid === 30).length, 5, `CPU ${cpu}, physical`);
  }
});

onEveryShape("PPI by KVM_IRQ_LINE", (guest) => {
  guest.onSignal(RAISE, () => guest.ppi(1, PPI, true));
  guest.onSignal(LOWER, () => guest.ppi(1, PPI, false));
  guest.script(0, [
    op.config(PPI, PRIORITY, LEVEL),
    ...startCpus([1]),
    op.signal(RAISE),
    sleepUntil(2),
  ]);
  guest.script(1, [
    op.config(PPI, PRIORITY, LEVEL),
    op.hook(0, PPI, SIGNAL_REGISTER, LOWER),
    op.unmask(),
    tellCpu0(1),
    sleepUntil(1),
    op.gicState(PPI),
    tellCpu0(1),
    op.end(),
  ]).run();
  assert.deepEqual(guest.irqs(1), [PPI]);
  assert.deepEqual(irqsOfCpu0(guest), []);
  assertGone(guest, 1);
});

onEveryShape("edge SPI by KVM_IRQ_LINE", (guest) => {
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.unmask(),
    ...[1, 2, 3].flatMap((n) => [op.signal(PULSE), sleepUntil(n)]),
    // A level that stays is one edge.
    op.signal(RAISE),
    sleepUntil(4),
    op.waitTicks(500),
    op.gicState(SPI),
  ]).run();
  assert.deepEqual(guest.irqs(0), [SPI, SPI, SPI, SPI]);
  assertGone(guest);
});

onEveryShape("edge SPI by KVM_IRQ_LINE to a CPU that sleeps", (guest) => {
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.route(SPI, 3),
    ...startCpus([3]),
    op.signal(PULSE),
    sleepUntil(2),
  ]);
  guest.script(3, [op.unmask(), tellCpu0(3), sleepUntil(1), tellCpu0(3), op.end()]).run();
  assert.deepEqual(guest.irqs(3), [SPI]);
  assert.deepEqual(irqsOfCpu0(guest), []);
});

onEveryShape("edge SPI by ISPENDR", (guest) => {
  guest.script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.unmask(),
    op.setPending(SPI),
    sleepUntil(1),
    op.mask(),
    op.setPending(SPI),
    op.setPending(SPI),
    op.gicState(SPI),
    op.unmask(),
    sleepUntil(2),
    op.mask(),
    op.setPending(SPI),
    op.clearPending(SPI),
    op.unmask(),
    op.waitTicks(500),
    op.gicState(SPI),
  ]).run();
  assert.deepEqual(guest.irqs(0), [SPI, SPI], "set twice is once, cleared is never");
  assert.equal((guest.results(0, OP.GIC_STATE)[0]?.value ?? 0) & IN_FLIGHT, 2);
  assertGone(guest);
});

onEveryShape("level SPI by KVM_IRQ_LINE", (guest) => {
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, LEVEL),
    op.hook(0, SPI, SIGNAL_REGISTER, LOWER),
    op.unmask(),
    op.signal(RAISE),
    sleepUntil(1),
    op.signal(RAISE),
    sleepUntil(2),
    op.waitTicks(500),
    op.gicState(SPI),
  ]).run();
  assert.deepEqual(guest.irqs(0), [SPI, SPI]);
  assertGone(guest);
});

onEveryShape("level SPI by ISPENDR", (guest) => {
  guest.script(0, [
    op.config(SPI, PRIORITY, LEVEL),
    op.unmask(),
    op.setPending(SPI),
    sleepUntil(1),
    op.waitTicks(500),
    op.gicState(SPI),
  ]).run();
  // The latch, not the line: once acknowledged and ended it is gone.
  assert.deepEqual(guest.irqs(0), [SPI]);
  assertGone(guest);
});

onEveryShape(
  "SPI of group 0 as FIQ",
  (guest) => {
    withSpiSignals(guest).script(0, [
      op.config(SPI, PRIORITY, CONFIG.EDGE | CONFIG.ENABLE),
      op.igrpen0(1),
      op.unmask(UNMASK.IRQ),
      op.signal(PULSE),
      op.waitTicks(500),
      op.mark(1),
      op.unmask(UNMASK.IRQ | UNMASK.FIQ),
      sleepUntil(1),
      op.gicState(SPI),
    ]).run();
    assert.deepEqual(guest.irqs(0), []);
    const [fiq] = guest.entries(0, KIND.FIQ);
    assert.equal(fiq?.intid, SPI);
    assert.ok(fiq.cntvct >= (guest.results(0, OP.MARK)[0]?.cntvct ?? Infinity), "while masked");
    assertGone(guest);
  },
  {},
  SHAPES,
);
