/** Single parts of the engine: the reference evaluator, TLB fills, what start-up consists of. */
import sieveImage from "../fixtures/bench/sieve_small.bin" with { type: "bytes" };
import { InterpreterCode } from "../src/arm/engine/interpreter.ts";
import { ACCESS } from "../src/arm/arch/tlb_layout.ts";
import { BOARD, Machine } from "../src/arm/machine.ts";
import { ROWS } from "../src/arm/isa/table.ts";
import { WASM_PAGE } from "../src/base/memory.ts";
import { bootBare, RAM_SIZE } from "./bare_image.ts";
import { type Bench, type Report, yardstick } from "./harness.ts";

/** Instructions after which sieve has its MMU on and is in its main loop. */
const WARM_UP = 2_000_000;

function sieveRunning(): Machine {
  const { machine } = bootBare(sieveImage, () => {});
  machine.run(WARM_UP);
  return machine;
}

async function execution(report: Report): Promise<void> {
  const machine = sieveRunning();
  const core = machine.cores[0];
  if (!core) return;
  const insns = 5_000_000, evaluated = 50_000;
  await report.compare("one instruction after the other, in sieve", 5, [
    {
      name: "interpreter",
      work: insns,
      unit: "insns",
      run: () => void machine.run(insns),
    },
    {
      name: `evaluator (1/${insns / evaluated} of the work)`,
      work: evaluated,
      unit: "insns",
      run: () => {
        for (let i = 0; i < evaluated; i++) core.executeSlow();
      },
    },
  ]);
}

async function tlbFill(report: Report): Promise<void> {
  const machine = sieveRunning();
  const cpu = machine.platform.cpus[0];
  const { mmu } = machine.platform;
  if (!cpu) return;
  const pages = 8192;
  await report.compare("data TLB", 5, [yardstick(), {
    name: "fill from a three-level stage 1 walk",
    work: pages,
    unit: "fills",
    run: () => {
      for (let i = 0; i < pages; i++) {
        mmu.fillData(cpu, BOARD.ram + 4096 * i, 0, ACCESS.READ, 8, false);
      }
    },
  }]);
}

async function startUp(report: Report): Promise<void> {
  await report.compare("start-up", 5, [
    yardstick(),
    {
      name: "InterpreterCode: rows to compiled WebAssembly",
      run: () => void new InterpreterCode(ROWS, RAM_SIZE / WASM_PAGE),
    },
    {
      name: "Machine, 4 CPUs, 128 MiB, compiled code shared",
      run: () => void new Machine({ pcpus: 4, ramSize: RAM_SIZE }),
    },
    {
      name: "bare machine with an image loaded, 10,000 insns",
      run: () => void bootBare(sieveImage, () => {}).machine.run(10_000),
    },
  ]);
}

export const engine: Bench = {
  name: "engine",
  run: async (report) => {
    await execution(report);
    await tlbFill(report);
    await startUp(report);
  },
};
