/** The unit guest under KVM: scripts in, logs out, and actions from outside at stated moments. */
import { IRQ_TYPE, type VcpuHandle } from "../../src/kvm/api.ts";
import type { RegionOptions } from "../../src/arm/engine/regions.ts";
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import { VIRT_MAP } from "../../src/vmm/virt_map.ts";
import image from "../../fixtures/guests/unit/unit.bin" with { type: "bytes" };
import { OP, type Operation } from "./unit_operations.ts";

/** Where things lie in guest memory (fixtures/guests/unit/README.md). */
export const UNIT = {
  entry: 0x4008_0000,
  commands: { at: 0x4020_0000, stride: 0x4000, operation: 64, count: 256 },
  log: { at: 0x4030_0000, stride: 0x8000, entries: 1023, header: 0x20, entry: 0x20 },
  /** Free for tests from here. */
  free: 0x4050_0000,
} as const;

/** Kinds of log entries; results of operations have RESULT + their number. */
export const KIND = {
  START: 0x01,
  IRQ: 0x10,
  FIQ: 0x11,
  EOI: 0x12,
  SPURIOUS: 0x13,
  VECTOR: 0x14,
  SYNC: 0x20,
  SYNC_ELR: 0x21,
  SERROR: 0x22,
  UNEXPECTED: 0x23,
  RESULT: 0x100,
} as const;

/** States of a CPU as its log has them. */
export const CPU_STATE = { NONE: 0, RUNNING: 1, ENDED: 2, DEAD: 3 } as const;

/** An entry of a log. */
export interface LogEntry {
  /** One of {@link KIND}, or RESULT + an {@link OP}. */
  readonly kind: number;
  readonly intid: number;
  /** Ticks of 16 ns. */
  readonly cntvct: number;
  /** As a number: rounded from 2^53 on. */
  readonly value: number;
  /** Intid and value with all 64 bits. */
  readonly intid64: bigint;
  readonly value64: bigint;
}

export interface UnitGuestOptions {
  readonly vcpus?: number;
  readonly pcpus?: number;
  readonly lrs?: number;
  /** Version of the interrupt controller; 3 unless told. */
  readonly gic?: 2 | 3;
  /** Seed of the order of host pages; 0: not shuffled. */
  readonly shuffle?: number;
  /** Guest RAM in bytes, at least 8 MiB. */
  readonly memory?: number;
  /** Instructions of a turn at most; small: CPUs interleave finely, and the host's moments are exact. */
  readonly quantum?: number;
  /** The world switch of the host; "vhe" if left out. */
  readonly mode?: "vhe" | "nvhe";
  /** What of its code is translated, and when. */
  readonly regions?: Partial<RegionOptions>;
  /** Interrupts of the guest's controller, 256 if left out. */
  readonly irqs?: number;
}

export interface RunLimits {
  /** Instructions of all CPUs together. */
  readonly insns?: number;
  /** Virtual ns from now. */
  readonly ns?: number;
}

const DEFAULT_INSNS = 5_000_000;
const DEFAULT_NS = 1e9;
const MIB = 1 << 20;

/** The unit guest in a VM of its own on a machine of its own. */
export class UnitGuest {
  readonly guest: KvmGuest;
  readonly output: number[] = [];
  readonly #actions = new Map<number, () => void>();
  #booted = false;

  constructor(options: UnitGuestOptions = {}) {
    const { vcpus = 1, pcpus = 1, lrs = 4, gic = 3, shuffle = 0 } = options;
    const { memory = 8 * MIB, quantum = 1000, mode = "vhe", irqs = 256, regions = {} } = options;
    this.guest = new KvmGuest({
      vcpus,
      pcpus,
      lrs,
      gic,
      shuffle,
      memory,
      quantum,
      mode,
      irqs,
      regions,
      transmit: (byte) => this.#received(byte),
    });
  }

  #received(byte: number): void {
    this.output.push(byte);
    this.#actions.get(byte)?.();
  }

  get machine(): KvmGuest["machine"] {
    return this.guest.machine;
  }

  /** vCPU `index`, by KVM's interface. */
  vcpu(index: number): VcpuHandle {
    const handle = this.guest.vm.vcpus[index];
    if (handle === undefined) throw new RangeError(`no vCPU ${index}`);
    return handle;
  }

  // Scripts and memory

  /** Puts operations into CPU `cpu`'s block from index `at` on. CPU 0 runs from 0, others by `cpuOn`. */
  script(cpu: number, operations: readonly Operation[], at = 0): this {
    const { commands } = UNIT;
    if (at + operations.length > commands.count) throw new RangeError("script too long");
    operations.forEach((words, i) => {
      const place = commands.at + cpu * commands.stride + (at + i) * commands.operation;
      for (let w = 0; w < 8; w++) this.write64(place + 8 * w, words[w] ?? 0);
    });
    return this;
  }

  /** An aligned 64-bit word of guest memory, read from outside. */
  read64(ipa: number): bigint {
    const { memory } = this.machine;
    const at = this.guest.offsetOf(ipa);
    return BigInt(memory.ld32(at) >>> 0) | (BigInt(memory.ld32(at + 4) >>> 0) << 32n);
  }

  /** Writes an aligned 64-bit word of guest memory that is data. */
  write64(ipa: number, value: number | bigint): void {
    const { memory } = this.machine;
    const at = this.guest.offsetOf(ipa);
    const word = BigInt.asUintN(64, BigInt(value));
    memory.st32(at, Number(word & 0xffff_ffffn));
    memory.st32(at + 4, Number(word >> 32n));
  }

  // Running

  /** Loads the image and lets the vCPUs go; done by the first run. */
  boot(): this {
    if (this.#booted) return this;
    this.#booted = true;
    this.guest.boot({
      segments: [{ name: "kernel", pa: UNIT.entry, bytes: image, memSize: image.length }],
      dtb: VIRT_MAP.ram.base,
      initrd: undefined,
      registers: { pc: UNIT.entry, x0: 0, x1: 0, x2: 0, x3: 0 },
    });
    return this;
  }

  /** Runs until the guest powers off. Throws, with all logs, when it does not within the limits. */
  run({ insns = DEFAULT_INSNS, ns = DEFAULT_NS }: RunLimits = {}): this {
    this.boot();
    const reason = this.machine.run(insns, this.machine.nowNs + ns);
    const { failure } = this.guest;
    if (failure) throw new Error(`${failure.message}\n${this.describe()}`);
    if (reason !== "power") throw new Error(`no power off: ${reason}\n${this.describe()}`);
    return this;
  }

  /** Runs for so long, power off or not. */
  runFor({ insns = DEFAULT_INSNS, ns = DEFAULT_NS }: RunLimits): this {
    this.boot();
    this.machine.run(insns, this.machine.nowNs + ns);
    return this;
  }

  /** Runs by turns until `condition` holds, looking after each; throws when the limits come first. */
  runUntil(condition: () => boolean, limits: RunLimits = {}): this {
    const { insns = DEFAULT_INSNS, ns = DEFAULT_NS } = limits;
    this.boot();
    const endInsns = this.machine.insns + insns, endNs = this.machine.nowNs + ns;
    while (!condition()) {
      const over = this.machine.insns >= endInsns || this.machine.nowNs >= endNs;
      const reason = over ? "limit" : this.machine.run(1, endNs);
      if (reason !== "budget") throw new Error(`not reached: ${reason}\n${this.describe()}`);
    }
    return this;
  }

  /** Runs until CPU `cpu` has logged `mark(a)`. */
  runToMark(cpu: number, a: number, limits: RunLimits = {}): this {
    return this.runUntil(() => this.results(cpu, OP.MARK).some((e) => e.intid === a), limits);
  }

  // From outside

  /** What `op.signal(n)` does: at once, in the exit to user space of the vCPU that executes it. */
  onSignal(n: number, action: () => void): this {
    this.#actions.set(n, action);
    return this;
  }

  /** Gives work to the host, which gets out of its guests for it, and runs until it is done. */
  act(work: () => void): this {
    this.boot();
    const { host } = this.guest.kvmMachine;
    host.queueWork(work);
    for (let i = 0; i < 1000 && host.hasWork; i++) this.machine.run(1);
    if (host.hasWork) throw new Error(`the host's work does not get done\n${this.describe()}`);
    return this;
  }

  /** KVM_IRQ_LINE for an SPI. Only as host code: in a signal's action or in {@link act}. */
  spi(intid: number, level: boolean): void {
    this.guest.vm.irqLine(IRQ_TYPE.SPI, 0, intid, level);
  }

  /** KVM_IRQ_LINE for a PPI of a vCPU. Only as host code. */
  ppi(vcpu: number, intid: number, level: boolean): void {
    this.guest.vm.irqLine(IRQ_TYPE.PPI, vcpu, intid, level);
  }

  // Logs

  #logAt(cpu: number): number {
    return UNIT.log.at + cpu * UNIT.log.stride;
  }
  #header(cpu: number, word: number): number {
    return Number(this.read64(this.#logAt(cpu) + 8 * word));
  }
  /** Entries written since start; only the last 1023 are kept. */
  count(cpu: number): number {
    return this.#header(cpu, 0);
  }
  /** Index of the operation being executed. */
  position(cpu: number): number {
    return this.#header(cpu, 1);
  }
  /** One of {@link CPU_STATE}. */
  state(cpu: number): number {
    return this.#header(cpu, 2);
  }
  /** Interrupts acknowledged by the handler, without spurious ones. */
  interrupts(cpu: number): number {
    return this.#header(cpu, 3);
  }

  /** The log of CPU `cpu`, oldest first. */
  log(cpu: number): LogEntry[] {
    const count = this.count(cpu);
    const first = Math.max(0, count - UNIT.log.entries);
    return Array.from({ length: count - first }, (_, i) => this.#entry(cpu, first + i));
  }

  #entry(cpu: number, n: number): LogEntry {
    const { log } = UNIT;
    const at = this.#logAt(cpu) + log.header + (n % log.entries) * log.entry;
    const intid64 = this.read64(at + 8), value64 = this.read64(at + 24);
    return {
      kind: Number(this.read64(at)),
      intid: Number(intid64),
      cntvct: Number(this.read64(at + 16)),
      value: Number(value64),
      intid64,
      value64,
    };
  }

  /** Entries of one kind. */
  entries(cpu: number, kind: number): LogEntry[] {
    return this.log(cpu).filter((e) => e.kind === kind);
  }
  /** Results of one operation. */
  results(cpu: number, operation: number): LogEntry[] {
    return this.entries(cpu, KIND.RESULT + operation);
  }
  /** Intids of the interrupts (group 1) that CPU `cpu` acknowledged in its handler, in order. */
  irqs(cpu: number): number[] {
    return this.entries(cpu, KIND.IRQ).map((e) => e.intid);
  }
  /** Acknowledgements that found nothing, in the handler, on all CPUs. */
  get spurious(): number {
    const { vcpus } = this.guest.options;
    return Array.from({ length: vcpus }, (_, cpu) => this.entries(cpu, KIND.SPURIOUS).length)
      .reduce((sum, n) => sum + n, 0);
  }

  /** All logs as text. */
  describe(): string {
    const lines: string[] = [];
    for (let cpu = 0; cpu < this.guest.options.vcpus; cpu++) {
      lines.push(`cpu ${cpu}: operation ${this.position(cpu)}, state ${this.state(cpu)}`);
      for (const { kind, intid64, cntvct, value64 } of this.log(cpu)) {
        const words = [kind, intid64, cntvct, value64].map((word) => word.toString(16));
        lines.push(`  ${nameOf(kind)} ${words.join(" ")}`);
      }
    }
    return lines.join("\n");
  }
}

function nameOf(kind: number): string {
  const table = kind >= KIND.RESULT ? OP : KIND;
  const key = kind >= KIND.RESULT ? kind - KIND.RESULT : kind;
  return Object.entries(table).find(([, value]) => value === key)?.[0] ?? "?";
}
