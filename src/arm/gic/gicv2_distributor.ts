/**
 * The distributor of a GICv2 without Security Extensions (IHI 0048, 4.3): SPIs with their target CPUs,
 * and for each CPU, seen by that CPU alone at the same addresses, its SGIs and PPIs. SGIs are always
 * enabled, as on a GIC-400.
 */
import type { Arena } from "../../base/arena.ts";
import { layout, space, u32, type ViewOf } from "../../base/struct.ts";
import { GICD, GICD_CTLR, GICD_TYPER, INTID, withField } from "../arch/gic.ts";
import { GICV2_PIDR4 } from "../arch/gicv2.ts";
import { Bank, bankFields } from "./bank.ts";
import { IIDR } from "./distributor.ts";
import { identification, type Region, regionsOfBank, RegionTable, register } from "./regions.ts";

/** Words of 32 INTIDs below 1024. */
const WORDS = 32;
const SGIS = 0x0000_ffff;
const GROUPS = GICD_CTLR.EnableGrp0 | GICD_CTLR.EnableGrp1;

/** What all CPUs see. Word 0 of each bitmap (SGIs, PPIs) is unused. */
const Gicv2DistLayout = layout("gicv2_dist", {
  /** GICD_CTLR's group enables. */
  ctlr: u32(),
  /** {@link Bank.quiet} of the SPIs. */
  quiet: u32("cache"),
  ...bankFields(WORDS),
  /** GICD_ITARGETSR: a byte for each interrupt. */
  targets: space(32 * WORDS),
});

/** What one CPU sees. */
const Gicv2PrivateLayout = layout("gicv2_private", {
  ...bankFields(1),
  /** CPUs whose SGI is pending here, a byte for each SGI. */
  sources: space(16),
});

/** One CPU's private interrupts. */
export interface PrivateInterrupts {
  readonly state: ViewOf<typeof Gicv2PrivateLayout>;
  readonly bank: Bank;
}

/** A view of the distributor. */
export class Gicv2Distributor {
  readonly state: ViewOf<typeof Gicv2DistLayout>;
  readonly bank: Bank;
  readonly cpus: readonly PrivateInterrupts[];
  /** INTIDs below this are implemented. */
  readonly end: number;

  /** `spis`: a multiple of 32 from 32 to 960. */
  constructor(arena: Arena, spis: number, cpus: number) {
    this.state = arena.make(Gicv2DistLayout);
    this.end = INTID.FIRST_SPI + spis;
    const quietAt = this.state.base + Gicv2DistLayout.offset.quiet;
    this.bank = new Bank(arena.memory, this.state, 1, this.end / 32, quietAt);
    this.cpus = Array.from({ length: cpus }, () => {
      const state = arena.make(Gicv2PrivateLayout);
      return { state, bank: new Bank(arena.memory, state, 0, 1) };
    });
  }

  /** Puts everything to its reset value: SGIs edge-triggered and enabled, all else zero. */
  reset(): void {
    const { u8 } = this.state.memory;
    u8.fill(0, this.state.base, this.state.base + Gicv2DistLayout.size);
    for (const { state, bank } of this.cpus) {
      u8.fill(0, state.base, state.base + Gicv2PrivateLayout.size);
      bank.setWord(bank.edge, 0, SGIS);
      bank.setWord(bank.enable, 0, SGIS);
    }
  }

  cpu(index: number): PrivateInterrupts {
    return this.cpus[index] as PrivateInterrupts;
  }

  /** GICD_CTLR's EnableGrp0 and EnableGrp1. */
  get groups(): number {
    return this.state.ctlr;
  }

  /** GICD_TYPER. */
  get typer(): number {
    const lines = withField(0, GICD_TYPER.ITLinesNumber, this.end / 32 - 1);
    return withField(lines, GICD_TYPER.CPUNumber, this.cpus.length - 1);
  }

  /** The CPUs an SPI is for. With a single CPU all are for that. */
  targets(intid: number): number {
    return this.cpus.length === 1 ? 1 : this.state.memory.ld8(this.state.targets + intid);
  }

  /** The CPUs whose SGI `intid` is pending at CPU `cpu`. */
  sources(cpu: number, intid: number): number {
    const { state } = this.cpu(cpu);
    return state.memory.ld8(state.sources + intid);
  }

  /** Sets them; the SGI is pending while there is one. */
  setSources(cpu: number, intid: number, sources: number): void {
    const { state, bank } = this.cpu(cpu);
    state.memory.st8(state.sources + intid, sources);
    bank.put(bank.latch, intid, sources !== 0);
  }

  /** GICD_ITARGETSR<index> as CPU `cpu` reads it. With a single CPU the registers are RAZ/WI. */
  readTargets(cpu: number, index: number): number {
    if (this.cpus.length === 1) return 0;
    if (index < 8) return (0x0101_0101 << cpu) >>> 0;
    return this.bank.has(index >> 3) ? this.state.memory.ld32(this.state.targets + 4 * index) : 0;
  }

  /** Writes GICD_ITARGETSR<index>: those of SGIs and PPIs are read-only. */
  writeTargets(index: number, value: number): void {
    if (index < 8 || !this.bank.has(index >> 3)) return;
    const implemented = ((1 << this.cpus.length) - 1) * 0x0101_0101;
    this.state.memory.st32(this.state.targets + 4 * index, value & implemented);
  }

  /** GICD_SPENDSGIR<index> and GICD_CPENDSGIR<index> of CPU `cpu`. */
  readSgiSources(cpu: number, index: number): number {
    const { state } = this.cpu(cpu);
    return state.memory.ld32(state.sources + 4 * index);
  }

  /** Adds or takes away sources of four SGIs. */
  changeSgiSources(cpu: number, index: number, value: number, add: boolean): void {
    for (let i = 0; i < 4; i++) {
      const bits = (value >>> (8 * i)) & 0xff;
      const before = this.sources(cpu, 4 * index + i);
      this.setSources(cpu, 4 * index + i, add ? before | bits : before & ~bits);
    }
  }
}

/** The distributor as one CPU accesses it. */
export interface DistributorAccess {
  readonly dist: Gicv2Distributor;
  readonly cpu: number;
  /** GICD_SGIR. */
  readonly sendSgi: (value: number) => void;
}

type Row = Region<DistributorAccess>;

const privateBank = ({ dist, cpu }: DistributorAccess): Bank => dist.cpu(cpu).bank;
const sharedBank = ({ dist }: DistributorAccess): Bank => dist.bank;

/** Registers of which the SGIs' half ignores writes. */
const WITHOUT_SGIS: readonly string[] = ["ISENABLER", "ICENABLER", "ISPENDR", "ICPENDR"];

function privateRegions(): Row[] {
  return regionsOfBank(GICD, privateBank, 0, 1).map((row) =>
    WITHOUT_SGIS.includes(row.name)
      ? { ...row, write: (a, index, value) => row.write(a, index, (value & ~SGIS) >>> 0) }
      : row
  );
}

function sgiSources(name: string, offset: number, add: boolean): Row {
  return {
    name,
    offset,
    size: 16,
    extra: "byte",
    byteAlone: true,
    read: ({ dist, cpu }, index) => dist.readSgiSources(cpu, index),
    write: ({ dist, cpu }, index, value) => dist.changeSgiSources(cpu, index, value, add),
  };
}

/** The distributor's frame. */
export const GICV2_DISTRIBUTOR_REGIONS: RegionTable<DistributorAccess> = new RegionTable<
  DistributorAccess
>([
  register("GICD_CTLR", GICD.CTLR, ({ dist }) => dist.groups, ({ dist }, value) => {
    dist.state.ctlr = value & GROUPS;
  }),
  register("GICD_TYPER", GICD.TYPER, ({ dist }) => dist.typer),
  register("GICD_IIDR", GICD.IIDR, () => IIDR),
  ...privateRegions(),
  ...regionsOfBank(GICD, sharedBank, 1, WORDS - 1),
  {
    name: "GICD_ITARGETSR",
    offset: GICD.ITARGETSR,
    size: 0x400,
    extra: "byte",
    read: ({ dist, cpu }, index) => dist.readTargets(cpu, index),
    write: ({ dist }, index, value) => dist.writeTargets(index, value),
  },
  register("GICD_SGIR", GICD.SGIR, () => 0, ({ sendSgi }, value) => sendSgi(value)),
  sgiSources("GICD_CPENDSGIR", GICD.CPENDSGIR, false),
  sgiSources("GICD_SPENDSGIR", GICD.SPENDSGIR, true),
  identification(GICV2_PIDR4, 0x90, 2),
]);
