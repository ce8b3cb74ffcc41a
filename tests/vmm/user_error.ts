import assert from "node:assert/strict";
import fc from "fast-check";
import { UserError } from "../../src/base/errors.ts";

/** Fails unless `action` throws a UserError whose message matches. */
export function assertUserError(action: () => unknown, message: RegExp): void {
  assert.throws(action, (error) => error instanceof UserError && message.test(error.message));
}

/** Fails when `action` throws anything but a UserError. */
export function assertOnlyUserErrors(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
  }
}

/** `valid` with a few bytes changed and perhaps its end cut off: nearly right files. */
export function damaged(valid: Uint8Array): fc.Arbitrary<Uint8Array> {
  const change = fc.tuple(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 255 }));
  const changes = fc.array(change, { minLength: 1, maxLength: 8 });
  return fc.tuple(changes, fc.option(fc.nat(valid.length))).map(([list, cut]) => {
    const bytes = valid.slice();
    for (const [at, byte] of list) bytes[at] = byte;
    return cut === null ? bytes : bytes.slice(0, cut);
  });
}
