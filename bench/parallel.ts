/**
 * CPUs in parallel: four busy vCPUs on two physical CPUs, run by one worker and by two. Start-up is left out:
 * it is the guest's work that counts, from its first instruction to power off.
 */
import { parseCommandLine } from "../src/vmm/command_line.ts";
import { loadGuest } from "../src/vmm/load.ts";
import { Runner } from "../src/vmm/runner.ts";
import type { Bench, Report } from "./harness.ts";

/** vCPU 0 starts the others; each counts down from 1.2 billion; the last of all is waited for. */
const PROGRAM = Uint32Array.of(
  0xd2800034, // mov x20, #0x1
  0x52800060, // mov w0, #0x3
  0x72b88000, // movk w0, #0xc400, lsl #16
  0xaa1403e1, // mov x1, x20
  0x100000c2, // adr x2, 28 <work>
  0xaa1403e3, // mov x3, x20
  0xd4000002, // hvc #0x0
  0x91000694, // add x20, x20, #0x1
  0xf100129f, // cmp x20, #0x4
  0x54ffff01, // b.ne 4 <work-0x24>
  0xd2909004, // work: mov x4, #0x8480
  0xf2a90004, // movk x4, #0x4800, lsl #16
  0x8b0400a5, // add x5, x5, x4
  0xca040ca5, // eor x5, x5, x4, lsl #3
  0xf1000484, // subs x4, x4, #0x1
  0x54ffffa1, // b.ne 30
  0x10000226, // adr x6, 84 <count>
  0x885ffcc7, // ldaxr w7, [x6]
  0x110004e7, // add w7, w7, #0x1
  0x8808fcc7, // stlxr w8, w7, [x6]
  0x35ffffa8, // cbnz w8, 44 <work+0x1c>
  0xd53800a9, // mrs x9, mpidr_el1
  0x92401d29, // and x9, x9, #0xff
  0xb5000109, // cbnz x9, 7c <park>
  0xd503203f, // yield
  0x88dffcc7, // ldar w7, [x6]
  0x710010ff, // cmp w7, #0x4
  0x54ffffa1, // b.ne 60 <work+0x38>
  0x52800100, // mov w0, #0x8
  0x72b08000, // movk w0, #0x8400, lsl #16
  0xd4000002, // hvc #0x0
  0xd503207f, // park: wfi
  0x17ffffff, // b 7c <park>
  0x00000000, // count: .word 0
);
const VCPUS = 4;
/** Instructions of all vCPUs. */
const INSNS = VCPUS * 4 * 0x4800_8480;

async function run(threads: number): Promise<void> {
  const invocation = await parseCommandLine(
    ["run", "--vcpus", `${VCPUS}`, "--pcpus", "2", "--memory", "64M", "--threads", `${threads}`],
  );
  if ("text" in invocation) throw new Error(invocation.text);
  const bytes = new Uint8Array(PROGRAM.buffer);
  const images = { kernel: { name: "count down", bytes }, initrd: undefined };
  const guest = await loadGuest(invocation.config, images, () => {});
  const runner = new Runner(guest, { forNs: Infinity });
  started = performance.now();
  let ending = runner.chunk();
  while (ending === undefined) ending = runner.chunk();
  if (ending === "stalled") throw new Error("the guest is stalled");
  guest.close?.();
  if (ending.reason !== "power off") throw new Error(ending.reason);
}

/** When the last guest has begun. */
let started = 0;

/** Medians in ms of interleaved rounds. */
async function times(rounds: number): Promise<readonly number[]> {
  const all: number[][] = [[], []];
  for (let round = 0; round < rounds; round++) {
    for (const [i, of] of all.entries()) {
      await run(i + 1);
      of.push(performance.now() - started);
    }
  }
  return all.map((of) => of.toSorted((a, b) => a - b)[rounds >> 1] as number);
}

export const parallel: Bench = {
  name: "parallel",
  run: async (report: Report) => {
    report.print(`\n${VCPUS} busy vCPUs on 2 physical CPUs (median of ${report.rounds})`);
    const [one = NaN, two = NaN] = await times(report.rounds);
    report.figure({ name: "one worker", value: INSNS / one / 1e3, unit: "M insns/s" });
    report.figure({ name: "--threads 2", value: INSNS / two / 1e3, unit: "M insns/s" });
    report.figure({
      name: "--threads 2 to one worker",
      value: one / two,
      unit: "x",
      must: { least: 1.7 },
    });
  },
};
