/**
 * The guest's timers. Mirrors arch/arm64/kvm/arch_timer.c. The virtual timer is the hardware's own while
 * a vCPU is loaded (direct_vtimer), and with VHE so is the physical one (direct_ptimer); without, that
 * is the host's, and the guest's is a soft timer behind trapped registers (emul_ptimer). While a vCPU is
 * not loaded, a soft timer wakes it if it blocks.
 *
 * What differs: the physical timer has no offset; no user-space interrupt controller; no WFIT; a timer
 * that has fired already does not wake a vCPU that still blocks.
 */
import { CNTKCTL, TIMER_CTL } from "../arm/arch/fields.ts";
import * as sysregs from "../arm/arch/sysregs.ts";
import * as el2Port from "../arm/el2_port.ts";
import { type El2Port, sequence } from "../arm/el2_port.ts";
import { InternalError } from "../base/errors.ts";
import * as armVgic from "./arm_vgic.ts";
import * as kvmHost from "./kvm_host.ts";
import {
  type ArchTimerContext,
  ArchTimerContextLayout,
  type Kvm,
  type KvmHost,
  type Vcpu,
} from "./kvm_host.ts";
import * as kvmTrace from "./trace.ts";
import * as vgicIrq from "./vgic/vgic_irq.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { R } = sysregs;
const { at, STEP } = el2Port;
const { IRQ_OPS } = armVgic;
const { ERRNO, irqchipInKernel, TIMER_PTIMER, TIMER_VTIMER } = kvmHost;
const { TP, trace, wordAt } = kvmTrace;
const { vgicGetIrq } = vgicIrq;

/** Nanoseconds of one tick of the counter (62.5 MHz). */
const TICK_NS = 16;
const TWO32 = 0x1_0000_0000;
/** The farthest a soft timer is set ahead; one that finds itself too early sets itself again. */
const MAX_AHEAD_NS = 2 ** 50;

/** Private interrupts, of the host and as the guest sees them. */
const PPI = { VTIMER: 27, PTIMER: 30 } as const;

const { cntCtl: CTL_AT, cntCval: CVAL_AT, cntvoff: CNTVOFF_AT } = ArchTimerContextLayout.offset;

/** A timer's registers, and how they are moved. Argument 0 is the timer's context. */
const timerRegisters = (ctl: number, cval: number) => ({
  ctl,
  // ISTATUS is not state, and the rest of CTL is what the guest wrote.
  save: sequence(
    STEP.irqDisable(),
    STEP.readWord(ctl, at(CTL_AT)),
    STEP.save(cval, at(CVAL_AT)),
    STEP.write(ctl, 0),
    STEP.isb(),
  ),
  restore: sequence(
    STEP.irqDisable(),
    STEP.restore(cval, at(CVAL_AT)),
    STEP.isb(),
    STEP.loadWord(ctl, at(CTL_AT)),
  ),
});
type TimerRegisters = ReturnType<typeof timerRegisters>;

/** How a loaded timer's registers are reached (read_sysreg_el0), by timer; from EL1 it is the virtual one only. */
const HARDWARE_VHE = [
  timerRegisters(R.CNTP_CTL_EL02, R.CNTP_CVAL_EL02),
  timerRegisters(R.CNTV_CTL_EL02, R.CNTV_CVAL_EL02),
] as const;
const HARDWARE_NVHE = timerRegisters(R.CNTV_CTL_EL0, R.CNTV_CVAL_EL0);

/** Timer registers (enum kvm_arch_timer_regs). */
export const TIMER_REG = { CNT: 0, CVAL: 1, TVAL: 2, CTL: 3 } as const;
export type TimerReg = (typeof TIMER_REG)[keyof typeof TIMER_REG];

export function vcpuVtimer(vcpu: Vcpu): ArchTimerContext {
  return vcpu.timers[TIMER_VTIMER];
}
export function vcpuPtimer(vcpu: Vcpu): ArchTimerContext {
  return vcpu.timers[TIMER_PTIMER];
}

function hardware(vcpu: Vcpu, ctx: ArchTimerContext): TimerRegisters {
  if (!vcpu.kvm.host.hyp.vhe) return HARDWARE_NVHE;
  return ctx.index === TIMER_VTIMER ? HARDWARE_VHE[TIMER_VTIMER] : HARDWARE_VHE[TIMER_PTIMER];
}

/** Whether the guest's physical timer is the hardware's (get_timer_map). */
function ptimerIsDirect(vcpu: Vcpu): boolean {
  return vcpu.kvm.host.hyp.vhe;
}

/** The timers that are the hardware's while the vCPU is loaded. */
function directTimers(vcpu: Vcpu): readonly ArchTimerContext[] {
  return ptimerIsDirect(vcpu) ? [vcpuVtimer(vcpu), vcpuPtimer(vcpu)] : [vcpuVtimer(vcpu)];
}

/** kvm_phys_timer_read: ticks. */
function kvmPhysTimerRead(host: KvmHost): number {
  return host.port(host.currentCpu()).counter();
}

/** The offset as a number; one that wraps (a guest counter ahead of the physical one) is negative. */
function timerGetOffset(ctx: ArchTimerContext): number {
  const at = ctx.base + CNTVOFF_AT;
  return ctx.memory.ldi32(at + 4) * TWO32 + ctx.memory.ld32(at);
}

function timerSetOffset(ctx: ArchTimerContext, offset: bigint): void {
  ctx.memory.st64(ctx.base + CNTVOFF_AT, offset);
}

/** The timer's own count now. */
function timerCount(host: KvmHost, ctx: ArchTimerContext): number {
  return kvmPhysTimerRead(host) - timerGetOffset(ctx);
}

/** kvm_timer_compute_delta: nanoseconds until it fires; 0 when its time has come. */
export function kvmTimerComputeDelta(host: KvmHost, ctx: ArchTimerContext): number {
  return Math.max(0, ctx.cntCval - timerCount(host, ctx)) * TICK_NS;
}

/** kvm_timer_irq_can_fire: enabled and not masked. The timer must not be loaded. */
function kvmTimerIrqCanFire(ctx: ArchTimerContext): boolean {
  return (ctx.cntCtl & (TIMER_CTL.ENABLE | TIMER_CTL.IMASK)) === TIMER_CTL.ENABLE;
}

/** kvm_timer_should_fire: the level of the timer's output now. */
export function kvmTimerShouldFire(vcpu: Vcpu, ctx: ArchTimerContext): boolean {
  if (ctx.loaded) {
    const ctl = vcpu.port().readLo(hardware(vcpu, ctx).ctl);
    const wanted = TIMER_CTL.ENABLE | TIMER_CTL.ISTATUS;
    return (ctl & (wanted | TIMER_CTL.IMASK)) === wanted;
  }
  if (!kvmTimerIrqCanFire(ctx)) return false;
  return kvmTimerComputeDelta(vcpu.kvm.host, ctx) === 0;
}

/** kvm_timer_earliest_exp: nanoseconds until the first of the timers fires; 0 when none can or one has. */
export function kvmTimerEarliestExp(vcpu: Vcpu): number {
  let least = Infinity;
  for (const ctx of vcpu.timers) {
    if (!kvmTimerIrqCanFire(ctx)) continue;
    least = Math.min(least, kvmTimerComputeDelta(vcpu.kvm.host, ctx));
  }
  return least === Infinity ? 0 : least;
}

/** kvm_bg_timer_expire: wakes the vCPU; returns a later expiry when it was too early. */
export function kvmBgTimerExpire(vcpu: Vcpu, nowNs: number): number {
  const ns = kvmTimerEarliestExp(vcpu);
  if (ns !== 0) return nowNs + Math.min(ns, MAX_AHEAD_NS);
  vcpu.stat.bgTimerExpired++;
  vcpu.kvm.host.kvmVcpuWakeUp(vcpu);
  return 0;
}

/** kvm_hrtimer_expire: the emulated physical timer fires; a later expiry when it was too early. */
export function kvmHrtimerExpire(vcpu: Vcpu, nowNs: number): number {
  const ctx = vcpuPtimer(vcpu);
  trace(vcpu, TP.kvm_timer_hrtimer_expire, ctx.index);
  const ns = kvmTimerComputeDelta(vcpu.kvm.host, ctx);
  if (ns !== 0) return nowNs + Math.min(ns, MAX_AHEAD_NS);
  kvmTimerUpdateIrq(vcpu, true, ctx);
  return 0;
}

/** kvm_timer_update_irq: gives the output level to the vgic. */
function kvmTimerUpdateIrq(vcpu: Vcpu, level: boolean, ctx: ArchTimerContext): void {
  ctx.irqLevel = level;
  trace(vcpu, TP.kvm_timer_update_irq, vcpu.state.vcpuId, ctx.irq, level ? 1 : 0);
  const { kvm } = vcpu;
  if (!irqchipInKernel(kvm)) return;
  kvm.host.vgic.kvmVgicInjectIrq(kvm, vcpu.state.vcpuId, ctx.irq, level, ctx.base);
}

/**
 * kvm_arch_timer_handler: the guest's timer interrupts the host. It may come after vcpu_put, when the
 * controller had not let go of it yet.
 */
export function kvmArchTimerHandler(host: KvmHost, hwIntid: number): void {
  const vcpu = host.runningVcpu();
  if (vcpu === undefined) return;
  const ctx = hwIntid === PPI.VTIMER ? vcpuVtimer(vcpu) : vcpuPtimer(vcpu);
  if (kvmTimerShouldFire(vcpu, ctx)) kvmTimerUpdateIrq(vcpu, true, ctx);
}

/** kvm_arch_timer_get_input_level: what the vgic asks of a timer's line; of the running vCPU. */
export function kvmArchTimerGetInputLevel(host: KvmHost, vintid: number): boolean {
  const vcpu = host.runningVcpu();
  const ctx = vcpu?.timers.find((t) => t.irq === vintid);
  if (vcpu === undefined || ctx === undefined) {
    throw new InternalError(`timer level of interrupt ${vintid} without its vCPU`);
  }
  return kvmTimerShouldFire(vcpu, ctx);
}

function timerSaveState(vcpu: Vcpu, ctx: ArchTimerContext): void {
  if (!vcpu.timer.enabled || !ctx.loaded) return;
  const port = vcpu.port();
  const flags = port.irqFlags;
  port.run(hardware(vcpu, ctx).save, ctx.base);
  trace(vcpu, TP.kvm_timer_save_state, ctx.cntCtl, wordAt(ctx.base + CVAL_AT), ctx.index);
  ctx.loaded = false;
  port.irqRestore(flags);
}

function timerRestoreState(vcpu: Vcpu, ctx: ArchTimerContext): void {
  if (!vcpu.timer.enabled || ctx.loaded) return;
  const port = vcpu.port();
  const flags = port.irqFlags;
  port.run(hardware(vcpu, ctx).restore, ctx.base);
  trace(
    vcpu,
    TP.kvm_timer_restore_state,
    ctx.cntCtl,
    wordAt(ctx.base + CVAL_AT),
    ctx.index,
  );
  ctx.loaded = true;
  port.irqRestore(flags);
}

/** kvm_timer_vcpu_load_gic: the line as it will be, and the physical interrupt active where the guest has it in hand. */
function kvmTimerVcpuLoadGic(vcpu: Vcpu, ctx: ArchTimerContext): void {
  const { host } = vcpu.kvm;
  kvmTimerUpdateIrq(vcpu, kvmTimerShouldFire(vcpu, ctx), ctx);
  const held = irqchipInKernel(vcpu.kvm) && host.vgic.kvmVgicMapIsActive(vcpu, ctx.irq);
  host.irqSetPhysActive(ctx.hostTimerIrq, held || ctx.irqLevel);
}

/** timer_emulate: the level of the emulated timer, and a soft timer for when it fires. */
function timerEmulate(vcpu: Vcpu, ctx: ArchTimerContext): void {
  const { host } = vcpu.kvm;
  const shouldFire = kvmTimerShouldFire(vcpu, ctx);
  trace(vcpu, TP.kvm_timer_emulate, ctx.index, shouldFire ? 1 : 0);
  if (shouldFire !== ctx.irqLevel) return kvmTimerUpdateIrq(vcpu, shouldFire, ctx);
  if (!kvmTimerIrqCanFire(ctx)) return host.hrtimers.cancel(ctx.hrtimer);
  const ns = Math.min(kvmTimerComputeDelta(host, ctx), MAX_AHEAD_NS);
  host.hrtimers.start(ctx.hrtimer, host.nowNs() + ns);
}

/** kvm_timer_vcpu_load. */
export function kvmTimerVcpuLoad(vcpu: Vcpu): void {
  if (!vcpu.timer.enabled) return;
  const vtimer = vcpuVtimer(vcpu), ptimer = vcpuPtimer(vcpu);
  const direct = ptimerIsDirect(vcpu);
  kvmTimerVcpuLoadGic(vcpu, vtimer);
  if (direct) kvmTimerVcpuLoadGic(vcpu, ptimer);
  const at = vtimer.base + CNTVOFF_AT;
  const { host } = vcpu.kvm;
  host.hyp.kvmTimerSetCntvoff(vcpu.port(), vtimer.memory.ld32(at), vtimer.memory.ld32(at + 4));
  host.hrtimers.cancel(vcpu.timer.bgTimer);
  timerRestoreState(vcpu, vtimer);
  if (direct) timerRestoreState(vcpu, ptimer);
  else timerEmulate(vcpu, ptimer);
}

/**
 * Whether the vgic has the level of a timer that has fired. `irqLevel` does not say so: it was given to the vgic,
 * which forgets it when the interrupt goes into a list register, and the guest may have set the timer
 * anew since.
 */
function vgicHasLevel(vcpu: Vcpu, ctx: ArchTimerContext): boolean {
  return ctx.irqLevel && (vgicGetIrq(vcpu.kvm, vcpu, ctx.irq)?.lineLevel ?? false);
}

/**
 * kvm_timer_blocking: a soft timer will wake the vCPU when the first of its timers fires. One that has
 * fired, and whose level the vgic has, cannot make a difference any more: the kernel would let it wake
 * the vCPU over and over while its interrupt is disabled.
 */
function kvmTimerBlocking(vcpu: Vcpu): void {
  const { host } = vcpu.kvm;
  let least = MAX_AHEAD_NS;
  let any = false;
  for (const ctx of vcpu.timers) {
    if (!kvmTimerIrqCanFire(ctx)) continue;
    const ns = kvmTimerComputeDelta(host, ctx);
    if (ns === 0 && vgicHasLevel(vcpu, ctx)) continue;
    any = true;
    least = Math.min(least, ns);
  }
  if (any) host.hrtimers.start(vcpu.timer.bgTimer, host.nowNs() + least);
}

/** kvm_timer_vcpu_put. */
export function kvmTimerVcpuPut(vcpu: Vcpu): void {
  if (!vcpu.timer.enabled) return;
  timerSaveState(vcpu, vcpuVtimer(vcpu));
  // The soft timer of a vCPU that sleeps is the one that wakes it; one that comes back starts its own anew.
  if (ptimerIsDirect(vcpu)) timerSaveState(vcpu, vcpuPtimer(vcpu));
  else vcpu.kvm.host.hrtimers.cancel(vcpuPtimer(vcpu).hrtimer);
  if (vcpu.state.blocking) kvmTimerBlocking(vcpu);
  vcpu.kvm.host.hyp.kvmTimerSetCntvoff(vcpu.port(), 0, 0);
}

/** kvm_timer_vcpu_reset: timers off, lines low. The vCPU must be put. */
export function kvmTimerVcpuReset(vcpu: Vcpu): void {
  for (const ctx of [vcpuVtimer(vcpu), vcpuPtimer(vcpu)]) ctx.cntCtl = 0;
  if (!ptimerIsDirect(vcpu)) vcpu.kvm.host.hrtimers.cancel(vcpuPtimer(vcpu).hrtimer);
  if (!vcpu.timer.enabled) return;
  for (const ctx of [vcpuVtimer(vcpu), vcpuPtimer(vcpu)]) kvmTimerUpdateIrq(vcpu, false, ctx);
  if (!irqchipInKernel(vcpu.kvm)) return;
  for (const ctx of directTimers(vcpu)) {
    vcpu.kvm.host.vgic.kvmVgicResetMappedIrq(vcpu, ctx.irq);
  }
}

/** update_vtimer_cntvoff: one offset for all vCPUs of a VM, also one being created. */
function updateVtimerCntvoff(kvm: Kvm, vcpu: Vcpu, offset: bigint): void {
  for (const other of kvm.vcpus) timerSetOffset(vcpuVtimer(other), offset);
  timerSetOffset(vcpuVtimer(vcpu), offset);
}

/** kvm_timer_vcpu_init: the virtual counter of the VM starts over at 0. */
export function kvmTimerVcpuInit(vcpu: Vcpu): void {
  const { host } = vcpu.kvm;
  vcpu.timers.forEach((ctx, index) => {
    ctx.index = index;
    ctx.vcpu = vcpu.state.base;
    ctx.irq = index === TIMER_VTIMER ? PPI.VTIMER : PPI.PTIMER;
    ctx.hostTimerIrq = ctx.irq;
  });
  updateVtimerCntvoff(vcpu.kvm, vcpu, BigInt(kvmPhysTimerRead(host)));
  timerSetOffset(vcpuPtimer(vcpu), 0n);
  vcpu.timer.bgTimer = host.hrtimers.create("kvm_bg_timer_expire", vcpu.state.base);
  vcpuPtimer(vcpu).hrtimer = host.hrtimers.create("kvm_hrtimer_expire", vcpu.state.base);
}

/** kvm_timer_vcpu_terminate. */
export function kvmTimerVcpuTerminate(vcpu: Vcpu): void {
  vcpu.kvm.host.hrtimers.destroy(vcpu.timer.bgTimer);
  vcpu.kvm.host.hrtimers.destroy(vcpuPtimer(vcpu).hrtimer);
}

/** timer_irqs_are_valid: both interrupts belong to the timers, and are the same on all vCPUs. */
function timerIrqsAreValid(vcpu: Vcpu): boolean {
  const { vgic } = vcpu.kvm.host;
  const owned = [vcpuVtimer(vcpu), vcpuPtimer(vcpu)].every((ctx) =>
    vgic.kvmVgicSetOwner(vcpu, ctx.irq, ctx.base) === 0
  );
  return owned && vcpu.kvm.vcpus.every((other) =>
    vcpuVtimer(other).irq === vcpuVtimer(vcpu).irq &&
    vcpuPtimer(other).irq === vcpuPtimer(vcpu).irq
  );
}

/** kvm_timer_enable, before the first run: the timers' interrupts are mapped to the physical ones. 0 or an errno. */
export function kvmTimerEnable(vcpu: Vcpu): number {
  if (vcpu.timer.enabled) return 0;
  if (irqchipInKernel(vcpu.kvm)) {
    if (!timerIrqsAreValid(vcpu)) return ERRNO.EINVAL;
    for (const ctx of directTimers(vcpu)) {
      const error = vcpu.kvm.host.vgic.kvmVgicMapPhysIrq(
        vcpu,
        ctx.hostTimerIrq,
        ctx.irq,
        IRQ_OPS.ARCH_TIMER,
      );
      if (error !== 0) return error;
    }
  }
  vcpu.timer.enabled = true;
  return 0;
}

/** kvm_arm_timer_read of a timer that is not loaded: 64 bits. */
export function kvmArmTimerRead(vcpu: Vcpu, ctx: ArchTimerContext, reg: TimerReg): bigint {
  const { host } = vcpu.kvm;
  const cval = ctx.memory.ld64(ctx.base + CVAL_AT);
  const count = BigInt(kvmPhysTimerRead(host)) - ctx.memory.ld64(ctx.base + CNTVOFF_AT);
  if (reg === TIMER_REG.CVAL) return cval;
  if (reg === TIMER_REG.CNT) return BigInt.asUintN(64, count);
  if (reg === TIMER_REG.TVAL) return BigInt.asUintN(32, cval - count);
  const expired = kvmTimerComputeDelta(host, ctx) === 0;
  return BigInt(ctx.cntCtl | (expired ? TIMER_CTL.ISTATUS : 0));
}

/** kvm_arm_timer_write of a timer that is not loaded. */
export function kvmArmTimerWrite(
  vcpu: Vcpu,
  ctx: ArchTimerContext,
  reg: TimerReg,
  value: bigint,
): void {
  if (reg === TIMER_REG.CTL) {
    ctx.cntCtl = Number(value & 0xffff_ffffn & ~BigInt(TIMER_CTL.ISTATUS));
    return;
  }
  const count = kvmArmTimerRead(vcpu, ctx, TIMER_REG.CNT);
  if (reg === TIMER_REG.CNT) {
    const offset = BigInt(kvmPhysTimerRead(vcpu.kvm.host)) - value;
    updateVtimerCntvoff(vcpu.kvm, vcpu, offset);
    return;
  }
  const cval = reg === TIMER_REG.TVAL ? count + BigInt.asIntN(32, value) : value;
  ctx.memory.st64(ctx.base + CVAL_AT, cval);
}

/** kvm_arm_timer_read_sysreg: a trapped access, with the timers out of the hardware meanwhile. */
export function kvmArmTimerReadSysreg(vcpu: Vcpu, timer: 0 | 1, reg: TimerReg): bigint {
  kvmTimerVcpuPut(vcpu);
  const value = kvmArmTimerRead(vcpu, vcpu.timers[timer], reg);
  kvmTimerVcpuLoad(vcpu);
  return value;
}

/** kvm_arm_timer_write_sysreg. */
export function kvmArmTimerWriteSysreg(
  vcpu: Vcpu,
  timer: 0 | 1,
  reg: TimerReg,
  value: bigint,
): void {
  kvmTimerVcpuPut(vcpu);
  kvmArmTimerWrite(vcpu, vcpu.timers[timer], reg, value);
  kvmTimerVcpuLoad(vcpu);
}

/** Guests use the physical counter and timer directly. Once per CPU. */
export function kvmTimerInitVhe(port: El2Port): void {
  const bits = CNTKCTL.EL1PCTEN | CNTKCTL.EL1PTEN;
  port.write(R.CNTHCTL_EL2, (port.readLo(R.CNTHCTL_EL2) | bits) >>> 0, 0);
}
