import assert from "node:assert/strict";
import { Dashboard } from "../../src/dashboard/app.ts";
import { FakeIo, settle } from "../dashboard/terminal/fake_io.ts";
import { FakeMachine, lrHi } from "./fake_machine.ts";
import { type Session, start } from "./session.ts";

/** The row of an interrupt on screen, without borders. */
function rowOf(s: Session, intid: number): string {
  const pattern = new RegExp(`[┃│](SPI)? +${intid} `);
  return s.rows.find((row) => pattern.test(row)) ?? "";
}

/** What is drawn reversed: the selection bar, the focused title. */
function selectedRow(s: Session): string {
  const { ui } = s.app;
  return ui.focus === "interrupts" ? ui.lists.interrupts.selected ?? "first" : ui.focus;
}

Deno.test("a session: raise SPI 40, see it pending, in a list register, active, gone; migrate it", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 200, rows: 60, machine });
  await s.keys("r");
  assert.match(s.text, /Interrupt line/);
  await s.keys("Tab", "Backspace", "Backspace");
  assert.match(s.text, /A PPI is 16 to 31, an SPI 32 to 63\./);
  await s.keys("Enter");
  assert.equal(machine.taken.length, 0);
  await s.type("40");
  await s.keys("Shift-Tab");
  await s.type("p");
  assert.match(s.text, /Will pulse the line of SPI 40: an edge: it becomes pending once\./);
  await s.keys("Enter");
  assert.deepEqual(machine.taken, [{ op: "pulseLine", vm: 0, kind: 1, intid: 40, vcpu: 0 }]);
  assert.equal(selectedRow(s), "0.-1.40");
  const irq = machine.irq(40);
  Object.assign(irq, { pendingLatch: true, vcpu: 0, apListPosition: 0, injected: 1 });
  await s.pass();
  assert.match(rowOf(s, 40), / pending +P \. \. E .* 0 +- +0 +1 +0 +0 /);
  Object.assign(irq, { pendingLatch: false, lr: 0 });
  machine.setLr(0, 0, 40, lrHi(1, 0xa0));
  await s.pass();
  assert.match(rowOf(s, 40), / pending +\. \. \. E .* 0 +0 +0 +1 /);
  assert.match(s.text, / 0 {2}0 pending +40 0xa0 1 /);
  machine.setLr(0, 0, 40, lrHi(2, 0xa0));
  irq.acked = 1;
  await s.pass();
  assert.match(rowOf(s, 40), / active .* 1 +1 +0 /);
  machine.setLr(0, 0, 0, 0);
  Object.assign(irq, { lr: -1, vcpu: -1, apListPosition: -1, eoied: 1 });
  await s.pass();
  assert.match(rowOf(s, 40), / - +\. \. \. E .* - +- +- +1 +1 +1 /);
  await s.keys("m");
  assert.match(s.text, /SPI 40 will be routed to vCPU 1: it arrives there from now on\./);
  await s.keys("Enter");
  assert.deepEqual(machine.taken[1], { op: "migrateInterrupt", vm: 0, intid: 40, vcpu: 1 });
  irq.targetVcpu = 1;
  machine.setLr(1, 0, 40, lrHi(1, 0xa0));
  Object.assign(irq, { lr: 0, vcpu: 1, apListPosition: 0 });
  await s.pass();
  assert.match(rowOf(s, 40), / 40 +- +1 pending .* 0 +0 +1 /);
  s.close();
});

Deno.test("the selection stays with its interrupt when the order changes", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 200, rows: 60, machine });
  await s.keys("j", "j", "j");
  assert.equal(selectedRow(s), "0.0.1");
  await s.keys(">", ">", "R");
  assert.match(s.text, /ID ▼/);
  assert.equal(selectedRow(s), "0.0.1");
  machine.irq(1, 0).injected = 99_999;
  await s.pass();
  assert.equal(selectedRow(s), "0.0.1");
  await s.keys("k");
  assert.notEqual(selectedRow(s), "0.0.1");
  s.close();
});

Deno.test("the first row is selected by its key too as soon as the order changes", async () => {
  const s = await start({ columns: 200, rows: 60 });
  await s.keys(">", "R");
  assert.equal(selectedRow(s), "0.-1.33");
  await s.keys("e");
  assert.match(s.text, /Where is SPI 33\?/);
  s.close();
});

Deno.test("a filter works while it is typed, is counted, is kept, and is cleared", async () => {
  const s = await start({ columns: 120, rows: 40 });
  await s.keys("/");
  await s.type("0 27");
  assert.match(s.rows[39] ?? "", /\/0 27 .* 4 of 18 {2}Enter keeps, Esc clears/);
  await s.keys("Enter");
  assert.match(s.text, /2 Interrupts {2}\/0 27 4 of 18/);
  assert.equal(rowOf(s, 33), "");
  await s.keys("Esc");
  assert.notEqual(rowOf(s, 33), "");
  await s.keys("/");
  await s.type("zzz");
  assert.match(s.text, /No row matches the filter/);
  await s.keys("e");
  // A count of an interrupt that is shown
  await s.keys("Ctrl-W");
  await s.type("327");
  assert.match(s.text, /No row matches the filter/);
  await s.keys("Ctrl-W", "Esc");
  assert.equal(s.app.ui.lists.interrupts.filter, "");
  await s.keys("7", "/");
  s.machine.emit("kvm_hvc_arm64", 1, 0x1000, 1, 2);
  s.machine.emit("kvm_entry", 1, 0x1000);
  await s.type("hvc");
  assert.match(s.rows[39] ?? "", /1 of 2 /);
  s.close();
});

Deno.test("the palette finds a command and runs it where it belongs", async () => {
  const s = await start({ columns: 120, rows: 40 });
  await s.keys("5", ":");
  await s.type("explain");
  await s.keys("Enter");
  assert.match(s.text, /Where is SPI 33\?/);
  assert.equal(s.app.ui.focus, "interrupts");
  await s.keys("Esc", "Ctrl-P");
  await s.type("clock: real");
  await s.keys("Enter");
  assert.deepEqual(s.machine.taken, [{ op: "setPace", permille: 1000 }]);
  await s.keys(":", "Down", "Up", "Esc");
  assert.equal(s.app.ui.overlay.kind, "none");
  s.close();
});

Deno.test("help shows every key, scrolls, and closes", async () => {
  const s = await start({ columns: 80, rows: 24 });
  await s.keys("?");
  assert.match(s.text, /\? F1 +Shows every key\./);
  assert.match(s.text, /1-20\/\d+/);
  for (let i = 0; i < 30; i++) await s.keys("PgDn");
  assert.match(s.text, /Scrolls one page down\./);
  await s.keys("k");
  const top = s.app.ui.overlay;
  await s.keys("j", "q");
  assert.ok(top.kind === "help" && top.scroll > 0);
  assert.equal(s.app.ui.overlay.kind, "none");
  s.close();
});

Deno.test("explain follows the interrupt while it moves", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 120, rows: 40, machine });
  await s.keys("j", "e");
  assert.match(s.text, /Where is SPI 40\?/);
  assert.match(s.text, /> ✗ Not pending: no edge has come/);
  Object.assign(machine.irq(40), { pendingLatch: true, vcpu: 0, apListPosition: 0 });
  machine.vcpu(0).vgicVmcr = 0x8000_0002;
  await s.pass();
  assert.match(s.text, /> ✗ Masked by priority: 0xa0 is not below ICC_PMR_EL1, which is 0x80\./);
  assert.match(s.text, / ✓ Enabled\./);
  await s.keys("Esc");
  s.close();
});

Deno.test("pause, resume and step send what they say", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 120, rows: 40, machine });
  await s.keys("Space");
  assert.match(s.rows[0] ?? "", /▲ PAUSED .* clock stopped/);
  await s.keys("1", "j", "j", "s", "S");
  await s.keys("Space");
  assert.match(s.rows[0] ?? "", /✓ running/);
  assert.deepEqual(machine.taken, [
    { op: "pause" },
    { op: "stepInstruction", vm: 0, vcpu: 2 },
    { op: "stepExit", vm: 0, vcpu: 2 },
    { op: "resume" },
  ]);
  s.close();
});

Deno.test("prompts: SGI, moving a vCPU, and a reset that asks", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 120, rows: 40, machine });
  await s.keys("1", "j", "i", "Backspace");
  await s.type("5");
  await s.keys("Tab");
  await s.type("e");
  assert.match(s.text, /SGI 5 becomes pending at every vCPU\./);
  await s.keys("Enter", "M");
  assert.match(s.text, /vCPU 1 leaves the guest, vcpu_put saves it, and vcpu_load loads it/);
  await s.keys("Enter", "z");
  assert.match(s.text, /All totals, histories and latencies start from zero\./);
  await s.keys("Esc", "z", "Enter");
  assert.deepEqual(machine.taken, [
    { op: "sendSgi", vm: 0, intid: 5, targets: 15, targetsHi: 0 },
    { op: "moveVcpu", vm: 0, vcpu: 1, pcpu: 0 },
    { op: "resetCounters" },
  ]);
  assert.equal(s.app.model.histories.size, 0);
  s.close();
});

Deno.test("a refused command says why, an unanswered one blocks nothing, a full ring is said", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 120, rows: 40, machine });
  machine.result = -22;
  await s.keys("j", "m", "Enter");
  await s.pass();
  assert.match(s.rows[39] ?? "", /Migrate interrupt 40: not possible for this one\./);
  machine.answers = false;
  machine.turn = () => machine.writer.wanted && machine.writer.publish(machine);
  for (let i = 0; i < 17; i++) await s.keys("Space");
  assert.match(s.rows[39] ?? "", /takes no more commands/);
  await s.keys("?");
  assert.match(s.text, /Shows every key/);
  s.close();
});

Deno.test("the mouse: click focuses and selects, a head sorts, the wheel scrolls under the pointer", async () => {
  const s = await start({ columns: 200, rows: 60 });
  const at = s.find("HVC64");
  await s.click(at.x, at.y);
  assert.equal(s.app.ui.focus, "worldSwitches");
  assert.equal(s.app.ui.lists.worldSwitches.selected, "22");
  const head = s.find("rate/s");
  await s.click(head.x + 1, head.y);
  assert.match(s.text, /rate\/s ▼/);
  await s.click(head.x + 1, head.y);
  assert.match(s.text, /rate\/s ▲/);
  assert.equal(s.app.ui.lists.worldSwitches.selected, "22");
  const lrs = s.find("vINTID");
  await s.wheel(lrs.x, lrs.y + 3, true);
  assert.match(s.text, /3-16\/16|4-1\d\/16/);
  assert.equal(s.app.ui.focus, "worldSwitches");
  await s.wheel(lrs.x, lrs.y + 3, false);
  assert.match(s.text, /1-14\/16/);
  await s.keys("y");
  assert.ok(s.output.includes("\x1b[?1002l"));
  s.close();
});

Deno.test("hidden panels are named on top and open by a click", async () => {
  const s = await start({ columns: 80, rows: 24 });
  await s.click((s.rows[1] ?? "").lastIndexOf("7"), 1);
  assert.equal(s.app.ui.focus, "trace");
  assert.match(s.text, /7 Trace/);
  s.close();
});

Deno.test("captured, every key but one goes to the guest, and the badge says so", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 120, rows: 40, machine });
  await s.keys("c");
  assert.match(s.rows[0] ?? "", /GUEST HAS THE KEYBOARD - Ctrl-\]/);
  assert.match(s.text, /6 Console .* GUEST HAS THE KEYBOARD/);
  await s.keys("q", "Ctrl-C", "Up", "Enter", "é");
  assert.deepEqual([...machine.input.read()], [
    0x71,
    3,
    ...new TextEncoder().encode("\x1b[A\ré"),
  ]);
  machine.print("login: ");
  await s.pass();
  const console = s.find("login:");
  assert.deepEqual(s.xterm.cursor, { x: console.x + 7, y: console.y });
  await s.keys("Ctrl-]", "j");
  assert.equal(machine.input.length, 0);
  assert.doesNotMatch(s.text, /GUEST HAS/);
  s.close();
});

Deno.test("a paste larger than the guest's ring arrives whole and in order", async () => {
  const machine = new FakeMachine();
  const s = await start({ machine });
  const text = Array.from({ length: 4000 }, (_, i) => `${i},`).join("");
  await s.keys("c");
  for (const part of [`\x1b[200~`, ...text.match(/.{1,2000}/g) ?? [], "\x1b[201~"]) {
    await s.raw(part);
  }
  await s.type("end");
  let got = "";
  for (let i = 0; i < 20; i++) {
    got += new TextDecoder().decode(machine.input.read());
    await s.pass();
  }
  assert.equal(got, text + "end");
  s.close();
});

Deno.test("refresh: seldom drawn, still collected; the key that changes it says so", async () => {
  const machine = new FakeMachine();
  const s = await start({ machine });
  for (let i = 0; i < 8; i++) await s.keys("-");
  assert.match(s.rows[39] ?? "", /Draws 1 times a second|Draws once a second/);
  const output = s.output.length;
  for (let i = 0; i < 10; i++) {
    machine.print(`part ${i}\r\n`);
    await s.pass(34);
    assert.equal(machine.out.length, 0);
  }
  assert.ok(s.output.length - output < 40_000);
  await s.keys("+", "+");
  s.close();
});

Deno.test("a screenshot is written where that is permitted, and told where it is not", async () => {
  const saved = new Map<string, string>();
  const s = await start({ save: (name, content) => void saved.set(name, content) });
  await s.keys("p", "P");
  const [[textName, text] = ["", ""], [svgName, svg] = ["", ""]] = [...saved];
  assert.match(textName, /^worldswitch-\d+\.\d{6}s\.txt$/);
  assert.match(text, /━ 2 Interrupts ━/);
  assert.match(svgName, /\.svg$/);
  assert.match(svg, /^<svg /);
  assert.match(s.rows[39] ?? "", /The screen is in worldswitch-/);
  s.close();
  const denied = await start();
  await denied.keys("p");
  assert.match(denied.rows[39] ?? "", /--allow-write/);
  denied.close();
});

Deno.test("quit and the signals leave a clean terminal; the machine is told to end", async () => {
  for (const key of ["q", "Ctrl-C"]) {
    const machine = new FakeMachine();
    const s = await start({ machine });
    await s.io.type(key === "q" ? "q" : "\x03");
    assert.deepEqual(await s.end, { kind: "quit" });
    machine.turn();
    assert.deepEqual(machine.taken, [{ op: "quit" }]);
    assert.equal(s.io.raw, false);
    assert.ok(s.io.output.endsWith("\x1b[?1049l"));
    assert.equal(s.io.listeners, 0);
    s.xterm.dispose();
  }
});

Deno.test("Ctrl-Z gives the shell back and fg draws everything anew", async () => {
  const s = await start({ columns: 120, rows: 40 });
  await s.io.type("\x1a");
  assert.equal(s.io.raw, false);
  await s.xterm.write(s.io.output);
  s.io.output = "";
  assert.equal(s.xterm.alternate, false);
  s.io.signal("SIGCONT");
  await s.pass();
  assert.equal(s.xterm.alternate, true);
  assert.match(s.text, /2 Interrupts/);
  s.close();
});

Deno.test("frames are drawn at the rate asked for, whatever the timers' lateness", async () => {
  for (const late of [0, 1, 3]) {
    const io = new FakeIo();
    const machine = new FakeMachine();
    let now = 0;
    let due = 0;
    io.after = (ms) => {
      due = now + ms;
      return () => {};
    };
    let tick = (): void => {};
    const after = io.after.bind(io);
    io.after = (ms, run) => {
      tick = run;
      return after(ms, run);
    };
    const clock = { nowMs: () => now };
    const app = new Dashboard({ io, bridge: machine.bridge(), clock, depth: "none" });
    app.run();
    let drawn = 0;
    while (now < 10_000) {
      machine.run(due + late - now);
      now = due + late;
      io.output = "";
      tick();
      await settle();
      if (io.output !== "") drawn++;
    }
    assert.ok(drawn >= 290 && drawn <= 305, `${drawn} frames in ten seconds, ${late} ms late`);
    io.signal("SIGTERM");
  }
});
