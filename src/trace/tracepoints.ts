/**
 * Tracepoints as one table, with KVM's names and text (arch/arm64/kvm/trace_arm.h, vgic/trace.h,
 * trace_handle_exit.h, include/trace/events/kvm.h). An event is a fixed record in a ring in the shared
 * memory (`observe` state); its text is made when somebody reads it.
 */
import type { Arena } from "../base/arena.ts";
import type { SharedMemory } from "../base/memory.ts";
import { layout, u16, u53, type ViewOf } from "../base/struct.ts";

/** An argument: a bigint where a number would lose bits (kernel addresses, register values). */
export type TraceArg = number | bigint;

const x = (n: TraceArg, digits: number): string => n.toString(16).padStart(digits, "0");

/** Exception class names as KVM prints them, by ESR_ELx.EC (asm/kvm_arm.h, kvm_arm_exception_class). */
export const EXCEPTION_CLASS_NAMES: Readonly<Record<number, string>> = {
  0x00: "UNKNOWN",
  0x01: "WFx",
  0x03: "CP15_32",
  0x04: "CP15_64",
  0x05: "CP14_MR",
  0x06: "CP14_LS",
  0x07: "FP_ASIMD",
  0x08: "CP10_ID",
  0x09: "PAC",
  0x0c: "CP14_64",
  0x11: "SVC64",
  0x15: "SVC64",
  0x16: "HVC64",
  0x17: "SMC64",
  0x18: "SYS64",
  0x19: "SVE",
  0x1f: "IMP_DEF",
  0x20: "IABT_LOW",
  0x21: "IABT_CUR",
  0x22: "PC_ALIGN",
  0x24: "DABT_LOW",
  0x25: "DABT_CUR",
  0x26: "SP_ALIGN",
  0x2c: "FP_EXC64",
  0x2f: "SERROR",
  0x30: "BREAKPT_LOW",
  0x32: "SOFTSTP_LOW",
  0x34: "WATCHPT_LOW",
  0x3c: "BRK64",
};

/** What `kvm_exit` calls its first argument (kvm_arm_exception_type). */
const EXIT_TYPE_NAMES = ["IRQ", "SERROR", "TRAP", "HYP_GONE", "IL"] as const;

/** Names that kvm_arm_set_dreg32 and trap_reg print, by the number they are given. */
export const DEBUG_REGISTERS = [
  "MDCR_EL2",
  "MDSCR_EL1",
  "SPSR_EL2",
  "Saved MDSCR_EL1",
  "Restored MDSCR_EL1",
] as const;
const TRAP_FUNCTIONS = ["trap_debug_regs", "trap_bvr", "trap_bcr", "trap_wvr", "trap_wcr"] as const;

const MMIO_TYPES = ["unsatisfied-read", "read", "write"] as const;
const USER_EXITS: Readonly<Record<number, string>> = {
  4: "KVM_EXIT_DEBUG",
  6: "KVM_EXIT_MMIO",
  10: "KVM_EXIT_INTR",
  17: "KVM_EXIT_INTERNAL_ERROR",
  24: "KVM_EXIT_SYSTEM_EVENT",
};
const userExit = (reason: number): string =>
  reason === 10 ? "restart" : USER_EXITS[reason] ?? "UNKNOWN";

/** What the driver of a virtio device can do that leaves the device needing a reset. */
export const VIRTIO_FAULTS = [
  "bad queue size",
  "bad queue address",
  "avail index jumped",
  "descriptor number out of range",
  "descriptor chain loops",
  "indirect descriptor not allowed",
  "bad indirect table",
  "empty buffer",
  "chain too long",
  "buffer outside memory",
  "readable buffer behind a writable one",
  "request without a header",
  "request without room for its status",
] as const;
export type VirtioFault = (typeof VIRTIO_FAULTS)[number];
/** virtio device ids (Virtio 1.2, section 5) that have a name here. */
export const VIRTIO_NAMES: Readonly<Record<number, string>> = {
  1: "net",
  2: "block",
  3: "console",
  4: "entropy",
};

/** op0, op1, CRn, CRm and op2 of a system register by its packed encoding. */
const encoding = (key: number): string =>
  [key >> 14, (key >> 11) & 7, (key >> 7) & 15, (key >> 3) & 15, key & 7].join(",");

/** Name to text. The arguments, up to six numbers, are in the order of the text. */
export const TRACEPOINTS = {
  kvm_entry: (pc: TraceArg) => `PC: 0x${x(pc, 16)}`,
  kvm_exit: (type: number, ec: number, pc: TraceArg) =>
    `${EXIT_TYPE_NAMES[type]}: HSR_EC: 0x${x(ec, 4)} (${EXCEPTION_CLASS_NAMES[ec] ?? "?"}), PC: 0x${
      x(pc, 16)
    }`,
  kvm_guest_fault: (ipa: number, hsr: TraceArg, hxfar: TraceArg, pc: TraceArg) =>
    `ipa 0x${x(ipa, 1)}, hsr 0x${x(hsr, 1)}, hxfar 0x${x(hxfar, 1)}, pc 0x${x(pc, 14)}`,
  kvm_access_fault: (ipa: number) => `IPA: ${x(ipa, 1)}`,
  kvm_irq_line: (type: number, vcpu: number, num: number, level: number) =>
    `Inject ${
      ["CPU", "VGIC SPI", "VGIC PPI"][type] ?? "?"
    } interrupt (${type}), vcpu->idx: ${vcpu}, num: ${num}, level: ${level}`,
  kvm_mmio_emulate: (pc: TraceArg, instr: TraceArg, cpsr: number) =>
    `Emulate MMIO at: 0x${x(pc, 16)} (instr: ${x(instr, 8)}, cpsr: ${x(cpsr, 8)})`,
  kvm_mmio: (type: number, len: number, gpa: number, value: TraceArg) =>
    `mmio ${MMIO_TYPES[type]} len ${len} gpa 0x${x(gpa, 1)} val 0x${x(value, 1)}`,
  kvm_set_way_flush: (pc: TraceArg, cache: number) =>
    `S/W flush at 0x${x(pc, 16)} (cache ${cache ? "on" : "off"})`,
  kvm_toggle_cache: (pc: TraceArg, was: number, now: number) =>
    `VM op at 0x${x(pc, 16)} (cache was ${was ? "on" : "off"}, now ${now ? "on" : "off"})`,
  kvm_timer_update_irq: (vcpu: number, irq: number, level: number) =>
    `VCPU: ${vcpu}, IRQ ${irq}, level ${level}`,
  kvm_get_timer_map: (vcpu: number, vtimer: number, ptimer: number, emul: number) =>
    `VCPU: ${vcpu}, dv: ${vtimer}, dp: ${ptimer}, ep: ${emul}`,
  kvm_timer_save_state: (ctl: number, cval: TraceArg, index: number) =>
    `CTL: 0x${x(ctl, 6)} CVAL: 0x${x(cval, 1)} arch_timer_ctx_index: ${index}`,
  kvm_timer_restore_state: (ctl: number, cval: TraceArg, index: number) =>
    `CTL: 0x${x(ctl, 6)} CVAL: 0x${x(cval, 1)} arch_timer_ctx_index: ${index}`,
  kvm_timer_hrtimer_expire: (index: number) => `arch_timer_ctx_index: ${index}`,
  kvm_timer_emulate: (index: number, fire: number) =>
    `arch_timer_ctx_index: ${index} (should_fire: ${fire})`,
  kvm_wfx_arm64: (pc: TraceArg, wfe: number) =>
    `guest executed wf${wfe ? "e" : "i"} at: 0x${x(pc, 16)}`,
  kvm_hvc_arm64: (pc: TraceArg, r0: TraceArg, imm: TraceArg) =>
    `HVC at 0x${x(pc, 16)} (r0: 0x${x(r0, 16)}, imm: 0x${x(imm, 1)})`,
  kvm_sys_access: (pc: TraceArg, key: number, write: number) =>
    `PC: ${x(pc, 1)} (${encoding(key)}) ${write ? "write" : "read"}`,
  kvm_handle_sys_reg: (hsr: TraceArg) => `HSR 0x${x(hsr, 1)}`,
  kvm_set_guest_debug: (vcpu: number, flags: number) => `vcpu: ${vcpu}, flags: 0x${x(flags, 8)}`,
  kvm_arm_setup_debug: (vcpu: number, flags: number) => `vcpu: ${vcpu}, flags: 0x${x(flags, 8)}`,
  kvm_arm_clear_debug: (flags: number) => `flags: 0x${x(flags, 8)}`,
  kvm_arm_set_dreg32: (name: number, value: TraceArg) =>
    `${DEBUG_REGISTERS[name] ?? "?"}: 0x${x(value, 1)}`,
  trap_reg: (name: number, reg: number, write: number, value: TraceArg) =>
    `${TRAP_FUNCTIONS[name] ?? "?"} ${write ? "write to" : "read from"} reg ${reg} (0x${
      x(value, 16)
    })`,
  vgic_update_irq_pending: (vcpu: number, irq: number, level: number) =>
    `VCPU: ${vcpu}, IRQ ${irq}, level: ${level}`,
  kvm_userspace_exit: (reason: number) =>
    `reason ${userExit(reason)} (${reason === 10 ? 4 : reason})`,
  /** Ours: user space gave a device up until its driver resets it. */
  virtio_needs_reset: (slot: number, device: number, fault: number) =>
    `slot ${slot} (${VIRTIO_NAMES[device] ?? device}): ${VIRTIO_FAULTS[fault] ?? "?"}`,
  kvm_vcpu_wakeup: (ns: number, waited: number, valid: number) =>
    `${waited ? "wait" : "poll"} time ${ns} ns, polling ${valid ? "valid" : "invalid"}`,
} as const;

export type TracepointName = keyof typeof TRACEPOINTS;

/** Tracepoint names in order: a record's `id` is the position here. */
export const TRACEPOINT_NAMES = Object.keys(TRACEPOINTS) as TracepointName[];

const TraceRecord = layout("trace_record", {
  timeNs: u53("observe"),
  id: u16("observe"),
  pcpu: u16("observe"),
  vcpu: u16("observe"),
  vm: u16("observe"),
  a0: u53("observe"),
  a1: u53("observe"),
  a2: u53("observe"),
  a3: u53("observe"),
  a4: u53("observe"),
  a5: u53("observe"),
});
const TraceHead = layout("trace_head", { written: u53("observe") });

/** A record is 2^RECORD_SHIFT words. */
const RECORD_SHIFT = Math.log2(TraceRecord.size >>> 2);
/** The word of a record where its arguments begin. */
const ARGS = TraceRecord.offset.a0 >>> 2;

/** One event read back. */
export interface TraceEvent {
  readonly sequence: number;
  readonly timeNs: number;
  readonly name: TracepointName;
  readonly pcpu: number;
  /** vCPU that the event concerns, and its VM; NO_VCPU when none. */
  readonly vcpu: number;
  readonly vm: number;
  readonly args: readonly TraceArg[];
  readonly text: string;
}

export const NO_VCPU = 0xffff;

/** The ring as a reader has it, from any thread: its head and records by their addresses. */
export class TraceLog {
  readonly #head: ViewOf<typeof TraceHead>;

  constructor(
    readonly memory: SharedMemory,
    readonly headAt: number,
    readonly recordsAt: number,
    readonly capacity: number,
  ) {
    this.#head = TraceHead.at(memory, headAt);
  }

  /** Events ever made. */
  get written(): number {
    return this.#head.written;
  }

  #kept(n: number): boolean {
    // The writer may be at the record after the last one it has counted.
    return n >= 0 && n < this.written && n > this.written - this.capacity;
  }

  /** The event with sequence number `n` (0 is the first ever), or undefined when it has been overwritten or is not made yet. */
  read(n: number): TraceEvent | undefined {
    if (!this.#kept(n)) return undefined;
    const r = TraceRecord.at(this.memory, this.recordsAt + TraceRecord.size * (n % this.capacity));
    const { timeNs, id, pcpu, vcpu, vm } = r;
    const name = TRACEPOINT_NAMES[id];
    if (name === undefined) return undefined;
    const format = TRACEPOINTS[name] as (...a: TraceArg[]) => string;
    const args = Array.from({ length: format.length }, (_, i) => this.#arg(r.base, i));
    // Overwritten while it was read: what was read is of two events.
    if (!this.#kept(n)) return undefined;
    return { sequence: n, timeNs, name, pcpu, vcpu, vm, args, text: format(...args) };
  }

  #arg(record: number, i: number): TraceArg {
    const at = record + TraceRecord.offset.a0 + 8 * i;
    const wide = this.memory.ld32(at + 4) >= 0x20_0000;
    return wide ? this.memory.ld64(at) : this.memory.ld53(at);
  }
}

/** A tracepoint by its number in a record. */
export type TraceId<N extends TracepointName> = number & { readonly tracepoint: N };

/** The tracepoints' numbers. */
export const TP = Object.fromEntries(TRACEPOINT_NAMES.map((n, i) => [n, i])) as unknown as {
  readonly [N in TracepointName]: TraceId<N>;
};

/**
 * For {@link TraceRing.record}: the argument is the 64-bit word at byte address `at` of the memory, a multiple of
 * 4, of which no bigint need be made.
 */
export function wordAt(at: number): number {
  return -(at >>> 2);
}

/** Writes a small argument, or the word that it stands for, to the words from `at` on. */
function put(words: Int32Array, at: number, arg: number): void {
  const next = (at + 1) | 0;
  if (arg >= 0) {
    words[at] = arg;
    words[next] = 0;
  } else {
    const from = (0 - arg) | 0;
    words[at] = words[from] as number;
    words[next] = words[(from + 1) | 0] as number;
  }
}

/** Where the time is to be found: byte addresses in the ring's memory. */
export interface TimeAt {
  /** A 64-bit word, which is the time as long as the 32-bit word `unless` is 0. */
  readonly ns: number;
  readonly unless: number;
}

/** A ring of the last `capacity` (a power of two) events, with the side that makes them. */
export class TraceRing extends TraceLog {
  /** Who is executing and when: set by the host before it runs anything. */
  timeNs: () => number = () => 0;
  /** Writes the time to the two words from word `at` on instead, where there is a shorter way than a number. */
  stamp: ((words: Int32Array, at: number) => void) | undefined;
  pcpu = 0;
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare private readonly words: Int32Array;
  /** Words of the head and of the first record; what of the head is a record's number. */
  declare private readonly headWord: number;
  declare private readonly firstWord: number;
  declare private readonly mask: number;
  /** Words of {@link TimeAt}, 0 without. */
  declare private ns: number;
  declare private unless: number;
  /** Called with each event as it is made, for tests. */
  listener: ((name: TracepointName, vcpu: number, args: readonly TraceArg[]) => void) | undefined;

  constructor(memory: SharedMemory, arena: Arena, capacity: number) {
    super(memory, arena.allocate(TraceHead), arena.allocate(TraceRecord, capacity), capacity);
    this.words = memory.i32;
    this.headWord = this.headAt >>> 2;
    this.firstWord = this.recordsAt >>> 2;
    this.mask = capacity - 1;
    this.ns = 0;
    this.unless = 0;
  }

  /** Where the time is as a rule, so that a record need not ask for it. */
  set timeAt(at: TimeAt | undefined) {
    this.ns = (at?.ns ?? 0) >>> 2;
    this.unless = (at?.unless ?? 0) >>> 2;
  }

  /**
   * Records an event by its number, one of {@link TP}, with the arguments that it has. What may be 2^53 or
   * more is a bigint or {@link wordAt}.
   */
  record(
    id: number,
    vm: number,
    vcpu: number,
    a0?: TraceArg,
    a1?: TraceArg,
    a2?: TraceArg,
    a3?: TraceArg,
    a4?: TraceArg,
    a5?: TraceArg,
  ): void {
    const words = this.words, at = this.#begin(words, id, vcpu | (vm << 16));
    if (a0 !== undefined) this.#put(words, at, a0);
    if (a1 !== undefined) this.#put(words, at + 2, a1);
    if (a2 !== undefined) this.#put(words, at + 4, a2);
    if (a3 !== undefined) this.#put(words, at + 6, a3);
    if (a4 !== undefined) this.#put(words, at + 8, a4);
    if (a5 !== undefined) this.#put(words, at + 10, a5);
    this.#end(words);
    if (this.listener) this.#tell(id, vcpu, [a0, a1, a2, a3, a4, a5]);
  }

  /**
   * The same for an event with one argument and for one with three, which are small (from 0 to 2^31 - 1) or
   * {@link wordAt}: what each exit has. `who` is the vCPU, and 2^16 times its VM.
   */
  record1(id: number, who: number, a0: number): void {
    const { words } = this;
    put(words, this.#begin(words, id, who), a0);
    this.#end(words);
    if (this.listener !== undefined) this.#tell(id, who & 0xffff, [a0]);
  }
  record3(id: number, who: number, a0: number, a1: number, a2: number): void {
    const { words } = this, at = this.#begin(words, id, who);
    put(words, at, a0);
    put(words, (at + 2) | 0, a1);
    put(words, (at + 4) | 0, a2);
    this.#end(words);
    if (this.listener !== undefined) this.#tell(id, who & 0xffff, [a0, a1, a2]);
  }

  /** Writes what all records have; the word where the arguments begin. */
  #begin(words: Int32Array, id: number, who: number): number {
    const slot = (words[this.headWord] as number) & this.mask;
    const at = (this.firstWord + (slot << RECORD_SHIFT)) | 0, { ns } = this;
    if (ns !== 0 && words[this.unless] === 0) {
      words[at] = words[ns] as number;
      words[(at + 1) | 0] = words[(ns + 1) | 0] as number;
    } else this.#time(at);
    words[(at + 2) | 0] = id | (this.pcpu << 16);
    words[(at + 3) | 0] = who;
    return (at + ARGS) | 0;
  }

  /** The record is complete. */
  #end(words: Int32Array): void {
    const { headWord } = this, written = ((words[headWord] as number) + 1) | 0;
    words[headWord] = written;
    if (written === 0) words[headWord + 1] = (words[headWord + 1] as number) + 1;
  }

  #time(at: number): void {
    if (this.stamp !== undefined) this.stamp(this.words, at);
    else this.memory.st53(4 * at, this.timeNs());
  }

  #put(words: Int32Array, at: number, arg: TraceArg): void {
    if (typeof arg === "bigint") this.memory.st64(4 * at, arg);
    // Nearly all are small integers: no floating-point number is made of one.
    else if ((arg | 0) === arg) put(words, at, arg | 0);
    else this.memory.st53(4 * at, arg);
  }

  #tell(id: number, vcpu: number, args: readonly (TraceArg | undefined)[]): void {
    const given = args.filter((arg) => arg !== undefined)
      .map((arg) => typeof arg === "number" && arg < 0 ? this.memory.ld64(-4 * arg) : arg);
    this.listener?.(TRACEPOINT_NAMES[id] as TracepointName, vcpu, given);
  }

  /** The same by name. Pass what may be 2^53 or more as a bigint. */
  emit<N extends TracepointName>(
    name: N,
    vm: number,
    vcpu: number,
    ...args: Parameters<(typeof TRACEPOINTS)[N]>
  ): void {
    this.record(TP[name], vm, vcpu, ...args);
  }
}
