/** Calls in hot code: deep ones, returns to elsewhere, two stacks by turns, jumps through tables. */
import assert from "node:assert/strict";
import { Asm, COND } from "../../support/asm.ts";
import {
  logWord,
  MAP,
  off,
  onEveryTier,
  prologue,
  TierMachine,
} from "../../support/tier_machine.ts";

const STACK = MAP.data + 0x8000;
/** STP X29, X30, [SP, #-16]! and LDP X29, X30, [SP], #16 */
const PUSH = 0xa9bf_7bfd, POP = 0xa8c1_7bfd;
/** add sp, xn, #0 */
const toSp = (n: number): number => 0x9100_001f | (n << 5);

function withStack(m: TierMachine): Asm {
  return prologue(m).mov(1, STACK).word(toSp(1)).mov(0, 0);
}

for (const quantum of [53, 150, 5000]) {
  onEveryTier(`recursion 400 deep, in one page and between two (turns of ${quantum})`, {
    options: { quantum },
    load: (m) => {
      // x1 levels: x0 += x1 on the way in, x0 ^= x1 on the way out.
      const level = (at: number, into: (a: Asm) => Asm, call: (a: Asm) => Asm) => {
        const a = into(new Asm(at).label("start").word(PUSH)).subs(1, 1, 1).bCond(COND.EQ, "last");
        m.load(call(a).label("last").add(1, 1, 1).eor(0, 0, 1).word(POP).ret());
      };
      level(MAP.hot, (a) => a.addReg(0, 0, 1), (a) => a.bl("start"));
      level(MAP.hot + 0x1000, (a) => a.add(0, 0, 1), (a) => a.blr(9));
      level(MAP.hot + 0x2000, (a) => a.add(0, 0, 2), (a) => a.blr(8));
      const a = withStack(m).mov(7, MAP.hot).mov(8, MAP.hot + 0x1000).mov(9, MAP.hot + 0x2000);
      a.mov(10, 30);
      a.label("loop").mov(1, 400).blr(7);
      logWord(a, 0).mov(1, 400).blr(8);
      off(logWord(a, 0).subs(10, 10, 1).bCond(COND.NE, "loop"));
      m.load(a);
    },
    check: (m) => {
      let x0 = 0n;
      const out = () => {
        for (let n = 1n; n <= 400n; n++) x0 ^= n;
      };
      const expected = Array.from({ length: 30 }, () => {
        for (let n = 400n; n > 0n; n--) x0 += n;
        out();
        const first = x0;
        for (let n = 0; n < 400; n++) x0 += n % 2 ? 2n : 1n;
        out();
        return [first, x0];
      }).flat();
      assert.deepEqual(m.log(), expected.map((x) => x.toString(16)));
    },
  });

  onEveryTier(
    `functions that return to their caller's caller, or behind the call (turns of ${quantum})`,
    {
      options: { quantum },
      load: (m) => {
        const f = new Asm(MAP.hot).word(PUSH).add(0, 0, 1).bl("inner").add(0, 0, 0x10).word(POP)
          .ret();
        // By bit 0 of x10 to the caller, by bit 1 over an instruction, or back
        f.label("inner").tbz(10, 0, "over").word(POP).ret();
        f.label("over").tbz(10, 1, "plain").add(30, 30, 4).ret().label("plain").ret();
        const a = withStack(m).mov(9, MAP.hot).mov(10, 400).label("loop").blr(9).add(0, 0, 0x100);
        m.load(f, off(logWord(a.subs(10, 10, 1).bCond(COND.NE, "loop"), 0)));
      },
      check: (m) => {
        let x0 = 0;
        for (let i = 400; i > 0; i--) x0 += 0x101 + (i & 1 || i & 2 ? 0 : 0x10);
        assert.deepEqual(m.log(), [x0.toString(16)]);
      },
    },
  );

  onEveryTier(`two stacks by turns, as coroutines (turns of ${quantum})`, {
    options: { quantum },
    load: (m) => {
      // yield: swaps SP with x19 and the return address with x20
      const yielding = new Asm(MAP.hot).word(0x9100_03e3, toSp(19)).movReg(19, 3);
      yielding.movReg(3, 30).movReg(30, 20).movReg(20, 3).ret();
      const a = withStack(m).mov(19, STACK - 0x1000).mov(9, MAP.hot).adr(20, "second").mov(10, 300);
      a.label("first").word(PUSH).add(0, 0, 1).blr(9).word(POP).subs(10, 10, 1);
      a.bCond(COND.NE, "first").b("done");
      a.label("second").word(PUSH).add(0, 0, 0x10).blr(9).word(PUSH).add(0, 0, 0x100).blr(9);
      a.word(POP, POP).b("second").label("done");
      m.load(yielding, off(logWord(a, 0)));
    },
    check: (m) => assert.deepEqual(m.log(), [(300 + 150 * 0x110).toString(16)]),
  });

  onEveryTier(`jumps through a table, within a page and out of it (turns of ${quantum})`, {
    options: { quantum },
    load: (m) => {
      const a = withStack(m).mov(10, 600).mov(12, MAP.data);
      // and x3, x10, #7; ldr x4, [x12, x3, lsl #3]; br x4
      a.label("loop").word(0x9240_0943, 0xf863_7984).br(4);
      for (let i = 0; i < 6; i++) a.label(`case ${i}`).add(0, 0, 1 << i).b("next");
      a.label("next").subs(10, 10, 1).bCond(COND.NE, "loop");
      off(logWord(a, 0));
      for (let i = 0; i < 8; i++) {
        const at = MAP.hot + 0x1000 * i;
        const far = new Asm(at).add(0, 0, 1 << i).mov(4, a.addressOf("next")).br(4);
        if (i >= 6) m.load(far);
        m.put64(MAP.data + 8 * i, BigInt(i < 6 ? a.addressOf(`case ${i}`) : at));
      }
      m.load(a);
    },
    check: (m) => assert.deepEqual(m.log(), [(75 * 255).toString(16)]),
  });
}
