/**
 * The regions of one machine: what is hot is translated a few at a time, entered into the table and
 * into the records of its page, and dropped when a word of the page changes.
 */
import { InternalError } from "../../base/errors.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { HANDLER } from "./interpreter_module.ts";
import {
  HOT_COUNT,
  RECORD,
  RECORD_REGIONS,
  RECORD_SIZE,
  RECORD_WORDS,
  REGION_ENTRY,
  writeHandler,
} from "./records.ts";
import { type Graph, regionGraph, type Step } from "./region_graph.ts";
import { effectsOf, type Instruction } from "./region_probe.ts";
import { regionModule } from "./region_module.ts";

/** What is translated, and when. */
export interface RegionOptions {
  /** Taken branches to an instruction after which it is translated; 0: never. */
  readonly hotAfter: number;
  /** Regions translated into one module. */
  readonly batch: number;
  /** Instructions of one region, about. */
  readonly maxInsns: number;
}

const DEFAULTS: RegionOptions = { hotAfter: HOT_COUNT, batch: 8, maxInsns: 400 };
/** Slices that something hot waits for others to be translated with. */
const MAX_WAIT = 20;
/** Places in the table. */
export const MAX_REGIONS = 16_384;
/** Decoded words that are remembered with their effects. */
const MAX_STEPS = 200_000;

/** A hot address: the records of its page, the offset in the page, and where it was met. */
interface Hot {
  readonly records: number;
  readonly offset: number;
  readonly place: HotPlace;
}

/** The virtual and the physical address of an instruction when it was found hot. */
export interface HotPlace {
  readonly va: bigint;
  readonly pa: number;
}

/** A region that has just been made. */
export interface TranslatedRegion extends HotPlace {
  readonly graph: Graph;
  /** The module it is in, together with others, and its name among the module's exports. */
  readonly module: Uint8Array;
  readonly exported: string;
  /** Its function, of REGION_TYPE. */
  readonly run: CallableFunction;
}

/** A region that is in use. */
interface Region {
  readonly place: number;
  readonly records: number;
  readonly offset: number;
}

export type Decode = (word: number) => Instruction | undefined;

export class Regions {
  /** Shared with the interpreter; place 0 stays empty. */
  readonly table = new WebAssembly.Table({ element: "anyfunc", initial: MAX_REGIONS });
  readonly #steps = new Map<number, Step | undefined>();
  readonly #byPage = new Map<number, Region[]>();
  readonly #free: number[] = [];
  #next = 1;
  #waiting: Hot[] = [];
  #waited = 0;
  /** Live regions, and instructions translated so far. */
  live = 0;
  translated = 0;
  modules = 0;
  /** Sees each region before it is used; gives the function to use, the region's or one on the way to it. */
  onTranslated: (region: TranslatedRegion) => CallableFunction = ({ run }) => run;

  readonly options: RegionOptions;

  constructor(
    readonly memory: SharedMemory,
    readonly decode: Decode,
    readonly pages: number,
    options: Partial<RegionOptions> = {},
  ) {
    this.options = { ...DEFAULTS, ...options };
  }

  /** Notes that the instruction at `offset` of a page is branched to often. */
  hot(records: number, offset: number, place: HotPlace): void {
    const record = records + offset * (RECORD_SIZE / 4);
    if (this.options.hotAfter === 0) return;
    if (this.memory.ld16(record + RECORD.HANDLER) === HANDLER.REGION) return;
    if (this.#waiting.some((h) => h.records === records && h.offset === offset)) return;
    this.#waiting.push({ records, offset, place });
    if (this.#waiting.length >= this.options.batch) this.translate();
  }

  /** To be called once a slice: what is waiting does not wait for ever. */
  settle(): void {
    if (this.#waiting.length > 0 && ++this.#waited > MAX_WAIT) this.translate();
  }

  /** Translates what is waiting. */
  translate(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waited = 0;
    const found: { readonly hot: Hot; readonly graph: Graph }[] = [];
    for (const hot of waiting) {
      const graph = regionGraph(
        hot.offset,
        (at) => this.#known(hot.records, at),
        this.options.maxInsns,
      );
      if (graph !== undefined) found.push({ hot, graph });
    }
    if (found.length === 0) return;
    if (this.#next + found.length > MAX_REGIONS && this.#free.length < found.length) this.dropAll();
    const bytes = regionModule(found.map(({ graph }) => graph), this.pages);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      env: { memory: this.memory.memory, table: this.table },
    });
    found.forEach(({ hot, graph }, i) => {
      const exported = `r${i}`;
      const run = exports[exported];
      if (typeof run !== "function") throw new InternalError("a region is no function");
      this.#enter(hot, this.onTranslated({ ...hot.place, graph, module: bytes, exported, run }));
      this.translated += graph.count;
    });
    this.modules++;
  }

  /**
   * The instruction at an offset of a page, as it was decoded. What has not been decoded has not been
   * executed, and would not be noticed when it changes.
   */
  #known(records: number, at: number): Step | undefined {
    const handler = this.memory.ld16(records + at * (RECORD_SIZE / 4) + RECORD.HANDLER);
    return handler === HANDLER.DECODE
      ? undefined
      : this.#step(this.memory.ld32(records + RECORD_WORDS + at));
  }

  #step(word: number): Step | undefined {
    if (this.#steps.has(word)) return this.#steps.get(word);
    const instruction = this.decode(word);
    const step = instruction && { instruction, effects: effectsOf(instruction) };
    if (this.#steps.size >= MAX_STEPS) this.#steps.clear();
    this.#steps.set(word, step);
    return step;
  }

  #enter({ records, offset }: Hot, region: CallableFunction): void {
    const record = records + offset * (RECORD_SIZE / 4);
    const handler = this.memory.ld16(record + RECORD.HANDLER);
    // Not decoded any more: it is not what was translated.
    if (handler === HANDLER.DECODE || handler === HANDLER.REGION) return;
    const place = this.#free.pop() ?? this.#next++;
    this.table.set(place, region);
    const entry = records + RECORD_REGIONS + offset;
    this.memory.st16(entry + REGION_ENTRY.HANDLER, handler);
    this.memory.st16(entry + REGION_ENTRY.PLACE, place);
    writeHandler(this.memory, record, HANDLER.REGION, 0);
    const page = this.#byPage.get(records) ?? [];
    page.push({ place, records, offset });
    this.#byPage.set(records, page);
    this.live++;
  }

  /** A word of the page has changed: none of its regions is used again. */
  dropPage(records: number): void {
    this.#waiting = this.#waiting.filter((h) => h.records !== records);
    for (const region of this.#byPage.get(records) ?? []) this.#drop(region);
    this.#byPage.delete(records);
  }

  #drop({ place, records, offset }: Region): void {
    const record = records + offset * (RECORD_SIZE / 4);
    if (this.memory.ld16(record + RECORD.HANDLER) === HANDLER.REGION) {
      writeHandler(
        this.memory,
        record,
        this.memory.ld16(records + RECORD_REGIONS + offset + REGION_ENTRY.HANDLER),
        this.options.hotAfter,
      );
    }
    this.table.set(place, null);
    this.#free.push(place);
    this.live--;
  }

  dropAll(): void {
    for (const records of [...this.#byPage.keys()]) this.dropPage(records);
    this.#waiting = [];
  }
}
