/**
 * A redistributor: one CPU's SGIs and PPIs and its sleep state (IHI 0069, 12.10). While it sleeps
 * (GICR_WAKER) nothing is forwarded to the CPU interface. No LPIs.
 */
import type { Arena } from "../../base/arena.ts";
import { layout, u32, type ViewOf } from "../../base/struct.ts";
import { GICR, GICR_SGI, GICR_TYPER, GICR_WAKER, withField } from "../arch/gic.ts";
import { Bank, bankFields } from "./bank.ts";
import { IIDR } from "./distributor.ts";
import { bankRegions, identification, razWi, RegionTable, register } from "./regions.ts";

/** One redistributor's state. */
const GicrLayout = layout("gicr", {
  /** GICR_WAKER. */
  waker: u32(),
  /** ICC_IGRPEN0_EL1 and ICC_IGRPEN1_EL1 of the CPU interface, in bits 0 and 1, of which it is told. */
  groups: u32(),
  ...bankFields(1),
});

/** Words of a state. */
const WORD = {
  WAKER: GicrLayout.offset.waker >>> 2,
  GROUPS: GicrLayout.offset.groups >>> 2,
} as const;
// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const ASLEEP = GICR_WAKER.ChildrenAsleep;

/** A view of one redistributor. */
export class Redistributor {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly state: ViewOf<typeof GicrLayout>;
  declare readonly bank: Bank;
  declare readonly index: number;
  declare readonly affinity: number;
  /** GICR_TYPER bits 31 to 0. */
  declare readonly typer: number;
  /** The state's words. */
  declare private readonly words: Int32Array;

  /** `affinity` as packedAffinity gives it; `last`: the last redistributor of the region. */
  constructor(arena: Arena, index: number, affinity: number, last: boolean) {
    this.state = arena.make(GicrLayout);
    const { memory, base } = this.state;
    this.bank = new Bank(memory, this.state, 0, 1);
    this.index = index;
    this.affinity = affinity;
    this.typer = withField(last ? GICR_TYPER.Last : 0, GICR_TYPER.Processor_Number, index);
    this.words = new Int32Array(memory.i32.buffer, base, GicrLayout.size >>> 2);
  }

  /** Whether interrupts are forwarded to the CPU interface. */
  get awake(): boolean {
    return ((this.words[WORD.WAKER] as number) & ASLEEP) === 0;
  }

  /** The groups (bit 0 and 1) that are forwarded to the CPU interface, and enabled there. */
  get forwarded(): number {
    return this.awake ? this.words[WORD.GROUPS] as number : 0;
  }

  /** Puts everything to its reset value: asleep, SGIs edge-triggered, all else zero. */
  reset(): void {
    const { state } = this;
    state.memory.u8.fill(0, state.base, state.base + GicrLayout.size);
    this.bank.setWord(this.bank.edge, 0, 0xffff);
    this.writeWaker(GICR_WAKER.ProcessorSleep);
  }

  /** Writes GICR_WAKER; the interface is quiescent, or awake, at once. */
  writeWaker(value: number): void {
    const sleep = (value & GICR_WAKER.ProcessorSleep) !== 0;
    this.state.waker = sleep ? GICR_WAKER.ProcessorSleep | GICR_WAKER.ChildrenAsleep : 0;
  }
}

const SGI_BASE = {
  IGROUPR: GICR_SGI.IGROUPR0,
  ISENABLER: GICR_SGI.ISENABLER0,
  ICENABLER: GICR_SGI.ICENABLER0,
  ISPENDR: GICR_SGI.ISPENDR0,
  ICPENDR: GICR_SGI.ICPENDR0,
  ISACTIVER: GICR_SGI.ISACTIVER0,
  ICACTIVER: GICR_SGI.ICACTIVER0,
  IPRIORITYR: GICR_SGI.IPRIORITYR,
  ICFGR: GICR_SGI.ICFGR0,
};

/** A redistributor's two frames, RD_base and SGI_base. */
export const REDISTRIBUTOR_REGIONS: RegionTable<Redistributor> = new RegionTable<Redistributor>([
  razWi("GICR_CTLR", GICR.CTLR, 4),
  register("GICR_IIDR", GICR.IIDR, () => IIDR),
  {
    name: "GICR_TYPER",
    offset: GICR.TYPER,
    size: 8,
    extra: "doubleword",
    read: (r, index) => index === 0 ? r.typer : r.affinity,
    write: () => {},
  },
  razWi("GICR_STATUSR", GICR.STATUSR, 4),
  register("GICR_WAKER", GICR.WAKER, (r) => r.state.waker, (r, value) => r.writeWaker(value)),
  razWi("GICR_PROPBASER", GICR.PROPBASER, 8, "doubleword"),
  razWi("GICR_PENDBASER", GICR.PENDBASER, 8, "doubleword"),
  razWi("GICR_SYNCR", GICR.SYNCR, 4),
  identification(GICR.PIDR4, 0x93),
  ...bankRegions<Redistributor>(SGI_BASE, 1),
  razWi("GICR_IGRPMODR0", GICR_SGI.IGRPMODR0, 4),
  razWi("GICR_NSACR", GICR_SGI.NSACR, 4),
]);
