/**
 * A hot {@link Sequence} as one WebAssembly function: registers that are plain storage to EL2
 * (el2_storage.ts), always or as things are (el2_conditional.ts), are moved straight from and to their
 * words, and the operations are counted and timed together. The function is made for one CPU, and for EL2
 * on its own stack with HCR_EL2.E2H as it was.
 *
 * Where it does not do all of the sequence's steps, it answers how many it has done: nothing is counted
 * yet, and the step that comes next is one that only the register's own functions can do.
 */
import { assert } from "../base/errors.ts";
import { WASM_PAGE } from "../base/memory.ts";
import { CpuLayout, DAIF, gprOffset, sysregOffset } from "./arch/cpu_state.ts";
import { HCR_HI, TIMER_CTL } from "./arch/fields.ts";
import { ICH_HCR, ICH_LR_HI } from "./arch/gic.ts";
import { R } from "./arch/sysregs.ts";
import { NS_PER_TICK } from "./clock.ts";
import {
  type ChangeRule,
  changeRule,
  conditionalRead,
  type ConditionalWrite,
  conditionalWrite,
  type Need,
  type NeedAt,
  type ReadFrom,
  type Signals,
  type TimerAt,
} from "./el2_conditional.ts";
import type { El2Storage, PlainWrite } from "./el2_storage.ts";
import { FunctionBody, I32, I64 } from "./engine/wasm_assembler.ts";
import { ModuleAssembler } from "./engine/wasm_module.ts";
import { COSTS } from "./port_operations.ts";
import {
  type At,
  type Half,
  type ReadStep,
  type Sequence,
  SEQUENCE_ARGS,
  type SequenceStep,
  type WriteStep,
} from "./port_sequence.ts";

/** What a {@link FastSequence} answers when it has done everything. */
export const ALL_DONE = -1;
/** What is less in the answer where the machine's next deadline is to be made anew. */
export const REARM = 1;
/** The same where what the virtual CPU interface signals is to be looked at. */
export const SIGNALS = 2;

/** How many steps are done, or {@link ALL_DONE} less what is to be done besides; unused arguments are 0. */
export type FastSequence = (a: number, b: number, c: number, d: number) => number;

/** Where the port counts: byte addresses of 64-bit words. */
export interface SequenceCounters {
  /** Of the first kind; the others follow. */
  readonly kinds: number;
  /** Sums of what the operations cost. */
  readonly sums: readonly number[];
}

const GPRS = 31;
const ALL = 0xffff_ffff;
const IRQS_OFF = DAIF.I | DAIF.F;

const PARAMS = new Array<typeof I32>(SEQUENCE_ARGS).fill(I32);

function word64(lo: number, hi: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}

/** How many steps before it must be done anew where the step is done by the port: a change needs its look. */
function reachesBack({ step }: SequenceStep): number {
  return step === "change" ? 1 : 0;
}

/** One function under construction. */
class SequenceCode {
  readonly body = new FunctionBody(PARAMS, [I32]);
  readonly #value = this.body.local(I64);
  readonly #old = this.body.local(I64);
  /** Of each, bit 0 counts: see {@link REARM} and {@link SIGNALS}. */
  readonly #rearm = this.body.local(I32);
  readonly #signals = this.body.local(I32);
  /** What the steps so far cost, the one at hand included; undefined after one that is not always done. */
  #cost: number | undefined = 0;
  /** The virtual CPU interface, where one of its registers is written. */
  #interface: Signals | undefined;
  /** Of the kinds that have steps that are not always done: how many were. */
  readonly #done = new Map<number, number>();
  readonly #cpu: number;

  /** `clockNs`: the byte address of virtual time; undefined with the host's clock. */
  constructor(
    readonly storage: El2Storage,
    readonly e2h: boolean,
    readonly clockNs: number | undefined,
  ) {
    this.#cpu = storage.core.cpu.base;
  }

  /** Answers 0 unless the CPU is as the function takes for granted. */
  guard(): void {
    const { body } = this, { el, spsel } = CpuLayout.offset;
    assert(spsel === el + 4, "the level and the stack are looked at together");
    body.i32(0).mem("i64.load", this.#cpu + el).i64(word64(2, 1)).op("i64.ne");
    body.if("elsewhere", false).i32(0).return().end();
    this.#load32(this.#cpu + sysregOffset(R.HCR_EL2) + 4).i32(HCR_HI.E2H).op("i32.and");
    if (this.e2h) body.op("i32.eqz");
    body.if("other", false).i32(0).return().end();
  }

  #load32(address: number): FunctionBody {
    return this.body.i32(0).mem("i32.load", address);
  }

  /** What the register at byte address `from` holds goes to `to`. */
  #toMemory(from: number, to: At): void {
    this.body.get(to.arg).i32(0).mem("i64.load", from).mem("i64.store", to.offset);
  }

  /** Copies X0 to X30 between addresses on the stack and offsets from there, two at a time: each is checked by itself. */
  #copyGprs(to: () => void, toOffset: number, from: () => void, fromOffset: number): void {
    const { body } = this;
    for (let n = 0; n + 1 < GPRS; n += 2) {
      to();
      from();
      body.vectorMem("load", fromOffset + 8 * n).vectorMem("store", toOffset + 8 * n);
    }
    to();
    from();
    body.mem("i64.load", fromOffset + 8 * (GPRS - 1)).mem("i64.store", toOffset + 8 * (GPRS - 1));
  }

  /** Writes one step, the `done`th. False: it is not one that can be. */
  step(step: SequenceStep, done: number): boolean {
    const { body } = this, gprs = this.#cpu + gprOffset(0);
    if (this.#cost !== undefined) this.#cost += COSTS[step.kind] as number;
    switch (step.step) {
      case "trap":
        return true;
      case "saveGprs":
        this.#copyGprs(() => body.get(step.at.arg), step.at.offset, () => body.i32(0), gprs);
        return true;
      case "restoreGprs":
        this.#copyGprs(() => body.i32(0), gprs, () => body.get(step.at.arg), step.at.offset);
        return true;
      case "isb":
        return true;
      case "irqDisable":
        body.i32(0);
        this.#load32(this.#cpu + CpuLayout.offset.daif).i32(IRQS_OFF).op("i32.or");
        body.mem("i32.store", this.#cpu + CpuLayout.offset.daif);
        return true;
      case "saveUnless":
        return this.#saveUnless(step, done);
      case "save":
      case "readLow":
      case "readWord":
      case "look":
      case "tell":
        return this.#readStep(step, done);
      default:
        return this.#writeStep(step, done - reachesBack(step));
    }
  }

  #saveUnless(step: ReadStep & { readonly step: "saveUnless" }, done: number): boolean {
    const { body } = this, { kind, bit, at, clear } = step;
    this.#load32(this.#cpu + CpuLayout.offset.told).i32(1 << bit).op("i32.and").if("told");
    body.get(at.arg).get(at.arg).mem("i32.load", at.offset + 4);
    body.i32(~clear).op("i32.and").mem("i32.store", at.offset + 4).else();
    const known = this.#readStep(step, done);
    const times = this.#done.get(kind) ?? body.local(I32);
    this.#done.set(kind, times);
    body.get(times).i32(1).op("i32.add").set(times).end();
    this.#cost = undefined;
    return known;
  }

  #readStep(step: ReadStep, done: number): boolean {
    const { body, storage, e2h } = this;
    const plain = storage.plainRead(step.reg, e2h);
    if (plain !== 0) {
      this.#give(step, { address: plain, bits: 64 });
      return true;
    }
    const target = storage.readsAs(step.reg, e2h);
    const read = target < 0 ? undefined : conditionalRead(storage.core, target);
    if (read === undefined) return false;
    this.#require(read.needs, done);
    if (read.timer !== undefined) {
      this.#load32(read.timer.ctl).i32(TIMER_CTL.ENABLE).op("i32.and").if("on");
      this.#ifDue(read.timer, () => body.i32(done).return());
      body.end();
    }
    this.#give(step, read.from);
    return true;
  }

  /** What is read to where the step wants it. */
  #give(step: ReadStep, from: ReadFrom): void {
    const { body } = this;
    switch (step.step) {
      case "look":
        return;
      case "tell":
        body.i32(0);
        this.#low(from, step.mask);
        body.mem("i32.store", this.#cpu + CpuLayout.offset.told);
        return;
      case "readWord":
        body.get(step.at.arg);
        this.#low(from);
        body.mem("i32.store", step.at.offset);
        return;
      case "save":
      case "saveUnless":
        if ("address" in from && from.bits === 64) return this.#toMemory(from.address, step.at);
    }
    body.get(step.at.arg);
    this.#low(from);
    body.op("i64.extend_i32_u").mem("i64.store", step.at.offset);
  }

  /** Bits 31 to 0 on the stack: those of `mask`. */
  #low(from: ReadFrom, mask = -1): void {
    const { body } = this;
    if ("free" in from) {
      body.i32(0);
      from.free.forEach((address, n) => {
        if ((mask & (1 << n)) !== 0) this.#bitIfFree(address, n);
      });
      return;
    }
    if ("constant" in from) body.i32(from.constant | 0);
    else this.#load32(from.address);
    if (mask !== -1) body.i32(mask).op("i32.and");
  }

  /** Sets bit `n` of the word on the stack if the list register whose upper word is there is free. */
  #bitIfFree(address: number, n: number): void {
    const { body } = this;
    this.#load32(address).i32(ICH_LR_HI.State.shift).op("i32.shr_u").op("i32.eqz");
    this.#load32(address).i32(ICH_LR_HI.HW | ICH_LR_HI.EOI).op("i32.and");
    body.i32(ICH_LR_HI.EOI).op("i32.ne").op("i32.and").i32(n).op("i32.shl").op("i32.or");
  }

  #writeStep(step: WriteStep, done: number): boolean {
    const { storage, e2h } = this;
    const to = storage.plainWrite(step.reg, e2h);
    const target = storage.writesTo(step.reg, e2h);
    if (to === undefined) {
      const write = target < 0 ? undefined : conditionalWrite(storage.core, target);
      if (write === undefined || !this.#written(step)) return false;
      this.#writeConditional(write, done);
    } else {
      if (!this.#written(step)) return false;
      this.#write(to, done, target < 0 ? undefined : changeRule(storage.core, target));
    }
    return true;
  }

  /** The value that the step writes, on the stack. False: it cannot be had here. */
  #written(step: WriteStep): boolean {
    const { body } = this;
    switch (step.step) {
      case "write":
        this.#value64(step.lo, step.hi);
        return true;
      case "loadWord":
        body.get(step.at.arg).mem("i64.load32_u", step.at.offset);
        if (step.clear !== 0) body.i64(~BigInt(step.clear >>> 0)).op("i64.and");
        return true;
      case "change":
        return this.#changed(step);
      default:
        body.get(step.at.arg).mem("i64.load", step.at.offset);
        return true;
    }
  }

  /** The register as it was looked at just before, with the step's bits changed. */
  #changed({ reg, clear, set }: WriteStep & { readonly step: "change" }): boolean {
    const { body, storage, e2h } = this;
    const plain = storage.plainRead(reg, e2h);
    const target = storage.readsAs(reg, e2h);
    const from: ReadFrom | undefined = plain !== 0
      ? { address: plain, bits: 64 }
      : target < 0
      ? undefined
      : conditionalRead(storage.core, target)?.from;
    if (from === undefined) return false;
    this.#low(from);
    body.i32(~clear).op("i32.and").i32(set).op("i32.or").op("i64.extend_i32_u");
    return true;
  }

  /** Answers `done` unless all words are as they must be. */
  #require(needs: readonly NeedAt[], done: number): void {
    for (const need of needs) {
      this.#load32(need.address);
      this.#requireWord(need, done);
    }
  }

  /** The same for the word on the stack. */
  #requireWord({ mask, value, equal }: Need, done: number): void {
    const { body } = this;
    if (mask !== ALL) body.i32(mask | 0).op("i32.and");
    body.i32(value | 0).op(equal ? "i32.ne" : "i32.eq");
    body.if("needed", false).i32(done).return().end();
  }

  /** The value on the stack to a register that is plain storage as things are now. */
  #writeConditional(write: ConditionalWrite, done: number): void {
    const { body } = this;
    const { needs, valueNeeds, timers, signals, address, bits, keep, set } = write;
    const value = this.#value;
    body.i64(keep).op("i64.and").i64(set).op("i64.or").set(value);
    this.#require(needs, done);
    for (const need of valueNeeds) {
      body.get(value).op("i32.wrap_i64");
      this.#requireWord(need, done);
    }
    if (address === 0) return;
    if (timers.length > 0) body.i32(0).mem("i64.load", address).set(this.#old);
    if (signals !== undefined) this.#noteSignals(signals);
    body.i32(0).get(value).mem(bits === 64 ? "i64.store" : "i64.store32", address);
    if (signals?.hcr === address) this.#noteSignals(signals);
    this.#requireNotDue(timers, address, done);
  }

  #noteSignals(signals: Signals): void {
    const { body } = this;
    this.#interface = signals;
    this.#load32(signals.hcr).i32(ICH_HCR.En).op("i32.and").get(this.#signals).op("i32.or");
    body.set(this.#signals);
  }

  /**
   * What is to come of a timer that is due, now that the value is stored at `address`, is left to the
   * register's functions, which find the value there that was.
   */
  #requireNotDue(timers: readonly TimerAt[], address: number, done: number): void {
    const { body } = this;
    for (const timer of timers) {
      this.#load32(timer.ctl);
      this.#ifOn();
      this.#ifDue(timer, () => {
        body.i32(0).get(this.#old).mem("i64.store", address).i32(done).return();
      });
      body.i32(1).set(this.#rearm).end();
      if (timer.ctl !== address) continue;
      body.get(this.#old).op("i32.wrap_i64");
      this.#ifOn();
      body.i32(1).set(this.#rearm).end();
    }
  }

  /** Whether the timer whose CTL is on the stack can signal. */
  #ifOn(): void {
    const { body } = this;
    body.i32(TIMER_CTL.ENABLE | TIMER_CTL.IMASK).op("i32.and");
    body.i32(TIMER_CTL.ENABLE).op("i32.eq").if("on");
  }

  /** Does `then` where the timer's condition is met when the step at hand is done, or cannot be looked at. */
  #ifDue({ cval, offset }: TimerAt, then: () => void): void {
    const { body, clockNs } = this, cost = this.#cost;
    if (clockNs === undefined || cost === undefined) return then();
    body.i32(0).mem("i64.load", cval);
    body.i32(0).mem("i64.load", clockNs).i64(BigInt(cost)).op("i64.add");
    body.i64(BigInt(Math.log2(NS_PER_TICK))).op("i64.shr_u");
    if (offset !== 0) body.i32(0).mem("i64.load", offset).op("i64.sub");
    body.op("i64.le_u").if("due", false);
    then();
    body.end();
  }

  /** Where it is off now, and has signalled nothing before, there is nothing to look at. */
  #forgetSignals({ hcr, nothing }: Signals): void {
    const { body } = this;
    this.#load32(hcr).i32(ICH_HCR.En).op("i32.and");
    for (const { address, mask } of nothing) {
      this.#load32(address).i32(mask).op("i32.and").op("i32.or");
    }
    body.op("i32.eqz").if("nothing").i32(0).set(this.#signals).end();
  }

  /** Answers that everything is done. */
  end(): void {
    const { body } = this;
    if (this.#interface !== undefined) this.#forgetSignals(this.#interface);
    body.i32(ALL_DONE).get(this.#rearm).op("i32.sub");
    body.get(this.#signals).i32(SIGNALS).op("i32.mul").op("i32.sub");
  }

  #value64(lo: Half, hi: Half): void {
    const { body } = this;
    if (typeof lo === "number" && typeof hi === "number") {
      body.i64(word64(lo, hi));
      return;
    }
    const half = (h: Half) => typeof h === "number" ? body.i32(h) : body.get(h.arg);
    half(lo).op("i64.extend_i32_u");
    half(hi).op("i64.extend_i32_u").i64(32n).op("i64.shl").op("i64.or");
  }

  /** The value on the stack to the register; where a bit that is watched would change, as `rule` allows it. */
  #write({ address, watch, keep, set }: PlainWrite, done: number, rule?: ChangeRule): void {
    const { body } = this;
    const value = this.#value;
    body.i64(keep).op("i64.and").i64(set).op("i64.or").set(value);
    if (watch !== 0n) {
      body.get(value).i32(0).mem("i64.load", address).op("i64.xor").i64(watch).op("i64.and");
      body.op("i64.eqz").op("i32.eqz").if("watched", false);
      if (rule === undefined) body.i32(done).return();
      else this.#follow(rule, address, done);
      body.end();
    }
    body.i32(0).get(value).mem("i64.store", address);
  }

  #follow({ needs, timers, copies }: ChangeRule, address: number, done: number): void {
    const { body } = this;
    this.#require(needs, done);
    if (timers.length > 0) {
      body.i32(0).mem("i64.load", address).set(this.#old);
      body.i32(0).get(this.#value).mem("i64.store", address);
      this.#requireNotDue(timers, address, done);
    }
    for (const { from, to } of copies) {
      this.body.i32(0).i32(0).mem("i64.load", from).mem("i64.store", to);
    }
  }

  /** Adds what `n` puts on the stack to the 64-bit word. */
  #add(address: number, n: () => void): void {
    const { body } = this;
    body.i32(0).i32(0).mem("i64.load", address);
    n();
    body.op("i64.add").mem("i64.store", address);
  }

  count(steps: readonly SequenceStep[], counters: SequenceCounters): void {
    const times = new Map<number, number>();
    for (const { step, kind } of steps) {
      if (step !== "saveUnless") times.set(kind, (times.get(kind) ?? 0) + 1);
    }
    let cost = 0;
    for (const [kind, n] of times) {
      this.#add(counters.kinds + 8 * kind, () => this.body.i64(BigInt(n)));
      cost += n * (COSTS[kind] as number);
    }
    for (const sum of counters.sums) this.#add(sum, () => this.body.i64(BigInt(cost)));
    for (const [kind, done] of this.#done) this.#countDone(kind, done, counters);
  }

  /** Counts as many of the kind as local `done` says. */
  #countDone(kind: number, done: number, { kinds, sums }: SequenceCounters): void {
    const { body } = this;
    this.#add(kinds + 8 * kind, () => body.get(done).op("i64.extend_i32_u"));
    const cost = () =>
      body.get(done).i32(COSTS[kind] as number).op("i32.mul").op("i64.extend_i32_u");
    for (const sum of sums) this.#add(sum, cost);
  }
}

/** The function for `sequence` with HCR_EL2.E2H as in `e2h`. */
export function compileSequence(
  storage: El2Storage,
  { steps }: Sequence,
  e2h: boolean,
  counters: SequenceCounters,
): FastSequence {
  const code = new SequenceCode(storage, e2h, storage.core.platform.clock.addedNsAt);
  code.guard();
  const found = steps.findIndex((step, done) => !code.step(step, done));
  const stop = found < 0 ? found : found - reachesBack(steps[found] as SequenceStep);
  if (stop < 0) {
    code.count(steps, counters);
    code.end();
  } else code.body.i32(stop);
  const { memory } = storage.core.platform.memory;
  const module = new ModuleAssembler(memory.buffer.byteLength / WASM_PAGE);
  module.add(code.body, "run");
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), {
    env: { memory },
  });
  return exports["run"] as FastSequence;
}
