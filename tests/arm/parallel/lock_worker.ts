/** One of two workers that take the machine lock by turns. */
import { SharedMemory } from "../../../src/base/memory.ts";
import { addUnderLock } from "./lock_counter.ts";

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<WebAssembly.Memory>) => void;
  postMessage: (message: string) => void;
};
scope.onmessage = ({ data }): void => {
  addUnderLock(new SharedMemory(data));
  scope.postMessage("done");
};
