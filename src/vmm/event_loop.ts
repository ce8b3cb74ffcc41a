/**
 * Turns of the event loop for workers that run a machine all the time. V8 puts some things off to one: the code of
 * regions that were dropped is only given back then, and signals only come in.
 */
import type { Machine } from "../arm/machine.ts";

/** Between two such turns, in ms. */
export const TURN_MS = 1000;

/** Waits for `ms`, while other workers have the machine. */
export async function pause(machine: Machine, ms: number): Promise<void> {
  machine.release();
  await new Promise((resolve) => setTimeout(resolve, ms));
  machine.acquire();
}
