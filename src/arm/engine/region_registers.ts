/** Where a region's function has its parameters, the guest's registers and what it needs in between. */
import type { Graph } from "./region_graph.ts";
import { isRegister, isVector, isZero } from "./region_probe.ts";
import { F32, F64, type FunctionBody, I64, V128, type ValType } from "./wasm_assembler.ts";
import type { RegisterAccess, RegisterPart } from "./wasm_frame.ts";

/** Parameters of a region. */
export const CPU = 0, BUDGET = 1, PAGE = 2, STACK = 3;

/** Registers of the CPU state in locals. */
export class LocalRegisters implements RegisterAccess {
  readonly #locals = new Map<number, number>();
  readonly #written: readonly number[];
  /** Numbers that vector registers hold, as they were computed: they need not be taken out again. */
  readonly #numbers = new Map<number, { readonly type: "f32" | "f64"; readonly local: number }>();
  readonly #numberLocals = new Map<string, number>();
  #nesting = 0;

  constructor(readonly asm: FunctionBody, touched: Iterable<number>, written: Iterable<number>) {
    for (const slot of [...touched].sort((a, b) => a - b)) {
      this.#locals.set(slot, asm.local(isVector(slot) ? V128 : I64));
    }
    this.#written = [...written].sort((a, b) => a - b);
  }

  local(slot: number): number {
    const local = this.#locals.get(slot);
    if (local === undefined) throw new RangeError(`register at ${slot} is not of this region`);
    return local;
  }

  /** To be called where code begins that may be reached with other numbers in the registers. */
  forgetNumbers(): void {
    this.#numbers.clear();
    this.#nesting = this.asm.nesting;
  }

  push(slot: number, part: RegisterPart): void {
    const { asm } = this;
    const number = this.#numbers.get(slot);
    if (number !== undefined && number.type === part) {
      asm.get(number.local);
      return;
    }
    if (part === "next") return this.push(slot + 8, "x");
    if (isZero(slot)) {
      if (part === "w") asm.i32(0);
      else asm.i64(0n);
      return;
    }
    asm.get(this.local(slot));
    if (part === "f32" || part === "f64") asm.extractNumber(part, 0);
    if (part === "w") asm.op("i32.wrap_i64");
    if (part === "low" || part === "high") asm.extractLane(64, part === "low" ? 0 : 1);
  }

  set(slot: number, part: Exclude<RegisterPart, "w" | "next">, push: () => void): void {
    const { asm } = this;
    if (!isRegister(slot)) {
      push();
      asm.drop();
      return;
    }
    const local = this.local(slot);
    const half = part === "low" || part === "high";
    const number = part === "f32" || part === "f64";
    if (half) asm.get(local);
    if (number) asm.v128(0n, 0n);
    push();
    this.#numbers.delete(slot);
    if (number && asm.nesting === this.#nesting) asm.tee(this.#numberLocal(slot, part));
    if (number) asm.replaceNumber(part, 0);
    if (half) asm.replaceLane(64, part === "low" ? 0 : 1);
    asm.set(local);
  }

  #numberLocal(slot: number, type: "f32" | "f64"): number {
    const name = `${type} ${slot}`;
    const local = this.#numberLocals.get(name) ?? this.asm.local(type === "f32" ? F32 : F64);
    this.#numberLocals.set(name, local);
    this.#numbers.set(slot, { type, local });
    return local;
  }

  load(): void {
    for (const [slot, local] of this.#locals) {
      this.asm.get(CPU);
      if (isVector(slot)) this.asm.vectorMem("load", slot);
      else this.asm.mem("i64.load", slot);
      this.asm.set(local);
    }
  }

  store(): void {
    for (const slot of this.#written) {
      this.asm.get(CPU).get(this.local(slot));
      if (isVector(slot)) this.asm.vectorMem("store", slot);
      else this.asm.mem("i64.store", slot);
    }
  }
}

/** Locals handed out per instruction and used again by the next. */
export class Temporaries {
  readonly #free = new Map<ValType, number[]>();
  readonly #used = new Map<ValType, number>();
  constructor(readonly asm: FunctionBody) {}
  reset(): void {
    this.#used.clear();
  }
  take(type: ValType): number {
    const locals = this.#free.get(type) ?? [];
    this.#free.set(type, locals);
    const n = this.#used.get(type) ?? 0;
    this.#used.set(type, n + 1);
    if (n === locals.length) locals.push(this.asm.local(type));
    return locals[n] as number;
  }
}

/** Everything touched or written by the region's instructions. */
export function union(graph: Graph, of: "touched" | "written"): Set<number> {
  const out = new Set<number>();
  for (const { block } of graph.nodes.values()) {
    for (const { effects } of block.steps) for (const slot of effects[of]) out.add(slot);
  }
  return out;
}
