/** Saving and restoring the virtual CPU interface: which registers, in which order, with what effect. */
import assert from "node:assert/strict";
import type { El2Port, Sequence } from "../../../src/arm/el2_port.ts";
import { R, type SysregName } from "../../../src/arm/arch/sysregs.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import * as sr from "../../../src/kvm/hyp/vgic_v3_sr.ts";
import {
  type HypVcpu,
  KvmVcpuLayout,
  type VgicV3CpuIf,
  VgicV3CpuIfLayout,
} from "../../../src/kvm/kvm_host.ts";
import { VCPU_WORD } from "../../../src/kvm/kvm_words.ts";
import { doSteps, type StepPort } from "../sequence_steps.ts";

/** Registers as plain 64-bit storage, and a record of the accesses. */
class Registers implements StepPort {
  readonly memory = SharedMemory.create(1 << 16);
  readonly values = new Map<number, bigint>();
  readonly log: string[] = [];

  set(name: SysregName, value: bigint): void {
    this.values.set(R[name], value);
  }
  get(name: SysregName): bigint {
    return this.values.get(R[name]) ?? 0n;
  }
  #note(what: string, reg: number): void {
    const name = Object.entries(R).find(([, index]) => index === reg)?.[0];
    this.log.push(`${what} ${name}`);
  }
  readLo(reg: number): number {
    this.#note("read", reg);
    return Number((this.values.get(reg) ?? 0n) & 0xffff_ffffn);
  }
  write(reg: number, lo: number, hi: number): void {
    this.#note("write", reg);
    this.values.set(reg, (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0));
  }
  save(reg: number, to: number): void {
    this.#note("save", reg);
    this.memory.st64(to, this.values.get(reg) ?? 0n);
  }
  restore(reg: number, from: number): void {
    this.#note("restore", reg);
    this.values.set(reg, this.memory.ld64(from));
  }
  told = 0;
  looked = 0;
  run(sequence: Sequence, argument: number): void {
    doSteps(this, sequence, argument);
  }
}

interface Setup {
  readonly regs: Registers;
  readonly port: El2Port;
  readonly cpuIf: VgicV3CpuIf;
  readonly vcpu: Pick<HypVcpu, "base" | "words">;
}

function setup(usedLrs = 0): Setup {
  const regs = new Registers(), base = 64;
  const vcpu = { base, words: regs.memory.signedAt(base, KvmVcpuLayout.size >>> 2) };
  const cpuIf = VgicV3CpuIfLayout.at(regs.memory, base + 4 * VCPU_WORD.CPU_IF);
  cpuIf.usedLrs = usedLrs;
  cpuIf.vgicHcr = 1;
  return { regs, port: regs as unknown as El2Port, cpuIf, vcpu };
}

const vtr = (lrs: number, preBits: number): bigint => BigInt(((preBits - 1) << 26) | (lrs - 1));

Deno.test("restore fills the used list registers only, after turning the interface on", () => {
  const { regs, port, cpuIf, vcpu } = setup(2);
  for (let i = 0; i < 3; i++) {
    regs.memory.st64(cpuIf.lr + 8 * i, 0x5000_0000_0000_0020n + BigInt(i));
  }
  sr.__vgicV3RestoreState(port, vcpu);
  assert.deepEqual(regs.log, [
    "write ICH_HCR_EL2",
    "restore ICH_LR0_EL2",
    "restore ICH_LR1_EL2",
  ]);
  assert.equal(regs.get("ICH_LR1_EL2"), 0x5000_0000_0000_0021n);
  assert.equal(regs.get("ICH_HCR_EL2"), 1n);
});

Deno.test("save reads what is in use, notes what is empty, and clears both", () => {
  const { regs, port, cpuIf, vcpu } = setup(2);
  regs.memory.st64(cpuIf.lr, 0xd0a0_0000_0000_0020n);
  regs.set("ICH_LR0_EL2", 0n);
  regs.set("ICH_LR1_EL2", 0x90a0_0000_0000_0021n);
  regs.set("ICH_ELRSR_EL2", 1n);
  cpuIf.vgicHcr = 3;
  sr.__vgicV3SaveState(port, vcpu);
  assert.equal(regs.memory.ld64(cpuIf.lr), 0x10a0_0000_0000_0020n);
  assert.equal(regs.memory.ld64(cpuIf.lr + 8), 0x90a0_0000_0000_0021n);
  assert.equal(regs.get("ICH_LR1_EL2"), 0n);
  assert.equal(regs.get("ICH_HCR_EL2"), 2n);
  assert.deepEqual(regs.log, [
    "read ICH_ELRSR_EL2",
    "write ICH_HCR_EL2",
    "write ICH_LR0_EL2",
    "save ICH_LR1_EL2",
    "write ICH_LR1_EL2",
  ]);
});

Deno.test("more list registers than are saved at once: all of them, in their order", () => {
  for (let used = 3; used <= 16; used++) {
    const { regs, port, cpuIf, vcpu } = setup(used);
    const empty = 0b0110_1001_1010_0101 & ((1 << used) - 1);
    regs.set("ICH_ELRSR_EL2", BigInt(empty));
    for (let i = 0; i < used; i++) {
      regs.memory.st64(cpuIf.lr + 8 * i, 0xd0a0_0000_0000_0020n + BigInt(i));
      regs.values.set(R.ICH_LR0_EL2 + i, 0x90a0_0000_0000_0021n + BigInt(i));
    }
    sr.__vgicV3SaveState(port, vcpu);
    const expected = ["read ICH_ELRSR_EL2", "write ICH_HCR_EL2"];
    for (let i = 0; i < used; i++) {
      const isEmpty = (empty & (1 << i)) !== 0;
      if (!isEmpty) expected.push(`save ICH_LR${i}_EL2`);
      expected.push(`write ICH_LR${i}_EL2`);
      const kept = (isEmpty ? 0x10a0_0000_0000_0020n : 0x90a0_0000_0000_0021n) + BigInt(i);
      assert.equal(regs.memory.ld64(cpuIf.lr + 8 * i), kept, `${i} of ${used}`);
      assert.equal(regs.values.get(R.ICH_LR0_EL2 + i), 0n);
    }
    assert.deepEqual(regs.log, expected);
  }
});

Deno.test("nothing used: nothing touched", () => {
  const { regs, port, vcpu } = setup();
  sr.__vgicV3RestoreState(port, vcpu);
  sr.__vgicV3SaveState(port, vcpu);
  assert.deepEqual(regs.log, []);
});

for (const [preBits, count] of [[5, 1], [6, 2], [7, 4]] as const) {
  Deno.test(`active priorities: ${count} registers a group with ${preBits} preemption bits`, () => {
    const { regs, port, cpuIf } = setup();
    regs.set("ICH_VTR_EL2", vtr(4, preBits));
    for (let i = 0; i < 4; i++) {
      regs.values.set(R.ICH_AP0R0_EL2 + i, BigInt(0x10 + i));
      regs.values.set(R.ICH_AP1R0_EL2 + i, BigInt(0x20 + i));
    }
    sr.__vgicV3SaveAprs(port, cpuIf);
    const order = Array.from({ length: count }, (_, i) => count - 1 - i);
    assert.deepEqual(regs.log, [
      "read ICH_VTR_EL2",
      ...order.map((i) => `read ICH_AP0R${i}_EL2`),
      ...order.map((i) => `read ICH_AP1R${i}_EL2`),
    ]);
    for (let i = 0; i < 4; i++) {
      assert.equal(regs.memory.ld32(cpuIf.ap0r + 4 * i), i < count ? 0x10 + i : 0);
      regs.values.set(R.ICH_AP0R0_EL2 + i, 0n);
      regs.values.set(R.ICH_AP1R0_EL2 + i, 0n);
    }
    sr.__vgicV3RestoreAprs(port, cpuIf);
    for (let i = 0; i < count; i++) {
      assert.equal(regs.values.get(R.ICH_AP0R0_EL2 + i), BigInt(0x10 + i));
      assert.equal(regs.values.get(R.ICH_AP1R0_EL2 + i), BigInt(0x20 + i));
    }
  });
}

Deno.test("traps: ICC_SRE_EL2.Enable is taken away and given back", () => {
  const { regs, port, cpuIf } = setup();
  regs.set("ICC_SRE_EL2", 0xfn);
  sr.__vgicV3ActivateTraps(port, cpuIf);
  assert.equal(regs.get("ICC_SRE_EL2"), 7n);
  sr.__vgicV3DeactivateTraps(port, cpuIf);
  assert.equal(regs.get("ICC_SRE_EL2"), 0xfn);
});

Deno.test("all implemented list registers are cleared at the start, and no other", () => {
  const { regs, port } = setup();
  regs.set("ICH_VTR_EL2", vtr(4, 5));
  for (let i = 0; i < 16; i++) regs.values.set(R.ICH_LR0_EL2 + i, 1n);
  sr.__vgicV3InitLrs(port);
  for (let i = 0; i < 16; i++) {
    assert.equal(regs.values.get(R.ICH_LR0_EL2 + i), i < 4 ? 0n : 1n);
  }
});
