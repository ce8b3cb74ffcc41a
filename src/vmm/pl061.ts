/**
 * The PL061 GPIO port (Arm PrimeCell, r1p0; DDI 0190) with the board's power button on pin 3: pressed,
 * the pin is high for a tenth of a second of virtual time, which a driver's debouncing needs.
 *
 * Not there: the alternate functions that GPIOAFSEL selects (there is none to select).
 */
import { bool, layout, u53, u8, type ViewOf } from "../base/struct.ts";
import { type AccessSize, type MmioDevice, wordPart } from "./mmio.ts";

/** Byte offsets of the registers. GPIODATA takes 0x000 to 0x3fc: address bits 9 to 2 are a mask of pins. */
export const PL061_REG = {
  DATA: 0x000,
  DIR: 0x400,
  IS: 0x404,
  IBE: 0x408,
  IEV: 0x40c,
  IE: 0x410,
  RIS: 0x414,
  MIS: 0x418,
  IC: 0x41c,
  AFSEL: 0x420,
  PeriphID0: 0xfe0,
} as const;

/** The pin that the power button is on. */
export const POWER_BUTTON_PIN = 3;
/** How long a press of the power button lasts, in ns of virtual time. */
export const BUTTON_PRESS_NS = 100_000_000;

/** GPIOPeriphID0-3 and GPIOPCellID0-3. */
const ID_BYTES: readonly number[] = [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/** The port's registers. */
export const Pl061Layout = layout("pl061", {
  /** What the port drives its outputs with. */
  data: u8(),
  /** Levels from outside. */
  inputs: u8(),
  dir: u8(),
  is: u8(),
  ibe: u8(),
  iev: u8(),
  ie: u8(),
  /** Edges seen and not cleared. */
  edges: u8(),
  afsel: u8(),
  /** Level of GPIOINTR that was last reported. */
  irqLevel: bool(),
  /** Virtual time in ns at which the power button is let go; 0: it is not pressed. */
  releaseNs: u53(),
});

type Stored = "dir" | "is" | "ibe" | "iev" | "ie" | "afsel";

const STORED: ReadonlyMap<number, Stored> = new Map<number, Stored>([
  [PL061_REG.DIR, "dir"],
  [PL061_REG.IS, "is"],
  [PL061_REG.IBE, "ibe"],
  [PL061_REG.IEV, "iev"],
  [PL061_REG.IE, "ie"],
  [PL061_REG.AFSEL, "afsel"],
]);

/** What the port is connected to. */
export interface Pl061Wires {
  nowNs(): number;
  /** GPIOINTR changes to `level`. */
  setIrq(level: boolean): void;
  /** {@link Pl061.nextNs} has changed. */
  alarmChanged(): void;
}

/** The port over state that the caller owns. */
export class Pl061 implements MmioDevice {
  constructor(readonly state: ViewOf<typeof Pl061Layout>, readonly wires: Pl061Wires) {}

  /** Power-on values: all pins are inputs, nobody presses the button. */
  reset(): void {
    const { state } = this;
    state.data = state.inputs = state.edges = 0;
    for (const field of STORED.values()) state[field] = 0;
    this.#release(0);
    this.#updateIrq();
  }

  /** The level of an input pin (0 to 7), from outside. */
  setInput(pin: number, level: boolean): void {
    const before = this.#levels();
    const bit = 1 << pin;
    this.state.inputs = level ? this.state.inputs | bit : this.state.inputs & ~bit;
    this.#changed(before);
  }

  /** Presses the power button; it is let go by {@link onTime}. */
  pressPowerButton(): void {
    this.setInput(POWER_BUTTON_PIN, true);
    this.#release(this.wires.nowNs() + BUTTON_PRESS_NS);
  }

  /** When {@link onTime} is due, in ns of virtual time; Infinity when nothing is. */
  get nextNs(): number {
    return this.state.releaseNs === 0 ? Infinity : this.state.releaseNs;
  }

  /** Virtual time has come to `nowNs`. */
  onTime(nowNs: number): void {
    if (nowNs < this.nextNs) return;
    this.state.releaseNs = 0;
    this.setInput(POWER_BUTTON_PIN, false);
  }

  read(offset: number, size: AccessSize): number {
    return wordPart(this.#word(offset & ~3), offset, size);
  }

  /** Writes a register from its first byte on; read-only ones ignore it. */
  write(offset: number, _size: AccessSize, value: number): void {
    const { state } = this;
    const before = this.#levels();
    const stored = STORED.get(offset);
    if (offset < PL061_REG.DIR) {
      const mask = (offset >>> 2) & state.dir;
      state.data = (state.data & ~mask) | (value & mask);
    } else if (stored !== undefined) state[stored] = value & 0xff;
    else if (offset === PL061_REG.IC) state.edges &= ~value;
    this.#changed(before);
  }

  #word(register: number): number {
    const { state } = this;
    if (register < PL061_REG.DIR) return this.#levels() & (register >>> 2);
    if (register >= PL061_REG.PeriphID0) {
      return ID_BYTES[(register - PL061_REG.PeriphID0) >>> 2] ?? 0;
    }
    if (register === PL061_REG.RIS) return this.#raw();
    if (register === PL061_REG.MIS) return this.#raw() & state.ie;
    const stored = STORED.get(register);
    return stored === undefined ? 0 : state[stored];
  }

  /** Levels of all pins: driven by the port where it is an output. */
  #levels(): number {
    const { data, dir, inputs } = this.state;
    return (data & dir) | (inputs & ~dir & 0xff);
  }

  /** GPIORIS: edges seen, and levels as they are now. */
  #raw(): number {
    const { is, iev, edges } = this.state;
    return (edges & ~is) | (~(this.#levels() ^ iev) & is & 0xff);
  }

  /** Looks for edges since the levels were `before`. */
  #changed(before: number): void {
    const { state } = this;
    const now = this.#levels();
    const wanted = state.ibe | ~(now ^ state.iev);
    state.edges |= (before ^ now) & wanted & ~state.is & 0xff;
    this.#updateIrq();
  }

  #release(ns: number): void {
    if (ns === this.state.releaseNs) return;
    this.state.releaseNs = ns;
    this.wires.alarmChanged();
  }

  #updateIrq(): void {
    const level = (this.#raw() & this.state.ie) !== 0;
    if (level === this.state.irqLevel) return;
    this.state.irqLevel = level;
    this.wires.setIrq(level);
  }
}
