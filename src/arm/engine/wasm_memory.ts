/** Addresses looked up in the data TLB, and plain and ordered accesses. */
import { CpuLayout } from "../arch/cpu_state.ts";
import { ACCESS, DATA_TLB, DATA_TLB_ENTRIES, DATA_TLB_ENTRY } from "../arch/tlb_layout.ts";
import type { AccessOptions, AccessSize, Slot, V32, V64 } from "../isa/builder.ts";
import { type FunctionBody, I32, I64, type MemName } from "./wasm_assembler.ts";
import { atomicLoad, atomicStore } from "./wasm_atomics.ts";
import { ControlBuilder } from "./wasm_control.ts";
import { EXIT, NO_BASE, UNPRIVILEGED_ACCESS } from "./wasm_frame.ts";
import { distance, type Node } from "./wasm_nodes.ts";

const O = CpuLayout.offset;

/** Where an access is made: a memory address, and a constant to be added. */
interface Place {
  readonly at: V32;
  readonly offset: number;
}

/** An address translation whose extent may still grow until it is emitted. */
export interface Translation {
  readonly address: Node;
  readonly access: 0 | 1;
  readonly aligned: number;
  readonly strict: boolean;
  readonly unprivileged: boolean;
  span: number;
  readonly place: Place;
}

/** Neighbouring accesses of one instruction that are translated together extend over this many bytes at most. */
const MAX_SPAN = 64;
/** Accesses of so many bytes are often not aligned, and cross pages. */
const WIDE = 16;
/** The limit of a page whose accesses of that many bytes hit. */
const PAGE_LIMIT = 4096n - 64n + 1n;
/** Misaligned accesses of a module's code after which it is to be made for them. */
const MISALIGNED_LIMIT = 200;

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

/** Pushes where the TLB whose address is pushed by `pushTlb` may have the page of the address in local `a`. */
export function pushTlbEntry(asm: FunctionBody, pushTlb: () => void, a: number): void {
  pushTlb();
  asm.get(a).i64(12n).op("i64.shr_u").op("i32.wrap_i64").i32(DATA_TLB_ENTRIES - 1)
    .op("i32.and").i32(Math.log2(DATA_TLB_ENTRY)).op("i32.shl").op("i32.add");
}

/** {@link ControlBuilder} with loads and stores. */
export abstract class MemoryBuilder extends ControlBuilder {
  /** The address translated last, for its neighbours. */
  protected translation: Translation | undefined;
  /** All that have been. */
  readonly translations: Translation[] = [];

  /**
   * Looks `address` up and returns where in the memory it is; leaves on a miss. `aligned`: the access must be
   * aligned to it always (`strict`) or where alignment is checked. What lies a little behind the address
   * looked up last in this instruction is looked up with it.
   */
  protected translate(
    address: V64,
    access: 0 | 1,
    span: number,
    aligned: number,
    strict: boolean,
    unprivileged: boolean,
  ): Place {
    const node = address as unknown as Node;
    const last = this.translation;
    if (
      last?.access === access && last.aligned === aligned && !strict && !last.strict &&
      last.unprivileged === unprivileged
    ) {
      const offset = distance(last.address, node);
      if (offset >= 0 && offset % aligned === 0 && offset + span <= MAX_SPAN) {
        last.span = Math.max(last.span, offset + span);
        return { at: last.place.at, offset: last.place.offset + offset };
      }
    }
    if (strict) this.restartable = false;
    const place = this.#lookedUp() ?? { at: this.#lookUpHere(address), offset: 0 };
    const translation = { address: node, access, span, aligned, strict, unprivileged, place };
    this.translation = translation;
    this.translations.push(translation);
    return place;
  }

  #lookUpHere(address: V64): V32 {
    const va = this.use(address);
    const nth = this.translations.length;
    return this.node("i32", [], () => {
      this.#emitTranslation(this.translations[nth] as Translation, va);
    }, { pinned: true });
  }
  /** The place where the frame has looked it up already, together with others. */
  #lookedUp(): Place | undefined {
    const { frame } = this;
    const found = frame.lookedUp?.(this.translations.length);
    if (found === undefined) return undefined;
    const at: V32 = this.node("i32", [], () => frame.asm.get(found.local), { repeat: true });
    return { at, offset: found.offset };
  }

  #emitTranslation(t: Translation, va: Node): void {
    const { frame } = this;
    const { asm } = frame;
    const a = frame.temporary(I64);
    this.push(va);
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
    const narrow = t.span <= t.aligned && t.span < WIDE;
    const misaligned = narrow ? frame.misaligned?.() : undefined;
    if (misaligned === undefined) {
      asm.get(a).getGlobal(tag).op("i64.sub").getGlobal(limit).op("i64.ge_u");
    } else asm.get(a).i64(BigInt(t.span - 1 - 4096)).op("i64.and").getGlobal(tag).op("i64.ne");
    asm.if("if", false);
    const entry = this.#lookUp(t, a, 1);
    if (misaligned !== undefined && t.span > 1) this.#countMisaligned(misaligned, a, t.span);
    asm.get(a).i64(-4096n).op("i64.and").setGlobal(tag);
    asm.i64(PAGE_LIMIT).setGlobal(limit);
    asm.get(entry).mem("i32.load", DATA_TLB.ADDEND).setGlobal(addend);
    asm.end();
    asm.get(a).op("i32.wrap_i64").getGlobal(addend).op("i32.add");
  }

  /** Counts the access in variable `count` if it is misaligned, and leaves where there were many. */
  #countMisaligned(count: number, a: number, span: number): void {
    const { frame } = this;
    const { asm } = frame;
    asm.getGlobal(count).get(a).op("i32.wrap_i64").i32(span - 1).op("i32.and").i32(0).op("i32.ne")
      .op("i32.add").setGlobal(count);
    asm.getGlobal(count).i32(MISALIGNED_LIMIT).op("i32.gt_u").if("if", false);
    frame.leave(EXIT.MISALIGNED);
    asm.end();
  }

  /** Leaves unless the TLB has the page of the address in local `a`. The local of its entry. */
  #lookUp(t: Translation, a: number, aligned: number): number {
    const { frame } = this;
    const { asm } = frame;
    const entry = frame.temporary(I32);
    this.#pushEntry(a, t.unprivileged);
    asm.tee(entry);
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
    const mayCross = frame.pageCache !== undefined && aligned === 1 && t.span >= WIDE;
    if (mayCross) this.#pushCrossing(t, a, entry);
    frame.miss(a, t.access | (t.unprivileged ? UNPRIVILEGED_ACCESS : 0), t.span);
    if (mayCross) asm.end();
    asm.end();
    return entry;
  }

  /**
   * Opens a condition: that the access in local `a`, which is not in the page of the TLB's `entry` alone, cannot
   * be made as if it were. It can where the TLB has the next page too and that lies behind it in the memory.
   */
  #pushCrossing(t: Translation, a: number, entry: number): void {
    const { frame } = this;
    const { asm } = frame;
    const tag = t.access === ACCESS.READ ? DATA_TLB.READ_TAG : DATA_TLB.WRITE_TAG;
    const [end, next] = [frame.temporary(I64), frame.temporary(I32)];
    asm.get(a).i64(BigInt(t.span - 1)).op("i64.add").i64(-4096n).op("i64.and").set(end);
    this.#pushEntry(end, t.unprivileged);
    asm.tee(next).mem("i64.load", tag).get(end).op("i64.ne");
    asm.get(entry).mem("i64.load", tag).get(a).i64(-4096n).op("i64.and").op("i64.ne");
    asm.op("i32.or");
    asm.get(entry).mem("i32.load", DATA_TLB.ADDEND).get(next).mem("i32.load", DATA_TLB.ADDEND);
    asm.op("i32.ne").op("i32.or").if("if", true);
  }

  /** Pushes where the TLB may have the page of the address in local `a`. */
  #pushEntry(a: number, unprivileged: boolean): void {
    const { frame } = this;
    const { asm } = frame;
    pushTlbEntry(asm, () => {
      if (unprivileged) asm.get(frame.cpu).mem("i32.load", O.tlbUnprivileged);
      else frame.pushTlb();
    }, a);
  }

  protected place(
    address: V64,
    access: 0 | 1,
    size: number,
    options: AccessOptions,
    strict = options.ordered ?? false,
  ): Place {
    const aligned = options.aligned ?? size;
    return this.translate(address, access, size, aligned, strict, options.unprivileged ?? false);
  }
  /** The place of an access that is not made together with others. */
  protected address(address: V64, access: 0 | 1, size: number, options: AccessOptions): V32 {
    return this.place(address, access, size, options, true).at;
  }
  protected loadAt(at: V32, size: AccessSize, offset = 0, ordered = false): V64 {
    const node = this.use(at);
    const value: V64 = this.node("i64", [], () => {
      this.push(node);
      if (ordered) atomicLoad(this.frame.asm, size);
      else this.frame.asm.mem(LOAD[size], offset);
    }, { pinned: true, pure: !ordered });
    if (!ordered) (value as unknown as Node).loadOf = { at, offset, size };
    return value;
  }
  /** Whether the access is to be an atomic one: what is ordered is aligned. */
  protected ordered(options: AccessOptions): boolean {
    return this.parallel && (options.ordered ?? false);
  }
  load(address: V64, size: AccessSize, options: AccessOptions = {}): V64 {
    if (this.ordered(options)) {
      return this.loadAt(this.address(address, ACCESS.READ, size, options), size, 0, true);
    }
    const { at, offset } = this.place(address, ACCESS.READ, size, options);
    return this.loadAt(at, size, offset);
  }
  store(address: V64, size: AccessSize, value: V64, options: AccessOptions = {}): void {
    if (this.ordered(options)) {
      return this.storeAt(
        this.address(address, ACCESS.WRITE, size, options),
        size,
        value,
        0,
        true,
      );
    }
    const { at, offset } = this.place(address, ACCESS.WRITE, size, options);
    this.storeAt(at, size, value, offset);
  }

  protected storeAt(at: V32, size: AccessSize, value: V64, offset = 0, ordered = false): void {
    const { lowOf } = value as unknown as Node;
    if (lowOf && !ordered && 8 * size <= lowOf.bits && size >= 4) {
      return this.#storeNumber(size === 8 ? "f64" : "f32", at, lowOf.slot, offset);
    }
    const nodes = [at, value].map((v) => this.use(v)) as [Node, Node];
    this.run(() => {
      this.push(nodes[0]);
      this.push(nodes[1]);
      if (ordered) atomicStore(this.frame.asm, size);
      else this.frame.asm.mem(STORE[size], offset);
    });
  }
  /** Stores the lowest bits of a vector register. */
  #storeNumber(type: "f32" | "f64", at: V32, slot: Slot, offset: number): void {
    const nodes = [at, this.register(type, slot, type)].map((v) => this.use(v)) as [Node, Node];
    this.run(() => {
      this.push(nodes[0]);
      this.push(nodes[1]);
      this.frame.asm.mem(`${type}.store`, offset);
    });
  }
  prefetch(_address: V64): void {}
}
