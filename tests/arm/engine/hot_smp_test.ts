/** Two CPUs in the same hot code: each with its own translation, and one that changes what the other runs. */
import assert from "node:assert/strict";
import { Asm, COND } from "../../support/asm.ts";
import {
  LOG_REGISTER,
  logWord,
  MAP,
  off,
  onEveryTier,
  prologue,
  PTE,
  Tables,
  TierMachine,
} from "../../support/tier_machine.ts";

const CODE_VA = MAP.alias, DATA_VA = MAP.alias + 0x1000;
const FLAG = MAP.data + 0x8000, LOG1 = MAP.log + 0x1_0000;
const TURNS = 400;

/** CPU 0 goes on at label `first`, CPU 1, with its own log, at `second`. */
function parted(m: TierMachine, root1: number): Asm {
  const a = prologue(m).cbz(0, "first");
  a.mov(LOG_REGISTER, LOG1).mov(1, root1).msr("TTBR0_EL1", 1).tlbiVmalle1().dsb().isb();
  return a.b("second");
}

/** CPU 0: waits for CPU 1, and powers off. CPU 1: says that it has ended. */
function end(a: Asm, cpu: 0 | 1): Asm {
  a.mov(13, FLAG);
  if (cpu === 1) return a.mov(3, 1).str(3, 13).label("sleep").wfi().b("sleep");
  return off(a.label("wait").ldr(3, 13).cbz(3, "wait"));
}

for (const quantum of [37, 150, 1000]) {
  onEveryTier(
    `two CPUs in one hot function, whose pages are elsewhere for each (turns of ${quantum})`,
    {
      options: { pcpus: 2, quantum },
      load: (m) => {
        const other = new Tables(m);
        // The page of code is shared; of another one, and of data, each has its own.
        const f = new Asm(CODE_VA).ldr(3, 12).addReg(3, 3, 0).str(3, 12).add(0, 0, 1);
        f.movReg(2, 30).blr(9).word(0xd65f_0040);
        m.loadAt(MAP.hot, f);
        [1, 0x100].forEach((n, i) =>
          m.loadAt(MAP.hot + 0x1000 * (1 + i), new Asm(CODE_VA).add(1, 1, n).ret())
        );
        [m.tables, other].forEach((tables, i) => {
          tables.map(CODE_VA, MAP.hot, PTE.RW).map(DATA_VA, MAP.data + 0x1000 * i, PTE.RW);
          tables.map(CODE_VA + 0x2000, MAP.hot + 0x1000 * (1 + i), PTE.RW);
        });
        const a = parted(m, other.root);
        for (const [cpu, label] of [[0, "first"], [1, "second"]] as const) {
          a.label(label).mov(0, 0).mov(1, 0).mov(8, CODE_VA).mov(9, CODE_VA + 0x2000).mov(
            12,
            DATA_VA,
          );
          a.mov(11, TURNS + 100 * cpu).label(`loop ${cpu}`).blr(8).subs(11, 11, 1);
          end(logWord(a.bCond(COND.NE, `loop ${cpu}`), 1), cpu);
        }
        m.load(a);
      },
      check: (m) => {
        const sum = (n: number) => BigInt(n * (n - 1) / 2);
        assert.equal(m.get64(MAP.data), sum(TURNS));
        assert.equal(m.get64(MAP.data + 0x1000), sum(TURNS + 100));
        assert.deepEqual(m.log(0), [TURNS.toString(16)]);
        assert.deepEqual(m.log(1, LOG1), [((TURNS + 100) * 0x100).toString(16)]);
      },
    },
  );
}

for (const what of ["its code", "its mapping"] as const) {
  onEveryTier(`one CPU changes ${what} while the other runs it`, {
    options: { pcpus: 2, quantum: 90 },
    load: (m) => {
      m.loadAt(MAP.hot, new Asm(CODE_VA).add(1, 1, 1).ret());
      m.loadAt(MAP.hot + 0x1000, new Asm(CODE_VA).add(1, 1, 2).ret());
      m.tables.map(CODE_VA, MAP.hot, PTE.RW);
      const a = parted(m, m.tables.root);
      // CPU 1 calls all the time, and logs when what is added changes.
      a.label("second").mov(1, 0).mov(8, CODE_VA).mov(4, 0).mov(10, 60);
      a.label("call").movReg(5, 1).blr(8).word(0xcb05_0025).cmp(5, 4).bCond(COND.EQ, "call");
      end(logWord(a.movReg(4, 5), 4).subs(10, 10, 1).bCond(COND.NE, "call"), 1);
      // CPU 0 makes it "add 1" and "add 2" by turns.
      a.label("first").mov(2, what === "its code" ? MAP.hot : m.tables.entryOf(CODE_VA)).mov(
        13,
        FLAG,
      );
      const [one, two] = what === "its code"
        ? [0x9100_0421, 0x9100_0821]
        : [BigInt(MAP.hot) | PTE.RW, BigInt(MAP.hot + 0x1000) | PTE.RW];
      a.mov(5, one).mov(6, two).mov(8, CODE_VA / 4096).label("change");
      if (what === "its code") a.strW(6, 2).dcCvau(2).dsb().icIvau(2).dsb().isb();
      // TLBI VAE1IS, X8
      else a.str(6, 2).dsb().word(0xd508_8328).dsb().isb();
      a.movReg(3, 5).movReg(5, 6).movReg(6, 3).mov(3, 150).label("spin").subs(3, 3, 1);
      off(a.bCond(COND.NE, "spin").ldr(3, 13).cbz(3, "change"));
      m.load(a);
    },
    check: (m) => {
      const log = m.log(1, LOG1);
      assert.equal(log.length, 60);
      assert.ok(
        log.every((word, i) => word === (i === 0 ? log[0] : log[i - 1] === "1" ? "2" : "1")),
      );
    },
  });
}
