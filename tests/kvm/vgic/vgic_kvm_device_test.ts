/** The device's attributes, as user space places, saves and restores a vgic. */
import assert from "node:assert/strict";
import { GICD, GICR, GICR_SGI } from "../../../src/arm/arch/gic.ts";
import { sysreg, type SysregName } from "../../../src/arm/arch/sysregs.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import { ERRNO } from "../../../src/kvm/vgic/errno.ts";
import { kvmVgicCreate } from "../../../src/kvm/vgic/vgic_init.ts";
import {
  KVM_ARM_VGIC_V3_OPS,
  type KvmDeviceAttr,
  VGIC_GRP,
  VGIC_V3_ADDR_TYPE,
  vgicAttr,
  vgicV3GetAttr,
  vgicV3HasAttr,
  vgicV3SetAttr,
} from "../../../src/kvm/vgic/vgic_kvm_device.ts";
import { GICD_BASE, GICR_BASE, World } from "./world.ts";

/** The value of an attribute, or a negative error number. */
function get(w: World, group: number, attr: bigint, value = 0n): bigint {
  const full: KvmDeviceAttr = { group, attr, value };
  const ret = vgicV3GetAttr(w.kvm, full);
  return ret ? BigInt(ret) : full.value;
}

function set(w: World, group: number, attr: bigint, value: bigint): number {
  return vgicV3SetAttr(w.kvm, { group, attr, value });
}

function has(w: World, group: number, attr: bigint): number {
  return vgicV3HasAttr(w.kvm, { group, attr, value: 0n });
}

/** A VM with a vgic that nothing was said about yet. */
function created(vcpus = 2): World {
  const w = new World({ bare: true, vcpus });
  kvmVgicCreate(w.kvm, 3);
  return w;
}

const DIST = BigInt(VGIC_V3_ADDR_TYPE.DIST);
const REDIST = BigInt(VGIC_V3_ADDR_TYPE.REDIST);
const REGION = BigInt(VGIC_V3_ADDR_TYPE.REDIST_REGION);
const UNDEF = 0xffff_ffff_ffff_ffffn;

Deno.test("ADDR: alignment, range, once, and what it reads as", () => {
  const w = created();
  assert.equal(get(w, VGIC_GRP.ADDR, DIST), UNDEF);
  assert.equal(get(w, VGIC_GRP.ADDR, REDIST), UNDEF);
  assert.equal(set(w, VGIC_GRP.ADDR, DIST, 0x0800_1000n), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.ADDR, DIST, 1n << 40n), ERRNO.E2BIG);
  assert.equal(set(w, VGIC_GRP.ADDR, DIST, 1n << 63n), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.ADDR, DIST, BigInt(GICD_BASE)), 0);
  assert.equal(set(w, VGIC_GRP.ADDR, DIST, BigInt(GICD_BASE)), ERRNO.EEXIST);
  assert.equal(get(w, VGIC_GRP.ADDR, DIST), BigInt(GICD_BASE));
  assert.equal(set(w, VGIC_GRP.ADDR, REDIST, BigInt(GICD_BASE)), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.ADDR, REDIST, BigInt(GICR_BASE)), 0);
  assert.equal(set(w, VGIC_GRP.ADDR, REDIST, BigInt(GICR_BASE)), ERRNO.EEXIST);
  assert.equal(get(w, VGIC_GRP.ADDR, REDIST), BigInt(GICR_BASE));
  assert.equal(set(w, VGIC_GRP.ADDR, 9n, 0n), ERRNO.ENXIO);
  assert.equal(w.vcpu(1).vgic.rdBase, GICR_BASE + 0x2_0000);
});

Deno.test("ADDR: redistributor regions in order, filled one after the other", () => {
  const w = created(3);
  const region = (index: bigint, base: bigint, count: bigint) => (count << 52n) | base | index;
  assert.equal(set(w, VGIC_GRP.ADDR, REGION, region(1n, 0x10_0000n, 2n)), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.ADDR, REGION, region(0n, 0x10_0000n, 0n)), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.ADDR, REGION, region(0n, 0x10_0000n, 2n)), 0);
  assert.equal(set(w, VGIC_GRP.ADDR, REGION, region(1n, 0x12_0000n, 2n)), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.ADDR, REGION, region(1n, 0x20_0000n, 2n)), 0);
  assert.equal(set(w, VGIC_GRP.ADDR, REDIST, 0x40_0000n), ERRNO.EINVAL);
  assert.deepEqual(w.kvm.vcpus.map((v) => v.vgic.rdBase), [0x10_0000, 0x12_0000, 0x20_0000]);
  assert.equal(get(w, VGIC_GRP.ADDR, REGION, 1n), region(1n, 0x20_0000n, 2n));
  assert.equal(get(w, VGIC_GRP.ADDR, REGION, 2n), BigInt(ERRNO.ENOENT));
});

Deno.test("GICR_TYPER.Last: the end of a row of adjacent regions", () => {
  const w = created(3);
  for (const base of [0x10_0000n, 0x14_0000n]) {
    const index = base === 0x10_0000n ? 0n : 1n;
    assert.equal(set(w, VGIC_GRP.ADDR, REGION, (2n << 52n) | base | index), 0);
  }
  const last = w.kvm.vcpus.map((v) => (w.read(GICR.TYPER, 4, 0, v.vgic.rdBase) >> 4) & 1);
  assert.deepEqual(last, [0, 0, 1]);
});

Deno.test("ADDR: a place where another device answers is refused, and nothing of the region stays", () => {
  const w = created();
  w.kvm.ioBus.push({
    baseIpa: GICR_BASE + 0x2_0000,
    length: 4,
    ops: { read: () => 0, write: () => {} },
  });
  assert.equal(set(w, VGIC_GRP.ADDR, REDIST, BigInt(GICR_BASE)), ERRNO.EEXIST);
  assert.equal(w.kvm.ioBus.length, 1);
  assert.deepEqual(w.kvm.vcpus.map((v) => v.vgic.rdRegistered), [false, false]);
  assert.equal(set(w, VGIC_GRP.ADDR, REDIST, BigInt(GICR_BASE + 0x10_0000)), 0);
});

Deno.test("NR_IRQS: 64 to 992 by 32, once", () => {
  const w = created();
  for (const bad of [32n, 65n, 1024n, 0n]) {
    assert.equal(set(w, VGIC_GRP.NR_IRQS, 0n, bad), ERRNO.EINVAL);
  }
  assert.equal(set(w, VGIC_GRP.NR_IRQS, 0n, 96n), 0);
  assert.equal(set(w, VGIC_GRP.NR_IRQS, 0n, 96n), ERRNO.EBUSY);
  assert.equal(get(w, VGIC_GRP.NR_IRQS, 0n), 96n);
});

Deno.test("registers: not before initialisation, not while a vCPU runs, not of a vCPU there is not", () => {
  const w = created();
  assert.equal(get(w, VGIC_GRP.DIST_REGS, 0n), BigInt(ERRNO.EBUSY));
  const ready = new World();
  ready.vcpu(1).state.running = true;
  assert.equal(get(ready, VGIC_GRP.DIST_REGS, 0n), BigInt(ERRNO.EBUSY));
  ready.vcpu(1).state.running = false;
  assert.equal(get(ready, VGIC_GRP.DIST_REGS, 0n), 0x52n);
  assert.equal(get(ready, VGIC_GRP.REDIST_REGS, vgicAttr(9, 0)), BigInt(ERRNO.EINVAL));
  assert.equal(ready.vcpu(0).state.mutex, 0);
  assert.equal(ready.locks.heldCount, 0);
});

Deno.test("a vCPU is named by its affinity", () => {
  const w = new World({ vcpus: 2, mpidr: (id) => id ? 0x0a_0b_0c : 0 });
  w.enable(20, 1);
  const enabled = (aff: number) => get(w, VGIC_GRP.REDIST_REGS, vgicAttr(aff, GICR_SGI.ISENABLER0));
  assert.equal(enabled(0x0a_0b_0c), 0x10_ffffn);
  assert.equal(enabled(0), 0xffffn);
});

Deno.test("pending: user space saves latch and line apart", () => {
  const w = new World();
  w.enable(40);
  w.inject(40, true);
  const latch = () => get(w, VGIC_GRP.DIST_REGS, vgicAttr(0, GICD.ISPENDR + 4));
  const line = () => get(w, VGIC_GRP.LEVEL_INFO, vgicAttr(0, 32));
  assert.deepEqual([latch(), line()], [0n, 1n << 8n]);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, vgicAttr(0, GICD.ISPENDR + 4), 1n << 9n), 0);
  assert.equal(latch(), 1n << 9n);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, vgicAttr(0, GICD.ISPENDR + 4), 0n), 0);
  assert.equal(latch(), 0n);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, vgicAttr(0, GICD.ICPENDR + 4)), 0n);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, vgicAttr(0, GICD.ICPENDR + 4), 0xffn), 0);
});

Deno.test("LEVEL_INFO: restores lines of PPIs and SPIs and queues what is due", () => {
  const w = new World();
  w.enable(40);
  w.enable(20);
  assert.equal(set(w, VGIC_GRP.LEVEL_INFO, vgicAttr(0, 32), 1n << 8n), 0);
  assert.equal(set(w, VGIC_GRP.LEVEL_INFO, vgicAttr(0, 0), (1n << 20n) | 1n), 0);
  assert.deepEqual(apListIntids(w.vcpu(0)), [40, 20]);
  assert.equal(w.irq(0).lineLevel, false);
  assert.equal(get(w, VGIC_GRP.LEVEL_INFO, vgicAttr(0, 0)), 1n << 20n);
  assert.equal(set(w, VGIC_GRP.LEVEL_INFO, vgicAttr(0, 33), 0n), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.LEVEL_INFO, vgicAttr(0, 1 << 10), 0n), ERRNO.EINVAL);
});

Deno.test("user space reads active registers without halting anybody, and writes them", () => {
  const w = new World();
  w.haltAnswer = false;
  assert.equal(set(w, VGIC_GRP.DIST_REGS, vgicAttr(0, GICD.ISACTIVER + 4), 3n << 8n), 0);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, vgicAttr(0, GICD.ICACTIVER + 4), 1n << 8n), 0);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, vgicAttr(0, GICD.ICACTIVER + 4)), 1n << 9n);
  assert.equal(w.halts, 0);
});

Deno.test("enables, CTLR and IIDR as user space writes them", () => {
  const w = new World({ asReset: true });
  const dist = (offset: number) => vgicAttr(0, offset);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(GICD.CTLR), 2n), 0);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, dist(GICD.CTLR)), 0x52n);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(GICD.ISENABLER + 4), 3n), 0);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(GICD.ICENABLER + 4), 1n), 0);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, dist(GICD.ISENABLER + 4)), 2n);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(GICD.IIDR), 0x4b00_243bn), 0);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, dist(GICD.IIDR)), 0x4b00_243bn);
  assert.equal(get(w, VGIC_GRP.REDIST_REGS, dist(0)), 0n);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(GICD.IIDR), 0x4b00_143bn), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(GICD.IIDR), 0x4c00_243bn), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(GICD.TYPER2), 1n), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(GICD.TYPER2), 0n), 0);
  assert.equal(set(w, VGIC_GRP.DIST_REGS, dist(0x20), 1n), 0);
  assert.equal(get(w, VGIC_GRP.DIST_REGS, dist(0x20)), 0n);
});

const icc = (name: SysregName): bigint => vgicAttr(0, sysreg(name).key);

/** Register, value written, value read back. */
const ICC: readonly (readonly [SysregName, bigint, bigint])[] = [
  ["ICC_PMR_EL1", 0x1f8n, 0xf8n],
  ["ICC_BPR0_EL1", 0x4n, 4n],
  ["ICC_BPR1_EL1", 0x5n, 5n],
  ["ICC_AP0R0_EL1", 0x11n, 0x11n],
  ["ICC_AP1R0_EL1", 0x8000_0000n, 0x8000_0000n],
  ["ICC_IGRPEN0_EL1", 1n, 1n],
  ["ICC_IGRPEN1_EL1", 0n, 0n],
  ["ICC_SRE_EL1", 7n, 7n],
];

for (const [name, written, read] of ICC) {
  Deno.test(`CPU_SYSREGS: ${name}`, () => {
    const w = new World();
    w.put(0);
    assert.equal(has(w, VGIC_GRP.CPU_SYSREGS, icc(name)), 0);
    assert.equal(set(w, VGIC_GRP.CPU_SYSREGS, icc(name), written), 0);
    assert.equal(get(w, VGIC_GRP.CPU_SYSREGS, icc(name)), read);
  });
}

Deno.test("CPU_SYSREGS: ICC_CTLR_EL1 takes what this hardware has, and sets EOImode and CBPR", () => {
  const w = new World();
  w.put(0);
  const ctlr = get(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1"));
  assert.equal(ctlr & 3n, 0n);
  assert.equal((ctlr >> 8n) & 7n, 4n);
  assert.equal(set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1"), ctlr | 3n), 0);
  assert.equal(get(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1")), ctlr | 3n);
  w.load(0);
  assert.equal(w.guestRead(0, "ICC_CTLR_EL1") & 3, 3);
  w.put(0);
  const more = (ctlr & ~(7n << 8n)) | (6n << 8n);
  assert.equal(set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1"), more), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1"), ctlr ^ (1n << 14n)), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1"), ctlr ^ (1n << 15n)), ERRNO.EINVAL);
});

Deno.test("CPU_SYSREGS: with CBPR the group 1 binary point is group 0's plus one", () => {
  const w = new World();
  w.put(0);
  const ctlr = get(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1"));
  set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_BPR0_EL1"), 7n);
  set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_BPR1_EL1"), 5n);
  set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1"), ctlr | 1n);
  set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_BPR1_EL1"), 3n);
  assert.equal(get(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_BPR1_EL1")), 7n);
  set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_CTLR_EL1"), ctlr);
  assert.equal(get(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_BPR1_EL1")), 5n);
});

Deno.test("CPU_SYSREGS: what 5 priority bits do not have, and what is none of them", () => {
  const w = new World();
  const get1 = get(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_AP1R1_EL1"));
  assert.equal(get1, BigInt(ERRNO.EINVAL));
  assert.equal(set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_AP0R3_EL1"), 0n), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.CPU_SYSREGS, icc("ICC_SRE_EL1"), 0n), ERRNO.EINVAL);
  assert.equal(set(w, VGIC_GRP.CPU_SYSREGS, icc("SCTLR_EL1"), 0n), ERRNO.ENXIO);
  assert.equal(has(w, VGIC_GRP.CPU_SYSREGS, icc("SCTLR_EL1")), ERRNO.ENXIO);
});

Deno.test("HAS_ATTR says what there is", () => {
  const w = new World();
  const there: [number, bigint][] = [
    [VGIC_GRP.ADDR, DIST],
    [VGIC_GRP.ADDR, REDIST],
    [VGIC_GRP.ADDR, REGION],
    [VGIC_GRP.NR_IRQS, 0n],
    [VGIC_GRP.CTRL, 0n],
    [VGIC_GRP.LEVEL_INFO, 32n],
    [VGIC_GRP.DIST_REGS, BigInt(GICD.IROUTER + 8 * 40)],
    [VGIC_GRP.REDIST_REGS, BigInt(GICR_SGI.ICFGR1)],
  ];
  for (const [group, attr] of there) assert.equal(has(w, group, attr), 0, `${group} ${attr}`);
  const missing: [number, bigint][] = [
    [VGIC_GRP.ADDR, 0n],
    [2, 0n],
    [VGIC_GRP.CTRL, 3n],
    [VGIC_GRP.DIST_REGS, 0x20n],
    [VGIC_GRP.DIST_REGS, 2n],
    [VGIC_GRP.LEVEL_INFO, 1n << 10n],
    [42, 0n],
  ];
  for (const [group, attr] of missing) assert.equal(has(w, group, attr), ERRNO.ENXIO);
  assert.equal(has(w, VGIC_GRP.REDIST_REGS, vgicAttr(9, 0)), ERRNO.EINVAL);
  assert.equal(KVM_ARM_VGIC_V3_OPS.name, "kvm-arm-vgic-v3");
});

Deno.test("a saved vgic restored into a new VM goes on where it was", () => {
  const from = new World();
  from.setEdge(41);
  for (const [intid, priority] of [[40, 0x80], [41, 0x40]] as const) {
    from.enable(intid);
    from.setPriority(intid, priority);
    from.inject(intid, true);
  }
  from.route(40, 1);
  from.run(0, () => from.ack(0));
  from.put(0);
  from.put(1);

  const to = new World({ asReset: true });
  to.put(0);
  to.put(1);
  const copy = (group: number, attr: bigint) =>
    assert.equal(set(to, group, attr, get(from, group, attr)), 0);
  const words = [1, 2, 3].map((n) => 4 * n);
  const bits = [GICD.IGROUPR, GICD.ISENABLER, GICD.ISPENDR, GICD.ISACTIVER];
  for (const base of bits) for (const n of words) copy(VGIC_GRP.DIST_REGS, BigInt(base + n));
  for (let i = 32; i < 128; i += 4) copy(VGIC_GRP.DIST_REGS, BigInt(GICD.IPRIORITYR + i));
  for (let i = 32; i < 128; i += 16) copy(VGIC_GRP.DIST_REGS, BigInt(GICD.ICFGR + i / 4));
  for (let i = 32; i < 128; i++) copy(VGIC_GRP.DIST_REGS, BigInt(GICD.IROUTER + 8 * i));
  for (const i of [32, 64, 96]) copy(VGIC_GRP.LEVEL_INFO, BigInt(i));
  for (const aff of [0, 1]) {
    for (const [name] of ICC) copy(VGIC_GRP.CPU_SYSREGS, vgicAttr(aff, sysreg(name).key));
  }
  copy(VGIC_GRP.DIST_REGS, 0n);

  to.load(0);
  to.load(1);
  // An interrupt restored before the distributor was on is queued by its next change.
  to.write(GICD.ISENABLER + 4, 3 << 8);
  to.run(0, () => {
    assert.equal(to.lr(0, 0).intid, 41);
    assert.equal(to.lr(0, 0).state, "active");
    to.eoi(0, 41);
    assert.equal(to.guestRead(0, "ICC_RPR_EL1"), 0xff);
  });
  assert.deepEqual(to.run(1, () => to.serve(1)), [40]);
});
