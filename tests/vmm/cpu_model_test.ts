import assert from "node:assert/strict";
import { idField } from "../../src/arm/arch/features.ts";
import { sysreg, type SysregName } from "../../src/arm/arch/sysregs.ts";
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";

const MIB = 1 << 20;

function idRegisters(cpu: "v8.0" | "max"): (name: SysregName) => bigint {
  const guest = new KvmGuest({
    vcpus: 2,
    pcpus: 1,
    memory: 16 * MIB,
    lrs: 4,
    shuffle: 0,
    cpu,
    transmit: () => {},
  });
  const vcpu = guest.vm.vcpus[1];
  assert.ok(vcpu);
  return (name) => vcpu.getOneReg(0x6030_0000_0013_0000n | BigInt(sysreg(name).key));
}

Deno.test("cpu: v8.0 shows nothing that Armv8.0 has not, but for what KVM does not let go", () => {
  const id = idRegisters("v8.0");
  const isar0 = id("ID_AA64ISAR0_EL1");
  assert.equal(idField(isar0, 20), 0); // LSE
  assert.equal(idField(isar0, 16), 1); // CRC32 is Armv8.0's
  assert.equal(id("ID_AA64ISAR1_EL1"), 0n);
  const mmfr1 = id("ID_AA64MMFR1_EL1");
  assert.deepEqual([0, 16, 20].map((at) => idField(mmfr1, at)), [0, 0, 0]); // HAFDBS, LO, PAN
  assert.equal(idField(mmfr1, 8), 1); // VH is the host's
  const pfr0 = id("ID_AA64PFR0_EL1");
  assert.deepEqual([16, 20, 24].map((at) => idField(pfr0, at)), [0, 0, 1]); // FP, AdvSIMD, GIC
  assert.equal(idField(id("ID_AA64DFR0_EL1"), 0), 6);
});

Deno.test("cpu: max shows all that KVM gives", () => {
  const id = idRegisters("max");
  assert.equal(idField(id("ID_AA64ISAR0_EL1"), 20), 2);
  assert.notEqual(idField(id("ID_AA64MMFR1_EL1"), 20), 0);
  assert.equal(idField(id("ID_AA64DFR0_EL1"), 0), 6);
});
