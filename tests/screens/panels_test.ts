import assert from "node:assert/strict";
import { count, daif, duration, hex, percent, rate } from "../../src/dashboard/model/format.ts";
import { exitName } from "../../src/dashboard/model/model.ts";
import type { Frame } from "../../src/vmm/frame.ts";
import { FakeMachine, lrHi } from "./fake_machine.ts";
import { type Session, start } from "./session.ts";

/** The rows of a panel that has the whole screen, as words; the column heads first. */
async function zoomed(panel: string, machine = new FakeMachine(), columns = 240): Promise<{
  s: Session;
  rows: string[][];
  frame: Frame;
}> {
  const s = await start({ columns, rows: 70, machine });
  await s.keys(panel, "Z");
  const rows = s.rows.slice(3, -2).map((row) => row.slice(1, -1).trim()).filter((r) => r !== "");
  const { frame } = s.app.model;
  assert.ok(frame);
  return { s, rows: rows.map((row) => row.split(/\s+/)), frame };
}

const number = (n: number): string => n < 0 ? "-" : String(n);
const until = (frame: Frame, at: number): string =>
  at >= Number.MAX_SAFE_INTEGER ? "-" : duration(Math.max(0, at - frame.virtualNs));

Deno.test("vCPUs: every cell is the frame's value", async () => {
  const machine = new FakeMachine();
  machine.vcpu(2).apListLength = 3;
  machine.vcpu(1).usedLrs = 2;
  const { s, rows, frame } = await zoomed("1", machine);
  const states = ["running", "running", "running", "wfi"];
  assert.deepEqual(
    rows.slice(1),
    frame.vcpus.map((v, i) => [
      String(v.vcpuIdx),
      states[i],
      number(v.pcpu),
      String(v.el),
      i === 0 ? "cpu_do_idle+0x8" : hex(v.pc, 16),
      hex(v.pc, 16),
      daif(v.pstate),
      i === 3 ? "0" : "50",
      percent(v.translatedInsns, v.insns),
      i === 3 ? "0" : "2000",
      count(v.exits),
      "IRQ",
      count(v.apListLength),
      count(v.usedLrs),
      until(frame, v.nextTimerNs),
    ]),
  );
  s.close();
});

Deno.test("interrupts: every cell is the frame's value, in all three counter modes", async () => {
  const machine = new FakeMachine(1);
  Object.assign(machine.irq(33), { lineLevel: true, vcpu: 0, apListPosition: 1, injected: 7 });
  Object.assign(machine.irq(40), { active: true, lr: 2, vcpu: 0, apListPosition: 0, group: 0 });
  const { s, rows, frame } = await zoomed("2", machine);
  const shown = frame.irqs.filter((i) => i.ownerVcpu < 0 && i.enabled || i.ownerVcpu >= 0);
  const ordered = [
    ...shown.filter((i) => i.ownerVcpu < 0),
    ...shown.filter((i) => i.ownerVcpu >= 0),
  ];
  const flag = (on: boolean, letter: string): string => on ? letter : ".";
  const age = (at: number): string =>
    at >= Number.MAX_SAFE_INTEGER ? "-" : duration(frame.virtualNs - at);
  assert.deepEqual(
    rows.slice(1),
    ordered.map((i) => [
      i.intid < 16 ? "SGI" : i.intid < 32 ? "PPI" : "SPI",
      String(i.intid),
      number(i.ownerVcpu),
      number(i.targetVcpu),
      i.intid === 33 ? "pending" : i.intid === 40 ? "active" : "-",
      flag(i.pendingLatch, "P"),
      flag(i.lineLevel, "H"),
      flag(i.active, "A"),
      flag(i.enabled, "E"),
      flag(i.hw, "H"),
      i.config ? "level" : "edge",
      String(i.group),
      hex(i.priority, 2),
      number(i.apListPosition),
      number(i.lr),
      number(i.vcpu),
      count(i.injected),
      count(i.acked),
      count(i.eoied),
      age(i.lastEventNs),
      i.latencyCount ? duration(i.latencyP50Ns) : "-",
      i.latencyCount ? duration(i.latencyP99Ns) : "-",
    ]),
  );
  machine.irq(33).injected = 10;
  await s.pass(500);
  assert.match(s.text, /SPI {4}33 .* 10 +0 +0 /);
  await s.keys("d");
  assert.match(s.text, /inj\/s/);
  assert.match(s.text, /SPI {4}33 .* 3\.\d +0 +0 /);
  machine.irq(33).injected = 12;
  await s.keys("d");
  assert.match(s.text, /inj\+/);
  assert.match(s.text, /SPI {4}33 .* 2 +0 +0 /);
  s.close();
});

Deno.test("list registers: state, fields and the raw value", async () => {
  const machine = new FakeMachine(2);
  machine.setLr(0, 0, 40, lrHi(1, 0xa0));
  machine.setLr(0, 1, 27, lrHi(2, 0x20, 1, 27));
  machine.setLr(0, 2, 33, (lrHi(3, 0x80, 0) | 1 << 9) >>> 0);
  const { s, rows } = await zoomed("3", machine);
  const [, ...lines] = rows.map((r) => r.slice(0, 9).join(" "));
  assert.deepEqual(lines.slice(0, 4), [
    "0 0 pending 40 0xa0 1 - - 0x50a0000000000028",
    "0 1 active 27 0x20 1 p27 - 0xb020001b0000001b",
    "0 2 act+pend 33 0x80 0 - E 0xc080020000000021",
    "0 3 - - - - - - 0x0000000000000000",
  ]);
  assert.equal(lines.length, 2 * 4);
  // MISR, VMCR, HCR, ELRSR, EISR once per vCPU.
  assert.deepEqual(rows[1]?.slice(9), ["0x00", "0xf000000a", "0x00000001", "0x000f", "0x0000"]);
  assert.equal(rows[2]?.length, 9);
  s.close();
});

Deno.test("a GICv2: who has sent an SGI, in both panels, and the list register as GICH has it", async () => {
  const machine = new FakeMachine(2);
  machine.header.gic = 2;
  machine.setLr(0, 0, (5 << 10) | 3, lrHi(1, 0xa0, 0));
  const sgi = machine.irqs.find(({ intid, ownerVcpu }) => intid === 1 && ownerVcpu === 1);
  Object.assign(sgi ?? {}, { source: 0x24 });
  const lrs = await zoomed("3", machine);
  assert.match(lrs.s.text, /SRC.*GICH_LR<n>/);
  assert.equal(lrs.rows[1]?.slice(0, 10).join(" "), "0 0 pending 3 0xa0 0 - - 5 0x1a001403");
  assert.match(lrs.s.text, /VHE GICv2/);
  lrs.s.close();
  const irqs = await zoomed("2", machine);
  const source = irqs.rows[0]?.indexOf("SRC") ?? -1;
  const row = irqs.rows.find((r) => r.slice(0, 3).join(" ") === "SGI 1 1");
  assert.equal(row?.[source], "0x24");
  irqs.s.close();
});

Deno.test("timers: every cell is the frame's value", async () => {
  const machine = new FakeMachine(2);
  Object.assign(machine.timers[3] ?? {}, { cntCtl: 7, hrtimerArmed: true, irqLevel: true });
  const { s, rows, frame } = await zoomed("4", machine);
  const ctl = ["EN", "off", "EN", "EN+MASK+IST"];
  const kept = ["hardware", "-", "hardware", "hrtimer"];
  assert.deepEqual(
    rows.slice(1).map((row) => row.filter((w) => !/[▁█]/.test(w))),
    frame.timers.map((t, i) => [
      String(t.vcpuIdx),
      t.index === 1 ? "CNTV" : "CNTP",
      ctl[i],
      until(frame, t.nextFireNs),
      count(t.fired),
      t.irqLevel ? "H" : ".",
      kept[i],
      t.index === 1 ? duration(t.latencyP50Ns) : "-",
      t.index === 1 ? duration(t.latencyP99Ns) : "-",
      hex(t.cntCval, 16),
      hex(t.counter, 16),
      hex(t.cntvoff, 16),
    ]),
  );
  assert.match(s.text, /▁▅█▃▁/);
  s.close();
});

Deno.test("world switches: every cell is the frame's value, most frequent first", async () => {
  const { s, rows, frame } = await zoomed("5");
  const sorted = [...frame.exits].sort((a, b) => b.count - a.count);
  assert.deepEqual(
    rows.slice(1).map((row) => row.filter((w) => !/[▁█⣿]/.test(w))),
    sorted.map((e) => [
      exitName(e.reason),
      count(e.count),
      e.reason === 64 ? rate(6000) : "0",
      duration(e.p50Ns),
      duration(e.p99Ns),
      count(e.cycles / e.count),
      count(e.registersMoved / e.count),
      duration(e.totalNs),
    ]),
  );
  await s.keys("Enter");
  assert.match(s.text, /save a register +4242/);
  assert.match(s.text, /apList +777/);
  s.close();
});

Deno.test("console and trace: the text itself, their ends followed", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 120, rows: 40, machine });
  for (let i = 0; i < 100; i++) {
    machine.print(`line ${i}\r\n`);
    machine.emit("kvm_timer_update_irq", i % 4, i % 4, 27, i);
  }
  await s.pass();
  assert.match(s.text, /line 99 /);
  assert.match(s.text, /v3 {2}kvm_timer_update_irq:/);
  await s.keys("7", "Z");
  assert.match(s.text, /kvm_timer_update_irq: VCPU: 3, IRQ 27, level 99 /);
  assert.doesNotMatch(s.text, /level 50 /);
  await s.keys("g");
  assert.match(s.text, /level 0 /);
  assert.match(s.text, /more below, G follows/);
  machine.emit("kvm_timer_update_irq", 0, 0, 27, 100);
  await s.pass();
  assert.match(s.text, /level 0 /);
  await s.keys("G");
  assert.match(s.text, /level 100 /);
  s.close();
});

Deno.test("a machine that has not spoken, and one that has ended", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 120, rows: 40, machine });
  machine.endedBy = "internal error: deadlock: apList lock\n    at lock.ts:1";
  await s.pass();
  assert.match(s.rows[0] ?? "", /✗ internal error: deadlock: apList lock$/);
  await s.keys("?");
  assert.match(s.text, /Shows every key/);
  s.close();
  const silent = await start({ bridge: { ...machine.bridge(), frame: () => undefined } });
  assert.match(silent.rows[0] ?? "", /✗ internal error/);
  machine.endedBy = undefined;
  await silent.pass();
  assert.match(silent.rows[0] ?? "", /waiting for the machine/);
  await silent.keys("r", "m", "e", "Enter", "Space", "s", "d", "G", ">", "7", "G");
  assert.equal(machine.taken.length, 0);
  silent.close();
});

Deno.test("translated code: share by vCPU in every counter mode, the machine's figures in the details", async () => {
  const { s, rows, frame } = await zoomed("1");
  const shares = () =>
    s.rows.slice(4, 8).map((row) => row.match(/(\S+%|-) +\S+ +\S+ +(?:IRQ|-) /)?.[1]);
  const totals = frame.vcpus.map((v) => percent(v.translatedInsns, v.insns));
  assert.equal(rows[0]?.includes("wasm"), true);
  assert.deepEqual(shares(), totals);
  // The machine of the test runs nine of ten instructions translated; vCPU 3 waits.
  await s.keys("d");
  await s.pass();
  assert.deepEqual(shares(), ["90%", "90%", "90%", "-"]);
  await s.keys("Z", "5", "Enter", "G");
  for (
    const text of [
      /translated +4\.\d+G, 80%/,
      /regions in use +321/,
      /code cache +3\.0M of 16\.0M/,
      /modules made +77/,
      /regions evicted +5/,
      /data TLB misses +1\d+/,
      /code TLB misses +567/,
    ]
  ) assert.match(s.text, text);
  s.close();
});
