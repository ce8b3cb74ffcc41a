/** What must never stand in a Linux guest's log. */
import assert from "node:assert/strict";

/** Lines by which Linux, or our own init, says that something is wrong. */
const WRONG = [
  /unimplemented/i,
  /\bWARNING\b/,
  /\bBUG\b/,
  /\bOops\b/,
  /Call trace/,
  /Kernel panic/,
  /rcu.*stall/i,
  /self-detected stall/,
  /lockup/i,
  /clocksource:.*(unstable|skew|watchdog.*failed)/i,
  /Bad mode in/,
  /nobody cared/,
  /Unable to handle kernel/,
  /segfault|unhandled (signal|level)/i,
  /FAILED/,
];

/** The lines of `log` that say that something is wrong. */
export function wrongLines(log: string): string[] {
  return log.split(/\r?\n/).filter((line) => WRONG.some((pattern) => pattern.test(line)));
}

/** Fails with the lines that say that something is wrong, if there are any. */
export function assertCleanLog(log: string): void {
  assert.deepEqual(wrongLines(log), []);
}
