/**
 * Options as a table: reading them from arguments, and the help made from them. A library for this
 * loads much of what Node is made of, which took longer than making a machine does.
 */
import { UserError } from "../base/errors.ts";

/** One option of a command. */
export interface OptionSpec {
  /** As help shows it: `--kernel <file>`, or `--bare` for one that has no value. */
  readonly flags: string;
  readonly about: string;
  /** The value where the option is not given. */
  readonly otherwise?: string;
  readonly choices?: readonly string[];
  /** May be given several times: its value is a list. */
  readonly several?: boolean;
}

/** One command of the program, which takes nothing but options. */
export interface CommandSpec {
  readonly name: string;
  readonly about: string;
  readonly options: readonly OptionSpec[];
}

/** Values by name without the dashes: text, whether it was given where it takes no value, or all that were given. */
export type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

const nameOf = ({ flags }: OptionSpec): string => (flags.split(" ")[0] as string).slice(2);
const takesValue = ({ flags }: OptionSpec): boolean => flags.includes("<");

/** Insertions, deletions and changes of a character that make `a` of `b`, or swaps of neighbours. */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  const at = (i: number, j: number) => rows[i]?.[j] ?? Infinity;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const changed = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
        ? at(i - 2, j - 2) + 1
        : Infinity;
      row.push(Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, changed, swapped));
    }
  }
  return at(a.length, b.length);
}

/** Mistakes in a name for which a suggestion is made. */
const MAX_DISTANCE = 3;

/** ` (Did you mean ...?)` where one of `names` is much like `word`. */
export function suggestion(word: string, names: readonly string[], prefix = ""): string {
  let best: string | undefined;
  let least = MAX_DISTANCE + 1;
  for (const name of names) {
    const mistakes = distance(word, name);
    if (mistakes >= least || mistakes > Math.max(word.length, name.length) * 0.6) continue;
    [best, least] = [name, mistakes];
  }
  return best === undefined ? "" : ` (Did you mean ${prefix}${best}?)`;
}

function checkChoice({ flags, choices }: OptionSpec, value: string): void {
  if (choices === undefined || choices.includes(value)) return;
  throw new UserError(
    `option '${flags}' argument '${value}' is invalid. Allowed choices are ${choices.join(", ")}.`,
  );
}

/**
 * The values that `args` give to the options of `command`, or "help". A value follows as the next
 * argument, whatever that looks like, or behind `=`. UserError for a mistake, in one line.
 */
export function parseOptions(command: CommandSpec, args: readonly string[]): Values | "help" {
  const { options } = command;
  const values: Record<string, string | boolean | string[] | undefined> = {};
  for (const o of options) {
    values[nameOf(o)] = o.several ? [] : takesValue(o) ? o.otherwise : false;
  }
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === "--help" || arg === "-h") return "help";
    if (!arg.startsWith("-")) throw new UserError(`${command.name} takes only options, not ${arg}`);
    const [, name = "", joined] = /^--([^=]*)(?:=([^]*))?$/.exec(arg) ?? [];
    const option = options.find((o) => nameOf(o) === name);
    if (option === undefined) {
      const similar = name === "" ? "" : suggestion(name, options.map(nameOf), "--");
      throw new UserError(`unknown option '${arg}'${similar}`.replaceAll("\n", " "));
    }
    values[name] = valueOf(option, joined, rest, values[name]);
  }
  return values;
}

/** The option's value after it was given once more, taken off `rest` where it is not `joined` to the name. */
function valueOf(
  option: OptionSpec,
  joined: string | undefined,
  rest: string[],
  before: Values[string],
): string | boolean | string[] {
  if (!takesValue(option)) {
    if (joined === undefined) return true;
    throw new UserError(`option '${option.flags}' has no value`);
  }
  const value = joined ?? rest.shift();
  if (value === undefined) throw new UserError(`option '${option.flags}' argument missing`);
  checkChoice(option, value);
  return Array.isArray(before) ? [...before, value] : value;
}

const WIDTH = 80;

/** `text` in lines of at most `width` characters, broken at spaces. */
function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1) as string;
    if (line === "") lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** Two columns under a heading, the second wrapped. */
export function helpTable(heading: string, rows: readonly (readonly [string, string])[]): string {
  const indent = 4 + Math.max(...rows.map(([left]) => left.length));
  const lines = rows.flatMap(([left, right]) =>
    wrap(right, WIDTH - indent).map((line, i) => (i === 0 ? `  ${left}` : "").padEnd(indent) + line)
  );
  return `${heading}:\n${lines.join("\n")}\n`;
}

export const HELP_ROW = ["-h, --help", "print this help"] as const;

function aboutOf({ about, choices, otherwise }: OptionSpec): string {
  const notes = [
    ...(choices === undefined ? [] : [`choices: ${choices.join(", ")}`]),
    ...(otherwise === undefined || otherwise === "" ? [] : [`default: ${otherwise}`]),
  ];
  return notes.length === 0 ? about : `${about} (${notes.join("; ")})`;
}

/** What a command is, and its options. */
export function commandHelp(program: string, { name, about, options }: CommandSpec): string {
  const rows = options.map((o) => [o.flags, aboutOf(o)] as const);
  const table = helpTable("Options", [...rows, HELP_ROW]);
  return `Usage: ${program} ${name} [options]\n\n${about}\n\n${table}`;
}
