/** Arguments and wiring only. */
import { UserError } from "./src/base/errors.ts";
import { parseCommandLine } from "./src/vmm/command_line.ts";
import { EXIT_CODE } from "./src/vmm/options.ts";

async function main(args: readonly string[]): Promise<number> {
  const wanted = await parseCommandLine(args);
  if ("text" in wanted) {
    console.log(wanted.text.trimEnd());
    return wanted.code;
  }
  // Only what the command wants is loaded.
  if (wanted.command === "run") {
    const { runHeadless } = await import("./src/vmm/headless.ts");
    return await runHeadless(wanted);
  }
  const { runStart } = await import("./src/dashboard/start.ts");
  return await runStart(wanted);
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
