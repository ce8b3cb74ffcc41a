/**
 * Measures world switches at a port: what has passed through it and how long it took, from a vCPU's exit to its
 * next entry, into what switch_record.ts describes. By WebAssembly, with two kinds of operations to a vector:
 * measuring each switch in TypeScript costs more than some of the switches.
 */
import { assert } from "../base/errors.ts";
import { type SharedMemory, WASM_PAGE } from "../base/memory.ts";
import { CpuLayout } from "./arch/cpu_state.ts";
import type { Clock } from "./clock.ts";
import { SliceLayout } from "./engine/turn_loop.ts";
import { FunctionBody, I32, I64, V128 } from "./engine/wasm_assembler.ts";
import { ModuleAssembler } from "./engine/wasm_module.ts";
import { PORT_KINDS, type PortKind, PortLayout } from "./port_operations.ts";
import {
  FIRST_OCTAVE,
  OCTAVES,
  SWITCH,
  SWITCH_BUCKETS,
  SWITCH_REASONS,
  SwitchSlotLayout,
  WorldSwitchLayout,
} from "./switch_record.ts";

/** Registers that one operation of a kind moves; kinds that move none are absent. V0 to V31, FPSR, FPCR are 34. */
const REGISTERS: Readonly<Partial<Record<PortKind, number>>> = {
  sysregRead: 1,
  sysregWrite: 1,
  sysregSave: 1,
  sysregRestore: 1,
  timerRead: 1,
  timerWrite: 1,
  gicRead: 1,
  gicWrite: 1,
  lrRead: 1,
  gicMmioRead: 1,
  gicMmioWrite: 1,
  lrWrite: 1,
  gprSave: 31,
  gprRestore: 31,
  fpSave: 34,
  fpRestore: 34,
};

/** Of these, the first ones of vectors whose operations few switches do: they are looked at together. */
const RARE: readonly PortKind[] = ["timerRead", "gicMmioRead", "fpSave", "dmb", "ic", "at"];

/** Of a vCPU's record and a port's counters, both by their byte addresses. */
type Measure = (record: number, counters: number) => void;

interface Measures {
  readonly left: Measure;
  readonly entered: Measure;
  readonly resume: Measure;
  /** Time goes on, and does not. */
  readonly pause: Measure;
  readonly block: Measure;
}

const RECORD = 0, COUNTERS = 1;
const { offset: AT } = WorldSwitchLayout, { offset: SLOT } = SwitchSlotLayout;
type Word = "beforeNs" | "portAt" | "state" | "reason" | "registersMoved";
type Sum = "operationNs" | "sinceNs" | "outsideNs" | "nowNs";

/** One function under construction. */
class MeasureCode {
  readonly body = new FunctionBody([I32, I32], []);
  readonly #now = this.body.local(I64);
  /** What a port has counted of two kinds, and what of that is new. */
  readonly #vector = this.body.local(V128);
  readonly #done = this.body.local(V128);

  constructor(readonly clock: Clock) {}

  #get(field: Word): FunctionBody {
    return this.body.get(RECORD).mem("i32.load", AT[field]);
  }
  #set(field: Word, value: () => void): void {
    this.body.get(RECORD);
    value();
    this.body.mem("i32.store", AT[field]);
  }
  #setTo(field: Word, value: number): void {
    this.#set(field, () => this.body.i32(value));
  }
  #sum(field: Sum): FunctionBody {
    return this.body.get(RECORD).mem("i64.load", AT[field]);
  }
  #setSum(field: Sum, value: () => void): void {
    this.body.get(RECORD);
    value();
    this.body.mem("i64.store", AT[field]);
  }

  /** Takes the time, which is {@link Clock.now}. */
  takeTime(): void {
    const { body } = this, { addedNsAt, sliceAt } = this.clock;
    if (addedNsAt === undefined) {
      this.#sum("nowNs").set(this.#now);
      return;
    }
    const cpu = body.local(I32);
    body.i32(0).mem("i64.load", addedNsAt).set(this.#now);
    body.i32(0).mem("i32.load", sliceAt + SliceLayout.offset.cpu).tee(cpu).if("slice", false);
    body.get(this.#now).i32(0).mem("i32.load", sliceAt + SliceLayout.offset.budget);
    body.get(cpu).mem("i32.load", CpuLayout.offset.budget).op("i32.sub").op("i64.extend_i32_s");
    body.op("i64.add").set(this.#now).end();
  }

  /** Does `then` where one of the bits is set. */
  #ifState(bits: number, then: () => void): void {
    this.#get("state").i32(bits).op("i32.and").if("state");
    then();
    this.body.end();
  }
  #setState(bits: number): void {
    this.#set("state", () => this.#get("state").i32(bits).op("i32.or"));
  }
  #clearState(bits: number): void {
    this.#set("state", () => this.#get("state").i32(~bits).op("i32.and"));
  }

  /** A switch begins, with `state` as it is besides. */
  begin(state = 0): void {
    this.#setTo("state", SWITCH.OUTSIDE | SWITCH.TIMED | state);
    this.#setTo("reason", 0);
    this.#setTo("registersMoved", 0);
    for (const sum of ["outsideNs", "operationNs"] as const) {
      this.#setSum(sum, () => this.body.i64(0n));
    }
    this.#startTime();
  }

  #startTime(): void {
    this.#setSum("sinceNs", () => this.body.get(this.#now));
  }

  #stopTime(): void {
    this.#ifState(SWITCH.TIMED, () => {
      this.#setSum("outsideNs", () => {
        this.#sum("outsideNs").get(this.#now).op("i64.add");
        this.#sum("sinceNs").op("i64.sub");
      });
    });
  }

  /** A switch begins, unless one goes on. */
  goOn(): void {
    const { body } = this;
    this.#get("state").i32(SWITCH.OUTSIDE).op("i32.and").op("i32.eqz").if("inside");
    this.begin();
    body.end();
    this.#get("state").i32(SWITCH.TIMED).op("i32.and").op("i32.eqz").if("untimed");
    this.#startTime();
    body.end();
    this.#setState(SWITCH.TIMED | SWITCH.COUNTING);
  }

  /** What is done at the port from now on counts. */
  startOperations(): void {
    const { body } = this, ns = body.local(I32);
    body.get(COUNTERS).mem("i32.load", PortLayout.offset.ns).set(ns);
    // Unless nothing was done there since: what was read when operations last ceased to count still holds then.
    this.#get("portAt").get(COUNTERS).op("i32.ne");
    this.#get("beforeNs").get(ns).op("i32.ne").op("i32.or").if("other", false);
    this.#set("portAt", () => body.get(COUNTERS));
    this.#set("beforeNs", () => body.get(ns));
    for (let at = 0; at < 8 * PORT_KINDS.length; at += 16) {
      body.get(RECORD).get(COUNTERS).vectorMem("load", at).vectorMem("store", AT.before + at);
    }
    body.end();
  }

  #stopOperations(): void {
    const { body } = this, ns = body.local(I32);
    this.#ifState(SWITCH.COUNTING, () => {
      this.#set("registersMoved", () => {
        this.#get("registersMoved");
        this.#takeOperations();
        body.op("i32.add");
      });
      body.get(COUNTERS).mem("i32.load", PortLayout.offset.ns).set(ns);
      this.#setSum("operationNs", () => {
        this.#sum("operationNs").get(ns);
        this.#get("beforeNs").op("i32.sub").op("i64.extend_i32_u").op("i64.add");
      });
      this.#set("beforeNs", () => body.get(ns));
    });
  }

  /** Neither operations count any more nor, with `timed`, time; the switch goes on. */
  pause(timed: boolean): void {
    this.#stopOperations();
    if (timed) this.#stopTime();
    this.#clearState(timed ? SWITCH.COUNTING | SWITCH.TIMED : SWITCH.COUNTING);
  }

  /** Adds what the port has done to the record's operations: how many registers it moved, on the stack. */
  #takeOperations(): void {
    const { body } = this, sum = body.local(V128);
    const pairs = Array.from({ length: PORT_KINDS.length / 2 }, (_, pair) => 2 * pair);
    const isRare = (k: number) => RARE.includes(PORT_KINDS[k] as PortKind);
    for (const k of pairs.filter((k) => !isRare(k))) this.#take(k, sum);
    const rare = pairs.filter(isRare);
    assert(rare.length === RARE.length, "each rare kind is the first of a vector");
    this.#anyDone(rare);
    body.if("rare", false);
    for (const k of rare) this.#take(k, sum);
    body.end();
    body.get(sum).extractLane(64, 0).get(sum).extractLane(64, 1).op("i64.add").op("i32.wrap_i64");
  }

  /** Whether one of these kinds, or of those behind them, has been done, on the stack. */
  #anyDone(kinds: readonly number[]): void {
    const { body } = this;
    kinds.forEach((k, n) => {
      body.get(COUNTERS).vectorMem("load", 8 * k).get(RECORD).vectorMem("load", AT.before + 8 * k);
      body.vector("v128.xor");
      if (n > 0) body.vector("v128.or");
    });
    body.vector("v128.any_true");
  }

  /** Adds what has been done of kind `k` and the next; to `sum`, the registers that they moved. */
  #take(k: number, sum: number): void {
    const { body } = this, at = 8 * k, now = this.#vector, done = this.#done;
    body.get(COUNTERS).vectorMem("load", at).set(now);
    body.get(now).get(RECORD).vectorMem("load", AT.before + at).vector("i64x2.sub").set(done);
    body.get(RECORD).get(now).vectorMem("store", AT.before + at);
    body.get(RECORD).get(RECORD).vectorMem("load", AT.operations + at).get(done);
    body.vector("i64x2.add").vectorMem("store", AT.operations + at);
    const [moved = 0, other = 0] = PORT_KINDS.slice(k, k + 2).map((kind) => REGISTERS[kind] ?? 0);
    assert(moved === other, "the two kinds of a vector move as much");
    if (moved === 0) return;
    this.#times(moved, done);
    body.get(sum).vector("i64x2.add").set(sum);
  }

  /** `n` times the vector, on the stack, by shifts: a product of 64-bit lanes is eleven instructions of the host. */
  #times(n: number, vector: number): void {
    const { body } = this;
    const shifted = (by: number) => body.get(vector).i32(by).vector("i64x2.shl");
    if (n === 1) body.get(vector);
    else if (n === 31) shifted(5).get(vector).vector("i64x2.sub");
    else {
      assert(n === 34, `registers of one operation: ${n}`);
      shifted(5);
      shifted(1).vector("i64x2.add");
    }
  }

  /** The switch is complete: into the slot of its reason. */
  end(): void {
    const { body } = this, slot = body.local(I32), ns = body.local(I64);
    this.#stopOperations();
    this.#stopTime();
    this.#setTo("state", 0);
    this.#get("reason").i32(1).op("i32.sub").tee(slot).i32(SWITCH_REASONS).op("i32.lt_u").if(
      "slot",
    );
    body.get(slot).i32(SwitchSlotLayout.size).op("i32.mul").get(RECORD).op("i32.add").set(slot);
    this.#sum("outsideNs").set(ns);
    const add = (field: "totalNs" | "operationNs" | "registersMoved", value: () => void) => {
      body.get(slot).get(slot).mem("i64.load", AT.slots + SLOT[field]);
      value();
      body.op("i64.add").mem("i64.store", AT.slots + SLOT[field]);
    };
    add("totalNs", () => body.get(ns));
    add("operationNs", () => this.#sum("operationNs"));
    add("registersMoved", () => this.#get("registersMoved").op("i64.extend_i32_u"));
    body.get(ns).get(slot).mem("i64.load", AT.slots + SLOT.maxNs).op("i64.gt_u").if(
      "longest",
      false,
    );
    body.get(slot).get(ns).mem("i64.store", AT.slots + SLOT.maxNs).end();
    this.#bucket(ns, slot);
    body.end();
  }

  /** Counts the time in the bucket that `switchBucket` of kvm/stats.ts has for it. */
  #bucket(ns: number, slot: number): void {
    const { body } = this, low = body.local(I32), octave = body.local(I32), at = body.local(I32);
    body.get(ns).i64(BigInt(2 ** (FIRST_OCTAVE + OCTAVES))).op("i64.lt_u").if("closed", true);
    body.get(ns).op("i32.wrap_i64").tee(low).i32(2 ** FIRST_OCTAVE).op("i32.ge_u").if(
      "counted",
      true,
    );
    body.i32(31).get(low).op("i32.clz").op("i32.sub").tee(octave).i32(FIRST_OCTAVE).op("i32.sub");
    body.i32(2).op("i32.shl").get(low).get(octave).i32(2).op("i32.sub").op("i32.shr_u");
    body.i32(3).op("i32.and").op("i32.or").i32(1).op("i32.add").set(at).end();
    body.else().i32(SWITCH_BUCKETS - 1).set(at).end();
    body.get(at).i32(2).op("i32.shl").get(slot).op("i32.add").tee(at);
    body.get(at).mem("i32.load", AT.slots + SLOT.buckets).i32(1).op("i32.add");
    body.mem("i32.store", AT.slots + SLOT.buckets);
  }
}

/** Each function's parts, in their order. */
const PARTS: Readonly<Record<keyof Measures, (code: MeasureCode) => void>> = {
  left: (code) => {
    code.begin(SWITCH.COUNTING);
    code.startOperations();
  },
  entered: (code) => code.end(),
  resume: (code) => {
    code.goOn();
    code.startOperations();
  },
  pause: (code) => code.pause(false),
  block: (code) => code.pause(true),
};

const MEASURES = new WeakMap<Clock, Measures>();

function measuresOf({ memory }: SharedMemory, clock: Clock): Measures {
  const known = MEASURES.get(clock);
  if (known !== undefined) return known;
  const module = new ModuleAssembler(memory.buffer.byteLength / WASM_PAGE);
  for (const [name, parts] of Object.entries(PARTS)) {
    const code = new MeasureCode(clock);
    code.takeTime();
    parts(code);
    module.add(code.body, name);
  }
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), {
    env: { memory },
  });
  MEASURES.set(clock, exports as unknown as Measures);
  return exports as unknown as Measures;
}

/**
 * The meter of one port, for any vCPU's record by its byte address (an instance of {@link WorldSwitchLayout}):
 * {@link left} and {@link entered} frame a switch; {@link pause} and {@link resume} cut out what is not the vCPU's.
 */
export class PortMeter {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly memory: SharedMemory;
  declare readonly clock: Clock;
  declare private readonly counters: number;
  declare private readonly measures: Measures;
  declare private readonly begin: Measure;
  declare private readonly end: Measure;
  /** The time is the host's clock. */
  declare private readonly stamps: boolean;

  /** `counters`: the byte address of the port's. */
  constructor(memory: SharedMemory, clock: Clock, counters: number) {
    this.memory = memory;
    this.clock = clock;
    this.counters = counters | 0;
    this.measures = measuresOf(memory, clock);
    this.begin = this.measures.left;
    this.end = this.measures.entered;
    this.stamps = clock.addedNsAt === undefined;
  }

  #stamp(record: number): void {
    this.clock.stampWords(this.memory.i32, (record + AT.nowNs) >>> 2);
  }

  /** The guest was left just now; nothing has been done at the port since. */
  left(record: number): void {
    if (this.stamps) this.#stamp(record);
    this.begin(record, this.counters);
  }

  /** It has been entered just now: the switch is complete. */
  entered(record: number): void {
    if (this.stamps) this.#stamp(record);
    this.end(record, this.counters);
  }

  /** What is done at the port is another's from now on; `blocked`: neither does time count. */
  pause(record: number, blocked: boolean): void {
    if (this.stamps) this.#stamp(record);
    (blocked ? this.measures.block : this.measures.pause)(record, this.counters);
  }

  /** It is the vCPU's again: a switch goes on, or begins. */
  resume(record: number): void {
    if (this.stamps) this.#stamp(record);
    this.measures.resume(record, this.counters);
  }
}
