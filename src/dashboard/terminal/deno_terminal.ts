/**
 * The terminal of a Deno process. Needs no permission.
 *
 * Stopping on Ctrl-Z: a process may send itself SIGTSTP without `--allow-run` (Deno checks the permission only for
 * other processes), but nobody else, so a wrapper in the same process group goes on running. A shell then still waits
 * for the wrapper and the user sits before a dead terminal: `deno task`, npm and npx are such wrappers, and
 * `canSuspend` says so. SIGTSTP keeps its default action on purpose: with no job control above us the system ignores
 * it, where SIGSTOP would stop us for ever.
 */

import type { GlobalEventName, SignalName, TerminalIo } from "./lifecycle.ts";
import type { Environment } from "./style.ts";

/** The variables that `canSuspend` and `colourDepth` look at, for an `--allow-env` list. */
export const TERMINAL_VARIABLES: readonly string[] = [
  "NO_COLOR",
  "COLORTERM",
  "TERM",
  "INIT_CWD",
  "npm_config_user_agent",
];

/** Whether stopping this process alone gives the user the shell back: not under `deno task`, npm or npx. */
export function canSuspend(env: Environment): boolean {
  return !env["INIT_CWD"] && !env["npm_config_user_agent"] && Deno.build.os !== "windows";
}

/** Whether both ends are a terminal, as the dashboard needs. */
export function isTerminal(): boolean {
  return Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
}

function onSignal(name: SignalName, handler: () => void): () => void {
  try {
    Deno.addSignalListener(name, handler);
  } catch {
    // Windows knows only a few of them.
    return () => {};
  }
  return () => Deno.removeSignalListener(name, handler);
}

function reasonOf(event: Event): unknown {
  if (event instanceof ErrorEvent) return event.error ?? event.message;
  return event instanceof PromiseRejectionEvent ? event.reason : undefined;
}

function onGlobal(name: GlobalEventName, handler: (reason: unknown) => void): () => void {
  const listener = (event: Event): void => {
    // The handler prints the error itself, after restoring the terminal.
    event.preventDefault();
    handler(reasonOf(event));
  };
  globalThis.addEventListener(name, listener);
  return () => globalThis.removeEventListener(name, listener);
}

function size(): { columns: number; rows: number } {
  try {
    return Deno.consoleSize();
  } catch {
    return { columns: 0, rows: 0 };
  }
}

function stopSelf(): boolean {
  try {
    Deno.kill(Deno.pid, "SIGTSTP");
    return true;
  } catch {
    return false;
  }
}

function after(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}

/** The process's own terminal. `suspendable` is what `canSuspend` said. */
export function denoTerminalIo(suspendable: boolean): TerminalIo {
  return {
    read: (into) => Deno.stdin.read(into),
    write: (bytes) => Deno.stdout.write(bytes),
    writeSync: (bytes) => Deno.stdout.writeSync(bytes),
    setRaw: (on) => Deno.stdin.setRaw(on),
    size,
    onSignal,
    onGlobal,
    stopSelf: () => suspendable && stopSelf(),
    after,
    waitSync(ms) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    },
    printError(text) {
      Deno.stderr.writeSync(new TextEncoder().encode(text));
    },
    exit: (code) => Deno.exit(code),
  };
}
