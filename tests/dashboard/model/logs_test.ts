import assert from "node:assert/strict";
import { consoleLines, TraceLines } from "../../../src/dashboard/model/logs.ts";
import { VirtualTerminal } from "../../../src/dashboard/terminal/vt.ts";
import { FakeMachine } from "../../screens/fake_machine.ts";

const all = (lines: { first: number; end: number; line(n: number): string }): string[] =>
  Array.from({ length: lines.end - lines.first }, (_, i) => lines.line(lines.first + i));

Deno.test("the trace keeps its numbers while old events go", () => {
  const machine = new FakeMachine(1);
  const { trace } = machine.bridge();
  for (let i = 0; i < 300; i++) machine.emit("kvm_entry", 0, i);
  const lines = new TraceLines().lines(trace, "");
  assert.deepEqual([lines.first, lines.end], [44, 300]);
  assert.match(lines.line(44), /p0 v0 {2}kvm_entry: PC: 0x000000000000002c$/);
  assert.equal(lines.line(43), "");
});

Deno.test("a filtered trace grows, forgets what is overwritten, and starts over with another filter", () => {
  const machine = new FakeMachine(1);
  const { trace } = machine.bridge();
  const log = new TraceLines();
  for (let i = 0; i < 10; i++) machine.emit(i % 2 ? "kvm_entry" : "kvm_hvc_arm64", 0, i, 0, 0);
  let lines = log.lines(trace, "kvm_entry");
  assert.deepEqual([lines.end - lines.first, lines.total], [5, 10]);
  const second = lines.line(lines.first + 1);
  for (let i = 0; i < 248; i++) machine.emit("kvm_wfx_arm64", 0, 0, 0);
  machine.emit("kvm_entry", 0, 99);
  lines = log.lines(trace, "kvm_entry");
  // Events 0 to 2 are gone: one of the five with them, and the others keep their numbers.
  assert.equal(lines.first, 1);
  assert.equal(lines.line(1), second);
  assert.equal(all(lines).length, 5);
  assert.match(lines.line(lines.end - 1), /0063$/);
  assert.equal(all(log.lines(trace, "wfi")).length, 248);
});

Deno.test("console lines keep their numbers while the scrollback forgets", () => {
  const console = new VirtualTerminal({ columns: 20, rows: 2, scrollback: 3 });
  const put = (text: string): void => console.write(new TextEncoder().encode(text));
  for (let i = 0; i < 10; i++) put(`line ${i}\r\n`);
  const lines = consoleLines(console, "");
  assert.deepEqual([lines.first, lines.end], [6, 11]);
  assert.deepEqual(all(lines), ["line 6", "line 7", "line 8", "line 9", ""]);
  assert.deepEqual(all(consoleLines(console, "line !8")), ["line 6", "line 7", "line 9"]);
});
