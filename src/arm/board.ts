/** The board: where its devices of the CPUs are, and the interrupt controller put there. */
import type { Arena } from "../base/arena.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { Cpu } from "./arch/cpu_state.ts";
import type { Bus } from "./bus.ts";
import type { Gic } from "./gic/controller.ts";
import { Gicv2 } from "./gic/gicv2.ts";
import { Gicv3 } from "./gic/gicv3.ts";

/** Physical addresses of the board: GICR with a GICv3, GICC, GICH and GICV with a GICv2. */
export const BOARD = {
  gicd: { pa: 0x0800_0000, size: 0x1_0000 },
  gicc: { pa: 0x0801_0000, size: 0x1_0000 },
  gich: { pa: 0x0803_0000, size: 0x1_0000 },
  gicv: { pa: 0x0804_0000, size: 0x1_0000 },
  gicr: { pa: 0x080a_0000, stride: 0x2_0000 },
  ram: 0x4000_0000,
} as const;

/** What an interrupt controller is made with. */
interface Placed {
  readonly cpus: readonly Cpu[];
  readonly lrs: number;
  /** A write by this CPU may concern others: its slice must end. */
  readonly endSlice: (cpu: number) => void;
}

/** Makes the interrupt controller of this version and puts its frames on the bus. */
export function placeGic(
  bus: Bus,
  version: 2 | 3,
  memory: SharedMemory,
  arena: Arena,
  options: Placed,
): Gic {
  if (version === 2) return placeGicv2(bus, arena, options);
  return placeGicv3(bus, memory, arena, options);
}

function placeGicv3(bus: Bus, memory: SharedMemory, arena: Arena, { cpus, lrs }: Placed): Gic {
  const gic = new Gicv3(memory, arena, { cpus, lrs });
  bus.add("gicd", BOARD.gicd.pa, BOARD.gicd.size, {
    read: (offset, size) => withHigh(gic, gic.distRead(offset, size), size),
    write: (offset, size, value) => gic.distWrite(offset, size, ...halves(value)),
    write32: (offset, value) => gic.distWrite(offset, 4, value),
  });
  bus.add("gicr", BOARD.gicr.pa, BOARD.gicr.stride * cpus.length, {
    read: (offset, size) => withHigh(gic, gic.redistRead(offset, size), size),
    write: (offset, size, value) => gic.redistWrite(offset, size, ...halves(value)),
    write32: (offset, value) => gic.redistWrite(offset, 4, value),
  });
  return gic;
}

/** Each CPU sees its own GICC, GICH and GICV. As with ICH registers, a write of GICH ends no slice. */
function placeGicv2(bus: Bus, arena: Arena, { cpus, lrs, endSlice }: Placed): Gic {
  const gic = new Gicv2(arena, { cpus, lrs });
  bus.add("gicd", BOARD.gicd.pa, BOARD.gicd.size, {
    read: (offset, size, cpu) => gic.distRead(cpu, offset, size),
    write: (offset, size, value, cpu) => {
      gic.distWrite(cpu, offset, size, lo(value));
      endSlice(cpu);
    },
  });
  bus.add("gicc", BOARD.gicc.pa, BOARD.gicc.size, {
    read: (offset, size, cpu) => gic.giccRead(cpu, offset, size),
    write: (offset, size, value, cpu) => {
      gic.giccWrite(cpu, offset, size, lo(value));
      endSlice(cpu);
    },
  });
  bus.add("gich", BOARD.gich.pa, BOARD.gich.size, {
    read: (offset, size, cpu) => gic.gichRead(cpu, offset, size),
    write: (offset, size, value, cpu) => gic.gichWrite(cpu, offset, size, lo(value)),
  });
  bus.add("gicv", BOARD.gicv.pa, BOARD.gicv.size, {
    read: (offset, size, cpu) => gic.gicvRead(cpu, offset, size),
    write: (offset, size, value, cpu) => {
      gic.gicvWrite(cpu, offset, size, lo(value));
      endSlice(cpu);
    },
  });
  return gic;
}

const lo = (value: bigint): number => Number(value & 0xffff_ffffn);

function halves(value: bigint): [lo: number, hi: number] {
  return [lo(value), Number(value >> 32n)];
}

function withHigh(gic: Gicv3, low: number, size: number): bigint | number {
  return size === 8 ? (BigInt(gic.hi >>> 0) << 32n) | BigInt(low >>> 0) : low >>> 0;
}
