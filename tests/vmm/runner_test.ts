import assert from "node:assert/strict";
import { EXIT_CODE } from "../../src/vmm/options.ts";
import { Runner } from "../../src/vmm/runner.ts";
import { smpGuest } from "./smp_guest.ts";

Deno.test("a host kernel that panics ends the run, with one line that says why", async () => {
  const { guest } = await smpGuest({ vcpus: 2, pcpus: 1, mode: "nvhe", append: 'cmd="hvc 1"' });
  const runner = new Runner(guest, { forNs: 1e9 });
  assert.equal(runner.chunk(), undefined);
  // A pointer of the vCPU's leads nowhere: EL2 cannot enter it again.
  for (const { vcpu } of guest.vm.vcpus) vcpu.state.kvm = 0x1000;
  let ending = runner.chunk();
  for (let i = 0; i < 100 && ending === undefined; i++) ending = runner.chunk();
  assert.ok(typeof ending === "object");
  assert.equal(ending.code, EXIT_CODE.INTERNAL_ERROR);
  assert.match(
    ending.reason,
    /^nVHE hyp panic on CPU 0 at __kvm_nvhe_handle___kvm_vcpu_run\+0x0: PS:[0-9a-f]{8} PC:[0-9a-f]{16} ESR:[0-9a-f]{16} FAR:/,
  );
});
