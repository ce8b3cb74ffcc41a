import assert from "node:assert/strict";
import { R, SYSREGS } from "../../../src/arm/arch/sysregs.ts";
import { PORT_KINDS } from "../../../src/arm/el2_port.ts";
import { COMMON_STATE, EL1_RESTORE, EL1_SAVE } from "../../../src/kvm/hyp/sysreg_sr.ts";
import type { VcpuHandle } from "../../../src/kvm/api.ts";
import { EXITS } from "../guests.ts";
import { ERRNO, KVM_EXIT } from "../../../src/kvm/kvm_host.ts";
import { events, GUEST_RAM, makeRig, makeVm, PC, X } from "../kvm_rig.ts";

/** Every port operation of CPU 0, as "kind operand". */
function record(hvcs: bigint): string[] {
  const rig = makeRig();
  const vm = makeVm(rig, EXITS, 1, ({ vcpu }) => vcpu.run.exitReason === 6);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  const log: string[] = [];
  const port = rig.machine.ports[0];
  assert.ok(port);
  port.log = (kind, operand) =>
    log.push(`${kind} ${typeof operand === "number" ? SYSREGS[operand]?.name : operand}`.trim());
  vcpu.init();
  vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  vcpu.setOneReg(X(4), hvcs);
  vcpu.run();
  rig.machine.run(1e6, 1e7);
  return log;
}

Deno.test("switch: the operations from an exit by HVC to the next entry are these", () => {
  const log = record(3n);
  // Entries; the host's way back from an interrupt of its own is an ERET, too.
  const erets = log.flatMap((text, i) => text === "eret" && log[i - 1] === "gprRestore" ? [i] : []);
  // The second entry runs to the first HVC (the first one faults on its page).
  const between = log.slice((erets[1] ?? 0) + 1, (erets[2] ?? 0) + 1);
  assert.deepEqual(between, [
    "trap",
    "gprSave",
    "sysregSave SP_EL0",
    "sysregRestore SP_EL0",
    "sysregSave SPSR_EL2",
    "sysregRead ESR_EL2",
    "sysregSave MDSCR_EL1",
    "sysregSave ELR_EL2",
    "sysregWrite HCR_EL2",
    "sysregWrite CPTR_EL2",
    "sysregWrite VBAR_EL2",
    "sysregRestore MDSCR_EL1",
    "isb",
    "interruptMask",
    "interruptMask",
    "sysregSave MDSCR_EL1",
    "sysregWrite VTCR_EL2",
    "sysregWrite VTTBR_EL2",
    "sysregWrite HCR_EL2",
    "sysregWrite CPTR_EL2",
    "sysregWrite VBAR_EL2",
    "sysregRestore MDSCR_EL1",
    "sysregRestore ELR_EL2",
    "sysregWrite SPSR_EL2",
    "sysregSave SP_EL0",
    "sysregRestore SP_EL0",
    "gprRestore",
    "eret",
  ]);
});

for (const mode of ["vhe", "nvhe"] as const) {
  Deno.test(`switch: a saved PSTATE of EL2 is an illegal return, not the host's privileges, ${mode}`, () => {
    const rig = makeRig(1, 4, { mode });
    const rets: number[] = [];
    const vm = makeVm(rig, EXITS, 1, (_, ret) => {
      rets.push(ret);
      return false;
    });
    const vcpu = vm.vcpus[0] as VcpuHandle;
    vcpu.init();
    vcpu.setOneReg(PC, BigInt(GUEST_RAM));
    // Nothing that user space could ask for: the structure has been overwritten.
    vcpu.vcpu.ctxt.pstate = 0x3c9n;
    vcpu.run();
    rig.machine.run(1e5, 1e7);
    assert.deepEqual(rets, [ERRNO.EINVAL]);
    assert.equal(vcpu.vcpu.run.exitReason, KVM_EXIT.FAIL_ENTRY);
    assert.equal(vcpu.vcpu.stat.insns, 0);
    assert.ok(events(rig.trace).some((e) => e.startsWith("kvm_exit IL: ")));
  });
}

/** Where a run of so many exits ends, and what it has counted. */
function ends(mode: "vhe" | "nvhe", logged: boolean): unknown[] {
  const rig = makeRig(1, 4, { mode });
  const vm = makeVm(rig, EXITS, 1, ({ vcpu }) => vcpu.run.exitReason === KVM_EXIT.MMIO);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  const port = rig.machine.ports[0];
  assert.ok(port);
  let operations = 0;
  const before = PORT_KINDS.reduce((sum, kind) => sum + port.counters[kind], 0);
  if (logged) port.log = () => operations++;
  vcpu.init();
  vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  vcpu.setOneReg(X(4), 400n);
  vcpu.run();
  rig.machine.run(1e6, 1e8);
  assert.equal(vcpu.vcpu.run.exitReason, KVM_EXIT.SYSTEM_EVENT);
  const counts = PORT_KINDS.map((kind) => port.counters[kind]);
  if (logged) assert.equal(before + operations, counts.reduce((sum, n) => sum + n, 0));
  return [rig.machine.stateHash(), rig.machine.nowNs, counts, port.counters.ns];
}

for (const mode of ["vhe", "nvhe"] as const) {
  Deno.test(`switch: hot or done step by step, it is the same to the guest, the counters and time, ${mode}`, () => {
    assert.deepEqual(ends(mode, false), ends(mode, true));
  });
}

Deno.test("switch: load and put move every EL1 register once, by its EL12 name", () => {
  const log = record(1n);
  const put = log.filter((text) => text === "sysregSave SCTLR_EL12").length;
  const load = log.filter((text) => text === "sysregRestore SCTLR_EL12").length;
  assert.deepEqual([put, load], [2, 2]);
  const saved = new Set(EL1_SAVE.vhe.map(({ offset }) => offset));
  const restored = new Set(EL1_RESTORE.vhe.map(({ offset }) => offset));
  // MPIDR_EL1 is never written by the guest: it is only loaded, as VMPIDR_EL2.
  assert.deepEqual([...restored].filter((offset) => !saved.has(offset)).length, 1);
  assert.deepEqual([...saved].filter((offset) => !restored.has(offset)), []);
  assert.deepEqual(COMMON_STATE.vhe.map(({ reg }) => reg), [R.MDSCR_EL1]);
});
