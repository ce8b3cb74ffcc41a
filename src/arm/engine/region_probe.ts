/**
 * What an instruction does to control, flags and registers: found by generating its code with a frame
 * that only watches, so that it cannot disagree with the code that is generated in earnest.
 */
import { CpuLayout, gprOffset, SLOT } from "../arch/cpu_state.ts";
import type { BranchKind } from "../isa/builder.ts";
import type { Consts, Decoded, Row, Shape, Slots } from "../isa/row.ts";
import { FunctionBody, I32, type ValType } from "./wasm_assembler.ts";
import type { ResultCheck } from "./fp_checks.ts";
import { type Linear, linearOf, type Moves } from "./linear.ts";
import type { BranchOffset, Frame, RegisterAccess, WrittenPart } from "./wasm_frame.ts";
import type { Put } from "./region_lanes.ts";
import type { Node, Write } from "./wasm_nodes.ts";
import { WasmBuilder } from "./wasm_builder.ts";
import { type DirectAccess, directAccess } from "./direct_registers.ts";
import { reachedInline } from "./inline_registers.ts";

/** An instruction of a region. */
export interface Instruction {
  readonly row: Row;
  readonly decoded: Decoded<Shape, Slots, Consts>;
}

/** The register of which a general register becomes a copy, or of its low 32 bits. */
function copiedFrom({ either, type }: Node): { from: number; bits: 32 | 64 } | undefined {
  const slotOf = ({ register, base, read, shifted }: Node): number | undefined => {
    if (shifted?.by === 0) return slotOf(shifted.of as unknown as Node);
    return register ? base : read?.part === "w" ? read.offset : undefined;
  };
  const [zero, from] = either?.map(slotOf) ?? [];
  if (zero !== ZERO || from === undefined) return undefined;
  return { from, bits: type === "i64" ? 64 : 32 };
}

function putTo(
  slot: number,
  { part, node }: Write,
  { translations }: WasmBuilder,
): Put | undefined {
  const { loadOf, laneSet, splatOf } = node;
  if (loadOf && part === "x") {
    const nth = translations.findIndex(({ place }) => place.at === loadOf.at);
    return { kind: "loaded", slot, nth, offset: loadOf.offset, size: loadOf.size };
  }
  if (laneSet && part === "q") {
    const { bits, index, of, value } = laneSet;
    const keeps = of.read?.offset === slot && of.read.part === "q";
    if (!keeps || !value.register || value.base === undefined) return undefined;
    return { kind: "lanes", slot, bits, first: index, count: 1, from: value.base, keeps };
  }
  if (splatOf) {
    const { register, base } = splatOf.value as unknown as Node;
    if (!register || base === undefined) return undefined;
    const { bits } = splatOf;
    const count = (part === "q" ? 128 : part === "d" ? 64 : 0) / bits;
    return { kind: "lanes", slot, bits, first: 0, count, from: base, keeps: false };
  }
  const copied = part === "x" ? copiedFrom(node) : undefined;
  return copied && { kind: "moved", slot, ...copied };
}

/** Bytes that an instruction accesses. */
export interface Access {
  /** In terms of registers before the instruction; undefined: it cannot be looked up with others. */
  readonly address: Linear | undefined;
  readonly access: 0 | 1;
  readonly span: number;
}

/** See {@link effectsOf}. */
export interface Effects {
  /** Never goes on to the next instruction by itself. */
  readonly closed: boolean;
  /** A branch to `pc + offset` (undefined: to an address that is computed). */
  readonly branch: { readonly offset: number | undefined; readonly kind: BranchKind } | undefined;
  /** Wants FP not to be trapped. */
  readonly usesFp: boolean;
  readonly readsFlags: boolean;
  /** Sets the flags whatever happens. */
  readonly setsFlags: boolean;
  /** Sets them only where a condition holds. */
  readonly setsFlagsConditionally: boolean;
  /** It may be executed again from its beginning until it has ended: it changes only registers and flags. */
  readonly restartable: boolean;
  /** Where FP is as usual: it leaves for some operands, and the check of its result that can be put off. */
  readonly checks: boolean;
  readonly result: ResultCheck | undefined;
  /** The addresses that it translates, in order. */
  readonly accesses: readonly Access[];
  /** What it writes to general registers, in terms of what registers were before it; undefined: something else. */
  readonly moves: Moves;
  /** Elements of the memory and lanes that it writes, see region_lanes.ts. */
  readonly puts: readonly Put[];
  /** Registers (offsets into the CPU state) that are touched, and those that are written. */
  readonly touched: ReadonlySet<number>;
  readonly written: ReadonlySet<number>;
  /** How vector registers are written, in this order. */
  readonly vectorWrites: readonly VectorWrite[];
  /** It is not compiled, but not the evaluator's either. */
  readonly access?: DirectAccess;
}

/** See {@link RegisterAccess.set}. */
export interface VectorWrite {
  readonly slot: number;
  readonly part: WrittenPart;
  readonly zeroFrom: readonly number[] | undefined;
}

const ZERO = gprOffset(SLOT.ZR);
const SINK = gprOffset(SLOT.SINK);

/** Whether the slot is a register with storage: neither the zero register nor where nothing is kept. */
export const isRegister = (slot: number): boolean => slot !== ZERO && slot !== SINK;
export const isZero = (slot: number): boolean => slot === ZERO;

/** Whether the slot is a vector register. */
export const isVector = (slot: number): boolean =>
  slot >= CpuLayout.offset.vreg && slot < CpuLayout.offset.vreg + 512;

/** Whether a region can have the instruction: all others are the evaluator's. */
export function isCompiled({ row, decoded }: Instruction): boolean {
  const key = decoded.shape["key"];
  return !row.slow && (typeof key !== "number" || reachedInline(key));
}

/** What only is watched is written here: nobody reads it. */
const UNREAD = new FunctionBody([I32], []);

class ProbeFrame implements Frame {
  readonly checks: "watched" | undefined;
  leaves = false;
  readonly asm = UNREAD.clear();
  readonly cpu = 0;
  readonly touched = new Set<number>();
  readonly written = new Set<number>();
  branch: Effects["branch"];
  usesFp = false;
  readsFlags = false;
  setsFlags = false;
  setsFlagsConditionally = false;
  #conditional = 0;

  constructor(readonly usualFp = false) {
    this.checks = usualFp ? "watched" : undefined;
  }

  readonly vectorWrites: VectorWrite[] = [];
  readonly registers: RegisterAccess = {
    lowParts: true,
    push: (slot, part) => {
      const register = part === "next" ? slot + 8 : slot;
      if (isRegister(register)) this.touched.add(register);
    },
    set: (slot, part, push, zeroFrom) => {
      push();
      if (!isRegister(slot)) return;
      if (isVector(slot)) this.vectorWrites.push({ slot, part, zeroFrom });
      this.touched.add(slot);
      this.written.add(slot);
    },
  };
  readonly flags = {
    set: (_kind: string, pushA: () => void, pushB: () => void): void => {
      pushA();
      pushB();
      this.#setsFlags();
    },
    compare: (_type: string, pushA: () => void, pushB: () => void): void => {
      pushA();
      pushB();
      this.#setsFlags();
    },
    push: (): void => {
      this.readsFlags = true;
    },
    setPacked: (push: () => void): void => {
      push();
      this.#setsFlags();
    },
    pushCondition: (_mask: number): void => {
      this.readsFlags = true;
    },
    conditional: (body: () => void): void => {
      this.#conditional++;
      body();
      this.#conditional--;
    },
  };

  #setsFlags(): void {
    if (this.#conditional > 0) this.setsFlagsConditionally = true;
    else this.setsFlags = true;
  }
  pushOperand(): void {}
  temporary(type: ValType): number {
    return this.asm.local(type);
  }
  steadyField(offset: number): number {
    if (offset === CpuLayout.offset.fpEnabled) this.usesFp = true;
    return 0;
  }
  pushTlb(): void {}
  pushAlignMask(): void {}
  pushPc(): void {}
  next(): void {}
  branchBy({ value }: BranchOffset, kind: BranchKind): void {
    this.branch = { offset: value === undefined ? undefined : Number(value), kind };
  }
  branchTo(_target: number, kind: BranchKind): void {
    this.branch = { offset: undefined, kind };
  }
  leave(): void {
    this.leaves = true;
  }
  leaveRetired(): void {}
  miss(): void {}
}

const CLOSED: Effects = {
  closed: true,
  branch: undefined,
  usesFp: false,
  readsFlags: false,
  setsFlags: false,
  setsFlagsConditionally: false,
  restartable: false,
  checks: false,
  result: undefined,
  accesses: [],
  moves: new Map(),
  puts: [],
  touched: new Set(),
  written: new Set(),
  vectorWrites: [],
};

function accessesOf({ translations }: WasmBuilder): Access[] {
  return translations.map(({ address, access, span, strict, unprivileged }) => ({
    address: strict || unprivileged ? undefined : linearOf(address),
    access,
    span,
  }));
}

/** General registers that are written, with what if that is known. */
function movesOf({ writes }: WasmBuilder, written: ReadonlySet<number>): Moves {
  const moves = new Map<number, Linear | undefined>();
  for (const slot of written) {
    const write = writes.get(slot);
    moves.set(slot, write?.part === "x" ? linearOf(write.node) : undefined);
  }
  return moves;
}

/** What it puts into registers, of which vectors may be made. */
function putsOf(builder: WasmBuilder): Put[] {
  return [...builder.writes].flatMap(([slot, write]) => write && putTo(slot, write, builder) || []);
}

function watch({ row, decoded }: Instruction, frame: Frame): WasmBuilder {
  const builder = new WasmBuilder(frame);
  row.semantics(builder, builder.constantOperands(decoded.slots, decoded.consts), decoded.shape);
  builder.emit();
  return builder;
}

function effectsOfAccess(access: DirectAccess): Effects {
  const { kind, slot } = access;
  const touched = new Set([slot].filter(isRegister));
  const written = kind === "write" ? new Set<number>() : touched;
  const moves = new Map([...written].map((to) => [to, undefined]));
  return { ...CLOSED, closed: false, touched, written, moves, access };
}

/**
 * What the instruction does; one that is the evaluator's ends a region and does nothing. `surrounded`: regions have
 * what {@link DirectAccess} wants.
 */
export function effectsOf(instruction: Instruction, surrounded = false): Effects {
  if (!isCompiled(instruction)) {
    const access = surrounded ? directAccess(instruction) : undefined;
    return access ? effectsOfAccess(access) : CLOSED;
  }
  const frame = new ProbeFrame();
  const builder = watch(instruction, frame);
  const { branch, usesFp, readsFlags, setsFlags, setsFlagsConditionally, touched, written } = frame;
  const { closed, restartable } = builder;
  const usual = new ProbeFrame(true);
  const result = usesFp ? watch(instruction, usual).resultCheck : undefined;
  return {
    closed,
    restartable,
    checks: usual.leaves || result !== undefined,
    result,
    accesses: accessesOf(builder),
    moves: movesOf(builder, written),
    puts: putsOf(builder),
    branch,
    usesFp,
    readsFlags,
    setsFlags,
    setsFlagsConditionally,
    touched,
    written,
    vectorWrites: (usesFp ? usual : frame).vectorWrites,
  };
}
