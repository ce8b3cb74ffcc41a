import assert from "node:assert/strict";
import { UserError } from "../../src/base/errors.ts";
import { type Invocation, parseCommandLine } from "../../src/vmm/command_line.ts";
import { parseDuration, parseMemory, parseSize } from "../../src/vmm/options.ts";

function invocation(...args: string[]): Invocation {
  const parsed = parseCommandLine(args);
  assert.ok("config" in parsed);
  return parsed;
}

/** The one line a mistake is answered with. */
function mistake(...args: string[]): string {
  try {
    parseCommandLine(args);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.exitCode, 2);
    assert.ok(!error.message.includes("\n"));
    return error.message;
  }
  throw new Error(`accepted: ${args.join(" ")}`);
}

Deno.test("defaults: four vCPUs on two CPUs, 256 MiB; paced on the dashboard, fast headless", () => {
  const { config, kernel, plain } = invocation("start");
  assert.deepEqual([config.vcpus, config.pcpus, config.memory], [4, 2, 256 << 20]);
  assert.deepEqual([config.lrs, config.bareEl, config.clock], [4, 0, "paced"]);
  assert.deepEqual([kernel, plain, config.forNs], [undefined, false, Infinity]);
  assert.equal(invocation("run").config.clock, "fast");
});

Deno.test("a seed for KASLR is for the machine's own device tree", () => {
  assert.equal(invocation("run").config.kaslrSeed, undefined);
  assert.equal(invocation("run", "--kaslr-seed", "0").config.kaslrSeed, 0);
  assert.match(mistake("run", "--kaslr-seed", "x"), /^--kaslr-seed: a whole number/);
  assert.match(mistake("run", "--kaslr-seed", "1", "--dtb", "f"), /^--kaslr-seed: .*--dtb$/);
});

Deno.test("every option arrives", () => {
  const all = invocation(
    ..."run --kernel k --initrd i --append a=b --vcpus 8 --pcpus 3 --memory 1G --gic 3".split(" "),
    ..."--mode vhe --lrs 16 --clock paced --for 1.5s --record r --replay p --stats -".split(" "),
  );
  assert.deepEqual([all.kernel, all.initrd, all.record, all.replay, all.stats], [
    "k",
    "i",
    "r",
    "p",
    "-",
  ]);
  const { vcpus, pcpus, memory, lrs, clock, forNs, append } = all.config;
  assert.deepEqual([vcpus, pcpus, memory, lrs], [8, 3, 2 ** 30, 16]);
  assert.deepEqual([clock, forNs, append], ["paced", 1.5e9, "a=b"]);
  assert.equal(invocation("run").config.cpu, "v8.0");
  assert.equal(invocation("run", "--cpu", "max").config.cpu, "max");
  assert.equal(invocation("run", "--dtb", "d").dtb, "d");
  assert.equal(invocation("run", "--dump-regions", "d").dumpRegions, "d");
  assert.match(mistake("start", "--dump-regions", "d"), /unknown option/);
  assert.match(mistake("run", "--threads", "2", "--dump-regions", "d"), /only with --threads 1/);
  assert.equal(invocation("run", "--bare").config.bareEl, 1);
  assert.equal(invocation("run").config.gic, 3);
  assert.equal(invocation("run").config.mode, "vhe");
  assert.equal(invocation("run", "--mode", "nvhe").config.mode, "nvhe");
  assert.equal(invocation("run", "--gic", "2", "--vcpus", "8").config.gic, 2);
  assert.equal(invocation("run", "--bare", "--gic", "2", "--vcpus", "9").config.gic, 2);
  assert.equal(invocation("run", "--bare", "--el", "2").config.bareEl, 2);
});

Deno.test("mistakes are one line each, with a suggestion where there is one", () => {
  assert.match(mistake("run", "--kernl", "x"), /did you mean --kernel/i);
  assert.match(mistake("run", "--vcpus", "0"), /--vcpus: a whole number from 1 to 64, not 0/);
  assert.match(mistake("run", "--pcpus", "x"), /--pcpus/);
  assert.match(mistake("run", "--cpu", "v9"), /--cpu.*v8\.0, max/);
  assert.match(mistake("run", "--memory", "1T"), /not a size: 1T/);
  assert.match(mistake("run", "--memory", "3G"), /--memory: from 16M to 2560M/);
  assert.match(mistake("run", "--for", "10"), /not a duration: 10/);
  assert.match(mistake("run", "--gic", "4"), /Allowed choices are 2, 3/);
  assert.equal(
    mistake("run", "--gic", "2", "--vcpus", "9"),
    "--vcpus 9: a GICv2 serves at most 8 (use --gic 3)",
  );
  assert.match(mistake("run", "--gic", "2", "--pcpus", "12"), /--pcpus 12: a GICv2 serves/);
  assert.match(mistake("run", "--mode", "pkvm"), /Allowed choices are vhe, nvhe/);
  assert.match(mistake("fly"), /unknown command 'fly'/);
  assert.match(mistake("rnu"), /unknown command 'rnu' \(Did you mean run\?\)/);
  assert.match(mistake("--versoin"), /unknown option '--versoin' \(Did you mean --version\?\)/);
  assert.equal(mistake("run", "--zzzzz"), "unknown option '--zzzzz'");
  assert.equal(mistake("run", "-x"), "unknown option '-x'");
  assert.equal(mistake("run", "--ke\nrnl"), "unknown option '--ke rnl' (Did you mean --kernel?)");
  assert.equal(mistake("run", "Image"), "run takes only options, not Image");
  assert.equal(mistake("run", "--kernel"), "option '--kernel <file>' argument missing");
  assert.equal(mistake("run", "--bare=yes"), "option '--bare' has no value");
});

Deno.test("a value is the next argument, or behind an equals sign; the last one counts", () => {
  const { config, kernel, stats } = invocation(
    ..."run --kernel=a=b --append --bare --vcpus 2 --vcpus=3 --stats -".split(" "),
  );
  assert.deepEqual([kernel, config.append, config.bareEl], ["a=b", "--bare", 0]);
  assert.deepEqual([config.vcpus, stats], [3, "-"]);
  assert.equal(invocation("run", "--append=").config.append, "");
  const { devices } = invocation("run", "--fw-cfg", "opt/a=1", "--fw-cfg=opt/b=2").config;
  assert.equal(devices?.fwCfg.length, 2);
});

Deno.test("help and version are printed and end well", () => {
  const help = parseCommandLine(["run", "--help"]);
  assert.ok("text" in help);
  assert.equal(help.code, 0);
  assert.match(help.text, /Examples:/);
  assert.match(help.text, /Exit codes: 0 the guest powered off/);
  assert.deepEqual(parseCommandLine(["help", "run"]), help);
  assert.deepEqual(parseCommandLine(["run", "--vcpus", "2", "-h"]), help);
  assert.match(help.text, /^ {2}--bare +run the image/m);
  assert.match(help.text, /choices: vhe, nvhe; default: vhe/);
  assert.ok(help.text.split("Examples:")[0]?.split("\n").every((line) => line.length <= 80));
  const overview = parseCommandLine(["--help"]);
  assert.match("text" in overview ? overview.text : "", /start \[options\] +the dashboard/);
  const version = parseCommandLine(["--version"]);
  assert.deepEqual(version, { text: "0.1.0\n", code: 0 });
  assert.equal((parseCommandLine([]) as { code: number }).code, 2);
});

Deno.test("sizes and durations", () => {
  assert.deepEqual(["4096", "64K", "512M", "1G", "2GiB"].map(parseSize), [
    4096,
    65536,
    2 ** 29,
    2 ** 30,
    2 ** 31,
  ]);
  assert.deepEqual(["5ns", "1us", "250ms", "10s", "0.5s", "2m"].map(parseDuration), [
    5,
    1000,
    250e6,
    10e9,
    0.5e9,
    120e9,
  ]);
  assert.throws(() => parseMemory("17M"), UserError);
  assert.throws(() => parseSize("-1"), UserError);
});
