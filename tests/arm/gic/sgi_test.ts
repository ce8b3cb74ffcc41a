import assert from "node:assert/strict";
import { SGIR_HI } from "../../../src/arm/arch/gic.ts";
import { Machine, SPURIOUS } from "./machine.ts";

/** CPUs that have SGI `intid` pending. */
function pending(m: Machine, intid: number): number[] {
  return m.cpus.flatMap((_, n) => m.state(intid, n) === "pending" ? [n] : []);
}

function withSgis(m: Machine, group: 0 | 1 = 1): Machine {
  m.cpus.forEach((_, n) => [0, 3, 15].forEach((intid) => m.enable(intid, 0xa0, group, n)));
  return m;
}

Deno.test("ICC_SGI1R_EL1: the target list, oneself included", () => {
  const m = withSgis(new Machine({ cpus: 4 }));
  m.icc("ICC_SGI1R_EL1", (3 << 24) | 0b1011, 1);
  assert.deepEqual(pending(m, 3), [0, 1, 3]);
  assert.deepEqual(m.cpus.map((_, n) => m.lines(n)), [["IRQ"], ["IRQ"], [], ["IRQ"]]);
  assert.equal(m.icc("ICC_IAR1_EL1", undefined, 3), 3);
  assert.equal(m.state(3, 3), "active");
  m.icc("ICC_EOIR1_EL1", 3, 3);
  assert.deepEqual(pending(m, 3), [0, 1]);
});

Deno.test("ICC_SGI1R_EL1: affinities 1 to 3 must match", () => {
  const mpidr = (n: number): number => (n >> 2) * (2 ** 32 + 0x01_01_00) + (n & 3);
  const m = withSgis(new Machine({ cpus: 8, mpidr }));
  m.icc("ICC_SGI1R_EL1", (15 << 24) | (1 << 16) | 0b0110, 0, (1 << 16) | 1);
  assert.deepEqual(pending(m, 15), [5, 6]);
  m.icc("ICC_SGI1R_EL1", (1 << 16) | 0xffff, 0, 1);
  m.icc("ICC_SGI1R_EL1", (1 << 16) | 0xffff, 0, 1 << 16);
  m.icc("ICC_SGI1R_EL1", 0xffff, 0, (1 << 16) | 1);
  assert.deepEqual(pending(m, 0), []);
});

Deno.test("ICC_SGI1R_EL1.IRM: everybody else", () => {
  const m = withSgis(new Machine({ cpus: 4 }));
  m.icc("ICC_SGI1R_EL1", 3 << 24, 2, SGIR_HI.IRM);
  assert.deepEqual(pending(m, 3), [0, 1, 3]);
});

Deno.test("RS selects Aff0 from 16 up where implemented, and is RES0 elsewhere", () => {
  const send = (rangeSelector: boolean): number[] => {
    const m = withSgis(new Machine({ cpus: 36, rangeSelector }));
    m.icc("ICC_SGI1R_EL1", 0b1001, 0, 2 << 12);
    return pending(m, 0);
  };
  assert.deepEqual(send(true), [32, 35]);
  assert.deepEqual(send(false), [0, 3]);
});

Deno.test("an SGI reaches only CPUs where its INTID is of the register's group", () => {
  const m = withSgis(new Machine({ cpus: 2 }), 1);
  m.enable(3, 0xa0, 0, 1);
  m.icc("ICC_SGI1R_EL1", (3 << 24) | 3);
  assert.deepEqual(pending(m, 3), [0]);
  m.icc("ICC_SGI0R_EL1", (3 << 24) | 3);
  assert.deepEqual(pending(m, 3), [0, 1]);
  assert.deepEqual(m.lines(1), ["FIQ"]);
  assert.equal(m.icc("ICC_IAR0_EL1", undefined, 1), 3);
  m.icc("ICC_EOIR0_EL1", 3, 1);
  m.icc("ICC_ASGI1R_EL1", (3 << 24) | 2);
  assert.equal(m.icc("ICC_IAR0_EL1", undefined, 1), 3);
});

Deno.test("an SGI sent twice before the acknowledgement is one, after it another", () => {
  const m = withSgis(new Machine());
  m.icc("ICC_SGI1R_EL1", (3 << 24) | 1);
  m.icc("ICC_SGI1R_EL1", (3 << 24) | 1);
  assert.equal(m.icc("ICC_IAR1_EL1"), 3);
  m.icc("ICC_SGI1R_EL1", (3 << 24) | 1);
  assert.equal(m.state(3), "pending and active");
  m.icc("ICC_EOIR1_EL1", 3);
  assert.equal(m.icc("ICC_IAR1_EL1"), 3);
  m.icc("ICC_EOIR1_EL1", 3);
  assert.equal(m.icc("ICC_IAR1_EL1"), SPURIOUS);
});

Deno.test("a disabled SGI stays pending until enabled", () => {
  const m = withSgis(new Machine());
  m.set("ICENABLER", 3);
  m.icc("ICC_SGI1R_EL1", (3 << 24) | 1);
  assert.deepEqual(m.lines(), []);
  m.set("ISENABLER", 3);
  assert.deepEqual(m.lines(), ["IRQ"]);
});
