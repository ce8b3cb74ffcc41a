/** A helper that makes its machine, and is lost when it should run it. */
import "../../src/vmm/parallel_worker.ts";
import type { ToHelper } from "../../src/vmm/parallel_protocol.ts";

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<ToHelper>) => void;
};
const obey = scope.onmessage;
scope.onmessage = (event): void => {
  if (event.data.kind === "go") throw new Error("lost");
  obey(event);
};
