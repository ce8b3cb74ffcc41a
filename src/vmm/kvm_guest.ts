/**
 * A guest under KVM: the machine, the host kernel on it, one VM with its user-space devices. What QEMU
 * is to KVM on a real host, by KVM's interface alone.
 */
import type { CpuModel } from "../arm/arch/features.ts";
import { Machine } from "../arm/machine.ts";
import type { MachineOptions } from "../arm/machine_options.ts";
import type { TeamOptions } from "../arm/parallel/team_machine.ts";
import { Arena } from "../base/arena.ts";
import { Locks } from "../base/lock.ts";
import { Host, type HostMode } from "../host/host.ts";
import { machineHardware } from "../host/machine_hardware.ts";
import {
  IRQ_TYPE,
  KVM_CAP,
  KVM_EXIT,
  KVM_SYSTEM_EVENT,
  type KvmRun,
  KvmSystem,
  mmioDataHi,
  mmioDataLo,
  PMU_V3_ATTR,
  setMmioData,
  type Vcpu,
  VCPU_ATTR,
  VCPU_FEATURE,
  type VcpuHandle,
  VGIC_CTRL_INIT,
  VGIC_GRP,
  VGIC_V2_ADDR_TYPE,
  VGIC_V3_ADDR_TYPE,
  type Vm,
} from "../kvm/api.ts";
import { NO_VCPU, TraceRing } from "../trace/tracepoints.ts";
import type { BootPlan } from "./boot_plan.ts";
import { Board, type BoardOptions, type BoardWires, diskBytes } from "./board.ts";
import { GuestRam } from "./guest_ram.ts";
import { showCpuModel } from "./cpu_model.ts";
import type { Guest, GuestEvent, GuestFailure, GuestStats, TracePlace } from "./guest.ts";
import { KvmFrameSource, retiredInsns, translatedInsns } from "./kvm_frame_source.ts";
import { kvmStats } from "./kvm_stats.ts";
import type { LoopState } from "./machine_loop.ts";
import type { AccessSize, MmioDevice } from "./mmio.ts";
import { stepOf, workOf } from "./kvm_inputs.ts";
import type { Input } from "./recording.ts";
import { VIRT_INTID, VIRT_MAP } from "./virt_map.ts";
import { TRACE_CAPACITY } from "./worker_protocol.ts";

const MIB = 1 << 20;
/** RAM for the host kernel: its structures, then stage-2 tables and whatever else is allocated by pages. */
const HOST_ARENA_BYTES = 16 * MIB;
const HOST_PAGES_BYTES = 32 * MIB;
const PAGE = 4096;

export interface KvmGuestOptions {
  readonly vcpus: number;
  readonly pcpus: number;
  /** Guest RAM in bytes. */
  readonly memory: number;
  readonly lrs: number;
  /** What the guest is told its CPUs are; `v8.0` unless told. */
  readonly cpu?: CpuModel;
  /** Version of the interrupt controller, of the machine and of the guest; 3 unless told. */
  readonly gic?: 2 | 3;
  /** Seed of the order of the host pages behind guest memory; 0: one run of pages, mapped by blocks. */
  readonly shuffle: number;
  readonly transmit: (byte: number) => void;
  /** A line about something that a guest did to a device. */
  readonly report?: (line: string) => void;
  /** The kernel command line, for fw_cfg. */
  readonly append?: string;
  readonly board?: BoardOptions;
  /** Instructions a CPU's turn lasts at most. */
  readonly quantum?: number;
  /** What of the guest's code is translated, and when. */
  readonly regions?: MachineOptions["regions"];
  /** The world switch: "vhe" if left out. */
  readonly mode?: HostMode;
  /** Interrupts of the guest's controller, a multiple of 32 from 64 to 992; 256 unless told. */
  readonly irqs?: number;
  /** CPUs in parallel: this worker. */
  readonly team?: TeamOptions;
}

/** KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE, with the register's offset in 32-bit words. */
const coreReg = (words: number): bigint => 0x6030_0000_0010_0000n + BigInt(words);
const REG_X0 = coreReg(0);
const REG_PC = coreReg(64);

/** Memory slots. */
const SLOT = { RAM: 0, PVTIME: 1 } as const;
/** Bytes of a vCPU's struct pvclock_vcpu_stolen_time. */
const STOLEN_TIME_SIZE = 64;

const ERRNO = { EINTR: 4, EINVAL: 22, EBUSY: 16, ENOSYS: 38, EOPNOTSUPP: 95 } as const;

/** How long vCPUs in other workers may take to leave before they are looked at again. */
const LEAVE_NS = 1_000_000;

/** Rounds of one instruction within which the host kernel gets to work that came from outside. */
const SETTLE_ROUNDS = 1000;

/** Where the guest's interrupt controller is: address types of KVM with their places. */
const VGIC_FRAMES = {
  2: [[VGIC_V2_ADDR_TYPE.DIST, VIRT_MAP.gicd], [VGIC_V2_ADDR_TYPE.CPU, VIRT_MAP.gicc]],
  3: [[VGIC_V3_ADDR_TYPE.DIST, VIRT_MAP.gicd], [VGIC_V3_ADDR_TYPE.REDIST, VIRT_MAP.gicr]],
} as const;

/** The CPUs of the main worker, where work from outside arrives, one bit each. */
function cpusOfMain(pcpus: number, workers: number): number {
  let mask = 0;
  for (let pcpu = 0; pcpu < pcpus; pcpu += workers) mask |= 1 << pcpu;
  return mask;
}

/** The machine and the host kernel with KVM on it, before there is a VM. */
export class KvmMachine {
  readonly machine: Machine;
  readonly host: Host;
  readonly kvm: KvmSystem;
  readonly trace: TraceRing;

  constructor(options: {
    readonly pcpus: number;
    /** RAM for guests, in bytes. */
    readonly guestRam: number;
    readonly lrs: number;
    readonly gic?: 2 | 3;
    readonly shuffle?: number;
    readonly quantum?: number;
    readonly regions?: MachineOptions["regions"];
    readonly mode?: HostMode;
    readonly deviceBytes?: number;
    readonly team?: TeamOptions;
  }) {
    const { pcpus, guestRam, lrs, gic: version = 3, shuffle = 0, quantum, mode = "vhe" } = options;
    const { deviceBytes = 0, team } = options;
    this.machine = new Machine({
      pcpus,
      ramSize: guestRam + HOST_ARENA_BYTES + HOST_PAGES_BYTES,
      lrs,
      deviceBytes,
      gic: version,
      ...(quantum === undefined ? {} : { quantum }),
      ...(options.regions === undefined ? {} : { regions: options.regions }),
      ...(team === undefined ? {} : { team }),
    });
    const { memory, ram, observeArena } = this.machine;
    this.trace = new TraceRing(memory, observeArena, TRACE_CAPACITY);
    this.host = new Host({
      hardware: machineHardware(this.machine),
      mode,
      locks: team
        ? new Locks(memory, "parallel", observeArena)
        : new Locks(memory, "deterministic"),
      workCpus: team ? cpusOfMain(pcpus, team.workers) : 0,
      trace: this.trace,
      arena: new Arena("host", memory, ram.at, ram.at + HOST_ARENA_BYTES),
      pages: { start: ram.pa + HOST_ARENA_BYTES, end: ram.pa + ram.size, shuffle },
    });
    // Every CPU starts at EL2, in the hands of the host kernel.
    for (let pcpu = 0; pcpu < pcpus; pcpu++) this.machine.start(pcpu, 2, 0, 0);
    this.machine.el2 = this.host;
    this.host.boot();
    this.kvm = new KvmSystem(this.host, { observeArena, reportsGuestInterrupts: true });
    const { guestInterrupts } = this.kvm;
    const { gic } = this.machine.platform;
    this.machine.virtualInterrupt = guestInterrupts.vector;
    gic.virtualAcknowledged = guestInterrupts.acknowledged;
    gic.virtualDeactivated = guestInterrupts.deactivated;
  }

  /** Frame numbers of `bytes` of host pages, zeroed: one run if `contiguous`. */
  allocatePages(bytes: number, contiguous: boolean): Uint32Array {
    const { pages } = this.host;
    const count = bytes / PAGE;
    // Aligned to 2 MiB, so that stage 2 can map blocks.
    const first = contiguous ? pages.allocateRun(count, 512) : -1;
    const pfns = new Uint32Array(count);
    for (let i = 0; i < count; i++) pfns[i] = first < 0 ? pages.allocate() : first + i;
    return pfns;
  }
}

/** One VM and its devices, as user space has them. */
export class KvmGuest implements Guest {
  readonly kvmMachine: KvmMachine;
  readonly machine: Machine;
  readonly trace: TracePlace;
  readonly board: Board;
  readonly frames: KvmFrameSource;
  failure: GuestFailure | undefined;
  vm: Vm;
  readonly #pfns: Uint32Array;
  readonly #ram: GuestRam;
  /** The soft timer of the board's next moment. */
  readonly #alarm: number;
  readonly #pvtimePfns: Uint32Array;
  #plan: BootPlan | undefined;

  constructor(readonly options: KvmGuestOptions) {
    const { pcpus, memory: guestRam, lrs, gic = 3, shuffle, quantum, mode = "vhe" } = options;
    this.kvmMachine = new KvmMachine({
      pcpus,
      guestRam,
      lrs,
      gic,
      shuffle,
      mode,
      deviceBytes: diskBytes(options.board?.disks),
      ...(quantum === undefined ? {} : { quantum }),
      ...(options.regions === undefined ? {} : { regions: options.regions }),
      ...(options.team === undefined ? {} : { team: options.team }),
    });
    this.machine = this.kvmMachine.machine;
    this.frames = new KvmFrameSource(this.kvmMachine);
    const { trace } = this.kvmMachine;
    this.trace = { head: trace.headAt, records: trace.recordsAt };
    this.#pfns = this.kvmMachine.allocatePages(guestRam, shuffle === 0);
    this.#pvtimePfns = this.kvmMachine.allocatePages(VIRT_MAP.pvtime.size, false);
    this.vm = this.#createVm();
    this.kvmMachine.kvm.onAdopted = (vm) => this.#adopt(vm);
    this.#ram = new GuestRam({
      memory: this.machine.memory,
      ramOffset: (ipa) => this.#ramOffset(ipa),
      ramWritten: (at, length) => this.machine.ramWritten(at, length),
    });
    const { hrtimers } = this.kvmMachine.host;
    this.#alarm = hrtimers.create(hrtimers.register((_, now) => this.#onAlarm(now)), 0);
    this.board = this.#makeBoard();
    this.board.reset();
  }

  #makeBoard(): Board {
    const { options, machine } = this;
    const wires: BoardWires = {
      transmit: options.transmit,
      setSpi: (intid, level) => this.vm.irqLine(IRQ_TYPE.SPI, 0, intid, level),
      nowNs: () => machine.nowNs,
      alarmChanged: () => this.#setAlarm(),
      broken: (slot, device, fault, line) => {
        this.kvmMachine.trace.emit("virtio_needs_reset", 0, NO_VCPU, slot, device, fault);
        options.report?.(line);
      },
    };
    const { vcpus, memory, append = "" } = options;
    const content = { cpus: vcpus, ramSize: memory, cmdline: append };
    return new Board(
      machine.arena,
      this.#ram,
      wires,
      content,
      options.board,
      machine.deviceArea.at,
    );
  }

  /** Arms the timer for what the board wants next. The timer is not there while the board is being made. */
  #setAlarm(): void {
    const { host } = this.kvmMachine;
    host.asHost(() => {
      const next = this.board.nextNs;
      if (next === Infinity) host.hrtimers.cancel(this.#alarm);
      else host.hrtimers.start(this.#alarm, next);
    });
  }

  #onAlarm(nowNs: number): number {
    this.board.onTime(nowNs);
    return 0;
  }

  #createVm(): Vm {
    const vm = this.kvmMachine.kvm.createVm();
    vm.createVgic(this.options.gic ?? 3);
    vm.enableCap(KVM_CAP.ARM_NISV_TO_USER);
    vm.setUserMemoryRegion(SLOT.RAM, VIRT_MAP.ram.base, this.#pfns);
    vm.setUserMemoryRegion(SLOT.PVTIME, VIRT_MAP.pvtime.base, this.#pvtimePfns);
    for (let id = 0; id < this.options.vcpus; id++) {
      const off = id === 0 ? [] : [VCPU_FEATURE.POWER_OFF];
      const vcpu = vm.createVcpu(id, (vcpu, ret) => this.#onExit(vcpu, ret));
      vcpu.init([VCPU_FEATURE.PSCI_0_2, VCPU_FEATURE.PMU_V3, ...off]);
      const stolen = VIRT_MAP.pvtime.base + id * STOLEN_TIME_SIZE;
      vcpu.setAttr(VCPU_ATTR.PVTIME_CTRL, 0, BigInt(stolen));
    }
    showCpuModel(vm, this.options.cpu ?? "v8.0");
    vm.setVgicAttr(VGIC_GRP.NR_IRQS, 0n, BigInt(this.options.irqs ?? 256));
    for (const [type, { base }] of VGIC_FRAMES[this.options.gic ?? 3]) {
      vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(type), BigInt(base));
    }
    vm.setVgicAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n);
    for (const vcpu of vm.vcpus) {
      vcpu.setAttr(VCPU_ATTR.PMU_V3_CTRL, PMU_V3_ATTR.IRQ, BigInt(VIRT_INTID.pmu));
      vcpu.setAttr(VCPU_ATTR.PMU_V3_CTRL, PMU_V3_ATTR.INIT, 0n);
    }
    return vm;
  }

  #ramOffset(ipa: number): number {
    const page = this.#pfns[Math.floor((ipa - VIRT_MAP.ram.base) / PAGE)];
    if (page === undefined) return -1;
    const { ram } = this.machine;
    return ram.at + (page * PAGE - ram.pa) + (ipa % PAGE);
  }

  /** Byte offset in the shared memory of guest physical address `ipa`. RangeError outside guest RAM. */
  offsetOf(ipa: number): number {
    const at = this.#ramOffset(ipa);
    if (at < 0) throw new RangeError(`IPA 0x${ipa.toString(16)} is not guest RAM`);
    return at;
  }

  guestPhysical(pa: number): number | undefined {
    const index = this.#pfns.indexOf(Math.floor(pa / PAGE));
    return index < 0 ? undefined : VIRT_MAP.ram.base + index * PAGE + pa % PAGE;
  }

  /** Writes guest memory from outside, as a loader does. */
  writeMemory(ipa: number, bytes: Uint8Array): void {
    this.#ram.write(ipa, bytes);
  }

  /** Loads what was planned, sets vCPU 0 to its entry and lets all vCPUs run. */
  boot(plan: BootPlan): void {
    this.#plan = plan;
    for (const { pa, bytes } of plan.segments) this.writeMemory(pa, bytes);
    const [first] = this.vm.vcpus;
    first?.setOneReg(REG_PC, BigInt(plan.registers.pc));
    first?.setOneReg(REG_X0, BigInt(plan.registers.x0));
    this.kvmMachine.host.runAs(0, () => this.vm.vcpus.forEach((vcpu) => vcpu.run()));
  }

  // Exits to user space

  #onExit(handle: VcpuHandle, ret: number): boolean {
    const { run } = handle.vcpu;
    if (ret < 0) {
      run.immediateExit = false;
      if (ret !== -ERRNO.EINTR) this.failure = { message: refused(handle, ret) };
      return false;
    }
    if (run.exitReason === KVM_EXIT.MMIO) return this.#mmio(handle);
    if (run.exitReason === KVM_EXIT.ARM_NISV) {
      // Nobody could emulate it: the guest gets an abort, as from a bus with nothing there.
      handle.setVcpuEvents({ extDabtPending: true });
      return true;
    }
    if (run.exitReason === KVM_EXIT.SYSTEM_EVENT) return this.#systemEvent(run.systemEventType);
    this.failure = {
      message:
        `vCPU ${handle.vcpu.state.vcpuId}: exit ${run.exitReason} to user space that nobody handles`,
    };
    return false;
  }

  #mmio({ vcpu: { run } }: VcpuHandle): boolean {
    const at = run.mmioPhysAddr;
    const found = this.board.find(at, run.mmioLen);
    if (run.mmioIsWrite) {
      if (found) writeDevice(found.device, at - found.base, run);
    } else if (found) readDevice(found.device, at - found.base, run);
    else setMmioData(run, 0, 0);
    return true;
  }

  #systemEvent(type: number): boolean {
    this.machine.power = type === KVM_SYSTEM_EVENT.RESET ? "reset" : "off";
    return false;
  }

  /** What other workers have done to the VM is taken over. */
  refresh(): void {
    this.kvmMachine.kvm.refresh();
  }

  /** Another worker has made the VM anew. */
  #adopt(vm: Vm): void {
    this.vm = vm;
    for (const vcpu of vm.vcpus) vcpu.onExit = (handle, ret) => this.#onExit(handle, ret);
  }

  // Guest

  attach(loop: LoopState): void {
    this.frames.loop = loop;
  }

  get consoleRoom(): number {
    return this.board.consoleRoom;
  }

  takeEvent(): GuestEvent | undefined {
    const event = this.machine.power;
    this.machine.power = undefined;
    return event;
  }

  /** Lets all vCPUs leave, makes the VM anew over the same pages, and boots again. */
  reset(): void {
    const { host } = this.kvmMachine;
    host.runAs(0, () => this.vm.vcpus.forEach((vcpu) => vcpu.kick()));
    this.#letVcpusLeave();
    this.machine.freeze();
    host.runAs(0, () => this.vm.destroy());
    const { memory } = this.machine;
    for (let ipa = 0; ipa < this.options.memory; ipa += PAGE) {
      const at = this.offsetOf(VIRT_MAP.ram.base + ipa);
      if (memory.clear(at, PAGE)) this.machine.ramWritten(at, PAGE);
    }
    this.vm = host.runAs(0, () => this.#createVm());
    this.board.reset();
    if (this.#plan) this.boot(this.#plan);
    this.machine.thaw();
  }

  #letVcpusLeave(): void {
    const { machine } = this;
    const limitNs = () => machine.team ? machine.nowNs + LEAVE_NS : Infinity;
    for (let i = 0; i < 1000 && this.vm.vcpus.some((v) => v.running); i++) {
      machine.run(1, limitNs());
    }
  }

  apply(input: Input): number {
    const { host } = this.kvmMachine;
    const wrong = this.#invalid(input);
    if (wrong !== 0) return wrong;
    const step = stepOf(input);
    if (step) return this.options.team ? -ERRNO.EOPNOTSUPP : step(this);
    const work = workOf(input);
    if (!work) return -ERRNO.ENOSYS;
    host.queueWork(() => work(this));
    this.#settle();
    return 0;
  }

  /** Lets the host kernel do what was queued, with as few guest instructions as that takes. */
  #settle(): void {
    const { host } = this.kvmMachine;
    for (let i = 0; i < SETTLE_ROUNDS && host.hasWork; i++) this.machine.stepRound(1);
  }

  /** 0, or the error of an input that names what there is not. */
  #invalid(input: Input): number {
    const values = input as unknown as Readonly<Record<string, number | undefined>>;
    const { vm = 0, vcpu = 0, pcpu = 0, intid = 0 } = values;
    const known = vm === 0 && vcpu < this.options.vcpus && pcpu < this.options.pcpus &&
      intid < 256;
    return known ? 0 : -ERRNO.EINVAL;
  }

  stats(): GuestStats {
    const { kvm, host } = this.kvmMachine;
    const counts = (vcpu: Vcpu) => ({
      insns: retiredInsns(this.machine, vcpu),
      translatedInsns: translatedInsns(this.machine, vcpu),
    });
    return { ...kvmStats(kvm.vms, host, counts) };
  }
}

/** KVM cannot run the vCPU on: an access that its syndrome does not describe, for one. */
function refused({ vcpu: { state, ctxt } }: VcpuHandle, ret: number): string {
  return `vCPU ${state.vcpuId}: KVM_RUN failed with error ${-ret} at PC 0x${ctxt.pc.toString(16)}`;
}

function readDevice(device: MmioDevice, offset: number, run: KvmRun): void {
  const lo = device.read(offset, Math.min(run.mmioLen, 4) as AccessSize);
  setMmioData(run, lo, run.mmioLen === 8 ? device.read(offset + 4, 4) : 0);
}

function writeDevice(device: MmioDevice, offset: number, run: KvmRun): void {
  device.write(offset, Math.min(run.mmioLen, 4) as AccessSize, mmioDataLo(run));
  if (run.mmioLen === 8) device.write(offset + 4, 4, mmioDataHi(run));
}
