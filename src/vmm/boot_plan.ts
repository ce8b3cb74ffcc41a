/** Where kernel, initrd and device tree go in RAM, and what the first CPU starts with. */

import { UserError } from "../base/errors.ts";
import { hex } from "./byte_reader.ts";
import { fdtTotalSize, readFdt } from "./fdt.ts";
import type { ImageSegment, LoadedImage } from "./image.ts";
import { DTB_MAX_SIZE, dtbBase, initrdBase } from "./virt_map.ts";

/** A range of addresses: `end` is the first behind it. */
export interface AddressRange {
  start: number;
  end: number;
}

/** What is to be booted. */
export interface BootInput {
  kernel: LoadedImage;
  initrd?: Uint8Array;
  /** A finished blob, or what makes one once the place of the initrd is known. */
  dtb: Uint8Array | ((initrd: AddressRange | undefined) => Uint8Array);
  /** RAM, in bytes. */
  ram: { base: number; size: number };
}

/** A piece of the plan: a segment that says what it is. */
export interface BootSegment extends ImageSegment {
  name: "kernel" | "initrd" | "dtb";
}

/** The plan. Everything lies in RAM and nothing overlaps. */
export interface BootPlan {
  segments: BootSegment[];
  /** Address of the device tree. */
  dtb: number;
  initrd: AddressRange | undefined;
  /** The first CPU (booting.rst): x0 has the device tree, x1 to x3 are zero. */
  registers: { pc: number; x0: number; x1: number; x2: number; x3: number };
}

/** Plans a boot. UserError, in one line, for what is damaged, overlaps or does not fit. */
export function planBoot(input: BootInput): BootPlan {
  const kernel = input.kernel.segments.map((part) => named("kernel", part));
  for (const segment of kernel) requireInRam(segment, input.ram);
  const kernelEnd = Math.max(input.ram.base, ...kernel.map(endOf));
  const initrd = planInitrd(input, kernelEnd);
  const dtb = planDtb(input, initrd ?? emptyInitrd(input, kernelEnd));
  const segments = [...kernel, ...(initrd ? [initrd] : []), dtb];
  requireApart(segments);
  return {
    segments,
    dtb: dtb.pa,
    initrd: initrd && rangeOf(initrd),
    registers: { pc: input.kernel.entry, x0: dtb.pa, x1: 0, x2: 0, x3: 0 },
  };
}

function named(name: BootSegment["name"], part: ImageSegment): BootSegment {
  return { name, ...part };
}

function endOf(segment: ImageSegment): number {
  return segment.pa + segment.memSize;
}

function rangeOf(segment: ImageSegment): AddressRange {
  return { start: segment.pa, end: endOf(segment) };
}

function planInitrd(input: BootInput, kernelEnd: number): BootSegment | undefined {
  const { initrd: bytes, ram } = input;
  if (bytes === undefined) return undefined;
  if (bytes.length === 0) throw new UserError("initrd: the file is empty");
  const pa = initrdBase(ram.base, ram.size, kernelEnd);
  const segment = named("initrd", { pa, bytes, memSize: bytes.length });
  requireInRam(segment, ram);
  return segment;
}

/** Without an initrd the device tree goes where one would have been. */
function emptyInitrd(input: BootInput, kernelEnd: number): ImageSegment {
  const pa = initrdBase(input.ram.base, input.ram.size, kernelEnd);
  return { pa, bytes: new Uint8Array(0), memSize: 0 };
}

function planDtb(input: BootInput, initrd: ImageSegment): BootSegment {
  const range = initrd.memSize > 0 ? rangeOf(initrd) : undefined;
  const blob = typeof input.dtb === "function" ? input.dtb(range) : input.dtb;
  const bytes = checkedDtb(blob);
  const segment = named("dtb", { pa: dtbBase(endOf(initrd)), bytes, memSize: bytes.length });
  requireInRam(segment, input.ram);
  return segment;
}

function checkedDtb(blob: Uint8Array): Uint8Array {
  readFdt(blob);
  const size = fdtTotalSize(blob);
  if (size > DTB_MAX_SIZE) {
    throw new UserError(`device tree: ${size} bytes; a kernel takes ${DTB_MAX_SIZE}`);
  }
  return blob.subarray(0, size);
}

function requireInRam(segment: BootSegment, ram: BootInput["ram"]): void {
  const ramEnd = ram.base + ram.size;
  if (segment.pa >= ram.base && endOf(segment) <= ramEnd) return;
  const range = `${hex(segment.pa)} to ${hex(endOf(segment))}`;
  throw new UserError(
    `${segment.name}: needs ${range}, memory is ${hex(ram.base)} to ${hex(ramEnd)}`,
  );
}

function requireApart(segments: readonly BootSegment[]): void {
  const sorted = segments.toSorted((a, b) => a.pa - b.pa);
  sorted.forEach((segment, index) => {
    const next = sorted[index + 1];
    if (next === undefined || endOf(segment) <= next.pa) return;
    throw new UserError(`${segment.name} and ${next.name} overlap at ${hex(next.pa)}`);
  });
}
