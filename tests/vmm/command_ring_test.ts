import assert from "node:assert/strict";
import { InternalError } from "../../src/base/errors.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import {
  type Command,
  COMMAND_ARGS,
  COMMAND_NAMES,
  CommandRing,
  LINE_KIND,
} from "../../src/vmm/command_ring.ts";

function rings(capacity = 8): { main: CommandRing; machine: CommandRing } {
  const memory = SharedMemory.create(8192);
  return {
    main: new CommandRing(memory, 128, capacity),
    machine: new CommandRing(memory, 128, capacity),
  };
}

Deno.test("every command arrives with its arguments, in order", () => {
  const { main, machine } = rings();
  for (const op of COMMAND_NAMES) {
    const args = Object.fromEntries(COMMAND_ARGS[op].map((name, i) => [name, 2 ** 53 - 1 - i]));
    const command = { op, ...args } as Command;
    const sequence = main.send(command);
    assert.deepEqual(machine.take(), { sequence, command });
    assert.equal(machine.take(), undefined);
  }
});

Deno.test("a full ring refuses, and takes again when the machine has taken one", () => {
  const { main, machine } = rings(4);
  for (let i = 0; i < 4; i++) assert.equal(main.send({ op: "pause" }), i + 1);
  assert.equal(main.send({ op: "resume" }), undefined);
  assert.equal(machine.take()?.sequence, 1);
  assert.equal(main.send({ op: "resume" }), 5);
  assert.deepEqual([2, 3, 4, 5].map(() => machine.take()?.sequence), [2, 3, 4, 5]);
});

Deno.test("a command is done when it is acknowledged, with its result", () => {
  const { main, machine } = rings();
  const first = main.send({ op: "migrateInterrupt", vm: 0, intid: 40, vcpu: 9 }) ?? 0;
  const second = main.send({ op: "pause" }) ?? 0;
  machine.take();
  machine.take();
  assert.equal(main.resultOf(first), undefined);
  machine.acknowledge(first, -22);
  assert.equal(main.resultOf(first), -22);
  assert.equal(main.resultOf(second), undefined);
  assert.equal(main.acknowledged, first);
  machine.acknowledge(second);
  assert.equal(main.resultOf(second), 0);
  for (let i = 0; i < 8; i++) main.send({ op: "pause" }), machine.take();
  assert.equal(main.resultOf(first), undefined);
});

Deno.test("arguments that a record cannot hold are refused before they are sent", () => {
  const { main, machine } = rings();
  const line = { op: "raiseLine", vm: 0, kind: LINE_KIND.SPI, intid: 40 } as const;
  for (const vcpu of [-1, 0.5, NaN, 2 ** 53]) {
    assert.throws(() => main.send({ ...line, vcpu }), InternalError);
  }
  assert.equal(machine.take(), undefined);
});

Deno.test("sending rings the doorbell, so a machine that looked before does not sleep", () => {
  const { main, machine } = rings();
  const seen = machine.doorbell;
  main.send({ op: "resume" });
  assert.notEqual(machine.doorbell, seen);
  // Would block for ever if the doorbell were still what it was.
  machine.wait(seen);
  const again = machine.doorbell;
  main.ring();
  machine.wait(again);
});
