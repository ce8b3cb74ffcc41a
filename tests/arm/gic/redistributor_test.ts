import assert from "node:assert/strict";
import { GICR, GICR_SGI, GICR_SIZE } from "../../../src/arm/arch/gic.ts";
import { Machine, SPURIOUS } from "./machine.ts";

Deno.test("GICR_TYPER: affinity, processor number, Last; 32 and 64 bits", () => {
  const mpidr = (n: number): number => 0x81 * 2 ** 32 + 0x02_03_00 + n;
  const m = new Machine({ cpus: 3, mpidr });
  for (const n of [0, 1, 2]) {
    assert.equal(m.gic.redistRead(n * GICR_SIZE + GICR.TYPER, 8), (n << 8) | (n === 2 ? 16 : 0));
    assert.equal(m.gic.hi, 0x8102_0300 + n);
    assert.equal(m.r(GICR.TYPER + 4, undefined, n), 0x8102_0300 + n);
  }
  assert.equal((m.r(GICR.PIDR2) >>> 4) & 15, 3);
  assert.equal(m.r(GICR.IIDR), 0x43b);
  assert.equal(m.r(GICR.CTLR, 0xffff_ffff) && m.r(GICR.CTLR), 0);
});

Deno.test("GICR_WAKER: asleep after reset, nothing forwarded until awake", () => {
  const m = new Machine({ cold: true });
  assert.equal(m.r(GICR.WAKER), 6);
  m.warm();
  m.enable(30);
  m.gic.setPpi(0, 30, true);
  assert.equal(m.r(GICR.WAKER), 0);
  assert.deepEqual(m.lines(), ["IRQ"]);
  m.r(GICR.WAKER, 0xffff_ffff);
  assert.equal(m.r(GICR.WAKER), 6);
  assert.deepEqual(m.lines(), []);
  assert.equal(m.icc("ICC_IAR1_EL1"), SPURIOUS);
  assert.equal(m.state(30), "pending");
  m.r(GICR.WAKER, 0);
  assert.equal(m.icc("ICC_IAR1_EL1"), 30);
});

Deno.test("SGI_base registers are each CPU's own", () => {
  const m = new Machine({ cpus: 2 });
  const registers = [
    GICR_SGI.IGROUPR0,
    GICR_SGI.ISENABLER0,
    GICR_SGI.ISPENDR0,
    GICR_SGI.ISACTIVER0,
  ];
  for (const at of registers) {
    m.r(at, 0x8001_0003, 1);
    assert.equal(m.r(at, undefined, 1), 0x8001_0003);
    assert.equal(m.r(at, undefined, 0), 0);
  }
  m.r(GICR_SGI.IPRIORITYR + 28, 0xff00_1234, 1);
  assert.equal(m.r(GICR_SGI.IPRIORITYR + 28, undefined, 1), 0xf800_1030);
  assert.equal(m.gic.redistRead(GICR_SIZE + GICR_SGI.IPRIORITYR + 31, 1), 0xf8);
  assert.equal(m.r(GICR_SGI.IPRIORITYR + 28, undefined, 0), 0);
});

Deno.test("ICFGR0 is fixed to edge, ICFGR1 is writable", () => {
  const m = new Machine();
  m.r(GICR_SGI.ICFGR0, 0);
  assert.equal(m.r(GICR_SGI.ICFGR0), 0xaaaa_aaaa);
  assert.equal(m.r(GICR_SGI.ICFGR1), 0);
  m.r(GICR_SGI.ICFGR1, 0xffff_ffff);
  assert.equal(m.r(GICR_SGI.ICFGR1), 0xaaaa_aaaa);
  assert.equal(m.r(GICR_SGI.ICFGR0), 0xaaaa_aaaa);
});

Deno.test("IGRPMODR0, NSACR and unknown offsets are RAZ/WI", () => {
  const m = new Machine();
  for (const at of [GICR_SGI.IGRPMODR0, GICR_SGI.NSACR, GICR.PROPBASER, 0x1_0104, 0x1_0420]) {
    m.r(at, 0xffff_ffff);
    assert.equal(m.r(at), 0);
  }
});

Deno.test("a PPI's line is its CPU's alone; SGIs have no line", () => {
  const m = new Machine({ cpus: 2 });
  for (const cpu of [0, 1]) for (const intid of [5, 27]) m.enable(intid, 0xa0, 1, cpu);
  m.gic.setPpi(1, 27, true);
  m.gic.setPpi(1, 5, true);
  assert.deepEqual([m.lines(0), m.lines(1)], [[], ["IRQ"]]);
  assert.equal(m.state(5, 1), "inactive");
  m.gic.setPpi(1, 27, false);
  assert.deepEqual(m.lines(1), []);
});
