/**
 * The distributor: SPIs, their routes, and the group enables (IHI 0069, 12.8). One Security state:
 * GICD_CTLR.DS and ARE read as one. 1-of-N routing is implemented: such an SPI goes to the lowest
 * numbered CPU whose redistributor is awake and whose CPU interface has the group enabled.
 */
import type { Arena } from "../../base/arena.ts";
import { layout, space, u32, type ViewOf } from "../../base/struct.ts";
import { GICD, GICD_CTLR, GICD_IROUTER, GICD_TYPER, INTID } from "../arch/gic.ts";
import { Bank, bankFields } from "./bank.ts";
import { bankRegions, identification, razWi, RegionTable, register } from "./regions.ts";

/** Words of 32 INTIDs below 1024. */
const WORDS = 32;
/** GICD_IIDR and GICR_IIDR: designer Arm, no product, revision 0. */
export const IIDR = 0x0000_043b;

/** The distributor's state. Word 0 of each bitmap (SGIs, PPIs) is unused. */
const GicdLayout = layout("gicd", {
  /** GICD_CTLR's group enables. */
  ctlr: u32(),
  /** {@link Bank.quiet} of the SPIs. */
  quiet: u32("cache"),
  ...bankFields(WORDS),
  /** GICD_IROUTER.IRM, one bit each. */
  anyCpu: space(4 * WORDS),
  /** GICD_IROUTER affinity, packed Aff3.Aff2.Aff1.Aff0, 32 bits each. */
  route: space(4 * 32 * WORDS),
});

/** What sets a distributor's identification registers. */
export interface DistributorOptions {
  /** SPIs, a multiple of 32 from 32 to 960: INTIDs from 32. */
  readonly spis: number;
  /** GICD_TYPER.RSS: SGIs can be sent to Aff0 above 15. */
  readonly rangeSelector: boolean;
}

const GROUPS = GICD_CTLR.EnableGrp0 | GICD_CTLR.EnableGrp1;

/** A view of the distributor. */
export class Distributor {
  readonly state: ViewOf<typeof GicdLayout>;
  readonly bank: Bank;
  /** INTIDs below this are implemented. */
  readonly end: number;
  readonly #typer: number;

  constructor(arena: Arena, options: DistributorOptions) {
    this.state = arena.make(GicdLayout);
    this.end = INTID.FIRST_SPI + options.spis;
    const quietAt = this.state.base + GicdLayout.offset.quiet;
    this.bank = new Bank(arena.memory, this.state, 1, this.end / 32, quietAt);
    this.#typer = typerOf(this.end, options.rangeSelector);
  }

  /** Puts everything to its reset value: zero. */
  reset(): void {
    this.state.memory.u8.fill(0, this.state.base, this.state.base + GicdLayout.size);
  }

  /** GICD_TYPER. */
  get typer(): number {
    return this.#typer;
  }

  /** GICD_CTLR's EnableGrp0 and EnableGrp1, in bits 0 and 1. */
  get groups(): number {
    return this.state.ctlr;
  }
  set groups(value: number) {
    this.state.ctlr = value & GROUPS;
  }

  /** Whether `intid` is an implemented SPI. */
  has(intid: number): boolean {
    return intid >= INTID.FIRST_SPI && intid < this.end;
  }

  /** The packed affinity the SPI is routed to. */
  route(intid: number): number {
    return this.state.memory.ld32(this.state.route + 4 * intid);
  }

  /** Whether the SPI is routed to any CPU (IRM). */
  routedToAny(intid: number): boolean {
    return this.bank.test(this.state.anyCpu >>> 2, intid);
  }

  /** GICD_IROUTER<intid>, bits 31 to 0 (`half` 0) or 63 to 32. */
  readRouter(intid: number, half: number): number {
    if (!this.has(intid)) return 0;
    const route = this.route(intid);
    if (half === 1) return route >>> 24;
    return ((route & GICD_IROUTER.AFF210) |
      (this.routedToAny(intid) ? GICD_IROUTER.IRM : 0)) >>> 0;
  }

  /** Writes half of GICD_IROUTER<intid>. */
  writeRouter(intid: number, half: number, value: number): void {
    if (!this.has(intid)) return;
    const route = this.route(intid);
    const aff210 = half === 0 ? value & GICD_IROUTER.AFF210 : route & GICD_IROUTER.AFF210;
    const aff3 = half === 1 ? value & GICD_IROUTER.AFF3_HI : route >>> 24;
    this.state.memory.st32(this.state.route + 4 * intid, (aff3 << 24) | aff210);
    if (half === 0) this.bank.put(this.state.anyCpu >>> 2, intid, (value & GICD_IROUTER.IRM) !== 0);
  }
}

function typerOf(end: number, rangeSelector: boolean): number {
  const lines = end / 32 - 1;
  const idBits = 10;
  return (lines << GICD_TYPER.ITLinesNumber.shift) | ((idBits - 1) << GICD_TYPER.IDbits.shift) |
    GICD_TYPER.A3V | (rangeSelector ? GICD_TYPER.RSS : 0);
}

/** The distributor's frame. */
export const DISTRIBUTOR_REGIONS: RegionTable<Distributor> = new RegionTable<Distributor>([
  register("GICD_CTLR", GICD.CTLR, (d) => d.groups | GICD_CTLR.ARE | GICD_CTLR.DS, (d, value) => {
    d.groups = value;
  }),
  register("GICD_TYPER", GICD.TYPER, (d) => d.typer),
  register("GICD_IIDR", GICD.IIDR, () => IIDR),
  razWi("GICD_TYPER2", GICD.TYPER2, 4),
  razWi("GICD_STATUSR", GICD.STATUSR, 4),
  ...bankRegions<Distributor>(GICD, WORDS),
  razWi("GICD_ITARGETSR", GICD.ITARGETSR, 0x400, "byte"),
  razWi("GICD_IGRPMODR", GICD.IGRPMODR, 0x80),
  razWi("GICD_NSACR", GICD.NSACR, 0x100),
  razWi("GICD_SGIR", GICD.SGIR, 4),
  razWi("GICD_CPENDSGIR", GICD.CPENDSGIR, 0x10, "byte"),
  razWi("GICD_SPENDSGIR", GICD.SPENDSGIR, 0x10, "byte"),
  {
    name: "GICD_IROUTER",
    offset: GICD.IROUTER,
    size: 8 * INTID.END_SPI,
    extra: "doubleword",
    read: (d, index) => d.readRouter(index >> 1, index & 1),
    write: (d, index, value) => d.writeRouter(index >> 1, index & 1, value),
  },
  identification(GICD.PIDR4, 0x92),
]);
