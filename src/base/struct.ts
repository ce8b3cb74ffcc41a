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

/** How a field at byte `o` of an instance is read, and written from `v`: JavaScript, in a method of the view. */
type Accessor = (o: number) => readonly [read: string, write?: string];

const word = (views: string, shift: number): Accessor => (o) => {
  const element = `this.${views}[(this.base + ${o}) >>> ${shift}]`;
  return [element, `${element} = v`];
};

const ACCESSORS: Record<Kind, Accessor> = {
  u8: word("memory.u8", 0),
  u16: word("memory.u16", 1),
  u32: (o) => [`this.w[${o >>> 2}]`, `this.w[${o >>> 2}] = v`],
  i32: (o) => [`this.w[${o >>> 2}] | 0`, `this.w[${o >>> 2}] = v`],
  bool: (o) => [`this.w[${o >>> 2}] !== 0`, `this.w[${o >>> 2}] = v ? 1 : 0`],
  u53: (o) => {
    const at = (n: number) => `this.w[${(o + n) >>> 2}]`;
    const two32 = "4294967296";
    return [`${at(0)} + ${at(4)} * ${two32}`, `${at(0)} = v; ${at(4)} = v / ${two32}`];
  },
  u64: word("memory.u64", 3),
  bytes: (o) => [`this.base + ${o}`],
};

/** What the constructor of a layout's views is. */
type ViewClass = new (memory: SharedMemory, base: number) => View;

/**
 * The class of a layout's views, made from text. Accessors made as closures would all be one function to
 * V8: what it learns of one layout's views would be spoiled by the others', and none of them inlined. A view has
 * an array of its instance's words: an element at a constant place takes V8 half the instructions of one at a
 * place that it has to compute.
 */
function viewClass(places: readonly Place[], size: number): ViewClass {
  const methods = places.map(({ name, offset, field }) => {
    const [read, write] = (field.count > 1 ? ACCESSORS.bytes : ACCESSORS[field.kind])(offset);
    const key = JSON.stringify(name);
    const setter = write === undefined ? "" : `set ${key}(v) { ${write}; }`;
    return `get ${key}() { return ${read}; } ${setter}`;
  });
  const text = `"use strict"; return class {
    constructor(memory, base) { this.memory = memory; this.base = base >>> 0; this.w = memory.wordsAt(base >>> 0, ${
    size >>> 2
  }); }
    ${methods.join("\n")}
  };`;
  return new Function(text)() as ViewClass;
}

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
  // V8 compiles text at once and each time anew: only of the layouts that are used.
  let LayoutView: ViewClass | undefined;
  const offset = Object.fromEntries(places.map((p) => [p.name, p.offset]));
  return {
    name,
    size,
    offset: offset as { [K in keyof F]: number },
    places,
    at: (memory, base) => new (LayoutView ??= viewClass(places, size))(memory, base) as Struct<F>,
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
