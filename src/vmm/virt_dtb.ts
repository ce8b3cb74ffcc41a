/**
 * The device tree of the `virt` machine, for a guest under KVM or for the bare machine.
 *
 * Shape and names follow what QEMU writes for the devices that both have. Guests look nodes up by
 * `compatible`, but test programs know a few paths by heart. Bindings: Documentation/devicetree in the
 * kernel's source.
 */

import { UserError } from "../base/errors.ts";
import { cells, cells64, type FdtNode, flag, node, text, writeFdt } from "./fdt.ts";
import { POWER_BUTTON_PIN } from "./pl061.ts";
import {
  GICV2_MAX_VCPUS,
  MAX_VCPUS,
  mpidrAffinity,
  VIRT_INTID,
  VIRT_MAP,
  VIRTIO_MMIO_SLOT_SIZE,
  VIRTIO_MMIO_SLOTS,
} from "./virt_map.ts";

/** What the device tree says of one machine. */
export interface VirtDtbOptions {
  /** Number of CPUs, 1 to {@link MAX_VCPUS}. */
  vcpus: number;
  /** RAM in bytes. */
  ramSize: number;
  /** Kernel command line; left out when empty. */
  bootargs?: string;
  /** First address of the initrd and the first behind it. */
  initrd?: { start: number; end: number };
  /** Instruction that calls PSCI. Default: hvc. */
  psciMethod?: "hvc" | "smc";
  /** The machine has EL2: describe the EL2 timer and the GIC's maintenance interrupt. */
  el2?: boolean;
  /** Seed of `rng-seed` and `kaslr-seed`; the same number gives the same bytes. None: no seeds. */
  seed?: number;
  /** Let the kernel move itself, by `kaslr-seed`. Default: true when there is a seed. */
  kaslr?: boolean;
  /** Version of the interrupt controller. Default: 3. */
  gic?: 2 | 3;
  /** The CPUs have performance monitors. Default: true. */
  pmu?: boolean;
  /** Describe the virtio-mmio slots. Default: true. */
  virtioMmio?: boolean;
}

const PHANDLE = { gic: 1, clock: 2, gpio: 3 } as const;
const SPI = 0;
const PPI = 1;
const EDGE_RISING = 1;
const LEVEL_HIGH = 4;
/** KEY_POWER of Linux's input events. */
const KEY_POWER = 116;
const UART_CLOCK_HZ = 24_000_000;
const RNG_SEED_WORDS = 8;

/** The blob for a machine. UserError when `vcpus` does not fit the map. */
export function buildVirtDtb(options: VirtDtbOptions): Uint8Array {
  return writeFdt({ root: virtDeviceTree(options), reservations: [], bootCpu: 0 });
}

/** The tree for a machine, before it is flattened. */
function virtDeviceTree(options: VirtDtbOptions): FdtNode {
  const most = options.gic === 2 ? GICV2_MAX_VCPUS : MAX_VCPUS;
  if (!(options.vcpus >= 1 && options.vcpus <= most)) {
    throw new UserError(`${options.vcpus} vCPUs: the machine has 1 to ${most}`);
  }
  return node("", {
    "interrupt-parent": cells(PHANDLE.gic),
    model: text("linux,dummy-virt"),
    "#size-cells": cells(2),
    "#address-cells": cells(2),
    compatible: text("linux,dummy-virt"),
  }, [
    psciNode(options),
    memoryNode(options),
    ...(options.virtioMmio ?? true ? virtioNodes() : []),
    testDeviceNode(),
    uartNode(),
    rtcNode(),
    fwCfgNode(),
    gpioNode(),
    gpioKeysNode(),
    options.gic === 2 ? gicV2Node(options) : gicNode(options),
    cpusNode(options),
    timerNode(options),
    ...(options.pmu ?? true ? [pmuNode(options)] : []),
    clockNode(),
    aliasesNode(),
    chosenNode(options),
  ]);
}

/** A node's name from its kind and address. */
function at(kind: string, address: number): string {
  return `${kind}@${address.toString(16)}`;
}

/** An `interrupts` entry: kind, number within the kind, trigger. */
function interrupt(intid: number, trigger: number): number[] {
  return intid < 32 ? [PPI, intid - 16, trigger] : [SPI, intid - 32, trigger];
}

const UART_NODE = at("pl011", VIRT_MAP.uart.base);

function psciNode(options: VirtDtbOptions): FdtNode {
  return node("psci", {
    method: text(options.psciMethod ?? "hvc"),
    compatible: text("arm,psci-1.0", "arm,psci-0.2"),
  });
}

function memoryNode(options: VirtDtbOptions): FdtNode {
  return node(at("memory", VIRT_MAP.ram.base), {
    reg: cells64(VIRT_MAP.ram.base, options.ramSize),
    device_type: text("memory"),
  });
}

function virtioNodes(): FdtNode[] {
  return Array.from({ length: VIRTIO_MMIO_SLOTS }, (_, slot) => {
    const base = VIRT_MAP.virtioMmio.base + slot * VIRTIO_MMIO_SLOT_SIZE;
    return node(at("virtio_mmio", base), {
      "dma-coherent": flag(),
      interrupts: cells(...interrupt(VIRT_INTID.virtioMmio0 + slot, EDGE_RISING)),
      reg: cells64(base, VIRTIO_MMIO_SLOT_SIZE),
      compatible: text("virtio,mmio"),
    });
  });
}

function testDeviceNode(): FdtNode {
  const { base, size } = VIRT_MAP.testDevice;
  return node(at("test-device", base), {
    interrupts: cells(...interrupt(VIRT_INTID.testDevice, LEVEL_HIGH)),
    reg: cells64(base, size),
    compatible: text("worldswitch,test-device"),
  });
}

function uartNode(): FdtNode {
  return node(UART_NODE, {
    "clock-names": text("uartclk", "apb_pclk"),
    clocks: cells(PHANDLE.clock, PHANDLE.clock),
    interrupts: cells(...interrupt(VIRT_INTID.uart, LEVEL_HIGH)),
    reg: cells64(VIRT_MAP.uart.base, VIRT_MAP.uart.size),
    compatible: text("arm,pl011", "arm,primecell"),
  });
}

function rtcNode(): FdtNode {
  return node(at("pl031", VIRT_MAP.rtc.base), {
    "clock-names": text("apb_pclk"),
    clocks: cells(PHANDLE.clock),
    interrupts: cells(...interrupt(VIRT_INTID.rtc, LEVEL_HIGH)),
    reg: cells64(VIRT_MAP.rtc.base, VIRT_MAP.rtc.size),
    compatible: text("arm,pl031", "arm,primecell"),
  });
}

function fwCfgNode(): FdtNode {
  return node(at("fw-cfg", VIRT_MAP.fwCfg.base), {
    "dma-coherent": flag(),
    reg: cells64(VIRT_MAP.fwCfg.base, VIRT_MAP.fwCfg.size),
    compatible: text("qemu,fw-cfg-mmio"),
  });
}

function gpioNode(): FdtNode {
  return node(at("pl061", VIRT_MAP.gpio.base), {
    phandle: cells(PHANDLE.gpio),
    "clock-names": text("apb_pclk"),
    clocks: cells(PHANDLE.clock),
    interrupts: cells(...interrupt(VIRT_INTID.gpio, LEVEL_HIGH)),
    "gpio-controller": flag(),
    "#gpio-cells": cells(2),
    compatible: text("arm,pl061", "arm,primecell"),
    reg: cells64(VIRT_MAP.gpio.base, VIRT_MAP.gpio.size),
  });
}

function gpioKeysNode(): FdtNode {
  return node("gpio-keys", { compatible: text("gpio-keys") }, [
    node("poweroff", {
      gpios: cells(PHANDLE.gpio, POWER_BUTTON_PIN, 0),
      "linux,code": cells(KEY_POWER),
      label: text("GPIO Key Poweroff"),
    }),
  ]);
}

function gicNode(options: VirtDtbOptions): FdtNode {
  const { gicd, gicr } = VIRT_MAP;
  const maintenance = cells(...interrupt(VIRT_INTID.gicMaintenance, LEVEL_HIGH));
  return node(at("intc", gicd.base), {
    phandle: cells(PHANDLE.gic),
    ...(options.el2 ? { interrupts: maintenance } : {}),
    reg: cells64(gicd.base, gicd.size, gicr.base, gicr.size),
    "#redistributor-regions": cells(1),
    compatible: text("arm,gic-v3"),
    ranges: flag(),
    "#size-cells": cells(2),
    "#address-cells": cells(2),
    "interrupt-controller": flag(),
    "#interrupt-cells": cells(3),
  });
}

/** GICH and GICV are there for an EL2 to use only. */
function gicV2Node(options: VirtDtbOptions): FdtNode {
  const { gicd, gicc, gich, gicv } = VIRT_MAP;
  const frames = [gicd, gicc, ...(options.el2 ? [gich, gicv] : [])];
  const maintenance = cells(
    ...interrupt(VIRT_INTID.gicMaintenance, LEVEL_HIGH | ppiCpuMask(options)),
  );
  return node(at("intc", gicd.base), {
    phandle: cells(PHANDLE.gic),
    ...(options.el2 ? { interrupts: maintenance } : {}),
    reg: cells64(...frames.flatMap(({ base, size }) => [base, size])),
    compatible: text("arm,cortex-a15-gic"),
    ranges: flag(),
    "#size-cells": cells(2),
    "#address-cells": cells(2),
    "interrupt-controller": flag(),
    "#interrupt-cells": cells(3),
  });
}

/** A PPI's flags name, in bits 15 to 8, the CPUs that have it: a GICv2's binding alone. */
function ppiCpuMask({ gic, vcpus }: VirtDtbOptions): number {
  return gic === 2 ? ((1 << vcpus) - 1) << 8 : 0;
}

function cpusNode(options: VirtDtbOptions): FdtNode {
  const cpus = Array.from({ length: options.vcpus }, (_, index) => {
    const mpidr = mpidrAffinity(index);
    return node(at("cpu", mpidr), {
      reg: cells(mpidr),
      "enable-method": text("psci"),
      compatible: text("arm,armv8"),
      device_type: text("cpu"),
    });
  });
  return node("cpus", { "#size-cells": cells(0), "#address-cells": cells(1) }, cpus);
}

/** The performance monitors of all CPUs, by their private overflow interrupt. */
function pmuNode(options: VirtDtbOptions): FdtNode {
  return node("pmu", {
    interrupts: cells(...interrupt(VIRT_INTID.pmu, LEVEL_HIGH | ppiCpuMask(options))),
    compatible: text("arm,armv8-pmuv3"),
  });
}

/** Four entries always, as on QEMU: guests exist that insist on it. EL2 with VHE adds its own. */
function timerNode(options: VirtDtbOptions): FdtNode {
  const { timerSecurePhys, timerPhys, timerVirt, timerHypPhys, timerHypVirt } = VIRT_INTID;
  const intids = [timerSecurePhys, timerPhys, timerVirt, timerHypPhys];
  if (options.el2) intids.push(timerHypVirt);
  const trigger = LEVEL_HIGH | ppiCpuMask(options);
  return node("timer", {
    interrupts: cells(...intids.flatMap((intid) => interrupt(intid, trigger))),
    "always-on": flag(),
    compatible: text("arm,armv8-timer", "arm,armv7-timer"),
  });
}

function clockNode(): FdtNode {
  return node("apb-pclk", {
    phandle: cells(PHANDLE.clock),
    "clock-output-names": text("clk24mhz"),
    "clock-frequency": cells(UART_CLOCK_HZ),
    "#clock-cells": cells(0),
    compatible: text("fixed-clock"),
  });
}

function aliasesNode(): FdtNode {
  return node("aliases", { serial0: text(`/${UART_NODE}`) });
}

function chosenNode(options: VirtDtbOptions): FdtNode {
  const { bootargs, initrd } = options;
  return node("chosen", {
    "stdout-path": text(`/${UART_NODE}`),
    ...(bootargs ? { bootargs: text(bootargs) } : {}),
    ...(initrd
      ? {
        "linux,initrd-start": cells64(initrd.start),
        "linux,initrd-end": cells64(initrd.end),
      }
      : {}),
    ...seedProperties(options),
  });
}

function seedProperties(options: VirtDtbOptions): Record<string, Uint8Array> {
  if (options.seed === undefined) return {};
  const words = seedWords(options.seed, RNG_SEED_WORDS + 2);
  const rngSeed = { "rng-seed": cells(...words.slice(0, RNG_SEED_WORDS)) };
  if (options.kaslr === false) return rngSeed;
  return { ...rngSeed, "kaslr-seed": cells(...words.slice(RNG_SEED_WORDS)) };
}

/** `count` 32-bit words that follow from `seed` (splitmix32, as good as a fixed seed needs). */
function seedWords(seed: number, count: number): number[] {
  let state = seed >>> 0;
  return Array.from({ length: count }, () => {
    state = (state + 0x9e37_79b9) >>> 0;
    let word = Math.imul(state ^ (state >>> 16), 0x21f0_aaad);
    word = Math.imul(word ^ (word >>> 15), 0x735a_2d97);
    return (word ^ (word >>> 15)) >>> 0;
  });
}
