/**
 * Every key of the dashboard, once. Looking a key up, the footer, the help screen and the key table of the
 * documentation are all made from `KEYMAP`.
 *
 * A key is looked up in the focused context, then in its parents. Contexts that take text or ask a question have no
 * parent, so that nothing happens behind them; with the console captured, every key but one is the guest's.
 */

/** Where a key is pressed. */
export type Context =
  | "global"
  | "list"
  | "vcpus"
  | "interrupts"
  | "trace"
  | "console"
  | "capture"
  | "filter"
  | "palette"
  | "dialog"
  | "help";

/** One row of the key table. */
export interface Binding {
  /** Key names as `terminal/keys.ts` gives them; the first is the one shown in the footer. */
  readonly keys: readonly string[];
  readonly context: Context;
  readonly action: string;
  /** What the footer says; empty keeps it out of there. */
  readonly label: string;
  /** One sentence for the help screen and the documentation. */
  readonly help: string;
  /** Asks before it is done. */
  readonly destructive?: boolean;
}

const digits = ["1", "2", "3", "4", "5", "6", "7", "8", "9"] as const;

/** The key table, in the order in which help and footer show it. */
export const KEYMAP = [
  // Everywhere, unless a context takes all keys.
  {
    keys: ["?", "F1"],
    context: "global",
    action: "help",
    label: "Help",
    help: "Shows every key.",
  },
  {
    keys: ["q", "Ctrl-C", "F10"],
    context: "global",
    action: "quit",
    label: "Quit",
    help: "Quits.",
  },
  {
    keys: ["Space"],
    context: "global",
    action: "pause",
    label: "Pause",
    help: "Pauses the machine, or lets it run.",
  },
  {
    keys: ["s"],
    context: "global",
    action: "stepInstruction",
    label: "Step",
    help: "Pauses, and runs one instruction of the selected vCPU.",
  },
  {
    keys: ["S"],
    context: "global",
    action: "stepExit",
    label: "Step exit",
    help: "Pauses, and runs the selected vCPU to its next exit.",
  },
  {
    keys: ["/"],
    context: "global",
    action: "filter",
    label: "Filter",
    help: "Filters the focused panel while you type; the title shows how many rows match.",
  },
  {
    keys: ["Ctrl-P", ":"],
    context: "global",
    action: "palette",
    label: "Commands",
    help: "Opens the command palette; a few letters of a command find it.",
  },
  {
    keys: ["Tab"],
    context: "global",
    action: "focusNext",
    label: "Next panel",
    help: "Focuses the next panel.",
  },
  {
    keys: ["Shift-Tab"],
    context: "global",
    action: "focusPrevious",
    label: "",
    help: "Focuses the previous panel.",
  },
  {
    keys: digits,
    context: "global",
    action: "focusPanel",
    label: "",
    help: "Focuses the panel with that digit in its title.",
  },
  {
    keys: ["Z"],
    context: "global",
    action: "zoom",
    label: "Zoom",
    help: "Gives the focused panel the whole screen, or takes it back.",
  },
  {
    keys: ["Esc"],
    context: "global",
    action: "back",
    label: "",
    help: "Goes back one step: details, zoom, filter.",
  },
  {
    keys: ["i"],
    context: "global",
    action: "sendSgi",
    label: "SGI",
    help: "Sends an SGI to a vCPU.",
  },
  {
    keys: ["r"],
    context: "global",
    action: "line",
    label: "Raise",
    help: "Raises, lowers or pulses an interrupt line (edge or level, SPI or PPI).",
  },
  {
    keys: ["d"],
    context: "global",
    action: "counterMode",
    label: "Delta/rate/total",
    help: "Shows counters as change since the last frame, per second, or in total.",
  },
  {
    keys: ["z"],
    context: "global",
    action: "resetTotals",
    label: "Reset",
    help: "Starts all totals from zero.",
    destructive: true,
  },
  {
    keys: ["+", "="],
    context: "global",
    action: "fasterRefresh",
    label: "",
    help: "Draws more often.",
  },
  {
    keys: ["-", "_"],
    context: "global",
    action: "slowerRefresh",
    label: "",
    help: "Draws less often.",
  },
  {
    keys: ["c"],
    context: "global",
    action: "capture",
    label: "Console",
    help: "Focuses the console and gives the keyboard to the guest; Ctrl-] takes it back.",
  },
  {
    keys: ["p"],
    context: "global",
    action: "screenshotText",
    label: "",
    help: "Writes the screen to a text file.",
  },
  {
    keys: ["P"],
    context: "global",
    action: "screenshotSvg",
    label: "",
    help: "Writes the screen to an SVG file.",
  },
  {
    keys: ["y"],
    context: "global",
    action: "releaseMouse",
    label: "",
    help: "Releases the mouse, so that the terminal can select text; again takes it back.",
  },
  {
    keys: ["t"],
    context: "global",
    action: "theme",
    label: "",
    help: "Takes the next theme: dark, light, high contrast.",
  },
  {
    keys: ["b"],
    context: "global",
    action: "borders",
    label: "",
    help: "Switches between line and ASCII borders and graphs.",
  },
  {
    keys: ["Ctrl-L"],
    context: "global",
    action: "redraw",
    label: "",
    help: "Draws the whole screen anew.",
  },
  {
    keys: ["Ctrl-Z"],
    context: "global",
    action: "suspend",
    label: "",
    help: "Stops the program and gives the shell back; `fg` continues.",
  },

  // Every panel with rows.
  {
    keys: ["Up", "k"],
    context: "list",
    action: "up",
    label: "",
    help: "Moves one row up.",
  },
  {
    keys: ["Down", "j"],
    context: "list",
    action: "down",
    label: "",
    help: "Moves one row down.",
  },
  {
    keys: ["Left", "h"],
    context: "list",
    action: "left",
    label: "",
    help: "Scrolls left, or to the previous column.",
  },
  {
    keys: ["Right", "l"],
    context: "list",
    action: "right",
    label: "",
    help: "Scrolls right, or to the next column.",
  },
  {
    keys: ["PgUp", "Ctrl-B"],
    context: "list",
    action: "pageUp",
    label: "",
    help: "Moves one page up.",
  },
  {
    keys: ["PgDn", "Ctrl-F"],
    context: "list",
    action: "pageDown",
    label: "",
    help: "Moves one page down.",
  },
  {
    keys: ["g", "Home"],
    context: "list",
    action: "first",
    label: "",
    help: "Moves to the first row.",
  },
  {
    keys: ["G", "End"],
    context: "list",
    action: "last",
    label: "",
    help: "Moves to the last row; a log follows its end again.",
  },
  {
    keys: ["Enter"],
    context: "list",
    action: "details",
    label: "Details",
    help: "Shows everything about the selected row.",
  },
  {
    keys: [">", "."],
    context: "list",
    action: "sortNext",
    label: "Sort",
    help: "Sorts by the next column.",
  },
  {
    keys: ["<", ","],
    context: "list",
    action: "sortPrevious",
    label: "",
    help: "Sorts by the previous column.",
  },
  {
    keys: ["R"],
    context: "list",
    action: "sortReverse",
    label: "",
    help: "Reverses the order.",
  },
  {
    keys: ["f"],
    context: "list",
    action: "follow",
    label: "Follow",
    help: "Keeps the selected row in sight wherever it moves.",
  },

  {
    keys: ["M"],
    context: "vcpus",
    action: "moveVcpu",
    label: "Move vCPU",
    help: "Moves the selected vCPU to another physical CPU.",
  },

  {
    keys: ["m"],
    context: "interrupts",
    action: "migrate",
    label: "Migrate",
    help: "Migrates the selected interrupt to another vCPU.",
  },
  {
    keys: ["M"],
    context: "interrupts",
    action: "moveVcpu",
    label: "",
    help: "Moves the vCPU that the selected interrupt targets to another physical CPU.",
  },
  {
    keys: ["e"],
    context: "interrupts",
    action: "explain",
    label: "Explain",
    help: "Explains step by step where the selected interrupt is, and what it waits for.",
  },

  {
    keys: ["a"],
    context: "interrupts",
    action: "showAll",
    label: "All",
    help: "Shows interrupts that are disabled and idle too, or hides them again.",
  },

  {
    keys: ["f"],
    context: "trace",
    action: "followTail",
    label: "Follow",
    help: "Follows the end of the trace; scrolling up stops that.",
  },

  {
    keys: ["Enter"],
    context: "console",
    action: "capture",
    label: "Type",
    help: "Gives the keyboard to the guest; Ctrl-] takes it back.",
  },
  {
    keys: ["f"],
    context: "console",
    action: "followTail",
    label: "Follow",
    help: "Follows the end of the console; scrolling up stops that.",
  },
  {
    keys: ["Ctrl-]"],
    context: "capture",
    action: "releaseConsole",
    label: "Release keyboard",
    help: "Takes the keyboard back from the guest; every other key, Ctrl-C too, goes to it.",
  },

  {
    keys: ["Enter"],
    context: "filter",
    action: "accept",
    label: "Keep",
    help: "Keeps the filter and goes back to the rows.",
  },
  {
    keys: ["Esc", "Ctrl-C"],
    context: "filter",
    action: "cancel",
    label: "Clear",
    help: "Clears the filter.",
  },

  {
    keys: ["Enter"],
    context: "palette",
    action: "accept",
    label: "Run",
    help: "Runs the selected command.",
  },
  {
    keys: ["Esc", "Ctrl-C"],
    context: "palette",
    action: "cancel",
    label: "Close",
    help: "Closes the palette.",
  },
  {
    keys: ["Up", "Ctrl-P"],
    context: "palette",
    action: "up",
    label: "",
    help: "Selects the command above.",
  },
  {
    keys: ["Down", "Ctrl-N", "Tab"],
    context: "palette",
    action: "down",
    label: "",
    help: "Selects the command below.",
  },

  {
    keys: ["Enter"],
    context: "dialog",
    action: "accept",
    label: "OK",
    help: "Does what the dialog says.",
  },
  {
    keys: ["Esc", "Ctrl-C"],
    context: "dialog",
    action: "cancel",
    label: "Cancel",
    help: "Leaves everything as it is.",
  },
  {
    keys: ["Tab", "Down"],
    context: "dialog",
    action: "down",
    label: "Next field",
    help: "Goes to the next field.",
  },
  {
    keys: ["Shift-Tab", "Up"],
    context: "dialog",
    action: "up",
    label: "",
    help: "Goes to the previous field.",
  },
  {
    keys: ["Left"],
    context: "dialog",
    action: "left",
    label: "",
    help: "Takes the previous choice.",
  },
  {
    keys: ["Right"],
    context: "dialog",
    action: "right",
    label: "Choose",
    help: "Takes the next choice.",
  },

  {
    keys: ["Esc", "q", "?", "F1"],
    context: "help",
    action: "cancel",
    label: "Close",
    help: "Closes the help.",
  },
  {
    keys: ["Ctrl-C"],
    context: "help",
    action: "quit",
    label: "",
    help: "Quits.",
  },
  {
    keys: ["Up", "k"],
    context: "help",
    action: "up",
    label: "",
    help: "Scrolls up.",
  },
  {
    keys: ["Down", "j"],
    context: "help",
    action: "down",
    label: "Scroll",
    help: "Scrolls down.",
  },
  {
    keys: ["PgUp", "Ctrl-B"],
    context: "help",
    action: "pageUp",
    label: "",
    help: "Scrolls one page up.",
  },
  {
    keys: ["PgDn", "Ctrl-F", "Space"],
    context: "help",
    action: "pageDown",
    label: "",
    help: "Scrolls one page down.",
  },
] as const satisfies readonly Binding[];

/** Everything a key can ask for. */
export type ActionId = typeof KEYMAP[number]["action"];

const TABLE: readonly (Binding & { readonly action: ActionId })[] = KEYMAP;

/** Where a key is looked up that a context does not have; undefined: it does nothing. */
const PARENT: Readonly<Record<Context, Context | undefined>> = {
  global: undefined,
  list: "global",
  vcpus: "list",
  interrupts: "list",
  trace: "list",
  console: "list",
  capture: undefined,
  filter: undefined,
  palette: undefined,
  dialog: undefined,
  help: undefined,
};

const HEADINGS: Readonly<Record<Context, string>> = {
  global: "Everywhere",
  list: "Panels with rows",
  vcpus: "vCPUs",
  interrupts: "Interrupts",
  trace: "Trace",
  console: "Console",
  capture: "Console, keyboard captured",
  filter: "Filter",
  palette: "Command palette",
  dialog: "Dialogs",
  help: "Help",
};

/** A context and its parents, innermost first. */
function chain(context: Context): Context[] {
  const parent = PARENT[context];
  return parent === undefined ? [context] : [context, ...chain(parent)];
}

/** Whether typed characters belong to the context (an input line, the guest) and not to the keymap. */
export function takesText(context: Context): boolean {
  return context === "capture" || context === "filter" || context === "palette" ||
    context === "dialog";
}

/** The row that a key means in a context, or undefined. */
function findBinding(
  context: Context,
  key: string,
): (Binding & { readonly action: ActionId }) | undefined {
  for (const place of chain(context)) {
    const found = TABLE.find((b) => b.context === place && b.keys.includes(key));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** What a key means in a context, or undefined. */
export function lookup(context: Context, key: string): ActionId | undefined {
  return findBinding(context, key)?.action;
}

/** The rows that work in a context, innermost first, without those whose every key means something else there. */
export function bindingsOf(context: Context): (Binding & { readonly action: ActionId })[] {
  const rows = chain(context).flatMap((place) => TABLE.filter((b) => b.context === place));
  return rows.filter((row) => row.keys.some((key) => findBinding(context, key) === row));
}

/** What the footer shows: a key that works now, and its label. */
export function footer(context: Context): { key: string; label: string; action: ActionId }[] {
  return bindingsOf(context).filter((b) => b.label !== "").map((row) => {
    const key = row.keys.find((k) => findBinding(context, k) === row) ?? "";
    return { key, label: row.label, action: row.action };
  });
}

/** The help, a section for each context that has keys of its own. */
export function helpSections(): { heading: string; bindings: readonly Binding[] }[] {
  return (Object.keys(HEADINGS) as Context[]).map((context) => ({
    heading: HEADINGS[context],
    bindings: TABLE.filter((b) => b.context === context),
  }));
}

function markdownRow(row: Binding): string {
  const keys = row.keys.map((k) => "`" + k.replaceAll("|", "\\|") + "`").join(" ");
  return `| ${keys} | ${row.help}${row.destructive ? " Asks first." : ""} |`;
}

/** The key table for the documentation, as Markdown. */
export function markdownKeyTable(): string {
  return helpSections().map(({ heading, bindings }) =>
    [`## ${heading}`, "", "| keys | what they do |", "| --- | --- |", ...bindings.map(markdownRow)]
      .join("\n") + "\n"
  ).join("\n");
}
