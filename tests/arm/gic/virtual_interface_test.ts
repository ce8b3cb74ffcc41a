import assert from "node:assert/strict";
import { ICH_HCR, ICH_MISR, lrFields } from "../../../src/arm/arch/gic.ts";
import { R, type SysregName } from "../../../src/arm/arch/sysregs.ts";
import { Machine, SPURIOUS } from "./machine.ts";

const eoiCount = (m: Machine): number => m.ich("ICH_HCR_EL2") >>> 27;

/** A machine with the virtual interface on. */
function virtual(lrs = 4, hcr: number = ICH_HCR.En): Machine {
  const m = new Machine({ lrs });
  m.virtualOn(hcr);
  return m;
}

Deno.test("lrFields reads out every field", () => {
  assert.deepEqual(lrFields(27, 0xb0a0_001b), {
    intid: 27,
    source: 0,
    state: "active",
    priority: 0xa0,
    group: 1,
    hw: true,
    hwIntid: 27,
    eoi: false,
  });
  assert.deepEqual(lrFields(0xffff_ffff, 0xc008_0200), {
    intid: 0xffff_ffff,
    source: 0,
    state: "pending and active",
    priority: 8,
    group: 0,
    hw: false,
    hwIntid: undefined,
    eoi: true,
  });
  const sgi = lrFields((5 << 10) | 3, 0x4000_0000);
  assert.deepEqual([sgi.intid, sgi.source], [3, 5]);
});

for (const lrs of [1, 4, 16]) {
  Deno.test(`${lrs} list registers: ICH_VTR, ELRSR, the highest is delivered, more are UNDEFINED`, () => {
    const m = virtual(lrs);
    assert.equal(m.ich("ICH_VTR_EL2"), (0x90b8_0000 + lrs - 1) >>> 0);
    assert.equal(m.ich("ICH_ELRSR_EL2"), 2 ** lrs - 1);
    for (let n = 0; n < 16; n++) {
      assert.equal(m.gic.implemented(R[`ICH_LR${n}_EL2` as SysregName]), n < lrs);
    }
    for (let n = 0; n < lrs; n++) {
      m.writeLr(n, { intid: 40 + n, state: "pending", priority: 0xf0 - 8 * n });
    }
    assert.equal(m.ich("ICH_ELRSR_EL2"), 0);
    for (let n = lrs - 1; n >= 0; n--) {
      assert.equal(m.icv("ICC_IAR1_EL1"), 40 + n);
      m.icv("ICC_EOIR1_EL1", 40 + n);
      assert.equal(m.ich("ICH_ELRSR_EL2"), 2 ** lrs - 2 ** n);
    }
    assert.deepEqual(m.lines(), []);
  });
}

Deno.test("LR: pending, active, invalid, with VIRQ", () => {
  const m = virtual();
  m.writeLr(1, { intid: 33, state: "pending", priority: 0x80 });
  assert.deepEqual(m.lines(), ["VIRQ"]);
  assert.equal(m.icv("ICC_HPPIR1_EL1"), 33);
  assert.equal(m.icv("ICC_IAR1_EL1"), 33);
  assert.equal(m.lr(1).state, "active");
  assert.equal(m.icv("ICC_RPR_EL1"), 0x80);
  assert.equal(m.ich("ICH_AP1R0_EL2"), 1 << 16);
  assert.deepEqual(m.lines(), []);
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(m.lr(1).state, "invalid");
  assert.equal(m.icv("ICC_RPR_EL1"), 0xff);
  assert.equal(m.icv("ICC_IAR1_EL1"), SPURIOUS);
});

Deno.test("LR: the lowest list register among equal priorities", () => {
  const m = virtual();
  m.writeLr(2, { intid: 33, state: "pending", priority: 0x80 });
  m.writeLr(1, { intid: 34, state: "pending", priority: 0x80 });
  assert.equal(m.icv("ICC_IAR1_EL1"), 34);
});

Deno.test("LR: group 0 is VFIQ and answers only the group 0 registers", () => {
  const m = virtual();
  m.writeLr(0, { intid: 33, state: "pending", group: 0 });
  assert.deepEqual(m.lines(), ["VFIQ"]);
  assert.equal(m.icv("ICC_IAR1_EL1"), SPURIOUS);
  assert.equal(m.icv("ICC_HPPIR1_EL1"), SPURIOUS);
  assert.equal(m.icv("ICC_IAR0_EL1"), 33);
  assert.equal(m.ich("ICH_AP0R0_EL2"), 1 << 20);
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(m.lr(0).state, "active", "EOIR of the other group does not deactivate");
});

Deno.test("LR: pending and active is not signalled, and is pending after EOI", () => {
  const m = virtual();
  m.writeLr(0, { intid: 33, state: "pending" });
  m.icv("ICC_IAR1_EL1");
  m.writeLr(0, { intid: 33, state: "both" });
  assert.deepEqual(m.lines(), []);
  assert.equal(m.icv("ICC_HPPIR1_EL1"), SPURIOUS);
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(m.lr(0).state, "pending");
  assert.deepEqual(m.lines(), ["VIRQ"]);
});

Deno.test("LR: HW deactivates the physical interrupt, which is then signalled again", () => {
  const m = virtual();
  m.icc("ICC_CTLR_EL1", 2);
  m.enable(27);
  m.gic.setPpi(0, 27, true);
  assert.equal(m.icc("ICC_IAR1_EL1"), 27);
  m.icc("ICC_EOIR1_EL1", 27);
  assert.equal(m.state(27), "pending and active");
  m.writeLr(0, { intid: 45, state: "pending", hw: 27 });
  assert.deepEqual(m.lines(), ["VIRQ"]);
  assert.equal(m.icv("ICC_IAR1_EL1"), 45);
  m.icv("ICC_EOIR1_EL1", 45);
  assert.equal(m.lr(0).state, "invalid");
  assert.equal(m.state(27), "pending");
  assert.deepEqual(m.lines(), ["IRQ"]);
  assert.equal(m.ich("ICH_EISR_EL2"), 0);
});

Deno.test("LR: HW with a physical SPI routed to another CPU, and with one that does not exist", () => {
  const m = new Machine({ cpus: 2 });
  m.virtualOn();
  m.enable(40, 0xa0, 1, 1);
  m.gic.setSpi(40, true);
  assert.equal(m.icc("ICC_IAR1_EL1", undefined, 1), 40);
  m.writeLr(0, { intid: 45, state: "pending", hw: 40 });
  m.icv("ICC_IAR1_EL1");
  m.icc("ICC_AP1R0_EL1", 0, 1);
  m.icv("ICC_EOIR1_EL1", 45);
  assert.deepEqual([m.lines(0), m.lines(1)], [[], ["IRQ"]]);
  m.writeLr(0, { intid: 46, state: "pending", hw: 0x1fff });
  m.icv("ICC_IAR1_EL1");
  m.icv("ICC_EOIR1_EL1", 46);
  assert.equal(m.lr(0).state, "invalid");
});

Deno.test("EOI maintenance: EISR, MISR.EOI, PPI 25 as a level, gone when the LR is rewritten", () => {
  const m = virtual();
  m.enable(25, 0x40);
  m.writeLr(2, { intid: 33, state: "pending", eoi: true });
  m.icv("ICC_IAR1_EL1");
  assert.deepEqual(m.lines(), []);
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(m.ich("ICH_EISR_EL2"), 4);
  assert.equal(m.ich("ICH_ELRSR_EL2"), 0b1011);
  assert.equal(m.ich("ICH_MISR_EL2"), ICH_MISR.EOI);
  assert.deepEqual(m.lines(), ["IRQ"]);
  assert.equal(m.icc("ICC_IAR1_EL1"), 25);
  m.icc("ICC_EOIR1_EL1", 25);
  assert.deepEqual(m.lines(), ["IRQ"], "the level is still high");
  m.writeLr(2, { intid: 0, state: "invalid" });
  assert.equal(m.ich("ICH_EISR_EL2"), 0);
  assert.deepEqual(m.lines(), []);
});

Deno.test("no maintenance interrupt and no virtual interrupt while ICH_HCR_EL2.En is 0", () => {
  const m = virtual(4, ICH_HCR.UIE | ICH_HCR.NPIE);
  m.enable(25, 0x40);
  m.writeLr(0, { intid: 33, state: "pending" });
  assert.deepEqual(m.lines(), []);
  assert.equal(m.icv("ICC_IAR1_EL1"), SPURIOUS);
  m.ich("ICH_HCR_EL2", ICH_HCR.En | ICH_HCR.UIE);
  assert.deepEqual(m.lines(), ["IRQ", "VIRQ"]);
  m.ich("ICH_HCR_EL2", 0);
  assert.deepEqual(m.lines(), []);
});

Deno.test("underflow: one valid LR or none", () => {
  const m = virtual(4, ICH_HCR.En | ICH_HCR.UIE);
  const underflow = (): boolean => (m.ich("ICH_MISR_EL2") & ICH_MISR.U) !== 0;
  assert.equal(underflow(), true);
  m.writeLr(0, { intid: 33, state: "active" });
  assert.equal(underflow(), true);
  m.writeLr(3, { intid: 34, state: "both" });
  assert.equal(underflow(), false);
  assert.equal(m.state(25), "inactive");
  m.writeLr(0, { intid: 33, state: "invalid" });
  assert.equal(m.state(25), "pending");
  m.ich("ICH_HCR_EL2", ICH_HCR.En);
  assert.equal(underflow(), false);
});

Deno.test("NP: no LR is pending", () => {
  const m = virtual(4, ICH_HCR.En | ICH_HCR.NPIE);
  assert.equal(m.ich("ICH_MISR_EL2"), ICH_MISR.NP);
  m.writeLr(0, { intid: 33, state: "pending" });
  assert.equal(m.ich("ICH_MISR_EL2"), 0);
  m.icv("ICC_IAR1_EL1");
  assert.equal(m.ich("ICH_MISR_EL2"), ICH_MISR.NP);
  assert.equal(m.state(25), "pending");
});

Deno.test("EOIcount and LRENP: an EOI with no LR of that INTID", () => {
  const m = virtual(1, ICH_HCR.En | ICH_HCR.LRENPIE);
  m.writeLr(0, { intid: 33, state: "pending" });
  m.icv("ICC_IAR1_EL1");
  m.writeLr(0, { intid: 34, state: "invalid" });
  assert.equal(m.ich("ICH_MISR_EL2"), 0);
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(eoiCount(m), 1);
  assert.equal(m.icv("ICC_RPR_EL1"), 0xff);
  assert.equal(m.ich("ICH_MISR_EL2"), ICH_MISR.LRENP);
  assert.equal(m.state(25), "pending");
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(eoiCount(m), 1, "no priority was active");
  m.ich("ICH_HCR_EL2", ICH_HCR.En | ICH_HCR.LRENPIE);
  assert.equal(m.state(25), "inactive");
});

Deno.test("EOIcount: not for LPIs, wraps at 32, DIR counts with EOImode 1 only", () => {
  const m = virtual();
  m.ich("ICH_AP1R0_EL2", 1);
  m.icv("ICC_EOIR1_EL1", 8192);
  assert.equal(eoiCount(m), 0);
  m.icv("ICC_DIR_EL1", 33);
  assert.equal(eoiCount(m), 0);
  m.icv("ICC_CTLR_EL1", 2);
  m.ich("ICH_AP1R0_EL2", 1);
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(eoiCount(m), 0, "with EOImode 1 an EOI deactivates nothing");
  m.icv("ICC_DIR_EL1", 1020);
  m.icv("ICC_DIR_EL1", 8192);
  for (let n = 1; n <= 33; n++) m.icv("ICC_DIR_EL1", 33);
  assert.equal(eoiCount(m), 1);
  assert.equal(m.ich("ICH_HCR_EL2") & 0xff, ICH_HCR.En);
});

Deno.test("vEOImode 1: EOI drops the priority, DIR deactivates, HW passes on at DIR", () => {
  const m = virtual();
  m.icv("ICC_CTLR_EL1", 2);
  m.set("ISACTIVER", 27);
  m.writeLr(0, { intid: 33, state: "pending", hw: 27 });
  m.icv("ICC_IAR1_EL1");
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(m.icv("ICC_RPR_EL1"), 0xff);
  assert.equal(m.lr(0).state, "active");
  assert.equal(m.state(27), "active");
  m.icv("ICC_DIR_EL1", 33);
  assert.equal(m.lr(0).state, "invalid");
  assert.equal(m.state(27), "inactive");
});

Deno.test("vPMR masks its own value and below", () => {
  const m = virtual();
  m.writeLr(0, { intid: 33, state: "pending", priority: 0x80 });
  m.icv("ICC_PMR_EL1", 0x87);
  assert.equal(m.icv("ICC_PMR_EL1"), 0x80);
  assert.deepEqual(m.lines(), []);
  assert.equal(m.icv("ICC_IAR1_EL1"), SPURIOUS);
  assert.equal(m.icv("ICC_HPPIR1_EL1"), 33);
  m.icv("ICC_PMR_EL1", 0x88);
  assert.deepEqual(m.lines(), ["VIRQ"]);
});

Deno.test("virtual group enables, and their maintenance interrupts", () => {
  const m = virtual();
  m.writeLr(0, { intid: 33, state: "pending", priority: 0x10, group: 0 });
  m.writeLr(1, { intid: 34, state: "pending", priority: 0x20, group: 1 });
  m.icv("ICC_IGRPEN0_EL1", 0);
  assert.deepEqual(m.lines(), ["VIRQ"]);
  assert.equal(m.icv("ICC_HPPIR1_EL1"), 34);
  m.icv("ICC_IGRPEN1_EL1", 0);
  assert.deepEqual(m.lines(), []);
  assert.equal(m.ich("ICH_VMCR_EL2") & 3, 0);
  m.icv("ICC_IGRPEN0_EL1", 1);
  assert.deepEqual(m.lines(), ["VFIQ"]);
  const bits = ICH_HCR.VGrp0EIE | ICH_HCR.VGrp0DIE | ICH_HCR.VGrp1EIE | ICH_HCR.VGrp1DIE;
  m.ich("ICH_HCR_EL2", ICH_HCR.En | bits);
  assert.equal(m.ich("ICH_MISR_EL2"), ICH_MISR.VGrp0E | ICH_MISR.VGrp1D);
  m.icv("ICC_IGRPEN0_EL1", 0);
  m.icv("ICC_IGRPEN1_EL1", 1);
  assert.equal(m.ich("ICH_MISR_EL2"), ICH_MISR.VGrp0D | ICH_MISR.VGrp1E);
  m.ich("ICH_HCR_EL2", ICH_HCR.En | ICH_HCR.VGrp0EIE | ICH_HCR.VGrp1DIE);
  assert.equal(m.ich("ICH_MISR_EL2"), 0);
});

Deno.test("virtual preemption by group priority, with BPR and VCBPR", () => {
  const m = virtual();
  m.icv("ICC_BPR1_EL1", 5);
  m.writeLr(0, { intid: 33, state: "pending", priority: 0x98 });
  assert.equal(m.icv("ICC_IAR1_EL1"), 33);
  assert.equal(m.icv("ICC_RPR_EL1"), 0x80);
  m.writeLr(1, { intid: 34, state: "pending", priority: 0x80 });
  assert.deepEqual(m.lines(), []);
  m.writeLr(1, { intid: 34, state: "pending", priority: 0x78 });
  assert.deepEqual(m.lines(), ["VIRQ"]);
  assert.equal(m.icv("ICC_IAR1_EL1"), 34);
  assert.equal(m.icv("ICC_AP1R0_EL1"), (1 << 16) | (1 << 12));
  m.icv("ICC_EOIR1_EL1", 34);
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(m.ich("ICH_ELRSR_EL2"), 15);
  m.icv("ICC_BPR0_EL1", 6);
  m.icv("ICC_CTLR_EL1", 1);
  assert.equal(m.icv("ICC_BPR1_EL1"), 7);
  m.icv("ICC_BPR1_EL1", 3);
  m.icv("ICC_CTLR_EL1", 0);
  assert.equal(m.icv("ICC_BPR1_EL1"), 5);
});

Deno.test("ICH_VMCR_EL2 and the ICV registers are one state", () => {
  const m = virtual();
  assert.equal(new Machine().ich("ICH_VMCR_EL2"), (2 << 21) | (3 << 18) | 8);
  m.ich("ICH_VMCR_EL2", 0xffff_ffff);
  assert.equal(m.ich("ICH_VMCR_EL2"), 0xf8fc_021b);
  assert.equal(m.icv("ICC_CTLR_EL1"), 0x8c03);
  assert.equal(m.icv("ICC_PMR_EL1"), 0xf8);
  assert.equal(m.icv("ICC_BPR0_EL1"), 7);
  m.ich("ICH_VMCR_EL2", 0);
  assert.equal(m.icv("ICC_BPR0_EL1"), 2);
  assert.equal(m.icv("ICC_BPR1_EL1"), 3);
  assert.equal(m.icv("ICC_IGRPEN1_EL1"), 0);
  m.ich("ICH_HCR_EL2", 0xffff_ffff);
  assert.equal(m.ich("ICH_HCR_EL2"), 0xf800_7cff);
  m.icv("ICC_AP0R0_EL1", 0x8000_0001);
  assert.equal(m.ich("ICH_AP0R0_EL2"), 0x8000_0001);
});

Deno.test("an EOI whose INTID is active at another priority drops the priority only", () => {
  const m = virtual();
  m.writeLr(0, { intid: 33, state: "active", priority: 0x40 });
  m.ich("ICH_AP1R0_EL2", 1 << 16);
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(m.icv("ICC_RPR_EL1"), 0xff);
  assert.equal(m.lr(0).state, "active");
  m.icv("ICC_EOIR1_EL1", 33);
  assert.equal(m.lr(0).state, "active", "nothing was running");
});

Deno.test("a special INTID in a list register is handed out once without becoming active", () => {
  const m = virtual();
  m.writeLr(0, { intid: 1021, state: "pending" });
  assert.equal(m.icv("ICC_IAR1_EL1"), 1021);
  assert.equal(m.icv("ICC_RPR_EL1"), 0xff);
  assert.equal(m.icv("ICC_IAR1_EL1"), SPURIOUS);
});

Deno.test("LR priority keeps five bits, the INTID all; the virtual interface is each CPU's own", () => {
  const m = new Machine({ cpus: 2 });
  m.gic.ichWrite(1, R.ICH_LR3_EL2, 0xffff_ffff, 0xffff_ffff);
  assert.equal(m.gic.ichRead(1, R.ICH_LR3_EL2), 0xffff_ffff);
  assert.equal(m.gic.hi, 0xfff8_ffff);
  assert.equal(m.gic.ichRead(0, R.ICH_LR3_EL2), 0);
  assert.equal(m.gic.hi, 0);
});

Deno.test("the physical interface is untouched by virtual acknowledgement", () => {
  const m = virtual();
  m.enable(40, 0x10);
  m.writeLr(0, { intid: 40, state: "pending", priority: 0x80 });
  m.icv("ICC_IAR1_EL1");
  m.gic.setSpi(40, true);
  assert.deepEqual(m.lines(), ["IRQ"]);
  assert.equal(m.icc("ICC_RPR_EL1"), 0xff);
  m.icv("ICC_EOIR1_EL1", 40);
  assert.equal(m.state(40), "pending");
});
