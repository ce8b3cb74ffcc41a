/** Emitting a VM's or a vCPU's trace events. */
import type { TraceArg, TracepointName, TRACEPOINTS } from "../trace/tracepoints.ts";
import type { Vcpu } from "./kvm_host.ts";

/** Records event `name` for the vCPU; numbers must be below 2^53, else bigints. */
export function trace<N extends TracepointName>(
  vcpu: Vcpu,
  name: N,
  ...args: Parameters<(typeof TRACEPOINTS)[N]>
): void {
  vcpu.kvm.host.trace.emit(name, vcpu.kvm.state.vmId, vcpu.state.vcpuId, ...args);
}

export type { TraceArg };
