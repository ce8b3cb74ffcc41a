/**
 * Typed layouts over the shared memory. A layout names its fields once; from it come the views that
 * read and write them, the offsets that generated code uses, and the list of bytes a state hash
 * covers. Each field is of one role:
 *
 * - `arch`: state of the machine or the hypervisor. Covered by `stateHash`, kept by snapshots.
 * - `cache`: could be dropped at any time and rebuilt from `arch`.
 * - `observe`: counters, rings, wall-clock times. Never read by anything that decides.
 */
import type { SharedMemory } from "./memory.ts";

export type Role = "arch" | "cache" | "observe";

/** How a field is stored. `u53` is a 64-bit word read as a number; `u64` one read as a bigint (cold paths). */
export type Kind = "u8" | "u16" | "u32" | "i32" | "bool" | "u53" | "u64" | "bytes";

export interface Field<T> {
  readonly kind: Kind;
  /** Bytes of one element. */
  readonly width: number;
  /** Elements: 1 for a scalar; more make the property the address of the first. */
  readonly count: number;
  readonly role: Role;
  /** Only for the type checker: what the property reads as. */
  readonly type?: T;
}

const WIDTH = { u8: 1, u16: 2, u32: 4, i32: 4, bool: 4, u53: 8, u64: 8, bytes: 1 } as const;

function scalar<T>(kind: Kind, role: Role): Field<T> {
  return { kind, width: WIDTH[kind], count: 1, role };
}

export const u8 = (role: Role = "arch"): Field<number> => scalar("u8", role);
export const u16 = (role: Role = "arch"): Field<number> => scalar("u16", role);
export const u32 = (role: Role = "arch"): Field<number> => scalar("u32", role);
export const i32 = (role: Role = "arch"): Field<number> => scalar("i32", role);
export const bool = (role: Role = "arch"): Field<boolean> => scalar("bool", role);
/** A 64-bit word used as a number: addresses, ticks, counts. Exact below 2^53. */
export const u53 = (role: Role = "arch"): Field<number> => scalar("u53", role);
/** A 64-bit word used as a bigint. */
export const u64 = (role: Role = "arch"): Field<bigint> => scalar("u64", role);

/** The address (byte offset in the memory) of an array's first element; read-only. */
export type ArrayAddress = number & { readonly array: true };

/** `count` elements of `kind`; the property reads as the address of the first. */
export function array(kind: Kind, count: number, role: Role = "arch"): Field<ArrayAddress> {
  return { kind, width: WIDTH[kind], count, role };
}

/** `count` bytes, aligned to 8, in whose place other layouts may lie. */
export function space(count: number, role: Role = "arch"): Field<ArrayAddress> {
  return { kind: "bytes", width: 1, count, role };
}

/** `count` copies of another layout in a row; the property reads as the address of the first. All bytes take `role`. */
export function structs(layout: { size: number }, count: number, role: Role = "arch"): Field<
  ArrayAddress
> {
  return { kind: "bytes", width: 1, count: layout.size * count, role };
}

export type Fields = Record<
  string,
  Field<number> | Field<boolean> | Field<bigint> | Field<ArrayAddress>
>;

type TypeOf<F> = F extends Field<infer T> ? T : never;

/** The properties of a view on a layout with fields `F`. */
export type Struct<F extends Fields> = { -readonly [K in keyof F]: TypeOf<F[K]> } & View;

/** A window on one instance: the memory and the instance's byte address. */
export interface View {
  readonly memory: SharedMemory;
  readonly base: number;
}

/** One field's place in its layout. */
export interface Place {
  readonly name: string;
  readonly offset: number;
  readonly field: Field<unknown>;
}

export interface Layout<F extends Fields> {
  readonly name: string;
  /** Bytes of one instance, a multiple of 8. */
  readonly size: number;
  /** Byte offset of each field from the instance's start. */
  readonly offset: { readonly [K in keyof F]: number };
  readonly places: readonly Place[];
  /** A view of the instance at byte address `base` (a multiple of 8). */
  at(memory: SharedMemory, base: number): Struct<F>;
}

/** What a layout's views read as. */
export type ViewOf<L> = L extends Layout<infer F> ? Struct<F> : never;

type Accessor = (offset: number) => { get(this: View): unknown; set?(this: View, v: never): void };

const ACCESSORS: Record<Kind, Accessor> = {
  u8: (o) => ({
    get() {
      return this.memory.u8[this.base + o];
    },
    set(v: number) {
      this.memory.u8[this.base + o] = v;
    },
  }),
  u16: (o) => ({
    get() {
      return this.memory.u16[(this.base + o) >>> 1];
    },
    set(v: number) {
      this.memory.u16[(this.base + o) >>> 1] = v;
    },
  }),
  u32: (o) => ({
    get() {
      return this.memory.u32[(this.base + o) >>> 2];
    },
    set(v: number) {
      this.memory.u32[(this.base + o) >>> 2] = v;
    },
  }),
  i32: (o) => ({
    get() {
      return this.memory.i32[(this.base + o) >>> 2];
    },
    set(v: number) {
      this.memory.i32[(this.base + o) >>> 2] = v;
    },
  }),
  bool: (o) => ({
    get() {
      return this.memory.u32[(this.base + o) >>> 2] !== 0;
    },
    set(v: boolean) {
      this.memory.u32[(this.base + o) >>> 2] = v ? 1 : 0;
    },
  }),
  u53: (o) => ({
    get() {
      return this.memory.ld53(this.base + o);
    },
    set(v: number) {
      this.memory.st53(this.base + o, v);
    },
  }),
  u64: (o) => ({
    get() {
      return this.memory.u64[(this.base + o) >>> 3];
    },
    set(v: bigint) {
      this.memory.u64[(this.base + o) >>> 3] = v;
    },
  }),
  bytes: (o) => ({
    get() {
      return this.base + o;
    },
  }),
};

function place(fields: Fields): { places: Place[]; size: number } {
  const places: Place[] = [];
  let at = 0;
  for (const [name, field] of Object.entries(fields)) {
    const align = field.kind === "bytes" || field.count > 1 ? 8 : field.width;
    at = Math.ceil(at / align) * align;
    places.push({ name, offset: at, field });
    at += field.width * field.count;
  }
  return { places, size: Math.ceil(at / 8) * 8 };
}

/** Lays out `fields` in the order written, each at its natural alignment (arrays at 8 bytes). */
export function layout<F extends Fields>(name: string, fields: F): Layout<F> {
  const { places, size } = place(fields);
  class LayoutView implements View {
    constructor(readonly memory: SharedMemory, readonly base: number) {}
  }
  for (const { name, offset, field } of places) {
    const make = field.count > 1 ? ACCESSORS.bytes : ACCESSORS[field.kind];
    Object.defineProperty(LayoutView.prototype, name, { ...make(offset), enumerable: true });
  }
  const offset = Object.fromEntries(places.map((p) => [p.name, p.offset]));
  return {
    name,
    size,
    offset: offset as { [K in keyof F]: number },
    places,
    at: (memory, base) => new LayoutView(memory, base) as unknown as Struct<F>,
  };
}

/** A run of bytes of one role within an instance. */
export interface RoleRange {
  readonly offset: number;
  readonly length: number;
}

/** The bytes of one instance that have `role`, neighbours merged. */
export function rangesOf(of: Layout<Fields>, role: Role): RoleRange[] {
  const ranges: { offset: number; length: number }[] = [];
  for (const { offset, field } of of.places) {
    if (field.role !== role) continue;
    const last = ranges.at(-1);
    const length = field.width * field.count;
    if (last && last.offset + last.length === offset) last.length += length;
    else ranges.push({ offset, length });
  }
  return ranges;
}
