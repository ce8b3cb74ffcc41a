/**
 * The guest's console output where several workers run it: whoever executes the device puts the bytes into
 * one ring, in the order of the machine lock, and the main worker takes them out.
 */
import type { Machine } from "../arm/machine.ts";
import { ByteRing, byteRingSize } from "./byte_ring.ts";
import { TEAM_CONSOLE_BYTES } from "./parallel_protocol.ts";

/** One worker's end. Made after the machine, at the same moment in every worker. */
export class TeamConsole {
  readonly #ring: ByteRing;
  /** What did not fit. */
  #backlog: number[] = [];

  constructor(readonly machine: Machine) {
    const at = machine.observeArena.reserve(byteRingSize(TEAM_CONSOLE_BYTES));
    this.#ring = new ByteRing(machine.memory, at, TEAM_CONSOLE_BYTES);
  }

  /** Under the lock: a byte of a helper's. */
  write(byte: number): void {
    this.#backlog.push(byte);
    this.flush();
  }

  /** Under the lock: as much as fits; the main worker is told. */
  flush(): void {
    if (this.#backlog.length === 0) return;
    const taken = this.#ring.write(Uint8Array.from(this.#backlog));
    this.#backlog = taken === this.#backlog.length ? [] : this.#backlog.slice(taken);
    this.machine.team?.ring(0);
  }

  /** Main worker, under the lock: everything up to now. */
  drain(transmit: (byte: number) => void): void {
    if (this.#ring.length > 0) { for (const byte of this.#ring.read()) transmit(byte); }
  }
}
