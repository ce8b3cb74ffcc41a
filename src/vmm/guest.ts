/** What runs a guest's image: the bare machine, or a VM under KVM. */
import type { Machine } from "../arm/machine.ts";
import type { FrameSource } from "./frame.ts";
import type { LoopState } from "./machine_loop.ts";
import type { Input } from "./recording.ts";

/** Counters of a run, by vCPU, interrupt and lock class; see docs/stats.md. */
export type GuestStats = Readonly<Record<string, unknown>>;

/** What a guest asked for: power off or a reset. */
export type GuestEvent = "off" | "reset";

/** A guest that has gone wrong in a way that ends it: what is missing, in one line. */
export interface GuestFailure {
  readonly message: string;
}

/** Addresses of a trace ring's head and first record. */
export interface TracePlace {
  readonly head: number;
  readonly records: number;
}

export interface Guest {
  readonly trace: TracePlace;
  /** Tells the guest's frames who steers it. */
  attach(loop: LoopState): void;

  readonly machine: Machine;
  readonly frames: FrameSource | undefined;
  /** The guest's own physical address of the machine's `pa`; undefined where that is not its RAM. */
  guestPhysical(pa: number): number | undefined;
  /** Applies an input at a boundary between turns. 0, or an error number, negated. */
  apply(input: Input): number;
  /** Console bytes that would be taken now. */
  readonly consoleRoom: number;
  /** What the guest asked for since the last call. */
  takeEvent(): GuestEvent | undefined;
  /** Several workers: takes over what another one has made. */
  refresh?(): void;
  /** Ends the workers that run it, where there are several. */
  close?: () => void;
  /** Starts over after a reset. */
  reset(): void;
  stats(): GuestStats;
  /** Why the guest cannot go on, if so. */
  readonly failure: GuestFailure | undefined;
}
