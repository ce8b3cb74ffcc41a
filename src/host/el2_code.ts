/**
 * The code at EL2 of a host kernel that is itself at EL1: vector tables, by the address that VBAR_EL2
 * has for them. What lies behind a vector is TypeScript; the PC that an exception leads to chooses it.
 */
import { InternalError } from "../base/errors.ts";
import { EL2_EXCEPTION, type El2Port } from "../arm/el2_port.ts";

/**
 * The vector at `offset` (0 to 0x780) of a table: runs until the CPU has left EL2, or has taken an
 * exception there (EL2_EXCEPTION).
 */
export type El2Vectors = (port: El2Port, offset: number) => void;

const TABLE_BYTES = 0x800;

/** All vector tables of a machine. */
export class El2Code {
  readonly #tables = new Map<number, El2Vectors>();

  /** Says what the table at `address` does, a multiple of 2048 and below 2^53. */
  install(address: number, vectors: El2Vectors): void {
    this.#tables.set(address, vectors);
  }

  /** The CPU has taken an exception to EL2: goes on from the vector until it has left EL2 again. */
  run(port: El2Port): void {
    while (port.el === 2) {
      const pc = (port.pcLo() >>> 0) + (port.pcHi() >>> 0) * 0x1_0000_0000;
      const offset = pc % TABLE_BYTES;
      const vectors = this.#tables.get(pc - offset);
      if (vectors === undefined) {
        throw new InternalError(`nothing is at EL2's vector 0x${pc.toString(16)}`);
      }
      try {
        vectors(port, offset);
      } catch (thrown) {
        if (thrown !== EL2_EXCEPTION) throw thrown;
      }
    }
  }
}
