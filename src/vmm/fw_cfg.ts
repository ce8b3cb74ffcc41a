/**
 * fw_cfg, QEMU's firmware configuration device, as the `virt` board has it in its MMIO form: items by
 * number, a directory of named files, and the DMA interface. All items are read-only.
 * Source: docs/specs/fw_cfg.rst of QEMU.
 *
 * Selector and DMA address are big-endian, data comes in the order of its bytes.
 */
import { layout, u32, type ViewOf } from "../base/struct.ts";
import { type GuestRam, NotGuestRam } from "./guest_ram.ts";
import { type AccessSize, type MmioDevice } from "./mmio.ts";

/** Byte offsets of the registers. */
export const FW_CFG_REG = { DATA: 0, SELECTOR: 8, DMA: 16 } as const;
/** Numbers of items. Files follow from FILE_FIRST. */
export const FW_CFG_ITEM = {
  SIGNATURE: 0x00,
  ID: 0x01,
  RAM_SIZE: 0x03,
  NB_CPUS: 0x05,
  CMDLINE_SIZE: 0x14,
  CMDLINE_DATA: 0x15,
  FILE_DIR: 0x19,
  FILE_FIRST: 0x20,
} as const;
/** Bits of FWCfgDmaAccess.control. */
export const FW_CFG_DMA = { ERROR: 1, READ: 2, SKIP: 4, SELECT: 8, WRITE: 16 } as const;
/** ID: the traditional interface and DMA. */
const ID_VALUE = 3;
/** What the DMA address register reads as, "QEMU CFG". */
const DMA_SIGNATURE = [0x5145_4d55, 0x2043_4647] as const;
const FILE_NAME_SIZE = 56;
/** struct FWCfgDmaAccess: control, length, address. */
const DMA_ACCESS_SIZE = 16;
/** Bytes written to guest memory at once. */
const PIECE = 1 << 16;
/** Selector when a number is written that no item has. */
const NO_ITEM = 0xffff;

/** The device's state; the items are configuration. */
export const FwCfgLayout = layout("fw_cfg", {
  item: u32(),
  offset: u32(),
  dmaHi: u32(),
});

/** A named file. */
export interface FwCfgFile {
  /** Up to 55 ASCII characters, as `opt/org.example/name`. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** What the items tell. */
export interface FwCfgContent {
  readonly cpus: number;
  /** RAM in bytes. */
  readonly ramSize: number;
  readonly cmdline: string;
  readonly files: readonly FwCfgFile[];
}

function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}

function swap32(value: number): number {
  return ((swap16(value & 0xffff) << 16) | swap16(value >>> 16)) >>> 0;
}

function numberBytes(value: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i) % 256);
}

/** The directory: a big-endian count, then size, number, a reserved half-word and the name of each file. */
function directory(files: readonly FwCfgFile[]): Uint8Array {
  const entry = 8 + FILE_NAME_SIZE;
  const bytes = new Uint8Array(4 + entry * files.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, files.length);
  files.forEach(({ name, bytes: content }, i) => {
    const at = 4 + entry * i;
    view.setUint32(at, content.length);
    view.setUint16(at + 4, FW_CFG_ITEM.FILE_FIRST + i);
    const text = new TextEncoder().encode(name).subarray(0, FILE_NAME_SIZE - 1);
    bytes.set(text, at + 8);
  });
  return bytes;
}

/** Items by number. Files are listed by name, as QEMU lists them. */
function itemsOf({ cpus, ramSize, cmdline, files }: FwCfgContent): Map<number, Uint8Array> {
  const sorted = files.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const line = new TextEncoder().encode(`${cmdline}\0`);
  return new Map<number, Uint8Array>([
    [FW_CFG_ITEM.SIGNATURE, new TextEncoder().encode("QEMU")],
    [FW_CFG_ITEM.ID, numberBytes(ID_VALUE, 4)],
    [FW_CFG_ITEM.RAM_SIZE, numberBytes(ramSize, 8)],
    [FW_CFG_ITEM.NB_CPUS, numberBytes(cpus, 2)],
    [FW_CFG_ITEM.CMDLINE_SIZE, numberBytes(line.length, 4)],
    [FW_CFG_ITEM.CMDLINE_DATA, line],
    [FW_CFG_ITEM.FILE_DIR, directory(sorted)],
    ...sorted.map(({ bytes }, i) => [FW_CFG_ITEM.FILE_FIRST + i, bytes] as const),
  ]);
}

/** The device over state that the caller owns. */
export class FwCfg implements MmioDevice {
  readonly #items: ReadonlyMap<number, Uint8Array>;

  constructor(
    readonly state: ViewOf<typeof FwCfgLayout>,
    readonly ram: GuestRam,
    content: FwCfgContent,
  ) {
    this.#items = itemsOf(content);
  }

  /** Item 0 is selected. */
  reset(): void {
    const { state } = this;
    state.item = state.offset = state.dmaHi = 0;
  }

  read(offset: number, size: AccessSize): number {
    if (offset < FW_CFG_REG.SELECTOR) return this.#data(size);
    const half = (offset - FW_CFG_REG.DMA) >>> 2;
    const word = offset >= FW_CFG_REG.DMA && size === 4 ? DMA_SIGNATURE[half] : undefined;
    return word === undefined ? 0 : swap32(word);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset === FW_CFG_REG.SELECTOR && size === 2) this.#select(swap16(value));
    else if (offset === FW_CFG_REG.DMA && size === 4) this.state.dmaHi = swap32(value);
    else if (offset === FW_CFG_REG.DMA + 4 && size === 4) this.#transfer(swap32(value));
  }

  #select(item: number): void {
    this.state.item = this.#items.has(item) ? item : NO_ITEM;
    this.state.offset = 0;
  }

  /** The rest of the selected item; empty when there is none. */
  #rest(): Uint8Array {
    const item = this.#items.get(this.state.item);
    return item === undefined ? new Uint8Array(0) : item.subarray(this.state.offset);
  }

  /** The next bytes of the item, zeros behind its end. */
  #data(size: AccessSize): number {
    const rest = this.#rest();
    let value = 0;
    for (let i = 0; i < size; i++) value += (rest[i] ?? 0) * 256 ** i;
    this.state.offset += Math.min(size, rest.length);
    return value;
  }

  /** Carries out the FWCfgDmaAccess at the address just completed. */
  #transfer(lo: number): void {
    const { state, ram } = this;
    const pa = state.dmaHi * 2 ** 32 + lo;
    state.dmaHi = 0;
    const access = new Uint8Array(DMA_ACCESS_SIZE);
    try {
      ram.read(pa, access);
      const failed = !this.#obey(new DataView(access.buffer));
      ram.write(pa, Uint8Array.of(0, 0, 0, failed ? FW_CFG_DMA.ERROR : 0));
    } catch (error) {
      // Where the answer should go there is no memory: nobody is left to be told.
      if (!(error instanceof NotGuestRam)) throw error;
    }
  }

  /** False: the control word is to say that it failed. */
  #obey(access: DataView): boolean {
    const control = access.getUint32(0);
    const length = access.getUint32(4);
    const to = access.getUint32(8) * 2 ** 32 + access.getUint32(12);
    if (control & FW_CFG_DMA.SELECT) this.#select(control >>> 16);
    if (control & FW_CFG_DMA.READ) return this.#copy(to, length);
    if (control & FW_CFG_DMA.WRITE) return length === 0;
    if (control & FW_CFG_DMA.SKIP) {
      this.state.offset += Math.min(length, this.#rest().length);
    }
    return true;
  }

  /** Copies the item's next bytes, then zeros, to guest memory; false where that is none. */
  #copy(pa: number, length: number): boolean {
    if (!this.ram.has(pa, length)) return false;
    const rest = this.#rest();
    const count = Math.min(length, rest.length);
    this.ram.write(pa, rest.subarray(0, count));
    for (let done = count; done < length; done += PIECE) {
      this.ram.write(pa + done, new Uint8Array(Math.min(PIECE, length - done)));
    }
    this.state.offset += count;
    return true;
  }
}
