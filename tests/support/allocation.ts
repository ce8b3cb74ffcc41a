/**
 * The world switch and KVM's way in and out allocate nothing: what V8 has to allocate for a round trip, once
 * its code is compiled, stays below a bound that a boxed number would exceed. Each kind is a test file, hence an
 * isolate, of its own: where V8 has met several machines, it inlines less.
 */
import assert from "node:assert/strict";
import { sgiScripts } from "./sgi_guest.ts";
import { type Operation } from "./unit_operations.ts";
import { UnitGuest } from "./unit_guest.ts";

export const ENDLESS = 2 ** 40;
export const PSCI_VERSION = 0x8400_0000;
export const GICD_TYPER = 0x0800_0004;
export const VIRTIO = 0x0a00_0000;
/** Virtual time from which on it is a number that V8 has to box. */
const LATE_NS = 9e9;
/** Exits of a stretch, and stretches at most: compiling takes as long as it takes. */
const EXITS = 5000;
const STRETCHES = 400;
/** Stretches one behind the other that count: within a single one garbage may have gone unseen. */
const IN_A_ROW = 5;

/** Bytes of the JavaScript heap for an exit in the worst of the best {@link IN_A_ROW} stretches, or of the first below `enough`. */
function bytesPerExit(guest: UnitGuest, enough: number): number {
  const { stat } = guest.boot().vcpu(0).vcpu;
  guest.machine.run(20_000);
  guest.machine.platform.clock.jumpTo(LATE_NS);
  let best = Infinity;
  const last: number[] = [];
  for (let n = 0; n < STRETCHES && best > enough; n++) {
    const heap = Deno.memoryUsage().heapUsed, exits = stat.exits;
    while (stat.exits < exits + EXITS) guest.machine.run(20_000);
    const grown = Deno.memoryUsage().heapUsed - heap;
    // Less than nothing: garbage was collected.
    if (grown < 0) continue;
    last.push(grown / (stat.exits - exits));
    if (last.length > IN_A_ROW) last.shift();
    if (last.length === IN_A_ROW) best = Math.min(best, Math.max(...last));
  }
  return best;
}

/** A guest of one vCPU that does this. */
export const guestOf = (script: readonly Operation[]): UnitGuest =>
  new UnitGuest({ quantum: 10_000 }).script(0, script);

/** Two vCPUs that send each other an SGI whenever they get one. */
export function sgis(): UnitGuest {
  const [first, second] = sgiScripts(20_000);
  return new UnitGuest({ vcpus: 2, pcpus: 2, quantum: 10_000 }).script(1, second).script(0, first);
}

/** A boxed number has 16 bytes; what the measurement itself takes is less than half of that for an exit. */
const NOTHING = 8;

/** The test that `what` allocates nothing. */
export function testAllocation(what: string, make: () => UnitGuest): void {
  Deno.test(`${what} allocates nothing`, () => {
    const bytes = bytesPerExit(make(), NOTHING);
    assert.ok(bytes <= NOTHING, `${bytes.toFixed(1)} bytes`);
  });
}
