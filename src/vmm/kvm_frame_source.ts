/**
 * Frames of a machine with KVM on it: reads the machine's and KVM's state into what the dashboard
 * shows. Only reads: no port operation, no lock, no time passes, nothing of the machine changes.
 *
 * What KVM has in the hardware at the moment is read from the hardware: list registers from an entry
 * to the exit's processing, ICH_VMCR_EL2, active priorities and timers while the vCPU is loaded. Else
 * it is what KVM has saved. `vm` in all sections is the VM's place in the order of creation, from 0.
 */
import { TIMER_CTL } from "../arm/arch/fields.ts";
import { HALT } from "../arm/arch/cpu_state.ts";
import { fieldOf, ICH_LR_HI, ICH_VTR } from "../arm/arch/gic.ts";
import { lrHiOf, lrLoOf } from "../arm/arch/gicv2.ts";
import { R } from "../arm/arch/sysregs.ts";
import { NS_PER_TICK } from "../arm/clock.ts";
import { PORT_KINDS } from "../arm/el2_port.ts";
import { type Timer, TIMERS } from "../arm/generic_timer.ts";
import { runningPriority } from "../arm/gic/priorities.ts";
import type { VirtualInterface } from "../arm/gic/virtual_interface.ts";
import type { Machine } from "../arm/machine.ts";
import { pstateToSpsr } from "../arm/pstate.ts";
import { LOCK_CLASSES } from "../base/lock.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { ViewOf } from "../base/struct.ts";
import type { Host } from "../host/host.ts";
import { type HostThread, THREAD_STATE } from "../host/threads.ts";
import {
  apListDepth,
  apListPending,
  type ArchTimerContext,
  ArchTimerContextLayout,
  CYCLES_PER_NS,
  IFLAG,
  type KvmSystem,
  MP_STATE,
  noSwitches,
  octaveOf,
  SAVED,
  switchPercentile,
  type Vcpu,
  VCPU_MODE,
  vgicDebugCounts,
  vgicDebugEachIrq,
  vgicDebugLatencies,
  type VgicIrqCounts,
  type VgicIrqState,
  type Vm,
  VMIDS,
} from "../kvm/api.ts";
import { engineCounts } from "./engine_counts.ts";
import type { FrameSource, FrameWriter } from "./frame.ts";
import {
  EXIT_SERROR,
  FRAME_BUCKETS,
  type FrameIrqLayout,
  FrameTimerLayout,
  type FrameVcpuLayout,
  NONE,
  PCPU_STATES,
  VCPU_STATES,
  type VcpuStateName,
} from "./frame_layout.ts";
import type { LoopState } from "./machine_loop.ts";

type VcpuView = ViewOf<typeof FrameVcpuLayout>;

/** The machine with its host kernel and KVM. */
export interface KvmParts {
  readonly machine: Machine;
  readonly host: Host;
  readonly kvm: KvmSystem;
}

const CNTVOFF_TO = FrameTimerLayout.offset.cntvoff;
const CNTVOFF_AT = ArchTimerContextLayout.offset.cntvoff;

/** What a vCPU does, from its thread and KVM's flags. */
function vcpuStateName({ state }: Vcpu, thread: HostThread): VcpuStateName {
  if (state.mpState === MP_STATE.STOPPED) return "off";
  if (state.pause) return "paused";
  if (thread.current) return "running";
  if (thread.state === THREAD_STATE.RUNNABLE) return "runnable";
  return (state.iflags & IFLAG.IN_WFI) !== 0 ? "wfi" : "blocked";
}

/** The vCPU has been entered and its exit is not processed yet: its state is in the CPU's registers. */
function isLive({ state }: Vcpu): boolean {
  return state.cpu >= 0 && state.mode !== VCPU_MODE.OUTSIDE_GUEST_MODE;
}

/** Instructions that the guest has retired on the vCPU, up to now. */
export function retiredInsns(machine: Machine, vcpu: Vcpu): number {
  const { stat, state } = vcpu;
  const cpu = isLive(vcpu) ? machine.platform.cpus[state.cpu] : undefined;
  return stat.insns + (cpu ? cpu.insns - state.entryInsns : 0);
}

/** Of {@link retiredInsns}, those that ran as translated code. */
export function translatedInsns(machine: Machine, { stat, state }: Vcpu): number {
  const cpu = state.cpu >= 0 ? machine.platform.cpus[state.cpu] : undefined;
  const now = cpu ? cpu.regionInsns - stat.loadTranslatedInsns : 0;
  return stat.translatedInsns + Math.max(0, now);
}

/** Counts by quarters of a doubling, added to those by whole ones at `to`. */
function addCoarse(memory: SharedMemory, to: number, buckets: readonly number[]): void {
  for (let i = 0; i < buckets.length; i++) {
    const n = buckets[i] ?? 0;
    if (n === 0) continue;
    const at = to + 4 * octaveOf(i, FRAME_BUCKETS);
    memory.st32(at, memory.ld32(at) + n);
  }
}

/** Of one timer: its registers, and what follows from them. */
interface TimerState {
  readonly ctl: number;
  /** CVAL in ticks, exact below 2^53. */
  readonly cval: number;
  /** The count it compares with, now. */
  readonly count: number;
  /** Absolute virtual time at which its output rises; NONE when it is up, off or masked. */
  readonly nextFireNs: number;
}

/** The guest's counter is this much behind the physical one, in ticks; negative when it is ahead. */
function offsetOf({ memory, base }: ArchTimerContext): number {
  const at = base + CNTVOFF_AT;
  return memory.ldi32(at + 4) * 2 ** 32 + memory.ld32(at);
}

function shadowPriorities(view: VcpuView, { cpuIf, vgicV2 }: Vcpu, gicv2: boolean): void {
  if (gicv2) {
    view.vgicVmcr = vgicV2.vgicVmcr;
    view.ap0r = vgicV2.vgicApr;
    return;
  }
  view.vgicVmcr = cpuIf.vgicVmcr;
  view.ap0r = cpuIf.memory.ld32(cpuIf.ap0r);
  view.ap1r = cpuIf.memory.ld32(cpuIf.ap1r);
}

function setLr(view: VcpuView, n: number, lo: number, hi: number): void {
  view.memory.st32(view.lr + 8 * n, lo);
  view.memory.st32(view.lr + 8 * n + 4, hi);
}

function liveListRegisters(view: VcpuView, hardware: VirtualInterface): void {
  view.vgicHcr = hardware.state.hcr;
  view.misr = hardware.misr();
  view.eisr = hardware.eisr();
  view.elrsr = hardware.elrsr();
  for (let n = 0; n < hardware.lrs; n++) setLr(view, n, hardware.lrLo(n), hardware.lrHi(n));
}

/** The saved list register `n`, whichever form the hardware wants it in, as halves of an ICH_LR<n>_EL2. */
function shadowLr({ cpuIf, vgicV2 }: Vcpu, gicv2: boolean, n: number): [lo: number, hi: number] {
  if (!gicv2) {
    return [cpuIf.memory.ld32(cpuIf.lr + 8 * n), cpuIf.memory.ld32(cpuIf.lr + 8 * n + 4)];
  }
  const lr = vgicV2.memory.ld32(vgicV2.lr + 4 * n);
  return [lrLoOf(lr), lrHiOf(lr)];
}

/** Outside the guest nothing is in a list register, and nothing can want maintenance. */
function shadowListRegisters(view: VcpuView, vcpu: Vcpu, gicv2: boolean, lrs: number): void {
  const { cpuIf, vgicV2 } = vcpu;
  view.vgicHcr = gicv2 ? vgicV2.vgicHcr : cpuIf.vgicHcr;
  view.elrsr = (1 << lrs) - 1;
  for (let n = 0; n < (gicv2 ? vgicV2 : cpuIf).usedLrs; n++) {
    const [lo, hi] = shadowLr(vcpu, gicv2, n);
    setLr(view, n, lo, hi);
    if ((hi & (ICH_LR_HI.PENDING | ICH_LR_HI.ACTIVE)) !== 0) view.elrsr &= ~(1 << n);
  }
}

/** Adds an interrupt; `idx` gives the vcpuIdx of a vcpuId. */
function irqRow(
  writer: FrameWriter,
  vm: number,
  irq: VgicIrqState,
  idx: readonly (number | undefined)[],
): void {
  const view = writer.add("irqs");
  if (!view) return;
  const { counts } = irq;
  view.vm = vm;
  view.intid = irq.intid;
  view.ownerVcpu = idx[irq.ownerVcpuId ?? -1] ?? -1;
  view.targetVcpu = idx[irq.targetVcpuId] ?? -1;
  view.vcpu = idx[irq.vcpuId] ?? -1;
  view.apListPosition = irq.apListPosition;
  view.lr = irq.lr;
  view.pendingLatch = irq.pendingLatch;
  view.lineLevel = irq.lineLevel;
  view.active = irq.active;
  view.enabled = irq.enabled;
  view.hw = irq.hw;
  view.hwIntid = irq.hwIntid;
  view.source = irq.source;
  view.config = irq.level ? 1 : 0;
  view.group = irq.group;
  view.priority = irq.priority;
  view.lastEventNs = counts?.lastEventNs ?? NONE;
  if (counts?.lastEventNs !== undefined) countsOfRow(view, counts);
}

/** The rest is zero for what nothing has happened to. */
function countsOfRow(view: ViewOf<typeof FrameIrqLayout>, counts: VgicIrqCounts): void {
  view.injected = counts.injected;
  view.acked = counts.acked;
  view.eoied = counts.eoied;
  view.latencyCount = counts.latencyCount;
  view.latencyP50Ns = counts.latencyP50Ns ?? 0;
  view.latencyP99Ns = counts.latencyP99Ns ?? 0;
}

/** {@link FrameSource} over KVM. */
export class KvmFrameSource implements FrameSource {
  /** The loop that runs the machine, once there is one. */
  loop: LoopState | undefined;

  constructor(readonly parts: KvmParts) {}

  fillFrame(writer: FrameWriter): void {
    this.#header(writer);
    this.#pcpus(writer);
    this.parts.kvm.vms.forEach((vm, index) => this.#vm(writer, vm, index));
    this.#exits(writer);
    this.#operations(writer);
    this.#locks(writer);
  }

  #header(writer: FrameWriter): void {
    const { header } = writer;
    const { machine, host } = this.parts;
    const { gic } = machine.platform;
    header.acknowledged = this.loop?.acknowledged ?? 0;
    header.virtualNs = machine.nowNs;
    header.wallNs = Math.round((this.loop?.wallMs() ?? 0) * 1e6);
    header.insns = machine.insns;
    header.mode = host.mode === "vhe" ? 0 : 1;
    header.gic = gic.version;
    header.nrLr = gic.lrs;
    header.priBits = fieldOf(gic.virtualInterface(0).vtr, ICH_VTR.PRIbits) + 1;
    header.paused = this.loop?.paused ?? false;
    header.pacePermille = this.loop?.pacePermille ?? 0;
    Object.assign(header, engineCounts(machine));
  }

  /** A VM's place in the frame, from one of its vCPUs. */
  #indexOf(vcpu: Vcpu): number {
    return this.parts.kvm.vms.findIndex((vm) => vm.kvm === vcpu.kvm);
  }

  // Physical CPUs

  #pcpus(writer: FrameWriter): void {
    const { machine, kvm, host } = this.parts;
    for (const { cpu } of machine.cores) {
      const view = writer.add("pcpus");
      if (!view) return;
      const vcpu = kvm.loadedVcpu(cpu.index);
      view.pcpu = cpu.index;
      view.state = PCPU_STATES.indexOf(this.#pcpuState(cpu.index));
      view.vm = vcpu ? this.#indexOf(vcpu) : -1;
      view.vcpu = vcpu ? vcpu.state.vcpuIdx : -1;
      view.el = cpu.el;
      view.insns = cpu.insns;
      view.switches = host.scheduler.queue(cpu.index).switches;
    }
  }

  #pcpuState(index: number): (typeof PCPU_STATES)[number] {
    const { machine, host } = this.parts;
    const cpu = machine.platform.cpus[index];
    if (!cpu || cpu.halt === HALT.OFF || cpu.halt === HALT.STOPPED) return "idle";
    if (cpu.el < 2) return "guest";
    return cpu.halt === HALT.WFI && !host.scheduler.current(index) ? "idle" : "host";
  }

  // A VM

  #vm(writer: FrameWriter, vm: Vm, index: number): void {
    const { kvm } = vm;
    const view = writer.add("vms");
    if (view) {
      view.vmId = index;
      view.vmid = kvm.state.vmid % VMIDS;
      view.vcpus = kvm.vcpus.length;
      view.nrSpis = kvm.vgic.nrSpis;
      view.distEnabled = kvm.vgic.enabled;
      view.stage2Pages = kvm.state.stage2Pages;
    }
    for (const vcpu of kvm.vcpus) {
      const timers = vcpu.timers.map((ctx) => this.#timerState(vcpu, ctx));
      this.#vcpu(writer, index, vcpu, timers);
      timers.forEach((timer, i) => this.#timer(writer, index, vcpu, i, timer));
    }
    const idx: number[] = [];
    for (const { state } of kvm.vcpus) idx[state.vcpuId] = state.vcpuIdx;
    vgicDebugEachIrq(kvm, (irq) => irqRow(writer, index, irq, idx));
  }

  // vCPUs

  #vcpu(
    writer: FrameWriter,
    vm: number,
    vcpu: Vcpu,
    timers: readonly TimerState[],
  ): void {
    const view = writer.add("vcpus");
    if (!view) return;
    const { state } = vcpu;
    const thread = this.parts.host.threads.at(state.thread);
    view.vm = vm;
    view.vcpuIdx = state.vcpuIdx;
    view.state = VCPU_STATES.indexOf(vcpuStateName(vcpu, thread));
    view.pcpu = state.cpu;
    view.apListLength = apListDepth(vcpu);
    view.pendingIrqs = apListPending(vcpu);
    view.nextTimerNs = Math.min(...timers.map((t) => t.nextFireNs));
    this.#counters(view, vcpu);
    this.#registers(view, vcpu);
    this.#virtualInterface(view, vcpu);
  }

  #counters(view: VcpuView, { stat }: Vcpu): void {
    view.exits = stat.exits;
    view.entries = stat.entries;
    view.hvc_exit_stat = stat.hvc_exit_stat;
    view.wfe_exit_stat = stat.wfe_exit_stat;
    view.wfi_exit_stat = stat.wfi_exit_stat;
    view.mmio_exit_user = stat.mmio_exit_user;
    view.mmio_exit_kernel = stat.mmio_exit_kernel;
    view.signal_exits = stat.signal_exits;
    view.halt_wakeup = stat.halt_wakeup;
    view.halt_wait_ns = stat.halt_wait_ns;
    view.irqExits = stat.irqExits;
    view.serrorExits = stat.serrorExits;
    view.memory.u8.copyWithin(view.byClass, stat.byClass, stat.byClass + 8 * 64);
  }

  /** What the guest executes: in the CPU, or where the CPU left it for EL2, or saved. */
  #registers(view: VcpuView, vcpu: Vcpu): void {
    const { ctxt, state } = vcpu;
    const core = isLive(vcpu) ? this.parts.machine.cores[state.cpu] : undefined;
    view.inGuest = core !== undefined;
    view.insns = retiredInsns(this.parts.machine, vcpu);
    view.translatedInsns = translatedInsns(this.parts.machine, vcpu);
    const inGuest = core !== undefined && core.cpu.el < 2;
    if (core === undefined) {
      view.pc = ctxt.pc;
      view.pstate = Number(ctxt.pstate & 0xffff_ffffn);
    } else if (inGuest) {
      view.pc = core.cpu.pc;
      view.pstate = pstateToSpsr(core.cpu);
    } else {
      view.pc = core.regs.get("ELR_EL2");
      view.pstate = core.regs.lo(R.SPSR_EL2);
    }
    view.el = (view.pstate >>> 2) & 3;
    view.vbar = this.#vbar(vcpu);
  }

  /** In the CPU while KVM has the guest's registers loaded there, else saved. */
  #vbar({ ctxt, state }: Vcpu): bigint {
    const core = state.sysregsLoadedOnCpu ? this.parts.machine.cores[state.cpu] : undefined;
    if (core) return core.regs.get("VBAR_EL1");
    return ctxt.memory.ld64(ctxt.sysregs + 8 * SAVED.VBAR_EL1);
  }

  #virtualInterface(view: VcpuView, vcpu: Vcpu): void {
    const { gic } = this.parts.machine.platform;
    const { cpu } = vcpu.state;
    const hardware = cpu >= 0 ? gic.virtualInterface(cpu) : undefined;
    const gicv2 = gic.version === 2;
    view.usedLrs = gicv2 ? vcpu.vgicV2.usedLrs : vcpu.cpuIf.usedLrs;
    // Loaded from vcpu_load to vcpu_put.
    if (hardware) {
      view.vgicVmcr = hardware.state.vmcr;
      view.ap0r = hardware.state.ap0r;
      view.ap1r = hardware.state.ap1r;
    } else shadowPriorities(view, vcpu, gicv2);
    view.rpr = runningPriority(view.ap0r, view.ap1r);
    // Loaded from entry to exit.
    if (hardware && isLive(vcpu)) liveListRegisters(view, hardware);
    else shadowListRegisters(view, vcpu, gicv2, gic.lrs);
  }

  // Timers

  #timerState(vcpu: Vcpu, ctx: ArchTimerContext): TimerState {
    const { machine } = this.parts;
    const { cpu } = vcpu.state;
    const core = ctx.loaded && cpu >= 0 ? machine.cores[cpu] : undefined;
    const cval = core ? core.regs.num(TIMERS[ctx.index]?.cval ?? 0) : ctx.cntCval;
    const count = machine.platform.clock.ticks() - offsetOf(ctx);
    const met = cval <= count;
    const saved = ctx.cntCtl & (TIMER_CTL.ENABLE | TIMER_CTL.IMASK);
    const ctl = core
      ? machine.platform.timer.control(cpu, ctx.index as Timer)
      : saved | (saved & TIMER_CTL.ENABLE && met ? TIMER_CTL.ISTATUS : 0);
    const armed = (ctl & (TIMER_CTL.ENABLE | TIMER_CTL.IMASK)) === TIMER_CTL.ENABLE && !met;
    const atNs = (cval + offsetOf(ctx)) * NS_PER_TICK;
    return { ctl, cval, count, nextFireNs: armed && atNs < NONE ? atNs : NONE };
  }

  #timer(
    writer: FrameWriter,
    vm: number,
    vcpu: Vcpu,
    index: number,
    timer: TimerState,
  ): void {
    const view = writer.add("timers");
    const ctx = vcpu.timers[index];
    if (!view || !ctx) return;
    view.vm = vm;
    view.vcpuIdx = vcpu.state.vcpuIdx;
    view.index = index;
    view.irq = ctx.irq;
    view.cntCtl = timer.ctl;
    view.cntCval = Math.min(timer.cval, NONE);
    view.counter = Math.max(0, timer.count);
    // Any 64 bits: an offset may be negative.
    view.memory.copy64(view.base + CNTVOFF_TO, ctx.base + CNTVOFF_AT);
    view.irqLevel = ctx.irqLevel;
    view.loaded = ctx.loaded;
    view.hrtimerArmed = !ctx.loaded && timer.nextFireNs !== NONE &&
      this.parts.host.hrtimers.isArmed(vcpu.timer.bgTimer);
    view.nextFireNs = timer.nextFireNs;
    const counts = vgicDebugCounts(vcpu.kvm, vcpu, ctx.irq);
    view.fired = counts?.injected ?? 0;
    if (counts === undefined || counts.latencyCount === 0) return;
    view.latencyP50Ns = counts.latencyP50Ns ?? 0;
    view.latencyP99Ns = counts.latencyP99Ns ?? 0;
    addCoarse(view.memory, view.latencyBuckets, vgicDebugLatencies(vcpu.kvm, vcpu, ctx.irq));
  }

  // World switches, operations, locks

  #exits(writer: FrameWriter): void {
    const vcpus = this.parts.kvm.vms.flatMap((vm) => vm.kvm.vcpus);
    for (let reason = 0; reason <= EXIT_SERROR; reason++) {
      if (!vcpus.some(({ meter }) => meter !== undefined && meter.count(reason) > 0)) continue;
      const totals = noSwitches();
      for (const vcpu of vcpus) vcpu.meter?.addTo(totals, reason);
      const view = writer.add("exits");
      if (!view) return;
      view.reason = reason;
      view.count = totals.count;
      view.totalNs = totals.totalNs;
      view.p50Ns = switchPercentile(totals, 0.5) ?? 0;
      view.p99Ns = switchPercentile(totals, 0.99) ?? 0;
      view.cycles = Math.round(totals.operationNs * CYCLES_PER_NS);
      view.registersMoved = totals.registersMoved;
      addCoarse(view.memory, view.buckets, totals.buckets);
    }
  }

  #operations(writer: FrameWriter): void {
    const { ports } = this.parts.machine;
    for (const kind of PORT_KINDS) {
      const view = writer.add("el2Ops");
      if (!view) return;
      writer.setName(view.name, kind);
      view.count = ports.reduce((sum, port) => sum + port.counters[kind], 0);
    }
  }

  #locks(writer: FrameWriter): void {
    const { stats } = this.parts.host.locks;
    for (const name of LOCK_CLASSES) {
      const view = writer.add("locks");
      if (!view) return;
      writer.setName(view.name, name);
      view.acquisitions = stats[name].acquisitions;
      view.contended = stats[name].contended;
    }
  }
}
