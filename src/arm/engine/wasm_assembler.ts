/**
 * A small assembler for WebAssembly (core specification 2.0, threads, tail calls, branch hints):
 * structured control with named labels, and function bodies as byte arrays. Modules are in wasm_module.ts.
 */
import type { LaneBits, VectorOp } from "../isa/vector_ops.ts";
import { Bytes } from "./wasm_bytes.ts";
import { SIMD, SIMD_LANE, SIMD_MEM, SIMD_NUMBER, SIMD_OP } from "./wasm_simd.ts";

export const I32 = 0x7f;
export const I64 = 0x7e;
export const F32 = 0x7d;
export const F64 = 0x7c;
export const V128 = 0x7b;
export type ValType = typeof I32 | typeof I64 | typeof F32 | typeof F64 | typeof V128;

/** One-byte instructions by their name in the text format. */
export const OP = {
  "i32.eqz": 0x45,
  "i32.eq": 0x46,
  "i32.ne": 0x47,
  "i32.lt_s": 0x48,
  "i32.lt_u": 0x49,
  "i32.gt_s": 0x4a,
  "i32.gt_u": 0x4b,
  "i32.le_s": 0x4c,
  "i32.le_u": 0x4d,
  "i32.ge_s": 0x4e,
  "i32.ge_u": 0x4f,
  "i64.eqz": 0x50,
  "i64.eq": 0x51,
  "i64.ne": 0x52,
  "i64.lt_s": 0x53,
  "i64.lt_u": 0x54,
  "i64.gt_s": 0x55,
  "i64.gt_u": 0x56,
  "i64.le_s": 0x57,
  "i64.le_u": 0x58,
  "i64.ge_s": 0x59,
  "i64.ge_u": 0x5a,
  "i32.clz": 0x67,
  "i32.add": 0x6a,
  "i32.sub": 0x6b,
  "i32.mul": 0x6c,
  "i32.div_s": 0x6d,
  "i32.div_u": 0x6e,
  "i32.and": 0x71,
  "i32.or": 0x72,
  "i32.xor": 0x73,
  "i32.shl": 0x74,
  "i32.shr_s": 0x75,
  "i32.shr_u": 0x76,
  "i32.rotr": 0x78,
  "i64.clz": 0x79,
  "i64.add": 0x7c,
  "i64.sub": 0x7d,
  "i64.mul": 0x7e,
  "i64.div_s": 0x7f,
  "i64.div_u": 0x80,
  "i64.and": 0x83,
  "i64.or": 0x84,
  "i64.xor": 0x85,
  "i64.shl": 0x86,
  "i64.shr_s": 0x87,
  "i64.shr_u": 0x88,
  "i64.rotr": 0x8a,
  "i32.wrap_i64": 0xa7,
  "i64.extend_i32_s": 0xac,
  "i64.extend_i32_u": 0xad,
  "i32.extend8_s": 0xc0,
  "i32.extend16_s": 0xc1,
  "i64.extend8_s": 0xc2,
  "i64.extend16_s": 0xc3,
  "i64.extend32_s": 0xc4,
  "f32.eq": 0x5b,
  "f32.ne": 0x5c,
  "f32.lt": 0x5d,
  "f32.gt": 0x5e,
  "f32.le": 0x5f,
  "f32.ge": 0x60,
  "f64.eq": 0x61,
  "f64.ne": 0x62,
  "f64.lt": 0x63,
  "f64.gt": 0x64,
  "f64.le": 0x65,
  "f64.ge": 0x66,
  "i64.ctz": 0x7a,
  "f32.abs": 0x8b,
  "f32.neg": 0x8c,
  "f32.ceil": 0x8d,
  "f32.floor": 0x8e,
  "f32.trunc": 0x8f,
  "f32.nearest": 0x90,
  "f32.sqrt": 0x91,
  "f32.add": 0x92,
  "f32.sub": 0x93,
  "f32.mul": 0x94,
  "f32.div": 0x95,
  "f32.min": 0x96,
  "f32.max": 0x97,
  "f32.copysign": 0x98,
  "f64.abs": 0x99,
  "f64.neg": 0x9a,
  "f64.ceil": 0x9b,
  "f64.floor": 0x9c,
  "f64.trunc": 0x9d,
  "f64.nearest": 0x9e,
  "f64.sqrt": 0x9f,
  "f64.add": 0xa0,
  "f64.sub": 0xa1,
  "f64.mul": 0xa2,
  "f64.div": 0xa3,
  "f64.min": 0xa4,
  "f64.max": 0xa5,
  "f64.copysign": 0xa6,
  "i64.trunc_f64_s": 0xb0,
  "i64.trunc_f64_u": 0xb1,
  "f32.convert_i64_s": 0xb4,
  "f32.convert_i64_u": 0xb5,
  "f32.demote_f64": 0xb6,
  "f64.convert_i64_s": 0xb9,
  "f64.convert_i64_u": 0xba,
  "f64.promote_f32": 0xbb,
  "i32.reinterpret_f32": 0xbc,
  "i64.reinterpret_f64": 0xbd,
  "f32.reinterpret_i32": 0xbe,
  "f64.reinterpret_i64": 0xbf,
  select: 0x1b,
} as const;
export type OpName = keyof typeof OP;

/** Loads and stores: opcode and log2 of the width. */
export const MEM = {
  "i32.load": [0x28, 2],
  "i64.load": [0x29, 3],
  "f32.load": [0x2a, 2],
  "f64.load": [0x2b, 3],
  "f32.store": [0x38, 2],
  "f64.store": [0x39, 3],
  "i32.load8_u": [0x2d, 0],
  "i32.load16_u": [0x2f, 1],
  "i64.load8_u": [0x31, 0],
  "i64.load16_u": [0x33, 1],
  "i64.load32_u": [0x35, 2],
  "i32.store": [0x36, 2],
  "i32.store16": [0x3b, 1],
  "i64.store": [0x37, 3],
  "i64.store8": [0x3c, 0],
  "i64.store16": [0x3d, 1],
  "i64.store32": [0x3e, 2],
} as const;
export type MemName = keyof typeof MEM;

/** Atomic compare-exchange of an i64 by bytes of width: the byte after the 0xfe prefix and log2 of the width. */
export const CMPXCHG: Readonly<Record<1 | 2 | 4 | 8, readonly [number, number]>> = {
  1: [0x4c, 0],
  2: [0x4d, 1],
  4: [0x4e, 2],
  8: [0x49, 3],
};

/** One function body under construction. */
export class FunctionBody {
  readonly code = new Bytes();
  readonly #labels: string[] = [];
  readonly #localTypes: ValType[] = [];
  readonly #hints: { readonly at: number; readonly likely: boolean }[] = [];
  /** Code before all other, which is known last. */
  readonly prologue = new Bytes();

  constructor(readonly params: readonly ValType[], readonly results: readonly ValType[]) {}

  /** Starts over. */
  clear(): this {
    this.code.clear();
    this.prologue.clear();
    this.#labels.length = this.#localTypes.length = this.#hints.length = 0;
    return this;
  }

  /** Declares a local of `type` and returns its index. */
  local(type: ValType): number {
    this.#localTypes.push(type);
    return this.params.length + this.#localTypes.length - 1;
  }
  get localCount(): number {
    return this.#localTypes.length;
  }
  op(name: OpName): this {
    this.code.byte(OP[name]);
    return this;
  }
  i32(value: number): this {
    this.code.byte(0x41);
    this.code.signed(value);
    return this;
  }
  i64(value: bigint): this {
    this.code.byte(0x42);
    this.code.signed64(value);
    return this;
  }
  f32(value: number): this {
    this.code.push(0x43);
    this.#number(4, (view) => view.setFloat32(0, value, true));
    return this;
  }
  f64(value: number): this {
    this.code.push(0x44);
    this.#number(8, (view) => view.setFloat64(0, value, true));
    return this;
  }
  #number(size: 4 | 8, write: (view: DataView) => void): void {
    const view = new DataView(new ArrayBuffer(size));
    write(view);
    for (let i = 0; i < size; i++) this.code.push(view.getUint8(i));
  }
  get(local: number): this {
    this.code.byte(0x20);
    this.code.unsigned(local);
    return this;
  }
  set(local: number): this {
    this.code.byte(0x21);
    this.code.unsigned(local);
    return this;
  }
  tee(local: number): this {
    this.code.byte(0x22);
    this.code.unsigned(local);
    return this;
  }
  getGlobal(global: number): this {
    this.code.byte(0x23);
    this.code.unsigned(global);
    return this;
  }
  setGlobal(global: number): this {
    this.code.byte(0x24);
    this.code.unsigned(global);
    return this;
  }
  /** A load or store at the address on the stack plus `offset`; no alignment is promised. */
  mem(name: MemName, offset: number): this {
    this.code.push(MEM[name][0], 0);
    this.code.unsigned(offset);
    return this;
  }
  /** i64.atomic.rmw.cmpxchg of `size` bytes. */
  cmpxchg(size: 1 | 2 | 4 | 8): this {
    const [opcode, align] = CMPXCHG[size];
    this.code.push(0xfe, opcode, align, 0);
    return this;
  }
  /** An atomic access of width `2 ** align` bytes by its opcode behind the prefix 0xfe; traps when misaligned. */
  atomic(opcode: number, align: number): this {
    this.code.push(0xfe, opcode, align, 0);
    return this;
  }
  /** atomic.fence: nothing passes it. */
  fence(): this {
    this.code.push(0xfe, 0x03, 0);
    return this;
  }
  #simd(opcode: number): this {
    this.code.byte(0xfd);
    this.code.unsigned(opcode);
    return this;
  }
  /** An operation on vectors that has no immediate operand. */
  vector(name: VectorOp | "v128.bitselect"): this {
    return this.#simd(SIMD_OP[name]);
  }
  v128(low: bigint, high: bigint): this {
    this.#simd(SIMD.CONST);
    for (const half of [low, high]) {
      for (let shift = 0n; shift < 64n; shift += 8n) this.code.push(Number((half >> shift) & 255n));
    }
    return this;
  }
  /** Sixteen lane numbers, 0 to 31. */
  shuffle(lanes: readonly number[]): this {
    this.#simd(SIMD.SHUFFLE).code.push(...lanes);
    return this;
  }
  splat(bits: LaneBits): this {
    return this.#simd(SIMD_LANE[bits].splat);
  }
  extractLane(bits: LaneBits, index: number): this {
    this.#simd(SIMD_LANE[bits].extract).code.push(index);
    return this;
  }
  replaceLane(bits: LaneBits, index: number): this {
    this.#simd(SIMD_LANE[bits].replace).code.push(index);
    return this;
  }
  /** The number in a lane. */
  extractNumber(type: "f32" | "f64", index: number): this {
    this.#simd(SIMD_NUMBER[type].extract).code.push(index);
    return this;
  }
  /** Writes a number to a lane. */
  replaceNumber(type: "f32" | "f64", index: number): this {
    this.#simd(SIMD_NUMBER[type].replace).code.push(index);
    return this;
  }
  /** v128.load, of 8 or 4 bytes with zeros above them too, or v128.store; no alignment is promised. */
  vectorMem(what: keyof typeof SIMD_MEM, offset: number): this {
    this.#simd(SIMD_MEM[what]).code.push(0);
    this.code.unsigned(offset);
    return this;
  }
  /** The select that states its type. */
  selectVector(): this {
    this.code.push(0x1c, 1, V128);
    return this;
  }
  block(label: string): this {
    this.code.push(0x02, 0x40);
    this.#labels.push(label);
    return this;
  }
  loop(label: string): this {
    this.code.push(0x03, 0x40);
    this.#labels.push(label);
    return this;
  }
  /** `likely`: a hint for the compiler whether the condition holds. */
  if(label = "if", likely?: boolean): this {
    this.#hint(likely);
    this.code.push(0x04, 0x40);
    this.#labels.push(label);
    return this;
  }
  else(): this {
    this.code.byte(0x05);
    return this;
  }
  end(): this {
    this.code.byte(0x0b);
    this.#labels.pop();
    return this;
  }
  #hint(likely: boolean | undefined): void {
    if (likely !== undefined) this.#hints.push({ at: this.code.length, likely });
  }
  /** Blocks, loops and conditions that are open. */
  get nesting(): number {
    return this.#labels.length;
  }
  #depth(label: string): number {
    const at = this.#labels.lastIndexOf(label);
    if (at < 0) throw new RangeError(`no label ${label}`);
    return this.#labels.length - 1 - at;
  }
  br(label: string): this {
    this.code.byte(0x0c);
    this.code.unsigned(this.#depth(label));
    return this;
  }
  brIf(label: string, likely?: boolean): this {
    this.#hint(likely);
    this.code.byte(0x0d);
    this.code.unsigned(this.#depth(label));
    return this;
  }
  brTable(labels: readonly string[], fallback: string): this {
    this.code.byte(0x0e);
    this.code.unsigned(labels.length);
    for (const label of [...labels, fallback]) this.code.unsigned(this.#depth(label));
    return this;
  }
  return(): this {
    this.code.byte(0x0f);
    return this;
  }
  unreachable(): this {
    this.code.byte(0x00);
    return this;
  }
  drop(): this {
    this.code.byte(0x1a);
    return this;
  }
  call(functionIndex: number): this {
    this.code.byte(0x10);
    this.code.unsigned(functionIndex);
    return this;
  }
  /** A call in the place of a return. */
  returnCall(functionIndex: number): this {
    this.code.byte(0x12);
    this.code.unsigned(functionIndex);
    return this;
  }
  callIndirect(typeIndex: number, table = 0): this {
    this.code.byte(0x11);
    this.code.unsigned(typeIndex);
    this.code.unsigned(table);
    return this;
  }
  returnCallIndirect(typeIndex: number, table = 0): this {
    this.code.byte(0x13);
    this.code.unsigned(typeIndex);
    this.code.unsigned(table);
    return this;
  }
  /** The locals in runs of a type, and the code of the beginning. */
  #head(): Bytes {
    const locals = new Bytes();
    let runs = 0;
    for (let at = 0; at < this.#localTypes.length; runs++) {
      const type = this.#localTypes[at] as ValType;
      let end = at;
      while (this.#localTypes[end] === type) end++;
      locals.unsigned(end - at).byte(type);
      at = end;
    }
    return new Bytes().unsigned(runs).append(locals).append(this.prologue);
  }
  /** The body as it goes into the code section: its size, its locals, its code. */
  writeTo(out: Bytes): void {
    const head = this.#head();
    out.unsigned(head.length + this.code.length + 1).append(head).append(this.code).byte(0x0b);
  }
  /** The branch hints of function `index` as they go into their section (metadata.code.branch_hint); false if it has none. */
  writeHints(index: number, out: Bytes): boolean {
    if (this.#hints.length === 0) return false;
    const start = this.#head().length;
    out.unsigned(index).unsigned(this.#hints.length);
    for (const { at, likely } of this.#hints) {
      out.unsigned(start + at).byte(1).byte(likely ? 1 : 0);
    }
    return true;
  }
}
