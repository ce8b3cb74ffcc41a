import assert from "node:assert/strict";
import { VCPU_FEATURE, type VcpuHandle } from "../../src/kvm/api.ts";
import { coreRegId, FW_REG, regName, sysRegId } from "../../src/kvm/guest.ts";
import { sysregKey } from "../../src/arm/arch/sysregs.ts";
import { makeRig, makeVm, PC } from "./kvm_rig.ts";

function initialised(): VcpuHandle {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init();
  return vcpu;
}

const SIZES = new Map([[2n, 32n], [3n, 64n], [4n, 128n]]);
const bitsOf = (id: bigint): bigint => SIZES.get((id >> 52n) & 15n) ?? 0n;
/** MIDR, REVIDR, CLIDR, AIDR, CTR, OSLSR. */
const FIXED = [
  sysregKey(3, 0, 0, 0, 0),
  sysregKey(3, 0, 0, 0, 6),
  sysregKey(3, 1, 0, 0, 1),
  sysregKey(3, 1, 0, 0, 7),
  sysregKey(3, 3, 0, 0, 1),
  sysregKey(2, 0, 1, 1, 4),
];
/** Registers whose value is not free: identification, PSTATE, counters, firmware, AArch32 SPSRs. */
const isFree = (id: bigint): boolean => {
  const core = ((id >> 16n) & 0xfffn) === 0x10n;
  const index = id & 0xffffn;
  if (core) return index !== 66n && !(index >= 74n && index < 82n);
  const key = Number(index);
  if (FIXED.includes(key)) return false;
  const timer = key >= sysregKey(3, 3, 14, 0, 0) && key <= sysregKey(3, 3, 14, 3, 7);
  const ids = key >= sysregKey(3, 0, 0, 1, 0) && key <= sysregKey(3, 0, 0, 7, 7);
  return ((id >> 16n) & 0xfffn) === 0x13n && !timer && !ids;
};

Deno.test("one_reg: ids are those of the interface", () => {
  assert.equal(PC, 0x6030_0000_0010_0040n);
  assert.equal(coreRegId(336, 16), 0x6040_0000_0010_0054n); // V0
  assert.equal(coreRegId(852, 4), 0x6020_0000_0010_00d5n); // FPCR
  assert.equal(sysRegId(sysregKey(3, 0, 1, 0, 0)), 0x6030_0000_0013_c080n); // SCTLR_EL1
  assert.equal(regName(0x6030_0000_0013_c080n), "SCTLR_EL1");
});

Deno.test("one_reg: every free register keeps what is written, and only it", () => {
  const vcpu = initialised();
  const ids = vcpu.regList().filter(isFree);
  assert.ok(ids.length > 90, `${ids.length} registers`);
  const value = (id: bigint, n: number): bigint =>
    BigInt.asUintN(Number(bitsOf(id)), 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210n * BigInt(n + 3));
  ids.forEach((id, n) => vcpu.setOneReg(id, value(id, n)));
  ids.forEach((id, n) => assert.equal(vcpu.getOneReg(id), value(id, n), id.toString(16)));
});

Deno.test("one_reg: every register of the list can be read and set to what it is", () => {
  const vcpu = initialised();
  for (const id of vcpu.regList()) {
    const counter = [sysregKey(3, 3, 14, 0, 1), sysregKey(3, 3, 14, 3, 2)].includes(
      Number(id & 0xffffn),
    );
    const value = vcpu.getOneReg(id);
    if (!counter) vcpu.setOneReg(id, value);
  }
});

Deno.test("one_reg: what would harm the host or change the machine is refused", () => {
  const vcpu = initialised();
  assert.throws(() => vcpu.setOneReg(coreRegId(264, 8), 0x3c9n), /EINVAL/); // EL2h
  assert.throws(() => vcpu.setOneReg(sysRegId(sysregKey(3, 0, 0, 5, 0)), 0n), /EINVAL/);
  assert.throws(() => vcpu.getOneReg(sysRegId(sysregKey(3, 7, 15, 15, 7))), /ENOENT/);
  assert.throws(() => vcpu.setOneReg(FW_REG.PSCI_VERSION, 0x3_0000n), /EINVAL/);
});

const sys = (...at: [number, number, number, number, number]) => sysRegId(sysregKey(...at));

Deno.test("one_reg: ids of another architecture, size or kind", () => {
  const vcpu = initialised();
  assert.throws(() => vcpu.getOneReg(0x1234n), /EINVAL/);
  assert.throws(() => vcpu.getOneReg(coreRegId(0, 4)), /EINVAL/); // X0 has 8 bytes
  assert.throws(() => vcpu.getOneReg(coreRegId(1000, 8)), /ENOENT/);
  assert.throws(() => vcpu.getOneReg(sys(3, 0, 1, 0, 0) & ~(1n << 52n)), /ENOENT/); // 32 bits
  assert.throws(() => vcpu.getOneReg(sys(3, 3, 14, 2, 1)), /ENOENT/); // CNTP_CTL_EL0
});

Deno.test("one_reg: PSCI version, and CSV2 taken away from the guest and given back", () => {
  const vcpu = initialised();
  assert.equal(vcpu.getOneReg(FW_REG.PSCI_VERSION), 0x1_0001n);
  vcpu.setOneReg(FW_REG.PSCI_VERSION, 2n);
  assert.equal(vcpu.getOneReg(FW_REG.PSCI_VERSION), 2n);
  const pfr0 = sys(3, 0, 0, 4, 0);
  const all = vcpu.getOneReg(pfr0);
  vcpu.setOneReg(pfr0, all & ~(15n << 56n));
  assert.equal(vcpu.getOneReg(pfr0), all & ~(15n << 56n));
  vcpu.setOneReg(pfr0, all);
  assert.throws(() => vcpu.setOneReg(pfr0, all + (1n << 56n)), /EINVAL/);
});

Deno.test("one_reg: identification is one for the VM, and only goes down", () => {
  const vm = makeVm(makeRig(), [], 2);
  const [first, second] = vm.vcpus as [VcpuHandle, VcpuHandle];
  first.init();
  second.init();
  const mmfr1 = sys(3, 0, 0, 7, 1), mmfr0 = sys(3, 0, 0, 7, 0);
  const all = first.getOneReg(mmfr1);
  const pan = 15n << 20n, vh = 15n << 8n;
  assert.notEqual(all & pan, 0n);
  first.setOneReg(mmfr1, all & ~pan);
  assert.equal(second.getOneReg(mmfr1), all & ~pan);
  assert.throws(() => first.setOneReg(mmfr1, all & ~vh), /EINVAL/); // VH cannot be hidden
  assert.throws(() => first.setOneReg(mmfr1, all + (1n << 20n)), /EINVAL/);
  // TGran4 is a signed field: 0 is 4 KiB, -1 is none.
  const granules = first.getOneReg(mmfr0);
  first.setOneReg(mmfr0, granules | (15n << 28n));
  assert.throws(() => first.setOneReg(mmfr0, granules | (1n << 28n)), /EINVAL/);
});

Deno.test("one_reg: AArch32's identification ignores writes, reserved registers are zero", () => {
  const vcpu = initialised();
  vcpu.setOneReg(sys(3, 0, 0, 1, 0), 0x1234n); // ID_PFR0_EL1
  assert.equal(vcpu.getOneReg(sys(3, 0, 0, 1, 0)), 0n);
  assert.throws(() => vcpu.setOneReg(sys(3, 0, 0, 3, 3), 1n), /EINVAL/);
  assert.throws(() => vcpu.setOneReg(sys(3, 0, 0, 4, 5), 1n), /EINVAL/); // ID_AA64SMFR0_EL1
});

Deno.test("one_reg: invariant registers, the OS lock, and the caches by demux", () => {
  const vcpu = initialised();
  const midr = vcpu.getOneReg(sys(3, 0, 0, 0, 0));
  assert.throws(() => vcpu.setOneReg(sys(3, 0, 0, 0, 0), midr + 1n), /EINVAL/);
  vcpu.setOneReg(sys(2, 0, 1, 1, 4), 10n); // OSLSR_EL1: locked
  assert.throws(() => vcpu.setOneReg(sys(2, 0, 1, 1, 4), 0n), /EINVAL/);
  const ccsidr = (csselr: bigint) => 0x6020_0000_0011_0000n | csselr;
  const caches = vcpu.regList().filter((id) => id >> 8n === ccsidr(0n) >> 8n);
  assert.deepEqual(caches, [0n, 1n, 2n].map(ccsidr)); // L1 data, L1 instruction, L2
  assert.throws(() => vcpu.setOneReg(ccsidr(0n), 0n), /EINVAL/);
  assert.throws(() => vcpu.getOneReg(ccsidr(3n)), /ENOENT/);
});

Deno.test("one_reg: firmware registers go up to what there is", () => {
  const vcpu = initialised();
  assert.equal(vcpu.getOneReg(FW_REG.WORKAROUND_1), 2n);
  vcpu.setOneReg(FW_REG.WORKAROUND_1, 0n);
  assert.throws(() => vcpu.setOneReg(FW_REG.WORKAROUND_1, 3n), /EINVAL/);
  vcpu.setOneReg(FW_REG.WORKAROUND_2, 2n | 16n); // AVAIL and ENABLED
  assert.throws(() => vcpu.setOneReg(FW_REG.WORKAROUND_2, 3n | 16n), /EINVAL/);
  for (const [id, all] of [[FW_REG.STD_BMAP, 1n], [FW_REG.VENDOR_HYP_BMAP, 3n]] as const) {
    assert.equal(vcpu.getOneReg(id), all);
    assert.throws(() => vcpu.setOneReg(id, all + 1n), /EINVAL/);
    vcpu.setOneReg(id, 0n);
    assert.equal(vcpu.getOneReg(id), 0n);
  }
  vcpu.vcpu.kvm.state.hasRanOnce = true;
  assert.throws(() => vcpu.setOneReg(FW_REG.STD_BMAP, 1n), /EBUSY/);
  vcpu.setOneReg(FW_REG.STD_BMAP, 0n);
});

/** Encodings of a range of CRm and op2. */
function range(op: [number, number, number], crms: number[], op2s: number[]): number[] {
  return crms.flatMap((crm) => op2s.map((op2) => sysregKey(...op, crm, op2)));
}
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** base_regs of the kernel's get-reg-list test: what KVM lists for a vCPU without optional features. */
const SYSTEM_REGISTERS: readonly number[] = [
  ...range([2, 0, 0], upTo(16), [4, 5, 6, 7]), // DBGBVR, DBGBCR, DBGWVR, DBGWCR
  ...range([2, 0, 0], [2], [0, 2]), // MDCCINT, MDSCR
  ...range([2, 0, 1], [1], [4]), // OSLSR
  ...range([2, 4, 0], [7], [0]), // DBGVCR32
  ...range([3, 0, 0], [0], [0, 5, 6]), // MIDR, MPIDR, REVIDR
  ...range([3, 0, 0], [1, 2, 3, 4, 5, 6, 7], upTo(8)), // identification
  ...range([3, 0, 1], [0], [0, 1, 2]), // SCTLR, ACTLR, CPACR
  ...range([3, 0, 2], [0], [0, 1, 2]), // TTBR0, TTBR1, TCR
  ...range([3, 0, 5], [1], [0, 1]), // AFSR0, AFSR1
  ...range([3, 0, 5], [2], [0]), // ESR
  ...range([3, 0, 6], [0], [0]), // FAR
  ...range([3, 0, 7], [4], [0]), // PAR
  ...range([3, 0, 10], [2, 3], [0]), // MAIR, AMAIR
  ...range([3, 0, 12], [0], [0]), // VBAR
  ...range([3, 0, 12], [1], [1]), // DISR
  ...range([3, 0, 13], [0], [1, 4]), // CONTEXTIDR, TPIDR_EL1
  ...range([3, 0, 14], [1], [0]), // CNTKCTL
  ...range([3, 1, 0], [0], [1, 7]), // CLIDR, AIDR
  ...range([3, 2, 0], [0], [0]), // CSSELR
  ...range([3, 3, 0], [0], [1]), // CTR
  ...range([3, 3, 13], [0], [2, 3]), // TPIDR_EL0, TPIDRRO_EL0
  ...range([3, 3, 14], [3], [1, 2]), // CNTV_CTL, and CNT with CVAL's encoding
  ...range([3, 3, 14], [0], [2]),
  ...range([3, 4, 3], [0], [0]), // DACR32
  ...range([3, 4, 5], [0], [1]), // IFSR32
  ...range([3, 4, 5], [3], [0]), // FPEXC32
];

Deno.test("one_reg: the list is the one that KVM gives", () => {
  const list = initialised().regList();
  assert.equal(new Set(list).size, list.length);
  const kind = (n: bigint) => list.filter((id) => ((id >> 16n) & 0xfffn) === n);
  const system = kind(0x13n).map((id) => Number(id & 0xffffn));
  assert.deepEqual(system.toSorted((a, b) => a - b), SYSTEM_REGISTERS.toSorted((a, b) => a - b));
  // X0 to X30, SP, PC, PSTATE, SP_EL1, ELR_EL1, five SPSRs, V0 to V31, FPSR, FPCR
  assert.equal(kind(0x10n).length, 31 + 3 + 2 + 5 + 32 + 2);
  assert.deepEqual(kind(0x14n).map((id) => id & 0xffffn), [0n, 1n, 2n, 3n]);
  assert.deepEqual(kind(0x16n).map((id) => id & 0xffffn), [0n, 1n, 2n]);
});

/** pmu_regs of the same test: what PMU_V3 adds. */
const PMU_REGISTERS: readonly number[] = [
  ...range([3, 0, 9], [14], [1, 2]), // PMINTENSET, PMINTENCLR
  ...range([3, 3, 9], [12], [0, 1, 2, 3, 4, 5]), // PMCR to PMSELR
  ...range([3, 3, 9], [13], [0]), // PMCCNTR
  ...range([3, 3, 9], [14], [0, 3]), // PMUSERENR, PMOVSSET
  ...range([3, 3, 14], [8, 9, 10, 11, 12, 13, 14, 15], upTo(8))
    .filter((key) => key !== sysregKey(3, 3, 14, 11, 7)), // PMEVCNTR and PMEVTYPER 0 to 30, PMCCFILTR
];

Deno.test("one_reg: a PMU adds its registers to the list", () => {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init([VCPU_FEATURE.PSCI_0_2, VCPU_FEATURE.PMU_V3]);
  const ids = vcpu.regList().filter((id) => ((id >> 16n) & 0xfffn) === 0x13n);
  const added = ids.map((id) => Number(id & 0xffffn)).filter((k) => !SYSTEM_REGISTERS.includes(k));
  assert.deepEqual(added.toSorted((a, b) => a - b), PMU_REGISTERS.toSorted((a, b) => a - b));
});

Deno.test("one_reg: the virtual counter moves, CVAL and CNT have each other's ids", () => {
  const vcpu = initialised();
  const cnt = sysRegId(sysregKey(3, 3, 14, 3, 2)), cval = sysRegId(sysregKey(3, 3, 14, 0, 2));
  vcpu.setOneReg(cnt, 1_000_000n);
  const now = vcpu.getOneReg(cnt);
  assert.ok(now >= 1_000_000n && now < 1_001_000n, `${now}`);
  vcpu.setOneReg(cval, 77n);
  assert.equal(vcpu.getOneReg(cval), 77n);
});
