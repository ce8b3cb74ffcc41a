/**
 * Writes docs/keys.md, the keys of the dashboard, from the one key table:
 *
 *     deno run docs/generate_keys.ts > docs/keys.md
 */
import { markdownKeyTable } from "../src/dashboard/keymap.ts";

const HEAD = `<!-- deno-fmt-ignore-file -->
<!-- Generated from src/dashboard/keymap.ts: deno run docs/generate_keys.ts > docs/keys.md -->

# Keys of the dashboard

A key is looked up in the focused panel first, then in "Panels with rows", then in "Everywhere". The console with its
keyboard captured, the filter, the palette, dialogs and the help have only their own keys. \`?\` shows this table in the
dashboard, and the bottom line shows the keys that work now.

`;

/** The whole page as Markdown. */
export function keysPage(): string {
  return HEAD + markdownKeyTable();
}

if (import.meta.main) console.log(keysPage().trimEnd());
