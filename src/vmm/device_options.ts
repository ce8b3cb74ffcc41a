/** The options about devices as plain values. Every mistake is one UserError. */
import { UserError } from "../base/errors.ts";
import { type BoardOptions, type ConsoleKind, MAX_DISKS, type NetKind } from "./board.ts";
import type { DiskImage } from "./virtio/disk.ts";

/** A disk: an image file, which is never written. */
export interface DiskConfig {
  readonly path: string;
  readonly readOnly: boolean;
}

/** What the user chose about devices. */
export interface DeviceConfig {
  readonly disks: readonly DiskConfig[];
  readonly net: NetKind;
  readonly console: ConsoleKind;
  /** Seconds since 1970 at virtual time 0; undefined for the default. */
  readonly rtcEpoch: number | undefined;
  /** Files of fw_cfg: name and text. */
  readonly fwCfg: readonly (readonly [name: string, text: string])[];
}

/** Nothing chosen. */
export const NO_DEVICES: DeviceConfig = {
  disks: [],
  net: "none",
  console: "pl011",
  rtcEpoch: undefined,
  fwCfg: [],
};

/** `FILE` or `FILE,ro`. */
export function parseDisk(text: string): DiskConfig {
  const readOnly = text.endsWith(",ro");
  const path = readOnly ? text.slice(0, -3) : text;
  if (path === "") throw new UserError(`--disk: a file, or a file and ",ro", not ${text}`);
  return { path, readOnly };
}

/** The disks of the command line. */
export function parseDisks(texts: readonly string[]): DiskConfig[] {
  if (texts.length > MAX_DISKS) throw new UserError(`--disk: ${MAX_DISKS} at most`);
  return texts.map(parseDisk);
}

/** Seconds since 1970 of a number of seconds or an ISO date, which is taken as UTC. */
export function parseRtc(text: string): number {
  const date = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?)?Z?$/.test(text)
    ? Date.parse(text.includes("T") && !text.endsWith("Z") ? `${text}Z` : text) / 1000
    : NaN;
  const seconds = /^\d{1,10}$/.test(text) ? Number(text) : date;
  if (!(seconds >= 0 && seconds < 2 ** 32)) {
    throw new UserError(`--rtc: a date as 2024-01-01T12:00:00 or seconds since 1970, not ${text}`);
  }
  return seconds;
}

/** `NAME=TEXT` of a file in fw_cfg. */
export function parseFwCfg(text: string): [name: string, text: string] {
  const at = text.indexOf("=");
  const name = text.slice(0, Math.max(0, at));
  if (!/^[!-~]{1,55}$/.test(name)) {
    throw new UserError(`--fw-cfg: NAME=TEXT with a name of up to 55 characters, not ${text}`);
  }
  return [name, text.slice(at + 1)];
}

/** The choices as the board wants them; `open` opens an image file. */
export function boardOptions(
  config: DeviceConfig,
  open: (path: string) => DiskImage,
): BoardOptions {
  const { disks, net, console, rtcEpoch, fwCfg } = config;
  return {
    disks: disks.map(({ path, readOnly }) => ({ image: open(path), readOnly })),
    net,
    console,
    files: fwCfg.map(([name, text]) => ({ name, bytes: new TextEncoder().encode(text) })),
    ...(rtcEpoch === undefined ? {} : { rtcEpoch }),
  };
}

/** What decides a run, as one line. */
export function describeDevices(config: DeviceConfig): string {
  return JSON.stringify(config);
}
