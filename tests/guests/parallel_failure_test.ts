/** A worker that cannot go on. */
import assert from "node:assert/strict";
import { InternalError, KernelPanic, UserError } from "../../src/base/errors.ts";
import { parseCommandLine } from "../../src/vmm/command_line.ts";
import { pause } from "../../src/vmm/event_loop.ts";
import { EXIT_CODE } from "../../src/vmm/options.ts";
import { loadInTeam } from "../../src/vmm/parallel_start.ts";
import { Runner } from "../../src/vmm/runner.ts";
import { onTeam, TEAM_BARE, TEAM_KVM, TeamProgram } from "../support/team_guest.ts";

/** Both CPUs are busy for ever. */
const spinning = (): TeamProgram =>
  new TeamProgram().both(
    (a) => a.label("first for ever").b("first for ever"),
    (a) => a.label("second for ever").b("second for ever"),
  );
const TURN_NS = 1e6, TURNS = 20_000;

for (const run of [TEAM_BARE, TEAM_KVM]) {
  onTeam("an internal error in another worker ends the run", run, spinning, ({ machine }) => {
    const second = machine.platform.cpus[1];
    assert.ok(second);
    for (let turn = 0; second.regionInsns === 0; turn++) {
      assert.ok(turn < TURNS, "the second CPU does not run");
      machine.run(Infinity, machine.nowNs + TURN_NS);
    }
    // No rule of the machine allows that: its worker stops when it looks for code.
    second.codeTlb = 0;
    assert.throws(() => {
      for (let turn = 0; turn < TURNS; turn++) machine.run(Infinity, machine.nowNs + TURN_NS);
    }, (error) => error instanceof InternalError && /a TLB is filled/.test(error.message));
  });
}

onTeam(
  "what ends a vCPU in another worker ends the run in one line",
  TEAM_KVM,
  spinning,
  (guest) => {
    const runner = new Runner(guest, { forNs: Infinity });
    assert.equal(runner.chunk(), undefined);
    // As if the helper's user space had met an exit that it cannot handle
    guest.machine.team?.fail(new KernelPanic("vCPU 1: exit 17 to user space that nobody handles"));
    assert.deepEqual(runner.chunk(), {
      code: EXIT_CODE.INTERNAL_ERROR,
      reason: "vCPU 1: exit 17 to user space that nobody handles",
    });
  },
);

onTeam("snapshots are refused", TEAM_BARE, spinning, ({ machine }) => {
  assert.throws(() => machine.snapshot(), UserError);
});

Deno.test("a worker that is lost ends the run, with what it has died of", async () => {
  const invocation = await parseCommandLine(["run", "--vcpus", "2", "--threads", "2"]);
  if ("text" in invocation) throw new Error(invocation.text);
  const kernel = { name: "spinning", bytes: spinning().image() };
  const images = { kernel, initrd: undefined };
  const wires = { transmit: () => {}, report: () => {} };
  const module = new URL("../support/lost_worker.ts", import.meta.url);
  const { machine, close } = await loadInTeam(invocation.config, images, wires, module);
  try {
    await assert.rejects(async () => {
      for (let turn = 0; turn < TURNS; turn++) {
        machine.run(Infinity, machine.nowNs + TURN_NS);
        await pause(machine, 0);
      }
    }, (error) => error instanceof InternalError && /lost/.test(error.message));
  } finally {
    close?.();
  }
});
