/**
 * Writes initial RAM disks: cpio archives of the "newc" kind, as the Linux kernel unpacks them.
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst.
 */

/** S_IFDIR, S_IFREG, S_IFCHR of `mode`. */
export const FILE_TYPE = { directory: 0o040000, file: 0o100000, character: 0o020000 } as const;

/** One member of an archive. */
export interface CpioEntry {
  /** Without a leading slash; a directory comes before what is in it. */
  readonly path: string;
  /** File type and permissions. */
  readonly mode: number;
  readonly data?: Uint8Array;
  /** Device number of a character device. */
  readonly device?: { readonly major: number; readonly minor: number };
}

const TRAILER: CpioEntry = { path: "TRAILER!!!", mode: 0 };
const HEADER_SIZE = 110;
/** The kernel pads archives to this; so does everybody. */
const ARCHIVE_BLOCK = 512;

const padding = (size: number, to: number): number => (to - (size % to)) % to;

function header(entry: CpioEntry, number: number, nameBytes: number): string {
  const { mode, data, device } = entry;
  const links = entry === TRAILER || (mode & 0o170000) === FILE_TYPE.directory ? 2 : 1;
  // ino, mode, uid, gid, nlink, mtime, filesize, device, rdevice, namesize, check
  const fields = [
    number,
    mode,
    0,
    0,
    links,
    0,
    data?.length ?? 0,
    0,
    0,
    device?.major ?? 0,
    device?.minor ?? 0,
    nameBytes,
    0,
  ];
  return "070701" + fields.map((value) => value.toString(16).padStart(8, "0")).join("");
}

/** The archive of `entries`, in order, with owner root and time 0: the same entries give the same bytes. */
export function packCpio(entries: readonly CpioEntry[]): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const parts: Uint8Array[] = [];
  let size = 0;
  const push = (bytes: Uint8Array, align: number) => {
    parts.push(bytes, new Uint8Array(padding(size + bytes.length, align)));
    size += bytes.length + padding(size + bytes.length, align);
  };
  [...entries, TRAILER].forEach((entry, i) => {
    const name = encoder.encode(entry.path + "\0");
    const start = new Uint8Array(HEADER_SIZE + name.length);
    start.set(encoder.encode(header(entry, entry === TRAILER ? 0 : i + 1, name.length)));
    start.set(name, HEADER_SIZE);
    push(start, 4);
    push(entry.data ?? new Uint8Array(0), 4);
  });
  push(new Uint8Array(0), ARCHIVE_BLOCK);
  const out = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
