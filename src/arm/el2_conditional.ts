/**
 * The registers that are plain storage to software at EL2 only as long as nothing depends on them: timers
 * while none of the CPU's is due, the virtual CPU interface if what it signals is looked at afterwards, MDCR_EL2
 * while no performance monitor is in use. What must hold is data, of which a sequence's function (el2_sequence.ts) makes tests;
 * where it does not hold, the registers' own functions do the access.
 *
 * Software at EL2 is not in a slice that would have to end. The machine's next deadline changes only where a
 * timer is on, and what the guest and the maintenance interrupt are signalled only where the virtual CPU
 * interface is: then the function says so, and both are made anew once, after the sequence. Nothing looks at
 * them between two of its steps.
 */
import { CpuLayout, LINE } from "./arch/cpu_state.ts";
import { TIMER_CTL } from "./arch/fields.ts";
import { ICC_SRE, MAINTENANCE_INTID } from "./arch/gic.ts";
import { R } from "./arch/sysregs.ts";
import { TIMERS } from "./generic_timer.ts";
import type { Bank } from "./gic/bank.ts";
import { apRegisterAt, lrHiAt, type VirtualInterface } from "./gic/virtual_interface.ts";
import { PLAIN_HCR, PLAIN_LR_HI, PLAIN_VMCR } from "./gic/virtual_layout.ts";
import type { Core } from "./parts.ts";

/** What a 32-bit word must be: `word & mask` is `value`, or is not. */
export interface Need {
  readonly mask: number;
  readonly value: number;
  readonly equal: boolean;
}

/** The same of the word at a byte address. */
export interface NeedAt extends Need {
  readonly address: number;
}

/** Byte addresses of a timer's registers, CTL being 32 bits; `offset` is 0 for one that counts without. */
export interface TimerAt {
  readonly ctl: number;
  readonly cval: number;
  readonly offset: number;
}

/**
 * What a register reads as: what lies at a byte address, a constant of 32 bits, or a bit for each list register
 * that ICH_ELRSR_EL2 says is free, by the addresses of their bits 63 to 32.
 */
export type ReadFrom =
  | { readonly address: number; readonly bits: 32 | 64 }
  | { readonly constant: number }
  | { readonly free: readonly number[] };

export interface ConditionalRead {
  readonly needs: readonly NeedAt[];
  /** A timer that must be off, or must not have fired. */
  readonly timer?: TimerAt;
  readonly from: ReadFrom;
}

/** What the virtual CPU interface signals: nothing while it is off. */
export interface Signals {
  /** The address of ICH_HCR_EL2. */
  readonly hcr: number;
  /** What is so where it has signalled nothing when it was looked at last. */
  readonly nothing: readonly NeedAt[];
}

/** A write: `keep` of a value, with `set`; to 32 or 64 bits at `address`, 0 where it is ignored. */
export interface ConditionalWrite {
  readonly needs: readonly NeedAt[];
  /** What must be true of bits 31 to 0 as they are stored. */
  readonly valueNeeds: readonly Need[];
  /** Timers of which none may be due once the value is stored; where one is on, the machine's deadline changes. */
  readonly timers: readonly TimerAt[];
  /** Where what the virtual CPU interface signals may change if that is on. */
  readonly signals?: Signals;
  readonly address: number;
  readonly bits: 32 | 64;
  readonly keep: bigint;
  readonly set: bigint;
}

/** When a write is plain although bits change that have effects, and the 64-bit words that it copies then. */
export interface ChangeRule {
  readonly needs: readonly NeedAt[];
  /** As of a {@link ConditionalWrite}. */
  readonly timers: readonly TimerAt[];
  readonly copies: readonly { readonly from: number; readonly to: number }[];
}

const ALL = 0xffff_ffff;
const ALL64 = 0xffff_ffff_ffff_ffffn;

const is = (address: number, mask: number, value: number): NeedAt => ({
  address,
  mask,
  value,
  equal: true,
});

// Timers

const CTL_BITS = TIMER_CTL.ENABLE | TIMER_CTL.IMASK;

/** No timer of the CPU has fired, and WFE waits for no event. */
function timersQuiet(core: Core): NeedAt[] {
  const { lines, eventTick } = core.platform.timer.stateAt(core.cpu.index);
  return [is(lines, ALL, 0), is(eventTick, ALL, 0), is(eventTick + 4, ALL, 0)];
}

function timersOf({ regs }: Core): TimerAt[] {
  return TIMERS.map(({ ctl, cval, virtual }) => ({
    ctl: regs.addressOf(ctl),
    cval: regs.addressOf(cval),
    offset: virtual ? regs.addressOf(R.CNTVOFF_EL2) : 0,
  }));
}

function timerRead(core: Core, reg: number): ConditionalRead | undefined {
  const address = core.regs.addressOf(reg);
  const timer = timersOf(core).find(({ ctl }) => ctl === address);
  return timer && { needs: [], timer, from: { address, bits: 32 } };
}

function timerWrite(core: Core, reg: number): ConditionalWrite | undefined {
  const isControl = TIMERS.some(({ ctl }) => ctl === reg);
  if (!isControl && !TIMERS.some(({ cval }) => cval === reg)) return undefined;
  return {
    needs: timersQuiet(core),
    valueNeeds: [],
    timers: timersOf(core),
    address: core.regs.addressOf(reg),
    bits: 64,
    keep: isControl ? BigInt(CTL_BITS) : ALL64,
    set: 0n,
  };
}

// Interrupt controller

const SRE_EL2 = ICC_SRE.SRE | ICC_SRE.DFB | ICC_SRE.DIB | ICC_SRE.Enable;
const IGNORED: ConditionalWrite = {
  needs: [],
  valueNeeds: [],
  timers: [],
  address: 0,
  bits: 32,
  keep: 0n,
  set: 0n,
};

/** The number of the list register that is register `reg`, or -1. */
function listRegister(virtual: VirtualInterface, reg: number): number {
  const n = reg - R.ICH_LR0_EL2;
  return n >= 0 && n < virtual.lrs ? n : -1;
}

function gicRead(core: Core, reg: number): ConditionalRead | undefined {
  const { gic } = core.platform;
  if (gic.version !== 3) return undefined;
  const from = gicReadFrom(gic.virtualInterface(core.cpu.index), reg);
  return from && { needs: [], from };
}

function gicReadFrom(virtual: VirtualInterface, reg: number): ReadFrom | undefined {
  if (reg === R.ICC_SRE_EL2) return { constant: SRE_EL2 };
  if (reg === R.ICH_VTR_EL2) return { constant: virtual.vtr };
  if (reg === R.ICH_VMCR_EL2) return { address: virtual.vmcrAt, bits: 32 };
  if (reg === R.ICH_HCR_EL2) return { address: virtual.hcrAt, bits: 32 };
  if (reg === R.ICH_ELRSR_EL2) {
    return { free: Array.from({ length: virtual.lrs }, (_, n) => lrHiAt(virtual, n)) };
  }
  const n = listRegister(virtual, reg);
  if (n >= 0) return { address: lrHiAt(virtual, n) - 4, bits: 64 };
  const address = apRegisterAt(virtual, reg);
  return address === undefined ? undefined : { address, bits: 32 };
}

function signalsOf({ cpu, platform: { gic } }: Core, { hcrAt }: VirtualInterface): Signals {
  const { levelAt } = gic.interrupts.privates[cpu.index] as Bank;
  return {
    hcr: hcrAt,
    nothing: [
      is(cpu.base + CpuLayout.offset.irqLines, LINE.VIRQ | LINE.VFIQ, 0),
      is(levelAt, 1 << MAINTENANCE_INTID, 0),
    ],
  };
}

function gicWrite(core: Core, reg: number): ConditionalWrite | undefined {
  const { gic } = core.platform;
  if (gic.version !== 3) return undefined;
  if (reg === R.ICC_SRE_EL2) return IGNORED;
  const virtual = gic.virtualInterface(core.cpu.index);
  const write = {
    needs: [],
    valueNeeds: [],
    timers: [],
    signals: signalsOf(core, virtual),
    set: 0n,
  };
  const n = listRegister(virtual, reg);
  if (n >= 0) {
    const keep = (BigInt(PLAIN_LR_HI >>> 0) << 32n) | BigInt(ALL);
    return { ...write, address: lrHiAt(virtual, n) - 4, bits: 64, keep };
  }
  if (reg === R.ICH_HCR_EL2) {
    return { ...write, address: virtual.hcrAt, bits: 32, keep: BigInt(PLAIN_HCR >>> 0) };
  }
  if (reg === R.ICH_VMCR_EL2) {
    const { keep, set, never } = PLAIN_VMCR;
    const valueNeeds = never.map(({ mask, value }): Need => ({ mask, value, equal: false }));
    const bits = { keep: BigInt(keep >>> 0), set: BigInt(set >>> 0) };
    return { ...write, valueNeeds, address: virtual.vmcrAt, bits: 32, ...bits };
  }
  const address = apRegisterAt(virtual, reg);
  return address === undefined ? undefined : { ...write, address, bits: 32, keep: BigInt(ALL) };
}

// Performance monitors

/** None counts or has overflowed: a change only notes from where on they would count. */
function monitorsIdle(core: Core): ChangeRule {
  const { regs, cpu } = core;
  const at = (field: keyof typeof CpuLayout.offset) => cpu.base + CpuLayout.offset[field];
  return {
    needs: [
      is(regs.addressOf(R.PMCNTENSET_EL0), ALL, 0),
      is(regs.addressOf(R.PMOVSSET_EL0), ALL, 0),
      is(at("pmuLine"), ALL, 0),
      is(at("pmuActive"), ALL, 0),
      is(at("countsAccesses"), ALL, 0),
    ],
    timers: [],
    copies: [
      { from: at("insns"), to: at("pmuAt") },
      { from: at("aborted"), to: at("pmuAbortedAt") },
    ],
  };
}

// The registers

/** How register `reg` can be read, by register-file index; undefined for what is plain always or never. */
export function conditionalRead(core: Core, reg: number): ConditionalRead | undefined {
  return timerRead(core, reg) ?? gicRead(core, reg);
}

/** The same of a write. */
export function conditionalWrite(core: Core, reg: number): ConditionalWrite | undefined {
  return timerWrite(core, reg) ?? gicWrite(core, reg);
}

/** When a change of stored register `reg` is plain that is not always so; undefined: never. */
export function changeRule(core: Core, reg: number): ChangeRule | undefined {
  if (reg === R.CNTVOFF_EL2) {
    return { needs: timersQuiet(core), timers: timersOf(core), copies: [] };
  }
  return reg === R.MDCR_EL2 ? monitorsIdle(core) : undefined;
}
