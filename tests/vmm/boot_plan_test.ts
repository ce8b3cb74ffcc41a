import assert from "node:assert/strict";
import fc from "fast-check";
import { type AddressRange, type BootInput, planBoot } from "../../src/vmm/boot_plan.ts";
import { cells, node, writeFdt } from "../../src/vmm/fdt.ts";
import { type LoadedImage, parseImage } from "../../src/vmm/image.ts";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";
import { assertUserError } from "./user_error.ts";

const MIB = 2 ** 20;
const RAM = { base: 0x4000_0000, size: 128 * MIB };
const DTB = writeFdt({ root: node("", {}), reservations: [], bootCpu: 0 });
const FLAT = parseImage(new Uint8Array(4096).fill(1));

function kernelAt(...parts: (readonly [number, number])[]): LoadedImage {
  const segments = parts.map(([pa, memSize]) => ({ pa, bytes: Uint8Array.of(1), memSize }));
  return { kind: "elf", segments, entry: parts[0]?.[0] ?? 0, bias: 0 };
}

function refused(input: Partial<BootInput>, message: RegExp): void {
  assertUserError(() => planBoot({ kernel: FLAT, dtb: DTB, ram: RAM, ...input }), message);
}

Deno.test("kernel, initrd and device tree lie where QEMU puts them; registers follow booting.rst", () => {
  const initrd = new Uint8Array(3 * MIB + 1);
  const plan = planBoot({ kernel: FLAT, initrd, dtb: DTB, ram: RAM });
  assert.deepEqual(plan.segments.map(({ name, pa, memSize }) => [name, pa, memSize]), [
    ["kernel", 0x4008_0000, 4096],
    ["initrd", 0x4400_0000, initrd.length],
    ["dtb", 0x4440_0000, DTB.length],
  ]);
  assert.deepEqual(plan.initrd, { start: 0x4400_0000, end: 0x4430_0001 });
  assert.equal(plan.dtb, 0x4440_0000);
  assert.deepEqual(plan.registers, { pc: 0x4008_0000, x0: 0x4440_0000, x1: 0, x2: 0, x3: 0 });
});

Deno.test("without an initrd the device tree has its place", () => {
  const plan = planBoot({ kernel: FLAT, dtb: DTB, ram: RAM });
  assert.equal(plan.dtb, 0x4400_0000);
  assert.equal(plan.initrd, undefined);
  assert.equal(plan.segments.length, 2);
});

Deno.test("a device tree can be made once the place of the initrd is known", () => {
  let seen: AddressRange | undefined;
  const dtb = (initrd: AddressRange | undefined): Uint8Array => {
    seen = initrd;
    return buildVirtDtb({ vcpus: 1, ramSize: RAM.size, ...(initrd ? { initrd } : {}) });
  };
  const plan = planBoot({ kernel: FLAT, initrd: new Uint8Array(10), dtb, ram: RAM });
  assert.deepEqual(seen, plan.initrd);
  planBoot({ kernel: FLAT, dtb, ram: RAM });
  assert.equal(seen, undefined);
});

Deno.test("a kernel that ends behind half of RAM moves initrd and device tree up", () => {
  const kernel = kernelAt([0x4008_0000, 80 * MIB]);
  const plan = planBoot({ kernel, initrd: new Uint8Array(1), dtb: DTB, ram: RAM });
  assert.equal(plan.initrd?.start, 0x4508_0000);
  assert.equal(plan.dtb, 0x4520_0000);
});

Deno.test("bytes behind the device tree's end are not loaded", () => {
  const plan = planBoot({ kernel: FLAT, dtb: Uint8Array.of(...DTB, 9, 9), ram: RAM });
  assert.equal(plan.segments.at(-1)?.bytes.length, DTB.length);
});

Deno.test("what does not fit or overlaps is one clear error", () => {
  refused({ ram: { ...RAM, size: 0x8_0000 } }, /^kernel: needs 0x40080000 to 0x40081000, memory/);
  refused({ kernel: kernelAt([0x3fff_0000, 4]) }, /^kernel: needs 0x3fff0000/);
  refused({ kernel: kernelAt([0x4008_0000, Infinity]) }, /to the end of all addresses, memory/);
  refused({ initrd: new Uint8Array(64 * MIB + 1) }, /^initrd: needs 0x44000000 to 0x48000001/);
  refused({ initrd: new Uint8Array(0) }, /^initrd: the file is empty/);
  refused({ initrd: new Uint8Array(64 * MIB) }, /^dtb: needs 0x48000000/);
  refused(
    { kernel: kernelAt([0x4010_0000, 0x100], [0x4010_0080, 1]) },
    /^kernel and kernel overlap at 0x40100080/,
  );
});

Deno.test("a bad device tree is one clear error", () => {
  refused({ dtb: new Uint8Array(100) }, /magic is 0x0/);
  refused({ dtb: DTB.slice(0, -4) }, /cut short/);
  refused({ dtb: cells(0xd00dfeed, 0, 0, 0, 0, 0, 0, 0, 0, 0) }, /not version 17/);
  const huge = node("", { fill: new Uint8Array(2 * MIB) });
  refused(
    { dtb: writeFdt({ root: huge, reservations: [], bootCpu: 0 }) },
    /device tree: \d+ bytes; a kernel takes 2097152/,
  );
});

Deno.test("every plan lies in RAM and nothing overlaps", () => {
  const part = fc.tuple(fc.nat(160 * MIB).map((at) => RAM.base + at), fc.nat(64 * MIB));
  fc.assert(fc.property(fc.array(part, { maxLength: 3 }), fc.nat(8 * MIB), (parts, size) => {
    const initrd = new Uint8Array(size);
    const input = { kernel: kernelAt(...parts), initrd, dtb: DTB, ram: RAM };
    const plan = attempt(input);
    const sorted = plan?.segments.toSorted((a, b) => a.pa - b.pa) ?? [];
    sorted.forEach((segment, index) => {
      const limit = sorted[index + 1]?.pa ?? RAM.base + RAM.size;
      assert.ok(segment.pa >= RAM.base && segment.pa + segment.memSize <= limit);
    });
  }));
});

function attempt(input: BootInput): ReturnType<typeof planBoot> | undefined {
  try {
    return planBoot(input);
  } catch (error) {
    assertUserError(() => {
      throw error;
    }, /overlap|needs|empty/);
    return undefined;
  }
}
