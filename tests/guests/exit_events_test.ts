/**
 * The trace events of each kind of guest operation, in order. The expected sequences are those of Linux
 * 6.1's own tracepoints on hosts with and without VHE, of kvm-unit-tests micro-bench, timer, psci,
 * gicv3-ipi and gicv3-active; interrupts of the host alone are left out there, and cannot occur here.
 */
import assert from "node:assert/strict";
import { op, type Operation, TIMER } from "../support/unit_operations.ts";
import { UnitGuest, type UnitGuestOptions } from "../support/unit_guest.ts";
import { TRACEPOINT_NAMES, type TracepointName } from "../../src/trace/tracepoints.ts";

const GICD_TYPER = 0x0800_0004;
const GICD_RESERVED = 0x0800_d000;
const VIRTIO = 0x0a00_0000;
const PSCI_VERSION = 0x8400_0000;
const GROUP1_ENABLED = 5;
const TICKS_PER_10_US = 625;
type Mode = "vhe" | "nvhe";
const MODES: readonly Mode[] = ["vhe", "nvhe"];

/** Events of one thread are in order; the fields that the operation decides are part of them. */
type Sequence = readonly string[];

/** What load and put of a vCPU make of its timers: both are the hardware's, or the physical one is emulated. */
interface TimerEvents {
  readonly save: Sequence;
  /** kvm_arch_vcpu_load, as far as it makes events. */
  readonly load: Sequence;
}

function timerEvents(mode: Mode, vtimerLevel: 0 | 1): TimerEvents {
  const line = (irq: number, level: number) => [
    `kvm_timer_update_irq IRQ ${irq}, level ${level}`,
    `vgic_update_irq_pending IRQ ${irq}, level ${level}`,
  ];
  const vhe = mode === "vhe";
  const save = ["kvm_timer_save_state ctx 1", ...(vhe ? ["kvm_timer_save_state ctx 0"] : [])];
  const lines = [...line(27, vtimerLevel), ...(vhe ? line(30, 0) : [])];
  const restore = [
    "kvm_timer_restore_state ctx 1",
    vhe ? "kvm_timer_restore_state ctx 0" : "kvm_timer_emulate fire 0",
  ];
  return { save, load: [...lines, ...restore] };
}

/** kvm_timer_vcpu_reset: both lines go low, emulated or not. */
const RESET_LINES: Sequence = [
  "kvm_timer_update_irq IRQ 27, level 0",
  "vgic_update_irq_pending IRQ 27, level 0",
  "kvm_timer_update_irq IRQ 30, level 0",
  "vgic_update_irq_pending IRQ 30, level 0",
];

const SGI1R_WRITE: Sequence = [
  "kvm_exit TRAP SYS64",
  "kvm_handle_sys_reg",
  "kvm_sys_access write",
  "kvm_entry",
];

const TRAP = "TRAP ";

/** Arguments that are part of a sequence, by event. */
const DETAILS: Partial<Record<TracepointName, (text: string) => string>> = {
  kvm_exit: (t) =>
    t.startsWith(TRAP.trim()) ? ` TRAP ${/\((.*)\)/.exec(t)?.[1]}` : ` ${t.split(":")[0]}`,
  kvm_mmio: (t) => ` ${t.split(" ")[1]} ${t.split(" ")[5]}`,
  kvm_timer_save_state: (t) => ` ctx ${t.at(-1)}`,
  kvm_timer_restore_state: (t) => ` ctx ${t.at(-1)}`,
  kvm_timer_emulate: (t) => ` fire ${t.at(-2)}`,
  kvm_timer_update_irq: (t) => ` ${t.slice(t.indexOf("IRQ"))}`,
  vgic_update_irq_pending: (t) => ` ${t.slice(t.indexOf("IRQ")).replace("level:", "level")}`,
  kvm_userspace_exit: (t) => ` ${t.slice("reason ".length)}`,
  kvm_sys_access: (t) => ` ${t.split(" ").at(-1)}`,
  kvm_wfx_arm64: (t) => ` ${/wf[ie]/.exec(t)?.[0]}`,
  kvm_guest_fault: (t) => ` ${t.split(",")[0]}`,
};

/** The events of one vCPU, without addresses of code. */
function eventsOf(guest: UnitGuest, vcpu: number): string[] {
  const { trace } = guest.guest.kvmMachine;
  const out: string[] = [];
  for (let n = 0; n < trace.written; n++) {
    const event = trace.read(n);
    assert(event !== undefined || n < trace.written - trace.capacity + 1, "event is lost");
    if (event?.vcpu !== vcpu) continue;
    assert(TRACEPOINT_NAMES.includes(event.name));
    out.push(event.name + (DETAILS[event.name]?.(event.text) ?? ""));
  }
  return out;
}

/** How often `sequence` is in `events` at most with nothing in between. */
function repeats(events: readonly string[], sequence: Sequence): number {
  const matches = (at: number) => sequence.every((e, i) => events[at + i] === e);
  const from = (at: number): number => matches(at) ? 1 + from(at + sequence.length) : 0;
  return Math.max(0, ...events.map((_, at) => from(at)));
}

interface SequenceCase {
  readonly script: readonly Operation[];
  /** What follows one operation; done {@link TIMES} times. */
  readonly sequence: Sequence;
}

const TIMES = 5;
const GICD_ICACTIVER1 = 0x0800_0384;

/** Sequences of one vCPU, with the trace that they are in: the test of kvm-unit-tests and what it does there. */
function sequences(mode: Mode): Readonly<Record<string, SequenceCase>> {
  const { save, load } = timerEvents(mode, 0);
  return {
    // psci: PSCI_VERSION
    "a hypercall": {
      script: [op.hvc(TIMES, PSCI_VERSION)],
      sequence: ["kvm_exit TRAP HVC64", "kvm_hvc_arm64", "kvm_entry"],
    },
    // gicv3-ipi: the virtio-mmio window
    "a read of user space's device": {
      script: [op.read(VIRTIO, 4, TIMES)],
      sequence: [
        "kvm_exit TRAP DABT_LOW",
        "kvm_guest_fault ipa 0xa000000",
        "kvm_mmio unsatisfied-read 0xa000000",
        ...save,
        "kvm_userspace_exit KVM_EXIT_MMIO (6)",
        "kvm_mmio read 0xa000000",
        ...load,
        "kvm_entry",
      ],
    },
    // gicv3-ipi: a write to a device of user space that drives no line
    "a write to user space's device": {
      script: [op.write(VIRTIO, 1, 4, TIMES)],
      sequence: [
        "kvm_exit TRAP DABT_LOW",
        "kvm_guest_fault ipa 0xa000000",
        "kvm_mmio write 0xa000000",
        ...save,
        "kvm_userspace_exit KVM_EXIT_MMIO (6)",
        ...load,
        "kvm_entry",
      ],
    },
    // gicv3-ipi: GICD_TYPER
    "a read of the distributor": {
      script: [op.read(GICD_TYPER, 4, TIMES)],
      sequence: [
        "kvm_exit TRAP DABT_LOW",
        "kvm_guest_fault ipa 0x8000000",
        "kvm_mmio unsatisfied-read 0x8000004",
        "kvm_mmio read 0x8000004",
        "kvm_entry",
      ],
    },
    // gicv3-ipi: GICD_CTLR; here where the guest's own set-up writes nothing
    "a write to the distributor": {
      script: [op.write(GICD_RESERVED, 0, 4, TIMES)],
      sequence: [
        "kvm_exit TRAP DABT_LOW",
        "kvm_guest_fault ipa 0x800d000",
        "kvm_mmio write 0x800d000",
        "kvm_entry",
      ],
    },
    // gicv3-active: GICD_ICACTIVER1, with no other vCPU that would have to be waited for
    "a write to an active register": {
      script: [op.write(GICD_ICACTIVER1, 2, 4, TIMES)],
      sequence: [
        "kvm_exit TRAP DABT_LOW",
        "kvm_guest_fault ipa 0x8000000",
        "kvm_mmio write 0x8000384",
        "kvm_entry",
      ],
    },
    // gicv3-active: ID_AA64MMFR0_EL1
    "an identification register": {
      script: [op.mrs((3 << 14) | (7 << 3), TIMES)],
      sequence: [
        "kvm_exit TRAP SYS64",
        "kvm_handle_sys_reg",
        "kvm_sys_access read",
        "kvm_entry",
      ],
    },
    // gicv3-ipi: ICC_SGI1R_EL1 by a CPU whose target runs
    "an SGI": {
      script: [op.sgiRaw(1n << 24n, TIMES)],
      sequence: SGI1R_WRITE,
    },
    // timer: the interrupt of the virtual timer, acknowledged and ended without an exit
    "a tick of the virtual timer": {
      script: [
        op.config(27, 0x80, GROUP1_ENABLED),
        op.unmask(),
        op.timerPeriod(TIMER.VIRTUAL, TICKS_PER_10_US, TIMES),
        op.timerIn(TIMER.VIRTUAL, TICKS_PER_10_US),
        op.waitInterrupts(TIMES),
      ],
      sequence: [
        "kvm_timer_update_irq IRQ 27, level 1",
        "vgic_update_irq_pending IRQ 27, level 1",
        "kvm_exit IRQ",
        "kvm_entry",
      ],
    },
    // gicv3-ipi (WFI) and timer (its line at a load behind the deadline), together
    "a tick of the virtual timer, slept for": {
      script: [
        op.config(27, 0x80, GROUP1_ENABLED),
        op.unmask(),
        op.timerPeriod(TIMER.VIRTUAL, TICKS_PER_10_US, TIMES),
        op.timerIn(TIMER.VIRTUAL, TICKS_PER_10_US),
        op.waitInterrupts(TIMES, 0, true),
      ],
      sequence: [
        "kvm_exit TRAP WFx",
        "kvm_wfx_arm64 wfi",
        ...save,
        ...timerEvents(mode, 1).load,
        "kvm_vcpu_wakeup",
        "kvm_entry",
      ],
    },
  };
}

for (const mode of MODES) {
  for (const [name, { script, sequence }] of Object.entries(sequences(mode))) {
    Deno.test(`events of ${name}, ${mode}`, () => {
      const guest = new UnitGuest({ quantum: 10_000, mode }).script(0, script).run();
      const events = eventsOf(guest, 0);
      assert.equal(repeats(events, sequence), TIMES, events.slice(-60).join("\n"));
    });
  }
}

// timer, nVHE only: CNTP_CTL_EL0 read by a guest whose physical timer is emulated
Deno.test("events of a read of the physical timer, nvhe", () => {
  const { save, load } = timerEvents("nvhe", 0);
  const CNTP_CTL_EL0 = (3 << 14) | (3 << 11) | (14 << 7) | (2 << 3) | 1;
  const guest = new UnitGuest({ quantum: 10_000, mode: "nvhe" })
    .script(0, [op.mrs(CNTP_CTL_EL0, TIMES)]).run();
  const sequence: Sequence = [
    "kvm_exit TRAP SYS64",
    "kvm_handle_sys_reg",
    "kvm_sys_access read",
    ...save,
    ...load,
    "kvm_entry",
  ];
  const events = eventsOf(guest, 0);
  assert.equal(repeats(events, sequence), TIMES, events.slice(-60).join("\n"));
});

/** A guest whose vCPUs each have a physical CPU of their own. */
function pinned(options: UnitGuestOptions): UnitGuest {
  const guest = new UnitGuest(options);
  guest.guest.vm.vcpus.forEach((vcpu, i) => vcpu.setAffinity(1 << i));
  return guest;
}

for (const mode of MODES) {
  const { save, load } = timerEvents(mode, 0);

  // gicv3-ipi: WFI on one CPU, SGIs from the other
  Deno.test(`events of an SGI that ends another vCPU's WFI, ${mode}`, () => {
    const guest = pinned({ vcpus: 2, pcpus: 2, quantum: 500, mode })
      .script(0, [
        op.cpuOn(1),
        op.waitTicks(20_000),
        op.sgi(1, 1),
        op.waitTicks(20_000),
        op.jump(2, TIMES - 1),
      ])
      .script(1, [op.config(1, 0x80, GROUP1_ENABLED), op.unmask(), op.idle()])
      .run();
    assert.equal(repeats(eventsOf(guest, 0), SGI1R_WRITE), TIMES);
    const sleep: Sequence = [
      "kvm_exit TRAP WFx",
      "kvm_wfx_arm64 wfi",
      ...save,
      ...load,
      "kvm_vcpu_wakeup",
      "kvm_entry",
    ];
    const events = eventsOf(guest, 1);
    assert.equal(repeats(events, sleep), TIMES, events.join("\n"));
  });

  // psci: CPU_ON of a vCPU that sleeps in KVM_RUN
  Deno.test(`events of CPU_ON, ${mode}`, () => {
    const guest = pinned({ vcpus: 2, pcpus: 2, quantum: 500, mode })
      .script(0, [op.cpuOn(1), op.waitTicks(20_000)])
      .script(1, [op.idle()])
      .run();
    const hvc: Sequence = ["kvm_exit TRAP HVC64", "kvm_hvc_arm64", "kvm_entry"];
    assert.equal(repeats(eventsOf(guest, 0), hvc), 1);
    const events = eventsOf(guest, 1);
    // Its first KVM_RUN puts it to sleep. The wake-up puts it to reset it, and loads it again.
    const on: Sequence = [
      ...load,
      ...save,
      ...load,
      ...save,
      ...RESET_LINES,
      ...load,
      "kvm_entry",
    ];
    assert.deepEqual(events.slice(0, on.length), on);
  });

  // gicv3-active: the other vCPU, powered off, is woken to see whether it may run, and may not
  Deno.test(`events of an active-register access for a vCPU that is off, ${mode}`, () => {
    const guest = pinned({ vcpus: 2, pcpus: 2, quantum: 500, mode })
      .script(0, [
        op.waitTicks(20_000),
        op.write(GICD_ICACTIVER1, 2, 4),
        op.waitTicks(20_000),
        op.jump(1, TIMES - 1),
      ])
      .run();
    const access: Sequence = [
      "kvm_exit TRAP DABT_LOW",
      "kvm_guest_fault ipa 0x8000000",
      "kvm_mmio write 0x8000384",
      "kvm_entry",
    ];
    const own = eventsOf(guest, 0);
    assert.equal(repeats(own, access), TIMES, own.slice(-60).join("\n"));
    const events = eventsOf(guest, 1);
    // Once for its first KVM_RUN, then once for each access.
    assert.ok(repeats(events, [...load, ...save]) > TIMES, events.join("\n"));
  });

  // gicv3-ipi, its end: user space stops a vCPU that sleeps in WFI, and one that is off
  Deno.test(`events of user space's stopping a vCPU, ${mode}`, () => {
    const guest = pinned({ vcpus: 2, pcpus: 2, quantum: 500, mode }).script(0, [op.idle()]);
    guest.boot();
    guest.runFor({ ns: 1e6 });
    for (const n of [0, 1]) guest.vcpu(n).kick();
    guest.runFor({ ns: 1e6 });
    const stop: Sequence = [...save, "kvm_userspace_exit restart (4)"];
    const tail = (n: number, of: Sequence) => eventsOf(guest, n).slice(-of.length);
    const woken: Sequence = [...save, ...load, "kvm_vcpu_wakeup", ...stop];
    assert.deepEqual(tail(0, woken), woken);
    const off: Sequence = [...save, ...load, ...stop];
    assert.deepEqual(tail(1, off), off);
  });
}
