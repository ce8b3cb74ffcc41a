import assert from "node:assert/strict";
import { parseCommandLine } from "../../src/vmm/command_line.ts";
import { checkSame, decisive } from "../../src/vmm/headless.ts";
import type { MachineConfig } from "../../src/vmm/options.ts";
import { assertUserError } from "./user_error.ts";

function configOf(...args: string[]): MachineConfig {
  const parsed = parseCommandLine(["run", ...args]);
  assert.ok("config" in parsed);
  return parsed.config;
}

const recording = { config: decisive(configOf()), inputs: [], end: undefined };

/** Every option that changes what the machine does, with a value that is not its default. */
const DECISIVE: readonly (readonly string[])[] = [
  ["--vcpus", "2"],
  ["--pcpus", "1"],
  ["--memory", "128M"],
  ["--lrs", "1"],
  ["--cpu", "max"],
  ["--gic", "2"],
  ["--mode", "nvhe"],
  ["--append", "x"],
  ["--bare"],
  ["--shuffle", "1"],
  ["--kaslr-seed", "7"],
  ["--disk", "disk.img"],
  ["--net", "echo"],
  ["--console", "virtio"],
  ["--rtc", "2030-01-01T00:00:00"],
  ["--fw-cfg", "opt/a=b"],
];

for (const args of DECISIVE) {
  Deno.test(`a replay with another ${args[0]} than recorded is refused`, () => {
    assertUserError(() => checkSame(recording, configOf(...args)), /^replay: recorded with /);
  });
}

Deno.test("a replay may run at another pace and end elsewhere", () => {
  checkSame(recording, configOf("--clock", "paced", "--for", "1s"));
});
