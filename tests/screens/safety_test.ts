import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeMachine } from "./fake_machine.ts";
import { start } from "./session.ts";

/** What this program may send: its own few sequences, and text without control characters. */
const OWN =
  // deno-lint-ignore no-control-regex
  /\x1b\[(?:[\d;]*m|[\d;]*H|\d*[ABCDG]|\d*d|[02]?J|K|\?(?:1049|25|2004|1004|1002|1006|2026)[hl])|[\r\n]/g;

function assertHarmless(output: string): void {
  const rest = output.replace(OWN, "");
  // deno-lint-ignore no-control-regex
  const bad = /[\x00-\x1f\x7f-\x9f\u202e\u200b]/.exec(rest);
  assert.equal(
    bad,
    null,
    bad === null ? "" : JSON.stringify(rest.slice(Math.max(0, bad.index - 20), bad.index + 40)),
  );
}

const ATTACKS = [
  "\x1b]0;owned\x07",
  "\x1b]52;c;b3duZWQ=\x07",
  "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
  '\x1bP$q"p\x1b\\',
  "\x1b[c\x1b[6n\x1b[>c\x1b[?1049l",
  "\x9b31m\x9d0;c1\x9c",
  "\x1b_apc\x1b\\ \x1b^pm\x1b\\",
  "\x07\x08\x0e\x0f\x18\x1a\x7f",
  "\x1b[?1000h\x1b[20t\x1b(0lqk\x1bc",
  "\u202ertl\u200b\ufeff\u009b",
];

Deno.test("the guest's console cannot reach the terminal: no title, no clipboard, no answer", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 120, rows: 40, machine });
  for (const attack of ATTACKS) {
    machine.print(`before ${attack} after\r\n`);
    await s.pass();
  }
  await s.keys("6", "Z", "/");
  await s.type("after");
  assertHarmless(s.output);
  assert.deepEqual(s.xterm.titles, []);
  assert.equal(s.xterm.answers, "");
  assert.equal(s.xterm.alternate, true);
  assert.match(s.text, /after/);
  s.close();
});

Deno.test("neither can random bytes", async () => {
  const machine = new FakeMachine();
  const s = await start({ columns: 80, rows: 24, machine });
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 300 });
  for (const piece of fc.sample(bytes, { numRuns: 60, seed: 7 })) {
    machine.out.write(piece);
    await s.pass();
  }
  assertHarmless(s.output);
  assert.equal(s.xterm.answers, "");
  s.close();
});

Deno.test("nor what is pasted into a filter, a symbol's name, or why the machine ended", async () => {
  const machine = new FakeMachine();
  const bridge = { ...machine.bridge(), symbol: () => "evil\x1b]0;x\x07" };
  const s = await start({ columns: 200, rows: 60, machine, bridge });
  await s.keys("/");
  await s.raw("\x1b[200~a\x1b]0;x\x07b\x1b[201~");
  machine.endedBy = "ended \x1b[31m\x1b]52;c;eA==\x07";
  await s.pass();
  assertHarmless(s.output);
  assert.deepEqual(s.xterm.titles, []);
  s.close();
});
