/**
 * One scenario on every shape of the machine: 1, 4 and 16 list registers, 1, 2 and 4 physical CPUs, hosts
 * with and without VHE, four vCPUs, host pages shuffled.
 */
import assert from "node:assert/strict";
import { UNIT, UnitGuest, type UnitGuestOptions } from "../support/unit_guest.ts";
import {
  affinityOf,
  CONFIG,
  op,
  type Operation,
  TIMER,
  type Word,
} from "../support/unit_operations.ts";

const LIST_REGISTERS = [1, 4, 16] as const;
const PHYSICAL_CPUS = [1, 2, 4] as const;
export const VCPUS = 4;

/** A shape of the machine. */
export interface Shape {
  readonly lrs: number;
  readonly pcpus: number;
  readonly mode: "vhe" | "nvhe";
  /** Version of the interrupt controller; 3 if left out. */
  readonly gic?: 2;
}

/** Every shape with a GICv3. */
export const SHAPES: readonly Shape[] = [
  ...LIST_REGISTERS.flatMap((lrs) =>
    PHYSICAL_CPUS.map((pcpus) => ({ lrs, pcpus, mode: "vhe" as const }))
  ),
  // List registers and CPUs matter to what both modes share: each count once.
  { lrs: 1, pcpus: 2, mode: "nvhe" },
  { lrs: 4, pcpus: 1, mode: "nvhe" },
  { lrs: 16, pcpus: 4, mode: "nvhe" },
];

/** Shapes with a GICv2, for scenarios that ask nothing of a GICv3 (the unit guest's interrupts are in group 0 then). */
const GICV2_SHAPES: readonly Shape[] = [
  { lrs: 4, pcpus: 2, mode: "vhe", gic: 2 },
  { lrs: 1, pcpus: 4, mode: "nvhe", gic: 2 },
];

/** Registers `name` as a test with a step for each shape; no shape may lead to a spurious acknowledgement. */
export function onEveryShape(
  name: string,
  scenario: (guest: UnitGuest, shape: Shape) => void,
  options: UnitGuestOptions = {},
  shapes: readonly Shape[] = [...SHAPES, ...GICV2_SHAPES],
): void {
  Deno.test(name, async (t) => {
    for (const [i, shape] of shapes.entries()) {
      const { lrs, pcpus, mode, gic = 3 } = shape;
      await t.step(`${lrs} list registers, ${pcpus} physical CPUs, ${mode}, GICv${gic}`, () => {
        const guest = new UnitGuest({ vcpus: VCPUS, shuffle: 1 + i, ...shape, ...options });
        runScenario(guest, shape, scenario);
      });
    }
  });
}

function runScenario(
  guest: UnitGuest,
  shape: Shape,
  scenario: (guest: UnitGuest, shape: Shape) => void,
): void {
  try {
    scenario(guest, shape);
    assert.equal(guest.spurious, 0, "spurious acknowledgements");
  } catch (error) {
    // The logs say what the guest saw; an assertion alone does not.
    if (error instanceof assert.AssertionError) error.message += `\n${guest.describe()}`;
    throw error;
  }
}

/**
 * Ticks that the log entry of a timer's programming may be behind it: a few instructions, or two exits
 * where the physical timer's registers trap.
 */
export function loggingTicks({ mode }: Shape, timer: number): number {
  return mode === "nvhe" && timer === TIMER.PHYSICAL ? 200 : 32;
}

// What scripts have in common

/** `op.config` flags of an enabled interrupt in group 1. */
export const LEVEL: number = CONFIG.GROUP1 | CONFIG.ENABLE;
export const EDGE: number = LEVEL | CONFIG.EDGE;
/** A priority in the middle. */
export const PRIORITY = 0xa0;

/** SGI by which CPU `cpu` tells CPU 0 that it has come to some point. */
export function readySgi(cpu: number): number {
  return 8 + cpu;
}

/** CPU `cpu`: tell CPU 0. */
export function tellCpu0(cpu: number): Operation {
  return op.sgi(readySgi(cpu), 0);
}

/** CPU 0: interrupts open, the others of `cpus` started and heard of once. */
export function startCpus(cpus: readonly number[]): Operation[] {
  return [
    ...cpus.map((cpu) => op.config(readySgi(cpu), PRIORITY, LEVEL)),
    op.unmask(),
    ...cpus.map((cpu) => op.cpuOn(cpu)),
    sleepUntil(cpus.length),
  ];
}

/** Waits in WFI until `count` interrupts were handled. */
export function sleepUntil(count: number): Operation {
  return op.waitInterrupts(count, 0, true);
}

/** Sleeps for `ticks` of the virtual timer without taking an interrupt; leaves IRQs masked. */
export function napMasked(ticks: number): Operation[] {
  return [
    op.config(27, PRIORITY, LEVEL),
    op.mask(),
    op.timerIn(0, ticks),
    op.wfi(),
    op.timerCtl(0, 0),
  ];
}

/** Intids that CPU 0 acknowledged, without the word of the others. */
export function irqsOfCpu0(guest: UnitGuest): number[] {
  return guest.irqs(0).filter((intid) => intid >= 16 || intid < readySgi(1));
}

/** A word of memory for a test, for `op.write` with size 8 and `op.waitMemory`. */
export function mailbox(n: number): number {
  return UNIT.free + 8 * n;
}

/** Bits of the value that `op.gicState` logs. */
export const STATE = { ENABLED: 1, PENDING: 2, ACTIVE: 4 } as const;
/** Pending and active of the n-th `op.gicState`. */
export const IN_FLIGHT: number = STATE.PENDING | STATE.ACTIVE;

/** The UART's data register: a hook that writes n there is a signal n from the handler. */
export const SIGNAL_REGISTER = 0x0900_0000;
/** Registers of a GICv2. */
export const GICC_CTLR = 0x0801_0000;
export const GICD_SGIR = 0x0800_0f00;

/** Address, value and size of the store that routes an SPI to CPU `cpu`, for hooks: GICD_IROUTER or GICD_ITARGETSR. */
export function routeTo(
  { gic }: Shape,
  intid: number,
  cpu: number,
): readonly [address: number, value: Word, size: number] {
  if (gic === 2) return [0x0800_0800 + intid, 1 << cpu, 1];
  return [0x0800_6000 + 8 * intid, affinityOf(cpu), 8];
}
/** The register and bit that set an SPI pending, for hooks. */
export function ispendrOf(intid: number): readonly [address: number, bit: number] {
  return [0x0800_0200 + 4 * Math.floor(intid / 32), (1 << (intid % 32)) >>> 0];
}

/** An interrupt of user space's, and signals of the guest that move its line. */
export const SPI = 40;
export const RAISE = 1;
export const LOWER = 2;
export const PULSE = 3;

/** Makes user space move the line of {@link SPI} by those signals. */
export function withSpiSignals(guest: UnitGuest): UnitGuest {
  return guest
    .onSignal(RAISE, () => guest.spi(SPI, true))
    .onSignal(LOWER, () => guest.spi(SPI, false))
    .onSignal(PULSE, () => {
      guest.spi(SPI, true);
      guest.spi(SPI, false);
    });
}
