import assert from "node:assert/strict";
import { parseCommandLine } from "../../src/vmm/command_line.ts";
import { checkSame, decisive } from "../../src/vmm/headless.ts";
import type { MachineConfig } from "../../src/vmm/options.ts";
import { assertUserError } from "./user_error.ts";

async function configOf(...args: string[]): Promise<MachineConfig> {
  const parsed = await parseCommandLine(["run", ...args]);
  assert.ok("config" in parsed);
  return parsed.config;
}

const recording = { config: decisive(await configOf()), inputs: [], end: undefined };

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
  Deno.test(`a replay with another ${args[0]} than recorded is refused`, async () => {
    const config = await configOf(...args);
    assertUserError(() => checkSame(recording, config), /^replay: recorded with /);
  });
}

Deno.test("a replay may run at another pace and end elsewhere", async () => {
  checkSame(recording, await configOf("--clock", "paced", "--for", "1s"));
});
