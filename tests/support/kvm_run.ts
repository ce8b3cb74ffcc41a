/** Runs an image under KVM and collects its console. */
import { planBoot } from "../../src/vmm/boot_plan.ts";
import { parseImage } from "../../src/vmm/image.ts";
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";

export interface KvmRunOptions {
  readonly vcpus?: number;
  readonly pcpus?: number;
  readonly memory?: number;
  readonly lrs?: number;
  readonly shuffle?: number;
  readonly bootargs?: string;
}

/** A guest under KVM with `image` loaded, and what it has printed so far. */
export class KvmRun {
  readonly guest: KvmGuest;
  output = "";

  constructor(image: Uint8Array, options: KvmRunOptions = {}) {
    const { vcpus = 4, pcpus = 2, memory = 64 << 20, lrs = 4, shuffle = 0, bootargs = "" } =
      options;
    const transmit = (byte: number) => {
      this.output += String.fromCharCode(byte);
    };
    this.guest = new KvmGuest({ vcpus, pcpus, memory, lrs, shuffle, transmit });
    this.guest.boot(planBoot({
      kernel: parseImage(image),
      dtb: (initrd) =>
        buildVirtDtb({ vcpus, ramSize: memory, bootargs, ...(initrd ? { initrd } : {}) }),
      ram: { base: 0x4000_0000, size: memory },
    }));
  }

  /** Runs until the console has shown `text`; throws when it has not within `insns` instructions. */
  untilPrinted(text: string | RegExp, insns: number): void {
    const { machine } = this.guest;
    const end = machine.insns + insns;
    while (this.output.search(text) < 0) {
      const reason = machine.run(200_000);
      if (this.guest.failure) throw new Error(this.guest.failure.message);
      if (reason !== "budget" || machine.insns >= end) {
        throw new Error(`${text} not printed: ${reason}; last: ${this.output.slice(-300)}`);
      }
    }
  }

  /** Runs until power off and returns the console's text. */
  untilOff(insns: number): string {
    const reason = this.guest.machine.run(insns);
    if (reason !== "power") {
      throw new Error(`no power off: ${reason}; last: ${this.output.slice(-300)}`);
    }
    return this.output;
  }
}
