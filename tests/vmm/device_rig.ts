/** Guest memory and an arena for devices under test, without a machine. */
import { Arena } from "../../src/base/arena.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { GuestRam } from "../../src/vmm/guest_ram.ts";

export const RAM_BASE = 0x4000_0000;
export const RAM_SIZE = 0x40_0000;
const PAGE = 4096;
const ARENA_BYTES = 1 << 16;

export interface DeviceRig {
  readonly memory: SharedMemory;
  readonly arena: Arena;
  readonly ram: GuestRam;
  /** Address and length of every write from outside. */
  readonly written: [pa: number, length: number][];
}

/** 4 MiB of guest memory whose pages lie in the opposite order in the shared memory. */
export function deviceRig(): DeviceRig {
  const memory = SharedMemory.create(PAGE + ARENA_BYTES + RAM_SIZE);
  const arena = new Arena("arch", memory, PAGE, PAGE + ARENA_BYTES);
  const first = PAGE + ARENA_BYTES;
  const pages = RAM_SIZE / PAGE;
  const written: [number, number][] = [];
  const ram = new GuestRam({
    memory,
    ramOffset: (pa) => {
      const page = Math.floor((pa - RAM_BASE) / PAGE);
      if (!(page >= 0 && page < pages)) return -1;
      return first + (pages - 1 - page) * PAGE + (pa % PAGE);
    },
    ramWritten: (at, length) => {
      const page = pages - 1 - Math.floor((at - first) / PAGE);
      written.push([RAM_BASE + page * PAGE + ((at - first) % PAGE), length]);
    },
  });
  return { memory, arena, ram, written };
}

/** Reads `length` bytes of guest memory. */
export function bytesAt(ram: GuestRam, pa: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  ram.read(pa, bytes);
  return bytes;
}
