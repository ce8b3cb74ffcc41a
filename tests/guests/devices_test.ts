/** The board's devices as a guest meets them: exits to user space, lines by KVM_IRQ_LINE, virtual time. */
import assert from "node:assert/strict";
import { PL031_REG, RTC_EPOCH } from "../../src/vmm/pl031.ts";
import { PL061_REG, POWER_BUTTON_PIN } from "../../src/vmm/pl061.ts";
import { VIRTIO_SLOT } from "../../src/vmm/board.ts";
import { VIRTIO_MMIO as REG } from "../../src/vmm/virtio/mmio_transport.ts";
import { VIRT_INTID, VIRT_MAP, VIRTIO_MMIO_SLOT_SIZE } from "../../src/vmm/virt_map.ts";
import { KIND, UNIT, UnitGuest } from "../support/unit_guest.ts";
import { OP, op, type Operation } from "../support/unit_operations.ts";
import { LEVEL, onEveryShape, PRIORITY, sleepUntil } from "./matrix.ts";

const RTC = VIRT_MAP.rtc.base;
const GPIO = VIRT_MAP.gpio.base;
const BUTTON = 1 << POWER_BUTTON_PIN;
const LONG = { insns: 50_000_000, ns: 10e9 };

onEveryShape("the clock's alarm wakes a sleeping guest at its second", (guest) => {
  guest.script(0, [
    op.config(VIRT_INTID.rtc, PRIORITY, LEVEL),
    op.hook(0, VIRT_INTID.rtc, RTC + PL031_REG.ICR, 1),
    op.write(RTC + PL031_REG.IMSC, 1),
    op.write(RTC + PL031_REG.MR, RTC_EPOCH + 2),
    op.unmask(),
    sleepUntil(1),
    op.read(RTC + PL031_REG.DR),
    op.read(RTC + PL031_REG.RIS),
    op.off(),
  ]).run(LONG);
  assert.deepEqual(guest.irqs(0), [VIRT_INTID.rtc]);
  assert.deepEqual(guest.results(0, OP.READ).map((e) => e.value), [RTC_EPOCH + 2, 0]);
  const [irq] = guest.entries(0, KIND.IRQ);
  // The guest's counter started with its VM, a little later than the machine.
  const late = (irq?.cntvct ?? 0) - 2e9 / 16;
  assert.ok(Math.abs(late) < 10_000, `${late} ticks after the second`);
});

onEveryShape("a press of the power button is a rising and a falling edge", (guest) => {
  const gone = op.hook(0, VIRT_INTID.gpio, GPIO + PL061_REG.IC, BUTTON);
  guest.script(0, [
    op.config(VIRT_INTID.gpio, PRIORITY, LEVEL),
    gone,
    op.write(GPIO + PL061_REG.IBE, BUTTON),
    op.write(GPIO + PL061_REG.IE, BUTTON),
    op.unmask(),
    op.mark(1),
    sleepUntil(1),
    op.read(GPIO + 4 * BUTTON),
    sleepUntil(2),
    op.read(GPIO + 4 * BUTTON),
    op.off(),
  ]).runToMark(0, 1);
  assert.equal(guest.guest.apply({ op: "pressPowerButton", vm: 0 }), 0);
  guest.run(LONG);
  assert.deepEqual(guest.irqs(0), [VIRT_INTID.gpio, VIRT_INTID.gpio]);
  assert.deepEqual(guest.results(0, OP.READ).map((e) => e.value), [BUTTON, 0]);
  const [down, up] = guest.entries(0, KIND.IRQ).map((e) => e.cntvct);
  const ticks = (up ?? 0) - (down ?? 0);
  assert.ok(Math.abs(ticks - 100e6 / 16) < 10_000, `${ticks} ticks`);
});

const QUEUE = UNIT.free + 0x1_0000;
const BUFFER = UNIT.free + 0x2_0000;
const LENGTH = 64;

/** The stores of a driver that gives the entropy device one buffer. */
function entropyDriver(): Operation[] {
  const slot = VIRT_MAP.virtioMmio.base + VIRTIO_SLOT.rng * VIRTIO_MMIO_SLOT_SIZE;
  const store = (register: number, value: number) => op.write(slot + register, value);
  const intid = VIRT_INTID.virtioMmio0 + VIRTIO_SLOT.rng;
  return [
    op.config(intid, PRIORITY, LEVEL),
    op.hook(0, intid, slot + REG.InterruptACK, 1),
    store(REG.Status, 0),
    store(REG.Status, 3),
    store(REG.DriverFeaturesSel, 1),
    store(REG.DriverFeatures, 1),
    store(REG.Status, 11),
    store(REG.QueueNum, 4),
    store(REG.QueueDescLow, QUEUE),
    store(REG.QueueDriverLow, QUEUE + 0x1000),
    store(REG.QueueDeviceLow, QUEUE + 0x2000),
    store(REG.QueueReady, 1),
    store(REG.Status, 15),
    op.unmask(),
    store(REG.QueueNotify, 0),
    sleepUntil(1),
    op.read(slot + REG.Status),
    op.read(slot + REG.InterruptStatus),
    op.off(),
  ];
}

/** Runs the driver; the bytes it got. */
function entropy(guest: UnitGuest): bigint[] {
  guest.script(0, entropyDriver());
  // One writable descriptor, made available.
  guest.write64(QUEUE, BUFFER);
  guest.write64(QUEUE + 8, BigInt(LENGTH) | (2n << 32n));
  guest.write64(QUEUE + 0x1000, 1n << 16n);
  guest.run(LONG);
  assert.deepEqual(guest.irqs(0), [VIRT_INTID.virtioMmio0 + VIRTIO_SLOT.rng]);
  assert.deepEqual(guest.results(0, OP.READ).map((e) => e.value), [15, 0]);
  assert.equal(guest.read64(QUEUE + 0x2000), 1n << 16n, "used index 1, element 0");
  assert.equal(guest.read64(QUEUE + 0x2000 + 8) & 0xffff_ffffn, BigInt(LENGTH));
  return Array.from({ length: LENGTH / 8 }, (_, i) => guest.read64(BUFFER + 8 * i));
}

onEveryShape("a driver reads the entropy device through scattered host pages", (guest) => {
  const words = entropy(guest);
  assert.equal(new Set(words).size, words.length);
  const again = new UnitGuest({ shuffle: 77 });
  assert.deepEqual(entropy(again), words, "another machine, the same numbers");
});

Deno.test("a device's state is part of the machine's hash and of its snapshots", () => {
  const guest = new UnitGuest();
  guest.script(0, [op.mark(1), op.waitTicks(20_000), op.off()]).runToMark(0, 1);
  const { machine, guest: { board } } = guest;
  const [snapshot, before] = [machine.snapshot(), machine.stateHash()];
  board.gpio.state.dir = 0x55;
  assert.notEqual(machine.stateHash(), before);
  machine.restore(snapshot);
  assert.equal(machine.stateHash(), before);
  assert.equal(board.gpio.state.dir, 0);
});
