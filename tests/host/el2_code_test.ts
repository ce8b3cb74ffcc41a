import assert from "node:assert/strict";
import { EL2_EXCEPTION, type El2Port } from "../../src/arm/el2_port.ts";
import { InternalError } from "../../src/base/errors.ts";
import { El2Code } from "../../src/host/el2_code.ts";

/** A CPU that is where `pc` says until code moves it. */
class At {
  el = 2;
  constructor(public pc: number) {}
  pcLo(): number {
    return this.pc % 2 ** 32;
  }
  pcHi(): number {
    return Math.floor(this.pc / 2 ** 32);
  }
}
const run = (code: El2Code, at: At) => code.run(at as unknown as El2Port);

Deno.test("EL2's code is chosen by the PC, until the CPU has left EL2", () => {
  const code = new El2Code();
  const log: string[] = [];
  code.install(0xda3c_0000_0800, (port, offset) => {
    log.push(`host ${offset.toString(16)}`);
    const at = port as unknown as At;
    if (offset === 0x400) {
      // An exception taken at EL2 itself.
      at.pc = 0xda3c_0000_0800 + 0x200;
      throw EL2_EXCEPTION;
    }
    at.el = 1;
  });
  run(code, new At(0xda3c_0000_0c00));
  assert.deepEqual(log, ["host 400", "host 200"]);
  const gone = new At(0x1000);
  gone.el = 1;
  run(code, gone);
});

Deno.test("vectors that nobody has installed, and errors of the code, are not hidden", () => {
  const code = new El2Code();
  assert.throws(() => run(code, new At(0x1400)), InternalError);
  code.install(0x1000, () => {
    throw new RangeError("mine");
  });
  assert.throws(() => run(code, new At(0x1400)), RangeError);
});
