/**
 * Trapped system register accesses, by a table. Mirrors arch/arm64/kvm/sys_regs.c: one row per
 * register with what an access does, what it is reset to, and whether user space sees it.
 *
 * What differs: SVE, pointer authentication and MTE cannot be asked for, so that their registers are
 * always UNDEFINED. An access by an encoding without a row is UNDEFINED, too.
 */
import { HCR } from "../arm/arch/fields.ts";
import * as sysregs from "../arm/arch/sysregs.ts";
import { R, sysreg, sysregKey, type SysregName } from "../arm/arch/sysregs.ts";
import { vcpuReadSysReg, vcpuSetRegHalves } from "./emulate.ts";
import { kvmArmTimerReadSysreg, kvmArmTimerWriteSysreg, TIMER_REG } from "./arch_timer.ts";
import { OSLSR_OSLK } from "./debug.ts";
import { ID_ROWS } from "./id_regs.ts";
import { kvmInjectUndefined } from "./inject_fault.ts";
import * as kvmHost from "./kvm_host.ts";
import {
  ARM_MAX_DBG_REGS,
  ERRNO,
  IFLAG,
  SAVED,
  type SavedSysreg,
  TIMER_PTIMER,
  type Vcpu,
  vcpuSetFlag,
} from "./kvm_host.ts";
import * as kvmWords from "./kvm_words.ts";
import { stage2FlushVm } from "./mmu.ts";
import {
  accessRw,
  give,
  given,
  razWi,
  readOnly,
  REG,
  type SysRegAccess,
  type SysRegDesc,
  type SysRegParams,
  undef,
  writeOnly,
} from "./sys_reg_desc.ts";
import { PMU_ROWS } from "./sys_regs_pmu.ts";
import * as kvmTrace from "./trace.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { esrOf, pcOf, TP, trace, traceNumber, traceNumbers } = kvmTrace;
const { KVM_WORD, VCPU_WORD: WORD } = kvmWords;
const keyOf = sysregs.sysregKey;
const HIDDEN = REG.HIDDEN, INCREMENT_PC = kvmHost.IFLAG.INCREMENT_PC, GUEST = kvmHost.RET.GUEST;

/** What registers hold after reset whose value the architecture leaves unknown. */
const UNKNOWN = 0x1de7_ec7e_dbad_c0den;

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
  trace(vcpu, TP.kvm_toggle_cache, pcOf(vcpu), was ? 1 : 0, now ? 1 : 0);
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
    trace(vcpu, TP.kvm_set_way_flush, pcOf(vcpu), vcpuHasCacheEnabled(vcpu) ? 1 : 0);
    stage2FlushVm(vcpu.kvm);
    vcpu.state.hcrLo = (vcpu.state.hcrLo | HCR.TVM) >>> 0;
  })(vcpu, p, desc);

// Interrupt controller.

/** access_gic_sgi: group 1 by ICC_SGI1R_EL1 only; there for guests with a GICv3. */
const accessGicSgi = (allowGroup1: boolean): SysRegAccess => (vcpu, p, desc) => {
  const { words, host } = vcpu.kvm;
  const hasGic = words[KVM_WORD.IN_KERNEL] !== 0 && words[KVM_WORD.VGIC_MODEL] === 3;
  if (!hasGic || !p.isWrite) return undef(vcpu, p, desc);
  host.vgic.vgicV3DispatchSgi(vcpu, p.lo | 0, p.hi | 0, allowGroup1);
  return true;
};

const accessGicSre: SysRegAccess = (vcpu, p) => {
  if (!p.isWrite) give(p, BigInt(vcpu.cpuIf.vgicSre));
  return true;
};

// Debug.

/** trap_debug_regs: from the first access on, the guest has them for itself until its next exit to user space. */
const trapDebugRegs: SysRegAccess = (vcpu, p, desc) => {
  accessRw(vcpu, p, desc);
  if (p.isWrite) vcpuSetFlag(vcpu, IFLAG.DEBUG_DIRTY);
  const reg = desc.reg === undefined ? 0 : SAVED[desc.reg];
  trace(vcpu, TP.trap_reg, 0, reg, p.isWrite ? 1 : 0, given(p));
  return true;
};

type DebugArray = "dbgBcr" | "dbgBvr" | "dbgWcr" | "dbgWvr";

const TRAP_FUNCTION = { dbgBvr: 1, dbgBcr: 2, dbgWvr: 3, dbgWcr: 4 } as const;

/** trap_bvr and its like. */
const trapNumbered = (array: DebugArray, n: number): SysRegAccess => (vcpu, p) => {
  const at = vcpu.state[array] + 8 * n;
  const m = vcpu.state.memory;
  if (p.isWrite) {
    m.st32(at, p.lo);
    m.st32(at + 4, p.hi);
    vcpuSetFlag(vcpu, IFLAG.DEBUG_DIRTY);
  } else give(p, m.ld64(at));
  trace(vcpu, TP.trap_reg, TRAP_FUNCTION[array], n, p.isWrite ? 1 : 0, m.ld64(at));
  return true;
};

/** get_bvr, set_bvr and their like. */
const userNumbered = (array: DebugArray, n: number): Partial<SysRegDesc> => ({
  getUser: ({ state }) => state.memory.ld64(state[array] + 8 * n),
  setUser: ({ state }, _, value) => {
    state.memory.st64(state[array] + 8 * n, value);
    return 0;
  },
});

/** set_oslsr_el1: only OSLK can be changed. */
function setOslsr(vcpu: Vcpu, _: SysRegDesc, value: bigint): number {
  if (((value ^ OSLSR_RESET) & ~BigInt(OSLSR_OSLK)) !== 0n) return ERRNO.EINVAL;
  vcpu.state.memory.st64(vcpu.ctxt.sysregs + 8 * SAVED.OSLSR_EL1, value);
  return 0;
}
/** OSLSR_EL1.OSLM: the OS lock is implemented. */
const OSLSR_RESET = 8n;

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

// Caches and memory regions.

/** get_ccsidr: what CCSIDR_EL1 says of the cache that `csselr` selects. The selector in the CPU stays. */
export function getCcsidr(vcpu: Vcpu, csselr: number): bigint {
  const { host } = vcpu.kvm;
  const port = host.port(host.currentCpu());
  const was = port.read64(R.CSSELR_EL1);
  port.write(R.CSSELR_EL1, csselr, 0);
  port.isb();
  const ccsidr = port.read64(R.CCSIDR_EL1);
  port.write64(R.CSSELR_EL1, was);
  return ccsidr;
}

/** Fields of CCSIDR_EL1 that give the geometry: Associativity and NumSets. */
const CCSIDR_GEOMETRY = 0x0fff_fff8n;

/** access_ccsidr: data and unified caches look as if they had one set and one way, so that nobody cleans them line by line. */
const accessCcsidr: SysRegAccess = readOnly((vcpu, p) => {
  const csselr = Number(vcpuReadSysReg(vcpu, "CSSELR_EL1") & 0xffff_ffffn);
  const ccsidr = getCcsidr(vcpu, csselr);
  give(p, (csselr & 1) === 0 ? ccsidr & ~CCSIDR_GEOMETRY : ccsidr);
});

/** ID_AA64MMFR1_EL1.LO. */
const MMFR1_LO = 0xfn << 16n;

/** trap_loregion: RAZ/WI where the host has LORegions, else UNDEFINED. */
const trapLoregion: SysRegAccess = (vcpu, p, desc) => {
  const { host } = vcpu.kvm;
  const has = (host.port(host.currentCpu()).read64(R.ID_AA64MMFR1_EL1) & MMFR1_LO) !== 0n;
  if (!has || (p.isWrite && desc.name === "LORID_EL1")) return undef(vcpu, p, desc);
  return razWi(vcpu, p, desc);
};

type Row = Omit<SysRegDesc, "key" | "name">;

function named(name: SysregName, row: Row): SysRegDesc {
  return { key: sysreg(name).key, name, ...row };
}
const vm = (name: SavedSysreg & SysregName, reset: bigint = UNKNOWN): SysRegDesc =>
  named(name, { access: accessVmReg, reg: name, reset });
const kept = (name: SavedSysreg & SysregName, reset: bigint = UNKNOWN): SysRegDesc =>
  named(name, { reg: name, reset });

/** Encodings that SYSREGS has no names for, since no core of this machine has the register. */
const absent = (
  name: string,
  [op0, op1, crn, crm, op2]: readonly [number, number, number, number, number],
  access: SysRegAccess = undef,
): SysRegDesc => ({ key: sysregKey(op0, op1, crn, crm, op2), name, access });

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
      (_, n) =>
        named(`DBG${kind}R${n}_EL1` as SysregName, {
          access: trapNumbered(array, n),
          ...userNumbered(array, n),
        }),
    )
  );
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

/** What no guest has: the encodings that KVM knows and refuses (undef_access), op0 to op2. */
const REFUSED: readonly (readonly [string, number, number, number, number, number])[] = [
  // MTE, SVE, SME, trace
  ["RGSR_EL1", 3, 0, 1, 0, 5],
  ["GCR_EL1", 3, 0, 1, 0, 6],
  ["ZCR_EL1", 3, 0, 1, 2, 0],
  ["TRFCR_EL1", 3, 0, 1, 2, 1],
  ["SMPRI_EL1", 3, 0, 1, 2, 4],
  ["SMCR_EL1", 3, 0, 1, 2, 6],
  ["TFSR_EL1", 3, 0, 5, 6, 0],
  ["TFSRE0_EL1", 3, 0, 5, 6, 1],
  ["SMIDR_EL1", 3, 1, 0, 0, 6],
  ["SVCR", 3, 3, 4, 2, 2],
  ["TPIDR2_EL0", 3, 3, 13, 0, 5],
  // Pointer authentication
  ["APIAKEYLO_EL1", 3, 0, 2, 1, 0],
  ["APIAKEYHI_EL1", 3, 0, 2, 1, 1],
  ["APIBKEYLO_EL1", 3, 0, 2, 1, 2],
  ["APIBKEYHI_EL1", 3, 0, 2, 1, 3],
  ["APDAKEYLO_EL1", 3, 0, 2, 2, 0],
  ["APDAKEYHI_EL1", 3, 0, 2, 2, 1],
  ["APDBKEYLO_EL1", 3, 0, 2, 2, 2],
  ["APDBKEYHI_EL1", 3, 0, 2, 2, 3],
  ["APGAKEYLO_EL1", 3, 0, 2, 3, 0],
  ["APGAKEYHI_EL1", 3, 0, 2, 3, 1],
  // Statistical profiling
  ["PMSCR_EL1", 3, 0, 9, 9, 0],
  ["PMSNEVFR_EL1", 3, 0, 9, 9, 1],
  ["PMSICR_EL1", 3, 0, 9, 9, 2],
  ["PMSIRR_EL1", 3, 0, 9, 9, 3],
  ["PMSFCR_EL1", 3, 0, 9, 9, 4],
  ["PMSEVFR_EL1", 3, 0, 9, 9, 5],
  ["PMSLATFR_EL1", 3, 0, 9, 9, 6],
  ["PMSIDR_EL1", 3, 0, 9, 9, 7],
  ["PMBLIMITR_EL1", 3, 0, 9, 10, 0],
  ["PMBPTR_EL1", 3, 0, 9, 10, 1],
  ["PMBSR_EL1", 3, 0, 9, 10, 3],
  // Software context numbers
  ["SCXTNUM_EL1", 3, 0, 13, 0, 7],
  ["SCXTNUM_EL0", 3, 3, 13, 0, 7],
  // Activity monitors
  ["AMCR_EL0", 3, 3, 13, 2, 0],
  ["AMCFGR_EL0", 3, 3, 13, 2, 1],
  ["AMCGCR_EL0", 3, 3, 13, 2, 2],
  ["AMUSERENR_EL0", 3, 3, 13, 2, 3],
  ["AMCNTENCLR0_EL0", 3, 3, 13, 2, 4],
  ["AMCNTENSET0_EL0", 3, 3, 13, 2, 5],
  ["AMCNTENCLR1_EL0", 3, 3, 13, 3, 0],
  ["AMCNTENSET1_EL0", 3, 3, 13, 3, 1],
];

/** Where the 16 registers of each kind of activity monitor begin: CRm. */
const AMU_ARRAYS = [["AMEVCNTR0", 4], ["AMEVTYPER0", 6], ["AMEVCNTR1", 12], ["AMEVTYPER1", 14]];

function refusedRows(): SysRegDesc[] {
  const rows = REFUSED.map(([name, ...at]) => absent(name, at));
  for (const [name, crm] of AMU_ARRAYS as [string, number][]) {
    for (let n = 0; n < 16; n++) {
      rows.push(absent(`${name}${n}_EL0`, [3, 3, 13, crm + (n >> 3), n & 7]));
    }
  }
  return rows;
}

/** A register that user space names as a core register, and no access to which traps. */
const core = (name: SavedSysreg & SysregName): SysRegDesc =>
  named(name, { reg: name, reset: 0n, visibility: () => REG.HIDDEN });

/** Every register that can trap, and every one that is kept (sys_reg_descs). */
const ROWS: readonly SysRegDesc[] = [
  // DC by set and way
  absent("DC_ISW", [1, 0, 7, 6, 2], accessDcsw),
  absent("DC_CSW", [1, 0, 7, 10, 2], accessDcsw),
  absent("DC_CISW", [1, 0, 7, 14, 2], accessDcsw),
  // Debug
  ...debugRows(),
  named("MDCCINT_EL1", { access: trapDebugRegs, reg: "MDCCINT_EL1", reset: 0n }),
  named("MDSCR_EL1", { access: trapDebugRegs, reg: "MDSCR_EL1", reset: 0n }),
  named("MDRAR_EL1", { access: razWi }),
  named("OSLAR_EL1", { access: trapOslar }),
  named("OSLSR_EL1", {
    access: readOnly((vcpu, p) => give(p, vcpuReadSysReg(vcpu, "OSLSR_EL1"))),
    reg: "OSLSR_EL1",
    reset: OSLSR_RESET,
    setUser: setOslsr,
  }),
  named("OSDLR_EL1", { access: razWi }),
  named("DBGPRCR_EL1", { access: razWi }),
  named("DBGCLAIMSET_EL1", { access: razWi }),
  named("DBGCLAIMCLR_EL1", { access: razWi }),
  named("DBGAUTHSTATUS_EL1", {
    access: (vcpu, p) => {
      if (!p.isWrite) readHost(vcpu, p, "DBGAUTHSTATUS_EL1");
      return true;
    },
  }),
  named("MDCCSR_EL0", { access: razWi }),
  named("DBGDTR_EL0", { access: razWi }),
  named("DBGDTRRX_EL0", { access: razWi }),
  // Identification
  named("MPIDR_EL1", { reg: "MPIDR_EL1", reset: ({ state }) => mpidrOfVcpu(state.vcpuId) }),
  ...ID_ROWS,
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
  named("LORSA_EL1", { access: trapLoregion }),
  named("LOREA_EL1", { access: trapLoregion }),
  named("LORN_EL1", { access: trapLoregion }),
  named("LORC_EL1", { access: trapLoregion }),
  named("LORID_EL1", { access: trapLoregion }),
  kept("VBAR_EL1", 0n),
  { key: sysregKey(3, 0, 12, 1, 1), name: "DISR_EL1", reg: "DISR_EL1", reset: 0n },
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
  named("CCSIDR_EL1", { access: accessCcsidr }),
  named("CLIDR_EL1", { access: readOnly((vcpu, p) => readHost(vcpu, p, "CLIDR_EL1")) }),
  named("CSSELR_EL1", { access: accessRw, reg: "CSSELR_EL1", reset: UNKNOWN }),
  named("CTR_EL0", { access: readOnly((vcpu, p) => readHost(vcpu, p, "CTR_EL0")) }),
  ...PMU_ROWS,
  kept("TPIDR_EL0"),
  kept("TPIDRRO_EL0"),
  named("CNTP_TVAL_EL0", { access: accessTimer(TIMER_REG.TVAL) }),
  named("CNTP_CTL_EL0", { access: accessTimer(TIMER_REG.CTL) }),
  named("CNTP_CVAL_EL0", { access: accessTimer(TIMER_REG.CVAL) }),
  // Of AArch32 guests
  kept("DBGVCR32_EL2", 0n),
  kept("DACR32_EL2"),
  kept("IFSR32_EL2"),
  kept("FPEXC32_EL2", 0x700n),
  core("ELR_EL1"),
  core("SPSR_EL1"),
  core("SP_EL0"),
  core("SP_EL1"),
  ...refusedRows(),
];

/** A row with all there can be in one, in one order: V8 takes them for objects of one kind. */
function uniform(row: SysRegDesc): SysRegDesc {
  const all: { [K in keyof Required<SysRegDesc>]: SysRegDesc[K] | undefined } = {
    key: row.key,
    name: row.name,
    access: row.access,
    reg: row.reg,
    reset: row.reset,
    visibility: row.visibility,
    getUser: row.getUser,
    setUser: row.setUser,
  };
  return all as SysRegDesc;
}

/** sys_reg_descs: in the order of encodings. */
export const SYS_REG_DESCS: readonly SysRegDesc[] = ROWS.toSorted((a, b) => a.key - b.key)
  .map(uniform);

function readHost(vcpu: Vcpu, p: SysRegParams, name: SysregName): void {
  give(p, vcpu.port().read64(R[name]));
}

const BY_KEY = new Map(SYS_REG_DESCS.map((desc) => [desc.key, desc]));

/** The rows found lately: a guest has few that trap often. */
const RECENT = new Array<SysRegDesc | undefined>(64).fill(undefined);

/** find_reg: the row of an encoding. */
export function sysRegDesc(key: number): SysRegDesc | undefined {
  return descOf(key);
}

function descOf(key: number): SysRegDesc | undefined {
  const recent = RECENT[key & 63];
  return recent !== undefined && recent.key === key ? recent : find(key);
}

function find(key: number): SysRegDesc | undefined {
  return RECENT[key & 63] = BY_KEY.get(key);
}

/** kvm_reset_sys_regs: every kept register gets its reset value, in memory. */
export function kvmResetSysRegs(vcpu: Vcpu): void {
  for (const { reg, reset } of SYS_REG_DESCS) {
    if (reg === undefined || reset === undefined) continue;
    const value = typeof reset === "bigint" ? reset : reset(vcpu);
    vcpu.state.memory.st64(vcpu.ctxt.sysregs + 8 * SAVED[reg], value);
  }
  const { state } = vcpu;
  for (const at of [state.dbgBcr, state.dbgBvr, state.dbgWcr, state.dbgWvr]) {
    state.memory.u8.fill(0, at, at + 8 * ARM_MAX_DBG_REGS);
  }
}

/** The encoding in a SYS64 syndrome, as a {@link sysregKey}. */
export function sys64Key(iss: number): number {
  return keyOfIss(iss);
}

function keyOfIss(iss: number): number {
  return keyOf(
    (iss >>> 20) & 3,
    (iss >>> 14) & 7,
    (iss >>> 10) & 15,
    (iss >>> 1) & 15,
    (iss >>> 17) & 7,
  );
}

/** The access that is being carried out: one at a time, and none outlives {@link kvmHandleSysReg}. */
const TRAPPED: { -readonly [K in keyof SysRegParams]: SysRegParams[K] } = {
  key: 0,
  isWrite: false,
  lo: 0,
  hi: 0,
};

/** kvm_handle_sys_reg, with emulate_sys_reg and perform_access: an MRS, MSR or SYS instruction that trapped. */
export function kvmHandleSysReg(vcpu: Vcpu): number {
  const { words } = vcpu, esr = words[WORD.ESR] as number;
  traceNumber(vcpu, TP.kvm_handle_sys_reg, esrOf(vcpu));
  const rt = (esr >>> 5) & 31, p = TRAPPED;
  p.key = keyOfIss(esr);
  p.isWrite = (esr & 1) === 0;
  p.lo = rt === 31 ? 0 : (words[WORD.REGS + 2 * rt] as number) >>> 0;
  p.hi = rt === 31 ? 0 : (words[WORD.REGS + 2 * rt + 1] as number) >>> 0;
  const desc = descOf(p.key);
  if (desc === undefined || desc.access === undefined) return refuse(vcpu);
  traceNumbers(vcpu, TP.kvm_sys_access, pcOf(vcpu), p.key, p.isWrite ? 1 : 0);
  if (desc.visibility !== undefined && (desc.visibility(vcpu, desc) & HIDDEN) !== 0) {
    return refuse(vcpu);
  }
  if (!desc.access(vcpu, p, desc)) return GUEST;
  // kvm_incr_pc.
  words[WORD.IFLAGS] = (words[WORD.IFLAGS] as number) | INCREMENT_PC;
  if (!p.isWrite) vcpuSetRegHalves(vcpu, rt, p.lo, p.hi);
  return GUEST;
}

/** The guest has no such register. */
function refuse(vcpu: Vcpu): number {
  kvmInjectUndefined(vcpu);
  return GUEST;
}
