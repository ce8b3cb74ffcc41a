/**
 * How a physical CPU gets from EL2, where it starts, to where the host kernel runs (head.S, el2_setup.h):
 * it stays at EL2 with VHE, or goes to EL1 and leaves a stub behind.
 */
import { MDSCR } from "../arm/arch/debug_registers.ts";
import { CNTHCTL, CNTKCTL, HCR, HCR_HI, MDCR } from "../arm/arch/fields.ts";
import { ICC_SRE } from "../arm/arch/gic.ts";
import { PMCR } from "../arm/arch/pmu.ts";
import { R } from "../arm/arch/sysregs.ts";
import type { El2Port } from "../arm/el2_port.ts";

/** HCR_EL2 while the host runs (HCR_HOST_VHE_FLAGS). */
const HCR_HOST_VHE = { lo: (HCR.RW | HCR.TGE) >>> 0, hi: HCR_HI.E2H } as const;

/** HCR_EL2 while a host at EL1 runs (HCR_HOST_NVHE_FLAGS): EL1 is AArch64, and nothing traps. */
const HCR_HOST_NVHE_LO = HCR.RW;
/** CPTR_EL2 without E2H: only what is RES1. */
const CPTR_NVHE_RES1 = 0x33ff;
/** SPSR for the way from EL2 to a kernel at EL1: EL1h, all masked. */
const INIT_PSTATE_EL1 = 0x3c5;
/** Where the kernel at EL1 goes on, its vectors, its HVC: the top half of the address space. Nothing is ever fetched there. */
export const KERNEL = {
  textLo: 0x0801_0000,
  vectorsLo: 0x0801_0800,
  hvcLo: 0x0802_9000,
  hi: 0xffff_8000,
} as const;
/** MAIR_EL1: Normal write-back, tagged, non-cacheable, Device nGnRnE, nGnRE, from attribute 0 up. */
const KERNEL_MAIR = { lo: 0x0044_ffff, hi: 0x4 } as const;
/** TCR_EL1: two halves of 48 bits, 4 KiB granules, inner-shareable write-back walks, IPS 48 bits. */
const KERNEL_TCR = { lo: 0xb510_3510, hi: 0x5 } as const;
/** CPACR_EL1.FPEN: the kernel may use FP. */
const KERNEL_CPACR = 3 << 20;
/** CPTR_EL2 while the host runs, with E2H: FP and SVE not trapped (CPACR_EL1_DEFAULT). */
const CPACR_EL1_DEFAULT = (3 << 20) | (1 << 16);

/** VBAR_EL2 while the host runs. Nothing is ever fetched there: the machine hands exceptions to the host. */
export const HOST_VECTORS = 0x1000_0000;

/** __init_el2_debug: MDCR_EL2.HPMN leaves every event counter to EL1. */
function allCounters(port: El2Port): number {
  return (port.readLo(R.PMCR_EL0) >>> PMCR.N_SHIFT) & MDCR.HPMN;
}

/** What arch/arm64/kernel/head.S and el2_setup.h leave behind on a VHE host. */
export function initEl2(port: El2Port): void {
  port.irqDisable();
  port.write(R.HCR_EL2, HCR_HOST_VHE.lo, HCR_HOST_VHE.hi);
  port.isb();
  port.write(R.CPTR_EL2, CPACR_EL1_DEFAULT, 0);
  port.write(R.MDCR_EL2, allCounters(port), 0);
  port.write(R.HSTR_EL2, 0, 0);
  port.write(R.CNTVOFF_EL2, 0, 0);
  port.write(R.VTTBR_EL2, 0, 0);
  port.write(R.VPIDR_EL2, port.readLo(R.MIDR_EL1), port.readHi(R.MIDR_EL1));
  port.write(R.VMPIDR_EL2, port.readLo(R.MPIDR_EL1), port.readHi(R.MPIDR_EL1));
  port.writeNum(R.VBAR_EL2, HOST_VECTORS);
  port.write(R.CNTHP_CTL_EL2, 0, 0);
  initDebug(port);
  port.isb();
}

/** __cpu_setup and debug_monitors_init: no DCC for EL0, and the OS lock that reset leaves held goes. */
function initDebug(port: El2Port): void {
  port.write(R.MDSCR_EL1, MDSCR.TDCC, 0);
  port.write(R.OSDLR_EL1, 0, 0);
  port.write(R.OSLAR_EL1, 0, 0);
}

/**
 * The same for a host at EL1 (init_el2 of head.S): EL2 is left by ERET, with the stub's vectors at
 * physical address `stubPa`; `gicType` is the version of the interrupt controller, 2 or 3.
 */
export function dropToEl1(port: El2Port, stubPa: number, gicType: number): void {
  port.irqDisable();
  port.write(R.HCR_EL2, HCR_HOST_NVHE_LO, 0);
  port.isb();
  port.write(R.SCTLR_EL2, 0x30c5_0830, 0);
  port.isb();
  port.write(R.CNTHCTL_EL2, CNTHCTL.EL1PCTEN | CNTHCTL.EL1PCEN, 0);
  port.write(R.CNTVOFF_EL2, 0, 0);
  port.write(R.MDCR_EL2, allCounters(port), 0);
  port.write(R.VTTBR_EL2, 0, 0);
  if (gicType === 3) {
    const sre = ICC_SRE.SRE | ICC_SRE.DFB | ICC_SRE.DIB | ICC_SRE.Enable;
    port.write(R.ICC_SRE_EL2, sre, 0);
    port.isb();
    port.write(R.ICH_HCR_EL2, 0, 0);
  }
  port.write(R.HSTR_EL2, 0, 0);
  port.write(R.VPIDR_EL2, port.readLo(R.MIDR_EL1), port.readHi(R.MIDR_EL1));
  port.write(R.VMPIDR_EL2, port.readLo(R.MPIDR_EL1), port.readHi(R.MPIDR_EL1));
  port.write(R.CPTR_EL2, CPTR_NVHE_RES1, 0);
  port.writeNum(R.VBAR_EL2, stubPa);
  port.write(R.ELR_EL2, KERNEL.textLo, KERNEL.hi);
  port.write(R.SPSR_EL2, INIT_PSTATE_EL1, 0);
  port.eret();
  initEl1(port);
}

/**
 * The kernel's own EL1 state. Its MMU stays off: TypeScript reaches memory without it, and the
 * addresses it gives to cache maintenance are physical.
 */
function initEl1(port: El2Port): void {
  port.write(R.MAIR_EL1, KERNEL_MAIR.lo, KERNEL_MAIR.hi);
  port.write(R.TCR_EL1, KERNEL_TCR.lo, KERNEL_TCR.hi);
  port.write(R.CPACR_EL1, KERNEL_CPACR, 0);
  initDebug(port);
  port.write(R.VBAR_EL1, KERNEL.vectorsLo, KERNEL.hi);
  port.write(R.CNTKCTL_EL1, CNTKCTL.EL0VCTEN, 0);
  port.write(R.CNTP_CTL_EL0, 0, 0);
  port.write(R.CNTV_CTL_EL0, 0, 0);
  port.isb();
}
