/** Runs an image under KVM and collects its console. */
import { planBoot } from "../../src/vmm/boot_plan.ts";
import { hexOfBytes } from "../../src/vmm/recording.ts";
import { parseImage } from "../../src/vmm/image.ts";
import { KvmGuest, type KvmGuestOptions } from "../../src/vmm/kvm_guest.ts";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";

export interface KvmRunOptions extends Pick<KvmGuestOptions, "mode"> {
  readonly vcpus?: number;
  readonly pcpus?: number;
  readonly memory?: number;
  readonly lrs?: number;
  readonly shuffle?: number;
  readonly bootargs?: string;
  readonly initrd?: Uint8Array;
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
    const { mode } = options;
    this.guest = new KvmGuest({
      vcpus,
      pcpus,
      memory,
      lrs,
      shuffle,
      transmit,
      ...(mode === undefined ? {} : { mode }),
    });
    this.guest.boot(planBoot({
      kernel: parseImage(image),
      ...(options.initrd === undefined ? {} : { initrd: options.initrd }),
      dtb: (initrd) =>
        buildVirtDtb({ vcpus, ramSize: memory, bootargs, ...(initrd ? { initrd } : {}) }),
      ram: { base: 0x4000_0000, size: memory },
    }));
  }

  /** Runs until the console has shown `text`; throws when it has not within `insns` instructions. */
  untilPrinted(text: string | RegExp, insns: number): void {
    this.untilPrintedAfter(0, text, insns);
  }

  /** The same for what the console shows behind its first `from` characters. */
  untilPrintedAfter(from: number, text: string | RegExp, insns: number): void {
    const { machine } = this.guest;
    const end = machine.insns + insns;
    while (this.output.slice(from).search(text) < 0) {
      const reason = machine.run(200_000);
      if (this.guest.failure) throw new Error(this.guest.failure.message);
      if (reason !== "budget" || machine.insns >= end) {
        throw new Error(`${text} not printed: ${reason}; last: ${this.output.slice(-300)}`);
      }
    }
  }

  /** Types `text` on the console as fast as the UART takes it. */
  type(text: string, insns: number): void {
    const bytes = new TextEncoder().encode(text);
    const { guest } = this;
    const end = guest.machine.insns + insns;
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + guest.consoleRoom);
      if (part.length > 0) guest.apply({ op: "consoleBytes", vm: 0, hex: hexOfBytes(part) });
      done += part.length;
      guest.machine.run(20_000, guest.machine.nowNs + 100_000);
      if (guest.machine.insns >= end) throw new Error(`the console takes no more of ${text}`);
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
