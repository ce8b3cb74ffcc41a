/**
 * Regions to WebAssembly: one function for each, registers in locals, control flow as structure. All
 * regions that are translated together are one module; they call each other through the table they
 * share with the interpreter.
 */
import { CpuLayout } from "../arch/cpu_state.ts";
import { CODE_TLB, CODE_TLB_ENTRIES, CODE_TLB_ENTRY } from "../arch/tlb_layout.ts";
import { HANDLER, REGION_TYPE } from "./interpreter_module.ts";
import { RECORD, RECORD_REGIONS, RECORD_SIZE, REGION_ENTRY } from "./records.ts";
import type { VirtualTime } from "./direct_registers.ts";
import { importAccesses } from "./region_access.ts";
import { packFunction } from "./region_flags.ts";
import { MAX_STACK, RegionFrame } from "./region_frame.ts";
import type { Graph } from "./region_graph.ts";
import { BUDGET, CPU, STACK } from "./region_registers.ts";
import { FunctionBody, I32, I64 } from "./wasm_assembler.ts";
import { EXIT } from "./wasm_frame.ts";
import { ModuleAssembler } from "./wasm_module.ts";

const O = CpuLayout.offset;
const RECORD_SHIFT = Math.log2(RECORD_SIZE / 4);

/**
 * The function that goes on at an address, (CPU, budget, address, stack) -> EXIT: in the region that
 * begins there, or back in the interpreter.
 */
function dispatchBody(regionType: number): FunctionBody {
  const asm = new FunctionBody([I32, I32, I64, I32], [I32]);
  const [entry, records] = [asm.local(I32), asm.local(I32)];
  const TARGET = 2;
  asm.block("none");
  asm.get(STACK).i32(MAX_STACK).op("i32.gt_s").brIf("none");
  asm.get(CPU).mem("i32.load", O.codeTlb);
  asm.get(TARGET).i64(12n).op("i64.shr_u").op("i32.wrap_i64").i32(CODE_TLB_ENTRIES - 1)
    .op("i32.and").i32(Math.log2(CODE_TLB_ENTRY)).op("i32.shl").op("i32.add").tee(entry);
  asm.mem("i64.load", CODE_TLB.TAG).get(TARGET).i64(-4093n).op("i64.and").op("i64.ne")
    .brIf("none");
  asm.get(entry).mem("i32.load", CODE_TLB.RECORDS).set(records);
  asm.get(TARGET).op("i32.wrap_i64").i32(0xffc).op("i32.and").set(entry);
  asm.get(records).get(entry).i32(RECORD_SHIFT).op("i32.shl").op("i32.add")
    .mem("i32.load16_u", RECORD.HANDLER).i32(HANDLER.REGION).op("i32.ne").brIf("none");
  asm.get(CPU).get(BUDGET).get(TARGET).i64(-4096n).op("i64.and").get(STACK);
  asm.get(records).get(entry).op("i32.add")
    .mem("i32.load16_u", RECORD_REGIONS + REGION_ENTRY.PLACE);
  asm.returnCallIndirect(regionType, 0);
  asm.end();
  asm.get(CPU).get(TARGET).mem("i64.store", O.pc);
  asm.get(CPU).get(BUDGET).mem("i32.store", O.budget);
  asm.i32(EXIT.BRANCH);
  return asm;
}

/** A region to be written: its graph, whose records it is made from, and whether its accesses must be aligned. */
export interface Unit {
  readonly graph: Graph;
  readonly records: number;
  readonly aligned: boolean;
  /** FP is enabled, FPCR 0 and FPSR.IXC set. */
  readonly usualFp: boolean;
  /** Many accesses are misaligned. */
  readonly misaligned: boolean;
}

/** Whether the region has anything to do with floating point. */
export function usesFp({ nodes }: Graph): boolean {
  for (const { block } of nodes.values()) {
    if (block.steps.some((step) => step.effects.usesFp)) return true;
  }
  return false;
}

/**
 * The bytes of a module with a function for each unit, exported as `r0`, `r1` and so on. `parallel`: other
 * threads access the memory meanwhile. `time`: there is what accesses of registers want.
 */
export function regionModule(
  units: readonly Unit[],
  memoryPages: number,
  parallel = false,
  time?: VirtualTime,
): Uint8Array<ArrayBuffer> {
  const module = new ModuleAssembler(memoryPages, true);
  const accesses = time && importAccesses(module, time);
  const dispatch = module.add(dispatchBody(module.type(REGION_TYPE.params, REGION_TYPE.results)));
  const packer = module.add(packFunction());
  const misalignments = module.global(I32);
  units.forEach(({ graph, records, aligned, usualFp, misaligned }, i) => {
    const direct = (target: number) => {
      const at = units.findIndex((u) =>
        u.records === records && u.aligned === aligned && u.graph.offset === target
      );
      return at < 0 ? undefined : packer + 1 + at;
    };
    const fp = usualFp && usesFp(graph);
    const count = misaligned ? undefined : misalignments;
    const frame = new RegionFrame(
      graph,
      module,
      dispatch,
      packer,
      aligned,
      fp,
      direct,
      parallel,
      count,
      accesses,
    );
    module.add(frame.generate(), `r${i}`);
  });
  return module.bytes();
}
