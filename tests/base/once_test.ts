import assert from "node:assert/strict";
import { once } from "../../src/base/once.ts";

Deno.test("what is wanted is made when it is first wanted, and only then", () => {
  let made = 0;
  const value = once(() => {
    made++;
    return undefined;
  });
  assert.equal(made, 0);
  assert.deepEqual([value(), value(), made], [undefined, undefined, 1]);
});
