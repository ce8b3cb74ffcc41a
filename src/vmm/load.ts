/** From files' bytes and a configuration to a guest that is ready to run. */
import type { TeamOptions } from "../arm/parallel/team_machine.ts";
import { type AddressRange, planBoot } from "./boot_plan.ts";
import { boardOptions, NO_DEVICES } from "./device_options.ts";
import { openDisk } from "./files.ts";
import type { Guest } from "./guest.ts";
import { loadImage } from "./image.ts";
import { KvmGuest } from "./kvm_guest.ts";
import type { MachineConfig } from "./options.ts";
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
async function dtbOf(config: MachineConfig, own: Uint8Array | undefined): Promise<DtbOf> {
  const ram = { base: VIRT_MAP.ram.base, size: config.memory };
  if (own !== undefined) {
    const { completeDtb } = await import("./user_dtb.ts");
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

/** A guest whose machine is made, before its images are in memory. */
export interface MadeGuest {
  readonly guest: Guest;
  boot(): void;
}

/** What a guest's surroundings give it: `transmit` gets the console's bytes, `report` what it did wrong to a device. */
export interface GuestWires {
  readonly transmit: (byte: number) => void;
  readonly report: (line: string) => void;
  /** CPUs in parallel: the worker that this is. */
  readonly team?: TeamOptions;
}

/** Makes the machine; UserError for images that do not fit. */
export async function makeGuest(
  config: MachineConfig,
  images: Images,
  wires: GuestWires,
): Promise<MadeGuest> {
  const { name, bytes } = images.kernel ?? BUILTIN;
  const kernel = await loadImage(bytes, { label: name, maxBytes: config.memory });
  const plan = planBoot({
    kernel,
    ...(images.initrd ? { initrd: images.initrd.bytes } : {}),
    dtb: await dtbOf(config, images.dtb?.bytes),
    ram: { base: VIRT_MAP.ram.base, size: config.memory },
  });
  const { append, devices = NO_DEVICES, pcpus, lrs, cpu, gic } = config;
  const own = {
    ...{ append, pcpus, lrs, cpu, gic },
    ...wires,
    board: boardOptions(devices, openDisk),
    ...(config.regions === undefined ? {} : { regions: config.regions }),
  };
  const { vcpus, memory, shuffle, mode, bareEl: el } = config;
  const guest = el === 0
    ? new KvmGuest({ ...own, vcpus, memory, shuffle, mode })
    : new (await import("./bare.ts")).BareMachine({ ...own, ramSize: memory, el });
  return { guest, boot: () => guest.boot(plan) };
}

/** Makes the machine, loads the images and starts: in as many workers as the configuration says. */
export async function loadGuest(
  config: MachineConfig,
  images: Images,
  transmit: (byte: number) => void,
  report: (line: string) => void = () => {},
): Promise<Guest> {
  if ((config.threads ?? 1) > 1) {
    const { loadInTeam } = await import("./parallel_start.ts");
    return await loadInTeam(config, images, { transmit, report });
  }
  const { guest, boot } = await makeGuest(config, images, { transmit, report });
  boot();
  return guest;
}
