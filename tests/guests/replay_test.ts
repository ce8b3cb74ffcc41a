/**
 * Determinism of a guest under KVM: the same inputs at the same moments give the same run, a recording
 * holds what it takes to repeat one, and a snapshot is all of the state there is.
 */
import assert from "node:assert/strict";
import { UserError } from "../../src/base/errors.ts";
import { Random } from "../../src/arm/isa/random.ts";
import { LINE_KIND } from "../../src/vmm/command_ring.ts";
import type { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import {
  hexOfBytes,
  type Input,
  parseRecording,
  type Recording,
  writeRecording,
} from "../../src/vmm/recording.ts";
import { EXIT_CODE } from "../../src/vmm/options.ts";
import { type Ending, Runner } from "../../src/vmm/runner.ts";
import { type Tier, TIERS } from "../support/tier_machine.ts";
import { smpGuest, type SmpOptions } from "../vmm/smp_guest.ts";

const OPTIONS: SmpOptions = { vcpus: 3, pcpus: 2, append: "" };
const MOST_CHUNKS = 3000;
/** Intid 41 is edge in the SMP guest; the handler only counts it. */
const EDGE_SPI = 41;
const RANDOM_INPUTS = 40;

interface Run {
  readonly runner: Runner;
  readonly guest: KvmGuest;
  readonly ending: Ending;
  readonly text: string;
}

type Act = (runner: Runner, chunk: number) => void;

async function run(options: SmpOptions, act: Act, replay?: Recording): Promise<Run> {
  const { guest, text } = await smpGuest(options);
  const runner = new Runner(guest, { forNs: 20e9, ...(replay ? { replay } : {}) });
  for (let chunk = 0; chunk < MOST_CHUNKS; chunk++) {
    act(runner, chunk);
    const ending = runner.chunk();
    if (ending === "stalled") assert.fail(`stalled: ${text().slice(-300)}`);
    if (ending) return { runner, guest, ending, text: text() };
  }
  assert.fail(`no end: ${text().slice(-300)}`);
}

const NOTHING: Act = () => {};

function consoleBytes(text: string): Input {
  return { op: "consoleBytes", vm: 0, hex: hexOfBytes(new TextEncoder().encode(text)) };
}

function randomInput(random: Random): Input {
  const line = { vm: 0, kind: LINE_KIND.SPI, intid: EDGE_SPI + random.below(6), vcpu: 0 };
  return random.pick<() => Input>([
    () => consoleBytes(random.pick(["x", "\b", "\r", "ps\r", "hvc 3\r"])),
    () => ({ op: "raiseLine", ...line }),
    () => ({ op: "lowerLine", ...line }),
    () => ({ op: "pulseLine", ...line }),
    () => ({ op: "moveVcpu", vm: 0, vcpu: random.below(3), pcpu: random.below(2) }),
  ])();
}

/** Random inputs at random chunks, then the command that ends the guest. */
function oddMoments(seed: number): Act {
  const random = new Random(seed);
  let left = RANDOM_INPUTS;
  let next = 5;
  return (runner, chunk) => {
    if (chunk < next || left < 0) return;
    next = chunk + 1 + random.below(4);
    runner.input(left-- > 0 ? randomInput(random) : consoleBytes("\rirq\roff\r"));
  };
}

Deno.test("two runs are equal", async () => {
  const options = { ...OPTIONS, append: 'cmd="ipi 4;storm 3;level 2;fp 2;off"' };
  const first = await run(options, NOTHING), second = await run(options, NOTHING);
  assert.equal(first.ending.code, EXIT_CODE.POWER_OFF);
  assert.deepEqual(first.runner.end(), second.runner.end());
  assert.equal(first.text, second.text);
  // The hash tells: the same commands in another order end elsewhere.
  const other = await run({ ...options, append: 'cmd="ipi 4;storm 3;level 2;fp 3;off"' }, NOTHING);
  assert.notEqual(other.runner.end().stateHash, first.runner.end().stateHash);
});

for (const seed of [1, 2]) {
  Deno.test(`a recording replayed ends in the recorded state (seed ${seed})`, async () => {
    const recorded = await run(OPTIONS, oddMoments(seed));
    const { inputs } = recorded.runner;
    assert.equal(inputs.length, RANDOM_INPUTS + 1);
    assert.equal(recorded.ending.code, EXIT_CODE.POWER_OFF);
    assert.match(recorded.text, /irq: +4[1-6] +[1-9]/, "lines were taken");
    const text = writeRecording({ config: {}, inputs, end: recorded.runner.end() });
    const recording = parseRecording(text);
    const replayed = await run(OPTIONS, NOTHING, recording);
    assert.deepEqual(replayed.runner.end(), recording.end);
    assert.equal(replayed.text, recorded.text);
  });
}

Deno.test("a recording of one tier of the engine replayed on the others ends in the recorded state", async () => {
  const tiers = Object.values(TIERS);
  for (const [i, regions] of tiers.entries()) {
    const other = { ...OPTIONS, regions: tiers[(i + 1) % tiers.length] as Tier };
    const recorded = await run({ ...OPTIONS, regions }, oddMoments(4));
    const recording = { config: {}, inputs: recorded.runner.inputs, end: recorded.runner.end() };
    const replayed = await run(other, NOTHING, recording);
    assert.deepEqual(replayed.runner.end(), recording.end);
    assert.equal(replayed.text, recorded.text);
    const { translated } = replayed.guest.machine.interpreter.regions;
    assert.equal(translated > 0, other.regions.hotAfter !== 0);
  }
});

/** A run that ends as soon as something is wrong: "ended", its state, or the error's message. */
async function outcome(recording: Recording): Promise<string> {
  try {
    const { runner } = await run(OPTIONS, NOTHING, recording);
    return runner.end().stateHash;
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
}

Deno.test("a recording that was tampered with is noticed", async () => {
  const { runner } = await run(OPTIONS, oddMoments(3));
  const end = runner.end();
  const inputs = [...runner.inputs];
  const good: Recording = { config: {}, inputs, end };
  assert.equal(await outcome(good), end.stateHash);
  const at = 10;
  const original = inputs[at];
  assert(original !== undefined);
  // Another byte, at the same moment.
  const changed = inputs.with(at, { ...original, input: consoleBytes("y") });
  assert.notEqual(await outcome({ ...good, inputs: changed }), end.stateHash);
  // A moment that never comes.
  const moved = inputs.with(at, { ...original, insns: original.insns + 1 });
  assert.match(await outcome({ ...good, inputs: moved }), /replay: input 11 belongs after/);
  // A moment that has passed when it can first be looked for.
  const early = inputs.with(at, { ...original, turns: 1 });
  assert.match(await outcome({ ...good, inputs: early }), /replay: input 11 belongs after/);
});

// Snapshots

/** Runs `chunks` chunks, with inputs given by a seed. */
function goOn(guest: KvmGuest, chunks: number, seed: number): void {
  const random = new Random(seed);
  for (let chunk = 0; chunk < chunks; chunk++) {
    if (random.below(3) === 0) guest.apply(randomInput(random));
    guest.machine.run(50_000);
    guest.takeEvent();
  }
}

Deno.test("snapshot, restore and go on equals going on", async () => {
  const { guest, text } = await smpGuest({
    ...OPTIONS,
    append: 'cmd="ipi 30;storm 30;level 30;fp 20;ticks 5"',
  });
  const { machine } = guest;
  goOn(guest, 30, 1);
  for (let round = 0; round < 3; round++) {
    const before = machine.stateHash();
    const snapshot = machine.snapshot();
    const printed = text().length;
    goOn(guest, 25, 10 + round);
    const after = machine.stateHash(), insns = machine.insns;
    const wentOn = text().slice(printed);
    assert.notEqual(after, before);
    machine.restore(snapshot);
    assert.equal(machine.stateHash(), before, "restored");
    const again = text().length;
    goOn(guest, 25, 10 + round);
    assert.equal(machine.insns, insns);
    assert.equal(text().slice(again), wentOn);
    assert.equal(machine.stateHash(), after, `gone on, round ${round}`);
  }
});

// What a machine was made of is made again by the same construction; its state comes from the snapshot.
for (const [tier, regions] of Object.entries({ usual: {}, ...TIERS })) {
  Deno.test(`a snapshot goes on in another process's machine: ${tier}`, async () => {
    const options = { ...OPTIONS, append: 'cmd="ipi 30;storm 30;level 30;fp 20;ticks 5"' };
    // In the middle of hot code of the first, which the second translates otherwise
    const first = await smpGuest({ ...options, regions: { hotAfter: 1, batch: 1 } });
    const second = await smpGuest({ ...options, regions });
    goOn(first.guest, 40, 1);
    const snapshot = first.guest.machine.snapshot();
    goOn(second.guest, 7, 2);
    second.guest.machine.restore(snapshot);
    const printed = [first.text().length, second.text().length];
    goOn(first.guest, 25, 3);
    goOn(second.guest, 25, 3);
    assert.equal(second.guest.machine.stateHash(), first.guest.machine.stateHash());
    assert.equal(second.text().slice(printed[1]), first.text().slice(printed[0]));
  });
}
