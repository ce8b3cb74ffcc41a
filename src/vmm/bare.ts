/**
 * `--bare`: an image runs on the machine itself, from EL2 or EL1, without host and hypervisor. The
 * board's devices hang on the physical bus; PSCI is answered by the built-in firmware.
 */
import type { Device } from "../arm/bus.ts";
import { Firmware } from "../arm/firmware.ts";
import { Machine, type MachineOptions } from "../arm/machine.ts";
import type { Guest, GuestEvent, GuestStats, TracePlace } from "./guest.ts";
import type { LoopState } from "./machine_loop.ts";
import { bytesOfHex, type Input } from "./recording.ts";
import { placePl011, placeTestDevice } from "./device_state.ts";
import { EmptyVirtioWindow } from "./empty_window.ts";
import type { AccessSize, MmioDevice } from "./mmio.ts";
import { Pl011 } from "./pl011.ts";
import { TRACE_CAPACITY } from "./worker_protocol.ts";
import { TraceRing } from "../trace/tracepoints.ts";
import { TestDevice } from "./test_device.ts";
import type { BootPlan } from "./boot_plan.ts";
import { VIRT_INTID, VIRT_MAP } from "./virt_map.ts";

/** Function not implemented, as Linux numbers it. */
const ENOSYS = 38;

export interface BareOptions extends MachineOptions {
  /** The exception level the image starts at. */
  readonly el: 1 | 2;
  /** A byte of console output. */
  readonly transmit: (byte: number) => void;
}

/** A device of ours on the physical bus: wider accesses go word by word, low word first. */
export function onBus(device: MmioDevice): Device {
  const narrow = (size: number) => size as AccessSize;
  return {
    read: (offset, size) =>
      size === 8
        ? BigInt(device.read(offset, 4)) | (BigInt(device.read(offset + 4, 4)) << 32n)
        : device.read(offset, narrow(size)),
    write: (offset, size, value) => {
      device.write(offset, narrow(Math.min(size, 4)), Number(value & 0xffff_ffffn));
      if (size === 8) device.write(offset + 4, 4, Number(value >> 32n));
    },
  };
}

/** A machine without a host. */
export class BareMachine implements Guest {
  readonly machine: Machine;
  readonly uart: Pl011;
  readonly testDevice: TestDevice;

  constructor(readonly options: BareOptions) {
    const conduit = options.el === 2 ? "smc" : "hvc";
    this.machine = new Machine(options, new Firmware(conduit));
    const { arena, observeArena, memory, platform } = this.machine;
    const ring = new TraceRing(memory, observeArena, TRACE_CAPACITY);
    this.trace = { head: ring.headAt, records: ring.recordsAt };
    const line = (intid: number) => (level: boolean) => platform.gic.setSpi(intid, level);
    const uartState = placePl011(arena);
    this.uart = new Pl011(uartState, {
      transmit: options.transmit,
      setIrq: line(VIRT_INTID.uart),
    });
    this.uart.reset();
    this.testDevice = new TestDevice(placeTestDevice(arena), line(VIRT_INTID.testDevice));
    const { uart, testDevice, virtioMmio } = VIRT_MAP;
    platform.bus.add(uart.name, uart.base, uart.size, onBus(this.uart));
    platform.bus.add(testDevice.name, testDevice.base, testDevice.size, onBus(this.testDevice));
    platform.bus.add(
      virtioMmio.name,
      virtioMmio.base,
      virtioMmio.size,
      onBus(new EmptyVirtioWindow()),
    );
  }

  readonly trace: TracePlace;
  attach(_loop: LoopState): void {}
  /** There is nothing of KVM to show. */
  readonly frames = undefined;
  readonly failure = undefined;
  #plan: BootPlan | undefined;

  takeEvent(): GuestEvent | undefined {
    const event = this.machine.power;
    this.machine.power = undefined;
    return event;
  }

  get consoleRoom(): number {
    return this.uart.receiveSpace();
  }

  apply(input: Input): number {
    const { gic } = this.machine.platform;
    switch (input.op) {
      case "consoleBytes":
        for (const byte of bytesOfHex(input.hex)) this.uart.receive(byte);
        return 0;
      case "raiseLine":
      case "lowerLine":
        gic.setSpi(input.intid, input.op === "raiseLine");
        return 0;
      case "pulseLine":
        gic.setSpi(input.intid, true);
        gic.setSpi(input.intid, false);
        return 0;
      default:
        return -ENOSYS;
    }
  }

  reset(): void {
    this.uart.reset();
    this.testDevice.reset();
    this.machine.platform.gic.reset();
    if (this.#plan) this.boot(this.#plan);
  }

  stats(): GuestStats {
    const cpus = this.machine.platform.cpus.map((cpu) => ({ insns: cpu.insns }));
    return { vcpus: [], pcpus: cpus };
  }

  /** Loads what was planned and starts CPU 0 there. */
  boot(plan: BootPlan): void {
    this.#plan = plan;
    for (const { pa, bytes } of plan.segments) this.machine.writeRam(pa, bytes);
    this.machine.start(0, this.options.el, plan.registers.pc, plan.registers.x0);
  }
}
