/**
 * What is measured of a vCPU's world switches, as it lies in memory: written by port_meter.ts, read by
 * kvm/stats.ts.
 */
import { array, layout, space, u32, u53 } from "../base/struct.ts";
import { PORT_KINDS } from "./port_operations.ts";

/** Exit reasons: exception classes 0 to 63, then what is no exception class. */
export const SWITCH_REASONS = 67;

/** Times below 64 ns share the first bucket; four buckets per doubling follow. */
export const FIRST_OCTAVE = 6;
/** Doublings that have buckets of their own: up to 2^22 ns (4.2 ms); the last bucket is open. */
export const OCTAVES = 16;
export const SWITCH_BUCKETS = 4 * OCTAVES + 2;

/** Switches of one reason. */
export const SwitchSlotLayout = layout("switch_slot", {
  /** Exits. One whose next entry has not come yet is in `count` but in nothing else. */
  count: u53("observe"),
  /** Virtual nanoseconds outside the guest, summed, and the longest. */
  totalNs: u53("observe"),
  maxNs: u53("observe"),
  /** Nanoseconds that the el2_port operations cost, summed: the basis of modelled cycles. */
  operationNs: u53("observe"),
  /** Registers moved between the CPU and memory or TypeScript, summed. */
  registersMoved: u53("observe"),
  buckets: array("u32", SWITCH_BUCKETS, "observe"),
});

/** One vCPU's switches by reason, and the el2_port operations of all of them by kind. */
export const WorldSwitchLayout = layout("world_switch", {
  slots: space(SWITCH_REASONS * SwitchSlotLayout.size, "observe"),
  operations: array("u53", PORT_KINDS.length, "observe"),
  // The switch under way, which may go on at the port of another CPU.
  /** The counters of a port when operations last began or ceased to count; and its `ns` then, bits 31 to 0. */
  before: array("u53", PORT_KINDS.length, "observe"),
  beforeNs: u32("observe"),
  /** The byte address of that port's counters. */
  portAt: u32("observe"),
  /** Bits of {@link SWITCH}. */
  state: u32("observe"),
  /** Why the guest was left, plus 1; 0 for no reason: the way into it for the first time of a KVM_RUN. */
  reason: u32("observe"),
  registersMoved: u32("observe"),
  operationNs: u53("observe"),
  /** Since when time counts, and what counted before. */
  sinceNs: u53("observe"),
  outsideNs: u53("observe"),
  /** The time now, where the host's clock is virtual time: the port's to write. */
  nowNs: u53("observe"),
});

/** What there is of the switch under way. */
export const SWITCH = {
  /** The guest was left; its next entry has not come yet. */
  OUTSIDE: 1,
  /** Time counts. */
  TIMED: 2,
  /** Operations count. */
  COUNTING: 4,
} as const;
