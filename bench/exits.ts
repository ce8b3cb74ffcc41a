/**
 * What an exit costs in wall time, start-up left out: from the guest's instruction through the world
 * switch to what handles it, and back. Every guest runs until V8 has compiled what it will; then, by
 * turns, each runs through so many exits, and the median of its times is what counts.
 */
import { VGIC_CTRL_INIT, VGIC_GRP, VGIC_V3_ADDR_TYPE } from "../src/kvm/api.ts";
import { CONFIG, H, op, type Operation } from "../tests/support/unit_operations.ts";
import { UnitGuest, type UnitGuestOptions } from "../tests/support/unit_guest.ts";
import { type Bench, median, type Report } from "./harness.ts";

const PSCI_VERSION = 0x8400_0000;
const GICD_TYPER = 0x0800_0004;
const VIRTIO = 0x0a00_0000;
const ENDLESS = 2 ** 40;

const WARM_UP_MS = 1500;
const ROUNDS = 15;
/** Instructions of one round. */
const STRETCH = 400_000;

/** A guest that does the same over and over, and how often it has done it. */
interface Subject {
  readonly name: string;
  readonly guest: UnitGuest;
  done(): number;
}

function subject(
  name: string,
  script: readonly Operation[],
  options: UnitGuestOptions = {},
): Subject {
  const guest = new UnitGuest({ quantum: 10_000, ...options }).script(0, script);
  const { stat } = guest.vcpu(0).vcpu;
  return { name, guest, done: () => stat.exits };
}

/** Two vCPUs, each on a CPU of its own, send each other an SGI whenever they get one. */
function sgis(): Subject {
  const sgi = (to: number, intid: number) => (BigInt(intid) << 24n) | (1n << BigInt(to));
  const side = (me: number, intid: number, answer: bigint): Operation[] => [
    op.handler(H.EOI | H.NO_LOG),
    op.config(intid, 0x80, CONFIG.GROUP1 | CONFIG.ENABLE, me + 1),
    op.hook(0, intid, 0, answer, 16),
    op.unmask(),
  ];
  // A short turn: what the sender does while its SGI is on the way is no part of the cost.
  const guest = new UnitGuest({ vcpus: 2, pcpus: 2, quantum: 50 });
  guest.script(1, [...side(1, 1, sgi(0, 2)), op.mark(1), op.waitInterrupts(ENDLESS)]);
  guest.script(0, [
    ...side(0, 2, sgi(1, 1)),
    op.cpuOn(1),
    op.waitTicks(20_000),
    op.sgi(1, 1),
    op.waitInterrupts(ENDLESS),
  ]);
  return { name: "", guest, done: () => guest.interrupts(0) + guest.interrupts(1) };
}

const hypercalls = [op.hvc(ENDLESS, PSCI_VERSION)];

/** VMs beside the guest's own, with a vCPU each, that nobody runs. */
function withIdleVms(count: number): UnitGuestOptions & { readonly idleVms: number } {
  return { idleVms: count };
}

function addIdleVms({ guest }: Subject, count: number): void {
  const { kvm } = guest.guest.kvmMachine;
  for (let n = 0; n < count; n++) {
    const vm = kvm.createVm();
    vm.createVgic(3);
    vm.createVcpu(0, () => false).init();
    vm.setVgicAttr(VGIC_GRP.NR_IRQS, 0n, 256n);
    vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.DIST), 0x0800_0000n);
    vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.REDIST), 0x080a_0000n);
    vm.setVgicAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n);
  }
}

/** Runs the guest for a stretch: microseconds for each time. */
function stretch({ guest, done }: Subject): number {
  const before = done();
  const start = performance.now();
  guest.machine.run(STRETCH);
  const us = 1000 * (performance.now() - start);
  return us / (done() - before);
}
