import assert from "node:assert/strict";
import type { VcpuHandle } from "../../src/kvm/api.ts";
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
/** Registers whose value is not free: identification, PSTATE, counters, firmware, AArch32 SPSRs. */
const isFree = (id: bigint): boolean => {
  const core = ((id >> 16n) & 0xfffn) === 0x10n;
  const index = id & 0xffffn;
  if (core) return index !== 66n && !(index >= 74n && index < 82n);
  const key = Number(index);
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

Deno.test("one_reg: PSCI version, and CSV2 taken away from the guest", () => {
  const vcpu = initialised();
  assert.equal(vcpu.getOneReg(FW_REG.PSCI_VERSION), 0x1_0001n);
  vcpu.setOneReg(FW_REG.PSCI_VERSION, 2n);
  assert.equal(vcpu.getOneReg(FW_REG.PSCI_VERSION), 2n);
  const pfr0 = sysRegId(sysregKey(3, 0, 0, 4, 0));
  const value = vcpu.getOneReg(pfr0) & ~(15n << 56n);
  vcpu.setOneReg(pfr0, value);
  assert.equal(vcpu.getOneReg(pfr0), value);
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
