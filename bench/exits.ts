/**
 * What an exit costs in wall time, start-up left out: from the guest's instruction through the world
 * switch to what handles it, and back. Every guest runs until V8 has compiled what it will; then, by
 * turns, each runs through so many exits, and the median of its times is what counts.
 */
import { VGIC_CTRL_INIT, VGIC_GRP, VGIC_V3_ADDR_TYPE } from "../src/kvm/api.ts";
import { sgiScripts } from "../tests/support/sgi_guest.ts";
import { op, type Operation } from "../tests/support/unit_operations.ts";
import { UnitGuest, type UnitGuestOptions } from "../tests/support/unit_guest.ts";
import { type Bench, median, type Report } from "./harness.ts";

const PSCI_VERSION = 0x8400_0000;
const GICD_TYPER = 0x0800_0004;
const VIRTIO = 0x0a00_0000;
const ENDLESS = 2 ** 40;

const WARM_UP_MS = 1500;
const ROUNDS = 25;
const ROUND_MS = 40;
/** Instructions between two looks at the clock. */
const STRETCH = 20_000;

/** Interrupts of a controller, private ones included: the least and the most that KVM gives. */
const FEW_IRQS = 64, MANY_IRQS = 992;
const FEW_VMS = 1, MANY_VMS = 64;

/** A guest that does the same over and over, and how often it has done it. */
interface Subject {
  readonly name: string;
  readonly guest: UnitGuest;
  done(): number;
}

function subject(name: string, script: readonly Operation[], options?: UnitGuestOptions): Subject {
  const guest = new UnitGuest({ quantum: 10_000, ...options }).script(0, script);
  const { stat } = guest.vcpu(0).vcpu;
  return { name, guest, done: () => stat.exits };
}

/** Two vCPUs, each on a CPU of its own, send each other an SGI whenever they get one. */
function sgis(name: string): Subject {
  // An SGI ends the sender's turn: what it would do while that is on the way is no part of the cost.
  const guest = new UnitGuest({ vcpus: 2, pcpus: 2, quantum: 10_000 });
  const [first, second] = sgiScripts(20_000);
  guest.script(1, second).script(0, first);
  return { name, guest, done: () => guest.interrupts(0) + guest.interrupts(1) };
}

const HYPERCALLS = [op.hvc(ENDLESS, PSCI_VERSION)];

/** Hypercalls beside `count` VMs, with a vCPU each, that nobody runs. */
function besideIdleVms(name: string, count: number): Subject {
  const made = subject(name, HYPERCALLS);
  const { kvm } = made.guest.guest.kvmMachine;
  for (let n = 0; n < count; n++) {
    const vm = kvm.createVm();
    vm.createVgic(3);
    vm.createVcpu(0, () => false).init();
    vm.setVgicAttr(VGIC_GRP.NR_IRQS, 0n, 256n);
    vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.DIST), 0x0800_0000n);
    vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.REDIST), 0x080a_0000n);
    vm.setVgicAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n);
  }
  return made;
}

/** Runs the guest for so long: microseconds for each time. */
function stretch({ guest, done }: Subject, ms: number): number {
  const before = done(), start = performance.now();
  let elapsed = 0;
  do {
    guest.machine.run(STRETCH);
    elapsed = performance.now() - start;
  } while (elapsed < ms);
  return 1000 * elapsed / (done() - before);
}

/** Microseconds for each time, medians in the subjects' order. */
function measure(subjects: readonly Subject[]): number[] {
  for (const it of subjects) {
    it.guest.boot();
    stretch(it, WARM_UP_MS);
  }
  const times = subjects.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    subjects.forEach((it, i) => times[i]?.push(stretch(it, ROUND_MS)));
  }
  return times.map(median);
}

/** A subject with the microseconds that it may take, and those that are aimed at. */
type Limit = readonly [subject: Subject, atMost: number, aim: number];

function costs(report: Report): void {
  const rows: readonly Limit[] = [
    [subject("HVC: exit, world switch, handler, entry", HYPERCALLS), 1.5, 0.5],
    [subject("read of an in-kernel device", [op.read(GICD_TYPER, 4, ENDLESS)]), 3, 1],
    [subject("read of a user-space device", [op.read(VIRTIO, 4, ENDLESS)]), 3, 1],
    [sgis("SGI between two vCPUs"), 3, 1],
  ];
  report.print(`\nwhat an exit costs (median of ${ROUNDS})`);
  const times = measure(rows.map(([it]) => it));
  rows.forEach(([{ name }, atMost, aim], i) => {
    const value = times[i] as number;
    report.figure({ name, value, unit: "us", must: { most: atMost }, aim: { most: aim } });
  });
}

function growth(report: Report): void {
  const subjects = [
    subject("", HYPERCALLS, { irqs: FEW_IRQS }),
    subject("", HYPERCALLS, { irqs: MANY_IRQS }),
    besideIdleVms("", FEW_VMS),
    besideIdleVms("", MANY_VMS),
  ];
  report.print(`\nan HVC, which enters and leaves the vgic with nothing in flight`);
  const [few, many, one, all] = measure(subjects) as [number, number, number, number];
  const row = (name: string, ratio: number) =>
    report.figure({ name, value: ratio, unit: "x", must: { most: 1.05 } });
  row("960 shared interrupts to 32", many / few);
  row(`beside ${MANY_VMS} idle VMs to beside ${FEW_VMS}`, all / one);
}

export const exits: Bench = {
  name: "exits",
  run: (report: Report) => {
    costs(report);
    growth(report);
  },
};
