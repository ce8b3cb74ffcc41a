/** What guests do with their virtual interrupts, as the machine reports it: for counters and latencies. */
import type { Vcpu } from "./kvm_host.ts";
import * as vgicIrq from "./vgic/vgic_irq.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { onGuestAck, onGuestEoi, onGuestVector } = vgicIrq;

/** What a physical CPU's guest does with its virtual interrupts, as it happens. For counters only. */
export interface GuestInterrupts {
  /** It reaches its vector for `intid`. */
  vector(pcpu: number, intid: number): void;
  acknowledged(pcpu: number, intid: number): void;
  deactivated(pcpu: number, intid: number): void;
}

/** Which vCPU a physical CPU has loaded. */
interface LoadedVcpus {
  loadedVcpu(pcpu: number): Vcpu | undefined;
}

/** Counts them for the vCPU that is loaded there. */
export function guestInterrupts(system: LoadedVcpus): GuestInterrupts {
  // Each calls its own function: V8 could not tell which a common one calls.
  return {
    vector: (pcpu, intid) => {
      const vcpu = system.loadedVcpu(pcpu);
      if (vcpu !== undefined) onGuestVector(vcpu, intid);
    },
    acknowledged: (pcpu, intid) => {
      const vcpu = system.loadedVcpu(pcpu);
      if (vcpu !== undefined) onGuestAck(vcpu, intid);
    },
    deactivated: (pcpu, intid) => {
      const vcpu = system.loadedVcpu(pcpu);
      if (vcpu !== undefined) onGuestEoi(vcpu, intid);
    },
  };
}
