import assert from "node:assert/strict";
import { UserError } from "../../src/base/errors.ts";
import { parseCommandLine } from "../../src/vmm/command_line.ts";
import {
  boardOptions,
  NO_DEVICES,
  parseDisk,
  parseDisks,
  parseFwCfg,
  parseRtc,
} from "../../src/vmm/device_options.ts";
import { openDisk } from "../../src/vmm/files.ts";
import { assertUserError } from "./user_error.ts";

async function devices(...args: string[]) {
  const invocation = await parseCommandLine(["run", ...args]);
  assert.ok("config" in invocation);
  return invocation.config.devices;
}

Deno.test("without options there are no disks and no network", async () => {
  assert.deepEqual(await devices(), NO_DEVICES);
});

Deno.test("device options of the command line", async () => {
  const args = ["--disk", "a.img", "--disk", "b,c.img,ro", "--net", "echo", "--console", "virtio"];
  assert.deepEqual(await devices(...args, "--rtc", "1700000000", "--fw-cfg", "opt/x=a=b"), {
    disks: [{ path: "a.img", readOnly: false }, { path: "b,c.img", readOnly: true }],
    net: "echo",
    console: "virtio",
    rtcEpoch: 1_700_000_000,
    fwCfg: [["opt/x", "a=b"]],
  });
});

Deno.test("dates are UTC, with or without a time", () => {
  assert.equal(parseRtc("2024-02-29"), Date.UTC(2024, 1, 29) / 1000);
  assert.equal(parseRtc("2024-02-29T12:30"), Date.UTC(2024, 1, 29, 12, 30) / 1000);
  assert.equal(parseRtc("2024-02-29T12:30:05Z"), Date.UTC(2024, 1, 29, 12, 30, 5) / 1000);
  assert.equal(parseRtc("0"), 0);
});

Deno.test("mistakes are user errors", async () => {
  for (const text of ["", "tomorrow", "2024-13-01", "1969-01-01", "4294967296", "-1"]) {
    assertUserError(() => parseRtc(text), /^--rtc/);
  }
  for (const text of ["", ",ro"]) assertUserError(() => parseDisk(text), /^--disk/);
  assertUserError(() => parseDisks(new Array<string>(9).fill("x")), /8 at most/);
  for (const text of ["x", "=1", `${"n".repeat(56)}=1`, "a b=1"]) {
    assertUserError(() => parseFwCfg(text), /^--fw-cfg/);
  }
  await assert.rejects(parseCommandLine(["run", "--net", "tap"]), UserError);
});

Deno.test("an image file is read where the disk is read, zeros behind its end, and never written", () => {
  const path = Deno.makeTempFileSync();
  Deno.writeFileSync(path, Uint8Array.from({ length: 1000 }, (_, i) => i % 256));
  const { disks } = boardOptions({ ...NO_DEVICES, disks: [{ path, readOnly: false }] }, openDisk);
  const [disk] = disks ?? [];
  assert.equal(disk?.image.size, 1000);
  const bytes = new Uint8Array(8).fill(0xff);
  disk?.image.read(996, bytes);
  assert.deepEqual([...bytes], [228, 229, 230, 231, 0, 0, 0, 0]);
  Deno.removeSync(path);
});

Deno.test("an image that is not there, empty or a directory is a user error", () => {
  const path = Deno.makeTempFileSync();
  assertUserError(() => openDisk(path), /empty/);
  Deno.removeSync(path);
  assertUserError(() => openDisk(path), /no such file/);
  assertUserError(() => openDisk("."), /./);
});
