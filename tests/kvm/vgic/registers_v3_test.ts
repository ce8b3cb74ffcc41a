/** Each register and field of the virtual GICv3's distributor and redistributors. */
import assert from "node:assert/strict";
import { GICD, GICD_SIZE, GICR, GICR_SGI, GICR_SIZE } from "../../../src/arm/arch/gic.ts";
import type { VgicRegisterRegion } from "../../../src/kvm/vgic/vgic_mmio.ts";
import {
  VGIC_V3_DIST_REGISTERS,
  VGIC_V3_RD_REGISTERS,
} from "../../../src/kvm/vgic/vgic_mmio_v3.ts";
import {
  clear,
  CONFIG,
  ONES,
  PRIORITY,
  type RegisterRow,
  set,
  testHoles,
  testRows,
  VCPUS,
} from "./register_rows.ts";
import { World } from "./world.ts";

const asReset = (): World => new World({ vcpus: VCPUS, asReset: true });

const MISC = "vgic-mmio-v3.c: vgic_mmio_read_v3_misc, vgic_mmio_write_v3_misc";
const RAZ = "vgic-mmio.c: vgic_mmio_read_raz, vgic_mmio_write_wi";
const SHARED = "vgic-mmio-v3.c: REGISTER_DESC_WITH_BITS_PER_IRQ_SHARED (private share RAZ/WI)";
const GROUP = "vgic-mmio.c: vgic_mmio_read_group, vgic_mmio_write_group; vgic-init.c: vgic_init";
const IROUTER = "vgic-mmio-v3.c: vgic_mmio_read_irouter, vgic_mmio_write_irouter";
const IDREGS = "vgic-mmio-v3.c: vgic_mmio_read_v3_idregs";
const TYPER = "vgic-mmio-v3.c: vgic_mmio_read_v3r_typer";

/** 128 interrupts; no LPIs, no GICv4.1. */
const DIST: readonly RegisterRow[] = [
  { name: "GICD_CTLR", offset: GICD.CTLR, from: MISC, reset: 0x50, ones: 0x52, zeros: 0x50 },
  { name: "GICD_TYPER", offset: GICD.TYPER, from: MISC, reset: (9 << 19) | 3 },
  { name: "GICD_IIDR", offset: GICD.IIDR, from: MISC, reset: 0x4b00_343b },
  { name: "GICD_TYPER2", offset: GICD.TYPER2, from: MISC, reset: 0 },
  {
    name: "GICD_STATUSR",
    offset: GICD.STATUSR,
    from: "vgic-mmio.c: vgic_mmio_read_rao",
    reset: ONES,
  },
  { name: "GICD_IGROUPR0", offset: GICD.IGROUPR, from: SHARED, reset: 0 },
  {
    name: "GICD_IGROUPR1",
    offset: GICD.IGROUPR + 4,
    from: GROUP,
    reset: ONES,
    ones: ONES,
    zeros: 0,
  },
  { name: "GICD_ISENABLER0", offset: GICD.ISENABLER, from: SHARED, reset: 0 },
  {
    name: "GICD_ISENABLER1",
    offset: GICD.ISENABLER + 4,
    from: set("enable"),
    reset: 0,
    ones: ONES,
  },
  { name: "GICD_ICENABLER0", offset: GICD.ICENABLER, from: SHARED, reset: 0 },
  { name: "GICD_ICENABLER1", offset: GICD.ICENABLER + 4, from: clear("enable"), reset: 0 },
  { name: "GICD_ISPENDR0", offset: GICD.ISPENDR, from: SHARED, reset: 0 },
  { name: "GICD_ISPENDR1", offset: GICD.ISPENDR + 4, from: set("pending"), reset: 0, ones: ONES },
  { name: "GICD_ICPENDR0", offset: GICD.ICPENDR, from: SHARED, reset: 0 },
  { name: "GICD_ICPENDR1", offset: GICD.ICPENDR + 4, from: clear("pending"), reset: 0 },
  { name: "GICD_ISACTIVER0", offset: GICD.ISACTIVER, from: SHARED, reset: 0 },
  {
    name: "GICD_ISACTIVER1",
    offset: GICD.ISACTIVER + 4,
    from: set("active"),
    reset: 0,
    ones: ONES,
  },
  { name: "GICD_ICACTIVER0", offset: GICD.ICACTIVER, from: SHARED, reset: 0 },
  { name: "GICD_ICACTIVER1", offset: GICD.ICACTIVER + 4, from: clear("active"), reset: 0 },
  { name: "GICD_IPRIORITYR0", offset: GICD.IPRIORITYR, from: SHARED, reset: 0, bytes: true },
  {
    name: "GICD_IPRIORITYR8",
    offset: GICD.IPRIORITYR + 32,
    from: PRIORITY,
    reset: 0,
    ones: 0xf8f8_f8f8,
    zeros: 0,
    bytes: true,
  },
  { name: "GICD_ITARGETSR0", offset: GICD.ITARGETSR, from: SHARED, reset: 0, bytes: true },
  { name: "GICD_ITARGETSR8", offset: GICD.ITARGETSR + 32, from: RAZ, reset: 0, bytes: true },
  { name: "GICD_ICFGR0", offset: GICD.ICFGR, from: SHARED, reset: 0 },
  {
    name: "GICD_ICFGR2",
    offset: GICD.ICFGR + 8,
    from: CONFIG,
    reset: 0xaaaa_aaaa,
    ones: 0xaaaa_aaaa,
    zeros: 0,
  },
  { name: "GICD_IGRPMODR0", offset: GICD.IGRPMODR, from: SHARED, reset: 0 },
  { name: "GICD_IGRPMODR1", offset: GICD.IGRPMODR + 4, from: RAZ, reset: 0 },
  { name: "GICD_IROUTER0", offset: GICD.IROUTER, from: SHARED, reset: 0, wide: true },
  {
    name: "GICD_IROUTER32, bits 31 to 0",
    offset: GICD.IROUTER + 8 * 32,
    from: IROUTER,
    reset: 0,
    ones: 0x00ff_ffff,
    zeros: 0,
    wide: true,
  },
  {
    name: "GICD_IROUTER32, bits 63 to 32",
    offset: GICD.IROUTER + 8 * 32 + 4,
    from: IROUTER,
    reset: 0,
    wide: true,
  },
  { name: "GICD_PIDR4", offset: GICD.PIDR4, from: IDREGS, reset: 0 },
  { name: "GICD_PIDR2", offset: GICD.PIDR2, from: IDREGS, reset: 0x3b },
];

const RD: readonly RegisterRow[] = [
  {
    name: "GICR_CTLR",
    offset: GICR.CTLR,
    from: "vgic-mmio-v3.c: vgic_mmio_read_v3r_ctlr",
    reset: 6,
  },
  {
    name: "GICR_IIDR",
    offset: GICR.IIDR,
    from: "vgic-mmio-v3.c: vgic_mmio_read_v3r_iidr",
    reset: 0x4b00_043b,
  },
  // Processor_Number, and Last in bit 4.
  {
    name: "GICR_TYPER, bits 31 to 0",
    offset: GICR.TYPER,
    from: TYPER,
    reset: [0, 0x100, 0x210],
    wide: true,
  },
  {
    name: "GICR_TYPER, bits 63 to 32",
    offset: GICR.TYPER + 4,
    from: TYPER,
    reset: [0, 1, 2],
    wide: true,
  },
  { name: "GICR_STATUSR", offset: GICR.STATUSR, from: RAZ, reset: 0 },
  { name: "GICR_WAKER", offset: GICR.WAKER, from: RAZ, reset: 0 },
  // Without LPIs (KVM has them only with an ITS): zero.
  { name: "GICR_PROPBASER", offset: GICR.PROPBASER, from: "no LPIs", reset: 0, wide: true },
  { name: "GICR_PENDBASER", offset: GICR.PENDBASER, from: "no LPIs", reset: 0, wide: true },
  { name: "GICR_INVLPIR", offset: 0xa0, from: "no LPIs", reset: 0, wide: true },
  { name: "GICR_INVALLR", offset: 0xb0, from: "no LPIs", reset: 0, wide: true },
  { name: "GICR_SYNCR", offset: GICR.SYNCR, from: "no LPIs", reset: 0 },
  { name: "GICR_PIDR2", offset: GICR.PIDR2, from: IDREGS, reset: 0x3b },
  {
    name: "GICR_IGROUPR0",
    offset: GICR_SGI.IGROUPR0,
    from: GROUP,
    reset: ONES,
    ones: ONES,
    zeros: 0,
    banked: true,
  },
  {
    name: "GICR_ISENABLER0",
    offset: GICR_SGI.ISENABLER0,
    from: "vgic-init.c: kvm_vgic_vcpu_init (SGIs are enabled)",
    reset: 0xffff,
    ones: ONES,
    banked: true,
  },
  {
    name: "GICR_ICENABLER0",
    offset: GICR_SGI.ICENABLER0,
    from: clear("enable"),
    reset: 0xffff,
    ones: 0,
    banked: true,
  },
  {
    name: "GICR_ISPENDR0",
    offset: GICR_SGI.ISPENDR0,
    from: set("pending"),
    reset: 0,
    ones: ONES,
    banked: true,
  },
  {
    name: "GICR_ICPENDR0",
    offset: GICR_SGI.ICPENDR0,
    from: clear("pending"),
    reset: 0,
    banked: true,
  },
  {
    name: "GICR_ISACTIVER0",
    offset: GICR_SGI.ISACTIVER0,
    from: set("active"),
    reset: 0,
    ones: ONES,
    banked: true,
  },
  {
    name: "GICR_ICACTIVER0",
    offset: GICR_SGI.ICACTIVER0,
    from: clear("active"),
    reset: 0,
    banked: true,
  },
  {
    name: "GICR_IPRIORITYR0",
    offset: GICR_SGI.IPRIORITYR,
    from: PRIORITY,
    reset: 0,
    ones: 0xf8f8_f8f8,
    zeros: 0,
    bytes: true,
    banked: true,
  },
  {
    name: "GICR_IPRIORITYR7",
    offset: GICR_SGI.IPRIORITYR + 28,
    from: PRIORITY,
    reset: 0,
    ones: 0xf8f8_f8f8,
    zeros: 0,
    bytes: true,
    banked: true,
  },
  { name: "GICR_ICFGR0", offset: GICR_SGI.ICFGR0, from: CONFIG, reset: 0xaaaa_aaaa, banked: true },
  { name: "GICR_ICFGR1", offset: GICR_SGI.ICFGR1, from: CONFIG, reset: 0, banked: true },
  { name: "GICR_IGRPMODR0", offset: GICR_SGI.IGRPMODR0, from: RAZ, reset: 0 },
  { name: "GICR_NSACR", offset: GICR_SGI.NSACR, from: RAZ, reset: 0 },
];

testRows("GICv3", "distributor", DIST, asReset);
testRows("GICv3", "redistributor", RD, asReset);

const within = (regions: readonly VgicRegisterRegion[]) => (offset: number): boolean =>
  regions.some((r) => offset >= r.regOffset && offset < r.regOffset + r.len);

testHoles("GICv3", "distributor", GICD_SIZE, within(VGIC_V3_DIST_REGISTERS), asReset);
testHoles("GICv3", "redistributor", GICR_SIZE, within(VGIC_V3_RD_REGISTERS), asReset);

Deno.test("GICv3: every region has a row", () => {
  const tables = [[VGIC_V3_DIST_REGISTERS, DIST], [VGIC_V3_RD_REGISTERS, RD]] as const;
  for (const [regions, rows] of tables) {
    for (const { name, regOffset, len } of regions) {
      const found = rows.some(({ offset }) => offset >= regOffset && offset < regOffset + len);
      assert.ok(found, `${name} at 0x${regOffset.toString(16)}`);
    }
  }
});
