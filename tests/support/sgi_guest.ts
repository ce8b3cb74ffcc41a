/** A guest whose vCPUs send each other SGIs. */
import { CONFIG, H, op, type Operation } from "./unit_operations.ts";

const ENDLESS = 2 ** 40;

/** Scripts of two vCPUs that send each other an SGI whenever they get one; the second starts `ticks` before the first one. */
export function sgiScripts(ticks: number): readonly [readonly Operation[], readonly Operation[]] {
  const sgi = (to: number, intid: number) => (BigInt(intid) << 24n) | (1n << BigInt(to));
  const side = (me: number, intid: number, answer: bigint): Operation[] => [
    op.handler(H.EOI | H.NO_LOG),
    op.config(intid, 0x80, CONFIG.GROUP1 | CONFIG.ENABLE, me + 1),
    op.hook(0, intid, 0, answer, 16),
    op.unmask(),
  ];
  const wait = op.waitInterrupts(ENDLESS);
  return [
    [...side(0, 2, sgi(1, 1)), op.cpuOn(1), op.waitTicks(ticks), op.sgi(1, 1), wait],
    [...side(1, 1, sgi(0, 2)), wait],
  ];
}
