/**
 * `--bare`: an image runs on the machine itself, from EL2 or EL1, without host and hypervisor. The
 * board's devices hang on the physical bus; PSCI is answered by the built-in firmware.
 */
import { ramOffset } from "../arm/arch/tlb_layout.ts";
import type { Device } from "../arm/bus.ts";
import type { CpuCore } from "../arm/cpu.ts";
import { Firmware } from "../arm/firmware.ts";
import { Machine } from "../arm/machine.ts";
import type { MachineOptions } from "../arm/machine_options.ts";
import type { Guest, GuestEvent, GuestStats, TracePlace } from "./guest.ts";
import type { LoopState } from "./machine_loop.ts";
import { bytesOfHex, type Input } from "./recording.ts";
import { Board, type BoardOptions, diskBytes } from "./board.ts";
import { GuestRam } from "./guest_ram.ts";
import type { AccessSize, MmioDevice } from "./mmio.ts";
import { TRACE_CAPACITY } from "./worker_protocol.ts";
import { NO_VCPU, TraceRing } from "../trace/tracepoints.ts";
import type { BootPlan } from "./boot_plan.ts";

/** Function not implemented, as Linux numbers it. */
const ENOSYS = 38;

export interface BareOptions extends MachineOptions {
  /** The exception level the image starts at. */
  readonly el: 1 | 2;
  /** A byte of console output. */
  readonly transmit: (byte: number) => void;
  /** A line about something that a guest did to a device. */
  readonly report?: (line: string) => void;
  /** The kernel command line, for fw_cfg. */
  readonly append?: string;
  readonly board?: BoardOptions;
}

/** A device of ours on the physical bus: wider accesses go word by word, low word first. */
function onBus(device: MmioDevice): Device {
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
  readonly board: Board;

  constructor(readonly options: BareOptions) {
    const conduit = options.el === 2 ? "smc" : "hvc";
    this.#firmware = new Firmware(conduit);
    this.machine = new Machine(
      { ...options, deviceBytes: diskBytes(options.board?.disks) },
      this.#firmware,
    );
    const { arena, observeArena, memory, platform } = this.machine;
    const ring = new TraceRing(memory, observeArena, TRACE_CAPACITY);
    this.trace = { head: ring.headAt, records: ring.recordsAt };
    const { ram } = this.machine;
    const guestRam = new GuestRam({
      memory,
      ramOffset: (pa) => ramOffset(ram, pa, 1),
      ramWritten: (at, length) => this.machine.ramWritten(at, length),
    });
    this.#ram = guestRam;
    this.board = new Board(
      arena,
      guestRam,
      {
        transmit: options.transmit,
        setSpi: (intid, level) => platform.gic.setSpi(intid, level),
        nowNs: () => this.machine.nowNs,
        alarmChanged: () => this.machine.alarmChanged(),
        broken: (slot, device, fault, line) => {
          ring.emit("virtio_needs_reset", 0, NO_VCPU, slot, device, fault);
          options.report?.(line);
        },
      },
      { cpus: options.pcpus, ramSize: options.ramSize, cmdline: options.append ?? "" },
      options.board,
      this.machine.deviceArea.at,
    );
    for (const { name, base, size, device } of this.board.placed) {
      platform.bus.add(name, base, size, onBus(device));
    }
    this.machine.alarms = this.board;
    this.board.reset();
  }

  readonly #firmware: Firmware;
  readonly #ram: GuestRam;
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
    return this.board.consoleRoom;
  }

  apply(input: Input): number {
    const { gic } = this.machine.platform;
    switch (input.op) {
      case "consoleBytes":
        this.board.consoleInput(bytesOfHex(input.hex));
        return 0;
      case "pressPowerButton":
        this.board.gpio.pressPowerButton();
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

  /** There is nothing between the image and the machine. */
  guestPhysical(pa: number): number | undefined {
    return ramOffset(this.machine.ram, pa, 1) < 0 ? undefined : pa;
  }

  /** As after power on: RAM is empty, and only CPU 0 starts. */
  reset(): void {
    const { memory, platform, ram } = this.machine;
    this.machine.freeze();
    for (const core of platform.cores) this.#firmware.stopCpu(core);
    if (memory.clear(ram.at, ram.size)) this.machine.ramWritten(ram.at, ram.size);
    this.board.reset();
    platform.gic.reset();
    if (this.#plan) this.boot(this.#plan);
    this.machine.thaw();
  }

  stats(): GuestStats {
    const cpus = this.machine.platform.cpus.map((cpu) => ({ insns: cpu.insns }));
    return { vcpus: [], pcpus: cpus };
  }

  /** Loads what was planned and starts CPU 0 there. */
  boot(plan: BootPlan): void {
    this.#plan = plan;
    for (const { pa, bytes } of plan.segments) this.#ram.write(pa, bytes);
    const core = this.machine.cores[0] as CpuCore;
    this.#firmware.startCpu(core, plan.registers.pc, plan.registers.x0);
  }
}
