/** The devices' state as it lies in the shared memory. */
import type { Arena } from "../base/arena.ts";
import { array, layout, space, u32, u8 } from "../base/struct.ts";
import { PL011_FIFO_DEPTH, type Pl011State } from "./pl011.ts";
import { TEST_DEVICE_SCRATCH_WORDS, type TestDeviceState } from "./test_device.ts";

/** A PL011's registers and receive FIFO. */
const Pl011Layout = layout("pl011", {
  rsr: u32(),
  ilpr: u32(),
  ibrd: u32(),
  fbrd: u32(),
  lcrH: u32(),
  cr: u32(),
  ifls: u32(),
  imsc: u32(),
  ris: u32(),
  dmacr: u32(),
  overrun: u8(),
  irqLevel: u8(),
  rxHead: u8(),
  rxCount: u8(),
  fifo: space(PL011_FIFO_DEPTH),
});

/** The test device's registers. */
const TestDeviceLayout = layout("test_device", {
  line: u32(),
  count: u32(),
  words: array("u32", TEST_DEVICE_SCRATCH_WORDS),
});

/** Places a PL011's state in `arena`. */
export function placePl011(arena: Arena): Pl011State {
  const view = arena.make(Pl011Layout);
  const fifo = view.memory.u8.subarray(view.fifo, view.fifo + PL011_FIFO_DEPTH);
  return Object.defineProperty(view, "rxFifo", { value: fifo }) as unknown as Pl011State;
}

/** Places the test device's state in `arena`. */
export function placeTestDevice(arena: Arena): TestDeviceState {
  const view = arena.make(TestDeviceLayout);
  const at = view.words >>> 2;
  const scratch = view.memory.u32.subarray(at, at + TEST_DEVICE_SCRATCH_WORDS);
  return Object.defineProperty(view, "scratch", { value: scratch }) as unknown as TestDeviceState;
}
