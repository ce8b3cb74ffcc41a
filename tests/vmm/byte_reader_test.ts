import assert from "node:assert/strict";
import { ByteReader, hex, toNumber } from "../../src/vmm/byte_reader.ts";
import { assertUserError } from "./user_error.ts";

const BYTES = Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x41, 0x42, 0);

Deno.test("numbers are read in either byte order", () => {
  const little = new ByteReader(BYTES, "file", true);
  const big = new ByteReader(BYTES, "file", false);
  assert.deepEqual([little.u16(0), big.u16(0)], [0x2211, 0x1122]);
  assert.deepEqual([little.u32(1), big.u32(1)], [0x55443322, 0x22334455]);
  assert.deepEqual([little.u64(0), big.u64(0)], [0x8877665544332211n, 0x1122334455667788n]);
});

Deno.test("a reader over a part of a buffer stays in that part", () => {
  const reader = new ByteReader(BYTES.subarray(2, 6), "part", true);
  assert.equal(reader.u32(0), 0x66554433);
  assertUserError(() => reader.u32(1), /^part: cut short: 4 bytes at 0x1 end beyond 0x4$/);
  assertUserError(() => reader.u16(-1), /cut short/);
  assertUserError(() => reader.slice(0, 2 ** 64), /cut short/);
  assertUserError(() => reader.slice(2, -1), /cut short/);
});

Deno.test("texts end at a NUL before the end that is given", () => {
  const reader = new ByteReader(BYTES, "file", true);
  assert.equal(reader.cString(8, BYTES.length), "AB");
  assert.equal(reader.cString(10, BYTES.length), "");
  assertUserError(() => reader.cString(8, 10), /^file: text without an end$/);
  const long = new ByteReader(new Uint8Array(5000).fill(65, 0, 4999), "file", true);
  assertUserError(() => long.cString(0, 5000), /longer than 4096/);
});

Deno.test("numbers that are not exact become the end of all addresses", () => {
  assert.equal(toNumber(2n ** 53n - 1n), 2 ** 53 - 1);
  assert.equal(toNumber(2n ** 53n), Infinity);
  assert.equal(hex(toNumber(2n ** 64n - 1n)), "the end of all addresses");
  assert.equal(hex(0xffn), "0xff");
});
