import assert from "node:assert/strict";
import fc from "fast-check";
import type { AccessSize } from "../../src/vmm/mmio.ts";
import {
  createPl011State,
  Pl011,
  PL011_CR_LBE,
  PL011_DR_OE,
  PL011_FR as FR,
  PL011_INT as INT,
  PL011_LCR_H_FEN,
  PL011_REG as REG,
  type Pl011State,
} from "../../src/vmm/pl011.ts";

interface Bench {
  uart: Pl011;
  state: Pl011State;
  sent: number[];
  levels: boolean[];
}

function bench(): Bench {
  const state = createPl011State();
  const sent: number[] = [];
  const levels: boolean[] = [];
  const wires = {
    transmit: (byte: number) => void sent.push(byte),
    setIrq: (level: boolean) => void levels.push(level),
  };
  return { uart: new Pl011(state, wires), state, sent, levels };
}

/** A port as a kernel sets it up: FIFOs on, trigger at half, receive interrupts on. */
function readyBench(): Bench {
  const ready = bench();
  ready.uart.write(REG.LCR_H, 4, 0x60 | PL011_LCR_H_FEN);
  ready.uart.write(REG.IFLS, 4, 2 << 3);
  ready.uart.write(REG.IMSC, 4, INT.RX | INT.RT);
  return ready;
}

function receiveAll(uart: Pl011, text: string): void {
  for (const character of text) uart.receive(character.charCodeAt(0));
}

Deno.test("reset values and identification are the PL011's", () => {
  const { uart } = bench();
  assert.equal(uart.read(REG.FR, 4), FR.TXFE | FR.RXFE);
  assert.equal(uart.read(REG.CR, 4), 0x300);
  assert.equal(uart.read(REG.IFLS, 4), 0x12);
  for (const offset of [REG.RSR_ECR, REG.LCR_H, REG.IMSC, REG.RIS, REG.MIS, REG.DMACR]) {
    assert.equal(uart.read(offset, 4), 0);
  }
  const id = Array.from({ length: 8 }, (_, index) => uart.read(REG.PeriphID0 + 4 * index, 4));
  assert.deepEqual(id, [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
});

Deno.test("a byte written to DR goes out at once, whatever the access size, without any set-up", () => {
  const { uart, sent } = bench();
  uart.write(REG.DR, 1, 0x48);
  uart.write(REG.DR, 4, 0xffff_ff69);
  assert.deepEqual(sent, [0x48, 0x69]);
  assert.equal(uart.read(REG.FR, 4) & (FR.TXFE | FR.TXFF), FR.TXFE);
});

Deno.test("the transmit interrupt is raised by a byte, seen when unmasked, cleared by ICR", () => {
  const { uart, levels } = bench();
  uart.write(REG.DR, 1, 1);
  assert.equal(uart.read(REG.RIS, 4), INT.TX);
  assert.equal(uart.read(REG.MIS, 4), 0);
  assert.deepEqual(levels, []);
  uart.write(REG.IMSC, 4, INT.TX);
  assert.equal(uart.read(REG.MIS, 4), INT.TX);
  assert.deepEqual(levels, [true]);
  uart.write(REG.ICR, 4, INT.TX);
  assert.equal(uart.read(REG.RIS, 4), 0);
  assert.deepEqual(levels, [true, false]);
});

Deno.test("registers keep the bits they have", () => {
  const { uart } = bench();
  const masks: readonly (readonly [number, number])[] = [
    [REG.ILPR, 0xff],
    [REG.IBRD, 0xffff],
    [REG.FBRD, 0x3f],
    [REG.LCR_H, 0xff],
    [REG.CR, 0xff87],
    [REG.IFLS, 0x3f],
    [REG.IMSC, 0x7ff],
    [REG.DMACR, 7],
  ];
  for (const [offset, mask] of masks) {
    uart.write(offset, 4, 0xffff_ffff);
    assert.equal(uart.read(offset, 4), mask, offset.toString(16));
    uart.write(offset, 4, 0);
    assert.equal(uart.read(offset, 4), 0, offset.toString(16));
  }
});

Deno.test("read-only registers and holes ignore writes; holes read as zero", () => {
  const { uart } = bench();
  for (const offset of [REG.FR, REG.RIS, REG.MIS, REG.PeriphID0, 0x08, 0x80, 0xffc]) {
    const before = uart.read(offset, 4);
    uart.write(offset, 4, 0xffff_ffff);
    assert.equal(uart.read(offset, 4), before);
  }
  assert.equal(uart.read(0x80, 4), 0);
  assert.equal(uart.read(0xfdc, 4), 0);
});

Deno.test("without FIFOs one byte is held, and space is told before it is lost", () => {
  const { uart } = bench();
  assert.equal(uart.receiveSpace(), 1);
  assert.equal(uart.receive(0x41), true);
  assert.equal(uart.receiveSpace(), 0);
  assert.equal(uart.read(REG.FR, 4), FR.TXFE | FR.RXFF);
  assert.equal(uart.read(REG.DR, 1), 0x41);
  assert.equal(uart.receiveSpace(), 1);
  assert.equal(uart.read(REG.FR, 4), FR.TXFE | FR.RXFE);
});

Deno.test("with FIFOs sixteen bytes are held in order; the next is an overrun", () => {
  const { uart } = readyBench();
  receiveAll(uart, "0123456789abcdef");
  assert.equal(uart.receiveSpace(), 0);
  assert.equal(uart.receive(0x21), false);
  assert.equal(uart.read(REG.RSR_ECR, 4), 8);
  assert.equal(uart.read(REG.RIS, 4) & INT.OE, INT.OE);
  assert.equal(uart.read(REG.DR, 4), 0x30 | PL011_DR_OE);
  const rest = Array.from({ length: 15 }, () => String.fromCharCode(uart.read(REG.DR, 4)));
  assert.equal(rest.join(""), "123456789abcdef");
  uart.write(REG.RSR_ECR, 4, 0);
  assert.equal(uart.read(REG.RSR_ECR, 4), 0);
});

Deno.test("one byte raises the timeout interrupt; reading it lowers the line", () => {
  const { uart, levels } = readyBench();
  uart.receive(0x41);
  assert.equal(uart.read(REG.MIS, 4), INT.RT);
  assert.deepEqual(levels, [true]);
  uart.read(REG.DR, 1);
  assert.equal(uart.read(REG.RIS, 4), 0);
  assert.deepEqual(levels, [true, false]);
});

Deno.test("the receive interrupt follows the trigger of IFLS, the timeout the rest", () => {
  const triggers = [2, 4, 8, 12, 14];
  triggers.forEach((trigger, select) => {
    const { uart } = readyBench();
    uart.write(REG.IFLS, 4, select << 3);
    receiveAll(uart, "x".repeat(trigger - 1));
    assert.equal(uart.read(REG.RIS, 4), INT.RT, `below ${trigger}`);
    uart.receive(0x78);
    assert.equal(uart.read(REG.RIS, 4), INT.RX | INT.RT, `at ${trigger}`);
    uart.read(REG.DR, 1);
    assert.equal(uart.read(REG.RIS, 4), INT.RT, `below ${trigger} again`);
  });
});

Deno.test("a driver that enables only RX gets each byte when the FIFOs are off", () => {
  const { uart, levels } = bench();
  uart.write(REG.IMSC, 4, INT.RX);
  uart.receive(1);
  uart.read(REG.DR, 1);
  assert.deepEqual(levels, [true, false]);
});

Deno.test("turning the FIFOs on or off empties them; other bits of LCR_H do not", () => {
  const { uart, levels } = readyBench();
  receiveAll(uart, "abc");
  uart.write(REG.LCR_H, 4, 0x70 | 1);
  assert.equal(uart.receiveSpace(), 13);
  uart.write(REG.LCR_H, 4, 0x60);
  assert.equal(uart.receiveSpace(), 1);
  assert.equal(uart.read(REG.FR, 4) & FR.RXFE, FR.RXFE);
  assert.deepEqual(levels, [true, false]);
});

Deno.test("loopback receives what is transmitted", () => {
  const { uart, sent } = bench();
  uart.write(REG.CR, 4, 0x301 | PL011_CR_LBE);
  uart.write(REG.DR, 1, 0x5a);
  assert.deepEqual(sent, []);
  assert.equal(uart.read(REG.DR, 1), 0x5a);
});

Deno.test("reset brings back every value and lowers the line", () => {
  const { uart, state, levels } = readyBench();
  receiveAll(uart, "abc");
  uart.reset();
  assert.deepEqual(state, createPl011State());
  assert.deepEqual(levels, [true, false]);
});

Deno.test("a port made over existing state goes on where that state was", () => {
  const { uart, state } = readyBench();
  receiveAll(uart, "abc");
  uart.read(REG.DR, 1);
  const copy = { ...state, rxFifo: state.rxFifo.slice() };
  const other = new Pl011(copy, { transmit: () => {}, setIrq: () => {} });
  assert.equal(other.read(REG.DR, 1), 0x62);
  assert.equal(uart.read(REG.DR, 1), 0x62);
});

Deno.test("whatever a guest does, the line is RIS and IMSC, and the FIFO is a queue", () => {
  const size = fc.constantFrom<AccessSize>(1, 2, 4);
  const offset = fc.oneof(fc.constantFrom(...Object.values(REG)), fc.nat(0xfff));
  const step = fc.oneof(
    fc.record({ kind: fc.constant("read" as const), offset, size }),
    fc.record({ kind: fc.constant("write" as const), offset, size, value: fc.nat(0xffff_ffff) }),
    fc.record({ kind: fc.constant("receive" as const), byte: fc.nat(255) }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
    const { uart, state, levels } = bench();
    for (const action of steps) {
      if (action.kind === "read") uart.read(action.offset, action.size);
      else if (action.kind === "write") uart.write(action.offset, action.size, action.value);
      else assert.equal(uart.receiveSpace() > 0, uart.receive(action.byte));
      const level = (state.ris & state.imsc) !== 0;
      assert.equal(levels.at(-1) ?? false, level);
      assert.ok(state.rxCount >= 0 && uart.receiveSpace() >= 0 && state.rxHead < 16);
    }
    levels.forEach((level, index) => assert.equal(level, index % 2 === 0, "only changes"));
  }));
});
