/** The benchmark programs under KVM: they print what they print elsewhere, and end in one state on all tiers. */
import assert from "node:assert/strict";
import expected from "../../fixtures/bench/expected.json" with { type: "json" };
import bytesImage from "../../fixtures/bench/bytes_small.bin" with { type: "bytes" };
import callsImage from "../../fixtures/bench/calls_small.bin" with { type: "bytes" };
import dispatchImage from "../../fixtures/bench/dispatch_small.bin" with { type: "bytes" };
import floatsImage from "../../fixtures/bench/floats_small.bin" with { type: "bytes" };
import listsImage from "../../fixtures/bench/lists_small.bin" with { type: "bytes" };
import nothingImage from "../../fixtures/bench/nothing.bin" with { type: "bytes" };
import sha256Image from "../../fixtures/bench/sha256_small.bin" with { type: "bytes" };
import sieveImage from "../../fixtures/bench/sieve_small.bin" with { type: "bytes" };
import vectorsImage from "../../fixtures/bench/vectors_small.bin" with { type: "bytes" };
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import { planBoot } from "../../src/vmm/boot_plan.ts";
import { parseImage } from "../../src/vmm/image.ts";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";
import { VIRT_MAP } from "../../src/vmm/virt_map.ts";

const PROGRAMS = [
  ["bytes_small.bin", bytesImage],
  ["calls_small.bin", callsImage],
  ["dispatch_small.bin", dispatchImage],
  ["floats_small.bin", floatsImage],
  ["lists_small.bin", listsImage],
  ["nothing.bin", nothingImage],
  ["sha256_small.bin", sha256Image],
  ["sieve_small.bin", sieveImage],
  ["vectors_small.bin", vectorsImage],
] as const;

const TIERS = { interpreted: { hotAfter: 0 }, "at once": { hotAfter: 1, batch: 1 }, mixed: {} };
const RAM = { base: VIRT_MAP.ram.base, size: 64 << 20 };

/** Runs `image` to its end: what it printed before its times, and how the machine ended. */
function run(image: Uint8Array, regions: { hotAfter?: number; batch?: number }) {
  let output = "";
  const guest = new KvmGuest({
    vcpus: 1,
    pcpus: 1,
    memory: RAM.size,
    lrs: 4,
    shuffle: 0,
    transmit: (byte) => output += String.fromCharCode(byte),
    regions,
  });
  const dtb = { vcpus: 1, ramSize: RAM.size, bootargs: "", psciMethod: "hvc", el2: false } as const;
  guest.boot(planBoot({ kernel: parseImage(image), dtb: buildVirtDtb(dtb), ram: RAM }));
  const { machine } = guest;
  assert.equal(machine.run(500_000_000), "power", output);
  return {
    printed: output.slice(0, output.indexOf(" ticks=")),
    end: `${machine.insns} ${machine.stateHash()}`,
  };
}

for (const [name, image] of PROGRAMS) {
  Deno.test(`${name} under KVM, on every tier`, () => {
    const runs = Object.values(TIERS).map((regions) => run(image, regions));
    for (const { printed, end } of runs) {
      assert.equal(printed, expected[name]);
      assert.equal(end, runs[0]?.end);
    }
  });
}
