/** The virtual distributor and redistributors: widths, holes, side effects; each register is in registers_v3_test.ts. */
import assert from "node:assert/strict";
import { GICD, GICR, GICR_SGI } from "../../../src/arm/arch/gic.ts";
import { WAIT } from "../../../src/kvm/kvm_host.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import {
  VGIC_ACCESS_32BIT,
  VGIC_ACCESS_64BIT,
  VGIC_ACCESS_8BIT,
  vgicAddrToIntid,
  vgicFindMmioRegion,
} from "../../../src/kvm/vgic/vgic_mmio.ts";
import {
  VGIC_V2_CPU_REGISTERS,
  VGIC_V2_DIST_REGISTERS,
} from "../../../src/kvm/vgic/vgic_mmio_v2.ts";
import {
  VGIC_V3_DIST_REGISTERS,
  VGIC_V3_RD_REGISTERS,
} from "../../../src/kvm/vgic/vgic_mmio_v3.ts";
import { GICD_BASE, World } from "./world.ts";

const ONES = 0xffff_ffff;

/** A vgic as user space has made it, before any guest touched it. */
const untouched = (): World => new World({ asReset: true });

Deno.test("tables are sorted and do not overlap, so that the search finds every offset", () => {
  for (
    const regions of [
      VGIC_V2_CPU_REGISTERS,
      VGIC_V2_DIST_REGISTERS,
      VGIC_V3_DIST_REGISTERS,
      VGIC_V3_RD_REGISTERS,
    ]
  ) {
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
    [VGIC_V3_DIST_REGISTERS, (o: number, len: number) => w.read(o, len), w.write.bind(w)],
    [
      VGIC_V3_RD_REGISTERS,
      (o: number, len: number) => w.readRd(o, 0, len),
      (o: number, v: number | bigint, len: number) => w.writeRd(o, v, 0, len),
    ],
  ] as const;
  let refused = 0;
  for (const [regions, read, write] of frames) {
    for (const { name, regOffset: offset, accessFlags } of regions) {
      for (const len of WIDTHS) {
        if ((accessFlags & FLAG[len]) !== 0 || offset % len !== 0) continue;
        const before = stateOf(w);
        assert.equal(read(offset, len), 0, `${name} ${len}`);
        write(offset, len === 8 ? 0xffff_ffff_ffff_ffffn : 2 ** (8 * len) - 1, len);
        assert.equal(stateOf(w), before, `${name} ${len}`);
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
