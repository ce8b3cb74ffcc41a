/**
 * Patterns in all host memory that nobody has a reason to write: pages that the host has not given to
 * anyone, the rest of every arena, the null page. Something that a guest makes the machine or the
 * hypervisor write outside the guest's memory is seen in them.
 */
import assert from "node:assert/strict";
import { TurnLayout, TURNS_AT } from "../../src/arm/engine/turn_loop.ts";
import { PAGE_SIZE, type Pages } from "../../src/host/pages.ts";
import type { KvmMachine } from "../../src/vmm/kvm_guest.ts";

interface Range {
  readonly at: number;
  readonly end: number;
}

/** A word that depends on its place. */
function pattern(at: number): number {
  return Math.imul(at, 0x9e37_79b1) ^ 0x5bd1_e995;
}

export class Canaries {
  /** Addresses of the pages that were free, in the order in which the host gives them away. */
  readonly #pages: number[];
  readonly #arenas: Range[];

  /** From now on the host may take pages, but must not give any back. */
  constructor(readonly kvmMachine: KvmMachine) {
    const { machine, host } = kvmMachine;
    this.#arenas = [machine.arena, machine.observeArena, host.arena].map(({ end, free }) => ({
      // Some is left for what is placed later.
      at: Math.ceil((end - free) / PAGE_SIZE) * PAGE_SIZE + 4 * PAGE_SIZE,
      end,
    }));
    // The null page, but for the lock of 16-byte accesses, which must stay free, and the turns of the only worker.
    this.#arenas.push({ at: TURNS_AT + TurnLayout.size, end: PAGE_SIZE });
    this.#pages = freePages(host.pages);
    for (const range of this.#ranges()) this.#fill(range);
    this.#zeroWhatIsTaken(host.pages);
  }

  /** The host counts on free pages being zero, which these no longer are. */
  #zeroWhatIsTaken(pages: Pages): void {
    const { u8 } = this.kvmMachine.machine.memory;
    const zeroed = (pfn: number, count: number): number => {
      const at = pages.addressOf(pfn);
      if (pfn >= 0) u8.fill(0, at, at + count * PAGE_SIZE);
      return pfn;
    };
    const one = pages.allocate.bind(pages), run = pages.allocateRun.bind(pages);
    pages.allocate = () => zeroed(one(), 1);
    pages.allocateRun = (count, align) => zeroed(run(count, align), count);
  }

  /** The arenas' rest, and the pages that are still free. */
  #ranges(): Range[] {
    const { pages } = this.kvmMachine.host;
    const free = this.#pages.slice(this.#pages.length - pages.free);
    return [...this.#arenas, ...free.map((at) => ({ at, end: at + PAGE_SIZE }))];
  }

  #fill({ at, end }: Range): void {
    const { u32 } = this.kvmMachine.machine.memory;
    for (let a = at; a < end; a += 4) u32[a >>> 2] = pattern(a);
  }

  /** First place of a range that does not hold its pattern, or -1. */
  #changed({ at, end }: Range): number {
    const { u32 } = this.kvmMachine.machine.memory;
    for (let a = at; a < end; a += 4) if (u32[a >>> 2] !== pattern(a) >>> 0) return a;
    return -1;
  }

  /** Fails when a pattern has been written over; the number of words that were looked at. */
  check(): number {
    let words = 0;
    for (const range of this.#ranges()) {
      const at = this.#changed(range);
      assert.equal(at, -1, `host memory at 0x${at.toString(16)} has been written`);
      words += (range.end - range.at) / 4;
    }
    return words;
  }
}

/** Takes every free page and gives them back, so that the next ones to be given are the first of the list. */
function freePages(pages: Pages): number[] {
  const taken: number[] = [];
  for (let pfn = pages.allocate(); pfn >= 0; pfn = pages.allocate()) taken.push(pfn);
  for (const pfn of taken.toReversed()) pages.release(pfn);
  return taken.map((pfn) => pages.addressOf(pfn));
}
