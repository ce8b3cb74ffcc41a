import assert from "node:assert/strict";
import fc from "fast-check";
import { USER_ERROR_EXIT_CODE, UserError } from "../../src/base/errors.ts";

Deno.test("a user error is one line whatever is quoted in it, and has exit code 2", () => {
  const error = new UserError("no file \x1b]0;title\x07\nsecond line");
  assert.equal(error.message, "no file \\x1b]0;title\\x07\\x0asecond line");
  assert.equal(error.exitCode, USER_ERROR_EXIT_CODE);
  assert.equal(USER_ERROR_EXIT_CODE, 2);
  assert.equal(error.name, "UserError");
  assert.ok(error instanceof Error);
});

Deno.test("no message of a user error has a control character or is endless", () => {
  fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 600 }), (message) => {
    const shown = new UserError(message).message;
    assert.doesNotMatch(shown, /[\p{Cc}\p{Cf}\u2028\u2029]/u);
    assert.ok(shown.length <= 400);
  }));
});

Deno.test("a cause is kept", () => {
  const cause = new Error("inner");
  assert.equal(new UserError("outer", { cause }).cause, cause);
});
