/**
 * What each kind of guest operation costs in exits: a guest does N of each, and the differences between
 * two N are what real KVM makes for one. Their events in order: exit_events_test.ts.
 */
import assert from "node:assert/strict";
import { op, type Operation, TIMER } from "../support/unit_operations.ts";
import { UnitGuest, type UnitGuestOptions } from "../support/unit_guest.ts";
import { EC } from "../../src/arm/arch/syndrome.ts";

const GICD_TYPER = 0x0800_0004;
const GICC_PMR = 0x0801_0004;
const GICC_HPPIR = 0x0801_0018;
const VIRTIO = 0x0a00_0000;
const PSCI_VERSION = 0x8400_0000;
const GROUP1_ENABLED = 5;
const TICKS_PER_10_US = 625;

/** Everything that is counted of a vCPU's exits, by name; zeros are left out. */
type Exits = Readonly<Record<string, number>>;

const EC_NAMES = new Map<number, string>(Object.entries(EC).map(([name, ec]) => [ec, name]));

function exitsOf(guest: UnitGuest, vcpu: number): Record<string, number> {
  const { stat } = guest.vcpu(vcpu).vcpu;
  const { exits, hvc_exit_stat, wfe_exit_stat, wfi_exit_stat } = stat;
  const { mmio_exit_user, mmio_exit_kernel, signal_exits, irqExits, serrorExits, entries } = stat;
  const out: Record<string, number> = {
    exits,
    entries,
    hvc_exit_stat,
    wfe_exit_stat,
    wfi_exit_stat,
    mmio_exit_user,
    mmio_exit_kernel,
    signal_exits,
    IRQ: irqExits,
    SERROR_EXIT: serrorExits,
  };
  for (let ec = 0; ec < 64; ec++) {
    out[EC_NAMES.get(ec) ?? `EC_${ec}`] = stat.memory.ld53(stat.byClass + 8 * ec);
  }
  return out;
}

type Mode = "vhe" | "nvhe";
const MODES: readonly Mode[] = ["vhe", "nvhe"];

interface Case {
  /** The script that does it `n` times, on CPU 0; END follows. */
  readonly script: (n: number) => readonly Operation[];
  readonly options?: UnitGuestOptions;
  /** What one more of it adds. */
  readonly each: Exits;
  /** The same on a host without VHE, where it is another. */
  readonly eachNvhe?: Exits;
}

const CASES: Readonly<Record<string, Case>> = {
  "a hypercall": {
    script: (n) => [op.hvc(n, PSCI_VERSION)],
    each: { exits: 1, entries: 1, HVC64: 1, hvc_exit_stat: 1 },
  },
  "a read of user space's device": {
    script: (n) => [op.read(VIRTIO, 4, n)],
    each: { exits: 1, entries: 1, DABT_LOW: 1, mmio_exit_user: 1 },
  },
  "a write to user space's device": {
    script: (n) => [op.write(VIRTIO, 1, 4, n)],
    each: { exits: 1, entries: 1, DABT_LOW: 1, mmio_exit_user: 1 },
  },
  "a read of the distributor": {
    script: (n) => [op.read(GICD_TYPER, 4, n)],
    each: { exits: 1, entries: 1, DABT_LOW: 1, mmio_exit_kernel: 1 },
  },
  "an end of interrupt with nothing active": {
    script: (n) => [op.eoiSpurious(n)],
    each: {},
  },
  // Acknowledge, end, priority mask: nothing but the sending leaves the guest.
  "an SGI to oneself, taken and ended": {
    script: (n) => [
      op.config(1, 0x80, GROUP1_ENABLED),
      op.unmask(),
      op.sgi(1, 0),
      op.waitInterrupts(1),
      op.resetCount(),
      op.jump(2, n),
    ],
    each: { exits: 1, entries: 1, SYS64: 1 },
  },
  "an SGI with interrupts masked": {
    script: (n) => [op.config(1, 0x80, GROUP1_ENABLED), op.sgiRaw((1n << 24n) | 1n, n)],
    each: { exits: 1, entries: 1, SYS64: 1 },
  },
  // A GICv2: GICD_SGIR is emulated, GICC is the hardware's (GICV).
  "an SGI by GICD_SGIR, taken and ended": {
    options: { gic: 2 },
    script: (n) => [
      op.config(1, 0x80, GROUP1_ENABLED),
      op.unmask(),
      op.sgi(1, 0),
      op.waitInterrupts(1),
      op.resetCount(),
      op.jump(2, n),
    ],
    each: { exits: 1, entries: 1, DABT_LOW: 1, mmio_exit_kernel: 1 },
  },
  "an access to the CPU interface of a GICv2": {
    options: { gic: 2 },
    script: (n) => [op.eoiSpurious(n), op.read(GICC_HPPIR, 4, n), op.write(GICC_PMR, 0xf0, 4, n)],
    each: {},
  },
  "a read of a GICv2's distributor": {
    options: { gic: 2 },
    script: (n) => [op.read(GICD_TYPER, 4, n)],
    each: { exits: 1, entries: 1, DABT_LOW: 1, mmio_exit_kernel: 1 },
  },
  "a system register that KVM emulates": {
    // ID_AA64MMFR0_EL1
    script: (n) => [op.mrs((3 << 14) | (7 << 3), n)],
    each: { exits: 1, entries: 1, SYS64: 1 },
  },
  "a system register of the guest's own": {
    // TPIDR_EL0
    script: (n) => [op.msr((3 << 14) | (3 << 11) | (13 << 7) | 2, 5, n)],
    each: {},
  },
  "a tick of the virtual timer, waited for busily": {
    script: (n) => [
      op.config(27, 0x80, GROUP1_ENABLED),
      op.unmask(),
      op.timerPeriod(TIMER.VIRTUAL, TICKS_PER_10_US, n),
      op.timerIn(TIMER.VIRTUAL, TICKS_PER_10_US),
      op.waitInterrupts(n),
    ],
    each: { exits: 1, entries: 1, IRQ: 1 },
  },
  "a tick of the physical timer, waited for busily": {
    script: (n) => [
      op.config(30, 0x80, GROUP1_ENABLED),
      op.unmask(),
      op.timerPeriod(TIMER.PHYSICAL, TICKS_PER_10_US, n),
      op.timerIn(TIMER.PHYSICAL, TICKS_PER_10_US),
      op.waitInterrupts(n),
    ],
    each: { exits: 1, entries: 1, IRQ: 1 },
    // The handler reads CVAL, writes CVAL, writes CTL: each traps. The soft timer fires when the guest's
    // does, and again at once, as the read finds it expired and starts it anew (timer_emulate of 6.1).
    eachNvhe: { exits: 5, entries: 5, IRQ: 2, SYS64: 3 },
  },
  // The timer fires while the vCPU blocks: the host's own timer wakes it, and the guest's interrupt is
  // in a list register at the next entry.
  "a tick of the virtual timer, slept for": {
    script: (n) => [
      op.config(27, 0x80, GROUP1_ENABLED),
      op.unmask(),
      op.timerPeriod(TIMER.VIRTUAL, TICKS_PER_10_US, n),
      op.timerIn(TIMER.VIRTUAL, TICKS_PER_10_US),
      op.waitInterrupts(n, 0, true),
    ],
    each: { exits: 1, entries: 1, WFx: 1, wfi_exit_stat: 1, halt_wakeup: 1 },
  },
};

function run({ script, options }: Case, n: number, mode: Mode): Exits {
  const guest = new UnitGuest({ quantum: 10_000, mode, ...options });
  guest.script(0, script(n)).run();
  const { stat } = guest.vcpu(0).vcpu;
  return { ...exitsOf(guest, 0), halt_wakeup: stat.halt_wakeup };
}

const FEW = 7, MANY = 107;

for (const mode of MODES) {
  for (const [name, kind] of Object.entries(CASES)) {
    Deno.test(`exits of ${name}, ${mode}`, () => {
      const few = run(kind, FEW, mode), many = run(kind, MANY, mode);
      const each: Record<string, number> = {};
      for (const [counter, count] of Object.entries(many)) {
        const difference = (count - (few[counter] ?? 0)) / (MANY - FEW);
        if (difference !== 0) each[counter] = difference;
      }
      assert.deepEqual(each, mode === "nvhe" ? kind.eachNvhe ?? kind.each : kind.each);
    });
  }
}
