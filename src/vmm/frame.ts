/**
 * Frames: what the dashboard sees of the machine at one slice boundary.
 *
 * The dashboard asks by a word in the shared memory; the machine then fills the buffer that is not the
 * published one and publishes it. A reader copies the published buffer into plain objects and then
 * checks that the writer has not come round to it, so a frame is never half one moment and half
 * another. Fields carry the names of the KVM structures they are taken from (kvm_host.h, the vgic).
 */
import { assert } from "../base/errors.ts";
import type { SharedMemory } from "../base/memory.ts";
import {
  array,
  bool,
  type Fields,
  i32,
  type Layout,
  layout,
  type Role,
  space,
  type Struct,
  u32,
  u53,
  u64,
  type ViewOf,
} from "../base/struct.ts";

/** In a time field: there is none. */
export const NONE = Number.MAX_SAFE_INTEGER;

/** What a vCPU is doing. */
export const VCPU_STATES = ["off", "running", "runnable", "wfi", "blocked", "paused"] as const;
export type VcpuStateName = (typeof VCPU_STATES)[number];

/** What a physical CPU is doing. */
export const PCPU_STATES = ["idle", "host", "guest"] as const;

/** Exit reasons: exception classes 0 to 63, then these two. */
export const EXIT_IRQ = 64;
export const EXIT_SERROR = 65;

/** Buckets of a frame's histograms: bucket b counts times below 2^(b + 6) ns, the last one is open. */
export const FRAME_BUCKETS = 16;

const o: Role = "observe";

/** The pace of a machine whose time is the host's: there is none to keep. */
export const REAL_TIME = 0xffff_ffff;

/** The machine as a whole. */
export const FrameHeaderLayout = layout("frame_header", {
  sequence: u32(o),
  /** Number of the last command whose effect this frame shows. */
  acknowledged: u32(o),
  virtualNs: u53(o),
  /** Wall time since the machine started; with `insns` the basis of MIPS. */
  wallNs: u53(o),
  insns: u53(o),
  /** Of these, those that ran as translated code. */
  translatedInsns: u53(o),
  /** Regions in use, modules made and regions that had to go for others so far; bytes of WebAssembly in use, and their bound. */
  regions: u32(o),
  regionModules: u53(o),
  regionsEvicted: u53(o),
  codeBytes: u53(o),
  codeBytesMax: u53(o),
  /** How often generated code was left for a page that a data TLB or a code TLB did not have. */
  dataMisses: u53(o),
  codeMisses: u53(o),
  /** 0 VHE, 1 nVHE. */
  mode: u32(o),
  /** GIC version: 2 or 3. */
  gic: u32(o),
  nrLr: u32(o),
  /** Priority bits that the virtual CPU interface implements. */
  priBits: u32(o),
  paused: bool(o),
  /** Virtual time in thousandths of wall time that is not overtaken; 0 runs free; {@link REAL_TIME}. */
  pacePermille: u32(o),
  /** Entries that did not fit into the frame. */
  omitted: u32(o),
});

/** A VM. */
const FrameVmLayout = layout("frame_vm", {
  vmId: u32(o),
  vmid: u32(o),
  vcpus: u32(o),
  nrSpis: u32(o),
  /** vgic_dist.enabled: GICD_CTLR.EnableGrp1. */
  distEnabled: bool(o),
  stage2Pages: u32(o),
});

/** A physical CPU. */
const FramePcpuLayout = layout("frame_pcpu", {
  pcpu: u32(o),
  /** Position in {@link PCPU_STATES}. */
  state: u32(o),
  /** The vCPU loaded on it, or -1. */
  vm: i32(o),
  vcpu: i32(o),
  el: u32(o),
  insns: u53(o),
  /** Changes of the current thread. */
  switches: u53(o),
});

/** A vCPU with its list registers. */
export const FrameVcpuLayout = layout("frame_vcpu", {
  vm: u32(o),
  vcpuIdx: u32(o),
  /** Position in {@link VCPU_STATES}. */
  state: u32(o),
  /** Physical CPU it is loaded on, or -1. */
  pcpu: i32(o),
  /** It is in the guest: the list registers are the hardware's. */
  inGuest: bool(o),
  el: u32(o),
  pc: u64(o),
  /** VBAR_EL1: where the guest's kernel has its vectors, so where it is. */
  vbar: u64(o),
  /** PSTATE as in SPSR_EL2: D, A, I, F are bits 9 to 6. */
  pstate: u32(o),
  insns: u53(o),
  /** Of these, those that ran as translated code. */
  translatedInsns: u53(o),
  /** kvm_vcpu_stat. */
  exits: u53(o),
  entries: u53(o),
  hvc_exit_stat: u53(o),
  wfe_exit_stat: u53(o),
  wfi_exit_stat: u53(o),
  mmio_exit_user: u53(o),
  mmio_exit_kernel: u53(o),
  signal_exits: u53(o),
  halt_wakeup: u53(o),
  halt_wait_ns: u53(o),
  irqExits: u53(o),
  serrorExits: u53(o),
  /** Length of the ap_list, and how many on it are pending and enabled. */
  apListLength: u32(o),
  pendingIrqs: u32(o),
  /** When its next timer fires, absolute virtual time, or {@link NONE}. */
  nextTimerNs: u53(o),
  /** ICH_HCR_EL2, ICH_VMCR_EL2, ICH_MISR_EL2, ICH_EISR_EL2, ICH_ELRSR_EL2: live in the guest, else the shadow. */
  vgicHcr: u32(o),
  vgicVmcr: u32(o),
  misr: u32(o),
  eisr: u32(o),
  elrsr: u32(o),
  /** ICH_AP1R0_EL2 and ICH_AP0R0_EL2. */
  ap1r: u32(o),
  ap0r: u32(o),
  /** Running priority as ICV_RPR_EL1 would read: 0xff when nothing is active. */
  rpr: u32(o),
  usedLrs: u32(o),
  /** ICH_LR<n>_EL2. */
  lr: array("u64", 16, o),
  /** Exits by exception class. */
  byClass: array("u53", 64, o),
});

/** An arch_timer_context. */
export const FrameTimerLayout = layout("frame_timer", {
  vm: u32(o),
  vcpuIdx: u32(o),
  /** TIMER_PTIMER 0 or TIMER_VTIMER 1. */
  index: u32(o),
  irq: u32(o),
  /** CNTx_CTL_EL0: ENABLE, IMASK, ISTATUS. */
  cntCtl: u32(o),
  cntCval: u53(o),
  /** The guest's counter now, and the offset from the physical one, which may be any 64 bits. */
  counter: u53(o),
  cntvoff: u64(o),
  irqLevel: bool(o),
  /** In the hardware, or kept by a soft timer. */
  loaded: bool(o),
  hrtimerArmed: bool(o),
  fired: u53(o),
  /** When it fires next, absolute virtual time, or {@link NONE}. */
  nextFireNs: u53(o),
  /** From line raised to the guest's vector, virtual time. */
  latencyP50Ns: u53(o),
  latencyP99Ns: u53(o),
  latencyBuckets: array("u32", FRAME_BUCKETS, o),
});

/** A vgic_irq. */
export const FrameIrqLayout = layout("frame_irq", {
  vm: u32(o),
  intid: u32(o),
  /** The vCPU a private interrupt belongs to, or -1. */
  ownerVcpu: i32(o),
  /** The vCPU it is to go to, or -1. */
  targetVcpu: i32(o),
  /** The vCPU whose ap_list it is on, or -1, and its position there from 0. */
  vcpu: i32(o),
  apListPosition: i32(o),
  /** The list register of that vCPU which holds it, or -1. */
  lr: i32(o),
  pendingLatch: bool(o),
  lineLevel: bool(o),
  active: bool(o),
  enabled: bool(o),
  hw: bool(o),
  hwIntid: u32(o),
  /** GICv2: the vCPUs, a bit each, that have sent the SGI that is pending. */
  source: u32(o),
  /** VGIC_CONFIG_EDGE 0, VGIC_CONFIG_LEVEL 1. */
  config: u32(o),
  group: u32(o),
  priority: u32(o),
  injected: u53(o),
  acked: u53(o),
  eoied: u53(o),
  /** Virtual time of its last event, or {@link NONE}. */
  lastEventNs: u53(o),
  latencyCount: u53(o),
  latencyP50Ns: u53(o),
  latencyP99Ns: u53(o),
});

/** World switches of one exit reason. */
const FrameExitLayout = layout("frame_exit", {
  /** Exception class, {@link EXIT_IRQ} or {@link EXIT_SERROR}. */
  reason: u32(o),
  count: u53(o),
  /** Virtual time outside the guest, summed, and its percentiles. */
  totalNs: u53(o),
  p50Ns: u53(o),
  p99Ns: u53(o),
  /** Modelled cycles, summed. */
  cycles: u53(o),
  /** Registers saved and restored, summed. */
  registersMoved: u53(o),
  buckets: array("u32", FRAME_BUCKETS, o),
});

/** A count with a name of up to 32 ASCII characters: an el2_port operation kind. */
const FrameCounterLayout = layout("frame_counter", { name: space(32, o), count: u53(o) });

/** A lock class. */
const FrameLockLayout = layout("frame_lock", {
  name: space(32, o),
  acquisitions: u53(o),
  contended: u53(o),
});

/** A section of a frame: how many entries fit. */
const SECTIONS = {
  vms: { layout: FrameVmLayout, max: 8 },
  pcpus: { layout: FramePcpuLayout, max: 16 },
  vcpus: { layout: FrameVcpuLayout, max: 64 },
  timers: { layout: FrameTimerLayout, max: 128 },
  irqs: { layout: FrameIrqLayout, max: 1024 },
  exits: { layout: FrameExitLayout, max: 66 },
  el2Ops: { layout: FrameCounterLayout, max: 64 },
  locks: { layout: FrameLockLayout, max: 24 },
} as const;
type SectionName = keyof typeof SECTIONS;
const SECTION_NAMES = Object.keys(SECTIONS) as SectionName[];

const CountsLayout = layout(
  "frame_counts",
  Object.fromEntries(SECTION_NAMES.map((n) => [n, u32(o)])) as Record<
    SectionName,
    ReturnType<typeof u32>
  >,
);

/** Where the sections lie within a buffer. */
const PLACE = ((): { at: Record<SectionName, number>; size: number } => {
  let size = FrameHeaderLayout.size + CountsLayout.size;
  const at = {} as Record<SectionName, number>;
  for (const name of SECTION_NAMES) {
    at[name] = size;
    size += SECTIONS[name].layout.size * SECTIONS[name].max;
  }
  return { at, size };
})();

/** The words both sides look at; the two buffers follow. */
export const FrameAreaHead = layout("frame_area", {
  /** Frames asked for. */
  requested: u32(o),
  /** Number of the frame that may be read: it lies in buffer number `published % 2`. */
  published: u32(o),
  /** Number of the frame being written, or written last. */
  writing: u32(o),
});

/** Bytes of shared memory that the frames take. */
export const FRAME_AREA_SIZE: number = FrameAreaHead.size + 2 * PLACE.size;

const bufferAt = (base: number, sequence: number): number =>
  base + FrameAreaHead.size + (sequence & 1) * PLACE.size;

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
