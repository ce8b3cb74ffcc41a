/** How a region executes what {@link DirectAccess} describes. */
import { CpuLayout, sysregOffset } from "../arch/cpu_state.ts";
import { CNTKCTL, HCR } from "../arch/fields.ts";
import { R } from "../arch/sysregs.ts";
import { ACCESS_END, type DirectAccess, type VirtualTime } from "./direct_registers.ts";
import { RegionExits } from "./region_exits.ts";
import type { Graph } from "./region_graph.ts";
import { isRegister } from "./region_probe.ts";
import { BUDGET, CPU, PAGE, Temporaries } from "./region_registers.ts";
import { I32, type ValType } from "./wasm_assembler.ts";
import { EXIT } from "./wasm_frame.ts";
import type { ModuleAssembler } from "./wasm_module.ts";

const O = CpuLayout.offset;

/** What a module imports to access registers, and where virtual time is. */
export interface Accesses {
  /** Function indices. */
  readonly read: number;
  readonly write: number;
  readonly time: VirtualTime;
}

/** Declares the functions that a module of regions imports for accesses. To be called before anything is added. */
export function importAccesses(module: ModuleAssembler, time: VirtualTime): Accesses {
  const declare = (name: string) => module.import(name, [I32, I32, I32], [I32]);
  return { read: declare("readRegister"), write: declare("writeRegister"), time };
}

/** A region's exits, its accesses, and locals for what is in between. */
export abstract class RegionAccess extends RegionExits {
  protected readonly temporaries = new Temporaries(this.asm);

  constructor(graph: Graph, packer: number, readonly accesses: Accesses | undefined) {
    super(graph, packer);
  }

  abstract leave(code: number): void;
  abstract leaveRetired(code: number): void;
  temporary(type: ValType): number {
    return this.temporaries.take(type);
  }

  /**
   * Executes an access at `offset` of the page; `behind`: instructions that were taken off the budget with it. True:
   * control goes on behind it.
   */
  protected access(access: DirectAccess, offset: number, behind: number): true {
    const { accesses } = this;
    if (accesses === undefined) throw new RangeError("nothing surrounds the region");
    if (access.kind === "count") this.#count(access, accesses.time, behind);
    else {this.#call(
        access,
        access.kind === "read" ? accesses.read : accesses.write,
        offset,
        behind,
      );}
    return true;
  }

  /** CNTVCT_EL0 of a guest's EL1, and of its EL0 where that may read it: with the instruction at hand, as it is retired. */
  #count({ slot }: DirectAccess, { nsAt, givenAt, tickShift }: VirtualTime, behind: number): void {
    const { asm } = this;
    const field = (offset: number) => asm.get(CPU).mem("i32.load", offset);
    field(O.el).i32(1).op("i32.ne").if("level", false);
    field(O.el);
    field(sysregOffset(R.HCR_EL2)).i32(HCR.TGE).op("i32.and").op("i32.or");
    field(sysregOffset(R.CNTKCTL_EL1)).i32(CNTKCTL.EL0VCTEN).op("i32.and").op("i32.eqz");
    asm.op("i32.or").if("trapped", false);
    this.leave(EXIT.SLOW);
    asm.end().end();
    this.registers.set(slot, "x", () => {
      asm.i32(nsAt).mem("i64.load", 0);
      asm.i32(givenAt).mem("i32.load", 0).get(BUDGET).op("i32.sub").i32(behind).op("i32.sub");
      asm.op("i64.extend_i32_u").op("i64.add").i64(BigInt(tickShift)).op("i64.shr_u");
      asm.get(CPU).mem("i64.load", sysregOffset(R.CNTVOFF_EL2)).op("i64.sub");
    });
  }

  #call(access: DirectAccess, callee: number, offset: number, behind: number): void {
    const { asm } = this;
    const { kind, named, slot } = access;
    asm.get(CPU).get(BUDGET).i32(behind).op("i32.add").mem("i32.store", O.budget);
    asm.get(CPU).get(PAGE).i64(BigInt(offset)).op("i64.add").mem("i64.store", O.pc);
    if (kind === "write" && isRegister(slot)) {
      asm.get(CPU);
      this.registers.push(slot, "x");
      asm.mem("i64.store", slot);
    }
    asm.get(CPU).mem("i32.load", O.index).i32(named).i32(slot >>> 2).call(callee).set(this.code);
    asm.get(this.code).i32(ACCESS_END.LEFT).op("i32.eq").if("left", false);
    this.leave(EXIT.SLOW);
    asm.end();
    if (kind === "read") {
      this.registers.set(slot, "x", () => asm.get(CPU).mem("i64.load", slot));
    }
    asm.get(this.code).if("ended", kind === "write" ? undefined : false);
    asm.get(CPU).mem("i32.load", O.budget).i32(behind).op("i32.sub").set(BUDGET);
    asm.get(this.code).i32(ACCESS_END.IRQ).op("i32.eq").if("interrupt", false);
    this.leaveRetired(EXIT.IRQ);
    asm.end();
    // Whoever comes next looks at the budget.
    this.leaveRetired(EXIT.BRANCH);
    asm.end();
  }
}
