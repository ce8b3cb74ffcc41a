/**
 * The TLB maintenance instructions as a table, and what each one drops. Source: DDI 0487 D8.14 "TLB
 * maintenance requirements and the TLB maintenance instructions", C5.5.
 *
 * What is cached are combined translations of both stages, by page, in contexts that know their VMID
 * and ASID. So invalidation by IPA drops all of a VMID, and invalidation by VA drops the page under
 * every ASID: the page may be global, and dropping too much is always right.
 */
import type { SharedMemory } from "../../base/memory.ts";
import type { Cpu } from "../arch/cpu_state.ts";
import { sysregKey } from "../arch/sysregs.ts";
import type { Contexts } from "./contexts.ts";
import { currentVmid, HCR_LO, hcrE2h, hcrLo, isVheHost, REGIME, type Regime } from "./regime.ts";

/**
 * Whose translations: `el1`: EL1&0 of the current VMID, or EL2&0 when HCR_EL2.{E2H,TGE} is {1,1};
 * `guest`: EL1&0 of the current VMID; `guests`: EL1&0 of every VMID; `el2`: EL2, or EL2&0 with E2H.
 */
type Owner = "el1" | "guest" | "guests" | "el2";
/** Which of them: all, those of an ASID, or a page. */
type Scope = "all" | "asid" | "va";

type Row = readonly [name: string, op1: number, crm: number, op2: number, Owner, Scope];

const ROWS = [
  ["VMALLE1IS", 0, 3, 0, "el1", "all"],
  ["VAE1IS", 0, 3, 1, "el1", "va"],
  ["ASIDE1IS", 0, 3, 2, "el1", "asid"],
  ["VAAE1IS", 0, 3, 3, "el1", "va"],
  ["VALE1IS", 0, 3, 5, "el1", "va"],
  ["VAALE1IS", 0, 3, 7, "el1", "va"],
  ["VMALLE1", 0, 7, 0, "el1", "all"],
  ["VAE1", 0, 7, 1, "el1", "va"],
  ["ASIDE1", 0, 7, 2, "el1", "asid"],
  ["VAAE1", 0, 7, 3, "el1", "va"],
  ["VALE1", 0, 7, 5, "el1", "va"],
  ["VAALE1", 0, 7, 7, "el1", "va"],
  ["IPAS2E1IS", 4, 0, 1, "guest", "all"],
  ["IPAS2LE1IS", 4, 0, 5, "guest", "all"],
  ["ALLE2IS", 4, 3, 0, "el2", "all"],
  ["VAE2IS", 4, 3, 1, "el2", "va"],
  ["ALLE1IS", 4, 3, 4, "guests", "all"],
  ["VALE2IS", 4, 3, 5, "el2", "va"],
  ["VMALLS12E1IS", 4, 3, 6, "guest", "all"],
  ["IPAS2E1", 4, 4, 1, "guest", "all"],
  ["IPAS2LE1", 4, 4, 5, "guest", "all"],
  ["ALLE2", 4, 7, 0, "el2", "all"],
  ["VAE2", 4, 7, 1, "el2", "va"],
  ["ALLE1", 4, 7, 4, "guests", "all"],
  ["VALE2", 4, 7, 5, "el2", "va"],
  ["VMALLS12E1", 4, 7, 6, "guest", "all"],
] as const satisfies readonly Row[];

export type TlbiName = (typeof ROWS)[number][0];

/** One TLB maintenance instruction. */
export interface TlbiOp {
  readonly name: TlbiName;
  /** Its encoding as the system-register layer packs it (op0 is 1, CRn 8). */
  readonly key: number;
  readonly owner: Owner;
  readonly scope: Scope;
  /** By address: only what came of the last level of the walk. */
  readonly lastLevel: boolean;
  /** Broadcast to all CPUs. */
  readonly innerShareable: boolean;
}

/** Every TLB maintenance instruction there is. */
export const TLBI_OPS: readonly TlbiOp[] = ROWS.map(([name, op1, crm, op2, owner, scope]) => ({
  name,
  key: sysregKey(1, op1, 8, crm, op2),
  owner,
  scope,
  lastLevel: /^VAA?LE/.test(name),
  innerShareable: name.endsWith("IS"),
}));

const BY_NAME = new Map(TLBI_OPS.map((op) => [op.name, op]));
const BY_KEY = new Map(TLBI_OPS.map((op) => [op.key, op]));

/** The instruction with this encoding, or undefined. */
export function tlbiByKey(key: number): TlbiOp | undefined {
  return BY_KEY.get(key);
}

/** The instruction called `name`. */
export function tlbiByName(name: TlbiName): TlbiOp {
  return BY_NAME.get(name) as TlbiOp;
}

function regimeOfOwner(memory: SharedMemory, cpu: Cpu, owner: Owner): Regime {
  if (owner === "el2") return hcrE2h(memory, cpu) ? REGIME.EL20 : REGIME.EL2;
  return owner === "el1" && isVheHost(memory, cpu) ? REGIME.EL20 : REGIME.EL10;
}

/** Whether TLB maintenance and IC IALLU issued now on `cpu` reach the other CPUs whatever their names say: HCR_EL2.FB at EL1. */
export function isForcedBroadcast(memory: SharedMemory, cpu: Cpu): boolean {
  return cpu.el === 1 && (hcrLo(memory, cpu) & HCR_LO.FB) !== 0;
}

/**
 * Performs `op` with its operand's halves, issued on `cpu`, on the contexts of `cpus` or of `cpu` alone.
 * Whether it was those of all CPUs.
 */
export function invalidate(
  memory: SharedMemory,
  contexts: Contexts,
  cpus: readonly Cpu[],
  cpu: Cpu,
  op: TlbiOp,
  valueLo: number,
  valueHi: number,
): boolean {
  const regime = regimeOfOwner(memory, cpu, op.owner);
  const oneVmid = regime === REGIME.EL10 && op.owner !== "guests";
  const vmid = oneVmid ? currentVmid(memory, cpu) : -1;
  const asid = op.scope === "asid" ? valueHi >>> 16 : -1;
  const broadcast = op.innerShareable || isForcedBroadcast(memory, cpu);
  for (const { index } of broadcast ? cpus : [cpu]) {
    if (op.scope !== "va") contexts.invalidateAll(index, regime, vmid, asid);
    else {
      // The operand has VA bits 55 to 12 in its low bits.
      const vaHi = (valueLo >>> 20) | ((valueHi & 0xfff) << 12);
      contexts.invalidatePage(index, regime, vmid, valueLo << 12, vaHi, op.lastLevel);
    }
  }
  return broadcast;
}
