import assert from "node:assert/strict";
import { type FdtNode, findNode, readCells, readFdt, readTexts } from "../../src/vmm/fdt.ts";
import { buildVirtDtb, type VirtDtbOptions } from "../../src/vmm/virt_dtb.ts";
import { assertUserError } from "./user_error.ts";

const GUEST: VirtDtbOptions = { vcpus: 4, ramSize: 128 * 2 ** 20 };
const BARE: VirtDtbOptions = {
  vcpus: 2,
  ramSize: 5 * 2 ** 30,
  psciMethod: "smc",
  el2: true,
  bootargs: "console=ttyAMA0 quiet",
  initrd: { start: 0x4800_0000, end: 0x4812_3456 },
  seed: 7,
};

function rootOf(options: VirtDtbOptions): FdtNode {
  return readFdt(buildVirtDtb(options)).root;
}

function value(root: FdtNode, path: string, name: string): Uint8Array {
  const found = findNode(root, path)?.properties.get(name);
  assert.ok(found, `${path} has ${name}`);
  return found;
}

function cellsAt(root: FdtNode, path: string, name: string): number[] {
  return readCells(value(root, path, name));
}

function textsAt(root: FdtNode, path: string, name: string): string[] {
  return readTexts(value(root, path, name));
}

Deno.test("a guest's tree has its CPUs, memory, PSCI by hvc, and four timer interrupts", () => {
  const root = rootOf(GUEST);
  assert.deepEqual(findNode(root, "/cpus")?.children.map((cpu) => cpu.name), [
    "cpu@0",
    "cpu@1",
    "cpu@2",
    "cpu@3",
  ]);
  assert.deepEqual(textsAt(root, "/cpus/cpu@3", "enable-method"), ["psci"]);
  assert.deepEqual(cellsAt(root, "/memory@40000000", "reg"), [0, 0x4000_0000, 0, 0x800_0000]);
  assert.deepEqual(textsAt(root, "/psci", "method"), ["hvc"]);
  assert.deepEqual(textsAt(root, "/psci", "compatible"), ["arm,psci-1.0", "arm,psci-0.2"]);
  assert.deepEqual(
    cellsAt(root, "/timer", "interrupts"),
    [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4],
  );
  assert.deepEqual(cellsAt(root, "/pmu", "interrupts"), [1, 7, 4]);
  assert.deepEqual(textsAt(root, "/pmu", "compatible"), ["arm,armv8-pmuv3"]);
  assert.equal(findNode(rootOf({ ...GUEST, pmu: false }), "/pmu"), undefined);
  assert.equal(findNode(root, "/intc@8000000")?.properties.has("interrupts"), false);
  assert.deepEqual(textsAt(root, "/chosen", "stdout-path"), ["/pl011@9000000"]);
  for (const absent of ["bootargs", "linux,initrd-start", "rng-seed", "kaslr-seed"]) {
    assert.equal(findNode(root, "/chosen")?.properties.has(absent), false, absent);
  }
});

Deno.test("the machine's devices have their registers and interrupts", () => {
  const root = rootOf(GUEST);
  assert.deepEqual(cellsAt(root, "/intc@8000000", "reg"), [
    ...[0, 0x0800_0000, 0, 0x1_0000],
    ...[0, 0x080a_0000, 0, 0xf6_0000],
  ]);
  assert.deepEqual(cellsAt(root, "/pl011@9000000", "interrupts"), [0, 1, 4]);
  assert.deepEqual(cellsAt(root, "/test-device@b000000", "interrupts"), [0, 8, 4]);
  assert.deepEqual(cellsAt(root, "/virtio_mmio@a003e00", "interrupts"), [0, 47, 1]);
  assert.deepEqual(cellsAt(root, "/virtio_mmio@a003e00", "reg"), [0, 0x0a00_3e00, 0, 0x200]);
  assert.equal(root.children.filter((child) => child.name.startsWith("virtio_mmio@")).length, 32);
  assert.deepEqual(textsAt(root, "/aliases", "serial0"), ["/pl011@9000000"]);
  const without = rootOf({ ...GUEST, virtioMmio: false });
  assert.equal(findNode(without, "/virtio_mmio@a000000"), undefined);
});

Deno.test("every phandle that is referred to is there", () => {
  const root = rootOf(GUEST);
  assert.deepEqual(
    cellsAt(root, "/", "interrupt-parent"),
    cellsAt(root, "/intc@8000000", "phandle"),
  );
  const [clock] = cellsAt(root, "/pl011@9000000", "clocks");
  assert.deepEqual(cellsAt(root, "/apb-pclk", "phandle"), [clock]);
});

Deno.test("the bare machine: smc, maintenance interrupt, EL2 timers, initrd, more than 4 GiB", () => {
  const root = rootOf(BARE);
  assert.deepEqual(textsAt(root, "/psci", "method"), ["smc"]);
  assert.deepEqual(cellsAt(root, "/intc@8000000", "interrupts"), [1, 9, 4]);
  assert.deepEqual(cellsAt(root, "/timer", "interrupts").slice(9), [1, 10, 4, 1, 12, 4]);
  assert.deepEqual(textsAt(root, "/chosen", "bootargs"), ["console=ttyAMA0 quiet"]);
  assert.deepEqual(cellsAt(root, "/chosen", "linux,initrd-start"), [0, 0x4800_0000]);
  assert.deepEqual(cellsAt(root, "/chosen", "linux,initrd-end"), [0, 0x4812_3456]);
  assert.deepEqual(cellsAt(root, "/memory@40000000", "reg"), [0, 0x4000_0000, 1, 0x4000_0000]);
});

Deno.test("vCPU 17 is named by its affinity", () => {
  const root = rootOf({ ...GUEST, vcpus: 18 });
  assert.deepEqual(cellsAt(root, "/cpus/cpu@101", "reg"), [0x101]);
});

Deno.test("the same seed gives the same blob, another seed another one; kaslr can be left out", () => {
  assert.deepEqual(buildVirtDtb(BARE), buildVirtDtb({ ...BARE }));
  assert.notDeepEqual(buildVirtDtb(BARE), buildVirtDtb({ ...BARE, seed: 8 }));
  assert.equal(value(rootOf(BARE), "/chosen", "rng-seed").length, 32);
  assert.equal(value(rootOf(BARE), "/chosen", "kaslr-seed").length, 8);
  const chosen = findNode(rootOf({ ...BARE, kaslr: false }), "/chosen");
  assert.equal(chosen?.properties.has("rng-seed"), true);
  assert.equal(chosen?.properties.has("kaslr-seed"), false);
});

Deno.test("a number of vCPUs that the map does not hold is a user error", () => {
  for (const vcpus of [0, -1, 124, NaN]) {
    assertUserError(() => buildVirtDtb({ ...GUEST, vcpus }), /the machine has 1 to 123/);
  }
});

Deno.test("a GICv2: its frames, those of EL2 only where there is EL2, and the CPUs of each PPI", () => {
  const guest: VirtDtbOptions = { ...GUEST, vcpus: 4, gic: 2 };
  const intc = "/intc@8000000";
  const words = (options: VirtDtbOptions, path: string, name: string) => {
    const bytes = value(rootOf(options), path, name);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i));
  };
  assert.equal(
    new TextDecoder().decode(value(rootOf(guest), intc, "compatible")),
    "arm,cortex-a15-gic\0",
  );
  const frames = [0, 0x0800_0000, 0, 0x1_0000, 0, 0x0801_0000, 0, 0x1_0000];
  assert.deepEqual(words(guest, intc, "reg"), frames);
  assert.deepEqual(
    words({ ...guest, el2: true }, intc, "reg"),
    [...frames, 0, 0x0803_0000, 0, 0x1_0000, 0, 0x0804_0000, 0, 0x1_0000],
  );
  const flags = words(guest, "/timer", "interrupts").filter((_, i) => i % 3 === 2);
  assert.deepEqual(flags, [0xf04, 0xf04, 0xf04, 0xf04]);
  assertUserError(() => buildVirtDtb({ ...guest, vcpus: 9 }), /the machine has 1 to 8/);
});

const MAY_RUN = Deno.permissions.querySync({ name: "run", command: "dtc" }).state === "granted";

async function dtc(blob: Uint8Array): Promise<{ code: number; out: string; err: string }> {
  const command = new Deno.Command("dtc", {
    args: ["-I", "dtb", "-O", "dts", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  });
  const child = command.spawn();
  const writer = child.stdin.getWriter();
  await writer.write(blob);
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

function hasDtc(): boolean {
  if (!MAY_RUN) return false;
  try {
    const args = ["--version"];
    return new Deno.Command("dtc", { args, stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

Deno.test({
  name: "dtc accepts the trees without a word",
  ignore: !hasDtc(),
  fn: async () => {
    for (const options of [GUEST, BARE, { ...BARE, gic: 2 as const }]) {
      const { code, out, err } = await dtc(buildVirtDtb(options));
      assert.equal(err, "");
      assert.equal(code, 0);
      assert.match(out, /pl011@9000000 \{/);
    }
  },
});
