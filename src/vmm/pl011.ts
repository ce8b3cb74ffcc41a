/**
 * The PL011 UART (Arm PrimeCell, r1p5; DDI 0183).
 *
 * What differs from silicon: a byte written to UARTDR is on the wire at once, so the transmit FIFO is
 * always empty; the receive timeout is zero, so UARTRTINTR rises with the first byte; and like QEMU's,
 * the port transmits and receives whatever UARTCR says, because guests made for this board rely on it.
 * DMA and modem inputs are not there.
 */

import { accessMask, type AccessSize, type MmioDevice, wordPart } from "./mmio.ts";

/** Depth of the receive FIFO when enabled; 1 when not. */
export const PL011_FIFO_DEPTH = 16;

/** Byte offsets of the registers. */
export const PL011_REG = {
  DR: 0x000,
  RSR_ECR: 0x004,
  FR: 0x018,
  ILPR: 0x020,
  IBRD: 0x024,
  FBRD: 0x028,
  LCR_H: 0x02c,
  CR: 0x030,
  IFLS: 0x034,
  IMSC: 0x038,
  RIS: 0x03c,
  MIS: 0x040,
  ICR: 0x044,
  DMACR: 0x048,
  PeriphID0: 0xfe0,
} as const;

/** Bits of UARTFR. */
export const PL011_FR = { RXFE: 1 << 4, TXFF: 1 << 5, RXFF: 1 << 6, TXFE: 1 << 7 } as const;
/** Bits of UARTIMSC, UARTRIS, UARTMIS and UARTICR that this port can raise. */
export const PL011_INT = { RX: 1 << 4, TX: 1 << 5, RT: 1 << 6, OE: 1 << 10 } as const;
/** UARTLCR_H.FEN: the FIFOs are enabled. */
export const PL011_LCR_H_FEN = 1 << 4;
/** UARTCR.LBE: what is transmitted is received instead. */
export const PL011_CR_LBE = 1 << 7;
/** UARTDR.OE: a byte was lost before this one was read. */
export const PL011_DR_OE = 1 << 11;
const RSR_OE = 1 << 3;

/** UARTPeriphID0-3 and UARTPCellID0-3. */
const ID_BYTES: readonly number[] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/** Receive trigger in bytes, by UARTIFLS.RXIFLSEL; the reserved values act as the highest. */
const RX_TRIGGER: readonly number[] = [2, 4, 8, 12, 14, 14, 14, 14];

/** All state of a PL011: mutable numbers, and the FIFO's bytes; may be a view of shared memory. */
export interface Pl011State {
  /** UARTRSR (only OE can be set). */
  rsr: number;
  ilpr: number;
  ibrd: number;
  fbrd: number;
  lcrH: number;
  cr: number;
  ifls: number;
  imsc: number;
  ris: number;
  dmacr: number;
  /** A byte was lost since UARTDR was last read: 0 or 1. */
  overrun: number;
  /** Level of UARTINTR that was last reported: 0 or 1. */
  irqLevel: number;
  /** Index of the oldest byte in `rxFifo`. */
  rxHead: number;
  /** Bytes in `rxFifo`. */
  rxCount: number;
  /** {@link PL011_FIFO_DEPTH} bytes, used as a ring. */
  readonly rxFifo: Uint8Array;
}

type NumberField = Exclude<keyof Pl011State, "rxFifo">;

const RESET_VALUES: Readonly<Record<NumberField, number>> = {
  rsr: 0,
  ilpr: 0,
  ibrd: 0,
  fbrd: 0,
  lcrH: 0,
  cr: 0x300,
  ifls: 0x12,
  imsc: 0,
  ris: 0,
  dmacr: 0,
  overrun: 0,
  irqLevel: 0,
  rxHead: 0,
  rxCount: 0,
};

/** Fresh state outside shared memory, with the reset values. */
export function createPl011State(): Pl011State {
  return { ...RESET_VALUES, rxFifo: new Uint8Array(PL011_FIFO_DEPTH) };
}

/** What a port is connected to. */
export interface Pl011Wires {
  /** A byte goes out. */
  transmit(byte: number): void;
  /** UARTINTR changes to `level`. */
  setIrq(level: boolean): void;
}

interface Register {
  read(uart: Pl011): number;
  write?(uart: Pl011, value: number): void;
}

/** A register that holds the bits of `mask` and does nothing else. */
function stored(field: NumberField, mask: number): Register {
  return {
    read: (uart) => uart.state[field],
    write: (uart, value) => {
      uart.state[field] = value & mask;
    },
  };
}

/** The register map, by word index. Registers whose write can move UARTINTR rely on write() below. */
const REGISTERS: ReadonlyMap<number, Register> = new Map<number, Register>([
  [PL011_REG.DR, { read: (uart) => uart.readData(), write: (uart, value) => uart.send(value) }],
  [PL011_REG.RSR_ECR, {
    read: (uart) => uart.state.rsr,
    write: (uart) => {
      uart.state.rsr = 0;
    },
  }],
  [PL011_REG.FR, { read: (uart) => uart.flags() }],
  [PL011_REG.ILPR, stored("ilpr", 0xff)],
  [PL011_REG.IBRD, stored("ibrd", 0xffff)],
  [PL011_REG.FBRD, stored("fbrd", 0x3f)],
  [PL011_REG.LCR_H, {
    read: (uart) => uart.state.lcrH,
    write: (uart, value) => uart.setLineControl(value & 0xff),
  }],
  [PL011_REG.CR, stored("cr", 0xff87)],
  [PL011_REG.IFLS, stored("ifls", 0x3f)],
  [PL011_REG.IMSC, stored("imsc", 0x7ff)],
  [PL011_REG.RIS, { read: (uart) => uart.state.ris }],
  [PL011_REG.MIS, { read: (uart) => uart.state.ris & uart.state.imsc }],
  [PL011_REG.ICR, {
    read: () => 0,
    write: (uart, value) => {
      uart.state.ris &= ~value;
    },
  }],
  [PL011_REG.DMACR, stored("dmacr", 0x7)],
]);

/** One PL011 port over state that the caller owns. */
export class Pl011 implements MmioDevice {
  /** The registers and the FIFO. */
  readonly state: Pl011State;
  readonly #wires: Pl011Wires;

  /** Makes the port over `state`, which is left as it is. */
  constructor(state: Pl011State, wires: Pl011Wires) {
    this.state = state;
    this.#wires = wires;
  }

  /** Power-on values; UARTINTR goes low. */
  reset(): void {
    const wasHigh = this.state.irqLevel === 1;
    Object.assign(this.state, RESET_VALUES);
    this.state.rxFifo.fill(0);
    if (wasHigh) this.#wires.setIrq(false);
  }

  /** Reads a register; UARTDR takes the oldest byte. What is not there reads as zero. */
  read(offset: number, size: AccessSize): number {
    const register = offset & ~3;
    const id = register - PL011_REG.PeriphID0;
    const word = id >= 0 ? ID_BYTES[id >>> 2] ?? 0 : REGISTERS.get(register)?.read(this) ?? 0;
    this.#updateIrq();
    return wordPart(word, offset, size);
  }

  /** Writes a register from its first byte on; read-only ones and what is not there ignore it. */
  write(offset: number, size: AccessSize, value: number): void {
    REGISTERS.get(offset)?.write?.(this, value & accessMask(size));
    this.#updateIrq();
  }

  /** Bytes that {@link receive} takes before one is lost. */
  receiveSpace(): number {
    return this.#depth() - this.state.rxCount;
  }

  /** A byte (0 to 255) arrives. False when the FIFO was full: the byte is lost, as an overrun. */
  receive(byte: number): boolean {
    const taken = this.#push(byte);
    this.#updateIrq();
    return taken;
  }

  /** UARTFR as it is now. */
  flags(): number {
    const { rxCount } = this.state;
    const empty = rxCount === 0 ? PL011_FR.RXFE : 0;
    const full = rxCount === this.#depth() ? PL011_FR.RXFF : 0;
    return PL011_FR.TXFE | empty | full;
  }

  /** Effect of reading UARTDR: the oldest byte with its error bits. */
  readData(): number {
    const { state } = this;
    const overrun = state.overrun ? PL011_DR_OE : 0;
    const byte = state.rxFifo[state.rxHead] ?? 0;
    state.overrun = 0;
    if (state.rxCount > 0) {
      state.rxHead = (state.rxHead + 1) % PL011_FIFO_DEPTH;
      state.rxCount -= 1;
    }
    if (state.rxCount < this.#trigger()) state.ris &= ~PL011_INT.RX;
    if (state.rxCount === 0) state.ris &= ~PL011_INT.RT;
    return byte | overrun;
  }

  /** Effect of writing UARTDR: the byte is out, and the FIFO has passed its trigger on the way down. */
  send(value: number): void {
    const byte = value & 0xff;
    if (this.state.cr & PL011_CR_LBE) this.#push(byte);
    else this.#wires.transmit(byte);
    this.state.ris |= PL011_INT.TX;
  }

  /** Effect of writing UARTLCR_H: turning the FIFOs on or off empties them. */
  setLineControl(value: number): void {
    const { state } = this;
    if ((state.lcrH ^ value) & PL011_LCR_H_FEN) {
      state.rxHead = 0;
      state.rxCount = 0;
      state.ris &= ~(PL011_INT.RX | PL011_INT.RT);
    }
    state.lcrH = value;
  }

  #depth(): number {
    return this.state.lcrH & PL011_LCR_H_FEN ? PL011_FIFO_DEPTH : 1;
  }

  #trigger(): number {
    if (!(this.state.lcrH & PL011_LCR_H_FEN)) return 1;
    return RX_TRIGGER[(this.state.ifls >> 3) & 7] ?? 1;
  }

  #push(byte: number): boolean {
    const { state } = this;
    if (this.receiveSpace() <= 0) return this.#lose();
    state.rxFifo[(state.rxHead + state.rxCount) % PL011_FIFO_DEPTH] = byte;
    state.rxCount += 1;
    // Both: a reader that stops below the trigger must still be told of the rest.
    state.ris |= PL011_INT.RT;
    if (state.rxCount >= this.#trigger()) state.ris |= PL011_INT.RX;
    return true;
  }

  #lose(): boolean {
    this.state.overrun = 1;
    this.state.rsr |= RSR_OE;
    this.state.ris |= PL011_INT.OE;
    return false;
  }

  #updateIrq(): void {
    const level = this.state.ris & this.state.imsc ? 1 : 0;
    if (level === this.state.irqLevel) return;
    this.state.irqLevel = level;
    this.#wires.setIrq(level === 1);
  }
}
