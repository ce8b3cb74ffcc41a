/** From line to end: acknowledge, EOI, deactivation, and what happens to a line meanwhile. */
import assert from "node:assert/strict";
import { KIND, type UnitGuest } from "../support/unit_guest.ts";
import { H, OP, op, TIMER } from "../support/unit_operations.ts";
import {
  EDGE,
  IN_FLIGHT,
  LEVEL,
  LOWER,
  onEveryShape,
  PRIORITY,
  PULSE,
  RAISE,
  SIGNAL_REGISTER,
  sleepUntil,
  SPI,
  STATE,
  withSpiSignals,
} from "./matrix.ts";

const EOIMODE = 2;
const IDLE_PRIORITY = 0xff;
const NOTHING = 1023;

/** Pending and active bits of every `op.gicState`, in order. */
function states(guest: UnitGuest): number[] {
  return guest.results(0, OP.GIC_STATE).map(({ value }) => value & IN_FLIGHT);
}

/** Entries of interrupts, ends and marks, as `[kind, intid]`. */
function story(guest: UnitGuest): string[] {
  const names = new Map<number, string>([
    [KIND.IRQ, "irq"],
    [KIND.EOI, "eoi"],
    [KIND.RESULT + OP.MARK, "mark"],
  ]);
  return guest.log(0).flatMap(({ kind, intid }) => {
    const name = names.get(kind);
    return name === undefined ? [] : [`${name} ${intid}`];
  });
}

// KVM keeps the latch of a level interrupt until it is neither pending nor active.
const WHILE_ACTIVE = { edge: STATE.ACTIVE, level: STATE.ACTIVE | STATE.PENDING } as const;

for (const [name, flags] of [["edge", EDGE], ["level", LEVEL]] as const) {
  onEveryShape(`EOI deactivates without EOImode, ${name} by ISPENDR`, (guest) => {
    guest.script(0, [
      op.config(SPI, PRIORITY, flags),
      op.setPending(SPI),
      op.gicState(SPI),
      op.ack(),
      op.gicState(SPI),
      op.eoi(),
      op.gicState(SPI),
      op.ack(),
    ]).run();
    assert.deepEqual(states(guest), [STATE.PENDING, WHILE_ACTIVE[name], 0]);
    assert.deepEqual(guest.results(0, OP.ACK).map(({ intid }) => intid), [SPI, NOTHING]);
    assert.equal(guest.results(0, OP.ACK)[0]?.value, PRIORITY);
    assert.equal(guest.results(0, OP.EOI)[0]?.value, IDLE_PRIORITY);
  });

  onEveryShape(
    `EOI with EOImode only drops the priority, DIR deactivates, ${name} by ISPENDR`,
    (guest) => {
      guest.script(0, [
        op.config(SPI, PRIORITY, flags),
        op.iccCtlr(EOIMODE),
        op.setPending(SPI),
        op.ack(),
        op.eoi(),
        op.gicState(SPI),
        op.dir(),
        op.gicState(SPI),
        op.setPending(SPI),
        op.ack(),
        op.eoi(),
        op.dir(),
        op.gicState(SPI),
        op.ack(),
      ]).run();
      assert.deepEqual(states(guest), [WHILE_ACTIVE[name], 0, 0]);
      assert.deepEqual(guest.results(0, OP.ACK).map(({ intid }) => intid), [SPI, SPI, NOTHING]);
      assert.equal(guest.results(0, OP.EOI)[0]?.value, IDLE_PRIORITY);
    },
  );
}

onEveryShape("with EOImode the next one waits for DIR", (guest) => {
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.iccCtlr(EOIMODE),
    op.handler(H.EOI | H.LOG_EOI),
    op.unmask(),
    op.signal(PULSE),
    sleepUntil(1),
    op.signal(PULSE),
    op.waitTicks(1000),
    op.gicState(SPI),
    op.mark(1),
    op.dir(SPI),
    sleepUntil(2),
    op.dir(SPI),
    op.gicState(SPI),
  ]).run();
  assert.deepEqual(states(guest), [STATE.PENDING | STATE.ACTIVE, 0]);
  assert.deepEqual(story(guest), ["irq 40", "eoi 40", "mark 1", "irq 40", "eoi 40"]);
  assert.ok(guest.entries(0, KIND.EOI).every(({ value }) => value === IDLE_PRIORITY));
});

onEveryShape("EOImode, handler with EOI and DIR, timer tick", (guest) => {
  guest.script(0, [
    op.config(27, PRIORITY, LEVEL),
    op.iccCtlr(EOIMODE),
    op.handler(H.EOI | H.DIR),
    op.timerPeriod(TIMER.VIRTUAL, 3000, 8),
    op.timerIn(TIMER.VIRTUAL, 3000),
    op.unmask(),
    sleepUntil(8),
    op.gicState(27),
  ]).run();
  assert.deepEqual(guest.irqs(0), Array.from({ length: 8 }, () => 27));
  assert.deepEqual(states(guest), [0]);
});

onEveryShape("timer with EOImode stays active until DIR", (guest) => {
  guest.script(0, [
    op.config(27, PRIORITY, LEVEL),
    op.iccCtlr(EOIMODE),
    op.unmask(),
    op.timerIn(TIMER.VIRTUAL, 100),
    sleepUntil(1),
    op.gicState(27),
    op.timerIn(TIMER.VIRTUAL, 100),
    op.waitTicks(1000),
    op.mark(1),
    op.dir(27),
    sleepUntil(2),
    op.dir(27),
    op.gicState(27),
  ]).run();
  assert.deepEqual(states(guest), [STATE.ACTIVE, 0]);
  assert.deepEqual(story(guest), ["irq 27", "mark 1", "irq 27"]);
});

onEveryShape("level line dropped before it is acknowledged", (guest) => {
  // The handler leaves the line alone: with IRQs masked it is taken once, then lowered.
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, LEVEL),
    op.handler(H.EOI | H.LEAVE_MASKED),
    op.signal(RAISE),
    op.gicState(SPI),
    op.signal(LOWER),
    op.gicState(SPI),
    op.ack(),
    op.unmask(),
    op.waitTicks(500),
    op.mark(1),
    op.signal(RAISE),
    sleepUntil(1),
    op.signal(LOWER),
    op.unmask(),
    op.waitTicks(500),
  ]).run();
  assert.deepEqual(states(guest), [STATE.PENDING, 0]);
  assert.deepEqual(guest.results(0, OP.ACK).map(({ intid }) => intid), [NOTHING]);
  assert.deepEqual(story(guest), ["mark 1", "irq 40"]);
});

onEveryShape("level line still high after EOI is delivered again", (guest) => {
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, LEVEL),
    op.handler(H.EOI | H.LEAVE_MASKED),
    op.signal(RAISE),
    ...[1, 2, 3].flatMap((n) => [op.unmask(), op.waitInterrupts(n)]),
    op.gicState(SPI),
    op.signal(LOWER),
    op.gicState(SPI),
    op.unmask(),
    op.waitTicks(500),
  ]).run();
  assert.deepEqual(guest.irqs(0), [SPI, SPI, SPI]);
  assert.deepEqual(states(guest), [STATE.PENDING, 0]);
});

onEveryShape("level line that the handler lowers on the third time", (guest) => {
  let seen = 0;
  guest.onSignal(LOWER, () => {
    if (++seen === 3) guest.spi(SPI, false);
  });
  guest.onSignal(RAISE, () => guest.spi(SPI, true)).script(0, [
    op.config(SPI, PRIORITY, LEVEL),
    op.hook(0, SPI, SIGNAL_REGISTER, LOWER),
    op.unmask(),
    op.signal(RAISE),
    op.waitTicks(5000),
    op.gicState(SPI),
  ]).run();
  assert.deepEqual(guest.irqs(0), [SPI, SPI, SPI]);
  assert.deepEqual(states(guest), [0]);
});

onEveryShape("edge while active is latched, two are one", (guest) => {
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.signal(PULSE),
    op.ack(),
    op.gicState(SPI),
    op.signal(PULSE),
    op.signal(PULSE),
    op.gicState(SPI),
    op.ack(),
    op.eoi(SPI),
    op.gicState(SPI),
    op.ack(),
    op.eoi(SPI),
    op.gicState(SPI),
    op.ack(),
  ]).run();
  const both = STATE.PENDING | STATE.ACTIVE;
  assert.deepEqual(states(guest), [STATE.ACTIVE, both, STATE.PENDING, 0]);
  // The second ACK is while the first is active: nothing of a higher priority is there.
  const acks = guest.results(0, OP.ACK).map(({ intid }) => intid);
  assert.deepEqual(acks, [SPI, NOTHING, SPI, NOTHING]);
});

onEveryShape("edge from the handler of the same interrupt", (guest) => {
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.handler(H.EOI | H.LOG_EOI),
    op.hook(0, SPI, SIGNAL_REGISTER, PULSE, 4, 4),
    op.unmask(),
    op.signal(PULSE),
    sleepUntil(5),
    op.waitTicks(500),
    op.gicState(SPI),
  ]).run();
  assert.deepEqual(story(guest), Array.from({ length: 5 }, () => ["irq 40", "eoi 40"]).flat());
  assert.deepEqual(states(guest), [0]);
});

onEveryShape("active by ISACTIVER, inactive by ICACTIVER", (guest) => {
  withSpiSignals(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.setActive(SPI),
    op.gicState(SPI),
    op.unmask(),
    op.signal(PULSE),
    op.waitTicks(500),
    op.mark(1),
    op.clearActive(SPI),
    sleepUntil(1),
    op.gicState(SPI),
  ]).run();
  assert.deepEqual(states(guest), [STATE.ACTIVE, 0]);
  assert.deepEqual(story(guest), ["mark 1", "irq 40"]);
});
