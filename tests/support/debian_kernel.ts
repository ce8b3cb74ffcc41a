/** Debian's arm64 kernel and its installer's initial RAM disk, where their package puts them. */

/** From the package debian-installer-12-netboot-arm64. */
const FOLDER = "/usr/lib/debian-installer/images/12/arm64/text/debian-installer/arm64";

function installed(name: string): Uint8Array<ArrayBuffer> | undefined {
  const path = `${FOLDER}/${name}`;
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The kernel's bytes, or undefined where it is not installed or may not be read. */
export function debianKernel(): Uint8Array<ArrayBuffer> | undefined {
  return installed("linux");
}

/** The initial RAM disk, compressed, or undefined where it is not installed or may not be read. */
export function debianInitrd(): Uint8Array<ArrayBuffer> | undefined {
  return installed("initrd.gz");
}
