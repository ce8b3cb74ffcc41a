/** A machine for the host kernel's unit tests: registers that just hold what is written, time set by hand. */
import { Arena } from "../../src/base/arena.ts";
import { Locks } from "../../src/base/lock.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { TraceRing } from "../../src/trace/tracepoints.ts";
import { R, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import type { El2Port } from "../../src/arm/el2_port.ts";
import type { HostHardware } from "../../src/host/hardware.ts";

/** The operations of El2Port that tests use, over a plain register file. */
export class FakePort {
  readonly regs = new Map<number, bigint>();
  readonly log: string[] = [];
  /** INTIDs that ICC_IAR1_EL1 will give, first to last. */
  readonly pending: number[] = [];
  masked = true;

  constructor(
    readonly memory: SharedMemory,
    readonly cpuIndex: number,
    readonly now: () => number,
  ) {}

  #get(reg: number): bigint {
    if (reg === R.ICC_IAR1_EL1) return BigInt(this.pending.shift() ?? 1023);
    if (reg === R.CNTPCT_EL0) return BigInt(Math.floor(this.now() / 16));
    return this.regs.get(reg) ?? 0n;
  }
  readLo(reg: number): number {
    return Number(this.#get(reg) & 0xffff_ffffn);
  }
  readHi(reg: number): number {
    return Number(this.#get(reg) >> 32n);
  }
  readNum(reg: number): number {
    return Number(this.#get(reg));
  }
  read64(reg: number): bigint {
    return this.#get(reg);
  }
  write(reg: number, lo: number, hi: number): void {
    this.write64(reg, (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0));
  }
  readIcc(reg: number): number {
    return this.readLo(reg);
  }
  writeIcc(reg: number, lo: number, hi: number): void {
    this.write(reg, lo, hi);
  }
  writeNum(reg: number, value: number): void {
    this.write64(reg, BigInt(value));
  }
  write64(reg: number, value: bigint): void {
    this.log.push(`${SYSREGS[reg]?.name}=${value.toString(16)}`);
    this.regs.set(reg, value);
  }
  save(reg: number, to: number): void {
    this.memory.st64(to, this.#get(reg));
  }
  restore(reg: number, from: number): void {
    this.write64(reg, this.memory.ld64(from));
  }
  counter(): number {
    return Math.floor(this.now() / 16);
  }
  tlbi(op: string, lo: number, hi: number): void {
    this.log.push(`tlbi ${op} ${hi.toString(16)}:${lo.toString(16)}`);
  }
  ic(op: string): void {
    this.log.push(`ic ${op}`);
  }
  isb(): void {}
  dsb(): void {}
  irqSave(): number {
    const was = this.masked ? 1 : 0;
    this.masked = true;
    return was;
  }
  irqRestore(was: number): void {
    this.masked = was !== 0;
  }
  irqDisable(): void {
    this.masked = true;
  }
  irqEnable(): void {
    this.masked = false;
  }
  irqsDisabled(): boolean {
    return this.masked;
  }
  readonly el = 2;
  takeInterrupt(): boolean {
    if (this.masked || this.pending.length === 0) return false;
    this.masked = true;
    return true;
  }
  /** The vector of an interrupt that the kernel itself takes. */
  pcLo(): number {
    return 0x280;
  }
  eret(): void {
    this.masked = false;
  }
}

/** A fake machine with its memory, RAM from offset 0x1000 up. */
export class FakeHardware implements HostHardware {
  readonly memory = SharedMemory.create(8 << 20);
  readonly ram = { pa: 0x4000_0000, at: 0x1_0000, size: 6 << 20 };
  readonly gic = { type: 3, vctrl: 0, vcpu: 0 } as const;
  readonly gicdPa = 0x0800_0000;
  readonly giccPa = 0x0801_0000;
  readonly gicrPa = 0x080a_0000;
  readonly gicrStride = 0x2_0000;
  readonly ports: FakePort[];
  /** Writes to devices, as "pcpu pa value". */
  readonly mmio: string[] = [];
  time = 0;
  bell = false;
  /** A timer is to be looked at. */
  due = true;

  constructor(readonly pcpus: number) {
    this.ports = Array.from(
      { length: pcpus },
      (_, i) => new FakePort(this.memory, i, () => this.time),
    );
    this.ports.forEach((port, i) => port.regs.set(R.MPIDR_EL1, 0x8000_0000n + BigInt(i)));
  }
  fake(index: number): FakePort {
    const port = this.ports[index];
    if (port === undefined) throw new RangeError(`no CPU ${index}`);
    return port;
  }
  port(index: number): El2Port {
    return this.fake(index) as unknown as El2Port;
  }
  irqPending(index: number): boolean {
    return this.fake(index).pending.length > 0;
  }
  timersDue(): boolean {
    return this.due;
  }
  mmioRead(): number {
    return 0;
  }
  mmioWrite(index: number, pa: number, value: number): void {
    this.mmio.push(`${index} ${pa.toString(16)} ${value.toString(16)}`);
  }
  nowNs(): number {
    return this.time;
  }
  insnsAt(): number {
    return 0;
  }
  insnsTranslated(): number {
    return 0;
  }
  doorbell(level: boolean): void {
    this.bell = level;
    if (level) this.fake(0).pending.push(63);
  }
}

/** What a host needs besides the hardware, over it: an arena at the start of RAM. */
export function hostParts(
  hardware: FakeHardware,
): { arena: Arena; locks: Locks; trace: TraceRing } {
  const { memory, ram } = hardware;
  const arena = new Arena("kernel", memory, ram.at, ram.at + (3 << 20));
  const observe = new Arena("observe", memory, ram.at + ram.size, memory.size);
  return {
    arena,
    locks: new Locks(memory, "deterministic"),
    trace: new TraceRing(memory, observe, 256),
  };
}
