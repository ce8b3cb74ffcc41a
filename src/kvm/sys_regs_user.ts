/**
 * System registers as user space sees them (KVM_GET_ONE_REG, KVM_SET_ONE_REG, KVM_GET_REG_LIST).
 * Mirrors "Userspace API" of arch/arm64/kvm/sys_regs.c.
 */
import { R, sysreg, type SysregName } from "../arm/arch/sysregs.ts";
import { ERRNO, SAVED, type Vcpu } from "./kvm_host.ts";
import { REG, type SysRegDesc, sysregVisibility } from "./sys_reg_desc.ts";
import { getCcsidr, SYS_REG_DESCS, sysRegDesc } from "./sys_regs.ts";

/** invariant_sys_regs: the guest sees the host's, so they are part of its state, but fixed. */
const INVARIANT: readonly SysregName[] = [
  "MIDR_EL1",
  "REVIDR_EL1",
  "CLIDR_EL1",
  "AIDR_EL1",
  "CTR_EL0",
];
const INVARIANT_BY_KEY = new Map(INVARIANT.map((name) => [sysreg(name).key, name]));

/** CSSELR_EL1 values for which user space may ask (CSSELR_MAX). */
const CSSELR_MAX = 14;

function readHost(vcpu: Vcpu, name: SysregName): bigint {
  const { host } = vcpu.kvm;
  return host.port(host.currentCpu()).read64(R[name]);
}

/** id_to_sys_reg_desc: a row that user space may see. */
function userDesc(vcpu: Vcpu, key: number): SysRegDesc | undefined {
  const desc = sysRegDesc(key);
  if (desc === undefined || (desc.reg === undefined && desc.getUser === undefined)) {
    return undefined;
  }
  return (sysregVisibility(vcpu, desc) & REG.HIDDEN) === 0 ? desc : undefined;
}

/** kvm_arm_sys_reg_get_reg, of the register with encoding `key`: its value, or an errno. */
export function kvmArmSysRegGetReg(vcpu: Vcpu, key: number): bigint | number {
  const invariant = INVARIANT_BY_KEY.get(key);
  if (invariant !== undefined) return readHost(vcpu, invariant);
  const desc = userDesc(vcpu, key);
  if (desc === undefined) return ERRNO.ENOENT;
  if (desc.getUser !== undefined) return desc.getUser(vcpu, desc);
  return desc.reg === undefined
    ? ERRNO.ENOENT
    : vcpu.state.memory.ld64(vcpu.ctxt.sysregs + 8 * SAVED[desc.reg]);
}

/** kvm_arm_sys_reg_set_reg: 0 or an errno. */
export function kvmArmSysRegSetReg(vcpu: Vcpu, key: number, value: bigint): number {
  const invariant = INVARIANT_BY_KEY.get(key);
  if (invariant !== undefined) return value === readHost(vcpu, invariant) ? 0 : ERRNO.EINVAL;
  const desc = userDesc(vcpu, key);
  if (desc === undefined) return ERRNO.ENOENT;
  if ((sysregVisibility(vcpu, desc) & REG.USER_WI) !== 0) return 0;
  if (desc.setUser !== undefined) return desc.setUser(vcpu, desc, value);
  if (desc.reg === undefined) return ERRNO.ENOENT;
  vcpu.state.memory.st64(vcpu.ctxt.sysregs + 8 * SAVED[desc.reg], value);
  return 0;
}

/** is_valid_cache: whether CLIDR_EL1 has the cache that a CSSELR_EL1 value selects. */
function isValidCache(vcpu: Vcpu, csselr: number): boolean {
  if (csselr >= CSSELR_MAX) return false;
  const level = csselr >> 1, instruction = (csselr & 1) === 1;
  switch (Number((readHost(vcpu, "CLIDR_EL1") >> BigInt(3 * level)) & 7n)) {
    case 1:
      return instruction;
    case 2:
    case 4:
      return !instruction;
    case 3:
      return true;
    default:
      return false;
  }
}

/** demux_c15_get: CCSIDR_EL1 of the cache `csselr` (the id's low half), or an errno. */
export function demuxC15Get(vcpu: Vcpu, csselr: number): bigint | number {
  return isValidCache(vcpu, csselr) ? getCcsidr(vcpu, csselr) : ERRNO.ENOENT;
}

/** demux_c15_set: invariant, too. */
export function demuxC15Set(vcpu: Vcpu, csselr: number, value: bigint): number {
  const is = demuxC15Get(vcpu, csselr);
  return typeof is === "number" ? is : is === value ? 0 : ERRNO.EINVAL;
}

/** The encodings that user space sees: invariant ones first, then the table's (walk_sys_regs). */
export function sysRegIndices(vcpu: Vcpu): readonly number[] {
  const rows = SYS_REG_DESCS.filter(({ key }) => userDesc(vcpu, key) !== undefined);
  return [...INVARIANT_BY_KEY.keys(), ...rows.map(({ key }) => key)];
}

/** The caches that user space sees, as CSSELR_EL1 values (write_demux_regids). */
export function demuxIndices(vcpu: Vcpu): readonly number[] {
  return Array.from({ length: CSSELR_MAX }, (_, n) => n).filter((n) => isValidCache(vcpu, n));
}
