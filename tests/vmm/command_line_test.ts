import assert from "node:assert/strict";
import { UserError } from "../../src/base/errors.ts";
import { type Invocation, parseCommandLine } from "../../src/vmm/command_line.ts";
import { parseDuration, parseMemory, parseSize } from "../../src/vmm/options.ts";

async function invocation(...args: string[]): Promise<Invocation> {
  const parsed = await parseCommandLine(args);
  assert.ok("config" in parsed);
  return parsed;
}

/** The one line a mistake is answered with. */
async function mistake(...args: string[]): Promise<string> {
  try {
    await parseCommandLine(args);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.exitCode, 2);
    assert.ok(!error.message.includes("\n"));
    return error.message;
  }
  throw new Error(`accepted: ${args.join(" ")}`);
}

Deno.test("defaults: four vCPUs on two CPUs, 256 MiB; paced on the dashboard, fast headless", async () => {
  const { config, kernel, plain } = await invocation("start");
  assert.deepEqual([config.vcpus, config.pcpus, config.memory], [4, 2, 256 << 20]);
  assert.deepEqual([config.lrs, config.bareEl, config.clock], [4, 0, "paced"]);
  assert.deepEqual([kernel, plain, config.forNs], [undefined, false, Infinity]);
  assert.equal((await invocation("run")).config.clock, "fast");
});

Deno.test("a seed for KASLR is for the machine's own device tree", async () => {
  assert.equal((await invocation("run")).config.kaslrSeed, undefined);
  assert.equal((await invocation("run", "--kaslr-seed", "0")).config.kaslrSeed, 0);
  assert.match(await mistake("run", "--kaslr-seed", "x"), /^--kaslr-seed: a whole number/);
  assert.match(await mistake("run", "--kaslr-seed", "1", "--dtb", "f"), /^--kaslr-seed: .*--dtb$/);
});

Deno.test("every option arrives", async () => {
  const all = await invocation(
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
  assert.equal((await invocation("run")).config.cpu, "v8.0");
  assert.equal((await invocation("run", "--cpu", "max")).config.cpu, "max");
  assert.equal((await invocation("run", "--dtb", "d")).dtb, "d");
  assert.equal((await invocation("run", "--dump-regions", "d")).dumpRegions, "d");
  assert.match(
    await mistake("start", "--dump-regions", "d"),
    /No flag registered for --dump-regions/,
  );
  assert.match(
    await mistake("run", "--threads", "2", "--dump-regions", "d"),
    /only with --threads 1/,
  );
  assert.equal((await invocation("run", "--bare")).config.bareEl, 1);
  assert.equal((await invocation("run")).config.gic, 3);
  assert.equal((await invocation("run")).config.mode, "vhe");
  assert.equal((await invocation("run", "--mode", "nvhe")).config.mode, "nvhe");
  assert.equal((await invocation("run", "--gic", "2", "--vcpus", "8")).config.gic, 2);
  assert.equal((await invocation("run", "--bare", "--gic", "2", "--vcpus", "9")).config.gic, 2);
  assert.equal((await invocation("run", "--bare", "--el", "2")).config.bareEl, 2);
});

Deno.test("mistakes are one line each, with a suggestion where there is one", async () => {
  assert.match(await mistake("run", "--kernl", "x"), /did you mean --kernel/i);
  assert.match(await mistake("run", "--vcpus", "0"), /--vcpus: a whole number from 1 to 64, not 0/);
  assert.match(await mistake("run", "--pcpus", "x"), /--pcpus/);
  assert.match(await mistake("run", "--cpu", "v9"), /--cpu.*v8\.0\|max/);
  assert.match(await mistake("run", "--memory", "1T"), /not a size: 1T/);
  assert.match(await mistake("run", "--memory", "3G"), /--memory: from 16M to 2560M/);
  assert.match(await mistake("run", "--for", "10"), /not a duration: 10/);
  assert.match(await mistake("run", "--gic", "4"), /^--gic: Expected "4" to be one of \(2\|3\)/);
  assert.equal(
    await mistake("run", "--gic", "2", "--vcpus", "9"),
    "--vcpus 9: a GICv2 serves at most 8 (use --gic 3)",
  );
  assert.match(await mistake("run", "--gic", "2", "--pcpus", "12"), /--pcpus 12: a GICv2 serves/);
  assert.match(await mistake("run", "--mode", "pkvm"), /^--mode: .*vhe\|nvhe/);
  assert.match(await mistake("fly"), /No command registered for `fly`$/);
  assert.match(await mistake("rnu"), /`rnu`, did you mean `run`\?$/);
  assert.match(await mistake("--versoin"), /registered for `--versoin`/);
  assert.match(await mistake("help", "rnu"), /did you mean `run`/);
  assert.equal(await mistake("run", "--zzzzz"), "No flag registered for --zzzzz");
  assert.equal(await mistake("run", "-x"), "No flag registered for -x");
  assert.match(await mistake("run", "--ke\nrnl"), /^Unexpected "--ke\\x0arnl"/);
  assert.match(await mistake("run", "Image"), /^Unexpected "Image": there are only options/);
  assert.match(await mistake("run", "help"), /^Unexpected "help"/);
  assert.match(await mistake("run", "--kernel"), /^Expected input for flag --kernel$/);
  assert.match(await mistake("run", "--bare=maybe"), /Failed to parse "maybe" for bare/);
  assert.match(await mistake("run", "--no-bare"), /No flag registered for --no-bare/);
  assert.match(await mistake("run", "--vcpus", "2", "--vcpus=3"), /--vcpus.* "3" after "2"/);
  assert.match(await mistake("run", "--version"), /No flag registered for --version/);
});

Deno.test("all wrong values are told at once", async () => {
  assert.equal(
    await mistake("run", "--vcpus", "0", "--lrs=17"),
    "--vcpus: a whole number from 1 to 64, not 0; --lrs: a whole number from 1 to 16, not 17",
  );
});

Deno.test("what every JavaScript object has is no option or command", async () => {
  assert.match(await mistake("run", "--constructor", "1"), /No flag registered for --constructor/);
  assert.match(await mistake("run", "--valueOf=1"), /No flag registered for --valueOf/);
  assert.match(await mistake("constructor"), /No command registered for `constructor`/);
  await mistake("--constructor");
});

Deno.test("a value is the next argument, or behind an equals sign where it looks like an option", async () => {
  const { config, kernel, stats } = await invocation(
    ..."run --kernel=a=b --append=--bare --vcpus=3 --stats -".split(" "),
  );
  assert.deepEqual([kernel, config.append, config.bareEl], ["a=b", "--bare", 0]);
  assert.deepEqual([config.vcpus, stats], [3, "-"]);
  for (const append of ["", "-- init", "-1", "a\nb", "help"]) {
    assert.equal((await invocation("run", "--append", append)).config.append, append);
  }
  assert.equal((await invocation("run", "--append=-x")).config.append, "-x");
  assert.match(await mistake("run", "--append", "--bare"), /--append but encountered --bare/);
});

Deno.test("some options may be given several times", async () => {
  const { config } = await invocation("run", "--fw-cfg", "opt/a=1", "--fw-cfg=opt/b=2");
  assert.deepEqual(config.devices?.fwCfg, [["opt/a", "1"], ["opt/b", "2"]]);
});

/** What is printed, which fits a terminal of 80 columns and has no escape sequences. */
async function printed(...args: string[]): Promise<{ text: string; code: number }> {
  const parsed = await parseCommandLine(args);
  assert.ok("text" in parsed);
  assert.doesNotMatch(parsed.text, /\p{Cc}(?<!\n)| $/mu);
  for (const line of parsed.text.split("\n")) assert.ok(line.length <= 80, line);
  return parsed;
}

Deno.test("help and version are printed and end well", async () => {
  const help = await printed("run", "--help");
  assert.equal(help.code, 0);
  assert.match(help.text, /Examples:/);
  assert.match(help.text, /Exit codes: 0 the guest powered off/);
  assert.deepEqual(await printed("help", "run"), help);
  assert.deepEqual(await printed("run", "--vcpus", "2", "-h"), help);
  assert.match(help.text, /^ +\[--bare\] +run the image/m);
  assert.match(help.text, /\[vhe\|nvhe, default = vhe\]/);
  assert.match(
    help.text,
    /^ +\[--threads\] +<n> workers.* \(not\n +deterministic\) \[default = 1\]/m,
  );
  assert.doesNotMatch(help.text, /--no-|--symbols/);
  assert.match((await printed("start", "--help")).text, /--symbols/);
  const overview = await printed("--help");
  assert.match(overview.text, /start +the dashboard/);
  assert.match(overview.text, /Exit codes/);
  assert.deepEqual(await printed("help"), overview);
  assert.deepEqual(await printed("-h"), overview);
  assert.deepEqual(await printed("--version"), { text: "0.1.0\n", code: 0 });
  assert.deepEqual(await printed(), { ...overview, code: 2 });
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
