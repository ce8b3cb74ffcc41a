/** What keeps an interrupt from the guest keeps it only as long as it holds, and never loses it. */
import assert from "node:assert/strict";
import { KIND, type UnitGuest } from "../support/unit_guest.ts";
import { CONFIG, OP, op, type Operation } from "../support/unit_operations.ts";
import {
  EDGE,
  GICC_CTLR,
  LEVEL,
  onEveryShape,
  PRIORITY,
  SHAPES,
  sleepUntil,
  STATE,
} from "./matrix.ts";

const SPI = 40;
const OTHER = 41;
const PULSE = 1;
const PULSE_OTHER = 2;
const OPENED = 7;

function withPulses(guest: UnitGuest): UnitGuest {
  const pulse = (intid: number) => () => {
    guest.spi(intid, true);
    guest.spi(intid, false);
  };
  return guest.onSignal(PULSE, pulse(SPI)).onSignal(PULSE_OTHER, pulse(OTHER));
}

/** An edge comes behind the obstacle, stays pending, and arrives once when the obstacle goes. */
function heldBack(
  guest: UnitGuest,
  obstacle: readonly Operation[],
  opening: readonly Operation[],
  prepare: readonly Operation[] = [op.config(SPI, PRIORITY, EDGE)],
): void {
  withPulses(guest).script(0, [
    ...prepare,
    op.unmask(),
    ...obstacle,
    op.signal(PULSE),
    op.waitTicks(500),
    op.gicState(SPI),
    op.mark(OPENED),
    ...opening,
    sleepUntil(1),
    op.waitTicks(500),
    op.gicState(SPI),
  ]).run();
  const [before, after] = guest.results(0, OP.GIC_STATE).map(({ value }) => value);
  assert.equal((before ?? 0) & (STATE.PENDING | STATE.ACTIVE), STATE.PENDING, "held back");
  assert.equal((after ?? -1) & (STATE.PENDING | STATE.ACTIVE), 0, "afterwards");
  const kinds = guest.log(0).filter(({ kind }) =>
    kind === KIND.IRQ || kind === KIND.RESULT + OP.MARK
  );
  assert.deepEqual(kinds.map(({ intid }) => intid), [OPENED, SPI]);
}

onEveryShape("masked by PSTATE.I", (guest) => heldBack(guest, [op.mask()], [op.unmask()]));

onEveryShape("masked by PMR", (guest) =>
  // A priority equal to the mask is masked.
  heldBack(guest, [op.pmr(PRIORITY)], [op.pmr(PRIORITY + 8)]));

onEveryShape("disabled", (guest) => heldBack(guest, [op.disable(SPI)], [op.enable(SPI)]));

onEveryShape(
  "group disabled at the CPU interface",
  (guest, { gic }) => {
    const enable = (on: number) => gic === 2 ? op.write(GICC_CTLR, on) : op.igrpen1(on);
    heldBack(guest, [enable(0)], [enable(1)]);
  },
);

onEveryShape("group disabled at the distributor", (guest, { gic }) => {
  const [off, on] = gic === 2 ? [0, 1] as const : [0x10, 0x12] as const;
  // GICD_CTLR only kicks vCPUs (as in KVM): what came meanwhile is queued by the next write to it.
  heldBack(guest, [op.gicdCtlr(off)], [op.gicdCtlr(on), op.enable(SPI)]);
});

onEveryShape(
  "group 0 waits for its own enable",
  (guest) =>
    heldBack(
      guest,
      [],
      [op.disable(SPI), op.config(SPI, PRIORITY, EDGE)],
      [op.config(SPI, PRIORITY, CONFIG.EDGE | CONFIG.ENABLE)],
    ),
  {},
  SHAPES,
);

onEveryShape("masked by PMR: what is above the mask passes", (guest) => {
  withPulses(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.config(OTHER, 0x40, EDGE),
    op.pmr(PRIORITY),
    op.unmask(),
    op.signal(PULSE),
    op.signal(PULSE_OTHER),
    op.waitInterrupts(1),
    op.waitTicks(500),
    op.mark(OPENED),
    op.pmr(0xff),
    sleepUntil(2),
  ]).run();
  assert.deepEqual(guest.irqs(0), [OTHER, SPI]);
  const [, late] = guest.entries(0, KIND.IRQ);
  assert.ok((late?.cntvct ?? 0) >= (guest.results(0, OP.MARK)[0]?.cntvct ?? Infinity));
});

onEveryShape("disabled while it is pending in a list register", (guest) => {
  withPulses(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.mask(),
    op.signal(PULSE),
    op.disable(SPI),
    op.unmask(),
    op.waitTicks(500),
    op.gicState(SPI),
    op.mark(OPENED),
    op.enable(SPI),
    sleepUntil(1),
  ]).run();
  assert.deepEqual(guest.irqs(0), [SPI]);
  assert.ok(
    (guest.entries(0, KIND.IRQ)[0]?.cntvct ?? 0) >=
      (guest.results(0, OP.MARK)[0]?.cntvct ?? Infinity),
  );
  assert.equal((guest.results(0, OP.GIC_STATE)[0]?.value ?? 0) & STATE.PENDING, STATE.PENDING);
});

onEveryShape("what PMR masks does not end WFI, what passes does", (guest) => {
  const ticks = 62_500;
  withPulses(guest).script(0, [
    op.config(SPI, PRIORITY, EDGE),
    op.config(27, 0x20, LEVEL),
    op.pmr(PRIORITY),
    op.unmask(),
    op.signal(PULSE),
    op.timerIn(0, ticks),
    op.wfi(),
    op.pmr(0xff),
    sleepUntil(2),
  ]).run();
  assert.deepEqual(guest.irqs(0), [27, SPI]);
  const slept = guest.results(0, OP.WFI)[0]?.value ?? 0;
  assert.ok(slept > ticks - 1000, `WFI ended after ${slept} ticks`);
});
