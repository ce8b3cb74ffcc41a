import assert from "node:assert/strict";
import { PlainReport, runPlain } from "../../src/dashboard/plain.ts";
import { FakeMachine } from "./fake_machine.ts";

/** Runs the linear form for some turns; `between` changes the machine before each. */
async function run(
  machine: FakeMachine,
  turns: number,
  between: (turn: number) => void = () => {},
): Promise<string[]> {
  const lines: string[] = [];
  let [now, turn] = [0, 0];
  await runPlain({
    bridge: machine.bridge(),
    clock: { nowMs: () => now },
    intervalMs: 500,
    print: (line) => void lines.push(line),
    wait(ms) {
      now += ms;
      machine.run(ms);
      between(turn++);
      return Promise.resolve(turn < turns);
    },
  });
  return lines;
}

Deno.test("the linear form says what there is, then only what changes", async () => {
  const machine = new FakeMachine();
  const first = await run(machine, 1);
  assert.equal(first[0], "machine is: running");
  assert.match(first[1] ?? "", /^machine: VHE, GICv3, 12\.345678 s, /);
  assert.match(
    first[2] ?? "",
    /^vCPU 0: running, EL1 on CPU 0, DAIF \.\.\.\., pc 0xffff800010123400 cpu_do_idle\+0x8, 25000 exits$/,
  );
  const quiet = await run(new FakeMachine(), 8);
  assert.equal(quiet.length, first.length);
});

Deno.test("an interrupt's way is told step by step", async () => {
  const machine = new FakeMachine();
  const irq = machine.irq(40);
  const steps = [
    { pendingLatch: true, injected: 1, vcpu: 0 },
    { pendingLatch: false, lr: 0 },
    { active: true, acked: 1 },
    { active: false, lr: -1, vcpu: -1, targetVcpu: 1 },
  ];
  const lines = await run(machine, 6, (turn) => Object.assign(irq, steps[turn] ?? {}));
  assert.deepEqual(lines.filter((l) => l.startsWith("SPI 40")), [
    "SPI 40: pending, on the ap_list of vCPU 0, target vCPU 0, acknowledged 0",
    "SPI 40: in list register 0, on the ap_list of vCPU 0, target vCPU 0, acknowledged 0",
    "SPI 40: active, in list register 0, on the ap_list of vCPU 0, target vCPU 0, acknowledged 1",
    "SPI 40: idle, target vCPU 1, acknowledged 1",
  ]);
});

Deno.test("pauses, vCPUs going off, and the end are told", async () => {
  const machine = new FakeMachine();
  const lines = await run(machine, 9, (turn) => {
    if (turn === 1) machine.header.paused = true;
    if (turn === 2) machine.vcpu(3).state = 0;
    if (turn === 4) machine.endedBy = "power off";
  });
  const news = lines.filter((l) => / is: /.test(l) || l.startsWith("machine: power"));
  assert.deepEqual(news.slice(5), ["machine is: paused", "vCPU 3 is: off", "machine: power off"]);
});

Deno.test("console lines are told when complete, in order, once, and harmless", () => {
  const report = new PlainReport();
  const say = (text: string): string[] => report.console(new TextEncoder().encode(text));
  assert.deepEqual(say("Linux ver"), []);
  assert.deepEqual(say("sion\r\nsecond\r\nth"), ["console: Linux version", "console: second"]);
  assert.deepEqual(say("ird\x1b]0;x\x07\x1b[31m!\r\n"), ["console: third!"]);
  const many = say(Array.from({ length: 6000 }, (_, i) => `l${i}\r\n`).join(""));
  assert.equal(many.at(-1), "console: l5999");
  assert.deepEqual(say("x\r\n"), ["console: x"]);
});
