/**
 * The whole builder: conditions, floating point, system registers, barriers and what leaves to the
 * evaluator. How it works is said in wasm_nodes.ts.
 */
import { CpuLayout, sysregOffset } from "../arch/cpu_state.ts";
import { HCR } from "../arch/fields.ts";
import { sysreg } from "../arch/sysregs.ts";
import { ACCESS } from "../arch/tlb_layout.ts";
import { type FpSize, FPSR_MASK } from "../fp/format.ts";
import type { FpOperation } from "../fp/operations.ts";
import type { Barrier, ExceptionCall, Hint, Slot, V128, V32, V64 } from "../isa/builder.ts";
import type { Consts, Slots } from "../isa/row.ts";
import type { ResultCheck } from "./fp_checks.ts";
import type { Float, FpTarget } from "./fp_kinds.ts";
import { FpFast } from "./fp_wasm.ts";
import { CLEANING, DC_ZVA, INLINE, type Inline, ZVA_BYTES } from "./inline_registers.ts";
import type { RecordPlan } from "./records.ts";
import { EXIT } from "./wasm_frame.ts";
import { type Node, numberPart } from "./wasm_nodes.ts";
import { constantSlot, VectorBuilder } from "./wasm_vectors.ts";

const O = CpuLayout.offset;

/** Compiles one handler: run a row's semantics against it, then `emit`. */
export class WasmBuilder extends VectorBuilder implements FpTarget {
  readonly #fp = new FpFast(this);
  #several = false;

  /** What its check is when that is put off; undefined: it cannot be. */
  get resultCheck(): ResultCheck | undefined {
    return this.#several ? undefined : this.result;
  }

  /** The operands of a row, by name: read from the record when the handler runs. */
  operands(plan: RecordPlan): Record<string, Slot | V32 | V64> {
    const out: Record<string, Slot | V32 | V64> = {};
    for (const [name, offset] of plan.slots) out[name] = { slot: true, offset } as Slot;
    for (const [name, { offset, type }] of plan.consts) {
      out[name] = this.node(type, [], () => this.frame.pushOperand(type, offset), {
        recordOffset: offset,
      });
    }
    return out;
  }

  /** The operands of one instruction: constants, and offsets into the CPU state. */
  constantOperands(slots: Slots, consts: Consts): Record<string, Slot | V32 | V64> {
    const out: Record<string, Slot | V32 | V64> = {};
    for (const [name, offset] of Object.entries(slots)) out[name] = constantSlot(offset);
    for (const [name, value] of Object.entries(consts)) {
      out[name] = typeof value === "bigint" ? this.c64(value) : this.c32(value);
    }
    return out;
  }
  /** `likely`: what the compiler is told, where something is known. */
  when(condition: V32, then: () => void, likely?: boolean): void {
    const { value } = condition as unknown as Node;
    if (value === 0n) return;
    if (value !== undefined) return then();
    const outer = this.statements;
    const closed = this.ended;
    const { modes } = this.#fp;
    const conditional = this.conditional;
    this.statements = [];
    this.translation = undefined;
    this.conditional = true;
    then();
    this.conditional = conditional;
    this.translation = undefined;
    this.#fp.modes = modes;
    const inner = this.statements;
    this.statements = outer;
    this.ended = closed;
    outer.push({ condition: this.use(condition), then: inner, likely });
  }

  putsOff(size: 32 | 64, normal: boolean, result: Float | V128, from: readonly Float[]): boolean {
    if (this.frame.checks === undefined || this.conditional) return false;
    if (this.unchecked !== undefined) this.#several = true;
    const nodes = [result, ...from] as unknown as [Node, ...Node[]];
    this.unchecked = { node: nodes[0], size, normal, from: nodes.slice(1) };
    return true;
  }
  lowLane(size: 32 | 64, value: V64): V128 | null {
    if (this.frame.checks === undefined || this.conditional) return null;
    return this.lowest(size, value) ?? null;
  }
  ofLowLane(size: 32 | 64, vector: V128, from: readonly V128[] | undefined): V64 {
    const zeroFrom = from?.map((v) => ((v as unknown as Node).read as { offset: number }).offset);
    return this.lowBits({ bits: size, vector, zeroFrom });
  }
  comparison(x: Float, y: Float, flags: V32): V32 {
    (flags as unknown as Node).compared = [x, y];
    return flags;
  }
  isNumber(x: Float, size: 32 | 64): boolean {
    const { read, number } = x as unknown as Node;
    if (number !== undefined) return true;
    return read !== undefined &&
      (this.frame.isNumber?.(read.offset, numberPart(read.part), size) ?? false);
  }

  fp(operation: FpOperation, size: FpSize, ...operands: V64[]): V64 {
    const result = this.#fp.scalar(operation, size, operands);
    if (result === null) this.slow();
    return result ?? this.c64(0);
  }
  fpVector(operation: FpOperation, size: FpSize, q: boolean, ...operands: V128[]): V128 {
    const result = this.#fp.vector(operation, size, q, operands);
    if (result === null) this.slow();
    return result ?? this.c128(0n, 0n);
  }

  #requireInline(r: Inline, from: 0 | 1): void {
    const el = this.field(O.el);
    if (r.onlyEl1) this.require(this.eq(el, this.c32(1)));
    else if (from === 1) this.require(el);
    if (r.spsel) this.require(this.field(O.spsel));
    if (r.unlessHcr !== undefined) this.#requireUntrapped(r.unlessHcr);
    if (r.fp) this.require(this.field(O.fpEnabled));
  }
  /** Leaves where a bit of `mask` in HCR_EL2 is set: whether it traps is for the evaluator to say. */
  #requireUntrapped(mask: number): void {
    const hcr = this.field(sysregOffset(sysreg("HCR_EL2").index));
    this.require(this.isZero(this.and(hcr, this.c32(mask))));
  }
  mrs(key: number, to: Slot): void {
    const r = INLINE.get(key);
    if (!r) return this.slow();
    this.#requireInline(r, r.readFrom);
    if (key === sysreg("NZCV").key) {
      return this.setX(to, this.zext(this.shl(this.nzcv(), this.c32(28))));
    }
    const value = r.size === 8
      ? this.field64(r.offset)
      : this.zext(this.shl(this.field(r.offset), this.c32(r.shift)));
    this.setX(to, value);
  }
  msr(key: number, value: V64): void {
    if (key === sysreg("NZCV").key) {
      this.setNzcv(this.and(this.shrU(this.wrap(value), this.c32(28)), this.c32(15)));
      return;
    }
    if (key === sysreg("FPSR").key) {
      // IXC may be cleared.
      if (this.usualFp) return this.slow();
      this.require(this.field(O.fpEnabled));
      return this.setField(O.fpsr, this.and(this.wrap(value), this.c32(FPSR_MASK)));
    }
    if (key === sysreg("DAIF").key) {
      const daif = this.and(this.shrU(this.wrap(value), this.c32(6)), this.c32(15));
      return this.#writeDaif(() => daif);
    }
    const r = INLINE.get(key);
    if (!r || r.writeFrom === undefined) return this.slow();
    this.#requireInline(r, r.writeFrom);
    if (r.plainBits !== undefined) {
      const others = BigInt.asUintN(64, ~BigInt(r.plainBits));
      this.require(this.isZero(this.and(value, this.c64(others))));
    }
    this.setField(r.offset, value);
  }
  #writeDaif(next: (old: V32) => V32): void {
    const el = this.field(O.el);
    this.require(el);
    this.setField(O.daif, next(this.field(O.daif)));
    this.when(this.field(O.checkIrq), () => {
      this.run(() => this.frame.leaveRetired(EXIT.IRQ));
    });
  }
  msrImmediate(op1: number, op2: number, immediate: V32): void {
    if (op1 === 3 && op2 === 6) this.#writeDaif((old) => this.or(old, immediate));
    else if (op1 === 3 && op2 === 7) {
      this.#writeDaif((old) => this.and(old, this.not(immediate)));
    } else this.slow();
  }
  /** What an ISB synchronises has had its effect at once, but for code that is not cached. */
  barrier(kind: Barrier): void {
    if (kind === "isb") this.require(this.isZero(this.field(O.fetchUncached)));
    else if (this.parallel) this.#fence(kind);
  }
  /** Maintenance that other CPUs have not seen completed is waited for by a DSB. */
  #fence(kind: Barrier): void {
    if (kind === "dsb") this.require(this.isZero(this.field(O.maintenance)));
    this.run(() => this.frame.asm.fence());
  }
  hint(kind: Hint): void {
    if (kind !== "nop" && kind !== "yield") this.slow();
  }
  exceptionCall(_call: ExceptionCall, _immediate: V32): void {
    this.slow();
  }
  sys(key: number, value: V64): void {
    const cleaningTrap = CLEANING.get(key);
    if (key === DC_ZVA) this.#zeroBlock(value);
    else if (cleaningTrap !== undefined) this.#clean(value, cleaningTrap);
    else this.slow();
  }
  /** DC by address above EL0. */
  #clean(address: V64, trap: number): void {
    this.require(this.field(O.el));
    this.#requireUntrapped(trap);
    this.translate(address, ACCESS.READ, 1, 1, false, false);
  }
  /** DC ZVA above EL0 on Normal memory, unless HCR_EL2.TDZ may trap it. */
  #zeroBlock(address: V64): void {
    this.require(this.field(O.el));
    this.require(this.isZero(this.field(O.alignMask)));
    this.#requireUntrapped(HCR.TDZ);
    const start = this.and(address, this.c64(-BigInt(ZVA_BYTES)));
    const at = this.use(this.translate(start, ACCESS.WRITE, ZVA_BYTES, 1, false, false).at);
    this.run(() => {
      for (let offset = 0; offset < ZVA_BYTES; offset += 8) {
        this.push(at);
        this.frame.asm.i64(0n).mem("i64.store", offset);
      }
    });
  }
  sysl(_key: number, _to: Slot): void {
    this.slow();
  }
  eret(): void {
    this.slow();
  }
  undefined(): void {
    this.slow();
  }
}
