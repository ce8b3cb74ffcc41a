/** Stage 2 changes that user space makes while a vCPU in another worker stores. */
import assert from "node:assert/strict";
import { KVM_MEM_LOG_DIRTY_PAGES } from "../../src/kvm/api.ts";
import { memslot } from "../../src/kvm/mmu.ts";
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import type { Asm } from "../support/asm.ts";
import { onTeam, PSCI, setUp, TEAM, TEAM_KVM, TeamProgram } from "../support/team_guest.ts";

const PAGE = 4096;
/** Pages that each vCPU stores to, one after the other. */
const PAGES = 8;
const FIRST_PAGE = (TEAM.data - 0x4000_0000) / PAGE;
/** Nanoseconds of a turn of the machine, and turns after which a test gives up. */
const TURN_NS = 1e6, TURNS = 4000;

/** Both vCPUs store rising numbers to their pages for ever. */
function storing(): TeamProgram {
  const store = (cpu: 0 | 1) => (a: Asm) => {
    a.mov(1, TEAM.data + PAGES * PAGE * cpu).mov(4, 0).label(`store ${cpu}`).add(4, 4, 1);
    for (let i = 0; i < PAGES; i++) a.str(4, 1).add(1, 1, PAGE / 2).add(1, 1, PAGE / 2);
    a.mov(1, TEAM.data + PAGES * PAGE * cpu).b(`store ${cpu}`);
  };
  return new TeamProgram().both(store(0), store(1));
}

/** What the pages of both have in them. */
function contents(guest: KvmGuest): bigint[] {
  const { memory } = guest.machine;
  return Array.from(
    { length: 2 * PAGES },
    (_, i) => memory.ld64(guest.offsetOf(TEAM.data + PAGE * i)),
  );
}

function pfnsOf({ vm }: KvmGuest): number[] {
  const slot = memslot(vm.kvm, 0);
  return Array.from({ length: slot.pages }, (_, i) => slot.memory.ld32(slot.pfns + 4 * i));
}

/** Has the host kernel do something on a CPU of this worker, as user space's calls are done, while others run. */
function inHost<T>({ machine, kvmMachine }: KvmGuest, body: () => T): T {
  const done: T[] = [];
  kvmMachine.host.asHost(() => done.push(body()));
  for (let turn = 0; turn < TURNS && done.length === 0; turn++) {
    machine.run(Infinity, machine.nowNs + TURN_NS / 10);
  }
  assert.equal(done.length, 1, "the host kernel does nothing more");
  return done[0] as T;
}

function logWrites(guest: KvmGuest, flags: number): void {
  inHost(guest, () => guest.vm.setUserMemoryRegion(0, 0x4000_0000, pfnsOf(guest), flags));
}

/** What a look at the log finds: the pages as they were right before, the log, and the pages right behind. */
interface Look {
  readonly before: bigint[];
  readonly log: Uint8Array;
  readonly behind: bigint[];
}

function look(guest: KvmGuest): Look {
  return inHost(guest, () => {
    const before = contents(guest);
    const log = guest.vm.getDirtyLog(0);
    return { before, log, behind: contents(guest) };
  });
}

/** The numbers of pages that changed between two looks; asserts that the second log has them. */
function changedPages(first: Look, second: Look): number[] {
  const changed = first.behind.map((_, i) => i).filter((i) => first.behind[i] !== second.before[i]);
  for (const i of changed) {
    const page = FIRST_PAGE + i;
    const bit = (second.log[page >>> 3] ?? 0) >> (page & 7) & 1;
    assert.equal(bit, 1, `page ${page} was written and is not in the log`);
  }
  return changed;
}

/** Intervals in which each vCPU must have written something. */
const TIMES = 60;

onTeam(
  "the dirty log has every page that a vCPU in another worker writes",
  TEAM_KVM,
  storing,
  (guest) => {
    assert.ok(guest instanceof KvmGuest);
    const { machine } = guest;
    machine.run(Infinity, machine.nowNs + 20 * TURN_NS);
    logWrites(guest, KVM_MEM_LOG_DIRTY_PAGES);
    let last = look(guest);
    const wrote = [0, 0];
    for (let turn = 0; turn < TURNS && wrote.some((n) => n < TIMES); turn++) {
      const next = look(guest);
      const pages = changedPages(last, next);
      wrote.forEach((n, cpu) => {
        if (pages.some((i) => Math.floor(i / PAGES) === cpu)) wrote[cpu] = n + 1;
      });
      last = next;
    }
    assert.ok(wrote.every((n) => n >= TIMES), `intervals in which vCPUs wrote: ${wrote}`);
    logWrites(guest, 0);
    const before = contents(guest);
    for (let turn = 0; turn < TURNS; turn++) {
      machine.run(Infinity, machine.nowNs + TURN_NS);
      const now = contents(guest);
      if ([0, PAGES].every((i) => now[i] !== before[i])) return;
    }
    assert.fail("a vCPU stores no more once logging has ended");
  },
);

/** Guest physical address, and virtual one, of a page that comes and goes. */
const WINDOW = 0x6000_0000, SLOT = 5;

/** vCPU 1 stores rising numbers to the window for ever; vCPU 0 waits. */
function storingToWindow(): TeamProgram {
  return new TeamProgram().alone((a) => {
    a.mov(0, PSCI.CPU_ON).mov(1, 1).adr(2, "second").mov(3, 0).hvc().label("rest").wfi().b("rest");
    a.label("second");
    // A block of 2 MiB, before anything has looked for it
    a.mov(1, TEAM.level2 + 8 * (WINDOW - 0x4000_0000) / 0x20_0000).mov(2, WINDOW | 0x701).str(2, 1);
    setUp(a);
    a.mov(1, WINDOW).mov(4, 0).label("store").add(4, 4, 1).str(4, 1).b("store");
  });
}

onTeam(
  "what is behind a memory slot that was removed changes no more",
  TEAM_KVM,
  storingToWindow,
  (guest) => {
    assert.ok(guest instanceof KvmGuest);
    const { machine, vm } = guest;
    const { ram, memory } = machine;
    const pages = guest.kvmMachine.allocatePages(2 * PAGE, false);
    const word = (i: number) => memory.ld64(ram.at + (pages[i] as number) * PAGE - ram.pa);
    const map = (pfns: Uint32Array) =>
      inHost(guest, () => vm.setUserMemoryRegion(SLOT, WINDOW, pfns));
    for (let round = 0; round < 40; round++) {
      const i = round & 1, was = word(i);
      map(pages.slice(i, i + 1));
      for (let turn = 0; word(i) === was; turn++) {
        assert.ok(turn < TURNS, `round ${round}: the vCPU stores no more`);
        machine.run(Infinity, machine.nowNs + TURN_NS / 10);
      }
      const last: bigint[] = inHost(guest, () => {
        vm.setUserMemoryRegion(SLOT, WINDOW, []);
        return [word(0), word(1)];
      });
      machine.run(Infinity, machine.nowNs + TURN_NS);
      assert.deepEqual([word(0), word(1)], last, `round ${round}`);
    }
  },
);
