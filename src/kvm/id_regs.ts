/**
 * The identification registers that a guest sees. Mirrors that part of arch/arm64/kvm/sys_regs.c and
 * arm64_ftr_regs of arch/arm64/kernel/cpufeature.c.
 *
 * What differs: Linux 6.1 lets user space change CSV2 and CSV3 only. Here, as in Linux 6.12, what the
 * VM shows is kept per VM, and until its first run user space may lower the fields that
 * {@link WRITABLE} lists (ID_WRITABLE in 6.12). A feature that is hidden still works in the guest
 * where the architecture has no trap for it, as on real hardware.
 */
import { R, sysregByKey, sysregKey, type SysregName } from "../arm/arch/sysregs.ts";
import { ERRNO, type Kvm, KVM_NR_ID_REGS, type Vcpu } from "./kvm_host.ts";
import { kvmVcpuHasPmu } from "./pmu_emul.ts";
import { give, readOnly, REG, type SysRegDesc, sysregVisibility } from "./sys_reg_desc.ts";

/** Where the register of an encoding is kept within `idRegs` (IDREG_IDX). */
function indexOf(key: number): number {
  return (((key >> 3) & 15) - 1) * 8 + (key & 7);
}

function withField(value: bigint, shift: number, field: number): bigint {
  const s = BigInt(shift);
  return (value & ~(0xfn << s)) | (BigInt(field) << s);
}

const fieldOf = (value: bigint, shift: number): number => Number((value >> BigInt(shift)) & 15n);

const without = (...shifts: readonly number[]) => (value: bigint): bigint =>
  shifts.reduce((v, shift) => withField(v, shift, 0), value);

const DEBUG_VERSION_8_0 = 6;
const PMU_VERSION = 8;
const PMU_V3_FOR_8_4 = 5;
const PMU_IMPLEMENTATION_DEFINED = 15;

/** cpuid_feature_cap_perfmon_field: an implementation defined PMU does not count as one. */
function capPmu(value: bigint): bigint {
  const version = fieldOf(value, PMU_VERSION);
  const none = version === PMU_IMPLEMENTATION_DEFINED;
  return withField(value, PMU_VERSION, none ? 0 : Math.min(version, PMU_V3_FOR_8_4));
}

/** What KVM's view differs in from the host's. */
const SANITISE: Readonly<Partial<Record<SysregName, (value: bigint) => bigint>>> = {
  // No SVE, no AMU; nothing here speculates: CSV2 1, CSV3 1. The GIC's system registers (1 or none) as
  // the host has them, which is the kind of controller that guests get.
  ID_AA64PFR0_EL1: (value) =>
    [[56, 1], [60, 1]].reduce(
      (v, [shift, field]) => withField(v, shift as number, field as number),
      without(32, 44)(value),
    ),
  // No MTE, no SME
  ID_AA64PFR1_EL1: without(8, 24),
  // No pointer authentication
  ID_AA64ISAR1_EL1: without(4, 8, 24, 28),
  ID_AA64ISAR2_EL1: without(0, 8, 12),
  // Debug of Armv8.0, no profiling
  ID_AA64DFR0_EL1: (value) => capPmu(without(32)(withField(value, 0, DEBUG_VERSION_8_0))),
};

/** How a field may be lowered: as an unsigned number, or as a signed one (-1: not there). */
type Kind = "u" | "s";

function unsigned(...shifts: readonly number[]): ReadonlyMap<number, Kind> {
  return new Map(shifts.map((shift) => [shift, "u"]));
}

/** Fields (by their lowest bit) that user space may lower; all others must stay. */
const WRITABLE: Readonly<Partial<Record<SysregName, ReadonlyMap<number, Kind>>>> = {
  // FP and AdvSIMD, which 6.12 fixes: half precision can be hidden, so that a guest sees Armv8.0
  ID_AA64PFR0_EL1: unsigned(0, 4, 8, 12, 16, 20, 24, 36, 48, 56, 60),
  ID_AA64PFR1_EL1: unsigned(4),
  ID_AA64DFR0_EL1: unsigned(0, 8, 20, 36),
  ID_AA64ISAR0_EL1: unsigned(4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60),
  ID_AA64ISAR1_EL1: unsigned(0, 12, 16, 20, 32, 36, 40, 44, 48, 52, 56, 60),
  ID_AA64ISAR2_EL1: unsigned(0, 4, 16, 20, 28),
  ID_AA64MMFR0_EL1: new Map<number, Kind>([
    ...unsigned(0, 8, 12, 16, 20, 44, 56, 60),
    [24, "s"],
    [28, "s"],
  ]),
  ID_AA64MMFR1_EL1: unsigned(0, 12, 16, 20, 24, 36, 44),
  ID_AA64MMFR2_EL1: unsigned(0, 4, 8, 12, 16, 28, 32, 48, 52, 60),
};

/** What {@link WRITABLE} says of an encoding, as a mask; 0 for one that is no identification register. */
export function kvmRegWritableMask(key: number): bigint {
  const fields = WRITABLE[sysregByKey(key)?.name as SysregName];
  return [...fields?.keys() ?? []].reduce((mask, shift) => mask | (15n << BigInt(shift)), 0n);
}

function address(kvm: Kvm, key: number): number {
  return kvm.state.idRegs + 8 * indexOf(key);
}

/** kvm_reset_id_regs: what a new VM shows is all that the host has and KVM can give. */
export function kvmInitIdRegs(kvm: Kvm): void {
  const { host } = kvm;
  const port = host.port(host.currentCpu());
  for (const { key, name } of ID_ROWS) {
    if (!SANITISED.has(name)) continue;
    const value = port.read64(R[name as SysregName]);
    host.memory.st64(address(kvm, key), SANITISE[name as SysregName]?.(value) ?? value);
  }
}

/** read_id_reg: what one register shows to a vCPU. */
function readIdReg(vcpu: Vcpu, desc: SysRegDesc): bigint {
  if ((sysregVisibility(vcpu, desc) & REG.RAZ) !== 0) return 0n;
  const value = vcpu.state.memory.ld64(address(vcpu.kvm, desc.key));
  const hidesPmu = desc.name === "ID_AA64DFR0_EL1" && !kvmVcpuHasPmu(vcpu);
  return hidesPmu ? withField(value, PMU_VERSION, 0) : value;
}

const signed = (field: number, kind: Kind): number => kind === "s" ? (field << 28) >> 28 : field;

/** arm64_check_features: every field is as in `limit`, or a writable one and not above it. */
function withinLimit(name: SysregName, value: bigint, limit: bigint): boolean {
  for (let shift = 0; shift < 64; shift += 4) {
    const wanted = fieldOf(value, shift), most = fieldOf(limit, shift);
    const kind = WRITABLE[name]?.get(shift);
    if (wanted === most) continue;
    if (kind === undefined || signed(wanted, kind) > signed(most, kind)) return false;
  }
  return true;
}

/** set_id_reg. */
function setIdReg(vcpu: Vcpu, desc: SysRegDesc, value: bigint): number {
  const { kvm } = vcpu;
  const now = readIdReg(vcpu, desc);
  if (value === now) return 0;
  if (kvm.state.hasRanOnce) return ERRNO.EBUSY;
  if (!SANITISED.has(desc.name)) return ERRNO.EINVAL;
  const name = desc.name as SysregName;
  const host = kvm.host.port(kvm.host.currentCpu()).read64(R[name]);
  const limit = SANITISE[name]?.(host) ?? host;
  if (!withinLimit(name, value, limit)) return ERRNO.EINVAL;
  vcpu.state.memory.st64(address(kvm, desc.key), value);
  return 0;
}

/** Registers that KVM 6.1 shows (ID_SANITISED); all others are zero: hidden, reserved, of an SVE that no vCPU has. */
const SANITISED: ReadonlySet<string> = new Set<SysregName>([
  "ID_AA64PFR0_EL1",
  "ID_AA64PFR1_EL1",
  "ID_AA64DFR0_EL1",
  "ID_AA64DFR1_EL1",
  "ID_AA64ISAR0_EL1",
  "ID_AA64ISAR1_EL1",
  "ID_AA64ISAR2_EL1",
  "ID_AA64MMFR0_EL1",
  "ID_AA64MMFR1_EL1",
  "ID_AA64MMFR2_EL1",
]);

/** AArch32's (CRm 1 to 3), which user space may write without effect; the reserved ones among them it may not. */
const AA32_UNALLOCATED: readonly number[] = [
  sysregKey(3, 0, 0, 1, 3),
  sysregKey(3, 0, 0, 3, 3),
  sysregKey(3, 0, 0, 3, 5),
  sysregKey(3, 0, 0, 3, 7),
];

function visibilityOf(key: number, name: string | undefined): number {
  const aa32 = ((key >> 3) & 15) < 4;
  if (aa32 && !AA32_UNALLOCATED.includes(key)) return REG.RAZ | REG.USER_WI;
  return name !== undefined && SANITISED.has(name) ? 0 : REG.RAZ;
}

function row(crm: number, op2: number): SysRegDesc {
  const key = sysregKey(3, 0, 0, crm, op2);
  const name = crm < 4 ? undefined : sysregByKey(key)?.name;
  const flags = visibilityOf(key, name);
  return {
    key,
    name: name ?? `ID_${crm}_${op2}`,
    access: (vcpu, p, desc) => readOnly(() => give(p, readIdReg(vcpu, desc)))(vcpu, p, desc),
    visibility: () => flags,
    getUser: readIdReg,
    setUser: setIdReg,
  };
}

/** op0 3, op1 0, CRn 0, CRm 1 to 7: all of it is identification registers, named or reserved. */
export const ID_ROWS: readonly SysRegDesc[] = Array.from(
  { length: KVM_NR_ID_REGS },
  (_, n) => row(1 + (n >> 3), n & 7),
);
