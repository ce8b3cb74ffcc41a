/** What a GICv2 has that a GICv3 has not; what they share is tested on the GICv3. */
import assert from "node:assert/strict";
import { LINE } from "../../../src/arm/arch/cpu_state.ts";
import { GICD } from "../../../src/arm/arch/gic.ts";
import { GICC, GICC_CTLR, GICH_LR, lrHiOf, lrLoOf, lrOf } from "../../../src/arm/arch/gicv2.ts";
import { R } from "../../../src/arm/arch/sysregs.ts";
import { Machine } from "./gicv2_machine.ts";

const SPURIOUS = 1023;
const pendingLr = (intid: number, priority: number, more = 0): number =>
  (GICH_LR.PENDING | (priority << GICH_LR.Priority.shift) | intid | more) >>> 0;

Deno.test("identification, and what reset leaves", () => {
  const m = new Machine({ cpus: 3, spis: 64, cold: true });
  assert.equal(m.gicd(GICD.TYPER), (2 << 5) | 2);
  assert.equal(m.gicd(0xfe8) >>> 4, 2);
  assert.equal(m.gicc("IIDR"), 0x0002_043b);
  assert.equal(m.gicv("IIDR"), 0x0002_043b);
  assert.equal(m.gicd(GICD.ISENABLER), 0xffff);
  assert.equal(m.gicd(GICD.ICFGR), 0xaaaa_aaaa);
  assert.equal(m.gicd(GICD.ITARGETSR + 32), 0);
  assert.deepEqual([m.gicc("BPR"), m.gicc("ABPR")], [2, 3]);
  assert.deepEqual([m.gicv("BPR"), m.gicv("ABPR")], [2, 3]);
  assert.equal(m.gicc("RPR"), 0xff);
  assert.equal(m.gicc("IAR"), SPURIOUS);
  assert.equal(m.gich("VTR"), 0x9000_0003);
  assert.equal(m.gich("ELRSR0"), 15);
});

Deno.test("private registers are banked by the accessing CPU, the SGIs' enables fixed", () => {
  const m = new Machine();
  m.gicd(GICD.ISENABLER, 1 << 27, 1);
  assert.equal(m.gicd(GICD.ISENABLER, undefined, 0), 0xffff);
  assert.equal(m.gicd(GICD.ISENABLER, undefined, 1), 0x0800_ffff);
  m.gicd(GICD.ICENABLER, 0xffff_ffff, 1);
  assert.equal(m.gicd(GICD.ISENABLER, undefined, 1), 0xffff);
  m.gic.distWrite(1, GICD.IPRIORITYR + 5, 1, 0x57);
  assert.deepEqual([0, 1].map((cpu) => m.gic.distRead(cpu, GICD.IPRIORITYR + 5, 1)), [0, 0x50]);
});

Deno.test("ITARGETSR: bytes, implemented CPUs only, own bit in the read-only ones; RAZ with one CPU", () => {
  const m = new Machine({ cpus: 3 });
  m.gicd(GICD.ITARGETSR + 40, 0xffff_ffff);
  assert.equal(m.gicd(GICD.ITARGETSR + 40), 0x0707_0707);
  m.gic.distWrite(0, GICD.ITARGETSR + 41, 1, 2);
  assert.equal(m.gicd(GICD.ITARGETSR + 40), 0x0707_0207);
  m.gicd(GICD.ITARGETSR + 4, 0xffff_ffff, 2);
  assert.equal(m.gicd(GICD.ITARGETSR + 4, undefined, 2), 0x0404_0404);
  assert.equal(m.gicd(GICD.ITARGETSR + 256), 0);
  const one = new Machine({ cpus: 1 });
  one.gicd(GICD.ITARGETSR + 40, 0x0101_0101);
  assert.equal(one.gicd(GICD.ITARGETSR + 40), 0);
  assert.equal(one.gicd(GICD.ITARGETSR), 0);
  one.enable(40);
  one.gic.setSpi(40, true);
  assert.equal(one.gicc("IAR"), 40);
});

Deno.test("an SPI is shown to all its targets; the first to acknowledge has it", () => {
  const m = new Machine({ cpus: 3 });
  m.enable(40, 0x80, 0b110);
  m.gicd(GICD.ICFGR + 8, 2 << 16);
  m.gic.setSpi(40, true);
  assert.deepEqual([0, 1, 2].map((cpu) => m.lines(cpu)), [0, LINE.IRQ, LINE.IRQ]);
  assert.equal(m.gicc("IAR", undefined, 2), 40);
  assert.deepEqual([0, 1, 2].map((cpu) => m.lines(cpu)), [0, 0, 0]);
  assert.equal(m.gicc("IAR", undefined, 1), SPURIOUS);
  m.gicc("EOIR", 40, 2);
  assert.equal(m.gicd(GICD.ISACTIVER + 4), 0);
  m.gic.distWrite(0, GICD.ITARGETSR + 40, 1, 0);
  m.gic.setSpi(40, false);
  m.gic.setSpi(40, true);
  assert.deepEqual([0, 1, 2].map((cpu) => m.lines(cpu)), [0, 0, 0]);
});

Deno.test("GICD_SGIR: list, all others, self; the sender is in IAR and wanted back by EOIR", () => {
  const m = new Machine({ cpus: 3 });
  m.gicd(GICD.SGIR, (0b101 << 16) | 3, 1);
  assert.deepEqual([0, 1, 2].map((cpu) => m.lines(cpu) !== 0), [true, false, true]);
  assert.equal(m.gicc("HPPIR"), (1 << 10) | 3);
  assert.equal(m.gicc("IAR"), (1 << 10) | 3);
  m.gicc("EOIR", (1 << 10) | 3);
  assert.equal(m.gicd(GICD.ISACTIVER), 0);
  m.gicd(GICD.SGIR, (1 << 24) | 5, 2);
  m.gicd(GICD.SGIR, (2 << 24) | 6, 1);
  m.gicd(GICD.SGIR, (3 << 24) | (7 << 16) | 7, 1);
  assert.deepEqual([0, 1, 2].map((cpu) => m.gicd(GICD.ISPENDR, undefined, cpu)), [
    1 << 5,
    (1 << 5) | (1 << 6),
    1 << 3,
  ]);
});

Deno.test("an SGI is pending once for each sender, and taken from the lowest first", () => {
  const m = new Machine({ cpus: 3 });
  m.gicd(GICD.SGIR, (1 << 16) | 4, 2);
  m.gicd(GICD.SGIR, (1 << 16) | 4, 0);
  m.gicd(GICD.SGIR, (1 << 16) | 4, 0);
  assert.equal(m.gic.distRead(0, GICD.SPENDSGIR + 4, 1), 0b101);
  const seen: number[] = [];
  for (let id = m.gicc("IAR"); id !== SPURIOUS; id = m.gicc("IAR")) {
    seen.push(id);
    assert.equal(m.lines(), 0, "not again while active");
    m.gicc("EOIR", id);
  }
  assert.deepEqual(seen, [4, (2 << 10) | 4]);
});

Deno.test("SPENDSGIR and CPENDSGIR by byte and word; ISPENDR and ICPENDR leave SGIs alone", () => {
  const m = new Machine();
  m.gicd(GICD.ISPENDR, 0xffff);
  assert.equal(m.gicd(GICD.ISPENDR), 0);
  m.gicd(GICD.SPENDSGIR, 0x0301_0203);
  m.gic.distWrite(0, GICD.CPENDSGIR, 1, 1);
  assert.equal(m.gicd(GICD.CPENDSGIR), 0x0301_0202);
  m.gicd(GICD.CPENDSGIR, 0x0301_0000);
  assert.equal(m.gicd(GICD.SPENDSGIR), 0x0202);
  assert.equal(m.gicd(GICD.ISPENDR), 0b11);
  m.gicd(GICD.ICPENDR, 0xffff);
  assert.equal(m.gicd(GICD.ISPENDR), 0b11);
  assert.equal(m.gicd(GICD.SPENDSGIR, undefined, 1), 0, "of the accessing CPU");
});

Deno.test("groups: FIQEn, AckCtl and the aliased registers", () => {
  const m = new Machine();
  const on = GICC_CTLR.EnableGrp0 | GICC_CTLR.EnableGrp1;
  m.enable(40);
  m.gic.setSpi(40, true);
  assert.equal(m.lines(), LINE.IRQ);
  m.gicc("CTLR", on | GICC_CTLR.FIQEn);
  assert.equal(m.lines(), LINE.FIQ);
  m.gicd(GICD.IGROUPR + 4, 1 << 8);
  assert.equal(m.lines(), LINE.IRQ);
  assert.deepEqual([m.gicc("HPPIR"), m.gicc("IAR"), m.gicc("AHPPIR")], [1022, 1022, 40]);
  assert.equal(m.gicc("AIAR"), 40);
  assert.deepEqual([m.gicc("APR0"), m.gicc("NSAPR0")], [0, 1 << 16]);
  m.gicc("EOIR", 40);
  assert.equal(m.gicc("NSAPR0"), 1 << 16, "EOIR is for group 0");
  m.gicc("AEOIR", 40);
  assert.equal(m.gicc("NSAPR0"), 0);
  m.gicc("CTLR", on | GICC_CTLR.AckCtl);
  assert.equal(m.gicc("IAR"), 40);
  m.gicc("EOIR", 40);
  assert.equal(m.gicd(GICD.ISACTIVER + 4), 0);
  m.gicc("CTLR", GICC_CTLR.EnableGrp0);
  assert.equal(m.lines(), 0);
});

Deno.test("EOImode: EOIR drops the priority, DIR deactivates", () => {
  const m = new Machine();
  m.gicc("CTLR", GICC_CTLR.EnableGrp0 | GICC_CTLR.EOImode);
  m.enable(40);
  m.gic.setSpi(40, true);
  assert.equal(m.gicc("IAR"), 40);
  assert.equal(m.gicc("RPR"), 0x80);
  m.gicc("EOIR", 40);
  assert.equal(m.gicc("RPR"), 0xff);
  assert.equal(m.gicd(GICD.ISACTIVER + 4), 1 << 8);
  m.gicc("DIR", 40);
  assert.equal(m.gicd(GICD.ISACTIVER + 4), 0);
  m.gicc("EOIR", 40);
  assert.equal(m.lines(), LINE.IRQ, "an EOI of nothing changes nothing");
});

Deno.test("list registers: both forms say the same", () => {
  const words = [
    0,
    pendingLr(40, 0x14, GICH_LR.EOI),
    pendingLr(3, 0x1f, 5 << 10),
    (GICH_LR.HW | GICH_LR.ACTIVE | GICH_LR.Group1 | (27 << 10) | 27) >>> 0,
    (GICH_LR.PENDING | GICH_LR.ACTIVE | 1019) >>> 0,
  ];
  for (const word of words) assert.equal(lrOf(lrLoOf(word), lrHiOf(word)), word);
});

Deno.test("GICV: acknowledge, priorities, end; an SGI's sender comes from the list register", () => {
  const m = new Machine();
  m.lr(0, pendingLr(3, 0x10, 5 << 10));
  m.lr(1, pendingLr(40, 0x0f));
  assert.equal(m.lines(), LINE.VIRQ);
  assert.equal(m.gicv("HPPIR"), 40);
  assert.equal(m.gicv("IAR"), 40);
  assert.equal(m.gicv("RPR"), 0x78);
  assert.equal(m.lines(), 0, "the lower priority does not preempt");
  assert.equal(m.gich("APR"), 1 << 15);
  m.gicv("EOIR", 40);
  assert.equal(m.gich("APR"), 0);
  assert.equal(m.gicv("IAR"), (5 << 10) | 3);
  m.gicv("EOIR", 3);
  assert.equal(
    m.lr(0) & GICH_LR.ACTIVE,
    GICH_LR.ACTIVE,
    "without the sender it is another interrupt",
  );
  assert.equal(m.gich("HCR") >>> 27, 1, "counted as one that is in no list register");
  m.lr(0, pendingLr(3, 0x10, 5 << 10));
  m.gicv("EOIR", m.gicv("IAR"));
  assert.equal(m.lr(0) >>> 28, 0);
  assert.equal(m.gich("ELRSR0"), 15);
});

Deno.test("GICV is the CPU's own; a HW interrupt's end reaches the distributor; maintenance is PPI 25", () => {
  const m = new Machine();
  m.gicc("CTLR", GICC_CTLR.EnableGrp0 | GICC_CTLR.EOImode, 1);
  m.enable(27, 0x80, 0, 1);
  m.gic.setPpi(1, 27, true);
  m.gicc("EOIR", m.gicc("IAR", undefined, 1), 1);
  m.lr(0, pendingLr(27, 0, (GICH_LR.HW | (27 << 10)) >>> 0), 1);
  assert.equal(m.gicv("IAR", undefined, 0), SPURIOUS);
  m.gicv("EOIR", m.gicv("IAR", undefined, 1), 1);
  assert.equal(m.gicd(GICD.ISACTIVER, undefined, 1), 0);
  m.gich("HCR", 3, 1);
  assert.equal(m.gic.interrupt(1, 25)?.level, true);
  assert.equal(m.gic.interrupt(0, 25)?.level, false);
  assert.equal(m.gich("MISR", undefined, 1), 2);
});

Deno.test("GICH_VMCR and GICV are two views of one state", () => {
  const m = new Machine();
  m.gich("VMCR", 0);
  assert.deepEqual([m.gicv("CTLR"), m.gicv("BPR"), m.gicv("ABPR"), m.gicv("PMR")], [0, 2, 3, 0]);
  m.gicv("CTLR", 0xffff_ffff);
  m.gicv("PMR", 0xff);
  m.gicv("BPR", 5);
  assert.equal(m.gich("VMCR"), ((0x1f << 27) | (5 << 21) | (3 << 18) | 0x21f) >>> 0);
  m.gich("VMCR", (0x11 << 27) >>> 0);
  assert.equal(m.gicv("PMR"), 0x88);
});

Deno.test("what guests do is reported without an SGI's sender", () => {
  const m = new Machine();
  const seen: string[] = [];
  m.gic.virtualAcknowledged = (cpu, intid) => seen.push(`ack ${cpu} ${intid}`);
  m.gic.virtualDeactivated = (cpu, intid) => seen.push(`end ${cpu} ${intid}`);
  m.lr(0, pendingLr(3, 0x10, 5 << 10), 1);
  m.gicv("EOIR", m.gicv("IAR", undefined, 1), 1);
  m.gicv("IAR", undefined, 1);
  assert.deepEqual(seen, ["ack 1 3", "end 1 3"]);
});

Deno.test("there is nothing behind the system registers, and no ninth CPU", () => {
  const { gic } = new Machine();
  assert.equal(gic.implemented(R.ICC_PMR_EL1), false);
  assert.throws(() => gic.iccRead(), /no system registers/);
  assert.throws(() => new Machine({ cpus: 9 }), /8 are possible/);
  assert.equal(gic.giccRead(0, GICC.IIDR, 1), 0, "a byte of a register that takes words");
});
