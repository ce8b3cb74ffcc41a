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
import { InternalError } from "../base/errors.ts";
import type { Arena } from "../base/arena.ts";
import { TWO32 } from "../base/bits.ts";
import { add53, type SharedMemory } from "../base/memory.ts";
import type { ViewOf } from "../base/struct.ts";
import { DAIF, SLOT } from "./arch/cpu_state.ts";
import { HCR } from "./arch/fields.ts";
import { EC } from "./arch/syndrome.ts";
import { R, SYSREGS } from "./arch/sysregs.ts";
import { ACCESS, ramOffset } from "./arch/tlb_layout.ts";
import { FPSR_MASK } from "./fp/format.ts";
import { takeDataAbort, takeExternalAbort } from "./aborts.ts";
import type { Device } from "./bus.ts";
import type { Clock } from "./clock.ts";
import type { CpuCore } from "./cpu.ts";
import { El2Storage } from "./el2_storage.ts";
import { exceptionReturn, fpTrap, pollInterrupts, takeSync } from "./exceptions.ts";
import {
  COSTS,
  K,
  PORT_KINDS,
  type PortKind,
  PortLayout,
  type PortLog,
  READ,
  type RegisterList,
  RESTORE,
  SAVE,
  WRITE,
} from "./port_operations.ts";
import { elOf, pcHi, pcLo, setPc } from "./pstate.ts";
import { VERDICT } from "./sysreg_traps.ts";
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
  type RegisterList,
  registerList,
} from "./port_operations.ts";

type OperationName = DcName | IcName | TlbiName;
const OPERATIONS = new Map<string, SystemOperation>(SYSTEM_OPERATIONS.map((o) => [o.name, o]));

const GPR_BYTES = 31 * 8;
const VREG_BYTES = 32 * 16;
const IRQS_OFF = DAIF.I | DAIF.F;

/** Thrown out of EL2 code that has taken an exception: the CPU is at its vector. */
export const EL2_EXCEPTION: unique symbol = Symbol("exception taken at EL2");

/** One physical CPU as its EL2 software reaches it. InternalError for what EL2 itself could not do. */
export class El2Port {
  readonly counters: ViewOf<typeof PortLayout>;
  readonly memory: SharedMemory;
  readonly cpuIndex: number;
  log: PortLog | undefined;
  readonly #words: Uint32Array;
  /** The same as signed numbers, which V8 need not box. */
  readonly #signed: Int32Array;
  /** The word of the first counter, and that of `ns`. */
  readonly #counts: number;
  readonly #ns: number;
  readonly #clock: Clock;
  readonly #storage: El2Storage;
  /** The address of X0. */
  readonly #gpr: number;

  constructor(readonly core: CpuCore, arena: Arena) {
    this.counters = arena.make(PortLayout);
    this.memory = core.platform.memory;
    this.cpuIndex = core.cpu.index;
    this.#words = this.memory.u32;
    this.#signed = this.memory.i32;
    this.#counts = this.counters.base >>> 2;
    this.#ns = (this.counters.base + PortLayout.offset.ns) >>> 2;
    this.#clock = core.platform.clock;
    this.#storage = new El2Storage(core);
    this.#gpr = core.cpu.gpr;
  }

  #count(kind: number, operand: number | string): void {
    this.#countAll(kind, 1);
    if (this.log !== undefined) this.log(PORT_KINDS[kind] as PortKind, operand);
  }

  /** Counts `n` operations of a kind. */
  #countAll(kind: number, n: number): void {
    const cost = n * (COSTS[kind] as number);
    add53(this.#words, this.#counts + 2 * kind, n);
    add53(this.#words, this.#ns, cost);
    this.#clock.advance(cost);
  }

  #fail(what: string, reg: number): never {
    const name = SYSREGS[reg]?.name ?? reg;
    throw new InternalError(`${what} ${name}: not possible at EL${this.core.cpu.el} now`);
  }

  /** Whether the CPU executes host software: at EL2, or a host kernel's at EL1. */
  get inHost(): boolean {
    const { regs } = this.core;
    const el = elOf(this.core.cpu);
    return el === 2 || (el === 1 && (regs.lo(R.HCR_EL2) & HCR.VM) === 0);
  }

  /** CurrentEL. */
  get el(): number {
    return elOf(this.core.cpu);
  }

  /** Reads a register that is no plain storage. */
  #read(reg: number): void {
    if (this.#storage.readOther(reg, this.core.sysregs)) return;
    const done = this.inHost && this.core.sysregs.tryRead(reg) === VERDICT.OK;
    if (!done) this.#fail("read of", reg);
  }

  #write(reg: number, lo: number, hi: number): void {
    if (this.#storage.write(reg, lo, hi) || this.#storage.writeOther(reg, lo, hi)) return;
    const done = this.inHost && this.core.sysregs.tryWrite(reg, lo, hi) === VERDICT.OK;
    if (!done) this.#fail("write of", reg);
  }

  // System registers

  /** Bits 31 to 0. */
  readLo(reg: number): number {
    this.#count(READ[reg] as number, reg);
    const at = this.#storage.at(reg);
    if (at !== 0) return this.#words[at] as number;
    this.#read(reg);
    return this.core.sysregs.lo >>> 0;
  }

  /** Bits 63 to 32. */
  readHi(reg: number): number {
    this.#count(READ[reg] as number, reg);
    const at = this.#storage.at(reg);
    if (at !== 0) return this.#words[at + 1] as number;
    this.#read(reg);
    return this.core.sysregs.hi >>> 0;
  }

  /** The register as a number: exact below 2^53. */
  readNum(reg: number): number {
    this.#count(READ[reg] as number, reg);
    const at = this.#storage.at(reg);
    if (at !== 0) return this.memory.ld53(4 * at);
    this.#read(reg);
    const { lo, hi } = this.core.sysregs;
    return (lo >>> 0) + (hi >>> 0) * TWO32;
  }

  /** The register as a bigint: cold paths only. */
  read64(reg: number): bigint {
    this.#count(READ[reg] as number, reg);
    this.#read(reg);
    const { lo, hi } = this.core.sysregs;
    return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
  }

  write(reg: number, lo: number, hi: number): void {
    this.#count(WRITE[reg] as number, reg);
    this.#write(reg, lo, hi);
  }

  /** Writes a number from 0 to 2^53 - 1. */
  writeNum(reg: number, value: number): void {
    this.write(reg, value >>> 0, (value / TWO32) >>> 0);
  }

  /** Writes a bigint: cold paths only. */
  write64(reg: number, value: bigint): void {
    const word = BigInt.asUintN(64, value);
    this.write(reg, Number(word & 0xffff_ffffn), Number(word >> 32n));
  }

  /** Copies a register to the 64-bit word at byte address `to`. */
  save(reg: number, to: number): void {
    this.#count(SAVE[reg] as number, reg);
    this.#save(reg, to);
  }

  #save(reg: number, to: number): void {
    if (this.#storage.save(reg, to >>> 2)) return;
    this.#read(reg);
    this.memory.st32(to, this.core.sysregs.lo);
    this.memory.st32(to + 4, this.core.sysregs.hi);
  }

  /** Copies the 64-bit word at byte address `from` to a register. */
  restore(reg: number, from: number): void {
    this.#count(RESTORE[reg] as number, reg);
    const at = from >>> 2;
    this.#write(reg, this.#signed[at] as number, this.#signed[at + 1] as number);
  }

  /** {@link save} of every register of a list, to where it has its place from byte address `to` on. */
  saveAll({ regs, offsets }: RegisterList, to: number): void {
    this.#countList(K.sysregSave, regs);
    for (let i = 0; i < regs.length; i++) {
      i = this.#storage.saveAll(regs, offsets, to >>> 2, i);
      if (i < regs.length) this.#save(regs[i] as number, to + (offsets[i] as number));
    }
  }

  /** {@link restore} of every register of a list. */
  restoreAll({ regs, offsets }: RegisterList, from: number): void {
    this.#countList(K.sysregRestore, regs);
    for (let i = 0; i < regs.length; i++) {
      i = this.#storage.restoreAll(regs, offsets, from >>> 2, i);
      if (i === regs.length) return;
      const at = (from + (offsets[i] as number)) >>> 2;
      this.#write(regs[i] as number, this.#signed[at] as number, this.#signed[at + 1] as number);
    }
  }

  #countList(kind: number, regs: Uint16Array): void {
    this.#countAll(kind, regs.length);
    const { log } = this;
    if (log !== undefined) { for (const reg of regs) log(PORT_KINDS[kind] as PortKind, reg); }
  }

  // Memory-mapped interrupt controller

  /** A 32-bit load from a frame of the interrupt controller at `pa` (Device memory). */
  mmioRead(pa: number): number {
    this.#count(K.gicMmioRead, "");
    const { base, device } = this.#device(pa);
    return Number(device.read(pa - base, 4, this.cpuIndex));
  }

  /** A 32-bit store to one. */
  mmioWrite(pa: number, value: number): void {
    this.#count(K.gicMmioWrite, "");
    const { base, device } = this.#device(pa);
    if (device.write32) device.write32(pa - base, value, this.cpuIndex);
    else device.write(pa - base, 4, BigInt(value >>> 0), this.cpuIndex);
  }

  #device(pa: number): { readonly base: number; readonly device: Device } {
    const found = this.core.platform.bus.find(pa, 4);
    if (found === undefined) throw new InternalError(`no device at 0x${pa.toString(16)}`);
    return found;
  }

  // General and FP registers

  /** X0 to X30 to 31 words at `to`. */
  saveGprs(to: number): void {
    this.#count(K.gprSave, "");
    const from = this.#gpr;
    this.memory.u8.copyWithin(to, from, from + GPR_BYTES);
  }

  restoreGprs(from: number): void {
    this.#count(K.gprRestore, "");
    this.memory.u8.copyWithin(this.#gpr, from, from + GPR_BYTES);
  }

  #requireFp(): void {
    if (fpTrap(this.core) !== 0) throw new InternalError("FP registers touched while trapped");
  }

  /** V0 to V31 (16 bytes each), then FPSR and FPCR as 32-bit words: 520 bytes at `to`. */
  saveFp(to: number): void {
    this.#count(K.fpSave, "");
    this.#requireFp();
    const { cpu } = this.core;
    this.memory.u8.copyWithin(to, cpu.vreg, cpu.vreg + VREG_BYTES);
    this.memory.st32(to + VREG_BYTES, cpu.fpsr);
    this.memory.st32(to + VREG_BYTES + 4, cpu.fpcr);
  }

  restoreFp(from: number): void {
    this.#count(K.fpRestore, "");
    this.#requireFp();
    const { cpu } = this.core;
    this.memory.u8.copyWithin(cpu.vreg, from, from + VREG_BYTES);
    // As by MSR: what user space wrote for a vCPU may have more bits than there are.
    cpu.fpsr = this.memory.ld32(from + VREG_BYTES) & FPSR_MASK;
    cpu.fpcr = this.memory.ld32(from + VREG_BYTES + 4) & fpcrMask(this.core);
  }

  // Barriers and maintenance

  isb(): void {
    this.#count(K.isb, "");
  }
  dsb(): void {
    this.#count(K.dsb, "");
    const { cpu, platform } = this.core;
    if (cpu.maintenance !== 0) platform.hooks.onDsb?.(cpu, true);
  }
  dmb(): void {
    this.#count(K.dmb, "");
  }

  #operation(kind: "tlbi" | "ic" | "dc", name: OperationName, lo: number, hi: number): void {
    this.#count(K[kind], name);
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
    this.#count(K.at, name);
    this.#possible("at", name);
    return this.core.platform.mmu.addressTranslate(this.core.cpu, name, lo, hi);
  }
  sev(): void {
    this.#count(K.sev, "");
    sendEvent(this.core);
  }
  clearExclusive(): void {
    this.#count(K.clearExclusive, "");
    this.core.cpu.monitorOpen = 0;
  }

  // Interrupt masking (PSTATE.I and F of the physical CPU)

  /** Masks interrupts and returns what {@link irqRestore} takes. */
  irqSave(): number {
    const before = this.core.cpu.daif;
    this.irqDisable();
    return before;
  }
  irqRestore(daif: number): void {
    this.#count(K.interruptMask, "");
    this.core.cpu.daif = daif;
  }
  irqDisable(): void {
    this.#count(K.interruptMask, "");
    this.core.cpu.daif |= IRQS_OFF;
  }
  irqEnable(): void {
    this.#count(K.interruptMask, "");
    this.core.cpu.daif &= ~IRQS_OFF;
  }
  irqsDisabled(): boolean {
    return (this.core.cpu.daif & DAIF.I) !== 0;
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
    return pcLo(this.core.cpu);
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
    this.#count(K.trap, "hvc");
    if (core.cpu.el !== 1 || !this.inHost) {
      throw new InternalError(`HVC of the host at EL${core.cpu.el}`);
    }
    takeSync(core, 2, EC.HVC64, 0, 4);
  }

  /** To be called when the CPU has arrived at EL2 from a guest, by an exception. */
  trap(): void {
    this.#count(K.trap, "");
  }

  /**
   * Takes the physical interrupt that is pending, as the CPU would before its next instruction; whether
   * there is one that is not masked.
   */
  takeInterrupt(): boolean {
    if (!pollInterrupts(this.core)) return false;
    this.#count(K.trap, "interrupt");
    return true;
  }

  /**
   * ERET: leaves the host's level for what ELR_ELx and SPSR_ELx say. After a return that is illegal the
   * CPU is at the vector of the exception that the next instruction would be.
   */
  eret(): void {
    this.#count(K.eret, "");
    const { core } = this;
    if (!this.inHost) throw new InternalError(`ERET of the port at EL${core.cpu.el}`);
    exceptionReturn(core);
    if (core.cpu.il && core.cpu.el === 2) takeSync(core, 2, EC.ILL, 0);
  }

  /** CNTPCT_EL0. */
  counter(): number {
    return this.readNum(R.CNTPCT_EL0);
  }
}

/** Bytes that {@link El2Port.saveFp} writes. */
export const FP_STATE_BYTES = VREG_BYTES + 8;

/** Bytes that {@link El2Port.saveGprs} writes. */
export const GPR_STATE_BYTES = GPR_BYTES;
