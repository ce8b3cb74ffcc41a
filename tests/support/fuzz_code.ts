/** Random guest code for fuzzing: mostly valid instructions of every row, device and register accesses among them. */
import { SYSREGS } from "../../src/arm/arch/sysregs.ts";
import { SYSTEM_OPERATIONS } from "../../src/arm/system_operations.ts";
import { type Random, randomInstruction } from "../../src/arm/isa/random.ts";
import type { Row } from "../../src/arm/isa/row.ts";
import { ROWS } from "../../src/arm/isa/table.ts";

/** Bits 31 to 16 of addresses worth pointing at: devices, guest memory, what is not there. */
export const POINTERS: readonly number[] = [
  0x0800,
  0x0801,
  0x080a,
  0x080b,
  0x080c,
  0x080d,
  0x0900,
  0x0a00,
  0x0b00,
  0x4000,
  0x4020,
  // Memory more often than anything else, or there would be nothing but faults.
  ...Array.from({ length: 24 }, (_, i) => 0x4040 + (i % 4)),
  0x4fff,
  0x8000,
  0x0000,
];

/** Registers whose change takes the guest's vectors or translation away from it for the rest of a round. */
const DISRUPTIVE = new Set<string>([
  "VBAR_EL1",
  "SCTLR_EL1",
  "TCR_EL1",
  "TTBR0_EL1",
  "MAIR_EL1",
  "SCTLR_EL12",
  "VBAR_EL12",
]);

/** Rows that stop a CPU, or send it back where it came from: now and then only. */
const RARE = new Set<string>(["WFE_WFI", "ERET"]);
const RARE_ROWS = ROWS.filter((row) => RARE.has(row.name));
const LIKELY_ROWS = ROWS.filter((row) => !RARE.has(row.name));
const MEMORY_ROWS = ROWS.filter((row) => /^(LDST|LDP|STP|LD|ST)/.test(row.name) && hasBase(row));

function hasBase(row: Row): boolean {
  return row.fields.some(({ letter, bits }) => letter === "n" && bits.length === 5);
}

const HVC = 0xd400_0002;
const NOP = 0xd503_201f;
const movz = (d: number, imm: number): number => (0xd2a0_0000 | (imm << 5) | d) >>> 0;
const movk = (d: number, imm: number): number => (0xf280_0000 | (imm << 5) | d) >>> 0;

/** Branches with an offset: its width, and its lowest bit's place. */
const NEAR: Readonly<Record<string, readonly [width: number, shift: number]>> = {
  B: [26, 0],
  BL: [26, 0],
  B_cond: [19, 5],
  CBZ: [19, 5],
  CBNZ: [19, 5],
  CBZ_CBNZ: [19, 5],
  TBZ: [14, 5],
  TBNZ: [14, 5],
  TBZ_TBNZ: [14, 5],
};
const TO_REGISTER = /^(BR|BLR|RET)$/;

/** The branch with an offset of a few instructions, mostly forward. */
function nearBranch(
  random: Random,
  word: number,
  [width, shift]: readonly [number, number],
): number {
  const field = (2 ** width - 1) * 2 ** shift;
  const delta = random.below(60) - 8;
  return ((word & ~field) | ((delta & (2 ** width - 1)) << shift)) >>> 0;
}

/** Where Rn lies in a word. */
const WITHOUT_N = ~(31 << 5);

export interface FuzzOptions {
  /** Also registers and calls that end what a round can do. */
  readonly wild: boolean;
}

/** Makes words one group at a time. */
export class FuzzCode {
  constructor(readonly random: Random, readonly options: FuzzOptions) {}

  /** `count` words. */
  words(count: number): Uint32Array {
    const out: number[] = [];
    while (out.length < count) out.push(...this.#group());
    return Uint32Array.from(out.slice(0, count));
  }

  #group(): number[] {
    const { random } = this;
    const kind = random.below(100);
    if (kind < 58) return this.#any(random.pick(LIKELY_ROWS));
    if (kind < 78) return this.#access();
    if (kind < 90) return [this.#register()];
    if (kind < 95) return [this.#operation()];
    if (kind < 97) return [random.u32()];
    if (kind === 97) return this.#call();
    return [random.below(12) === 0 ? this.#instruction(random.pick(RARE_ROWS)) : NOP];
  }

  /** An instruction of a row; what would leave the code or fault is mostly made not to. */
  #any(row: Row): number[] {
    const { random } = this;
    const word = this.#instruction(row);
    const near = NEAR[row.name];
    if (near !== undefined && random.below(8) !== 0) return [nearBranch(random, word, near)];
    if (TO_REGISTER.test(row.name)) return random.below(8) === 0 ? [word] : [NOP];
    return MEMORY_ROWS.includes(row) && random.below(8) !== 0 ? this.#access(row) : [word];
  }

  #instruction(row: Row): number {
    return randomInstruction(row, this.random).word;
  }

  /** An access to a device or to memory by a pointer made just before. */
  #access(row = this.random.pick(MEMORY_ROWS)): number[] {
    const { random } = this;
    const base = random.below(29);
    const access = this.#instruction(row);
    const pointer = [
      movz(base, random.pick(POINTERS)),
      movk(base, random.below(0x1_0000) & (random.below(8) === 0 ? ~0 : ~15)),
    ];
    return [...pointer, ((access & WITHOUT_N) | (base << 5)) >>> 0];
  }

  /** MRS or MSR of a register that exists. */
  #register(): number {
    const { random } = this;
    for (;;) {
      const { key, name, minEl } = random.pick(SYSREGS);
      if (minEl === 2 && random.below(4) !== 0) continue;
      const read = random.below(2) === 0;
      if (!read && !this.options.wild && DISRUPTIVE.has(name)) continue;
      return ((read ? 0xd520_0000 : 0xd500_0000) | (key << 5) | random.below(32)) >>> 0;
    }
  }

  /** A cache, TLB or translation operation. */
  #operation(): number {
    const { key } = this.random.pick(SYSTEM_OPERATIONS);
    return (0xd500_0000 | (key << 5) | this.random.below(32)) >>> 0;
  }

  /** A call of PSCI or SMCCC. */
  #call(): number[] {
    const { random } = this;
    // CPU_OFF, SYSTEM_OFF, SYSTEM_RESET and their like end a round.
    const harmless = [0x00, 0x04, 0x06, 0x07, 0x0a, 0x14];
    const n = this.options.wild ? random.below(0x18) : random.pick(harmless);
    const family = random.pick([0x8400, 0xc400, 0x8000]);
    return [movz(0, family), movk(0, n), HVC];
  }
}
