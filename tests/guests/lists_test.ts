/**
 * List registers are the only way of an interrupt into a guest; and an interrupt that changes while it
 * is on its way from one ap_list to another is neither lost nor doubled.
 */
import assert from "node:assert/strict";
import { GICD, ICH_HCR } from "../../src/arm/arch/gic.ts";
import { R } from "../../src/arm/arch/sysregs.ts";
import type { Sequence } from "../../src/arm/port_sequence.ts";
import { type VgicIrq, VgicIrqLayout } from "../../src/kvm/kvm_host.ts";
import { vgicGetIrq } from "../../src/kvm/vgic/vgic.ts";
import { apListDepth } from "../../src/kvm/vgic/vgic_debug.ts";
import { affinityOf, op, type Operation, TIMER } from "../support/unit_operations.ts";
import { UnitGuest } from "../support/unit_guest.ts";

const EDGE = 7, LEVEL = 5;
const GICD_BASE = 0x0800_0000;
const SGI = 3, EDGE_SPI = 48, VTIMER = 27, PTIMER = 30;

/** The test device's line, and what lowers it. */
const DEVICE_SPI = 40;
const DEVICE = { line: 0x0b00_0004, ack: 0x0b00_0008 } as const;
/** The handler lowers it. */
const LOWERS: Operation = op.hook(0, DEVICE_SPI, DEVICE.ack, 1);

// The only way in

const isListRegister = (reg: number): boolean => reg >= R.ICH_LR0_EL2 && reg < R.ICH_LR0_EL2 + 16;
/** What {@link interpose} sees written by sequences. */
const INTERFACE = [R.ICH_HCR_EL2, ...Array.from({ length: 16 }, (_, n) => R.ICH_LR0_EL2 + n)];

/** One interrupt of every kind for CPU 0, and SGIs to CPU 1. Nothing waits for any of them. */
function everyKind(): UnitGuest {
  const guest = new UnitGuest({ vcpus: 2, pcpus: 2, quantum: 500 });
  guest.guest.vm.vcpus.forEach((vcpu, i) => vcpu.setAffinity(1 << i));
  guest.script(1, [op.config(SGI, 0x80, LEVEL), op.unmask(), op.waitTicks(8000), op.cpuOff()]);
  return guest.script(0, [
    op.config(SGI, 0x80, LEVEL),
    op.config(VTIMER, 0x80, LEVEL),
    op.config(PTIMER, 0x80, LEVEL),
    op.config(EDGE_SPI, 0x80, EDGE),
    op.config(DEVICE_SPI, 0x80, LEVEL),
    LOWERS,
    op.cpuOn(1),
    op.waitTicks(2000),
    op.unmask(),
    op.sgi(SGI, 0),
    op.sgi(SGI, 1),
    op.setPending(EDGE_SPI),
    op.timerIn(TIMER.VIRTUAL, 100),
    op.timerIn(TIMER.PHYSICAL, 200),
    op.waitTicks(2000),
    op.write(DEVICE.line, 1),
    op.waitTicks(2000),
  ]);
}

/** Registers that a sequence writes. */
function writtenBy({ steps }: Sequence): number[] {
  const writes = ["restore", "load", "loadWord", "write", "change"];
  return [...new Set(steps.flatMap((s) => "reg" in s && writes.includes(s.step) ? [s.reg] : []))];
}

/** Lets `change` decide what is written to a register of the hypervisor's: undefined drops the write. */
function interpose(
  guest: UnitGuest,
  change: (reg: number, lo: number) => number | undefined,
): { changed: number } {
  const seen = { changed: 0 };
  for (const port of guest.machine.ports) {
    const write = port.write.bind(port), restore = port.restore.bind(port);
    const apply = (reg: number, lo: number, as: () => void, other: (lo: number) => void): void => {
      const result = change(reg, lo);
      if (result === lo) return as();
      seen.changed++;
      if (result !== undefined) other(result);
    };
    port.write = (reg, lo, hi) =>
      apply(reg, lo, () => write(reg, lo, hi), (value) => write(reg, value, hi));
    port.restore = (reg, from) => {
      const hi = port.memory.ld32(from + 4);
      apply(reg, port.memory.ld32(from), () => restore(reg, from), (v) => write(reg, v, hi));
    };
    const run = port.run.bind(port);
    const valueOf = (reg: number) => [port.readLo(reg), port.readHi(reg)] as const;
    port.run = (sequence, ...args) => {
      const regs = writtenBy(sequence).filter((reg) => INTERFACE.includes(reg));
      const before = regs.map(valueOf);
      run(sequence, ...args);
      regs.forEach((reg, i) => {
        const [lo, hi] = valueOf(reg);
        const result = change(reg, lo);
        if (result === lo) return;
        seen.changed++;
        const [was, wasHi] = before[i] as readonly [number, number];
        if (result === undefined) write(reg, was, wasHi);
        else write(reg, result, hi);
      });
    };
  }
  return seen;
}

Deno.test("with list registers and the interface on, every kind of interrupt arrives", () => {
  const guest = everyKind();
  const seen = interpose(guest, (_, lo) => lo);
  guest.run();
  assert.equal(seen.changed, 0);
  const arrived = [...guest.irqs(0)].sort((a, b) => a - b);
  assert.deepEqual(arrived, [SGI, VTIMER, PTIMER, DEVICE_SPI, EDGE_SPI]);
  assert.deepEqual(guest.irqs(1), [SGI]);
});

Deno.test("with writes of list registers dropped, no interrupt arrives anywhere", () => {
  const guest = everyKind();
  const seen = interpose(guest, (reg, lo) => isListRegister(reg) ? undefined : lo);
  guest.run();
  assert.ok(seen.changed > 0);
  assert.deepEqual([guest.irqs(0), guest.irqs(1), guest.spurious], [[], [], 0]);
});

Deno.test("with ICH_HCR_EL2.En forced to 0, no interrupt arrives anywhere", () => {
  const guest = everyKind();
  const seen = interpose(guest, (reg, lo) => reg === R.ICH_HCR_EL2 ? (lo & ~ICH_HCR.En) >>> 0 : lo);
  guest.run();
  assert.ok(seen.changed > 0);
  assert.deepEqual([guest.irqs(0), guest.irqs(1), guest.spurious], [[], [], 0]);
});

// Between two ap_lists

const VCPUS = 3;
const READY = 0x4050_0000;
const readyAt = (vcpu: number): number => READY + 8 * vcpu;

/** The interrupt is in a list register of CPU 0 when the guest routes it to CPU 1. */
const MOVED: readonly Operation[] = [
  op.write(DEVICE.line, 1),
  op.hvc(1, 0x8400_0000),
  op.route(DEVICE_SPI, 1),
  op.hvc(2, 0x8400_0000),
];
/** The interrupt is raised when it is routed to CPU 1 already. */
const RAISED: readonly Operation[] = [op.route(DEVICE_SPI, 1), op.write(DEVICE.line, 1)];

/** After what happens first: time to take it; then enabled (if it was not), and raised once more. */
function reassignment(first: readonly Operation[]): UnitGuest {
  const guest = new UnitGuest({ vcpus: VCPUS, pcpus: VCPUS, quantum: 500 });
  guest.guest.vm.vcpus.forEach((vcpu, i) => vcpu.setAffinity(1 << i));
  guest.script(0, [
    op.cpuOn(1),
    op.cpuOn(2),
    op.waitMemory(readyAt(1), 1, 1),
    op.waitMemory(readyAt(2), 1, 1),
    op.config(DEVICE_SPI, 0x80, LEVEL),
    LOWERS,
    ...first,
    op.unmask(),
    op.waitTicks(3000),
    op.signal(1),
    op.enable(DEVICE_SPI),
    op.waitTicks(3000),
    op.write(DEVICE.line, 1),
    op.waitTicks(3000),
  ]);
  for (const vcpu of [1, 2]) {
    guest.script(vcpu, [LOWERS, op.unmask(), op.write(readyAt(vcpu), 1, 8), op.idle()]);
  }
  return guest;
}

/** As if another vCPU wrote to the distributor just now. */
function writeGicd(guest: UnitGuest, offset: number, length: number, value: number): void {
  const { vcpu } = guest.vcpu(2);
  const gicd = vcpu.kvm.ioBus.find(({ baseIpa }) => baseIpa === GICD_BASE);
  assert(gicd !== undefined);
  gicd.ops.write(vcpu, offset, length, length === 8 ? BigInt(value) : value);
}

const route = (to: number) => (guest: UnitGuest): void =>
  writeGicd(guest, GICD.IROUTER + 8 * DEVICE_SPI, 8, affinityOf(to));

type Counts = readonly [number, number, number];

interface Change {
  readonly act: (guest: UnitGuest) => void;
  /** Interrupts that each CPU has taken of the first line, and at the end. */
  readonly first: Counts;
  readonly taken: Counts;
}

const CHANGES: Readonly<Record<string, Change>> = {
  "nothing happens": { act: () => {}, first: [0, 1, 0], taken: [0, 2, 0] },
  "it is routed back": { act: route(0), first: [1, 0, 0], taken: [2, 0, 0] },
  "it is routed to a third vCPU": { act: route(2), first: [0, 0, 1], taken: [0, 0, 2] },
  "it is routed there and back again": {
    act: (guest) => {
      route(2)(guest);
      route(1)(guest);
    },
    first: [0, 1, 0],
    taken: [0, 2, 0],
  },
  "its line is lowered": {
    act: (guest) => guest.guest.board.testDevice.write(DEVICE.ack & 0xff, 4, 1),
    first: [0, 0, 0],
    taken: [0, 1, 0],
  },
  "it is disabled": {
    act: (guest) => writeGicd(guest, GICD.ICENABLER + 4, 4, 1 << (DEVICE_SPI - 32)),
    first: [0, 0, 0],
    taken: [0, 2, 0],
  },
  "it is disabled and routed back": {
    act: (guest) => {
      writeGicd(guest, GICD.ICENABLER + 4, 4, 1 << (DEVICE_SPI - 32));
      route(0)(guest);
    },
    first: [0, 0, 0],
    taken: [2, 0, 0],
  },
  "its line is lowered and raised again": {
    act: (guest) => {
      guest.guest.board.testDevice.write(DEVICE.ack & 0xff, 4, 1);
      guest.guest.board.testDevice.write(DEVICE.line & 0xff, 4, 1);
    },
    first: [0, 1, 0],
    taken: [0, 2, 0],
  },
};

function irqOf(guest: UnitGuest): VgicIrq {
  const irq = vgicGetIrq(guest.guest.vm.kvm, undefined, DEVICE_SPI);
  assert(irq !== undefined);
  return irq;
}

/** The moment in question, as the lock that is dropped then shows it. */
type Moment = (lockClass: string, at: number, irq: VgicIrq) => boolean;

/** vgicPruneApList of vCPU 0 has let go of its ap_list and will take both: after a guest exit. */
function prunePoint(guest: UnitGuest): Moment {
  let inGuest = false;
  guest.guest.kvmMachine.trace.listener = (name, vcpu) => {
    if (vcpu === 0 && (name === "kvm_entry" || name === "kvm_exit")) inGuest = name === "kvm_entry";
  };
  const [first, second] = [guest.vcpu(0).vcpu.state.base, guest.vcpu(1).vcpu.state.base];
  return (lockClass, _, irq) =>
    inGuest && lockClass === "apList" && irq.vcpu === first && irq.targetVcpu === second;
}

/** vgicQueueIrqUnlock has let go of the interrupt, which is on no list, and will take the ap_list first. */
function queuePoint(guest: UnitGuest): Moment {
  const second = guest.vcpu(1).vcpu.state.base;
  return (lockClass, at, irq) =>
    lockClass === "irq" && at === irq.base + VgicIrqLayout.offset.irqLock &&
    irq.vcpu === 0 && irq.lineLevel && irq.enabled && irq.targetVcpu === second;
}

const PLACES = {
  "taken off one ap_list and not yet on the other": [MOVED, prunePoint],
  "pending and not yet on an ap_list": [RAISED, queuePoint],
} as const;

for (const [place, [script, momentOf]] of Object.entries(PLACES)) {
  for (const [what, { act, first, taken }] of Object.entries(CHANGES)) {
    Deno.test(`an interrupt ${place}: ${what}`, () => {
      const guest = reassignment(script);
      const irq = irqOf(guest);
      const { locks } = guest.guest.kvmMachine.host;
      const moment = momentOf(guest);
      let happened = 0;
      locks.schedulePoint = (event, lockClass, at) => {
        if (event !== "drop" || happened > 0 || locks.heldCount > 0) return;
        if (!moment(lockClass, at, irq)) return;
        happened++;
        act(guest);
      };
      const counts = () => [0, 1, 2].map((cpu) => guest.irqs(cpu).length);
      let early: number[] = [];
      guest.onSignal(1, () => early = counts());
      guest.run();
      assert.equal(happened, 1, "the moment has come");
      assert.deepEqual(early, first, guest.describe());
      assert.deepEqual(counts(), taken, guest.describe());
      assert.equal(guest.spurious, 0);
      const depths = guest.guest.vm.vcpus.map(({ vcpu }) => apListDepth(vcpu));
      assert.deepEqual(depths, [0, 0, 0]);
    });
  }
}
