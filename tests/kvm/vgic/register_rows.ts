/**
 * Registers of the virtual interrupt controllers as rows: what each word reads after reset, what of a
 * write it keeps, how wide it may be accessed, and whether every vCPU has its own; each from a place in
 * Linux 6.1, arch/arm64/kvm/vgic. {@link testRows} checks them all.
 */
import assert from "node:assert/strict";
import { GICR_SIZE } from "../../../src/arm/arch/gic.ts";
import { type World } from "./world.ts";

export const ONES = 0xffff_ffff;
/** vCPUs of the VMs that rows are checked on. */
export const VCPUS = 3;
/** A frame that each vCPU reads at the same address, or one for each. */
export type FrameKind = "distributor" | "redistributor";

/** One 32-bit word. */
export interface RegisterRow {
  readonly name: string;
  readonly offset: number;
  /** The kernel's file and functions. */
  readonly from: string;
  /** After reset; of each vCPU where they differ. */
  readonly reset: number | readonly number[];
  /** After ones were written to it, and after zeros then; as reset where left out. */
  readonly ones?: number;
  readonly zeros?: number;
  /** Takes bytes; takes 64 bits (of the even word). */
  readonly bytes?: true;
  readonly wide?: true;
  /** Each vCPU has its own. */
  readonly banked?: true;
}

interface Access {
  read(vcpu: number, offset: number, size: number): number;
  write(vcpu: number, offset: number, size: number, value: number): void;
}

/** Accesses of a frame as vCPU `vcpu` makes them; of redistributors each vCPU to its own. */
function accessOf(w: World, frame: FrameKind): Access {
  if (frame === "redistributor") {
    return {
      read: (vcpu, offset, size) => w.readRd(offset, vcpu, size, vcpu),
      write: (vcpu, offset, size, value) => w.writeRd(offset, value, vcpu, size, vcpu),
    };
  }
  return {
    read: (vcpu, offset, size) => w.read(offset, size, vcpu),
    write: (vcpu, offset, size, value) => w.write(offset, value, size, vcpu),
  };
}

const resetOf = ({ reset }: RegisterRow, vcpu: number): number =>
  typeof reset === "number" ? reset : reset[vcpu] ?? 0;

function checkReset(row: RegisterRow, a: Access): void {
  for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
    assert.equal(a.read(vcpu, row.offset, 4), resetOf(row, vcpu), `reset, vCPU ${vcpu}`);
  }
}

function checkMask(row: RegisterRow, a: Access): void {
  const writer = 1, other = 2;
  const steps = [[ONES, row.ones], [0, row.zeros ?? row.ones]] as const;
  for (const [value, expected] of steps) {
    const now = expected ?? resetOf(row, writer);
    a.write(writer, row.offset, 4, value);
    assert.equal(a.read(writer, row.offset, 4), now, `0x${value.toString(16)} written`);
    const elsewhere = row.banked || Array.isArray(row.reset) ? resetOf(row, other) : now;
    assert.equal(a.read(other, row.offset, 4), elsewhere, "as another vCPU sees it");
  }
}

const byteOf = (word: number, n: number): number => (word >>> (8 * n)) & 0xff;

function checkBytes(row: RegisterRow, a: Access): void {
  a.write(0, row.offset, 4, 0);
  const zeros = a.read(0, row.offset, 4);
  for (let n = 0; n < 4; n++) {
    assert.equal(a.read(0, row.offset + n, 1), byteOf(zeros, n), `byte ${n}`);
  }
  a.write(0, row.offset + 1, 1, 0xff);
  const ones = row.ones ?? resetOf(row, 0);
  const expected = ((zeros & ~0xff00) | (ones & 0xff00)) >>> 0;
  assert.equal(a.read(0, row.offset, 4), expected, "byte 1 written");
  assert.equal(a.read(0, row.offset + 1, 1), byteOf(expected, 1), "byte 1 read");
}

/** Accesses of widths that the row does not take, and unaligned ones: they read as zero and write nothing. */
function checkOthers(row: RegisterRow, a: Access): void {
  const reads: [number, number][] = [[row.offset, 2], [row.offset + 2, 2], [row.offset + 1, 4]];
  if (!row.bytes) reads.push([row.offset, 1], [row.offset + 3, 1]);
  if (!row.wide) reads.push([row.offset & ~7, 8]);
  const before = a.read(0, row.offset, 4);
  for (const [offset, size] of reads) {
    assert.equal(a.read(0, offset, size), 0, `${size} bytes at ${offset.toString(16)}`);
    a.write(0, offset, size, size === 8 ? 2 ** 53 - 1 : ONES);
    assert.equal(a.read(0, row.offset, 4), before, `${size} bytes written`);
  }
}

/** Registers a test for each row. `make` gives a VM of {@link VCPUS} vCPUs, as reset. */
export function testRows(
  model: string,
  frame: FrameKind,
  rows: readonly RegisterRow[],
  make: () => World,
): void {
  for (const row of rows) {
    Deno.test(`${model}: ${row.name}, as ${row.from} has it`, () => {
      const fresh = (): Access => accessOf(make(), frame);
      checkReset(row, fresh());
      checkMask(row, fresh());
      if (row.bytes) checkBytes(row, fresh());
      checkOthers(row, fresh());
    });
  }
}

/** Every word of the frame that no row (and no word of the same register) names is zero and stays so. */
export function testHoles(
  model: string,
  frame: FrameKind,
  bytes: number,
  isRegister: (offset: number) => boolean,
  make: () => World,
): void {
  Deno.test(`${model}: everything else of the ${frame}'s frame is RAZ/WI`, () => {
    const a = accessOf(make(), frame);
    const end = Math.min(bytes, GICR_SIZE);
    for (let offset = 0; offset < end; offset += 4) {
      if (isRegister(offset)) continue;
      a.write(0, offset, 4, ONES);
      assert.equal(a.read(0, offset, 4), 0, offset.toString(16));
    }
  });
}

/** Places in KVM's source that both kinds of controller share. */
export const CONFIG = "vgic-mmio.c: vgic_mmio_read_config, vgic_mmio_write_config";
export const PRIORITY = "vgic-mmio.c: vgic_mmio_read_priority, vgic_mmio_write_priority";
export const set = (what: string): string =>
  `vgic-mmio.c: vgic_mmio_read_${what}, vgic_mmio_write_s${what}`;
export const clear = (what: string): string =>
  `vgic-mmio.c: vgic_mmio_read_${what}, vgic_mmio_write_c${what}`;
