/** What the workers of a machine tell each other. */
import assert from "node:assert/strict";
import { Arena } from "../../../src/base/arena.ts";
import { InternalError, KernelPanic } from "../../../src/base/errors.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import { Team, TEAM_ENDED } from "../../../src/arm/parallel/team.ts";

/** The sides of two workers, one of which at a time is here. */
function teams(): [main: Team, helper: Team] {
  const memory = SharedMemory.create(1 << 20);
  const side = (worker: number) =>
    new Team(memory, new Arena("observe", memory, 4096, 1 << 20), { worker, workers: 2 });
  return [side(0), side(1)];
}

/** What `to` is told of the code that `from` says has changed, address and length. */
function told(from: Team, to: Team, changes: readonly (readonly [number, number])[]): number[][] {
  const messages: number[][] = [];
  to.onMessage = (at, length) => messages.push([at, length]);
  from.acquire();
  for (const [at, length] of changes) from.sendCode(at, length);
  from.release();
  to.acquire();
  to.release();
  return messages;
}

Deno.test("neighbouring lines of code are one message", () => {
  const [main, helper] = teams();
  const page = Array.from({ length: 64 }, (_, i) => [0x1_0000 + 64 * i, 64] as const);
  const messages = told(main, helper, [...page, [0x4_0000, 64], [0x3_0000, 64], ...page]);
  const whole = [0x1_0000, 4096];
  assert.deepEqual(messages, [whole, [0x4_0000, 64], [0x3_0000, 64], whole]);
  assert.deepEqual(told(main, helper, [[0x1_1000, 64]]), [[0x1_1000, 64]]);
});

Deno.test("more messages than there is room for end with one that stands for all", () => {
  const [main, helper] = teams();
  const lines = Array.from({ length: 1000 }, (_, i) => [0x1_0000 + 128 * i, 64] as const);
  const messages = told(helper, main, lines);
  assert.ok(messages.length < 1000);
  assert.deepEqual(messages.at(-1), [0, 0]);
  messages.slice(0, -1).forEach((message, i) => assert.deepEqual(message, lines[i]));
  assert.deepEqual(told(helper, main, [[64, 64]]), [[64, 64]]);
});

Deno.test("all code stays all code, whatever lies behind it", () => {
  const [main, helper] = teams();
  assert.deepEqual(told(main, helper, [[0, 0], [0, 64], [64, 64]]), [[0, 0], [0, 128]]);
});

Deno.test("the main worker throws what another one has failed with", () => {
  const [main, helper] = teams();
  main.throwFailure();
  helper.fail(new InternalError("no such case"));
  assert.throws(
    () => main.throwFailure(),
    (e) => e instanceof InternalError && /no such case/.test(e.message),
  );
  helper.fail(new KernelPanic("vCPU 1: broken"));
  assert.throws(() => main.throwFailure(), new KernelPanic("vCPU 1: broken"));
});

Deno.test("a worker of a team that has ended does not go on", () => {
  const [main, helper] = teams();
  helper.acquire();
  helper.release();
  main.stop();
  assert.throws(() => helper.acquire(), (e) => e === TEAM_ENDED);
  assert.equal(helper.lock.held, false);
});

Deno.test("a change is pending for whoever is in generated code, until it has been out", () => {
  const [main, helper] = teams();
  helper.acquire();
  helper.goIn();
  main.acquire();
  assert.equal(main.noteMaintenance(), true);
  main.release();
  helper.comeOut();
  helper.release();
  main.acquire();
  main.awaitMaintenance(false);
  assert.equal(main.waitsFor(1), 0);
  assert.equal(main.noteMaintenance(), false);
  main.release();
});
