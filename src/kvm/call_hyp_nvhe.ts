/**
 * kvm_call_hyp of a host at EL1: the function's number and arguments in registers, HVC, and EL2's code
 * does it. Pointers are the kernel's; EL2 makes its own of them.
 */
import { InternalError, KernelPanic } from "../base/errors.ts";
import type { El2Port } from "../arm/el2_port.ts";
import { HOST_SMCCC_FUNC, type HostSmcccFunc, hostSmcccId } from "./hyp/kvm_asm.ts";
import { HYP_FUNCTION_NAMES } from "./hyp/nvhe/hyp_main.ts";
import { HYP_FUNCTION_BYTES } from "./hyp/kvm_asm.ts";
import type { CallHyp } from "./call_hyp.ts";
import type { HypMode } from "./hyp_mode.ts";
import type { KvmState, Vcpu, VgicV3CpuIf } from "./kvm_host.ts";
import { PAGE_HYP } from "./hyp/hyp_pgtable.ts";
import { PAGE_OFFSET_HI } from "./va_layout.ts";

const TWO32 = 0x1_0000_0000;

/** The functions at EL2, called by HVC. */
export class CallHypNvhe implements CallHyp {
  readonly vhe = false;

  constructor(readonly mode: HypMode) {}

  /** kvm_call_hyp_nvhe: X1 is a value by its halves, or a pointer with the kernel's high half. Answers are in X1. */
  #call(port: El2Port, name: HostSmcccFunc, lo = 0, hi = 0): void {
    port.setGpr(0, hostSmcccId(HOST_SMCCC_FUNC[name]), 0);
    port.setGpr(1, lo, hi);
    this.mode.kernel.hvc(port);
    if (!port.inHost) return;
    this.#checkPanic(port);
    if (port.gprLo(0) !== 0) throw new InternalError(`hypercall ${name} is not known at EL2`);
  }

  /** The same with a pointer to the structure at `address` of the shared memory. */
  #callWith(port: El2Port, name: HostSmcccFunc, address: number): void {
    this.#call(port, name, address, PAGE_OFFSET_HI);
  }

  #checkPanic(port: El2Port): void {
    const { panicHandlerLo, panicHandlerHi } = this.mode.symbols;
    if (port.pcLo() === panicHandlerLo && port.pcHi() === panicHandlerHi) this.#panic(port);
  }

  /** nvhe_hyp_panic_handler: says what EL2 has found, and panics. */
  #panic(port: El2Port): never {
    const hex = (n: number, digits: number) =>
      port.gprHi(n).toString(16).padStart(8, "0").concat(
        port.gprLo(n).toString(16).padStart(8, "0"),
      ).slice(-digits);
    const elr = port.gprLo(2) + port.gprHi(2) * TWO32;
    throw new KernelPanic(
      `nVHE hyp panic on CPU ${this.mode.kernel.currentCpu} at ${this.#symbol(elr)}: ` +
        `PS:${hex(1, 8)} PC:${hex(2, 16)} ESR:${hex(0, 16)} ` +
        `FAR:${hex(6, 16)} HPFAR:${hex(7, 16)} PAR:${hex(4, 16)} VCPU:${hex(5, 16)}`,
    );
  }

  /** What is at an address of EL2's text, as %pB shows it. */
  #symbol(va: number): string {
    const { functions, hostVector, guestVector } = this.mode.symbols;
    const number = Math.floor((va - functions) / HYP_FUNCTION_BYTES);
    const name = HYP_FUNCTION_NAMES[number];
    const from = (symbol: string, base: number) => `${symbol}+0x${(va - base).toString(16)}`;
    if (name !== undefined) return from(name, functions + number * HYP_FUNCTION_BYTES);
    if (va >= guestVector && va < guestVector + 0x800) return from("__kvm_hyp_vector", guestVector);
    if (va >= hostVector && va < guestVector) return from("__kvm_hyp_host_vector", hostVector);
    return `0x${va.toString(16)}`;
  }

  vcpuRunEnter(port: El2Port, vcpu: Vcpu): void {
    this.#callWith(port, "__kvm_vcpu_run", vcpu.state.base);
  }

  vcpuRunExit(port: El2Port): number {
    // EL2's code has run already, and given the CPU back.
    this.#checkPanic(port);
    port.isb();
    return port.gprLo(1);
  }

  kvmAdjustPc(port: El2Port, vcpu: Vcpu): void {
    this.#callWith(port, "__kvm_adjust_pc", vcpu.state.base);
  }
  kvmFlushVmContext(port: El2Port): void {
    this.#call(port, "__kvm_flush_vm_context");
  }
  kvmFlushCpuContext(port: El2Port, kvm: KvmState): void {
    this.#callWith(port, "__kvm_flush_cpu_context", kvm.base);
  }
  kvmTlbFlushVmid(port: El2Port, kvm: KvmState): void {
    this.#callWith(port, "__kvm_tlb_flush_vmid", kvm.base);
  }
  kvmTlbFlushVmidIpa(port: El2Port, kvm: KvmState, ipa: number, level: number): void {
    port.setGpr(2, ipa % TWO32, Math.floor(ipa / TWO32));
    port.setGpr(3, level, 0);
    this.#callWith(port, "__kvm_tlb_flush_vmid_ipa", kvm.base);
  }
  kvmTimerSetCntvoff(port: El2Port, lo: number, hi: number): void {
    this.#call(port, "__kvm_timer_set_cntvoff", lo, hi);
  }
  kvmGetMdcrEl2(port: El2Port): number {
    this.#call(port, "__kvm_get_mdcr_el2");
    return port.gprLo(1);
  }
  vgicV3GetGicConfig(port: El2Port): number {
    this.#call(port, "__vgic_v3_get_gic_config");
    return port.gprLo(1);
  }
  vgicV3InitLrs(port: El2Port): void {
    this.#call(port, "__vgic_v3_init_lrs");
  }
  vgicV3ReadVmcr(port: El2Port): number {
    this.#call(port, "__vgic_v3_read_vmcr");
    return port.gprLo(1);
  }
  vgicV3WriteVmcr(port: El2Port, vmcr: number): void {
    this.#call(port, "__vgic_v3_write_vmcr", vmcr, 0);
  }
  vgicV3SaveAprs(port: El2Port, cpuIf: VgicV3CpuIf): void {
    this.#callWith(port, "__vgic_v3_save_aprs", cpuIf.base);
  }
  vgicV3RestoreAprs(port: El2Port, cpuIf: VgicV3CpuIf): void {
    this.#callWith(port, "__vgic_v3_restore_aprs", cpuIf.base);
  }
  shareHyp(address: number, size: number): boolean {
    return this.mode.createHypMappings(address, size, PAGE_HYP);
  }
}
