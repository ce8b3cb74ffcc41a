/**
 * The generic timers of each CPU: EL1 physical (CNTP), EL1 virtual (CNTV), EL2 physical (CNTHP) and
 * EL2 virtual (CNTHV), as level-sensitive private interrupts. Source: Arm Architecture Reference
 * Manual (DDI 0487), D11 "The Generic Timer".
 *
 * CTL and CVAL lie in the register file (ISTATUS is computed), TVAL is a view of CVAL.
 */
import type { Arena } from "../base/arena.ts";
import * as bitsModule from "../base/bits.ts";
import * as struct from "../base/struct.ts";
import { u32, u53, type ViewOf } from "../base/struct.ts";
import * as cpuState from "./arch/cpu_state.ts";
import { type Cpu, RegisterFile } from "./arch/cpu_state.ts";
import * as fields from "./arch/fields.ts";
import { TIMER_CTL } from "./arch/fields.ts";
import { R } from "./arch/sysregs.ts";
import * as clockModule from "./clock.ts";
import type { Clock } from "./clock.ts";
import * as pstate from "./pstate.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { TWO32 } = bitsModule;
const { layout } = struct;
const { HALT } = cpuState;
const { CNTKCTL } = fields;
const { NS_PER_TICK } = clockModule;
const { isE2h, isEl0Host } = pstate;

/** Number of one of a CPU's timers. */
export const TIMER = { CNTP: 0, CNTV: 1, CNTHP: 2, CNTHV: 3 } as const;
export type Timer = (typeof TIMER)[keyof typeof TIMER];

interface TimerSpec {
  readonly ctl: number;
  readonly cval: number;
  /** Private peripheral interrupt, as on QEMU's `virt` board. */
  readonly ppi: number;
  readonly virtual: boolean;
}

/** The timers by {@link TIMER}. CNTHV counts without an offset. */
export const TIMERS: readonly TimerSpec[] = [
  { ctl: R.CNTP_CTL_EL0, cval: R.CNTP_CVAL_EL0, ppi: 30, virtual: false },
  { ctl: R.CNTV_CTL_EL0, cval: R.CNTV_CVAL_EL0, ppi: 27, virtual: true },
  { ctl: R.CNTHP_CTL_EL2, cval: R.CNTHP_CVAL_EL2, ppi: 26, virtual: false },
  { ctl: R.CNTHV_CTL_EL2, cval: R.CNTHV_CVAL_EL2, ppi: 28, virtual: false },
];

/** One CPU's timer outputs. */
const TimerLayout = layout("generic_timer", {
  /** Levels last given to the interrupt controller: bit n is timer n. */
  lines: u32(),
  /** While in WFE with the event stream on: the tick of the next event. */
  eventTick: u53(),
});

/** How an interrupt line reaches the interrupt controller. */
export type PpiSink = (cpuIndex: number, intid: number, level: boolean) => void;

interface Unit {
  readonly cpu: Cpu;
  readonly regs: RegisterFile;
  readonly state: ViewOf<typeof TimerLayout>;
  /** The words of the timers' CTL registers. */
  readonly controls: readonly number[];
}

/** The timers of all CPUs. */
export class GenericTimer {
  readonly #units: Unit[];
  readonly #words: Uint32Array;

  constructor(
    arena: Arena,
    cpus: readonly Cpu[],
    readonly clock: Clock,
    readonly setPpi: PpiSink,
  ) {
    this.#words = arena.memory.u32;
    this.#units = cpus.map((cpu) => {
      const regs = new RegisterFile(cpu.memory, cpu.base);
      const controls = TIMERS.map(({ ctl }) => regs.addressOf(ctl) >>> 2);
      return { cpu, regs, state: arena.make(TimerLayout), controls };
    });
  }

  /** The byte addresses of a CPU's state besides its registers: `lines`, and `eventTick` of 64 bits. */
  stateAt(cpuIndex: number): { readonly lines: number; readonly eventTick: number } {
    const { base } = this.#unit(cpuIndex).state;
    const { lines, eventTick } = TimerLayout.offset;
    return { lines: base + lines, eventTick: base + eventTick };
  }

  #unit(cpuIndex: number): Unit {
    return this.#units[cpuIndex] as Unit;
  }

  /** Low half of the count last taken by {@link count}. */
  countLo = 0;
  countHi = 0;

  /** Takes the count that `spec` compares with into `countLo` and `countHi`. */
  #count(regs: RegisterFile, virtual: boolean): void {
    const { clock } = this;
    clock.takeTicks();
    const lo = clock.tickLo, hi = clock.tickHi;
    const offLo = virtual ? regs.lo(R.CNTVOFF_EL2) | 0 : 0;
    const offHi = virtual ? regs.hi(R.CNTVOFF_EL2) | 0 : 0;
    this.countLo = (lo - offLo) >>> 0;
    this.countHi = (hi - offHi - ((lo >>> 0) < (offLo >>> 0) ? 1 : 0)) >>> 0;
  }

  /** Takes the system counter, less CNTVOFF_EL2 where `virtual`, into `countLo` and `countHi`. */
  count(cpuIndex: number, virtual: boolean): void {
    this.#count(this.#unit(cpuIndex).regs, virtual);
  }

  /** CVAL minus the count in ticks: not above 0 where the condition is met. Exact below 2^53. */
  #wait(unit: Unit, spec: TimerSpec): number {
    this.#count(unit.regs, spec.virtual);
    const hi = unit.regs.hi(spec.cval) - this.countHi;
    return hi * TWO32 + (unit.regs.lo(spec.cval) - this.countLo);
  }

  #met(unit: Unit, spec: TimerSpec): boolean {
    return this.#wait(unit, spec) <= 0;
  }

  /** CTL as read: ENABLE, IMASK and, while enabled, ISTATUS. */
  control(cpuIndex: number, timer: Timer): number {
    const unit = this.#unit(cpuIndex);
    const spec = TIMERS[timer] as TimerSpec;
    const ctl = unit.regs.lo(spec.ctl) & (TIMER_CTL.ENABLE | TIMER_CTL.IMASK);
    return ctl & TIMER_CTL.ENABLE && this.#met(unit, spec) ? ctl | TIMER_CTL.ISTATUS : ctl;
  }

  setControl(cpuIndex: number, timer: Timer, value: number): void {
    const spec = TIMERS[timer] as TimerSpec;
    const stored = value & (TIMER_CTL.ENABLE | TIMER_CTL.IMASK);
    this.#unit(cpuIndex).regs.set(spec.ctl, stored, 0);
    this.update(cpuIndex);
  }

  setCompare(cpuIndex: number, timer: Timer, lo: number, hi: number): void {
    this.#unit(cpuIndex).regs.set((TIMERS[timer] as TimerSpec).cval, lo, hi);
    this.update(cpuIndex);
  }

  /** TVAL as read: the low 32 bits of CVAL minus the count, unsigned. */
  timerValue(cpuIndex: number, timer: Timer): number {
    const unit = this.#unit(cpuIndex);
    const spec = TIMERS[timer] as TimerSpec;
    const count = this.clock.ticks() >>> 0;
    const offset = spec.virtual ? unit.regs.lo(R.CNTVOFF_EL2) : 0;
    return (unit.regs.lo(spec.cval) - (count - offset)) >>> 0;
  }

  /** Writes TVAL: CVAL becomes the count plus the sign-extended 32-bit `value`. */
  setTimerValue(cpuIndex: number, timer: Timer, value: number): void {
    const unit = this.#unit(cpuIndex);
    const spec = TIMERS[timer] as TimerSpec;
    const offset = spec.virtual ? R.CNTVOFF_EL2 : -1;
    addTicks(unit.regs, spec.cval, this.clock.ticks(), offset, value | 0);
    this.update(cpuIndex);
  }

  /** Re-evaluates one CPU's outputs now, and its event stream. To be called when a deadline is reached. */
  update(cpuIndex: number): void {
    const unit = this.#unit(cpuIndex);
    this.#passEvent(unit);
    let lines = 0;
    const words = this.#words, { controls } = unit;
    for (let n = 0; n < controls.length; n++) {
      const ctl = (words[controls[n] as number] as number) & 3;
      if (ctl === TIMER_CTL.ENABLE && this.#met(unit, TIMERS[n] as TimerSpec)) lines |= 1 << n;
    }
    const changed = lines ^ unit.state.lines;
    if (changed === 0) return;
    unit.state.lines = lines;
    for (let n = 0; n < TIMERS.length; n++) {
      if (!(changed & (1 << n))) continue;
      this.setPpi(cpuIndex, (TIMERS[n] as TimerSpec).ppi, (lines & (1 << n)) !== 0);
    }
  }

  /** Virtual time (ns) at which a timer's output or the event stream next changes of itself; Infinity if never. */
  nextDeadlineNs(cpuIndex: number): number {
    const unit = this.#unit(cpuIndex);
    const ticks = this.clock.ticks();
    let delta = unit.state.eventTick ? Math.max(0, unit.state.eventTick - ticks) : Infinity;
    const words = this.#words, { controls } = unit, { lines } = unit.state;
    for (let n = 0; n < controls.length; n++) {
      const ctl = words[controls[n] as number] as number;
      if ((ctl & 3) !== TIMER_CTL.ENABLE) continue;
      const wait = this.#wait(unit, TIMERS[n] as TimerSpec);
      // Time may have passed since the outputs were looked at: then one is due now.
      if (wait <= 0 && lines & (1 << n)) continue;
      delta = Math.min(delta, Math.max(0, wait));
    }
    // Beyond 2^53 ticks nothing is representable, nor will it be reached.
    return delta < 2 ** 49 ? (ticks + delta) * NS_PER_TICK : Infinity;
  }

  /** Level of `timer`'s output as last given to the interrupt controller. */
  line(cpuIndex: number, timer: Timer): boolean {
    return ((this.#unit(cpuIndex).state.lines >> timer) & 1) === 1;
  }

  // The event stream

  /** Called when a CPU enters WFE: arms the event stream's next event, if a stream is on. */
  armEventStream(cpuIndex: number): void {
    const unit = this.#unit(cpuIndex);
    const { regs } = unit;
    const kernel = isEl0Host(regs) ? 0 : this.#nextEvent(unit, regs.lo(R.CNTKCTL_EL1), true);
    const hypervisor = this.#nextEvent(unit, regs.lo(R.CNTHCTL_EL2), false);
    unit.state.eventTick = kernel && hypervisor
      ? Math.min(kernel, hypervisor)
      : kernel || hypervisor;
  }

  #nextEvent(unit: Unit, control: number, virtual: boolean): number {
    if ((control & CNTKCTL.EVNTEN) === 0) return 0;
    const bit = 2 ** ((control >>> CNTKCTL.EVNTI_SHIFT) & 15);
    const ticks = this.clock.ticks();
    const offset = virtual && !(unit.cpu.el === 2 && isE2h(unit.regs))
      ? unit.regs.num(R.CNTVOFF_EL2) % (2 * bit)
      : 0;
    const phase = (ticks - offset + 2 * bit) % (2 * bit);
    // Triggered by a rise of the bit, or a fall with EVNTDIR.
    const at = control & CNTKCTL.EVNTDIR ? 0 : bit;
    return ticks + ((at - phase + 2 * bit - 1) % (2 * bit)) + 1;
  }

  #passEvent(unit: Unit): void {
    const { state, cpu } = unit;
    if (state.eventTick === 0 || this.clock.ticks() < state.eventTick) return;
    state.eventTick = 0;
    if (cpu.halt === HALT.WFE) cpu.eventRegister = 1;
  }
}

/** register[to] = ticks - register[offset] + addend modulo 2^64; `offset` -1 for none, `addend` signed 32-bit. */
function addTicks(
  regs: RegisterFile,
  to: number,
  ticks: number,
  offset: number,
  addend: number,
): void {
  const offLo = offset < 0 ? 0 : regs.lo(offset), offHi = offset < 0 ? 0 : regs.hi(offset);
  const lo = (ticks % TWO32) - offLo + addend;
  const carry = Math.floor(lo / TWO32);
  regs.set(to, lo >>> 0, (Math.floor(ticks / TWO32) - offHi + carry) >>> 0);
}
