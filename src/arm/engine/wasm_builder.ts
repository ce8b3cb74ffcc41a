/**
 * The builder that turns a row's semantics into WebAssembly. Values are nodes of a graph; effects and
 * reads of state are statements in the order the semantics made them. When the semantics has run, each
 * node's number of uses is known: what is used once is emitted in place, what is used more often, or
 * reads state that a later effect may change, goes through a local.
 */
import { CpuLayout, gprOffset, SLOT, sysregOffset, vregOffset } from "../arch/cpu_state.ts";
import { HCR } from "../arch/fields.ts";
import { sysreg, sysregKey } from "../arch/sysregs.ts";
import { ACCESS, DATA_TLB, DATA_TLB_ENTRIES, DATA_TLB_ENTRY } from "../arch/tlb_layout.ts";
import { type FpSize, FPSR_MASK } from "../fp/format.ts";
import type { FpOperation } from "../fp/operations.ts";
import type {
  AccessOptions,
  AccessSize,
  AtomicOp,
  Barrier,
  BranchKind,
  Builder,
  ExceptionCall,
  Hint,
  Slot,
  V128,
  V32,
  V64,
  Value,
} from "../isa/builder.ts";
import type {
  LaneBits,
  VectorBinary,
  VectorShift,
  VectorTest,
  VectorUnary,
} from "../isa/vector_ops.ts";
import type { Float, FpTarget } from "./fp_kinds.ts";
import { FpFast } from "./fp_wasm.ts";
import {
  F32,
  F64,
  type FunctionBody,
  I32,
  I64,
  type MemName,
  type OpName,
  V128 as V128_TYPE,
  type ValType,
} from "./wasm_assembler.ts";
import type { Consts, Slots } from "../isa/row.ts";
import { atomicLoad, atomicStore, atomicUpdate, lockPair, unlockPair } from "./wasm_atomics.ts";
import type { RecordPlan } from "./records.ts";

/** How the record's slots are reached: 16-bit byte offsets into the CPU state, at an offset of the record. */
export function recordRegisters(
  frame: { readonly asm: FunctionBody; readonly cpu: number; readonly rec: number },
): RegisterAccess {
  const { asm, cpu, rec } = frame;
  const address = (slot: number) => asm.get(cpu).get(rec).mem("i32.load16_u", slot).op("i32.add");
  return {
    push(slot, part) {
      address(slot);
      if (part === "q") asm.vectorMem("load", 0);
      else if (part === "f32" || part === "f64") asm.mem(`${part}.load`, 0);
      else {
        const second = part === "high" || part === "next";
        asm.mem(part === "w" ? "i32.load" : "i64.load", second ? 8 : 0);
      }
    },
    set(slot, part, push) {
      address(slot);
      push();
      if (part === "q") asm.vectorMem("store", 0);
      else if (part === "f32" || part === "f64") {
        asm.mem(`${part}.store`, 0);
        if (part === "f32") address(slot).i32(0).mem("i32.store", 4);
        address(slot).i64(0n).mem("i64.store", 8);
      } else asm.mem("i64.store", part === "high" ? 8 : 0);
    },
  };
}

/** What a handler answers, and what the interpreter's `run` returns to TypeScript. */
export const EXIT = {
  /** Handlers only: go on with the next record. `run`: the budget is used up. */
  NEXT: 0,
  /** Handlers only: pc has been written, look it up. */
  BRANCH: 1,
  /** This instruction is the evaluator's. */
  SLOW: 2,
  /** A data access missed the TLB: `faultVa`, `faultAccess`, `faultSize`. */
  DATA_MISS: 3,
  /** Retired; an interrupt may have been unmasked. */
  IRQ: 4,
  /** The code TLB has nothing for pc. */
  FETCH: 5,
  /** The record at pc is not decoded yet. */
  DECODE: 6,
  /** pc was branched to often. */
  HOT: 7,
  /** Regions only: the budget is too small for the block at pc. */
  SHORT: 8,
  /** Regions only: the region at pc was made for another state of the CPU. */
  UNFIT: 9,
} as const;

/** `faultAccess`: an access kind, with this bit for unprivileged ones. */
export const UNPRIVILEGED_ACCESS = 4;

const O = CpuLayout.offset;
const SP = gprOffset(SLOT.SP);

/**
 * A part of a register: 64 bits, the low 32, all of the register behind it, a half of a vector register, all of
 * it, the number in its lowest bits (written, the rest becomes 0).
 */
export type RegisterPart = "x" | "w" | "next" | "low" | "high" | "q" | "f32" | "f64";

/** How registers are reached. A `slot` is whatever the operands were made with. */
export interface RegisterAccess {
  push(slot: number, part: RegisterPart): void;
  /** Writes what `push` pushes: an i64 ("x", "low", "high"), a v128 ("q") or a number. */
  set(slot: number, part: Exclude<RegisterPart, "w" | "next">, push: () => void): void;
}

/** The last operation that set the flags: `width` of its operands `a` and `b`, or of its result. */
export type FlagKind = "add32" | "add64" | "sub32" | "sub64" | "logic32" | "logic64";

/** Flags that are not computed before they are wanted. */
export interface FlagAccess {
  set(kind: FlagKind, pushA: () => void, pushB: () => void): void;
  /** N, Z, C, V in bits 3 to 0, as an i32. */
  push(): void;
  setPacked(push: () => void): void;
  /** Pushes 1 where the flags are in the set `mask`. */
  pushCondition(mask: number): void;
  /** What `body` emits may not be executed. */
  conditional(body: () => void): void;
}

/** A branch offset: how to push it, and its value where that is known. */
export interface BranchOffset {
  offset32(): void;
  offset64(): void;
  readonly value: bigint | undefined;
}

/** How a handler reaches its surroundings: in the main loop, or as a function of its own. */
export interface Frame {
  readonly asm: FunctionBody;
  /** The local holding the CPU's address. */
  readonly cpu: number;
  readonly registers: RegisterAccess;
  /** Where the flags live, when that is not the CPU's `nzcv`. */
  readonly flags?: FlagAccess;
  /** Pushes an operand of the record at byte `offset` of it. Not called where operands are constants. */
  pushOperand(type: "i32" | "i64", offset: number): void;
  /** A local of `type` that is free for the rest of this handler. */
  temporary(type: ValType): number;
  /** Pushes the address (i32) of the data TLB of ordinary accesses. */
  pushTlb(): void;
  /** Pushes the alignment mask as i64 (all ones or zero in the low 32 bits). */
  pushAlignMask(): void;
  pushPc(): void;
  /** Ends the handler: next record. */
  next(): void;
  /** Ends the handler by a branch to pc + the i32 offset that `pushOffset` pushes, or to a far 64-bit offset. */
  branchBy(offset: BranchOffset, kind: BranchKind): void;
  /** Ends the handler by a branch to the address in local `target` (i64). */
  branchTo(target: number, kind: BranchKind): void;
  /** Leaves: the instruction has not been executed. */
  leave(code: number): void;
  /** Leaves after the instruction. */
  leaveRetired(code: number): void;
  /** Leaves with EXIT.DATA_MISS: an access of `size` bytes at the address in local `va`, by `faultAccess`. */
  miss(va: number, faultAccess: number, size: number): void;
  /**
   * Locals that remember the page last accessed by way of base register `base` ({@link NO_BASE}: none), where
   * alignment is not checked: its address (i64), and what makes an address of it one of the memory (i32).
   */
  pageCache?(base: number, access: 0 | 1): PageCache | undefined;
  /** A local that holds the 32-bit field of the CPU state at `offset`, which does not change here. */
  steadyField?(offset: number): number;
  /** FPCR is 0, FPSR.IXC set, and FP does not trap. */
  readonly usualFp?: boolean;
  /** SP is known to be as aligned as its alignment check wants. Undefined: not kept. */
  spAligned?: boolean;
}

/**
 * See {@link Frame.pageCache}. An access is of the page when it begins less than `limit` (i64) behind `tag`: at
 * first, with all three 0, none is.
 */
export interface PageCache {
  readonly tag: number;
  readonly addend: number;
  readonly limit: number;
}

/** An address that is not made from a register. */
export const NO_BASE = -1;

/** A {@link Frame.miss} that says all there and then. */
export function missAtOnce(frame: Frame, va: number, faultAccess: number, size: number): void {
  const { asm, cpu } = frame;
  asm.get(cpu).get(va).mem("i64.store", O.faultVa);
  asm.get(cpu).i32(faultAccess).mem("i32.store", O.faultAccess);
  asm.get(cpu).i32(size).mem("i32.store", O.faultSize);
  frame.leave(EXIT.DATA_MISS);
}

type NodeType = "i32" | "i64" | "f32" | "f64" | "v128";
type AnyValue = Value | Float;

const LOCAL_TYPE: Readonly<Record<NodeType, ValType>> = {
  i32: I32,
  i64: I64,
  f32: F32,
  f64: F64,
  v128: V128_TYPE,
};

interface Node {
  readonly type: NodeType;
  uses: number;
  local: number;
  /** Reads state: must be evaluated where it was made. */
  readonly pinned: boolean;
  /** Cheap enough to emit at every use. */
  readonly repeat: boolean;
  readonly emit: () => void;
  readonly value?: bigint;
  readonly recordOffset?: number;
  /** It is the sum of a node and a constant, or a register. */
  sumOf?: { readonly node: Node; readonly offset: number };
  /** Of its uses nothing remains, it need not be made. */
  readonly pure?: boolean;
  /** It is what the lowest `bits` of a vector register hold. */
  lowOf?: { readonly slot: Slot; readonly bits: 32 | 64 };
  /** It is what a load found. */
  loadOf?: { readonly at: V32; readonly offset: number; readonly size: AccessSize };
  /** The number whose bits it is. */
  bitsOf?: Float;
  /** It is a value shifted left by a constant. */
  shifted?: { readonly of: AnyValue; readonly by: number };
  /** The register that it is made from, if it is an address, and whether it is its value. */
  base?: number;
  readonly register?: boolean;
}

/** An address translation whose extent may still grow until it is emitted. */
interface Translation {
  readonly address: Node;
  readonly access: 0 | 1;
  readonly aligned: number;
  readonly strict: boolean;
  readonly unprivileged: boolean;
  span: number;
  readonly at: V32;
}

/** The node that is a constant apart from `node`, and the constant. */
function sumOf(node: Node): { readonly node: Node; readonly offset: number } {
  return node.sumOf ?? { node, offset: 0 };
}

/** How far `to` lies behind `from`; NaN where that is not known. */
function distance(from: Node, to: Node): number {
  const [a, b] = [sumOf(from), sumOf(to)];
  return a.node === b.node ? b.offset - a.offset : NaN;
}

/** Where an access is made: a memory address, and a constant to be added. */
interface Place {
  readonly at: V32;
  readonly offset: number;
}

/** Neighbouring accesses of one instruction that are translated together extend over this many bytes at most. */
const MAX_SPAN = 32;
/** The limit of a page whose accesses of that many bytes hit. */
const PAGE_LIMIT = 4096n - 32n + 1n;

type Statement =
  | { readonly let: Node }
  | { readonly run: () => void }
  | {
    readonly condition: Node;
    readonly then: Statement[];
    readonly likely: boolean | undefined;
  };

/** System registers that MRS/MSR reach without leaving: exception levels they are plain storage at. */
interface Inline {
  readonly offset: number;
  readonly size: 4 | 8;
  readonly shift: number;
  /** Least EL, and the only EL if `onlyEl1`. */
  readonly readFrom: 0 | 1;
  readonly writeFrom: 0 | 1 | undefined;
  readonly onlyEl1?: boolean;
  /** Bits of HCR_EL2 (31 to 0) that trap it. */
  readonly unlessHcr?: number;
  readonly spsel?: boolean;
  /** Traps as FP does. */
  readonly fp?: boolean;
}

const stored = (
  name: Parameters<typeof sysreg>[0],
  more: Omit<Inline, "offset" | "size" | "shift">,
): [number, Inline] => [
  sysreg(name).key,
  { offset: sysregOffset(sysreg(name).index), size: 8, shift: 0, ...more },
];

/** The registers an operating system touches at every turn; all others go through the evaluator. */
const INLINE = new Map<number, Inline>([
  stored("TPIDR_EL0", { readFrom: 0, writeFrom: 0 }),
  stored("TPIDRRO_EL0", { readFrom: 0, writeFrom: 1 }),
  stored("TPIDR_EL1", { readFrom: 1, writeFrom: 1 }),
  stored("SP_EL0", { readFrom: 1, writeFrom: 1, spsel: true }),
  stored("CTR_EL0", { readFrom: 1, writeFrom: undefined, unlessHcr: HCR.TID2 }),
  stored("DCZID_EL0", { readFrom: 1, writeFrom: undefined, unlessHcr: HCR.TDZ }),
  stored("ELR_EL1", { readFrom: 1, writeFrom: 1, onlyEl1: true }),
  stored("SPSR_EL1", { readFrom: 1, writeFrom: undefined, onlyEl1: true }),
  [sysreg("NZCV").key, { offset: O.nzcv, size: 4, shift: 28, readFrom: 0, writeFrom: undefined }],
  [sysreg("FPCR").key, {
    offset: O.fpcr,
    size: 4,
    shift: 0,
    readFrom: 0,
    writeFrom: undefined,
    fp: true,
  }],
  [sysreg("FPSR").key, {
    offset: O.fpsr,
    size: 4,
    shift: 0,
    readFrom: 0,
    writeFrom: undefined,
    fp: true,
  }],
  [sysreg("DAIF").key, { offset: O.daif, size: 4, shift: 6, readFrom: 1, writeFrom: undefined }],
  [sysreg("CurrentEL").key, { offset: O.el, size: 4, shift: 2, readFrom: 1, writeFrom: undefined }],
]);

/** DC ZVA as SYS names it, and its block (DCZID_EL0.BS 4). */
const DC_ZVA = sysregKey(1, 3, 7, 4, 1);
const ZVA_BYTES = 64;

/** DC by address that cleans, by what traps it: without caches there is nothing to do but to translate. */
const CLEANING = new Map<number, number>([
  [sysregKey(1, 3, 7, 10, 1), HCR.TPCP],
  [sysregKey(1, 3, 7, 11, 1), HCR.TPU],
  [sysregKey(1, 3, 7, 14, 1), HCR.TPCP],
]);

/** Whether the access to system register or operation `key` is compiled; all others leave to the evaluator. */
export function reachedInline(key: number): boolean {
  return key === DC_ZVA || CLEANING.has(key) || INLINE.has(key);
}

const LOAD: Record<AccessSize, MemName> = {
  1: "i64.load8_u",
  2: "i64.load16_u",
  4: "i64.load32_u",
  8: "i64.load",
};
const STORE: Record<AccessSize, MemName> = {
  1: "i64.store8",
  2: "i64.store16",
  4: "i64.store32",
  8: "i64.store",
};

/**
 * A slot that is known. A row may name the upper half of a vector register as a slot, whose low half it
 * reads then: it stays a half of the register here, which a register in a local could not be otherwise.
 */
function constantSlot(offset: number): Slot {
  const upper = offset > O.vreg && offset < vregOffset(32) && (offset - O.vreg) % 16 === 8;
  return { slot: true, offset: upper ? offset - 8 : offset, upper } as unknown as Slot;
}

function upperHalf(slot: Slot): boolean {
  return (slot as Slot & { readonly upper?: boolean }).upper ?? false;
}

/** Compiles one handler: run a row's semantics against it, then {@link emit}. */
export class WasmBuilder implements Builder, FpTarget {
  #statements: Statement[] = [];
  /** The semantics ended in a jump: nothing follows. */
  #closed = false;
  readonly #fp = new FpFast(this);
  /** What is being made is under a condition. */
  #conditional = false;
  /** The address translated last, for its neighbours. */
  #translation: Translation | undefined;

  /** `parallel`: other threads access the memory meanwhile. */
  constructor(readonly frame: Frame, readonly parallel = false) {}

  /** The operands of a row, by name: read from the record when the handler runs. */
  operands(plan: RecordPlan): Record<string, Slot | V32 | V64> {
    const out: Record<string, Slot | V32 | V64> = {};
    for (const [name, offset] of plan.slots) out[name] = { slot: true, offset } as Slot;
    for (const [name, { offset, type }] of plan.consts) {
      out[name] = this.#node(type, [], () => this.frame.pushOperand(type, offset), {
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

  /** The instruction does not fall through to the next. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Emits the handler's body. */
  emit(): void {
    this.#emitAll(this.#statements);
    if (!this.#closed) this.frame.next();
  }

  #emitAll(statements: Statement[]): void {
    const asm = this.frame.asm;
    for (const s of statements) {
      if ("run" in s) s.run();
      else if ("let" in s) this.#emitLet(s.let);
      else {
        const { condition, then, likely } = s;
        const body = () => {
          this.#push(condition);
          asm.if("if", likely);
          this.#emitAll(then);
          asm.end();
        };
        if (this.frame.flags) this.frame.flags.conditional(body);
        else body();
      }
    }
  }

  #emitLet(node: Node): void {
    if (node.repeat || (!node.pinned && node.uses < 2) || (node.pure && node.uses === 0)) return;
    node.emit();
    if (node.uses === 0) this.frame.asm.drop();
    else {
      node.local = this.frame.temporary(LOCAL_TYPE[node.type]);
      this.frame.asm.set(node.local);
    }
  }

  #push(value: AnyValue | Node): void {
    const node = value as unknown as Node;
    if (node.local >= 0) this.frame.asm.get(node.local);
    else node.emit();
  }

  #use(v: AnyValue): Node {
    const node = v as unknown as Node;
    node.uses++;
    return node;
  }

  // deno-lint-ignore no-explicit-any -- one maker for all value types; callers state which
  #node(type: NodeType, args: AnyValue[], emit: () => void, more: Partial<Node> = {}): any {
    for (const a of args) this.#use(a);
    const node: Node = { type, uses: 0, local: -1, pinned: false, repeat: false, emit, ...more };
    if (!node.repeat) this.#statements.push({ let: node });
    return node;
  }

  #run(run: () => void): void {
    this.#statements.push({ run });
  }

  // deno-lint-ignore no-explicit-any -- see #node
  #apply(type: NodeType, op: OpName, ...args: AnyValue[]): any {
    return this.#node(type, args, () => {
      for (const a of args) this.#push(a);
      this.frame.asm.op(op);
    });
  }

  #same<T extends AnyValue>(a: T, b: T): T["type"] {
    if (a.type !== b.type) throw new RangeError(`operands of types ${a.type} and ${b.type}`);
    return a.type;
  }
  #binary<T extends Value>(name: string, a: T, b: T): T {
    const type = this.#same(a, b);
    return this.#apply(type, `${type}.${name}` as OpName, a, b);
  }
  #compare<T extends Value>(name: string, a: T, b: T): V32 {
    return this.#apply("i32", `${this.#same(a, b)}.${name}` as OpName, a, b);
  }
  #const<T extends Value>(like: T, value: bigint | number): T {
    return (like.type === "i64" ? this.c64(value) : this.c32(Number(value))) as T;
  }

  c32(value: number): V32 {
    return this.#node("i32", [], () => this.frame.asm.i32(value), {
      repeat: true,
      value: BigInt(value),
    });
  }
  c64(value: bigint | number): V64 {
    const v = BigInt(value);
    return this.#node("i64", [], () => this.frame.asm.i64(v), { repeat: true, value: v });
  }

  // deno-lint-ignore no-explicit-any -- see #node
  #register(type: NodeType, slot: Slot, part: RegisterPart): any {
    const { offset } = slot as unknown as { offset: number };
    const more = part === "x" ? { pinned: true, base: offset, register: true } : { pinned: true };
    return this.#node(type, [], () => this.frame.registers.push(offset, part), more);
  }
  #setRegister(slot: Slot, part: Exclude<RegisterPart, "w" | "next">, value: AnyValue): void {
    const { offset } = slot as unknown as { offset: number };
    const node = this.#use(value);
    if (offset === SP && this.frame.spAligned) this.#moveSp(node);
    this.#run(() => {
      this.frame.registers.set(offset, part, () => {
        this.#push(node);
        if (node.type === "i32") this.frame.asm.op("i64.extend_i32_u");
      });
    });
  }
  x(slot: Slot): V64 {
    return this.#register("i64", slot, "x");
  }
  xPair(slot: Slot): readonly [V64, V64] {
    return [this.#register("i64", slot, "x"), this.#register("i64", slot, "next")];
  }
  w(slot: Slot): V32 {
    return this.#register("i32", slot, "w");
  }
  setX(slot: Slot, value: V64): void {
    this.#setRegister(slot, "x", value);
  }
  setW(slot: Slot, value: V32): void {
    this.#setRegister(slot, "x", value);
  }

  add<T extends Value>(a: T, b: T): T {
    const sum = this.#binary("add", a, b);
    const [x, y, out] = [a, b, sum] as unknown as [Node, Node, Node];
    const base = x.base ?? y.base;
    if (base !== undefined) out.base = base;
    if (y.value !== undefined) {
      const { node, offset } = sumOf(x);
      out.sumOf = { node, offset: offset + Number(y.value) };
    }
    return sum;
  }
  sub<T extends Value>(a: T, b: T): T {
    return this.#binary("sub", a, b);
  }
  mul<T extends Value>(a: T, b: T): T {
    return this.#binary("mul", a, b);
  }
  and<T extends Value>(a: T, b: T): T {
    return this.#binary("and", a, b);
  }
  or<T extends Value>(a: T, b: T): T {
    return this.#binary("or", a, b);
  }
  xor<T extends Value>(a: T, b: T): T {
    return this.#binary("xor", a, b);
  }
  /** Two shifts in a row by constants are one. */
  shl<T extends Value>(a: T, b: T): T {
    const { value } = b as unknown as Node;
    if (value === undefined) return this.#binary("shl", a, b);
    const bits = a.type === "i64" ? 64 : 32;
    const { shifted } = a as unknown as Node;
    const by = (Number(value) & (bits - 1)) + (shifted?.by ?? 0);
    if (by >= bits) return this.#const(a, 0);
    const of = (shifted?.of ?? a) as T;
    const out = this.#binary("shl", of, this.#const(a, by));
    (out as unknown as Node).shifted = { of, by };
    return out;
  }
  shrU<T extends Value>(a: T, b: T): T {
    return this.#binary("shr_u", a, b);
  }
  shrS<T extends Value>(a: T, b: T): T {
    return this.#binary("shr_s", a, b);
  }
  rotr<T extends Value>(a: T, b: T): T {
    return this.#binary("rotr", a, b);
  }
  not<T extends Value>(a: T): T {
    return this.xor(a, this.#const(a, -1));
  }
  neg<T extends Value>(a: T): T {
    return this.sub(this.#const(a, 0), a);
  }
  clz<T extends Value>(a: T): T {
    return this.#apply(a.type, `${a.type}.clz`, a);
  }
  udiv<T extends Value>(a: T, b: T): T {
    const zero = this.isZero(b);
    const safe = this.select(zero, this.#const(b, 1), b);
    return this.select(zero, this.#const(a, 0), this.#binary("div_u", a, safe));
  }
  sdiv<T extends Value>(a: T, b: T): T {
    const zero = this.isZero(b);
    const minusOne = this.eq(b, this.#const(b, -1));
    const safe = this.select(this.or(zero, minusOne), this.#const(b, 1), b);
    const quotient = this.#binary("div_s", a, safe);
    return this.select(zero, this.#const(a, 0), this.select(minusOne, this.neg(a), quotient));
  }
  umulh(a: V64, b: V64): V64 {
    const low = this.c64(0xffff_ffff);
    const by32 = this.c64(32);
    const [al, ah] = [this.and(a, low), this.shrU(a, by32)];
    const [bl, bh] = [this.and(b, low), this.shrU(b, by32)];
    const middle = this.add(this.mul(ah, bl), this.shrU(this.mul(al, bl), by32));
    const other = this.add(this.mul(al, bh), this.and(middle, low));
    return this.add(
      this.mul(ah, bh),
      this.add(this.shrU(middle, by32), this.shrU(other, by32)),
    );
  }
  smulh(a: V64, b: V64): V64 {
    const sign = this.c64(63);
    const fromA = this.and(this.shrS(a, sign), b);
    const fromB = this.and(this.shrS(b, sign), a);
    return this.sub(this.umulh(a, b), this.add(fromA, fromB));
  }
  eq<T extends Value>(a: T, b: T): V32 {
    return this.#compare("eq", a, b);
  }
  ne<T extends Value>(a: T, b: T): V32 {
    return this.#compare("ne", a, b);
  }
  ltU<T extends Value>(a: T, b: T): V32 {
    return this.#compare("lt_u", a, b);
  }
  ltS<T extends Value>(a: T, b: T): V32 {
    return this.#compare("lt_s", a, b);
  }
  isZero(a: Value): V32 {
    const { value } = a as unknown as Node;
    if (value !== undefined) return this.c32(value === 0n ? 1 : 0);
    return this.#apply("i32", `${a.type}.eqz`, a);
  }
  select<T extends AnyValue>(condition: V32, a: T, b: T): T {
    return this.#node(this.#same(a, b), [a, b, condition], () => {
      this.#push(a);
      this.#push(b);
      this.#push(condition);
      if (a.type === "v128") this.frame.asm.selectVector();
      else this.frame.asm.op("select");
    });
  }
  /** `likely`: what the compiler is told, where something is known. */
  when(condition: V32, then: () => void, likely?: boolean): void {
    const { value } = condition as unknown as Node;
    if (value === 0n) return;
    if (value !== undefined) return then();
    const outer = this.#statements;
    const closed = this.#closed;
    const { modes } = this.#fp;
    const conditional = this.#conditional;
    this.#statements = [];
    this.#translation = undefined;
    this.#conditional = true;
    then();
    this.#conditional = conditional;
    this.#translation = undefined;
    this.#fp.modes = modes;
    const inner = this.#statements;
    this.#statements = outer;
    this.#closed = closed;
    outer.push({ condition: this.#use(condition), then: inner, likely });
  }
  wrap(a: V64): V32 {
    const { recordOffset, value } = a as unknown as Node;
    if (value !== undefined) return this.c32(Number(BigInt.asIntN(32, value)));
    if (recordOffset === undefined) {
      const low: V32 = this.#apply("i32", "i32.wrap_i64", a);
      const { lowOf } = a as unknown as Node;
      if (lowOf) (low as unknown as Node).lowOf = { slot: lowOf.slot, bits: 32 };
      return low;
    }
    return this.#node("i32", [], () => this.frame.pushOperand("i32", recordOffset));
  }
  zext(a: V32): V64 {
    const wide: V64 = this.#apply("i64", "i64.extend_i32_u", a);
    const { lowOf } = a as unknown as Node;
    if (lowOf) (wide as unknown as Node).lowOf = lowOf;
    return wide;
  }
  /** The number of the type whose bits are the lowest of `value`. */
  fromBits(type: "f32" | "f64", value: V64): Float {
    const { lowOf } = value as unknown as Node;
    if (lowOf && (type === "f32" || lowOf.bits === 64)) {
      return this.#register(type, lowOf.slot, type);
    }
    if (type === "f64") return this.#apply("f64", "f64.reinterpret_i64", value);
    return this.#apply("f32", "f32.reinterpret_i32", this.wrap(value));
  }
  /** The bits of a number. */
  toBits(type: "f32" | "f64", number: Float): V64 {
    const bits: V64 = type === "f64"
      ? this.#apply("i64", "i64.reinterpret_f64", number)
      : this.zext(this.#apply("i32", "i32.reinterpret_f32", number));
    (bits as unknown as Node).bitsOf = number;
    return bits;
  }
  sext(a: V32): V64 {
    return this.#apply("i64", "i64.extend_i32_s", a);
  }
  signExtend<T extends Value>(a: T, bits: 8 | 16 | 32): T {
    if (a.type === "i32" && bits === 32) return a;
    return this.#apply(a.type, `${a.type}.extend${bits}_s` as OpName, a);
  }

  /** The top bit of a value as V32. */
  #topBit(a: Value): V32 {
    return a.type === "i64"
      ? this.wrap(this.shrU(a, this.c64(63)))
      : this.shrU(a as V32, this.c32(31));
  }
  #packFlags(result: Value, c: V32, v: V32): void {
    const nz = this.or(
      this.shl(this.#topBit(result), this.c32(3)),
      this.shl(this.isZero(result), this.c32(2)),
    );
    this.setNzcv(this.or(nz, this.or(this.shl(c, this.c32(1)), v)));
  }
  /** Leaves the flags to the frame if it keeps them: those of `a` and `b` by the operation `name`. */
  #frameFlags(name: "add" | "sub" | "logic", a: Value, b: Value): boolean {
    const { flags } = this.frame;
    if (flags === undefined) return false;
    const kind = `${name}${a.type === "i64" ? 64 : 32}` as FlagKind;
    const [x, y] = [this.#use(a), this.#use(b)];
    this.#run(() => flags.set(kind, () => this.#push(x), () => this.#push(y)));
    return true;
  }
  addFlags<T extends Value>(a: T, b: T): T {
    const r = this.add(a, b);
    if (this.#frameFlags("add", a, b)) return r;
    const overflow = this.#topBit(this.and(this.xor(a, r), this.xor(b, r)));
    this.#packFlags(r, this.ltU(r, a), overflow);
    return r;
  }
  subFlags<T extends Value>(a: T, b: T): T {
    const r = this.sub(a, b);
    if (this.#frameFlags("sub", a, b)) return r;
    const overflow = this.#topBit(this.and(this.xor(a, b), this.xor(a, r)));
    this.#packFlags(r, this.isZero(this.ltU(a, b)), overflow);
    return r;
  }
  adc<T extends Value>(a: T, b: T): T {
    const carry = this.and(this.shrU(this.nzcv(), this.c32(1)), this.c32(1));
    const wide = (a.type === "i64" ? this.zext(carry) : carry) as T;
    return this.add(this.add(a, b), wide);
  }
  adcFlags<T extends Value>(a: T, b: T): T {
    const r = this.adc(a, b);
    const carry = this.#topBit(this.or(this.and(a, b), this.and(this.or(a, b), this.not(r))));
    const overflow = this.#topBit(this.and(this.xor(a, r), this.xor(b, r)));
    this.#packFlags(r, carry, overflow);
    return r;
  }
  logicFlags<T extends Value>(a: T): T {
    if (this.#frameFlags("logic", a, a)) return a;
    this.#packFlags(a, this.c32(0), this.c32(0));
    return a;
  }

  /** A 32-bit field of the CPU state. */
  #field(offset: number): V32 {
    return this.#node("i32", [], () => {
      this.frame.asm.get(this.frame.cpu).mem("i32.load", offset);
    }, { pinned: true });
  }
  /** A field that does not change while generated code runs. */
  #steady(offset: number): V32 {
    const { frame } = this;
    if (frame.steadyField === undefined) return this.#field(offset);
    return this.#node("i32", [], () => frame.asm.get(frame.steadyField?.(offset) as number), {
      repeat: true,
    });
  }
  #setField(offset: number, value: Value): void {
    const node = this.#use(value);
    this.#run(() => {
      this.frame.asm.get(this.frame.cpu);
      this.#push(node);
      this.frame.asm.mem(node.type === "i64" ? "i64.store" : "i32.store", offset);
    });
  }
  nzcv(): V32 {
    const { flags } = this.frame;
    if (flags === undefined) return this.#field(O.nzcv);
    return this.#node("i32", [], () => flags.push(), { pinned: true });
  }
  setNzcv(value: V32): void {
    const { flags } = this.frame;
    if (flags === undefined) return this.#setField(O.nzcv, value);
    const node = this.#use(value);
    this.#run(() => flags.setPacked(() => this.#push(node)));
  }
  condition(mask: V32): V32 {
    const { flags } = this.frame;
    const { value } = mask as unknown as Node;
    if (flags !== undefined && value !== undefined) {
      return this.#node("i32", [], () => flags.pushCondition(Number(value)), { pinned: true });
    }
    return this.and(this.shrU(mask, this.nzcv()), this.c32(1));
  }

  pc(): V64 {
    return this.#node("i64", [], () => this.frame.pushPc());
  }
  branch(offset: V64, kind: BranchKind = "jump"): void {
    const short = this.#use(this.wrap(offset));
    const long = this.#use(offset);
    this.#run(() => {
      this.frame.branchBy({
        offset32: () => this.#push(short),
        offset64: () => this.#push(long),
        value: long.value,
      }, kind);
    });
    this.#closed = true;
  }
  branchIf(condition: V32, offset: V64): void {
    this.when(condition, () => this.branch(offset));
  }
  branchTo(target: V64, kind: BranchKind): void {
    const node = this.#use(target);
    this.#run(() => {
      this.#push(node);
      const local = this.frame.temporary(I64);
      this.frame.asm.set(local);
      this.frame.branchTo(local, kind);
    });
    this.#closed = true;
  }

  /** Leaves to the evaluator unless `condition`. */
  #require(condition: V32): void {
    this.when(this.isZero(condition), () => this.#run(() => this.frame.leave(EXIT.SLOW)), false);
  }
  #slow(): void {
    this.#run(() => this.frame.leave(EXIT.SLOW));
    this.#closed = true;
  }

  checkSp(base: V64): void {
    const { frame } = this;
    const { register, base: slot } = base as unknown as Node;
    const isSp = register && slot === SP;
    if (isSp && frame.spAligned) return;
    this.#require(this.isZero(this.and(this.wrap(base), this.#steady(O.spAlignMask))));
    // Under a condition it may not have been looked at.
    if (isSp && frame.spAligned === false && !this.#conditional) frame.spAligned = true;
  }
  /** SP is written: whether it stays aligned. */
  #moveSp(value: Node): void {
    const { node, offset } = sumOf(value);
    const same = node.register && node.base === SP && offset % 16 === 0;
    if (!same) this.frame.spAligned = false;
  }

  /**
   * Looks `address` up and returns where in the memory it is; leaves on a miss. `aligned`: the access must be
   * aligned to it always (`strict`) or where alignment is checked. What lies a little behind the address
   * looked up last in this instruction is looked up with it.
   */
  #translate(
    address: V64,
    access: 0 | 1,
    span: number,
    aligned: number,
    strict: boolean,
    unprivileged: boolean,
  ): Place {
    const node = address as unknown as Node;
    const last = this.#translation;
    if (
      last?.access === access && last.aligned === aligned && !strict && !last.strict &&
      last.unprivileged === unprivileged
    ) {
      const offset = distance(last.address, node);
      if (offset >= 0 && offset % aligned === 0 && offset + span <= MAX_SPAN) {
        last.span = Math.max(last.span, offset + span);
        return { at: last.at, offset };
      }
    }
    const va = this.#use(address);
    const at: V32 = this.#node("i32", [], () => this.#emitTranslation(translation, va), {
      pinned: true,
    });
    const translation = { address: node, access, span, aligned, strict, unprivileged, at };
    this.#translation = translation;
    return { at, offset: 0 };
  }

  #emitTranslation(t: Translation, va: Node): void {
    const { frame } = this;
    const { asm } = frame;
    const a = frame.temporary(I64);
    this.#push(va);
    asm.set(a);
    const cache = t.strict || t.unprivileged || t.span > MAX_SPAN
      ? undefined
      : frame.pageCache?.(va.base ?? NO_BASE, t.access);
    if (cache === undefined) {
      const entry = this.#lookUp(t, a, t.aligned);
      asm.get(a).op("i32.wrap_i64").get(entry).mem("i32.load", DATA_TLB.ADDEND).op("i32.add");
      return;
    }
    const { tag, addend, limit } = cache;
    asm.get(a).get(tag).op("i64.sub").get(limit).op("i64.ge_u").if("if", false);
    const entry = this.#lookUp(t, a, 1);
    asm.get(a).i64(-4096n).op("i64.and").set(tag);
    asm.i64(PAGE_LIMIT).set(limit);
    asm.get(entry).mem("i32.load", DATA_TLB.ADDEND).set(addend);
    asm.end();
    asm.get(a).op("i32.wrap_i64").get(addend).op("i32.add");
  }

  /** Leaves unless the TLB has the page of the address in local `a`. The local of its entry. */
  #lookUp(t: Translation, a: number, aligned: number): number {
    const { frame } = this;
    const { asm } = frame;
    const entry = frame.temporary(I32);
    if (t.unprivileged) asm.get(frame.cpu).mem("i32.load", O.tlbUnprivileged);
    else frame.pushTlb();
    asm.get(a).i64(12n).op("i64.shr_u").op("i32.wrap_i64").i32(DATA_TLB_ENTRIES - 1)
      .op("i32.and").i32(Math.log2(DATA_TLB_ENTRY)).op("i32.shl").op("i32.add").tee(entry);
    asm.mem("i64.load", t.access === ACCESS.READ ? DATA_TLB.READ_TAG : DATA_TLB.WRITE_TAG);
    asm.get(a);
    if (t.span > 1) asm.i64(BigInt(t.span - 1)).op("i64.add");
    asm.i64(-4096n).op("i64.and");
    if (aligned > 1) {
      asm.get(a).i64(BigInt(aligned - 1)).op("i64.and");
      if (!t.strict) {
        frame.pushAlignMask();
        asm.op("i64.and");
      }
      asm.op("i64.or");
    }
    asm.op("i64.ne").if("if", false);
    frame.miss(a, t.access | (t.unprivileged ? UNPRIVILEGED_ACCESS : 0), t.span);
    asm.end();
    return entry;
  }

  #place(
    address: V64,
    access: 0 | 1,
    size: number,
    options: AccessOptions,
    strict = options.ordered ?? false,
  ): Place {
    const aligned = options.aligned ?? size;
    return this.#translate(address, access, size, aligned, strict, options.unprivileged ?? false);
  }
  /** The place of an access that is not made together with others. */
  #address(address: V64, access: 0 | 1, size: number, options: AccessOptions): V32 {
    return this.#place(address, access, size, options, true).at;
  }
  #loadAt(at: V32, size: AccessSize, offset = 0, ordered = false): V64 {
    const node = this.#use(at);
    const value: V64 = this.#node("i64", [], () => {
      this.#push(node);
      if (ordered) atomicLoad(this.frame.asm, size);
      else this.frame.asm.mem(LOAD[size], offset);
    }, { pinned: true, pure: !ordered });
    if (!ordered) (value as unknown as Node).loadOf = { at, offset, size };
    return value;
  }
  /** Whether the access is to be an atomic one: what is ordered is aligned. */
  #ordered(options: AccessOptions): boolean {
    return this.parallel && (options.ordered ?? false);
  }
  load(address: V64, size: AccessSize, options: AccessOptions = {}): V64 {
    if (this.#ordered(options)) {
      return this.#loadAt(this.#address(address, ACCESS.READ, size, options), size, 0, true);
    }
    const { at, offset } = this.#place(address, ACCESS.READ, size, options);
    return this.#loadAt(at, size, offset);
  }
  store(address: V64, size: AccessSize, value: V64, options: AccessOptions = {}): void {
    if (this.#ordered(options)) {
      return this.#storeAt(
        this.#address(address, ACCESS.WRITE, size, options),
        size,
        value,
        0,
        true,
      );
    }
    const { at, offset } = this.#place(address, ACCESS.WRITE, size, options);
    this.#storeAt(at, size, value, offset);
  }

  #openMonitor(at: V32, size: number, lo: V64, hi: V64): void {
    this.#setField(O.monitorOpen, this.c32(1));
    this.#setField(O.monitorSize, this.c32(size));
    this.#setField(O.monitorAt, this.zext(at));
    this.#setField(O.monitorLo, lo);
    this.#setField(O.monitorHi, hi);
  }
  loadExclusive(address: V64, size: AccessSize, options: AccessOptions = {}): V64 {
    const at = this.#address(address, ACCESS.READ, size, options);
    const value = this.#loadAt(at, size, 0, this.#ordered(options));
    this.#openMonitor(at, size, value, this.c64(0));
    return value;
  }
  loadExclusivePair(address: V64, size: 4 | 8, options: AccessOptions = {}): readonly [V64, V64] {
    const at = this.#address(address, ACCESS.READ, 2 * size, options);
    if (size === 4) {
      const both = this.#loadAt(at, 8, 0, this.#ordered(options));
      this.#openMonitor(at, 8, both, this.c64(0));
      return [this.zext(this.wrap(both)), this.shrU(both, this.c64(32))];
    }
    return this.#alone(() => {
      const pair = [this.#loadAt(at, 8), this.#loadAt(at, 8, 8)] as const;
      this.#openMonitor(at, 16, pair[0], pair[1]);
      return pair;
    });
  }
  /** What `make` emits excludes other 16-byte accesses, and may not leave. */
  #alone<T>(make: () => T): T {
    if (!this.parallel) return make();
    this.#run(() => lockPair(this.frame.asm));
    const result = make();
    this.#run(() => unlockPair(this.frame.asm));
    return result;
  }
  #field64(offset: number): V64 {
    return this.#node("i64", [], () => {
      this.frame.asm.get(this.frame.cpu).mem("i64.load", offset);
    }, { pinned: true });
  }
  /** Whether the open monitor is over `size` bytes at `at`; closes it. */
  #takeMonitor(at: V32, size: number): V32 {
    const same = this.and(
      this.eq(this.#field(O.monitorSize), this.c32(size)),
      this.eq(this.wrap(this.#field64(O.monitorAt)), at),
    );
    const held = this.and(this.#field(O.monitorOpen), same);
    this.clearExclusive();
    return held;
  }
  /** A V32 that `when` bodies may change. */
  #variable(initial: number): { get: V32; set: (value: V32) => void } {
    let local = -1;
    const asm = this.frame.asm;
    this.#run(() => {
      local = this.frame.temporary(I32);
      asm.i32(initial).set(local);
    });
    const set = (value: V32): void => {
      const node = this.#use(value);
      this.#run(() => {
        this.#push(node);
        asm.set(local);
      });
    };
    return { get: this.#node("i32", [], () => asm.get(local), { repeat: true }), set };
  }
  storeExclusive(address: V64, size: AccessSize, value: V64, options: AccessOptions = {}): V32 {
    const at = this.#address(address, ACCESS.WRITE, size, options);
    const status = this.#variable(1);
    const seen = this.#field64(O.monitorLo);
    this.when(this.#takeMonitor(at, size), () => {
      const nodes = [at, seen, value].map((v) => this.#use(v));
      const cut: V64 = size === 8
        ? value
        : this.and(value, this.c64((1n << BigInt(8 * size)) - 1n));
      const cutNode = this.#use(cut);
      const old: V64 = this.#node("i64", [], () => {
        this.#push(nodes[0] as Node);
        this.#push(nodes[1] as Node);
        this.#push(cutNode);
        this.frame.asm.cmpxchg(size);
      }, { pinned: true });
      status.set(this.ne(old, seen));
    });
    return status.get;
  }
  storeExclusivePair(
    address: V64,
    size: 4 | 8,
    values: readonly [V64, V64],
    options: AccessOptions = {},
  ): V32 {
    if (size === 4) {
      return this.storeExclusive(address, 8, this.#joined(values), options);
    }
    const at = this.#address(address, ACCESS.WRITE, 16, options);
    const status = this.#variable(1);
    this.#alone(() => {
      const unchanged = this.and(
        this.eq(this.#loadAt(at, 8), this.#field64(O.monitorLo)),
        this.eq(this.#loadAt(at, 8, 8), this.#field64(O.monitorHi)),
      );
      this.when(this.and(this.#takeMonitor(at, 16), unchanged), () => {
        values.forEach((value, i) => this.#storeAt(at, 8, value, 8 * i));
        status.set(this.c32(0));
      });
    });
    return status.get;
  }
  clearExclusive(): void {
    this.#setField(O.monitorOpen, this.c32(0));
  }

  #storeAt(at: V32, size: AccessSize, value: V64, offset = 0, ordered = false): void {
    const { lowOf } = value as unknown as Node;
    if (lowOf && !ordered && 8 * size <= lowOf.bits && size >= 4) {
      return this.#storeNumber(size === 8 ? "f64" : "f32", at, lowOf.slot, offset);
    }
    const nodes = [at, value].map((v) => this.#use(v)) as [Node, Node];
    this.#run(() => {
      this.#push(nodes[0]);
      this.#push(nodes[1]);
      if (ordered) atomicStore(this.frame.asm, size);
      else this.frame.asm.mem(STORE[size], offset);
    });
  }
  /** Stores the lowest bits of a vector register. */
  #storeNumber(type: "f32" | "f64", at: V32, slot: Slot, offset: number): void {
    const nodes = [at, this.#register(type, slot, type)].map((v) => this.#use(v)) as [Node, Node];
    this.#run(() => {
      this.#push(nodes[0]);
      this.#push(nodes[1]);
      this.frame.asm.mem(`${type}.store`, offset);
    });
  }
  /** The low `size` bytes of a value, extended to 64 bits. */
  #cut(value: V64, size: AccessSize, signed = false): V64 {
    if (size === 8) return value;
    if (signed) return this.signExtend(value, (8 * size) as 8 | 16 | 32);
    return this.and(value, this.c64((1n << BigInt(8 * size)) - 1n));
  }
  /**
   * Atomic accesses are plain ones while one thread runs all CPUs. A page whose write tag hits can be
   * read, too.
   */
  atomic(op: AtomicOp, address: V64, size: AccessSize, operand: V64): V64 {
    const at = this.#address(address, ACCESS.WRITE, size, {});
    if (this.parallel) return this.#atomicAt(op, at, size, operand);
    const old = this.#loadAt(at, size);
    this.#storeAt(at, size, this.#updated(op, old, operand, size));
    return old;
  }
  #atomicAt(op: AtomicOp, at: V32, size: AccessSize, operand: V64): V64 {
    const nodes = [at, operand].map((v) => this.#use(v)) as [Node, Node];
    return this.#node("i64", [], () => {
      const { frame } = this;
      const locals = [frame.temporary(I32), frame.temporary(I64)] as const;
      nodes.forEach((node, i) => {
        this.#push(node);
        frame.asm.set(locals[i] as number);
      });
      atomicUpdate(frame.asm, op, size, ...locals, (type) => frame.temporary(type));
    }, { pinned: true });
  }
  /** The old value, where `value` (its low bytes) is stored if it is `expected`. */
  #compareExchange(at: V32, size: AccessSize, expected: V64, value: V64): V64 {
    const cut = [this.#cut(expected, size), this.#cut(value, size)];
    const nodes = [at, ...cut].map((v) => this.#use(v));
    return this.#node("i64", [], () => {
      for (const node of nodes) this.#push(node);
      this.frame.asm.cmpxchg(size);
    }, { pinned: true });
  }
  #updated(op: AtomicOp, old: V64, operand: V64, size: AccessSize): V64 {
    const signed = op === "smax" || op === "smin";
    const x = this.#cut(old, size, signed), y = this.#cut(operand, size, signed);
    switch (op) {
      case "swap":
        return operand;
      case "add":
        return this.add(old, operand);
      case "clear":
        return this.and(old, this.not(operand));
      case "xor":
        return this.xor(old, operand);
      case "set":
        return this.or(old, operand);
      case "smax":
        return this.select(this.ltS(x, y), operand, old);
      case "smin":
        return this.select(this.ltS(x, y), old, operand);
      case "umax":
        return this.select(this.ltU(x, y), operand, old);
      case "umin":
        return this.select(this.ltU(x, y), old, operand);
    }
  }
  compareAndSwap(address: V64, size: AccessSize, expected: V64, value: V64): V64 {
    const at = this.#address(address, ACCESS.WRITE, size, {});
    if (this.parallel) return this.#compareExchange(at, size, expected, value);
    const old = this.#loadAt(at, size);
    const same = this.eq(old, this.#cut(expected, size));
    this.#storeAt(at, size, this.select(same, value, old));
    return old;
  }
  compareAndSwapPair(
    address: V64,
    size: 4 | 8,
    expected: readonly [V64, V64],
    values: readonly [V64, V64],
  ): readonly [V64, V64] {
    const at = this.#address(address, ACCESS.WRITE, 2 * size, {});
    if (this.parallel) return this.#swapPairAt(at, size, expected, values);
    const old = [this.#loadAt(at, size), this.#loadAt(at, size, size)] as const;
    const same = this.and(
      this.eq(old[0], this.#cut(expected[0], size)),
      this.eq(old[1], this.#cut(expected[1], size)),
    );
    this.#storeAt(at, size, this.select(same, values[0], old[0]));
    this.#storeAt(at, size, this.select(same, values[1], old[1]), size);
    return old;
  }
  #swapPairAt(
    at: V32,
    size: 4 | 8,
    expected: readonly [V64, V64],
    values: readonly [V64, V64],
  ): readonly [V64, V64] {
    if (size === 4) {
      const [from, to] = [this.#joined(expected), this.#joined(values)];
      const both = this.#compareExchange(at, 8, from, to);
      return [this.zext(this.wrap(both)), this.shrU(both, this.c64(32))];
    }
    return this.#alone(() => {
      const old = [this.#loadAt(at, 8), this.#loadAt(at, 8, 8)] as const;
      const same = this.and(this.eq(old[0], expected[0]), this.eq(old[1], expected[1]));
      this.when(same, () => values.forEach((value, i) => this.#storeAt(at, 8, value, 8 * i)));
      return old;
    });
  }
  /** Two words as one doubleword. */
  #joined([low, high]: readonly [V64, V64]): V64 {
    return this.or(this.zext(this.wrap(low)), this.shl(high, this.c64(32)));
  }
  prefetch(_address: V64): void {}

  get usualFp(): boolean {
    return this.frame.usualFp ?? false;
  }
  fpAccess(): void {
    if (this.usualFp) return;
    this.#require(this.#steady(O.fpEnabled));
  }
  v(slot: Slot, half: 0 | 1): V64 {
    const low = half === 0 && !upperHalf(slot);
    const value: V64 = this.#register("i64", slot, low ? "low" : "high");
    if (low) (value as unknown as Node).lowOf = { slot, bits: 64 };
    return value;
  }
  setV(slot: Slot, low: V64, high: V64): void {
    const { bitsOf } = low as unknown as Node;
    if ((high as unknown as Node).value === 0n && !upperHalf(slot)) {
      if (bitsOf === undefined) return this.setQ(slot, this.v128(low, high));
      return this.#setRegister(slot, bitsOf.type as "f32" | "f64", bitsOf);
    }
    this.#setRegister(slot, "low", low);
    this.#setRegister(slot, "high", high);
  }

  q(slot: Slot): V128 {
    return this.#register("v128", slot, "q");
  }
  setQ(slot: Slot, value: V128): void {
    this.#setRegister(slot, "q", value);
  }
  fpcr(): V32 {
    if (this.usualFp) return this.c32(0);
    return this.#field(O.fpcr);
  }
  fpsr(): V32 {
    return this.#field(O.fpsr);
  }
  raiseFpsr(bits: V32): void {
    this.#setField(O.fpsr, this.or(this.#field(O.fpsr), bits));
  }

  #vectorNode(args: AnyValue[], op: () => void): V128 {
    return this.#node("v128", args, () => {
      for (const a of args) this.#push(a);
      op();
    });
  }
  c128(low: bigint, high: bigint): V128 {
    return this.#node("v128", [], () => this.frame.asm.v128(low, high), { repeat: true });
  }
  v128(low: V64, high: V64): V128 {
    const { loadOf } = low as unknown as Node;
    if ((high as unknown as Node).value !== 0n) {
      return this.withLane(64, this.splat(64, low), 1, high);
    }
    if (loadOf === undefined || loadOf.size < 4) {
      return this.withLane(64, this.c128(0n, 0n), 0, low);
    }
    const { at, offset, size } = loadOf;
    const place = this.#use(at);
    return this.#node("v128", [], () => {
      this.#push(place);
      this.frame.asm.vectorMem(size === 8 ? "load64_zero" : "load32_zero", offset);
    }, { pinned: true });
  }
  vector(op: VectorUnary | VectorBinary | VectorShift, a: V128, b?: V128 | V32): V128 {
    return this.#vectorNode(b ? [a, b] : [a], () => this.frame.asm.vector(op));
  }
  vectorTest(op: VectorTest, a: V128): V32 {
    return this.#node("i32", [a], () => {
      this.#push(a);
      this.frame.asm.vector(op);
    });
  }
  bitselect(mask: V128, a: V128, b: V128): V128 {
    return this.#vectorNode([a, b, mask], () => this.frame.asm.vector("v128.bitselect"));
  }
  shuffle(lanes: readonly number[], a: V128, b: V128): V128 {
    return this.#vectorNode([a, b], () => this.frame.asm.shuffle(lanes));
  }
  /** A value as the lane instructions take it. */
  #laneValue(bits: LaneBits, value: V64): Value {
    return bits === 64 ? value : this.wrap(value);
  }
  splat(bits: LaneBits, value: V64): V128 {
    return this.#vectorNode([this.#laneValue(bits, value)], () => this.frame.asm.splat(bits));
  }
  lane(bits: LaneBits, a: V128, index: number): V64 {
    return this.#node("i64", [a], () => {
      this.#push(a);
      this.frame.asm.extractLane(bits, index);
      if (bits !== 64) this.frame.asm.op("i64.extend_i32_u");
    });
  }
  withLane(bits: LaneBits, a: V128, index: number, value: V64): V128 {
    return this.#vectorNode(
      [a, this.#laneValue(bits, value)],
      () => this.frame.asm.replaceLane(bits, index),
    );
  }
  loadQ(address: V64, options: AccessOptions = {}): V128 {
    const { at, offset } = this.#place(address, ACCESS.READ, 16, options);
    const place = this.#use(at);
    return this.#node("v128", [], () => {
      this.#push(place);
      this.frame.asm.vectorMem("load", offset);
    }, { pinned: true });
  }
  storeQ(address: V64, value: V128, options: AccessOptions = {}): void {
    const { at, offset } = this.#place(address, ACCESS.WRITE, 16, options);
    const place = this.#use(at);
    const node = this.#use(value);
    this.#run(() => {
      this.#push(place);
      this.#push(node);
      this.frame.asm.vectorMem("store", offset);
    });
  }

  fp(operation: FpOperation, size: FpSize, ...operands: V64[]): V64 {
    const result = this.#fp.scalar(operation, size, operands);
    if (result === null) this.#slow();
    return result ?? this.c64(0);
  }
  fpVector(operation: FpOperation, size: FpSize, q: boolean, ...operands: V128[]): V128 {
    const result = this.#fp.vector(operation, size, q, operands);
    if (result === null) this.#slow();
    return result ?? this.c128(0n, 0n);
  }
  apply<T extends AnyValue>(type: T["type"], op: OpName, ...operands: AnyValue[]): T {
    return this.#apply(type, op, ...operands);
  }
  float(type: "f32" | "f64", value: number): Float {
    return this.#node(type, [], () => this.frame.asm[type](value), { repeat: true });
  }
  require(condition: V32): void {
    this.#require(condition);
  }

  #requireInline(r: Inline, from: 0 | 1): void {
    const el = this.#field(O.el);
    if (r.onlyEl1) this.#require(this.eq(el, this.c32(1)));
    else if (from === 1) this.#require(el);
    if (r.spsel) this.#require(this.#field(O.spsel));
    if (r.unlessHcr !== undefined) this.#requireUntrapped(r.unlessHcr);
    if (r.fp) this.#require(this.#field(O.fpEnabled));
  }
  /** Leaves where a bit of `mask` in HCR_EL2 is set: whether it traps is for the evaluator to say. */
  #requireUntrapped(mask: number): void {
    const hcr = this.#field(sysregOffset(sysreg("HCR_EL2").index));
    this.#require(this.isZero(this.and(hcr, this.c32(mask))));
  }
  mrs(key: number, to: Slot): void {
    const r = INLINE.get(key);
    if (!r) return this.#slow();
    this.#requireInline(r, r.readFrom);
    const value = r.size === 8
      ? this.#field64(r.offset)
      : this.zext(this.shl(this.#field(r.offset), this.c32(r.shift)));
    this.setX(to, value);
  }
  msr(key: number, value: V64): void {
    if (key === sysreg("NZCV").key) {
      this.setNzcv(this.and(this.shrU(this.wrap(value), this.c32(28)), this.c32(15)));
      return;
    }
    if (key === sysreg("FPSR").key) {
      // IXC may be cleared.
      if (this.usualFp) return this.#slow();
      this.#require(this.#field(O.fpEnabled));
      return this.#setField(O.fpsr, this.and(this.wrap(value), this.c32(FPSR_MASK)));
    }
    if (key === sysreg("DAIF").key) {
      const daif = this.and(this.shrU(this.wrap(value), this.c32(6)), this.c32(15));
      return this.#writeDaif(() => daif);
    }
    const r = INLINE.get(key);
    if (!r || r.writeFrom === undefined) return this.#slow();
    this.#requireInline(r, r.writeFrom);
    this.#setField(r.offset, value);
  }
  #writeDaif(next: (old: V32) => V32): void {
    const el = this.#field(O.el);
    this.#require(el);
    this.#setField(O.daif, next(this.#field(O.daif)));
    this.when(this.#field(O.checkIrq), () => {
      this.#run(() => this.frame.leaveRetired(EXIT.IRQ));
    });
  }
  msrImmediate(op1: number, op2: number, immediate: V32): void {
    if (op1 === 3 && op2 === 6) this.#writeDaif((old) => this.or(old, immediate));
    else if (op1 === 3 && op2 === 7) {
      this.#writeDaif((old) => this.and(old, this.not(immediate)));
    } else this.#slow();
  }
  /** What an ISB synchronises has had its effect at once, but for code that is not cached. */
  barrier(kind: Barrier): void {
    if (kind === "isb") this.#require(this.isZero(this.#field(O.fetchUncached)));
    else if (this.parallel) this.#fence(kind);
  }
  /** Maintenance that other CPUs have not seen completed is waited for by a DSB. */
  #fence(kind: Barrier): void {
    if (kind === "dsb") this.#require(this.isZero(this.#field(O.maintenance)));
    this.#run(() => this.frame.asm.fence());
  }
  hint(kind: Hint): void {
    if (kind !== "nop" && kind !== "yield") this.#slow();
  }
  exceptionCall(_call: ExceptionCall, _immediate: V32): void {
    this.#slow();
  }
  sys(key: number, value: V64): void {
    const cleaningTrap = CLEANING.get(key);
    if (key === DC_ZVA) this.#zeroBlock(value);
    else if (cleaningTrap !== undefined) this.#clean(value, cleaningTrap);
    else this.#slow();
  }
  /** DC by address above EL0. */
  #clean(address: V64, trap: number): void {
    this.#require(this.#field(O.el));
    this.#requireUntrapped(trap);
    this.#translate(address, ACCESS.READ, 1, 1, false, false);
  }
  /** DC ZVA above EL0 on Normal memory, unless HCR_EL2.TDZ may trap it. */
  #zeroBlock(address: V64): void {
    this.#require(this.#field(O.el));
    this.#require(this.isZero(this.#field(O.alignMask)));
    this.#requireUntrapped(HCR.TDZ);
    const start = this.and(address, this.c64(-BigInt(ZVA_BYTES)));
    const at = this.#use(this.#translate(start, ACCESS.WRITE, ZVA_BYTES, 1, false, false).at);
    this.#run(() => {
      for (let offset = 0; offset < ZVA_BYTES; offset += 8) {
        this.#push(at);
        this.frame.asm.i64(0n).mem("i64.store", offset);
      }
    });
  }
  sysl(_key: number, _to: Slot): void {
    this.#slow();
  }
  eret(): void {
    this.#slow();
  }
  undefined(): void {
    this.#slow();
  }
}
