/**
 * Generated code against the evaluator: random programs of all rows, random states, and random splits
 * of the budget; interpreted, translated at once, and translated in part. Every seed is a program; a
 * failure names the seed and the instruction.
 */
import assert from "node:assert/strict";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import type { RegionOptions } from "../../../src/arm/engine/regions.ts";
import { Random, randomInstruction } from "../../../src/arm/isa/random.ts";
import type { Row } from "../../../src/arm/isa/row.ts";
import { sysreg } from "../../../src/arm/arch/sysregs.ts";
import { disassemble, ROWS } from "../../../src/arm/isa/table.ts";
import { CODE_PAGES, FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

const CODE = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);
const SEEDS = 6;
const WORDS = CODE_PAGES * 1024;

/** Registers that are reached inline, which a random key would hardly ever name. */
const KEYS = ["TPIDR_EL0", "TPIDRRO_EL0", "TPIDR_EL1", "SP_EL0", "ELR_EL1", "SPSR_EL1"] as const;
const MORE_KEYS = ["NZCV", "DAIF", "CurrentEL", "FPCR", "FPSR", "CTR_EL0", "DCZID_EL0"] as const;
const DC_ZVA = 0xd50b7420, DC_CVAC = 0xd50b7a20, DC_CVAU = 0xd50b7b20, DC_CIVAC = 0xd50b7e20;
const SYSTEM_WORDS = [...KEYS, ...MORE_KEYS].flatMap((name) => {
  const access = (0xd5100000 | (sysreg(name).key << 5)) >>> 0;
  return [access, (access | 0x200000) >>> 0];
}).concat(DC_ZVA, DC_ZVA, DC_ZVA, DC_ZVA, DC_CVAC, DC_CVAU, DC_CIVAC);

function randomWord(random: Random, rows: readonly Row[]): number {
  const kind = random.below(40);
  if (kind === 0) return random.u32();
  if (kind === 1) return (random.pick(SYSTEM_WORDS) | random.below(32)) >>> 0;
  return randomInstruction(random.pick(rows), random).word;
}

function program(random: Random, rows: readonly Row[] = ROWS): number[] {
  return Array.from({ length: WORDS }, () => randomWord(random, rows));
}

/** Rows that set or use the flags, and some of the rest. */
const FLAG_ROWS = ROWS.filter((row) =>
  /^(ADDS?|SUBS?|AND|ANDS|BIC|CCM|CSEL|ADC|SBC|FCMP|FCSEL)/.test(row.name)
);
const PLAIN_ROWS = ROWS.filter((row) => /^(MOV|ADD|ORR|EOR|UBFM|LDST_uimm|LDP_STP)/.test(row.name));
/** Branches with an offset of 19, 26 or 14 bits, by how the offset is placed. */
const NEAR_BRANCHES: readonly ((random: Random, delta: number) => number)[] = [
  (_, delta) => 0x1400_0000 | (delta & 0x3ff_ffff),
  (_, delta) => 0x9400_0000 | (delta & 0x3ff_ffff),
  ...Array.from(
    { length: 4 },
    () => (random: Random, delta: number) =>
      0x5400_0000 | ((delta & 0x7_ffff) << 5) | random.below(16),
  ),
  (random, delta) =>
    0x3400_0000 | (random.below(4) << 30 & 0x8000_0000) | (random.below(2) << 24) |
    ((delta & 0x7_ffff) << 5) | random.below(31),
  (random, delta) =>
    0x3600_0000 | (random.below(2) << 24) | (random.below(32) << 19) | ((delta & 0x3fff) << 5) |
    random.below(31),
];
const RET = 0xd65f_03c0;

/** All rows that regions have, but for branches and system registers. */
const TRANSLATED_ROWS = ROWS.filter((row) =>
  !row.slow && !/^(B|BL|BR|BLR|RET|B_cond|CBZ|TBZ|MRS|MSR.*|SYS.*)$/.test(row.name)
);

/** A program of short blocks that branch to and fro within their page, call and return; of `rows`, if given. */
function tangle(random: Random, rows?: readonly Row[]): number[] {
  return Array.from({ length: WORDS }, (_, i) => {
    const kind = random.below(20);
    if (kind === 0) return RET;
    if (kind < 6) {
      const span = random.pick([8, 32, 200]);
      let delta = random.below(2 * span) - span || 1;
      // Mostly within the page.
      if ((i & 1023) + delta < 0 || (i & 1023) + delta > 1023) {
        delta = random.below(8) ? -delta : delta;
      }
      return random.pick(NEAR_BRANCHES)(random, delta) >>> 0;
    }
    const some = rows ?? (kind < 14 ? FLAG_ROWS : PLAIN_ROWS);
    return randomInstruction(random.pick(some), random).word;
  });
}

/** Runs `count` instructions on both and says where they part, or undefined. */
function lockstep(fast: FoldedLab, reference: FoldedLab, count: number): string | undefined {
  for (let i = 0; i < count; i++) {
    const word = reference.word();
    const pc = reference.cpu.pc;
    reference.evaluate();
    const took = fast.run(1);
    const difference = took === 1 ? fast.difference(reference) : `took ${took}`;
    if (difference) {
      const text = word < 0 ? "misaligned" : disassemble(word, Number(pc)) ?? "undefined";
      return `step ${i}, 0x${pc.toString(16)}: ${word.toString(16)} ${text}: ${difference}`;
    }
  }
  return undefined;
}

/** One random state: `count` instructions in random portions, against the reference. */
function episode(
  labs: Labs,
  random: Random,
  count: number,
  prepare: (lab: FoldedLab) => void = () => {},
): void {
  const { fast, reference, start } = labs;
  start.randomize(random);
  prepare(start);
  fast.copyFrom(start);
  reference.copyFrom(start);
  for (let left = count; left > 0;) {
    const portion = Math.min(left, 1 + random.below(random.below(4) === 0 ? 3 : count));
    assert.equal(fast.run(portion), portion, "the budget is exact");
    left -= portion;
  }
  for (let i = 0; i < count; i++) reference.evaluate();
  if (!fast.difference(reference)) return;
  const seen = fast.difference(reference);
  fast.copyFrom(start);
  reference.copyFrom(start);
  assert.fail(lockstep(fast, reference, count) ?? `only when run in larger portions: ${seen}`);
}

/** How code gets executed: what is translated, and when. */
const TIERS: Readonly<Record<string, Partial<RegionOptions>>> = {
  interpreted: { hotAfter: 0 },
  "translated at once": { hotAfter: 1, batch: 1 },
  "translated in part": { hotAfter: 3, batch: 4, maxInsns: 12 },
};

/** Episodes of a tangle, and their instructions. */
const EPISODES = 60, LENGTH = 600;

interface Labs {
  readonly fast: FoldedLab;
  readonly reference: FoldedLab;
  readonly start: FoldedLab;
}

function labsWith(
  words: readonly number[],
  tier: Partial<RegionOptions> = { hotAfter: 1, batch: 1 },
): Labs {
  const labs = {
    fast: new FoldedLab(CODE, undefined, tier),
    reference: new FoldedLab(),
    start: new FoldedLab(),
  };
  labs.fast.loadCode(words);
  labs.reference.loadCode(words);
  return labs;
}

for (const [name, tier] of Object.entries(TIERS)) {
  Deno.test(`${name}: generated code and evaluator agree on random programs, in any portions`, () => {
    const evaluated = new Map<string, number>();
    let slow = 0, total = 0, translated = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = new Random(seed);
      const labs = labsWith(program(random), tier);
      for (let n = 0; n < 500; n++) {
        try {
          episode(labs, random, 64);
        } catch (error) {
          throw new Error(`seed ${seed}, episode ${n}`, { cause: error });
        }
      }
      for (const [name, count] of labs.reference.evaluated) {
        evaluated.set(name, (evaluated.get(name) ?? 0) + count);
        total += count;
      }
      for (const count of labs.fast.evaluated.values()) slow += count;
      assert.ok(labs.fast.interruptChecks > 0);
      translated += labs.fast.translated;
    }
    const never = ROWS.filter((row) => !evaluated.has(row.name)).map((row) => row.name);
    assert.deepEqual(never, [], "rows never executed");
    assert.ok(slow < 0.5 * total, `${slow} of ${total} instructions left generated code`);
    assert.equal(translated > 300, tier.hotAfter !== 0, `${translated} translated`);
  });

  for (const [kind, rows] of [["a few rows", undefined], ["all rows", TRANSLATED_ROWS]] as const) {
    Deno.test(`${name}: generated code and evaluator agree on loops, joins and calls of ${kind}`, () => {
      let inRegions = 0;
      for (let seed = 1; seed <= 6; seed++) {
        const random = new Random(1000 + seed);
        const labs = labsWith(tangle(random, rows), tier);
        for (let n = 0; n < EPISODES; n++) {
          try {
            episode(labs, random, LENGTH, (lab) => prepareTangle(lab, random));
          } catch (error) {
            throw new Error(`seed ${seed}, episode ${n}`, { cause: error });
          }
        }
        inRegions += labs.fast.cpu.regionInsns;
      }
      const share = inRegions / (6 * EPISODES * LENGTH);
      assert.ok(share >= (tier.hotAfter === 0 ? 0 : 0.1), `${share} executed by regions`);
    });
  }
}

/** Accesses go through, but for a few; returns come to somewhere in the page at hand; arithmetic is the usual. */
function prepareTangle({ memory, cpu }: FoldedLab, random: Random): void {
  cpu.alignMask = cpu.spAlignMask = 0;
  cpu.fpEnabled = true;
  cpu.fpcr = 0;
  cpu.fpsr = random.below(4) === 0 ? 0 : 0x10;
  const near = (cpu.pc & ~0xfffn) + BigInt(4 * random.below(1024));
  memory.st64(cpu.gpr + 8 * 30, near);
}

Deno.test("interpreter and evaluator agree on memory accesses near page ends", () => {
  const rows = ROWS.filter((row) => /^(LD|ST)/.test(row.name));
  const random = new Random(99);
  const labs = labsWith(program(random, rows));
  for (let n = 0; n < 300; n++) episode(labs, random, 24);
  assert.ok((labs.fast.evaluated.get("LDST_uimm") ?? 0) > 0, "some cross a page");
});

Deno.test("interpreter and evaluator agree on exclusives: of one address, of two that overlap", () => {
  const rows = ROWS.filter((row) => /^(LDX|STX|CLREX)/.test(row.name));
  assert.equal(rows.length, 5);
  const random = new Random(98);
  const labs = labsWith(program(random, rows));
  const { fast, start } = labs;
  let opened = 0, stored = 0;
  for (let n = 0; n < 600; n++) {
    const at = 16n * BigInt(random.below(500));
    episode(labs, random, 10, ({ memory, cpu }) => {
      for (let x = 0; x < 31; x++) {
        memory.st64(cpu.gpr + 8 * x, at + (random.below(8) === 0 ? 8n : 0n));
      }
    });
    if (fast.cpu.monitorOpen) opened++;
    if (fast.data().some((byte, i) => byte !== start.data()[i])) stored++;
  }
  assert.ok(opened > 50 && stored > 50, `${opened} open, ${stored} stored`);
});

/** `words` at the end of the first page, and `b .` after. */
function atPageEnd(before: number, words: readonly number[]): number[] {
  const nop = 0xd503201f, self = 0x14000000;
  const all = new Array<number>(WORDS).fill(nop);
  words.forEach((word, i) => all[1024 - before + i] = word);
  all[1024 - before + words.length] = self;
  return all;
}

const INCREMENT = 0x91000400;

Deno.test("straight-line code goes on from page to page, one instruction at a time", () => {
  const { fast } = labsWith(new Array<number>(WORDS).fill(INCREMENT));
  for (const portion of [1, 7, 1024, 4096, 5000]) {
    fast.cpu.pc = 0x7fff_0000_0ff0n;
    fast.memory.st64(fast.cpu.gpr, 0n);
    for (let n = 0; n < 10_000; n += portion) {
      assert.equal(fast.run(portion), portion);
      const done = BigInt(n + portion);
      assert.equal(fast.memory.ld64(fast.cpu.gpr), done);
      assert.equal(fast.cpu.pc, 0x7fff_0000_0ff0n + 4n * done);
    }
  }
});

Deno.test("branches within a page and across its end, both ways", () => {
  // sub x1, x1, #1; cbnz x1, two on; b . ; add x0, x0, #1; b four back
  const words = [0xd1000421, 0xb5000041, 0x14000000, INCREMENT, 0x17fffffc];
  for (let before = 0; before <= words.length; before++) {
    const { fast } = labsWith(atPageEnd(before, words));
    fast.cpu.pc = BigInt(4096 - 4 * before);
    fast.memory.st64(fast.cpu.gpr, 0n);
    fast.memory.st64(fast.cpu.gpr + 8, 1000n);
    assert.equal(fast.run(10_000), 10_000);
    assert.equal(fast.memory.ld64(fast.cpu.gpr), 999n, `${before} words before the page's end`);
    assert.equal(fast.cpu.pc, BigInt(4096 - 4 * before + 8));
  }
});

Deno.test("a run of no instructions does nothing", () => {
  const { fast } = labsWith([INCREMENT]);
  fast.cpu.pc = 0n;
  assert.equal(fast.run(0), 0);
  assert.equal(fast.cpu.pc, 0n);
});
