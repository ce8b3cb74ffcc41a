/** Flags, conditions, branches, and leaving to the evaluator. */
import { CpuLayout, gprOffset, SLOT } from "../arch/cpu_state.ts";
import type { BranchKind, V32, V64, Value } from "../isa/builder.ts";
import type { Float } from "./fp_kinds.ts";
import { ArithmeticBuilder } from "./wasm_arithmetic.ts";
import { I64 } from "./wasm_assembler.ts";
import { EXIT, type FlagKind } from "./wasm_frame.ts";
import type { Node } from "./wasm_nodes.ts";

const O = CpuLayout.offset;
const SP = gprOffset(SLOT.SP);

/** {@link ArithmeticBuilder} with flags and branches. */
export abstract class ControlBuilder extends ArithmeticBuilder {
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
    const [x, y] = [this.use(a), this.use(b)];
    this.run(() => flags.set(kind, () => this.push(x), () => this.push(y)), true);
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
  nzcv(): V32 {
    const { flags } = this.frame;
    if (flags === undefined) return this.field(O.nzcv);
    return this.node("i32", [], () => flags.push(), { pinned: true });
  }
  setNzcv(value: V32): void {
    const { flags } = this.frame;
    if (flags === undefined) return this.setField(O.nzcv, value);
    const { compared } = value as unknown as Node;
    if (compared && !this.conditional) return this.#compareNumbers(compared);
    const node = this.use(value);
    this.run(() => flags.setPacked(() => this.push(node)), true);
  }
  /** Leaves the flags of a comparison to the frame. */
  #compareNumbers([a, b]: readonly [Float, Float]): void {
    const { flags } = this.frame;
    const [x, y] = [this.use(a), this.use(b)];
    const type = x.type as "f32" | "f64";
    this.run(() => flags?.compare(type, () => this.push(x), () => this.push(y)), true);
  }
  condition(mask: V32): V32 {
    const { flags } = this.frame;
    const { value } = mask as unknown as Node;
    if (flags !== undefined && value !== undefined) {
      return this.node("i32", [], () => flags.pushCondition(Number(value)), { pinned: true });
    }
    return this.and(this.shrU(mask, this.nzcv()), this.c32(1));
  }

  pc(): V64 {
    return this.node("i64", [], () => this.frame.pushPc());
  }
  branch(offset: V64, kind: BranchKind = "jump"): void {
    const short = this.use(this.wrap(offset));
    const long = this.use(offset);
    this.run(() => {
      this.frame.branchBy({
        offset32: () => this.push(short),
        offset64: () => this.push(long),
        value: long.value,
      }, kind);
    });
    this.ended = true;
  }
  branchIf(condition: V32, offset: V64): void {
    this.when(condition, () => this.branch(offset));
  }
  branchTo(target: V64, kind: BranchKind): void {
    const node = this.use(target);
    this.run(() => {
      this.push(node);
      const local = this.frame.temporary(I64);
      this.frame.asm.set(local);
      this.frame.branchTo(local, kind);
    });
    this.ended = true;
  }

  /** Leaves to the evaluator unless `condition`. */
  require(condition: V32): void {
    const leave = () => this.run(() => this.frame.leave(EXIT.SLOW), true);
    this.when(this.isZero(condition), leave, false);
  }
  protected slow(): void {
    this.run(() => this.frame.leave(EXIT.SLOW));
    this.ended = true;
  }

  checkSp(base: V64): void {
    const { frame } = this;
    const { register, base: slot } = base as unknown as Node;
    const isSp = register && slot === SP;
    if (isSp && frame.spAligned) return;
    this.require(this.isZero(this.and(this.wrap(base), this.steady(O.spAlignMask))));
    // Under a condition it may not have been looked at.
    if (isSp && frame.spAligned === false && !this.conditional) frame.spAligned = true;
  }
}
