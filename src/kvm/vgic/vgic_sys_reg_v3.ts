/**
 * User space's access to a vCPU's CPU interface registers. Mirrors arch/arm64/kvm/vgic-sys-reg-v3.c.
 *
 * What differs: nothing in behaviour; the registers are rows of one table. The vCPU is not loaded while
 * it is accessed, so the shadow in memory is all there is.
 */
import { sysreg, type SysregName } from "../../arm/arch/sysregs.ts";
import { fieldOf, ICC_CTLR, ICC_SRE, ICH_VTR, withField } from "../../arm/arch/gic.ts";
import { ERRNO } from "./errno.ts";
import type { Vcpu } from "../kvm_host.ts";
import { vgicGlobal } from "./vgic_global.ts";
import type { VgicVmcr } from "./vgic_irq.ts";
import { vgicV3GetVmcr, vgicV3SetVmcr } from "./vgic_v3.ts";

/** Reads a register: its value (32 bits), or a negative error number. */
type Get = (vcpu: Vcpu) => number;
/** Writes a register: 0 or a negative error number. */
type Set = (vcpu: Vcpu, value: number) => number;

interface IccRegister {
  readonly get: Get;
  readonly set: Set;
}

const bit = (value: number, mask: number): number => (value & mask) !== 0 ? 1 : 0;

function changeVmcr(vcpu: Vcpu, change: Partial<VgicVmcr>): number {
  vgicV3SetVmcr(vcpu, { ...vgicV3GetVmcr(vcpu), ...change });
  return 0;
}

/** A register that is a field of ICH_VMCR_EL2. */
const vmcrField = (field: keyof VgicVmcr, mask: number): IccRegister => ({
  get: (vcpu) => vgicV3GetVmcr(vcpu)[field],
  set: (vcpu, value) => changeVmcr(vcpu, { [field]: value & mask }),
});

function getGicCtlr(vcpu: Vcpu): number {
  const vmcr = vgicV3GetVmcr(vcpu);
  const vtr = vgicGlobal(vcpu.kvm.host).ichVtrEl2;
  let value = withField(0, ICC_CTLR.PRIbits, vcpu.vgic.numPriBits - 1);
  value = withField(value, ICC_CTLR.IDbits, vcpu.vgic.numIdBits);
  if (vtr & ICH_VTR.SEIS) value |= ICC_CTLR.SEIS;
  if (vtr & ICH_VTR.A3V) value |= ICC_CTLR.A3V;
  if (vmcr.cbpr) value |= ICC_CTLR.CBPR;
  if (vmcr.eoim) value |= ICC_CTLR.EOImode;
  return value;
}

/** A state from hardware with more bits than this one's cannot be taken. */
function setGicCtlr(vcpu: Vcpu, value: number): number {
  const { vgic } = vcpu;
  const vtr = vgicGlobal(vcpu.kvm.host).ichVtrEl2;
  const priBits = fieldOf(value, ICC_CTLR.PRIbits) + 1;
  if (priBits > vgic.numPriBits) return ERRNO.EINVAL;
  vgic.numPriBits = priBits;
  const idBits = fieldOf(value, ICC_CTLR.IDbits);
  if (idBits > vgic.numIdBits) return ERRNO.EINVAL;
  vgic.numIdBits = idBits;
  if (bit(vtr, ICH_VTR.SEIS) !== bit(value, ICC_CTLR.SEIS)) return ERRNO.EINVAL;
  if (bit(vtr, ICH_VTR.A3V) !== bit(value, ICC_CTLR.A3V)) return ERRNO.EINVAL;
  const cbpr = bit(value, ICC_CTLR.CBPR);
  return changeVmcr(vcpu, { cbpr, eoim: bit(value, ICC_CTLR.EOImode) });
}

/** With CBPR, the binary point of group 1 is group 0's and cannot be written. */
const BPR1: IccRegister = {
  get: (vcpu) => {
    const vmcr = vgicV3GetVmcr(vcpu);
    return vmcr.cbpr ? Math.min(vmcr.bpr + 1, 7) : vmcr.abpr;
  },
  set: (vcpu, value) => vgicV3GetVmcr(vcpu).cbpr ? 0 : changeVmcr(vcpu, { abpr: value & 7 }),
};

/** The last active priority register there is, from the priority bits (vgic_v3_max_apr_idx). */
function maxAprIdx(vcpu: Vcpu): number {
  const { numPriBits } = vcpu.vgic;
  return numPriBits === 7 ? 3 : numPriBits === 6 ? 1 : 0;
}

function activePriorities(group: 0 | 1, index: number): IccRegister {
  const at = (vcpu: Vcpu) => (group ? vcpu.cpuIf.ap1r : vcpu.cpuIf.ap0r) + 4 * index;
  return {
    get: (vcpu) => index > maxAprIdx(vcpu) ? ERRNO.EINVAL : vcpu.cpuIf.memory.ld32(at(vcpu)),
    set: (vcpu, value) => {
      if (index > maxAprIdx(vcpu)) return ERRNO.EINVAL;
      vcpu.cpuIf.memory.st32(at(vcpu), value);
      return 0;
    },
  };
}

const REGISTERS = new Map<number, IccRegister>(
  ([
    ["ICC_PMR_EL1", vmcrField("pmr", 0xff)],
    ["ICC_BPR0_EL1", vmcrField("bpr", 7)],
    ["ICC_AP0R0_EL1", activePriorities(0, 0)],
    ["ICC_AP0R1_EL1", activePriorities(0, 1)],
    ["ICC_AP0R2_EL1", activePriorities(0, 2)],
    ["ICC_AP0R3_EL1", activePriorities(0, 3)],
    ["ICC_AP1R0_EL1", activePriorities(1, 0)],
    ["ICC_AP1R1_EL1", activePriorities(1, 1)],
    ["ICC_AP1R2_EL1", activePriorities(1, 2)],
    ["ICC_AP1R3_EL1", activePriorities(1, 3)],
    ["ICC_BPR1_EL1", BPR1],
    ["ICC_CTLR_EL1", { get: getGicCtlr, set: setGicCtlr }],
    ["ICC_SRE_EL1", {
      get: (vcpu) => vcpu.cpuIf.vgicSre,
      set: (_vcpu, value) => value & ICC_SRE.SRE ? 0 : ERRNO.EINVAL,
    }],
    ["ICC_IGRPEN0_EL1", vmcrField("grpen0", 1)],
    ["ICC_IGRPEN1_EL1", vmcrField("grpen1", 1)],
  ] satisfies [SysregName, IccRegister][]).map(([name, row]) => [sysreg(name).key, row]),
);

/** Whether the register with this encoding (as sysregKey packs it) can be accessed: 0 or -ENXIO. */
export function vgicV3HasCpuSysregsAttr(key: number): number {
  return REGISTERS.has(key) ? 0 : ERRNO.ENXIO;
}

/** Reads a register: its value, or a negative error number. */
export function vgicV3CpuSysregsGet(vcpu: Vcpu, key: number): number {
  return REGISTERS.get(key)?.get(vcpu) ?? ERRNO.ENXIO;
}

/** Writes the low half of a register (no upper half is implemented): 0 or a negative error number. */
export function vgicV3CpuSysregsSet(vcpu: Vcpu, key: number, value: number): number {
  return REGISTERS.get(key)?.set(vcpu, value) ?? ERRNO.ENXIO;
}
