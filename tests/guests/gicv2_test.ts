/** The SMP guest on a GICv2, whole: what it does with interrupts works, and twice the same. */
import assert from "node:assert/strict";
import { KvmError } from "../../src/kvm/api.ts";
import { KvmMachine } from "../../src/vmm/kvm_guest.ts";
import { smpGuest, type SmpOptions } from "../vmm/smp_guest.ts";

const COMMANDS = "ipi 5;sgi 10;storm 10;level 3;route 41 2;storm 3;fp;off";
const EXPECTED = [
  /smp guest: (\d) cpus up/,
  /ipi: rounds=5 sgis=\d+ .* ok/,
  /sgi: n=10 .* ok/,
  /storm: n=10 intid=41 .* ok/,
  /level: device acknowledged=3 ok/,
  /storm: n=3 intid=41 .* ok/,
  /fp: .* errors=0 ok/,
];

async function run(options: SmpOptions): Promise<{ text: string; hash: string }> {
  const append = `hz=50 cmd="${COMMANDS}"`;
  const { guest, text } = await smpGuest({ gic: 2, append, ...options });
  assert.equal(guest.machine.run(60_000_000), "power", text());
  assert.equal(guest.takeEvent(), "off");
  return { text: text(), hash: guest.machine.stateHash() };
}

const SHAPES = [
  { vcpus: 8, pcpus: 4, lrs: 4, mode: "vhe" },
  { vcpus: 4, pcpus: 2, lrs: 1, mode: "nvhe" },
] as const;

for (const shape of SHAPES) {
  const { vcpus, pcpus, lrs, mode } = shape;
  Deno.test(`${vcpus} vCPUs on ${pcpus} CPUs with ${lrs} list registers, ${mode}`, async () => {
    const first = await run(shape);
    for (const line of EXPECTED) assert.match(first.text, line);
    assert.doesNotMatch(first.text, /panic|FAILED|spurious=[1-9]/);
    assert.equal((await run(shape)).hash, first.hash);
  });
}

const machine = (gic: 2 | 3) => new KvmMachine({ pcpus: 1, guestRam: 1 << 22, lrs: 4, gic });
const failsWith = (errno: number) => (e: unknown) => e instanceof KvmError && e.errno === errno;

Deno.test("each version of guest wants its version of hardware", () => {
  for (const gic of [2, 3] as const) {
    const { host, kvm } = machine(gic);
    host.runAs(0, () => {
      const vm = kvm.createVm();
      assert.throws(() => vm.createVgic(5 - gic), failsWith(-19));
      if (gic === 3) assert.throws(() => vm.createIrqchip(), failsWith(-19));
      vm.createVgic(gic);
      assert.throws(() => vm.createVgic(gic), failsWith(-17));
    });
  }
});

Deno.test("a VM with a GICv2 has at most eight vCPUs", () => {
  const { host, kvm } = machine(2);
  host.runAs(0, () => {
    const vm = kvm.createVm();
    vm.createIrqchip();
    // KVM_CAP_MAX_VCPUS
    assert.equal(vm.checkExtension(66), 8);
    for (let id = 0; id < 8; id++) vm.createVcpu(id, () => false);
    assert.throws(() => vm.createVcpu(8, () => false), failsWith(-22));
  });
});
