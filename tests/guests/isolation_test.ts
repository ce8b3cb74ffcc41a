/**
 * What is one guest's stays one guest's: registers over ten thousand world switches with noise in the
 * hardware between them, and memory of two VMs at the same guest physical addresses.
 */
import assert from "node:assert/strict";
import { Random } from "../../src/arm/isa/random.ts";
import { NeighbourVm } from "../support/neighbour_vm.ts";
import { Poison, POISONED } from "../support/poison.ts";
import { type Mapping, type Stage2Contents, walkStage2 } from "../support/stage2_walk.ts";
import { OP, op, type Operation } from "../support/unit_operations.ts";
import { UNIT, UnitGuest } from "../support/unit_guest.ts";
import type { Kvm } from "../../src/kvm/kvm_host.ts";

const MIB = 1 << 20;
const PAGE = 4096;
const VIRTIO = 0x0a00_0000;

// Registers

const VCPUS = 4;
const SEEDS = 22;
const READS = 8;
/** Rounds; the switch of a host without VHE moves all of it each time. */
const ROUNDS = {
  vhe: { loops: 15, switches: 10_000 },
  nvhe: { loops: 5, switches: 3000 },
} as const;

/** Fills all registers, gives the CPU away a few times, and looks whether they are still the same. */
function fillAndCheck(vcpu: number): Operation[] {
  return Array.from({ length: SEEDS }, (_, n) => {
    const seed = 1 + vcpu * 1000 + n;
    return [
      op.qFill(seed),
      op.sysFill(seed),
      op.read(VIRTIO, 4, READS),
      op.qCheck(seed),
      op.sysCheck(seed),
    ];
  }).flat();
}

/** Each vCPU does that again and again; CPU 0 waits for the others' end. */
function registerScripts(guest: UnitGuest, loops: number): void {
  const others = Array.from({ length: VCPUS - 1 }, (_, i) => i + 1);
  const done = (vcpu: number) => UNIT.free + 8 * vcpu;
  const start = others.map((vcpu) => op.cpuOn(vcpu));
  guest.script(0, [
    ...start,
    ...fillAndCheck(0),
    op.jump(start.length, loops - 1),
    ...others.map((vcpu) => op.waitMemory(done(vcpu), 1, 1)),
  ]);
  for (const vcpu of others) {
    guest.script(vcpu, [
      ...fillAndCheck(vcpu),
      op.jump(0, loops - 1),
      op.write(done(vcpu), 1, 8),
      op.idle(),
    ]);
  }
}

function noiseBetweenSwitches(mode: "vhe" | "nvhe"): void {
  const { loops, switches } = ROUNDS[mode];
  assert.ok(POISONED.length > 40, "all EL1 and debug registers");
  const guest = new UnitGuest({ vcpus: VCPUS, pcpus: 2, quantum: 2000, shuffle: 5, mode });
  const { kvmMachine } = guest.guest;
  const poison = new Poison(kvmMachine, new Random(3));
  registerScripts(guest, loops);
  const neighbour = new NeighbourVm(kvmMachine, 8 * MIB)
    .script([...fillAndCheck(5), op.jump(0, 2 * loops)]);
  kvmMachine.host.runAs(0, () => neighbour.vm.vcpus[0]?.run());
  guest.run({ insns: 30_000_000, ns: 120e6 });
  assert.ok(poison.puts >= switches, `${poison.puts} switches`);
  const physical = guest.guest.vm.vcpus.map(({ vcpu }) => vcpu.stat.mmio_exit_user);
  assert.ok(physical.every((exits) => exits >= SEEDS * READS * loops));
  for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
    for (const operation of [OP.Q_CHECK, OP.SYS_CHECK]) {
      const results = guest.results(vcpu, operation);
      assert.equal(results.length, SEEDS * loops, `vCPU ${vcpu}`);
      const wrong = results.filter(({ value }) => value !== 0);
      assert.deepEqual(wrong, [], `vCPU ${vcpu}`);
    }
  }
  const checks = [...neighbour.results(OP.Q_CHECK), ...neighbour.results(OP.SYS_CHECK)];
  assert.ok(checks.length > 100);
  assert.deepEqual(checks.filter(({ value }) => value !== 0n), [], "the other VM");
}

Deno.test("ten thousand switches with noise in every register between them", () => {
  noiseBetweenSwitches("vhe");
});

Deno.test("the same on a host without VHE", () => noiseBetweenSwitches("nvhe"));

// Memory

const WORDS = 40;
/** A word in a page of its own. */
const wordAt = (n: number): number => UNIT.free + n * PAGE + 8 * n;

/** Writes words into pages, gives the CPU away, reads them back; `salt` tells the VMs apart. */
function writeAndRead(salt: bigint): Operation[] {
  const numbers = Array.from({ length: WORDS }, (_, n) => n);
  return [
    ...numbers.map((n) => op.write(wordAt(n), salt + BigInt(n), 8)),
    op.read(VIRTIO, 4, 50),
    ...numbers.map((n) => op.read(wordAt(n), 8)),
    op.read(VIRTIO, 4, 50),
    ...numbers.map((n) => op.read(wordAt(n), 8)),
  ];
}

function contentsOf(guest: UnitGuest, { state }: Kvm): Stage2Contents {
  const { memory, ram } = guest.machine;
  return walkStage2(memory, ram, state.pgdPa);
}

function pagesOf({ pa, bytes }: Mapping): number[] {
  return Array.from({ length: bytes / PAGE }, (_, i) => pa / PAGE + i);
}

/** Physical page frames of a VM's memory, by its slot. */
function ownPages(guest: UnitGuest): Set<number> {
  const { ram } = guest.machine;
  const { memory } = guest.guest.options;
  return new Set(Array.from({ length: memory / PAGE }, (_, n) => {
    const at = guest.guest.offsetOf(0x4000_0000 + n * PAGE);
    return (at - ram.at + ram.pa) / PAGE;
  }));
}

for (const shuffle of [0, 9]) {
  const order = shuffle === 0 ? "in one run" : "shuffled";
  Deno.test(`two VMs with the same addresses see different data (host pages ${order})`, () => {
    const guest = new UnitGuest({ pcpus: 1, quantum: 2000, shuffle, memory: 8 * MIB });
    const { kvmMachine } = guest.guest;
    const poison = new Poison(kvmMachine, new Random(4));
    const neighbour = new NeighbourVm(kvmMachine, 8 * MIB).script(writeAndRead(0x2222_0000n));
    guest.script(0, writeAndRead(0x1111_0000n)).boot();
    kvmMachine.host.runAs(0, () => neighbour.vm.vcpus[0]?.run());
    runBoth(guest, neighbour);
    assert.ok(poison.puts > 200);
    const numbers = Array.from({ length: WORDS }, (_, n) => BigInt(n));
    const expected = (salt: bigint) => [...numbers, ...numbers].map((n) => salt + n);
    const values = (results: readonly { value: bigint }[], salt: bigint) =>
      results.map(({ value }) => value).filter((v) => v >> 16n === salt >> 16n);
    const mine = guest.results(0, OP.READ).map(({ value64 }) => ({ value: value64 }));
    assert.deepEqual(values(mine, 0x1111_0000n), expected(0x1111_0000n));
    assert.deepEqual(values(neighbour.results(OP.READ), 0x2222_0000n), expected(0x2222_0000n));
    assert.deepEqual(values(mine, 0x2222_0000n), []);

    const own = ownPages(guest), others = new Set(neighbour.pfns);
    assert.ok([...own].every((pfn) => !others.has(pfn)));
    const [first, second] = [
      contentsOf(guest, guest.guest.vm.kvm),
      contentsOf(guest, neighbour.vm.kvm),
    ];
    assert.ok(second.mappings.length > WORDS, "pages of the shuffled VM are mapped one by one");
    assert.ok(first.mappings.flatMap(pagesOf).every((pfn) => own.has(pfn)));
    assert.ok(second.mappings.flatMap(pagesOf).every((pfn) => others.has(pfn)));
    // Nor can a guest reach its own tables, or the other's.
    const tables = [...first.tables, ...second.tables].map((pa) => pa / PAGE);
    assert.ok(tables.every((pfn) => !own.has(pfn) && !others.has(pfn)));
    // Each page is where user space has put it.
    for (const { ipa, pa, bytes } of first.mappings) {
      for (let at = 0; at < bytes; at += PAGE) {
        const { ram } = guest.machine;
        assert.equal(guest.guest.offsetOf(ipa + at), ram.at + (pa + at - ram.pa));
      }
    }
  });
}

/** Until both VMs are off; the first one's power off stops the machine. */
function runBoth(guest: UnitGuest, neighbour: NeighbourVm): void {
  const first = guest.vcpu(0);
  for (let i = 0; i < 200 && (!neighbour.off || first.running); i++) {
    guest.machine.run(20_000);
    guest.guest.takeEvent();
  }
  assert.ok(neighbour.off && !first.running, guest.describe());
}
