/** Stage 2's access flag: hardware sets it where it can (VTCR_EL2.HA), else KVM does on a fault. */
import assert from "node:assert/strict";
import type { VcpuHandle } from "../../src/kvm/api.ts";
import { stage2Of } from "../../src/kvm/mmu.ts";
import { counts, GUEST_RAM, makeRig, makeVm, PAGE, start } from "./kvm_rig.ts";

const MS = 1_000_000;
/** A loop that reads where X0 points. */
const LOADS = [
  0xf940_0001, // ldr x1, [x0]
  0x17ff_ffff, // b .-4
];

const CASES = [
  { cpu: "max", mode: "vhe", faults: 0 },
  { cpu: "max", mode: "nvhe", faults: 0 },
  { cpu: "v8.0", mode: "nvhe", faults: 1 },
] as const;

for (const { cpu, mode, faults } of CASES) {
  Deno.test(`an old page is young after its next use (${cpu}, ${mode}), with ${faults} access faults`, () => {
    const rig = makeRig(1, 4, { cpu, mode });
    const vm = makeVm(rig, LOADS);
    const ipa = GUEST_RAM + 3 * PAGE;
    const vcpu = vm.vcpus[0] as VcpuHandle;
    // A millisecond in the guest, and out of it again: host kernels do not age pages from a guest.
    const loadFor = () => {
      rig.machine.run(10_000, rig.machine.nowNs + MS);
      vcpu.kick();
      rig.machine.run(10_000, rig.machine.nowNs + MS);
      assert.equal(vcpu.running, false);
    };
    start(vcpu, GUEST_RAM, BigInt(ipa));
    loadFor();
    const stage2 = stage2Of(vm.kvm);
    assert.equal(stage2.mkold(ipa), true);
    assert.equal(stage2.mkold(ipa), false);
    vcpu.run();
    loadFor();
    assert.equal(stage2.mkold(ipa), true);
    assert.equal(counts(rig.trace).kvm_access_fault ?? 0, faults);
  });
}
