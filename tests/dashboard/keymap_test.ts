import assert from "node:assert/strict";
import {
  bindingsOf,
  type Context,
  footer,
  helpSections,
  KEYMAP,
  lookup,
  markdownKeyTable,
  takesText,
} from "../../src/dashboard/keymap.ts";
import { encodeKey } from "../../src/dashboard/terminal/key_names.ts";
import { KeyDecoder } from "../../src/dashboard/terminal/keys.ts";

const CONTEXTS = [...new Set(KEYMAP.map((b) => b.context))] as Context[];

Deno.test("a key means one thing in a context", () => {
  const seen = new Set<string>();
  for (const { keys, context } of KEYMAP) {
    for (const key of keys) {
      assert.ok(!seen.has(`${context} ${key}`), `${context} ${key}`);
      seen.add(`${context} ${key}`);
    }
  }
});

Deno.test("every key can be pressed: its bytes decode to its name", () => {
  for (const { keys } of KEYMAP) {
    for (const key of keys) {
      const decoder = new KeyDecoder();
      const events = [...decoder.feed(encodeKey(key)), ...decoder.flush()];
      assert.deepEqual(events.map((e) => e.kind === "key" ? e.name : e.kind), [key]);
    }
  }
});

Deno.test("the habits of htop, btop, k9s and lazygit", () => {
  const expected: [Context, string, string][] = [
    ["interrupts", "Down", "down"],
    ["interrupts", "j", "down"],
    ["vcpus", "k", "up"],
    ["vcpus", "h", "left"],
    ["vcpus", "l", "right"],
    ["trace", "PgUp", "pageUp"],
    ["trace", "PgDn", "pageDown"],
    ["trace", "g", "first"],
    ["trace", "G", "last"],
    ["list", "Tab", "focusNext"],
    ["list", "3", "focusPanel"],
    ["list", "Enter", "details"],
    ["list", "Esc", "back"],
    ["list", "q", "quit"],
    ["list", "Ctrl-C", "quit"],
    ["list", "Ctrl-Z", "suspend"],
    ["list", "Space", "pause"],
    ["list", "+", "fasterRefresh"],
    ["list", "-", "slowerRefresh"],
    ["list", "z", "resetTotals"],
    ["list", "?", "help"],
    ["list", "/", "filter"],
    ["list", ":", "palette"],
    ["list", "Ctrl-P", "palette"],
    ["list", "r", "line"],
    ["interrupts", "m", "migrate"],
    ["interrupts", "M", "moveVcpu"],
    ["vcpus", "M", "moveVcpu"],
    ["list", "i", "sendSgi"],
    ["list", "s", "stepInstruction"],
    ["list", "S", "stepExit"],
    ["interrupts", "e", "explain"],
    ["console", "Enter", "capture"],
    ["capture", "Ctrl-]", "releaseConsole"],
    ["list", "Z", "zoom"],
    ["interrupts", "f", "follow"],
    ["console", "f", "followTail"],
    ["list", ">", "sortNext"],
    ["list", "d", "counterMode"],
    ["list", "p", "screenshotText"],
    ["list", "P", "screenshotSvg"],
    ["list", "y", "releaseMouse"],
    ["list", "t", "theme"],
  ];
  for (const [context, key, action] of expected) assert.equal(lookup(context, key), action, key);
});

Deno.test("with the console captured one key is ours, Ctrl-C is the guest's", () => {
  const ours = KEYMAP.flatMap((b) => [...b.keys]).filter((k) => lookup("capture", k) !== undefined);
  assert.deepEqual(ours, ["Ctrl-]"]);
});

Deno.test("where text is typed no printable key is taken", () => {
  for (const context of CONTEXTS.filter(takesText)) {
    for (const { keys } of bindingsOf(context)) {
      for (const key of keys) assert.ok([...key].length > 1 && key !== "Space", key);
    }
  }
});

Deno.test("the footer names only keys that work now, by what they do now", () => {
  for (const context of CONTEXTS) {
    const shown = footer(context);
    assert.ok(shown.length > 0, context);
    for (const { key, action } of shown) assert.equal(lookup(context, key), action);
    assert.equal(new Set(shown.map((f) => f.key)).size, shown.length);
  }
  assert.ok(footer("interrupts").some((f) => f.key === "m" && f.label === "Migrate"));
  assert.ok(!footer("vcpus").some((f) => f.key === "m"));
});

Deno.test("help and the Markdown table have every row once", () => {
  const rows = helpSections().flatMap((s) => s.bindings);
  assert.deepEqual(new Set(rows), new Set(KEYMAP));
  const markdown = markdownKeyTable();
  assert.equal(markdown.match(/^\| `/gm)?.length, KEYMAP.length);
  assert.ok(markdown.includes("| `z` | Starts all totals from zero. Asks first. |"));
  assert.ok(markdown.includes("## Console, keyboard captured"));
  for (const { help } of KEYMAP) assert.match(help, /^[A-Z].*\.$/);
});
