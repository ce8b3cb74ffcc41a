/**
 * Guests of a few instructions on every tier of the engine: a bare machine at EL1 with translation
 * tables, run by the interpreter alone and with code translated at several moments. What a guest ends
 * in (instructions, hash of all state) must be the same.
 */
import assert from "node:assert/strict";
import { CpuLayout } from "../../src/arm/arch/cpu_state.ts";
import type { RegionOptions } from "../../src/arm/engine/regions.ts";
import { Firmware } from "../../src/arm/firmware.ts";
import { Machine } from "../../src/arm/machine.ts";
import type { MachineOptions } from "../../src/arm/machine_options.ts";
import { Asm } from "./asm.ts";

/** What is translated, and when; the first one is what the others are compared with. */
export const TIERS: Readonly<Record<string, Partial<RegionOptions>>> = {
  interpreted: { hotAfter: 0 },
  "translated at once": { hotAfter: 1, batch: 1 },
  "in small regions": { hotAfter: 3, batch: 2, maxInsns: 6, copies: 1 },
  "translated late": { hotAfter: 17, batch: 1 },
  // Retired and brought back all the time.
  "with room for four regions": { hotAfter: 1, batch: 1, maxRegions: 4 },
};

/** Physical addresses of the machine; up to {@link MAP.end} they are virtual addresses too. */
export const MAP = {
  /** Where the program starts. */
  code: 0x4001_0000,
  vectors: 0x4002_0000,
  /** Free for hot code, and for data. */
  hot: 0x4003_0000,
  data: 0x4006_0000,
  log: 0x4008_0000,
  tables: 0x400e_0000,
  end: 0x4010_0000,
  /** Virtual addresses that are not mapped at first. */
  alias: 0x5000_0000,
} as const;
const RAM_SIZE = 0x10_0000;
const PAGE = 4096;

/** Attributes of a page: Normal memory, Inner Shareable, accessed. */
export const PTE = {
  RW: 0x703n,
  RO: 0x783n,
  /** Also for EL0. */
  USER_RW: 0x743n,
  USER_RO: 0x7c3n,
  NOT_GLOBAL: 0x800n,
  PXN: 1n << 53n,
  UXN: 1n << 54n,
} as const;
const DEVICE_BLOCK = 0x405n;

/** SCTLR_EL1: RES1 bits, then M, C and I; without I fetches are not cached. */
export const SCTLR = {
  RES1: 0x30d0_0800,
  M: 1,
  A: 2,
  C: 4,
  SA: 8,
  I: 0x1000,
  SPAN: 1 << 23,
} as const;
export const SCTLR_ON: number = SCTLR.RES1 | SCTLR.M | SCTLR.C | SCTLR.I | SCTLR.SPAN;

/** Register that points behind the log, and registers that vectors may use. */
export const LOG_REGISTER = 28;

/** Translation tables for stage 1 with 39 bits of address and pages of 4 KiB, identical up to the end of RAM. */
export class Tables {
  readonly root: number;

  constructor(readonly owner: TierMachine) {
    this.root = owner.takeTable();
    owner.put64(this.root, DEVICE_BLOCK);
    for (let pa = 0x4000_0000; pa < MAP.end; pa += PAGE) this.map(pa, pa, PTE.RW);
  }

  /** Physical address of the descriptor of the page at `va`; its tables are made where they are not. */
  entryOf(va: number): number {
    let table = this.root;
    for (const shift of [30, 21]) {
      const at = table + 8 * (Math.floor(va / 2 ** shift) & 511);
      if ((this.owner.get64(at) & 3n) !== 3n) {
        this.owner.put64(at, BigInt(this.owner.takeTable()) | 3n);
      }
      table = Number(this.owner.get64(at) & 0xffff_ffff_f000n);
    }
    return table + 8 * ((va >>> 12) & 511);
  }

  /** Maps the page at `va` to `pa` before the guest starts. */
  map(va: number, pa: number, attributes: bigint): this {
    this.owner.put64(this.entryOf(va), BigInt(pa) | attributes);
    return this;
  }
}

export type TierMachineOptions = Partial<Pick<MachineOptions, "pcpus" | "quantum" | "codePages">>;

/** A bare machine of one tier. */
export class TierMachine {
  readonly machine: Machine;
  readonly tables: Tables;
  #nextTable = MAP.tables;

  constructor(readonly regions: Partial<RegionOptions>, options: TierMachineOptions = {}) {
    // Short turns: what is hot waits for some of them until it is translated.
    const { pcpus = 1, codePages = 48, quantum = 150 } = options;
    this.machine = new Machine(
      { pcpus, ramSize: RAM_SIZE, codePages, regions, quantum },
      new Firmware("hvc"),
    );
    this.tables = new Tables(this);
    for (let n = 0; n < pcpus; n++) this.machine.start(n, 1, MAP.code, n);
  }

  takeTable(): number {
    return (this.#nextTable += PAGE) - PAGE;
  }
  #at(pa: number): number {
    return this.machine.ram.at + pa - this.machine.ram.pa;
  }
  get64(pa: number): bigint {
    return this.machine.memory.ld64(this.#at(pa));
  }
  /** Writes RAM from outside, as a loader does. */
  put64(pa: number, value: bigint): void {
    this.machine.writeRam(pa, new Uint8Array(new BigUint64Array([value]).buffer));
  }
  /** Puts a program at its address. */
  load(...parts: readonly Asm[]): this {
    for (const asm of parts) {
      this.machine.writeRam(asm.base, new Uint8Array(new Uint32Array(asm.words()).buffer));
    }
    return this;
  }
  /** Puts a program that is made for address `asm.base` to `pa`. */
  loadAt(pa: number, asm: Asm): this {
    this.machine.writeRam(pa, new Uint8Array(new Uint32Array(asm.words()).buffer));
    return this;
  }

  /** X`n` of CPU `cpu`. */
  x(n: number, cpu = 0): bigint {
    const view = this.machine.platform.cpus[cpu];
    if (view === undefined) throw new RangeError(`no CPU ${cpu}`);
    return this.machine.memory.ld64(view.gpr + 8 * n);
  }

  /** Runs until the guest powers off; throws when it does not within `insns` instructions. */
  untilOff(insns = 3_000_000): this {
    const reason = this.machine.run(insns);
    if (reason === "power") return this;
    const pc = this.machine.platform.cpus[0]?.pc.toString(16);
    throw new Error(`no power off: ${reason} at 0x${pc}; log ${this.log().slice(-8)}`);
  }

  /** What the guest has logged through {@link LOG_REGISTER}, as hexadecimal words. */
  log(cpu = 0, from: number = MAP.log): string[] {
    const count = (Number(this.x(LOG_REGISTER, cpu)) - from) / 8;
    return Array.from({ length: count }, (_, i) => this.get64(from + 8 * i).toString(16));
  }

  /** Instructions that regions have executed. */
  get regionInsns(): number {
    return this.machine.platform.cpus.reduce((sum, { regionInsns }) => sum + regionInsns, 0);
  }
  /** Instructions translated so far. */
  get translated(): number {
    return this.machine.interpreter.regions.translated;
  }
}

// Pieces of guests

/** The program's beginning: vectors, tables, MMU and caches on, FP and SIMD open. Leaves X28 pointing to the log. */
export function prologue(m: TierMachine, sctlr = SCTLR_ON, root = m.tables.root): Asm {
  const a = new Asm(MAP.code);
  a.mov(1, MAP.vectors).msr("VBAR_EL1", 1).mov(1, 0xff).msr("MAIR_EL1", 1);
  // MAIR: attribute 0 Normal, 1 Device. TCR: T0SZ 25, Normal and Inner Shareable walks, EPD1, 16-bit ASIDs are not used
  a.mov(1, 0x80_3519).msr("TCR_EL1", 1).mov(1, root).msr("TTBR0_EL1", 1);
  a.mov(1, 0x30_0000).msr("CPACR_EL1", 1).tlbiVmalle1().dsb().isb();
  return a.mov(1, sctlr).msr("SCTLR_EL1", 1).isb().mov(LOG_REGISTER, MAP.log);
}

const GICD = 0x0800_0000, GICR = 0x080a_0000, SGI_FRAME = GICR + 0x1_0000;

/** Opens the interrupt controller for the SGIs and PPIs of the mask `intids`, in group 1. */
export function openGic(a: Asm, intids: number): Asm {
  const put = (at: number, value: number) => a.mov(1, at).mov(2, value).strW(2, 1);
  put(GICD, 0x10);
  put(GICD, 0x12);
  put(GICR + 0x14, 0);
  put(SGI_FRAME + 0x80, 0xffff_ffff);
  put(SGI_FRAME + 0x100, intids);
  return a.mov(1, 0xff).msr("ICC_PMR_EL1", 1).mov(1, 1).msr("ICC_IGRPEN1_EL1", 1).isb();
}

/** PSCI's SYSTEM_OFF. */
export function off(a: Asm): Asm {
  return a.mov(0, 0x8400_0008).hvc().label("after off").b("after off");
}

/** Offsets of vectors: from EL1 with SP_EL1, and from EL0. */
export const VECTOR = { SYNC: 0x200, IRQ: 0x280, SYNC_EL0: 0x400, IRQ_EL0: 0x480 } as const;

/** Vectors that go on at labels `sync` and `irq` of what follows behind them, whatever level they come from. */
export function vectors(): Asm {
  const a = new Asm(MAP.vectors);
  for (const [offset, label] of [[VECTOR.SYNC, "sync"], [VECTOR.IRQ, "irq"]] as const) {
    a.org(MAP.vectors + offset).b(label);
  }
  for (const [offset, label] of [[VECTOR.SYNC_EL0, "sync"], [VECTOR.IRQ_EL0, "irq"]] as const) {
    a.org(MAP.vectors + offset).b(label);
  }
  return a.org(MAP.vectors + 0x800);
}

/** Logs ESR, ELR, FAR and SPSR, which stay in X20 to X23. */
export function logException(a: Asm): Asm {
  a.mrs(20, "ESR_EL1").mrs(21, "ELR_EL1").mrs(22, "FAR_EL1").mrs(23, "SPSR_EL1");
  for (const n of [20, 21, 22, 23]) logWord(a, n);
  return a;
}
/** Appends Xn to the log. */
export function logWord(a: Asm, n: number): Asm {
  // str xn, [x28], #8
  return a.word(0xf800_8400 | (LOG_REGISTER << 5) | n);
}

// Comparison

/** What lies at byte `at` of a machine's memory, as text. */
function nameOf(m: Machine, at: number): string {
  const { ram, platform } = m;
  if (at >= ram.at) return `RAM at 0x${(ram.pa + at - ram.at).toString(16)}`;
  for (const { index, base } of platform.cpus) {
    const place = CpuLayout.places.findLast(({ offset }) => base + offset <= at);
    if (place !== undefined && at < base + CpuLayout.size) {
      return `CPU ${index} ${place.name}+${at - base - place.offset}`;
    }
  }
  return `state at ${at}`;
}

/** Where two machines' states differ first, as text; undefined: nowhere. */
export function difference(a: Machine, b: Machine): string | undefined {
  const ranges = [...a.state.archRanges(), { at: a.ram.at, length: a.ram.size }];
  for (const { at, length } of ranges) {
    const [x, y] = [a, b].map((m) => m.memory.u8.subarray(at, at + length)) as [
      Uint8Array,
      Uint8Array,
    ];
    for (let n = 0; n < length; n++) {
      if (x[n] !== y[n]) return `${nameOf(a, at + n)}: ${y[n]} instead of ${x[n]}`;
    }
  }
  return undefined;
}

export interface TierTest {
  /** What it tests is known to be wrong at present. */
  readonly ignore?: boolean;
  readonly options?: TierMachineOptions;
  /** Share of its instructions that regions execute at least, where they are made: 0.1 if left out. */
  readonly leastShare?: number;
  /** Puts the guest into the machine. */
  readonly load: (m: TierMachine) => void;
  /** Runs it; until it powers off if left out. */
  readonly run?: (m: TierMachine) => void;
  /** What must be true of the guest's end on each tier. */
  readonly check: (m: TierMachine) => void;
}

/** Registers a test that runs a guest on every tier and compares where it ends. */
export function onEveryTier(name: string, test: TierTest): void {
  Deno.test({ name, ignore: test.ignore ?? false }, () => {
    let first: TierMachine | undefined;
    for (const [tier, regions] of Object.entries(TIERS)) {
      const m = new TierMachine(regions, test.options);
      test.load(m);
      try {
        (test.run ?? ((it) => it.untilOff()))(m);
        test.check(m);
      } catch (error) {
        throw new Error(tier, { cause: error });
      }
      // What is tested has really been translated, and executed so.
      const least = regions.hotAfter === 0 ? 0 : test.leastShare ?? 0.1;
      const share = m.regionInsns / m.machine.insns;
      assert.ok(share >= least, `${tier}: ${m.translated} translated, ${share} of all executed`);
      first ??= m;
      if (m === first) continue;
      assert.equal(difference(first.machine, m.machine), undefined, tier);
      assert.equal(m.machine.stateHash(), first.machine.stateHash(), tier);
    }
  });
}

// Guests of other machines

/** Where a guest has ended. */
export interface TierRun {
  readonly machine: Machine;
  /** Whatever else must be the same. */
  readonly seen: unknown;
}

export type Tier = Partial<RegionOptions>;

/** Runs it `times` times on every tier; all ends must be equal. */
export async function onAllTiers(
  run: (regions: Tier) => TierRun | Promise<TierRun>,
  tiers: Readonly<Record<string, Tier>> = TIERS,
  times = 2,
): Promise<void> {
  let first: string | undefined;
  for (const [tier, regions] of Object.entries(tiers)) {
    for (let again = 0; again < times; again++) {
      const { machine, seen } = await run(regions);
      const end = `${machine.insns} ${machine.stateHash()} ${JSON.stringify(seen)}`;
      first ??= end;
      assert.equal(end, first, tier);
      const { translated } = machine.interpreter.regions;
      assert.equal(translated > 0, regions.hotAfter !== 0, `${tier}: ${translated} translated`);
    }
  }
}
