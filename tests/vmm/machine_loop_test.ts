/** The loop's pace: what is ahead of it waits, and a machine with the host's clock has none. */
import assert from "node:assert/strict";
import type { Command } from "../../src/vmm/command_ring.ts";
import { REAL_TIME } from "../../src/vmm/frame_layout.ts";
import { type LoopParts, MachineLoop } from "../../src/vmm/machine_loop.ts";
import type { Ending, Runner } from "../../src/vmm/runner.ts";

const ENDING: Ending = { code: 0, reason: "enough" };

/** A loop over a machine whose virtual time goes forward by an hour each time it is looked at. */
function loopOf(
  pacePermille: number,
  commands: Command[],
  chunk = (chunks: number) => chunks < 5 ? undefined : ENDING,
) {
  const seen = { chunks: 0, waits: 0, acknowledged: [] as number[] };
  let nowNs = 0;
  const machine = {
    get nowNs(): number {
      return nowNs += 3.6e12;
    },
    acquire: () => {},
    release: () => {},
    freeze: () => {},
    thaw: () => {},
  };
  const runner = {
    guest: { machine, consoleRoom: 0, frames: undefined },
    chunk: () => chunk(++seen.chunks),
  } as unknown as Runner;
  let sequence = 0;
  const parts = {
    commands: {
      doorbell: 0,
      take: () => {
        const command = commands.shift();
        return command && { sequence: ++sequence, command };
      },
      acknowledge: (_: number, result: number) => seen.acknowledged.push(result),
      wait: () => {
        if (++seen.waits === 3) commands.push({ op: "quit" });
      },
    },
    consoleIn: { length: 0 },
    frames: { wanted: false },
  } as unknown as LoopParts;
  return { loop: new MachineLoop(runner, parts, pacePermille), seen };
}

Deno.test("a machine that is ahead of its pace waits", async () => {
  const { loop, seen } = loopOf(1000, []);
  assert.equal((await loop.run()).reason, "quit");
  assert.equal(seen.chunks, 0);
});

Deno.test("a machine with the host's clock never waits, and its pace cannot be set", async () => {
  const { loop, seen } = loopOf(REAL_TIME, [{ op: "setPace", permille: 500 }]);
  assert.equal(await loop.run(), ENDING);
  assert.equal(seen.waits, 0);
  assert.ok((seen.acknowledged[0] ?? 0) < 0);
  assert.equal(loop.pacePermille, REAL_TIME);
});

Deno.test("a machine that runs all the time comes back to the event loop now and then", async () => {
  let turned = false;
  const limit = performance.now() + 20_000;
  const { loop } = loopOf(REAL_TIME, [], () => {
    assert.ok(performance.now() < limit, "it does not");
    return turned ? ENDING : undefined;
  });
  setTimeout(() => turned = true, 0);
  assert.equal(await loop.run(), ENDING);
});
