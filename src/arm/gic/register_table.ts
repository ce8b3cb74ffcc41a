/** System registers of an interface as a table of rows, looked up by register-file index. */
import { InternalError } from "../../base/errors.ts";
import { R, type SysregName, SYSREGS } from "../arch/sysregs.ts";

/** One register. */
export interface RegisterRow<T> {
  readonly name: SysregName;
  /** Bits 31 to 0; absent for write-only registers. */
  readonly read?: (owner: T) => number;
  /** Bits 63 to 32, where not zero. */
  readonly readHi?: (owner: T) => number;
  /** Absent for read-only registers. */
  readonly write?: (owner: T, lo: number, hi: number) => void;
}

/** Rows by register-file index. */
export class RegisterTable<T> {
  readonly #rows: (RegisterRow<T> | undefined)[];

  constructor(readonly name: string, rows: readonly RegisterRow<T>[]) {
    this.#rows = SYSREGS.map(() => undefined);
    for (const row of rows) this.#rows[R[row.name]] = row;
  }

  /** Whether the register exists here. */
  has(index: number): boolean {
    return this.#rows[index] !== undefined;
  }

  /** The register's row; InternalError if there is none: the caller must have made it UNDEFINED. */
  row(index: number): RegisterRow<T> {
    const row = this.#rows[index];
    if (!row) throw new InternalError(`${this.name}: no register ${SYSREGS[index]?.name ?? index}`);
    return row;
  }
}
