/**
 * The workers that run one machine's CPUs together: how they take turns at its TypeScript, tell each
 * other of changes, and know that a change has been seen.
 *
 * A worker is OUT (executing TypeScript under the machine lock, waiting for it, or idle) or IN generated
 * code. It goes IN only while it holds the lock, so whoever holds the lock and has found all others OUT
 * has stopped them all. Translations and code that generated code keeps in locals end when it is left:
 * what another CPU's TLB or predecoded code has lost is forgotten once its worker has been OUT.
 */
import { InternalError, KernelPanic } from "../../base/errors.ts";
import type { Arena } from "../../base/arena.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { array, layout, space, u32, u53, type ViewOf } from "../../base/struct.ts";
import { MachineLock } from "./machine_lock.ts";

/** Workers of a machine, at most: there is no use for more than CPUs. */
export const MAX_WORKERS = 16;
/** Messages to a worker that has not looked yet; with more it drops all its code. */
const MESSAGES = 128;
/** Bytes of text of what went wrong. */
const TEXT_BYTES = 4096;
/** No deadline, as it is stored. */
const NEVER = 2 ** 53 - 1;
/** Longest sleep without a look, in ms, of one who waits for another worker or its CPUs' deadline. */
const LOOK_MS = 1000;
/** As many of them at a worker in generated code, whose turns take far less: then it is gone. */
const LOOKS = 60;

/** What is one for all workers. `observe` state: it says who works, not what the machine is. */
const TeamLayout = layout("team", {
  lock: space(64, "observe"),
  /** Not 0: only the main worker goes on. */
  frozen: u32("observe"),
  /** Not 0: all are to end. */
  stopping: u32("observe"),
  /** {@link FAILED}; `text` says why. */
  failed: u32("observe"),
  textBytes: u32("observe"),
  text: array("u8", TEXT_BYTES, "observe"),
});

const FAILED = { NO: 0, PANIC: 1, BROKEN: 2 } as const;

/** One worker, on cache lines of its own. */
const MemberLayout = layout("team_member", {
  /** Odd while it is IN generated code. */
  turn: u32("observe"),
  /** Not 0: somebody wants to know when `turn` changes. */
  awaited: u32("observe"),
  /** Counts what it is to look at: lines of its CPUs that changed, and the like. */
  bell: u32("observe"),
  /** Not 0 while it sleeps; the bell as it has seen it, and the moment of its next deadline then. */
  idle: u32("observe"),
  bellSeen: u32("observe"),
  idleUntilNs: u53("observe"),
  /** Messages: how many there are, or more than fit. */
  messages: u32("observe"),
  /** How often another worker had to wait until this one had left generated code. */
  waits: u53("observe"),
  ring: array("u53", MESSAGES, "observe"),
});

/** What a worker is told about code: bytes of RAM, by offset in the memory and length, that changed; length 0: any. */
export type CodeMessage = (at: number, length: number) => void;

/** Thrown where a worker of a team that ends would go on. */
export const TEAM_ENDED: unique symbol = Symbol("the team has ended");

/** Which of how many workers one is; 0 is the main one. */
export interface TeamPlace {
  readonly worker: number;
  readonly workers: number;
}

/** One worker's side of the team. */
export class Team {
  readonly lock: MachineLock;
  readonly worker: number;
  readonly workers: number;
  /** Called when the lock has been taken again and the bell has rung meanwhile. */
  onBell: () => void = () => {};
  onMessage: CodeMessage = () => {};
  readonly #shared: ViewOf<typeof TeamLayout>;
  readonly #members: ViewOf<typeof MemberLayout>[] = [];
  readonly #words: Int32Array;
  readonly #frozen: number;
  readonly #stopping: number;
  /** Word numbers of each worker's `turn`, `awaited` and `bell`. */
  readonly #turn: number[] = [];
  readonly #awaited: number[] = [];
  readonly #bell: number[] = [];
  /** Turns of others that must be over before maintenance of this worker's CPUs is complete; -1: none. */
  readonly #pending: number[];
  #bellSeen = 0;

  constructor(readonly memory: SharedMemory, arena: Arena, place: TeamPlace) {
    this.worker = place.worker;
    this.workers = place.workers;
    this.#words = memory.i32;
    this.#shared = arena.make(TeamLayout);
    this.lock = new MachineLock(memory, this.#shared.lock);
    const word = (name: "frozen" | "stopping") =>
      (this.#shared.base + TeamLayout.offset[name]) >>> 2;
    this.#frozen = word("frozen");
    this.#stopping = word("stopping");
    for (let i = 0; i < place.workers; i++) {
      arena.reserve(64, 64);
      const member = arena.make(MemberLayout);
      this.#members.push(member);
      const at = (name: "turn" | "awaited" | "bell") =>
        (member.base + MemberLayout.offset[name]) >>> 2;
      this.#turn.push(at("turn"));
      this.#awaited.push(at("awaited"));
      this.#bell.push(at("bell"));
    }
    this.#pending = new Array<number>(place.workers).fill(-1);
  }

  #member(worker: number): ViewOf<typeof MemberLayout> {
    return this.#members[worker] as ViewOf<typeof MemberLayout>;
  }

  get isMain(): boolean {
    return this.worker === 0;
  }

  /** The worker that CPU `cpu` belongs to. */
  workerOf(cpu: number): number {
    return cpu % this.workers;
  }

  // The lock, and generated code

  /** Takes the lock and what has arrived meanwhile. Throws {@link TEAM_ENDED} where a helper is not to go on. */
  acquire(): void {
    const { lock } = this;
    lock.take();
    if (!this.isMain) this.#mayGoOn();
    this.#takeMessages();
    const bell = Atomics.load(this.#words, this.#bell[this.worker] as number);
    if (bell === this.#bellSeen) return;
    this.#bellSeen = bell;
    this.onBell();
  }

  #mayGoOn(): void {
    while (Atomics.load(this.#words, this.#frozen) !== 0) {
      this.lock.drop();
      if (Atomics.load(this.#words, this.#stopping) !== 0) throw TEAM_ENDED;
      Atomics.wait(this.#words, this.#frozen, 1, LOOK_MS);
      this.lock.take();
    }
    if (Atomics.load(this.#words, this.#stopping) === 0) return;
    this.lock.drop();
    throw TEAM_ENDED;
  }

  /** Drops the lock outside generated code: nothing of the machine is touched until {@link acquire}. */
  release(): void {
    this.lock.drop();
  }

  /** From TypeScript into generated code. */
  goIn(): void {
    Atomics.add(this.#words, this.#turn[this.worker] as number, 1);
    this.lock.drop();
  }

  /** And back. */
  comeOut(): void {
    this.#sayOut();
    this.acquire();
  }

  #sayOut(): void {
    const words = this.#words;
    const turn = this.#turn[this.worker] as number, awaited = this.#awaited[this.worker] as number;
    Atomics.add(words, turn, 1);
    if (Atomics.load(words, awaited) === 0) return;
    Atomics.store(words, awaited, 0);
    Atomics.notify(words, turn);
  }

  // Changes that others must have seen

  /** Maintenance that reaches all CPUs has been done: whether some of them may not have seen it yet. */
  noteMaintenance(): boolean {
    let pending = false;
    for (let i = 0; i < this.workers; i++) {
      if (i === this.worker) continue;
      const turn = Atomics.load(this.#words, this.#turn[i] as number);
      if ((turn & 1) === 0) continue;
      this.#pending[i] = turn;
      pending = true;
    }
    return pending;
  }

  /** Under the lock: waits until every other worker has been OUT since the last {@link noteMaintenance}. `release`: may others have the lock meanwhile? */
  awaitMaintenance(release: boolean): void {
    let dropped = false;
    for (let i = 0; i < this.workers; i++) {
      const turn = this.#pending[i] as number;
      this.#pending[i] = -1;
      if (turn < 0 || Atomics.load(this.#words, this.#turn[i] as number) !== turn) continue;
      if (!dropped) this.#member(i).waits++;
      if (release && !dropped) this.lock.drop();
      dropped ||= release;
      this.#awaitTurn(i, turn);
    }
    if (dropped) this.acquire();
  }

  #awaitTurn(worker: number, turn: number): void {
    const words = this.#words;
    const at = this.#turn[worker] as number, awaited = this.#awaited[worker] as number;
    for (let looks = 0; looks < LOOKS; looks++) {
      Atomics.store(words, awaited, 1);
      if (Atomics.load(words, at) !== turn) return;
      Atomics.wait(words, at, turn, LOOK_MS);
    }
    throw new InternalError(`worker ${worker} does not leave generated code`);
  }

  /** Tells all others, under the lock, that `length` bytes of RAM at `at` of the memory may be new code; 0: any. */
  sendCode(at: number, length: number): void {
    for (let i = 0; i < this.workers; i++) if (i !== this.worker) this.#send(i, at, length);
  }

  #send(worker: number, at: number, length: number): void {
    const member = this.#member(worker);
    const n = member.messages;
    if (
      n >= MESSAGES || (n > 0 && length > 0 && this.#joined(member.ring + 8 * (n - 1), at, length))
    ) {
      return;
    }
    // The last place says that the code has changed anywhere.
    const whole = n === MESSAGES - 1;
    this.memory.st32(member.ring + 8 * n, whole ? 0 : at);
    this.memory.st32(member.ring + 8 * n + 4, whole ? 0 : length);
    member.messages = n + 1;
  }

  /** Whether the message at address `last` now has these bytes too: maintenance goes line by line through whole pages. */
  #joined(last: number, at: number, length: number): boolean {
    const { memory } = this;
    const bytes = memory.ld32(last + 4);
    if (bytes === 0 || memory.ld32(last) + bytes !== at) return false;
    memory.st32(last + 4, bytes + length);
    return true;
  }

  #takeMessages(): void {
    const member = this.#member(this.worker);
    const count = member.messages;
    if (count === 0) return;
    member.messages = 0;
    for (let n = 0; n < count; n++) {
      const at = member.ring + 8 * n;
      this.onMessage(this.memory.ld32(at), this.memory.ld32(at + 4));
    }
  }

  // Bells and sleep

  /** Under the lock: `worker` has something to look at. */
  ring(worker: number): void {
    const at = this.#bell[worker] as number;
    Atomics.add(this.#words, at, 1);
    if (this.#member(worker).idle !== 0) Atomics.notify(this.#words, at);
  }

  ringAll(): void {
    for (let i = 0; i < this.workers; i++) if (i !== this.worker) this.ring(i);
  }

  /** Gives the lock up until the bell rings or `ms` have passed. `untilNs`: this worker's next deadline, Infinity for none. */
  sleep(ms: number, untilNs: number): void {
    const member = this.#member(this.worker);
    const seen = this.#bellSeen;
    member.idleUntilNs = Math.min(untilNs, NEVER);
    member.bellSeen = seen;
    member.idle = 1;
    this.lock.drop();
    const longest = Math.min(ms, LOOK_MS);
    if (longest > 0) {
      Atomics.wait(this.#words, this.#bell[this.worker] as number, seen, longest);
    }
    // Nobody looks at it but under the lock, which is taken now.
    this.acquire();
    member.idle = 0;
  }

  /** Under the lock: whether no other worker will ever do anything of itself. */
  get othersStalled(): boolean {
    return this.#members.every((member, i) =>
      i === this.worker ||
      (member.idle !== 0 && member.idleUntilNs === NEVER && member.messages === 0 &&
        member.bellSeen === Atomics.load(this.#words, this.#bell[i] as number) >>> 0)
    );
  }

  // All stopped, all ended

  /** Main worker, under the lock: when it returns, all others are OUT and stay there until {@link thaw}. */
  freeze(): void {
    Atomics.store(this.#words, this.#frozen, 1);
    for (let i = 1; i < this.workers; i++) {
      const turn = Atomics.load(this.#words, this.#turn[i] as number);
      if (turn & 1) this.#awaitTurn(i, turn);
    }
  }

  thaw(): void {
    Atomics.store(this.#words, this.#frozen, 0);
    Atomics.notify(this.#words, this.#frozen);
  }

  /** All helpers end as soon as they look. */
  stop(): void {
    Atomics.store(this.#words, this.#stopping, 1);
    Atomics.notify(this.#words, this.#frozen);
    for (let i = 0; i < this.workers; i++) {
      const at = this.#bell[i] as number;
      Atomics.add(this.#words, at, 1);
      Atomics.notify(this.#words, at);
    }
  }

  /** A helper cannot go on: the main worker gets to know why. */
  fail(error: unknown): void {
    const panic = error instanceof KernelPanic;
    const text = panic ? error.message : error instanceof Error ? error.stack : String(error);
    const bytes = new TextEncoder().encode(text ?? "").subarray(0, TEXT_BYTES);
    this.memory.u8.set(bytes, this.#shared.text);
    this.#shared.textBytes = bytes.length;
    this.#shared.failed = panic ? FAILED.PANIC : FAILED.BROKEN;
    this.ring(0);
  }

  /** Throws what a helper has failed with: a KernelPanic of the host kernel's, or an InternalError. */
  throwFailure(): void {
    const { failed, text, textBytes } = this.#shared;
    if (failed === FAILED.NO) return;
    const bytes = new Uint8Array(textBytes);
    bytes.set(this.memory.u8.subarray(text, text + textBytes));
    const message = new TextDecoder().decode(bytes);
    throw failed === FAILED.PANIC ? new KernelPanic(message) : new InternalError(message);
  }

  /** Times that another worker had to wait for `worker`'s leaving generated code. */
  waitsFor(worker: number): number {
    return this.#member(worker).waits;
  }
}
