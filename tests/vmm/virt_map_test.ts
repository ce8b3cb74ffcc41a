import assert from "node:assert/strict";
import {
  DTB_ALIGN,
  dtbBase,
  FLAT_BASE,
  imageBase,
  initrdBase,
  MAX_VCPUS,
  mpidrAffinity,
  regionAt,
  VIRT_INTID,
  VIRT_MAP,
} from "../../src/vmm/virt_map.ts";

const MIB = 2 ** 20;
const RAM = VIRT_MAP.ram.base;

Deno.test("the regions are in address order and do not overlap", () => {
  const regions = Object.values(VIRT_MAP);
  regions.slice(1).forEach((region, index) => {
    const before = regions[index];
    assert.ok(before && before.base + before.size <= region.base, region.name);
  });
});

Deno.test("interrupts have the numbers of the board", () => {
  assert.deepEqual(VIRT_INTID, {
    pmu: 23,
    gicMaintenance: 25,
    rtc: 34,
    gpio: 39,
    timerHypPhys: 26,
    timerVirt: 27,
    timerHypVirt: 28,
    timerSecurePhys: 29,
    timerPhys: 30,
    uart: 33,
    testDevice: 40,
    virtioMmio0: 48,
  });
});

Deno.test("an address finds its region, the last byte too, and holes find none", () => {
  assert.equal(regionAt(0x0800_0000, MIB)?.name, "gicd");
  assert.equal(regionAt(0x0800_ffff, MIB)?.name, "gicd");
  assert.equal(regionAt(0x0804_ffff, MIB)?.name, "gicv");
  assert.equal(regionAt(0x0805_0000, MIB), undefined);
  assert.equal(regionAt(0x0a00_3fff, MIB)?.name, "virtio-mmio");
  assert.equal(regionAt(0x0a00_4000, MIB), undefined);
  assert.equal(regionAt(RAM + MIB - 1, MIB)?.name, "ram");
  assert.equal(regionAt(RAM + MIB, MIB), undefined);
});

Deno.test("affinity puts sixteen vCPUs under each Aff1, and redistributors fit 123 vCPUs", () => {
  assert.deepEqual([0, 15, 16, 33, 4096].map(mpidrAffinity), [0, 15, 0x100, 0x201, 0x1_0000]);
  assert.equal(MAX_VCPUS, 123);
});

Deno.test("kernels go where QEMU puts them", () => {
  assert.equal(FLAT_BASE, 0x4008_0000);
  assert.equal(imageBase(0x8_0000, RAM), 0x4008_0000);
  assert.equal(imageBase(0, RAM), 0x4020_0000);
});

Deno.test("initrd goes to half of RAM, at most 128 MiB up, or behind the kernel; then the dtb", () => {
  assert.equal(initrdBase(RAM, 128 * MIB, RAM), 0x4400_0000);
  assert.equal(initrdBase(RAM, 4096 * MIB, RAM), 0x4800_0000);
  assert.equal(initrdBase(RAM, 128 * MIB, 0x4400_0001), 0x4400_1000);
  assert.equal(dtbBase(0x4400_0001), 0x4420_0000);
  assert.equal(dtbBase(0x4400_0000) % DTB_ALIGN, 0);
});
