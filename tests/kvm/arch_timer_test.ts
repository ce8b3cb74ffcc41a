import assert from "node:assert/strict";
import {
  kvmArmTimerRead,
  kvmArmTimerWrite,
  kvmTimerComputeDelta,
  kvmTimerEarliestExp,
  kvmTimerShouldFire,
  kvmTimerVcpuPut,
  TIMER_REG,
  vcpuPtimer,
  vcpuVtimer,
} from "../../src/kvm/arch_timer.ts";
import type { Vcpu } from "../../src/kvm/kvm_host.ts";
import { vgicGetIrq } from "../../src/kvm/vgic/vgic_irq.ts";
import { makeRig, makeVm } from "./kvm_rig.ts";

function make(): {
  vcpu: Vcpu;
  other: Vcpu;
  advance(ns: number): void;
  isArmed(timer: number): boolean;
} {
  const rig = makeRig();
  const vm = makeVm(rig, [], 2);
  for (const v of vm.vcpus) v.init();
  const [a, b] = vm.vcpus;
  assert.ok(a && b);
  return {
    vcpu: a.vcpu,
    other: b.vcpu,
    advance: (ns) => rig.machine.platform.clock.advance(ns),
    isArmed: (timer) => rig.host.hrtimers.isArmed(timer),
  };
}

const US = 1000;

Deno.test("arch_timer: a timer ahead fires when its time has come, if enabled and not masked", () => {
  const { vcpu, advance } = make();
  const timer = vcpuVtimer(vcpu);
  kvmArmTimerWrite(vcpu, timer, TIMER_REG.TVAL, 625n); // 10 us
  assert.equal(kvmTimerShouldFire(vcpu, timer), false);
  kvmArmTimerWrite(vcpu, timer, TIMER_REG.CTL, 1n);
  const delta = kvmTimerComputeDelta(vcpu.kvm.host, timer);
  assert.ok(delta > 9.5 * US && delta <= 10 * US, `${delta}`);
  assert.equal(kvmTimerShouldFire(vcpu, timer), false);
  advance(10 * US);
  assert.equal(kvmTimerShouldFire(vcpu, timer), true);
  assert.equal(kvmArmTimerRead(vcpu, timer, TIMER_REG.CTL), 5n);
  kvmArmTimerWrite(vcpu, timer, TIMER_REG.CTL, 3n);
  assert.equal(kvmTimerShouldFire(vcpu, timer), false);
});

Deno.test("arch_timer: TVAL is signed and 32 bits, ISTATUS cannot be written", () => {
  const { vcpu } = make();
  const timer = vcpuPtimer(vcpu);
  kvmArmTimerWrite(vcpu, timer, TIMER_REG.CTL, 5n);
  assert.equal(timer.cntCtl, 1);
  kvmArmTimerWrite(vcpu, timer, TIMER_REG.TVAL, 0xffff_ffffn);
  assert.equal(kvmTimerShouldFire(vcpu, timer), true);
  const tval = kvmArmTimerRead(vcpu, timer, TIMER_REG.TVAL);
  assert.ok(tval > 0xffff_ff00n && tval <= 0xffff_ffffn, tval.toString(16));
});

Deno.test("arch_timer: the earliest of those that can fire, 0 for none", () => {
  const { vcpu } = make();
  assert.equal(kvmTimerEarliestExp(vcpu), 0);
  kvmArmTimerWrite(vcpu, vcpuVtimer(vcpu), TIMER_REG.TVAL, 625_000n);
  kvmArmTimerWrite(vcpu, vcpuVtimer(vcpu), TIMER_REG.CTL, 1n);
  kvmArmTimerWrite(vcpu, vcpuPtimer(vcpu), TIMER_REG.TVAL, 6250n);
  const only = kvmTimerEarliestExp(vcpu);
  assert.ok(only > 9_900 * US && only <= 10_000 * US, `${only}`);
  kvmArmTimerWrite(vcpu, vcpuPtimer(vcpu), TIMER_REG.CTL, 1n);
  const both = kvmTimerEarliestExp(vcpu);
  assert.ok(both > 99 * US && both <= 100 * US, `${both}`);
});

Deno.test("arch_timer: the virtual counter's offset is the VM's, also when it runs ahead", () => {
  const { vcpu, other } = make();
  for (const value of [0n, 5n, 0x7fff_ffffn, 2n ** 45n]) {
    kvmArmTimerWrite(vcpu, vcpuVtimer(vcpu), TIMER_REG.CNT, value);
    const count = kvmArmTimerRead(other, vcpuVtimer(other), TIMER_REG.CNT);
    assert.ok(count >= value && count < value + 100n, `${value}: ${count}`);
    kvmArmTimerWrite(other, vcpuVtimer(other), TIMER_REG.CVAL, value + 625_000n);
    const delta = kvmTimerComputeDelta(other.kvm.host, vcpuVtimer(other));
    assert.ok(delta > 9_990 * US && delta <= 10_000 * US, `${value}: ${delta}`);
  }
  assert.equal(kvmArmTimerRead(vcpu, vcpuPtimer(vcpu), TIMER_REG.CNT) < 1_000_000n, true);
});

Deno.test("arch_timer: a timer set anew after it has fired, and fired on the way to sleep, wakes the vCPU", () => {
  for (const vgicHasIt of [false, true]) {
    const { vcpu, advance, isArmed } = make();
    const timer = vcpuVtimer(vcpu);
    vcpu.timer.enabled = true;
    vcpu.state.cpu = 0;
    kvmArmTimerWrite(vcpu, timer, TIMER_REG.TVAL, 625n);
    kvmArmTimerWrite(vcpu, timer, TIMER_REG.CTL, 1n);
    // Given to the vgic when it fired before; the list register has taken it since.
    timer.irqLevel = true;
    const irq = vgicGetIrq(vcpu.kvm, vcpu, timer.irq);
    assert.ok(irq);
    irq.lineLevel = vgicHasIt;
    advance(10 * US);
    vcpu.state.blocking = true;
    kvmTimerVcpuPut(vcpu);
    assert.equal(isArmed(vcpu.timer.bgTimer), !vgicHasIt);
  }
});
