import assert from "node:assert/strict";
import fc from "fast-check";
import { UserError } from "../../src/base/errors.ts";
import { loadImage, parseImage } from "../../src/vmm/image.ts";
import { buildElf, type TestSegment } from "./elf_builder.ts";
import { assertOnlyUserErrors, assertUserError, damaged } from "./user_error.ts";

interface ImageFields {
  textOffset?: bigint;
  imageSize?: bigint;
  flags?: number;
  length?: number;
  /** Offset in the file where the one section of an EFI header ends. */
  peEnd?: number;
}

function arm64Image(fields: ImageFields): Uint8Array {
  const bytes = new Uint8Array(fields.length ?? 256);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(8, fields.textOffset ?? 0n, true);
  view.setBigUint64(16, fields.imageSize ?? 0x1000n, true);
  view.setUint32(24, fields.flags ?? 0xa, true);
  view.setUint32(56, 0x644d5241, true);
  if (fields.peEnd !== undefined) writePeHeader(view, fields.peEnd);
  return bytes;
}

function writePeHeader(view: DataView, sectionEnd: number): void {
  view.setUint16(0, 0x5a4d, true);
  view.setUint32(60, 64, true);
  view.setUint32(64, 0x4550, true);
  view.setUint16(64 + 6, 1, true);
  view.setUint16(64 + 20, 8, true);
  const section = 64 + 24 + 8;
  view.setUint32(section + 16, sectionEnd - 200, true);
  view.setUint32(section + 20, 200, true);
}

const CODE = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const TEXT: TestSegment = { va: 0x4010_0000n, pa: 0x4010_0000n, bytes: CODE, memSize: 0x20n };

async function gzip(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes.slice()]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

Deno.test("a flat binary is loaded and entered at 0x40080000", () => {
  assert.deepEqual(parseImage(CODE), {
    kind: "flat",
    segments: [{ pa: 0x4008_0000, bytes: CODE, memSize: 8 }],
    entry: 0x4008_0000,
    bias: 0,
  });
});

Deno.test("an Image goes to its text_offset, or 2 MiB up when that is zero", () => {
  const at = (fields: ImageFields): number | undefined => parseImage(arm64Image(fields)).entry;
  assert.equal(at({ textOffset: 0x8_0000n }), 0x4008_0000);
  assert.equal(at({ textOffset: 0n }), 0x4020_0000);
  assert.equal(at({ textOffset: 0n, imageSize: 0n }), 0x4008_0000, "before Linux 3.17");
});

Deno.test("an Image takes image_size bytes of memory, never less than the file", () => {
  const size = (fields: ImageFields): number | undefined =>
    parseImage(arm64Image(fields)).segments[0]?.memSize;
  assert.equal(size({ imageSize: 0x2_0000n }), 0x2_0000);
  assert.equal(size({ imageSize: 16n }), 256);
  assert.equal(parseImage(arm64Image({})).kind, "Image");
});

Deno.test("an Image with an EFI header is checked for being whole", () => {
  assert.equal(parseImage(arm64Image({ peEnd: 256 })).kind, "Image");
  assertUserError(() => parseImage(arm64Image({ peEnd: 257 })), /^kernel: cut short/);
});

Deno.test("Images for another machine are refused by name", () => {
  assertUserError(() => parseImage(arm64Image({ flags: 1 })), /big-endian/);
  assertUserError(() => parseImage(arm64Image({ flags: 2 << 1 })), /pages of 16 KiB/);
  assertUserError(() => parseImage(arm64Image({ flags: 3 << 1 })), /pages of 64 KiB/);
  assert.equal(parseImage(arm64Image({ flags: 0 })).kind, "Image");
  assertUserError(() => parseImage(arm64Image({ length: 60 }), "vmlinuz"), /^vmlinuz: cut short/);
});

Deno.test("an ELF is loaded at its physical addresses and entered there", () => {
  const data = { va: 0xffff_8000_0000_0000n, pa: 0x4020_0000n, bytes: CODE, memSize: 8n };
  const note = { ...TEXT, type: 4 };
  const empty = { ...TEXT, bytes: new Uint8Array(0), memSize: 0n };
  const segments = [TEXT, data, note, empty];
  const image = parseImage(buildElf({ entry: 0xffff_8000_0000_0004n, segments }));
  assert.equal(image.kind, "elf");
  assert.deepEqual(image.segments, [
    { pa: 0x4010_0000, bytes: CODE, memSize: 0x20 },
    { pa: 0x4020_0000, bytes: CODE, memSize: 8 },
  ]);
  assert.equal(image.entry, 0x4020_0004);
  assert.equal(image.bias, 0);
});

Deno.test("a position-independent ELF below RAM is moved to 0x40080000 or its alignment", () => {
  const low = { ...TEXT, va: 0x1040n, pa: 0x1040n, align: 0x1000n };
  const moved = parseImage(buildElf({ type: 3, entry: 0x1044n, segments: [low] }));
  assert.equal(moved.bias, 0x4007_f000);
  assert.equal(moved.segments[0]?.pa, 0x4008_0040);
  assert.equal(moved.entry, 0x4008_0044);
  const large = { ...low, align: 0x20_0000n };
  const aligned = parseImage(buildElf({ type: 3, entry: 0x1044n, segments: [large] }));
  assert.equal(aligned.entry, 0x4020_1044);
  const high = parseImage(buildElf({ type: 3, entry: 0x4010_0000n, segments: [TEXT] }));
  assert.equal(high.bias, 0);
});

const ENTRY = { entry: 0x4010_0000n };
const BAD_ELF: readonly (readonly [string, Uint8Array, RegExp])[] = [
  ["x86-64", buildElf({ machine: 62 }), /ELF is for x86-64, not for AArch64/],
  ["unknown machine", buildElf({ machine: 9999 }), /ELF is for machine 9999/],
  ["object file", buildElf({ type: 1 }), /ELF type 1 is no program/],
  ["no segments", buildElf({}), /nothing to load/],
  ["header cut", buildElf({}).slice(0, 40), /ELF header is cut short/],
  ["bytes cut", buildElf({ ...ENTRY, segments: [TEXT] }).slice(0, -1), /cut short/],
  ["entry outside", buildElf({ entry: 0n, segments: [TEXT] }), /entry point 0x0 is in no segment/],
  ["entry odd", buildElf({ entry: 0x4010_0002n, segments: [TEXT] }), /is not aligned/],
  [
    "virtual address",
    buildElf({ ...ENTRY, segments: [{ ...TEXT, pa: 0xffff_8000_0800_0000n }] }),
    /0xffff800008000000 is no physical address/,
  ],
  [
    "file larger than memory",
    buildElf({ ...ENTRY, segments: [{ ...TEXT, memSize: 4n }] }),
    /larger in the file/,
  ],
  [
    "alignment",
    buildElf({ type: 3, entry: 0n, segments: [{ ...TEXT, va: 0n, pa: 0n, align: 3n }] }),
    /alignment 0x3 is not possible/,
  ],
];

for (const [name, bytes, message] of BAD_ELF) {
  Deno.test(`a bad ELF is one clear error: ${name}`, () => {
    assertUserError(() => parseImage(bytes), message);
  });
}

Deno.test("a big-endian AArch64 ELF is called so", () => {
  const bytes = buildElf({ ...ENTRY, segments: [TEXT] });
  bytes[5] = 2;
  assertUserError(() => parseImage(bytes), /ELF is big-endian/);
});

Deno.test("files given by mistake are named, and an empty one too", () => {
  const mistaken = (at: number, ...values: number[]): Uint8Array => {
    const bytes = new Uint8Array(0x300);
    bytes.set(values, at);
    return bytes;
  };
  const refused = (bytes: Uint8Array, message: RegExp): void =>
    assertUserError(() => parseImage(bytes), message);
  refused(new Uint8Array(0), /empty/);
  refused(mistaken(0, 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0), /xz/);
  refused(mistaken(0, 0x28, 0xb5, 0x2f, 0xfd), /zstd/);
  refused(mistaken(0, 0xd0, 0x0d, 0xfe, 0xed), /device tree/);
  refused(mistaken(0x24, 0x18, 0x28, 0x6f, 0x01), /32-bit Arm/);
  refused(mistaken(0x202, 0x48, 0x64, 0x72, 0x53), /x86/);
  refused(mistaken(0, 0x4d, 0x5a), /cut short/);
  refused(mistaken(0, 0x4d, 0x5a, 0, 0, 0x7a, 0x69, 0x6d, 0x67), /compressed EFI/);
  refused(arm64Image({ peEnd: 200 }).slice(0, 50), /Image cut short/);
});

Deno.test("a compressed kernel is unpacked, whatever it is inside", async () => {
  const image = arm64Image({ textOffset: 0x8_0000n });
  assert.deepEqual(await loadImage(await gzip(image)), parseImage(image));
  assert.deepEqual(await loadImage(CODE), parseImage(CODE));
});

Deno.test("damaged, endless and doubled gzip are user errors", async () => {
  const packed = await gzip(arm64Image({}));
  const refused = (bytes: Uint8Array, message: RegExp, maxBytes = 1000): Promise<void> =>
    assert.rejects(loadImage(bytes, { label: "k", maxBytes }), (error) => {
      return error instanceof UserError && message.test(error.message);
    });
  await refused(packed.slice(0, 30), /^k: gzip data is damaged or cut short$/);
  await refused(Uint8Array.of(0x1f, 0x8b), /damaged or cut short/);
  await refused(packed, /unpacks to more than 255 bytes/, 255);
  await refused(await gzip(packed), /compressed twice/);
  await refused(await gzip(new Uint8Array(0)), /empty/);
});

Deno.test("random and nearly valid kernels throw nothing but a user error", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    assertOnlyUserErrors(() => parseImage(bytes));
  }));
  const valid = [
    arm64Image({ peEnd: 256 }),
    buildElf({ ...ENTRY, segments: [TEXT] }),
    buildElf({ type: 3, entry: 0n, segments: [{ ...TEXT, va: 0n, pa: 0n }] }),
  ];
  fc.assert(
    fc.property(fc.oneof(...valid.map(damaged)), (bytes) => {
      assertOnlyUserErrors(() => parseImage(bytes));
    }),
    { numRuns: 2000 },
  );
});

Deno.test("random gzip data throws nothing but a user error", async () => {
  const packed = await gzip(arm64Image({}));
  await fc.assert(fc.asyncProperty(damaged(packed), async (bytes) => {
    await loadImage(bytes).catch((error) => assert.ok(error instanceof UserError, String(error)));
  }));
});
