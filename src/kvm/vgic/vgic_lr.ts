/**
 * List registers: what vgic-v2.c and vgic-v3.c (arch/arm64/kvm/vgic) have in common, whatever a list
 * register looks like. What a flush put into the list registers is remembered, so that the fold can count
 * acknowledgements and ends.
 */
import type { Vcpu, VgicIrq } from "../kvm_host.ts";
import * as vgicGlobalModule from "./vgic_global.ts";
import * as vgicIrq from "./vgic_irq.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { vgicGlobal } = vgicGlobalModule;
const {
  countEvent,
  IRQ_EVENT,
  irqStatAddress,
  stampRaised,
  VGIC_CONFIG_EDGE,
  VGIC_CONFIG_LEVEL,
  vgicIrqHandleResampling,
  vgicIrqIsMappedLevel,
} = vgicIrq;

/** Counts what the guest did with list register `lr`. Requires the irq lock. */
function countTransition(
  vcpu: Vcpu,
  irq: VgicIrq,
  lr: number,
  pending: boolean,
  active: boolean,
): void {
  const { kvm } = vcpu;
  const { host } = kvm;
  if (vgicGlobal(host).info.countsGuestAcks) return;
  const stat = irqStatAddress(kvm, irq);
  const wasPending = (vcpu.vgic.flushedPending >>> lr) & 1;
  const wasActive = (vcpu.vgic.flushedActive >>> lr) & 1;
  const acked = wasPending && !pending;
  if (acked) countEvent(host, stat, IRQ_EVENT.ACKED);
  const eoied = (wasActive || acked) && !active;
  if (eoied) countEvent(host, stat, IRQ_EVENT.EOIED);
}

/** State that list register `lr` came back with into its interrupt. Requires the irq lock. */
export function foldLr(
  vcpu: Vcpu,
  irq: VgicIrq,
  lr: number,
  pending: boolean,
  active: boolean,
): void {
  const host = vcpu.kvm.host;
  countTransition(vcpu, irq, lr, pending, active);
  const deactivated = irq.active && !active;
  irq.active = active;
  // Only an edge must not be lost; a level is asked for again.
  if (irq.config === VGIC_CONFIG_EDGE && pending) irq.pendingLatch = true;
  const level = irq.config === VGIC_CONFIG_LEVEL;
  if (level && !pending && !active) irq.pendingLatch = false;
  vgicIrqHandleResampling(host, irq, deactivated, pending);
  // The guest was done with this level, and it is still high: a new wait begins.
  if (level && !pending && !active && irq.lineLevel) stampRaised(host, irq);
}

/** Notes that a flush has put the interrupt into list register `lr` as active. */
export function noteFlushedActive(vcpu: Vcpu, lr: number): void {
  vcpu.vgic.flushedActive |= 1 << lr;
}

/** What follows for the interrupt from being put into list register `lr` as pending. Requires the irq lock. */
export function flushedAsPending(vcpu: Vcpu, irq: VgicIrq, lr: number): void {
  vcpu.vgic.flushedPending |= 1 << lr;
  if (irq.config === VGIC_CONFIG_EDGE) irq.pendingLatch = false;
  // Only rises of a mapped level are seen: lowered here, so that the next one counts (see foldLr).
  if (vgicIrqIsMappedLevel(irq)) irq.lineLevel = false;
}

/**
 * Whether a list register may show the interrupt pending: not beside active, when the pending state is
 * the physical distributor's (`hw`: HW is set) or the level is to be asked for after the end.
 */
export function allowsPending(irq: VgicIrq, hw: boolean): boolean {
  return !(irq.active && (hw || irq.config === VGIC_CONFIG_LEVEL));
}
