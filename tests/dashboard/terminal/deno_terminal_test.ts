import assert from "node:assert/strict";
import {
  canSuspend,
  denoTerminalIo,
  TERMINAL_VARIABLES,
} from "../../../src/dashboard/terminal/deno_terminal.ts";
import { colourDepth, type Environment } from "../../../src/dashboard/terminal/style.ts";

Deno.test("not suspendable under deno task, npm and npx", () => {
  const unix = Deno.build.os !== "windows";
  assert.equal(canSuspend({}), unix);
  assert.equal(canSuspend({ TERM: "xterm" }), unix);
  assert.equal(canSuspend({ INIT_CWD: "/" }), false);
  assert.equal(canSuspend({ npm_config_user_agent: "deno/2" }), false);
  assert.equal(denoTerminalIo(false).stopSelf(), false);
});

Deno.test("the listed variables are all that is looked at", () => {
  const read = new Set<string>();
  const env: Environment = new Proxy({}, {
    get(_, name) {
      read.add(String(name));
      return undefined;
    },
  });
  colourDepth(env);
  canSuspend(env);
  assert.deepEqual([...read].sort(), [...TERMINAL_VARIABLES].sort());
});

Deno.test("signals, a signal to ourselves, the size: no permission needed", async () => {
  const io = denoTerminalIo(true);
  let continued = 0;
  const heard = new Promise<void>((done) => {
    const remove = io.onSignal("SIGCONT", () => {
      continued++;
      remove();
      done();
    });
  });
  const removers = (["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGWINCH"] as const)
    .map((name) => io.onSignal(name, () => {}));
  const { columns, rows } = io.size();
  assert.ok(columns >= 0 && rows >= 0);
  // A signal listener alone does not keep the event loop alive.
  const awake = setInterval(() => {}, 1000);
  Deno.kill(Deno.pid, "SIGCONT");
  await heard;
  clearInterval(awake);
  assert.equal(continued, 1);
  for (const remove of removers) remove();
});

Deno.test("a handled error does not end the process, and its reason is handed on", () => {
  const io = denoTerminalIo(true);
  const reasons: unknown[] = [];
  const remove = io.onGlobal("error", (reason) => reasons.push(reason));
  const boom = new Error("boom");
  const event = new ErrorEvent("error", { error: boom, cancelable: true });
  globalThis.dispatchEvent(event);
  remove();
  assert.equal(event.defaultPrevented, true);
  assert.deepEqual(reasons, [boom]);
});

Deno.test("a timer can be taken back", async () => {
  const io = denoTerminalIo(true);
  let fired = "";
  const cancel = io.after(0, () => (fired += "cancelled"));
  cancel();
  await new Promise<void>((done) => io.after(1, done));
  assert.equal(fired, "");
});
