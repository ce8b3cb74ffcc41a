import assert from "node:assert/strict";
import fc from "fast-check";
import { encodeKey, modified } from "../../../src/dashboard/terminal/key_names.ts";
import { type InputEvent, KeyDecoder, MAX_PASTE } from "../../../src/dashboard/terminal/keys.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

function decode(input: string | Uint8Array): InputEvent[] {
  const decoder = new KeyDecoder();
  const events = decoder.feed(typeof input === "string" ? bytesOf(input) : input);
  return [...events, ...decoder.flush()];
}

const names = (events: InputEvent[]): string[] =>
  events.map((e) => e.kind === "key" ? e.name : e.kind);

Deno.test("keys by the bytes a terminal sends", () => {
  const table: [string, string][] = [
    ["a", "a"],
    ["G", "G"],
    ["é", "é"],
    ["漢", "漢"],
    ["😀", "😀"],
    [" ", "Space"],
    ["\r", "Enter"],
    ["\n", "Ctrl-J"],
    ["\t", "Tab"],
    ["\x1b[Z", "Shift-Tab"],
    ["\x7f", "Backspace"],
    ["\x08", "Backspace"],
    ["\0", "Ctrl-Space"],
    ["\x03", "Ctrl-C"],
    ["\x10", "Ctrl-P"],
    ["\x1a", "Ctrl-Z"],
    ["\x1d", "Ctrl-]"],
    ["\x1b", "Esc"],
    ["\x1bx", "M-x"],
    ["\x1bX", "M-X"],
    ["\x1b[", "M-["],
    ["\x1bO", "M-O"],
    ["\x1bé", "M-é"],
    ["\x1b\r", "M-Enter"],
    ["\x1b\x03", "Ctrl-M-C"],
    ["\x1b[A", "Up"],
    ["\x1bOA", "Up"],
    ["\x1b[D", "Left"],
    ["\x1b[1;5C", "Ctrl-Right"],
    ["\x1b[1;2B", "Shift-Down"],
    ["\x1b[1;8H", "Ctrl-M-Shift-Home"],
    ["\x1b[H", "Home"],
    ["\x1b[1~", "Home"],
    ["\x1b[4~", "End"],
    ["\x1bOF", "End"],
    ["\x1b[5~", "PgUp"],
    ["\x1b[6;5~", "Ctrl-PgDn"],
    ["\x1b[2~", "Ins"],
    ["\x1b[3~", "Del"],
    ["\x1bOP", "F1"],
    ["\x1b[[A", "F1"],
    ["\x1b[11~", "F1"],
    ["\x1b[15~", "F5"],
    ["\x1b[24~", "F12"],
    ["\x1b[1;2P", "Shift-F1"],
    ["\x1b[97;5u", "Ctrl-A"],
    ["\x1b[13;2u", "Shift-Enter"],
    ["\x1b[27u", "Esc"],
  ];
  for (const [bytes, name] of table) assert.deepEqual(names(decode(bytes)), [name], name);
});

Deno.test("only typed characters carry text, every key its bytes", () => {
  const [a, space, up, alt] = decode("a \x1b[A\x1bx");
  assert.deepEqual(a, { kind: "key", name: "a", text: "a", raw: bytesOf("a") });
  assert.deepEqual(space, { kind: "key", name: "Space", text: " ", raw: bytesOf(" ") });
  assert.deepEqual(up, { kind: "key", name: "Up", text: "", raw: bytesOf("\x1b[A") });
  assert.deepEqual(alt, { kind: "key", name: "M-x", text: "", raw: bytesOf("\x1bx") });
});

Deno.test("a lone Esc waits for flush, and does not take the next key with it", () => {
  const decoder = new KeyDecoder();
  assert.deepEqual(decoder.feed(bytesOf("\x1b")), []);
  assert.equal(decoder.waiting, true);
  assert.deepEqual(names(decoder.flush()), ["Esc"]);
  assert.equal(decoder.waiting, false);
  assert.deepEqual(names(decoder.feed(bytesOf("[A"))), ["[", "A"]);
  assert.deepEqual(names(decode("\x1b\x1b[A")), ["Esc", "Up"]);
});

Deno.test("mouse", () => {
  const base = { kind: "mouse", shift: false, alt: false, ctrl: false };
  const table: [string, object][] = [
    ["\x1b[<0;1;1M", { action: "press", button: "left", x: 0, y: 0 }],
    ["\x1b[<0;200;60m", { action: "release", button: "left", x: 199, y: 59 }],
    ["\x1b[<34;3;4M", { action: "drag", button: "right", x: 2, y: 3 }],
    ["\x1b[<35;3;4M", { action: "move", button: "none", x: 2, y: 3 }],
    ["\x1b[<64;3;4M", { action: "wheel-up", button: "none", x: 2, y: 3 }],
    ["\x1b[<65;3;4M", { action: "wheel-down", button: "none", x: 2, y: 3 }],
    ["\x1b[<21;3;4M", {
      action: "press",
      button: "middle",
      x: 2,
      y: 3,
      shift: true,
      ctrl: true,
    }],
  ];
  for (const [bytes, event] of table) assert.deepEqual(decode(bytes), [{ ...base, ...event }]);
  for (const bad of ["\x1b[<0;0;0M", "\x1b[<0;1M", "\x1b[<;;M", "\x1b[<1;2;3X", "\x1b[<66;2;3M"]) {
    assert.deepEqual(decode(bad), [], bad);
  }
});

Deno.test("a paste is one event, whatever it holds, over any reads", () => {
  const decoder = new KeyDecoder();
  const events = [
    ...decoder.feed(bytesOf("q\x1b[200~rm -rf é\r\x1b[A")),
    ...decoder.flush(),
    ...decoder.feed(bytesOf("\x03q\x1b[20")),
    ...decoder.feed(bytesOf("1~z")),
  ];
  assert.deepEqual(names(events), ["q", "paste", "z"]);
  assert.deepEqual(events[1], { kind: "paste", text: "rm -rf é\r\x1b[A\x03q" });
});

Deno.test("a paste without end comes in bounded pieces", () => {
  const decoder = new KeyDecoder();
  const events = decoder.feed(bytesOf("\x1b[200~" + "x".repeat(MAX_PASTE + 10)));
  assert.deepEqual(names(events), ["paste"]);
});

Deno.test("focus", () => {
  assert.deepEqual(decode("\x1b[I\x1b[O"), [
    { kind: "focus", gained: true },
    { kind: "focus", gained: false },
  ]);
});

Deno.test("answers and garbage become no keys, and the next key is read", () => {
  const garbage = [
    "\x1b]11;rgb:0000/0000/0000\x07",
    "\x1b]0;q\x1b\\",
    "\x1bP1$r0m\x1b\\",
    "\x1b[?62;22c",
    "\x1b[24;80y",
    "\x1b[99~",
    "\x1b[M !!",
    "\x1bOz",
    "\x1b[1$z",
  ];
  for (const text of garbage) assert.deepEqual(names(decode(text + "k")), ["k"], text);
  assert.deepEqual(names(decode(Uint8Array.of(0xff, 0xc3, 0x28, 0x80, 0x6b))), ["(", "k"]);
  assert.deepEqual(names(decode("\x1b[" + "1".repeat(10000) + "k")).at(-1), "k");
});

Deno.test("any bytes in any reads: the same events, none held back for ever", () => {
  const input = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 6 }),
      fc.constantFrom(
        "\x1b[A",
        "\x1b[<0;5;5M",
        "\x1b[200~",
        "\x1b[201~",
        "é漢",
        "\x1b",
        "\x1b]x\x07",
      )
        .map(bytesOf),
    ),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(input, (reads) => {
      const whole = new KeyDecoder();
      const all = Uint8Array.from(reads.flatMap((r) => [...r]));
      const expected = [...whole.feed(all), ...whole.flush()];
      const split = new KeyDecoder();
      const got = [...reads.flatMap((r) => split.feed(r)), ...split.flush()];
      assert.deepEqual(got, expected);
      assert.equal(whole.waiting, false);
    }),
    { numRuns: 500 },
  );
});

Deno.test("names of modified keys are in one order", () => {
  assert.equal(modified("Up", 7), "Ctrl-M-Shift-Up");
  assert.equal(modified("Ctrl-A", 2), "Ctrl-M-A");
  assert.equal(modified("Shift-Tab", 4), "Ctrl-Shift-Tab");
  assert.equal(modified("-", 4), "Ctrl--");
});

Deno.test("what encodeKey sends is read as that key", () => {
  const all = ["a", "?", "Space", "Enter", "Tab", "Shift-Tab", "Esc", "Backspace", "Ctrl-]", "M-x"]
    .concat(["Up", "Home", "End", "PgUp", "PgDn", "Ins", "Del", "F1", "F4", "F5", "F12", "M-Up"])
    .concat(["Ctrl-M-Shift-PgUp", "Shift-F1", "Ctrl-Left", "M-Enter", "Ctrl-M-C", "é"]);
  for (const name of all) assert.deepEqual(names(decode(encodeKey(name))), [name]);
  assert.equal(encodeKey("NoSuchKey").length, 0);
});
