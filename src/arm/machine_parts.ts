/** The parts of a machine, made in the order in which they lie in its memory. */
import type { Arena } from "../base/arena.ts";
import { type SharedMemory, WASM_PAGE } from "../base/memory.ts";
import { type Cpu, CpuLayout } from "./arch/cpu_state.ts";
import type { RamRange } from "./arch/tlb_layout.ts";
import { placeGic } from "./board.ts";
import { Bus } from "./bus.ts";
import { Clock } from "./clock.ts";
import { Interpreter, InterpreterCode } from "./engine/interpreter.ts";
import { RECORD_PAGE_SIZE } from "./engine/records.ts";
import { TurnLayout, turnsAt } from "./engine/turn_loop.ts";
import { GenericTimer } from "./generic_timer.ts";
import { type CoreModel, coreModel } from "./id_registers.ts";
import type { MachineOptions } from "./machine_options.ts";
import { Mmu } from "./mmu/mmu.ts";
import { hostClock } from "./parallel/team_machine.ts";
import type { Hooks, Platform } from "./parts.ts";

/** Where a machine's parts lie, and whom they call. */
export interface MachinePlace {
  readonly memory: SharedMemory;
  readonly ram: RamRange;
  readonly arena: Arena;
  readonly cacheArena: Arena;
  readonly hooks: Hooks;
}

/**
 * Compiled interpreters by model and memory size in WebAssembly pages: making one costs more than all
 * the rest of a machine.
 */
const INTERPRETERS = new Map<string, InterpreterCode>();

function interpreterCode(model: CoreModel, pages: number, parallel: boolean): InterpreterCode {
  const key = `${model.name} ${pages} ${parallel}`;
  const known = INTERPRETERS.get(key);
  if (known) return known;
  const code = new InterpreterCode(model.rows, pages, parallel);
  INTERPRETERS.set(key, code);
  return code;
}

/** The interpreter of a machine, with `codePages` pages of predecoded code: each worker has its own. */
export function makeInterpreter(
  { memory, cacheArena }: MachinePlace,
  options: MachineOptions,
  model: CoreModel,
  codePages: number,
): Interpreter {
  const { team } = options;
  const code = interpreterCode(model, memory.size / WASM_PAGE, team !== undefined);
  const { worker = 0, workers = 1 } = team ?? {};
  cacheArena.reserve(worker * codePages * RECORD_PAGE_SIZE, 64);
  const made = new Interpreter(code, memory, cacheArena, codePages, options.regions);
  cacheArena.reserve((workers - 1 - worker) * codePages * RECORD_PAGE_SIZE, 64);
  return made;
}

/** What CPUs, interrupt controller, timers and MMU are; the cores are yet to come. */
export function makePlatform(place: MachinePlace, options: MachineOptions): Platform {
  const { memory, ram, arena, cacheArena, hooks } = place;
  const { pcpus, lrs = 4, team } = options;
  const model = coreModel(options.cpu ?? "max");
  const cpus = Array.from({ length: pcpus }, (_, index) => makeCpu(arena, index));
  const sliceAt = turnsAt(team) + TurnLayout.offset.sliceCpu;
  const clock = new Clock(arena, team && hostClock(team), sliceAt);
  const bus = new Bus();
  const gic = placeGic(bus, options.gic ?? 3, memory, arena, {
    cpus,
    lrs,
    endSlice: (cpu) => hooks.onEndSlice(cpus[cpu] as Cpu, true),
  });
  const timer = new GenericTimer(
    arena,
    cpus,
    clock,
    (cpu, intid, level) => gic.setPpi(cpu, intid, level),
  );
  const mmu = new Mmu(memory, ram, cacheArena, pcpus, {
    xnx: model.features.has("FEAT_XNX"),
    parallel: team !== undefined,
  });
  return {
    memory,
    ram,
    mmu,
    gic,
    clock,
    timer,
    bus,
    hooks,
    model,
    cores: [],
    cpus,
    hostAtEl2: false,
  };
}

function makeCpu(arena: Arena, index: number): Cpu {
  const cpu = arena.make(CpuLayout);
  cpu.index = index;
  // 16 CPUs share Aff1; bit 31 is RES1.
  cpu.mpidr = 0x8000_0000 + (Math.floor(index / 16) << 8) + (index % 16);
  return cpu;
}
