/**
 * The MMU of all CPUs: translation of one access, filling of the software TLBs that generated code
 * looks into, TLB maintenance and address translation instructions. Results of a translation are in
 * fields of the one object, valid until the next one: nothing is allocated on the way.
 */
import type { Arena } from "../../base/arena.ts";
import { assert } from "../../base/errors.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { type Cpu, CpuLayout, sysregOffset, wordsOf } from "../arch/cpu_state.ts";
import { ARMED, ARMED_DATA, BREAKPOINTS, WATCHPOINTS } from "../arch/debug_registers.ts";
import { R } from "../arch/sysregs.ts";
import { ACCESS, type Access, ramOffset, type RamRange } from "../arch/tlb_layout.ts";
import {
  atByName,
  type AtName,
  type AtOp,
  atTakesException,
  parFault,
  parSuccessHi,
  parSuccessLo,
} from "./at.ts";
import { combineAttr, combineShareability, isNormal } from "./attributes.ts";
import { ContextMemo } from "./context_memo.ts";
import { contextBytes, Contexts } from "./contexts.ts";
import { breakpointPage, isWatchedPage, watchedBytes } from "./debug_pages.ts";
import { FSC, TranslationFault } from "./fault.ts";
import { PERM } from "./permissions.ts";
import { affectsTranslation, Controls, isVheHost, loadControls, SCTLR } from "./regime.ts";
import { Stage1 } from "./stage1.ts";
import { Stage2 } from "./stage2.ts";
import { fillDataEntry } from "./tlb.ts";
import { invalidate, tlbiByName, type TlbiName } from "./tlbi.ts";
import { joinAddress, TableReader } from "./walk.ts";

/** What {@link Mmu.fillData} did. */
export const FILL = {
  /** The page is RAM and was entered. */
  RAM: 0,
  /** Translated to `pa`, not entered: not RAM, RAM mapped as Device or write-only, or accesses are watched or counted. Go through the bus. */
  DEVICE: 1,
  /** `fault` tells why not. */
  FAULT: 2,
} as const;
export type Fill = (typeof FILL)[keyof typeof FILL];

export { contextBytes };

/** What differs between models of core; register fields that they have not are RES0. */
export interface MmuFeatures {
  /** FEAT_XNX: stage 2 denies execution to EL1 and EL0 separately. */
  readonly xnx: boolean;
  /** CPUs run in several workers: TLBs are looked up while they are emptied. */
  readonly parallel?: boolean;
}

/** The word of a CPU's level. */
const EL = CpuLayout.offset.el >>> 2;

const SP_ALIGN_MASK = 15;
const ALIGN_MASK = 0xffff_ffff;

export class Mmu {
  /** Physical address of the last translation (for stage 1 only: an IPA). Up to 48 bits. */
  pa = 0;
  /** Whether it is Normal memory: unaligned accesses are allowed. */
  normal = false;
  /** Memory attributes as a MAIR_ELx byte. */
  attr = 0;
  /** SH encoding. */
  shareability = 0;
  /** PERM bits at the privilege of the access. */
  permissions = 0;
  /** Why the last translation failed. */
  readonly fault = new TranslationFault();

  readonly #memory: SharedMemory;
  readonly #ram: RamRange;
  readonly #contexts: Contexts;
  /** By CPU. */
  readonly #memos: ContextMemo[] = [];
  readonly #controls = new Controls();
  readonly #stage1: Stage1;
  readonly #stage2: Stage2;

  /** `arena`: where the TLBs go ({@link contextBytes}). */
  constructor(
    memory: SharedMemory,
    ram: RamRange,
    arena: Arena,
    cpuCount: number,
    features: MmuFeatures = { xnx: true },
  ) {
    this.#memory = memory;
    this.#ram = ram;
    this.#contexts = new Contexts(memory, arena, cpuCount, features.parallel);
    const tables = new TableReader(memory, ram, features.parallel);
    const { walks } = this.#contexts;
    this.#stage2 = new Stage2(tables, this.fault, features.xnx, walks);
    this.#stage1 = new Stage1(tables, this.#stage2, this.fault, walks);
  }

  /**
   * Translates an access to the address in halves, made with the privilege of `el`, as by an
   * unprivileged load or store if `unprivileged`. Walks the tables, never looks into a TLB. True: `pa`,
   * `normal` and the other fields are set. False: `fault` is. Alignment is not looked at. Access flags
   * and dirty state are updated as by that access, unless `updates` is false.
   */
  translate(
    cpu: Cpu,
    vaLo: number,
    vaHi: number,
    access: Access,
    el: number,
    unprivileged = false,
    updates = true,
  ): boolean {
    loadControls(this.#controls, this.#memory, cpu, el, unprivileged);
    this.#controls.updates = updates;
    return this.#translate(vaLo, vaHi, access);
  }

  #translate(vaLo: number, vaHi: number, access: Access): boolean {
    return this.#translateStage1(vaLo, vaHi, access) &&
      (!this.#controls.stage2 || this.#translateStage2(access));
  }

  #translateStage1(vaLo: number, vaHi: number, access: Access): boolean {
    const s1 = this.#stage1;
    this.fault.begin(vaLo, vaHi, access);
    if (!s1.access(this.#controls, vaLo, vaHi, access)) return false;
    this.pa = joinAddress(s1.outLo, s1.outHi);
    this.permissions = s1.permissions;
    this.attr = s1.attr;
    this.normal = isNormal(s1.attr);
    this.shareability = s1.shareability;
    return true;
  }

  #translateStage2(access: Access): boolean {
    const s2 = this.#stage2;
    const { outLo, outHi } = this.#stage1;
    if (!s2.access(this.#controls, outLo, outHi, access)) return false;
    this.pa = joinAddress(s2.paLo, s2.paHi);
    this.permissions &= s2.permissions;
    this.attr = combineAttr(this.attr, s2.memAttr);
    this.normal = isNormal(this.attr);
    this.shareability = combineShareability(this.shareability, s2.shareability);
    return true;
  }

  /**
   * Serves a miss of the data TLB: an access of `size` bytes (1 to 16) from the current state of `cpu`,
   * whose context must be current ({@link contextChanged}). Misaligned accesses fault where the
   * architecture says so. Only the page of the first byte is translated: an access that crosses a
   * page never hits, and the caller makes it in two parts.
   */
  fillData(
    cpu: Cpu,
    vaLo: number,
    vaHi: number,
    access: Access,
    size: number,
    unprivileged: boolean,
  ): Fill {
    const misaligned = (vaLo & (size - 1)) !== 0;
    if (misaligned && cpu.alignMask !== 0) {
      this.fault.begin(vaLo, vaHi, access);
      this.fault.stage1(FSC.ALIGNMENT);
      return FILL.FAULT;
    }
    const tlb = unprivileged ? cpu.tlbUnprivileged : cpu.tlb;
    loadControls(this.#controls, this.#memory, cpu, cpu.el, unprivileged);
    if (tlb !== 0 && cpu.countsAccesses === 0) {
      this.#contexts.walks.select(this.#controls, this.#contexts.contextOf(tlb));
    }
    if (!this.#translate(vaLo, vaHi, access)) return FILL.FAULT;
    if (misaligned && !this.normal) {
      this.#misalignedDevice();
      return FILL.FAULT;
    }
    if (cpu.countsAccesses !== 0) return FILL.DEVICE;
    if (cpu.debugArmed & ARMED_DATA && isWatchedPage(this.#memory, cpu, vaLo, vaHi)) {
      return FILL.DEVICE;
    }
    return this.#enterData(tlb, vaLo, vaHi);
  }

  /** A misaligned access to Device memory: the fault belongs to the stage that made it Device. */
  #misalignedDevice(): void {
    const { attr, outLo, outHi } = this.#stage1;
    if (isNormal(attr)) this.fault.second(FSC.ALIGNMENT, outLo, outHi);
    else this.fault.stage1(FSC.ALIGNMENT);
  }

  /**
   * RAM is entered if it is Normal, and also while stage 1 is off: it is Device memory then, but that
   * makes no difference beyond alignment, which the context's `alignMask` enforces. A page that can be
   * written but not read (stage 2 only) is not: so an atomic access need only look at the write tag.
   */
  #enterData(tlb: number, vaLo: number, vaHi: number): Fill {
    const page = this.pa - this.pa % 4096;
    const at = ramOffset(this.#ram, page, 4096);
    const enter = at >= 0 && (this.permissions & PERM.R) !== 0 &&
      (this.normal || this.#controls.flatDevice);
    if (!enter) return FILL.DEVICE;
    assert(tlb !== 0, "a TLB is filled before contextChanged");
    this.#contexts.noteData(this.#contexts.contextOf(tlb), vaLo, vaHi, this.#stage1.shift);
    fillDataEntry(this.#memory, tlb, vaLo, vaHi, page, at, this.permissions);
    return FILL.RAM;
  }

  /**
   * Translates an instruction fetch from the current state of `cpu`. True: `pa` is set, and the caller
   * may enter the page into `cpu.codeTlb`.
   */
  translateCode(cpu: Cpu, vaLo: number, vaHi: number): boolean {
    assert(cpu.codeTlb !== 0, "a TLB is filled before contextChanged");
    const context = this.#contexts.contextOfCode(cpu.codeTlb);
    loadControls(this.#controls, this.#memory, cpu, cpu.el, false);
    this.#contexts.walks.select(this.#controls, context);
    if (!this.#translate(vaLo, vaHi, ACCESS.EXECUTE)) return false;
    this.#contexts.noteCode(context, vaLo, vaHi, this.#stage1.shift);
    return true;
  }

  /**
   * An AT instruction executed on `cpu` now. True: PAR_EL1 has the result. False: `fault` is to be
   * taken as a data abort (with ISS.CM and WnR set), to EL2 if `fault.stage2`, and PAR_EL1 is unchanged.
   */
  addressTranslate(cpu: Cpu, name: AtName, vaLo: number, vaHi: number): boolean {
    const op = atByName(name);
    if (this.#translateFor(cpu, op, vaLo, vaHi)) {
      const lo = parSuccessLo(this.pa, this.attr, this.shareability);
      this.#setPar(cpu, lo, parSuccessHi(this.pa, this.attr));
      return true;
    }
    if (atTakesException(this.fault, cpu.el)) {
      this.fault.cm = true;
      this.fault.write = true;
      return false;
    }
    this.#setPar(cpu, parFault(this.fault), 0);
    return true;
  }

  #translateFor(cpu: Cpu, op: AtOp, vaLo: number, vaHi: number): boolean {
    const el = op.el === 1 && isVheHost(this.#memory, cpu) ? 2 : op.el;
    loadControls(this.#controls, this.#memory, cpu, el, false);
    this.#controls.pan &&= op.pan;
    this.#controls.updates = false;
    return op.stages === 1
      ? this.#translateStage1(vaLo, vaHi, op.access)
      : this.#translate(vaLo, vaHi, op.access);
  }

  #setPar(cpu: Cpu, lo: number, hi: number): void {
    const at = cpu.base + sysregOffset(R.PAR_EL1);
    this.#memory.st32(at, lo);
    this.#memory.st32(at + 4, hi);
  }

  /**
   * A TLB maintenance instruction with the halves of its operand, executed on `cpu` now. `cpus`: all
   * CPUs, for the Inner Shareable ones and for HCR_EL2.FB.
   */
  tlbi(cpus: readonly Cpu[], cpu: Cpu, name: TlbiName, valueLo: number, valueHi: number): boolean {
    const op = tlbiByName(name);
    return invalidate(this.#memory, this.#contexts, cpus, cpu, op, valueLo, valueHi);
  }

  /**
   * Selects the TLBs and masks of the CPU's current state. To be called after any change of EL,
   * PSTATE.PAN or a translation register; {@link controlChanged} does where it matters.
   */
  contextChanged(cpu: Cpu): void {
    const memo = this.#memos[cpu.index] ?? this.#makeMemo(cpu);
    const el = memo.words[EL] as number;
    if (el > 2) memo.forget();
    if (el > 2 || !memo.recall(el)) this.#newContext(cpu, memo);
  }

  #makeMemo(cpu: Cpu): ContextMemo {
    return this.#memos[cpu.index] = new ContextMemo(wordsOf(cpu), this.#contexts);
  }

  #newContext(cpu: Cpu, memo: ContextMemo): void {
    const c = this.#controls;
    loadControls(c, this.#memory, cpu, cpu.el, false);
    const context = this.#contexts.select(cpu.index, c);
    cpu.tlb = this.#contexts.dataTlb(context);
    cpu.codeTlb = this.#contexts.codeTlb(context);
    cpu.fetchUncached = c.fetchUncached ? 1 : 0;
    const mustAlign = c.flatDevice || (c.sctlr & SCTLR.A) !== 0;
    cpu.alignMask = mustAlign ? ALIGN_MASK : 0;
    const checkSp = (c.sctlr & (cpu.el === 0 ? SCTLR.SA0 : SCTLR.SA)) !== 0;
    cpu.spAlignMask = checkSp ? SP_ALIGN_MASK : 0;
    const unprivileged = c.unprivilegedIsUser ? this.#unprivileged(cpu) : -1;
    cpu.tlbUnprivileged = unprivileged < 0 ? cpu.tlb : this.#contexts.dataTlb(unprivileged);
    if (cpu.countsAccesses !== 0) cpu.tlb = cpu.tlbUnprivileged = this.#contexts.emptyTlb;
    if (cpu.el <= 2) memo.keep(cpu.el, context, unprivileged);
  }

  #unprivileged(cpu: Cpu): number {
    const c = this.#controls;
    c.user = true;
    c.pan = false;
    return this.#contexts.select(cpu.index, c);
  }

  /**
   * To be called after a write to register `index` of the register file: selects another context if
   * the register has a say in how the current state translates. Nothing needs flushing, since the
   * values are part of a context's key.
   */
  controlChanged(cpu: Cpu, index: number): void {
    if (affectsTranslation(this.#memory, cpu, index)) this.contextChanged(cpu);
  }

  /** Takes the pages of the CPU's armed breakpoints and watchpoints out of its TLBs. */
  dropDebugPages(cpu: Cpu): void {
    const armed = cpu.debugArmed;
    if (armed & ARMED.ALL_CODE) this.#contexts.forgetCode(cpu.index, -1);
    for (let n = 0; n < BREAKPOINTS; n++) {
      if ((armed & (ARMED.BREAKPOINT << n)) === 0) continue;
      this.#contexts.forgetCode(cpu.index, breakpointPage(this.#memory, cpu, n));
    }
    for (let n = 0; n < WATCHPOINTS; n++) {
      if (armed & (ARMED.WATCHPOINT << n)) this.#dropWatched(cpu, n);
    }
  }

  #dropWatched(cpu: Cpu, n: number): void {
    const { start, length } = watchedBytes(this.#memory, cpu, n);
    // What a mask selects may be many pages.
    const page = length > 4096 ? -1 : Math.floor(start / 4096);
    this.#contexts.forgetData(cpu.index, page);
  }

  /** Empties the code TLBs of these CPUs. */
  dropCode(cpus: readonly Cpu[]): void {
    for (const { index } of cpus) this.#contexts.dropCode(index);
  }

  /** Forgets all that was cached, on these CPUs: after a snapshot was restored or RAM was replaced. */
  reset(cpus: readonly Cpu[]): void {
    for (const cpu of cpus) {
      this.#contexts.resetCpu(cpu.index);
      this.contextChanged(cpu);
    }
  }
}
