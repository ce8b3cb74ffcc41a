/** Priorities: preemption, and more interrupts than list registers. */
import assert from "node:assert/strict";
import { KIND } from "../support/unit_guest.ts";
import { H, op } from "../support/unit_operations.ts";
import { EDGE, ispendrOf, LEVEL, onEveryShape, sleepUntil } from "./matrix.ts";

const LOW = 40;
const MIDDLE = 41;
const HIGH = 42;
const PRIORITIES = { [LOW]: 0xc0, [MIDDLE]: 0x80, [HIGH]: 0x40 } as const;
const IDLE_PRIORITY = 0xff;

onEveryShape("priority preemption, nested", (guest, { lrs }) => {
  const nested = H.EOI | H.NEST | H.LOG_EOI;
  guest.script(0, [
    ...[LOW, MIDDLE, HIGH].map((intid) =>
      op.config(intid, PRIORITIES[intid as keyof typeof PRIORITIES], EDGE)
    ),
    op.handler(nested, 2000),
    op.hook(0, LOW, ...ispendrOf(MIDDLE)),
    op.hook(1, MIDDLE, ...ispendrOf(HIGH)),
    op.unmask(),
    op.setPending(LOW),
    op.waitInterrupts(3),
  ]).run();
  const steps = guest.log(0).filter(({ kind }) => kind === KIND.IRQ || kind === KIND.EOI)
    .map(({ kind, intid, value }) => [kind === KIND.IRQ ? "irq" : "eoi", intid, value]);
  const irq = (intid: keyof typeof PRIORITIES) => ["irq", intid, PRIORITIES[intid]];
  const eoi = (intid: number, running: number) => ["eoi", intid, running];
  // What is active keeps its list register: the only one is taken until its end.
  const expected = lrs === 1
    ? [LOW, MIDDLE, HIGH].flatMap((intid) => [
      irq(intid as keyof typeof PRIORITIES),
      eoi(intid, IDLE_PRIORITY),
    ])
    : [
      irq(LOW),
      irq(MIDDLE),
      irq(HIGH),
      eoi(HIGH, PRIORITIES[MIDDLE]),
      eoi(MIDDLE, PRIORITIES[LOW]),
      eoi(LOW, IDLE_PRIORITY),
    ];
  assert.deepEqual(steps, expected);
});

onEveryShape("no preemption by the same or a lower priority", (guest) => {
  guest.script(0, [
    op.config(LOW, 0x80, EDGE),
    op.config(MIDDLE, 0x80, EDGE),
    op.config(HIGH, 0x88, EDGE),
    op.handler(H.EOI | H.NEST | H.LOG_EOI, 1000),
    op.hook(0, LOW, ...ispendrOf(HIGH)),
    op.hook(1, LOW, ...ispendrOf(MIDDLE)),
    op.unmask(),
    op.setPending(LOW),
    op.waitInterrupts(3),
  ]).run();
  const steps = guest.log(0).filter(({ kind }) => kind === KIND.IRQ || kind === KIND.EOI)
    .map(({ intid }) => intid);
  assert.deepEqual(steps, [LOW, LOW, MIDDLE, MIDDLE, HIGH, HIGH]);
});

/** 20 SPIs in an order that is neither that of intids nor that of priorities. */
const MANY = Array.from({ length: 20 }, (_, i) => ({
  intid: 40 + (i * 7) % 20,
  priority: 0x20 + 8 * ((i * 3) % 20),
}));
const BY_PRIORITY = MANY.toSorted((a, b) => a.priority - b.priority).map(({ intid }) => intid);

for (const [name, flags] of [["edge", EDGE], ["level", LEVEL]] as const) {
  onEveryShape(`more pending than list registers, ${name}`, (guest) => {
    guest.script(0, [
      ...MANY.map(({ intid, priority }) => op.config(intid, priority, flags)),
      ...MANY.map(({ intid }) => op.setPending(intid)),
      op.unmask(),
      sleepUntil(MANY.length),
      op.waitTicks(500),
    ]).run();
    assert.deepEqual(guest.irqs(0), BY_PRIORITY);
  });
}

onEveryShape("more lines high than list registers, raised while interrupts are taken", (guest) => {
  const raise = 1;
  guest.onSignal(raise, () => MANY.forEach(({ intid }) => guest.spi(intid, true)));
  // Each handler's signal lowers the line that was acknowledged last.
  const lower = 2;
  guest.onSignal(lower, () => guest.spi(guest.irqs(0).at(-1) ?? 0, false));
  guest.script(0, [
    ...MANY.map(({ intid, priority }) => op.config(intid, priority, LEVEL)),
    op.hook(0, 0xffff_ffff, 0x0900_0000, lower),
    op.unmask(),
    op.signal(raise),
    sleepUntil(MANY.length),
    op.signal(raise),
    sleepUntil(2 * MANY.length),
    op.waitTicks(500),
  ]).run();
  assert.deepEqual(guest.irqs(0), [...BY_PRIORITY, ...BY_PRIORITY]);
});

onEveryShape("more pending than list registers, acknowledged by hand", (guest) => {
  const many = MANY.slice(0, 6);
  guest.script(0, [
    op.iccCtlr(2),
    ...many.map(({ intid, priority }) => op.config(intid, priority, EDGE)),
    ...many.map(({ intid }) => op.setPending(intid)),
    ...many.flatMap(() => [op.ack(), op.eoi(), op.dir()]),
    op.ack(),
  ]).run();
  const acked = guest.results(0, 0x35).map(({ intid }) => intid);
  const sorted = many.toSorted((a, b) => a.priority - b.priority).map(({ intid }) => intid);
  assert.deepEqual(acked, [...sorted, 1023]);
});
