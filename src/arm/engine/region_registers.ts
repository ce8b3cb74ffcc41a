/** Where a region's function has its parameters, the guest's registers and what it needs in between. */
import type { Graph } from "./region_graph.ts";
import { isRegister, isVector, isZero, type VectorWrite } from "./region_probe.ts";
import { F32, F64, type FunctionBody, I64, V128, type ValType } from "./wasm_assembler.ts";
import type { RegisterAccess, RegisterPart, WrittenPart } from "./wasm_frame.ts";
import { CpuLayout } from "../arch/cpu_state.ts";
import { cleaned, isJunk, meet, type Uppers, type UppersOf, written } from "./region_uppers.ts";

/** Parameters of a region. */
export const CPU = 0, BUDGET = 1, PAGE = 2, STACK = 3;

/** Registers of the CPU state in locals. */
export class LocalRegisters implements RegisterAccess {
  readonly lowParts = true;
  readonly #locals = new Map<number, number>();
  readonly #written: readonly number[];
  /** Numbers that vector registers hold, as they were computed: they need not be taken out again. */
  readonly #numbers = new Map<number, { readonly type: "f32" | "f64"; readonly local: number }>();
  readonly #numberLocals = new Map<string, number>();
  #nesting = 0;
  #uppers = new Map<number, Uppers>();
  /** What has been junk anywhere. */
  readonly #junk = new Set<number>();

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

  /** What is known of the vector registers' upper lanes. */
  get uppers(): UppersOf {
    return new Map(this.#uppers);
  }
  set uppers(uppers: UppersOf) {
    this.#uppers = new Map(uppers);
  }
  #upper(slot: number): Uppers {
    return this.#uppers.get(slot) ?? "full";
  }

  /** Makes the locals what code expects that takes the registers as `wanted`. */
  conform(wanted: UppersOf): void {
    for (const [slot, uppers] of [...this.#uppers]) {
      const to = wanted.get(slot) ?? "full";
      if (isJunk(uppers) && to !== uppers) this.#clean(slot);
    }
    for (const [slot, to] of wanted) {
      if (to !== "full" && this.#upper(slot) === "full") {
        throw new RangeError(`register at ${slot} is not known to be ${to}`);
      }
    }
  }
  /** Behind code that may have been executed in the place of other, which has left the registers so. */
  meet(other: UppersOf): void {
    const both = new Map<number, Uppers>();
    for (const slot of new Set([...this.#uppers.keys(), ...other.keys()])) {
      const there = other.get(slot) ?? "full";
      const uppers = isJunk(there) ? there : meet(this.#upper(slot), there);
      if (uppers !== "full") both.set(slot, uppers);
    }
    this.conform(both);
    this.#uppers = both;
  }
  /** Makes all locals what the registers are. */
  clean(): void {
    for (const slot of this.#uppers.keys()) this.#clean(slot);
  }
  #clean(slot: number): void {
    if (!isJunk(this.#upper(slot))) return;
    this.#pushClean(slot);
    this.asm.set(this.local(slot));
    this.#uppers.set(slot, cleaned(this.#upper(slot)));
  }
  #pushClean(slot: number): void {
    const { asm } = this;
    const type = this.#upper(slot) === "junk64" ? "f64" : "f32";
    asm.v128(0n, 0n).get(this.local(slot)).extractNumber(type, 0).replaceNumber(type, 0);
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
    this.#pushLocal(slot, part);
    if (part === "f32" || part === "f64") asm.extractNumber(part, 0);
    if (part === "w") asm.op("i32.wrap_i64");
    if (part === "low" || part === "high") asm.extractLane(64, part === "low" ? 0 : 1);
  }

  /** The local, its upper lanes clean where `part` has some of them. */
  #pushLocal(slot: number, part: RegisterPart): void {
    const { asm } = this;
    const uppers = this.#upper(slot);
    const lowest = part === "f32" || part === "s";
    const low = lowest || part === "f64" || part === "d" || part === "low";
    if (lowest || !isJunk(uppers) || (low && uppers === "junk64")) {
      return void asm.get(this.local(slot));
    }
    this.#pushClean(slot);
    if (asm.nesting !== this.#nesting) return;
    asm.tee(this.local(slot));
    this.#uppers.set(slot, cleaned(uppers));
  }

  set(slot: number, part: WrittenPart, push: () => void, zeroFrom?: readonly number[]): void {
    const { asm } = this;
    if (!isRegister(slot)) {
      push();
      asm.drop();
      return;
    }
    const local = this.local(slot);
    const half = part === "low" || part === "high";
    const number = part === "f32" || part === "f64";
    if (half) this.#pushLocal(slot, "q");
    if (number) asm.v128(0n, 0n);
    push();
    this.#numbers.delete(slot);
    if (number && asm.nesting === this.#nesting) asm.tee(this.#numberLocal(slot, part));
    if (number) asm.replaceNumber(part, 0);
    if (half) asm.replaceLane(64, part === "low" ? 0 : 1);
    asm.set(local);
    if (isVector(slot)) this.#noteUppers({ slot, part, zeroFrom });
  }
  #noteUppers(write: VectorWrite): void {
    const { slot } = write;
    const uppers = written(write, (of) => this.#upper(of));
    if (this.asm.nesting !== this.#nesting) {
      // It may not be executed.
      if (isJunk(uppers) || isJunk(this.#upper(slot))) {
        throw new RangeError(`register at ${slot} is written under a condition`);
      }
      this.#uppers.delete(slot);
      return;
    }
    if (isJunk(uppers)) this.#junk.add(slot);
    this.#uppers.set(slot, uppers);
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
    this.#uppers.clear();
  }

  /** Stores what is written anywhere, or of that what is among `dirty`. */
  store(dirty?: ReadonlySet<number>): void {
    for (const slot of this.#written) {
      if (dirty?.has(slot) === false) continue;
      this.asm.get(CPU).get(this.local(slot));
      if (isVector(slot)) this.asm.vectorMem("store", slot);
      else this.asm.mem("i64.store", slot);
    }
  }
  /** Makes what {@link store} has stored what the registers are. */
  storeUppers(): void {
    for (const [slot, uppers] of this.#uppers) if (isJunk(uppers)) this.#storeZeros(slot, uppers);
  }
  #storeZeros(slot: number, uppers: Uppers): void {
    if (uppers === "junk32") this.asm.get(CPU).i32(0).mem("i32.store", slot + 4);
    this.asm.get(CPU).i64(0n).mem("i64.store", slot + 8);
  }

  /** Which registers are junk: the vector registers of 64 bits in the lower half, those of 32 in the upper. */
  junkMask(): bigint {
    let mask = 0n;
    for (const [slot, uppers] of this.#uppers) {
      if (isJunk(uppers)) mask |= junkBit(slot, uppers);
    }
    return mask;
  }
  /** {@link storeUppers} of what a {@link junkMask} in a local says. All other code has been generated before. */
  storeUppersOf(mask: number): void {
    const { asm } = this;
    asm.get(mask).i64(0n).op("i64.ne").if();
    for (const slot of this.#junk) {
      for (const uppers of ["junk64", "junk32"] as const) {
        asm.get(mask).i64(junkBit(slot, uppers)).op("i64.and").i64(0n).op("i64.ne").if();
        this.#storeZeros(slot, uppers);
        asm.end();
      }
    }
    asm.end();
  }
}

function junkBit(slot: number, uppers: Uppers): bigint {
  const bit = BigInt(slot - CpuLayout.offset.vreg) / 16n;
  return 1n << (uppers === "junk64" ? bit : bit + 32n);
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
