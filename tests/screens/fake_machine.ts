/**
 * A machine that shows what a test tells it to: it fills real frames in a real shared memory, takes
 * commands from a real ring, and has console rings and a trace.
 */
import { SharedMemory } from "../../src/base/memory.ts";
import type { MachineBridge, TraceReader } from "../../src/dashboard/bridge.ts";
import { type TraceEvent, type TracepointName, TRACEPOINTS } from "../../src/trace/tracepoints.ts";
import { ByteRing, byteRingSize } from "../../src/vmm/byte_ring.ts";
import { type Command, CommandRing, commandRingSize } from "../../src/vmm/command_ring.ts";
import {
  type FrameExit,
  type FrameHeader,
  type FrameIrq,
  FrameReader,
  type FrameSource,
  type FrameTimer,
  type FrameVcpu,
  FrameWriter,
} from "../../src/vmm/frame.ts";
import { FRAME_AREA_SIZE, NONE } from "../../src/vmm/frame_layout.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export type VcpuEntry = Partial<Mutable<FrameVcpu>> & { vcpuIdx: number };
export type IrqEntry = Partial<Mutable<FrameIrq>> & { intid: number };

const RING = 4096;

/** Bits 63 to 32 of a list register. */
export function lrHi(state: number, priority: number, group = 1, hwIntid?: number): number {
  const hw = hwIntid === undefined ? 0 : (1 << 29) | hwIntid;
  return ((state << 30) | (group << 28) | (priority << 16) | hw) >>> 0;
}

/** ICH_VMCR_EL2 with Group 1 on and this priority mask. */
export const vmcr = (pmr: number, group1 = true): number =>
  ((pmr << 24) | (group1 ? 2 : 0) | 0x8) >>> 0;

export class FakeMachine implements FrameSource {
  readonly memory = SharedMemory.create(FRAME_AREA_SIZE + 65536);
  readonly writer = new FrameWriter(this.memory, 0);
  readonly commands: CommandRing;
  readonly out: ByteRing;
  readonly input: ByteRing;
  readonly taken: Command[] = [];
  readonly events: TraceEvent[] = [];
  /** What the next command is answered with. */
  result = 0;
  /** Whether commands are taken at once. */
  answers = true;
  endedBy: string | undefined;
  header: Partial<Mutable<FrameHeader>> = {
    virtualNs: 12_345_678_000,
    wallNs: 20e9,
    insns: 5e9,
    translatedInsns: 4e9,
    regions: 321,
    regionModules: 77,
    regionsEvicted: 5,
    codeBytes: 3 << 20,
    codeBytesMax: 16 << 20,
    dataMisses: 1234,
    codeMisses: 567,
    mode: 0,
    gic: 3,
    nrLr: 4,
    priBits: 5,
    pacePermille: 0,
  };
  distEnabled = true;
  vcpus: VcpuEntry[] = [];
  irqs: IrqEntry[] = [];
  timers: Partial<Mutable<FrameTimer>>[] = [];
  exits: Partial<Mutable<FrameExit>>[] = [];

  constructor(vcpus = 4) {
    const at = FRAME_AREA_SIZE;
    this.commands = new CommandRing(this.memory, at, 16);
    const rings = at + commandRingSize(16);
    this.out = new ByteRing(this.memory, rings, RING);
    this.input = new ByteRing(this.memory, rings + byteRingSize(RING), RING);
    for (let i = 0; i < vcpus; i++) this.#vcpu(i);
    for (let intid = 32; intid < 64; intid++) this.#spi(intid);
    this.exits = [
      { reason: 1, count: 1200, p50Ns: 1100, p99Ns: 5200, cycles: 3e6, registersMoved: 96000 },
      { reason: 0x16, count: 17, p50Ns: 900, p99Ns: 1800, cycles: 20400, registersMoved: 1400 },
      { reason: 0x18, count: 431, p50Ns: 1500, p99Ns: 4000, cycles: 8e5, registersMoved: 36000 },
      { reason: 0x24, count: 3071, p50Ns: 2500, p99Ns: 15000, cycles: 9e6, registersMoved: 2e5 },
      { reason: 64, count: 98765, p50Ns: 1700, p99Ns: 6400, cycles: 2e8, registersMoved: 8e6 },
    ].map((e) => ({ ...e, totalNs: e.count * e.p50Ns, buckets: [0, 0, 1, 4, 9, 4, 2, 1, 0] }));
  }

  #vcpu(i: number): void {
    const byClass = Array<number>(64).fill(0);
    byClass[1] = 300 + i;
    byClass[0x24] = 700 + 10 * i;
    this.vcpus.push({
      vcpuIdx: i,
      state: i === 3 ? 3 : 1,
      pcpu: i === 3 ? -1 : i,
      inGuest: i !== 3,
      el: i === 2 ? 0 : 1,
      pc: 0xffff_8000_1012_3400n + BigInt(i * 0x44),
      pstate: i === 1 ? 0x3c5 : 0x5,
      insns: 1e9 * (i + 1),
      translatedInsns: 5e8 * (i + 1),
      exits: 25_000 + i,
      irqExits: 24_000,
      nextTimerNs: 12_345_678_000 + 4_000_000 * (i + 1),
      vgicHcr: 1,
      vgicVmcr: vmcr(0xf0),
      rpr: 0xff,
      elrsr: 0xf,
      byClass,
    });
    for (const intid of [0, 1, 27, 30]) {
      this.irqs.push({
        intid,
        ownerVcpu: i,
        targetVcpu: i,
        enabled: intid !== 30,
        config: intid < 16 ? 0 : 1,
        hw: intid >= 16,
        hwIntid: intid,
        group: 1,
        priority: 0xa0,
        injected: 100 * i + intid,
        acked: 100 * i + intid,
        eoied: 100 * i + intid,
        lastEventNs: 12_345_000_000,
        latencyCount: 5,
        latencyP50Ns: 2300,
        latencyP99Ns: 41_000,
      });
    }
    for (const index of [1, 0]) {
      this.timers.push({
        vcpuIdx: i,
        index,
        irq: index === 1 ? 27 : 30,
        cntCtl: index === 1 ? 1 : 0,
        cntCval: 0x2e0_0000 + i,
        counter: 0x2df_0000,
        nextFireNs: index === 1 ? 12_349_678_000 + i * 1e6 : NONE,
        fired: index === 1 ? 4000 + i : 0,
        loaded: index === 1,
        latencyP50Ns: 2300,
        latencyP99Ns: 41_000,
        latencyBuckets: index === 1 ? [0, 0, 0, 1, 5, 9, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0] : [],
      });
    }
  }

  #spi(intid: number): void {
    this.irqs.push({
      intid,
      ownerVcpu: -1,
      targetVcpu: 0,
      enabled: intid === 33 || intid === 40,
      config: intid === 40 ? 0 : 1,
      group: 1,
      priority: 0xa0,
      lastEventNs: intid === 33 || intid === 40 ? 12_345_600_000 : NONE,
    });
  }

  /** The SPI, or vCPU `owner`'s own interrupt, of that number. */
  irq(intid: number, owner = -1): IrqEntry {
    const found = this.irqs.find((i) => i.intid === intid && (i.ownerVcpu ?? -1) === owner);
    if (found === undefined) throw new Error(`no interrupt ${intid}`);
    return found;
  }

  vcpu(i: number): VcpuEntry {
    const found = this.vcpus[i];
    if (found === undefined) throw new Error(`no vCPU ${i}`);
    return found;
  }

  /** Puts an interrupt into list register `n` of a vCPU. */
  setLr(vcpu: number, n: number, intid: number, hi: number): void {
    const v = this.vcpu(vcpu);
    const lr = [...v.lr ?? []];
    while (lr.length <= n) lr.push({ lo: 0, hi: 0 });
    lr[n] = { lo: intid, hi };
    v.lr = lr;
    v.usedLrs = Math.max(v.usedLrs ?? 0, n + 1);
  }

  fillFrame(writer: FrameWriter): void {
    Object.assign(writer.header, this.header, { acknowledged: this.commands.acknowledged });
    Object.assign(writer.add("vms") ?? {}, {
      vcpus: this.vcpus.length,
      nrSpis: 32,
      distEnabled: this.distEnabled,
    });
    for (const v of this.vcpus) this.#fillVcpu(writer, v);
    for (let pcpu = 0; pcpu < 2; pcpu++) Object.assign(writer.add("pcpus") ?? {}, { pcpu });
    for (const irq of this.irqs) {
      const rest = { targetVcpu: 0, vcpu: -1, ownerVcpu: -1, apListPosition: -1, lr: -1, ...irq };
      Object.assign(writer.add("irqs") ?? {}, rest);
    }
    for (const { latencyBuckets, ...t } of this.timers) {
      const view = Object.assign(writer.add("timers") as object, t) as { latencyBuckets: number };
      latencyBuckets?.forEach((n, i) => this.memory.st32(view.latencyBuckets + 4 * i, n));
    }
    for (const { buckets, ...e } of this.exits) {
      const view = Object.assign(writer.add("exits") as object, e) as { buckets: number };
      buckets?.forEach((n, i) => this.memory.st32(view.buckets + 4 * i, n));
    }
    const op = writer.add("el2Ops");
    if (op !== undefined) {
      writer.setName(op.name, "save a register");
      op.count = 4242;
    }
    const lock = writer.add("locks");
    if (lock !== undefined) {
      writer.setName(lock.name, "apList");
      lock.acquisitions = 777;
    }
  }

  #fillVcpu(writer: FrameWriter, { lr, byClass, ...rest }: VcpuEntry): void {
    const view = writer.add("vcpus");
    if (view === undefined) return;
    Object.assign(view, rest);
    lr?.forEach(({ lo, hi }, i) => {
      this.memory.st32(view.lr + 8 * i, lo);
      this.memory.st32(view.lr + 8 * i + 4, hi);
    });
    byClass?.forEach((n, i) => this.memory.st53(view.byClass + 8 * i, n));
  }

  /** Time passes: wall and virtual time, instructions, exits. */
  run(ms: number): void {
    const h = this.header;
    h.virtualNs = (h.virtualNs ?? 0) + ms * 5e5;
    h.wallNs = (h.wallNs ?? 0) + ms * 1e6;
    h.insns = (h.insns ?? 0) + ms * 150_000;
    h.translatedInsns = (h.translatedInsns ?? 0) + ms * 120_000;
    h.dataMisses = (h.dataMisses ?? 0) + ms / 4;
    for (const v of this.vcpus) {
      if (v.state !== 1) continue;
      v.insns = (v.insns ?? 0) + ms * 50_000;
      v.translatedInsns = (v.translatedInsns ?? 0) + ms * 45_000;
      v.exits = (v.exits ?? 0) + ms * 2;
      v.irqExits = (v.irqExits ?? 0) + ms * 2;
    }
    const irq = this.exits.find((e) => e.reason === 64);
    if (irq !== undefined) irq.count = (irq.count ?? 0) + ms * 6;
  }

  /** One turn of the machine: takes commands, publishes a frame if one is wanted. */
  turn(): void {
    for (let next = this.commands.take(); this.answers && next; next = this.commands.take()) {
      this.taken.push(next.command);
      if (next.command.op === "pause") this.header.paused = true;
      if (next.command.op === "resume") this.header.paused = false;
      this.commands.acknowledge(next.sequence, this.result);
    }
    if (this.writer.wanted) this.writer.publish(this);
  }

  emit<N extends TracepointName>(
    name: N,
    vcpu: number,
    ...args: Parameters<(typeof TRACEPOINTS)[N]>
  ): void {
    const text = (TRACEPOINTS[name] as (...a: unknown[]) => string)(...args);
    const sequence = this.events.length;
    const timeNs = this.header.virtualNs ?? 0;
    this.events.push({ sequence, timeNs, name, pcpu: 0, vcpu, vm: 0, args, text });
  }

  bridge(): MachineBridge {
    const frames = new FrameReader(this.memory, 0);
    const { events } = this;
    const trace: TraceReader = {
      get written() {
        return events.length;
      },
      capacity: 256,
      read: (n) => n >= events.length - 256 ? events[n] : undefined,
    };
    return {
      frame: () => {
        frames.request();
        this.turn();
        return frames.poll();
      },
      send: (command) => this.commands.send(command),
      resultOf: (sequence) => this.commands.resultOf(sequence),
      consoleOut: () => this.out.read(),
      consoleIn: (bytes) => this.input.write(bytes),
      trace,
      symbol: (pc) => pc === 0xffff_8000_1012_3400n ? "cpu_do_idle+0x8" : undefined,
      ended: () => this.endedBy,
    };
  }

  print(text: string): void {
    this.out.write(new TextEncoder().encode(text));
  }
}
