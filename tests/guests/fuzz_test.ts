/**
 * Random code in a guest of two vCPUs, at EL1 and EL0, with and without its MMU, pointed at memory and
 * devices: whatever it does ends in exceptions as the architecture has them, or in progress. The host
 * never throws, never hangs, and nothing of its memory, or of another VM's, changes.
 */
import assert from "node:assert/strict";
import { Random } from "../../src/arm/isa/random.ts";
import { DECODER, ROWS } from "../../src/arm/isa/table.ts";
import { ERRNO, KVM_EXIT } from "../../src/kvm/kvm_host.ts";
import { Asm } from "../support/asm.ts";
import { Canaries } from "../support/canaries.ts";
import { FuzzCode } from "../support/fuzz_code.ts";
import { FUZZ, FuzzGuest, type RoundOptions } from "../support/fuzz_guest.ts";

const ROUND_INSNS = 25_000;
/** Rounds that are looked at instruction by instruction: at least, and at most until every row was met. */
const STEPPED_ROUNDS = 48;
const MOST_STEPPED_ROUNDS = 400;
const STEPS = 2000;
const RANDOM_INSNS = 1_000_000;
const MOST_ROUNDS = 400;
const BRK = 0xd420_0000;

function startRound(guest: FuzzGuest, round: number): RoundOptions {
  const code = new FuzzCode(guest.random, { wild: round % 8 === 7 });
  guest.stop();
  const options: RoundOptions = { el: (round & 1) as 0 | 1, mmu: (round & 2) !== 0 };
  guest.start(code.words(FUZZ.code.bytes / 4), options);
  return options;
}

function inCode(pc: number): boolean {
  return pc >= FUZZ.code.ipa && pc < FUZZ.code.ipa + FUZZ.code.bytes && pc % 4 === 0;
}

/** How often each row was tried and got done, at one exception level. */
class Coverage {
  readonly tried = new Map<string, number>();
  readonly done = new Map<string, number>();

  count(into: Map<string, number>, row: string): void {
    into.set(row, (into.get(row) ?? 0) + 1);
  }
  missing(from: Map<string, number>): string[] {
    return ROWS.map(({ name }) => name).filter((name) => !from.has(name));
  }
}

/** What each CPU is about to execute, of the random code. */
function lookAhead(guest: FuzzGuest): { row: string | undefined; el: number }[] {
  const { machine } = guest.kvmMachine;
  return machine.platform.cpus.map(({ el, pc }) => {
    const at = Number(pc);
    const word = el < 2 && inCode(at) ? machine.memory.ld32(guest.offsetOf(at)) : -1;
    return { el, row: word < 0 ? undefined : DECODER.row(word >>> 0)?.name };
  });
}

/** One instruction of every CPU. */
function stepOnce(guest: FuzzGuest, coverage: readonly Coverage[]): void {
  const { machine } = guest.kvmMachine;
  const ahead = lookAhead(guest);
  machine.stepRound(1);
  machine.platform.cpus.forEach((cpu, i) => {
    const { el, row } = ahead[i] ?? { el: 2, row: undefined };
    const seen = coverage[el];
    if (row === undefined || seen === undefined) return;
    seen.count(seen.tried, row);
    const pc = Number(cpu.pc);
    const toHandler = pc >= FUZZ.stub.ipa && pc < FUZZ.stub.ipa + FUZZ.stub.bytes;
    if (cpu.el === el && !toHandler) seen.count(seen.done, row);
  });
}

/** Rows that end in an exception wherever they are executed, by exception level. */
const ALWAYS_TRAP = ["SVC", "HVC", "SMC", "BRK", "HLT", "SYSL"];
const NEVER_DONE = [
  [...ALWAYS_TRAP, "ERET", "MSR_imm_SPSel", "MSR_imm_PAN", "MSR_imm_UAO"],
  ALWAYS_TRAP,
] as const;
/** Done by some of their instructions only: WFI traps, WFE does not. */
const SELDOM_DONE = ["WFE_WFI", "MSR_imm_DAIF"];

/** Rows that an exception level has not tried yet, or not got done although they can be. */
function notMet(seen: Coverage, el: number): string[] {
  const undone = seen.missing(seen.done).filter((name) =>
    !SELDOM_DONE.includes(name) && !(NEVER_DONE[el] as readonly string[]).includes(name)
  );
  return [...seen.missing(seen.tried), ...undone].map((name) => `${name} at EL${el}`);
}

/** Rounds with a look at every instruction; the share of the random code in all that is executed. */
function steppedRounds(guest: FuzzGuest): number {
  const { machine } = guest.kvmMachine;
  const coverage = [new Coverage(), new Coverage()];
  const before = machine.insns;
  let missing = ["all"];
  for (let round = 0; round < MOST_STEPPED_ROUNDS; round++) {
    if (round >= STEPPED_ROUNDS && missing.length === 0) break;
    startRound(guest, round);
    for (let i = 0; i < STEPS; i++) stepOnce(guest, coverage);
    missing = coverage.flatMap(notMet);
  }
  assert.deepEqual(missing, []);
  for (const [el, seen] of coverage.entries()) {
    const trapping = NEVER_DONE[el] as readonly string[];
    assert.deepEqual(trapping.filter((name) => seen.done.has(name)), [], `done at EL${el}`);
  }
  const sum = (counts: Coverage) => [...counts.tried.values()].reduce((a, b) => a + b, 0);
  return coverage.reduce((total, c) => total + sum(c), 0) / (machine.insns - before);
}

Deno.test("random code: every row at EL0 and EL1, a million instructions, and the host as it was", () => {
  const guest = new FuzzGuest(new Random(20), { vcpus: 2, pcpus: 2, lrs: 4 });
  const { machine } = guest.kvmMachine;
  const canaries = new Canaries(guest.kvmMachine);
  const share = steppedRounds(guest);
  assert.ok(share > 0.25, `random code is ${share} of what runs`);
  let random = 0;
  for (let round = 0; random < RANDOM_INSNS; round++) {
    startRound(guest, round);
    const before = machine.insns;
    machine.run(ROUND_INSNS);
    random += (machine.insns - before) * share;
    assert.ok(round < MOST_ROUNDS, `${random} instructions in ${round} rounds`);
    if (round % 16 === 15) canaries.check();
  }
  assert.ok(canaries.check() > 4 << 20);
  const reached = [KVM_EXIT.MMIO, ERRNO.ENOSYS, ERRNO.EINTR].filter((r) => guest.userExits.has(r));
  assert.equal(reached.length, 3, "user space has seen devices, undecodable accesses and kicks");
});

/** Rounds of the same on a host without VHE, whose EL1 the guest's registers go through. */
const NVHE_ROUNDS = 24;

Deno.test("random code on a host without VHE: the host, and EL2, are as they were", () => {
  const guest = new FuzzGuest(new Random(21), { vcpus: 2, pcpus: 2, lrs: 4, mode: "nvhe" });
  const { machine } = guest.kvmMachine;
  const canaries = new Canaries(guest.kvmMachine);
  const hyp = () => machine.cores.map(({ regs }) => HYP_STATE.map((name) => regs.get(name)));
  const before = hyp();
  let random = 0;
  for (let round = 0; round < NVHE_ROUNDS; round++) {
    startRound(guest, round);
    const from = machine.insns;
    machine.run(ROUND_INSNS);
    random += machine.insns - from;
  }
  guest.stop();
  assert.ok(random > NVHE_ROUNDS * ROUND_INSNS / 2, `${random} instructions`);
  assert.ok(canaries.check() > 4 << 20);
  assert.deepEqual(hyp(), before);
});

/** EL2's registers while the host runs, and the host's own by which it runs. */
const HYP_STATE = [
  "HCR_EL2",
  "VBAR_EL2",
  "TTBR0_EL2",
  "TCR_EL2",
  "SCTLR_EL2",
  "MAIR_EL2",
  "TPIDR_EL2",
  "CPTR_EL2",
  "VTTBR_EL2",
  "HSTR_EL2",
  "MDCR_EL2",
  "VBAR_EL1",
  "CPACR_EL1",
  "SCTLR_EL1",
  "TCR_EL1",
] as const;

// Nothing retires when the vectors themselves cannot be fetched: the slice must end all the same.
for (const mmu of [false, true]) {
  Deno.test(`a guest without vectors does not hold the machine up (MMU ${mmu ? "on" : "off"})`, () => {
    const guest = new FuzzGuest(new Random(1), { vcpus: 1, pcpus: 1, lrs: 4 });
    const { machine } = guest.kvmMachine;
    const lost = new Asm(FUZZ.code.ipa).mov(0, 0x7000_0000).msr("VBAR_EL1", 0).isb().word(BRK);
    const code = Uint32Array.from(
      { length: FUZZ.code.bytes / 4 },
      (_, i) => lost.words()[i % 4] ?? 0,
    );
    guest.start(code, { el: 1, mmu });
    assert.equal(machine.run(ROUND_INSNS), "budget");
    const [cpu] = machine.platform.cpus;
    const [vcpu] = guest.vm.vcpus;
    // Without a stage 1 of its own, every fetch is KVM's to refuse; with one, nobody sees it.
    if (mmu) assert.equal(Number(cpu?.pc) & ~0x7ff, 0x7000_0000);
    else assert.ok((vcpu?.vcpu.stat.exits ?? 0) > 100);
    guest.stop();
  });
}

Deno.test("a canary that has been written is noticed", () => {
  const guest = new FuzzGuest(new Random(1), { vcpus: 1, pcpus: 1, lrs: 4 });
  const { memory, ram } = guest.kvmMachine.machine;
  const canaries = new Canaries(guest.kvmMachine);
  canaries.check();
  const last = ram.at + ram.size - 1;
  memory.st8(last, memory.ld8(last) ^ 1);
  assert.throws(() => canaries.check(), /has been written/);
});
