/**
 * Frames: what the dashboard sees of the machine at one slice boundary.
 *
 * The dashboard asks by a word in the shared memory; the machine then fills the buffer that is not the
 * published one and publishes it. A reader copies the published buffer into plain objects and then
 * checks that the writer has not come round to it, so a frame is never half one moment and half
 * another. How frames lie in the memory is in `frame_layout.ts`.
 */
import { assert } from "../base/errors.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { Fields, Layout, Struct, ViewOf } from "../base/struct.ts";
import {
  bufferAt,
  CountsLayout,
  FRAME_BUCKETS,
  FrameAreaHead,
  type FrameCounterLayout,
  type FrameExitLayout,
  FrameHeaderLayout,
  type FrameIrqLayout,
  type FrameLockLayout,
  type FramePcpuLayout,
  type FrameTimerLayout,
  type FrameVcpuLayout,
  type FrameVmLayout,
  PLACE,
  SECTION_NAMES,
  type SectionName,
  SECTIONS,
} from "./frame_layout.ts";

/** Fills frames from the machine's state: implemented over src/kvm by the machine, by a fake one in tests. */
export interface FrameSource {
  /** Sets the writer's header and adds an entry for each thing there is, in the order to be shown. */
  fillFrame(writer: FrameWriter): void;
}

type SectionViews = { [S in SectionName]: ViewOf<(typeof SECTIONS)[S]["layout"]>[] };

/** The machine's side. The views it hands out are zeroed, are set field by field, and are reused. */
export class FrameWriter {
  readonly #word: { requested: number; published: number; writing: number };
  readonly #headers: ViewOf<typeof FrameHeaderLayout>[];
  readonly #counts: ViewOf<typeof CountsLayout>[];
  readonly #views: SectionViews[];
  #side = 0;

  constructor(readonly memory: SharedMemory, base: number) {
    const word = (offset: number): number => (base + offset) >>> 2;
    const { requested, published, writing } = FrameAreaHead.offset;
    this.#word = {
      requested: word(requested),
      published: word(published),
      writing: word(writing),
    };
    const sides = [bufferAt(base, 0), bufferAt(base, 1)];
    this.#headers = sides.map((at) => FrameHeaderLayout.at(memory, at));
    this.#counts = sides.map((at) => CountsLayout.at(memory, at + FrameHeaderLayout.size));
    this.#views = sides.map((at) => sectionViews(memory, at));
  }

  /** Whether the dashboard waits for a frame: one load, for every slice boundary. */
  get wanted(): boolean {
    const { i32 } = this.memory;
    return Atomics.load(i32, this.#word.requested) > Atomics.load(i32, this.#word.published);
  }

  /** Fills and publishes a frame; its number. */
  publish(source: FrameSource): number {
    const { i32 } = this.memory;
    const sequence = Atomics.load(i32, this.#word.published) + 1;
    Atomics.store(i32, this.#word.writing, sequence);
    this.#side = sequence & 1;
    const header = this.header;
    this.#clear(header.base);
    source.fillFrame(this);
    header.sequence = sequence;
    Atomics.store(i32, this.#word.published, sequence);
    Atomics.notify(i32, this.#word.published);
    return sequence;
  }

  /** Zeroes what the buffer's last frame has left: header, counts, as many entries as there were. */
  #clear(buffer: number): void {
    const { u8 } = this.memory;
    const counts = this.#counts[this.#side] as Record<SectionName, number>;
    for (const name of SECTION_NAMES) {
      const at = buffer + PLACE.at[name];
      u8.fill(0, at, at + counts[name] * SECTIONS[name].layout.size);
    }
    u8.fill(0, buffer, buffer + FrameHeaderLayout.size + CountsLayout.size);
  }

  /** The header of the frame being filled. */
  get header(): ViewOf<typeof FrameHeaderLayout> {
    return this.#headers[this.#side] as ViewOf<typeof FrameHeaderLayout>;
  }

  /** The next entry of a section, zeroed; undefined when the section is full, which the header then says. */
  add<S extends SectionName>(section: S): SectionViews[S][number] | undefined {
    const counts = this.#counts[this.#side] as Record<SectionName, number>;
    const index = counts[section];
    const view = this.#views[this.#side]?.[section][index] as SectionViews[S][number] | undefined;
    if (view === undefined) {
      this.header.omitted++;
      return undefined;
    }
    counts[section] = index + 1;
    return view;
  }

  /** Stores text into a `name` field: up to 32 ASCII characters. */
  setName(at: number, name: string): void {
    this.memory.u8.set(bytesOfName(name), at);
  }
}

const NAME_BYTES = new Map<string, Uint8Array>();

/** A name as it stands in a frame; kept, since the same ones are in every frame. */
function bytesOfName(name: string): Uint8Array {
  let bytes = NAME_BYTES.get(name);
  if (bytes === undefined) {
    bytes = Uint8Array.from({ length: 32 }, (_, i) => name.charCodeAt(i) & 0x7f);
    NAME_BYTES.set(name, bytes);
  }
  return bytes;
}

function sectionViews(memory: SharedMemory, buffer: number): SectionViews {
  const views = SECTION_NAMES.map((name) => {
    const { layout: of, max } = SECTIONS[name];
    const at = (i: number): unknown => of.at(memory, buffer + PLACE.at[name] + i * of.size);
    return [name, Array.from({ length: max }, (_, i) => at(i))];
  });
  return Object.fromEntries(views) as SectionViews;
}

type Plain<L, Arrays extends string = never> = Readonly<
  Omit<ViewOf<L>, "memory" | "base" | Arrays>
>;

export type FrameHeader = Plain<typeof FrameHeaderLayout>;
export type FrameVm = Plain<typeof FrameVmLayout>;
export type FramePcpu = Plain<typeof FramePcpuLayout>;
/** A list register's halves: bits 31 to 0 and 63 to 32. */
export interface FrameLr {
  readonly lo: number;
  readonly hi: number;
}
export type FrameVcpu = Plain<typeof FrameVcpuLayout, "lr" | "byClass"> & {
  readonly lr: readonly FrameLr[];
  readonly byClass: readonly number[];
};
export type FrameTimer = Plain<typeof FrameTimerLayout, "latencyBuckets"> & {
  readonly latencyBuckets: readonly number[];
};
export type FrameIrq = Plain<typeof FrameIrqLayout>;
export type FrameExit = Plain<typeof FrameExitLayout, "buckets"> & {
  readonly buckets: readonly number[];
};
export type FrameCounter = Plain<typeof FrameCounterLayout, "name"> & { readonly name: string };
export type FrameLock = Plain<typeof FrameLockLayout, "name"> & { readonly name: string };

/** A frame as plain objects. */
export interface Frame extends FrameHeader {
  readonly vms: readonly FrameVm[];
  readonly pcpus: readonly FramePcpu[];
  readonly vcpus: readonly FrameVcpu[];
  readonly timers: readonly FrameTimer[];
  readonly irqs: readonly FrameIrq[];
  readonly exits: readonly FrameExit[];
  readonly el2Ops: readonly FrameCounter[];
  readonly locks: readonly FrameLock[];
}

type ArrayReader = (memory: SharedMemory, at: number) => unknown;

const list = <T>(count: number, element: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => element(i));

/** How the fields that are arrays read: by name, since each has its own meaning. */
const ARRAY_READERS: Readonly<Record<string, ArrayReader>> = {
  lr: (m, at) => list(16, (i) => ({ lo: m.ld32(at + 8 * i), hi: m.ld32(at + 8 * i + 4) })),
  byClass: (m, at) => list(64, (i) => m.ld53(at + 8 * i)),
  buckets: (m, at) => list(FRAME_BUCKETS, (i) => m.ld32(at + 4 * i)),
  latencyBuckets: (m, at) => list(FRAME_BUCKETS, (i) => m.ld32(at + 4 * i)),
  name: (m, at) => {
    const codes = list(32, (i) => m.ld8(at + i));
    const end = codes.indexOf(0);
    return String.fromCharCode(...codes.slice(0, end < 0 ? 32 : end));
  },
};

/** One instance of a layout as a plain object. */
function plain<F extends Fields>(memory: SharedMemory, of: Layout<F>, base: number): object {
  const view = of.at(memory, base) as Struct<F> & Record<string, unknown>;
  const result: Record<string, unknown> = {};
  for (const { name, field } of of.places) {
    const reader = field.count > 1 ? ARRAY_READERS[name] : undefined;
    result[name] = reader ? reader(memory, view[name] as number) : view[name];
  }
  return result;
}

function copyFrame(memory: SharedMemory, buffer: number): Frame {
  const counts = CountsLayout.at(memory, buffer + FrameHeaderLayout.size) as Record<
    SectionName,
    number
  >;
  const sections = SECTION_NAMES.map((name) => {
    const { layout: of, max } = SECTIONS[name];
    const at = (i: number): number => buffer + PLACE.at[name] + i * of.size;
    const count = Math.min(max, counts[name]);
    return [name, list(count, (i) => plain(memory, of as unknown as Layout<Fields>, at(i)))];
  });
  const header = plain(memory, FrameHeaderLayout, buffer);
  return { ...header, ...Object.fromEntries(sections) } as Frame;
}

/** How often a read is tried again when the writer came round; it writes only on request, so once is enough. */
const ATTEMPTS = 4;

/** The frame published last in the area at `base`, or undefined before the first. Never a torn one. */
export function readFrame(memory: SharedMemory, base: number): Frame | undefined {
  const { i32 } = memory;
  const word = (offset: number): number => (base + offset) >>> 2;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const sequence = Atomics.load(i32, word(FrameAreaHead.offset.published));
    if (sequence === 0) return undefined;
    const frame = copyFrame(memory, bufferAt(base, sequence));
    // A read-modify-write: no load of the copy may move behind it.
    const writing = Atomics.add(i32, word(FrameAreaHead.offset.writing), 0);
    if (writing <= sequence + 1 && frame.sequence === sequence) return frame;
  }
  assert(false, "frames are published faster than they can be read");
}

/** The dashboard's side: asks, and reads what is new. */
export class FrameReader {
  readonly #requested: number;
  readonly #published: number;
  #seen = 0;

  constructor(readonly memory: SharedMemory, readonly base: number) {
    this.#requested = (base + FrameAreaHead.offset.requested) >>> 2;
    this.#published = (base + FrameAreaHead.offset.published) >>> 2;
  }

  /** Asks for a frame newer than the published one. */
  request(): void {
    const { i32 } = this.memory;
    Atomics.store(i32, this.#requested, Atomics.load(i32, this.#published) + 1);
  }

  /** The published frame if it is newer than the last one this returned. */
  poll(): Frame | undefined {
    if (Atomics.load(this.memory.i32, this.#published) === this.#seen) return undefined;
    const frame = readFrame(this.memory, this.base);
    this.#seen = frame?.sequence ?? this.#seen;
    return frame;
  }
}
