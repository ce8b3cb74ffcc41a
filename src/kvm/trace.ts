/** Emitting a VM's or a vCPU's trace events. */
import type { TraceArg, TraceId, TracepointName, TRACEPOINTS } from "../trace/tracepoints.ts";
import * as tracepointsModule from "../trace/tracepoints.ts";
import type { Vcpu } from "./kvm_host.ts";
import * as kvmWords from "./kvm_words.ts";

export { TP, wordAt } from "../trace/tracepoints.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { wordAt } = tracepointsModule;
const { KVM_WORD, VCPU_WORD } = kvmWords;
export type { TraceArg };

/** Where they are in a vCPU's structure. */
const ESR = 4 * VCPU_WORD.ESR, FAR = 4 * VCPU_WORD.FAR, PC = 4 * VCPU_WORD.PC;

/** The guest's PC as an argument of {@link trace}, and FAR_EL2 and ESR_EL2 of its last exit. */
export function pcOf({ base }: Vcpu): number {
  return wordAt(base + PC);
}
export function farOf({ base }: Vcpu): number {
  return wordAt(base + FAR);
}

export function esrOf({ base }: Vcpu): number {
  return wordAt(base + ESR);
}

function record(
  vcpu: Vcpu,
  id: number,
  a0?: TraceArg,
  a1?: TraceArg,
  a2?: TraceArg,
  a3?: TraceArg,
  a4?: TraceArg,
  a5?: TraceArg,
): void {
  const { kvm, state } = vcpu;
  kvm.host.trace.record(id, kvm.state.vmId, state.vcpuId, a0, a1, a2, a3, a4, a5);
}

/** Records an event of the vCPU; arguments as for {@link TraceRing.record}. */
export const trace = record as <N extends TracepointName>(
  vcpu: Vcpu,
  id: TraceId<N>,
  ...args: Parameters<(typeof TRACEPOINTS)[N]>
) => void;

function who({ kvm, words }: Vcpu): number {
  return (words[VCPU_WORD.ID] as number) | ((kvm.words[KVM_WORD.VM_ID] as number) << 16);
}

/** The same for events that each exit has, whose arguments are numbers. */
export function traceNumber(
  vcpu: Vcpu,
  id: TraceId<"kvm_entry" | "kvm_handle_sys_reg">,
  a0: number,
): void {
  vcpu.kvm.host.trace.record1(id, who(vcpu), a0);
}
export function traceNumbers(
  vcpu: Vcpu,
  id: TraceId<"kvm_exit" | "kvm_sys_access" | "kvm_hvc_arm64">,
  a0: number,
  a1: number,
  a2: number,
): void {
  vcpu.kvm.host.trace.record3(id, who(vcpu), a0, a1, a2);
}
