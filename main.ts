/** Arguments and wiring only. */
import { UserError } from "./src/base/errors.ts";
import { runStart } from "./src/dashboard/start.ts";
import { parseCommandLine } from "./src/vmm/command_line.ts";
import { runHeadless } from "./src/vmm/headless.ts";
import { EXIT_CODE } from "./src/vmm/options.ts";

async function main(args: readonly string[]): Promise<number> {
  const wanted = parseCommandLine(args);
  if ("text" in wanted) {
    console.log(wanted.text.trimEnd());
    return wanted.code;
  }
  return wanted.command === "start" ? await runStart(wanted) : await runHeadless(wanted);
}

try {
  Deno.exit(await main(Deno.args));
} catch (error) {
  if (error instanceof UserError) {
    console.error(`worldswitch: ${error.message}`);
    Deno.exit(error.exitCode);
  }
  console.error("worldswitch: internal error");
  console.error(error);
  Deno.exit(EXIT_CODE.INTERNAL_ERROR);
}
