/** Words of a vCPU's structure: they are what the views show, and what is left out because of them does nothing. */
import assert from "node:assert/strict";
import {
  kvmArmClearDebug,
  kvmArmDebugIdle,
  kvmArmDebugSettled,
  kvmArmSetupDebug,
} from "../../src/kvm/debug.ts";
import { IFLAG, SAVED, type Vcpu } from "../../src/kvm/kvm_host.ts";
import { VCPU_WORD } from "../../src/kvm/kvm_words.ts";
import { kvmPmuIsQuiet, kvmPmuSyncHwstate } from "../../src/kvm/pmu_emul.ts";
import { World } from "./vgic/world.ts";

const HPMN = 6, KDE = 0x2000, MDE = 0x8000, OSLK = 2;

function makeVcpu(): Vcpu {
  const { host, kvm } = new World({ vcpus: 1 });
  host.initialMdcrEl2 = () => HPMN;
  const vcpu = kvm.vcpus[0] as Vcpu;
  vcpu.state.features = 1 << 3;
  return vcpu;
}

/** Every choice of one value of each list. */
function choices(...lists: readonly (readonly number[])[]): number[][] {
  return lists.reduce<number[][]>(
    (all, list) => all.flatMap((some) => list.map((value) => [...some, value])),
    [[]],
  );
}

/** What `body` changes of the vCPU's structure. */
function changes(vcpu: Vcpu, body: () => void): number {
  const before = vcpu.words.slice();
  body();
  return vcpu.words.filter((word, i) => word !== before[i]).length;
}

Deno.test("the words are those of the views", () => {
  const { state, words, vgic, cpuIf, ctxt, base } = makeVcpu();
  state.mode = 2;
  state.requests = 5;
  state.faultEsr = 0x5a00_0000;
  assert.equal(words[VCPU_WORD.MODE], 2);
  assert.equal(words[VCPU_WORD.REQUESTS], 5);
  assert.equal(words[VCPU_WORD.ESR], 0x5a00_0000);
  assert.notEqual(vgic.cpuStat, 0);
  assert.equal(words[VCPU_WORD.VGIC_STAT], vgic.cpuStat);
  assert.equal(base + 4 * VCPU_WORD.LR, cpuIf.lr);
  assert.equal(base + 4 * VCPU_WORD.AP_LIST, vgic.apListHead);
  assert.equal(base + 4 * VCPU_WORD.REGS, ctxt.regs);
  assert.equal(base + 4 * VCPU_WORD.MPIDR, ctxt.sysregs + 8 * SAVED.MPIDR_EL1);
});

Deno.test("entries and exits leave out debugging only where it would change nothing", () => {
  const vcpu = makeVcpu(), { words, state } = vcpu;
  kvmArmSetupDebug(vcpu);
  const settled = state.mdcr;
  let seen = 0;
  for (
    const [debug, dirty, lock, mdscr, mdcr] of choices(
      [0, 1, 3],
      [0, IFLAG.DEBUG_DIRTY],
      [0, OSLK],
      [0, KDE, MDE],
      [settled, settled ^ 1],
    )
  ) {
    const set = () => {
      state.guestDebug = debug as number;
      state.iflags = dirty as number;
      state.mdcr = mdcr as number;
      words[VCPU_WORD.OSLSR] = lock as number;
      words[VCPU_WORD.MDSCR] = mdscr as number;
    };
    set();
    if (kvmArmDebugSettled(words, HPMN)) {
      assert.equal(changes(vcpu, () => assert.equal(kvmArmSetupDebug(vcpu), false)), 0);
      seen++;
    }
    set();
    if (kvmArmDebugIdle(words)) {
      assert.equal(changes(vcpu, () => kvmArmClearDebug(vcpu)), 0);
      seen++;
    }
  }
  // With no debugging at all, and for an exit also whatever MDSCR_EL1 and MDCR_EL2 are.
  assert.equal(seen, 1 + 6);
});

Deno.test("entries and exits leave out the monitors only where they would change nothing", () => {
  const vcpu = makeVcpu(), { words, state } = vcpu;
  let seen = 0;
  for (const [pmcr, level, overflows] of choices([0, 1], [0, 1], [0, 1])) {
    words[VCPU_WORD.PMCR] = pmcr as number;
    state.pmuIrqLevel = level === 1;
    for (const name of ["PMOVSSET_EL0", "PMINTENSET_EL1"] as const) {
      state.memory.st32(vcpu.ctxt.sysregs + 8 * SAVED[name], overflows as number);
    }
    if (!kvmPmuIsQuiet(words)) continue;
    assert.equal(changes(vcpu, () => kvmPmuSyncHwstate(vcpu)), 0);
    seen++;
  }
  assert.equal(seen, 2);
});
