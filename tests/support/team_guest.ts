/**
 * Guests of two CPUs in two workers: a program for each, with translation tables and vectors, that meet
 * before and after. On the bare machine and under KVM alike, as they use only PSCI, RAM and the GIC.
 */
import assert from "node:assert/strict";
import type { RegionOptions } from "../../src/arm/engine/regions.ts";
import type { Guest } from "../../src/vmm/guest.ts";
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import { Asm, COND } from "./asm.ts";
import { GuestRun } from "./guest_run.ts";
import { PTE, SCTLR_ON } from "./tier_machine.ts";

/** Physical addresses, and virtual ones up to the end of the image. */
export const TEAM = {
  code: 0x4008_0000,
  vectors: 0x4009_0000,
  tables: 0x400a_0000,
  /** The table of the 2 MiB blocks from 0x4000_0000. */
  level2: 0x400a_1000,
  /** For tests: zeros at first. */
  data: 0x400b_0000,
  end: 0x4010_0000,
  /** Virtual address of 2 MiB in which nothing is mapped at first. */
  alias: 0x5000_0000,
} as const;
const PAGE = 4096;
const TABLE = { root: TEAM.tables, l2: TEAM.level2, low: TEAM.tables + 2 * PAGE } as const;
const ALIAS_TABLE = TEAM.tables + 3 * PAGE;
/** How often the CPUs have come to a meeting; ESR, ELR and FAR of an exception that nobody expects. */
const MET = TEAM.tables + 4 * PAGE, UNEXPECTED = MET + 64;
const DEVICE_BLOCK = 0x405n;

/** Physical address of the descriptor of the page at `va` in {@link TEAM.alias}. */
export function aliasEntry(va: number): number {
  return ALIAS_TABLE + 8 * ((va - TEAM.alias) / PAGE);
}

/** PSCI functions. */
export const PSCI = {
  CPU_OFF: 0x8400_0002,
  SYSTEM_RESET: 0x8400_0009,
  CPU_ON: 0xc400_0003,
  AFFINITY_INFO: 0xc400_0004,
} as const;

/** Instructions that {@link Asm} does not have: operands are register numbers. */
export const INSN = {
  ldadd: (s: number, t: number, n: number) => 0xf820_0000 | (s << 16) | (n << 5) | t,
  ldaddal: (s: number, t: number, n: number) => 0xf8e0_0000 | (s << 16) | (n << 5) | t,
  ldar: (t: number, n: number) => 0xc8df_fc00 | (n << 5) | t,
  ldapr: (t: number, n: number) => 0xf8bf_c000 | (n << 5) | t,
  stlr: (t: number, n: number) => 0xc89f_fc00 | (n << 5) | t,
  dmbIsh: 0xd503_3bbf,
  dmbIshLd: 0xd503_39bf,
  dmbIshSt: 0xd503_3abf,
  dsbIsh: 0xd503_3b9f,
  dsbIshSt: 0xd503_3a9f,
  tlbiVae1is: (t: number) => 0xd508_8320 | t,
  tlbiVmalle1is: 0xd508_831f,
  wfe: 0xd503_205f,
  sev: 0xd503_209f,
} as const;

let labels = 0;
/** A label that no other has. */
export function fresh(name: string): string {
  return `${name} ${labels++}`;
}

/** Emits `body` as a loop of `times` turns; Xn counts down. */
export function times(a: Asm, n: number, count: number, body: () => void): void {
  const again = fresh("again");
  a.mov(n, count).label(again);
  body();
  a.subs(n, n, 1).bCond(COND.NE, again);
}

/** Waits until the word at [Xn], loaded with acquire, is Xm or higher. Uses X9. */
export function awaitWord(a: Asm, n: number, m: number): void {
  const again = fresh("await");
  a.label(again).word(INSN.ldar(9, n)).cmp(9, m).bCond(COND.LO, again);
}

/** MMU, caches, vectors and SIMD on. Uses X1. */
export function setUp(a: Asm): void {
  a.mov(1, TEAM.vectors).msr("VBAR_EL1", 1).mov(1, 0xff).msr("MAIR_EL1", 1);
  a.mov(1, 0x80_3519).msr("TCR_EL1", 1).mov(1, TABLE.root).msr("TTBR0_EL1", 1);
  a.mov(1, 0x30_0000).msr("CPACR_EL1", 1).tlbiVmalle1().dsb().isb();
  a.mov(1, SCTLR_ON).msr("SCTLR_EL1", 1).isb();
}

export function off(a: Asm): void {
  const stay = fresh("off");
  a.mov(0, 0x8400_0008).hvc().label(stay).b(stay);
}

/** One image for both CPUs. */
export class TeamProgram {
  readonly #first = new Asm(TEAM.code);
  readonly #vectors = new Asm(TEAM.vectors);
  #meetings = 0;

  /** What a synchronous exception does that is expected: it may use X20 to X23 and go on at "unexpected". */
  constructor(readonly onSync: (a: Asm) => void = () => {}) {
    const a = this.#vectors;
    a.org(TEAM.vectors + 0x200).b("sync").org(TEAM.vectors + 0x280).b("unexpected");
    a.org(TEAM.vectors + 0x800).label("sync");
    onSync(a);
    a.label("unexpected").mrs(20, "ESR_EL1").mrs(21, "ELR_EL1").mrs(22, "FAR_EL1");
    a.mov(23, UNEXPECTED).str(20, 23).str(21, 23, 8).str(22, 23, 16);
    off(a);
  }

  /** CPU 0 switches CPU 1 on, they meet and run a part each; when both are through, CPU 0 powers off. */
  both(first: (a: Asm) => void, second: (a: Asm) => void): this {
    const a = this.#first;
    setUp(a);
    a.mov(0, PSCI.CPU_ON).mov(1, 1).adr(2, "second").mov(3, 0).hvc();
    const meetings = this.#meetings;
    this.meet(a);
    first(a);
    this.meet(a);
    off(a);
    // Both come to the same meetings, in the same order.
    this.#meetings = meetings;
    a.label("second");
    setUp(a);
    this.meet(a);
    second(a);
    this.meet(a);
    a.label("done").wfi().b("done");
    return this;
  }

  /** The program as `emit` makes it, for CPU 0 alone at first. */
  alone(emit: (a: Asm) => void): this {
    emit(this.#first);
    return this;
  }

  /** Both CPUs come here before either goes on. Uses X7 to X9. */
  meet(a: Asm): void {
    a.mov(7, MET).mov(8, 1).word(INSN.ldaddal(8, 9, 7)).mov(8, 2 * ++this.#meetings);
    awaitWord(a, 7, 8);
  }

  /** The image: code, vectors and tables. */
  image(): Uint8Array {
    const bytes = new Uint8Array(TEAM.data - TEAM.code);
    const view = new DataView(bytes.buffer);
    for (const part of [this.#first, this.#vectors]) {
      part.words().forEach((word, i) => view.setUint32(part.base - TEAM.code + 4 * i, word, true));
    }
    const put = (pa: number, value: bigint) => view.setBigUint64(pa - TEAM.code, value, true);
    put(TABLE.root, DEVICE_BLOCK);
    put(TABLE.root + 8, BigInt(TABLE.l2) | 3n);
    put(TABLE.l2, BigInt(TABLE.low) | 3n);
    put(TABLE.l2 + 8 * 128, BigInt(ALIAS_TABLE) | 3n);
    for (let pa = 0x4000_0000; pa < TEAM.end; pa += PAGE) {
      put(TABLE.low + 8 * ((pa - 0x4000_0000) / PAGE), BigInt(pa) | PTE.RW);
    }
    return bytes;
  }
}

/** A way to run: what the options are, and what is translated. */
export interface TeamRun {
  readonly name: string;
  readonly args: readonly string[];
  readonly regions: Partial<RegionOptions>;
}
const TRANSLATED: Partial<RegionOptions> = { hotAfter: 1, batch: 1 };
export const TEAM_KVM: TeamRun = {
  name: "KVM, translated",
  args: ["--vcpus", "2"],
  regions: TRANSLATED,
};
export const TEAM_BARE: TeamRun = {
  name: "bare, translated",
  args: ["--bare"],
  regions: TRANSLATED,
};
const TEAM_RUNS: readonly TeamRun[] = [
  { name: "bare, interpreted", args: ["--bare"], regions: { hotAfter: 0 } },
  TEAM_BARE,
  TEAM_KVM,
];
const OPTIONS = ["--threads", "2", "--pcpus", "2", "--cpu", "max", "--memory", "16M"];
/**
 * What does not end hangs: in parts of a second, far more than any of them takes. A host that stops the
 * whole process for a while makes one of them long.
 */
const HANGS = 60, PART_NS = 1e9;

/** A guest that has ended, and its memory. */
export class TeamEnd {
  constructor(readonly guest: Guest) {}

  /** The 64-bit word at `ipa`. */
  get(ipa: number): bigint {
    const { guest } = this;
    const { memory, ram } = guest.machine;
    return memory.ld64(guest instanceof KvmGuest ? guest.offsetOf(ipa) : ram.at + ipa - ram.pa);
  }
}

/** Runs until the guest has powered off, or fails with where its CPUs are. */
function runToEnd({ machine }: Guest): void {
  for (let part = 0; part < HANGS; part++) {
    if (machine.run(Infinity, machine.nowNs + PART_NS) === "power") return;
  }
  const pcs = machine.platform.cpus.map(({ pc, halt }) => `0x${pc.toString(16)} (halt ${halt})`);
  assert.fail(`does not end; PCs ${pcs.join()}`);
}

/** Registers a test that looks at a guest in two workers, which has not begun yet. */
export function onTeam(
  name: string,
  run: TeamRun,
  program: () => TeamProgram,
  look: (guest: Guest) => void,
): void {
  Deno.test(`${name}: ${run.name}`, async () => {
    const args = [...run.args, ...OPTIONS];
    const { guest } = await GuestRun.start(program().image(), args, undefined, run.regions);
    try {
      look(guest);
    } finally {
      guest.close?.();
    }
  });
}

/** Registers tests of a program that powers off in each way to run; `check` looks at how it ended. */
export function onTeams(
  name: string,
  program: () => TeamProgram,
  check: (end: TeamEnd) => void,
): void {
  for (const run of TEAM_RUNS) {
    onTeam(name, run, program, (guest) => {
      runToEnd(guest);
      const end = new TeamEnd(guest);
      const exception = [0, 8, 16].map((at) => end.get(UNEXPECTED + at).toString(16));
      assert.deepEqual(exception, ["0", "0", "0"], "an exception: ESR, ELR, FAR");
      check(end);
    });
  }
}
