/**
 * Which translation regime an access uses and the controls that apply to it. Source: DDI 0487 D8.1.2
 * "Translation regimes", and SCTLR_ELx, TCR_ELx, HCR_EL2, VTCR_EL2 in D19.
 */
import type { SharedMemory } from "../../base/memory.ts";
import * as cpuState from "../arch/cpu_state.ts";
import type { Cpu } from "../arch/cpu_state.ts";
import * as sysregs from "../arch/sysregs.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { sysregOffset } = cpuState;
const { R } = sysregs;

/**
 * Physical address bits (ID_AA64MMFR0_EL1.PARange 0b0101). The other identification that belongs to
 * this MMU: all granules, ASIDBits 16, VMIDBits 8, PAN2, UAO, TTL, HAFDBS, HPDS, XNX (where the core
 * has not the last three, the register fields that turn them on are RES0); no LVA, LPA, TTST, CnP.
 */
export const PA_BITS = 48;

/** Translation regimes. EL3 is where the built-in firmware runs: untranslated. */
export const REGIME = { EL10: 0, EL20: 1, EL2: 2, EL3: 3 } as const;
export type Regime = (typeof REGIME)[keyof typeof REGIME];

/** Output size by TCR.IPS, TCR_EL2.PS, VTCR_EL2.PS: no more than is implemented. */
const OUTPUT_BITS = Uint8Array.of(32, 36, 40, 42, 44, PA_BITS, PA_BITS, PA_BITS);

/** The output size in address bits that a 3-bit physical address size field selects. */
export function outputBits(field: number): number {
  return OUTPUT_BITS[field & 7] as number;
}

const word = (register: number): number => sysregOffset(register) >>> 2;

const HCR = word(R.HCR_EL2);
const VTCR = word(R.VTCR_EL2);
const VTTBR = word(R.VTTBR_EL2);

/** The registers of one regime's stage 1, as word offsets from a CPU's base. */
interface Bank {
  readonly sctlr: number;
  readonly tcr: number;
  readonly ttbr0: number;
  readonly ttbr1: number;
  readonly mair: number;
}

const EL1_BANK: Bank = {
  sctlr: word(R.SCTLR_EL1),
  tcr: word(R.TCR_EL1),
  ttbr0: word(R.TTBR0_EL1),
  ttbr1: word(R.TTBR1_EL1),
  mair: word(R.MAIR_EL1),
};
const EL2_BANK: Bank = {
  sctlr: word(R.SCTLR_EL2),
  tcr: word(R.TCR_EL2),
  ttbr0: word(R.TTBR0_EL2),
  ttbr1: word(R.TTBR1_EL2),
  mair: word(R.MAIR_EL2),
};

/** HCR_EL2 bits used here: low half, then high half. */
export const HCR_LO = { VM: 1, PTW: 1 << 2, FB: 1 << 9, DC: 1 << 12, TGE: 1 << 27 } as const;
export const HCR_HI = { ID: 1 << 1, E2H: 1 << 2 } as const;

/** SCTLR_ELx bits used here. */
export const SCTLR = {
  M: 1,
  A: 1 << 1,
  SA: 1 << 3,
  SA0: 1 << 4,
  I: 1 << 12,
  WXN: 1 << 19,
} as const;

const TCR_A1 = 1 << 22;
/** TCR.AS, TBI0, TBI1 in the high half; TCR_EL2.TBI (without E2H) in the low half. */
const TCR_HI_AS = 1 << 4;
const TCR_HI_TBI0 = 1 << 5;
const TCR_EL2_TBI = 1 << 20;
/** TCR.HA, HD, HPD0 (HPD1 above it) in the high half; the same of TCR_EL2 without E2H, and VTCR_EL2's, in the low half. */
const TCR_HI_HA = 1 << 7;
const TCR_HI_HD = 1 << 8;
const TCR_HI_HPD0 = 1 << 9;
const TCR_LO_HA = 1 << 21;
const TCR_LO_HD = 1 << 22;
const TCR_EL2_HPD = 1 << 24;

/** The ASID bits that a TCR value (its high half) uses. */
export function asidMask(tcrHi: number): number {
  return (tcrHi & TCR_HI_AS) !== 0 ? 0xffff : 0xff;
}

/** Whether HCR_EL2 says that EL0 and the EL1 names belong to a host at EL2 (E2H and TGE). */
export function isVheHost(memory: SharedMemory, cpu: Cpu): boolean {
  const at = (cpu.base >>> 2) + HCR;
  return ((memory.u32[at + 1] as number) & HCR_HI.E2H) !== 0 &&
    ((memory.u32[at] as number) & HCR_LO.TGE) !== 0;
}

/** The low half of HCR_EL2. */
export function hcrLo(memory: SharedMemory, cpu: Cpu): number {
  return memory.u32[(cpu.base >>> 2) + HCR] as number;
}

/** HCR_EL2.E2H. */
export function hcrE2h(memory: SharedMemory, cpu: Cpu): boolean {
  return ((memory.u32[(cpu.base >>> 2) + HCR + 1] as number) & HCR_HI.E2H) !== 0;
}

/** The current VMID: VTTBR_EL2 bits 55 to 48. */
export function currentVmid(memory: SharedMemory, cpu: Cpu): number {
  return ((memory.u32[(cpu.base >>> 2) + VTTBR + 1] as number) >>> 16) & 0xff;
}

/**
 * The controls of one access. A scratch object: {@link loadControls} fills it from a CPU's registers,
 * and translation is a function of it and of the tables in memory.
 */
export class Controls {
  regime: Regime = REGIME.EL3;
  /** Checked with EL0's permissions: from EL0, or an unprivileged load or store. */
  user = false;
  /** PSTATE.PAN applies. */
  pan = false;
  /** Unprivileged accesses from here are made as EL0's. */
  unprivilegedIsUser = false;
  stage1 = false;
  stage2 = false;
  /** The access may set access flags and dirty state. */
  updates = true;
  /** HCR_EL2.DC applies: with stage 1 off, memory is Normal Write-Back. */
  defaultCacheable = false;
  /** HCR_EL2.ID applies. */
  instructionsUncached = false;
  /** HCR_EL2.PTW applies. */
  ptw = false;
  /** SCTLR_ELx, low half. */
  sctlr = 0;
  tcrLo = 0;
  tcrHi = 0;
  ttbr0Lo = 0;
  ttbr0Hi = 0;
  ttbr1Lo = 0;
  ttbr1Hi = 0;
  mairLo = 0;
  mairHi = 0;
  /** 0 where the regime has none. */
  asid = 0;
  /** 0 where the regime has none. */
  vmid = 0;
  vtcr = 0;
  vttbrLo = 0;
  vttbrHi = 0;
  /** The walk cache that the translation may use and its epoch, as WalkCache.select says; 0: none. */
  walks = 0;
  walksEpoch = 0;

  /** Whether the regime has two VA ranges and an EL0. */
  get twoRanges(): boolean {
    return this.regime <= REGIME.EL20;
  }

  /** SCTLR_ELx.WXN. */
  get wxn(): boolean {
    return (this.sctlr & SCTLR.WXN) !== 0;
  }

  /** Whether data is Device memory because stage 1 is off: every access must be aligned. */
  get flatDevice(): boolean {
    return !this.stage1 && !this.defaultCacheable;
  }

  /** Whether instructions are fetched past the caches. */
  get fetchUncached(): boolean {
    return ((this.sctlr & SCTLR.I) === 0 && !this.defaultCacheable) || this.instructionsUncached;
  }

  /** TBI for the range that an address with this high half is in. */
  topByteIgnored(vaHi: number): boolean {
    if (!this.twoRanges) return this.regime === REGIME.EL2 && (this.tcrLo & TCR_EL2_TBI) !== 0;
    return (this.tcrHi & (TCR_HI_TBI0 << ((vaHi >>> 23) & 1))) !== 0;
  }

  /** Hardware sets access flags in stage 1 tables. */
  get stage1SetsAf(): boolean {
    return this.twoRanges ? (this.tcrHi & TCR_HI_HA) !== 0 : (this.tcrLo & TCR_LO_HA) !== 0;
  }

  /** Hardware manages the dirty state in stage 1 tables: only together with the access flag. */
  get stage1SetsDirty(): boolean {
    const hd = this.twoRanges ? this.tcrHi & TCR_HI_HD : this.tcrLo & TCR_LO_HD;
    return hd !== 0 && this.stage1SetsAf;
  }

  get stage2SetsAf(): boolean {
    return (this.vtcr & TCR_LO_HA) !== 0;
  }

  get stage2SetsDirty(): boolean {
    return (this.vtcr & TCR_LO_HD) !== 0 && this.stage2SetsAf;
  }

  /** The permissions in table descriptors are disabled, in the upper or the lower range. */
  ignoresTablePermissions(upper: boolean): boolean {
    if (!this.twoRanges) return (this.tcrLo & TCR_EL2_HPD) !== 0;
    return (this.tcrHi & (TCR_HI_HPD0 << (upper ? 1 : 0))) !== 0;
  }

  /** The regime's output size in address bits. */
  get outputBits(): number {
    return outputBits(this.twoRanges ? this.tcrHi : this.tcrLo >>> 16);
  }
}

function loadBank(c: Controls, words: Uint32Array, base: number, bank: Bank): void {
  c.sctlr = words[base + bank.sctlr] as number;
  c.tcrLo = words[base + bank.tcr] as number;
  c.tcrHi = words[base + bank.tcr + 1] as number;
  c.ttbr0Lo = words[base + bank.ttbr0] as number;
  c.ttbr0Hi = words[base + bank.ttbr0 + 1] as number;
  c.ttbr1Lo = words[base + bank.ttbr1] as number;
  c.ttbr1Hi = words[base + bank.ttbr1 + 1] as number;
  c.mairLo = words[base + bank.mair] as number;
  c.mairHi = words[base + bank.mair + 1] as number;
}

function regimeOf(el: number, e2h: boolean, tge: boolean): Regime {
  if (el === 1) return REGIME.EL10;
  if (el === 0) return e2h && tge ? REGIME.EL20 : REGIME.EL10;
  if (el === 2) return e2h ? REGIME.EL20 : REGIME.EL2;
  return REGIME.EL3;
}

function loadStage2(c: Controls, words: Uint32Array, base: number, hcr: number): void {
  c.vmid = ((words[base + VTTBR + 1] as number) >>> 16) & 0xff;
  c.ptw = (hcr & HCR_LO.PTW) !== 0;
  c.vtcr = words[base + VTCR] as number;
  c.vttbrLo = words[base + VTTBR] as number;
  c.vttbrHi = words[base + VTTBR + 1] as number;
}

/** Stage 2 and what HCR_EL2 does to stage 1 of EL1&0: with TGE or DC, SCTLR_EL1.M counts as 0. */
function loadEl10(c: Controls, words: Uint32Array, base: number, vhe: boolean): void {
  const hcr = words[base + HCR] as number;
  const dc = !vhe && (hcr & HCR_LO.DC) !== 0;
  c.defaultCacheable = dc;
  c.stage1 = (c.sctlr & SCTLR.M) !== 0 && !dc && (hcr & HCR_LO.TGE) === 0;
  c.stage2 = !vhe && (hcr & (HCR_LO.VM | HCR_LO.DC)) !== 0;
  c.instructionsUncached = c.stage2 && ((words[base + HCR + 1] as number) & HCR_HI.ID) !== 0;
  loadStage2(c, words, base, hcr);
}

function loadOther(c: Controls): void {
  c.instructionsUncached = false;
  c.defaultCacheable = false;
  c.stage1 = c.regime !== REGIME.EL3 && (c.sctlr & SCTLR.M) !== 0;
  c.stage2 = false;
  c.ptw = false;
  c.vmid = 0;
}

/**
 * Fills `c` for an access made from exception level `el` (0 to 3), which need not be the current one;
 * `unprivileged`: by an unprivileged load or store. PSTATE.PAN is the CPU's.
 */
export function loadControls(
  c: Controls,
  memory: SharedMemory,
  cpu: Cpu,
  el: number,
  unprivileged: boolean,
): void {
  const words = memory.u32;
  const base = cpu.base >>> 2;
  const e2h = ((words[base + HCR + 1] as number) & HCR_HI.E2H) !== 0;
  const tge = ((words[base + HCR] as number) & HCR_LO.TGE) !== 0;
  c.regime = regimeOf(el, e2h, tge);
  loadBank(c, words, base, c.regime === REGIME.EL10 ? EL1_BANK : EL2_BANK);
  if (c.regime === REGIME.EL10) loadEl10(c, words, base, e2h && tge);
  else loadOther(c);
  c.updates = true;
  c.walks = 0;
  c.unprivilegedIsUser = cpu.uao === 0 && (el === 1 || (el === 2 && e2h && tge));
  c.user = el === 0 || (unprivileged && c.unprivilegedIsUser);
  c.pan = cpu.pan !== 0 && !c.user && c.twoRanges;
  c.asid = 0;
  if (c.twoRanges) {
    const hi = (c.tcrLo & TCR_A1) !== 0 ? c.ttbr1Hi : c.ttbr0Hi;
    c.asid = (hi >>> 16) & asidMask(c.tcrHi);
  }
}

/** Regimes a register's value matters to: bits `1 << REGIME`. */
const AFFECTS = new Uint8Array(Math.max(...Object.values(R)) + 1);
for (
  const index of [
    R.SCTLR_EL1,
    R.TCR_EL1,
    R.TTBR0_EL1,
    R.TTBR1_EL1,
    R.MAIR_EL1,
    R.VTCR_EL2,
    R.VTTBR_EL2,
  ]
) {
  AFFECTS[index] = 1 << REGIME.EL10;
}
for (const index of [R.SCTLR_EL2, R.TCR_EL2, R.TTBR0_EL2, R.TTBR1_EL2, R.MAIR_EL2]) {
  AFFECTS[index] = (1 << REGIME.EL20) | (1 << REGIME.EL2);
}
AFFECTS[R.HCR_EL2] = 0xf;

/** Whether register `index` (of the register file) has a say in translation by what `cpu` runs now. */
export function affectsTranslation(memory: SharedMemory, cpu: Cpu, index: number): boolean {
  const affects = AFFECTS[index] as number;
  if (affects === 0) return false;
  const e2h = hcrE2h(memory, cpu);
  const regime = regimeOf(cpu.el, e2h, (hcrLo(memory, cpu) & HCR_LO.TGE) !== 0);
  return (affects & (1 << regime)) !== 0;
}
