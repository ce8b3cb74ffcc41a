/** From files' bytes and a configuration to a guest that is ready to run. */
import { BareMachine } from "./bare.ts";
import { type AddressRange, planBoot } from "./boot_plan.ts";
import { boardOptions, NO_DEVICES } from "./device_options.ts";
import { openDisk } from "./files.ts";
import type { Guest } from "./guest.ts";
import { loadImage } from "./image.ts";
import { KvmGuest } from "./kvm_guest.ts";
import type { MachineConfig } from "./options.ts";
import { completeDtb } from "./user_dtb.ts";
import { buildVirtDtb } from "./virt_dtb.ts";
import { VIRT_MAP } from "./virt_map.ts";
import builtin from "../../fixtures/guests/smp.bin" with { type: "bytes" };
import builtinSymbols from "../../fixtures/guests/smp.sym" with { type: "text" };

/** The built-in guest's symbols, as `nm` lists them. */
export const BUILTIN_SYMBOLS: string = builtinSymbols;

/** A file's name, for messages, and what is in it. */
export interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** The built-in guest. */
export const BUILTIN: NamedBytes = { name: "built-in guest", bytes: builtin };

/** The images of a run; the built-in guest when there is no kernel. */
export interface Images {
  readonly kernel: NamedBytes | undefined;
  readonly initrd: NamedBytes | undefined;
  readonly dtb?: NamedBytes | undefined;
}

type DtbOf = (initrd: AddressRange | undefined) => Uint8Array;

/** The machine's own device tree, or the user's with what this run knows. */
function dtbOf(config: MachineConfig, own: Uint8Array | undefined): DtbOf {
  const ram = { base: VIRT_MAP.ram.base, size: config.memory };
  if (own !== undefined) {
    return (initrd) => completeDtb(own, { ram, bootargs: config.append, initrd });
  }
  return (initrd) =>
    buildVirtDtb({
      vcpus: config.bareEl === 0 ? config.vcpus : config.pcpus,
      ramSize: config.memory,
      bootargs: config.append,
      psciMethod: config.bareEl === 2 ? "smc" : "hvc",
      el2: config.bareEl === 2,
      gic: config.gic,
      ...(initrd ? { initrd } : {}),
      ...(config.kaslrSeed === undefined ? {} : { seed: config.kaslrSeed }),
    });
}

/** Makes the machine and loads the images; UserError for images that do not fit. `transmit` gets the console's bytes, `report` what a guest did wrong to a device. */
export async function loadGuest(
  config: MachineConfig,
  images: Images,
  transmit: (byte: number) => void,
  report: (line: string) => void = () => {},
): Promise<Guest> {
  const { name, bytes } = images.kernel ?? BUILTIN;
  const kernel = await loadImage(bytes, { label: name, maxBytes: config.memory });
  const plan = planBoot({
    kernel,
    ...(images.initrd ? { initrd: images.initrd.bytes } : {}),
    dtb: dtbOf(config, images.dtb?.bytes),
    ram: { base: VIRT_MAP.ram.base, size: config.memory },
  });
  const { append, devices = NO_DEVICES } = config;
  const own = {
    transmit,
    report,
    append,
    board: boardOptions(devices, openDisk),
    ...(config.regions === undefined ? {} : { regions: config.regions }),
  };
  if (config.bareEl === 0) {
    const { vcpus, pcpus, memory, lrs, gic, shuffle, mode, cpu } = config;
    const guest = new KvmGuest({ vcpus, pcpus, memory, lrs, gic, shuffle, mode, cpu, ...own });
    guest.boot(plan);
    return guest;
  }
  const guest = new BareMachine({
    pcpus: config.pcpus,
    ramSize: config.memory,
    lrs: config.lrs,
    cpu: config.cpu,
    gic: config.gic,
    el: config.bareEl,
    ...own,
  });
  guest.boot(plan);
  return guest;
}
