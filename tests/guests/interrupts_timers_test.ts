/** Timers at their limits, sleep and wake-up, and what idling costs. */
import assert from "node:assert/strict";
import { planBoot } from "../../src/vmm/boot_plan.ts";
import { parseImage } from "../../src/vmm/image.ts";
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";
import smpImage from "../../fixtures/guests/smp.bin" with { type: "bytes" };
import { KIND, type UnitGuest } from "../support/unit_guest.ts";
import { OP, op, TIMER, TIMER_INTID } from "../support/unit_operations.ts";
import {
  EDGE,
  irqsOfCpu0,
  LEVEL,
  loggingTicks,
  onEveryShape,
  PRIORITY,
  type Shape,
  SHAPES,
  sleepUntil,
  startCpus,
  tellCpu0,
  VCPUS,
} from "./matrix.ts";

const TICKS_PER_SECOND = 62_500_000;
const NS_PER_TICK = 16;
/**
 * From the event to the vector of a CPU that sleeps in WFI, nothing else to do: 8 us of virtual time,
 * for an exit, a wake-up by interrupt, a change of thread and an entry (about 2 us for a timer or an
 * SGI, 5 us for a line from outside).
 */
const WAKE_UP_TICKS = 8_000 / NS_PER_TICK;
/** On a host without VHE, whose switch moves more state. */
const WAKE_UP_TICKS_NVHE = 16_000 / NS_PER_TICK;
function wakeUpTicks({ mode }: Shape): number {
  return mode === "vhe" ? WAKE_UP_TICKS : WAKE_UP_TICKS_NVHE;
}
/** The same for a CPU that runs guest instructions. */
const RUNNING_TICKS = 2_000 / NS_PER_TICK;

const TIMERS = [["virtual", TIMER.VIRTUAL], ["physical", TIMER.PHYSICAL]] as const;

function first(guest: UnitGuest, intid: number, cpu = 0): number {
  return guest.entries(cpu, KIND.IRQ).find((e) => e.intid === intid)?.cntvct ?? NaN;
}

for (const [name, timer] of TIMERS) {
  const intid = TIMER_INTID[timer];

  onEveryShape(`${name} timer programmed in the past`, (guest, shape) => {
    guest.script(0, [
      op.config(intid, PRIORITY, LEVEL),
      op.unmask(),
      op.timerIn(timer, -1000),
      op.waitInterrupts(1),
      op.timerAt(timer, 0),
      op.waitInterrupts(2),
      op.mask(),
      op.timerAt(timer, 1),
      op.wfi(),
      op.unmask(),
      sleepUntil(3),
    ]).run();
    assert.deepEqual(guest.irqs(0), [intid, intid, intid]);
    const late = first(guest, intid) - (guest.results(0, OP.TIMER_IN)[0]?.cntvct ?? NaN);
    assert.ok(late <= RUNNING_TICKS, `${late} ticks`);
    assert.ok((guest.results(0, OP.WFI)[0]?.value ?? NaN) <= wakeUpTicks(shape), "WFI slept");
  });

  onEveryShape(`${name} timer programmed far ahead`, (guest, shape) => {
    const delta = 100 * TICKS_PER_SECOND;
    guest.script(0, [
      op.config(intid, PRIORITY, LEVEL),
      op.unmask(),
      op.timerIn(timer, delta),
      sleepUntil(1),
    ]);
    guest.boot();
    const before = guest.machine.insns;
    guest.run({ ns: 200e9 });
    assert.deepEqual(guest.irqs(0), [intid]);
    const slept = first(guest, intid) - (guest.results(0, OP.TIMER_IN)[0]?.cntvct ?? NaN);
    const early = loggingTicks(shape, timer);
    assert.ok(slept >= delta - early && slept <= delta + wakeUpTicks(shape), `${slept} ticks`);
    assert.ok(guest.machine.insns - before < 50_000, "time passes without instructions");
  });

  onEveryShape(`${name} timer at the end of time does not fire`, (guest) => {
    const other = timer === TIMER.VIRTUAL ? TIMER.PHYSICAL : TIMER.VIRTUAL;
    guest.script(0, [
      op.config(27, PRIORITY, LEVEL),
      op.config(30, PRIORITY, LEVEL),
      op.unmask(),
      op.timerAt(timer, 0xffff_ffff_ffff_ffffn),
      op.timerIn(other, TICKS_PER_SECOND),
      sleepUntil(1),
      op.timerRead(timer),
      op.timerIn(timer, 500),
      sleepUntil(2),
    ]).run({ ns: 10e9 });
    assert.deepEqual(guest.irqs(0), [TIMER_INTID[other], intid]);
    assert.equal(guest.results(0, OP.TIMER_READ)[0]?.intid, 1, "enabled, condition not met");
  });

  onEveryShape(`${name} timer wakes a CPU from WFI`, (guest, shape) => {
    const delta = 62_500;
    guest.script(0, [
      op.config(intid, PRIORITY, LEVEL),
      op.unmask(),
      op.timerIn(timer, delta),
      op.wfi(),
      sleepUntil(1),
    ]).run();
    const late = first(guest, intid) - (guest.results(0, OP.TIMER_IN)[0]?.cntvct ?? NaN) - delta;
    assert.ok(late >= -loggingTicks(shape, timer) && late <= wakeUpTicks(shape), `${late} ticks`);
    assert.equal(guest.vcpu(0).vcpu.stat.wfi_exit_stat, 1);
  });

  onEveryShape(`${name} timer masked or disabled in time does not fire`, (guest) => {
    guest.script(0, [
      op.config(intid, PRIORITY, LEVEL),
      op.unmask(),
      op.timerIn(timer, 2000),
      op.timerCtl(timer, 3),
      op.waitTicks(4000),
      op.timerRead(timer),
      op.timerCtl(timer, 0),
      op.timerIn(timer, 2000),
      op.timerCtl(timer, 0),
      op.waitTicks(4000),
      op.mark(1),
      op.timerCtl(timer, 1),
      sleepUntil(1),
    ]).run();
    assert.deepEqual(guest.irqs(0), [intid]);
    assert.ok(first(guest, intid) >= (guest.results(0, OP.MARK)[0]?.cntvct ?? NaN));
    assert.equal(guest.results(0, OP.TIMER_READ)[0]?.intid, 7);
  });
}

onEveryShape("an SGI wakes a CPU from WFI", (guest, shape) => {
  const sgi = 3;
  guest.script(0, [
    ...startCpus([1]),
    op.waitTicks(20_000),
    op.mark(1),
    op.sgi(sgi, 1),
    sleepUntil(2),
  ]);
  guest.script(1, [
    op.config(sgi, PRIORITY, LEVEL),
    op.unmask(),
    tellCpu0(1),
    sleepUntil(1),
    tellCpu0(1),
    op.end(),
  ]).run();
  const sent = guest.results(0, OP.MARK)[0]?.cntvct ?? NaN;
  const late = first(guest, sgi, 1) - sent;
  assert.ok(late > 0 && late <= wakeUpTicks(shape), `${late} ticks`);
});

onEveryShape("a line from outside wakes a VM whose CPUs all sleep", (guest, shape) => {
  const spi = 40;
  guest.script(0, [
    op.config(spi, PRIORITY, EDGE),
    op.unmask(),
    op.mark(1),
    sleepUntil(1),
  ]);
  guest.runToMark(0, 1).runFor({ ns: 10e6 });
  assert.deepEqual(irqsOfCpu0(guest), []);
  const raised = guest.machine.nowNs;
  guest.act(() => guest.spi(spi, true)).run();
  assert.deepEqual(irqsOfCpu0(guest), [spi]);
  // The guest's counter began with the VM, which was not later than the guest's first entry.
  const now = guest.log(0).at(-1)?.cntvct ?? NaN;
  const age = (guest.machine.nowNs - raised) / NS_PER_TICK;
  assert.ok(age - (now - first(guest, spi)) <= wakeUpTicks(shape), `${age} ticks`);
});

/** Instructions and virtual ns of a boot of the SMP guest that runs `command` and powers off. */
function smpRun(
  command: string,
  { pcpus, lrs, mode }: Shape,
): { insns: number; ns: number; text: string } {
  const memory = 8 << 20;
  const bytes: number[] = [];
  const guest = new KvmGuest({
    vcpus: VCPUS,
    pcpus,
    lrs,
    mode,
    memory,
    shuffle: 1,
    transmit: (byte) => bytes.push(byte),
  });
  guest.boot(planBoot({
    kernel: parseImage(smpImage),
    dtb: () =>
      buildVirtDtb({
        vcpus: VCPUS,
        ramSize: memory,
        bootargs: `hz=0 cmd="${command};off"`,
        psciMethod: "hvc",
        el2: false,
      }),
    ram: { base: 0x4000_0000, size: memory },
  }));
  assert.equal(guest.machine.run(50_000_000, 60e9), "power");
  const { insns, nowNs } = guest.machine;
  return { insns, ns: nowNs, text: new TextDecoder().decode(new Uint8Array(bytes)) };
}

/** What idling ten virtual seconds may retire more than idling one: printing longer numbers takes about 80. */
const IDLE_INSNS = 200;

Deno.test("idle for ten virtual seconds retires few instructions", async (t) => {
  for (const shape of SHAPES) {
    const { lrs, pcpus, mode } = shape;
    await t.step(`${lrs} list registers, ${pcpus} physical CPUs, ${mode}`, () => {
      const one = smpRun("idle 1", shape);
      const ten = smpRun("idle 10", shape);
      assert.match(ten.text, /idle: seconds=10 ticks=\d+ wakeups=1 ok/);
      assert.ok(Math.abs(ten.ns - one.ns - 9e9) < 1e6, `${ten.ns - one.ns} ns`);
      assert.ok(ten.insns - one.insns < IDLE_INSNS, `${ten.insns - one.insns} instructions`);
    });
  }
});
