/**
 * The world switch, operation by operation: what passes through el2_port between two moments of a
 * guest's life is a golden list, and the vgic's part of it grows with the interrupts in flight alone.
 */
import assert from "node:assert/strict";
import { SYSREGS } from "../../src/arm/arch/sysregs.ts";
import type { PortKind } from "../../src/arm/el2_port.ts";
import { VgicCpuStatLayout } from "../../src/kvm/vgic/vgic_stat.ts";
import { op, type Operation } from "../support/unit_operations.ts";
import { UnitGuest, type UnitGuestOptions } from "../support/unit_guest.ts";
import golden from "./switch_golden.txt" with { type: "text" };
import goldenNvhe from "./switch_golden_nvhe.txt" with { type: "text" };

const PSCI_VERSION = 0x8400_0000;
const VIRTIO = 0x0a00_0000;
const START = 1;
const FIRST_SPI = 48;
const GROUP1_EDGE_ENABLED = 7;
const GROUP1_LEVEL_ENABLED = 5;

/** Golden lists by name: a line that starts with `#` begins one. */
function goldenLists(text: string): Map<string, string[]> {
  const lists = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of text.split("\n").filter((l) => l !== "")) {
    if (line.startsWith("# ")) lists.set(line.slice(2), current = []);
    else if (!line.startsWith("//")) current.push(line);
  }
  return lists;
}

const GOLDEN = goldenLists(golden);
const GOLDEN_NVHE = goldenLists(goldenNvhe);

function named(kind: PortKind, operand: number | string): string {
  const name = typeof operand === "number" ? SYSREGS[operand]?.name : operand;
  return `${kind} ${name}`.trim();
}

/** Short turns: exits do not end one, and a mark is looked for after each. */
const TURN = 100;

/** Operations of the first CPU between events, each event as a line `- name`. */
function record(script: readonly Operation[], options?: UnitGuestOptions): string[] {
  const guest = new UnitGuest({ quantum: TURN, ...options })
    .script(0, [...script])
    .runToMark(0, START);
  const lines: string[] = [];
  const [port] = guest.machine.ports;
  assert(port !== undefined);
  port.log = (kind, operand) => lines.push(named(kind, operand));
  guest.guest.kvmMachine.trace.listener = (name) => lines.push(`- ${name}`);
  guest.run();
  return lines;
}

/** The lines behind the first `from` up to the next `to`, of the `n`th such run. */
function between(lines: readonly string[], from: string, to: string, n = 0): string[] {
  const starts = lines.flatMap((line, i) => line === from ? [i] : []);
  const start = starts[n];
  assert(start !== undefined, `no ${from}`);
  const rest = lines.slice(start + 1);
  const end = rest.indexOf(to);
  assert(end >= 0, `no ${to}`);
  return rest.slice(0, end);
}

function withoutEvents(lines: readonly string[]): string[] {
  return lines.filter((line) => !line.startsWith("- "));
}

const HVCS = [op.mark(START), op.hvc(3, PSCI_VERSION)];
const READS = [op.mark(START), op.read(VIRTIO, 4, 3)];

Deno.test("port operations of a hypercall: the vCPU stays loaded", () => {
  const lines = record(HVCS);
  for (const round of [0, 1]) {
    const trip = withoutEvents(between(lines, "- kvm_hvc_arm64", "- kvm_hvc_arm64", round));
    assert.deepEqual(trip, GOLDEN.get("hypercall"));
  }
});

Deno.test("port operations of vcpu_put, on the way to user space", () => {
  const lines = record(READS);
  const put = withoutEvents(between(lines, "- kvm_mmio", "- kvm_userspace_exit"));
  assert.deepEqual(put, GOLDEN.get("put"));
});

Deno.test("port operations of vcpu_load, on the way back", () => {
  const lines = record(READS);
  const load = withoutEvents(between(lines, "- kvm_userspace_exit", "- kvm_entry"));
  assert.deepEqual(load, GOLDEN.get("load"));
});

/** `count` SPIs pending for CPU 0, which takes no interrupts. */
function pending(count: number): Operation[] {
  return Array.from({ length: count }, (_, i) => [
    op.config(FIRST_SPI + i, 0x80, GROUP1_EDGE_ENABLED),
    op.setPending(FIRST_SPI + i),
  ]).flat();
}

for (const count of [0, 1, 2, 4]) {
  Deno.test(`port operations of a hypercall with ${count} list registers in use`, () => {
    const lines = record([...pending(count), ...HVCS]);
    const trip = withoutEvents(between(lines, "- kvm_hvc_arm64", "- kvm_hvc_arm64"));
    const numbers = Array.from({ length: count }, (_, i) => i);
    const entry = ["gicWrite ICH_HCR_EL2", ...numbers.map((n) => `lrWrite ICH_LR${n}_EL2`)];
    const exit = [
      "gicRead ICH_ELRSR_EL2",
      "gicWrite ICH_HCR_EL2",
      ...numbers.flatMap((n) => [`lrRead ICH_LR${n}_EL2`, `lrWrite ICH_LR${n}_EL2`]),
    ];
    // The interface is turned on, filled and emptied between the interrupt masks of entry and exit.
    const [mask, ...rest] = GOLDEN.get("hypercall") ?? [];
    const last = rest.pop();
    const expected = count === 0
      ? GOLDEN.get("hypercall")
      : [mask, ...entry, ...rest, ...exit, last];
    assert.deepEqual(trip, expected);
  });
}

// Without VHE

const NVHE: UnitGuestOptions = { mode: "nvhe" };

Deno.test("port operations of a hypercall without VHE: all of EL1 goes and comes twice", () => {
  const lines = record(HVCS, NVHE);
  for (const round of [0, 1]) {
    const trip = withoutEvents(between(lines, "- kvm_hvc_arm64", "- kvm_hvc_arm64", round));
    assert.deepEqual(trip, GOLDEN_NVHE.get("hypercall"));
  }
});

Deno.test("port operations of vcpu_put without VHE: hypercalls, since EL2's registers are not the host's", () => {
  const lines = record(READS, NVHE);
  const put = withoutEvents(between(lines, "- kvm_mmio", "- kvm_userspace_exit"));
  assert.deepEqual(put, GOLDEN_NVHE.get("put"));
});

Deno.test("port operations of vcpu_load without VHE", () => {
  const lines = record(READS, NVHE);
  const load = withoutEvents(between(lines, "- kvm_userspace_exit", "- kvm_entry"));
  assert.deepEqual(load, GOLDEN_NVHE.get("load"));
});

for (const count of [1, 3]) {
  Deno.test(`port operations of a hypercall without VHE, ${count} list registers in use`, () => {
    const lines = record([...pending(count), ...HVCS], NVHE);
    const trip = withoutEvents(between(lines, "- kvm_hvc_arm64", "- kvm_hvc_arm64"));
    const numbers = Array.from({ length: count }, (_, i) => i);
    const entry = ["gicWrite ICH_HCR_EL2", ...numbers.map((n) => `lrWrite ICH_LR${n}_EL2`)];
    const exit = [
      "gicRead ICH_ELRSR_EL2",
      "gicWrite ICH_HCR_EL2",
      ...numbers.flatMap((n) => [`lrRead ICH_LR${n}_EL2`, `lrWrite ICH_LR${n}_EL2`]),
    ];
    const plain = GOLDEN_NVHE.get("hypercall") ?? [];
    // Behind the traps that the interface needs, and in front of their end.
    const at = plain.indexOf("gicWrite ICC_SRE_EL2") + 1;
    const end = plain.indexOf("gicRead ICC_SRE_EL2", at);
    const expected = [
      ...plain.slice(0, at),
      ...entry,
      ...plain.slice(at, end),
      ...exit,
      ...plain.slice(end),
    ];
    assert.deepEqual(trip, expected);
  });
}

// What a flush touches

interface Flushes {
  readonly flushes: number;
  readonly touched: number;
  readonly irqLocks: number;
  readonly portOps: number;
}

/** What `hvcs` hypercalls cost the vgic with `count` interrupts in flight and `enabled` others just enabled. */
function flushesOf(count: number, enabled: number, hvcs: number): Flushes {
  const others = Array.from(
    { length: enabled },
    (_, i) => op.config(64 + i, 0x80, GROUP1_LEVEL_ENABLED),
  );
  const guest = new UnitGuest({ quantum: TURN, lrs: 16 })
    .script(0, [...others, ...pending(count), op.mark(START), op.hvc(hvcs, PSCI_VERSION)])
    .runToMark(0, START);
  const { kvmMachine } = guest.guest;
  const at = guest.vcpu(0).vcpu.vgic.cpuStat;
  const stat = VgicCpuStatLayout.at(guest.machine.memory, at);
  const { irq } = kvmMachine.host.locks.stats;
  const before = { flushes: stat.flushes, touched: stat.flushedIrqs, locks: irq.acquisitions };
  let portOps = 0;
  const [port] = guest.machine.ports;
  assert(port !== undefined);
  port.log = () => portOps++;
  guest.run();
  return {
    flushes: stat.flushes - before.flushes,
    touched: stat.flushedIrqs - before.touched,
    irqLocks: irq.acquisitions - before.locks,
    portOps,
  };
}

const FEW = 10, MANY = 60;

for (const count of [0, 1, 3, 9]) {
  Deno.test(`a flush touches the ${count} interrupts of the ap_list and no others`, () => {
    const few = flushesOf(count, 0, FEW), many = flushesOf(count, 0, MANY);
    const flushes = count === 0 ? 0 : MANY - FEW;
    assert.equal(many.flushes - few.flushes, flushes);
    assert.equal(many.touched - few.touched, flushes * count);
    // Interrupts that exist and are enabled, but not in flight, cost nothing at all.
    const crowded = [flushesOf(count, 30, FEW), flushesOf(count, 30, MANY)] as const;
    for (const what of ["flushes", "touched", "irqLocks", "portOps"] as const) {
      assert.equal(crowded[1][what] - crowded[0][what], many[what] - few[what], what);
    }
  });
}
