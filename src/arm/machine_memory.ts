/** How the memory of a machine is divided: turns, `arch` state, `observe`, `cache`, RAM, devices' contents. */
import { Arena } from "../base/arena.ts";
import { alignUp } from "../base/bits.ts";
import { assert } from "../base/errors.ts";
import { SharedMemory, WASM_PAGE } from "../base/memory.ts";
import type { RamRange } from "./arch/tlb_layout.ts";
import { BOARD } from "./board.ts";
import { CROSSING_BYTES } from "./crossing_access.ts";
import { RECORD_PAGE_SIZE } from "./engine/records.ts";
import { TurnLayout, TURNS_AT } from "./engine/turn_loop.ts";
import type { MachineOptions } from "./machine_options.ts";
import { contextBytes } from "./mmu/mmu.ts";
import { teamCodePages } from "./parallel/team_machine.ts";

const MIB = 1 << 20;
/** Bytes for turns. */
const LOW_BYTES = 4096;
/** Bytes for CPUs, interrupt controller and timers, and for counters and rings. */
const ARCH_BYTES = 2 * MIB;
const OBSERVE_BYTES = 16 * MIB;
/** Pages of code kept predecoded. */
const CODE_PAGES = 3072;

/** A machine's memory, and where in it everything lies. */
export interface MachineMemory {
  readonly memory: SharedMemory;
  readonly ram: RamRange;
  /** Memory for devices' contents: state like RAM, but not on the bus. */
  readonly deviceArea: { readonly at: number; readonly size: number };
  /** `arch` state outside RAM; `observe`; `cache`. */
  readonly arena: Arena;
  readonly observeArena: Arena;
  readonly cacheArena: Arena;
  /** Pages of code that each worker keeps predecoded. */
  readonly codePages: number;
}

/** Makes the memory, or divides the one that another worker has made. */
export function divideMemory(options: MachineOptions): MachineMemory {
  const { pcpus, ramSize, deviceBytes = 0, team } = options;
  const workers = team?.workers ?? 1;
  const codePages = teamCodePages(options.codePages ?? CODE_PAGES, workers);
  const cacheBytes = contextBytes(pcpus) + CROSSING_BYTES * pcpus +
    workers * codePages * RECORD_PAGE_SIZE + MIB;
  const ramAt = alignUp(LOW_BYTES + ARCH_BYTES + cacheBytes + OBSERVE_BYTES, WASM_PAGE);
  const memory = team?.memory ?? SharedMemory.create(ramAt + ramSize + deviceBytes);
  // Address 0 stays unused: it is the null of lists and slabs.
  assert(TURNS_AT + workers * TurnLayout.size <= LOW_BYTES, `${workers} workers`);
  const observeAt = LOW_BYTES + ARCH_BYTES;
  return {
    memory,
    ram: { pa: BOARD.ram, size: ramSize, at: ramAt },
    deviceArea: { at: ramAt + ramSize, size: deviceBytes },
    arena: new Arena("arch", memory, LOW_BYTES, observeAt),
    observeArena: new Arena("observe", memory, observeAt, observeAt + OBSERVE_BYTES),
    cacheArena: new Arena("cache", memory, observeAt + OBSERVE_BYTES, ramAt),
    codePages,
  };
}
