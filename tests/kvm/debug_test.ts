/** Guests that debug themselves, and guests that user space debugs. */
import assert from "node:assert/strict";
import { KVM_CAP, KVM_EXIT, KVM_GUESTDBG, type VcpuHandle } from "../../src/kvm/api.ts";
import { sysreg } from "../../src/arm/arch/sysregs.ts";
import { KvmMemslotLayout } from "../../src/kvm/kvm_host.ts";
import { sysRegId } from "../../src/kvm/guest.ts";
import type { HostMode } from "../../src/host/host.ts";
import { Asm, COND } from "../support/asm.ts";
import { events, GUEST_RAM, makeRig, makeVm, PC, type Rig, start, X } from "./kvm_rig.ts";

const MS = 1_000_000;
const CODE = GUEST_RAM;
const VECTORS = GUEST_RAM + 0x1000;
const LOG = GUEST_RAM + 0x2000;
const DATA = GUEST_RAM + 0x3000;
const KDE = 0x2000, MDE = 0x8000, SS = 1;
const BCR = 0x1e3, WCR = 0x1ffb;
const MDSCR = sysRegId(sysreg("MDSCR_EL1").key);

/** Vectors that log ESR_EL1, ELR_EL1 and FAR_EL1, then mask D, step on, or skip the instruction. */
function vectors(): Asm {
  const a = new Asm(VECTORS).org(VECTORS + 0x200);
  a.mrs(20, "ESR_EL1").mrs(21, "ELR_EL1").mrs(22, "FAR_EL1").mrs(23, "SPSR_EL1");
  a.str(20, 28).str(21, 28, 8).str(22, 28, 16).add(28, 28, 24);
  a.lsr(24, 20, 26);
  a.mov(25, 0x33).cmp(24, 25).bCond(COND.EQ, "step");
  a.mov(25, 0x3c).cmp(24, 25).bCond(COND.EQ, "skip");
  a.mov(25, 0x200).orr(23, 23, 25).msr("SPSR_EL1", 23).eret();
  a.label("step").mov(25, 1 << 21).orr(23, 23, 25).msr("SPSR_EL1", 23).eret();
  a.label("skip").add(21, 21, 4).msr("ELR_EL1", 21).eret();
  return a;
}

function prologue(): Asm {
  const a = new Asm(CODE).mov(1, VECTORS).msr("VBAR_EL1", 1).mov(28, LOG).mov(2, DATA);
  return a.daifSet(8).mov(0, 0).msr("OSDLR_EL1", 0).msr("OSLAR_EL1", 0).msr("MDSCR_EL1", 0);
}

interface Entry {
  readonly ec: number;
  readonly pc: number;
  readonly far: number;
}

interface Guest {
  readonly rig: Rig;
  readonly vcpu: VcpuHandle;
  readonly code: Asm;
  log(): Entry[];
}

/** A guest with `code`; its exits by MMIO go to user space, which runs it again. */
function guest(code: Asm, mode: HostMode = "vhe"): Guest {
  const rig = makeRig(1, 4, { mode });
  const words = new Array<number>(0x1000).fill(0);
  for (const part of [code, vectors()]) {
    part.words().forEach((word, i) => (words[(part.base - GUEST_RAM) / 4 + i] = word));
  }
  const again = ({ vcpu }: VcpuHandle) => vcpu.run.exitReason === KVM_EXIT.MMIO;
  const vm = makeVm(rig, words, 1, again);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  const slot = rig.machine;
  const log = (): Entry[] => {
    const end = Number(vcpu.getOneReg(X(28)));
    return Array.from({ length: (end - LOG) / 24 }, (_, i) => {
      const at = pageAt(rig, vm, LOG) + 24 * i;
      const m = slot.memory;
      return { ec: m.ld32(at) >>> 26, pc: m.ld53(at + 8), far: m.ld53(at + 16) };
    });
  };
  return { rig, vcpu, code, log };
}

/** Where a guest page lies in the shared memory. */
function pageAt(rig: Rig, vm: ReturnType<typeof makeVm>, ipa: number): number {
  const { pfns } = KvmMemslotLayout.at(rig.machine.memory, vm.kvm.state.memslots);
  const pfn = rig.machine.memory.ld32(pfns + 4 * ((ipa - GUEST_RAM) / 4096));
  return rig.machine.ram.at + pfn * 4096 - rig.machine.ram.pa;
}

/** KVM_EXIT_DEBUG's PC and class, or undefined for another exit. */
function debugExit({ rig, vcpu }: Guest): { pc: number; ec: number } | undefined {
  vcpu.run();
  rig.machine.run(1e6, rig.machine.nowNs + 10 * MS);
  assert.equal(vcpu.running, false, "out to user space");
  if (vcpu.vcpu.run.exitReason !== KVM_EXIT.DEBUG) return undefined;
  return { pc: Number(vcpu.getOneReg(PC)), ec: vcpu.vcpu.run.debugHsr / 2 ** 26 | 0 };
}

function finish(g: Guest): void {
  start(g.vcpu, CODE);
  g.rig.machine.run(1e6, 10 * MS);
  if (g.vcpu.running) {
    g.vcpu.kick();
    g.rig.machine.run(1e6, 11 * MS);
  }
}

/** A read of a device that is not there: an exit to user space. */
const exitToUser = (a: Asm): Asm => a.mov(3, 0x0a00_0000).ldrW(4, 3);

for (const mode of ["vhe", "nvhe"] as const) {
  Deno.test(`${mode}: guest: its own BRK, breakpoint, watchpoint and steps, with exits to user space between`, () => {
    const a = prologue();
    a.label("brk").word(0xd420_0000);
    a.mov(0, BCR).msr("DBGBCR0_EL1", 0).mov(0, CODE + 0x400).msr("DBGBVR0_EL1", 0);
    a.mov(0, WCR).msr("DBGWCR0_EL1", 0).msr("DBGWVR0_EL1", 2);
    a.mov(0, KDE | MDE).msr("MDSCR_EL1", 0);
    exitToUser(a).daifClr(8).b("far");
    a.org(CODE + 0x400).label("far").nop().daifClr(8);
    exitToUser(a);
    a.label("store").str(0, 2).mrs(9, "DBGBVR0_EL1").mrs(10, "DBGWVR0_EL1");
    a.daifSet(8).mov(0, KDE | SS).msr("MDSCR_EL1", 0);
    a.daifClr(8).label("s0").nop().label("s1").nop().daifSet(8).nop();
    a.mrs(11, "MDSCR_EL1").label("end").b("end");
    const g = guest(a, mode);
    finish(g);
    const at = (label: string) => a.addressOf(label);
    assert.deepEqual(g.log().map(({ ec, pc }) => [ec, pc]), [
      [0x3c, at("brk")],
      [0x31, CODE + 0x400],
      [0x35, at("store")],
      [0x33, at("s0")],
      [0x33, at("s1")],
      [0x33, at("s1") + 4],
    ]);
    assert.equal(g.log()[2]?.far, DATA);
    assert.equal(g.vcpu.getOneReg(X(9)), BigInt(CODE + 0x400));
    assert.equal(g.vcpu.getOneReg(X(10)), BigInt(DATA));
    assert.equal(g.vcpu.getOneReg(X(11)), BigInt(KDE | SS));
  });
}

Deno.test("guest: while it holds the OS lock nothing of its own is debugged", () => {
  const a = prologue();
  a.mov(0, BCR).msr("DBGBCR0_EL1", 0).mov(0, CODE + 0x400).msr("DBGBVR0_EL1", 0);
  a.mov(0, KDE | MDE | SS).mov(5, 1).msr("OSLAR_EL1", 5).msr("MDSCR_EL1", 0);
  a.mrs(9, "OSLSR_EL1").mrs(10, "MDSCR_EL1").daifClr(8).b("far");
  a.org(CODE + 0x400).label("far").nop().nop().label("end").b("end");
  const g = guest(a);
  finish(g);
  assert.deepEqual(g.log(), []);
  assert.equal(g.vcpu.getOneReg(X(9)), 0xan);
  assert.equal(g.vcpu.getOneReg(X(10)), BigInt(KDE | MDE | SS));
});

Deno.test("guest: the debug registers trap until they are used, and again when they are not", () => {
  const a = prologue();
  for (let i = 0; i < 8; i++) a.msr("DBGBVR1_EL1", 2);
  exitToUser(a);
  for (let i = 0; i < 8; i++) a.mrs(9, "DBGBVR1_EL1");
  a.label("end").b("end");
  const g = guest(a);
  finish(g);
  const traps = events(g.rig.trace).filter((text) => text.startsWith("trap_reg trap_bvr"));
  assert.equal(
    traps.filter((text) => text.includes("write")).length,
    0,
    "MDSCR's write came first",
  );
  assert.equal(traps.filter((text) => text.includes("read")).length, 8, "a read opens nothing");
  assert.equal(g.vcpu.getOneReg(X(9)), BigInt(DATA));
});

/** A program that computes, reads a device and calls KVM. */
function work(): Asm {
  const a = new Asm(CODE).mov(1, VECTORS).msr("VBAR_EL1", 1).mov(2, DATA).mov(5, 3).mov(28, LOG);
  a.label("loop").str(5, 2).ldr(6, 2).addReg(7, 6, 5).mul(8, 7, 7);
  exitToUser(a).mov(0, 0x8400_0000).hvc();
  a.subs(5, 5, 1).bCond(COND.NE, "loop").label("end").b("end");
  return a;
}

const STEP = { control: KVM_GUESTDBG.ENABLE | KVM_GUESTDBG.SINGLESTEP };

for (const mode of ["vhe", "nvhe"] as const) {
  Deno.test(`${mode}: user space steps a guest: through MMIO and HVC, each instruction once`, () => {
    const g = guest(work(), mode);
    const end = g.code.addressOf("end");
    g.vcpu.init();
    g.vcpu.setOneReg(PC, BigInt(CODE));
    g.vcpu.setGuestDebug(STEP);
    const pcs: number[] = [CODE];
    while (pcs.at(-1) !== end) {
      const exit = debugExit(g);
      assert.equal(exit?.ec, 0x32);
      pcs.push(exit?.pc ?? end);
      assert.ok(pcs.length < 200);
    }
    const loop = (g.code.here - 4 - g.code.addressOf("loop")) / 4;
    assert.equal(pcs.length, (g.code.addressOf("loop") - CODE) / 4 + 3 * loop + 1);
    const free = guest(work(), mode);
    finish(free);
    for (const n of [0, 2, 5, 6, 7, 8]) {
      assert.equal(g.vcpu.getOneReg(X(n)), free.vcpu.getOneReg(X(n)), `X${n}`);
    }
    assert.equal(g.vcpu.getOneReg(MDSCR), 0n, "nothing of it is left in the guest");
  });
}

Deno.test("user space's step ends when it is switched off", () => {
  const g = guest(work());
  g.vcpu.init();
  g.vcpu.setOneReg(PC, BigInt(CODE));
  g.vcpu.setGuestDebug(STEP);
  debugExit(g);
  g.vcpu.setGuestDebug({ control: 0 });
  g.vcpu.run();
  g.rig.machine.run(1e5, g.rig.machine.nowNs + 5 * MS);
  assert.equal(g.vcpu.running, true, "loops at its end");
});

for (const mode of ["vhe", "nvhe"] as const) {
  Deno.test(`${mode}: user space's breakpoints: BRK, hardware, and a watchpoint; the guest's own registers stay`, () => {
    const a = new Asm(CODE).mov(2, DATA).mov(0, 0x1234).msr("DBGBVR0_EL1", 0).nop();
    a.label("brk").word(0xd420_0120).label("bp").nop().label("store").str(0, 2, 8);
    a.mrs(9, "DBGBVR0_EL1").label("end").b("end");
    const g = guest(a, mode);
    g.vcpu.init();
    g.vcpu.setOneReg(PC, BigInt(CODE));
    const at = (label: string) => a.addressOf(label);
    const hw = KVM_GUESTDBG.ENABLE | KVM_GUESTDBG.USE_SW_BP | KVM_GUESTDBG.USE_HW;
    const units = {
      bcr: [0x1e7n],
      bvr: [BigInt(at("bp"))],
      wcr: [0x1fffn],
      wvr: [BigInt(DATA + 8)],
    };
    g.vcpu.setGuestDebug({ control: hw, ...units });
    assert.deepEqual(debugExit(g), { pc: at("brk"), ec: 0x3c });
    assert.equal(g.vcpu.vcpu.run.debugHsr, 0xf200_0009);
    g.vcpu.setOneReg(PC, BigInt(at("bp")));
    assert.deepEqual(debugExit(g), { pc: at("bp"), ec: 0x30 });
    g.vcpu.setGuestDebug({ control: hw, ...units, bcr: [] });
    assert.deepEqual(debugExit(g), { pc: at("store"), ec: 0x34 });
    assert.equal(g.vcpu.vcpu.run.debugFar, BigInt(DATA + 8));
    g.vcpu.setGuestDebug({ control: KVM_GUESTDBG.ENABLE });
    g.vcpu.run();
    g.rig.machine.run(1e5, g.rig.machine.nowNs + MS);
    g.vcpu.kick();
    g.rig.machine.run(1e5, g.rig.machine.nowNs + MS);
    assert.equal(g.vcpu.getOneReg(X(9)), 0x1234n);
  });
}

Deno.test("a guest that steps itself does not while user space steps it, and then again", () => {
  const a = prologue().mov(0, KDE | SS).msr("MDSCR_EL1", 0).label("on").daifClr(8);
  a.label("s0").nop().label("s1").nop().daifSet(8).label("end").b("end");
  const g = guest(a);
  g.vcpu.init();
  g.vcpu.setOneReg(PC, BigInt(CODE));
  g.vcpu.setGuestDebug(STEP);
  for (let pc = CODE; pc !== a.addressOf("s0");) pc = debugExit(g)?.pc ?? 0;
  assert.equal(g.vcpu.getOneReg(MDSCR), BigInt(KDE | SS), "the guest's own");
  g.vcpu.setGuestDebug({ control: 0 });
  g.vcpu.run();
  g.rig.machine.run(1e5, g.rig.machine.nowNs + MS);
  g.vcpu.kick();
  g.rig.machine.run(1e5, g.rig.machine.nowNs + MS);
  const steps = g.log().map(({ ec, pc }) => [ec, pc]);
  assert.deepEqual(steps[0], [0x33, a.addressOf("s0")]);
});

Deno.test("KVM_SET_GUEST_DEBUG: unknown flags, capabilities, tracepoints", () => {
  const g = guest(work());
  assert.throws(() => g.vcpu.setGuestDebug({ control: 1 << 3 }), /EINVAL/);
  const vm = g.rig.kvm.vms[0];
  assert.equal(vm?.checkExtension(KVM_CAP.SET_GUEST_DEBUG), 1);
  assert.equal(vm?.checkExtension(KVM_CAP.GUEST_DEBUG_HW_BPS), 6);
  assert.equal(vm?.checkExtension(KVM_CAP.GUEST_DEBUG_HW_WPS), 4);
  g.vcpu.init();
  g.vcpu.setOneReg(PC, BigInt(CODE));
  g.vcpu.setGuestDebug(STEP);
  const from = g.rig.trace.written - 1;
  debugExit(g);
  const wanted = /^kvm_(entry|exit|arm_|set_guest)/;
  const seen = events(g.rig.trace, from).filter((text) => wanted.test(text)).slice(-9);
  assert.deepEqual(
    seen,
    [
      "kvm_arm_setup_debug vcpu: 0, flags: 0x00000003",
      "kvm_arm_set_dreg32 MDCR_EL2: 0x84f66",
      "kvm_arm_set_dreg32 Saved MDSCR_EL1: 0x0",
      "kvm_arm_set_dreg32 SPSR_EL2: 0x2003c5",
      "kvm_arm_set_dreg32 MDSCR_EL1: 0x1",
      "kvm_entry PC: 0x0000000040000000",
      "kvm_arm_clear_debug flags: 0x00000003",
      "kvm_arm_set_dreg32 Restored MDSCR_EL1: 0x0",
      "kvm_exit TRAP: HSR_EC: 0x0032 (SOFTSTP_LOW), PC: 0x0000000040000004",
    ],
  );
});
