/**
 * Recorded cases of every row and shape as translated code: once against the record, and some times
 * round a loop against the evaluator.
 */
import assert from "node:assert/strict";
import { shapeKey, shapesOf } from "../../src/arm/isa/random.ts";
import { DECODER } from "../../src/arm/isa/table.ts";
import { isRecorded } from "./cases.ts";
import { EvaluatorDriver } from "./driver.ts";
import { FAMILIES, type Family, type FamilySpec } from "./families.ts";
import { vectorFile } from "./files.ts";
import { knownDifference } from "./known_differences.ts";
import { BATCH, RegionDriver } from "./region_driver.ts";
import { mismatches, prepare } from "./replay.ts";
import {
  CODE,
  CODE_PAGE,
  copyState,
  DATA,
  emptyState,
  type MachineState,
  type Operands,
} from "./state.ts";
import { applyResult, decodeVectors, type Vector } from "./vector.ts";

const NAMES = Object.keys(FAMILIES) as Family[];
const SPECS: Readonly<Record<Family, FamilySpec>> = FAMILIES;
/** Cases of each row and shape; each has 200 or more. */
const CASES = 16;
/** Times round the loop. */
const TURNS = 3;
const MAX_REPORTS = 10;

/**
 * The share of a family's cases that regions execute. Floating point leaves them for what is special, of
 * which the cases are full; a branch that may be taken wants a budget for what is behind it.
 */
function leastInRegions(family: Family): number {
  if (SPECS[family].operands === "float") return 0.2;
  return family === "branches" ? 0.9 : 1;
}

interface Numbered {
  readonly number: number;
  readonly vector: Vector;
}

/** Row and shape of a case, by its last word. */
function formOf({ words }: Vector): string {
  const found = DECODER.decode(words.at(-1) ?? 0);
  return found ? `${found.row.name} ${shapeKey(found.decoded.shape)}` : "";
}

/** Whether a region has the first word: not where the evaluator executes it, or it depends on the register it names. */
function isTranslated({ words: [word = 0] }: Vector): boolean {
  const found = DECODER.decode(word);
  return found !== undefined && !found.row.slow && found.decoded.shape["key"] === undefined;
}

/** Every so many cases of a form, {@link CASES} in all. */
async function chosen(family: Family): Promise<Numbered[]> {
  const every = Math.floor(SPECS[family].cases / CASES);
  const counts = new Map<string, number>();
  const out: Numbered[] = [];
  let number = 0;
  for (const vector of decodeVectors(await vectorFile(family))) {
    const form = formOf(vector);
    const count = counts.get(form) ?? 0;
    counts.set(form, count + 1);
    if (count % every === 0) out.push({ number, vector });
    number++;
  }
  return out;
}

class RegionReplay {
  readonly evaluator = new EvaluatorDriver();
  readonly before = emptyState();
  readonly actual = emptyState();
  readonly expected = emptyState();
  readonly wrong: string[] = [];
  failures = 0;
  loops = 0;
  /** Cases that a region may execute, and those that it did in full. */
  translated = 0;
  inRegion = 0;

  constructor(
    readonly driver: RegionDriver,
    readonly operands: Operands,
    readonly branches: boolean,
  ) {}

  /** Replays at most {@link BATCH} cases side by side. */
  batch(cases: readonly Numbered[]): void {
    const { driver } = this;
    driver.clear();
    for (const { number, vector } of cases) {
      prepare(this.before, number, this.operands, vector);
      driver.add(vector.words, this.before);
    }
    driver.settle();
    const translated = cases.filter(({ vector }) => isTranslated(vector)).length;
    assert.ok(driver.live >= translated, `${driver.live} regions of ${translated}`);
    cases.forEach((one, index) => this.#one(one, index));
  }

  #one({ number, vector }: Numbered, index: number): void {
    prepare(this.before, number, this.operands, vector);
    const once = this.#once(vector, index);
    this.#note(number, vector, once);
    if (!this.branches && once.length === 0) {
      this.#note(number, vector, this.#round(vector, index), "in a loop ");
    }
  }

  #note(number: number, { words }: Vector, wrong: readonly string[], how = ""): void {
    if (wrong.length === 0) return;
    this.failures++;
    if (this.wrong.length >= MAX_REPORTS) return;
    const text = words.map((w) => w.toString(16).padStart(8, "0")).join(" ");
    this.wrong.push(`case ${number} ${how}(${text}): ${wrong.join("; ")}`);
  }

  /** The case as it was recorded, with the branch back if it comes to that. */
  #once(vector: Vector, index: number): string[] {
    const { before, actual, expected, driver } = this;
    copyState(before, actual);
    copyState(before, expected);
    applyResult(expected, vector);
    const { length } = vector.words;
    const goesOn = expected.pc === CODE + 4 * length;
    if (goesOn) expected.pc = CODE;
    else assert.ok(this.branches);
    // A budget for more than what is left of the page: regions take that of what may follow, too.
    const leaves = expected.pc < CODE_PAGE || expected.pc >= DATA;
    const from = driver.regionInsns;
    driver.run(index, goesOn ? length + 1 : length, actual, leaves ? 100 : 0);
    if (isTranslated(vector)) this.translated++;
    if (driver.regionInsns - from === (goesOn ? length + 1 : length)) this.inRegion++;
    return mismatches(expected, actual);
  }

  #round({ words }: Vector, index: number): string[] {
    const { before, actual, expected, driver } = this;
    copyState(before, expected);
    // Write-back may leave the data page.
    if (!this.#evaluated(words, expected)) return [];
    this.loops++;
    copyState(before, actual);
    driver.run(index, TURNS * (words.length + 1), actual);
    return mismatches(expected, actual);
  }

  #evaluated(words: readonly number[], state: MachineState): boolean {
    try {
      for (let i = 0; i < TURNS; i++) {
        state.pc = CODE;
        this.evaluator.run(words, state);
      }
      state.pc = CODE;
      return true;
    } catch {
      return false;
    }
  }
}

function replayed(
  driver: RegionDriver,
  family: Family,
  cases: readonly Numbered[],
): RegionReplay {
  const { operands } = SPECS[family];
  const replay = new RegionReplay(driver, operands, family === "branches");
  for (let i = 0; i < cases.length; i += BATCH) replay.batch(cases.slice(i, i + BATCH));
  return replay;
}

const DRIVER = new RegionDriver();
const COVERED = new Map<string, number>();

for (const family of NAMES) {
  Deno.test(`regions: ${family} does what was recorded, once and in a loop`, async () => {
    const cases = (await chosen(family)).filter(({ number, vector }) => {
      const before = emptyState();
      prepare(before, number, SPECS[family].operands, vector);
      return knownDifference(vector, before) === undefined;
    });
    const { wrong, loops, translated, inRegion } = replayed(DRIVER, family, cases);
    assert.deepEqual(wrong, []);
    assert.ok(family === "branches" || loops > cases.length * 0.6, `${loops} loops`);
    const least = leastInRegions(family) * translated;
    assert.ok(inRegion >= least, `${inRegion} of ${translated} executed by regions`);
    for (const { vector } of cases) {
      const form = formOf(vector);
      COVERED.set(form, (COVERED.get(form) ?? 0) + 1);
    }
  });
}

Deno.test("regions: every row and shape was there", () => {
  const missing: string[] = [];
  for (const family of NAMES) {
    for (const row of SPECS[family].rows.filter(isRecorded)) {
      const byKey = row.name === "MRS" || row.name === "MSR_reg";
      const forms = byKey
        ? [`${row.name} `]
        : [...shapesOf(row).keys()].map((s) => `${row.name} ${s}`);
      for (const form of forms) {
        const keys = byKey ? [...COVERED.keys()].filter((k) => k.startsWith(form)) : [form];
        const count = keys.reduce((sum, key) => sum + (COVERED.get(key) ?? 0), 0);
        if (count < CASES / 2) missing.push(`${form}: ${count}`);
      }
    }
  }
  assert.deepEqual(missing, []);
});

Deno.test("regions: it is the region that is compared", async () => {
  // Whatever it is but the branch back, EOR X17, X17, #1 is translated.
  const driver = new RegionDriver((code, word) =>
    code.decoder.decode(word >>> 26 === 5 ? word : 0xd240_0231)
  );
  const cases = (await chosen("data_processing_register")).slice(0, BATCH);
  const { failures } = replayed(driver, "data_processing_register", cases);
  assert.equal(failures, cases.length);
});
