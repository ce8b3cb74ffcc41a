import assert from "node:assert/strict";
import fc from "fast-check";
import { SharedMemory } from "../../src/base/memory.ts";
import {
  array,
  bool,
  type Field,
  type Fields,
  i32,
  layout,
  rangesOf,
  type Role,
  space,
  structs,
  u16,
  u32,
  u53,
  u64,
  u8,
} from "../../src/base/struct.ts";

const All = layout("all", {
  byte: u8(),
  half: u16(),
  flag: bool(),
  small: u8("cache"),
  word: u32(),
  signed: i32(),
  address: u53(),
  wide: u64(),
  tail: u8(),
  words: array("u32", 3),
  bytes: space(5),
  last: u8("observe"),
});

Deno.test("fields lie in the order written at their natural alignment", () => {
  assert.deepEqual({ ...All.offset }, {
    byte: 0,
    half: 2,
    flag: 4,
    small: 8,
    word: 12,
    signed: 16,
    address: 24,
    wide: 32,
    tail: 40,
    words: 48,
    bytes: 64,
    last: 69,
  });
  assert.equal(All.size, 72);
});

Deno.test("an empty layout and one of a single byte", () => {
  assert.equal(layout("none", {}).size, 0);
  assert.equal(layout("one", { a: u8() }).size, 8);
});

/** Values at the limits of each scalar field, and what reads back. */
const LIMITS: readonly (readonly [keyof typeof All.offset, readonly unknown[]])[] = [
  ["byte", [0, 1, 0x80, 0xff]],
  ["half", [0, 0x8000, 0xffff]],
  ["flag", [true, false]],
  ["small", [7]],
  ["word", [0, 0x8000_0000, 0xffff_ffff]],
  ["signed", [0, -1, -0x8000_0000, 0x7fff_ffff]],
  ["address", [0, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER]],
  ["wide", [0n, 1n << 63n, 0xffff_ffff_ffff_ffffn]],
  ["tail", [255]],
  ["last", [255]],
];

Deno.test("each kind keeps its values and leaves its neighbours alone", () => {
  const base = 160;
  for (const fill of [0x00, 0xff]) {
    for (const [name, values] of LIMITS) {
      for (const value of values) {
        const m = SharedMemory.create(4096);
        m.u8.fill(fill, 0, 4096);
        const view = All.at(m, base) as unknown as Record<string, unknown>;
        view[name] = value;
        assert.equal(view[name], value, name);
        const { offset, field } = All.places.find((p) => p.name === name) ?? assert.fail();
        const inside = (at: number) => at >= base + offset && at < base + offset + field.width;
        const touched = m.u8.subarray(0, 4096).findIndex((b, at) => b !== fill && !inside(at));
        assert.equal(touched, -1, `${name} wrote byte ${touched - base}`);
      }
    }
  }
});

Deno.test("what does not fit is cut to the field's width", () => {
  const view = All.at(SharedMemory.create(4096), 8);
  view.byte = 0x1ff;
  view.half = -1;
  view.word = -1;
  view.wide = -1n;
  assert.deepEqual([view.byte, view.half, view.word, view.wide], [
    0xff,
    0xffff,
    0xffffffff,
    ~0n & 0xffff_ffff_ffff_ffffn,
  ]);
});

Deno.test("arrays read as the address of their first element, and cannot be assigned", () => {
  const view = All.at(SharedMemory.create(4096), 80);
  assert.equal(view.words, 80 + 48);
  assert.equal(view.bytes, 80 + 64);
  assert.throws(() => Object.assign(view, { words: 1 }), TypeError);
});

Deno.test("an array of one element is a scalar field of its kind", () => {
  const One = layout("one", { a: array("u32", 1) });
  const view = One.at(SharedMemory.create(4096), 8) as unknown as { a: number };
  view.a = 9;
  assert.equal(view.a, 9);
});

Deno.test("structs reserves room for copies of another layout", () => {
  const Inner = layout("inner", { a: u32(), b: u64() });
  const Outer = layout("outer", { before: u8(), inner: structs(Inner, 3), after: u8() });
  assert.equal(Outer.offset.inner, 8);
  assert.equal(Outer.offset.after, 8 + 3 * 16);
  const m = SharedMemory.create(4096);
  const outer = Outer.at(m, 16);
  Inner.at(m, outer.inner + 2 * Inner.size).b = ~0n;
  assert.equal(outer.after, 0);
});

Deno.test("two views of one instance see each other; of two instances do not", () => {
  const m = SharedMemory.create(4096);
  const [a, again, b] = [All.at(m, 0), All.at(m, 0), All.at(m, All.size)];
  a.word = 5;
  assert.deepEqual([again.word, b.word], [5, 0]);
});

Deno.test("the bytes of a role: neighbours merged, padding in none", () => {
  assert.deepEqual(rangesOf(All as never, "arch"), [
    { offset: 0, length: 1 },
    { offset: 2, length: 6 },
    { offset: 12, length: 8 },
    { offset: 24, length: 17 },
    { offset: 48, length: 12 },
    { offset: 64, length: 5 },
  ]);
  assert.deepEqual(rangesOf(All as never, "cache"), [{ offset: 8, length: 1 }]);
  assert.deepEqual(rangesOf(All as never, "observe"), [{ offset: 69, length: 1 }]);
});

const ROLES: readonly Role[] = ["arch", "cache", "observe"];
const makers: readonly ((role: Role) => Field<never>)[] = [u8, u16, u32, i32, bool, u53, u64]
  .map((make) => (role: Role) => make(role) as unknown as Field<never>)
  .concat(
    [1, 2, 5, 9].map((n) => (role: Role) => array("u16", n, role) as unknown as Field<never>),
    [1, 3, 8].map((n) => (role: Role) => space(n, role) as unknown as Field<never>),
  );

Deno.test("any layout: fields do not overlap, are aligned, and the roles' ranges are exactly their bytes", () => {
  const field = fc.tuple(fc.nat(makers.length - 1), fc.nat(2));
  fc.assert(fc.property(fc.array(field, { maxLength: 12 }), (picks) => {
    const fields: Record<string, Field<never>> = {};
    picks.forEach(([maker, role], i) => {
      fields[`f${i}`] = (makers[maker] ?? u8)(ROLES[role] ?? "arch") as Field<never>;
    });
    const made = layout("any", fields as unknown as Fields);
    const roleOf = new Array<Role | undefined>(made.size).fill(undefined);
    for (const { offset, field } of made.places) {
      assert.equal(offset % (field.count > 1 ? 8 : field.width), 0);
      for (let at = offset; at < offset + field.width * field.count; at++) {
        assert.ok(at < made.size);
        assert.equal(roleOf[at], undefined, "overlap");
        roleOf[at] = field.role;
      }
    }
    for (const role of ROLES) {
      const covered = new Set<number>();
      for (const { offset, length } of rangesOf(made, role)) {
        for (let at = offset; at < offset + length; at++) covered.add(at);
      }
      roleOf.forEach((r, at) => assert.equal(covered.has(at), r === role));
    }
  }));
});
