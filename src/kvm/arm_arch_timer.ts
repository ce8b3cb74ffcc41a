/** The structures of the guest's timers. Mirrors include/kvm/arm_arch_timer.h. */
import { bool, layout, space, u32, u53, type ViewOf } from "../base/struct.ts";

/** struct arch_timer_context: one per timer. */
export const ArchTimerContextLayout = layout("arch_timer_context", {
  cntCtl: u32(),
  irq: u32(),
  cntCval: u53(),
  /** Counter offset: guest counter = physical counter - offset. */
  cntvoff: u53(),
  /** Level last given to the vgic. */
  irqLevel: bool(),
  /** The timer's state is in the hardware. */
  loaded: bool(),
  /** Soft timer (hrtimer) handle of an emulated or blocked timer, and whether it is armed. */
  hrtimer: u32(),
  hostTimerIrq: u32(),
  vcpu: u32(),
  index: u32(),
});
export type ArchTimerContext = ViewOf<typeof ArchTimerContextLayout>;

/** struct arch_timer_cpu. TIMER_PTIMER is 0 and TIMER_VTIMER 1, as in the kernel (enum kvm_arch_timers). */
export const ArchTimerCpuLayout = layout("arch_timer_cpu", {
  timers: space(2 * ArchTimerContextLayout.size),
  bgTimer: u32(),
  enabled: bool(),
});
export type ArchTimerCpu = ViewOf<typeof ArchTimerCpuLayout>;
export const TIMER_PTIMER = 0;
export const TIMER_VTIMER = 1;
