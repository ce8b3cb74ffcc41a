/**
 * Exception entry and return as WebAssembly (level_code.ts). Source: Arm Architecture Reference Manual (DDI 0487),
 * pseudocode AArch64.TakeException, AArch64.ExceptionReturn, IllegalExceptionReturn.
 */
import { CpuLayout, DAIF, gprOffset, SLOT, sysregOffset } from "./arch/cpu_state.ts";
import { HCR, HCR_HI, SCTLR, SPSR } from "./arch/fields.ts";
import { R } from "./arch/sysregs.ts";
import { type FunctionBody, I32, I64 } from "./engine/wasm_assembler.ts";
import { deriveSingle, HOW, LEFT, LevelCode, NO_SYNDROME } from "./level_code.ts";

const C = CpuLayout.offset;
const PC_HI = C.pc + 4, SP = gprOffset(SLOT.SP);

/** What a level has for the exceptions that it takes. */
const BANKS = {
  1: { spsr: R.SPSR_EL1, elr: R.ELR_EL1, esr: R.ESR_EL1, vbar: R.VBAR_EL1 },
  2: { spsr: R.SPSR_EL2, elr: R.ELR_EL2, esr: R.ESR_EL2, vbar: R.VBAR_EL2 },
} as const;
const VBAR_MASK = ~0x7ffn;

/** Where each level's stack pointer is while it is not the one in use. */
const STACKS = [R.SP_EL0, R.SP_EL1, R.SP_EL2].map(sysregOffset);

/** What entry and return share: level, stack and what follows from them. */
class MoveCode extends LevelCode {
  protected readonly from = this.asm.local(I32);
  protected readonly spsel = this.asm.local(I32);
  /** Which of {@link STACKS} the stack pointer in use is. */
  readonly #bank = this.asm.local(I32);
  /** Whether the level, PAN or UAO is another. */
  protected readonly changes = this.asm.local(I32);
  readonly #left = this.asm.local(I32);

  protected begin(): void {
    this.load(C.el).set(this.from);
    this.load(C.spsel).set(this.spsel);
    this.#pushBank(this.from, this.spsel);
    this.asm.set(this.#bank);
  }

  /** Leaves it to the caller where the number on the stack is not 0, unless it is to be done anyway. */
  protected leaveAll(how: number): void {
    const { asm } = this;
    asm.if("unusual", false);
    this.has(how, HOW.ANYWAY).op("i32.eqz").if("all");
    asm.i32(LEFT.ALL).return().end().end();
  }

  #pushBank(el: number, spsel: number): FunctionBody {
    return this.asm.get(el).i32(0).get(spsel).op("select");
  }

  /** One of {@link STACKS} is the stack pointer in use from now on. */
  protected takeStack(bank: number): void {
    this.asm.get(this.#bank).i32(bank).op("i32.ne").if("other");
    this.#leaveStack();
    this.copy64(STACKS[bank] as number, SP);
    this.asm.end();
  }

  #leaveStack(): void {
    this.#byStack(this.#bank, (offset) => this.copy64(SP, offset));
  }

  #byStack(bank: number, write: (offset: number) => void): void {
    const { asm } = this;
    const [sp0, sp1, sp2] = STACKS as [number, number, number];
    asm.get(bank).i32(1).op("i32.eq").if("SP_EL1");
    write(sp1);
    asm.else();
    asm.get(bank).if("SP_EL2");
    write(sp2);
    asm.else();
    write(sp0);
    asm.end().end();
  }

  /** The same for the stack of the level and the SPSel of two locals. */
  protected switchStack(el: number, spsel: number): void {
    const { asm } = this;
    const bank = asm.local(I32);
    this.#pushBank(el, spsel).tee(bank).get(this.#bank).op("i32.ne").if("other");
    this.#leaveStack();
    this.#byStack(bank, (offset) => this.copy64(offset, SP));
    asm.end();
  }

  /**
   * What is derived is made anew, if the CPU will execute instructions at the level of the local `to`. Where neither
   * the level nor PAN nor UAO changes, it is right as it is, but for stepping.
   */
  protected end(to: number, how: number, derive: number): FunctionBody {
    const { asm } = this;
    asm.get(to).i32(2).op("i32.eq");
    this.has(how, HOW.HOSTED).op("i32.and").op("i32.eqz").if("derived");
    asm.get(this.changes).if("changes");
    asm.get(how).call(derive).set(this.#left);
    asm.else();
    deriveSingle(this, this.#left);
    asm.end().end();
    this.copy(C.fetchUncached, C.codeUnsure);
    return asm.get(this.#left);
  }
}

/** {@link LevelFunctions.enter}. */
export class EnterCode extends MoveCode {
  readonly #target = 0;
  readonly #vector = 1;
  readonly #syndrome = 2;
  readonly #returnOffset = 3;
  readonly #how = 4;
  readonly #spsr = this.asm.local(I32);
  readonly #pan = this.asm.local(I32);

  constructor(cpu: number) {
    super(cpu, 5);
  }

  write(derive: number): FunctionBody {
    const { asm } = this;
    this.load(C.pmuActive);
    this.load(PC_HI);
    this.tagged().op("i32.or");
    this.leaveAll(this.#how);
    this.begin();
    this.#pack();
    this.#findVector();
    asm.get(this.#target).i32(1).op("i32.eq").if("EL1");
    this.#moveTo(1);
    asm.else();
    this.#moveTo(2);
    asm.end();
    this.#setPstate();
    return this.end(this.#target, this.#how, derive);
  }

  /** PSTATE as SPSR_ELx. */
  #pack(): void {
    const { asm } = this;
    asm.get(this.spsel);
    asm.get(this.from).i32(SPSR.EL_SHIFT).op("i32.shl").op("i32.or");
    const FIELDS = [
      [C.nzcv, SPSR.NZCV_SHIFT],
      [C.daif, SPSR.DAIF_SHIFT],
      [C.il, SPSR.IL_SHIFT],
      [C.ss, SPSR.SS_SHIFT],
      [C.pan, SPSR.PAN_SHIFT],
      [C.uao, SPSR.UAO_SHIFT],
      [C.dit, SPSR.DIT_SHIFT],
    ] as const;
    for (const [offset, shift] of FIELDS) {
      this.load(offset).i32(shift).op("i32.shl").op("i32.or");
    }
    asm.set(this.#spsr);
  }

  /** The group of vectors by where the exception comes from: a lower level, SP_ELx, SP_EL0. */
  #findVector(): void {
    const { asm } = this;
    asm.get(this.#vector);
    asm.i32(0x400);
    asm.get(this.spsel).i32(Math.log2(0x200)).op("i32.shl");
    asm.get(this.from).get(this.#target).op("i32.ne").op("select");
    asm.op("i32.add").set(this.#vector);
  }

  /** SPSR, ELR and ESR of the level, its vector and its stack, and whether it sets PAN. */
  #moveTo(level: 1 | 2): void {
    const { asm } = this, bank = BANKS[level];
    const word = (local: number) => asm.get(local).op("i64.extend_i32_u");
    this.store64(sysregOffset(bank.spsr), () => word(this.#spsr));
    this.store64(sysregOffset(bank.elr), () => {
      this.load64(C.pc);
      word(this.#returnOffset).op("i64.add");
    });
    asm.get(this.#syndrome).i32(NO_SYNDROME).op("i32.ne").if("syndrome");
    this.store64(sysregOffset(bank.esr), () => word(this.#syndrome));
    asm.end();
    this.store64(C.pc, () => {
      this.load64(sysregOffset(bank.vbar)).i64(VBAR_MASK).op("i64.and");
      word(this.#vector).op("i64.add");
    });
    this.put(C.el, level);
    this.put(C.spsel, 1);
    this.takeStack(level);
    this.lo(level === 1 ? "SCTLR_EL1" : "SCTLR_EL2").i32(SCTLR.SPAN).op("i32.and").op("i32.eqz");
    if (level === 2) {
      this.lo("HCR_EL2");
      this.any(HCR.TGE).op("i32.and");
      this.hi("HCR_EL2");
      this.any(HCR_HI.E2H).op("i32.and");
    }
    asm.set(this.#pan);
  }

  #setPstate(): void {
    const { asm } = this;
    this.load(C.pan).op("i32.eqz").get(this.#pan).op("i32.and").tee(this.changes);
    asm.if("pan");
    this.put(C.pan, 1);
    asm.end();
    asm.get(this.changes).get(this.from).get(this.#target).op("i32.ne").op("i32.or");
    this.load(C.uao).op("i32.or").set(this.changes);
    this.put(C.daif, DAIF.D | DAIF.A | DAIF.I | DAIF.F);
    for (const offset of [C.uao, C.dit, C.il, C.ss, C.stepped]) this.put(offset, 0);
  }
}

/** {@link LevelFunctions.leave}. */
export class LeaveCode extends MoveCode {
  readonly #how = 0;
  readonly #spsr = this.asm.local(I32);
  readonly #elr = this.asm.local(I64);
  readonly #to = this.asm.local(I32);
  readonly #illegal = this.asm.local(I32);
  readonly #newSpsel = this.asm.local(I32);

  constructor(cpu: number) {
    super(cpu, 1);
  }

  write(derive: number): FunctionBody {
    const { asm } = this;
    this.begin();
    asm.get(this.from).i32(1).op("i32.eq").if("EL1");
    this.#look(1);
    asm.else();
    this.#look(2);
    asm.end();
    this.load(C.pmuActive);
    asm.get(this.#spsr).i32(SPSR.SS).op("i32.and").op("i32.or");
    asm.get(this.#elr).i64(32n).op("i64.shr_u").op("i32.wrap_i64");
    this.tagged().op("i32.or");
    this.leaveAll(this.#how);
    this.#findLevel();
    this.#setPstate();
    this.store64(C.pc, () => asm.get(this.#elr));
    this.put(C.monitorOpen, 0);
    this.put(C.eventRegister, 1);
    return this.end(this.#to, this.#how, derive);
  }

  #look(level: 1 | 2): void {
    const bank = BANKS[level];
    this.load(sysregOffset(bank.spsr)).set(this.#spsr);
    this.load64(sysregOffset(bank.elr)).set(this.#elr);
  }

  /** To where: the level that it comes from, where the return is illegal. */
  #findLevel(): void {
    const { asm } = this;
    asm.get(this.#spsr).i32(SPSR.EL_SHIFT).op("i32.shr_u").i32(3).op("i32.and").set(this.#to);
    asm.get(this.#spsr).i32(1).op("i32.and").set(this.#newSpsel);
    this.#isIllegal();
    asm.tee(this.#illegal).if("illegal", false);
    asm.get(this.from).set(this.#to);
    asm.else();
    this.store(C.el, () => asm.get(this.#to));
    this.store(C.spsel, () => asm.get(this.#newSpsel));
    this.switchStack(this.#to, this.#newSpsel);
    asm.end();
  }

  #isIllegal(): void {
    const { asm } = this;
    // AArch32, and modes with bit 1 set, which are none.
    this.has(this.#spsr, SPSR.NRW | 2);
    asm.get(this.#to).get(this.from).op("i32.gt_u").op("i32.or");
    asm.get(this.#to).op("i32.eqz").get(this.#newSpsel).op("i32.and").op("i32.or");
    asm.get(this.#to).i32(1).op("i32.eq");
    this.lo("HCR_EL2");
    this.any(HCR.TGE).op("i32.and").op("i32.or");
  }

  #bits(shift: number, mask: number): FunctionBody {
    return this.asm.get(this.#spsr).i32(shift).op("i32.shr_u").i32(mask).op("i32.and");
  }

  #setPstate(): void {
    const { asm } = this;
    asm.get(this.from).get(this.#to).op("i32.ne");
    this.load(C.pan);
    this.#bits(SPSR.PAN_SHIFT, 1).op("i32.ne").op("i32.or");
    this.load(C.uao);
    this.#bits(SPSR.UAO_SHIFT, 1).op("i32.ne").op("i32.or").set(this.changes);
    const FIELDS = [
      [C.pan, SPSR.PAN_SHIFT, 1],
      [C.uao, SPSR.UAO_SHIFT, 1],
      [C.dit, SPSR.DIT_SHIFT, 1],
      [C.nzcv, SPSR.NZCV_SHIFT, 15],
      [C.daif, SPSR.DAIF_SHIFT, 15],
    ] as const;
    for (const [offset, shift, mask] of FIELDS) {
      this.store(offset, () => this.#bits(shift, mask));
    }
    this.store(C.il, () => this.#bits(SPSR.IL_SHIFT, 1).get(this.#illegal).op("i32.or"));
    this.put(C.ss, 0);
  }
}
