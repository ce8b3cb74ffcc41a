/**
 * Guests that go wrong. Whatever one does, KVM gives it what real hardware and KVM would, the machine goes
 * on, and user space keeps hold of it: it can be stepped, interrupted, looked at and reset.
 */
import assert from "node:assert/strict";
import { EC } from "../../src/arm/arch/syndrome.ts";
import { BadGuest } from "../support/bad_guest.ts";
import { Asm } from "../support/asm.ts";

const BASE = 0x4008_0000;
const VECTORS = BASE + 0x800;
const NOWHERE = 0x2000_0000;
const MS = 1_000_000;
/** Where a synchronous exception from EL1 with SP_EL1 goes. */
const SYNC = 0x200;

/** A program with its vectors at {@link VECTORS}: at each, what `vector` emits. */
function program(main: (asm: Asm) => void, vector: (asm: Asm) => void): number[] {
  const asm = new Asm(BASE);
  asm.mov(0, VECTORS).msr("VBAR_EL1", 0).isb();
  main(asm);
  asm.org(VECTORS + SYNC);
  vector(asm);
  return asm.words();
}

/** Saves what the exception says in X20 to X22 and stays there. */
function remember(asm: Asm): void {
  asm.mrs(20, "ESR_EL1").mrs(21, "FAR_EL1").mrs(22, "ELR_EL1").label("stay").b("stay");
}

Deno.test("bad guest: a jump to nowhere is a prefetch abort of its own", () => {
  const guest = new BadGuest(program((asm) => asm.mov(1, NOWHERE).br(1), remember));
  guest.run(MS);
  const esr = guest.x(20);
  assert.equal(Number(esr >> 26n), EC.IABT_CUR);
  assert.equal(esr & 0x3fn, 0x10n); // synchronous external abort
  assert.deepEqual([guest.x(21), guest.x(22)], [BigInt(NOWHERE), BigInt(NOWHERE)]);
  guest.assertInHand();
});

Deno.test("bad guest: vectors that are nowhere too abort for ever, and nothing else stops", () => {
  const asm = new Asm(BASE).mov(0, NOWHERE).msr("VBAR_EL1", 0).isb().br(0);
  const guest = new BadGuest(asm.words());
  guest.run(MS);
  const exits = guest.exitsOf(EC.IABT_LOW);
  assert.ok(exits > 10, `${exits}`);
  guest.run(MS);
  assert.ok(guest.exitsOf(EC.IABT_LOW) > exits);
  assert.equal(guest.pc(), BigInt(NOWHERE + SYNC));
  guest.assertInHand();
});

Deno.test("bad guest: an exception in its own vector is a busy vCPU, without an exit", () => {
  const guest = new BadGuest(program((asm) => asm.word(0), (asm) => asm.word(0)));
  guest.run(MS);
  const exits = guest.exits();
  guest.run(MS);
  assert.equal(guest.exits(), exits);
  assert.equal(guest.pc(), BigInt(VECTORS + SYNC));
  guest.assertInHand();
});

Deno.test("bad guest: stores in pairs to nowhere have no syndrome and are external aborts", () => {
  const guest = new BadGuest(program(
    (asm) => asm.mov(1, NOWHERE + 8).word(0xa900_0420), // stp x0, x1, [x1]
    remember,
  ));
  guest.run(MS);
  assert.equal(Number(guest.x(20) >> 26n), EC.DABT_CUR);
  assert.equal(guest.x(20) & 0x3fn, 0x10n);
  assert.equal(guest.x(21), BigInt(NOWHERE + 8));
  guest.assertInHand();
});

Deno.test("bad guest: single stores to nowhere are lost, loads read as zero, and it goes on", () => {
  const guest = new BadGuest(program(
    (asm) => asm.mov(1, NOWHERE).mov(2, 5).str(2, 1).ldr(3, 1).mov(20, 77).label("end").b("end"),
    remember,
  ));
  guest.run(MS);
  assert.deepEqual([guest.x(3), guest.x(20)], [0n, 77n]);
  guest.assertInHand();
});

Deno.test("bad guest: translation tables that are nowhere abort its first fetch", () => {
  const asm = new Asm(BASE).mov(0, NOWHERE).msr("TTBR0_EL1", 0);
  asm.mov(0, 25 | (1 << 23)).msr("TCR_EL1", 0); // T0SZ 25, EPD1
  asm.mov(0, 1).msr("SCTLR_EL1", 0).isb().nop().nop();
  const guest = new BadGuest(asm.words());
  guest.run(MS);
  assert.ok(guest.exitsOf(EC.IABT_LOW) > 10);
  guest.assertInHand();
});

Deno.test("bad guest: the MMU off in flight leaves the PC where there is no memory", () => {
  // Blocks of 1 GiB: VA 0x40000000 is where it is, VA 0x80000000 is PA 0x40000000.
  const tables = BASE + 0x1000;
  const asm = new Asm(BASE);
  asm.mov(0, tables).msr("TTBR0_EL1", 0).mov(0, 25 | (1 << 23)).msr("TCR_EL1", 0);
  asm.mov(0, 0xff).msr("MAIR_EL1", 0).mov(0, 0x1005).msr("SCTLR_EL1", 0).isb();
  // ADR of the instruction behind the branch, moved up by 1 GiB.
  asm.word(0x1000_0081).mov(2, 0x4000_0000).addReg(1, 1, 2).br(1);
  asm.mov(0, 0x1004).mov(3, 9).msr("SCTLR_EL1", 0).isb().label("end").b("end");
  const block = 0x4000_0000n | 0x701n; // AF, inner shareable, attribute 0
  const guest = new BadGuest(asm.words(), [[tables + 8, block], [tables + 16, block]]);
  guest.run(MS);
  assert.equal(guest.x(3), 9n);
  assert.ok(guest.exitsOf(EC.IABT_LOW) > 0);
  guest.assertInHand();
});

Deno.test("bad guest: WFI for ever is a machine with nothing to do", () => {
  const asm = new Asm(BASE).mov(5, 0).label("again").wfi().add(5, 5, 1).b("again");
  const guest = new BadGuest(asm.words());
  assert.equal(guest.run(MS), "stalled");
  assert.equal(guest.x(5), 0n);
  guest.assertInHand();
});

Deno.test("bad guest: an exception return to EL2 is an illegal state, not the host's", () => {
  const guest = new BadGuest(program(
    (asm) => asm.mov(0, 0x3c9).msr("SPSR_EL1", 0).mov(0, BASE).msr("ELR_EL1", 0).eret(),
    remember,
  ));
  guest.run(MS);
  assert.equal(Number(guest.x(20) >> 26n), EC.ILL);
  guest.assertInHand();
});

Deno.test("bad guest: garbage runs, faults and loops, and stays in hand", () => {
  for (let seed = 1; seed <= 12; seed++) {
    let state = seed;
    const garbage = Array.from({ length: 4096 }, () => {
      state = (Math.imul(state, 0x41c6_4e6d) + 0x3039) >>> 0;
      return (state ^ (state >>> 13)) >>> 0;
    });
    const guest = new BadGuest(garbage);
    guest.run(MS);
    guest.assertInHand();
  }
});
