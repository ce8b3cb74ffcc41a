/**
 * Results of floating point that are checked together. In a region a run of instructions that only
 * change registers and flags is written twice: first without looking whether each result may be had from
 * WebAssembly's arithmetic (see fp_wasm.ts), but at the end whether all may; and then, for when they may
 * not or something else happens on the way, once more from its beginning, one instruction after the
 * other. What is looked at in the end is only coarse: a zero that is exact counts as too small.
 *
 * A result that is not finite makes each sum, product, quotient and root that is made of it not finite,
 * so it need not be looked at itself.
 */
import type { Step } from "./region_blocks.ts";
import { isCompiled } from "./region_probe.ts";
import type { VectorBinary } from "../isa/vector_ops.ts";
import type { FunctionBody } from "./wasm_assembler.ts";
import { F32, F64, V128, type ValType } from "./wasm_assembler.ts";

/** A vector register or the number in its lowest bits, with zeros above. */
export type NumberPart = "q" | "f32" | "f64";

/** What an instruction computes whose result may be checked later. */
export interface ResultCheck {
  /** The register that the result is written to. */
  readonly slot: number;
  readonly part: NumberPart;
  readonly size: 32 | 64;
  /** It must not be too small either. */
  readonly normal: boolean;
  /** Registers, read as `part` is written, without which the result is not finite if they are not. */
  readonly reads: readonly number[];
}

/** What of a result remains to be looked at. */
interface Pending {
  readonly part: NumberPart;
  readonly size: 32 | 64;
  readonly finite: boolean;
  readonly normal: boolean;
  /** It is not below zero: a number times itself. */
  readonly square: boolean;
}

/**
 * What is collected: the sum of all that must be finite, which is not finite if one of them is not; the least
 * exponent, with the sign shifted out, in the lanes' upper 32 bits; and the least of numbers without a sign.
 */
type Collected = "sum" | "min" | "square";
/** Of what: of all lanes, or of single numbers. */
type Kind = `${32 | 64}${"q" | "s"}`;
const KINDS: readonly Kind[] = ["32q", "64q", "32s", "64s"];

/** Upper 32 bits without the sign of twice the least normal number. */
const LEAST = { 32: 0x0200_0000, 64: 0x0040_0000 } as const;
const LANES = { 32: "f32x4", 64: "f64x2" } as const;

/** The checks of one region, run by run. */
export class ResultChecks {
  readonly #pending = new Map<number, Pending>();
  /** Locals by what is collected in them, and those that have something. */
  readonly #locals = new Map<string, number>();
  readonly #used = new Set<string>();
  readonly #limits = new Map<number, number>();

  /** `pushRegister`: pushes all of a vector register. */
  constructor(readonly asm: FunctionBody, readonly pushRegister: (slot: number) => void) {}

  begin(): void {
    this.#pending.clear();
    this.#used.clear();
  }

  /** Whether a number of `size` bits read from a register will turn out not to be a NaN. */
  covers(slot: number, part: NumberPart, size: 32 | 64): boolean {
    const known = this.#pending.get(slot);
    if (known === undefined || known.size !== size) return false;
    return known.part === part || known.part === "q";
  }

  /** To be called in front of an instruction: `written` are the registers that it overwrites. */
  before(result: ResultCheck | undefined, written: Iterable<number>): void {
    for (const slot of result?.reads ?? []) this.#implied(slot, result as ResultCheck);
    for (const slot of written) this.#collect(slot);
  }
  /** And behind it. */
  after(result: ResultCheck | undefined): void {
    if (result === undefined) return;
    const { slot, part, size, normal, reads } = result;
    const square = reads.length === 2 && reads[0] === reads[1];
    this.#pending.set(slot, { part, size, finite: true, normal, square });
  }

  #implied(slot: number, by: ResultCheck): void {
    const known = this.#pending.get(slot);
    if (known === undefined || known.part !== by.part || known.size !== by.size) return;
    this.#pending.set(slot, { ...known, finite: false });
  }

  /** Looks at what is in the register before it is lost. */
  #collect(slot: number): void {
    const known = this.#pending.get(slot);
    if (known === undefined) return;
    this.#pending.delete(slot);
    const { asm } = this;
    const { part, size, finite, normal, square } = known;
    if (!finite && !normal) return;
    const kind: Kind = `${size}${part === "q" ? "q" : "s"}`;
    if (finite) {
      this.pushRegister(slot);
      this.#keep("sum", kind, `${LANES[size]}.add`);
    }
    if (!normal) return;
    this.pushRegister(slot);
    if (!square) asm.i32(1).vector("i32x4.shl");
    this.#keep(square ? "square" : "min", kind, "i32x4.min_u");
  }

  #local(name: string, type: ValType = V128): number {
    const local = this.#locals.get(name) ?? this.asm.local(type);
    this.#locals.set(name, local);
    return local;
  }

  /** Takes what is on the stack into account. */
  #keep(what: Collected, kind: Kind, op: VectorBinary): void {
    const { asm } = this;
    const name = `${what}${kind}`;
    const local = this.#local(name);
    if (this.#used.has(name)) asm.get(local).vector(op);
    this.#used.add(name);
    asm.set(local);
  }

  /** Looks at what is left and branches to `label` unless all results were as they should be. */
  end(label: string): void {
    for (const slot of [...this.#pending.keys()]) this.#collect(slot);
    for (const kind of KINDS) {
      const size = kind.startsWith("32") ? 32 : 64;
      this.#meetSquares(kind);
      const met = (["min", "sum"] as const).filter((what) => this.#used.has(what + kind));
      if (met.length === 0) continue;
      if (kind.endsWith("q")) this.#checkLanes(size, met, label);
      else for (const what of met) this.#checkNumber(size, what, label);
    }
  }

  /** Takes squares together with all else that must not be too small. */
  #meetSquares(kind: Kind): void {
    if (!this.#used.has(`square${kind}`)) return;
    this.asm.get(this.#local(`square${kind}`)).i32(1).vector("i32x4.shl");
    this.#keep("min", kind, "i32x4.min_u");
  }

  #checkNumber(size: 32 | 64, what: Collected, label: string): void {
    const { asm } = this;
    asm.get(this.#local(`${what}${size}s`));
    if (what === "min") asm.extractLane(32, size === 32 ? 0 : 1).i32(LEAST[size]).op("i32.lt_u");
    else {
      const type = `f${size}` as const;
      const local = this.#local(type, size === 32 ? F32 : F64);
      asm.extractNumber(type, 0).tee(local).get(local).op(`${type}.sub`);
      asm.tee(local).get(local).op(`${type}.ne`);
    }
    asm.brIf(label, false);
  }

  #checkLanes(size: 32 | 64, met: readonly Collected[], label: string): void {
    const { asm } = this;
    for (const what of met) {
      const found = this.#local(`${what}${size}q`);
      asm.get(found);
      if (what === "min") asm.get(this.#limit(size)).vector("i32x4.ge_u");
      else {
        asm.get(found).vector(`${LANES[size]}.sub`).tee(found).get(found);
        asm.vector(`${LANES[size]}.eq`);
      }
    }
    if (met.length > 1) asm.vector("v128.and");
    asm.vector(size === 32 ? "i32x4.bitmask" : "i64x2.bitmask").i32(size === 32 ? 15 : 3)
      .op("i32.ne").brIf(label, false);
  }

  /** A local that holds the limit in all lanes: V8 would make the constant anew each time. */
  #limit(size: 32 | 64): number {
    const name = `limit ${size}`;
    if (!this.#locals.has(name)) this.#limits.set(this.#local(name), LEAST[size]);
    return this.#local(name);
  }

  /** Sets the locals that hold constants: to be emitted in front of everything else, when that is known. */
  prologue(asm: FunctionBody): void {
    for (const [local, word] of this.#limits) {
      const half = (BigInt(word) << 32n) | BigInt(word);
      asm.v128(half, half).set(local);
    }
  }
}

/** How many instructions from one of a block on have results that are checked together; 0: none. */
export function checkedTogether(steps: readonly Step[], from: number): number {
  if (steps[from]?.effects.result === undefined) return 0;
  let results = 0;
  let end = from;
  for (let i = from; i < steps.length; i++) {
    const { instruction, effects } = steps[i] as Step;
    const { restartable, branch, closed } = effects;
    if (!restartable || branch !== undefined || closed || !isCompiled(instruction)) break;
    if (effects.result !== undefined) results++;
    if (effects.checks) end = i + 1;
  }
  return results > 1 ? end - from : 0;
}
