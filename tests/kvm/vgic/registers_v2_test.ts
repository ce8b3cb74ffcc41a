/**
 * Each register and field of the virtual GICv2. The guest's CPU interface is the hardware's (GICV,
 * tests/arm/gic/gicv2_test.ts); here it is as user space reads and writes it.
 */
import assert from "node:assert/strict";
import { GICD } from "../../../src/arm/arch/gic.ts";
import { GICC } from "../../../src/arm/arch/gicv2.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import {
  type KvmDeviceAttr,
  VGIC_GRP,
  VGIC_V2_ADDR_TYPE,
  vgicGetAttr,
  vgicHasAttr,
} from "../../../src/kvm/vgic/vgic_kvm_device.ts";
import {
  VGIC_V2_CPU_REGISTERS,
  VGIC_V2_DIST_REGISTERS,
} from "../../../src/kvm/vgic/vgic_mmio_v2.ts";
import { KVM_VGIC_V2_DIST_SIZE } from "../../../src/kvm/vgic/vgic_v2.ts";
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
import { GICD_BASE, World } from "./world.ts";

const asReset = (): World => new World({ gic: 2, vcpus: VCPUS, asReset: true });
const eachVcpu = (value: (vcpu: number) => number): number[] =>
  Array.from({ length: VCPUS }, (_, vcpu) => value(vcpu) >>> 0);

const MISC = "vgic-mmio-v2.c: vgic_mmio_read_v2_misc, vgic_mmio_write_v2_misc";
const GROUP = "vgic-mmio.c: vgic_mmio_read_group, vgic_mmio_write_group";
const TARGET = "vgic-mmio-v2.c: vgic_mmio_read_target, vgic_mmio_write_target";
const PENDING_SGI = "vgic-mmio.c: vgic_mmio_write_spending (GICD_ISPENDR0 SGI bits are WI)";

/** 128 interrupts, 3 vCPUs. */
const DIST: readonly RegisterRow[] = [
  { name: "GICD_CTLR", offset: GICD.CTLR, from: MISC, reset: 0, ones: 1, zeros: 0 },
  { name: "GICD_TYPER", offset: GICD.TYPER, from: MISC, reset: (2 << 5) | 3 },
  { name: "GICD_IIDR", offset: GICD.IIDR, from: MISC, reset: 0x4b00_343b },
  {
    name: "GICD_IGROUPR0",
    offset: 0x080,
    from: GROUP,
    reset: 0,
    ones: ONES,
    zeros: 0,
    banked: true,
  },
  { name: "GICD_IGROUPR1", offset: 0x084, from: GROUP, reset: 0, ones: ONES, zeros: 0 },
  {
    name: "GICD_ISENABLER0",
    offset: 0x100,
    from: "vgic-init.c: kvm_vgic_vcpu_init (SGIs are enabled)",
    reset: 0xffff,
    ones: ONES,
    banked: true,
  },
  { name: "GICD_ISENABLER1", offset: 0x104, from: set("enable"), reset: 0, ones: ONES },
  {
    name: "GICD_ICENABLER0",
    offset: 0x180,
    from: clear("enable"),
    reset: 0xffff,
    ones: 0,
    banked: true,
  },
  { name: "GICD_ICENABLER1", offset: 0x184, from: clear("enable"), reset: 0 },
  {
    name: "GICD_ISPENDR0",
    offset: 0x200,
    from: PENDING_SGI,
    reset: 0,
    ones: 0xffff_0000,
    banked: true,
  },
  { name: "GICD_ISPENDR1", offset: 0x204, from: set("pending"), reset: 0, ones: ONES },
  { name: "GICD_ICPENDR0", offset: 0x280, from: clear("pending"), reset: 0, banked: true },
  { name: "GICD_ICPENDR1", offset: 0x284, from: clear("pending"), reset: 0 },
  {
    name: "GICD_ISACTIVER0",
    offset: 0x300,
    from: set("active"),
    reset: 0,
    ones: ONES,
    banked: true,
  },
  { name: "GICD_ISACTIVER1", offset: 0x304, from: set("active"), reset: 0, ones: ONES },
  { name: "GICD_ICACTIVER0", offset: 0x380, from: clear("active"), reset: 0, banked: true },
  { name: "GICD_ICACTIVER1", offset: 0x384, from: clear("active"), reset: 0 },
  {
    name: "GICD_IPRIORITYR0",
    offset: 0x400,
    from: PRIORITY,
    reset: 0,
    ones: 0xf8f8_f8f8,
    zeros: 0,
    bytes: true,
    banked: true,
  },
  {
    name: "GICD_IPRIORITYR8",
    offset: 0x420,
    from: PRIORITY,
    reset: 0,
    ones: 0xf8f8_f8f8,
    zeros: 0,
    bytes: true,
  },
  {
    name: "GICD_ITARGETSR0",
    offset: 0x800,
    from: "vgic-init.c: vgic_init; " + TARGET,
    reset: eachVcpu((vcpu) => 0x0101_0101 << vcpu),
    bytes: true,
  },
  {
    name: "GICD_ITARGETSR7",
    offset: 0x81c,
    from: "vgic-init.c: vgic_init; " + TARGET,
    reset: eachVcpu((vcpu) => 0x0101_0101 << vcpu),
    bytes: true,
  },
  {
    name: "GICD_ITARGETSR8",
    offset: 0x820,
    from: TARGET,
    reset: 0,
    ones: 0x0707_0707,
    zeros: 0,
    bytes: true,
  },
  { name: "GICD_ICFGR0", offset: 0xc00, from: CONFIG, reset: 0xaaaa_aaaa, banked: true },
  { name: "GICD_ICFGR1", offset: 0xc04, from: CONFIG, reset: 0, banked: true },
  {
    name: "GICD_ICFGR2",
    offset: 0xc08,
    from: CONFIG,
    reset: 0xaaaa_aaaa,
    ones: 0xaaaa_aaaa,
    zeros: 0,
  },
  // Ones are the reserved mode 3, zeros an empty list: neither sends anything.
  { name: "GICD_SGIR", offset: 0xf00, from: "vgic-mmio-v2.c: vgic_mmio_write_sgir", reset: 0 },
  {
    name: "GICD_CPENDSGIR0",
    offset: 0xf10,
    from: "vgic-mmio-v2.c: vgic_mmio_read_sgipend, vgic_mmio_write_sgipendc",
    reset: 0,
    bytes: true,
    banked: true,
  },
  {
    name: "GICD_CPENDSGIR3",
    offset: 0xf1c,
    from: "vgic-mmio-v2.c: vgic_mmio_read_sgipend, vgic_mmio_write_sgipendc",
    reset: 0,
    bytes: true,
    banked: true,
  },
  {
    name: "GICD_SPENDSGIR0",
    offset: 0xf20,
    from: "vgic-mmio-v2.c: vgic_mmio_read_sgipend, vgic_mmio_write_sgipends",
    reset: 0,
    ones: ONES,
    bytes: true,
    banked: true,
  },
  {
    name: "GICD_SPENDSGIR3",
    offset: 0xf2c,
    from: "vgic-mmio-v2.c: vgic_mmio_read_sgipend, vgic_mmio_write_sgipends",
    reset: 0,
    ones: ONES,
    bytes: true,
    banked: true,
  },
  // Not there: a guest that looks for the architecture's version finds zero.
  {
    name: "ICPIDR2",
    offset: 0xfe8,
    from: "vgic-mmio-v2.c: vgic_v2_dist_registers has no identification registers",
    reset: 0,
  },
];

testRows("GICv2", "distributor", DIST, asReset);

testHoles(
  "GICv2",
  "distributor",
  KVM_VGIC_V2_DIST_SIZE,
  (offset) =>
    VGIC_V2_DIST_REGISTERS.some((r) => offset >= r.regOffset && offset < r.regOffset + r.len),
  asReset,
);

Deno.test("GICv2: every region has a row", () => {
  for (const { name, regOffset, len } of VGIC_V2_DIST_REGISTERS) {
    const rows = DIST.filter(({ offset }) => offset >= regOffset && offset < regOffset + len);
    assert.ok(rows.length > 0, name);
  }
});

Deno.test("GICv2: interrupts that the VM does not have are RAZ/WI (vgic-mmio.c: check_region)", () => {
  const w = asReset();
  for (const [offset, bits] of [[0x080, 1], [0x100, 1], [0x200, 1], [0x300, 1], [0xc00, 2]]) {
    const at = (offset as number) + (128 * (bits as number)) / 8;
    w.write(at, ONES);
    assert.equal(w.read(at), 0, at.toString(16));
  }
  for (const at of [0x400 + 128, 0x800 + 128]) {
    w.write(at, 0xff, 1);
    assert.deepEqual([w.read(at, 1), w.read(at)], [0, 0]);
  }
});

// Side effects

/** What a guest's access does besides being remembered. */
const EFFECTS: readonly { name: string; from: string; check: (w: World) => void }[] = [
  {
    name: "GICD_CTLR turned on kicks the vCPUs that have something to take",
    from: "vgic-mmio-v2.c: vgic_mmio_write_v2_misc",
    check: (w) => {
      w.put(0);
      w.enable(40);
      w.inject(40, true);
      assert.deepEqual(apListIntids(w.vcpu(0)), [40]);
      w.kicks.length = 0;
      w.write(GICD.CTLR, 0);
      w.write(GICD.CTLR, 1);
      assert.deepEqual(w.kicks, [0]);
    },
  },
  {
    name: "GICD_SGIR, list: pending at the targets, from the writer",
    from: "vgic-mmio-v2.c: vgic_mmio_write_sgir",
    check: (w) => {
      w.write(GICD.SGIR, (0b101 << 16) | 3, 4, 1);
      assert.deepEqual([0, 1, 2].map((n) => w.irq(3, n).source), [0b10, 0, 0b10]);
      assert.deepEqual([0, 1, 2].map((n) => apListIntids(w.vcpu(n))), [[3], [], [3]]);
    },
  },
  {
    name: "GICD_SGIR, all but the writer, and the writer alone",
    from: "vgic-mmio-v2.c: vgic_mmio_write_sgir",
    check: (w) => {
      w.write(GICD.SGIR, (1 << 24) | 4, 4, 1);
      w.write(GICD.SGIR, (2 << 24) | 5, 4, 1);
      assert.deepEqual([0, 1, 2].map((n) => w.irq(4, n).source), [0b10, 0, 0b10]);
      assert.deepEqual([0, 1, 2].map((n) => w.irq(5, n).source), [0, 0b10, 0]);
    },
  },
  {
    name: "GICD_SGIR, targets that are no vCPUs, and the reserved mode",
    from: "vgic-mmio-v2.c: vgic_mmio_write_sgir",
    check: (w) => {
      w.write(GICD.SGIR, (0xf8 << 16) | 4);
      w.write(GICD.SGIR, (3 << 24) | (7 << 16) | 4);
      assert.deepEqual([0, 1, 2].map((n) => w.irq(4, n).pendingLatch), [false, false, false]);
    },
  },
  {
    name: "GICD_SPENDSGIR makes pending and queues, GICD_CPENDSGIR's last sender ends that",
    from: "vgic-mmio-v2.c: vgic_mmio_write_sgipends, vgic_mmio_write_sgipendc",
    check: (w) => {
      w.write(GICD.SPENDSGIR + 6, 0b11, 1, 1);
      assert.deepEqual(apListIntids(w.vcpu(1)), [6]);
      w.write(GICD.CPENDSGIR + 6, 0b01, 1, 1);
      assert.deepEqual([w.irq(6, 1).source, w.irq(6, 1).pendingLatch], [0b10, true]);
      w.write(GICD.CPENDSGIR + 6, 0b10, 1, 1);
      assert.equal(w.irq(6, 1).pendingLatch, false);
      assert.equal(w.read(GICD.ISPENDR, 4, 1), 0);
    },
  },
  {
    name: "GICD_ISPENDR0 and ICPENDR0 show SGIs and do not change them",
    from: "vgic-mmio.c: vgic_mmio_write_spending, vgic_mmio_write_cpending (is_vgic_v2_sgi)",
    check: (w) => {
      w.write(GICD.SPENDSGIR, 1);
      assert.equal(w.read(GICD.ISPENDR), 1);
      w.write(GICD.ICPENDR, ONES);
      assert.equal(w.read(GICD.ICPENDR), 1);
      assert.equal(w.irq(0).source, 1);
    },
  },
  {
    name: "GICD_ITARGETSR: the lowest numbered target gets it, without any vCPU 0",
    from: "vgic-mmio-v2.c: vgic_mmio_write_target",
    check: (w) => {
      w.enable(40);
      w.write(GICD.ITARGETSR + 40, 0b110, 1);
      w.inject(40, true);
      assert.deepEqual(apListIntids(w.vcpu(1)), [40]);
      w.write(GICD.ITARGETSR + 40, 0xf8, 1);
      assert.equal(w.read(GICD.ITARGETSR + 40, 1), 0);
      assert.equal(w.irq(40).targetVcpu, w.vcpu(0).state.base);
    },
  },
  {
    name: "GICD_ISENABLER queues what is pending",
    from: "vgic-mmio.c: vgic_mmio_write_senable",
    check: (w) => {
      w.inject(40, true);
      assert.deepEqual(apListIntids(w.vcpu(0)), []);
      w.enable(40);
      assert.deepEqual(apListIntids(w.vcpu(0)), [40]);
    },
  },
  {
    name: "GICD_ISPENDR queues what is enabled; a level's ICPENDR leaves the line",
    from: "vgic-mmio.c: vgic_mmio_write_spending, vgic_mmio_write_cpending",
    check: (w) => {
      w.enable(40);
      w.write(GICD.ISPENDR + 4, 1 << 8);
      assert.deepEqual(apListIntids(w.vcpu(0)), [40]);
      w.inject(40, true);
      w.write(GICD.ICPENDR + 4, 1 << 8);
      assert.deepEqual([w.irq(40).pendingLatch, w.read(GICD.ISPENDR + 4)], [false, 1 << 8]);
    },
  },
  {
    name: "active registers of SPIs halt the guest, those of private interrupts do not",
    from: "vgic-mmio.c: vgic_access_active_prepare",
    check: (w) => {
      w.write(GICD.ISACTIVER, 1);
      w.read(GICD.ICACTIVER);
      assert.equal(w.halts, 0);
      w.write(GICD.ISACTIVER + 4, 1);
      w.read(GICD.ICACTIVER + 4);
      assert.deepEqual([w.halts, w.resumes], [2, 2]);
    },
  },
  {
    name: "GICD_ISACTIVER0: the sender of an SGI made active is the vCPU that runs",
    from: "vgic-mmio.c: vgic_mmio_change_active",
    check: (w) => {
      w.running = w.vcpu(2);
      w.write(GICD.ISACTIVER, 1 << 7, 4, 2);
      assert.deepEqual([w.irq(7, 2).active, w.irq(7, 2).activeSource], [true, 2]);
      assert.deepEqual(apListIntids(w.vcpu(2)), [7]);
      w.write(GICD.ICACTIVER, 1 << 7, 4, 2);
      assert.equal(w.irq(7, 2).active, false);
    },
  },
  {
    name: "GICD_IGROUPR is the group of the list register",
    from: "vgic-v2.c: vgic_v2_populate_lr",
    check: (w) => {
      w.write(GICD.IGROUPR + 4, 1 << 8);
      w.enable(40);
      w.inject(40, true);
      w.enter(0);
      assert.equal(w.lr(0, 0).group, 1);
    },
  },
];

for (const { name, from, check } of EFFECTS) {
  Deno.test(`GICv2: ${name} (${from})`, () => check(new World({ gic: 2, vcpus: VCPUS })));
}

// User space

const attrOf = (vcpu: number, offset: number): bigint => (BigInt(vcpu) << 32n) | BigInt(offset);

function get(w: World, group: number, offset: number, vcpu = 0): number {
  const attr: KvmDeviceAttr = { group, attr: attrOf(vcpu, offset), value: 0n };
  assert.equal(vgicGetAttr(w.kvm, attr), 0);
  return Number(attr.value);
}

const put = (w: World, group: number, offset: number, value: number, vcpu = 0): number =>
  w.setAttr(group, attrOf(vcpu, offset), BigInt(value));

const CPUIF = "vgic-mmio-v2.c: vgic_mmio_read_vcpuif, vgic_mmio_write_vcpuif";
const APR = "vgic-mmio-v2.c: vgic_mmio_read_apr, vgic_mmio_write_apr";

/** The CPU interface, one for each vCPU. */
const CPU: readonly RegisterRow[] = [
  { name: "GICC_CTLR", offset: GICC.CTLR, from: CPUIF, reset: 0, ones: 0x21f, zeros: 0 },
  // The upper five bits of the priority mask, in the lower bits.
  { name: "GICC_PMR", offset: GICC.PMR, from: CPUIF, reset: 0, ones: 0x1f, zeros: 0 },
  { name: "GICC_BPR", offset: GICC.BPR, from: CPUIF, reset: 0, ones: 7, zeros: 0 },
  { name: "GICC_ABPR", offset: GICC.ABPR, from: CPUIF, reset: 0, ones: 7, zeros: 0 },
  { name: "GICC_APR0", offset: GICC.APR0, from: APR, reset: 0, ones: ONES, zeros: 0 },
  { name: "GICC_APR1", offset: GICC.APR0 + 4, from: APR, reset: 0 },
  { name: "GICC_APR3", offset: GICC.APR0 + 12, from: APR, reset: 0 },
  { name: "GICC_IIDR", offset: GICC.IIDR, from: CPUIF, reset: 0x04b2_043b },
];

for (const row of CPU) {
  Deno.test(`GICv2: ${row.name} of user space, as ${row.from} has it`, () => {
    const w = asReset();
    const reset = row.reset as number;
    for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
      assert.equal(get(w, VGIC_GRP.CPU_REGS, row.offset, vcpu), reset);
    }
    for (const [value, expected] of [[ONES, row.ones], [0, row.zeros]] as const) {
      assert.equal(put(w, VGIC_GRP.CPU_REGS, row.offset, value, 1), 0);
      assert.equal(get(w, VGIC_GRP.CPU_REGS, row.offset, 1), expected ?? reset);
      assert.equal(get(w, VGIC_GRP.CPU_REGS, row.offset, 2), reset, "each vCPU's own");
    }
  });
}

Deno.test("GICv2: what user space gives to the CPU interface is what the guest finds", () => {
  const w = asReset();
  put(w, VGIC_GRP.CPU_REGS, GICC.CTLR, 0x201, 1);
  put(w, VGIC_GRP.CPU_REGS, GICC.PMR, 0x1e, 1);
  put(w, VGIC_GRP.CPU_REGS, GICC.BPR, 4, 1);
  put(w, VGIC_GRP.CPU_REGS, GICC.ABPR, 5, 1);
  put(w, VGIC_GRP.CPU_REGS, GICC.APR0, 1 << 20, 1);
  w.load(1);
  assert.deepEqual(
    (["CTLR", "PMR", "BPR", "ABPR", "RPR"] as const).map((name) => w.gicv(1, name)),
    [0x201, 0xf0, 4, 5, 0xa0],
  );
  w.gicv(1, "PMR", 0x80);
  w.put(1);
  assert.equal(get(w, VGIC_GRP.CPU_REGS, GICC.PMR, 1), 0x10);
});

Deno.test("GICv2: user space may write groups once it has written GICD_IIDR (vgic_mmio_uaccess_write_v2_group)", () => {
  const w = asReset();
  put(w, VGIC_GRP.DIST_REGS, GICD.IGROUPR + 4, ONES);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, GICD.IGROUPR + 4), 0);
  assert.equal(put(w, VGIC_GRP.DIST_REGS, GICD.IIDR, 0x4b00_143b), -22, "revision 1");
  assert.equal(put(w, VGIC_GRP.DIST_REGS, GICD.IIDR, 0x4a00_243b), -22, "another product");
  assert.equal(put(w, VGIC_GRP.DIST_REGS, GICD.IIDR, 0x4b00_243b), 0);
  assert.equal(w.read(GICD.IIDR), 0x4b00_243b);
  put(w, VGIC_GRP.DIST_REGS, GICD.IGROUPR + 4, ONES);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, GICD.IGROUPR + 4), ONES);
});

Deno.test("GICv2: pending as user space has it (vgic_uaccess_write_spending, cpending, __read_pending)", () => {
  const w = new World({ gic: 2, vcpus: VCPUS });
  put(w, VGIC_GRP.DIST_REGS, GICD.ISPENDR, 1 << 3, 2);
  assert.equal(w.irq(3, 2).source, 0b100, "the vCPU itself stands for the sender");
  w.write(GICD.SPENDSGIR + 3, 0b11, 1, 2);
  put(w, VGIC_GRP.DIST_REGS, GICD.ICPENDR, 1 << 3, 2);
  assert.deepEqual([w.irq(3, 2).source, w.irq(3, 2).pendingLatch], [0, false]);
  w.inject(40, true);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, GICD.ISPENDR + 4), 1 << 8, "line and latch together");
  assert.equal(get(w, VGIC_GRP.DIST_REGS, GICD.ICPENDR + 4), 1 << 8);
});

Deno.test("GICv2: attributes that exist (vgic_v2_has_attr_regs), and vCPUs", () => {
  const w = asReset();
  const has = (group: number, offset: number, vcpu = 0): number =>
    vgicHasAttr(w.kvm, { group, attr: attrOf(vcpu, offset), value: 0n });
  for (const { regOffset } of VGIC_V2_CPU_REGISTERS) {
    assert.equal(has(VGIC_GRP.CPU_REGS, regOffset), 0);
  }
  assert.equal(has(VGIC_GRP.CPU_REGS, GICC.IAR), -6);
  assert.equal(has(VGIC_GRP.DIST_REGS, GICD.SGIR), 0);
  assert.equal(has(VGIC_GRP.DIST_REGS, 2), -6);
  assert.equal(has(VGIC_GRP.DIST_REGS, 0, VCPUS), -22);
  assert.equal(has(VGIC_GRP.REDIST_REGS, 0), -6);
  assert.equal(put(w, VGIC_GRP.CPU_REGS, 0, 0, VCPUS), -22);
});

Deno.test("GICv2: frames are placed once, by 4 KiB, and may not overlap (kvm_vgic_addr, vgic_v2_check_base)", () => {
  const w = new World({ gic: 2, bare: true });
  w.createV2();
  const { DIST, CPU } = VGIC_V2_ADDR_TYPE;
  const place = (type: number, at: number): number =>
    w.setAttr(VGIC_GRP.ADDR, BigInt(type), BigInt(at));
  assert.equal(place(DIST, 0x800), -22);
  assert.equal(place(DIST, 2 ** 40), -7);
  assert.equal(w.mapResources(), -6, "no address yet");
  assert.equal(place(2, GICD_BASE), -6, "an address of a GICv3");
  assert.equal(place(DIST, GICD_BASE), 0);
  assert.equal(place(DIST, GICD_BASE), -17);
  assert.equal(place(CPU, GICD_BASE), 0);
  const attr: KvmDeviceAttr = { group: VGIC_GRP.ADDR, attr: BigInt(CPU), value: 0n };
  assert.equal(vgicGetAttr(w.kvm, attr), 0);
  assert.equal(attr.value, BigInt(GICD_BASE));
  assert.equal(w.mapResources(), -22);
});
