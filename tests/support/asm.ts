/**
 * A small assembler for guests of a few instructions, written in tests. Operands are register numbers
 * (31 is XZR, or SP where the manual says so); system registers go by name; branches to labels.
 */
import { type SysregName, SYSREGS } from "../../src/arm/arch/sysregs.ts";

const KEYS = new Map<string, number>(SYSREGS.map(({ name, key }) => [name, key]));

function keyOf(name: SysregName): number {
  const key = KEYS.get(name);
  if (key === undefined) throw new RangeError(`no system register ${name}`);
  return key;
}

/** Condition codes of B.cond. */
export const COND = { EQ: 0, NE: 1, HS: 2, LO: 3, HI: 8, LS: 9 } as const;

interface Patch {
  readonly at: number;
  readonly label: string;
  /** The bits of the word for a branch over `delta` words. */
  readonly bits: (delta: number) => number;
}

const imm26 = (delta: number): number => delta & 0x3ff_ffff;
const imm19 = (delta: number): number => (delta & 0x7_ffff) << 5;
const imm14 = (delta: number): number => (delta & 0x3fff) << 5;

/** Instructions appended one by one; `words` makes the program. */
export class Asm {
  readonly #words: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #patches: Patch[] = [];

  /** `base`: the address of the first word. */
  constructor(readonly base: number) {}

  /** The address of the next instruction. */
  get here(): number {
    return this.base + 4 * this.#words.length;
  }

  /** The program; RangeError for a label that is nowhere. */
  words(): number[] {
    const out = [...this.#words];
    for (const { at, label, bits } of this.#patches) {
      const to = this.#labels.get(label);
      if (to === undefined) throw new RangeError(`no label ${label}`);
      out[at] = ((out[at] as number) | bits(to - at)) >>> 0;
    }
    return out;
  }

  /** The address of a label that has been placed. */
  addressOf(label: string): number {
    const to = this.#labels.get(label);
    if (to === undefined) throw new RangeError(`no label ${label}`);
    return this.base + 4 * to;
  }

  word(...words: readonly number[]): this {
    for (const w of words) this.#words.push(w >>> 0);
    return this;
  }
  label(name: string): this {
    this.#labels.set(name, this.#words.length);
    return this;
  }
  /** NOPs up to `address`. */
  org(address: number): this {
    if (address < this.here) throw new RangeError(`0x${address.toString(16)} is behind`);
    while (this.here < address) this.nop();
    return this;
  }
  #branch(word: number, label: string, bits: Patch["bits"]): this {
    this.#patches.push({ at: this.#words.length, label, bits });
    return this.word(word);
  }

  nop(): this {
    return this.word(0xd503_201f);
  }
  wfi(): this {
    return this.word(0xd503_207f);
  }
  isb(): this {
    return this.word(0xd503_3fdf);
  }
  eret(): this {
    return this.word(0xd69f_03e0);
  }
  hvc(): this {
    return this.word(0xd400_0002);
  }
  svc(immediate = 0): this {
    return this.word(0xd400_0001 | (immediate << 5));
  }
  dsb(): this {
    return this.word(0xd503_3f9f);
  }
  /** Xd = value, by as many MOVZ and MOVK as it takes. */
  mov(d: number, value: number | bigint): this {
    const wide = BigInt.asUintN(64, BigInt(value));
    let first = true;
    for (let hw = 0; hw < 4; hw++) {
      const part = Number((wide >> BigInt(16 * hw)) & 0xffffn);
      if (part === 0 && !(first && hw === 3)) continue;
      this.word((first ? 0xd280_0000 : 0xf280_0000) | (hw << 21) | (part << 5) | d);
      first = false;
    }
    return this;
  }
  /** Xd = Xn. */
  movReg(d: number, n: number): this {
    return this.word(0xaa00_03e0 | (n << 16) | d);
  }
  /** Xd = Xn + imm (0 to 4095). */
  add(d: number, n: number, imm: number): this {
    if (imm < 0 || imm > 4095) throw new RangeError(`an immediate of ${imm}`);
    return this.word(0x9100_0000 | (imm << 10) | (n << 5) | d);
  }
  addReg(d: number, n: number, m: number): this {
    return this.word(0x8b00_0000 | (m << 16) | (n << 5) | d);
  }
  /** Xd = Xn + (Xm << shift). */
  addShifted(d: number, n: number, m: number, shift: number): this {
    return this.word(0x8b00_0000 | (m << 16) | (shift << 10) | (n << 5) | d);
  }
  /** Bits `lsb` to `lsb + width - 1` of Xd = the low bits of Xn. */
  bfi(d: number, n: number, lsb: number, width: number): this {
    return this.word(0xb340_0000 | ((64 - lsb) << 16) | ((width - 1) << 10) | (n << 5) | d);
  }
  /** Xd = Xn without bit `bit` (AND with 63 ones, rotated). */
  clearBit(d: number, n: number, bit: number): this {
    return this.word(0x9240_0000 | ((63 - bit) << 16) | (62 << 10) | (n << 5) | d);
  }
  /** Xd = Xn - imm, setting flags. */
  subs(d: number, n: number, imm: number): this {
    return this.word(0xf100_0000 | (imm << 10) | (n << 5) | d);
  }
  /** Compares Xn with Xm. */
  cmp(n: number, m: number): this {
    return this.word(0xeb00_001f | (m << 16) | (n << 5));
  }
  eor(d: number, n: number, m: number): this {
    return this.word(0xca00_0000 | (m << 16) | (n << 5) | d);
  }
  orr(d: number, n: number, m: number): this {
    return this.word(0xaa00_0000 | (m << 16) | (n << 5) | d);
  }
  andReg(d: number, n: number, m: number): this {
    return this.word(0x8a00_0000 | (m << 16) | (n << 5) | d);
  }
  mul(d: number, n: number, m: number): this {
    return this.word(0x9b00_7c00 | (m << 16) | (n << 5) | d);
  }
  lsr(d: number, n: number, shift: number): this {
    return this.word(0xd340_fc00 | (shift << 16) | (n << 5) | d);
  }
  /** 64-bit load from [Xn, offset] (a multiple of 8). */
  ldr(t: number, n: number, offset = 0): this {
    return this.word(0xf940_0000 | ((offset / 8) << 10) | (n << 5) | t);
  }
  str(t: number, n: number, offset = 0): this {
    return this.word(0xf900_0000 | ((offset / 8) << 10) | (n << 5) | t);
  }
  /** 32-bit load from [Xn, offset] (a multiple of 4). */
  ldrW(t: number, n: number, offset = 0): this {
    return this.word(0xb940_0000 | ((offset / 4) << 10) | (n << 5) | t);
  }
  strW(t: number, n: number, offset = 0): this {
    return this.word(0xb900_0000 | ((offset / 4) << 10) | (n << 5) | t);
  }
  /** Qt from [Xn, offset] (a multiple of 16). */
  ldrQ(t: number, n: number, offset = 0): this {
    return this.word(0x3dc0_0000 | ((offset / 16) << 10) | (n << 5) | t);
  }
  strQ(t: number, n: number, offset = 0): this {
    return this.word(0x3d80_0000 | ((offset / 16) << 10) | (n << 5) | t);
  }
  b(label: string): this {
    return this.#branch(0x1400_0000, label, imm26);
  }
  bl(label: string): this {
    return this.#branch(0x9400_0000, label, imm26);
  }
  blr(n: number): this {
    return this.word(0xd63f_0000 | (n << 5));
  }
  br(n: number): this {
    return this.word(0xd61f_0000 | (n << 5));
  }
  ret(): this {
    return this.word(0xd65f_03c0);
  }
  bCond(cond: number, label: string): this {
    return this.#branch(0x5400_0000 | cond, label, imm19);
  }
  /** Xd = the address of `label`. */
  adr(d: number, label: string): this {
    return this.#branch(0x1000_0000 | d, label, imm19);
  }
  cbz(t: number, label: string): this {
    return this.#branch(0xb400_0000 | t, label, imm19);
  }
  cbnz(t: number, label: string): this {
    return this.#branch(0xb500_0000 | t, label, imm19);
  }
  /** Branches when bit `bit` (0 to 31) of Xt is clear. */
  tbz(t: number, bit: number, label: string): this {
    return this.#branch(0x3600_0000 | (bit << 19) | t, label, imm14);
  }
  msr(name: SysregName, t: number): this {
    return this.word(0xd500_0000 | (keyOf(name) << 5) | t);
  }
  mrs(t: number, name: SysregName): this {
    return this.word(0xd520_0000 | (keyOf(name) << 5) | t);
  }
  /** DC CVAU and IC IVAU of the address in Xt, and IC IALLU. */
  dcCvau(t: number): this {
    return this.word(0xd50b_7b20 | t);
  }
  icIvau(t: number): this {
    return this.word(0xd50b_7520 | t);
  }
  icIallu(): this {
    return this.word(0xd508_751f);
  }
  /** TLBI VMALLE1, and VAE1 and ASIDE1 with the operand in Xt. */
  tlbiVmalle1(): this {
    return this.word(0xd508_871f);
  }
  tlbiVae1(t: number): this {
    return this.word(0xd508_8720 | t);
  }
  tlbiAside1(t: number): this {
    return this.word(0xd508_8740 | t);
  }
  /** MSR PAN, #on. */
  pan(on: 0 | 1): this {
    return this.word(0xd500_409f | (on << 8));
  }
  /** MSR DAIFSet or DAIFClr with the four bits of `mask`. */
  daifSet(mask: number): this {
    return this.word(0xd503_40df | (mask << 8));
  }
  daifClr(mask: number): this {
    return this.word(0xd503_40ff | (mask << 8));
  }
}
