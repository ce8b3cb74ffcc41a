/**
 * Starts the workers of a machine whose CPUs run in parallel. Each makes all objects of the machine over the
 * one memory, one after the other and each time over memory that is all zero, so that all agree about
 * what lies where; the main worker does it last, and what it makes stays.
 */
import { InternalError, UserError } from "../base/errors.ts";
import { SharedMemory } from "../base/memory.ts";
import type { Guest } from "./guest.ts";
import { type GuestWires, type Images, makeGuest } from "./load.ts";
import type { MachineConfig } from "./options.ts";
import type { FromHelper, MadeMessage, ToHelper } from "./parallel_protocol.ts";
import { TeamConsole } from "./team_console.ts";

const WORKER = new URL("./parallel_worker.ts", import.meta.url);

/** A helper's worker. */
class Helper {
  readonly #worker: Worker;

  constructor(readonly report: (line: string) => void, module: URL) {
    this.#worker = new Worker(module, { type: "module" });
  }

  send(message: ToHelper): void {
    this.#worker.postMessage(message);
  }

  /** Its machine is made. */
  made(): Promise<MadeMessage> {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }: MessageEvent<FromHelper>): void => {
        if (data.kind === "made") resolve(data);
        else if (data.kind === "report") this.report(data.line);
        else reject(data.userError ? new UserError(data.message) : new InternalError(data.message));
      };
      this.#worker.onerror = (event): void => {
        event.preventDefault();
        reject(new InternalError(event.message));
      };
    });
  }

  /** From now on it tells what goes wrong by the team; what it could not tell so is told to `act`. */
  onLost(act: (why: string) => void): void {
    this.#worker.onerror = (event): void => {
      event.preventDefault();
      act(event.message);
    };
  }

  end(): void {
    this.#worker.terminate();
  }
}

async function makeHelpers(
  config: MachineConfig,
  images: Images,
  helpers: readonly Helper[],
): Promise<MadeMessage | undefined> {
  let last: MadeMessage | undefined;
  for (const [i, helper] of helpers.entries()) {
    const made = helper.made();
    const { timeOrigin: timeOriginMs } = performance;
    const memory = last?.memory;
    helper.send({ kind: "make", config, images, worker: i + 1, timeOriginMs, memory });
    last = await made;
  }
  return last;
}

/**
 * Makes the machine in all of its workers, loads the images and starts; this worker has the machine lock then.
 * `module`: what the helpers run.
 */
export async function loadInTeam(
  config: MachineConfig,
  images: Images,
  wires: GuestWires,
  module: URL = WORKER,
): Promise<Guest> {
  const workers = config.threads ?? 1;
  const helpers = Array.from({ length: workers - 1 }, () => new Helper(wires.report, module));
  const end = (): void => helpers.forEach((helper) => helper.end());
  try {
    const last = await makeHelpers(config, images, helpers);
    const guest = await makeMain(config, images, wires, last);
    guest.close = () => {
      const { team } = guest.machine;
      team?.stop();
      // Those who wait for the lock must get it to see that it is over.
      if (team?.lock.held) team.release();
      end();
    };
    for (const helper of helpers) {
      helper.onLost((why) => endTeam(guest, why));
      helper.send({ kind: "go" });
    }
    return guest;
  } catch (error) {
    end();
    throw error;
  }
}

/** A worker is gone: the next turn of the machine fails. */
function endTeam({ machine: { team } }: Guest, why: string): void {
  if (!team) return;
  const { lock } = team, held = lock.held;
  if (!held) lock.take();
  team.fail(new InternalError(why));
  if (!held) lock.drop();
}

async function makeMain(
  config: MachineConfig,
  images: Images,
  wires: GuestWires,
  last: MadeMessage | undefined,
): Promise<Guest> {
  const parts: { console?: TeamConsole } = {};
  const transmit = (byte: number): void => {
    // What others have said before this comes first.
    parts.console?.drain(wires.transmit);
    wires.transmit(byte);
  };
  const team = {
    worker: 0,
    workers: config.threads ?? 1,
    timeOriginMs: performance.timeOrigin,
    ...(last ? { memory: new SharedMemory(last.memory) } : {}),
  };
  const { guest, boot } = await makeGuest(config, images, { ...wires, transmit, team });
  const { machine } = guest;
  const console = parts.console = new TeamConsole(machine);
  if (last && last.stateHash !== machine.stateHash()) {
    throw new InternalError("the workers of the machine do not agree");
  }
  machine.beforeTurn = () => {
    guest.refresh?.();
    console.drain(wires.transmit);
  };
  machine.acquire();
  boot();
  machine.thaw();
  return guest;
}
