/** A helper of the main worker: makes its own objects of the machine, then runs its CPUs until the team ends. */
import { KernelPanic, UserError } from "../base/errors.ts";
import { SharedMemory } from "../base/memory.ts";
import { TEAM_ENDED } from "../arm/parallel/team.ts";
import { pause, TURN_MS } from "./event_loop.ts";
import type { Guest } from "./guest.ts";
import { makeGuest } from "./load.ts";
import type { FromHelper, MakeMessage, ToHelper } from "./parallel_protocol.ts";
import { TeamConsole } from "./team_console.ts";

/** The worker's global scope, of which only this is used. */
interface Scope {
  onmessage: ((event: MessageEvent<ToHelper>) => void) | null;
  postMessage(message: FromHelper): void;
}
const scope = globalThis as unknown as Scope;

async function make({ config, images, ...place }: MakeMessage): Promise<Guest> {
  const parts: { console?: TeamConsole } = {};
  const { guest } = await makeGuest(config, images, {
    transmit: (byte) => parts.console?.write(byte),
    report: (line) => scope.postMessage({ kind: "report", line }),
    team: {
      worker: place.worker,
      workers: config.threads ?? 1,
      timeOriginMs: place.timeOriginMs,
      ...(place.memory ? { memory: new SharedMemory(place.memory) } : {}),
    },
  });
  const { machine } = guest;
  const console = parts.console = new TeamConsole(machine);
  const stateHash = machine.stateHash();
  machine.leaveMemory();
  machine.beforeTurn = () => {
    guest.refresh?.();
    console.flush();
    if (guest.failure) throw new KernelPanic(guest.failure.message);
  };
  scope.postMessage({ kind: "made", memory: machine.memory.memory, stateHash });
  return guest;
}

async function run({ machine }: Guest): Promise<void> {
  const { team } = machine;
  if (!team) return;
  try {
    team.acquire();
    for (;;) {
      machine.help(performance.now() + TURN_MS);
      await pause(machine, 0);
    }
  } catch (error) {
    if (error === TEAM_ENDED) return;
    if (!team.lock.held) team.lock.take();
    team.fail(error);
    team.release();
  }
}

let made: Guest | undefined;
scope.onmessage = async ({ data }): Promise<void> => {
  if (data.kind === "go") {
    if (made) await run(made);
    return;
  }
  try {
    made = await make(data);
  } catch (error) {
    const message = error instanceof Error ? error.stack ?? error.message : String(error);
    const userError = error instanceof UserError;
    scope.postMessage({
      kind: "failed",
      userError,
      message: userError ? error.message : message,
    });
  }
};
