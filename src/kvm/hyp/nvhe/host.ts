/**
 * The vectors of EL2 while the host runs and while a guest does, and hyp_panic. Mirrors
 * arch/arm64/kvm/hyp/nvhe/host.S, hyp/hyp-entry.S, and hyp_panic of nvhe/switch.c.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { HVC_STUB_HCALL_NR } from "../../../arm/arch/hyp_stub.ts";
import { SPSR } from "../../../arm/arch/fields.ts";
import { EC } from "../../../arm/arch/syndrome.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import { exitCodeOf, VECTOR_LOWER_AARCH64 } from "../switch.ts";
import type { HypMemory, NvhePercpu } from "./hyp_memory.ts";
import { kvmHandleStubHvc } from "./hyp_init.ts";
import { handleTrap } from "./hyp_main.ts";
import { kvmVcpuRunExit, leaveForPanic } from "./switch.ts";

/** EL1h with everything masked: how the kernel's panic function is entered. */
const PSTATE_PANIC = 0x3c5;
const VECTOR_CURRENT_SYNC = 0x200;

/** __kvm_hyp_host_vector. */
export function hostVector(port: El2Port, memory: HypMemory, offset: number): void {
  if (offset < VECTOR_LOWER_AARCH64) return hypPanic(port, memory);
  // An interrupt of the host does not come here: nothing routes it to EL2 while the host runs.
  if (offset !== VECTOR_LOWER_AARCH64) return hypDoPanic(port, memory, undefined);
  const hvc = port.readLo(R.ESR_EL2) >>> 26 === EC.HVC64;
  const stub = hvc && port.gprHi(0) === 0 && port.gprLo(0) < HVC_STUB_HCALL_NR;
  if (stub) return kvmHandleStubHvc(port, memory);
  hostExit(port, memory);
}

/** __host_exit: the host's registers away, the call, and back to it unless a guest has been entered. */
function hostExit(port: El2Port, memory: HypMemory): void {
  const percpu = memory.percpu(port);
  port.saveGprs(percpu.hostCtxt.regs);
  handleTrap(port, memory, percpu.hostCtxt);
  if (port.inHost) hostEnter(port, percpu);
}

/** __host_enter. */
function hostEnter(port: El2Port, { hostCtxt }: NvhePercpu): void {
  port.restoreGprs(hostCtxt.regs);
  port.eret();
}

/** __kvm_hyp_vector: a guest is left. From EL2 itself only the illegal return to a guest is not the end. */
export function guestVector(port: El2Port, memory: HypMemory, offset: number): void {
  if (offset < VECTOR_LOWER_AARCH64 && !isIllegalReturn(port, offset)) {
    return hypPanic(port, memory);
  }
  port.trap();
  const percpu = memory.percpu(port);
  const code = exitCodeOf(port, offset);
  if (!kvmVcpuRunExit(port, memory, percpu, code)) return;
  percpu.hostCtxt.memory.st53(percpu.hostCtxt.regs + 8, code);
  hostEnter(port, percpu);
}

function isIllegalReturn(port: El2Port, offset: number): boolean {
  return offset === VECTOR_CURRENT_SYNC && (port.readLo(R.SPSR_EL2) & SPSR.IL) !== 0;
}

/** hyp_panic: EL2 itself has gone wrong. The host is put back where it can say so. */
function hypPanic(port: El2Port, memory: HypMemory): void {
  const spsr = port.readLo(R.SPSR_EL2);
  const elr = port.readNum(R.ELR_EL2);
  const percpu = memory.percpu(port);
  const vcpu = percpu.state.hostRunningVcpu;
  leaveForPanic(port, memory, percpu);
  percpu.state.hostRunningVcpu = 0;
  percpu.state.hypRunningVcpu = 0;
  hypDoPanic(port, memory, { percpu, spsr, elr, vcpu });
}

interface PanicState {
  readonly percpu: NvhePercpu;
  readonly spsr: number;
  readonly elr: number;
  readonly vcpu: number;
}

/** Sets X`n` to a register's value. */
function argument(port: El2Port, n: number, reg: number): void {
  port.setGpr(n, port.readLo(reg), port.readHi(reg));
}

/**
 * __hyp_do_panic: to nvhe_hyp_panic_handler of the kernel, with ESR, SPSR, ELR, its physical address,
 * PAR, the vCPU, FAR and HPFAR in X0 to X7. Without a state the host itself did it, and its own
 * registers are all it has.
 */
function hypDoPanic(port: El2Port, memory: HypMemory, state: PanicState | undefined): void {
  const spsr = state?.spsr ?? port.readLo(R.SPSR_EL2);
  const elr = state?.elr ?? port.readNum(R.ELR_EL2);
  if (state !== undefined) port.restoreGprs(state.percpu.hostCtxt.regs);
  argument(port, 0, R.ESR_EL2);
  port.setGpr(1, spsr, 0);
  for (const n of [2, 3]) port.setGpr(n, elr % 0x1_0000_0000, Math.floor(elr / 0x1_0000_0000));
  argument(port, 4, R.PAR_EL1);
  const vcpu = state?.vcpu ?? 0;
  port.setGpr(5, vcpu % 0x1_0000_0000, Math.floor(vcpu / 0x1_0000_0000));
  argument(port, 6, R.FAR_EL2);
  argument(port, 7, R.HPFAR_EL2);
  const { panicHandlerLo, panicHandlerHi } = memory.symbols;
  port.write(R.ELR_EL2, panicHandlerLo, panicHandlerHi);
  port.write(R.SPSR_EL2, PSTATE_PANIC, 0);
  port.eret();
}
