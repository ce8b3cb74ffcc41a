/**
 * A virtio device on the MMIO transport, version 2, without the legacy interface (Virtio 1.2, section
 * 4.2): the registers of one slot, feature negotiation, the status dance and the interrupt line.
 *
 * A device that its driver has confused has DEVICE_NEEDS_RESET set, tells so by a configuration
 * interrupt and does nothing more until it is reset (section 2.1.1).
 */
import { bool, layout, structs, u32, type ViewOf } from "../../base/struct.ts";
import type { VirtioFault } from "../../trace/tracepoints.ts";
import { VIRTIO_MMIO_MAGIC, VIRTIO_MMIO_VENDOR, VIRTIO_MMIO_VERSION } from "../empty_window.ts";
import type { GuestRam } from "../guest_ram.ts";
import { accessMask, type AccessSize, type MmioDevice, wordPart } from "../mmio.ts";
import { faultOf, QUEUE_NUM_MAX, Virtqueue, VirtqueueLayout } from "./virtqueue.ts";

/** Byte offsets of the registers. */
export const VIRTIO_MMIO = {
  MagicValue: 0x000,
  Version: 0x004,
  DeviceID: 0x008,
  VendorID: 0x00c,
  DeviceFeatures: 0x010,
  DeviceFeaturesSel: 0x014,
  DriverFeatures: 0x020,
  DriverFeaturesSel: 0x024,
  QueueSel: 0x030,
  QueueNumMax: 0x034,
  QueueNum: 0x038,
  QueueReady: 0x044,
  QueueNotify: 0x050,
  InterruptStatus: 0x060,
  InterruptACK: 0x064,
  Status: 0x070,
  QueueDescLow: 0x080,
  QueueDescHigh: 0x084,
  QueueDriverLow: 0x090,
  QueueDriverHigh: 0x094,
  QueueDeviceLow: 0x0a0,
  QueueDeviceHigh: 0x0a4,
  SHMLenLow: 0x0b0,
  SHMBaseHigh: 0x0bc,
  ConfigGeneration: 0x0fc,
  Config: 0x100,
} as const;

/** Bits of Status. */
export const VIRTIO_STATUS = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  NEEDS_RESET: 64,
  FAILED: 128,
} as const;
/** Bits of InterruptStatus. */
export const VIRTIO_INT = { USED: 1, CONFIG: 2 } as const;

/** Feature bits 28 and 29; bit 32 is bit 0 of the high word. */
export const VIRTIO_F_INDIRECT_DESC = 1 << 28;
export const VIRTIO_F_EVENT_IDX = 1 << 29;
const VIRTIO_F_VERSION_1_HI = 1 << 0;

/** The most queues that a device of ours has. */
const MAX_QUEUES = 2;

/** The transport's state. */
export const VirtioMmioLayout = layout("virtio_mmio", {
  status: u32(),
  deviceFeaturesSel: u32(),
  driverFeaturesSel: u32(),
  driverFeaturesLo: u32(),
  driverFeaturesHi: u32(),
  queueSel: u32(),
  interruptStatus: u32(),
  configGeneration: u32(),
  /** Level of the interrupt line that was last reported. */
  irqLevel: bool(),
  queues: structs(VirtqueueLayout, MAX_QUEUES),
});

/** What is behind the transport. */
export interface VirtioDevice {
  /** Device id (section 5). */
  readonly id: number;
  readonly queueCount: number;
  /** Its own feature bits, 0 to 23. */
  readonly features: number;
  /** Configuration space, as it reads now. */
  config(): Uint8Array;
  /** A write into it. */
  configWrite?(offset: number, size: AccessSize, value: number): void;
  /** The driver has made something available in the queue of number `index`. */
  notify(queues: readonly Virtqueue[], index: number): void;
  /** Power-on state. */
  reset?(): void;
}

/** What a slot is connected to. */
export interface VirtioWires {
  /** The interrupt line changes to `level`. */
  setIrq(level: boolean): void;
  /** The device needs a reset because of its driver. */
  broken(device: number, fault: VirtioFault): void;
}

type State = ViewOf<typeof VirtioMmioLayout>;
type QueueState = ViewOf<typeof VirtqueueLayout>;
type QueueField = Exclude<keyof QueueState, "memory" | "base" | "num" | "ready">;

const QUEUE_ADDRESSES: ReadonlyMap<number, QueueField> = new Map<number, QueueField>([
  [VIRTIO_MMIO.QueueDescLow, "descLo"],
  [VIRTIO_MMIO.QueueDescHigh, "descHi"],
  [VIRTIO_MMIO.QueueDriverLow, "driverLo"],
  [VIRTIO_MMIO.QueueDriverHigh, "driverHi"],
  [VIRTIO_MMIO.QueueDeviceLow, "deviceLo"],
  [VIRTIO_MMIO.QueueDeviceHigh, "deviceHi"],
]);

/** One slot with a device, over state that the caller owns. */
export class VirtioMmio implements MmioDevice {
  readonly queues: readonly Virtqueue[];
  readonly #features: readonly [lo: number, hi: number];

  constructor(
    readonly state: State,
    readonly device: VirtioDevice,
    readonly ram: GuestRam,
    readonly wires: VirtioWires,
  ) {
    this.#features = [
      (device.features | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX) >>> 0,
      VIRTIO_F_VERSION_1_HI,
    ];
    const features = () => ({
      indirect: (state.driverFeaturesLo & VIRTIO_F_INDIRECT_DESC) !== 0,
      eventIdx: (state.driverFeaturesLo & VIRTIO_F_EVENT_IDX) !== 0,
    });
    this.queues = Array.from({ length: device.queueCount }, (_, i) => {
      const queue = VirtqueueLayout.at(state.memory, state.queues + i * VirtqueueLayout.size);
      return new Virtqueue(queue, ram, features);
    });
  }

  /** Whether the driver is done with setting up and nothing has gone wrong. */
  get live(): boolean {
    const { status } = this.state;
    return (status & (VIRTIO_STATUS.DRIVER_OK | VIRTIO_STATUS.NEEDS_RESET)) ===
      VIRTIO_STATUS.DRIVER_OK;
  }

  /** Feature bits 0 to 31 that the driver has accepted. */
  get negotiated(): number {
    return this.state.driverFeaturesLo;
  }

  /** Power-on state, also what the driver's reset does. */
  reset(): void {
    const { state } = this;
    const { irqLevel, memory, base } = state;
    memory.u8.fill(0, base, base + VirtioMmioLayout.size);
    this.device.reset?.();
    if (irqLevel) this.wires.setIrq(false);
  }

  /**
   * Lets `work` use the queues and then tells the driver of what it gave back. What the driver has done
   * wrong shows here, and breaks the device.
   */
  run(work: () => void): void {
    if (!this.live) return;
    try {
      work();
      if (this.queues.filter((queue) => queue.ready && queue.takeSignal()).length > 0) {
        this.#raise(VIRTIO_INT.USED);
      }
    } catch (error) {
      const fault = faultOf(error);
      if (fault === undefined) throw error;
      this.#break(fault);
    }
  }

  #break(fault: VirtioFault): void {
    this.state.status |= VIRTIO_STATUS.NEEDS_RESET;
    this.wires.broken(this.device.id, fault);
    if (this.state.status & VIRTIO_STATUS.DRIVER_OK) this.#raise(VIRTIO_INT.CONFIG);
  }

  #raise(bit: number): void {
    this.state.interruptStatus |= bit;
    this.#updateIrq();
  }

  #updateIrq(): void {
    const level = this.state.interruptStatus !== 0;
    if (level === this.state.irqLevel) return;
    this.state.irqLevel = level;
    this.wires.setIrq(level);
  }

  // Registers

  /** Registers are read in words, the configuration space in any size. */
  read(offset: number, size: AccessSize): number {
    if (offset < VIRTIO_MMIO.Config) return wordPart(this.#register(offset & ~3), offset, size);
    const bytes = this.device.config();
    let value = 0;
    for (let i = 0; i < size; i++) {
      value += (bytes[offset - VIRTIO_MMIO.Config + i] ?? 0) * 256 ** i;
    }
    return value;
  }

  /** Registers are written in words; parts of them are ignored. */
  write(offset: number, size: AccessSize, value: number): void {
    if (offset >= VIRTIO_MMIO.Config) {
      this.device.configWrite?.(offset - VIRTIO_MMIO.Config, size, value & accessMask(size));
    } else if (size === 4) this.#setRegister(offset, value >>> 0);
  }

  #queue(): Virtqueue | undefined {
    return this.queues[this.state.queueSel];
  }

  #register(offset: number): number {
    const { state, device } = this;
    switch (offset) {
      case VIRTIO_MMIO.MagicValue:
        return VIRTIO_MMIO_MAGIC;
      case VIRTIO_MMIO.Version:
        return VIRTIO_MMIO_VERSION;
      case VIRTIO_MMIO.DeviceID:
        return device.id;
      case VIRTIO_MMIO.VendorID:
        return VIRTIO_MMIO_VENDOR;
      case VIRTIO_MMIO.DeviceFeatures:
        return this.#features[state.deviceFeaturesSel] ?? 0;
      case VIRTIO_MMIO.QueueNumMax:
        return this.#queue() ? QUEUE_NUM_MAX : 0;
      case VIRTIO_MMIO.QueueReady:
        return this.#queue()?.state.ready ?? 0;
      case VIRTIO_MMIO.InterruptStatus:
        return state.interruptStatus;
      case VIRTIO_MMIO.Status:
        return state.status;
      case VIRTIO_MMIO.ConfigGeneration:
        return state.configGeneration;
    }
    // A length of all ones: there is no shared memory region.
    return offset >= VIRTIO_MMIO.SHMLenLow && offset <= VIRTIO_MMIO.SHMBaseHigh ? 0xffff_ffff : 0;
  }

  #setRegister(offset: number, value: number): void {
    const { state } = this;
    const address = QUEUE_ADDRESSES.get(offset);
    if (address !== undefined) return this.#setQueueAddress(address, value);
    switch (offset) {
      case VIRTIO_MMIO.DeviceFeaturesSel:
        state.deviceFeaturesSel = value;
        return;
      case VIRTIO_MMIO.DriverFeaturesSel:
        state.driverFeaturesSel = value;
        return;
      case VIRTIO_MMIO.DriverFeatures:
        return this.#setFeatures(value);
      case VIRTIO_MMIO.QueueSel:
        state.queueSel = value;
        return;
      case VIRTIO_MMIO.QueueNum:
        return this.#setQueueNum(value);
      case VIRTIO_MMIO.QueueReady:
        return this.#setQueueReady(value);
      case VIRTIO_MMIO.QueueNotify:
        return this.#notify(value);
      case VIRTIO_MMIO.InterruptACK:
        state.interruptStatus &= ~value;
        return this.#updateIrq();
      case VIRTIO_MMIO.Status:
        return this.#setStatus(value & 0xff);
    }
  }

  /** Features are settled by FEATURES_OK. */
  #setFeatures(value: number): void {
    const { state } = this;
    if (state.status & VIRTIO_STATUS.FEATURES_OK) return;
    if (state.driverFeaturesSel === 0) state.driverFeaturesLo = value;
    else if (state.driverFeaturesSel === 1) state.driverFeaturesHi = value;
  }

  #setQueueAddress(field: QueueField, value: number): void {
    const queue = this.#queue();
    if (queue && !queue.ready) queue.state[field] = value;
  }

  #setQueueNum(value: number): void {
    const queue = this.#queue();
    if (queue && !queue.ready) queue.state.num = value;
  }

  /** A queue starts where the driver starts it, from the beginning. */
  #setQueueReady(value: number): void {
    const queue = this.#queue();
    if (queue === undefined) return;
    const { state } = queue;
    state.ready = value & 1;
    if (!queue.ready) {
      state.lastAvail = state.usedIdx = state.signalled = 0;
      return;
    }
    try {
      queue.check();
    } catch (error) {
      const fault = faultOf(error);
      if (fault === undefined) throw error;
      state.ready = 0;
      this.#break(fault);
    }
  }

  #notify(index: number): void {
    if (this.queues[index]?.ready) this.run(() => this.device.notify(this.queues, index));
  }

  /** Bits are only added, except by a reset; FEATURES_OK sticks only when the device agrees. */
  #setStatus(value: number): void {
    const { state } = this;
    if (value === 0) return this.reset();
    const ok = VIRTIO_STATUS.FEATURES_OK;
    const refused = (value & ok & ~state.status) !== 0 && !this.#featuresAgreed();
    state.status |= value & ~VIRTIO_STATUS.NEEDS_RESET & (refused ? ~ok : ~0);
  }

  #featuresAgreed(): boolean {
    const { driverFeaturesLo: lo, driverFeaturesHi: hi } = this.state;
    const offered = (lo & ~this.#features[0]) === 0 && (hi & ~this.#features[1]) === 0;
    return offered && (hi & VIRTIO_F_VERSION_1_HI) !== 0;
  }
}
