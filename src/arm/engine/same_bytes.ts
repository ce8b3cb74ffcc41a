/**
 * Whether code is what it was when it was decoded, 64 bytes at a time: after an instruction cache is invalidated
 * each page is compared before it is used again, and KVM invalidates it whenever another vCPU comes to a CPU.
 */
import { FunctionBody, I32, V128 } from "./wasm_assembler.ts";

/** Bytes of one turn: an instruction cache line. */
export const SAME_BYTES_STEP = 64;

/** `(a, b, bytes) -> i32`: 1 where as many bytes, a positive multiple of {@link SAME_BYTES_STEP}, are the same at both addresses. */
export type SameBytes = (a: number, b: number, bytes: number) => number;

/** The function. */
export function sameBytes(): FunctionBody {
  const f = new FunctionBody([I32, I32, I32], [I32]);
  const [a, b, bytes, differ] = [0, 1, 2, f.local(V128)] as const;
  f.loop("more");
  for (let offset = 0; offset < SAME_BYTES_STEP; offset += 16) {
    f.get(a).vectorMem("load", offset).get(b).vectorMem("load", offset).vector("v128.xor");
    f.get(differ).vector("v128.or").set(differ);
  }
  f.get(a).i32(SAME_BYTES_STEP).op("i32.add").set(a);
  f.get(b).i32(SAME_BYTES_STEP).op("i32.add").set(b);
  f.get(bytes).i32(SAME_BYTES_STEP).op("i32.sub").tee(bytes).brIf("more");
  f.end();
  return f.get(differ).vector("v128.any_true").op("i32.eqz");
}
