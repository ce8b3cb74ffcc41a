/** Guests that do one thing that leaves them over and over. */
import { VGIC_CTRL_INIT, VGIC_GRP, VGIC_V3_ADDR_TYPE } from "../src/kvm/api.ts";
import { sgiScripts } from "../tests/support/sgi_guest.ts";
import { op, type Operation } from "../tests/support/unit_operations.ts";
import { UnitGuest, type UnitGuestOptions } from "../tests/support/unit_guest.ts";

const PSCI_VERSION = 0x8400_0000;
const GICD_TYPER = 0x0800_0004;
const VIRTIO = 0x0a00_0000;
const ENDLESS = 2 ** 40;

/** Instructions between two looks at the clock. */
const STRETCH = 20_000;

/** A guest, and how often it has done what it does. */
export interface Subject {
  readonly guest: UnitGuest;
  done(): number;
}

function subject(script: readonly Operation[], options?: UnitGuestOptions): Subject {
  const guest = new UnitGuest({ quantum: 10_000, ...options }).script(0, script);
  const { stat } = guest.vcpu(0).vcpu;
  return { guest, done: () => stat.exits };
}

/** Two vCPUs, each on a CPU of its own, send each other an SGI whenever they get one. */
function sgis(): Subject {
  // An SGI ends the sender's turn: what it would do while that is on the way is no part of the cost.
  const guest = new UnitGuest({ vcpus: 2, pcpus: 2, quantum: 10_000 });
  const [first, second] = sgiScripts(20_000);
  guest.script(1, second).script(0, first);
  return { guest, done: () => guest.interrupts(0) + guest.interrupts(1) };
}

/** Hypercalls, and nothing in flight in the vgic. */
export function hypercalls(options?: UnitGuestOptions): Subject {
  return subject([op.hvc(ENDLESS, PSCI_VERSION)], options);
}

/** Hypercalls beside `count` VMs, with a vCPU each, that nobody runs. */
export function besideIdleVms(count: number): Subject {
  const made = hypercalls();
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

/** What is measured of exits, by name. */
export const EXITS = {
  hypercall: () => hypercalls(),
  inKernel: () => subject([op.read(GICD_TYPER, 4, ENDLESS)]),
  userSpace: () => subject([op.read(VIRTIO, 4, ENDLESS)]),
  sgi: sgis,
} as const;
export type ExitName = keyof typeof EXITS;

/** Runs the guest for so long: microseconds for each time. */
export function stretch({ guest, done }: Subject, ms: number): number {
  const before = done(), start = performance.now();
  let elapsed = 0;
  do {
    guest.machine.run(STRETCH);
    elapsed = performance.now() - start;
  } while (elapsed < ms);
  return 1000 * elapsed / (done() - before);
}
