/** Generates a region: control flow as structure, registers in locals. */
import { CpuLayout } from "../arch/cpu_state.ts";
import { FPSR } from "../fp/format.ts";
import type { BranchKind } from "../isa/builder.ts";
import { checkedTogether, type NumberPart, ResultChecks } from "./fp_checks.ts";
import { ENTERING, FOUND, NOT_FOUND, type Step, SWITCH } from "./region_blocks.ts";
import { type Accesses, RegionAccess } from "./region_access.ts";
import { dirtyAtCalls } from "./region_dirty.ts";
import type { Graph } from "./region_graph.ts";
import { isInside, type Node } from "./region_nodes.ts";
import { RegionPages } from "./region_pages.ts";
import { isCompiled, isVector } from "./region_probe.ts";
import { uppersOf } from "./region_uppers.ts";
import { BUDGET, CPU, PAGE, STACK } from "./region_registers.ts";
import { type SharedBytes, shareKey } from "./region_sharing.ts";
import { FunctionBody, I32, I64, V128 } from "./wasm_assembler.ts";
import { WasmBuilder } from "./wasm_builder.ts";
import { type BranchOffset, EXIT, type Frame, type PageCache } from "./wasm_frame.ts";
import type { ModuleAssembler } from "./wasm_module.ts";

const O = CpuLayout.offset;
/** Bytes of the host's stack that calls within calls may take: V8 gives about 1 MB. */
export const MAX_STACK = 600_000;

/** The function in the same module of the region that begins at an offset of the same page, if there is one. */
export type DirectCalls = (target: number) => number | undefined;

/** Generates one region of `module`. `dispatch` is the index of its function that goes on at an address. */
export class RegionFrame extends RegionAccess implements Frame {
  readonly #tlb = this.asm.local(I32);
  /** What {@link STACK} was before this frame was added. */
  readonly #above = this.asm.local(I32);
  readonly #pages: RegionPages;
  /** Steady fields by their offset. */
  readonly #steady = new Map<number, number>();
  spAligned = false;
  checks: "putOff" | undefined;
  readonly #checks: ResultChecks;
  /** Instructions are executed again one by one where one leaves. */
  #together = false;
  readonly #saved = new Map<number, number>();
  /** 0 on the way through gates to where the region begins. */
  readonly #entered: number;
  /** What is known of upper lanes where a node begins. */
  readonly #uppers = uppersOf(this.graph);
  readonly #dirty = dirtyAtCalls(this.graph);
  /** The block and the number in it of the instruction at hand. */
  #node: Node;
  #step = 0;

  /** `aligned`: for code whose every access must be aligned. `parallel`: other threads access the memory meanwhile. */
  constructor(
    graph: Graph,
    readonly module: ModuleAssembler,
    readonly dispatch: number,
    packer: number,
    readonly aligned: boolean,
    readonly usualFp: boolean,
    readonly direct: DirectCalls,
    readonly parallel: boolean,
    readonly misalignments: number | undefined,
    accesses?: Accesses,
  ) {
    super(graph, packer, accesses);
    this.#node = graph.entry;
    this.#entered = graph.entry.isGate ? this.asm.local(I32) : -1;
    this.#pages = new RegionPages(this.asm, module, this.#tlb, this.registers);
    this.#checks = new ResultChecks(this.asm, (slot) => this.asm.get(this.registers.local(slot)));
  }

  /** The whole function. */
  generate(): FunctionBody {
    const { asm, graph } = this;
    this.#checkFit();
    this.reload();
    asm.block("return").block("jump").block("store").block("exit").block("miss");
    this.#goInto(graph.entry);
    asm.end();
    this.noteMiss();
    asm.end();
    this.readExitWord();
    asm.end();
    this.storeAll();
    asm.get(this.code).return();
    asm.end();
    this.storeAll();
    asm.get(CPU).get(BUDGET).get(this.pc).get(this.#above).returnCall(this.dispatch);
    asm.end();
    asm.get(this.code);
    this.#writePrologue();
    return asm;
  }

  /** Leaves at once where the region was made for another checking of alignment, or other modes of FP, than there are. */
  #checkFit(): void {
    const { asm } = this;
    asm.get(CPU).mem("i32.load", O.alignMask);
    if (this.aligned) asm.op("i32.eqz");
    if (this.usualFp) {
      asm.get(CPU).mem("i32.load", O.fpcr).op("i32.or");
      asm.get(CPU).mem("i32.load", O.fpEnabled).op("i32.eqz").op("i32.or");
      asm.get(CPU).mem("i32.load", O.fpsr).i32(FPSR.IXC).op("i32.and").op("i32.eqz").op("i32.or");
    }
    asm.if("if", false);
    asm.get(CPU).get(PAGE).i64(BigInt(this.graph.offset)).op("i64.add")
      .mem("i64.store", O.pc);
    asm.get(CPU).get(BUDGET).mem("i32.store", O.budget);
    asm.i32(EXIT.UNFIT).return().end();
  }

  /** What is in locals all the time: known when the rest has been generated. */
  #writePrologue(): void {
    const out = new FunctionBody([], []);
    out.get(CPU).mem("i32.load", O.tlb).set(this.#tlb);
    const frameBytes = 256 + 16 * this.asm.localCount;
    out.get(STACK).tee(this.#above).i32(frameBytes).op("i32.add").set(STACK);
    this.#pages.forget(out);
    for (const [offset, local] of this.#steady) out.get(CPU).mem("i32.load", offset).set(local);
    this.#checks.prologue(out);
    this.asm.prologue.append(out.code);
  }

  // Structure

  /** Enters a block that nothing else leads to, or a loop from in front of it. */
  #goInto(node: Node): void {
    if (!node.isLoop) return this.#within(node, node.joins);
    this.#prepare(node);
    this.#loop(node, node.exits);
  }

  /** A loop inside of wasm blocks whose ends are where it is left to. */
  #loop(node: Node, [exit, ...rest]: readonly Node[]): void {
    const { asm } = this;
    if (exit !== undefined) return this.#beforeJoin(exit, () => this.#loop(node, rest));
    asm.loop(`loop ${node.key}`);
    this.#enterShared(node);
    this.#within(node, node.joins);
    asm.end();
    asm.unreachable();
  }

  /** The block's code inside of wasm blocks whose ends are the joins that it dominates. */
  #within(node: Node, [join, ...rest]: readonly Node[]): void {
    if (join !== undefined) return this.#beforeJoin(join, () => this.#within(node, rest));
    if (node.isSwitch) this.#switch(node);
    else if (node.isGate) this.#gate(node);
    else if (node.looksUp) this.#lookUp(node, node.looksUp);
    else this.#block(node);
  }

  /** What `inner` emits can branch to `join`, which comes behind it. */
  #beforeJoin(join: Node, inner: () => void): void {
    const { asm } = this;
    const { state } = this.flags;
    asm.block(`join ${join.key}`);
    inner();
    asm.end();
    this.flags.state = state;
    this.#enterShared(join);
    // A join that is a loop has its flags prepared already.
    if (join.isLoop) this.#loop(join, join.exits);
    else this.#within(join, join.joins);
  }

  /** How flags and upper lanes are held where several edges meet. */
  #enterShared(node: Node): void {
    this.flags.state = node.readsFlags ? "packed" : "joined";
    this.registers.uppers = this.#uppers.get(node) ?? new Map();
  }
  #prepare(node: Node): void {
    if (node.readsFlags) this.flags.pack();
    else this.flags.join();
    this.registers.conform(this.#uppers.get(node) ?? new Map());
  }

  /** Goes on at byte `offset` of the page. */
  #goTo(offset: number): void {
    const from = this.#node;
    const to = this.graph.nodes.get(from.successors.get(offset) ?? -1);
    if (to !== from.heir) this.#giveBack(from);
    if (to === undefined || !isInside(from, to)) return this.#leaveTo(offset);
    const { held } = this;
    const step = this.#step;
    if (to.order <= from.order) {
      this.#prepare(to);
      this.asm.br(`loop ${to.key}`);
    } else if (to.isJoin) {
      this.#prepare(to);
      this.asm.br(`join ${to.key}`);
    } else {
      this.#goInto(to);
    }
    this.held = held;
    this.#node = from;
    this.#step = step;
  }

  /** Control does not go on with the heir. */
  #giveBack({ heir }: Node): void {
    if (heir) this.asm.get(BUDGET).i32(heir.charge).op("i32.add").set(BUDGET);
  }

  #leaveTo(offset: number): void {
    this.asm.get(PAGE).i64(BigInt(offset)).op("i64.add").set(this.pc);
    this.#jump();
  }
  #jump(): void {
    this.flags.join();
    this.noteJunk();
    this.asm.br("jump");
  }

  #block(node: Node): void {
    const { asm } = this;
    const { steps, start, fallsTo } = node.block;
    this.#node = node;
    this.#step = 0;
    this.spAligned = false;
    this.registers.forgetNumbers();
    if (node.charge > 0 && !node.isHeir) {
      asm.get(BUDGET).i32(node.charge).op("i32.sub").tee(BUDGET).i32(0).op("i32.lt_s")
        .if("if", false);
      this.leave(EXIT.SHORT);
      asm.end();
    }
    for (let i = 0; i < steps.length; i++) {
      this.#node = node;
      this.#step = i;
      const together = this.usualFp ? checkedTogether(steps, i) : 0;
      if (together > 0) {
        this.#runTwice(steps, i, i + together);
        i += together - 1;
      } else if (!this.#instruction(steps[i] as Step)) return;
    }
    if (fallsTo === undefined) throw new RangeError(`block ${start} has no end`);
    this.#goTo(fallsTo);
  }

  /**
   * Instructions whose results are checked together, see fp_checks.ts: without single checks, and for when
   * those are not passed, or anything is to be left for, again with them.
   */
  #runTwice(steps: readonly Step[], from: number, to: number): void {
    const { asm, spAligned } = this;
    const run = steps.slice(from, to);
    const restore = this.#saveAll(run);
    const { held } = this;
    asm.block("checked").block("again");
    this.registers.forgetNumbers();
    this.#checks.begin();
    for (const [i, step] of run.entries()) {
      const { result, written } = step.effects;
      this.#step = from + i;
      this.#checks.before(result, written);
      this.checks = "putOff";
      if (result === undefined) this.checks = undefined;
      this.#together = true;
      this.#instruction(step);
      this.#together = false;
      this.#checks.after(result);
    }
    this.checks = undefined;
    this.#checks.end("again");
    const { uppers: checked } = this.registers;
    asm.br("checked").end();
    this.registers.forgetNumbers();
    restore();
    this.held = held;
    this.spAligned = spAligned;
    for (const [i, step] of run.entries()) {
      this.#step = from + i;
      this.#instruction(step);
    }
    this.registers.meet(checked);
    asm.end();
    this.registers.forgetNumbers();
  }

  /** Keeps the registers and flags that a run of instructions changes; what it gives brings them back. */
  #saveAll(run: readonly Step[]): () => void {
    const { asm, flags } = this;
    const slots = new Set(run.flatMap(({ effects }) => [...effects.written]));
    const saved = [...slots].map((slot) => [slot, this.#savedIn(slot)] as const);
    for (const [slot, local] of saved) asm.get(this.registers.local(slot)).set(local);
    const a = this.#savedIn(-1), b = this.#savedIn(-2);
    const flagsToo = run.some(({ effects }) => effects.setsFlags || effects.setsFlagsConditionally);
    if (flagsToo) {
      flags.settle();
      flags.save(a, b);
    }
    return () => {
      for (const [slot, local] of saved) asm.get(local).set(this.registers.local(slot));
      if (flagsToo) flags.restore(a, b);
    };
  }
  #savedIn(slot: number): number {
    const local = this.#saved.get(slot) ?? this.asm.local(isVector(slot) ? V128 : I64);
    this.#saved.set(slot, local);
    return local;
  }

  /** Goes where the pc's local says if that is a block of the region and leads no edge into a loop, else out. */
  #switch(node: Node): void {
    const { asm, flags } = this;
    this.#node = node;
    const to = [...node.successors.keys()].toSorted((a, b) => a - b);
    const inside = new Map<number, Node>();
    for (const offset of to) {
      const target = this.graph.nodes.get(node.successors.get(offset) as number);
      if (target && isInside(node, target)) inside.set(offset, target);
    }
    if ([...inside.values()].some((target) => target.readsFlags)) flags.pack();
    flags.join();
    this.registers.clean();
    if (node.returnsTo !== undefined) inside.delete(node.returnsTo);
    if (inside.size > 0) this.#branchByTable(node, inside);
    if (node.returnsTo === undefined) asm.br("jump");
    else this.#call(node.returnsTo);
  }

  /** Goes on towards the region's entry until that is reached. */
  #gate(node: Node): void {
    const { asm } = this;
    this.#node = node;
    const inwards = this.graph.nodes.get(node.successors.get(ENTERING) as number);
    asm.get(this.#entered).op("i32.eqz").if("if", false);
    if (!inwards?.isGate) asm.i32(1).set(this.#entered);
    this.#goTo(ENTERING);
    asm.end();
    this.#goTo(node.block.start);
  }

  /** Looks up together what the loop accesses. */
  #lookUp(node: Node, all: readonly SharedBytes[]): void {
    const { asm } = this;
    this.#node = node;
    this.temporaries.reset();
    const [a, entry] = [this.temporary(I64), this.temporary(I32)];
    asm.block("elsewhere");
    if (!this.aligned) this.#pages.lookUp(all, a, entry, "elsewhere");
    this.#goTo(FOUND);
    asm.end();
    this.#goTo(NOT_FOUND);
  }

  #branchByTable(node: Node, targets: ReadonlyMap<number, Node>): void {
    const { asm } = this;
    const [first, last] = [Math.min(...targets.keys()), Math.max(...targets.keys())];
    const labels: string[] = [];
    for (let offset = first; offset <= last; offset += 4) {
      const target = targets.get(offset);
      if (target === undefined) labels.push("elsewhere");
      else labels.push(`${target.order <= node.order ? "loop" : "join"} ${target.key}`);
    }
    // Below the first the difference wraps round and is too large, as it is above the last.
    asm.block("elsewhere");
    asm.get(this.pc).get(PAGE).op("i64.sub").i64(BigInt(first)).op("i64.sub").i64(2n)
      .op("i64.rotr").set(this.missVa);
    asm.get(this.missVa).i64(BigInt(labels.length)).op("i64.ge_u").brIf("elsewhere", false);
    asm.get(this.missVa).op("i32.wrap_i64").brTable(labels, "elsewhere");
    asm.end();
  }

  /** False where control does not go on behind the instruction. */
  #instruction({ instruction, effects }: Step): boolean {
    this.temporaries.reset();
    const { access } = effects;
    if (access) return this.access(access, this.#offset, this.#node.charge - this.#step - 1);
    if (!isCompiled(instruction)) {
      this.leave(EXIT.SLOW);
      return false;
    }
    const { row, decoded } = instruction;
    this.flags.conditionally = effects.setsFlagsConditionally;
    const builder = new WasmBuilder(this, this.parallel);
    row.semantics(builder, builder.constantOperands(decoded.slots, decoded.consts), decoded.shape);
    builder.emit();
    if (!this.aligned && !this.parallel) this.#pages.loadWhole(this.#node.wholes?.get(this.#step));
    return !builder.closed;
  }

  // Frame

  pushOperand(): never {
    throw new RangeError("operands are constants here");
  }
  pushTlb(): void {
    this.asm.get(this.#tlb);
  }
  pushAlignMask(): void {
    this.asm.i64(this.aligned ? 0xffff_ffffn : 0n);
  }
  pageCache(base: number, access: 0 | 1): PageCache | undefined {
    if (this.aligned) return undefined;
    return this.#pages.cache(base, access);
  }
  lookedUp(nth: number): { readonly local: number; readonly offset: number } | undefined {
    const share = this.aligned ? undefined : this.#node.shares?.get(shareKey(this.#step, nth));
    return share && { local: this.#pages.place(share.bytes), offset: share.offset };
  }
  misaligned(): number | undefined {
    return this.misalignments;
  }
  steadyField(offset: number): number {
    const local = this.#steady.get(offset) ?? this.asm.local(I32);
    this.#steady.set(offset, local);
    return local;
  }
  get #offset(): number {
    return this.#node.block.start + 4 * this.#step;
  }
  pushPc(): void {
    this.asm.get(PAGE).i64(BigInt(this.#offset)).op("i64.add");
  }
  next(): void {}
  isNumber(slot: number, part: NumberPart, size: 32 | 64): boolean {
    return this.#together && this.#checks.covers(slot, part, size);
  }

  branchBy({ value }: BranchOffset, kind: BranchKind): void {
    if (value === undefined) throw new RangeError("a branch by an unknown offset");
    const target = this.#offset + Number(value);
    if (kind !== "call" || !this.#node.calls) return this.#goTo(target);
    this.asm.get(PAGE).i64(BigInt(target)).op("i64.add").set(this.pc);
    this.#call(this.#offset + 4, this.direct(target));
  }

  branchTo(target: number, kind: BranchKind): void {
    this.asm.get(target).set(this.pc);
    if (kind === "call") {
      if (this.#node.successors.has(SWITCH)) this.#goTo(SWITCH);
      else this.#call(this.#offset + 4);
      return;
    }
    if (kind === "jump") {
      const to = this.graph.nodes.get(this.#node.successors.get(SWITCH) ?? -1);
      if (to && isInside(this.#node, to)) return this.#goTo(SWITCH);
      return this.#jump();
    }
    const { asm } = this, { returnsTo } = this.#node;
    if (returnsTo !== undefined) this.#returnInside(target, returnsTo);
    // Its caller looks whether it comes to the right place; without one it goes on itself.
    this.flags.join();
    this.noteJunk();
    asm.get(this.#above).op("i32.eqz").brIf("jump").i32(EXIT.BRANCH).set(this.code).br("store");
  }

  /** A return of a function that is written in the place of its call: it goes behind it, or out. */
  #returnInside(target: number, offset: number): void {
    const { asm } = this;
    asm.get(target).get(PAGE).i64(BigInt(offset)).op("i64.add").op("i64.eq").if("if", true);
    this.#goTo(offset);
    asm.end();
    this.#giveBack(this.#node);
  }

  /** Calls what is at the pc's local, which is function `direct` if that is known, and goes on behind the call if it comes back there. */
  #call(back: number, direct?: number): void {
    const { asm } = this;
    this.registers.store(this.#dirty.get(this.#node));
    this.registers.storeUppers();
    this.flags.join();
    this.flags.store(CPU);
    if (direct === undefined) this.#callDispatch();
    else {
      asm.get(STACK).i32(MAX_STACK).op("i32.lt_s").if("if", true);
      asm.get(CPU).get(BUDGET).get(PAGE).get(STACK).call(direct).set(this.code);
      asm.else();
      this.#callDispatch();
      asm.end();
    }
    asm.get(CPU).mem("i32.load", O.budget).set(BUDGET);
    asm.get(this.code).i32(EXIT.BRANCH).op("i32.ne");
    asm.get(CPU).mem("i64.load", O.pc).get(PAGE).i64(BigInt(back)).op("i64.add").op("i64.ne");
    asm.op("i32.or").brIf("return", false);
    this.reload();
    this.spAligned = false;
    this.#goTo(back);
  }
  #callDispatch(): void {
    const { asm } = this;
    asm.get(CPU).get(BUDGET).get(this.pc).get(STACK).call(this.dispatch).set(this.code);
  }

  miss(va: number, faultAccess: number, size: number): void {
    const { asm } = this;
    if (this.#together) return void asm.br("again");
    asm.get(va).set(this.missVa).i32(faultAccess | (size << 3)).set(this.missInfo);
    const unexecuted = this.#node.charge - this.#step;
    this.leaveAt(this.#offset, unexecuted, EXIT.DATA_MISS, "miss");
  }
  leave(code: number): void {
    if (this.#together) return void this.asm.br("again");
    this.leaveAt(this.#offset, this.#node.charge - this.#step, code);
  }
  leaveRetired(code: number): void {
    this.leaveAt(this.#offset + 4, this.#node.charge - this.#step - 1, code);
  }
}
