/**
 * The regions of one machine: what is hot is translated a few at a time, entered into the table and
 * into the records of its page, and dropped when a word of the page changes.
 *
 * Everything that runs at all is hot some day, so what is kept has to be chosen. Where there is no more
 * room, the modules that have been in use the longest **retire**: the interpreter executes their code
 * again, and a few branches to it bring them back as they are. Only what nobody asked for while it was
 * retired goes for good.
 */
import { assert, InternalError } from "../../base/errors.ts";
import type { SharedMemory } from "../../base/memory.ts";
import type { Surroundings } from "./direct_registers.ts";
import { HANDLER } from "./interpreter_module.ts";
import {
  HOT_COUNT,
  RECORD,
  RECORD_REGIONS,
  RECORD_WORDS,
  recordAt,
  REGION_ENTRY,
  writeHandler,
} from "./records.ts";
import { PAGE, type Step } from "./region_blocks.ts";
import { callsOf, type Graph, isSwitched, regionGraph } from "./region_graph.ts";
import { effectsOf, type Instruction } from "./region_probe.ts";
import { regionModule, type Unit, usesFp } from "./region_module.ts";

/** What is translated, and when. */
export interface RegionOptions {
  /** Taken branches to an instruction after which it is translated; 0: never. */
  readonly hotAfter: number;
  /** Regions translated into one module. */
  readonly batch: number;
  /** Instructions of one region, about. */
  readonly maxInsns: number;
  /** How often a small loop is written in a row, at most. */
  readonly copies: number;
  /** Regions in use, 1 to {@link MAX_REGIONS}, and bytes of WebAssembly, of which a quarter is for what is retired. */
  readonly maxRegions: number;
  readonly maxBytes: number;
  /** Other threads access the memory meanwhile. */
  readonly parallel: boolean;
}

/** Places in the table. */
export const MAX_REGIONS = 16_384;
const DEFAULTS: RegionOptions = {
  hotAfter: HOT_COUNT,
  batch: 8,
  maxInsns: 400,
  copies: 4,
  maxRegions: 8192,
  maxBytes: 16 << 20,
  parallel: false,
};
/** The part of {@link RegionOptions.hotAfter} after which something retired is back, and of the bytes that is for such. */
const BACK_AFTER = 1 / 16, RETIRED_SHARE = 1 / 4;
/** Slices that something hot waits for others to be translated with. */
const MAX_WAIT = 3;
/** Regions of one module, with those that are called by what was hot. */
const MAX_UNITS = 32;
/** Decoded words that are remembered with their effects, 1.2 KB each. */
const MAX_STEPS = 20_000;

/** The virtual and the physical address of an instruction when it was found hot. */
export interface HotPlace {
  readonly va: bigint;
  readonly pa: number;
}

/** A hot instruction: the records of its page, the offset in the page, and where it was met. */
export interface Hot extends HotPlace {
  readonly records: number;
  readonly offset: number;
  /** Every access has to be aligned at present. */
  readonly aligned: boolean;
  /** FP is enabled, FPCR 0 and FPSR.IXC set at present. */
  readonly usualFp: boolean;
}

/** A region that has just been made. */
export interface TranslatedRegion extends HotPlace {
  readonly graph: Graph;
  /** The instruction at an offset of the page, as it was decoded. */
  wordAt(offset: number): number;
  /** The module it is in, together with others, and its name among the module's exports. */
  readonly module: Uint8Array;
  readonly exported: string;
  /** Its function, of REGION_TYPE. */
  readonly run: CallableFunction;
}

/** The regions that were translated together. */
interface Module {
  readonly bytes: number;
  /** Those of its regions that have not been dropped. */
  readonly regions: Set<Region>;
}

/** A region that is in use, or retired. */
interface Region {
  /** In the table; 0 while it is retired. */
  place: number;
  readonly run: CallableFunction;
  readonly records: number;
  readonly offset: number;
  readonly usualFp: boolean;
  /** It is made for misaligned accesses. */
  readonly misaligned: boolean;
  /** It has loops and calls nothing: what it takes to call it does not matter. */
  readonly loops: boolean;
  readonly module: Module;
}

export type Decode = (word: number) => Instruction | undefined;

export class Regions {
  /** Shared with the interpreter; place 0 stays empty. */
  readonly table: WebAssembly.Table;
  readonly #steps = new Map<number, Step | undefined>();
  readonly #byPage = new Map<number, Set<Region>>();
  /** Records of instructions where regions made for the usual modes of FP have not fitted. */
  readonly #unusualFp = new Set<number>();
  /** Records of pages whose code has made many misaligned accesses. */
  readonly #misaligned = new Set<number>();
  /** Modules with regions in use, and retired ones, the oldest of each first. */
  readonly #modules = new Set<Module>();
  readonly #retired = new Set<Module>();
  #retiredBytes = 0;
  readonly #free: number[] = [];
  #next = 1;
  #waiting: Hot[] = [];
  #waited = 0;
  /** Whether something waits to be translated with others. */
  isWaiting = false;
  #usedBytes = 0;
  /** Regions in use. */
  live = 0;
  /** Instructions and modules translated, and regions that had to go for others, so far. */
  translated = 0;
  modules = 0;
  evicted = 0;
  /** Some of these have changed since it was set to false. */
  changed = false;
  /** Told of {@link isWaiting}. */
  onWaiting: (waits: boolean) => void = () => {};
  /** Sees each region before it is used; gives the function to use, the region's or one on the way to it. */
  onTranslated: (region: TranslatedRegion) => CallableFunction = ({ run }) => run;

  readonly options: RegionOptions;
  #surroundings: Surroundings | undefined;
  /** What modules import. */
  readonly #env: Record<string, WebAssembly.ImportValue>;

  constructor(
    readonly memory: SharedMemory,
    readonly decode: Decode,
    readonly pages: number,
    options: Partial<RegionOptions> = {},
  ) {
    this.options = { ...DEFAULTS, ...options };
    this.table = new WebAssembly.Table({ element: "anyfunc", initial: MAX_REGIONS });
    this.#env = { memory: memory.memory, table: this.table };
  }

  /** What regions reach themselves from now on: to be set before there are any. Undefined: nothing. */
  set surroundings(around: Surroundings) {
    this.#surroundings = around;
    this.#env["readRegister"] = (cpu: number, named: number, to: number) =>
      around.readRegister(cpu, named, to);
    this.#env["writeRegister"] = (cpu: number, named: number, from: number) =>
      around.writeRegister(cpu, named, from);
  }

  /** Bytes of WebAssembly of all modules that are kept. */
  get codeBytes(): number {
    return this.#usedBytes + this.#retiredBytes;
  }

  /** Notes that an instruction is branched to often. */
  hot(hot: Hot): void {
    const { records, offset } = hot;
    if (this.options.hotAfter === 0 || this.#isEntry(records, offset)) return;
    const known = this.#regionAt(records, offset);
    if (known?.place === 0) return this.#bringBack(known.module);
    if (this.#waiting.some((h) => h.records === records && h.offset === offset)) return;
    this.#wait([...this.#waiting, hot]);
    if (this.#waiting.length >= this.options.batch) this.translate();
  }

  #wait(waiting: Hot[]): void {
    this.#waiting = waiting;
    this.isWaiting = waiting.length > 0;
    this.onWaiting(this.isWaiting);
  }

  /** It may become hot again. */
  #coolDown({ records, offset }: { readonly records: number; readonly offset: number }): void {
    this.memory.st16(recordAt(records, offset) + RECORD.COUNT, this.options.hotAfter);
  }

  #regionAt(records: number, offset: number): Region | undefined {
    for (const region of this.#byPage.get(records) ?? []) {
      if (region.offset === offset) return region;
    }
    return undefined;
  }

  #isEntry(records: number, offset: number): boolean {
    return this.memory.ld16(recordAt(records, offset) + RECORD.HANDLER) === HANDLER.REGION;
  }

  /** To be called once a slice: what is waiting does not wait for ever. */
  settle(): void {
    if (this.isWaiting && ++this.#waited > MAX_WAIT) this.translate();
  }

  /** Translates what is waiting. */
  translate(): void {
    const waiting = this.#waiting;
    this.#wait([]);
    this.#waited = 0;
    const found = this.#graphs(waiting);
    if (found.length === 0) return;
    const { parallel } = this.options;
    const bytes = regionModule(found, this.pages, parallel, this.#surroundings?.time);
    this.#makeRoom(found.length, bytes.length);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      env: this.#env,
    });
    const module: Module = { bytes: bytes.length, regions: new Set() };
    found.forEach((unit, i) => {
      const { va, pa, graph, records } = unit;
      const wordAt = (at: number) => this.memory.ld32(records + RECORD_WORDS + at);
      const exported = `r${i}`;
      const run = exports[exported];
      if (typeof run !== "function") throw new InternalError("a region is no function");
      const made = { va, pa, graph, wordAt, module: bytes, exported, run };
      this.#enter(unit, this.onTranslated(made), module);
      this.translated += graph.count;
    });
    this.modules++;
    this.changed = true;
    if (module.regions.size > 0) this.#use(module);
  }

  /**
   * What is hot, and what it calls in the same page, so that the calls are direct: but what has loops and
   * calls nothing is not made again for that.
   */
  #graphs(waiting: readonly Hot[]): (Hot & Unit)[] {
    const { maxInsns, copies } = this.options;
    const found: (Hot & Unit)[] = [];
    const work = [...waiting];
    for (let hot = work.shift(); hot && found.length < MAX_UNITS; hot = work.shift()) {
      const { records, offset, va, pa } = hot;
      if (found.some((f) => f.records === records && f.offset === offset)) continue;
      const stepAt = (at: number) => this.#known(records, at);
      if (found.some((f) => f.records === records && isSwitched(f.graph, offset))) {
        this.#coolDown(hot);
        continue;
      }
      let targets: number[] | undefined;
      const branchTargets = () => targets ??= this.#branchTargets(records, waiting);
      const graph = regionGraph(offset, stepAt, maxInsns, copies, branchTargets);
      if (graph === undefined) continue;
      const usualFp = hot.usualFp && usesFp(graph) &&
        !this.#unusualFp.has(recordAt(records, offset));
      found.push({ ...hot, graph, usualFp, misaligned: this.#misaligned.has(records) });
      for (const target of callsOf(graph)) {
        if (this.#regionAt(records, target)?.loops) continue;
        const by = target - offset;
        work.push({ ...hot, offset: target, va: va + BigInt(by), pa: pa + by });
      }
    }
    return found;
  }

  /** Offsets in a page that have often been branched to, what is `waiting` to be translated among them. */
  #branchTargets(records: number, waiting: readonly Hot[]): number[] {
    const { hotAfter } = this.options;
    const hot = new Set(waiting.filter((h) => h.records === records).map((h) => h.offset));
    const out: number[] = [];
    for (let offset = 0; offset < PAGE; offset += 4) {
      const word = this.memory.ld32(recordAt(records, offset));
      const handler = word & 0xffff;
      const left = word >>> 16;
      const often = handler === HANDLER.REGION || left < hotAfter - hotAfter / 16 ||
        hot.has(offset);
      if (handler !== HANDLER.DECODE && often) out.push(offset);
    }
    return out;
  }

  /** Lets the oldest modules retire until `count` more regions of `bytes` may come. */
  #makeRoom(count: number, bytes: number): void {
    const { maxRegions, maxBytes } = this.options;
    const most = maxBytes * (1 - RETIRED_SHARE) - bytes;
    for (const module of this.#modules) {
      if (this.live + count <= maxRegions && this.#usedBytes <= most) return;
      this.#retire(module);
    }
  }

  #use(module: Module): void {
    this.#modules.add(module);
    this.#usedBytes += module.bytes;
  }

  #retire(module: Module): void {
    this.#modules.delete(module);
    this.#usedBytes -= module.bytes;
    const { hotAfter, maxBytes } = this.options;
    for (const region of module.regions) this.#takeOut(region, Math.ceil(hotAfter * BACK_AFTER));
    this.#retired.add(module);
    this.#retiredBytes += module.bytes;
    for (const oldest of this.#retired) {
      if (this.#retiredBytes <= maxBytes * RETIRED_SHARE) return;
      this.evicted += oldest.regions.size;
      for (const region of oldest.regions) this.#drop(region);
    }
  }

  /** A retired module is wanted again. */
  #bringBack(module: Module): void {
    this.#retired.delete(module);
    this.#retiredBytes -= module.bytes;
    this.#makeRoom(module.regions.size, module.bytes);
    for (const region of module.regions) this.#putIn(region);
    this.#use(module);
    this.changed = true;
  }

  /**
   * The instruction at an offset of a page, as it was decoded. What has not been decoded has not been
   * executed, and would not be noticed when it changes.
   */
  #known(records: number, at: number): Step | undefined {
    const handler = this.memory.ld16(recordAt(records, at) + RECORD.HANDLER);
    return handler === HANDLER.DECODE
      ? undefined
      : this.#step(this.memory.ld32(records + RECORD_WORDS + at));
  }

  #step(word: number): Step | undefined {
    if (this.#steps.has(word)) return this.#steps.get(word);
    const instruction = this.decode(word);
    const surrounded = this.#surroundings !== undefined;
    const step = instruction && { instruction, effects: effectsOf(instruction, surrounded) };
    if (this.#steps.size >= MAX_STEPS) this.#steps.clear();
    this.#steps.set(word, step);
    return step;
  }

  #enter(
    { records, offset, usualFp, misaligned, graph }: Hot & Unit,
    run: CallableFunction,
    module: Module,
  ): void {
    const record = recordAt(records, offset);
    const handler = this.memory.ld16(record + RECORD.HANDLER);
    // Not decoded any more: it is not what was translated.
    if (handler === HANDLER.DECODE || handler === HANDLER.REGION) return;
    const retired = this.#regionAt(records, offset);
    if (retired !== undefined) this.#drop(retired);
    const nodes = [...graph.nodes.values()];
    const loops = nodes.some((node) => node.isLoop) && !nodes.some((node) => node.calls);
    const region = { place: 0, run, records, offset, usualFp, misaligned, loops, module };
    this.#putIn(region);
    const ofPage = this.#byPage.get(records);
    if (ofPage) ofPage.add(region);
    else this.#byPage.set(records, new Set([region]));
    module.regions.add(region);
  }

  /** Into the table and its record, whose instruction is decoded and no region's entry. */
  #putIn(region: Region): void {
    const { records, offset } = region;
    assert(!this.#isEntry(records, offset), "two regions in one place");
    region.place = this.#free.pop() ?? this.#next++;
    this.table.set(region.place, region.run);
    const record = recordAt(records, offset), entry = records + RECORD_REGIONS + offset;
    this.memory.st16(entry + REGION_ENTRY.HANDLER, this.memory.ld16(record + RECORD.HANDLER));
    this.memory.st16(entry + REGION_ENTRY.PLACE, region.place);
    writeHandler(this.memory, record, HANDLER.REGION, 0);
    this.live++;
  }

  /** Out of both; its instruction is hot again after `count` branches. */
  #takeOut(region: Region, count: number): void {
    const { records, offset } = region;
    if (this.#isEntry(records, offset)) {
      const entry = records + RECORD_REGIONS + offset;
      const handler = this.memory.ld16(entry + REGION_ENTRY.HANDLER);
      writeHandler(this.memory, recordAt(records, offset), handler, count);
    }
    this.table.set(region.place, null);
    this.#free.push(region.place);
    region.place = 0;
    this.live--;
  }

  /** A word of the page has changed: none of its regions is used again. */
  dropPage(records: number): void {
    for (const hot of this.#waiting) if (hot.records === records) this.#coolDown(hot);
    this.#wait(this.#waiting.filter((h) => h.records !== records));
    for (const region of this.#byPage.get(records) ?? []) this.#drop(region);
  }

  /** The region at `offset` of a page was made for another state of the CPU. */
  unfit(records: number, offset: number): void {
    const region = this.#regionAt(records, offset);
    if (region === undefined) return;
    if (region.usualFp) this.#unusualFp.add(recordAt(records, offset));
    this.#drop(region);
  }

  /** The code of a page has made many misaligned accesses: its regions are made anew for them when they are next branched to. */
  misaligned(records: number): void {
    this.#misaligned.add(records);
    for (const region of this.#byPage.get(records) ?? []) {
      if (region.misaligned) continue;
      this.#drop(region);
      this.memory.st16(recordAt(records, region.offset) + RECORD.COUNT, 1);
    }
  }

  #drop(region: Region): void {
    const { records, module } = region;
    if (region.place !== 0) this.#takeOut(region, this.options.hotAfter);
    else this.#coolDown(region);
    this.changed = true;
    const ofPage = this.#byPage.get(records);
    ofPage?.delete(region);
    if (ofPage?.size === 0) this.#byPage.delete(records);
    module.regions.delete(region);
    if (module.regions.size > 0) return;
    if (this.#modules.delete(module)) this.#usedBytes -= module.bytes;
    if (this.#retired.delete(module)) this.#retiredBytes -= module.bytes;
  }

  dropAll(): void {
    for (const records of [...this.#byPage.keys()]) this.dropPage(records);
    this.#unusualFp.clear();
    this.#misaligned.clear();
    this.#wait([]);
  }
}
