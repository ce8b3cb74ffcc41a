/** The unit guest's operations, typed: fixtures/guests/unit/README.md says what each does. */

/** The words of an operation: its number, then its operands a to f; what is left out is 0. */
export type Operation = readonly (number | bigint)[];
export type Word = number | bigint;

/** Numbers of the operations. */
export const OP = {
  END: 0x00,
  NOP: 0x01,
  MARK: 0x02,
  JUMP: 0x03,
  SPIN: 0x04,
  WAIT_TICKS: 0x05,
  WAIT_MEMORY: 0x06,
  OFF: 0x07,
  RESET: 0x08,
  CPU_OFF: 0x09,
  CPU_ON: 0x0a,
  IDLE: 0x0b,
  DUMP: 0x0c,
  UNMASK: 0x10,
  WFI: 0x11,
  WAIT_INTERRUPTS: 0x12,
  RESET_COUNT: 0x13,
  HANDLER: 0x14,
  HOOK: 0x15,
  CONFIG: 0x20,
  ENABLE: 0x21,
  DISABLE: 0x22,
  SET_PENDING: 0x23,
  CLEAR_PENDING: 0x24,
  SET_ACTIVE: 0x25,
  CLEAR_ACTIVE: 0x26,
  PRIORITY: 0x27,
  ROUTE: 0x28,
  GICD_CTLR: 0x29,
  GIC_STATE: 0x2a,
  PMR: 0x30,
  ICC_CTLR: 0x31,
  BPR1: 0x32,
  IGRPEN1: 0x33,
  IGRPEN0: 0x34,
  ACK: 0x35,
  EOI: 0x36,
  DIR: 0x37,
  SGI: 0x38,
  SGI_RAW: 0x39,
  EOI_SPURIOUS: 0x3a,
  TIMER_AT: 0x40,
  TIMER_IN: 0x41,
  TIMER_CTL: 0x42,
  TIMER_PERIOD: 0x43,
  TIMER_READ: 0x44,
  HVC: 0x50,
  SMC: 0x51,
  READ: 0x52,
  WRITE: 0x53,
  MRS: 0x54,
  MSR: 0x55,
  EXEC: 0x56,
  Q_WRITE: 0x60,
  Q_READ: 0x61,
  Q_FILL: 0x62,
  Q_CHECK: 0x63,
  SYS_FILL: 0x64,
  SYS_CHECK: 0x65,
} as const;

/** Mode bits of {@link op.handler}. */
export const H = {
  EOI: 0x001,
  DIR: 0x002,
  NEST: 0x004,
  LOG_EOI: 0x008,
  DISABLE: 0x010,
  LEAVE_MASKED: 0x020,
  NO_LOG: 0x040,
  NO_ACK: 0x080,
  KEEP_TIMER: 0x100,
} as const;

/** Flags of {@link op.config}. */
export const CONFIG = { GROUP1: 1, EDGE: 2, ENABLE: 4 } as const;

/** Masks of {@link op.unmask}. */
export const UNMASK = { NONE: 0, IRQ: 1, FIQ: 2 } as const;

/** Timers of the timer operations, and their PPIs. */
export const TIMER = { VIRTUAL: 0, PHYSICAL: 1 } as const;
export const TIMER_INTID = [27, 30] as const;

/** As an operand of EOI and DIR: the interrupt acknowledged last. */
export const LAST_ACKED = 0xffff_ffff_ffff_ffffn;
/** The affinity of CPU `index` as GICD_IROUTER and MPIDR_EL1 have it. */
export function affinityOf(index: number): number {
  return ((index >> 4) << 8) | (index & 15);
}

const UART_DATA = 0x0900_0000;

/** The operations by name. */
export const op = {
  end: (): Operation => [OP.END],
  nop: (): Operation => [OP.NOP],
  mark: (a: Word, b: Word = 0): Operation => [OP.MARK, a, b],
  /** To operation `index`, `times` times (0: always). */
  jump: (index: number, times = 0): Operation => [OP.JUMP, index, times],
  spin: (turns: number): Operation => [OP.SPIN, turns],
  waitTicks: (ticks: number): Operation => [OP.WAIT_TICKS, ticks],
  waitMemory: (address: Word, mask: Word, value: Word, limit = 0): Operation => [
    OP.WAIT_MEMORY,
    address,
    mask,
    value,
    limit,
  ],
  off: (): Operation => [OP.OFF],
  reset: (): Operation => [OP.RESET],
  cpuOff: (): Operation => [OP.CPU_OFF],
  cpuOn: (cpu: number, index = 0): Operation => [OP.CPU_ON, cpu, index],
  idle: (): Operation => [OP.IDLE],
  dump: (): Operation => [OP.DUMP],
  unmask: (mask: number = UNMASK.IRQ): Operation => [OP.UNMASK, mask],
  mask: (): Operation => [OP.UNMASK, UNMASK.NONE],
  wfi: (times = 1): Operation => [OP.WFI, times],
  /** Until `count` interrupts were handled, `limit` looks at most (0: no limit); `sleep`: WFI between looks. */
  waitInterrupts: (count: number, limit = 0, sleep = false): Operation => [
    OP.WAIT_INTERRUPTS,
    count,
    limit,
    sleep ? 1 : 0,
  ],
  resetCount: (): Operation => [OP.RESET_COUNT],
  /** Of all interrupts, or of `intid` only, which takes one of four slots. */
  handler: (mode: number, spin = 0, intid?: number, slot = 0): Operation => [
    OP.HANDLER,
    mode,
    spin,
    intid === undefined ? 0 : intid + 1,
    slot,
  ],
  /** The handler of `intid` writes `value` at `address` after the acknowledge, `uses` times at most. */
  hook: (
    slot: number,
    intid: number,
    address: Word,
    value: Word,
    size = 4,
    uses = 0,
  ): Operation => [OP.HOOK, slot, intid, address, value, size, uses],
  config: (intid: number, priority: number, flags: number, rd = 0): Operation => [
    OP.CONFIG,
    intid,
    priority,
    flags,
    rd,
  ],
  enable: (intid: number, rd = 0): Operation => [OP.ENABLE, intid, rd],
  disable: (intid: number, rd = 0): Operation => [OP.DISABLE, intid, rd],
  setPending: (intid: number, rd = 0): Operation => [OP.SET_PENDING, intid, rd],
  clearPending: (intid: number, rd = 0): Operation => [OP.CLEAR_PENDING, intid, rd],
  setActive: (intid: number, rd = 0): Operation => [OP.SET_ACTIVE, intid, rd],
  clearActive: (intid: number, rd = 0): Operation => [OP.CLEAR_ACTIVE, intid, rd],
  priority: (intid: number, priority: number, rd = 0): Operation => [
    OP.PRIORITY,
    intid,
    priority,
    rd,
  ],
  /** Routes an SPI to a CPU by GICD_IROUTER. */
  route: (intid: number, cpu: number): Operation => [OP.ROUTE, intid, affinityOf(cpu)],
  gicdCtlr: (value: number): Operation => [OP.GICD_CTLR, value],
  gicState: (intid: number, rd = 0): Operation => [OP.GIC_STATE, intid, rd],
  pmr: (value: number): Operation => [OP.PMR, value],
  iccCtlr: (value: number): Operation => [OP.ICC_CTLR, value],
  bpr1: (value: number): Operation => [OP.BPR1, value],
  igrpen1: (value: number): Operation => [OP.IGRPEN1, value],
  igrpen0: (value: number): Operation => [OP.IGRPEN0, value],
  ack: (group0 = false): Operation => [OP.ACK, group0 ? 1 : 0],
  eoi: (intid: Word = LAST_ACKED, group0 = false): Operation => [OP.EOI, intid, group0 ? 1 : 0],
  dir: (intid: Word = LAST_ACKED): Operation => [OP.DIR, intid],
  sgi: (intid: number, cpu: number): Operation => [OP.SGI, intid, cpu],
  sgiRaw: (value: Word, times = 1): Operation => [OP.SGI_RAW, value, times],
  /** An SGI to all CPUs but the own one (ICC_SGI1R_EL1.IRM). */
  sgiOthers: (intid: number): Operation => [OP.SGI_RAW, (1n << 40n) | (BigInt(intid) << 24n)],
  eoiSpurious: (times = 1): Operation => [OP.EOI_SPURIOUS, times],
  timerAt: (timer: number, cval: Word, ctl = 1): Operation => [OP.TIMER_AT, timer, cval, ctl],
  /** `delta` in ticks of 16 ns, which may be negative. */
  timerIn: (timer: number, delta: Word, ctl = 1): Operation => [OP.TIMER_IN, timer, delta, ctl],
  timerCtl: (timer: number, ctl: number): Operation => [OP.TIMER_CTL, timer, ctl],
  timerPeriod: (timer: number, ticks: number, count = 0): Operation => [
    OP.TIMER_PERIOD,
    timer,
    ticks,
    count,
  ],
  timerRead: (timer: number): Operation => [OP.TIMER_READ, timer],
  hvc: (times: number, x0: Word, x1: Word = 0, x2: Word = 0, x3: Word = 0): Operation => [
    OP.HVC,
    times,
    x0,
    x1,
    x2,
    x3,
  ],
  smc: (times: number, x0: Word, x1: Word = 0, x2: Word = 0, x3: Word = 0): Operation => [
    OP.SMC,
    times,
    x0,
    x1,
    x2,
    x3,
  ],
  read: (address: Word, size = 4, times = 1): Operation => [OP.READ, address, size, times],
  write: (address: Word, value: Word, size = 4, times = 1): Operation => [
    OP.WRITE,
    address,
    size,
    value,
    times,
  ],
  mrs: (encoding: number, times = 1): Operation => [OP.MRS, encoding, times],
  msr: (encoding: number, value: Word, times = 1): Operation => [OP.MSR, encoding, value, times],
  exec: (word: number, x0: Word = 0, x1: Word = 0, times = 1): Operation => [
    OP.EXEC,
    word,
    x0,
    x1,
    times,
  ],
  qWrite: (n: number, low: Word, high: Word): Operation => [OP.Q_WRITE, n, low, high],
  qRead: (n: number): Operation => [OP.Q_READ, n],
  qFill: (seed: Word): Operation => [OP.Q_FILL, seed],
  qCheck: (seed: Word): Operation => [OP.Q_CHECK, seed],
  sysFill: (seed: Word): Operation => [OP.SYS_FILL, seed],
  sysCheck: (seed: Word): Operation => [OP.SYS_CHECK, seed],
  /**
   * Lets the test act at this point of the script: a byte to the UART, so an exit to user space, in which
   * the action given to `UnitGuest.onSignal` runs.
   */
  signal: (n: number): Operation => [OP.WRITE, UART_DATA, 4, n],
} as const;
