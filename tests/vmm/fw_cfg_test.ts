import assert from "node:assert/strict";
import { FW_CFG_DMA, FW_CFG_ITEM, FW_CFG_REG, FwCfg, FwCfgLayout } from "../../src/vmm/fw_cfg.ts";
import { bytesAt, deviceRig, RAM_BASE, RAM_SIZE } from "./device_rig.ts";

const FILES = [
  { name: "opt/test/second", bytes: Uint8Array.of(9, 8, 7) },
  { name: "etc/first", bytes: Uint8Array.from({ length: 100 }, (_, i) => i) },
];

function bench() {
  const { arena, ram } = deviceRig();
  const device = new FwCfg(arena.make(FwCfgLayout), ram, {
    cpus: 3,
    ramSize: 0x1_2345_6000,
    cmdline: "console=ttyAMA0",
    files: FILES,
  });
  device.reset();
  return { device, ram };
}

function select(device: FwCfg, item: number): void {
  device.write(FW_CFG_REG.SELECTOR, 2, ((item & 0xff) << 8) | (item >> 8));
}

function item(device: FwCfg, number: number, length: number): number[] {
  select(device, number);
  return Array.from({ length }, () => device.read(FW_CFG_REG.DATA, 1));
}

const ascii = (bytes: readonly number[]): string => String.fromCharCode(...bytes);

Deno.test("signature, id, CPUs, RAM size and command line by the data register", () => {
  const { device } = bench();
  assert.equal(ascii(item(device, FW_CFG_ITEM.SIGNATURE, 4)), "QEMU");
  assert.deepEqual(item(device, FW_CFG_ITEM.ID, 4), [3, 0, 0, 0]);
  assert.deepEqual(item(device, FW_CFG_ITEM.NB_CPUS, 2), [3, 0]);
  assert.deepEqual(item(device, FW_CFG_ITEM.RAM_SIZE, 8), [0, 0x60, 0x45, 0x23, 1, 0, 0, 0]);
  assert.deepEqual(item(device, FW_CFG_ITEM.CMDLINE_SIZE, 4), [16, 0, 0, 0]);
  assert.equal(ascii(item(device, FW_CFG_ITEM.CMDLINE_DATA, 16)), "console=ttyAMA0\0");
  assert.deepEqual(item(device, 0x7777, 4), [0, 0, 0, 0], "no such item");
});

Deno.test("wider reads keep the order of the bytes; behind the end come zeros", () => {
  const { device } = bench();
  select(device, FW_CFG_ITEM.SIGNATURE);
  assert.equal(device.read(FW_CFG_REG.DATA, 4), 0x554d_4551);
  assert.equal(device.read(FW_CFG_REG.DATA, 4), 0);
  select(device, FW_CFG_ITEM.SIGNATURE);
  device.read(FW_CFG_REG.DATA, 1);
  assert.equal(device.read(FW_CFG_REG.DATA, 4), 0x55_4d45);
});

/** The directory as name to number and size. */
function directory(device: FwCfg): Record<string, [number, number]> {
  const bytes = Uint8Array.from(item(device, FW_CFG_ITEM.FILE_DIR, 4 + 64 * FILES.length));
  const view = new DataView(bytes.buffer);
  assert.equal(view.getUint32(0), FILES.length);
  return Object.fromEntries(FILES.map((_, i) => {
    const at = 4 + 64 * i;
    const name = ascii([...bytes.subarray(at + 8, at + 64)]).replace(/\0+$/, "");
    return [name, [view.getUint16(at + 4), view.getUint32(at)]];
  }));
}

Deno.test("files are found by the directory, sorted by name", () => {
  const { device } = bench();
  const found = directory(device);
  assert.deepEqual(found, { "etc/first": [0x20, 100], "opt/test/second": [0x21, 3] });
  assert.deepEqual(item(device, 0x21, 3), [9, 8, 7]);
});

/** Carries out a DMA access whose structure lies at `at`; the control word afterwards. */
function dma(
  { device, ram }: ReturnType<typeof bench>,
  control: number,
  length: number,
  to: number,
  at = RAM_BASE + 0x1000,
): number {
  const access = new DataView(new ArrayBuffer(16));
  access.setUint32(0, control);
  access.setUint32(4, length);
  access.setBigUint64(8, BigInt(to));
  if (ram.has(at, 16)) ram.write(at, new Uint8Array(access.buffer));
  const big = new DataView(new ArrayBuffer(8));
  big.setBigUint64(0, BigInt(at));
  device.write(FW_CFG_REG.DMA, 4, big.getUint32(0, true));
  device.write(FW_CFG_REG.DMA + 4, 4, big.getUint32(4, true));
  if (!ram.has(at, 4)) return -1;
  return new DataView(bytesAt(ram, at, 4).buffer).getUint32(0);
}

Deno.test("DMA: signature, select and read, skip, zeros behind the end", () => {
  const rig = bench();
  const to = RAM_BASE + 0x2ff8;
  assert.equal(rig.device.read(FW_CFG_REG.DMA, 4), 0x554d_4551);
  assert.equal(rig.device.read(FW_CFG_REG.DMA + 4, 4), 0x4746_4320);
  const select = (n: number) => (n << 16) | FW_CFG_DMA.SELECT;
  assert.equal(dma(rig, select(0x20) | FW_CFG_DMA.READ, 10, to), 0);
  assert.deepEqual([...bytesAt(rig.ram, to, 10)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(dma(rig, FW_CFG_DMA.SKIP, 85, 0), 0);
  assert.equal(dma(rig, FW_CFG_DMA.READ, 8, to), 0);
  assert.deepEqual([...bytesAt(rig.ram, to, 8)], [95, 96, 97, 98, 99, 0, 0, 0]);
});

Deno.test("DMA: writes to items and addresses that are no memory fail; nothing else happens", () => {
  const rig = bench();
  select(rig.device, FW_CFG_ITEM.SIGNATURE);
  assert.equal(dma(rig, FW_CFG_DMA.WRITE, 4, RAM_BASE), FW_CFG_DMA.ERROR);
  for (const to of [0, RAM_BASE + RAM_SIZE - 2, 2 ** 53]) {
    assert.equal(dma(rig, FW_CFG_DMA.READ, 0xffff_ffff, to), FW_CFG_DMA.ERROR);
  }
  assert.equal(dma(rig, FW_CFG_DMA.READ, 4, 0, RAM_BASE + RAM_SIZE), -1);
  assert.equal(dma(rig, FW_CFG_DMA.READ, 4, RAM_BASE), 0);
  assert.equal(ascii([...bytesAt(rig.ram, RAM_BASE, 4)]), "QEMU");
});
