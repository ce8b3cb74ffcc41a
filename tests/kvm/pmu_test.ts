/** The guest's performance monitors on the host's: exact counts through exits and preemption, set-up, access. */
import assert from "node:assert/strict";
import {
  KVM_CAP,
  KVM_EXIT,
  KVM_PMU_EVENT,
  PMU_V3_ATTR,
  VCPU_ATTR,
  VCPU_FEATURE,
  type VcpuHandle,
  type Vm,
} from "../../src/kvm/api.ts";
import { PMU_EVENT } from "../../src/arm/arch/pmu.ts";
import { R, sysreg, type SysregName } from "../../src/arm/arch/sysregs.ts";
import { sysRegId } from "../../src/kvm/guest.ts";
import { VGIC_CTRL_INIT, VGIC_GRP } from "../../src/kvm/vgic/vgic_kvm_device.ts";
import { Asm, COND } from "../support/asm.ts";
import { GUEST_RAM, makeRig, makeVm, PC, type Rig, X } from "./kvm_rig.ts";

const MS = 1_000_000;
const E = 1, P = 2, C = 4;
const EXCLUDE_EL1 = 2 ** 31;
const FEATURES = [VCPU_FEATURE.PSCI_0_2, VCPU_FEATURE.PMU_V3];
const REG = (name: SysregName): bigint => sysRegId(sysreg(name).key);
const { IRQ, INIT, FILTER, SET_PMU } = PMU_V3_ATTR;
const PMU = VCPU_ATTR.PMU_V3_CTRL;

/** Gives a VM's vCPUs performance monitors, with their interrupt on PPI 23. */
function setUp(vm: Vm): VcpuHandle[] {
  vm.vcpus.forEach((vcpu) => vcpu.init(FEATURES));
  vm.setVgicAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n);
  for (const vcpu of vm.vcpus) {
    vcpu.setAttr(PMU, IRQ, 23n);
    vcpu.setAttr(PMU, INIT, 0n);
    vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  }
  return [...vm.vcpus];
}

function started(rig: Rig, code: Asm, vcpus = 1): VcpuHandle[] {
  const again = ({ vcpu }: VcpuHandle) => vcpu.run.exitReason === KVM_EXIT.MMIO;
  const handles = setUp(makeVm(rig, code.words(), vcpus, again));
  handles.forEach((vcpu, i) => {
    vcpu.setOneReg(X(19), BigInt(i));
    vcpu.run();
  });
  return handles;
}

/** Lets a guest run into its endless loop, and gets it out of it. */
function finish(rig: Rig, vcpus: readonly VcpuHandle[], ns = 20 * MS): void {
  rig.machine.run(1e7, rig.machine.nowNs + ns);
  for (const vcpu of vcpus) vcpu.kick();
  rig.machine.run(1e6, rig.machine.nowNs + MS);
  for (const vcpu of vcpus) assert.equal(vcpu.running, false);
}

/** Counters 0 and 1 count what is asked, with the cycle counter; PMCR_EL0's start value is in X20. */
function prologue(...types: number[]): Asm {
  const a = new Asm(GUEST_RAM).mov(20, E | P | C).mov(21, 0);
  // What reset leaves in these is UNKNOWN.
  a.mov(0, 0xffff_ffff).msr("PMOVSCLR_EL0", 0).msr("PMCNTENCLR_EL0", 0);
  types.forEach((type, n) => a.mov(0, type).msr(`PMEVTYPER${n}_EL0` as SysregName, 0));
  return a.mov(0, 0).msr("PMCCFILTR_EL0", 0).mov(0, 0x8000_0003).msr("PMCNTENSET_EL0", 0);
}

function end(a: Asm): Asm {
  a.msr("PMCR_EL0", 21).mrs(10, "PMEVCNTR0_EL0").mrs(11, "PMEVCNTR1_EL0").mrs(12, "PMCCNTR_EL0");
  return a.label("end").b("end");
}

const x = (vcpu: VcpuHandle, n: number): number => Number(vcpu.getOneReg(X(n)));

for (const mode of ["vhe", "nvhe"] as const) {
  Deno.test(`pmu, ${mode}: a guest counts its own instructions, not those of its exits`, () => {
    const loops = 200;
    const a = prologue(PMU_EVENT.INST_RETIRED, PMU_EVENT.CPU_CYCLES);
    a.mov(15, loops).mov(16, 0x0a00_0000).msr("PMCR_EL0", 20).label("loop");
    a.ldrW(4, 16).mov(0, 0x8400_0000).hvc().nop().subs(15, 15, 1).bCond(COND.NE, "loop");
    const rig = makeRig(1, 4, { mode });
    const [vcpu] = started(rig, end(a));
    assert.ok(vcpu);
    finish(rig, [vcpu]);
    // The load that exits is never retired: KVM skips it. Neither is the MSR that traps to stop counting.
    const moves = new Asm(0).mov(0, 0x8400_0000).words().length;
    assert.equal(x(vcpu, 10), loops * (moves + 4));
    // Each of them is begun, though, and one more time for its page fault and each access that is emulated.
    assert.ok(x(vcpu, 11) >= loops * (moves + 5));
    assert.ok(x(vcpu, 12) - x(vcpu, 11) <= 1);
  });

  Deno.test(`pmu, ${mode}: two vCPUs on one CPU count each for themselves`, () => {
    const a = prologue(PMU_EVENT.INST_RETIRED, PMU_EVENT.CPU_CYCLES);
    a.mov(1, 300_000).mov(2, 100_000).mul(2, 2, 19).addReg(1, 1, 2).msr("PMCR_EL0", 20);
    a.label("loop").subs(1, 1, 1).bCond(COND.NE, "loop");
    const rig = makeRig(1, 4, { mode });
    const vcpus = started(rig, end(a), 2);
    finish(rig, vcpus, 40 * MS);
    const retired = vcpus.map((vcpu) => x(vcpu, 10));
    assert.deepEqual(retired, [600_000, 800_000]);
    assert.ok(rig.host.scheduler.queue(0).switches > 3, "they took turns");
  });

  Deno.test(`pmu, ${mode}: a vCPU that moves to another CPU takes its counts along`, () => {
    const a = prologue(PMU_EVENT.INST_RETIRED, PMU_EVENT.INST_RETIRED + EXCLUDE_EL1);
    a.mov(1, 1_000_000).msr("PMCR_EL0", 20).label("loop").subs(1, 1, 1).bCond(COND.NE, "loop");
    const rig = makeRig(2, 4, { mode });
    const [vcpu] = started(rig, end(a));
    assert.ok(vcpu);
    for (let i = 0; i < 4; i++) {
      rig.machine.run(1e5, rig.machine.nowNs + MS / 10);
      vcpu.setAffinity(1 << (i % 2));
    }
    finish(rig, [vcpu]);
    assert.deepEqual([x(vcpu, 10), x(vcpu, 11)], [2_000_000, 0]);
  });

  Deno.test(`pmu, ${mode}: an overflow is pending at its instruction, and is kept for user space to read`, () => {
    const a = prologue(PMU_EVENT.CPU_CYCLES, PMU_EVENT.CHAIN).mov(0, 0xffff_ff00);
    a.mov(1, 500).msr("PMCR_EL0", 20).msr("PMEVCNTR0_EL0", 0);
    a.label("loop").subs(1, 1, 1).bCond(COND.NE, "loop");
    const rig = makeRig(1, 4, { mode });
    const [vcpu] = started(rig, end(a));
    assert.ok(vcpu);
    finish(rig, [vcpu]);
    assert.equal(vcpu.getOneReg(REG("PMOVSSET_EL0")), 1n);
    assert.equal(x(vcpu, 11), 1);
    assert.equal(vcpu.getOneReg(REG("PMEVCNTR0_EL0")), BigInt(x(vcpu, 10)));
    const irqs = vcpu.vcpu.stat.irqExits;
    assert.ok(irqs >= 1, "the host was interrupted");
  });
}

Deno.test("pmu: the physical counters are free when no guest counts", () => {
  const rig = makeRig();
  const a = prologue(PMU_EVENT.INST_RETIRED).msr("PMCR_EL0", 20).nop();
  const [vcpu] = started(rig, end(a));
  assert.ok(vcpu);
  finish(rig, [vcpu]);
  const { regs } = rig.machine.cores[0] ?? { regs: undefined };
  assert.equal(regs?.lo(R.PMCNTENSET_EL0), 0);
  assert.equal(regs?.lo(R.PMCR_EL0), 0);
  const vm = rig.kvm.vms[0];
  assert.ok(vm);
  vm.destroy();
  assert.equal(regs?.lo(R.PMINTENSET_EL1), 0);
});

Deno.test("pmu: without the feature its registers are not there", () => {
  const rig = makeRig();
  const vcpu = makeVm(rig, []).vcpus[0] as VcpuHandle;
  vcpu.init();
  assert.throws(() => vcpu.getOneReg(REG("PMCR_EL0")), /ENOENT/);
  assert.equal((vcpu.getOneReg(REG("ID_AA64DFR0_EL1")) >> 8n) & 15n, 0n);
  assert.throws(() => vcpu.setAttr(PMU, IRQ, 23n), /ENODEV/);
  assert.equal(vcpu.hasAttr(PMU, IRQ), false);
  const other = makeVm(rig, []).vcpus[0] as VcpuHandle;
  other.init(FEATURES);
  assert.equal((other.getOneReg(REG("PMCR_EL0")) >> 11n) & 31n, 6n);
  assert.equal((other.getOneReg(REG("ID_AA64DFR0_EL1")) >> 8n) & 15n, 1n);
  assert.equal(rig.kvm.vms[0]?.checkExtension(KVM_CAP.ARM_PMU_V3), 1);
});

Deno.test("pmu: attributes in their order, with the kernel's errors", () => {
  const rig = makeRig();
  const vm = makeVm(rig, [], 2);
  const [a, b] = [...vm.vcpus];
  assert.ok(a && b);
  for (const vcpu of [a, b]) vcpu.init(FEATURES);
  for (const attr of [IRQ, INIT, FILTER, SET_PMU]) assert.ok(a.hasAttr(PMU, attr));
  assert.equal(a.hasAttr(PMU, 4), false);
  assert.throws(() => a.getAttr(PMU, IRQ), /ENXIO/);
  assert.throws(() => a.setAttr(PMU, IRQ, 15n), /EINVAL/);
  assert.throws(() => a.setAttr(PMU, SET_PMU, 99n), /ENXIO/);
  a.setAttr(PMU, IRQ, 23n);
  assert.equal(a.getAttr(PMU, IRQ), 23n);
  assert.throws(() => a.setAttr(PMU, IRQ, 23n), /EBUSY/);
  assert.throws(() => b.setAttr(PMU, IRQ, 22n), /EINVAL/);
  b.setAttr(PMU, IRQ, 23n);
  vm.setVgicAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n);
  a.setAttr(PMU, INIT, 0n);
  assert.throws(() => a.setAttr(PMU, INIT, 0n), /EBUSY/);
  b.run();
  rig.machine.run(1e5, MS);
  assert.equal(b.running, false, "KVM_RUN without PMU_V3_INIT: EINVAL");
});

Deno.test("pmu: a filter hides events from PMCEID0_EL0 and from counting", () => {
  const filter = (base: number, count: number, action: number) =>
    BigInt(base) | (BigInt(count) << 16n) | (BigInt(action) << 32n);
  const a = prologue(PMU_EVENT.INST_RETIRED, PMU_EVENT.CPU_CYCLES);
  a.mov(1, 100).msr("PMCR_EL0", 20).label("loop").subs(1, 1, 1).bCond(COND.NE, "loop");
  a.mrs(9, "PMCEID0_EL0");
  const rig = makeRig();
  const vm = makeVm(rig, end(a).words());
  const [vcpu] = vm.vcpus;
  assert.ok(vcpu);
  vcpu.init(FEATURES);
  vm.setVgicAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n);
  vcpu.setAttr(PMU, IRQ, 23n);
  assert.throws(() => vcpu.setAttr(PMU, FILTER, filter(0x3ff, 2, 0)), /EINVAL/);
  vcpu.setAttr(PMU, FILTER, filter(PMU_EVENT.INST_RETIRED, 1, KVM_PMU_EVENT.DENY));
  vcpu.setAttr(PMU, INIT, 0n);
  vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  vcpu.run();
  finish(rig, [vcpu]);
  assert.equal(x(vcpu, 9), 0x400a_0701 & ~(1 << PMU_EVENT.INST_RETIRED));
  assert.equal(x(vcpu, 10), 0);
  assert.ok(x(vcpu, 11) > 200);
});

Deno.test("pmu: what user space set before the first run counts from the first instruction on", () => {
  const a = new Asm(GUEST_RAM).nop().nop().mov(21, 0);
  const rig = makeRig();
  const [vcpu] = setUp(makeVm(rig, end(a).words()));
  assert.ok(vcpu);
  vcpu.setOneReg(REG("PMEVTYPER0_EL0"), BigInt(PMU_EVENT.INST_RETIRED));
  vcpu.setOneReg(REG("PMEVCNTR0_EL0"), 1000n);
  vcpu.setOneReg(REG("PMCNTENSET_EL0"), 1n);
  vcpu.setOneReg(REG("PMCR_EL0"), (6n << 11n) | 0x41n);
  vcpu.run();
  finish(rig, [vcpu]);
  assert.equal(x(vcpu, 10), 1003);
});

/** EL0 does `access`; EL1 logs the class of what it takes in X18: 0 when EL0 gets through to SVC. */
function userAccess(userenr: number, access: (a: Asm) => void): number {
  const a = new Asm(GUEST_RAM).mov(0, GUEST_RAM + 0x800).msr("VBAR_EL1", 0);
  a.mov(0, userenr).msr("PMUSERENR_EL0", 0).mov(0, GUEST_RAM + 0x400).msr("ELR_EL1", 0);
  a.mov(0, 0).msr("SPSR_EL1", 0).mov(18, 99).eret();
  a.org(GUEST_RAM + 0x400);
  access(a);
  a.word(0xd400_0001);
  a.org(GUEST_RAM + 0xc00).mrs(18, "ESR_EL1").lsr(18, 18, 26).label("end").b("end");
  const rig = makeRig();
  const [vcpu] = started(rig, a);
  assert.ok(vcpu);
  finish(rig, [vcpu]);
  return x(vcpu, 18);
}

Deno.test("pmu: EL0 gets through as PMUSERENR_EL0 says, else it is UNDEFINED there", () => {
  const SVC = 0x15, UNKNOWN = 0;
  const rows: [string, (a: Asm) => void, number][] = [
    ["PMCCNTR read", (a) => a.mrs(1, "PMCCNTR_EL0"), 0b0101],
    ["PMCCNTR write", (a) => a.msr("PMCCNTR_EL0", 1), 0b0001],
    ["PMSWINC", (a) => a.msr("PMSWINC_EL0", 1), 0b0011],
    ["PMEVCNTR0 read", (a) => a.mrs(1, "PMEVCNTR0_EL0"), 0b1001],
    ["PMCR", (a) => a.mrs(1, "PMCR_EL0"), 0b0001],
    ["PMUSERENR", (a) => a.mrs(1, "PMUSERENR_EL0"), 0b1111],
  ];
  for (const [text, access, open] of rows) {
    for (const bit of [1, 2, 4, 8]) {
      const expected = open & bit ? SVC : UNKNOWN;
      assert.equal(userAccess(bit, access), expected, `${text}, PMUSERENR_EL0 ${bit}`);
    }
  }
});

Deno.test("pmu: counters that are not there are UNDEFINED", () => {
  const a = new Asm(GUEST_RAM).mov(0, GUEST_RAM + 0x800).msr("VBAR_EL1", 0).mov(18, 99);
  a.mrs(1, "PMEVCNTR6_EL0").label("end").b("end");
  a.org(GUEST_RAM + 0xa00).mrs(18, "ESR_EL1").lsr(18, 18, 26).label("out").b("out");
  const rig = makeRig();
  const [vcpu] = started(rig, a);
  assert.ok(vcpu);
  finish(rig, [vcpu]);
  assert.equal(x(vcpu, 18), 0);
});
