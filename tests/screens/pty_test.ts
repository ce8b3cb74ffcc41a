/** The real program on a real pseudo terminal: it starts, it ends, and the terminal is as it was. */
import assert from "node:assert/strict";
import { canPty, Pty } from "../support/pty.ts";

const ignore = !canPty();
const ROOT = new URL("../../", import.meta.url);
const START = "exec deno run -q -P=start --no-prompt main.ts start";
// Blank cells are not sent, so of a text only single words are sure to be in one piece.
const SEEN = /DABT_LOW|HVC64/;
const MS = 60_000;

/** What a terminal must have been told last: main screen, cursor shown, no mouse, no bracketed paste. */
function assertRestored(output: string): void {
  for (const [mode, on] of [["1049", false], ["25", true], ["1006", false], ["2004", false]]) {
    const last = Math.max(
      output.lastIndexOf(`\x1b[?${mode}h`),
      output.lastIndexOf(`\x1b[?${mode}l`),
    );
    assert.ok(last >= 0, `mode ${mode} was never set`);
    assert.equal(output[last + `\x1b[?${mode}`.length] === "h", on, `mode ${mode}`);
  }
}

async function run(
  command: string,
  act: (pty: Pty) => Promise<void>,
  env: Record<string, string> = {},
): Promise<{ output: string; code: number }> {
  const pty = new Pty(command, ROOT, { columns: 100, rows: 30, env });
  try {
    await pty.until(SEEN, MS);
    await act(pty);
    const code = await pty.end();
    return { output: pty.output, code };
  } finally {
    await pty.kill().catch(() => {});
  }
}

for (const [name, key] of [["q", "q"], ["Ctrl-C", "\x03"]] as const) {
  Deno.test({
    name: `pty: ${name} quits, exit code 0, terminal restored`,
    ignore,
    fn: async () => {
      const { output, code } = await run(START, (pty) => pty.type(key));
      assert.equal(code, 0);
      assertRestored(output);
    },
  });
}

Deno.test({
  name: "pty: SIGTERM restores the terminal",
  ignore,
  fn: async () => {
    // The shell sends the signal some time after the program it starts in the foreground.
    const command =
      "(sleep 4; pkill -TERM -P $$ deno) & deno run -q -P=start --no-prompt main.ts start";
    const { output, code } = await run(command, () => Promise.resolve());
    assert.equal(code, 128 + 15);
    assertRestored(output);
  },
});

Deno.test({
  name: "pty: with NO_COLOR no colour is ever set",
  ignore,
  fn: async () => {
    const { output } = await run(START, (pty) => pty.type("q"), { NO_COLOR: "1" });
    // deno-lint-ignore no-control-regex -- what the terminal is told
    const set = [...output.matchAll(/\x1b\[([0-9;]*)m/g)].flatMap((m) => (m[1] ?? "").split(";"));
    assert.deepEqual(set.filter((n) => /^(3[0-8]|4[0-8]|9[0-7]|10[0-7])$/.test(n)), []);
  },
});
