/**
 * An Environment of flat memory without translation or traps: one range of virtual addresses,
 * no alignment checks, and of the system registers those that any program may use. The exclusive
 * monitor is the CPU's, as generated code has it.
 */
import type { SharedMemory } from "../../src/base/memory.ts";
import { type Cpu } from "../../src/arm/arch/cpu_state.ts";
import { sysreg } from "../../src/arm/arch/sysregs.ts";
import type { Environment } from "../../src/arm/engine/environment.ts";
import type { AccessOptions, AccessSize } from "../../src/arm/isa/builder.ts";

/** Where the flat range lies: `size` bytes at virtual address `va`, at byte `at` of the memory. */
export interface FlatRange {
  readonly va: number;
  readonly size: number;
  readonly at: number;
}

const KEY = {
  NZCV: sysreg("NZCV").key,
  FPCR: sysreg("FPCR").key,
  FPSR: sysreg("FPSR").key,
} as const;

/** Thrown for what a test of plain instructions must not do. */
export class NotFlat extends Error {
  override readonly name = "NotFlat";
}

export class FlatEnvironment implements Environment {
  constructor(
    readonly cpu: Cpu,
    readonly memory: SharedMemory,
    readonly range: FlatRange,
  ) {}

  /** Byte offset in the memory of `size` bytes at `va`. NotFlat outside the range. */
  protected at(va: bigint, size: number): number {
    const offset = Number(va) - this.range.va;
    if (offset < 0 || offset + size > this.range.size) {
      throw new NotFlat(`address 0x${va.toString(16)}`);
    }
    return this.range.at + offset;
  }

  load(va: bigint, size: AccessSize, _options: AccessOptions): bigint {
    return this.memory.getUnsigned(this.at(va, size), size);
  }
  store(va: bigint, size: AccessSize, value: bigint, _options: AccessOptions): void {
    this.memory.setUnsigned(this.at(va, size), size, value);
  }

  loadExclusive(va: bigint, size: AccessSize, count: 1 | 2, _options: AccessOptions): bigint[] {
    const { cpu } = this;
    const at = this.at(va, size * count);
    const values = this.#elements(at, size, count);
    const [lo, hi] = this.#joined(values, size);
    cpu.monitorOpen = 1;
    cpu.monitorAt = at;
    cpu.monitorSize = size * count;
    cpu.monitorLo = lo;
    cpu.monitorHi = hi;
    return values;
  }

  storeExclusive(va: bigint, size: AccessSize, values: bigint[], _options: AccessOptions): 0 | 1 {
    const { cpu } = this;
    const at = this.at(va, size * values.length);
    const [lo, hi] = this.#joined(this.#elements(at, size, values.length), size);
    const matches = cpu.monitorOpen === 1 && cpu.monitorAt === at &&
      cpu.monitorSize === size * values.length && cpu.monitorLo === lo && cpu.monitorHi === hi;
    cpu.monitorOpen = 0;
    if (!matches) return 1;
    values.forEach((value, i) => this.memory.setUnsigned(at + i * size, size, value));
    return 0;
  }

  #elements(at: number, size: AccessSize, count: number): bigint[] {
    return Array.from({ length: count }, (_, i) => this.memory.getUnsigned(at + i * size, size));
  }

  /** The elements as the monitor keeps them: two words make one value. */
  #joined(values: readonly bigint[], size: AccessSize): [bigint, bigint] {
    const [first = 0n, second = 0n] = values;
    return size === 8 ? [first, second] : [first | (second << BigInt(8 * size)), 0n];
  }

  atomic(
    va: bigint,
    size: AccessSize,
    count: 1 | 2,
    update: (old: readonly bigint[]) => readonly bigint[] | undefined,
  ): readonly bigint[] {
    const at = this.at(va, size * count);
    const old = this.#elements(at, size, count);
    update(old)?.forEach((value, i) => this.memory.setUnsigned(at + i * size, size, value));
    return old;
  }

  clearExclusive(): void {
    this.cpu.monitorOpen = 0;
  }
  checkSp(_base: bigint): void {}
  fpAccess(): void {}

  mrs(key: number): bigint {
    if (key === KEY.NZCV) return BigInt(this.cpu.nzcv) << 28n;
    if (key === KEY.FPCR) return BigInt(this.cpu.fpcr);
    if (key === KEY.FPSR) return BigInt(this.cpu.fpsr);
    throw new NotFlat(`MRS of 0x${key.toString(16)}`);
  }
  msr(key: number, value: bigint): void {
    const low = Number(value & 0xffff_ffffn);
    if (key === KEY.NZCV) this.cpu.nzcv = low >>> 28;
    else if (key === KEY.FPCR) this.cpu.fpcr = low;
    else if (key === KEY.FPSR) this.cpu.fpsr = low;
    else throw new NotFlat(`MSR of 0x${key.toString(16)}`);
  }

  msrImmediate(): void {
    throw new NotFlat("MSR (immediate)");
  }
  sys(): void {
    throw new NotFlat("SYS");
  }
  sysl(): bigint {
    throw new NotFlat("SYSL");
  }
  exceptionCall(): never {
    throw new NotFlat("exception call");
  }
  barrier(): void {}
  hint(): void {}
  eret(): void {
    throw new NotFlat("ERET");
  }
  undefined(): never {
    throw new NotFlat("UNDEFINED");
  }
}
