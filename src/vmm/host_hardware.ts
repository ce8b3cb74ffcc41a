/** The emulated machine as the host kernel's hardware. */
import { BOARD, type Machine } from "../arm/machine.ts";
import { DOORBELL_INTID, type HostHardware } from "../host/hardware.ts";

/** The hardware under a host kernel on `machine`. */
export function hostHardware(machine: Machine): HostHardware {
  const { platform } = machine;
  const device = (pa: number) => {
    const found = platform.bus.find(pa, 4);
    if (found === undefined) throw new RangeError(`no device at 0x${pa.toString(16)}`);
    return found;
  };
  return {
    memory: machine.memory,
    ram: machine.ram,
    pcpus: machine.cores.length,
    gicdPa: BOARD.gicd.pa,
    gicrPa: BOARD.gicr.pa,
    gicrStride: BOARD.gicr.stride,
    port: (index) => {
      const port = machine.ports[index];
      if (port === undefined) throw new RangeError(`no CPU ${index}`);
      return port;
    },
    irqPending: (index) => machine.irqPending(index),
    mmioRead: (index, pa) => {
      const { base, device: at } = device(pa);
      return Number(at.read(pa - base, 4, index));
    },
    mmioWrite: (index, pa, value) => {
      const { base, device: at } = device(pa);
      at.write(pa - base, 4, BigInt(value >>> 0), index);
    },
    insnsRetired: (index) => platform.cpus[index]?.insns ?? 0,
    nowNs: () => machine.nowNs,
    doorbell: (level) => platform.gic.setSpi(DOORBELL_INTID, level),
  };
}
