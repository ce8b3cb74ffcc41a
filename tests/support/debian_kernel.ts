/** Debian's arm64 kernel, where its package puts it. */

/** From the package debian-installer-12-netboot-arm64. */
const KERNEL = "/usr/lib/debian-installer/images/12/arm64/text/debian-installer/arm64/linux";

/** The kernel's bytes, or undefined where it is not installed or may not be read. */
export function debianKernel(): Uint8Array | undefined {
  if (Deno.permissions.querySync({ name: "read", path: KERNEL }).state !== "granted") {
    return undefined;
  }
  try {
    return Deno.readFileSync(KERNEL);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
