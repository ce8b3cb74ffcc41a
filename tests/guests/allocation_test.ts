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

/** Bytes of the JavaScript heap for an exit in the best stretch of many, or the first that is below `enough`. */
function bytesPerExit(script: readonly Operation[], enough: number): number {
  const guest = new UnitGuest({ quantum: 10_000 }).script(0, script).boot();
  const { stat } = guest.vcpu(0).vcpu;
  guest.machine.run(20_000);
  guest.machine.platform.clock.jumpTo(LATE_NS);
  let best = Infinity;
  for (let n = 0; n < STRETCHES && best > enough; n++) {
    const heap = Deno.memoryUsage().heapUsed, exits = stat.exits;
    while (stat.exits < exits + EXITS) guest.machine.run(20_000);
    const grown = Deno.memoryUsage().heapUsed - heap;
    // Less than nothing: garbage was collected.
    if (grown >= 0) best = Math.min(best, grown / (stat.exits - exits));
  }
  return best;
}

Deno.test("a hypercall allocates less than three boxed numbers", () => {
  const bytes = bytesPerExit([op.hvc(ENDLESS, PSCI_VERSION)], 40);
  assert.ok(bytes <= 40, `${bytes.toFixed(1)} bytes`);
});
