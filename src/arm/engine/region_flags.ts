/**
 * The flags within a region: the operands of the operation that set them last stay in two locals, and
 * N, Z, C and V are computed when something wants them. Which operation it was is known where the code
 * is generated, except behind a join whose flags nobody reads: there it is in a local, for the exits.
 * From one region to another all three go as they are, in the CPU state.
 */
import { CpuLayout } from "../arch/cpu_state.ts";
import { conditionMask } from "../isa/row.ts";
import { F32, F64, FunctionBody, I32, I64, type OpName } from "./wasm_assembler.ts";
import type { FlagAccess, FlagKind } from "./wasm_frame.ts";

/**
 * How the locals hold the flags; "packed": N, Z, C, V in bits 3 to 0 of the first. "joined": see the kind's local.
 * "f32", "f64": of a comparison of two numbers that are in locals of their own, within a block only.
 */
export type FlagState = FlagKind | "packed" | "joined" | "f32" | "f64";

const KINDS: readonly FlagState[] = [
  "packed",
  "sub32",
  "sub64",
  "add32",
  "add64",
  "logic32",
  "logic64",
];

const O = CpuLayout.offset;

/** See {@link RegionFlags.number}: three bits. */
const JOINED = 7;

/** Condition numbers by the set of flags they hold for; AL stands for NV too. */
const CONDITION_OF = new Map(Array.from({ length: 15 }, (_, cond) => [conditionMask(cond), cond]));

/** What compares the operands of a subtraction, by condition: MI, PL, VS and VC are not comparisons. */
const SUB_COMPARISON: Readonly<Record<number, string>> = {
  0: "eq",
  1: "ne",
  2: "ge_u",
  3: "lt_u",
  8: "gt_u",
  9: "le_u",
  10: "ge_s",
  11: "lt_s",
  12: "gt_s",
  13: "le_s",
};

/** What compares a logical result with zero, by condition; C and V are clear. */
const LOGIC_COMPARISON: Readonly<Record<number, string>> = {
  0: "eq",
  1: "ne",
  4: "lt_s",
  5: "ge_s",
  10: "ge_s",
  11: "lt_s",
  12: "gt_s",
  13: "le_s",
};

/** What compares a sum with zero, by condition. */
const ADD_COMPARISON: Readonly<Record<number, string>> = { 0: "eq", 1: "ne", 4: "lt_s", 5: "ge_s" };

/** What compares two numbers, by condition, and whether it says the opposite: so it is right for NaNs, too. */
const NUMBER_COMPARISON: Readonly<
  Record<number, readonly ["eq" | "ne" | "lt" | "le" | "ge" | "gt", boolean]>
> = {
  0: ["eq", false],
  1: ["ne", false],
  2: ["lt", true],
  3: ["lt", false],
  4: ["lt", false],
  5: ["lt", true],
  8: ["le", true],
  9: ["le", false],
  10: ["ge", false],
  11: ["ge", true],
  12: ["gt", false],
  13: ["gt", true],
};

/** The function (a, b, kind) -> N, Z, C, V that computes flags of which the kind is known at run time only. */
export function packFunction(): FunctionBody {
  const asm = new FunctionBody([I64, I64, I32], [I32]);
  const flags = new RegionFlags(asm, { a: 0, b: 1, kind: 2 }, -1);
  const labels = KINDS.map((kind) => `flags ${kind}`);
  for (const label of labels.toReversed()) asm.block(label);
  asm.get(2).brTable(labels, labels[0] as string);
  for (const kind of KINDS) {
    asm.end();
    flags.state = kind;
    flags.push();
    asm.return();
  }
  return asm.unreachable();
}

/** Calls {@link packFunction} (function `pack`) with the flags that the CPU state at local `cpu` has from a region. */
export function pushFlagsOfRegion(asm: FunctionBody, cpu: number, pack: number): void {
  asm.get(cpu).mem("i64.load", O.flagA).get(cpu).mem("i64.load", O.flagB);
  asm.get(cpu).mem("i32.load", O.flagKind).call(pack);
}

/** Gives a region the flags that the CPU state at local `cpu` has. */
export function giveFlagsToRegion(asm: FunctionBody, cpu: number): void {
  asm.get(cpu).get(cpu).mem("i32.load", O.nzcv).op("i64.extend_i32_u").mem("i64.store", O.flagA);
  asm.get(cpu).i32(KINDS.indexOf("packed")).mem("i32.store", O.flagKind);
}

interface FlagLocals {
  readonly a: number;
  readonly b: number;
  readonly kind: number;
}

export class RegionFlags implements FlagAccess {
  state: FlagState = "packed";
  readonly #a: number;
  readonly #b: number;
  readonly #kind: number;
  /** The numbers compared, by their type. */
  readonly #compared = new Map<"f32" | "f64", readonly [number, number]>();
  /** The instruction at hand sets flags only where a condition holds. */
  conditionally = false;

  /** `packer`: the module's {@link packFunction}. */
  constructor(readonly asm: FunctionBody, locals: FlagLocals, readonly packer: number) {
    this.#a = locals.a;
    this.#b = locals.b;
    this.#kind = locals.kind;
  }

  /** Takes them from the CPU state at local `cpu`. */
  load(cpu: number): void {
    const { asm } = this;
    asm.get(cpu).mem("i64.load", O.flagA).set(this.#a);
    asm.get(cpu).mem("i64.load", O.flagB).set(this.#b);
    asm.get(cpu).mem("i32.load", O.flagKind).set(this.#kind);
    this.state = "joined";
  }

  /** Writes them to the CPU state, when their kind is in its local (see {@link join}). */
  store(cpu: number): void {
    const { asm } = this;
    asm.get(cpu).get(this.#a).mem("i64.store", O.flagA);
    asm.get(cpu).get(this.#b).mem("i64.store", O.flagB);
    asm.get(cpu).get(this.#kind).mem("i32.store", O.flagKind);
  }

  /** Copies the operands to two other locals, or back. */
  save(a: number, b: number): void {
    this.asm.get(this.#a).set(a).get(this.#b).set(b);
  }
  restore(a: number, b: number): void {
    this.asm.get(a).set(this.#a).get(b).set(this.#b);
  }

  set(kind: FlagKind, pushA: () => void, pushB: () => void): void {
    const widen = () => {
      if (kind.endsWith("32")) this.asm.op("i64.extend_i32_u");
    };
    pushA();
    widen();
    this.asm.set(this.#a);
    if (!kind.startsWith("logic")) {
      pushB();
      widen();
      this.asm.set(this.#b);
    }
    this.state = kind;
  }

  compare(type: "f32" | "f64", pushA: () => void, pushB: () => void): void {
    const { asm } = this;
    const valType = type === "f32" ? F32 : F64;
    const locals = this.#compared.get(type) ?? [asm.local(valType), asm.local(valType)];
    this.#compared.set(type, locals);
    pushA();
    asm.set(locals[0]);
    pushB();
    asm.set(locals[1]);
    this.state = type;
  }

  setPacked(push: () => void): void {
    push();
    this.asm.op("i64.extend_i32_u").set(this.#a);
    this.state = "packed";
  }

  push(): void {
    this.#pushPacked(this.state);
  }

  conditional(body: () => void): void {
    if (this.conditionally) this.pack();
    body();
  }

  /** Computes the flags, so that they are packed. */
  pack(): void {
    if (this.state === "packed") return;
    this.push();
    this.asm.op("i64.extend_i32_u").set(this.#a);
    this.state = "packed";
  }

  /** Makes them what can be left with, or be met by code that does not know how they are held. */
  settle(): void {
    if (this.state === "f32" || this.state === "f64") this.pack();
  }

  /** Notes the kind where it is known only here, for code that can be reached with another one. */
  join(): void {
    const { state } = this;
    if (state === "joined") return;
    this.settle();
    this.asm.i32(KINDS.indexOf(this.state)).set(this.#kind);
    this.state = state;
  }

  #operand(local: number, width: string): void {
    this.asm.get(local);
    if (width === "i32") this.asm.op("i32.wrap_i64");
  }

  /** Pushes operand a, or a and b, in the width of `kind`, and returns the type. */
  #operands(kind: FlagState, both: boolean): "i32" | "i64" {
    const type = kind.endsWith("32") ? "i32" : "i64";
    this.#operand(this.#a, type);
    if (both) this.#operand(this.#b, type);
    return type;
  }

  #zero(type: "i32" | "i64"): void {
    if (type === "i32") this.asm.i32(0);
    else this.asm.i64(0n);
  }

  #compare(type: "i32" | "i64", comparison: string): void {
    this.asm.op(`${type}.${comparison}` as OpName);
  }

  /** Pushes the condition by one comparison; false where there is none for it. */
  #pushComparison(cond: number): boolean {
    const kind = this.state;
    if (kind === "f32" || kind === "f64") return this.#compareNumbers(kind, cond);
    if (kind.startsWith("sub")) {
      const comparison = SUB_COMPARISON[cond];
      if (comparison === undefined) return false;
      this.#compare(this.#operands(kind, true), comparison);
      return true;
    }
    const add = kind.startsWith("add");
    if (!add && !kind.startsWith("logic")) return false;
    const comparison = (add ? ADD_COMPARISON : LOGIC_COMPARISON)[cond];
    if (comparison === undefined) return false;
    const type = this.#operands(kind, add);
    if (add) this.asm.op(`${type}.add`);
    this.#zero(type);
    this.#compare(type, comparison);
    return true;
  }

  #compareNumbers(type: "f32" | "f64", cond: number): boolean {
    const { asm } = this;
    const comparison = NUMBER_COMPARISON[cond];
    const locals = this.#compared.get(type);
    if (comparison === undefined || locals === undefined) return false;
    const [op, opposite] = comparison;
    asm.get(locals[0]).get(locals[1]).op(`${type}.${op}`);
    if (opposite) asm.op("i32.eqz");
    return true;
  }

  pushCondition(mask: number): void {
    const cond = CONDITION_OF.get(mask);
    if (cond === 14) {
      this.asm.i32(1);
      return;
    }
    if (cond !== undefined && this.#pushComparison(cond)) return;
    this.asm.i32(mask);
    this.push();
    this.asm.op("i32.shr_u").i32(1).op("i32.and");
  }

  /** Pushes the top bit of what is on the stack, as bit `to` of an i32. */
  #topBit(type: "i32" | "i64", to: number): void {
    const asm = this.asm;
    if (type === "i64") asm.i64(63n).op("i64.shr_u").op("i32.wrap_i64");
    else asm.i32(31).op("i32.shr_u");
    if (to > 0) asm.i32(to).op("i32.shl");
  }

  #pushResult(kind: FlagState): "i32" | "i64" {
    const type = this.#operands(kind, !kind.startsWith("logic"));
    if (kind.startsWith("sub")) this.asm.op(`${type}.sub`);
    if (kind.startsWith("add")) this.asm.op(`${type}.add`);
    return type;
  }

  #pushPacked(kind: FlagState): void {
    const asm = this.asm;
    if (kind === "packed") {
      asm.get(this.#a).op("i32.wrap_i64");
      return;
    }
    if (kind === "joined") {
      asm.get(this.#a).get(this.#b).get(this.#kind).call(this.packer);
      return;
    }
    if (kind === "f32" || kind === "f64") {
      // Less, equal, else greater or unordered.
      asm.i32(8).i32(6).i32(2).i32(3);
      for (const cond of [12, 0, 4]) {
        this.#compareNumbers(kind, cond);
        asm.op("select");
      }
      return;
    }
    const type = this.#pushResult(kind);
    this.#topBit(type, 3);
    this.#pushResult(kind);
    asm.op(`${type}.eqz`).i32(2).op("i32.shl").op("i32.or");
    if (kind.startsWith("logic")) return;
    this.#pushCarry(kind, type);
    asm.i32(1).op("i32.shl").op("i32.or");
    this.#pushOverflow(kind, type);
    asm.op("i32.or");
  }

  #pushCarry(kind: FlagState, type: "i32" | "i64"): void {
    if (kind.startsWith("sub")) {
      this.#operands(kind, true);
      this.#compare(type, "ge_u");
      return;
    }
    this.#pushResult(kind);
    this.#operand(this.#a, type);
    this.#compare(type, "lt_u");
  }

  /** Overflow: the sign of the result differs from what the operands' signs say it must be. */
  #pushOverflow(kind: FlagState, type: "i32" | "i64"): void {
    const asm = this.asm;
    this.#operand(this.#a, type);
    this.#operand(this.#b, type);
    asm.op(`${type}.xor`);
    if (kind.startsWith("add")) {
      if (type === "i32") asm.i32(-1);
      else asm.i64(-1n);
      asm.op(`${type}.xor`);
    }
    this.#operand(this.#a, type);
    this.#pushResult(kind);
    asm.op(`${type}.xor`).op(`${type}.and`);
    this.#topBit(type, 0);
  }

  /** The number by which a constant of an exit names the kind; {@link JOINED}: the local has it. */
  get number(): number {
    return this.state === "joined" ? JOINED : KINDS.indexOf(this.state);
  }
  /** Notes the kind by such a number, which is in local `from`. */
  joinNumber(from: number): void {
    const { asm } = this;
    asm.get(from).i32(JOINED).op("i32.ne").if().get(from).set(this.#kind).end();
  }
}
