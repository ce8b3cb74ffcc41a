/** Interrupts that change their CPU, and CPUs that come, go and move. */
import assert from "node:assert/strict";
import { CPU_STATE, KIND, UNIT, type UnitGuest } from "../support/unit_guest.ts";
import { affinityOf, OP, op, TIMER } from "../support/unit_operations.ts";
import {
  EDGE,
  IN_FLIGHT,
  irqsOfCpu0,
  LEVEL,
  mailbox,
  napMasked,
  onEveryShape,
  PRIORITY,
  routeTo,
  SIGNAL_REGISTER,
  sleepUntil,
  startCpus,
  STATE,
  tellCpu0,
  VCPUS,
} from "./matrix.ts";

const SPI = 40;
const RAISE = 1;
const LOWER = 2;
const PULSE = 3;
const AFFINITY_INFO = 0xc400_0004;
const OFF = 1;

function withSignals(guest: UnitGuest): UnitGuest {
  return guest
    .onSignal(RAISE, () => guest.spi(SPI, true))
    .onSignal(LOWER, () => guest.spi(SPI, false))
    .onSignal(PULSE, () => pulse(guest));
}

function pulse(guest: UnitGuest): void {
  guest.spi(SPI, true);
  guest.spi(SPI, false);
}

/** CPU 1 as the place where SPI 40 arrives: says so to CPU 0 before and after. */
function receiver(count = 1): readonly (readonly (number | bigint)[])[] {
  return [op.unmask(), tellCpu0(1), sleepUntil(count), op.gicState(SPI), tellCpu0(1), op.end()];
}

for (const [name, flags] of [["edge", EDGE], ["level", LEVEL]] as const) {
  onEveryShape(`migration while pending, ${name}`, (guest) => {
    withSignals(guest).script(0, [
      op.config(SPI, PRIORITY, flags),
      ...startCpus([1]),
      op.mask(),
      op.signal(flags === EDGE ? PULSE : RAISE),
      op.gicState(SPI),
      op.route(SPI, 1),
      op.unmask(),
      sleepUntil(2),
      op.gicState(SPI),
    ]);
    const lower = op.hook(0, SPI, SIGNAL_REGISTER, LOWER);
    guest.script(1, [lower, ...receiver()]).run();
    assert.deepEqual(guest.irqs(1), [SPI]);
    assert.deepEqual(irqsOfCpu0(guest), []);
    const states = guest.results(0, OP.GIC_STATE).map(({ value }) => value & IN_FLIGHT);
    assert.deepEqual(states, [STATE.PENDING, 0]);
  });
}

onEveryShape("migration while pending in the list register of a running CPU", (guest) => {
  // CPU 0 has it pending, masked, and does not leave the guest; CPU 1 takes it away.
  withSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    ...startCpus([1]),
    op.mask(),
    op.signal(PULSE),
    op.write(mailbox(0), 1, 8),
    op.waitMemory(mailbox(1), -1n, 1),
    op.gicState(SPI),
    op.unmask(),
    sleepUntil(2),
  ]);
  guest.script(1, [
    op.unmask(),
    tellCpu0(1),
    op.waitMemory(mailbox(0), -1n, 1),
    op.route(SPI, 1),
    op.write(mailbox(1), 1, 8),
    sleepUntil(1),
    tellCpu0(1),
    op.end(),
  ]).run({ insns: 40_000_000 });
  assert.deepEqual(guest.irqs(1), [SPI]);
  assert.deepEqual(irqsOfCpu0(guest), []);
});

onEveryShape("migration while active: the end is where the acknowledge was", (guest) => {
  withSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    ...startCpus([1]),
    op.mask(),
    op.signal(PULSE),
    op.ack(),
    op.route(SPI, 1),
    op.gicState(SPI),
    op.eoi(),
    op.gicState(SPI),
    op.signal(PULSE),
    op.unmask(),
    sleepUntil(2),
    op.gicState(SPI),
  ]);
  guest.script(1, receiver()).run();
  assert.equal(guest.results(0, OP.ACK)[0]?.intid, SPI);
  assert.deepEqual(irqsOfCpu0(guest), []);
  assert.deepEqual(guest.irqs(1), [SPI]);
  const states = guest.results(0, OP.GIC_STATE).map(({ value }) => value & IN_FLIGHT);
  assert.deepEqual(states, [STATE.ACTIVE, 0, 0]);
});

onEveryShape("migration while active, by the handler, line still high", (guest, shape) => {
  withSignals(guest).script(0, [
    op.config(SPI, PRIORITY, LEVEL),
    ...startCpus([1]),
    op.hook(0, SPI, ...routeTo(shape, SPI, 1), 1),
    op.signal(RAISE),
    sleepUntil(3),
    op.gicState(SPI),
  ]);
  guest.script(1, [op.hook(0, SPI, SIGNAL_REGISTER, LOWER), ...receiver()]).run();
  assert.deepEqual(irqsOfCpu0(guest), [SPI]);
  assert.deepEqual(guest.irqs(1), [SPI]);
  assert.equal((guest.results(0, OP.GIC_STATE).at(-1)?.value ?? -1) & IN_FLIGHT, 0);
});

onEveryShape("edge while active, re-routed: exactly one more, somewhere", (guest, shape) => {
  // Pending and active are in one list register: an exit before the next acknowledge decides where.
  withSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    ...startCpus([1]),
    op.hook(0, SPI, ...routeTo(shape, SPI, 1), 1),
    op.hook(1, SPI, SIGNAL_REGISTER, PULSE, 4, 1),
    op.signal(PULSE),
    op.waitTicks(2000),
    op.write(mailbox(0), 1, 8),
    op.signal(PULSE),
    op.waitMemory(UNIT.log.at + UNIT.log.stride + 0x10, -1n, CPU_STATE.ENDED),
  ]);
  guest.script(1, [
    op.unmask(),
    tellCpu0(1),
    op.waitMemory(mailbox(0), -1n, 1),
    op.waitTicks(2000),
    op.gicState(SPI),
    op.end(),
  ]).run({ insns: 40_000_000 });
  const on0 = irqsOfCpu0(guest), on1 = guest.irqs(1);
  assert.deepEqual([...on0, ...on1], [SPI, SPI, SPI]);
  assert.ok(on1.length >= 1 && on0.length >= 1);
  assert.equal((guest.results(1, OP.GIC_STATE)[0]?.value ?? -1) & IN_FLIGHT, 0);
});

onEveryShape("an SPI goes round all CPUs, each re-routes it in its handler", (guest, shape) => {
  const rounds = 5;
  const all = [0, 1, 2, 3];
  withSignals(guest);
  // The next edge comes after the end, so it is the next CPU's.
  const turns = (cpu: number) =>
    Array.from({ length: rounds }, (_, n) => [
      sleepUntil(n + 1),
      cpu === VCPUS - 1 && n === rounds - 1 ? op.nop() : op.signal(PULSE),
    ]).flat();
  const passOn = (cpu: number) => op.hook(0, SPI, ...routeTo(shape, SPI, (cpu + 1) % VCPUS));
  guest.script(0, [
    op.config(SPI, PRIORITY, EDGE),
    ...startCpus([1, 2, 3]),
    op.resetCount(),
    passOn(0),
    op.signal(PULSE),
    ...turns(0),
    sleepUntil(rounds + 3),
  ]);
  for (const cpu of [1, 2, 3]) {
    guest.script(cpu, [
      passOn(cpu),
      op.unmask(),
      tellCpu0(cpu),
      ...turns(cpu),
      tellCpu0(cpu),
      op.end(),
    ]);
  }
  guest.run({ insns: 20_000_000 });
  const arrivals = all.flatMap((cpu) =>
    guest.entries(cpu, KIND.IRQ).filter(({ intid }) => intid === SPI).map((e) => ({ cpu, ...e }))
  ).toSorted((a, b) => a.cntvct - b.cntvct);
  const expected = Array.from({ length: rounds }, () => all).flat();
  assert.deepEqual(arrivals.map(({ cpu }) => cpu), expected);
});

onEveryShape("CPU_OFF with an interrupt on its way, CPU_ON again", (guest) => {
  const sgi = 3;
  withSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.route(SPI, 1),
    ...startCpus([1]),
    op.signal(PULSE),
    sleepUntil(2),
    ...napMasked(60_000),
    op.hvc(1, AFFINITY_INFO, affinityOf(1), 0),
    op.signal(PULSE),
    op.sgi(sgi, 1),
    ...napMasked(60_000),
    op.hvc(1, AFFINITY_INFO, affinityOf(1), 0),
    op.gicState(SPI),
    op.mark(1),
    op.unmask(),
    op.cpuOn(1, 10),
    sleepUntil(3),
    op.gicState(SPI),
  ]);
  guest.script(1, [op.unmask(), tellCpu0(1), sleepUntil(1), tellCpu0(1), op.mask(), op.cpuOff()]);
  guest.script(1, [
    op.config(sgi, PRIORITY, LEVEL),
    op.unmask(),
    sleepUntil(2),
    tellCpu0(1),
    op.end(),
  ], 10).run();
  assert.deepEqual(guest.results(0, OP.HVC).map(({ value }) => value), [OFF, OFF]);
  assert.deepEqual(guest.results(0, OP.CPU_ON).map(({ value }) => value), [0, 0]);
  assert.deepEqual(guest.irqs(1).toSorted((a, b) => a - b), [sgi, SPI, SPI]);
  const marked = guest.results(0, OP.MARK)[0]?.cntvct ?? Infinity;
  const late = guest.entries(1, KIND.IRQ).slice(1);
  assert.ok(late.every(({ cntvct }) => cntvct >= marked), "an interrupt of a CPU that is off");
  const states = guest.results(0, OP.GIC_STATE).map(({ value }) => value & IN_FLIGHT);
  assert.deepEqual(states, [STATE.PENDING, 0]);
});

onEveryShape("vCPUs move between physical CPUs while interrupts arrive", (guest, { pcpus }) => {
  const ticks = 12, pulses = 12;
  const tick = (cpu: number) => [
    op.config(27, PRIORITY, LEVEL),
    op.timerPeriod(TIMER.VIRTUAL, 2000 + 500 * cpu, ticks),
    op.timerIn(TIMER.VIRTUAL, 2000),
    op.unmask(),
  ];
  guest.script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.route(SPI, 2),
    ...startCpus([1, 2, 3]),
    op.resetCount(),
    ...tick(0),
    op.mark(1),
    sleepUntil(ticks + 3),
  ]);
  for (const cpu of [1, 2, 3]) {
    const interrupts = ticks + (cpu === 2 ? pulses : 0);
    guest.script(cpu, [
      tellCpu0(cpu),
      ...tick(cpu),
      sleepUntil(interrupts),
      tellCpu0(cpu),
      op.end(),
    ]);
  }
  guest.runToMark(0, 1);
  const spis = () => guest.irqs(2).filter((intid) => intid === SPI).length;
  for (let i = 0; i < pulses; i++) {
    guest.act(() => {
      for (let cpu = 0; cpu < VCPUS; cpu++) guest.vcpu(cpu).setAffinity(1 << ((cpu + i) % pcpus));
      pulse(guest);
    });
    guest.runUntil(() => spis() > i);
    assert.equal(spis(), i + 1);
  }
  guest.run();
  for (let cpu = 0; cpu < VCPUS; cpu++) {
    assert.equal(guest.irqs(cpu).filter((intid) => intid === 27).length, ticks, `CPU ${cpu}`);
  }
  assert.equal(spis(), pulses);
});
