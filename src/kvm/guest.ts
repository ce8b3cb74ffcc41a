/**
 * A vCPU's registers as user space names them (KVM_GET_ONE_REG, KVM_SET_ONE_REG). Mirrors
 * arch/arm64/kvm/guest.c, and the parts of sys_regs.c, arch_timer.c and hypercalls.c behind the ids.
 */
import { sysregFields, sysregKey } from "../arm/arch/sysregs.ts";
import {
  kvmArmTimerRead,
  kvmArmTimerWrite,
  TIMER_REG,
  type TimerReg,
  vcpuPtimer,
  vcpuVtimer,
} from "./arch_timer.ts";
import { ERRNO, KvmCpuContextLayout, SAVED, type SavedSysreg, type Vcpu } from "./kvm_host.ts";
import { validPsciVersion } from "./psci.ts";
import { SMCCC_WORKAROUND_UNAFFECTED } from "./psci_numbers.ts";
import { readIdReg, SYS_REG_DESCS, type SysRegDesc, sysRegDesc } from "./sys_regs.ts";

const KVM_REG_ARM64 = 0x6000_0000_0000_0000n;
const SIZE_SHIFT = 52n;
const SIZE = { U32: 2n, U64: 3n, U128: 4n } as const;
/** Bits 27 to 16 of an id: which kind of register. */
const COPROC = { CORE: 0x10n, SYSREG: 0x13n, FW: 0x14n } as const;

function id(size: bigint, coproc: bigint, index: number): bigint {
  return KVM_REG_ARM64 | (size << SIZE_SHIFT) | (coproc << 16n) | BigInt(index);
}

/** The id of a core register at byte `offset` of struct kvm_regs, of 4, 8 or 16 bytes. */
export function coreRegId(offset: number, size: 4 | 8 | 16): bigint {
  return id(size === 4 ? SIZE.U32 : size === 8 ? SIZE.U64 : SIZE.U128, COPROC.CORE, offset / 4);
}

/** The id of a system register (ARM64_SYS_REG), by its key. */
export function sysRegId(key: number): bigint {
  return id(SIZE.U64, COPROC.SYSREG, key);
}

/** Ids of the firmware's pseudo registers. */
export const FW_REG = {
  PSCI_VERSION: id(SIZE.U64, COPROC.FW, 0),
  WORKAROUND_1: id(SIZE.U64, COPROC.FW, 1),
  WORKAROUND_2: id(SIZE.U64, COPROC.FW, 2),
  WORKAROUND_3: id(SIZE.U64, COPROC.FW, 3),
} as const;

/** One register of user space: its id, and how it is read and written. 0 or an errno. */
interface OneReg {
  readonly id: bigint;
  get(vcpu: Vcpu): bigint;
  set(vcpu: Vcpu, value: bigint): number;
}

/** struct kvm_regs: byte offsets. */
const CORE = {
  sp: 248,
  pc: 256,
  pstate: 264,
  spEl1: 272,
  elrEl1: 280,
  spsr: 288,
  vregs: 336,
  fpsr: 848,
  fpcr: 852,
} as const;

const { regs: REGS_AT, pc: PC_AT, pstate: PSTATE_AT, sysregs: SYSREGS_AT, fp: FP_AT } =
  KvmCpuContextLayout.offset;

/** A register that is kept at byte `at` of the vCPU's context. */
function core(offset: number, size: 4 | 8 | 16, at: number): OneReg {
  return {
    id: coreRegId(offset, size),
    get: ({ ctxt }) => {
      const a = ctxt.base + at, m = ctxt.memory;
      if (size === 4) return BigInt(m.ld32(a));
      return size === 8 ? m.ld64(a) : m.ld64(a) | (m.ld64(a + 8) << 64n);
    },
    set: ({ ctxt }, value) => {
      const a = ctxt.base + at, m = ctxt.memory;
      if (size === 4) m.st32(a, Number(value & 0xffff_ffffn));
      else m.st64(a, value);
      if (size === 16) m.st64(a + 8, value >> 64n);
      return 0;
    },
  };
}

const saved = (name: SavedSysreg): number => SYSREGS_AT + 8 * SAVED[name];

/** PSTATE must be one an AArch64 guest can be in: EL0t, EL1t or EL1h. */
function pstateReg(): OneReg {
  const plain = core(CORE.pstate, 8, PSTATE_AT);
  return {
    ...plain,
    set: (vcpu, value) =>
      [0n, 4n, 5n].includes(value & 0x1fn) ? plain.set(vcpu, value) : ERRNO.EINVAL,
  };
}

/** Registers of AArch32 modes, which no guest here can enter: kept as zero. */
function absentSpsr(n: number): OneReg {
  return {
    id: coreRegId(CORE.spsr + 8 * n, 8),
    get: () => 0n,
    set: (_, value) => value === 0n ? 0 : ERRNO.EINVAL,
  };
}

const CORE_REGS: readonly OneReg[] = [
  ...Array.from({ length: 31 }, (_, n) => core(8 * n, 8, REGS_AT + 8 * n)),
  core(CORE.sp, 8, saved("SP_EL0")),
  core(CORE.pc, 8, PC_AT),
  pstateReg(),
  core(CORE.spEl1, 8, saved("SP_EL1")),
  core(CORE.elrEl1, 8, saved("ELR_EL1")),
  core(CORE.spsr, 8, saved("SPSR_EL1")),
  ...[1, 2, 3, 4].map(absentSpsr),
  ...Array.from({ length: 32 }, (_, n) => core(CORE.vregs + 16 * n, 16, FP_AT + 16 * n)),
  core(CORE.fpsr, 4, FP_AT + 512),
  core(CORE.fpcr, 4, FP_AT + 516),
];

/**
 * The timers' ids. CVAL and CNT of the virtual timer have each other's encodings, a mistake that
 * became part of the interface.
 */
function timerRegs(): readonly OneReg[] {
  const timer = (
    [crm, op2]: readonly [number, number],
    which: (vcpu: Vcpu) => ReturnType<typeof vcpuVtimer>,
    reg: TimerReg,
  ): OneReg => ({
    id: sysRegId(sysregKey(3, 3, 14, crm, op2)),
    get: (vcpu) => kvmArmTimerRead(vcpu, which(vcpu), reg),
    set: (vcpu, value) => {
      kvmArmTimerWrite(vcpu, which(vcpu), reg, value);
      return 0;
    },
  });
  return [
    timer([3, 1], vcpuVtimer, TIMER_REG.CTL),
    timer([0, 2], vcpuVtimer, TIMER_REG.CVAL),
    timer([3, 2], vcpuVtimer, TIMER_REG.CNT),
    timer([2, 1], vcpuPtimer, TIMER_REG.CTL),
    timer([2, 2], vcpuPtimer, TIMER_REG.CVAL),
  ];
}

/** The physical counter can be read, not moved. */
const PTIMER_CNT: OneReg = {
  id: sysRegId(sysregKey(3, 3, 14, 0, 1)),
  get: (vcpu) => kvmArmTimerRead(vcpu, vcpuPtimer(vcpu), TIMER_REG.CNT),
  set: () => ERRNO.EINVAL,
};

function firmware(regId: bigint, value: bigint): OneReg {
  return {
    id: regId,
    get: () => value,
    set: (_, wanted) => wanted <= value ? 0 : ERRNO.EINVAL,
  };
}

const PSCI_VERSION_REG: OneReg = {
  id: FW_REG.PSCI_VERSION,
  get: ({ kvm }) => BigInt(kvm.state.psciVersion),
  set: ({ kvm }, value) => {
    if (!validPsciVersion(Number(value)) || value >= 2n ** 32n) return ERRNO.EINVAL;
    kvm.state.psciVersion = Number(value);
    return 0;
  },
};

const FIXED: readonly OneReg[] = [
  ...CORE_REGS,
  ...timerRegs(),
  PTIMER_CNT,
  PSCI_VERSION_REG,
  firmware(FW_REG.WORKAROUND_1, BigInt(SMCCC_WORKAROUND_UNAFFECTED + 1)),
  firmware(FW_REG.WORKAROUND_2, 3n),
  firmware(FW_REG.WORKAROUND_3, BigInt(SMCCC_WORKAROUND_UNAFFECTED + 1)),
];

const CSV2 = 56n, CSV3 = 60n;

/** set_id_aa64pfr0_el1: user space may take CSV2 and CSV3 away, and nothing else. */
function setPfr0(vcpu: Vcpu, desc: SysRegDesc, value: bigint): number {
  const csv2 = Number((value >> CSV2) & 15n), csv3 = Number((value >> CSV3) & 15n);
  const differs = (value ^ readIdReg(vcpu, desc)) & ~((15n << CSV2) | (15n << CSV3));
  if (csv2 > 1 || csv3 > 1 || differs !== 0n) return ERRNO.EINVAL;
  vcpu.kvm.state.pfr0Csv2 = csv2;
  vcpu.kvm.state.pfr0Csv3 = csv3;
  return 0;
}

function idReg(desc: SysRegDesc): OneReg {
  return {
    id: sysRegId(desc.key),
    get: (vcpu) => readIdReg(vcpu, desc),
    set: (vcpu, value) => {
      if (desc.name === "ID_AA64PFR0_EL1") return setPfr0(vcpu, desc, value);
      return value === readIdReg(vcpu, desc) ? 0 : ERRNO.EINVAL;
    },
  };
}

const NOT_BY_SYSREG_ID: readonly string[] = [
  "ELR_EL1",
  "SPSR_EL1",
  "SP_EL0",
  "SP_EL1",
  "OSLSR_EL1",
];

function sysReg(desc: SysRegDesc): OneReg | undefined {
  if (desc.id === "hidden") return undefined;
  if (desc.id !== undefined) return idReg(desc);
  if (desc.reg === undefined || NOT_BY_SYSREG_ID.includes(desc.name)) return undefined;
  return { ...core(0, 8, saved(desc.reg)), id: sysRegId(desc.key) };
}

const SYS_REGS: readonly OneReg[] = SYS_REG_DESCS.map(sysReg).filter((r) => r !== undefined);
const ONE_REGS = new Map([...FIXED, ...SYS_REGS].map((r) => [r.id, r]));

/** Every id there is (KVM_GET_REG_LIST), in the order of the kernel's kinds. */
export function kvmRegList(): readonly bigint[] {
  return [...ONE_REGS.keys()];
}

/** KVM_GET_ONE_REG of a vCPU that is not running: the value, or ENOENT. */
export function kvmArmGetReg(vcpu: Vcpu, regId: bigint): bigint | typeof ERRNO.ENOENT {
  return ONE_REGS.get(regId)?.get(vcpu) ?? ERRNO.ENOENT;
}

/** KVM_SET_ONE_REG: 0 or an errno. */
export function kvmArmSetReg(vcpu: Vcpu, regId: bigint, value: bigint): number {
  return ONE_REGS.get(regId)?.set(vcpu, value) ?? ERRNO.ENOENT;
}

/** The name behind a system register's id, for messages; undefined for other ids. */
export function regName(regId: bigint): string | undefined {
  const key = Number(regId & 0xffffn);
  if (regId !== sysRegId(key)) return undefined;
  const desc = sysRegDesc(key);
  const { op0, op1, crn, crm, op2 } = sysregFields(key);
  return desc?.name ?? `S${op0}_${op1}_C${crn}_C${crm}_${op2}`;
}
