/** The SMP guest under KVM, booted and ready to run, for tests that look at the machine around it. */
import { loadGuest } from "../../src/vmm/load.ts";
import type { RegionOptions } from "../../src/arm/engine/regions.ts";
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";

const MIB = 1 << 20;

export interface SmpOptions {
  readonly vcpus?: number;
  readonly pcpus?: number;
  readonly lrs?: number;
  readonly gic?: 2 | 3;
  readonly mode?: "vhe" | "nvhe";
  readonly shuffle?: number;
  readonly append?: string;
  readonly regions?: Partial<RegionOptions>;
}

/** A booted guest, and what it has printed. */
export async function smpGuest(
  options: SmpOptions,
): Promise<{ guest: KvmGuest; text: () => string }> {
  const { vcpus = 4, pcpus = 4, lrs = 4, shuffle = 0, append = "" } = options;
  const { gic = 3, mode = "vhe", regions } = options;
  let text = "";
  const config = {
    vcpus,
    pcpus,
    memory: 32 * MIB,
    lrs,
    cpu: "v8.0",
    gic,
    mode,
    clock: "fast",
    forNs: Infinity,
    append,
    bareEl: 0,
    shuffle,
    ...(regions === undefined ? {} : { regions }),
  } as const;
  const guest = await loadGuest(config, { kernel: undefined, initrd: undefined }, (byte) => {
    text += String.fromCharCode(byte);
  });
  if (!(guest instanceof KvmGuest)) throw new Error("not under KVM");
  return { guest, text: () => text };
}
