/**
 * The world switch and KVM's way in and out allocate nothing: what V8 has to allocate for a round trip, once
 * its code is compiled, stays below a bound that a few boxed numbers would exceed.
 */
import assert from "node:assert/strict";
import { op, type Operation } from "../support/unit_operations.ts";
import { UnitGuest } from "../support/unit_guest.ts";

const ENDLESS = 2 ** 40;
const PSCI_VERSION = 0x8400_0000;
/** Virtual time from which on it is a number that V8 has to box. */
const LATE_NS = 9e9;
/** Exits of a stretch, and stretches at most: compiling takes as long as it takes. */
const EXITS = 5000;
const STRETCHES = 400;
/** Stretches one behind the other that count: within a single one garbage may have gone unseen. */
const IN_A_ROW = 5;

/** Bytes of the JavaScript heap for an exit in the worst of the best {@link IN_A_ROW} stretches, or of the first below `enough`. */
function bytesPerExit(script: readonly Operation[], enough: number): number {
  const guest = new UnitGuest({ quantum: 10_000 }).script(0, script).boot();
  const { stat } = guest.vcpu(0).vcpu;
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

Deno.test("a hypercall allocates less than three boxed numbers", () => {
  const bytes = bytesPerExit([op.hvc(ENDLESS, PSCI_VERSION)], 40);
  assert.ok(bytes <= 40, `${bytes.toFixed(1)} bytes`);
});
