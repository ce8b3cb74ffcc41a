/**
 * Turns of CPUs that execute nothing but generated code, as one WebAssembly function beside the interpreter:
 * with short turns, what TypeScript does between two of them costs more than their instructions. The function
 * begins a turn, runs it, ends it and goes on with the next CPU, and with the next round, for as long as no
 * turn is out of the ordinary; the run loop (turns.ts) takes those. What both do is the
 * same bit for bit.
 */
import { array, layout, u32, u64 } from "../../base/struct.ts";
import { CHECK, CpuLayout, sysregOffset } from "../arch/cpu_state.ts";
import { HCR } from "../arch/fields.ts";
import { R } from "../arch/sysregs.ts";
import { FunctionBody, I32, I64 } from "./wasm_assembler.ts";
import { EXIT } from "./wasm_frame.ts";

const MAX_CPUS = 16;

/** The slice that runs: the address of its CPU's state, or 0, and how many instructions it was given. */
export const SliceLayout = layout("slice", { cpu: u32("cache"), budget: u32("cache") });

/** What the function works on; addresses are of bytes in the memory. */
export const TurnLayout = layout("turns", {
  /** A {@link SliceLayout}. */
  sliceCpu: u32("cache"),
  sliceBudget: u32("cache"),
  /** How many CPUs there are, and their states' addresses. */
  count: u32("cache"),
  cpus: array("u32", MAX_CPUS, "cache"),
  /** Where the machine counts instructions and turns, and has its power event; where the clock has its time. */
  insns: u32("cache"),
  turns: u32("cache"),
  power: u32("cache"),
  ns: u32("cache"),
  /** Instructions of a turn. */
  quantum: u32("cache"),
  /** The level of a host that is not made of instructions, 1 or 2; 0: there is none. */
  hostEl: u32("cache"),
  /** Not 0: other CPUs' turns may write what one has reserved. */
  several: u32("cache"),
  /** Not 0: each slice ends with {@link TURN.TIMERS}. */
  pause: u32("cache"),
  /** Not 0 once a CPU has had something to do in this round. */
  progress: u32("cache"),
  /** With {@link TURN.OTHER} and {@link TURN.EXIT}: how long the turn is, in ns. */
  given: u32("cache"),
  /** With {@link TURN.EXIT}: why generated code was left. */
  exit: u32("cache"),
  /** In ns: where the run ends, and when timers are next to be looked at. */
  limit: u64("cache"),
  deadline: u64("cache"),
  /** Instructions retired by all CPUs at which no other round is begun. */
  end: u64("cache"),
  /** The turn at hand, or the last: the address of its CPU's state. */
  turnOf: u32("cache"),
  /** In ns, the low word: when it is over, which is less than 2^31 away. */
  turnEnd: u32("cache"),
  /** The low word of `insns` when it began. */
  before: u32("cache"),
  /** Not 0: it ends when its CPU comes to EL2. {@link OVER} says why; that of each turn when it begins. */
  over: u32("cache"),
  overAtFirst: u32("cache"),
});

/**
 * Where the function has its {@link TurnLayout}, and behind it those of a team's further workers, which do not use
 * the function: below all arenas. V8 checks no bounds where it knows the address.
 */
export const TURNS_AT = 64;

/** The address of the {@link TurnLayout} of this worker of a machine. */
export function turnsAt(team: { readonly worker: number } | undefined): number {
  return TURNS_AT + (team?.worker ?? 0) * TurnLayout.size;
}

/** Bits of {@link TurnLayout} `over`. */
export const OVER = {
  /** Another CPU has an interrupt to take. */
  WAITED_FOR: 1,
  /** Each turn ends so. */
  ALWAYS: 2,
} as const;

/** What it answers, in bits 15 to 8; bits 7 to 0 are the CPU. */
export const TURN = {
  /** The round is over, and no other is to be begun. */
  END: 0,
  /** Virtual time has reached `limit` before the round was over. */
  LIMIT: 1,
  /** The CPU's turn has not begun, and is not an ordinary one. */
  OTHER: 2,
  /** The CPU's turn has begun, and generated code was left in the middle of its slice. */
  EXIT: 3,
  /** The CPU's turn is over, and timers are to be looked at. */
  TIMERS: 4,
} as const;

/** (the CPU that is next): {@link TURN}. */
export type TurnLoop = (cpu: number) => number;

const B = TurnLayout.offset, C = CpuLayout.offset;

/** The function under construction. */
class TurnCode {
  readonly asm = new FunctionBody([I32], [I32]);
  readonly #seat = 0;
  readonly #cpu = this.asm.local(I32);
  readonly #budget = this.asm.local(I32);
  readonly #code = this.asm.local(I32);
  readonly #left = this.asm.local(I64);
  readonly #used = this.asm.local(I64);

  /** `run`: the index of the interpreter's function. */
  write(run: number): FunctionBody {
    const { asm } = this;
    asm.loop("turn");
    this.#begin();
    this.#beginSlice();
    this.#run(run);
    this.#endSlice();
    asm.get(this.#seat).i32(1).op("i32.add").set(this.#seat).br("turn");
    asm.end().unreachable();
    return asm;
  }

  #field(name: keyof typeof B): FunctionBody {
    return this.asm.i32(TURNS_AT).mem("i32.load", B[name]);
  }
  #cpuField(name: keyof typeof C): FunctionBody {
    return this.asm.get(this.#cpu).mem("i32.load", C[name]);
  }
  /** The 64-bit word whose address is in the field. */
  #far(name: "insns" | "turns" | "ns"): FunctionBody {
    return this.#field(name).mem("i64.load", 0);
  }
  #near(name: "limit" | "deadline" | "end"): FunctionBody {
    return this.asm.i32(TURNS_AT).mem("i64.load", B[name]);
  }
  #answer(what: number): void {
    this.asm.get(this.#seat).i32(what << 8).op("i32.or").return();
  }
  /** Answers that where the condition is not 0. */
  #answerIf(what: number): void {
    this.asm.if("answer", false);
    this.#answer(what);
    this.asm.end();
  }
  #addTo(name: "insns" | "turns" | "ns", push: () => void): void {
    this.#field(name);
    this.#far(name);
    push();
    this.asm.op("i64.add").mem("i64.store", 0);
  }

  #begin(): void {
    const { asm } = this;
    asm.get(this.#seat);
    this.#field("count").op("i32.ge_u");
    this.#field("power").mem("i32.load", 0).op("i32.or").if("over");
    this.#endRound();
    asm.end();
    this.#near("limit");
    this.#far("ns").op("i64.sub").set(this.#left);
    asm.get(this.#left).i64(0n).op("i64.le_s");
    this.#answerIf(TURN.LIMIT);
    this.#field("quantum").set(this.#budget);
    this.#atMostLeft();
    asm.i32(TURNS_AT).get(this.#budget).mem("i32.store", B.given);
    asm.get(this.#seat).i32(2).op("i32.shl").i32(TURNS_AT).op("i32.add");
    asm.mem("i32.load", B.cpus).set(this.#cpu);
    this.#note();
    this.#answerIfOther();
  }

  /** What is known of a turn. */
  #note(): void {
    const { asm } = this;
    asm.i32(TURNS_AT).get(this.#cpu).mem("i32.store", B.turnOf);
    asm.i32(TURNS_AT);
    this.#field("ns").mem("i32.load", 0);
    asm.get(this.#budget).op("i32.add").mem("i32.store", B.turnEnd);
    asm.i32(TURNS_AT);
    this.#field("insns").mem("i32.load", 0).mem("i32.store", B.before);
    asm.i32(TURNS_AT);
    this.#field("overAtFirst").mem("i32.store", B.over);
  }

  #endRound(): void {
    const { asm } = this;
    this.#addTo("turns", () => asm.i64(1n));
    this.#field("progress").op("i32.eqz");
    this.#field("power").mem("i32.load", 0).i32(0).op("i32.ne").op("i32.or");
    this.#far("ns");
    this.#near("limit").op("i64.ge_s").op("i32.or");
    this.#far("insns");
    this.#near("end").op("i64.ge_s").op("i32.or");
    this.#answerIf(TURN.END);
    asm.i32(0).set(this.#seat);
    asm.i32(TURNS_AT).i32(0).mem("i32.store", B.progress);
  }

  /** Answers where the CPU's turn is not just instructions. */
  #answerIfOther(): void {
    const { asm } = this;
    this.#cpuField("irqLines");
    this.#cpuField("checkIrq").i32(CHECK.INTERRUPT).op("i32.and").op("i32.or");
    this.#cpuField("halt").op("i32.or");
    this.#answerIf(TURN.OTHER);
    this.#cpuField("pmuActive");
    this.#cpuField("single").op("i32.or");
    this.#cpuField("codeUnsure").op("i32.or");
    this.#cpuField("el").i32(2).op("i32.eq");
    this.#field("hostEl").i32(0).op("i32.ne").op("i32.and").op("i32.or");
    this.#cpuField("el").i32(1).op("i32.eq");
    this.#field("hostEl").i32(1).op("i32.eq").op("i32.and");
    asm.get(this.#cpu).mem("i32.load", sysregOffset(R.HCR_EL2)).i32(HCR.VM).op("i32.and");
    asm.op("i32.eqz").op("i32.and").op("i32.or");
    this.#answerIf(TURN.OTHER);
  }

  /** The budget is at most what is left, which is above 0. */
  #atMostLeft(): void {
    const { asm } = this;
    asm.get(this.#left).get(this.#budget).op("i64.extend_i32_u").op("i64.lt_s").if("less");
    asm.get(this.#left).op("i32.wrap_i64").set(this.#budget);
    asm.end();
  }

  #beginSlice(): void {
    const { asm } = this;
    this.#near("deadline");
    this.#far("ns").op("i64.sub").set(this.#left);
    asm.get(this.#left).i64(1n).op("i64.lt_s").if("due").i64(1n).set(this.#left).end();
    this.#atMostLeft();
    asm.get(this.#cpu).get(this.#budget).mem("i32.store", C.budget);
    asm.i32(TURNS_AT).get(this.#cpu).mem("i32.store", B.sliceCpu);
    asm.i32(TURNS_AT).get(this.#budget).mem("i32.store", B.sliceBudget);
    asm.i32(TURNS_AT).i32(1).mem("i32.store", B.progress);
  }

  #run(run: number): void {
    const { asm } = this;
    asm.get(this.#cpu).get(this.#budget).call(run).set(this.#code);
    asm.get(this.#code).i32(EXIT.NEXT).op("i32.ne").if("left");
    this.#cpuField("budget").i32(0).op("i32.ne");
    asm.get(this.#code).i32(EXIT.HOT).op("i32.eq").op("i32.or");
    asm.get(this.#code).i32(EXIT.IRQ).op("i32.eq").op("i32.or").if("early");
    asm.i32(TURNS_AT).get(this.#code).mem("i32.store", B.exit);
    this.#answer(TURN.EXIT);
    asm.end().end();
  }

  #endSlice(): void {
    const { asm } = this;
    this.#field("sliceBudget");
    this.#cpuField("budget").op("i32.sub").op("i64.extend_i32_u").set(this.#used);
    asm.get(this.#cpu).get(this.#cpu).mem("i64.load", C.insns).get(this.#used).op("i64.add");
    asm.mem("i64.store", C.insns);
    this.#addTo("insns", () => asm.get(this.#used));
    this.#addTo("ns", () => asm.get(this.#used));
    asm.i32(TURNS_AT).i32(0).mem("i32.store", B.sliceCpu);
    asm.i32(TURNS_AT).i32(0).mem("i32.store", B.sliceBudget);
    this.#cpuField("monitorOpen");
    this.#field("several").op("i32.and").if("monitor");
    asm.get(this.#cpu).i32(0).mem("i32.store", C.monitorOpen);
    asm.get(this.#cpu).i32(1).mem("i32.store", C.eventRegister);
    asm.end();
    this.#far("ns");
    this.#near("deadline").op("i64.ge_s");
    this.#field("pause").op("i32.or");
    this.#answerIf(TURN.TIMERS);
  }
}

/** The function, which calls the one with index `run` of its module: the interpreter's. */
export function turnLoop(run: number): FunctionBody {
  return new TurnCode().write(run);
}
