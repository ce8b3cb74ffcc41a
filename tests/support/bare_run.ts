/** Runs an image on the bare machine and collects its console. */
import { BareMachine } from "../../src/vmm/bare.ts";
import { planBoot } from "../../src/vmm/boot_plan.ts";
import { parseImage } from "../../src/vmm/image.ts";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";

export interface BareRunOptions {
  readonly el: 1 | 2;
  readonly pcpus?: number;
  readonly ramSize?: number;
  readonly lrs?: number;
  readonly gic?: 2 | 3;
  readonly bootargs?: string;
  readonly initrd?: Uint8Array;
  /** Instructions of a turn: short, so that a run ends near where it is told to. */
  readonly quantum?: number;
}

/** A bare machine with `image` loaded, and what it has printed so far. */
export class BareRun {
  readonly bare: BareMachine;
  readonly #output: number[] = [];

  constructor(image: Uint8Array, { el, pcpus = 1, ramSize = 128 << 20, ...rest }: BareRunOptions) {
    const { lrs, gic = 3, bootargs = "", initrd, quantum = 10_000 } = rest;
    this.bare = new BareMachine({
      pcpus,
      ramSize,
      gic,
      el,
      quantum,
      ...(lrs === undefined ? {} : { lrs }),
      transmit: (byte) => this.#output.push(byte),
    });
    this.bare.boot(planBoot({
      kernel: parseImage(image),
      ...(initrd === undefined ? {} : { initrd }),
      dtb: (range) =>
        buildVirtDtb({
          vcpus: pcpus,
          ramSize,
          gic,
          bootargs,
          psciMethod: el === 2 ? "smc" : "hvc",
          el2: el === 2,
          ...(range ? { initrd: range } : {}),
        }),
      ram: { base: 0x4000_0000, size: ramSize },
    }));
  }

  get output(): string {
    return new TextDecoder().decode(new Uint8Array(this.#output));
  }

  /** Runs until power off; throws when that does not come within `insns` instructions. */
  untilOff(insns: number): string {
    const reason = this.bare.machine.run(insns);
    if (reason !== "power") throw new Error(`no power off: ${reason} after ${insns} instructions`);
    return this.output;
  }
}
