/** The kinds of operations that pass through el2_port.ts: what each costs, and how they are counted. */
import { layout, u53 } from "../base/struct.ts";
import { SYSREGS } from "./arch/sysregs.ts";

/**
 * Kinds of operations with their cost in ns of virtual time. First figures, from the published
 * breakdown of a world switch on silicon (reference/measured.md: about 25 EL1 registers saved in 230
 * cycles and restored in 511, GP registers 152 and 184, FP 282 and 310, at 2.4 GHz), the rest estimated
 * from these.
 */
export const PORT_COST = {
  /** MRS of a register that is neither GIC nor timer. */
  sysregRead: 4,
  sysregWrite: 9,
  /** The same, to or from memory. */
  sysregSave: 4,
  sysregRestore: 9,
  timerRead: 10,
  timerWrite: 10,
  /** ICC and ICH registers except list registers. */
  gicRead: 20,
  gicWrite: 20,
  lrRead: 20,
  lrWrite: 20,
  /**
   * A GICv2's frames (GICC, GICH): memory. A read has to wait for the interconnect (with GICv2 hardware
   * saving the VGIC's state took 3250 cycles, restoring it 181; the same source).
   */
  gicMmioRead: 150,
  gicMmioWrite: 10,
  gprSave: 63,
  gprRestore: 77,
  fpSave: 118,
  fpRestore: 129,
  isb: 10,
  dsb: 20,
  dmb: 10,
  tlbi: 50,
  ic: 50,
  dc: 50,
  at: 50,
  sev: 5,
  clearExclusive: 2,
  interruptMask: 5,
  /** An exception taken from a lower level to EL2. */
  trap: 30,
  eret: 30,
} as const;

/** A kind of operation. */
export type PortKind = keyof typeof PORT_COST;

/** All kinds, in the order of the counters. */
export const PORT_KINDS = Object.keys(PORT_COST) as PortKind[];

const COUNTERS = Object.fromEntries(PORT_KINDS.map((kind) => [kind, u53("observe")])) as Record<
  PortKind,
  ReturnType<typeof u53>
>;

/** How often each kind of operation was done, and the virtual time (ns) they took together. */
export const PortLayout = layout("el2_port", {
  ...COUNTERS,
  ns: u53("observe"),
});

/** The kinds' numbers: their places in {@link PORT_KINDS} and in the layout. */
export const K = Object.fromEntries(PORT_KINDS.map((kind, n) => [kind, n])) as Record<
  PortKind,
  number
>;
/** Their costs, by number. */
export const COSTS = Uint8Array.from(PORT_KINDS, (kind) => PORT_COST[kind]);

/** What a log gets: the kind, and the register-file index or the operation's name where there is one. */
export type PortLog = (kind: PortKind, operand: number | string) => void;

type Access = "Read" | "Write" | "Save" | "Restore";

function kindOf(name: string, access: Access): PortKind {
  const direction = access === "Read" || access === "Save" ? "Read" : "Write";
  if (name.startsWith("ICH_LR")) return `lr${direction}`;
  if (/^IC[CH]_/.test(name)) return `gic${direction}`;
  if (/^CNT[PVH].*_(CTL|CVAL|TVAL|EL0)/.test(name)) return `timer${direction}`;
  return `sysreg${access}`;
}

const kindsFor = (access: Access): Uint8Array =>
  Uint8Array.from(SYSREGS, (r) => K[kindOf(r.name, access)]);

/** The number of the kind of access to each register, by register-file index. */
export const READ: Uint8Array = kindsFor("Read");
export const WRITE: Uint8Array = kindsFor("Write");
export const SAVE: Uint8Array = kindsFor("Save");
export const RESTORE: Uint8Array = kindsFor("Restore");
