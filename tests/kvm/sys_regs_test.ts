import assert from "node:assert/strict";
import { sysregKey, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import { issSys64 } from "../../src/arm/arch/syndrome.ts";
import { SAVED_SYSREGS } from "../../src/kvm/kvm_host.ts";
import { mpidrOfVcpu, sys64Key, SYS_REG_DESCS, sysRegDesc } from "../../src/kvm/sys_regs.ts";
import type { VcpuHandle } from "../../src/kvm/api.ts";
import { kvmHandleSysReg } from "../../src/kvm/sys_regs.ts";
import { makeRig, makeVm } from "./kvm_rig.ts";

Deno.test("sys_regs: each encoding has one row, and each kept register a reset value", () => {
  assert.equal(new Set(SYS_REG_DESCS.map(({ key }) => key)).size, SYS_REG_DESCS.length);
  const kept = SYS_REG_DESCS.filter(({ reg }) => reg !== undefined);
  assert.deepEqual(
    [...SAVED_SYSREGS].filter((name) => !kept.some(({ reg }) => reg === name)),
    [],
  );
  assert.ok(kept.every(({ reset }) => reset !== undefined));
});

Deno.test("sys_regs: whatever HCR_EL2, MDCR_EL2 and the GIC trap for KVM's settings has a handler", () => {
  const trapped = SYSREGS.filter(({ name, key, kind }) => {
    const id = key >= sysregKey(3, 0, 0, 1, 0) && key <= sysregKey(3, 0, 0, 7, 7);
    // KVM has no rows for the registers of the external debugger's channel: they are UNDEFINED.
    const channel = ["OSDTRRX_EL1", "OSDTRTX_EL1", "OSECCR_EL1"].includes(name);
    const debug = key >> 14 === 2 && name !== "DBGVCR32_EL2" && !channel;
    const vm = /^(SCTLR|TTBR[01]|TCR|ESR|FAR|AFSR[01]|MAIR|AMAIR|CONTEXTIDR|ACTLR)_EL1$/.test(name);
    const lor = /^LOR/.test(name);
    const sgi = /^ICC_(A?SGI[01]R|SRE)_EL1$/.test(name);
    return kind !== "alias" && (id || debug || vm || lor || sgi);
  });
  assert.ok(trapped.length > 100);
  assert.deepEqual(
    trapped.filter(({ key }) => sysRegDesc(key)?.access === undefined).map(({ name }) => name),
    [],
  );
});

Deno.test("sys_regs: the whole identification space answers", () => {
  for (let crm = 1; crm < 8; crm++) {
    for (let op2 = 0; op2 < 8; op2++) {
      assert.ok(sysRegDesc(sysregKey(3, 0, 0, crm, op2))?.access, `CRm ${crm} op2 ${op2}`);
    }
  }
});

Deno.test("sys_regs: the encoding is found in a syndrome", () => {
  for (const { key } of SYSREGS) {
    assert.equal(sys64Key(issSys64(key, 31, true) | (0x18 << 26)), key);
  }
});

Deno.test("sys_regs: MPIDR_EL1 puts 16 vCPUs into a cluster", () => {
  assert.deepEqual([0, 15, 16, 300].map(mpidrOfVcpu), [
    0x8000_0000n,
    0x8000_000fn,
    0x8000_0100n,
    0x8000_120cn,
  ]);
});

/** Lets an initialised vCPU that is not loaded make one trapped access. */
function access(vcpu: VcpuHandle, name: string, read: boolean, value = 0n): bigint | "undefined" {
  const reg = SYSREGS.find((r) => r.name === name);
  assert.ok(reg);
  const { state, ctxt } = vcpu.vcpu;
  state.iflags = 0;
  state.memory.st64(ctxt.regs + 8 * 5, value);
  state.faultEsr = ((0x18 << 26) | (1 << 25) | issSys64(reg.key, 5, read)) >>> 0;
  kvmHandleSysReg(vcpu.vcpu);
  return (state.iflags & 1) !== 0 ? "undefined" : state.memory.ld64(ctxt.regs + 8 * 5);
}

Deno.test("sys_regs: identification registers show what the guest gets, and cannot be written", () => {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init();
  assert.equal(access(vcpu, "ID_AA64DFR0_EL1", true), 0x1030_5006n);
  const pfr0 = access(vcpu, "ID_AA64PFR0_EL1", true);
  assert.equal(typeof pfr0 === "bigint" && (pfr0 >> 24n) & 15n, 1n);
  assert.equal(access(vcpu, "ID_AA64PFR0_EL1", false, 1n), "undefined");
  assert.equal(access(vcpu, "ID_AA64SMFR0_EL1", true), 0n);
});

Deno.test("sys_regs: TVM goes once MMU and caches are on", () => {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init();
  const tvm = () => (vcpu.vcpu.state.hcrLo >>> 26) & 1;
  assert.equal(tvm(), 1);
  access(vcpu, "SCTLR_EL1", false, 1n);
  assert.equal(tvm(), 1);
  access(vcpu, "SCTLR_EL1", false, 5n);
  assert.equal(tvm(), 0);
  assert.equal(access(vcpu, "SCTLR_EL1", true), 5n);
});

Deno.test("sys_regs: OS lock and debug registers", () => {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init();
  assert.equal(access(vcpu, "OSLSR_EL1", true), 8n);
  access(vcpu, "OSLAR_EL1", false, 1n);
  assert.equal(access(vcpu, "OSLSR_EL1", true), 10n);
  assert.equal(access(vcpu, "OSLSR_EL1", false, 0n), "undefined");
  access(vcpu, "DBGBVR1_EL1", false, 0x1234_5678_9000n);
  assert.equal(access(vcpu, "DBGBVR1_EL1", true), 0x1234_5678_9000n);
  assert.equal(access(vcpu, "DBGBVR0_EL1", true), 0n);
});

Deno.test("sys_regs: CCSIDR_EL1 of a data cache has no geometry, of an instruction cache it has", () => {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init();
  const geometry = 0x0fff_fff8n;
  const read = (csselr: bigint) => {
    access(vcpu, "CSSELR_EL1", false, csselr);
    const value = access(vcpu, "CCSIDR_EL1", true);
    return typeof value === "bigint" ? value : -1n;
  };
  assert.equal(read(0n) & geometry, 0n);
  assert.equal(read(0n) & 7n, 2n); // lines of 64 bytes
  assert.notEqual(read(1n) & geometry, 0n);
  assert.equal(read(2n) & geometry, 0n);
  assert.equal(access(vcpu, "CCSIDR_EL1", false, 0n), "undefined");
});

Deno.test("sys_regs: LORegions are RAZ/WI, but for LORID_EL1, which cannot be written", () => {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init();
  access(vcpu, "LORC_EL1", false, 77n);
  assert.equal(access(vcpu, "LORC_EL1", true), 0n);
  assert.equal(access(vcpu, "LORID_EL1", true), 0n);
  assert.equal(access(vcpu, "LORID_EL1", false, 1n), "undefined");
});

Deno.test("sys_regs: a set/way operation sets TVM, and the guest's caches coming on clears it", () => {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init();
  const { state } = vcpu.vcpu;
  const tvm = () => (state.hcrLo >>> 26) & 1;
  access(vcpu, "SCTLR_EL1", false, 5n);
  assert.equal(tvm(), 0);
  const dcCsw = sysregKey(1, 0, 7, 10, 2);
  state.faultEsr = ((0x18 << 26) | (1 << 25) | issSys64(dcCsw, 5, false)) >>> 0;
  kvmHandleSysReg(vcpu.vcpu);
  assert.equal(tvm(), 1);
  access(vcpu, "TTBR0_EL1", false, 0n);
  assert.equal(tvm(), 0);
});

Deno.test("sys_regs: what no guest has is UNDEFINED, and so is what is implementation defined", () => {
  const vcpu = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  vcpu.init();
  const { state } = vcpu.vcpu;
  const encodings = [
    sysregKey(3, 0, 2, 1, 0), // APIAKEYLO_EL1
    sysregKey(3, 0, 1, 2, 0), // ZCR_EL1
    sysregKey(3, 0, 9, 9, 0), // PMSCR_EL1
    sysregKey(3, 3, 13, 5, 7), // AMEVCNTR015_EL0
    sysregKey(3, 0, 15, 2, 1), // implementation defined
  ];
  for (const key of encodings) {
    for (const read of [true, false]) {
      state.iflags = 0;
      state.faultEsr = ((0x18 << 26) | (1 << 25) | issSys64(key, 5, read)) >>> 0;
      kvmHandleSysReg(vcpu.vcpu);
      assert.equal(state.iflags & 3, 1, key.toString(16));
    }
  }
});
