/**
 * Execution of SYS: cache maintenance, DC ZVA, address translation and TLB maintenance, with their
 * traps. There are no caches, so that maintenance by address only translates (and faults); what it
 * means for predecoded code goes through a hook. Source: Arm Architecture Reference Manual (DDI 0487),
 * C5 "The A64 System Instruction Class".
 */
import { HCR, SCTLR } from "./arch/fields.ts";
import { ACCESS, type Access, ramOffset } from "./arch/tlb_layout.ts";
import { takeAlignmentFault, takeDataAbort, takeExternalAbort } from "./aborts.ts";
import { meetsWatchpoint, takeWatchpoint } from "./debug.ts";
import { ZVA_BYTES } from "./id_registers.ts";
import { FILL } from "./mmu/mmu.ts";
import { isForcedBroadcast } from "./mmu/tlbi.ts";
import type { Core } from "./parts.ts";
import type { SysregAccess } from "./sysreg_access.ts";
import { type Check, firstVerdict, hcrTrap, sctlrEl0Trap, VERDICT } from "./sysreg_traps.ts";
import { type SystemOperation, systemOperationByKey } from "./system_operations.ts";

/** Bytes of a data cache line (CTR_EL0.DminLine). */
const CACHE_LINE = 64;

const el0 = (check: Check): Check => (core, write) =>
  core.cpu.el === 0 ? check(core, write) : VERDICT.OK;
const below2 = (check: Check): Check => (core, write) =>
  core.cpu.el < 2 ? check(core, write) : VERDICT.OK;

const userCache = el0(sctlrEl0Trap(SCTLR.UCI));
const coherency = below2(hcrTrap(HCR.TPCP));
const unification = below2(hcrTrap(HCR.TPU));
const setWay = below2(hcrTrap(HCR.TSW));
const tlbMaintenance = below2(hcrTrap(HCR.TTLB));

/** Checks of the cache operations in priority order; TLBI has its own, AT none. */
const CACHE_CHECKS: Readonly<Record<string, readonly Check[]>> = {
  IVAC: [coherency],
  ISW: [setWay],
  CSW: [setWay],
  CISW: [setWay],
  ZVA: [el0(sctlrEl0Trap(SCTLR.DZE)), below2(hcrTrap(HCR.TDZ))],
  CVAC: [userCache, coherency],
  CIVAC: [userCache, coherency],
  CVAP: [userCache, coherency],
  CVADP: [userCache, coherency],
  CVAU: [userCache, unification],
  IVAU: [userCache, unification],
  IALLU: [unification],
  IALLUIS: [unification],
};
const TLBI_CHECKS: readonly Check[] = [tlbMaintenance];

function checksOf(op: SystemOperation): readonly Check[] | undefined {
  return op.kind === "tlbi" ? TLBI_CHECKS : CACHE_CHECKS[op.name];
}

/**
 * SYS of encoding `key` with Xrt = (lo, hi). False: an exception has been taken instead.
 */
export function executeSystemOperation(
  access: SysregAccess,
  key: number,
  rt: number,
  lo: number,
  hi: number,
): boolean {
  const { core } = access;
  const op = systemOperationByKey(key);
  const absent = op === undefined || core.cpu.el < op.minEl ||
    (op.feature !== undefined && !core.platform.model.features.has(op.feature));
  if (absent) return access.unnamedOperation(key, rt, false);
  const verdict = firstVerdict(core, checksOf(op), true);
  if (verdict !== VERDICT.OK) return access.trap(verdict, key, rt, false);
  return performSystemOperation(core, op, lo, hi);
}

/** Does what `op` does at the current level. False: a data abort has been taken. */
export function performSystemOperation(
  core: Core,
  op: SystemOperation,
  lo: number,
  hi: number,
): boolean {
  const { mmu, cpus, hooks } = core.platform;
  switch (op.kind) {
    case "tlbi":
      if (mmu.tlbi(cpus, core.cpu, op.name, lo, hi)) hooks.onMaintenance?.(core.cpu);
      return true;
    case "at":
      return mmu.addressTranslate(core.cpu, op.name, lo, hi) || abort(core);
    case "ic":
      return invalidateInstructions(core, op.name, lo, hi);
    case "dc":
      if (op.name === "ZVA") return zero(core, lo, hi);
      return op.name.endsWith("SW") || maintain(core, op.name === "IVAC", lo, hi);
  }
}

function abort(core: Core): false {
  takeDataAbort(core, 0);
  return false;
}

/** Translates the operand of a maintenance operation: PSTATE.PAN does not apply. Faults say CM. */
function translateOperand(core: Core, access: Access, lo: number, hi: number): boolean {
  const { cpu } = core;
  const { mmu } = core.platform;
  const pan = cpu.pan;
  cpu.pan = 0;
  const ok = mmu.translate(cpu, lo, hi, access, cpu.el, false, false);
  cpu.pan = pan;
  if (!ok) mmu.fault.cm = true;
  return ok || abort(core);
}

function maintain(core: Core, invalidates: boolean, lo: number, hi: number): boolean {
  if (!translateOperand(core, invalidates ? ACCESS.WRITE : ACCESS.READ, lo, hi)) return false;
  // Only what may destroy data is watched.
  return !invalidates || unwatched(core, lo, hi, CACHE_LINE, true);
}

/** Takes the watchpoint exception of a write to the aligned block of `size` bytes around an address, if it meets one. */
function unwatched(core: Core, lo: number, hi: number, size: number, cm: boolean): boolean {
  if (core.cpu.debugArmed === 0) return true;
  const start = (lo & -size) >>> 0;
  if (!meetsWatchpoint(core, start, hi, size, true, false)) return true;
  takeWatchpoint(core, lo, hi, true, cm);
  return false;
}

function invalidateInstructions(core: Core, name: string, lo: number, hi: number): boolean {
  const { hooks, mmu, memory } = core.platform;
  const broadcast = name !== "IALLU" || isForcedBroadcast(memory, core.cpu);
  if (name !== "IVAU") hooks.onInstructionCacheInvalidate("all", broadcast);
  else if (!translateOperand(core, ACCESS.READ, lo, hi)) return false;
  else hooks.onInstructionCacheInvalidate(mmu.pa, broadcast);
  if (broadcast) hooks.onMaintenance?.(core.cpu);
  return true;
}

function zero(core: Core, lo: number, hi: number): boolean {
  const { mmu, ram, memory } = core.platform;
  if (mmu.fillData(core.cpu, lo, hi, ACCESS.WRITE, 1, false) === FILL.FAULT) return abort(core);
  if (!mmu.normal) {
    takeAlignmentFault(core, lo, hi, ACCESS.WRITE);
    return false;
  }
  if (!unwatched(core, lo, hi, ZVA_BYTES, false)) return false;
  const at = ramOffset(ram, mmu.pa - mmu.pa % ZVA_BYTES, ZVA_BYTES);
  if (at < 0) {
    takeExternalAbort(core, lo, hi, ACCESS.WRITE);
    return false;
  }
  memory.u8.fill(0, at, at + ZVA_BYTES);
  return true;
}
