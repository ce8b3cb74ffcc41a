/**
 * What has passed through a port since somebody has looked last: all kinds of operations at once, by
 * WebAssembly with two kinds to a vector. Measuring each world switch kind by kind costs more than some
 * of the switches.
 */
import { assert } from "../base/errors.ts";
import { type SharedMemory, WASM_PAGE } from "../base/memory.ts";
import { FunctionBody, I32, V128 } from "./engine/wasm_assembler.ts";
import { ModuleAssembler } from "./engine/wasm_module.ts";
import { PORT_KINDS } from "./port_operations.ts";

/**
 * Adds what the counters at byte address `counters` (PORT_KINDS words of 64 bits) have counted since they
 * were copied to `base` to those at `totals`, and copies them to `base` anew. The result is the operations'
 * sum, each with its kind's weight.
 */
export type TakeOperations = (counters: number, base: number, totals: number) => number;

/** The function for kinds of these weights, in {@link PORT_KINDS}' order. */
export function compileTakeOperations(
  { memory }: SharedMemory,
  weights: readonly number[],
): TakeOperations {
  assert(PORT_KINDS.length % 2 === 0, "kinds are looked at in pairs");
  const body = new FunctionBody([I32, I32, I32], [I32]);
  const sum = body.local(V128), now = body.local(V128), done = body.local(V128);
  for (let k = 0; k < PORT_KINDS.length; k += 2) {
    const at = 8 * k;
    body.get(0).vectorMem("load", at).set(now);
    body.get(now).get(1).vectorMem("load", at).vector("i64x2.sub").set(done);
    body.get(1).get(now).vectorMem("store", at);
    body.get(2).get(2).vectorMem("load", at).get(done).vector("i64x2.add").vectorMem("store", at);
    const [low, high] = [weights[k] ?? 0, weights[k + 1] ?? 0];
    if (low === 0 && high === 0) continue;
    body.get(sum).get(done);
    if (low !== 1 || high !== 1) body.v128(BigInt(low), BigInt(high)).vector("i64x2.mul");
    body.vector("i64x2.add").set(sum);
  }
  body.get(sum).extractLane(64, 0).get(sum).extractLane(64, 1).op("i64.add").op("i32.wrap_i64");
  const module = new ModuleAssembler(memory.buffer.byteLength / WASM_PAGE);
  module.add(body, "take");
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), {
    env: { memory },
  });
  return exports["take"] as TakeOperations;
}
