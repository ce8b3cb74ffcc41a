import assert from "node:assert/strict";
import { GICD, GICD_IROUTER, GICR_SIZE } from "../../../src/arm/arch/gic.ts";
import { Machine, SPURIOUS } from "./machine.ts";

Deno.test("GICD identification: one Security state, affinity routing, GICv3, 256 INTIDs", () => {
  const m = new Machine({ cold: true });
  assert.equal(m.d(GICD.CTLR), 0x50);
  assert.equal(m.d(GICD.TYPER) & 31, 7);
  assert.equal((m.d(GICD.TYPER) >>> 19) & 31, 9);
  assert.equal(m.d(GICD.TYPER) & (1 << 10 | 1 << 16 | 1 << 17), 0);
  assert.equal(m.d(GICD.TYPER2), 0);
  assert.equal(m.d(GICD.IIDR), 0x43b);
  assert.equal((m.d(GICD.PIDR2) >>> 4) & 15, 3);
  m.d(GICD.CTLR, 0xffff_ffff);
  assert.equal(m.d(GICD.CTLR), 0x53);
});

Deno.test("GICD_TYPER follows the number of SPIs, and INTIDs above are RAZ/WI", () => {
  const m = new Machine({ spis: 32 });
  assert.equal(m.d(GICD.TYPER) & 31, 1);
  m.d(GICD.ISENABLER + 4, 0xffff_ffff);
  m.d(GICD.ISENABLER + 8, 0xffff_ffff);
  assert.equal(m.d(GICD.ISENABLER + 4), 0xffff_ffff);
  assert.equal(m.d(GICD.ISENABLER + 8), 0);
  m.gic.distWrite(GICD.IROUTER + 8 * 64, 8, 1, 0);
  assert.equal(m.gic.distRead(GICD.IROUTER + 8 * 64, 8), 0);
  assert.equal(m.gic.interrupt(0, 64), undefined);
});

Deno.test("the distributor's words of SGIs and PPIs are RAZ/WI", () => {
  const m = new Machine();
  for (const at of [GICD.IGROUPR, GICD.ISENABLER, GICD.ISPENDR, GICD.ISACTIVER, GICD.IPRIORITYR]) {
    m.d(at, 0xffff_ffff);
    assert.equal(m.d(at), 0, at.toString(16));
  }
  m.d(GICD.ICFGR + 4, 0xffff_ffff);
  assert.equal(m.d(GICD.ICFGR + 4), 0);
});

Deno.test("set and clear registers change ones only and read the same", () => {
  const m = new Machine();
  for (
    const [set, clear] of [
      [GICD.ISENABLER, GICD.ICENABLER],
      [GICD.ISPENDR, GICD.ICPENDR],
      [GICD.ISACTIVER, GICD.ICACTIVER],
    ] as const
  ) {
    m.d(set + 8, 0xf0);
    m.d(set + 8, 0x0f);
    assert.equal(m.d(clear + 8), 0xff);
    m.d(clear + 8, 0x3c);
    assert.equal(m.d(set + 8), 0xc3);
  }
});

Deno.test("IPRIORITYR takes bytes and words and implements five bits", () => {
  const m = new Machine();
  m.d(GICD.IPRIORITYR + 40, 0xffa7_0f08);
  assert.equal(m.d(GICD.IPRIORITYR + 40), 0xf8a0_0808);
  m.gic.distWrite(GICD.IPRIORITYR + 42, 1, 0x57);
  assert.equal(m.gic.distRead(GICD.IPRIORITYR + 42, 1), 0x50);
  assert.equal(m.d(GICD.IPRIORITYR + 40), 0xf850_0808);
});

Deno.test("ICFGR keeps the upper bit of each field", () => {
  const m = new Machine();
  m.d(GICD.ICFGR + 12, 0xffff_ffff);
  assert.equal(m.d(GICD.ICFGR + 12), 0xaaaa_aaaa);
  m.d(GICD.ICFGR + 12, 0x0000_0082);
  assert.equal(m.d(GICD.ICFGR + 12), 0x82);
  assert.equal(m.gic.interrupt(0, 51)?.edge, true);
  assert.equal(m.gic.interrupt(0, 49)?.edge, false);
});

Deno.test("accesses of a size or place that no register takes are RAZ/WI", () => {
  const m = new Machine();
  m.gic.distWrite(GICD.ISENABLER + 4, 1, 0xff);
  m.gic.distWrite(GICD.ISENABLER + 4, 2, 0xffff);
  m.gic.distWrite(GICD.ISENABLER + 8, 8, 0xffff_ffff, 0xffff_ffff);
  for (const w of [4, 8, 12]) assert.equal(m.d(GICD.ISENABLER + w), 0);
  m.d(GICD.ISENABLER + 4, 0x55);
  assert.equal(m.gic.distRead(GICD.ISENABLER + 4, 1), 0);
  assert.equal(m.gic.distRead(GICD.ISENABLER + 4, 2), 0);
  assert.equal(m.gic.distRead(GICD.ISENABLER, 8), 0);
  assert.equal(m.gic.hi, 0);
  for (const at of [GICD.SETSPI_NSR, 0x3000, 0x7fe0, 0xff00]) {
    m.d(at, 0xffff_ffff);
    assert.equal(m.d(at), 0);
  }
  for (const at of [GICD.ITARGETSR + 32, GICD.IGRPMODR + 4, GICD.NSACR + 8, GICD.SPENDSGIR]) {
    m.d(at, 0xffff_ffff);
    assert.equal(m.d(at), 0);
  }
});

Deno.test("IROUTER: 64-bit and two 32-bit accesses, only the defined bits", () => {
  const m = new Machine({ cold: true });
  const at = GICD.IROUTER + 8 * 40;
  m.gic.distWrite(at, 8, 0xffff_ffff, 0xffff_ffff);
  assert.equal(m.gic.distRead(at, 8), 0x80ff_ffff);
  assert.equal(m.gic.hi, 0xff);
  m.d(at, 0x0001_0203);
  assert.equal(m.gic.distRead(at, 8), 0x0001_0203);
  assert.equal(m.gic.hi, 0xff);
  m.d(at + 4, 0);
  assert.equal(m.d(at), 0x0001_0203);
  assert.equal(m.d(at + 4), 0);
});

Deno.test("IROUTER decides which CPU sees an SPI, also while it is pending", () => {
  const m = new Machine({ cpus: 3 });
  m.enable(40);
  m.gic.setSpi(40, true);
  assert.deepEqual([m.lines(0), m.lines(1), m.lines(2)], [["IRQ"], [], []]);
  m.gic.distWrite(GICD.IROUTER + 8 * 40, 8, 2, 0);
  assert.deepEqual([m.lines(0), m.lines(1), m.lines(2)], [[], [], ["IRQ"]]);
  assert.equal(m.icc("ICC_IAR1_EL1", undefined, 0), SPURIOUS);
  assert.equal(m.icc("ICC_IAR1_EL1", undefined, 2), 40);
});

Deno.test("IROUTER to an affinity without a CPU: pending, and delivered nowhere", () => {
  const m = new Machine({ cpus: 2 });
  m.enable(40);
  m.gic.distWrite(GICD.IROUTER + 8 * 40, 8, 0x0001_0000, 0);
  m.gic.setSpi(40, true);
  assert.equal(m.state(40), "pending");
  assert.deepEqual([...m.lines(0), ...m.lines(1)], []);
  assert.equal(m.gic.interrupt(0, 40)?.target, -1);
});

Deno.test("IROUTER matches all four affinity levels", () => {
  const mpidr = (n: number): number => n * 2 ** 32 + n * 0x01_02_03;
  const m = new Machine({ cpus: 3, mpidr });
  m.enable(40);
  m.gic.setSpi(40, true);
  m.gic.distWrite(GICD.IROUTER + 8 * 40, 8, 0x02_04_06, 2);
  assert.deepEqual(m.lines(2), ["IRQ"]);
  m.gic.distWrite(GICD.IROUTER + 8 * 40, 8, 0x02_04_06, 1);
  assert.deepEqual(m.lines(2), []);
});

Deno.test("IROUTER.IRM: one CPU that is awake and takes the group", () => {
  const m = new Machine({ cpus: 3 });
  m.enable(40);
  m.gic.distWrite(GICD.IROUTER + 8 * 40, 8, GICD_IROUTER.IRM, 0);
  m.gic.setSpi(40, true);
  assert.deepEqual([m.lines(0), m.lines(1), m.lines(2)], [["IRQ"], [], []]);
  m.r(0x14, 2, 0);
  assert.deepEqual([m.lines(0), m.lines(1), m.lines(2)], [[], ["IRQ"], []]);
  m.icc("ICC_IGRPEN1_EL1", 0, 1);
  assert.deepEqual([m.lines(0), m.lines(1), m.lines(2)], [[], [], ["IRQ"]]);
  m.icc("ICC_IGRPEN1_EL1", 0, 2);
  assert.equal(m.gic.interrupt(0, 40)?.target, -1);
  m.r(0x14, 0, 0);
  assert.deepEqual(m.lines(0), ["IRQ"]);
});

Deno.test("GICD_CTLR group enables gate their group", () => {
  const m = new Machine();
  m.enable(40, 0xa0, 1);
  m.enable(41, 0xa0, 0);
  m.set("ISPENDR", 40);
  m.set("ISPENDR", 41);
  m.d(GICD.CTLR, 0);
  assert.deepEqual(m.lines(), []);
  m.d(GICD.CTLR, 1);
  assert.deepEqual(m.lines(), ["FIQ"]);
  m.d(GICD.CTLR, 2);
  assert.deepEqual(m.lines(), ["IRQ"]);
});

Deno.test("outside the redistributor region reads as zero", () => {
  const m = new Machine({ cpus: 2 });
  m.gic.redistWrite(2 * GICR_SIZE + 0x1_0100, 4, 1);
  assert.equal(m.gic.redistRead(2 * GICR_SIZE + 0xffe8, 4), 0);
});
