/** Reads cpio archives of the "newc" kind, by the format's description. */
import assert from "node:assert/strict";

/** A member: its name, the header's 13 fields and its data. */
export interface CpioMember {
  readonly name: string;
  readonly fields: readonly number[];
  readonly data: Uint8Array<ArrayBuffer>;
}

/** The members of an archive up to its trailer, in order. */
export function* readCpio(bytes: Uint8Array<ArrayBuffer>): Generator<CpioMember> {
  const text = (from: number, to: number) => new TextDecoder().decode(bytes.subarray(from, to));
  for (let at = 0;;) {
    assert.equal(text(at, at + 6), "070701");
    const fields = Array.from(
      { length: 13 },
      (_, i) => parseInt(text(at + 6 + 8 * i, at + 14 + 8 * i), 16),
    );
    const nameEnd = at + 110 + (fields[11] as number);
    const name = text(at + 110, nameEnd - 1);
    assert.equal(bytes[nameEnd - 1], 0);
    if (name === "TRAILER!!!") return;
    const dataAt = (nameEnd + 3) & ~3;
    const size = fields[6] as number;
    yield { name, fields, data: bytes.subarray(dataAt, dataAt + size) };
    at = (dataAt + size + 3) & ~3;
  }
}
