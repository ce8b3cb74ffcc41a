/** A guest that does anything: the vgic neither throws nor holds a lock, and its lists stay whole. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { GICD, GICD_SIZE, GICR_SGI, GICR_SIZE } from "../../../src/arm/arch/gic.ts";
import { GICC_CTLR } from "../../../src/arm/arch/gicv2.ts";
import { listNext, listPrev } from "../../../src/base/list.ts";
import { IRQ_OPS } from "../../../src/kvm/arm_vgic.ts";
import { kvmVgicMapPhysIrq } from "../../../src/kvm/vgic/vgic.ts";
import { apListDepth, apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import { vgicV3DispatchSgi } from "../../../src/kvm/vgic/vgic_sgi.ts";
import { KVM_VGIC_V2_DIST_SIZE } from "../../../src/kvm/vgic/vgic_v2.ts";
import { VgicCpuStatLayout } from "../../../src/kvm/vgic/vgic_stat.ts";
import { GICD_BASE, GICR_BASE, World } from "./world.ts";

const VCPUS = 3;

/** A small generator of numbers below `n`: the same every run (LCG of Numerical Recipes). */
function random(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

type Next = (n: number) => number;

/** Mostly registers that exist: one of the per-interrupt banks, sometimes anything. */
function offset(next: Next, size: number, len: number): number {
  const banks = [0x80, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380, 0x400, 0x800, 0xc00];
  banks.push(...(size === KVM_VGIC_V2_DIST_SIZE ? [0xf00] : [0x6000]));
  const where = next(4) ? (banks[next(banks.length)] ?? 0) + next(0x100) : next(size);
  const frame = size === GICR_SIZE && next(2) ? 0x1_0000 : 0;
  const aligned = next(8) ? (where + frame) - ((where + frame) % len) : where + frame;
  return Math.min(aligned, size - 8);
}

function mmio(w: World, next: Next): void {
  const len = [1, 2, 4, 4, 4, 4, 8][next(7)] ?? 4;
  const v2 = isV2(w);
  const redist = !v2 && next(2) === 1;
  const of = next(VCPUS);
  const base = redist ? GICR_BASE + of * GICR_SIZE : GICD_BASE;
  const dist = v2 ? KVM_VGIC_V2_DIST_SIZE : GICD_SIZE;
  const at = offset(next, redist ? GICR_SIZE : dist, len);
  const vcpu = next(VCPUS);
  w.running = w.vcpu(vcpu);
  w.currentCpu = vcpu;
  if (next(2)) {
    const value = w.read(at, len, vcpu, base);
    assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * len), `${at} ${value}`);
  } else {
    const routed = !redist && at >= GICD.IROUTER && next(8) > 0;
    const word = routed ? next(VCPUS) : next(4) === 0 ? next(2 ** 32) : 1 << next(31);
    w.write(
      at,
      len === 8 ? BigInt(word) << BigInt(next(32)) : word % 2 ** (8 * len),
      len,
      vcpu,
      base,
    );
  }
  w.running = undefined;
}

const isV2 = (w: World): boolean => w.options.gic === 2;

function setMask(w: World, n: number, mask: number): void {
  if (isV2(w)) w.gicv(n, "PMR", mask);
  else w.guestWrite(n, "ICC_PMR_EL1", mask);
}

/** Bit 0: group 1 uses group 0's binary point; bit 1: the end of an interrupt is split. */
function setControl(w: World, n: number, bits: number): void {
  const { CBPR, EOImode, EnableGrp0, EnableGrp1 } = GICC_CTLR;
  const mapped = (bits & 1 ? CBPR : 0) | (bits & 2 ? EOImode : 0);
  if (isV2(w)) {
    w.gicv(n, "CTLR", mapped | EnableGrp0 | EnableGrp1 | (bits & 4 ? GICC_CTLR.AckCtl : 0));
  } else w.guestWrite(n, "ICC_CTLR_EL1", bits & 3);
}

/** What a guest may do to its CPU interface. */
function guestStep(w: World, next: Next, n: number): void {
  const kind = next(6);
  if (kind < 2) w.ack(n);
  else if (kind === 2) w.eoi(n, next(130));
  else if (kind === 3) w.serve(n);
  else if (kind === 4) setMask(w, n, next(256));
  else setControl(w, n, next(8));
}

/** All on, unmasked, nothing active: or after a while nothing could happen any more. */
function recover(w: World, next: Next): void {
  w.write(GICD.CTLR, isV2(w) ? 1 : 2);
  for (let word = 4; word < 16; word += 4) w.write(GICD.ICACTIVER + word, 0xffff_ffff);
  for (let n = 0; n < VCPUS; n++) {
    w.running = w.vcpu(n);
    if (isV2(w)) w.write(GICD.ICACTIVER, 0xffff_ffff, 4, n);
    else w.writeRd(GICR_SGI.ICACTIVER0, 0xffff_ffff, n);
    w.running = undefined;
    setMask(w, n, 0xff);
    setControl(w, n, 0);
    const { state } = w.controller.virtualInterface(n);
    state.ap0r = 0;
    state.ap1r = 0;
    w.controller.update(n);
    w.route(32 + next(96), next(VCPUS));
  }
}

function step(w: World, next: Next): void {
  if (next(60) === 0) recover(w, next);
  const n = next(VCPUS);
  const kind = next(8);
  if (kind < 4) mmio(w, next);
  else if (kind === 4) w.inject(16 + next(112), next(2) === 1, n);
  else if (kind === 5 && isV2(w)) w.write(GICD.SGIR, next(2 ** 26), 4, n);
  else if (kind === 5) vgicV3DispatchSgi(w.vcpu(n), next(2 ** 28), next(2 ** 9), next(2) === 1);
  else w.run(n, () => guestStep(w, next, n));
}

function checkWhole(w: World): void {
  assert.equal(w.locks.heldCount, 0);
  const seen = new Set<string>();
  w.kvm.vcpus.forEach((vcpu, n) => {
    const intids = apListIntids(vcpu);
    assert.equal(intids.length, apListDepth(vcpu));
    for (const intid of intids) {
      const key = intid < 32 ? `${n}/${intid}` : `${intid}`;
      assert.equal(seen.has(key), false, key);
      seen.add(key);
      assert.equal(w.irq(intid, n).vcpu, vcpu.state.base);
    }
    for (let at = listNext(w.memory, vcpu.vgic.apListHead); at !== vcpu.vgic.apListHead;) {
      const following = listNext(w.memory, at);
      assert.equal(listPrev(w.memory, following), at);
      at = following;
    }
  });
}

function total(w: World, counter: "flushes" | "pruned" | "migrated" | "overflows"): number {
  return w.kvm.vcpus.reduce(
    (sum, v) => sum + VgicCpuStatLayout.at(w.memory, v.vgic.cpuStat)[counter],
    0,
  );
}

const SHAPES = [[3, 1], [3, 4], [3, 16], [2, 1], [2, 4]] as const;

for (const [gic, lrs] of SHAPES) {
  Deno.test(`GICv${gic}: 20,000 random accesses and events (${lrs} list registers)`, () => {
    const w = new World({ vcpus: VCPUS, lrs, gic });
    const next = random(lrs);
    kvmVgicMapPhysIrq(w.vcpu(0), 27, 27, IRQ_OPS.NONE);
    for (let i = 0; i < 20_000; i++) {
      step(w, next);
      if (i % 50 === 0) checkWhole(w);
    }
    checkWhole(w);
    assert.ok(w.kvm.vcpus.every((v) => v.cpuIf.usedLrs === 0 && v.vgicV2.usedLrs === 0));
    // Not a walk around the interesting places.
    assert.ok(total(w, "flushes") > 1000, "flushes");
    assert.ok(total(w, "pruned") > 100, "pruned");
    assert.ok(total(w, "migrated") > 10, "migrated");
    assert.ok(total(w, "overflows") > 10, "overflows");
  });
}

for (const [gic, lrs] of [[3, 1], [3, 4], [2, 4]] as const) {
  Deno.test(`GICv${gic}: locks that are taken and locks that are only counted come to the same (${lrs} list registers)`, () => {
    const info = { countsGuestAcks: true };
    const [taken, counted] = [0, 1].map(() => new World({ vcpus: VCPUS, lrs, gic, info })) as [
      World,
      World,
    ];
    taken.locks.schedulePoint = () => {};
    let singles = 0;
    const worlds = [taken, counted].map((w) => ({ w, next: random(7 + lrs) }));
    for (let i = 0; i < 6000; i++) {
      for (const { w, next } of worlds) {
        // Few in flight at a time, so that the ways for one are gone.
        if (i % 16 === 0) recover(w, next);
        step(w, next);
      }
      singles += counted.kvm.vcpus.filter((vcpu) => apListDepth(vcpu) === 1).length;
      if (i % 100 === 0) {
        assert.equal(Buffer.compare(taken.memory.u8, counted.memory.u8), 0, `${i}`);
      }
    }
    assert.deepEqual(counted.locks.stats, taken.locks.stats);
    assert.deepEqual(counted.kicks, taken.kicks);
    assert.equal(Buffer.compare(taken.memory.u8, counted.memory.u8), 0);
    assert.ok(singles > 1000, `${singles}`);
  });
}
