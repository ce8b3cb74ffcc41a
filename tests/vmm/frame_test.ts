import assert from "node:assert/strict";
import { InternalError } from "../../src/base/errors.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { rangesOf } from "../../src/base/struct.ts";
import { FrameReader, type FrameSource, FrameWriter, readFrame } from "../../src/vmm/frame.ts";
import {
  FRAME_AREA_SIZE,
  FrameAreaHead,
  FrameHeaderLayout,
  FrameIrqLayout,
  FrameVcpuLayout,
} from "../../src/vmm/frame_layout.ts";

const BASE = 128;

function area(): { memory: SharedMemory; writer: FrameWriter; reader: FrameReader } {
  const memory = SharedMemory.create(FRAME_AREA_SIZE + BASE);
  return {
    memory,
    writer: new FrameWriter(memory, BASE),
    reader: new FrameReader(memory, BASE),
  };
}

/** A frame all of whose numbers say which one it is. */
const source = (n: number, during: () => void = () => {}): FrameSource => ({
  fillFrame(writer) {
    writer.header.virtualNs = n;
    writer.header.insns = 2 ** 52 + n;
    during();
    for (let i = 0; i < 3; i++) {
      const v = writer.add("vcpus");
      if (v === undefined) continue;
      v.vcpuIdx = i;
      v.pcpu = -1;
      v.pc = 0xffff_8000_0000_0000n + BigInt(n);
      writer.memory.st64(v.lr + 8, 0x50a0_0000_0000_0028n);
      writer.memory.st53(v.byClass + 8 * 0x24, n);
    }
    const irq = writer.add("irqs");
    if (irq !== undefined) irq.injected = n;
    const op = writer.add("el2Ops");
    if (op !== undefined) writer.setName(op.name, "TLBI");
  },
});

Deno.test("a frame reads back as what was filled in", () => {
  const { memory, writer } = area();
  assert.equal(readFrame(memory, BASE), undefined);
  assert.equal(writer.publish(source(7)), 1);
  const frame = readFrame(memory, BASE);
  assert.equal(frame?.virtualNs, 7);
  assert.equal(frame?.insns, 2 ** 52 + 7);
  assert.deepEqual(frame?.vcpus.map((v) => [v.vcpuIdx, v.pcpu, v.pc, v.byClass[0x24]]), [
    [0, -1, 0xffff_8000_0000_0007n, 7],
    [1, -1, 0xffff_8000_0000_0007n, 7],
    [2, -1, 0xffff_8000_0000_0007n, 7],
  ]);
  assert.deepEqual(frame?.vcpus[2]?.lr[1], { lo: 40, hi: 0x50a0_0000 });
  assert.equal(frame?.el2Ops[0]?.name, "TLBI");
  assert.deepEqual([frame?.irqs.length, frame?.timers.length, frame?.locks.length], [1, 0, 0]);
});

Deno.test("a frame being written is not seen: the one before is, whole", () => {
  const { memory, writer } = area();
  writer.publish(source(1));
  for (let n = 2; n < 6; n++) {
    writer.publish(source(n, () => {
      const seen = readFrame(memory, BASE);
      assert.equal(seen?.virtualNs, n - 1);
      assert.deepEqual(seen?.vcpus.map((v) => v.byClass[0x24]), [n - 1, n - 1, n - 1]);
      assert.equal(seen?.irqs[0]?.injected, n - 1);
    }));
    assert.equal(readFrame(memory, BASE)?.virtualNs, n);
  }
});

Deno.test("a reader that the writer has overtaken says so instead of a torn frame", () => {
  const { memory, writer } = area();
  writer.publish(source(1));
  const writing = BASE + FrameAreaHead.offset.writing;
  // The other buffer is being written: fine.
  memory.st32(writing, 2);
  assert.equal(readFrame(memory, BASE)?.virtualNs, 1);
  // This one is being written anew.
  memory.st32(writing, 3);
  assert.throws(() => readFrame(memory, BASE), InternalError);
});

Deno.test("an entry left out is not left over from an older frame", () => {
  const { memory, writer } = area();
  for (let n = 0; n < 2; n++) writer.publish(source(9));
  writer.publish({ fillFrame: (w) => void w.add("vcpus") });
  const frame = readFrame(memory, BASE);
  assert.equal(frame?.vcpus.length, 1);
  assert.equal(frame?.vcpus[0]?.pc, 0n);
  assert.equal(frame?.virtualNs, 0);
  assert.equal(frame?.irqs.length, 0);
});

Deno.test("what does not fit is counted and spoils nothing", () => {
  const { memory, writer } = area();
  writer.publish({
    fillFrame(w) {
      for (let i = 0; i < 1030; i++) {
        const irq = w.add("irqs");
        if (irq !== undefined) irq.intid = i;
      }
    },
  });
  const frame = readFrame(memory, BASE);
  assert.equal(frame?.irqs.length, 1024);
  assert.equal(frame?.irqs[1023]?.intid, 1023);
  assert.equal(frame?.omitted, 6);
  assert.equal(frame?.exits.length, 0);
});

Deno.test("frames are published on request, and each is read once", () => {
  const { writer, reader } = area();
  assert.equal(writer.wanted, false);
  reader.request();
  reader.request();
  assert.equal(writer.wanted, true);
  writer.publish(source(1));
  assert.equal(writer.wanted, false);
  assert.equal(reader.poll()?.sequence, 1);
  assert.equal(reader.poll(), undefined);
  // One that nobody asked for, at the end of the machine, does not count as a request.
  writer.publish(source(2));
  assert.equal(writer.wanted, false);
  assert.equal(reader.poll()?.virtualNs, 2);
});

Deno.test("nothing of a frame is part of the machine's state", () => {
  for (const layout of [FrameHeaderLayout, FrameVcpuLayout, FrameIrqLayout, FrameAreaHead]) {
    assert.deepEqual(rangesOf(layout as never, "arch"), []);
  }
});
