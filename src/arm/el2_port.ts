/**
 * The port through which the hypervisor touches the hardware, one per physical CPU. The hypervisor is
 * TypeScript where a real one is EL2 code; every operation here stands for one or a few instructions,
 * obeys the same access rules (the same functions serve MRS and MSR), is counted by kind, costs virtual
 * time, and can be logged. World-switch figures and cost comparisons derive from this.
 *
 * A host kernel without VHE is TypeScript at EL1 (while HCR_EL2.VM is clear: EL1 with stage 2 is a
 * guest's). It has the same port, at whose registers it gets as far as EL1 does, and HVC to enter EL2.
 *
 * Register arguments are `R.NAME`; the `_EL12` and `_EL02` names work with HCR_EL2.E2H, as at EL2.
 */
import { TWO32 } from "../base/bits.ts";
import { InternalError } from "../base/errors.ts";
import * as cpuState from "./arch/cpu_state.ts";
import { SLOT } from "./arch/cpu_state.ts";
import { EC } from "./arch/syndrome.ts";
import { R } from "./arch/sysregs.ts";
import { ACCESS, ramOffset } from "./arch/tlb_layout.ts";
import { takeDataAbort, takeExternalAbort } from "./aborts.ts";
import type { Device } from "./bus.ts";
import { El2Registers } from "./el2_registers.ts";
import * as exceptions from "./exceptions.ts";
import { fpTrap, takeSync } from "./exceptions.ts";
import { FPSR_MASK } from "./fp/format.ts";
import * as portOperations from "./port_operations.ts";
import { pcHi, setPc } from "./pstate.ts";
import { fpcrMask } from "./sysreg_views.ts";
import { performSystemOperation } from "./system_operation_access.ts";
import {
  type AtName,
  type DcName,
  type IcName,
  SYSTEM_OPERATIONS,
  type SystemOperation,
  type TlbiName,
} from "./system_operations.ts";
import { sendEvent } from "./waiting.ts";

export {
  PORT_COST,
  PORT_KINDS,
  type PortKind,
  PortLayout,
  type PortLog,
} from "./port_operations.ts";
export { PortMeter } from "./port_meter.ts";
export {
  FIRST_OCTAVE,
  OCTAVES,
  SWITCH_BUCKETS,
  SWITCH_REASONS,
  SwitchSlotLayout,
  WorldSwitchLayout,
} from "./switch_record.ts";
export { type At, at, type Sequence, sequence, type SequenceStep, STEP } from "./port_sequence.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { CpuLayout, DAIF } = cpuState;
const { exceptionReturn, pollInterrupts } = exceptions;
const { K } = portOperations;

type OperationName = DcName | IcName | TlbiName;
const OPERATIONS = new Map<string, SystemOperation>(SYSTEM_OPERATIONS.map((o) => [o.name, o]));

const VREG_BYTES = 32 * 16;
/** Words of the CPU's state. */
const WORD = {
  PC: CpuLayout.offset.pc >>> 2,
  DAIF: CpuLayout.offset.daif >>> 2,
  IL: CpuLayout.offset.il >>> 2,
  MAINTENANCE: CpuLayout.offset.maintenance >>> 2,
} as const;
const { dsb: DSB, eret: ERET, interruptMask: INTERRUPT_MASK, isb: ISB, trap: TRAP } = K;
const DAIF_I = DAIF.I, IRQS_OFF = DAIF.I | DAIF.F;

/** Thrown out of EL2 code that has taken an exception: the CPU is at its vector. */
export const EL2_EXCEPTION: unique symbol = Symbol("exception taken at EL2");

/** One physical CPU as its EL2 software reaches it. InternalError for what EL2 itself could not do. */
export class El2Port extends El2Registers {
  // Memory-mapped interrupt controller

  /** A 32-bit load from a frame of the interrupt controller at `pa` (Device memory). */
  mmioRead(pa: number): number {
    this.count(K.gicMmioRead, "");
    const { base, device } = this.#device(pa);
    return Number(device.read(pa - base, 4, this.cpuIndex));
  }

  /** A 32-bit store to one. */
  mmioWrite(pa: number, value: number): void {
    this.count(K.gicMmioWrite, "");
    const { base, device } = this.#device(pa);
    if (device.write32) device.write32(pa - base, value, this.cpuIndex);
    else device.write(pa - base, 4, BigInt(value >>> 0), this.cpuIndex);
  }

  #device(pa: number): { readonly base: number; readonly device: Device } {
    const found = this.core.platform.bus.find(pa, 4);
    if (found === undefined) throw new InternalError(`no device at 0x${pa.toString(16)}`);
    return found;
  }

  // FP registers

  #requireFp(): void {
    if (fpTrap(this.core) !== 0) throw new InternalError("FP registers touched while trapped");
  }

  /** V0 to V31 (16 bytes each), then FPSR and FPCR as 32-bit words: 520 bytes at `to`. */
  saveFp(to: number): void {
    this.count(K.fpSave, "");
    this.#requireFp();
    const { cpu } = this.core;
    this.memory.u8.copyWithin(to, cpu.vreg, cpu.vreg + VREG_BYTES);
    this.memory.st32(to + VREG_BYTES, cpu.fpsr);
    this.memory.st32(to + VREG_BYTES + 4, cpu.fpcr);
  }

  restoreFp(from: number): void {
    this.count(K.fpRestore, "");
    this.#requireFp();
    const { cpu } = this.core;
    this.memory.u8.copyWithin(cpu.vreg, from, from + VREG_BYTES);
    // As by MSR: what user space wrote for a vCPU may have more bits than there are.
    cpu.fpsr = this.memory.ld32(from + VREG_BYTES) & FPSR_MASK;
    cpu.fpcr = this.memory.ld32(from + VREG_BYTES + 4) & fpcrMask(this.core);
  }

  // Barriers and maintenance

  isb(): void {
    this.count(ISB, "");
  }
  dsb(): void {
    this.count(DSB, "");
    if (this.cpuWords[WORD.MAINTENANCE] !== 0) this.#awaitMaintenance();
  }
  #awaitMaintenance(): void {
    const { cpu, platform } = this.core;
    platform.hooks.onDsb?.(cpu, true);
  }
  dmb(): void {
    this.count(K.dmb, "");
  }

  #operation(kind: "tlbi" | "ic" | "dc", name: OperationName, lo: number, hi: number): void {
    this.count(K[kind], name);
    performSystemOperation(this.core, this.#possible(kind, name), lo, hi);
  }

  /** The operation, which must be one of the current level's. */
  #possible(kind: SystemOperation["kind"], name: OperationName | AtName): SystemOperation {
    const op = OPERATIONS.get(name);
    if (op?.kind !== kind) throw new InternalError(`no ${kind} operation ${name}`);
    if (!this.inHost || this.el < op.minEl) {
      throw new InternalError(`${kind} ${name}: not possible at EL${this.el} now`);
    }
    return op;
  }

  tlbi(name: TlbiName, lo = 0, hi = 0): void {
    this.#operation("tlbi", name, lo, hi);
  }
  ic(name: IcName, lo = 0, hi = 0): void {
    this.#operation("ic", name, lo, hi);
  }
  dc(name: DcName, lo = 0, hi = 0): void {
    this.#operation("dc", name, lo, hi);
  }
  /** The result is in PAR_EL1; false when the operation itself aborted, which changes nothing else. */
  at(name: AtName, lo: number, hi: number): boolean {
    this.count(K.at, name);
    this.#possible("at", name);
    return this.core.platform.mmu.addressTranslate(this.core.cpu, name, lo, hi);
  }
  sev(): void {
    this.count(K.sev, "");
    sendEvent(this.core);
  }
  clearExclusive(): void {
    this.count(K.clearExclusive, "");
    this.core.cpu.monitorOpen = 0;
  }

  // Interrupt masking (PSTATE.I and F of the physical CPU)

  /** Masks interrupts and returns what {@link irqRestore} takes. */
  irqSave(): number {
    const before = this.cpuWords[WORD.DAIF] as number;
    this.irqDisable();
    return before;
  }
  /** What {@link irqSave} would return: no operation. */
  get irqFlags(): number {
    return this.cpuWords[WORD.DAIF] as number;
  }
  irqRestore(daif: number): void {
    this.count(INTERRUPT_MASK, "");
    this.cpuWords[WORD.DAIF] = daif;
  }
  /** {@link irqSave} and {@link irqRestore} with nothing between that would make a difference. */
  irqPass(): void {
    this.count(INTERRUPT_MASK, "");
    this.count(INTERRUPT_MASK, "");
  }
  irqDisable(): void {
    this.count(INTERRUPT_MASK, "");
    this.cpuWords[WORD.DAIF] = (this.cpuWords[WORD.DAIF] as number) | IRQS_OFF;
  }
  irqEnable(): void {
    this.count(INTERRUPT_MASK, "");
    this.cpuWords[WORD.DAIF] = (this.cpuWords[WORD.DAIF] as number) & ~IRQS_OFF;
  }
  irqsDisabled(): boolean {
    return ((this.cpuWords[WORD.DAIF] as number) & DAIF_I) !== 0;
  }

  // Calls and pointers

  /** Sets X`n`, 0 to 30: an argument or a result. */
  setGpr(n: number, lo: number, hi: number): void {
    const at = this.core.cpu.gpr + 8 * n;
    this.memory.st32(at, lo);
    this.memory.st32(at + 4, hi);
  }
  gprLo(n: number): number {
    return this.memory.ld32(this.core.cpu.gpr + 8 * n);
  }
  gprHi(n: number): number {
    return this.memory.ld32(this.core.cpu.gpr + 8 * n + 4);
  }

  /** The PC, by its halves: where an exception or a return has led to. */
  pcLo(): number {
    return (this.cpuWords[WORD.PC] as number) >>> 0;
  }
  pcHi(): number {
    return pcHi(this.core.cpu);
  }

  /** A branch: an exception taken from here on names the address in ELR. */
  branch(lo: number, hi: number): void {
    setPc(this.core.cpu, lo, hi);
  }

  /** Sets the stack pointer in use. */
  setSp(va: number): void {
    this.memory.st53(this.core.cpu.gpr + 8 * SLOT.SP, va);
  }

  /**
   * Where the `size` bytes at virtual address `va` lie in the shared memory, by EL2's own stage 1, for
   * loads or, with `write`, loads and stores; they must be in one page. Where they cannot be accessed
   * the CPU has taken the exception, and {@link EL2_EXCEPTION} is thrown.
   */
  translate(va: number, size: number, write: boolean): number {
    const { core } = this;
    if (core.cpu.el !== 2) throw new InternalError(`EL2's stage 1 used at EL${core.cpu.el}`);
    const lo = va % TWO32, hi = Math.floor(va / TWO32);
    const { mmu, ram } = core.platform;
    const access = write ? ACCESS.WRITE : ACCESS.READ;
    if (!mmu.translate(core.cpu, lo, hi, access, 2)) {
      takeDataAbort(core, 0);
      throw EL2_EXCEPTION;
    }
    const at = ramOffset(ram, mmu.pa, size);
    if (at >= 0) return at;
    takeExternalAbort(core, lo, hi, access);
    throw EL2_EXCEPTION;
  }

  /** BRK #`immediate` at EL2: the exception is taken and {@link EL2_EXCEPTION} thrown. */
  brk(immediate: number): never {
    takeSync(this.core, 2, EC.BRK64, immediate);
    throw EL2_EXCEPTION;
  }

  // Entering and leaving EL2

  /** HVC #0 of a host kernel at EL1: the CPU has arrived at EL2's vector. */
  hvc(): void {
    const { core } = this;
    this.count(K.trap, "hvc");
    if (core.cpu.el !== 1 || !this.inHost) {
      throw new InternalError(`HVC of the host at EL${core.cpu.el}`);
    }
    takeSync(core, 2, EC.HVC64, 0, 4);
  }

  /** To be called when the CPU has arrived at EL2 from a guest, by an exception. */
  trap(): void {
    this.count(K.trap, "");
  }

  /**
   * Takes the physical interrupt that is pending, as the CPU would before its next instruction; whether
   * there is one that is not masked.
   */
  takeInterrupt(): boolean {
    if (!pollInterrupts(this.core)) return false;
    this.count(TRAP, "interrupt");
    return true;
  }

  /**
   * ERET: leaves the host's level for what ELR_ELx and SPSR_ELx say. After a return that is illegal the
   * CPU is at the vector of the exception that the next instruction would be.
   */
  eret(): void {
    this.count(ERET, "");
    const { core, cpuWords } = this;
    if (!this.inHost) throw new InternalError(`ERET of the port at EL${this.el}`);
    exceptionReturn(core);
    if (cpuWords[WORD.IL] !== 0 && this.el === 2) takeSync(core, 2, EC.ILL, 0);
  }

  /** CNTPCT_EL0. */
  counter(): number {
    return this.readNum(R.CNTPCT_EL0);
  }
}

/** Bytes that {@link El2Port.saveFp} writes. */
export const FP_STATE_BYTES = VREG_BYTES + 8;

/** Bytes that {@link El2Port.saveGprs} writes. */
export const GPR_STATE_BYTES = 31 * 8;
