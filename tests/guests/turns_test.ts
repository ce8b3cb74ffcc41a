/** Turns by the function beside the interpreter end where turns by TypeScript alone do, at every stop. */
import assert from "node:assert/strict";
import { sgiScripts } from "../support/sgi_guest.ts";
import { CONFIG, H, op, type Operation } from "../support/unit_operations.ts";
import { UnitGuest, type UnitGuestOptions } from "../support/unit_guest.ts";

const ENDLESS = 2 ** 40;
const STOPS = 60;

type Scripts = readonly (readonly Operation[])[];

/** Three vCPUs with timers that fire all the time, of which one waits for them in WFI. */
function timers(): Scripts {
  const ticking = (n: number): Operation[] => [
    op.handler(H.EOI | H.NO_LOG),
    op.config(27, 0x80, CONFIG.GROUP1 | CONFIG.ENABLE, n),
    op.config(30, 0x80, CONFIG.GROUP1 | CONFIG.ENABLE, n),
    op.unmask(),
    op.timerPeriod(1, 200 + 20 * n, 1e6),
    op.timerPeriod(0, 377, 1e6),
  ];
  const reads = op.read(0x0a00_0000, 4, ENDLESS);
  return [
    [op.cpuOn(1), op.cpuOn(2), ...ticking(1), reads],
    [...ticking(2), op.wfi(ENDLESS)],
    [...ticking(3), reads],
  ];
}

function made(scripts: Scripts, options: UnitGuestOptions, byTypeScript: boolean): UnitGuest {
  const guest = new UnitGuest({ vcpus: scripts.length, ...options });
  // The last vCPU's first: the boot vCPU's script starts the others.
  for (let n = scripts.length - 1; n >= 0; n--) guest.script(n, scripts[n] as Operation[]);
  if (byTypeScript) guest.machine.beforeTurn = () => {};
  guest.boot();
  return guest;
}

/** Runs on by instructions, by time, or turn by turn; where that ends. */
function runTo({ machine }: UnitGuest, stop: number): (number | string)[] {
  if (stop % 3 === 0) machine.run(3001);
  else if (stop % 3 === 1) machine.run(1e6, machine.nowNs + 4003);
  else for (let n = 0; n < 40; n++) machine.stepRound(1 + 7 * n);
  return [machine.insns, machine.turns, machine.nowNs, machine.stateHash()];
}

function compare(scripts: Scripts, options: UnitGuestOptions): void {
  const quick = made(scripts, options, false), slow = made(scripts, options, true);
  for (let stop = 0; stop < STOPS; stop++) {
    assert.deepEqual(runTo(quick, stop), runTo(slow, stop), `stop ${stop}`);
  }
  assert.ok(quick.machine.turns > 1000);
}

for (const quantum of [1, 50, 333]) {
  for (const mode of ["vhe", "nvhe"] as const) {
    Deno.test(`SGIs, turns of ${quantum} instructions, ${mode}`, () => {
      compare(sgiScripts(500), { quantum, pcpus: 2, mode });
    });
    Deno.test(`timers on two CPUs, turns of ${quantum} instructions, ${mode}`, () => {
      compare(timers(), { quantum, pcpus: 2, mode });
    });
  }
}

Deno.test("a step by hand ends at an exit, however many would fit into the turn", () => {
  const guest = new UnitGuest({ quantum: 100_000 }).script(0, [op.hvc(ENDLESS, 0x8400_0000)]);
  const { stat } = guest.vcpu(0).vcpu;
  guest.boot();
  guest.machine.run(20_000);
  for (let i = 0; i < 20; i++) {
    const before = stat.exits;
    assert.ok(guest.machine.stepRound(100_000));
    assert.ok(stat.exits - before <= 1, `${stat.exits - before} exits`);
  }
  const before = stat.exits;
  guest.machine.run(20_000);
  assert.ok(stat.exits - before > 100);
});
