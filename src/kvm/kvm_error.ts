/** A failed call of user space, as an exception. */
import { ERRNO } from "./kvm_host.ts";

/** A failed call: `errno` is negative, as in the kernel. */
export class KvmError extends Error {
  override readonly name = "KvmError";
  constructor(readonly call: string, readonly errno: number) {
    const name = Object.entries(ERRNO).find(([, value]) => value === errno)?.[0];
    super(`${call}: ${name ?? `error ${errno}`}`);
  }
}

/** Throws what a negative result of `call` means. */
export function check(call: string, result: number): void {
  if (result < 0) throw new KvmError(call, result);
}
