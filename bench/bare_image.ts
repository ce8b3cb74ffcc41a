/** A benchmark image on the bare machine. */
import { planBoot } from "../src/vmm/boot_plan.ts";
import { BareMachine } from "../src/vmm/bare.ts";
import { parseImage } from "../src/vmm/image.ts";
import { buildVirtDtb } from "../src/vmm/virt_dtb.ts";

export const RAM_SIZE = 128 << 20;

/** A machine with `image` loaded, to be started at EL1. Console output goes to `transmit`. */
export function bootBare(image: Uint8Array, transmit: (byte: number) => void): BareMachine {
  const bare = new BareMachine({ pcpus: 1, ramSize: RAM_SIZE, el: 1, transmit });
  bare.boot(planBoot({
    kernel: parseImage(image),
    dtb: buildVirtDtb({ vcpus: 1, ramSize: RAM_SIZE, bootargs: "", psciMethod: "hvc", el2: false }),
    ram: { base: 0x4000_0000, size: RAM_SIZE },
  }));
  return bare;
}

/** Runs `image` until it powers off and returns its console output and the instructions it took. */
export function runBare(image: Uint8Array): { output: string; insns: number } {
  const bytes: number[] = [];
  const { machine } = bootBare(image, (byte) => bytes.push(byte));
  const reason = machine.run(1e12);
  if (reason !== "power") throw new Error(`the image did not power off: ${reason}`);
  return { output: new TextDecoder().decode(new Uint8Array(bytes)), insns: machine.insns };
}
