/**
 * How a frame lies in the shared memory: a header, how many entries each section has, the sections. Two
 * such buffers follow the words by which both sides agree on which one is read. `frame.ts` fills and
 * reads them. Fields carry the names of the KVM structures they are taken from (kvm_host.h, the vgic).
 */
import { array, bool, i32, layout, type Role, space, u32, u53, u64 } from "../base/struct.ts";

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
export const FrameVmLayout = layout("frame_vm", {
  vmId: u32(o),
  vmid: u32(o),
  vcpus: u32(o),
  nrSpis: u32(o),
  /** vgic_dist.enabled: GICD_CTLR.EnableGrp1. */
  distEnabled: bool(o),
  stage2Pages: u32(o),
});

/** A physical CPU. */
export const FramePcpuLayout = layout("frame_pcpu", {
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
export const FrameExitLayout = layout("frame_exit", {
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
export const FrameCounterLayout = layout("frame_counter", { name: space(32, o), count: u53(o) });

/** A lock class. */
export const FrameLockLayout = layout("frame_lock", {
  name: space(32, o),
  acquisitions: u53(o),
  contended: u53(o),
});

/** A section of a frame: how many entries fit. */
export const SECTIONS = {
  vms: { layout: FrameVmLayout, max: 8 },
  pcpus: { layout: FramePcpuLayout, max: 16 },
  vcpus: { layout: FrameVcpuLayout, max: 64 },
  timers: { layout: FrameTimerLayout, max: 128 },
  irqs: { layout: FrameIrqLayout, max: 1024 },
  exits: { layout: FrameExitLayout, max: 66 },
  el2Ops: { layout: FrameCounterLayout, max: 64 },
  locks: { layout: FrameLockLayout, max: 24 },
} as const;
/** The sections, in the order in which they lie in a buffer. */
export type SectionName = keyof typeof SECTIONS;
export const SECTION_NAMES = Object.keys(SECTIONS) as SectionName[];

/** How many entries each section of a frame has. */
export const CountsLayout = layout(
  "frame_counts",
  Object.fromEntries(SECTION_NAMES.map((n) => [n, u32(o)])) as Record<
    SectionName,
    ReturnType<typeof u32>
  >,
);

/** Where the sections lie within a buffer. */
export const PLACE = ((): { at: Record<SectionName, number>; size: number } => {
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

/** Address of the buffer that a frame lies in, of the area at `base`. */
export const bufferAt = (base: number, sequence: number): number =>
  base + FrameAreaHead.size + (sequence & 1) * PLACE.size;
