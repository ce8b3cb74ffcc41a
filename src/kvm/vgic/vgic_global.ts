/**
 * What all VMs of a host share: the properties of the physical interrupt controller and the services
 * of the host that the vgic needs. Mirrors struct vgic_global (kvm_vgic_global_state) and struct
 * gic_kvm_info of include/kvm/arm_vgic.h and include/linux/irqchip/arm-vgic-info.h.
 *
 * What differs: a GICv3 here has no memory-mapped compatibility interface (ICC_SRE_EL1.SRE is always
 * 1), so that it cannot serve GICv2 guests. One per host instead of one per kernel; it is a cache (read
 * from the hardware when the host starts, and again after a restore), and the memory for counters comes
 * in through it.
 */
import { InternalError } from "../../base/errors.ts";
import type { Fields, Layout } from "../../base/struct.ts";
import type { Kvm, KvmHost } from "../kvm_host.ts";

/** struct irq_ops: how a HW-mapped interrupt is looked after in software. */
export interface IrqOps {
  /** VGIC_IRQ_SW_RESAMPLE: the physical interrupt must be deactivated by software. */
  readonly swResample?: boolean;
  /** The level of the device's line now, for the running vCPU. Without it the physical pending state is read. */
  readonly getInputLevel?: (intid: number) => boolean;
}

/** enum gic_type, by the architecture's version. */
export const GIC_TYPE = { V2: 2, V3: 3 } as const;

/** struct gic_kvm_info: what the host tells about its interrupt controller. */
export interface GicKvmInfo {
  /** One of {@link GIC_TYPE}. */
  readonly type: number;
  /** Physical addresses of a GICv2's GICH (vctrl) and GICV (vcpu); 0 with a GICv3. */
  readonly vctrl: number;
  readonly vcpu: number;
  /** PPI of the maintenance interrupt. */
  readonly maintIrq: number;
  /** irq_set_irqchip_state(IRQCHIP_STATE_PENDING) of a PPI of the current physical CPU, or of an SPI. */
  readonly setPhysPending: (hwIntid: number, pending: boolean) => void;
  /** Zeroed `observe` memory for `count` instances of a layout of counters, or 0 when there is none left. */
  readonly allocateStats: <F extends Fields>(of: Layout<F>, count: number) => number;
  /** Gives it back. */
  readonly releaseStats?: (at: number, of: Layout<Fields>, count: number) => void;
  /** kvm_notify_acked_irq: the guest ended a level-triggered SPI (its pin number, from 0). */
  readonly notifyAckedIrq?: (kvm: Kvm, spi: number) => void;
  /** The machine calls onGuestAck and onGuestEoi, so the fold does not count them from list registers. */
  readonly countsGuestAcks?: boolean;
}

/** kvm_vgic_global_state. */
export interface VgicGlobal {
  readonly info: GicKvmInfo;
  /** The kind of CPU interface guests use: one of {@link GIC_TYPE}. */
  readonly type: number;
  /** Physical addresses of GICH and GICV. */
  readonly vctrlBase: number;
  readonly vcpuBase: number;
  readonly canEmulateGicv2: boolean;
  readonly maxGicVcpus: number;
  /** Implemented list registers, 1 to 16. */
  readonly nrLr: number;
  /** 0 with a GICv2. */
  readonly ichVtrEl2: number;
  /** By the numbers of IRQ_OPS (arm_vgic.ts). */
  readonly irqOps: (IrqOps | undefined)[];
}

function missing(): never {
  throw new InternalError("the vgic is used before kvmVgicHypInit");
}

/** kvm_vgic_global_state of a host; InternalError before kvmVgicHypInit. */
export function vgicGlobal(host: KvmHost): VgicGlobal {
  return host.vgicGlobalState ?? missing();
}

/** Sets what {@link vgicGlobal} returns. */
export function setVgicGlobal(host: KvmHost, state: VgicGlobal): void {
  host.vgicGlobalState = state;
}

/** Registers the ops that `vgic_irq.ops` number `id` stands for. */
export function setVgicIrqOps(host: KvmHost, id: number, ops: IrqOps): void {
  vgicGlobal(host).irqOps[id] = ops;
}
