/** Files that the user names: each problem is one UserError. */
import { UserError } from "../base/errors.ts";
import type { Images, NamedBytes } from "./load.ts";
import type { DiskImage } from "./virtio/disk.ts";

const FLAGS = { read: "--allow-read", write: "--allow-write" } as const;

function explain(error: unknown, path: string, access: "read" | "write"): UserError {
  if (error instanceof Deno.errors.NotCapable) {
    return new UserError(`${path}: Deno may not ${access} it; add ${FLAGS[access]}=${path}`);
  }
  if (error instanceof Deno.errors.NotFound) return new UserError(`${path}: no such file`);
  return new UserError(`${path}: ${error instanceof Error ? error.message : error}`);
}

/** The bytes of a file. */
export function readBytes(path: string): Uint8Array {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    throw explain(error, path, "read");
  }
}

export function readText(path: string): string {
  return new TextDecoder().decode(readBytes(path));
}

/** UserError unless the files, where named, may be written: to be known before a run, not after it. */
export function requireWritable(...paths: readonly (string | undefined)[]): void {
  for (const path of paths) {
    if (path === undefined || path === "-") continue;
    if (Deno.permissions.querySync({ name: "write", path }).state === "granted") continue;
    throw new UserError(`${path}: Deno may not write it; add ${FLAGS.write}=${path}`);
  }
}

/** Writes a file, or standard output for "-". */
export function writeText(path: string, text: string): void {
  if (path === "-") return console.log(text.trimEnd());
  try {
    Deno.writeTextFileSync(path, text);
  } catch (error) {
    throw explain(error, path, "write");
  }
}

/** Adds to a file. */
export function appendText(path: string, text: string): void {
  try {
    Deno.writeTextFileSync(path, text, { append: true });
  } catch (error) {
    throw explain(error, path, "write");
  }
}

/** Makes the directory. UserError where there is something in it already, or something else of its name. */
export function requireEmptyDirectory(path: string): void {
  try {
    Deno.mkdirSync(path, { recursive: true });
  } catch (error) {
    throw explain(error, path, "write");
  }
  try {
    if ([...Deno.readDirSync(path)].length === 0) return;
  } catch (error) {
    throw explain(error, path, "read");
  }
  throw new UserError(`${path}: there is something in it already`);
}

/**
 * Opens a disk image. The file is read as the guest reads its disk, and must not change meanwhile; it is
 * never written.
 */
export function openDisk(path: string): DiskImage {
  try {
    const file = Deno.openSync(path, { read: true });
    const { size, isFile } = file.statSync();
    if (!isFile || size === 0) throw new UserError(`${path}: no disk image, or an empty one`);
    return { size, read: (offset, into) => readAt(file, path, offset, into) };
  } catch (error) {
    throw error instanceof UserError ? error : explain(error, path, "read");
  }
}

function readAt(file: Deno.FsFile, path: string, offset: number, into: Uint8Array): void {
  try {
    file.seekSync(offset, Deno.SeekMode.Start);
    let done = 0;
    while (done < into.length) {
      const count = file.readSync(into.subarray(done));
      if (count === null || count === 0) break;
      done += count;
    }
    into.fill(0, done);
  } catch (error) {
    throw explain(error, path, "read");
  }
}

function named(path: string | undefined): NamedBytes | undefined {
  return path === undefined ? undefined : { name: path, bytes: readBytes(path) };
}

/** Reads the images that were named. */
export function readImages(paths: {
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
  readonly dtb: string | undefined;
}): Images {
  return { kernel: named(paths.kernel), initrd: named(paths.initrd), dtb: named(paths.dtb) };
}
