/** Every region of the virtual distributor and redistributors: reset value, write mask, banking, widths. */
import assert from "node:assert/strict";
import { GICD, GICR, GICR_SGI } from "../../../src/arm/arch/gic.ts";
import { WAIT } from "../../../src/kvm/kvm_host.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic.ts";
import {
  VGIC_ACCESS_32BIT,
  VGIC_ACCESS_64BIT,
  VGIC_ACCESS_8BIT,
  vgicAddrToIntid,
  vgicFindMmioRegion,
  type VgicRegisterRegion,
} from "../../../src/kvm/vgic/vgic_mmio.ts";
import {
  VGIC_V3_DIST_REGISTERS,
  VGIC_V3_RD_REGISTERS,
} from "../../../src/kvm/vgic/vgic_mmio_v3.ts";
import { GICD_BASE, World } from "./world.ts";

const ONES = 0xffff_ffff;

/** A register's 32-bit word: what it reads after reset, and after ones and then zeros were written. */
interface Expected {
  readonly offset: number;
  readonly reset: number;
  readonly ones?: number;
  readonly zeros?: number;
}

/** Registers of the first word of shared interrupts (32 on; ICFGR 32 to 47, IPRIORITYR 32 to 35). */
const DIST: Record<string, Expected> = {
  CTLR: { offset: GICD.CTLR, reset: 0x50, ones: 0x52, zeros: 0x50 },
  TYPER: { offset: GICD.TYPER, reset: (9 << 19) | 3 },
  IIDR: { offset: GICD.IIDR, reset: 0x4b00343b },
  TYPER2: { offset: GICD.TYPER2, reset: 0 },
  STATUSR: { offset: GICD.STATUSR, reset: ONES },
  IGROUPR: { offset: GICD.IGROUPR + 4, reset: ONES, ones: ONES, zeros: 0 },
  ISENABLER: { offset: GICD.ISENABLER + 4, reset: 0, ones: ONES, zeros: ONES },
  ICENABLER: { offset: GICD.ICENABLER + 4, reset: 0 },
  ISPENDR: { offset: GICD.ISPENDR + 4, reset: 0, ones: ONES, zeros: ONES },
  ICPENDR: { offset: GICD.ICPENDR + 4, reset: 0 },
  ISACTIVER: { offset: GICD.ISACTIVER + 4, reset: 0, ones: ONES, zeros: ONES },
  ICACTIVER: { offset: GICD.ICACTIVER + 4, reset: 0 },
  IPRIORITYR: { offset: GICD.IPRIORITYR + 32, reset: 0, ones: 0xf8f8_f8f8, zeros: 0 },
  ITARGETSR: { offset: GICD.ITARGETSR + 32, reset: 0 },
  ICFGR: { offset: GICD.ICFGR + 8, reset: 0xaaaa_aaaa, ones: 0xaaaa_aaaa, zeros: 0 },
  IGRPMODR: { offset: GICD.IGRPMODR + 4, reset: 0 },
  IROUTER: { offset: GICD.IROUTER + 8 * 32, reset: 0, ones: 0x00ff_ffff, zeros: 0 },
  IROUTER_hi: { offset: GICD.IROUTER + 8 * 32 + 4, reset: 0 },
  PIDR2: { offset: GICD.PIDR2, reset: 0x3b },
  PIDR4: { offset: GICD.PIDR4, reset: 0 },
};

const RD: Record<string, Expected> = {
  CTLR: { offset: GICR.CTLR, reset: 6 },
  IIDR: { offset: GICR.IIDR, reset: 0x4b00043b },
  TYPER: { offset: GICR.TYPER, reset: 0 },
  TYPER_hi: { offset: GICR.TYPER + 4, reset: 0 },
  STATUSR: { offset: GICR.STATUSR, reset: 0 },
  WAKER: { offset: GICR.WAKER, reset: 0 },
  PROPBASER: { offset: GICR.PROPBASER, reset: 0 },
  PENDBASER: { offset: GICR.PENDBASER, reset: 0 },
  INVLPIR: { offset: 0xa0, reset: 0 },
  INVALLR: { offset: 0xb0, reset: 0 },
  SYNCR: { offset: GICR.SYNCR, reset: 0 },
  PIDR2: { offset: GICR.PIDR2, reset: 0x3b },
  IGROUPR0: { offset: GICR_SGI.IGROUPR0, reset: ONES, ones: ONES, zeros: 0 },
  ISENABLER0: { offset: GICR_SGI.ISENABLER0, reset: 0xffff, ones: ONES, zeros: ONES },
  ICENABLER0: { offset: GICR_SGI.ICENABLER0, reset: 0xffff, ones: 0, zeros: 0 },
  ISPENDR0: { offset: GICR_SGI.ISPENDR0, reset: 0, ones: ONES, zeros: ONES },
  ICPENDR0: { offset: GICR_SGI.ICPENDR0, reset: 0 },
  ISACTIVER0: { offset: GICR_SGI.ISACTIVER0, reset: 0, ones: ONES, zeros: ONES },
  ICACTIVER0: { offset: GICR_SGI.ICACTIVER0, reset: 0 },
  IPRIORITYR: { offset: GICR_SGI.IPRIORITYR + 28, reset: 0, ones: 0xf8f8_f8f8, zeros: 0 },
  ICFGR0: { offset: GICR_SGI.ICFGR0, reset: 0xaaaa_aaaa },
  ICFGR1: { offset: GICR_SGI.ICFGR1, reset: 0 },
  IGRPMODR0: { offset: GICR_SGI.IGRPMODR0, reset: 0 },
  NSACR: { offset: GICR_SGI.NSACR, reset: 0 },
};

/** A vgic as user space has made it, before any guest touched it. */
const untouched = (): World => new World({ asReset: true });

for (const [name, e] of Object.entries(DIST)) {
  Deno.test(`GICD_${name}: reset value and write mask`, () => {
    const w = untouched();
    assert.equal(w.read(e.offset), e.reset);
    w.write(e.offset, ONES);
    assert.equal(w.read(e.offset), e.ones ?? e.reset);
    w.write(e.offset, 0);
    assert.equal(w.read(e.offset), e.zeros ?? e.reset);
  });
}

for (const [name, e] of Object.entries(RD)) {
  Deno.test(`GICR_${name}: reset value, write mask, one per vCPU`, () => {
    const w = untouched();
    assert.equal(w.readRd(e.offset, 0), e.reset);
    w.writeRd(e.offset, ONES, 0);
    assert.equal(w.readRd(e.offset, 0), e.ones ?? e.reset);
    w.writeRd(e.offset, 0, 0);
    assert.equal(w.readRd(e.offset, 0), e.zeros ?? e.reset);
    if (!name.startsWith("TYPER")) assert.equal(w.readRd(e.offset, 1), e.reset, "other vCPU");
  });
}

Deno.test("all regions are in the tables above", () => {
  const covers = (regions: readonly VgicRegisterRegion[], expected: Record<string, Expected>) => {
    const found = new Set(
      Object.values(expected).map((e) => vgicFindMmioRegion(regions, e.offset)?.name),
    );
    for (const region of regions) assert.ok(found.has(region.name), region.name);
  };
  covers(VGIC_V3_DIST_REGISTERS, DIST);
  covers(VGIC_V3_RD_REGISTERS, RD);
});

Deno.test("tables are sorted and do not overlap, so that the search finds every offset", () => {
  for (const regions of [VGIC_V3_DIST_REGISTERS, VGIC_V3_RD_REGISTERS]) {
    let end = 0;
    for (const region of regions) {
      assert.ok(region.regOffset >= end, region.name);
      end = region.regOffset + region.len;
      assert.equal(vgicFindMmioRegion(regions, region.regOffset), region);
      assert.equal(vgicFindMmioRegion(regions, end - 1), region);
    }
    assert.equal(vgicFindMmioRegion(regions, end), undefined);
  }
});

const WIDTHS = [1, 2, 4, 8] as const;
const FLAG = {
  1: VGIC_ACCESS_8BIT,
  2: 0,
  4: VGIC_ACCESS_32BIT,
  8: VGIC_ACCESS_64BIT,
} as const;

/** Bytes of the VM's interrupt state. */
const stateOf = (w: World): string => {
  const { base } = w.kvm.state;
  const end = w.arena.end - w.arena.free;
  let hash = 0;
  for (let at = base >>> 2; at < end >>> 2; at++) {
    hash = (Math.imul(hash, 31) + (w.memory.u32[at] as number)) | 0;
  }
  return String(hash);
};

Deno.test("widths that a region does not have read as zero and write nothing", () => {
  const w = untouched();
  const frames = [
    [VGIC_V3_DIST_REGISTERS, DIST, (o: number, len: number) => w.read(o, len), w.write.bind(w)],
    [
      VGIC_V3_RD_REGISTERS,
      RD,
      (o: number, len: number) => w.readRd(o, 0, len),
      (o: number, v: number | bigint, len: number) => w.writeRd(o, v, 0, len),
    ],
  ] as const;
  let refused = 0;
  for (const [regions, expected, read, write] of frames) {
    for (const { offset } of Object.values(expected)) {
      const region = vgicFindMmioRegion(regions, offset);
      for (const len of WIDTHS) {
        if (((region?.accessFlags ?? 0) & FLAG[len]) !== 0 || offset % len !== 0) continue;
        const before = stateOf(w);
        assert.equal(read(offset, len), 0, `${region?.name} ${len}`);
        write(offset, len === 8 ? 0xffff_ffff_ffff_ffffn : 2 ** (8 * len) - 1, len);
        assert.equal(stateOf(w), before, `${region?.name} ${len}`);
        refused++;
      }
    }
  }
  assert.ok(refused > 80);
});

Deno.test("unaligned accesses and holes read as zero and write nothing", () => {
  const w = untouched();
  const before = stateOf(w);
  for (
    const [offset, len] of [[GICD.CTLR + 2, 4], [GICD.IROUTER + 8 * 32 + 4, 8], [0x20, 4], [
      GICD.SETSPI_NSR,
      4,
    ], [0xfffc, 4]] as const
  ) {
    w.write(offset, ONES, len);
    if (offset < 0xffd0) assert.equal(w.read(offset, len), 0);
  }
  assert.equal(stateOf(w), before);
});

Deno.test("interrupts that the VM does not have read as zero and write nothing", () => {
  const w = new World({ nrIrqs: 64, asReset: true });
  const before = stateOf(w);
  for (const offset of [GICD.ISENABLER + 8, GICD.IPRIORITYR + 64, GICD.ICFGR + 16]) {
    w.write(offset, ONES);
    assert.equal(w.read(offset), 0);
  }
  w.write(GICD.IROUTER + 8 * 64, 1, 8);
  assert.equal(w.read(GICD.IROUTER + 8 * 64, 8), 0);
  assert.equal(stateOf(w), before);
  assert.equal(w.read(GICD.TYPER) & 31, 1);
});

Deno.test("private interrupts' share of the distributor reads as zero and ignores writes", () => {
  const w = untouched();
  const shared = [
    GICD.IGROUPR,
    GICD.ISENABLER,
    GICD.ICENABLER,
    GICD.ISPENDR,
    GICD.ICPENDR,
    GICD.ISACTIVER,
    GICD.ICACTIVER,
    GICD.IPRIORITYR,
    GICD.ITARGETSR,
    GICD.ICFGR,
    GICD.IGRPMODR,
    GICD.IROUTER,
  ];
  const before = stateOf(w);
  for (const offset of shared) {
    assert.equal(w.read(offset), 0);
    w.write(offset, ONES);
  }
  assert.equal(stateOf(w), before);
});

Deno.test("clear registers clear what is written as ones, and nothing else", () => {
  const w = untouched();
  for (
    const [set, clear] of [
      [GICD.ISENABLER, GICD.ICENABLER],
      [GICD.ISPENDR, GICD.ICPENDR],
      [GICD.ISACTIVER, GICD.ICACTIVER],
    ] as const
  ) {
    w.write(set + 4, 0x0000_ff00);
    assert.equal(w.read(clear + 4), 0x0000_ff00);
    w.write(clear + 4, 0xffff_0f00);
    assert.equal(w.read(set + 4), 0x0000_f000);
    assert.equal(w.read(clear + 4), 0x0000_f000);
  }
});

Deno.test("IPRIORITYR by bytes", () => {
  const w = untouched();
  w.write(GICD.IPRIORITYR + 33, 0xff, 1);
  assert.equal(w.read(GICD.IPRIORITYR + 32), 0xf800);
  assert.equal(w.read(GICD.IPRIORITYR + 33, 1), 0xf8);
});

Deno.test("IROUTER by halves and as a whole; bits that are not an affinity are dropped", () => {
  const w = untouched();
  const at = GICD.IROUTER + 8 * 40;
  w.write(at, 0xffff_ffff_0000_0001n, 8);
  assert.equal(w.read(at, 8), 1);
  assert.equal(w.irq(40).targetVcpu, w.vcpu(1).state.base);
  w.write(at + 4, 0xff);
  assert.equal(w.read(at + 4), 0);
  w.write(at, 0x8000_0000);
  assert.equal(w.irq(40).targetVcpu, w.vcpu(0).state.base);
  w.write(at, 5);
  assert.equal(w.irq(40).targetVcpu, 0);
  assert.equal(w.read(at), 5);
});

Deno.test("GICR_TYPER: number, affinity, Last; by 32 and 64 bits", () => {
  const w = new World({ vcpus: 3, mpidr: (id) => id === 2 ? 0x1_0203 : id });
  assert.equal(w.readRd(GICR.TYPER, 0), 0);
  assert.equal(w.readRd(GICR.TYPER, 1), 1 << 8);
  assert.equal(w.readRd(GICR.TYPER, 2), (2 << 8) | (1 << 4));
  assert.equal(w.readRd(GICR.TYPER + 4, 2), 0x1_0203);
  assert.equal(w.readRd(GICR.TYPER, 2, 8), 0x1_0203 * 2 ** 32 + 0x210);
});

Deno.test("a redistributor is its vCPU's, whoever accesses it", () => {
  const w = untouched();
  w.writeRd(GICR_SGI.ISENABLER0, 1 << 20, 1, 4, 0);
  assert.equal(w.irq(20, 1).enabled, true);
  assert.equal(w.irq(20, 0).enabled, false);
});

Deno.test("group 1 by IGROUPR and a pending interrupt: queued when enabled", () => {
  const w = new World();
  w.write(GICD.ISPENDR + 4, 1 << 8);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
  w.write(GICD.ISENABLER + 4, 1 << 8);
  assert.deepEqual(apListIntids(w.vcpu(0)), [40]);
});

Deno.test("active registers wait until all vCPUs are out of the guest", () => {
  const w = new World();
  w.haltAnswer = false;
  const range = w.kvm.ioBus.find((r) => r.baseIpa === GICD_BASE);
  assert.ok(range);
  const before = stateOf(w);
  assert.equal(range.ops.read(w.vcpu(0), GICD.ISACTIVER + 4, 4), WAIT);
  assert.equal(range.ops.write(w.vcpu(0), GICD.ISACTIVER + 4, 4, ONES), WAIT);
  assert.equal(range.ops.write(w.vcpu(0), GICD.ICACTIVER + 4, 4, ONES), WAIT);
  assert.equal(stateOf(w), before);
  assert.deepEqual([w.halts, w.resumes, w.locks.heldCount], [3, 0, 0]);
  w.haltAnswer = true;
  w.write(GICD.ISACTIVER + 4, 1 << 8);
  assert.equal(w.read(GICD.ICACTIVER + 4), 1 << 8);
  assert.deepEqual([w.halts, w.resumes], [5, 2]);
});

Deno.test("an interrupt made active by the guest is in a list register until its end", () => {
  const w = new World();
  w.guestWrite(0, "ICC_CTLR_EL1", 2);
  w.write(GICD.ISACTIVER + 4, 1 << 8);
  assert.deepEqual(apListIntids(w.vcpu(0)), [40]);
  w.enter(0);
  assert.equal(w.lr(0, 0).state, "active");
  w.guestWrite(0, "ICC_DIR_EL1", 40);
  w.exit(0);
  assert.equal(w.read(GICD.ISACTIVER + 4), 0);
});

Deno.test("an interrupt made inactive by the guest leaves its list", () => {
  const w = new World();
  w.enable(40);
  w.inject(40, true);
  w.run(0, () => w.ack(0));
  w.inject(40, false);
  w.write(GICD.ICACTIVER + 4, 1 << 8);
  w.run(0, () => {});
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

Deno.test("INTIDs of offsets", () => {
  assert.equal(vgicAddrToIntid(GICD.ISENABLER + 4, 1), 32);
  assert.equal(vgicAddrToIntid(GICR_SGI.ISENABLER0, 1), 0);
  assert.equal(vgicAddrToIntid(GICD.IPRIORITYR + 33, 8), 33);
  assert.equal(vgicAddrToIntid(GICD.ICFGR + 8, 2), 32);
  assert.equal(vgicAddrToIntid(GICR_SGI.ICFGR1, 2), 16);
  assert.equal(vgicAddrToIntid(GICD.IROUTER + 8 * 1019, 64), 1019);
});
