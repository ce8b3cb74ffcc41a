/**
 * What is derived from the level, PSTATE and registers for the instructions to come, as WebAssembly (level_code.ts).
 * Source: Arm Architecture Reference Manual (DDI 0487), pseudocode AArch64.CheckFPAdvSIMDTrap, the asynchronous
 * exception routing tables.
 */
import { CHECK, CpuLayout, LINE } from "./arch/cpu_state.ts";
import { MDSCR } from "./arch/debug_registers.ts";
import { CPTR, HCR, HCR_HI } from "./arch/fields.ts";
import { type FunctionBody, I32 } from "./engine/wasm_assembler.ts";
import { deriveSingle, FP_TRAP, HOW, LevelCode } from "./level_code.ts";

const C = CpuLayout.offset;

/** {@link LevelFunctions.derive}. */
export function deriveCode(
  cpu: number,
  recall: number,
  fpTrap: number,
  lookForInterrupts: number,
): FunctionBody {
  const code = new LevelCode(cpu, 1);
  const { asm } = code;
  const left = asm.local(I32);
  asm.call(recall).op("i32.eqz").set(left);
  code.store(C.fpEnabled, () => asm.call(fpTrap).op("i32.eqz"));
  code.load(C.el).i32(2).op("i32.eq");
  code.has(0, HOW.HOSTED).op("i32.and").op("i32.eqz").if("interrupts");
  asm.call(lookForInterrupts).end();
  deriveSingle(code, left);
  return asm.get(left);
}

/** Of CPACR_EL1, and of CPTR_EL2 with HCR_EL2.E2H set. */
const FPEN_SHIFT = 20;

/** {@link LevelFunctions.fpTrap}: CPACR_EL1 first, then CPTR_EL2. */
export class FpTrapCode extends LevelCode {
  readonly #el = this.asm.local(I32);
  readonly #tge = this.asm.local(I32);
  readonly #e2h = this.asm.local(I32);
  readonly #control = this.asm.local(I32);

  constructor(cpu: number) {
    super(cpu, 0);
  }

  write(): FunctionBody {
    const { asm } = this;
    this.load(C.el).set(this.#el);
    this.lo("HCR_EL2");
    this.any(HCR.TGE).set(this.#tge);
    this.hi("HCR_EL2");
    this.any(HCR_HI.E2H).set(this.#e2h);
    // EL1, and EL0 unless it belongs to EL2's regime.
    asm.get(this.#el).i32(1).op("i32.eq");
    asm.get(this.#tge).get(this.#e2h).op("i32.and").op("i32.eqz");
    asm.get(this.#el).op("i32.eqz").op("i32.and").op("i32.or").if("CPACR");
    this.#open("CPACR_EL1");
    asm.op("i32.eqz");
    this.#isHalfOpen();
    asm.get(this.#el).op("i32.eqz").op("i32.and").op("i32.or").if("trapped");
    asm.i32(FP_TRAP.EL2_UNKNOWN).i32(FP_TRAP.EL1).get(this.#tge).op("select").return();
    asm.end().end();
    this.#cptr();
    return asm.i32(FP_TRAP.EL2).op("i32.mul");
  }

  /** Bit 0 of the register's FPEN, and the register in the local. */
  #open(name: "CPACR_EL1" | "CPTR_EL2"): void {
    this.lo(name).set(this.#control);
    this.has(this.#control, 1 << FPEN_SHIFT);
  }
  /** FPEN is 0b01: not at EL0. */
  #isHalfOpen(): void {
    const { asm } = this;
    asm.get(this.#control).i32(FPEN_SHIFT).op("i32.shr_u").i32(3).op("i32.and");
    asm.i32(1).op("i32.eq");
  }

  /** Whether CPTR_EL2 traps: TFP, or with E2H set FPEN. */
  #cptr(): void {
    const { asm } = this;
    asm.get(this.#e2h).op("i32.eqz").if("TFP");
    this.lo("CPTR_EL2");
    this.any(CPTR.TFP).i32(FP_TRAP.EL2).op("i32.mul").return();
    asm.end();
    this.#open("CPTR_EL2");
    asm.op("i32.eqz");
    asm.get(this.#el).i32(1).op("i32.eq").get(this.#tge).op("i32.and").op("i32.eqz");
    asm.op("i32.and");
    this.#isHalfOpen();
    asm.get(this.#el).op("i32.eqz").op("i32.and").get(this.#tge).op("i32.and").op("i32.or");
  }
}

const PHYSICAL = LINE.IRQ | LINE.FIQ | LINE.SERROR;
/** What software makes pending by HCR_EL2 itself. */
const VIRTUAL_BITS = HCR.VI | HCR.VF | HCR.VSE;

/** {@link LevelFunctions.lookForInterrupts}. */
export class InterruptsCode extends LevelCode {
  readonly #lines = this.asm.local(I32);
  readonly #hcr = this.asm.local(I32);
  readonly #check = this.asm.local(I32);

  constructor(cpu: number) {
    super(cpu, 0, false);
  }

  write(): FunctionBody {
    const { asm } = this;
    this.load(C.irqLines).set(this.#lines);
    this.lo("HCR_EL2").set(this.#hcr);
    this.lo("MDSCR_EL1");
    this.any(MDSCR.SS).i32(CHECK.STEP).op("i32.mul").set(this.#check);
    asm.block("none").block("some");
    asm.get(this.#lines).get(this.#hcr).i32(VIRTUAL_BITS).op("i32.and").op("i32.or");
    asm.op("i32.eqz").brIf("none");
    this.load(C.el).i32(2).op("i32.ge_u").if("EL2");
    for (const [line, route] of ROUTES) {
      this.has(this.#lines, line);
      this.has(this.#hcr, HCR.TGE | route).op("i32.and").brIf("some");
    }
    asm.br("none").end();
    this.has(this.#lines, PHYSICAL).brIf("some");
    this.has(this.#hcr, HCR.TGE).brIf("none");
    for (const [route, bit, line] of VIRTUAL) {
      this.has(this.#hcr, bit);
      this.has(this.#lines, line).op("i32.or");
      this.has(this.#hcr, route).op("i32.and").brIf("some");
    }
    asm.br("none").end();
    asm.get(this.#check).i32(CHECK.INTERRUPT).op("i32.or").set(this.#check);
    asm.end();
    this.store(C.checkIrq, () => asm.get(this.#check));
    return asm;
  }
}
/** What routes a line to EL2, besides TGE. */
const ROUTES = [[LINE.IRQ, HCR.IMO], [LINE.FIQ, HCR.FMO], [LINE.SERROR, HCR.AMO]] as const;
/** What enables a virtual interrupt, and what makes it pending: a bit of HCR_EL2, a line. */
const VIRTUAL = [
  [HCR.IMO, HCR.VI, LINE.VIRQ],
  [HCR.FMO, HCR.VF, LINE.VFIQ],
  [HCR.AMO, HCR.VSE, 0],
] as const;
