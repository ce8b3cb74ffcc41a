/**
 * The devices of the `virt` machine put together, the same for a guest under KVM (where an access is an
 * exit to user space) and for the bare machine (where it goes over the bus). All their state lies in
 * the arena they are given.
 *
 * virtio slots: 0 console, 1 entropy, 2 network if there is one, disks from 3 on; the rest is empty.
 */
import type { Arena } from "../base/arena.ts";
import { VIRTIO_FAULTS, VIRTIO_NAMES, type VirtioFault } from "../trace/tracepoints.ts";
import { placePl011, placeTestDevice } from "./device_state.ts";
import { EmptyVirtioWindow } from "./empty_window.ts";
import { FwCfg, type FwCfgContent, type FwCfgFile, FwCfgLayout } from "./fw_cfg.ts";
import type { GuestRam } from "./guest_ram.ts";
import type { AccessSize, MmioDevice } from "./mmio.ts";
import { Pl011 } from "./pl011.ts";
import { Pl031, Pl031Layout, RTC_EPOCH } from "./pl031.ts";
import { Pl061, Pl061Layout } from "./pl061.ts";
import { TestDevice } from "./test_device.ts";
import { VirtioBlock } from "./virtio/block.ts";
import { VirtioConsole } from "./virtio/console.ts";
import { type DiskImage, OverlaidDisk, overlaySize, ReadOnlyDisk } from "./virtio/disk.ts";
import { ECHO_PEER } from "./virtio/echo_peer.ts";
import { type VirtioDevice, VirtioMmio, VirtioMmioLayout } from "./virtio/mmio_transport.ts";
import { LOOPBACK, VirtioNet } from "./virtio/net.ts";
import { VirtioRng, VirtioRngLayout } from "./virtio/rng.ts";
import { type MapRegion, VIRT_INTID, VIRT_MAP, VIRTIO_MMIO_SLOT_SIZE } from "./virt_map.ts";

/** Slots of the devices that have a fixed one. */
export const VIRTIO_SLOT = { console: 0, rng: 1, net: 2, disk: 3 } as const;
/** The most disks. */
export const MAX_DISKS = 8;
/** Seed of the entropy device. */
const RNG_SEED = 0x5753_0001;

/** What the network card is plugged into; "none": there is no card. */
export type NetKind = "none" | "loopback" | "echo";
/** The device that the console's input goes to; the output of both is shown. */
export type ConsoleKind = "pl011" | "virtio";

/** A disk that the machine has. */
export interface DiskOptions {
  readonly image: DiskImage;
  readonly readOnly: boolean;
}

/** What can be chosen about the devices. */
export interface BoardOptions {
  readonly disks?: readonly DiskOptions[];
  readonly net?: NetKind;
  readonly console?: ConsoleKind;
  /** Seconds since 1970 at virtual time 0. Default: {@link RTC_EPOCH}. */
  readonly rtcEpoch?: number;
  /** Files of fw_cfg. */
  readonly files?: readonly FwCfgFile[];
}

/** What the devices are connected to. */
export interface BoardWires {
  /** A byte of console output. */
  transmit(byte: number): void;
  /** The level of an SPI's line. */
  setSpi(intid: number, level: boolean): void;
  /** Virtual time in ns. */
  nowNs(): number;
  /** {@link Board.nextNs} has changed. */
  alarmChanged(): void;
  /** A virtio device needs a reset: arguments of the tracepoint of that name, and as a line. */
  broken(slot: number, device: number, fault: number, line: string): void;
}

/** A device at its place. */
export interface PlacedDevice extends MapRegion {
  readonly device: MmioDevice;
}

/** Bytes of shared memory that the disks' contents take. */
export function diskBytes(disks: readonly DiskOptions[] = []): number {
  return disks.reduce((sum, d) => sum + (d.readOnly ? 0 : overlaySize(d.image.size)), 0);
}

/** The window of virtio slots. */
class VirtioWindow implements MmioDevice {
  readonly #empty = new EmptyVirtioWindow();
  constructor(readonly slots: ReadonlyMap<number, VirtioMmio>) {}

  read(offset: number, size: AccessSize): number {
    const slot = this.slots.get(Math.floor(offset / VIRTIO_MMIO_SLOT_SIZE));
    return slot ? slot.read(offset % VIRTIO_MMIO_SLOT_SIZE, size) : this.#empty.read(offset, size);
  }
  write(offset: number, size: AccessSize, value: number): void {
    this.slots.get(Math.floor(offset / VIRTIO_MMIO_SLOT_SIZE))
      ?.write(offset % VIRTIO_MMIO_SLOT_SIZE, size, value);
  }
}

function covers({ base, size: length }: PlacedDevice, pa: number, size: number): boolean {
  return pa >= base && pa + size <= base + length;
}

/** All devices. */
export class Board {
  readonly uart: Pl011;
  readonly testDevice: TestDevice;
  readonly rtc: Pl031;
  readonly gpio: Pl061;
  readonly fwCfg: FwCfg;
  /** virtio devices by slot. */
  readonly slots: ReadonlyMap<number, VirtioMmio>;
  /** Every device with its place in the machine's map. */
  readonly placed: readonly PlacedDevice[];
  readonly #console: VirtioConsole;
  readonly #rng: VirtioRng;

  /** `diskArea` is where {@link diskBytes} bytes of the arena's memory are kept for the disks, zeroed once. */
  constructor(
    readonly arena: Arena,
    readonly ram: GuestRam,
    readonly wires: BoardWires,
    content: Omit<FwCfgContent, "files">,
    readonly options: BoardOptions = {},
    diskArea = 0,
  ) {
    const line = (intid: number) => (level: boolean) => wires.setSpi(intid, level);
    const transmit = (byte: number) => wires.transmit(byte);
    const timed = {
      nowNs: () => wires.nowNs(),
      alarmChanged: () => wires.alarmChanged(),
    };
    this.uart = new Pl011(placePl011(arena), { transmit, setIrq: line(VIRT_INTID.uart) });
    this.testDevice = new TestDevice(placeTestDevice(arena), line(VIRT_INTID.testDevice));
    this.rtc = new Pl031(arena.make(Pl031Layout), { ...timed, setIrq: line(VIRT_INTID.rtc) });
    this.gpio = new Pl061(arena.make(Pl061Layout), { ...timed, setIrq: line(VIRT_INTID.gpio) });
    const { files = [] } = options;
    this.fwCfg = new FwCfg(arena.make(FwCfgLayout), ram, { ...content, files });
    this.#console = new VirtioConsole(transmit);
    this.#rng = new VirtioRng(arena.make(VirtioRngLayout));
    this.slots = new Map(
      this.#virtioDevices(diskArea).map(([slot, device]) => [slot, this.#plug(slot, device)]),
    );
    this.placed = [
      { ...VIRT_MAP.uart, device: this.uart },
      { ...VIRT_MAP.rtc, device: this.rtc },
      { ...VIRT_MAP.fwCfg, device: this.fwCfg },
      { ...VIRT_MAP.gpio, device: this.gpio },
      { ...VIRT_MAP.virtioMmio, device: new VirtioWindow(this.slots) },
      { ...VIRT_MAP.testDevice, device: this.testDevice },
    ];
    this.rtc.start(options.rtcEpoch ?? RTC_EPOCH);
    this.#rng.seed(RNG_SEED);
  }

  #virtioDevices(diskArea: number): [slot: number, device: VirtioDevice][] {
    const { net = "none", disks = [] } = this.options;
    const devices: [number, VirtioDevice][] = [
      [VIRTIO_SLOT.console, this.#console],
      [VIRTIO_SLOT.rng, this.#rng],
    ];
    if (net !== "none") {
      devices.push([VIRTIO_SLOT.net, new VirtioNet(net === "echo" ? ECHO_PEER : LOOPBACK)]);
    }
    let at = diskArea;
    disks.forEach(({ image, readOnly }, i) => {
      const disk = readOnly
        ? new ReadOnlyDisk(image)
        : new OverlaidDisk(this.arena.memory, at, image);
      if (!readOnly) at += overlaySize(image.size);
      devices.push([VIRTIO_SLOT.disk + i, new VirtioBlock(disk, `worldswitch-disk-${i}`)]);
    });
    return devices;
  }

  #plug(slot: number, device: VirtioDevice): VirtioMmio {
    return new VirtioMmio(this.arena.make(VirtioMmioLayout), device, this.ram, {
      setIrq: (level) => this.wires.setSpi(VIRT_INTID.virtioMmio0 + slot, level),
      broken: (id, fault) => this.#broken(slot, id, fault),
    });
  }

  #broken(slot: number, device: number, fault: VirtioFault): void {
    const line = `virtio ${VIRTIO_NAMES[device] ?? device}, slot ${slot}: ${fault}; needs a reset`;
    this.wires.broken(slot, device, VIRTIO_FAULTS.indexOf(fault), line);
  }

  /** Power-on state of everything but the clock, which goes on, and the disks. */
  reset(): void {
    this.uart.reset();
    this.testDevice.reset();
    this.rtc.reset();
    this.gpio.reset();
    this.fwCfg.reset();
    for (const slot of this.slots.values()) slot.reset();
  }

  /** The device found last: mostly the next access is its own, too. */
  #last: PlacedDevice | undefined;

  /** The device that answers all of `size` bytes at `pa`, or undefined. */
  find(pa: number, size: number): PlacedDevice | undefined {
    const last = this.#last;
    if (last !== undefined && covers(last, pa, size)) return last;
    for (const place of this.placed) if (covers(place, pa, size)) return this.#last = place;
    return undefined;
  }

  // Time

  /** When {@link onTime} is due, in ns of virtual time; Infinity when nothing is. */
  get nextNs(): number {
    return Math.min(this.rtc.nextNs, this.gpio.nextNs);
  }

  /** Virtual time has come to `nowNs`. */
  onTime(nowNs: number): void {
    this.rtc.onTime(nowNs);
    this.gpio.onTime(nowNs);
  }

  // The console

  get #consoleSlot(): VirtioMmio | undefined {
    return this.options.console === "virtio" ? this.slots.get(VIRTIO_SLOT.console) : undefined;
  }

  /** Bytes that {@link consoleInput} takes now. */
  get consoleRoom(): number {
    const slot = this.#consoleSlot;
    if (slot === undefined) return this.uart.receiveSpace();
    let room = 0;
    slot.run(() => room = this.#console.room(slot.queues));
    return room;
  }

  /** Bytes arrive at the console; those beyond {@link consoleRoom} are lost. */
  consoleInput(bytes: Uint8Array): void {
    const slot = this.#consoleSlot;
    if (slot) slot.run(() => this.#console.receive(slot.queues, bytes));
    else for (const byte of bytes) this.uart.receive(byte);
  }
}
