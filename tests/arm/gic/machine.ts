/** A GIC with its CPUs, and short names for what tests do to it. */
import { Arena } from "../../../src/base/arena.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import { type Cpu, CpuLayout, LINE } from "../../../src/arm/arch/cpu_state.ts";
import { GICD, GICR_SGI, GICR_SIZE, ICH_LR_HI, lrFields } from "../../../src/arm/arch/gic.ts";
import type { LrFields } from "../../../src/arm/arch/gic.ts";
import { R, type SysregName } from "../../../src/arm/arch/sysregs.ts";
import { Gicv3, type Gicv3Options } from "../../../src/arm/gic/gicv3.ts";

export const SPURIOUS = 1023;

export interface Setup extends Partial<Omit<Gicv3Options, "cpus">> {
  readonly cpus?: number;
  readonly mpidr?: (index: number) => number;
  /** Leave everything as after reset: no group enabled, redistributors asleep. */
  readonly cold?: boolean;
}

/** List register fields in the order a test writes them. */
export interface LrInit {
  readonly intid: number;
  readonly state: "invalid" | "pending" | "active" | "both";
  readonly priority?: number;
  readonly group?: 0 | 1;
  /** Physical INTID: sets HW. */
  readonly hw?: number;
  readonly eoi?: boolean;
}

const STATE = { invalid: 0, pending: 1, active: 2, both: 3 } as const;

export class Machine {
  readonly memory = SharedMemory.create(1 << 20);
  readonly arena = new Arena("test", this.memory, 64, 1 << 20);
  readonly cpus: Cpu[];
  readonly gic: Gicv3;

  constructor(setup: Setup = {}) {
    const { cpus = 1, mpidr = (n: number): number => n, cold = false, ...options } = setup;
    this.cpus = Array.from({ length: cpus }, (_, n) => {
      const cpu = this.arena.make(CpuLayout);
      cpu.index = n;
      cpu.mpidr = mpidr(n) + 0x8000_0000;
      return cpu;
    });
    this.gic = new Gicv3(this.memory, this.arena, { lrs: 4, ...options, cpus: this.cpus });
    if (!cold) this.warm();
  }

  /** Both groups on, everything awake, no priority masked. */
  warm(): void {
    this.gic.distWrite(GICD.CTLR, 4, 3);
    this.cpus.forEach((_, n) => {
      this.gic.redistWrite(n * GICR_SIZE + 0x14, 4, 0);
      this.icc("ICC_PMR_EL1", 0xff, n);
      this.icc("ICC_IGRPEN0_EL1", 1, n);
      this.icc("ICC_IGRPEN1_EL1", 1, n);
    });
  }

  /** Reads an ICC register, or writes it when `value` is given. */
  icc(name: SysregName, value?: number, cpu = 0, hi = 0): number {
    if (value === undefined) return this.gic.iccRead(cpu, R[name]);
    this.gic.iccWrite(cpu, R[name], value, hi);
    return value;
  }

  icv(name: SysregName, value?: number, cpu = 0): number {
    if (value === undefined) return this.gic.icvRead(cpu, R[name]);
    this.gic.icvWrite(cpu, R[name], value, 0);
    return value;
  }

  ich(name: SysregName, value?: number, cpu = 0): number {
    if (value === undefined) return this.gic.ichRead(cpu, R[name]);
    this.gic.ichWrite(cpu, R[name], value, 0);
    return value;
  }

  /** GICD word. */
  d(offset: number, value?: number): number {
    if (value === undefined) return this.gic.distRead(offset, 4);
    this.gic.distWrite(offset, 4, value);
    return value;
  }

  /** GICR word of a CPU. */
  r(offset: number, value?: number, cpu = 0): number {
    if (value === undefined) return this.gic.redistRead(cpu * GICR_SIZE + offset, 4);
    this.gic.redistWrite(cpu * GICR_SIZE + offset, 4, value);
    return value;
  }

  /** Writes an SPI's or private interrupt's bit of a bitmap register. */
  set(register: keyof typeof BITMAPS, intid: number, cpu = 0): void {
    const [dist, redist] = BITMAPS[register];
    const bit = (1 << (intid & 31)) >>> 0;
    if (intid < 32) this.r(redist, bit, cpu);
    else this.d(dist + 4 * (intid >> 5), bit);
  }

  /** An enabled interrupt of a priority, group 1 unless told, for CPU 0 unless routed. */
  enable(intid: number, priority = 0xa0, group: 0 | 1 = 1, cpu = 0): void {
    const gic = this.gic;
    if (intid < 32) {
      const groups = this.r(GICR_SGI.IGROUPR0, undefined, cpu);
      this.r(GICR_SGI.IGROUPR0, withBit(groups, intid, group), cpu);
      gic.redistWrite(cpu * GICR_SIZE + GICR_SGI.IPRIORITYR + intid, 1, priority);
    } else {
      const at = GICD.IGROUPR + 4 * (intid >> 5);
      this.d(at, withBit(this.d(at), intid & 31, group));
      gic.distWrite(GICD.IPRIORITYR + intid, 1, priority);
      gic.distWrite(GICD.IROUTER + 8 * intid, 8, Number(this.cpus[cpu]?.mpidr ?? 0) & 0xff_ffff, 0);
    }
    this.set("ISENABLER", intid, cpu);
  }

  /** Makes an SPI edge-triggered. */
  makeEdge(intid: number): void {
    const at = GICD.ICFGR + 4 * (intid >> 4);
    this.d(at, this.d(at) | (2 << (2 * (intid & 15))));
  }

  /** Raises and drops an SPI's line. */
  pulse(intid: number): void {
    this.gic.setSpi(intid, true);
    this.gic.setSpi(intid, false);
  }

  /** "IRQ", "FIQ", "VIRQ", "VFIQ" of a CPU that are high. */
  lines(cpu = 0): string[] {
    const now = this.cpus[cpu]?.irqLines ?? 0;
    return (["IRQ", "FIQ", "VIRQ", "VFIQ"] as const).filter((name) => now & LINE[name]);
  }

  /** "pending", "active", "pending and active" or "inactive". */
  state(intid: number, cpu = 0): string {
    const view = this.gic.interrupt(cpu, intid);
    if (!view) return "not implemented";
    if (view.active) return view.pending ? "pending and active" : "active";
    return view.pending ? "pending" : "inactive";
  }

  writeLr(n: number, init: LrInit, cpu = 0): void {
    const hi = ((STATE[init.state] << 30) | ((init.group ?? 1) ? ICH_LR_HI.Group : 0) |
      ((init.priority ?? 0xa0) << 16) | (init.eoi ? ICH_LR_HI.EOI : 0) |
      (init.hw === undefined ? 0 : ICH_LR_HI.HW | init.hw)) >>> 0;
    this.gic.ichWrite(cpu, R[`ICH_LR${n}_EL2` as SysregName], init.intid, hi);
  }

  lr(n: number, cpu = 0): LrFields {
    const lo = this.gic.ichRead(cpu, R[`ICH_LR${n}_EL2` as SysregName]);
    return lrFields(lo, this.gic.hi);
  }

  /** Virtual interface on: both groups enabled, nothing masked. */
  virtualOn(hcr = 1): void {
    this.ich("ICH_VMCR_EL2", 0xff00_0003);
    this.ich("ICH_HCR_EL2", hcr);
  }
}

const BITMAPS = {
  ISENABLER: [GICD.ISENABLER, GICR_SGI.ISENABLER0],
  ICENABLER: [GICD.ICENABLER, GICR_SGI.ICENABLER0],
  ISPENDR: [GICD.ISPENDR, GICR_SGI.ISPENDR0],
  ICPENDR: [GICD.ICPENDR, GICR_SGI.ICPENDR0],
  ISACTIVER: [GICD.ISACTIVER, GICR_SGI.ISACTIVER0],
  ICACTIVER: [GICD.ICACTIVER, GICR_SGI.ICACTIVER0],
} as const;

function withBit(word: number, at: number, value: number): number {
  return ((word & ~(1 << at)) | (value << at)) >>> 0;
}
