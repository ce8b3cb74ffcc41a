import assert from "node:assert/strict";
import { Arena } from "../../src/base/arena.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { rangesOf } from "../../src/base/struct.ts";
import {
  NO_VCPU,
  TP,
  type TraceArg,
  TRACEPOINT_NAMES,
  type TracepointName,
  TRACEPOINTS,
  TraceRing,
} from "../../src/trace/tracepoints.ts";

function ringOf(capacity: number): { ring: TraceRing; arena: Arena } {
  const memory = SharedMemory.create(65536);
  const arena = new Arena("observe", memory, 64, 65536);
  return { ring: new TraceRing(memory, arena, capacity), arena };
}

Deno.test("an event is read back with who, when and its text", () => {
  const { ring } = ringOf(8);
  ring.timeNs = () => 2 ** 40 + 1;
  ring.pcpu = 3;
  ring.emit("vgic_update_irq_pending", 1, 2, 2, 40, 1);
  assert.equal(ring.written, 1);
  assert.deepEqual(ring.read(0), {
    sequence: 0,
    timeNs: 2 ** 40 + 1,
    name: "vgic_update_irq_pending",
    pcpu: 3,
    vcpu: 2,
    vm: 1,
    args: [2, 40, 1],
    text: "VCPU: 2, IRQ 40, level: 1",
  });
});

Deno.test("the time is where it was said to be, unless it is not to be had there", () => {
  const { ring, arena } = ringOf(8);
  const at = arena.reserve(16, 8);
  ring.timeNs = () => 2 ** 41;
  ring.timeAt = { ns: at, unless: at + 8 };
  ring.memory.st53(at, 2 ** 35 + 3);
  ring.emit("kvm_access_fault", 0, 0, 1);
  ring.record1(TP.kvm_access_fault, 0, 1);
  ring.memory.st32(at + 8, 1);
  ring.record1(TP.kvm_access_fault, 0, 1);
  ring.stamp = (words, word) => words[word + 1] = 5;
  ring.record3(TP.kvm_exit, 0, 1, 2, 3);
  const times = [0, 1, 2, 3].map((n) => ring.read(n)?.timeNs);
  assert.deepEqual(times, [2 ** 35 + 3, 2 ** 35 + 3, 2 ** 41, 5 * 2 ** 32]);
});

Deno.test("the ring keeps the last events but the one that may be being overwritten", () => {
  const { ring } = ringOf(4);
  for (let i = 0; i < 11; i++) ring.emit("kvm_access_fault", 0, 0, i);
  assert.equal(ring.written, 11);
  for (const gone of [-1, 0, 6, 7, 11, 12]) assert.equal(ring.read(gone), undefined, String(gone));
  for (const n of [8, 9, 10]) {
    assert.deepEqual([ring.read(n)?.sequence, ring.read(n)?.args], [n, [n]]);
  }
});

Deno.test("arguments keep all 64 bits", () => {
  const { ring } = ringOf(8);
  const values: TraceArg[] = [
    0,
    0xffff_ffff,
    Number.MAX_SAFE_INTEGER,
    1n << 53n,
    0xffff_8000_1234_5678n,
    0xffff_ffff_ffff_ffffn,
  ];
  values.forEach((pc) => ring.emit("kvm_entry", 0, 0, pc));
  values.forEach((pc, n) => assert.deepEqual(ring.read(n)?.args, [pc]));
  assert.equal(ring.read(4)?.text, "PC: 0xffff800012345678");
});

Deno.test("a record has no arguments of the event that was there before", () => {
  const { ring } = ringOf(2);
  ring.emit("kvm_guest_fault", 1, 1, 0x1000, 2, 3, 4);
  ring.emit("kvm_access_fault", 1, 1, 0x1000);
  ring.emit("kvm_handle_sys_reg", 1, NO_VCPU, 0x62300001n);
  assert.deepEqual(ring.read(2)?.args, [0x62300001]);
  assert.equal(ring.read(2)?.vcpu, NO_VCPU);
});

Deno.test("every tracepoint fits its record: all arguments come back, and there is a text", () => {
  const { ring } = ringOf(64);
  TRACEPOINT_NAMES.forEach((name, n) => {
    const count = TRACEPOINTS[name].length;
    assert.ok(count <= 6, name);
    const args = Array.from({ length: count }, (_, i) => i + 1);
    (ring.emit as (...a: unknown[]) => void).call(ring, name, 0, 0, ...args);
    const event = ring.read(n);
    assert.equal(event?.name, name);
    assert.deepEqual(event?.args, args);
    assert.doesNotMatch(event?.text ?? "undefined", /undefined|NaN/);
  });
});

/** Texts as `trace-cmd report` prints them for a KVM host. */
const TEXTS: readonly [TracepointName, TraceArg[], string][] = [
  ["kvm_entry", [0xffff800008010000n], "PC: 0xffff800008010000"],
  ["kvm_exit", [2, 0x16, 0x40080000], "TRAP: HSR_EC: 0x0016 (HVC64), PC: 0x0000000040080000"],
  ["kvm_exit", [0, 0, 0x40080000], "IRQ: HSR_EC: 0x0000 (UNKNOWN), PC: 0x0000000040080000"],
  ["kvm_guest_fault", [
    0x9000000,
    0x93820006,
    0xffff8000,
    0x40080000,
  ], "ipa 0x9000000, hsr 0x93820006, hxfar 0xffff8000, pc 0x00000040080000"],
  ["kvm_irq_line", [1, 0, 40, 1], "Inject VGIC SPI interrupt (1), vcpu->idx: 0, num: 40, level: 1"],
  ["kvm_wfx_arm64", [0x10, 0], "guest executed wfi at: 0x0000000000000010"],
  ["kvm_wfx_arm64", [0x10, 1], "guest executed wfe at: 0x0000000000000010"],
  ["kvm_mmio", [2, 4, 0x9000000, 0x41], "mmio write len 4 gpa 0x9000000 val 0x41"],
  ["kvm_timer_update_irq", [1, 27, 1], "VCPU: 1, IRQ 27, level 1"],
  ["kvm_userspace_exit", [6], "reason KVM_EXIT_MMIO (6)"],
  ["kvm_userspace_exit", [10], "reason restart (4)"],
  ["kvm_vcpu_wakeup", [5000, 1, 1], "wait time 5000 ns, polling valid"],
];

for (const [name, args, text] of TEXTS) {
  Deno.test(`${name} reads: ${text}`, () => {
    const format = TRACEPOINTS[name] as (...a: TraceArg[]) => string;
    assert.equal(format(...args), text);
  });
}

Deno.test("a listener is told each event as it is made", () => {
  const { ring } = ringOf(2);
  const told: unknown[] = [];
  ring.listener = (name, vcpu, args) => told.push([name, vcpu, args]);
  ring.emit("kvm_timer_hrtimer_expire", 0, 1, 3);
  assert.deepEqual(told, [["kvm_timer_hrtimer_expire", 1, [3]]]);
});

Deno.test("the ring is observe state: no arch byte in it", () => {
  const { arena } = ringOf(8);
  for (const { layout } of arena.placements) assert.deepEqual(rangesOf(layout, "arch"), []);
});
