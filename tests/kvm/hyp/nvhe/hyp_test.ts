/** EL2 below a host at EL1: how it is set up, what it can reach, and what happens when it cannot. */
import assert from "node:assert/strict";
import { R, SYSREGS } from "../../../../src/arm/arch/sysregs.ts";
import { HVC_STUB, HVC_STUB_ERR } from "../../../../src/arm/arch/hyp_stub.ts";
import type { El2Port } from "../../../../src/arm/el2_port.ts";
import { InternalError, KernelPanic } from "../../../../src/base/errors.ts";
import type { VcpuHandle } from "../../../../src/kvm/api.ts";
import { CallHypNvhe } from "../../../../src/kvm/call_hyp_nvhe.ts";
import { HOST_SMCCC_FUNC, hostSmcccId, kernHypVa } from "../../../../src/kvm/hyp/kvm_asm.ts";
import type { HypMode } from "../../../../src/kvm/hyp_mode.ts";
import { VgicV3CpuIfLayout } from "../../../../src/kvm/kvm_host.ts";
import { GuardedMemory } from "../../../support/guarded_memory.ts";
import { walkHyp } from "../../../support/hyp_walk.ts";
import { EXITS, KEEPER, SMP } from "../../guests.ts";
import {
  GUEST_RAM,
  makeRig,
  makeVm,
  PC,
  type Rig,
  type RigOptions,
  start,
  X,
} from "../../kvm_rig.ts";

const MS = 1_000_000;

function nvhe(pcpus = 1, options: RigOptions = {}): Rig {
  return makeRig(pcpus, 4, { ...options, mode: "nvhe" });
}

function hypOf({ kvm }: Rig): CallHypNvhe {
  assert.ok(kvm.hyp instanceof CallHypNvhe);
  return kvm.hyp;
}

function modeOf(rig: Rig): HypMode {
  return hypOf(rig).mode;
}

function port({ machine }: Rig, n = 0): El2Port {
  const found = machine.ports[n];
  assert.ok(found);
  return found;
}

const register = (rig: Rig, name: keyof typeof R, n = 0): bigint => {
  const at = SYSREGS[R[name]];
  assert.ok(at);
  return rig.machine.cores[n]?.regs.get(at.name) ?? -1n;
};

Deno.test("every CPU's host is at EL1, and EL2 is the hypervisor's with its MMU on", () => {
  const rig = nvhe(2);
  const { symbols, pgtable } = modeOf(rig);
  for (const n of [0, 1]) {
    assert.equal(port(rig, n).el, 1);
    assert.equal(port(rig, n).inHost, true);
    assert.equal(register(rig, "HCR_EL2", n), 1n << 31n);
    assert.equal(register(rig, "VBAR_EL2", n), BigInt(symbols.hostVector));
    assert.equal(register(rig, "TTBR0_EL2", n), BigInt(pgtable.pgdPa));
    assert.equal(register(rig, "SCTLR_EL2", n) & 0x8_1005n, 0x8_1005n, "M, C, I, WXN");
    assert.equal(register(rig, "CPTR_EL2", n), 0x33ffn);
    assert.equal(register(rig, "CNTHCTL_EL2", n) & 3n, 3n);
    assert.equal(register(rig, "VTTBR_EL2", n), 0n);
  }
  assert.notEqual(register(rig, "TPIDR_EL2", 0), register(rig, "TPIDR_EL2", 1));
});

Deno.test("EL2's mappings: text executable, read-only data read-only, nothing writable and executable", () => {
  const rig = nvhe(2);
  const { symbols, pgtable } = modeOf(rig);
  const { machine: { memory, ram } } = rig;
  const before = walkHyp(memory, ram, pgtable.pgdPa);
  const at = (va: number) => before.find((m) => m.va === va - va % 4096);
  assert.deepEqual(before.filter((m) => m.writable && m.executable), []);
  for (const va of [symbols.hypInit, symbols.hostVector, symbols.functions]) {
    assert.deepEqual([at(va)?.writable, at(va)?.executable], [false, true]);
  }
  assert.deepEqual([at(symbols.rodata)?.writable, at(symbols.rodata)?.executable], [false, false]);
  // The identity map is one page; everything else is in the half with the top bit set, or the private range.
  assert.deepEqual(before.filter((m) => m.va === m.pa).map((m) => m.va), [symbols.hypInit]);
  const stacks = before.filter((m) => m.va < 2 ** 47 && m.va !== m.pa);
  assert.equal(stacks.length, 2);
  for (const stack of stacks) assert.equal(at(stack.va - 4096), undefined, "no guard page");
  // A VM and its vCPU are mapped, writable, when they are made.
  const vm = makeVm(rig, EXITS);
  const after = walkHyp(memory, ram, pgtable.pgdPa);
  for (const address of [vm.kvm.state.base, vm.kvm.vcpus[0]?.state.base ?? 0]) {
    const va = kernHypVa(modeOf(rig).va, address);
    const mapping = after.find((m) => m.va === va - va % 4096);
    assert.equal(mapping?.pa, address - address % 4096 - ram.at + ram.pa);
    assert.equal(mapping?.writable, true);
  }
});

/** A hypercall with its number and X1; X0 and X1 of the answer, X0 signed. */
function hypercall(rig: Rig, id: number, x1 = 0, x1Hi = 0): [number, number] {
  const p = port(rig);
  p.setGpr(0, id, 0);
  p.setGpr(1, x1, x1Hi);
  rig.host.hvc(p);
  return [p.gprLo(0) | 0, p.gprLo(1)];
}

Deno.test("hypercalls: answers, unknown numbers, and the host's registers untouched", () => {
  const rig = nvhe();
  const p = port(rig);
  for (let n = 2; n < 31; n++) p.setGpr(n, 0x1000 + n, 0xabc);
  const vtr = hypercall(rig, hostSmcccId(HOST_SMCCC_FUNC.__vgic_v3_get_gic_config));
  assert.deepEqual(vtr, [0, rig.machine.platform.gic.virtualInterface(0).vtr]);
  const mdcr = Number(register(rig, "MDCR_EL2"));
  assert.deepEqual(hypercall(rig, hostSmcccId(HOST_SMCCC_FUNC.__kvm_get_mdcr_el2)), [0, mdcr]);
  // Numbers of protected mode, and one past the end.
  for (const id of [2, 3, 8, 22]) assert.equal(hypercall(rig, hostSmcccId(id))[0], -1);
  assert.equal(hypercall(rig, 0x8400_0000)[0], -1);
  for (let n = 2; n < 31; n++) assert.deepEqual([p.gprLo(n), p.gprHi(n)], [0x1000 + n, 0xabc]);
  assert.deepEqual([p.el, p.irqsDisabled()], [1, false]);
});

Deno.test("stub calls: unknown ones are refused, RESET_VECTORS gives EL2 back, and it can be taken again", () => {
  const rig = nvhe();
  const { symbols } = modeOf(rig);
  assert.equal(hypercall(rig, HVC_STUB.FINALISE_EL2)[0], HVC_STUB_ERR);
  assert.equal(hypercall(rig, HVC_STUB.RESET_VECTORS)[0], 0);
  assert.equal(register(rig, "VBAR_EL2"), BigInt(symbols.stubVectors));
  assert.equal(register(rig, "SCTLR_EL2") & 1n, 0n);
  // The stub knows nothing of hypercalls.
  assert.equal(hypercall(rig, hostSmcccId(HOST_SMCCC_FUNC.__kvm_get_mdcr_el2))[0], HVC_STUB_ERR);
  modeOf(rig).cpuInit(port(rig));
  assert.equal(register(rig, "VBAR_EL2"), BigInt(symbols.hostVector));
  const mdcr = Number(register(rig, "MDCR_EL2"));
  assert.deepEqual(hypercall(rig, hostSmcccId(HOST_SMCCC_FUNC.__kvm_get_mdcr_el2)), [0, mdcr]);
});

Deno.test("what only EL2 may do is not possible from the host's level", () => {
  const rig = nvhe();
  for (
    const name of ["HCR_EL2", "ICH_LR0_EL2", "ICH_VMCR_EL2", "CNTVOFF_EL2", "VTTBR_EL2"] as const
  ) {
    assert.throws(() => port(rig).write(R[name], 0, 0), InternalError, name);
  }
});

/** The message of the panic that `body` ends in. */
function panicOf(body: () => void): string {
  let message = "";
  assert.throws(body, (error: unknown) => {
    assert.ok(error instanceof KernelPanic, String(error));
    message = error.message;
    return true;
  });
  assert.doesNotMatch(message, /\n/);
  return message;
}

const hex = (n: number | bigint) => n.toString(16).padStart(16, "0");

Deno.test("hyp panic: a pointer that is not mapped at EL2", () => {
  const rig = nvhe();
  const vm = makeVm(rig, EXITS);
  const [vcpu] = vm.kvm.vcpus;
  assert.ok(vcpu);
  // Host memory, but nobody has shared it.
  const stranger = rig.host.pages.addressOf(rig.host.pages.allocate());
  const state = { ...vcpu, state: { ...vcpu.state, base: stranger } };
  const vbar = register(rig, "VBAR_EL1");
  const message = panicOf(() => hypOf(rig).kvmAdjustPc(port(rig), state as typeof vcpu));
  const far = kernHypVa(modeOf(rig).va, stranger);
  assert.match(message, /^nVHE hyp panic on CPU 0 at __kvm_nvhe_handle___kvm_adjust_pc\+0x0: /);
  assert.match(message, new RegExp(`FAR:${hex(far)}`));
  // A data abort from EL2 itself, a write, translation fault of level 1, 2 or 3; PSTATE is EL2h.
  assert.match(message, /ESR:000000009600004[567]/);
  assert.match(message, /PS:[0-9a-f]{5}3c9 /);
  assert.match(message, /VCPU:0000000000000000$/);
  assert.equal(port(rig).el, 1, "the host is put back to its level");
  assert.equal(register(rig, "VBAR_EL1"), vbar);
});

Deno.test("hyp panic: a write to read-only data, which may well be read", () => {
  const rig = nvhe();
  const { symbols, va } = modeOf(rig);
  const call = (name: "__vgic_v3_save_aprs" | "__vgic_v3_restore_aprs") => {
    const p = port(rig);
    p.setGpr(0, hostSmcccId(HOST_SMCCC_FUNC[name]), 0);
    p.setGpr(1, (symbols.rodata & va.mask) >>> 0, 0xffff_0000);
    rig.host.hvc(p);
  };
  assert.ok(VgicV3CpuIfLayout.size < 4096);
  call("__vgic_v3_restore_aprs");
  assert.equal(port(rig).gprLo(0), 0);
  call("__vgic_v3_save_aprs");
  // Permission fault of level 3 on a write; the host stands in its panic function, ESR in X0 and FAR in X6.
  const p = port(rig);
  assert.deepEqual([p.pcLo(), p.pcHi()], [symbols.panicHandlerLo, symbols.panicHandlerHi]);
  assert.equal(p.gprLo(0), 0x9600_004f);
  assert.equal(p.gprLo(6) + p.gprHi(6) * 2 ** 32, symbols.rodata);
});

Deno.test("hyp panic in the world of a guest: the host gets its EL1 state back, and the vCPU is named", () => {
  const rig = nvhe();
  const vm = makeVm(rig, EXITS);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  start(vcpu);
  const names = ["VBAR_EL1", "TCR_EL1", "MAIR_EL1", "CPACR_EL1"] as const;
  const before = names.map((name) => register(rig, name));
  // A pointer within the vCPU that leads nowhere: met after the guest's EL1 state has been loaded.
  vcpu.vcpu.state.kvm = 0x10;
  const message = panicOf(() => rig.machine.run(1e6, 10 * MS));
  assert.match(message, /at __kvm_nvhe_handle___kvm_vcpu_run\+0x0: /);
  assert.match(message, new RegExp(`FAR:${hex(kernHypVa(modeOf(rig).va, 0x10))}`));
  assert.match(
    message,
    new RegExp(`VCPU:${hex(kernHypVa(modeOf(rig).va, vcpu.vcpu.state.base))}$`),
  );
  assert.deepEqual(names.map((name) => register(rig, name)), before);
  assert.equal(register(rig, "HCR_EL2"), 1n << 31n);
  assert.equal(register(rig, "VTTBR_EL2"), 0n);
});

/** EL1 registers that a host without VHE must find again. */
const EL1_STATE = SYSREGS.map(({ name }) => name).filter((name) =>
  /^(SCTLR|CPACR|TTBR[01]|TCR|AFSR[01]|MAIR|AMAIR|VBAR|CONTEXTIDR|TPIDR|CSSELR|CNTKCTL|PAR|SP)_EL1$/
    .test(name) || /^TPIDR(RO)?_EL0$/.test(name) || name === "SP_EL0"
);

Deno.test("the host's EL1 and EL0 registers are the same before and after a guest that uses its own", () => {
  const rig = nvhe();
  const { regs } = rig.machine.cores[0] as (typeof rig.machine.cores)[number];
  // Contents that no guest would have by chance, where the host itself does not care.
  for (const name of ["TTBR0_EL1", "TTBR1_EL1", "TPIDR_EL1", "TPIDR_EL0", "PAR_EL1"] as const) {
    regs.put(name, 0x5a5a_0000_0000n + 2n * BigInt(R[name]));
  }
  const before = EL1_STATE.map((name) => regs.get(name));
  const vm = makeVm(rig, KEEPER);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  start(vcpu, GUEST_RAM, 0x1234_5678n);
  for (let i = 0; i < 3; i++) {
    rig.machine.run(1e4);
    assert.equal(port(rig).inHost, false);
    assert.equal(regs.get("TPIDR_EL1"), 0x1234_5678n);
    vcpu.kick();
    rig.machine.run(1e3);
    assert.equal(vcpu.running, false);
    assert.deepEqual(EL1_STATE.map((name) => regs.get(name)), before);
    vcpu.run();
  }
});

for (
  const [name, program, vcpus] of [["exits", EXITS, 1], ["FP", KEEPER, 1], ["SMP", SMP, 2]] as const
) {
  Deno.test(`EL2 touches nothing but what it has mapped, and traces nothing: a guest of ${name}`, () => {
    let guarded: GuardedMemory | undefined;
    const rig = nvhe(vcpus, { memoryOf: (machine) => guarded = new GuardedMemory(machine) });
    let traced = 0, events = 0;
    rig.trace.listener = () => {
      events++;
      if (guarded?.at !== undefined) traced++;
    };
    guarded?.watch(rig.host.el2Code);
    const vm = makeVm(rig, program, vcpus, ({ vcpu }) => vcpu.run.exitReason === 6);
    for (const vcpu of vm.vcpus) vcpu.init(vcpu.vcpu.state.vcpuId === 0 ? [2] : [0, 2]);
    vm.vcpus[0]?.setOneReg(PC, BigInt(GUEST_RAM));
    vm.vcpus[0]?.setOneReg(X(4), 10n);
    for (const vcpu of vm.vcpus) vcpu.run();
    rig.machine.run(5e4, 20 * MS);
    assert.ok((vm.vcpus[0]?.vcpu.stat.exits ?? 0) > 0);
    assert.ok(guarded !== undefined && guarded.accesses > 100);
    assert.deepEqual([...new Set(guarded.wrong)], []);
    assert.ok(events > 2);
    assert.equal(traced, 0);
  });
}
