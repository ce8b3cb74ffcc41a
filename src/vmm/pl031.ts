/**
 * The PL031 real time clock (Arm PrimeCell, r1p3; DDI 0224).
 *
 * It counts virtual seconds from a start that is part of the machine's configuration, never from the
 * host's clock: two runs read the same dates. RTCMIS follows RTCRIS and RTCIMSC; the alarm comes at the
 * moment at which RTCDR becomes RTCMR. The counter always runs (RTCCR reads as 1), as QEMU's does, and
 * like a real clock it goes on through a reset of the machine.
 */
import { bool, layout, u32, u53, type ViewOf } from "../base/struct.ts";
import { type AccessSize, type MmioDevice, wordPart } from "./mmio.ts";

/** Byte offsets of the registers. */
export const PL031_REG = {
  DR: 0x00,
  MR: 0x04,
  LR: 0x08,
  CR: 0x0c,
  IMSC: 0x10,
  RIS: 0x14,
  MIS: 0x18,
  ICR: 0x1c,
  PeriphID0: 0xfe0,
} as const;

/** RTCPeriphID0-3 and RTCPCellID0-3. */
const ID_BYTES: readonly number[] = [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/** RTCDR at virtual time 0 unless `--rtc` says otherwise: 2024-01-01T00:00:00Z, in seconds since 1970. */
export const RTC_EPOCH = 1_704_067_200;

const NS = 1e9;
/** Virtual time that is counted exactly ends here. */
const LAST_NS = Number.MAX_SAFE_INTEGER;
const TWO_32 = 2 ** 32;

/** The clock's registers. */
export const Pl031Layout = layout("pl031", {
  /** RTCDR at virtual time 0, modulo 2^32. */
  start: u32(),
  mr: u32(),
  lr: u32(),
  imsc: u32(),
  ris: u32(),
  /** Level of RTCINTR that was last reported. */
  irqLevel: bool(),
  /** Virtual time of the next alarm in ns; 0: there is none. */
  alarmNs: u53(),
});

/** What the clock is connected to. */
export interface Pl031Wires {
  /** Virtual time in ns. */
  nowNs(): number;
  /** RTCINTR changes to `level`. */
  setIrq(level: boolean): void;
  /** {@link Pl031.nextNs} has changed. */
  alarmChanged(): void;
}

/** The clock over state that the caller owns. */
export class Pl031 implements MmioDevice {
  constructor(readonly state: ViewOf<typeof Pl031Layout>, readonly wires: Pl031Wires) {}

  /** Starts the clock so that virtual time 0 is `epoch` (seconds since 1970). */
  start(epoch: number): void {
    this.state.start = epoch % TWO_32;
  }

  /** Power-on values of everything but the time. */
  reset(): void {
    const { state } = this;
    state.mr =
      state.lr =
      state.imsc =
      state.ris =
        0;
    this.#setAlarm(0);
    this.#updateIrq();
  }

  /** RTCDR now. */
  count(): number {
    return (this.state.start + Math.floor(this.wires.nowNs() / NS)) % TWO_32;
  }

  /** When {@link onTime} is due, in ns of virtual time; Infinity when nothing is. */
  get nextNs(): number {
    return this.state.alarmNs === 0 ? Infinity : this.state.alarmNs;
  }

  /** Virtual time has come to `nowNs`. */
  onTime(nowNs: number): void {
    if (nowNs < this.nextNs) return;
    // The next match is 2^32 seconds away: further than virtual time goes.
    this.state.alarmNs = 0;
    this.state.ris = 1;
    this.#updateIrq();
  }

  read(offset: number, size: AccessSize): number {
    return wordPart(this.#word(offset & ~3), offset, size);
  }

  /** Writes a register from its first byte on; read-only ones ignore it. */
  write(offset: number, size: AccessSize, value: number): void {
    const word = size === 4 ? value >>> 0 : value & ((1 << (8 * size)) - 1);
    const { state } = this;
    if (offset === PL031_REG.MR) this.#setMatch(word);
    else if (offset === PL031_REG.LR) this.#load(word);
    else if (offset === PL031_REG.IMSC) state.imsc = word & 1;
    else if (offset === PL031_REG.ICR) state.ris &= ~word;
    this.#updateIrq();
  }

  #word(register: number): number {
    const { state } = this;
    if (register >= PL031_REG.PeriphID0) {
      return ID_BYTES[(register - PL031_REG.PeriphID0) >>> 2] ?? 0;
    }
    switch (register) {
      case PL031_REG.DR:
        return this.count();
      case PL031_REG.MR:
        return state.mr;
      case PL031_REG.LR:
        return state.lr;
      case PL031_REG.CR:
        return 1;
      case PL031_REG.IMSC:
        return state.imsc;
      case PL031_REG.RIS:
        return state.ris;
      case PL031_REG.MIS:
        return state.ris & state.imsc;
      default:
        return 0;
    }
  }

  #load(value: number): void {
    const { state } = this;
    state.start = (state.start + value - this.count() + TWO_32) % TWO_32;
    state.lr = value;
    this.#setMatch(state.mr);
  }

  /** The alarm comes when the counter has `value` next: at once when it has it now. */
  #setMatch(value: number): void {
    this.state.mr = value;
    const ahead = (value - this.count() + TWO_32) % TWO_32;
    if (ahead === 0) this.state.ris = 1;
    const ns = (Math.floor(this.wires.nowNs() / NS) + ahead) * NS;
    this.#setAlarm(ahead === 0 || ns > LAST_NS ? 0 : ns);
  }

  #setAlarm(ns: number): void {
    if (ns === this.state.alarmNs) return;
    this.state.alarmNs = ns;
    this.wires.alarmChanged();
  }

  #updateIrq(): void {
    const level = (this.state.ris & this.state.imsc) !== 0;
    if (level === this.state.irqLevel) return;
    this.state.irqLevel = level;
    this.wires.setIrq(level);
  }
}
