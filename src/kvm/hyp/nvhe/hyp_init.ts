/**
 * Setting EL2 up, and giving it back. Mirrors arch/arm64/kvm/hyp/nvhe/hyp-init.S: runs at physical
 * addresses, with EL2's MMU off until the end.
 *
 * What differs: HVC_SOFT_RESTART (kexec) answers as unknown.
 */
import type { SharedMemory } from "../../../base/memory.ts";
import type { El2Port } from "../../../arm/el2_port.ts";
import { HVC_STUB, HVC_STUB_ERR, HVC_STUB_HCALL_NR } from "../../../arm/arch/hyp_stub.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import { HOST_SMCCC_FUNC, hostSmcccId, NvheInitParamsLayout } from "../kvm_asm.ts";
import type { HypMemory } from "./hyp_memory.ts";

const VECTOR_LOWER_SYNC = 0x400;
/** INIT_SCTLR_EL2_MMU_ON: MMU, caches, stack alignment, no writable page is executable. */
const SCTLR_EL2_RES1 = 0x30c5_0830;
const SCTLR_MMU_ON = (SCTLR_EL2_RES1 | 0x8_100d) >>> 0;
const TCR_EL2_PS_SHIFT = 16;

/** __kvm_hyp_init: the vectors while EL2 has no hypervisor yet. `memory` is the machine's, EL2's MMU being off. */
export function hypInitVector(
  port: El2Port,
  memory: SharedMemory,
  hyp: HypMemory,
  offset: number,
): void {
  if (offset !== VECTOR_LOWER_SYNC) return hyp.bug(port);
  const call = port.gprLo(0);
  if (port.gprHi(0) === 0 && call < HVC_STUB_HCALL_NR) return kvmHandleStubHvc(port, hyp);
  const init = call === hostSmcccId(HOST_SMCCC_FUNC.__kvm_hyp_init);
  if (init) kvmHypInit(port, memory, hyp);
  port.setGpr(0, init ? 0 : 0xffff_ffff, init ? 0 : 0xffff_ffff);
  port.eret();
}

/** ___kvm_hyp_init: X1 is the physical address of this CPU's parameters. */
function kvmHypInit(port: El2Port, memory: SharedMemory, hyp: HypMemory): void {
  const pa = port.gprLo(1) + port.gprHi(1) * 0x1_0000_0000;
  const params = NvheInitParamsLayout.at(
    memory,
    port.translate(pa, NvheInitParamsLayout.size, false),
  );
  port.writeNum(R.TPIDR_EL2, params.tpidrEl2);
  port.setSp(params.stackHypVa);
  port.writeNum(R.MAIR_EL2, params.mairEl2);
  port.writeNum(R.HCR_EL2, params.hcrEl2);
  port.writeNum(R.VTTBR_EL2, params.vttbr);
  port.writeNum(R.VTCR_EL2, params.vtcr);
  port.writeNum(R.TTBR0_EL2, params.pgdPa);
  const parange = port.readLo(R.ID_AA64MMFR0_EL1) & 15;
  port.writeNum(R.TCR_EL2, params.tcrEl2 + Math.min(parange, 5) * 2 ** TCR_EL2_PS_SHIFT);
  port.isb();
  port.tlbi("ALLE2");
  port.tlbi("VMALLS12E1");
  port.dsb();
  port.write(R.SCTLR_EL2, SCTLR_MMU_ON, 0);
  port.isb();
  port.writeNum(R.VBAR_EL2, hyp.symbols.hostVector);
}

/** __kvm_handle_stub_hvc: HVC_RESET_VECTORS gives EL2 back to the stub. */
export function kvmHandleStubHvc(port: El2Port, hyp: HypMemory): void {
  if (port.gprLo(0) === HVC_STUB.RESET_VECTORS) {
    port.setGpr(0, 0, 0);
    port.write(R.SCTLR_EL2, SCTLR_EL2_RES1, 0);
    port.isb();
    port.writeNum(R.VBAR_EL2, hyp.symbols.stubVectors);
  } else port.setGpr(0, HVC_STUB_ERR, 0);
  port.eret();
}
