/** The guest's console as a terminal: full-screen programs, answers, keys and pastes. */
import assert from "node:assert/strict";
import { Session, start } from "./session.ts";

/** What the guest got since the last call. */
function typed(s: Session): string {
  return new TextDecoder().decode(s.machine.input.read());
}

/** The console panel's rows, without its frame. */
function consoleRows(s: Session): string[] {
  const first = s.rows.findIndex((row) => row.includes("Console"));
  return s.rows.slice(first + 1).map((row) => row.split(/[│┃]/)[1]?.trimEnd() ?? "");
}

/** A session whose console has the whole screen and whose guest has the keyboard. */
async function captured(): Promise<Session> {
  const s = await start({ columns: 80, rows: 26 });
  await s.keys("6", "Z", "c");
  await s.pass();
  return s;
}

Deno.test("with the keyboard the guest's terminal has the size that is seen, and it can ask for it", async () => {
  const s = await captured();
  typed(s);
  s.machine.print("\x1b[999;999H\x1b[6n");
  await s.pass();
  const [, rows, columns] = /^\[(\d+);(\d+)R$/.exec(typed(s).slice(1)) ?? [];
  const seen = consoleRows(s).findIndex((row) => row === "");
  assert.equal(Number(columns), 78, "the panel without its frame");
  assert.ok(Number(rows) > 3 && seen >= 0, `${rows} rows`);
  assert.ok(s.text.includes(` 78x${rows}, follows `), "the frame says what stty is to be told");
  await s.resize(100, 40);
  await s.pass();
  s.machine.print("\x1b[999;999H\x1b[6n");
  await s.pass();
  assert.match(typed(s).slice(1), /^\[\d+;98R$/);
  s.close();
});

Deno.test("a full-screen program draws, scrolls its region, and leaves the shell's screen as it was", async () => {
  const s = await captured();
  s.machine.print("\x1b[2J\x1b[H# vi notes\r\n");
  await s.pass();
  s.machine.print("\x1b[?1049h\x1b[H\x1b[2J\x1b[1;3rone\r\ntwo\r\nthree\x1b[5;1H-- INSERT --");
  await s.pass();
  assert.deepEqual(consoleRows(s).slice(0, 5), ["one", "two", "three", "", "-- INSERT --"]);
  s.machine.print("\x1b[3;1H\r\nfour\x1b[1;1H\x1bMzero\x1b[r");
  await s.pass();
  assert.deepEqual(consoleRows(s).slice(0, 5), ["zero", "two", "three", "", "-- INSERT --"]);
  s.machine.print("\x1b[?1049l# ");
  await s.pass();
  assert.deepEqual(consoleRows(s).slice(0, 3), ["# vi notes", "#", ""]);
  s.close();
});

Deno.test("line editing as a shell does it: insert, delete, the cursor where the guest has it", async () => {
  const s = await captured();
  s.machine.print("\x1b[2J\x1b[H/ # cat fle\b\b\x1b[@i\x1b[6n");
  await s.pass();
  assert.equal(consoleRows(s)[0], "/ # cat file");
  assert.equal(typed(s), "\x1b[1;11R");
  s.machine.print("\r\x1b[4C\x1b[4P");
  await s.pass();
  assert.equal(consoleRows(s)[0], "/ # file");
  s.close();
});

Deno.test("arrows are sent in the form that the guest asks for; Ctrl-C, Tab and Esc as they are", async () => {
  const s = await captured();
  typed(s);
  await s.keys("Up", "Left", "Ctrl-C", "Tab", "Esc", "Backspace");
  assert.equal(typed(s), "\x1b[A\x1b[D\x03\t\x1b\x7f");
  s.machine.print("\x1b[?1h");
  await s.pass();
  await s.keys("Up", "Home", "Del");
  assert.equal(typed(s), "\x1bOA\x1bOH\x1b[3~");
  s.machine.print("\x1b[?1l");
  await s.pass();
  await s.keys("Down");
  assert.equal(typed(s), "\x1b[B");
  s.close();
});

Deno.test("a paste ends its lines as Enter does, and stands in brackets when the guest wants them", async () => {
  const s = await captured();
  typed(s);
  await s.raw("\x1b[200~one\ntwo\r\nthree\x1b[201~");
  assert.equal(typed(s), "one\rtwo\rthree");
  s.machine.print("\x1b[?2004h");
  await s.pass();
  await s.raw("\x1b[200~a\nb\x1b[201~");
  assert.equal(typed(s), "\x1b[200~a\rb\x1b[201~");
  s.close();
});

Deno.test("a guest that asks without end does not fill its own input", async () => {
  const s = await captured();
  typed(s);
  let total = 0;
  for (let i = 0; i < 20; i++) {
    s.machine.print("\x1b[6n".repeat(5000));
    await s.pass();
  }
  for (let i = 0; i < 50; i++) {
    total += typed(s).length;
    await s.pass();
  }
  assert.ok(total < 100_000, `${total} bytes`);
  s.close();
});

Deno.test("in a replay the guest's questions are not answered again", async () => {
  const s = await start({ replaying: true });
  typed(s);
  s.machine.print("\x1b[6n\x1b[c");
  await s.pass();
  assert.equal(typed(s), "");
  s.close();
});
