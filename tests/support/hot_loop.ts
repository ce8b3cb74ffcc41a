/**
 * A loop with something of everything that translated code keeps to itself: registers, flags, pages
 * at hand, calls; and memory accesses of all kinds, by base registers with a page each.
 */
import { type Asm, COND } from "./asm.ts";
import {
  logWord,
  MAP,
  off,
  openGic,
  prologue,
  PTE,
  type TierMachine,
  vectors,
} from "./tier_machine.ts";

/** The base registers of the loop, 31 being SP; each has a page of its own at {@link pageOf}. */
export const BASES = [12, 13, 14, 15, 16, 31] as const;

/** Virtual address of the page of a base register, and the physical one. */
export function pageOf(base: number): number {
  return MAP.alias + 0x10_0000 + 0x1000 * BASES.indexOf(base as (typeof BASES)[number]);
}
export function pageBehind(base: number): number {
  return MAP.data + 0x1000 * BASES.indexOf(base as (typeof BASES)[number]);
}

/** An instruction, and of one that accesses memory: the base register, whether it reads and writes. */
type Line = readonly [word: number, base?: (typeof BASES)[number], access?: "r" | "w" | "rw"];

const LINES: readonly Line[] = [
  [0xf940_0583, 12, "r"], // ldr x3, [x12, #8]
  [0xa941_1584, 12, "r"], // ldp x4, x5, [x12, #16]
  [0xab04_0063], // adds x3, x3, x4
  [0x9a1f_00a6], // adc x6, x5, xzr
  [0xf800_8583, 12, "w"], // str x3, [x12], #8
  [0xa9bf_19a4, 13, "w"], // stp x4, x6, [x13, #-16]!
  [0x3840_15c7, 14, "r"], // ldrb w7, [x14], #1
  [0x7900_41c7, 14, "w"], // strh w7, [x14, #32]
  [0xb980_41c8, 14, "r"], // ldrsw x8, [x14, #64]
  [0x3dc0_09e0, 15, "r"], // ldr q0, [x15, #32]
  [0xad42_09e1, 15, "r"], // ldp q1, q2, [x15, #64]
  [0x4ea1_8400], // add v0.4s, v0.4s, v1.4s
  [0x1e61_2844], // fadd d4, d2, d1
  [0xfc67_69e5, 15, "r"], // ldr d5, [x15, x7]
  [0x3c81_05e0, 15, "w"], // str q0, [x15], #16
  [0xad03_05e0, 15, "w"], // stp q0, q1, [x15, #96]
  [0x4c40_a1e5, 15, "r"], // ld1 {v5.16b, v6.16b}, [x15]
  [0x4c00_89e5, 15, "w"], // st2 {v5.4s, v6.4s}, [x15]
  [0xeb05_007f], // cmp x3, x5
  [0xfa43_1882], // ccmp x4, #3, #2, ne
  [0x9a84_8068], // csel x8, x3, x4, hi
  [0xc85f_7e09, 16, "r"], // ldxr x9, [x16]
  [0x8b08_0129], // add x9, x9, x8
  [0xc80a_7e09, 16, "w"], // stxr w10, x9, [x16]
  [0xf828_0209, 16, "rw"], // ldadd x8, x9, [x16]
  [0xc89f_fe09, 16, "w"], // stlr x9, [x16]
  [0xc8df_fe09, 16, "r"], // ldar x9, [x16]
  [0xf81f_0fe9, 31, "w"], // str x9, [sp, #-16]!
  [0xf841_07e9, 31, "r"], // ldr x9, [sp], #16
  [0xfa03_0126], // sbcs x6, x9, x3
  [0x9a9f_77e7], // cset x7, vs
  // The pointers stay in their pages
  [0x9274_f18c], // and x12, x12, #0xfffffffffffff1ff
  [0x9274_f1ce], // and x14, x14, #0xfffffffffffff1ff
  [0x9274_f1ef], // and x15, x15, #0xfffffffffffff1ff
  [0xb275_01ad], // orr x13, x13, #0x800
];

/** An access of the loop. */
export interface Access {
  readonly at: number;
  readonly base: number;
  readonly writes: boolean;
}

/** Where the loop's parts are. */
export interface HotLoop {
  readonly entry: number;
  /** All its instructions, callees included. */
  readonly addresses: readonly number[];
  readonly accesses: readonly Access[];
}

/** Virtual address of the function in another page that the loop calls through X17. */
export const FAR_FUNCTION = MAP.alias;

/**
 * Appends the loop as a function at the end of `a`: X11 turns, return by X18. Its pages and its
 * other function are mapped and loaded.
 */
export function hotLoop(m: TierMachine, a: Asm): HotLoop {
  const entry = a.here;
  const accesses: Access[] = [];
  a.label("hot loop");
  for (const [word, base, access] of LINES) {
    if (base !== undefined) accesses.push({ at: a.here, base, writes: access !== "r" });
    a.word(word);
  }
  a.bl("near").tbz(11, 0, "even").add(1, 1, 1).label("even").blr(17);
  a.subs(11, 11, 1).bCond(COND.NE, "hot loop").br(18);
  // It calls on, too: ret x2
  a.label("near").movReg(2, 30).add(1, 1, 3).bl("nearer").word(0xd65f_0040);
  a.label("nearer").eor(1, 1, 3).ret();
  const addresses = Array.from({ length: (a.here - entry) / 4 }, (_, i) => entry + 4 * i);
  loadFarFunction(m, a);
  for (const base of BASES) m.tables.map(pageOf(base), pageBehind(base), PTE.RW);
  return { entry, addresses, accesses };
}

function loadFarFunction(m: TierMachine, { base }: Asm): void {
  const pa = MAP.hot + 0x8000;
  if (base === pa) throw new RangeError("the loop is where its function goes");
  // add x1, x1, x9; ret
  m.put64(pa, 0xd65f_03c0_8b09_0021n);
  m.tables.map(FAR_FUNCTION, pa, PTE.RW);
}

/** Sets the loop's registers, and calls it `turns` times round; it comes back. */
export function enterHotLoop(a: Asm, turns: number): Asm {
  setPointers(a);
  return callHotLoop(a, turns);
}
/** The same with the registers as they are. */
export function callHotLoop(a: Asm, turns: number): Asm {
  const back = `hot back ${a.here}`;
  return a.mov(11, turns).adr(18, back).b("hot loop").label(back);
}
/** Gives the base registers and what the loop calls their values. */
export function setPointers(a: Asm): Asm {
  for (const base of BASES) {
    if (base !== 31) a.mov(base, pageOf(base) + (base === 13 ? 0xff0 : 0x100));
    // add sp, x0, #0
    else a.mov(0, pageOf(31) + 0x800).word(0x9100_001f);
  }
  return a.mov(17, FAR_FUNCTION);
}

// The loop with a timer

const TIMER_PPI = 30;
const SLED = 32;
/** Interrupts until the guest is through. */
export const INTERRUPTS = 4000;

/**
 * Vectors for interrupts: log where it was, set the timer to a few ticks from now, and go through
 * a different number of NOPs each time, so that the next one comes an instruction later.
 */
function interruptVectors(): Asm {
  const a = vectors();
  a.label("sync").b("sync");
  a.label("irq").mrs(20, "ICC_IAR1_EL1").mrs(21, "ELR_EL1");
  logWord(a, 21);
  a.mrs(22, "CNTPCT_EL0").add(22, 22, 7).msr("CNTP_CVAL_EL0", 22).msr("ICC_EOIR1_EL1", 20);
  a.add(24, 24, 1).mov(25, INTERRUPTS).cmp(24, 25).bCond(COND.LO, "go on");
  a.mov(22, 0).msr("CNTP_CTL_EL0", 22).mov(11, 1);
  // and x25, x24, #31
  a.label("go on").word(0x9240_1319).adr(26, "sled").addShifted(26, 26, 25, 2).br(26).label("sled");
  for (let i = 0; i < SLED; i++) a.nop();
  return a.eret();
}

/** Loads a guest that runs the loop until the timer has interrupted it {@link INTERRUPTS} times. */
export function interruptedLoop(m: TierMachine): HotLoop {
  const a = openGic(prologue(m), 1 << TIMER_PPI).mov(24, 0);
  a.mrs(1, "CNTPCT_EL0").add(1, 1, 300).msr("CNTP_CVAL_EL0", 1).mov(1, 1).msr("CNTP_CTL_EL0", 1);
  a.daifClr(2);
  off(enterHotLoop(a, 60_000));
  const loop = hotLoop(m, a);
  m.load(a, interruptVectors());
  return loop;
}
