import assert from "node:assert/strict";
import { PORT_KINDS } from "../../src/arm/el2_port.ts";
import { compileTakeOperations } from "../../src/arm/port_meter.ts";
import { SharedMemory } from "../../src/base/memory.ts";

const KINDS = PORT_KINDS.map((_, k) => k);
const COUNTERS = 64, BASE = 1024, TOTALS = 2048;

Deno.test("operations since the last look are added to totals, each kind by itself, and weighed", () => {
  const memory = SharedMemory.create(4096);
  const weights = KINDS.map((k) => [0, 1, 31, 34][k % 4] as number);
  const take = compileTakeOperations(memory, weights);
  const at = (table: number) => KINDS.map((k) => memory.ld53(table + 8 * k));
  for (const k of KINDS) {
    memory.st53(COUNTERS + 8 * k, 2 ** 32 - 3 + k);
    memory.st53(TOTALS + 8 * k, 2 ** 40 + k);
  }
  take(COUNTERS, BASE, 3072);
  const done = KINDS.map((k) => (7 * k) % 11);
  for (const k of KINDS) memory.st53(COUNTERS + 8 * k, 2 ** 32 - 3 + k + (done[k] as number));
  const moved = done.reduce((sum, n, k) => sum + n * (weights[k] as number), 0);
  assert.equal(take(COUNTERS, BASE, TOTALS), moved);
  assert.deepEqual(at(BASE), at(COUNTERS));
  assert.deepEqual(at(TOTALS), KINDS.map((k) => 2 ** 40 + k + (done[k] as number)));
  assert.equal(take(COUNTERS, BASE, TOTALS), 0);
  assert.deepEqual(at(TOTALS), KINDS.map((k) => 2 ** 40 + k + (done[k] as number)));
});
