/**
 * Trapped system register accesses, by a table. Mirrors arch/arm64/kvm/sys_regs.c: one row per
 * register with what an access does, what it is reset to, and whether user space sees it.
 *
 * What differs: no PMU, SVE, pointer authentication or MTE can be asked for, so that their registers
 * are always hidden: UNDEFINED. An access by an encoding without a row is UNDEFINED, too.
 */
import { HCR } from "../arm/arch/fields.ts";
import { R, sysreg, sysregByKey, sysregKey, type SysregName } from "../arm/arch/sysregs.ts";
import {
  kvmIncrPc,
  vcpuGetRegHi,
  vcpuGetRegLo,
  vcpuReadSysReg,
  vcpuSetRegHalves,
  vcpuWriteSysReg,
} from "./emulate.ts";
import { kvmArmTimerReadSysreg, kvmArmTimerWriteSysreg, TIMER_REG } from "./arch_timer.ts";
import { OSLSR_OSLK } from "./debug.ts";
import { kvmInjectUndefined } from "./inject_fault.ts";
import {
  IFLAG,
  RET,
  SAVED,
  type SavedSysreg,
  TIMER_PTIMER,
  type Vcpu,
  vcpuSetFlag,
} from "./kvm_host.ts";
import { stage2FlushVm } from "./mmu.ts";
import { trace } from "./trace.ts";

/** One access (struct sys_reg_params): the value to write, or the value read. */
export interface SysRegParams {
  readonly key: number;
  readonly isWrite: boolean;
  lo: number;
  hi: number;
}

/** Carries the access out; true: go on behind the instruction. False: an exception was injected. */
export type SysRegAccess = (vcpu: Vcpu, p: SysRegParams, desc: SysRegDesc) => boolean;

/** One register (struct sys_reg_desc). */
export interface SysRegDesc {
  readonly key: number;
  readonly name: string;
  /** What a trapped access does; a register without one never traps. */
  readonly access?: SysRegAccess;
  /** Where the vCPU keeps it. */
  readonly reg?: SavedSysreg;
  /** Its value after reset, for those kept. */
  readonly reset?: bigint | ((vcpu: Vcpu) => bigint);
  /** Of an identification register: as the host's, RAZ, or not there for user space. */
  readonly id?: "sanitised" | "raz" | "hidden";
}

/** What registers hold after reset whose value the architecture leaves unknown. */
const UNKNOWN = 0x1de7_ec7e_dbad_c0den;

const undef: SysRegAccess = (vcpu) => {
  kvmInjectUndefined(vcpu);
  return false;
};
const razWi: SysRegAccess = (_, p) => {
  p.lo = p.isWrite ? p.lo : 0;
  p.hi = p.isWrite ? p.hi : 0;
  return true;
};
const readOnly = (read: (vcpu: Vcpu, p: SysRegParams) => void): SysRegAccess => (vcpu, p, d) => {
  if (p.isWrite) return undef(vcpu, p, d);
  read(vcpu, p);
  return true;
};
const writeOnly = (write: (vcpu: Vcpu, p: SysRegParams) => void): SysRegAccess => (vcpu, p, d) => {
  if (!p.isWrite) return undef(vcpu, p, d);
  write(vcpu, p);
  return true;
};

function give(p: SysRegParams, value: bigint): void {
  p.lo = Number(value & 0xffff_ffffn);
  p.hi = Number(BigInt.asUintN(64, value) >> 32n);
}
const given = (p: SysRegParams): bigint => (BigInt(p.hi >>> 0) << 32n) | BigInt(p.lo >>> 0);

/** A register that traps sometimes and is just kept. */
const accessRw: SysRegAccess = (vcpu, p, { reg }) => {
  if (reg === undefined) return razWi(vcpu, p, { key: p.key, name: "" });
  if (p.isWrite) vcpuWriteSysReg(vcpu, reg, given(p));
  else give(p, vcpuReadSysReg(vcpu, reg));
  return true;
};

// Identification registers (read_id_reg).

type IdFix = (value: bigint, vcpu: Vcpu) => bigint;

function withField(value: bigint, shift: number, field: number): bigint {
  const s = BigInt(shift);
  return (value & ~(0xfn << s)) | (BigInt(field) << s);
}

/** What the guest's view differs in from the host's. */
const ID_FIX: Readonly<Partial<Record<SysregName, IdFix>>> = {
  ID_AA64PFR0_EL1: (value, { kvm }) => {
    const noSve = withField(withField(value, 32, 0), 44, 0);
    const csv2 = withField(noSve, 56, kvm.state.pfr0Csv2);
    return withField(withField(csv2, 60, kvm.state.pfr0Csv3), 24, 1);
  },
  // No MTE, no SME
  ID_AA64PFR1_EL1: (value) => withField(withField(value, 8, 0), 24, 0),
  // No pointer authentication
  ID_AA64ISAR1_EL1: (value) =>
    withField(withField(withField(withField(value, 4, 0), 8, 0), 24, 0), 28, 0),
  ID_AA64ISAR2_EL1: (value) => withField(withField(withField(value, 0, 0), 8, 0), 12, 0),
  // Debug of Armv8.0, no PMU, no profiling
  ID_AA64DFR0_EL1: (value) => withField(withField(withField(value, 0, 6), 8, 0), 32, 0),
  ID_AA64ZFR0_EL1: () => 0n,
};

/** What one host register shows to a guest. */
export function readIdReg(vcpu: Vcpu, desc: SysRegDesc): bigint {
  if (desc.id !== "sanitised") return 0n;
  const name = desc.name as SysregName;
  const { host } = vcpu.kvm;
  const value = host.port(host.currentCpu()).read64(R[name]);
  return ID_FIX[name]?.(value, vcpu) ?? value;
}

const accessId: SysRegAccess = (vcpu, p, desc) =>
  readOnly(() => give(p, readIdReg(vcpu, desc)))(vcpu, p, desc);

// Stage-1 controls, trapped until the guest's caches are on.

const SCTLR_CACHE_ON = 5n;

function vcpuHasCacheEnabled(vcpu: Vcpu): boolean {
  return (vcpuReadSysReg(vcpu, "SCTLR_EL1") & SCTLR_CACHE_ON) === SCTLR_CACHE_ON;
}

/** kvm_toggle_cache: with MMU and caches on, nothing more needs watching. */
function kvmToggleCache(vcpu: Vcpu, was: boolean): void {
  const now = vcpuHasCacheEnabled(vcpu);
  if (now !== was) stage2FlushVm(vcpu.kvm);
  if (now) vcpu.state.hcrLo = (vcpu.state.hcrLo & ~HCR.TVM) >>> 0;
  trace(vcpu, "kvm_toggle_cache", vcpu.ctxt.pc, was ? 1 : 0, now ? 1 : 0);
}

const accessVmReg: SysRegAccess = (vcpu, p, desc) => {
  const was = vcpuHasCacheEnabled(vcpu);
  accessRw(vcpu, p, desc);
  if (p.isWrite) kvmToggleCache(vcpu, was);
  return true;
};

/** access_dcsw: cleaning by set and way cannot be done for a guest; from now on its caches are watched (kvm_set_way_flush). */
const accessDcsw: SysRegAccess = (vcpu, p, desc) =>
  writeOnly(() => {
    if ((vcpu.state.hcrLo & HCR.TVM) !== 0) return;
    trace(vcpu, "kvm_set_way_flush", vcpu.ctxt.pc, vcpuHasCacheEnabled(vcpu) ? 1 : 0);
    stage2FlushVm(vcpu.kvm);
    vcpu.state.hcrLo = (vcpu.state.hcrLo | HCR.TVM) >>> 0;
  })(vcpu, p, desc);

// Interrupt controller.

/** access_gic_sgi: group 1 by ICC_SGI1R_EL1 only. */
const accessGicSgi = (allowGroup1: boolean): SysRegAccess =>
  writeOnly((vcpu, p) =>
    vcpu.kvm.host.vgic.vgicV3DispatchSgi(vcpu, p.lo >>> 0, p.hi >>> 0, allowGroup1)
  );

const accessGicSre: SysRegAccess = (vcpu, p) => {
  if (!p.isWrite) give(p, BigInt(vcpu.cpuIf.vgicSre));
  return true;
};

// Debug.

/** trap_debug_regs: from the first access on, the guest has them for itself until its next exit to user space. */
const trapDebugRegs: SysRegAccess = (vcpu, p, desc) => {
  accessRw(vcpu, p, desc);
  if (p.isWrite) vcpuSetFlag(vcpu, IFLAG.DEBUG_DIRTY);
  return true;
};

type DebugArray = "dbgBcr" | "dbgBvr" | "dbgWcr" | "dbgWvr";

const trapNumbered = (array: DebugArray, n: number): SysRegAccess => (vcpu, p) => {
  const at = vcpu.state[array] + 8 * n;
  const m = vcpu.state.memory;
  if (p.isWrite) {
    m.st32(at, p.lo);
    m.st32(at + 4, p.hi);
    vcpuSetFlag(vcpu, IFLAG.DEBUG_DIRTY);
  } else give(p, m.ld64(at));
  return true;
};

const trapOslar: SysRegAccess = writeOnly((vcpu, p) => {
  const at = vcpu.ctxt.sysregs + 8 * SAVED.OSLSR_EL1;
  const m = vcpu.state.memory;
  m.st32(at, (m.ld32(at) & ~OSLSR_OSLK) | ((p.lo & 1) !== 0 ? OSLSR_OSLK : 0));
});

// Timers: trapped only where the host does not let guests at the physical timer.

const accessTimer = (reg: 1 | 2 | 3): SysRegAccess => (vcpu, p) => {
  if (p.isWrite) kvmArmTimerWriteSysreg(vcpu, TIMER_PTIMER, reg, given(p));
  else give(p, kvmArmTimerReadSysreg(vcpu, TIMER_PTIMER, reg));
  return true;
};

type Row = Omit<SysRegDesc, "key" | "name">;

function named(name: SysregName, row: Row): SysRegDesc {
  return { key: sysreg(name).key, name, ...row };
}
const vm = (name: SavedSysreg, reset: bigint = UNKNOWN): SysRegDesc =>
  named(name, { access: accessVmReg, reg: name, reset });
const kept = (name: SavedSysreg, reset: bigint = UNKNOWN): SysRegDesc =>
  named(name, { reg: name, reset });

/** Encodings that SYSREGS has no names for, since no core of this machine has the register. */
const absent = (
  name: string,
  [op0, op1, crn, crm, op2]: readonly [number, number, number, number, number],
  access: SysRegAccess = undef,
): SysRegDesc => ({ key: sysregKey(op0, op1, crn, crm, op2), name, access });

/** op0 3, op1 0, CRn 0, CRm 1 to 7: all of it is identification registers, named or reserved. */
function idSpace(): SysRegDesc[] {
  const hidden: readonly string[] = ["ID_AA64SMFR0_EL1", "ID_AA64AFR0_EL1", "ID_AA64AFR1_EL1"];
  const rows: SysRegDesc[] = [];
  for (let crm = 1; crm < 8; crm++) {
    for (let op2 = 0; op2 < 8; op2++) {
      const key = sysregKey(3, 0, 0, crm, op2);
      const name = crm < 4 ? undefined : sysregByKey(key)?.name;
      const id = name === undefined ? "raz" : hidden.includes(name) ? "hidden" : "sanitised";
      rows.push({ key, name: name ?? `ID_${crm}_${op2}`, access: accessId, id });
    }
  }
  return rows;
}

/** MPIDR_EL1: 16 vCPUs to a cluster, as many as an SGI's target list reaches (reset_mpidr). */
export function mpidrOfVcpu(vcpuId: number): bigint {
  return 0x8000_0000n |
    BigInt((vcpuId & 15) | (((vcpuId >> 4) & 0xff) << 8) | (((vcpuId >> 12) & 0xff) << 16));
}

function debugRows(): SysRegDesc[] {
  const arrays = { BV: "dbgBvr", BC: "dbgBcr", WV: "dbgWvr", WC: "dbgWcr" } as const;
  return Object.entries(arrays).flatMap(([kind, array]) =>
    Array.from(
      { length: 16 },
      (_, n) => named(`DBG${kind}R${n}_EL1` as SysregName, { access: trapNumbered(array, n) }),
    )
  );
}

/** Performance monitors, op0 3, CRn 9 and 14: none. */
function pmuRows(): SysRegDesc[] {
  const rows = [
    absent("PMINTENSET_EL1", [3, 0, 9, 14, 1]),
    absent("PMINTENCLR_EL1", [3, 0, 9, 14, 2]),
    absent("PMMIR_EL1", [3, 0, 9, 14, 6], razWi),
    absent("PMUSERENR_EL0", [3, 3, 9, 14, 0]),
    absent("PMOVSSET_EL0", [3, 3, 9, 14, 3]),
    absent("PMCCFILTR_EL0", [3, 3, 14, 15, 7]),
  ];
  const el0 = [
    "PMCR",
    "PMCNTENSET",
    "PMCNTENCLR",
    "PMOVSCLR",
    "PMSWINC",
    "PMSELR",
    "PMCEID0",
    "PMCEID1",
  ];
  el0.forEach((n, op2) => rows.push(absent(`${n}_EL0`, [3, 3, 9, 12, op2])));
  ["PMCCNTR", "PMXEVTYPER", "PMXEVCNTR"].forEach((n, op2) =>
    rows.push(absent(`${n}_EL0`, [3, 3, 9, 13, op2]))
  );
  return rows;
}

/** RAS error records: RAZ/WI. */
function rasRows(): SysRegDesc[] {
  const at: readonly [string, number, number][] = [
    ["ERRIDR", 3, 0],
    ["ERRSELR", 3, 1],
    ["ERXFR", 4, 0],
    ["ERXCTLR", 4, 1],
    ["ERXSTATUS", 4, 2],
    ["ERXADDR", 4, 3],
    ["ERXMISC0", 5, 0],
    ["ERXMISC1", 5, 1],
  ];
  return at.map(([name, crm, op2]) => absent(`${name}_EL1`, [3, 0, 5, crm, op2], razWi));
}

/** Every register that can trap, and every one that is kept (sys_reg_descs), in the order of encodings. */
export const SYS_REG_DESCS: readonly SysRegDesc[] = [
  // DC by set and way
  absent("DC_ISW", [1, 0, 7, 6, 2], accessDcsw),
  absent("DC_CSW", [1, 0, 7, 10, 2], accessDcsw),
  absent("DC_CISW", [1, 0, 7, 14, 2], accessDcsw),
  // Debug
  ...debugRows(),
  named("OSDTRRX_EL1", { access: razWi }),
  named("MDCCINT_EL1", { access: trapDebugRegs, reg: "MDCCINT_EL1", reset: 0n }),
  named("MDSCR_EL1", { access: trapDebugRegs, reg: "MDSCR_EL1", reset: 0n }),
  named("OSDTRTX_EL1", { access: razWi }),
  named("OSECCR_EL1", { access: razWi }),
  named("MDRAR_EL1", { access: razWi }),
  named("OSLAR_EL1", { access: trapOslar }),
  named("OSLSR_EL1", {
    access: readOnly((vcpu, p) => give(p, vcpuReadSysReg(vcpu, "OSLSR_EL1"))),
    reg: "OSLSR_EL1",
    reset: 8n,
  }),
  named("OSDLR_EL1", { access: razWi }),
  named("DBGPRCR_EL1", { access: razWi }),
  named("DBGCLAIMSET_EL1", { access: razWi }),
  named("DBGCLAIMCLR_EL1", { access: razWi }),
  named("DBGAUTHSTATUS_EL1", { access: readOnly((_, p) => give(p, 0n)) }),
  named("MDCCSR_EL0", { access: razWi }),
  named("DBGDTR_EL0", { access: razWi }),
  named("DBGDTRRX_EL0", { access: razWi }),
  // Identification
  named("MPIDR_EL1", { reg: "MPIDR_EL1", reset: ({ state }) => mpidrOfVcpu(state.vcpuId) }),
  ...idSpace(),
  // Control and translation
  vm("SCTLR_EL1", 0x00c5_0078n),
  named("ACTLR_EL1", {
    access: (vcpu, p, d) => p.isWrite ? true : accessRw(vcpu, p, d),
    reg: "ACTLR_EL1",
    reset: 0n,
  }),
  kept("CPACR_EL1", 0n),
  vm("TTBR0_EL1"),
  vm("TTBR1_EL1"),
  vm("TCR_EL1", 0n),
  vm("AFSR0_EL1"),
  vm("AFSR1_EL1"),
  vm("ESR_EL1"),
  ...rasRows(),
  vm("FAR_EL1"),
  kept("PAR_EL1"),
  vm("MAIR_EL1"),
  vm("AMAIR_EL1", 0n),
  named("LORSA_EL1", { access: razWi }),
  named("LOREA_EL1", { access: razWi }),
  named("LORN_EL1", { access: razWi }),
  named("LORC_EL1", { access: razWi }),
  named("LORID_EL1", { access: readOnly((_, p) => give(p, 0n)) }),
  kept("VBAR_EL1", 0n),
  // Interrupt controller
  named("ICC_IAR0_EL1", { access: undef }),
  named("ICC_EOIR0_EL1", { access: undef }),
  named("ICC_HPPIR0_EL1", { access: undef }),
  named("ICC_DIR_EL1", { access: undef }),
  named("ICC_RPR_EL1", { access: undef }),
  named("ICC_SGI1R_EL1", { access: accessGicSgi(true) }),
  named("ICC_ASGI1R_EL1", { access: accessGicSgi(false) }),
  named("ICC_SGI0R_EL1", { access: accessGicSgi(false) }),
  named("ICC_IAR1_EL1", { access: undef }),
  named("ICC_EOIR1_EL1", { access: undef }),
  named("ICC_HPPIR1_EL1", { access: undef }),
  named("ICC_SRE_EL1", { access: accessGicSre }),
  vm("CONTEXTIDR_EL1", 0n),
  kept("TPIDR_EL1"),
  kept("CNTKCTL_EL1", 0n),
  // Caches
  named("CCSIDR_EL1", { access: readOnly((vcpu, p) => readHost(vcpu, p, "CCSIDR_EL1")) }),
  named("CLIDR_EL1", { access: readOnly((vcpu, p) => readHost(vcpu, p, "CLIDR_EL1")) }),
  named("CSSELR_EL1", { access: accessRw, reg: "CSSELR_EL1", reset: 0n }),
  named("CTR_EL0", { access: readOnly((vcpu, p) => readHost(vcpu, p, "CTR_EL0")) }),
  ...pmuRows(),
  kept("TPIDR_EL0"),
  kept("TPIDRRO_EL0"),
  named("CNTP_TVAL_EL0", { access: accessTimer(TIMER_REG.TVAL) }),
  named("CNTP_CTL_EL0", { access: accessTimer(TIMER_REG.CTL) }),
  named("CNTP_CVAL_EL0", { access: accessTimer(TIMER_REG.CVAL) }),
  // Kept, but not named as registers by user space's ids (they are core registers)
  kept("ELR_EL1", 0n),
  kept("SPSR_EL1", 0n),
  kept("SP_EL0", 0n),
  kept("SP_EL1", 0n),
];

function readHost(vcpu: Vcpu, p: SysRegParams, name: SysregName): void {
  give(p, vcpu.port().read64(R[name]));
}

const BY_KEY = new Map(SYS_REG_DESCS.map((desc) => [desc.key, desc]));

/** find_reg: the row of an encoding. */
export function sysRegDesc(key: number): SysRegDesc | undefined {
  return BY_KEY.get(key);
}

/** kvm_reset_sys_regs: every kept register gets its reset value, in memory. */
export function kvmResetSysRegs(vcpu: Vcpu): void {
  for (const { reg, reset } of SYS_REG_DESCS) {
    if (reg === undefined || reset === undefined) continue;
    const value = typeof reset === "bigint" ? reset : reset(vcpu);
    vcpu.state.memory.st64(vcpu.ctxt.sysregs + 8 * SAVED[reg], value);
  }
}

/** The encoding in a SYS64 syndrome, as a {@link sysregKey}. */
export function sys64Key(iss: number): number {
  return sysregKey(
    (iss >>> 20) & 3,
    (iss >>> 14) & 7,
    (iss >>> 10) & 15,
    (iss >>> 1) & 15,
    (iss >>> 17) & 7,
  );
}

/** kvm_handle_sys_reg: an MRS, MSR or SYS instruction that trapped. */
export function kvmHandleSysReg(vcpu: Vcpu): number {
  const esr = vcpu.state.faultEsr;
  trace(vcpu, "kvm_handle_sys_reg", esr);
  const rt = (esr >>> 5) & 31;
  const p: SysRegParams = {
    key: sys64Key(esr),
    isWrite: (esr & 1) === 0,
    lo: vcpuGetRegLo(vcpu, rt),
    hi: vcpuGetRegHi(vcpu, rt),
  };
  const ok = emulateSysReg(vcpu, p);
  if (ok && !p.isWrite) vcpuSetRegHalves(vcpu, rt, p.lo, p.hi);
  return RET.GUEST;
}

/** emulate_sys_reg and perform_access. */
function emulateSysReg(vcpu: Vcpu, p: SysRegParams): boolean {
  const desc = sysRegDesc(p.key);
  if (desc?.access === undefined) {
    kvmInjectUndefined(vcpu);
    return false;
  }
  trace(vcpu, "kvm_sys_access", vcpu.ctxt.pc, p.key, p.isWrite ? 1 : 0);
  const go = desc.access(vcpu, p, desc);
  if (go) kvmIncrPc(vcpu);
  return go;
}
