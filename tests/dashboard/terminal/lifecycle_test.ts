import assert from "node:assert/strict";
import { type EndReason, Terminal } from "../../../src/dashboard/terminal/lifecycle.ts";
import type { InputEvent } from "../../../src/dashboard/terminal/keys.ts";
import { FakeIo, settle } from "./fake_io.ts";
import { XtermScreen } from "./xterm_screen.ts";

const bytesOf = (text: string) => (): Uint8Array => new TextEncoder().encode(text);

interface Started {
  io: FakeIo;
  terminal: Terminal;
  ends: EndReason[];
  redraws: [number, number][];
  refusals: number[];
}

function start(): Started {
  const io = new FakeIo();
  const ends: EndReason[] = [];
  const redraws: [number, number][] = [];
  const refusals: number[] = [];
  const terminal = new Terminal(io, {
    logPath: "worldswitch.log",
    onEnd: (reason) => {
      io.log.push("end");
      ends.push(reason);
    },
    onRedraw: (columns, rows) => redraws.push([columns, rows]),
    onSuspendRefused: () => refusals.push(1),
  });
  terminal.enter();
  return { io, terminal, ends, redraws, refusals };
}

/** How a shell finds the terminal after all that was written to it. */
async function assertClean(io: FakeIo): Promise<void> {
  const screen = new XtermScreen(80, 24);
  await screen.write("before");
  await screen.write(io.output);
  assert.equal(io.raw, false);
  assert.equal(screen.alternate, false);
  assert.equal(screen.synchronized, false);
  const { mouseTrackingMode, bracketedPasteMode, sendFocusMode, showCursor } = {
    showCursor: true,
    ...screen.modes,
  };
  assert.deepEqual(
    [mouseTrackingMode, bracketedPasteMode, sendFocusMode, showCursor],
    ["none", false, false, true],
  );
  assert.ok(io.output.lastIndexOf("\x1b[?25h") > io.output.lastIndexOf("\x1b[?25l"));
  assert.equal(screen.text()[0], "before");
  await screen.write("after");
  assert.equal(screen.text()[0], "beforeafter");
  screen.dispose();
}

const leaveCount = (io: FakeIo): number => io.output.split("\x1b[?1049l").length - 1;

Deno.test("enter takes the screen, the mouse, the keys", async () => {
  const { io, terminal } = start();
  const screen = new XtermScreen(80, 24);
  await screen.write(io.output);
  assert.equal(io.raw, true);
  assert.equal(terminal.active, true);
  assert.equal(screen.alternate, true);
  assert.equal(screen.modes.mouseTrackingMode, "drag");
  assert.equal(screen.modes.bracketedPasteMode, true);
  assert.throws(() => terminal.enter());
  screen.dispose();
});

const ways: [string, (s: Started) => void | Promise<void>, string, string[]][] = [
  ["quit", ({ terminal }) => terminal.leave(), "quit", []],
  ["unload", ({ io }) => io.raise("unload"), "unload", []],
  ["SIGTERM", ({ io }) => io.signal("SIGTERM"), "signal", ["exit 143"]],
  ["SIGHUP", ({ io }) => io.signal("SIGHUP"), "signal", ["exit 129"]],
  ["SIGINT", ({ io }) => io.signal("SIGINT"), "signal", ["exit 130"]],
  ["SIGQUIT", ({ io }) => io.signal("SIGQUIT"), "signal", ["exit 131"]],
  [
    "error",
    ({ io }) => io.raise("error", new Error("boom")),
    "error",
    ["error Error: boom", "log path", "exit 1"],
  ],
  [
    "unhandled rejection",
    ({ io }) => io.raise("unhandledrejection", "no reason"),
    "error",
    ["error no reason", "log path", "exit 1"],
  ],
  [
    "end of input",
    async ({ io, terminal }) => {
      const listening = terminal.listen(() => {});
      await io.type(null);
      await listening;
    },
    "eof",
    ["exit 129"],
  ],
];

for (const [name, way, kind, afterwards] of ways) {
  Deno.test(`${name}: restored once, before anything else is said`, async () => {
    const started = start();
    const { io, terminal, ends } = started;
    terminal.draw(bytesOf("\x1b[?2026hframe\x1b[1;31m"));
    await terminal.idle();
    await way(started);
    await assertClean(io);
    assert.deepEqual(ends.map((e) => e.kind), [kind]);
    const restored = io.log.findIndex((l) => l.includes("1049l"));
    assert.deepEqual(io.log.slice(restored + 1), ["cooked", "end", ...afterwards]);

    // Whatever comes after finds nobody listening.
    terminal.leave();
    for (const signal of ["SIGTERM", "SIGINT", "SIGCONT", "SIGWINCH"] as const) io.signal(signal);
    io.raise("unload");
    io.raise("error", new Error("late"));
    assert.equal(leaveCount(io), 1);
    assert.equal(ends.length, 1);
    assert.equal(io.listeners, 0);
    assert.equal(terminal.draw(bytesOf("x")), "away");
  });
}

Deno.test("an error while ending does not end twice", async () => {
  const io = new FakeIo();
  const terminal = new Terminal(io, { onEnd: () => io.signal("SIGTERM") });
  terminal.enter();
  io.signal("SIGINT");
  assert.deepEqual(io.log.filter((l) => l.startsWith("exit")), ["exit 130"]);
  await assertClean(io);
});

Deno.test("a terminal that takes a byte at a time, or none for a while, gets all of it", async () => {
  const { io, terminal } = start();
  io.chunk = 1;
  const busy = new Error("later");
  busy.name = "WouldBlock";
  io.writeErrors = [busy, busy];
  terminal.leave();
  assert.deepEqual(io.log.filter((l) => l === "wait").length, 2);
  await assertClean(io);
});

Deno.test("a terminal that is gone does not keep us", () => {
  const { io, ends } = start();
  io.writeErrors = [new Error("EIO")];
  io.signal("SIGHUP");
  assert.equal(ends.length, 1);
  assert.equal(io.log.at(-1), "exit 129");
});

Deno.test("suspend: left, stopped, and back with a full redraw", async () => {
  const { io, terminal, redraws, refusals, ends } = start();
  terminal.suspend();
  await assertClean(io);
  assert.deepEqual(io.log.slice(-2), ["cooked", "stop"]);
  assert.equal(terminal.draw(bytesOf("x")), "away");
  terminal.suspend();
  assert.equal(leaveCount(io), 1);

  io.dimensions = { columns: 100, rows: 30 };
  io.signal("SIGCONT");
  assert.equal(terminal.active, true);
  assert.equal(io.raw, true);
  assert.deepEqual(redraws, [[100, 30]]);
  io.elapse();
  assert.equal(refusals.length, 0);
  terminal.leave();
  assert.equal(ends.length, 1);
  await assertClean(io);
});

Deno.test("suspend where nothing can stop us: back at once", () => {
  const { io, terminal, redraws, refusals } = start();
  io.canStop = false;
  terminal.suspend();
  assert.deepEqual([terminal.active, redraws.length, refusals.length], [true, 1, 1]);
});

Deno.test("suspend that the system ignores: back after a moment", () => {
  const { io, terminal, redraws, refusals } = start();
  terminal.suspend();
  assert.equal(terminal.active, false);
  io.elapse();
  assert.deepEqual([terminal.active, redraws.length, refusals.length], [true, 1, 1]);
});

Deno.test("killed while suspended: nothing is written to the shell's screen", () => {
  const { io, terminal, ends } = start();
  terminal.suspend();
  const before = io.output;
  io.signal("SIGTERM");
  assert.equal(io.output, before);
  assert.equal(ends.length, 1);
  assert.equal(io.log.at(-1), "exit 143");
});

Deno.test("SIGCONT after a stop from outside takes the screen again", () => {
  const { io, redraws } = start();
  const before = io.output.length;
  io.signal("SIGCONT");
  assert.ok(io.output.slice(before).includes("\x1b[?1049h"));
  assert.equal(redraws.length, 1);
});

Deno.test("SIGWINCH asks for a redraw in the new size; an unknown size is 80 by 24", () => {
  const { io, redraws } = start();
  io.dimensions = { columns: 240, rows: 70 };
  io.signal("SIGWINCH");
  io.dimensions = { columns: 0, rows: 0 };
  io.signal("SIGWINCH");
  assert.deepEqual(redraws, [[240, 70], [80, 24]]);
});

Deno.test("one frame is on its way, the others are dropped and never made", async () => {
  const { io, terminal } = start();
  io.slow = true;
  let made = 0;
  const frame = (text: string) => (): Uint8Array => {
    made++;
    return new TextEncoder().encode(text);
  };
  assert.equal(terminal.draw(frame("<1>")), "sent");
  assert.equal(terminal.busy, true);
  assert.equal(terminal.draw(frame("<2>")), "dropped");
  assert.equal(terminal.draw(frame("<3>")), "dropped");
  await io.release();
  assert.equal(terminal.busy, false);
  assert.equal(terminal.draw(frame("<4>")), "sent");
  await io.release();
  assert.ok(io.output.endsWith("<1><4>"));
  assert.deepEqual([made, terminal.frames, terminal.dropped], [2, 2, 2]);
});

Deno.test("a frame written in parts arrives whole, also when the terminal says later", async () => {
  const { io, terminal } = start();
  io.chunk = 2;
  const busy = new Error("later");
  busy.name = "WouldBlock";
  io.writeErrors = [busy];
  terminal.draw(bytesOf("abcdefg"));
  await settle();
  io.elapse();
  await terminal.idle();
  assert.ok(io.output.endsWith("abcdefg"));
});

Deno.test("the rest of a frame never follows the restoration, nor enters the next screen", async () => {
  const { io, terminal } = start();
  io.slow = true;
  io.chunk = 4;
  terminal.draw(bytesOf("AAAABBBB"));
  terminal.suspend();
  await io.release();
  io.chunk = Infinity;
  io.signal("SIGCONT");
  await terminal.idle();
  assert.ok(io.output.includes("AAAA"));
  assert.ok(!io.output.includes("BBBB"));
});

Deno.test("a frame on its way when the screen is taken again ends there", async () => {
  const { io, terminal } = start();
  io.slow = true;
  io.chunk = 4;
  terminal.draw(bytesOf("AAAABBBB"));
  io.chunk = Infinity;
  io.signal("SIGCONT");
  io.chunk = 4;
  await io.release();
  await terminal.idle();
  assert.ok(!io.output.includes("BBBB"));
});

const HIDING = bytesOf("\x1b[?2026h\x1b[?25lframe\x1b[?2026l");

for (const [name, way, kind] of ways) {
  if (name === "unload") continue;
  Deno.test(`${name}: a frame on its way lands before the terminal is restored`, async () => {
    const started = start();
    const { io, terminal, ends } = started;
    io.slow = true;
    terminal.draw(HIDING);
    await way(started);
    assert.deepEqual([leaveCount(io), ends.length], [0, 0]);
    assert.equal(terminal.draw(HIDING), "away");
    // Whatever else would end it waits for the same.
    io.signal("SIGTERM");
    await io.release();
    await assertClean(io);
    assert.deepEqual([leaveCount(io), ends.map((e) => e.kind)], [1, [kind]]);
    io.elapse();
    assert.deepEqual([leaveCount(io), ends.length, io.listeners], [1, 1, 0]);
  });
}

Deno.test("suspend: a frame on its way lands before the terminal is restored", async () => {
  const { io, terminal } = start();
  io.slow = true;
  terminal.draw(HIDING);
  terminal.suspend();
  assert.deepEqual([leaveCount(io), terminal.draw(HIDING)], [0, "away"]);
  await io.release();
  await assertClean(io);
  assert.equal(io.log.at(-1), "stop");
});

Deno.test("killed before the last frame of a suspension has landed: restored once, not stopped", async () => {
  const { io, terminal } = start();
  io.slow = true;
  terminal.draw(HIDING);
  terminal.suspend();
  io.signal("SIGTERM");
  await io.release();
  await assertClean(io);
  assert.equal(leaveCount(io), 1);
  assert.ok(!io.log.includes("stop"));
  assert.equal(io.log.at(-1), "exit 143");
});

Deno.test("a frame that never lands keeps the terminal for a moment only", () => {
  const { io, terminal, ends } = start();
  io.slow = true;
  terminal.draw(HIDING);
  io.signal("SIGTERM");
  assert.equal(ends.length, 0);
  io.elapse();
  assert.deepEqual([leaveCount(io), ends.length], [1, 1]);
  assert.equal(io.log.at(-1), "exit 143");
});

Deno.test("unload with a frame on its way restores at once, after a moment for the frame", () => {
  const { io, terminal, ends } = start();
  io.slow = true;
  terminal.draw(HIDING);
  terminal.leave();
  io.raise("unload");
  assert.deepEqual([leaveCount(io), ends.map((e) => e.kind)], [1, ["quit"]]);
  assert.ok(io.log.indexOf("wait") < io.log.findIndex((l) => l.includes("1049l")));
});

Deno.test("the mouse can be released and taken again", async () => {
  const { io, terminal } = start();
  const screen = new XtermScreen(80, 24);
  terminal.setMouse(false);
  await screen.write(io.output);
  assert.equal(screen.modes.mouseTrackingMode, "none");
  terminal.suspend();
  io.signal("SIGCONT");
  await screen.write(io.output);
  assert.equal(screen.modes.mouseTrackingMode, "none");
  terminal.setMouse(true);
  await screen.write(io.output);
  assert.equal(screen.modes.mouseTrackingMode, "drag");
  screen.dispose();
});

Deno.test("input: keys arrive, a lone Esc after a moment, and not when more comes", async () => {
  const { io, terminal } = start();
  const names: string[] = [];
  const handle = (e: InputEvent): void => void names.push(e.kind === "key" ? e.name : e.kind);
  const listening = terminal.listen(handle);
  await io.type("q\x1b");
  assert.deepEqual(names, ["q"]);
  io.elapse();
  assert.deepEqual(names, ["q", "Esc"]);
  await io.type("\x1b");
  await io.type("[A");
  io.elapse();
  assert.deepEqual(names, ["q", "Esc", "Up"]);
  await io.type(null);
  await listening;
});
