import assert from "node:assert/strict";
import { liveState } from "../../src/dashboard/model/model.ts";
import { LiveSession, NO_WORKER } from "./live_session.ts";

/** A row of the focused panel as words, by its first words. */
function rowOf(s: LiveSession, start: RegExp): string[] {
  for (const row of s.rows) {
    const found = row.split(/[│┃]/).map((part) => part.trim()).find((part) => start.test(part));
    if (found !== undefined) return found.split(/\s+/);
  }
  return [];
}

/** What the Interrupts panel says of SPI 40. */
function spi40(s: LiveSession) {
  const [, , , target, state, , line, , , , , , , ap, lr, on, injected, acked, eoied] = rowOf(
    s,
    /^SPI +40 /,
  );
  return { target, state, line, ap, lr, on, injected, acked, eoied };
}

/** Steps the selected vCPU an instruction at a time until SPI 40 was handled; each state that was on screen. */
async function stepThrough(s: LiveSession): Promise<string[]> {
  const seen: string[] = [];
  for (let i = 0; i < 2000 && !seen.at(-1)?.startsWith("-"); i++) {
    const { state, lr, on } = spi40(s);
    const now = `${state} LR ${lr} on ${on}`;
    if (seen.at(-1) !== now) seen.push(now);
    await s.command("s");
  }
  // The line is high until the handler acknowledges the device: active may show as active and pending.
  return seen.filter((state) => !state.startsWith("act+pend"));
}

async function withSession(
  options: Parameters<typeof LiveSession.start>[0],
  run: (s: LiveSession) => Promise<void>,
): Promise<void> {
  const s = await LiveSession.start(options);
  try {
    await run(s);
  } finally {
    await s.end_();
  }
}

Deno.test({
  name:
    "live: SPI 40 raised is pending, in a list register, active, gone; migrated, it arrives there",
  ignore: NO_WORKER,
  fn: () =>
    withSession({ columns: 240, rows: 60 }, async (s) => {
      await s.keys("2", "/");
      await s.type("spi 40");
      await s.keys("Enter");
      assert.deepEqual(spi40(s).state, "-");
      await s.command("Space");
      assert.match(s.rows[0] ?? "", /PAUSED/);
      await s.keys("r");
      assert.match(s.text, /Will raise the line of SPI 40: it is pending for as long as/);
      await s.command("Enter");
      const raised = spi40(s);
      assert.deepEqual(
        [raised.target, raised.state, raised.line, raised.acked],
        ["0", "pending", "H", "0"],
      );
      const seen = await stepThrough(s);
      assert.deepEqual(seen.slice(-3), [
        "pending LR 0 on 0",
        "active LR 0 on 0",
        "- LR - on -",
      ]);
      const gone = spi40(s);
      assert.deepEqual([gone.line, gone.injected, gone.acked, gone.eoied], [".", "1", "1", "1"]);

      await s.keys("2", "m");
      assert.match(s.text, /SPI 40 will be routed to vCPU 1: it arrives there from now on\./);
      await s.command("Enter");
      assert.equal(spi40(s).target, "1");
      await s.keys("r");
      await s.command("Enter");
      await s.keys("1", "j");
      const moved = await stepThrough(s);
      assert.deepEqual(moved.slice(-3), [
        "pending LR 0 on 1",
        "active LR 0 on 1",
        "- LR - on -",
      ]);
      assert.ok(moved.every((state) => !state.endsWith("on 0")), moved.join("\n"));
      assert.deepEqual([spi40(s).acked, spi40(s).eoied], ["2", "2"]);

      await s.command("Space");
      await s.line("irq");
      await s.until("the guest's own counts", () => s.text.includes("irq: ok"));
      assert.deepEqual(rowOf(s, /^(irq: +)?intid=40 |^irq: +40 /).slice(-4), ["1", "1", "0", "0"]);
    }),
});

Deno.test({
  name: "live: an SGI is sent, a vCPU is moved, the console is captured, quit is clean",
  ignore: NO_WORKER,
  fn: () =>
    withSession({ columns: 200, rows: 60 }, async (s) => {
      await s.keys("i", "Backspace");
      await s.type("3");
      await s.keys("Tab");
      await s.type("2");
      assert.match(s.text, /SGI 3 becomes pending at vCPU 2\./);
      await s.command("Enter");
      await s.keys("2", "/");
      await s.type("sgi 3 2");
      await s.keys("Enter");
      const counts = (): string[] => rowOf(s, /^SGI +3 +2 /).slice(16, 19);
      await s.until("the SGI handled", () => counts().join() === "1,1,1");

      await s.line("help");
      await s.until("the guest's help", () => /help.*\n(.*\n)*.*smp> /.test(s.text));
      assert.match(s.text, /route/);
      await s.line("hvc 100000000");
      const pcpu = (): string | undefined => rowOf(s, /^0 +(running|runnable) /)[2];
      await s.until("vCPU 0 busy", () => pcpu() !== undefined && pcpu() !== "-");
      const from = Number(pcpu());
      await s.keys("1", "M");
      await s.type(String(1 - from));
      // The sentence may go over to the next line.
      assert.match(s.text, new RegExp(`vcpu_load loads it[^.]*physical CPU ${1 - from}\\.`));
      await s.command("Enter");
      await s.until("vCPU 0 elsewhere", () => pcpu() === String(1 - from));
      assert.equal(s.frame.vcpus[0]?.pcpu, 1 - from);

      await s.keys("q");
      assert.deepEqual(await s.end, { kind: "quit" });
      assert.deepEqual(s.io.log.slice(-1), ["cooked"]);
      assert.equal(s.xterm.alternate, false);
      const end = await s.watched.bridge.quit();
      assert.deepEqual([end?.code, end?.reason], [0, "quit"]);
    }),
});

Deno.test({
  name: "live: what a guest echoes cannot reach the terminal",
  ignore: NO_WORKER,
  fn: () =>
    withSession({}, async (s) => {
      await s.keys("c");
      await s.raw("echo \x1b]0;owned\x07\x1b[2J\x1b[?1049l\x1b]52;c;b3du\x07\x1b[c<end>");
      await s.keys("Enter");
      await s.until("the echo", () => /<end>[^]*<end>|end>\W+smp> /.test(s.text));
      assert.deepEqual(s.xterm.titles, []);
      assert.equal(s.xterm.answers, "");
      assert.equal(s.xterm.alternate, true);
      // deno-lint-ignore no-control-regex -- what a guest may not say to the terminal
      assert.doesNotMatch(s.output, /\x1b\]|\x1b\[c|\x1b\[\?1049l/);
      assert.match(s.rows[0] ?? "", /Worldswitch/);
    }),
});

Deno.test({
  name: "live: running unpaced, the interrupts on screen have the states of the frame on screen",
  ignore: NO_WORKER,
  fn: () =>
    withSession({ clock: "fast", columns: 240, rows: 60 }, async (s) => {
      await s.line("storm 1000000");
      for (let i = 0; i < 20; i++) {
        await s.inStep();
        const irq = s.frame.irqs.find((x) => x.intid === 41);
        assert.ok(irq);
        const { pending, active } = liveState(s.frame, irq);
        const words = rowOf(s, /^SPI +41 /);
        const state = active ? (pending ? "act+pend" : "active") : pending ? "pending" : "-";
        assert.deepEqual([words[4], words[14]], [state, irq.lr < 0 ? "-" : String(irq.lr)]);
      }
    }),
});
