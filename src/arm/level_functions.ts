/** The functions of level_moves.ts and level_derived.ts for the CPUs of a machine, in one module. */
import type { SharedMemory } from "../base/memory.ts";
import type { Cpu } from "./arch/cpu_state.ts";
import { FunctionBody, I32 } from "./engine/wasm_assembler.ts";
import { instantiate, ModuleAssembler } from "./engine/wasm_module.ts";
import { deriveCode, FpTrapCode, InterruptsCode } from "./level_derived.ts";
import { EnterCode, LeaveCode } from "./level_moves.ts";
import { type ContextClock, type MemoPlace, recallCode } from "./mmu/context_memo.ts";
import type { Mmu } from "./mmu/mmu.ts";

/** `cpu` is the number of the CPU. Answers are bits of `LEFT` (level_code.ts), unless it is said otherwise. */
export interface LevelFunctions {
  /** Enters the exception `vector` at level `target` with that syndrome, or `NO_SYNDROME`; the return address is the PC plus `returnOffset`. */
  readonly enter: (
    cpu: number,
    target: number,
    vector: number,
    syndrome: number,
    returnOffset: number,
    how: number,
  ) => number;
  /** ERET from EL1 or EL2. With `HOW.ANYWAY` PSTATE.SS is clear then, and a tag is left in the PC. */
  readonly leave: (cpu: number, how: number) => number;
  /** Makes everything anew that is derived from the level and PSTATE. */
  readonly derive: (cpu: number, how: number) => number;
  /** Recomputes `checkIrq`: whether anything would be taken or stepped if PSTATE.DAIF were all clear. No answer. */
  readonly lookForInterrupts: (cpu: number) => void;
  /** Which of {@link FP_TRAP} an FP/SIMD access at the current level meets: that is its answer. */
  readonly fpTrap: (cpu: number) => number;
}

/** What each of {@link LevelFunctions} has behind the number of the CPU, and whether it has an answer. */
const SIGNATURES = {
  enter: [5, true],
  leave: [1, true],
  derive: [1, true],
  lookForInterrupts: [0, false],
  fpTrap: [0, true],
} as const;
type Name = keyof typeof SIGNATURES;

/** Adds one CPU's functions; the indices of those that are exported. */
function addFunctions(
  module: ModuleAssembler,
  place: MemoPlace,
  clock: ContextClock,
): Record<Name, number> {
  const { cpu } = place;
  const recall = module.add(recallCode(clock, place));
  const fpTrap = module.add(new FpTrapCode(cpu).write());
  const lookForInterrupts = module.add(new InterruptsCode(cpu).write());
  const derive = module.add(deriveCode(cpu, recall, fpTrap, lookForInterrupts));
  const enter = module.add(new EnterCode(cpu).write(derive));
  const leave = module.add(new LeaveCode(cpu).write(derive));
  return { enter, leave, derive, lookForInterrupts, fpTrap };
}

/** The exported function of that name: it goes on with the one of the CPU whose number it is given. */
function dispatch(name: Name, functions: readonly number[]): FunctionBody {
  const [parameters, answers] = SIGNATURES[name];
  const asm = new FunctionBody(new Array(parameters + 1).fill(I32), answers ? [I32] : []);
  const labels = functions.map((_, n) => `CPU ${n}`);
  for (const label of [...labels].reverse()) asm.block(label);
  asm.get(0).brTable(labels.slice(0, -1), labels.at(-1) as string);
  for (const index of functions) {
    asm.end();
    for (let n = 1; n <= parameters; n++) asm.get(n);
    asm.returnCall(index);
  }
  return asm;
}

function makeModule(
  pages: number,
  places: readonly MemoPlace[],
  clock: ContextClock,
): ModuleAssembler {
  const module = new ModuleAssembler(pages);
  const ofCpus = places.map((place) => addFunctions(module, place, clock));
  for (const name of Object.keys(SIGNATURES) as Name[]) {
    module.add(dispatch(name, ofCpus.map((of) => of[name])), name);
  }
  return module;
}

/**
 * The functions for these CPUs, by their numbers. One export serves all of them: V8 inlines the way to it where it has
 * always met the same.
 */
export function levelFunctions(
  { memory }: SharedMemory,
  mmu: Mmu,
  cpus: readonly Cpu[],
): LevelFunctions {
  const places = cpus.map((cpu) => mmu.memoPlace(cpu)), clock = mmu.contextClock;
  const name = ["levels", clock.clockAt, ...places.flatMap(({ cpu, memo }) => [cpu, memo])].join();
  const exports = instantiate(name, memory, (pages) => makeModule(pages, places, clock));
  return exports as unknown as LevelFunctions;
}
