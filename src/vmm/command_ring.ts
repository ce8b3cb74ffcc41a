/**
 * Commands from the main thread to the machine: a ring of fixed-size records between one producer and
 * one consumer, and the one table of commands. The machine acknowledges each command by its number
 * once its effect is in the machine's state, so that a frame which names that number shows the effect.
 */
import { assert } from "../base/errors.ts";
import type { SharedMemory } from "../base/memory.ts";
import { i32, layout, u32, u53 } from "../base/struct.ts";

/** Kinds of an interrupt line: KVM_ARM_IRQ_TYPE_SPI and KVM_ARM_IRQ_TYPE_PPI (include/uapi/asm/kvm.h). */
export const LINE_KIND = { SPI: 1, PPI: 2 } as const;

/**
 * Every command with the names of its arguments, up to six numbers from 0 to 2^53 - 1. A record's `op`
 * is the position here. `vcpu` counts within its VM (vcpuIdx); `kind` is a {@link LINE_KIND}.
 */
export const COMMAND_ARGS = {
  /** Sets the line high; `vcpu` matters for a PPI. */
  raiseLine: ["vm", "kind", "intid", "vcpu"],
  lowerLine: ["vm", "kind", "intid", "vcpu"],
  /** High, and low again at once: an edge. */
  pulseLine: ["vm", "kind", "intid", "vcpu"],
  /** Routes an SPI to another vCPU, as a write to GICD_IROUTER would. */
  migrateInterrupt: ["vm", "intid", "vcpu"],
  /** Binds the vCPU's thread to a physical CPU. */
  moveVcpu: ["vm", "vcpu", "pcpu"],
  /** Makes an SGI pending at each vCPU whose bit is set; `targetsHi` are vCPUs 32 to 63. */
  sendSgi: ["vm", "intid", "targets", "targetsHi"],
  /** Presses the power button for a tenth of a virtual second. */
  pressPowerButton: ["vm"],
  pause: [],
  resume: [],
  /** Pauses, and retires one instruction of the vCPU. */
  stepInstruction: ["vm", "vcpu"],
  /** Pauses, and runs the vCPU until it leaves the guest next. */
  stepExit: ["vm", "vcpu"],
  /** Virtual time in thousandths of wall time that is not overtaken; 0 runs free. */
  setPace: ["permille"],
  /** Publishes a frame at the next slice boundary. */
  requestFrame: [],
  /** Bytes are waiting in the VM's console input ring. */
  consoleInput: ["vm"],
  /** Zeroes the counters and histograms that are only for looking at. */
  resetCounters: [],
  quit: [],
} as const satisfies Record<string, readonly string[]>;

export type CommandName = keyof typeof COMMAND_ARGS;

type Args<N extends CommandName> = {
  readonly [A in (typeof COMMAND_ARGS)[N][number]]: number;
};

/** A command with its arguments by name. */
export type Command = { [N in CommandName]: { readonly op: N } & Args<N> }[CommandName];

/** Command names in the order of their numbers. */
export const COMMAND_NAMES = Object.keys(COMMAND_ARGS) as CommandName[];

/** A command as the machine takes it, with the number to acknowledge. */
export interface TakenCommand {
  readonly sequence: number;
  readonly command: Command;
}

const MAX_ARGS = 6;

/** The ring's counters; sequence numbers start at 1 and wrap at 2^31. */
const CommandRingHead = layout("command_ring", {
  /** Number of the last command sent, and of the last one taken. */
  sent: u32("observe"),
  taken: u32("observe"),
  /** Number of the last command whose effect is in the state. */
  acknowledged: u32("observe"),
  /** Changes with every reason to wake the machine; it waits on this word. */
  doorbell: u32("observe"),
});

const CommandRecord = layout("command", {
  sequence: u32("observe"),
  op: u32("observe"),
  /** Zero or an error number, negated, as KVM's ioctls return it. */
  result: i32("observe"),
  a0: u53("observe"),
  a1: u53("observe"),
  a2: u53("observe"),
  a3: u53("observe"),
  a4: u53("observe"),
  a5: u53("observe"),
});

/** Bytes of shared memory that a ring of `capacity` commands takes. */
export function commandRingSize(capacity: number): number {
  return CommandRingHead.size + CommandRecord.size * capacity;
}

/** One end of the ring at byte address `base` (a multiple of 8, zeroed once); `capacity` is a power of two. */
export class CommandRing {
  readonly #word: Record<keyof typeof CommandRingHead.offset, number>;
  readonly #records: number;

  constructor(readonly memory: SharedMemory, base: number, readonly capacity: number) {
    assert(capacity > 0 && (capacity & (capacity - 1)) === 0, `command ring of ${capacity}`);
    const { sent, taken, acknowledged, doorbell } = CommandRingHead.offset;
    const word = (offset: number): number => (base + offset) >>> 2;
    this.#word = {
      sent: word(sent),
      taken: word(taken),
      acknowledged: word(acknowledged),
      doorbell: word(doorbell),
    };
    this.#records = base + CommandRingHead.size;
  }

  #load(name: keyof typeof CommandRingHead.offset): number {
    return Atomics.load(this.memory.i32, this.#word[name]);
  }

  #recordAt(sequence: number): number {
    return this.#records + CommandRecord.size * (sequence & (this.capacity - 1));
  }

  /** Number of the last command whose effect is in the machine's state; 0 before the first. */
  get acknowledged(): number {
    return this.#load("acknowledged");
  }

  /** Commands sent and not yet taken. */
  get length(): number {
    return this.#load("sent") - this.#load("taken");
  }

  /** Producer: sends a command and wakes the machine. Its number, or undefined when the ring is full. */
  send(command: Command): number | undefined {
    if (this.length >= this.capacity) return undefined;
    const sequence = this.#load("sent") + 1;
    const at = this.#recordAt(sequence);
    const record = CommandRecord.at(this.memory, at);
    record.sequence = sequence;
    record.op = COMMAND_NAMES.indexOf(command.op);
    record.result = 0;
    const values = command as unknown as Record<string, number>;
    COMMAND_ARGS[command.op].forEach((name, i) => {
      const value = values[name];
      assert(
        value !== undefined && Number.isSafeInteger(value) && value >= 0 && i < MAX_ARGS,
        `${command.op}: bad argument ${name}`,
      );
      this.memory.st53(at + CommandRecord.offset.a0 + 8 * i, value);
    });
    Atomics.store(this.memory.i32, this.#word.sent, sequence);
    this.ring();
    return sequence;
  }

  /** Producer: wakes the machine without a command (console bytes, a frame wanted). */
  ring(): void {
    Atomics.add(this.memory.i32, this.#word.doorbell, 1);
    Atomics.notify(this.memory.i32, this.#word.doorbell);
  }

  /** Consumer: the next command, or undefined. One `Atomics.load` when there is none. */
  take(): TakenCommand | undefined {
    const last = this.#load("taken");
    if (this.#load("sent") === last) return undefined;
    const at = this.#recordAt(last + 1);
    const record = CommandRecord.at(this.memory, at);
    const { sequence } = record;
    const op = COMMAND_NAMES[record.op];
    assert(op !== undefined && sequence === last + 1, `command ring: bad record ${last + 1}`);
    const values = COMMAND_ARGS[op].map((name, i) => [
      name,
      this.memory.ld53(at + CommandRecord.offset.a0 + 8 * i),
    ]);
    Atomics.store(this.memory.i32, this.#word.taken, sequence);
    return { sequence, command: { op, ...Object.fromEntries(values) } as Command };
  }

  /** Consumer: command `sequence` has had its effect, or failed with `result` (an error number, negated). */
  acknowledge(sequence: number, result = 0): void {
    CommandRecord.at(this.memory, this.#recordAt(sequence)).result = result;
    Atomics.store(this.memory.i32, this.#word.acknowledged, sequence);
    Atomics.notify(this.memory.i32, this.#word.acknowledged);
  }

  /** Producer: the result of an acknowledged command; undefined while it is not, or when its record is reused. */
  resultOf(sequence: number): number | undefined {
    if (this.acknowledged < sequence) return undefined;
    const record = CommandRecord.at(this.memory, this.#recordAt(sequence));
    return record.sequence === sequence ? record.result : undefined;
  }

  /** Consumer: what `wait` is to be given, read before the last look at the ring. */
  get doorbell(): number {
    return this.#load("doorbell");
  }

  /** Consumer: blocks until the doorbell is no longer `seen`, or for `timeoutMs`. Only in a worker. */
  wait(seen: number, timeoutMs: number = Infinity): void {
    Atomics.wait(this.memory.i32, this.#word.doorbell, seen, timeoutMs);
  }
}
