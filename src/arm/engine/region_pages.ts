/** Pages that a region's accesses were in: what is remembered of them, and the look-up of several accesses at once. */
import { CpuLayout } from "../arch/cpu_state.ts";
import { ACCESS, DATA_TLB } from "../arch/tlb_layout.ts";
import type { Linear } from "./linear.ts";
import { CPU, type LocalRegisters } from "./region_registers.ts";
import type { WholeVector } from "./region_lanes.ts";
import type { SharedBytes } from "./region_sharing.ts";
import { type FunctionBody, I32, I64 } from "./wasm_assembler.ts";
import { NO_BASE, NO_PAGE, type PageCache } from "./wasm_frame.ts";
import { pushTlbEntry } from "./wasm_memory.ts";
import type { ModuleAssembler } from "./wasm_module.ts";

const O = CpuLayout.offset;

/** The page caches of a region, and the places where it has looked up what it accesses. */
export class RegionPages {
  /** By base register and kind of access, and by numbers below those for what is looked up together. */
  readonly #caches = new Map<number, PageCache>();
  /** Where in the memory what was looked up together begins. */
  readonly #places: number[] = [];
  #last = 2 * NO_BASE;

  /** `tlb`: the local that has its address. */
  constructor(
    readonly asm: FunctionBody,
    readonly module: ModuleAssembler,
    readonly tlb: number,
    readonly registers: LocalRegisters,
  ) {}

  cache(base: number, access: 0 | 1): PageCache {
    return this.#cache(2 * base + access);
  }

  #cache(key: number): PageCache {
    const known = this.#caches.get(key);
    if (known) return known;
    const cache = {
      tag: this.module.global(I64),
      addend: this.module.global(I32),
      limit: this.module.global(I64),
    };
    this.#caches.set(key, cache);
    return cache;
  }

  /** Page caches are of one run of generated code, which the calls within it leave as they are. */
  forget(out: FunctionBody): void {
    if (this.#caches.size === 0) return;
    const epoch = this.module.global(I64);
    out.get(CPU).mem("i64.load", O.epoch).getGlobal(epoch).op("i64.ne").if();
    out.get(CPU).mem("i64.load", O.epoch).setGlobal(epoch);
    for (const { limit, tag } of this.#caches.values()) {
      out.i64(0n).setGlobal(limit).i64(NO_PAGE).setGlobal(tag);
    }
    out.end();
  }

  /** The local with the place of the `nth` of what was looked up together. */
  place(nth: number): number {
    const local = this.#places[nth] ?? this.asm.local(I32);
    this.#places[nth] = local;
    return local;
  }

  /**
   * Sets the places of all that is looked up together, and branches to `elsewhere` where some of it is not in one
   * page that the TLB has. `a` and `entry`: locals, i64 and i32, that are free.
   */
  lookUp(all: readonly SharedBytes[], a: number, entry: number, elsewhere: string): void {
    const { asm } = this;
    all.forEach(({ first, span, access }, nth) => {
      const { tag, addend, limit } = this.#cache(--this.#last);
      this.#pushLinear(first);
      asm.tee(a).getGlobal(tag).op("i64.sub").getGlobal(limit).op("i64.ge_u").if("if", false);
      pushTlbEntry(asm, () => asm.get(this.tlb), a);
      asm.tee(entry).mem(
        "i64.load",
        access === ACCESS.READ ? DATA_TLB.READ_TAG : DATA_TLB.WRITE_TAG,
      );
      asm.get(a).i64(BigInt(span - 1)).op("i64.add").i64(-4096n).op("i64.and").op("i64.ne");
      asm.brIf(elsewhere, false);
      asm.get(a).i64(-4096n).op("i64.and").setGlobal(tag);
      asm.i64(BigInt(4096 - span + 1)).setGlobal(limit);
      asm.get(entry).mem("i32.load", DATA_TLB.ADDEND).setGlobal(addend);
      asm.end();
      asm.get(a).op("i32.wrap_i64").getGlobal(addend).op("i32.add").set(this.place(nth));
    });
  }

  /** Makes a vector register what was looked up, if there is one. */
  loadWhole(whole: WholeVector | undefined): void {
    if (whole === undefined) return;
    const { asm } = this;
    const { slot, share, load } = whole;
    this.registers.set(slot, "q", () => {
      asm.get(this.place(share.bytes)).vectorMem(load, share.offset);
    });
  }

  #pushLinear({ terms, offset }: Linear): void {
    const { asm } = this;
    terms.forEach(({ slot, shift }, i) => {
      this.registers.push(slot, "x");
      if (shift > 0) asm.i64(BigInt(shift)).op("i64.shl");
      if (i > 0) asm.op("i64.add");
    });
    if (terms.length === 0) asm.i64(BigInt(offset));
    else if (offset !== 0) asm.i64(BigInt(offset)).op("i64.add");
  }
}
