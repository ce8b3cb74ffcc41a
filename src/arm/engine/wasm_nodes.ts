/**
 * The builder that turns a row's semantics into WebAssembly. Values are nodes of a graph; effects and
 * reads of state are statements in the order the semantics made them. When the semantics has run, each
 * node's number of uses is known: what is used once is emitted in place, what is used more often, or
 * reads state that a later effect may change, goes through a local.
 *
 * It is a chain of classes, one for each kind of operation: nodes and registers here, then arithmetic,
 * flags and control, memory, exclusives and atomics, vectors; the last is in wasm_builder.ts.
 */
import { gprOffset, SLOT } from "../arch/cpu_state.ts";
import type { AccessSize, Slot, V128, V32, V64, Value } from "../isa/builder.ts";
import type { LaneBits, VectorShift } from "../isa/vector_ops.ts";
import type { NumberPart, ResultCheck } from "./fp_checks.ts";
import type { Float } from "./fp_kinds.ts";
import {
  F32,
  F64,
  I32,
  I64,
  type OpName,
  V128 as V128_TYPE,
  type ValType,
} from "./wasm_assembler.ts";
import type { Frame, RegisterPart, WrittenPart } from "./wasm_frame.ts";

const SP = gprOffset(SLOT.SP);

export type NodeType = "i32" | "i64" | "f32" | "f64" | "v128";
export type AnyValue = Value | Float;

const LOCAL_TYPE: Readonly<Record<NodeType, ValType>> = {
  i32: I32,
  i64: I64,
  f32: F32,
  f64: F64,
  v128: V128_TYPE,
};

export interface Node {
  readonly type: NodeType;
  uses: number;
  local: number;
  /** Reads state: must be evaluated where it was made. */
  readonly pinned: boolean;
  /** Cheap enough to emit at every use. */
  readonly repeat: boolean;
  readonly emit: () => void;
  /** What it is made of. */
  readonly args: readonly Node[];
  readonly value?: bigint;
  /** The number that it is, not a NaN. */
  readonly number?: number;
  readonly recordOffset?: number;
  /** It is the sum of a node and a constant, or a register. */
  sumOf?: { readonly node: Node; readonly offset: number };
  /** Of its uses nothing remains, it need not be made. */
  readonly pure?: boolean;
  /** It is what the lowest `bits` of a vector register hold. */
  lowOf?: { readonly slot: Slot; readonly bits: 32 | 64 };
  /** Its lowest bits are those of a vector register from bit `at` on, to the end of the half. */
  partOf?: { readonly slot: Slot; readonly at: number };
  /** The vector constant that it is. */
  vector?: { readonly low: bigint; readonly high: bigint };
  /** The value of which all its lanes are the low `bits`. */
  splatOf?: { readonly bits: LaneBits; readonly value: V64 };
  /** It is a vector with its lanes shifted by a constant. */
  shiftedLanes?: { readonly op: VectorShift; readonly of: V128; readonly by: number };
  /** The register that it is, and how it was read. */
  readonly read?: { readonly offset: number; readonly part: RegisterPart };
  /** It is what a load found. */
  loadOf?: { readonly at: V32; readonly offset: number; readonly size: AccessSize };
  /** The number whose bits it is, or the vector whose lowest bits it is. */
  bitsOf?: Float;
  /** It is the number of `bits` in the lowest bits of a vector register with its sign cleared or changed. */
  signOf?: {
    readonly op: "abs" | "neg";
    readonly slot: Slot;
    readonly bits: 32 | 64;
    readonly zeroFrom: readonly number[] | undefined;
  };
  /** It is a vector that is 0 from this bit on. */
  zeroFromBit?: 32 | 64;
  /** It is the result of an operation on the low lanes of vectors whose upper lanes do not matter. */
  low?: LowLanes;
  /** It is the flags that the comparison of two numbers gives. */
  compared?: readonly [Float, Float];
  /** It is a value shifted left by a constant. */
  shifted?: { readonly of: AnyValue; readonly by: number };
  /** The two that it is the sum, or the difference, of. */
  sum?: readonly [Node, Node];
  difference?: readonly [Node, Node];
  /** The two of which it has all bits. */
  either?: readonly [Node, Node];
  /** It is a vector with the low bits of a value in one lane. */
  laneSet?: {
    readonly bits: LaneBits;
    readonly index: number;
    readonly of: Node;
    readonly value: Node;
  };
  /** It is a value rotated right by a constant. */
  rotated?: { readonly of: AnyValue; readonly by: number };
  /** The register that it is made from, if it is an address, and whether it is its value. */
  base?: number;
  readonly register?: boolean;
}

export interface LowLanes {
  readonly bits: 32 | 64;
  readonly vector: V128;
  /** The registers from which it has zeros above, if they have, or nothing if it may not have. */
  readonly zeroFrom: readonly number[] | undefined;
}

/** What a part of a register is written with. */
export interface Write {
  readonly part: RegisterPart;
  readonly node: Node;
}

interface Unchecked {
  readonly node: Node;
  readonly size: 32 | 64;
  readonly normal: boolean;
  readonly from: readonly Node[];
}

/** What is looked at of a register that is read or written so. */
export function numberPart(part: RegisterPart): NumberPart {
  if (part === "s") return "f32";
  return part === "d" ? "f64" : part as NumberPart;
}

/** The node that is a constant apart from `node`, and the constant. */
export function sumOf(node: Node): { readonly node: Node; readonly offset: number } {
  return node.sumOf ?? { node, offset: 0 };
}

/** How far `to` lies behind `from`; NaN where that is not known. */
export function distance(from: Node, to: Node): number {
  const [a, b] = [sumOf(from), sumOf(to)];
  return a.node === b.node ? b.offset - a.offset : NaN;
}

type Statement =
  | { readonly let: Node }
  | { readonly run: () => void }
  | {
    readonly condition: Node;
    readonly then: Statement[];
    readonly likely: boolean | undefined;
  };

/** Nodes and statements, constants, and the state of the CPU. */
export abstract class NodeBuilder {
  protected statements: Statement[] = [];
  /** The semantics ended in a jump: nothing follows. */
  protected ended = false;
  /** Until it ends, the instruction has changed nothing but registers and flags. */
  restartable = true;
  /** The result whose check is put off, and what it is made of, until it is written to a register. */
  protected unchecked: Unchecked | undefined;
  /** That check, when it has been. */
  protected result: ResultCheck | undefined;
  /** What registers are written with; undefined: under a condition. */
  readonly writes = new Map<number, Write | undefined>();
  /** What is being made is under a condition. */
  protected conditional = false;

  /** `parallel`: other threads access the memory meanwhile. */
  constructor(readonly frame: Frame, readonly parallel = false) {}

  /** What `then` makes is executed only where `condition` is not 0. `likely`: what the compiler is told of it. */
  abstract when(condition: V32, then: () => void, likely?: boolean): void;

  /** The instruction does not fall through to the next. */
  get closed(): boolean {
    return this.ended;
  }

  /** Emits the handler's body. */
  emit(): void {
    this.#forgetUnused(this.statements);
    this.#emitAll(this.statements);
    if (!this.ended) this.frame.next();
  }

  /** What only nodes have used that are not used themselves is not made. */
  #forgetUnused(statements: readonly Statement[]): void {
    for (let i = statements.length - 1; i >= 0; i--) {
      const s = statements[i] as Statement;
      if ("condition" in s) this.#forgetUnused(s.then);
      else if ("let" in s && s.let.uses === 0 && (s.let.pure || !s.let.pinned)) {
        for (const arg of s.let.args) arg.uses--;
      }
    }
  }

  #emitAll(statements: Statement[]): void {
    const asm = this.frame.asm;
    for (const s of statements) {
      if ("run" in s) s.run();
      else if ("let" in s) this.#emitLet(s.let);
      else {
        const { condition, then, likely } = s;
        const body = () => {
          this.push(condition);
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

  protected push(value: AnyValue | Node): void {
    const node = value as unknown as Node;
    if (node.local >= 0) this.frame.asm.get(node.local);
    else node.emit();
  }

  protected use(v: AnyValue): Node {
    const node = v as unknown as Node;
    node.uses++;
    return node;
  }

  protected node(
    type: NodeType,
    args: AnyValue[],
    emit: () => void,
    more: Partial<Node> = {},
    // deno-lint-ignore no-explicit-any -- one maker for all value types; callers state which
  ): any {
    const used = args.map((a) => this.use(a));
    const plain = { type, uses: 0, local: -1, pinned: false, repeat: false, emit, args: used };
    const node: Node = { ...plain, ...more };
    if (!node.repeat) this.statements.push({ let: node });
    return node;
  }

  /** `again`: nothing is different if it is done twice from the beginning of the instruction. */
  protected run(run: () => void, again = false): void {
    if (!again) this.restartable = false;
    this.statements.push({ run });
  }

  // deno-lint-ignore no-explicit-any -- see node
  protected operation(type: NodeType, op: OpName, ...args: AnyValue[]): any {
    return this.node(type, args, () => {
      for (const a of args) this.push(a);
      this.frame.asm.op(op);
    });
  }

  c32(value: number): V32 {
    return this.node("i32", [], () => this.frame.asm.i32(value), {
      repeat: true,
      value: BigInt(value),
    });
  }
  c64(value: bigint | number): V64 {
    const v = BigInt(value);
    return this.node("i64", [], () => this.frame.asm.i64(v), { repeat: true, value: v });
  }

  // deno-lint-ignore no-explicit-any -- see node
  protected register(type: NodeType, slot: Slot, part: RegisterPart): any {
    const { offset } = slot as unknown as { offset: number };
    const more = part === "x"
      ? { pinned: true, pure: true, base: offset, register: true }
      : { pinned: true, pure: true, read: { offset, part } };
    return this.node(type, [], () => this.frame.registers.push(offset, part), more);
  }
  /** `zeroFrom`: see {@link RegisterAccess.set}. */
  protected setRegister(
    slot: Slot,
    part: WrittenPart,
    value: AnyValue,
    zeroFrom?: readonly number[],
  ): void {
    const { offset } = slot as unknown as { offset: number };
    const node = this.use(value);
    if (offset === SP && this.frame.spAligned) this.#moveSp(node);
    this.writes.set(offset, this.conditional ? undefined : { part, node });
    if (node === this.unchecked?.node) this.#noteResult(offset, part, this.unchecked);
    this.run(() => {
      this.frame.registers.set(offset, part, () => {
        this.push(node);
        if (node.type === "i32") this.frame.asm.op("i64.extend_i32_u");
      }, zeroFrom);
    }, true);
  }
  #noteResult(slot: number, written: RegisterPart, { size, normal, from }: Unchecked): void {
    const part = numberPart(written);
    // Two singles.
    if (part === "f64" && size === 32) return;
    const reads = from.flatMap(({ read }) =>
      read && numberPart(read.part) === part ? [read.offset] : []
    );
    this.result = { slot, part, size, normal, reads };
  }
  /** SP is written: whether it stays aligned. */
  #moveSp(value: Node): void {
    const { node, offset } = sumOf(value);
    const same = node.register && node.base === SP && offset % 16 === 0;
    if (!same) this.frame.spAligned = false;
  }
  x(slot: Slot): V64 {
    return this.register("i64", slot, "x");
  }
  xPair(slot: Slot): readonly [V64, V64] {
    return [this.register("i64", slot, "x"), this.register("i64", slot, "next")];
  }
  w(slot: Slot): V32 {
    return this.register("i32", slot, "w");
  }
  setX(slot: Slot, value: V64): void {
    this.setRegister(slot, "x", value);
  }
  setW(slot: Slot, value: V32): void {
    this.setRegister(slot, "x", value);
  }

  /** A 32-bit field of the CPU state. */
  protected field(offset: number): V32 {
    return this.node("i32", [], () => {
      this.frame.asm.get(this.frame.cpu).mem("i32.load", offset);
    }, { pinned: true });
  }
  protected field64(offset: number): V64 {
    return this.node("i64", [], () => {
      this.frame.asm.get(this.frame.cpu).mem("i64.load", offset);
    }, { pinned: true });
  }
  /** A field that does not change while generated code runs. */
  protected steady(offset: number): V32 {
    const { frame } = this;
    if (frame.steadyField === undefined) return this.field(offset);
    return this.node("i32", [], () => frame.asm.get(frame.steadyField?.(offset) as number), {
      repeat: true,
    });
  }
  protected setField(offset: number, value: Value): void {
    const node = this.use(value);
    this.run(() => {
      this.frame.asm.get(this.frame.cpu);
      this.push(node);
      this.frame.asm.mem(node.type === "i64" ? "i64.store" : "i32.store", offset);
    });
  }
  /** A V32 that `when` bodies may change. */
  protected variable(initial: number): { get: V32; set: (value: V32) => void } {
    let local = -1;
    const asm = this.frame.asm;
    this.run(() => {
      local = this.frame.temporary(I32);
      asm.i32(initial).set(local);
    });
    const set = (value: V32): void => {
      const node = this.use(value);
      this.run(() => {
        this.push(node);
        asm.set(local);
      });
    };
    return { get: this.node("i32", [], () => asm.get(local), { repeat: true }), set };
  }
}
