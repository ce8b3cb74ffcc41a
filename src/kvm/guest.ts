/**
 * A vCPU's registers as user space names them (KVM_GET_ONE_REG, KVM_SET_ONE_REG). Mirrors
 * arch/arm64/kvm/guest.c; what is behind the ids is in sys_regs_user.ts, hypercalls.ts and arch_timer.ts.
 */
import { sysregFields, sysregKey } from "../arm/arch/sysregs.ts";
import {
  kvmArmTimerRead,
  kvmArmTimerWrite,
  TIMER_REG,
  type TimerReg,
  vcpuVtimer,
} from "./arch_timer.ts";
import {
  FW,
  FW_BMAP,
  kvmArmGetFwBmap,
  kvmArmGetFwReg,
  kvmArmSetFwBmap,
  kvmArmSetFwReg,
} from "./hypercalls.ts";
import { ERRNO, KvmCpuContextLayout, SAVED, type SavedSysreg, type Vcpu } from "./kvm_host.ts";
import { sysRegDesc } from "./sys_regs.ts";
import {
  demuxC15Get,
  demuxC15Set,
  demuxIndices,
  kvmArmSysRegGetReg,
  kvmArmSysRegSetReg,
  sysRegIndices,
} from "./sys_regs_user.ts";

const KVM_REG_ARM64 = 0x6000_0000_0000_0000n;
const SIZE_SHIFT = 52n;
const SIZE = { U32: 2n, U64: 3n, U128: 4n } as const;
/** Bits 27 to 16 of an id: which kind of register. */
const COPROC = {
  CORE: 0x10n,
  DEMUX: 0x11n,
  SYSREG: 0x13n,
  FW: 0x14n,
  FW_FEAT_BMAP: 0x16n,
} as const;

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
  STD_BMAP: id(SIZE.U64, COPROC.FW_FEAT_BMAP, 0),
  STD_HYP_BMAP: id(SIZE.U64, COPROC.FW_FEAT_BMAP, 1),
  VENDOR_HYP_BMAP: id(SIZE.U64, COPROC.FW_FEAT_BMAP, 2),
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
 * The virtual timer's ids (KVM_REG_ARM_TIMER_*). CVAL and CNT have each other's encodings, a mistake
 * that became part of the interface. The physical timer has none.
 */
function timerRegs(): readonly OneReg[] {
  const timer = (
    [crm, op2]: readonly [number, number],
    reg: TimerReg,
  ): OneReg => ({
    id: sysRegId(sysregKey(3, 3, 14, crm, op2)),
    get: (vcpu) => kvmArmTimerRead(vcpu, vcpuVtimer(vcpu), reg),
    set: (vcpu, value) => {
      kvmArmTimerWrite(vcpu, vcpuVtimer(vcpu), reg, value);
      return 0;
    },
  });
  return [
    timer([3, 1], TIMER_REG.CTL),
    timer([3, 2], TIMER_REG.CNT),
    timer([0, 2], TIMER_REG.CVAL),
  ];
}

const FIXED: readonly OneReg[] = [...CORE_REGS, ...timerRegs()];
const ONE_REGS = new Map(FIXED.map((r) => [r.id, r]));

/** KVM_REG_ARM_COPROC_MASK, and what is below it: the register within its kind. */
const COPROC_SHIFT = 16n;
const COPROC_MASK = 0xfffn;
const INDEX_MASK = 0xffffn;
const SIZE_MASK = 0xfn << SIZE_SHIFT;
/** sizeof(struct kvm_regs) in words. */
const KVM_REGS_WORDS = 216;

/** Registers of a kind that a 16-bit index names. */
interface Kind {
  readonly size: bigint;
  get(vcpu: Vcpu, index: number): bigint | number;
  set(vcpu: Vcpu, index: number, value: bigint): number;
}

const KINDS: Readonly<Record<string, Kind>> = {
  [String(COPROC.DEMUX)]: { size: SIZE.U32, get: demuxC15Get, set: demuxC15Set },
  [String(COPROC.SYSREG)]: { size: SIZE.U64, get: kvmArmSysRegGetReg, set: kvmArmSysRegSetReg },
  [String(COPROC.FW)]: { size: SIZE.U64, get: kvmArmGetFwReg, set: kvmArmSetFwReg },
  [String(COPROC.FW_FEAT_BMAP)]: { size: SIZE.U64, get: kvmArmGetFwBmap, set: kvmArmSetFwBmap },
};

/** What an id that is no register of {@link FIXED} names: a kind and an index, or an errno. */
function resolve(regId: bigint): readonly [Kind, number] | number {
  if ((regId & ~SIZE_MASK) >> 32n !== KVM_REG_ARM64 >> 32n) return ERRNO.EINVAL;
  const coproc = (regId >> COPROC_SHIFT) & COPROC_MASK;
  const index = Number(regId & INDEX_MASK);
  if (coproc === COPROC.CORE) return index < KVM_REGS_WORDS ? ERRNO.EINVAL : ERRNO.ENOENT;
  const kind = KINDS[String(coproc)];
  const known = kind !== undefined && regId === ((regId & INDEX_MASK) | (coproc << COPROC_SHIFT) |
        KVM_REG_ARM64 | (kind.size << SIZE_SHIFT));
  return known ? [kind, index] : ERRNO.ENOENT;
}

/** Every id there is (KVM_GET_REG_LIST), in the kernel's order (kvm_arm_copy_reg_indices). */
export function kvmRegList(vcpu: Vcpu): readonly bigint[] {
  const core = CORE_REGS.map((r) => r.id).toSorted((a, b) =>
    Number(a & INDEX_MASK) - Number(b & INDEX_MASK)
  );
  return [
    ...core,
    ...Object.values(FW).map((n) => id(SIZE.U64, COPROC.FW, n)),
    ...Object.values(FW_BMAP).map((n) => id(SIZE.U64, COPROC.FW_FEAT_BMAP, n)),
    ...timerRegs().map((r) => r.id),
    ...sysRegIndices(vcpu).map(sysRegId),
    ...demuxIndices(vcpu).map((n) => id(SIZE.U32, COPROC.DEMUX, n)),
  ];
}

/** KVM_GET_ONE_REG of a vCPU that is not loaded: the value, or an errno. */
export function kvmArmGetReg(vcpu: Vcpu, regId: bigint): bigint | number {
  const fixed = ONE_REGS.get(regId);
  if (fixed !== undefined) return fixed.get(vcpu);
  const found = resolve(regId);
  return typeof found === "number" ? found : found[0].get(vcpu, found[1]);
}

/** KVM_SET_ONE_REG: 0 or an errno. */
export function kvmArmSetReg(vcpu: Vcpu, regId: bigint, value: bigint): number {
  const fixed = ONE_REGS.get(regId);
  if (fixed !== undefined) return fixed.set(vcpu, value);
  const found = resolve(regId);
  return typeof found === "number" ? found : found[0].set(vcpu, found[1], value);
}

/** The name behind a system register's id, for messages; undefined for other ids. */
export function regName(regId: bigint): string | undefined {
  const key = Number(regId & 0xffffn);
  if (regId !== sysRegId(key)) return undefined;
  const desc = sysRegDesc(key);
  const { op0, op1, crn, crm, op2 } = sysregFields(key);
  return desc?.name ?? `S${op0}_${op1}_C${crn}_C${crm}_${op2}`;
}
