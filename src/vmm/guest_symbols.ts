/**
 * Names for a guest's addresses, wherever its kernel has moved itself to.
 *
 * A kernel's symbols have the addresses it was linked at. At run time it lies elsewhere by a slide,
 * which is what the guest's vector base tells: VBAR_EL1 is the symbol `vectors`, moved. With page-table
 * isolation VBAR_EL1 points to a trampoline while user space runs, far from any place a kernel can be
 * moved to: the slide known before holds. Before its MMU is on, a kernel runs at physical addresses.
 */
import { UserError } from "../base/errors.ts";
import type { NamedBytes } from "./load.ts";
import { SymbolTable } from "./elf_symbols.ts";
import { loadImage } from "./image.ts";
import { findKallsyms } from "./kallsyms.ts";

/** KASLR moves arm64 kernels by multiples of this. */
const SLIDE_ALIGN = 0x1_0000n;
/** And by less than this (kernel/kaslr.c: up to three eighths of the kernel's half); the trampoline is beyond. */
const MAX_SLIDE = 3n << 45n;

/** What is known of a kernel's place. */
export interface KernelPlace {
  /** Link address of `vectors`; undefined: the symbols' addresses are those of the guest. */
  readonly vectors: bigint | undefined;
  /** Link address of `_text`, which the loader puts at `loadedAt`. */
  readonly text: bigint | undefined;
}

/** Symbols with the kernel's slide, which may become known while the guest runs. */
export class GuestSymbols {
  #slide: bigint | undefined;
  #vbar = 0n;

  constructor(
    readonly table: SymbolTable,
    readonly place: KernelPlace = { vectors: undefined, text: undefined },
    /** Physical address of the kernel's start. */
    readonly loadedAt = 0,
  ) {}

  static readonly EMPTY: GuestSymbols = new GuestSymbols(SymbolTable.EMPTY);

  /** Symbols of a System.map, `nm`'s listing or the like. */
  static fromNm(text: string, loadedAt = 0): GuestSymbols {
    const address = (name: string): bigint | undefined => {
      const match = new RegExp(`^([0-9a-f]{16}) [A-Za-z] ${name}$`, "m").exec(text);
      return match ? BigInt(`0x${match[1]}`) : undefined;
    };
    const place = { vectors: address("vectors"), text: address("_text") };
    return new GuestSymbols(SymbolTable.fromNm(text), place, loadedAt);
  }

  /** Symbols that a kernel image carries itself; undefined when it carries none. */
  static fromImage(image: Uint8Array, loadedAt = 0): GuestSymbols | undefined {
    const found = findKallsyms(image);
    if (found === undefined) return undefined;
    const { base = 0n } = found;
    const table = SymbolTable.fromSorted(
      found.symbols.map(({ name, offset }) => ({ name, address: base + BigInt(offset) })),
    );
    const vectors = found.symbols.find(({ name }) => name === "vectors");
    const place = {
      vectors: vectors && base + BigInt(vectors.offset),
      // The kernel's image begins on a multiple of 2 MiB, not far before its first symbol.
      text: found.base === undefined ? undefined : base - (base % 0x20_0000n),
    };
    return new GuestSymbols(table, place, loadedAt);
  }

  /** What was added to the kernel's addresses; undefined while that is not known. */
  get slide(): bigint | undefined {
    return this.place.vectors === undefined ? 0n : this.#slide;
  }

  /** A vCPU's VBAR_EL1. Cheap when it is the one seen before. */
  observe(vbar: bigint): void {
    const { vectors } = this.place;
    if (vbar === this.#vbar || vectors === undefined) return;
    this.#vbar = vbar;
    const slide = vbar - vectors;
    if (slide >= 0n && slide < MAX_SLIDE && slide % SLIDE_ALIGN === 0n) this.#slide = slide;
  }

  /** "name" or "name+0x12" for an address; undefined outside all symbols. */
  lookup(pc: bigint): string | undefined {
    const { slide, place: { text } } = this;
    const kernel = pc >> 63n !== 0n;
    if (!kernel && text !== undefined) return this.#find(pc - BigInt(this.loadedAt) + text);
    return slide === undefined ? undefined : this.#find(pc - slide);
  }

  #find(address: bigint): string | undefined {
    if (address < 0n) return undefined;
    return this.table.lookup(Number(address & 0xffff_ffffn), Number(address >> 32n));
  }
}

const isElfFile = (bytes: Uint8Array): boolean => bytes[0] === 0x7f && bytes[1] === 0x45;

/**
 * Names for a kernel's addresses: from the file of `--symbols` (an ELF file, a System.map), else from
 * the kernel itself, ELF or an image that carries them. UserError when the file has none.
 */
export async function symbolsFor(
  kernel: NamedBytes,
  file: NamedBytes | undefined,
): Promise<GuestSymbols> {
  const { kind, segments: [first] } = await loadImage(kernel.bytes, { label: kernel.name });
  const loadedAt = first?.pa ?? 0;
  if (file !== undefined) return fromFile(file, loadedAt);
  if (isElfFile(kernel.bytes)) return new GuestSymbols(SymbolTable.fromElf(kernel.bytes));
  const image = kind === "Image" ? first?.bytes : undefined;
  return (image && GuestSymbols.fromImage(image, loadedAt)) ?? GuestSymbols.EMPTY;
}

function fromFile({ name, bytes }: NamedBytes, loadedAt: number): GuestSymbols {
  if (isElfFile(bytes)) return new GuestSymbols(SymbolTable.fromElf(bytes, name));
  const symbols = GuestSymbols.fromNm(new TextDecoder().decode(bytes), loadedAt);
  if (symbols.table.size === 0) {
    throw new UserError(`${name}: no symbols; an ELF file, or lines as in System.map`);
  }
  return symbols;
}
