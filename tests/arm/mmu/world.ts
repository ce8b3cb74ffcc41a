/** A machine of CPUs, RAM and an MMU without anything else, and translation tables built in its RAM. */
import { Arena } from "../../../src/base/arena.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import { type Cpu, CpuLayout, sysregOffset } from "../../../src/arm/arch/cpu_state.ts";
import { R, type SysregName } from "../../../src/arm/arch/sysregs.ts";
import {
  ACCESS,
  type Access,
  DATA_TLB,
  DATA_TLB_ENTRIES,
  DATA_TLB_ENTRY,
  type RamRange,
} from "../../../src/arm/arch/tlb_layout.ts";
import { contextBytes, type Fill, Mmu } from "../../../src/arm/mmu/mmu.ts";

const MIB = 2 ** 20;
export const RAM_PA = 0x4000_0000;
export const RAM_SIZE = 32 * MIB;
/** Where tests put what is mapped; tables are below it. */
export const DATA_PA = RAM_PA + 16 * MIB;

export const lo32 = (value: bigint): number => Number(value & 0xffff_ffffn);
export const hi32 = (value: bigint): number => Number((value >> 32n) & 0xffff_ffffn);

export class World {
  readonly memory: SharedMemory;
  readonly ram: RamRange;
  readonly mmu: Mmu;
  readonly cpus: Cpu[];
  #nextTable = RAM_PA;

  constructor(cpuCount = 1, xnx = true) {
    const state = 64 * 1024 * Math.ceil(2 + contextBytes(cpuCount) / 65536);
    this.memory = SharedMemory.create(state + RAM_SIZE);
    const arena = new Arena("caches", this.memory, 4096, state);
    this.ram = { pa: RAM_PA, size: RAM_SIZE, at: state };
    this.cpus = Array.from({ length: cpuCount }, (_, index) => {
      const cpu = arena.make(CpuLayout);
      cpu.index = index;
      return cpu;
    });
    this.mmu = new Mmu(this.memory, this.ram, arena, cpuCount, { xnx });
  }

  get cpu(): Cpu {
    return this.cpus[0] as Cpu;
  }

  /** Sets system registers of a CPU without telling the MMU. */
  set(registers: Partial<Record<SysregName, bigint>>, cpu = this.cpu): void {
    for (const [name, value] of Object.entries(registers)) {
      this.memory.st64(cpu.base + sysregOffset(R[name as SysregName]), value);
    }
  }

  get(name: SysregName, cpu = this.cpu): bigint {
    return this.memory.ld64(cpu.base + sysregOffset(R[name]));
  }

  /** Moves a CPU to an exception level. */
  enter(el: number, cpu = this.cpu): void {
    cpu.el = el;
    this.mmu.contextChanged(cpu);
  }

  /** `count` zeroed pages for tables, aligned to all of them. */
  tablePages(count = 1): number {
    const size = 4096 * count;
    const pa = Math.ceil(this.#nextTable / size) * size;
    this.#nextTable = pa + size;
    return pa;
  }

  at(pa: number): number {
    return this.ram.at + pa - RAM_PA;
  }

  translate(
    va: bigint,
    access: Access = ACCESS.READ,
    el = this.cpu.el,
    unprivileged = false,
  ): boolean {
    return this.mmu.translate(this.cpu, lo32(va), hi32(va), access, el, unprivileged);
  }

  fill(va: bigint, access: Access, size = 1, unprivileged = false, cpu = this.cpu): Fill {
    return this.mmu.fillData(cpu, lo32(va), hi32(va), access, size, unprivileged);
  }

  /** The hit test of generated code: where in the shared memory the access goes, or -1. */
  lookup(va: bigint, access: Access, size = 1, unprivileged = false, cpu = this.cpu): number {
    const tlb = unprivileged ? cpu.tlbUnprivileged : cpu.tlb;
    const index = Number((va >> 12n) & BigInt(DATA_TLB_ENTRIES - 1));
    const entry = tlb + index * DATA_TLB_ENTRY;
    const last = BigInt.asUintN(64, va + BigInt(size - 1)) & ~0xfffn;
    const compare = last | (va & BigInt(size - 1) & BigInt(cpu.alignMask));
    const tag = access === ACCESS.READ ? DATA_TLB.READ_TAG : DATA_TLB.WRITE_TAG;
    if (this.memory.ld64(entry + tag) !== compare) return -1;
    return (lo32(va) + this.memory.ld32(entry + DATA_TLB.ADDEND)) >>> 0;
  }
}

/** Descriptor fields. */
export const D = {
  TABLE: 3n,
  BLOCK: 1n,
  PAGE: 3n,
  attrIndex: (n: number): bigint => BigInt(n) << 2n,
  memAttr: (n: number): bigint => BigInt(n) << 2n,
  /** AP[2:1], or S2AP. */
  ap: (n: number): bigint => BigInt(n) << 6n,
  INNER: 3n << 8n,
  AF: 1n << 10n,
  NG: 1n << 11n,
  PXN: 1n << 53n,
  UXN: 1n << 54n,
  PXN_TABLE: 1n << 59n,
  XN_TABLE: 1n << 60n,
  /** APTable. */
  apTable: (n: number): bigint => BigInt(n) << 61n,
} as const;

/** Readable and writable at EL1 only, Normal memory (MAIR index 0), accessed. */
export const KERNEL = D.AF | D.INNER | D.ap(0);
/** Readable and writable at EL0 too. */
export const USER = D.AF | D.INNER | D.ap(1) | D.NG;
/** Stage 2: all allowed, Normal Write-Back. */
export const S2_ALL = D.AF | D.INNER | D.ap(3) | D.memAttr(15);

/** Index 0: Normal Write-Back, 1: Device-nGnRE, 2: Non-cacheable, 3: Write-Through. */
export const MAIR = 0xaa_44_04_ffn;

const shiftOf = (level: number): bigint => BigInt(39 - 9 * level);

/**
 * One tree of tables. `delta`: what to add to a physical address for the address that descriptors
 * hold (stage 1 tables behind a stage 2 that is not the identity).
 */
export class Tables {
  readonly root: number;

  constructor(
    readonly world: World,
    readonly startLevel: number,
    rootPages = 1,
    readonly delta = 0,
  ) {
    this.root = world.tablePages(rootPages);
  }

  /** The root as descriptors and TTBR say it. */
  get base(): bigint {
    return BigInt(this.root + this.delta);
  }

  /** Byte offset in the shared memory of the descriptor of `address` at `level`; tables are made on the way. */
  entry(address: bigint, level: number): number {
    const { memory } = this.world;
    let table = this.root;
    for (let at = this.startLevel;; at++) {
      const mask = at === this.startLevel ? 0x1fffn : 0x1ffn;
      const index = Number(((address & 0xffff_ffff_ffffn) >> shiftOf(at)) & mask);
      const entry = this.world.at(table) + 8 * index;
      if (at === level) return entry;
      if ((memory.ld64(entry) & 1n) === 0n) {
        memory.st64(entry, BigInt(this.world.tablePages() + this.delta) | D.TABLE);
      }
      table = Number(memory.ld64(entry) & 0xffff_ffff_f000n) - this.delta;
    }
  }

  /** Writes a raw descriptor. */
  put(address: bigint, level: number, descriptor: bigint): void {
    this.world.memory.st64(this.entry(address, level), descriptor);
  }

  /** Sets bits of the descriptor there is. */
  or(address: bigint, level: number, bits: bigint): void {
    const entry = this.entry(address, level);
    this.world.memory.st64(entry, this.world.memory.ld64(entry) | bits);
  }

  /** Maps a page (level 3) or block to `out`. */
  map(address: bigint, out: number, attributes: bigint, level = 3): void {
    this.put(address, level, BigInt(out) | attributes | (level === 3 ? D.PAGE : D.BLOCK));
  }
}

/** TCR_EL1 of two ranges of `64 - tsz` bits, 4 KiB granule, 48-bit output, 16-bit ASIDs. */
export function tcr(t0sz: number, t1sz = t0sz): bigint {
  const ips = 5n << 32n;
  const as16 = 1n << 36n;
  return BigInt(t0sz) | (BigInt(t1sz) << 16n) | (2n << 30n) | ips | as16;
}

/** VTCR_EL2 with `inputBits` of IPA, starting at `level`, 48-bit output. */
export function vtcr(inputBits: number, level: number): bigint {
  return BigInt(64 - inputBits) | (BigInt(2 - level) << 6n) | (5n << 16n) | (1n << 31n);
}

export const HCR = {
  VM: 1n,
  PTW: 1n << 2n,
  FB: 1n << 9n,
  DC: 1n << 12n,
  TGE: 1n << 27n,
  RW: 1n << 31n,
  E2H: 1n << 34n,
} as const;

/** A world at EL1 with stage 1 on and tables for the lower range of `64 - tsz` bits. */
export function stage1World(tsz = 25): { w: World; t: Tables } {
  const w = new World();
  const level = tsz <= 24 ? 0 : tsz <= 33 ? 1 : 2;
  const t = new Tables(w, level);
  w.set({
    SCTLR_EL1: 1n,
    TCR_EL1: tcr(tsz),
    MAIR_EL1: MAIR,
    TTBR0_EL1: t.base,
    TTBR1_EL1: t.base,
  });
  w.enter(1);
  return { w, t };
}

/** How far stage 2 of {@link stage2World} moves: IPA = PA + this. */
export const IPA_DELTA = 0x4000_0000;

/**
 * A world at EL1 with both stages on: stage 1 of 39 bits, stage 2 of 40 bits from level 1, which maps
 * all of RAM by 2 MiB blocks at PA + {@link IPA_DELTA}.
 */
export function stage2World(): { w: World; t: Tables; s2: Tables } {
  const w = new World();
  const s2 = new Tables(w, 1, 2);
  const t = new Tables(w, 1, 1, IPA_DELTA);
  for (let offset = 0; offset < RAM_SIZE; offset += 2 * MIB) {
    s2.map(BigInt(RAM_PA + IPA_DELTA + offset), RAM_PA + offset, S2_ALL, 2);
  }
  w.set({
    SCTLR_EL1: 1n,
    TCR_EL1: tcr(25),
    MAIR_EL1: MAIR,
    TTBR0_EL1: t.base,
    TTBR1_EL1: t.base,
    HCR_EL2: HCR.VM | HCR.RW,
    VTCR_EL2: vtcr(40, 1),
    VTTBR_EL2: s2.base,
  });
  w.enter(1);
  return { w, t, s2 };
}
