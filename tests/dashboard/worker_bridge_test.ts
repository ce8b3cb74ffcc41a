/** A worker that breaks is seen and said; the bridge stays usable. */
import assert from "node:assert/strict";
import { InternalError, UserError } from "../../src/base/errors.ts";
import { WorkerBridge } from "../../src/dashboard/worker_bridge.ts";
import { GuestSymbols } from "../../src/vmm/guest_symbols.ts";
import type { StartMessage } from "../../src/vmm/worker_protocol.ts";

const READY = `
const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
const places = { commands: 64, consoleOut: 1 << 16, consoleIn: 1 << 20, frames: 1 << 21,
  trace: { head: 32, records: 3 << 20 } };
self.postMessage({ kind: "ready", memory, places });
`;

/** A worker that runs `body` when it is told to start. */
function worker(body: string): URL {
  const script = `self.onmessage = () => { ${body} };`;
  return new URL(`data:application/javascript,${encodeURIComponent(script)}`);
}

const message = {} as StartMessage;
const start = (body: string) => WorkerBridge.start(message, GuestSymbols.EMPTY, worker(body));

async function ended(bridge: WorkerBridge): Promise<string> {
  for (let i = 0; i < 500; i++) {
    const reason = bridge.ended();
    if (reason !== undefined) return reason;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("the bridge never says that the machine has ended");
}

Deno.test("a machine that breaks while it runs: what broke is said, and nothing throws", async () => {
  const failed = `{ kind: "failed", userError: false, message: "broke", stack: "broke at x" }`;
  const bridge = await start(`${READY} setTimeout(() => self.postMessage(${failed}), 20);`);
  assert.equal(await ended(bridge), "broke at x");
  assert.equal(bridge.failure, "broke at x");
  assert.equal(bridge.frame(), undefined);
  assert.equal(bridge.consoleOut().length, 0);
  assert.equal(await bridge.quit(), undefined);
});

Deno.test("a worker that dies of an uncaught error ends the machine, not the program", async () => {
  const bridge = await start(`${READY} setTimeout(() => { throw new Error("crash"); }, 20);`);
  assert.match(await ended(bridge), /crash/);
  assert.equal(await bridge.quit(), undefined);
});

Deno.test("a machine that cannot start: a mistake is the user's, the rest ours", async () => {
  const say = (userError: boolean) =>
    `self.postMessage({ kind: "failed", userError: ${userError}, message: "bad", stack: "s" });`;
  await assert.rejects(start(say(true)), (e) => e instanceof UserError && e.message === "bad");
  await assert.rejects(start(say(false)), (e) => e instanceof InternalError);
});

Deno.test("a machine that ends by itself says why, and how", async () => {
  const end =
    `{ kind: "ended", code: 0, reason: "power off", recording: { inputs: [] }, stats: {} }`;
  const bridge = await start(`${READY} self.postMessage(${end});`);
  assert.equal(await ended(bridge), "power off");
  assert.equal((await bridge.quit())?.code, 0);
});
