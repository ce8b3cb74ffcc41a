/** Snapshots in the middle of hot code, and regions that go because there are too many. */
import assert from "node:assert/strict";
import { Asm, COND } from "../../support/asm.ts";
import type { Regions } from "../../../src/arm/engine/regions.ts";
import { interruptedLoop, INTERRUPTS } from "../../support/hot_loop.ts";
import {
  difference,
  LOG_REGISTER,
  logWord,
  MAP,
  off,
  onEveryTier,
  prologue,
  TierMachine,
  TIERS,
} from "../../support/tier_machine.ts";

/** Instructions after which snapshots are taken: within the loop, and within the vectors. */
const MOMENTS = [7_001, 60_013, 151_997];

function interrupted(regions: TierMachine["regions"]): TierMachine {
  const m = new TierMachine(regions);
  interruptedLoop(m);
  return m;
}

for (const [tier, regions] of Object.entries(TIERS)) {
  Deno.test(`${tier}: a snapshot in hot code goes on as the run does, on every tier`, () => {
    for (const moment of MOMENTS) {
      const m = interrupted(regions);
      m.machine.run(moment);
      const taken = m.machine.stateHash();
      const snapshot = m.machine.snapshot();
      m.untilOff();
      assert.equal(m.log().length, INTERRUPTS);
      const end = m.machine.stateHash();
      const others = Object.values(TIERS).map((other) => new TierMachine(other));
      for (const again of [m, ...others]) {
        again.machine.restore(snapshot);
        assert.equal(again.machine.stateHash(), taken, "restored");
        again.untilOff();
        assert.equal(difference(m.machine, again.machine), undefined);
        assert.equal(again.machine.stateHash(), end);
      }
    }
  });
}

Deno.test("code that a snapshot does not have is not run any more", () => {
  for (const regions of Object.values(TIERS)) {
    const m = new TierMachine(regions);
    const a = prologue(m).mov(0, 0).mov(9, MAP.hot).mov(11, 2000).label("loop").blr(9);
    off(logWord(a.subs(11, 11, 1).bCond(COND.NE, "loop"), 0));
    m.load(a).loadAt(MAP.hot, new Asm(MAP.hot).add(0, 0, 1).ret());
    m.machine.run(3000);
    const snapshot = m.machine.snapshot();
    const before = m.x(11);
    m.loadAt(MAP.hot, new Asm(MAP.hot).add(0, 0, 100).ret());
    m.machine.run(2000);
    const other = Number(before - m.x(11));
    assert.ok(other > 100 && Number(m.x(0)) > 100 * (other - 1), "what was loaded is run");
    m.machine.restore(snapshot);
    m.untilOff();
    assert.deepEqual(m.log(), [(2000).toString(16)]);
  }
});

// Many regions

const FUNCTIONS = 40;
/** Rounds of calls, and turns of each function's loop. */
const ROUNDS = 40, TURNS = 24;

/** Calls functions in pages of their own by turns, each of which loops. */
function manyFunctions(m: TierMachine): void {
  const a = prologue(m).mov(0, 0).mov(10, ROUNDS).label("round");
  a.mov(9, MAP.hot).mov(12, FUNCTIONS).label("next").blr(9);
  // Four functions to a page
  a.add(9, 9, 0x400).subs(12, 12, 1).bCond(COND.NE, "next");
  off(logWord(a.subs(10, 10, 1).bCond(COND.NE, "round"), 0));
  for (let i = 0; i < FUNCTIONS; i++) {
    const at = MAP.hot + 0x400 * i;
    const f = new Asm(at).mov(3, TURNS).label("loop").add(0, 0, 1 + i).tbz(3, 0, "even").add(
      0,
      0,
      1,
    );
    m.load(f.label("even").subs(3, 3, 1).bCond(COND.NE, "loop").ret());
  }
  m.load(a);
}
const SUM = ROUNDS * (TURNS * FUNCTIONS * (FUNCTIONS + 1) / 2 + TURNS / 2 * FUNCTIONS);

onEveryTier("many functions by turns", {
  load: manyFunctions,
  check: (m) => {
    assert.deepEqual(m.log(), [SUM.toString(16)]);
    assert.equal(m.x(LOG_REGISTER), BigInt(MAP.log + 8));
    const { regions } = m.machine.interpreter;
    assert.equal(regions.evicted, 0);
  },
});

onEveryTier("many functions by turns, in more pages than are kept predecoded", {
  options: { codePages: 3 },
  load: manyFunctions,
  check: (m) => assert.deepEqual(m.log(), [SUM.toString(16)]),
});

Deno.test("regions and their bytes stay within their bounds", () => {
  const bounds = [{ maxRegions: 1 }, { maxRegions: 5 }, { maxBytes: 3000 }, { maxBytes: 1 }];
  for (const bound of bounds) {
    const m = new TierMachine({ hotAfter: 1, batch: 1, ...bound });
    manyFunctions(m);
    const { regions } = m.machine.interpreter;
    let most = 0, mostBytes = 0;
    while (m.machine.run(500) !== "power") {
      most = Math.max(most, regions.live);
      mostBytes = Math.max(mostBytes, regions.codeBytes);
    }
    assert.deepEqual(m.log(), [SUM.toString(16)]);
    assert.ok(most <= regions.options.maxRegions, `${most} regions`);
    // What was made last is used, however large.
    assert.ok(mostBytes <= Math.max(regions.options.maxBytes, 5000), `${mostBytes} bytes`);
    assert.equal(regions.evicted > 0, "maxBytes" in bound);
  }
});

Deno.test("what had to retire comes back without being translated again", () => {
  const made = (bound: TierMachine["regions"]): Regions => {
    const m = new TierMachine({ hotAfter: 1, batch: 1, ...bound });
    manyFunctions(m);
    m.untilOff();
    return m.machine.interpreter.regions;
  };
  const all = made({}), fewInUse = made({ maxRegions: 5 });
  assert.equal(fewInUse.modules, all.modules);
  assert.equal(fewInUse.codeBytes, all.codeBytes);
});

Deno.test("what is used often stays while other code comes and goes", () => {
  const m = new TierMachine({ hotAfter: 20, batch: 1, maxBytes: 40_000 });
  const a = prologue(m).mov(0, 0).mov(10, ROUNDS).label("round");
  // The first function between any two calls of others.
  a.mov(8, MAP.hot).mov(9, MAP.hot + 0x400).mov(12, FUNCTIONS - 1).label("next").blr(8).blr(9);
  a.add(9, 9, 0x400).subs(12, 12, 1).bCond(COND.NE, "next");
  m.load(off(logWord(a.subs(10, 10, 1).bCond(COND.NE, "round"), 0)));
  for (let i = 0; i < FUNCTIONS; i++) {
    const f = new Asm(MAP.hot + 0x400 * i).mov(3, TURNS).label("loop").add(0, 0, 1);
    m.load(f.subs(3, 3, 1).bCond(COND.NE, "loop").ret());
  }
  const { regions } = m.machine.interpreter;
  const translated: number[] = [];
  regions.onTranslated = ({ pa, run }) => {
    translated.push((pa - MAP.hot) >> 10);
    return run;
  };
  const timesOf = (i: number): number => translated.filter((t) => t === i).length;
  m.untilOff();
  assert.deepEqual(m.log(), [(2 * ROUNDS * TURNS * (FUNCTIONS - 1)).toString(16)]);
  assert.ok(timesOf(0) <= 3, `the first: ${timesOf(0)} times`);
  assert.ok(timesOf(1) > ROUNDS / 2, `the second: ${timesOf(1)} times`);
});
