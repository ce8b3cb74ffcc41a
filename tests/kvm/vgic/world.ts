/**
 * A VM with its vCPUs on the emulated GIC, without CPUs that execute: the test plays the guest (through
 * ICC_* names or GICV, which reach the virtual interface) and the run loop (flush before, sync after).
 */
import type { El2Port } from "../../../src/arm/el2_port.ts";
import { type Cpu, CpuLayout, LINE } from "../../../src/arm/arch/cpu_state.ts";
import {
  GICD,
  GICR_FRAME_SIZE,
  GICR_SGI,
  GICR_SIZE,
  type LrFields,
  lrFields,
} from "../../../src/arm/arch/gic.ts";
import { R, type SysregName } from "../../../src/arm/arch/sysregs.ts";
import type { Gic } from "../../../src/arm/gic/controller.ts";
import { Gicv2 } from "../../../src/arm/gic/gicv2.ts";
import { Gicv3 } from "../../../src/arm/gic/gicv3.ts";
import { GICC, GICC_CTLR } from "../../../src/arm/arch/gicv2.ts";
import { kvmInitStage2Mmu } from "../../../src/kvm/mmu.ts";
import { VGIC } from "../../../src/kvm/vgic/vgic_ops.ts";
import { Arena } from "../../../src/base/arena.ts";
import { Locks } from "../../../src/base/lock.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import {
  type Kvm,
  KVM_MAX_VCPUS,
  KvmCpuContextLayout,
  type KvmHost,
  type KvmIoRange,
  KvmLayout,
  KvmVcpuLayout,
  KvmVcpuStatLayout,
  SAVED,
  type Vcpu,
  type VgicIrq,
  WAIT,
} from "../../../src/kvm/kvm_host.ts";
import {
  kvmVgicFlushHwstate,
  kvmVgicInjectIrq,
  kvmVgicLoad,
  kvmVgicPut,
  kvmVgicSyncHwstate,
  vgicGetIrq,
} from "../../../src/kvm/vgic/vgic.ts";
import type { GicKvmInfo } from "../../../src/kvm/vgic/vgic_global.ts";
import {
  kvmVgicCreate,
  kvmVgicEarlyInit,
  kvmVgicHypInit,
  kvmVgicInitCpuHardware,
  kvmVgicMapResources,
  kvmVgicVcpuInit,
} from "../../../src/kvm/vgic/vgic_init.ts";
import {
  type KvmDeviceAttr,
  VGIC_CTRL_INIT,
  VGIC_GRP,
  VGIC_V2_ADDR_TYPE,
  VGIC_V3_ADDR_TYPE,
  vgicSetAttr,
} from "../../../src/kvm/vgic/vgic_kvm_device.ts";
import { kvmViews, vcpuViews } from "../../../src/kvm/kvm_views.ts";
import { CALL_HYP_VHE } from "../../../src/kvm/call_hyp.ts";
import { TraceRing } from "../../../src/trace/tracepoints.ts";
import { FakePort, GICH_PA } from "./fake_port.ts";

export const GICD_BASE = 0x0800_0000;
export const GICR_BASE = 0x080a_0000;
export const GICC_BASE = 0x0801_0000;
export const GICV_PA = 0x0804_0000;
export const SPURIOUS = 1023;
const MEMORY_BYTES = 8 << 20;
const PAGE = 4096;

export interface WorldOptions {
  readonly vcpus?: number;
  readonly lrs?: number;
  /** The hardware and the VM's controller: 3 unless told. */
  readonly gic?: 2 | 3;
  readonly nrIrqs?: number;
  /** Leave the VM without a vgic: the test makes it. */
  readonly bare?: boolean;
  /** Leave the vgic as user space made it: no guest has touched it. */
  readonly asReset?: boolean;
  /** MPIDR_EL1 affinity of vCPU `id`; as KVM makes it unless told. */
  readonly mpidr?: (id: number) => number;
  readonly info?: Partial<GicKvmInfo>;
}

/** One VM, each vCPU loaded on the physical CPU of its number. */
export class World {
  readonly memory = SharedMemory.create(MEMORY_BYTES);
  readonly arena = new Arena("test", this.memory, 64, MEMORY_BYTES);
  readonly locks = new Locks(this.memory, "deterministic");
  readonly trace = new TraceRing(this.memory, this.arena, 256);
  /** The hardware. */
  readonly controller: Gic;
  readonly cpus: Cpu[];
  readonly ports: FakePort[];
  /** Numbers of the vCPUs kicked so far. */
  readonly kicks: number[] = [];
  readonly kvm: Kvm;
  readonly host: KvmHost;
  now = 1000;
  currentCpu = 0;
  running: Vcpu | undefined;
  /** What kvmArmHaltGuest answers, and how often it and its end were called. */
  haltAnswer = true;
  halts = 0;
  resumes = 0;
  readonly acked: number[] = [];
  readonly freed: number[] = [];

  constructor(readonly options: WorldOptions = {}) {
    const { vcpus = 2, lrs = 4, gic = 3 } = options;
    this.cpus = Array.from({ length: vcpus }, (_, n) => this.#makeCpu(n));
    this.controller = gic === 2
      ? new Gicv2(this.arena, { cpus: this.cpus, lrs })
      : new Gicv3(this.memory, this.arena, { cpus: this.cpus, lrs });
    if (gic === 2) this.#warmGicv2();
    else this.#warmHardware();
    this.ports = this.cpus.map((_, n) => new FakePort(this.memory, this.controller, n));
    this.locks.irqsOff = () => this.port(this.currentCpu).irqsOff;
    this.host = this.#makeHost();
    this.kvm = this.#makeKvm(vcpus);
    kvmVgicEarlyInit(this.kvm);
    kvmVgicHypInit(this.host, this.el2(0), this.#info());
    for (const n of this.cpus.keys()) kvmVgicInitCpuHardware(this.host, this.el2(n));
    for (const vcpu of this.kvm.vcpus) kvmVgicVcpuInit(vcpu);
    if (!options.bare) this.makeVgic();
  }

  #makeCpu(n: number): Cpu {
    const cpu = this.arena.make(CpuLayout);
    cpu.index = n;
    cpu.mpidr = 0x8000_0000 + n;
    return cpu;
  }

  get gic(): Gicv3 {
    return this.controller as Gicv3;
  }
  get gicv2(): Gicv2 {
    return this.controller as Gicv2;
  }
  get #isV2(): boolean {
    return this.controller.version === 2;
  }

  /** The same of a GICv2: group 0 on. */
  #warmGicv2(): void {
    this.gicv2.distWrite(0, GICD.CTLR, 4, 1);
    this.cpus.forEach((_, n) => {
      this.gicv2.distWrite(n, GICD.ISENABLER, 4, 0xffff_0000);
      this.gicv2.giccWrite(n, GICC.PMR, 4, 0xff);
      this.gicv2.giccWrite(n, GICC.CTLR, 4, GICC_CTLR.EOImode | GICC_CTLR.EnableGrp0);
    });
  }

  /** The physical side as the host leaves it: group 1 on, EOImode 1, all PPIs enabled. */
  #warmHardware(): void {
    this.gic.distWrite(GICD.CTLR, 4, 3);
    this.cpus.forEach((_, n) => {
      this.gic.redistWrite(n * GICR_SIZE + 0x14, 4, 0);
      this.gic.redistWrite(n * GICR_SIZE + GICR_SGI.IGROUPR0, 4, 0xffff_ffff);
      this.gic.redistWrite(n * GICR_SIZE + GICR_SGI.ISENABLER0, 4, 0xffff_0000);
      this.gic.iccWrite(n, R.ICC_PMR_EL1, 0xff, 0);
      this.gic.iccWrite(n, R.ICC_CTLR_EL1, 2, 0);
      this.gic.iccWrite(n, R.ICC_IGRPEN1_EL1, 1, 0);
    });
  }

  #info(): GicKvmInfo {
    return {
      type: this.#isV2 ? 2 : 3,
      vctrl: this.#isV2 ? GICH_PA : 0,
      vcpu: this.#isV2 ? GICV_PA : 0,
      maintIrq: 25,
      allocateStats: (of, count) => this.arena.allocate(of, count),
      setPhysPending: (hwIntid, pending) =>
        this.#physical(pending ? GICR_SGI.ISPENDR0 : GICR_SGI.ICPENDR0, hwIntid),
      notifyAckedIrq: (_kvm, spi) => void this.acked.push(spi),
      ...this.options.info,
    };
  }

  #physical(register: number, hwIntid: number): void {
    if (this.#isV2) {
      const offset = register - GICR_FRAME_SIZE;
      return this.gicv2.distWrite(this.currentCpu, offset, 4, (1 << hwIntid) >>> 0);
    }
    this.gic.redistWrite(this.currentCpu * GICR_SIZE + register, 4, (1 << hwIntid) >>> 0);
  }

  #physicalBit(register: number, hwIntid: number): boolean {
    const word = this.#isV2
      ? this.gicv2.distRead(this.currentCpu, register - GICR_FRAME_SIZE, 4)
      : this.gic.redistRead(this.currentCpu * GICR_SIZE + register, 4);
    return ((word >>> hwIntid) & 1) !== 0;
  }

  /** What the vgic uses of the host. */
  #makeHost(): KvmHost {
    const host: Partial<KvmHost> = {
      memory: this.memory,
      ram: { pa: 0, at: 0, size: MEMORY_BYTES },
      vgic: VGIC,
      locks: this.locks,
      trace: this.trace,
      hyp: CALL_HYP_VHE,
      nowNs: () => this.now,
      stamp: (cell) => void (cell[0] = this.now),
      stampWords: (at) => this.memory.st53(4 * at, this.now),
      port: (n) => this.el2(n),
      currentCpu: () => this.currentCpu,
      runningVcpu: () => this.running,
      kvmVcpuKick: (vcpu) => void this.kicks.push(vcpu.state.vcpuId),
      kvzalloc: (bytes) => this.arena.reserve(bytes, 2 * PAGE),
      kvfree: (at) => void this.freed.push(at),
      irqSetPhysActive: (hwIntid, active) =>
        this.#physical(active ? GICR_SGI.ISACTIVER0 : GICR_SGI.ICACTIVER0, hwIntid),
      irqGetPhysActive: (hwIntid) => this.#physicalBit(GICR_SGI.ISACTIVER0, hwIntid),
      irqGetPhysPending: (hwIntid) => this.#physicalBit(GICR_SGI.ISPENDR0, hwIntid),
      kvmArmHaltGuest: () => {
        this.halts++;
        return this.haltAnswer;
      },
      kvmArmResumeGuest: () => void this.resumes++,
    };
    return host as KvmHost;
  }

  #makeKvm(count: number): Kvm {
    const state = this.arena.make(KvmLayout);
    state.vtcrLo = 24;
    state.maxVcpus = KVM_MAX_VCPUS;
    state.createdVcpus = count;
    state.onlineVcpus = count;
    const kvm = kvmViews(this.host, state.base);
    const ports = this.ports as readonly unknown[] as readonly El2Port[];
    for (let id = 0; id < count; id++) {
      (kvm.vcpus as Vcpu[]).push(vcpuViews(kvm, this.#makeVcpu(kvm, id), ports));
    }
    return kvm;
  }

  /** The address of a vCPU's structure, as it is when KVM has made it. */
  #makeVcpu(kvm: Kvm, id: number): number {
    const state = this.arena.make(KvmVcpuLayout);
    state.kvm = kvm.state.base;
    state.vcpuId = id;
    state.vcpuIdx = id;
    state.cpu = id;
    state.stat = this.arena.make(KvmVcpuStatLayout).base;
    const { sysregs } = KvmCpuContextLayout.at(this.memory, state.ctxt);
    const affinity = this.options.mpidr?.(id) ?? (((id >> 4) << 8) | (id & 15));
    this.memory.st53(sysregs + 8 * SAVED.MPIDR_EL1, 0x8000_0000 + affinity);
    return state.base;
  }

  /** Makes, places and initialises the VM's vgic as a VMM does; then the guest turns it on and makes SPIs level. */
  makeVgic(): void {
    const addresses = this.#isV2
      ? [[VGIC_V2_ADDR_TYPE.DIST, GICD_BASE], [VGIC_V2_ADDR_TYPE.CPU, GICC_BASE]] as const
      : [[VGIC_V3_ADDR_TYPE.DIST, GICD_BASE], [VGIC_V3_ADDR_TYPE.REDIST, GICR_BASE]] as const;
    const ok = [
      this.#isV2 ? this.createV2() : kvmVgicCreate(this.kvm, 3),
      this.setAttr(VGIC_GRP.NR_IRQS, 0n, BigInt(this.options.nrIrqs ?? 128)),
      ...addresses.map(([type, at]) => this.setAttr(VGIC_GRP.ADDR, BigInt(type), BigInt(at))),
      // A GICv2 need not be told: the first KVM_RUN does it.
      this.#isV2 ? 0 : this.setAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n),
      kvmVgicMapResources(this.kvm),
    ];
    if (ok.some((ret) => ret !== 0)) throw new Error(`vgic not made: ${ok}`);
    if (!this.options.asReset) this.#bootGuest();
  }

  /** KVM_CREATE_DEVICE of a GICv2, of a VM that has stage-2 tables. */
  createV2(): number {
    kvmInitStage2Mmu(this.kvm);
    return kvmVgicCreate(this.kvm, 2);
  }

  /** What the first KVM_RUN does. */
  mapResources(): number {
    return kvmVgicMapResources(this.kvm);
  }

  #bootGuest(): void {
    this.write(GICD.CTLR, this.#isV2 ? 1 : 2);
    for (let i = 32; i < (this.options.nrIrqs ?? 128); i += 16) this.write(GICD.ICFGR + i / 4, 0);
    this.kvm.vcpus.forEach((vcpu, n) => {
      this.onCpu(n, () => kvmVgicLoad(vcpu));
      if (this.#isV2) {
        this.gicv(n, "PMR", 0xf8);
        this.gicv(n, "CTLR", 1);
      } else {
        this.guestWrite(n, "ICC_PMR_EL1", 0xff);
        this.guestWrite(n, "ICC_IGRPEN1_EL1", 1);
      }
    });
    this.kicks.length = 0;
    for (const port of this.ports) port.events.length = 0;
  }

  setAttr(group: number, attr: bigint, value: bigint): number {
    const full: KvmDeviceAttr = { group, attr, value };
    return vgicSetAttr(this.kvm, full);
  }

  port(n: number): FakePort {
    return this.ports[n] as FakePort;
  }

  el2(n: number): El2Port {
    return this.port(n) as unknown as El2Port;
  }

  vcpu(n: number): Vcpu {
    return this.kvm.vcpus[n] as Vcpu;
  }

  /** The interrupt, of vCPU `n` if private. */
  irq(intid: number, n = 0): VgicIrq {
    return vgicGetIrq(this.kvm, this.vcpu(n), intid) as VgicIrq;
  }

  /** Runs host code on physical CPU `n`. */
  onCpu<T>(n: number, body: () => T): T {
    const before = this.currentCpu;
    this.currentCpu = n;
    try {
      return body();
    } finally {
      this.currentCpu = before;
    }
  }

  // The run loop

  /** Interrupts off, flush: the guest runs from here. */
  enter(n: number): void {
    this.onCpu(n, () => {
      this.port(n).irqsOff = true;
      kvmVgicFlushHwstate(this.vcpu(n), this.el2(n));
    });
  }

  /** The guest has been left: sync, interrupts on. */
  exit(n: number): void {
    this.onCpu(n, () => {
      kvmVgicSyncHwstate(this.vcpu(n), this.el2(n));
      this.port(n).irqsOff = false;
    });
  }

  /** One round through the run loop with the guest doing `body`. */
  run<T>(n: number, body: () => T): T {
    this.enter(n);
    const result = body();
    this.exit(n);
    return result;
  }

  load(n: number): void {
    this.onCpu(n, () => kvmVgicLoad(this.vcpu(n)));
  }

  put(n: number): void {
    this.onCpu(n, () => kvmVgicPut(this.vcpu(n)));
  }

  // The guest

  guestRead(n: number, name: SysregName): number {
    return this.gic.icvRead(n, R[name]);
  }

  guestWrite(n: number, name: SysregName, value: number): void {
    this.gic.icvWrite(n, R[name], value, 0);
  }

  /** Reads, or with a value writes, a register of a GICv2 guest's CPU interface. */
  gicv(n: number, name: keyof typeof GICC, value?: number): number {
    if (value === undefined) return this.gicv2.gicvRead(n, GICC[name], 4);
    this.gicv2.gicvWrite(n, GICC[name], 4, value);
    return 0;
  }

  /** What ICC_IAR1_EL1 or GICC_IAR gives. */
  ack(n: number): number {
    return this.#isV2 ? this.gicv(n, "IAR") : this.guestRead(n, "ICC_IAR1_EL1");
  }

  eoi(n: number, intid: number): void {
    if (this.#isV2) this.gicv(n, "EOIR", intid);
    else this.guestWrite(n, "ICC_EOIR1_EL1", intid);
  }

  /** Whether a virtual IRQ is signalled to the vCPU. */
  virq(n: number): boolean {
    return ((this.cpus[n] as Cpu).irqLines & LINE.VIRQ) !== 0;
  }

  /** Whether the maintenance interrupt is raised. */
  maintenance(n: number): boolean {
    return this.controller.virtualInterface(n).misr() !== 0;
  }

  /** Acknowledges and ends all that is there: the INTIDs in the order the guest saw them. */
  serve(n: number): number[] {
    const seen: number[] = [];
    for (let intid = this.ack(n); (intid & 0x3ff) < 1020; intid = this.ack(n)) {
      seen.push(intid);
      this.eoi(n, intid);
    }
    return seen;
  }

  /** Enters, serves and leaves until nothing comes any more: what the guest saw. */
  serveAll(n: number): number[] {
    const seen: number[] = [];
    for (let round = 0; round < 100; round++) {
      const now = this.run(n, () => this.serve(n));
      if (now.length === 0) return seen;
      seen.push(...now);
    }
    throw new Error("the guest is never done");
  }

  /** List register `lr` as the hardware has it. */
  lr(n: number, lr: number): LrFields {
    const virtual = this.controller.virtualInterface(n);
    return lrFields(virtual.lrLo(lr), virtual.lrHi(lr));
  }

  // Devices and registers

  inject(intid: number, level: boolean, n = 0): number {
    return kvmVgicInjectIrq(this.kvm, n, intid, level, 0);
  }

  /** An access of vCPU `n` to the distributor; throws where it would have to wait. */
  read(offset: number, len = 4, n = 0, base = GICD_BASE): number {
    const { ops, baseIpa } = this.#range(base + offset, len);
    const value = ops.read(this.vcpu(n), base + offset - baseIpa, len);
    if (value === WAIT) throw new Error("WAIT");
    return Number(value);
  }

  write(offset: number, value: number | bigint, len = 4, n = 0, base = GICD_BASE): void {
    const { ops, baseIpa } = this.#range(base + offset, len);
    const done = ops.write(this.vcpu(n), base + offset - baseIpa, len, value);
    if (done === WAIT) throw new Error("WAIT");
  }

  #range(ipa: number, len: number): KvmIoRange {
    const range = this.kvm.ioBus.find((r) => ipa >= r.baseIpa && ipa + len <= r.baseIpa + r.length);
    if (!range) throw new Error(`nothing at ${ipa}`);
    return range;
  }

  /** vCPU `of`'s redistributor, accessed by vCPU `n`. */
  readRd(offset: number, of = 0, len = 4, n = 0): number {
    return this.read(offset + of * GICR_SIZE, len, n, GICR_BASE);
  }

  writeRd(offset: number, value: number | bigint, of = 0, len = 4, n = 0): void {
    this.write(offset + of * GICR_SIZE, value, len, n, GICR_BASE);
  }

  /** Enables an interrupt as a guest does. */
  enable(intid: number, n = 0): void {
    this.#writeBit(GICD.ISENABLER, GICR_SGI.ISENABLER0, intid, n);
  }

  disable(intid: number, n = 0): void {
    this.#writeBit(GICD.ICENABLER, GICR_SGI.ICENABLER0, intid, n);
  }

  #writeBit(gicd: number, gicr: number, intid: number, n: number): void {
    const bit = (1 << (intid & 31)) >>> 0;
    if (!this.#isV2 && intid < 32) this.writeRd(gicr, bit, n);
    else this.write(gicd + 4 * (intid >> 5), bit, 4, this.#isV2 ? n : 0);
  }

  setPriority(intid: number, priority: number, n = 0): void {
    if (this.#isV2) this.write(GICD.IPRIORITYR + intid, priority, 1, n);
    else if (intid < 32) this.writeRd(GICR_SGI.IPRIORITYR + intid, priority, n, 1);
    else this.write(GICD.IPRIORITYR + intid, priority, 1);
  }

  /** Makes SPI `intid` edge-triggered. */
  setEdge(intid: number): void {
    const at = GICD.ICFGR + 4 * (intid >> 4);
    this.write(at, (this.read(at) | (2 << (2 * (intid & 15)))) >>> 0);
  }

  route(intid: number, n: number): void {
    if (this.#isV2) this.write(GICD.ITARGETSR + intid, 1 << n, 1);
    else this.write(GICD.IROUTER + 8 * intid, n, 8);
  }
}
