/** The emulated machine as the host kernel's hardware. */
import { InternalError } from "../base/errors.ts";
import { CpuLayout, LINE } from "../arm/arch/cpu_state.ts";
import { BOARD } from "../arm/board.ts";
import { SliceLayout } from "../arm/engine/turn_loop.ts";
import type { Machine } from "../arm/machine.ts";
import type { El2Port } from "../arm/el2_port.ts";
import { DOORBELL_INTID, type HostHardware } from "./hardware.ts";

// As constants of this module, V8 knows them.
const LINES_WORD = CpuLayout.offset.irqLines >>> 2, IRQ = LINE.IRQ;

/** The host hardware that `machine` is. Its CPUs must be started at EL2 before the host boots. */
export function machineHardware(machine: Machine): HostHardware {
  const { bus, clock, gic } = machine.platform;
  const words = machine.cores.map((core) => core.words);
  const device = (pa: number) => {
    const found = bus.find(pa, 4);
    if (found === undefined) throw new InternalError(`no device at 0x${pa.toString(16)}`);
    return found;
  };
  return {
    memory: machine.memory,
    ram: machine.ram,
    pcpus: machine.cores.length,
    gic: gic.version === 2
      ? { type: 2, vctrl: BOARD.gich.pa, vcpu: BOARD.gicv.pa }
      : { type: 3, vctrl: 0, vcpu: 0 },
    giccPa: BOARD.gicc.pa,
    gicdPa: BOARD.gicd.pa,
    gicrPa: BOARD.gicr.pa,
    gicrStride: BOARD.gicr.stride,
    port: (index) => machine.ports[index] as El2Port,
    irqPending: (index) => (((words[index] as Int32Array)[LINES_WORD] as number) & IRQ) !== 0,
    cpuWords: (index) => words[index] as Int32Array,
    timersDue: () => machine.timersDue,
    mmioRead: (index, pa) => {
      const { base, device: d } = device(pa);
      return Number(d.read(pa - base, 4, index));
    },
    mmioWrite: (index, pa, value) => {
      const { base, device: d } = device(pa);
      if (d.write32) d.write32(pa - base, value, index);
      else d.write(pa - base, 4, BigInt(value >>> 0), index);
    },
    nowNs: () => clock.now(),
    stamp: (cell) => clock.stamp(cell),
    stampNow: (words, at) => clock.stampWords(words, at),
    timeAt: clock.addedNsAt === undefined
      ? undefined
      : { ns: clock.addedNsAt, unless: clock.sliceAt + SliceLayout.offset.cpu },
    insnsAt: (index) => (machine.ports[index] as El2Port).core.cpu.base + CpuLayout.offset.insns,
    insnsTranslated: (index) => machine.cores[index]?.cpu.regionInsns ?? 0,
    doorbell: (level) => gic.setSpi(DOORBELL_INTID, level),
  };
}
