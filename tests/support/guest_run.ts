/** Runs a guest as the command line would, and collects its console. */
import { parseCommandLine } from "../../src/vmm/command_line.ts";
import type { Guest } from "../../src/vmm/guest.ts";
import type { RegionOptions } from "../../src/arm/engine/regions.ts";
import { loadGuest } from "../../src/vmm/load.ts";
import { hexOfBytes } from "../../src/vmm/recording.ts";

/** A guest, and what it has printed so far. */
export class GuestRun {
  output = "";
  #guest: Guest | undefined;

  private constructor() {}

  /** Starts `kernel` with the options of `deno task run`, files apart; `regions`: what is translated, and when. */
  static async start(
    kernel: Uint8Array,
    args: readonly string[],
    initrd?: Uint8Array,
    regions: Partial<RegionOptions> = {},
  ): Promise<GuestRun> {
    const invocation = await parseCommandLine(["run", ...args]);
    if ("text" in invocation) throw new Error(invocation.text);
    const run = new GuestRun();
    const named = (name: string, bytes: Uint8Array | undefined) => bytes && { name, bytes };
    const images = { kernel: named("kernel", kernel), initrd: named("initrd", initrd) };
    run.#guest = await loadGuest({ ...invocation.config, regions }, images, (byte) => {
      run.output += String.fromCharCode(byte);
    });
    return run;
  }

  get guest(): Guest {
    if (this.#guest === undefined) throw new Error("not started");
    return this.#guest;
  }

  #fail(why: string): never {
    throw new Error(`${why}; last: ${this.output.slice(-300)}`);
  }

  /** Runs a part; true when the guest has powered off. */
  #step(insns: number): boolean {
    const { guest } = this;
    const reason = guest.machine.run(insns);
    if (guest.failure) this.#fail(guest.failure.message);
    if (reason === "stalled") this.#fail("nothing can wake a CPU");
    return reason === "power";
  }

  /**
   * Runs until the console has shown `text` behind its first `from` characters; throws when it has not
   * within `insns` instructions.
   */
  untilPrinted(text: string | RegExp, insns: number, from = 0): void {
    const { machine } = this.guest;
    const end = machine.insns + insns;
    while (this.output.slice(from).search(text) < 0) {
      if (this.#step(200_000)) this.#fail(`power off before ${text}`);
      if (machine.insns >= end) this.#fail(`${text} not printed`);
    }
  }

  /** Types `text` on the console as fast as the UART takes it, within `insns` instructions. */
  type(text: string, insns: number): void {
    const bytes = new TextEncoder().encode(text);
    const { guest } = this;
    const end = guest.machine.insns + insns;
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + guest.consoleRoom);
      if (part.length > 0) guest.apply({ op: "consoleBytes", vm: 0, hex: hexOfBytes(part) });
      done += part.length;
      guest.machine.run(20_000, guest.machine.nowNs + 100_000);
      if (guest.machine.insns >= end) this.#fail(`the console takes no more of ${text}`);
    }
  }

  /** Runs until power off, within `insns` instructions, and returns the console's text. */
  untilOff(insns: number): string {
    const { machine } = this.guest;
    const end = machine.insns + insns;
    while (!this.#step(1_000_000)) if (machine.insns >= end) this.#fail("no power off");
    return this.output;
  }
}
