/** KVM around hot guest code: memory slots that move, recycled pages, VMs side by side, user space that debugs. */
import assert from "node:assert/strict";
import { KVM_EXIT, KVM_GUESTDBG, type VcpuHandle, type Vm } from "../../src/kvm/api.ts";
import { Asm, COND } from "../support/asm.ts";
import { onAllTiers, SCTLR, type Tier } from "../support/tier_machine.ts";
import { GUEST_RAM, makeRig, makeVm, PC, type Rig, start, X } from "./kvm_rig.ts";

const MS = 1_000_000;
/** Where user space is asked for something: an MMIO read there. */
const DOOR = 0x0a00_0000;
const FUNCTION = 0x5000_0000, DATA = 0x5000_1000;
const ROUNDS = 24, CALLS = 30;

type Mode = "vhe" | "nvhe";
const MODES: readonly Mode[] = ["vhe", "nvhe"];

/** Calls the function CALLS times, logs its sum by the door, and so on: X10 rounds, then "off". */
function caller(rounds: number): Asm {
  // Fetches are cached, without translation too: bytes are not compared now and then.
  const a = new Asm(GUEST_RAM).mov(1, SCTLR.RES1 | SCTLR.I).msr("SCTLR_EL1", 1).isb();
  a.mov(0, 0).mov(9, FUNCTION).mov(12, DATA).mov(13, DOOR).mov(10, rounds);
  a.label("round").mov(11, CALLS).label("call").blr(9).subs(11, 11, 1).bCond(COND.NE, "call");
  a.ldrW(14, 13).subs(10, 10, 1).bCond(COND.NE, "round");
  return a.mov(0, 0x8400_0008).hvc();
}

/** Host pages with `words` each, written as user space does: nobody is told. */
function pagesWith(rig: Rig, ...programs: readonly (readonly number[])[]): number[] {
  return programs.map((words) => {
    const pfn = rig.host.pages.allocate();
    fill(rig, pfn, words);
    return pfn;
  });
}
function fill({ machine, host }: Rig, pfn: number, words: readonly number[]): void {
  machine.memory.u32.set(words, host.pages.addressOf(pfn) / 4);
}

/** x0 += n + [x12]; [x12] += 1 */
function adder(n: number): number[] {
  const a = new Asm(FUNCTION).ldr(3, 12).add(4, 3, 1).str(4, 12);
  return a.addReg(0, 0, 3).add(0, 0, n).ret().words();
}

/** Runs until nothing of the VM is in KVM_RUN any more. */
function finish(rig: Rig, ...vms: readonly Vm[]): void {
  const running = () => vms.some((vm) => vm.vcpus.some((v) => v.running));
  for (let i = 0; i < 400 && running(); i++) rig.machine.run(50_000, rig.machine.nowNs + MS);
  assert.ok(!running(), "the guest has ended");
}

for (const mode of MODES) {
  Deno.test(`${mode}: the slots of hot code and its data are replaced under it`, () =>
    onAllTiers((regions) => {
      const rig = makeRig(1, 4, { mode, regions });
      const codes = pagesWith(rig, adder(1), adder(0x100), adder(0x800));
      const datas = pagesWith(rig, [0], [0]);
      const sums: bigint[] = [];
      const place = (vm: Vm, turn: number) => {
        for (const [slot, ipa, pages] of [[1, FUNCTION, codes], [2, DATA, datas]] as const) {
          if (turn > 0) vm.setUserMemoryRegion(slot, 0, []);
          vm.setUserMemoryRegion(slot, ipa, [pages[turn % pages.length] as number]);
        }
      };
      const vm = makeVm(rig, caller(ROUNDS).words(), 1, (handle) => {
        if (handle.vcpu.run.exitReason !== KVM_EXIT.MMIO) return false;
        sums.push(handle.getOneReg(X(0)));
        place(vm, sums.length);
        return true;
      });
      place(vm, 0);
      start(vm.vcpus[0] as VcpuHandle);
      finish(rig, vm);
      assert.deepEqual(sums, expectedSums([1, 0x100, 0x800]));
      return { machine: rig.machine, seen: sums.map(String) };
    }));
}

/** The sums of the test above: data pages by turns, functions by turns. */
function expectedSums(adding: readonly number[]): bigint[] {
  const counts = [0, 0];
  let x0 = 0;
  return Array.from({ length: ROUNDS }, (_, round) => {
    for (let call = 0; call < CALLS; call++) {
      x0 += (counts[round % 2] as number) + (adding[round % 3] as number);
      counts[round % 2] = (counts[round % 2] as number) + 1;
    }
    return BigInt(x0);
  });
}

for (const mode of MODES) {
  Deno.test(`${mode}: user space writes other code into a page while it is not mapped`, () =>
    onAllTiers((regions) => {
      const rig = makeRig(1, 4, { mode, regions });
      const [code, data] = pagesWith(rig, adder(1), [0, 0]) as [number, number];
      const sums: bigint[] = [];
      const vm = makeVm(rig, caller(ROUNDS).words(), 1, (handle) => {
        if (handle.vcpu.run.exitReason !== KVM_EXIT.MMIO) return false;
        sums.push(handle.getOneReg(X(0)));
        vm.setUserMemoryRegion(1, 0, []);
        fill(rig, code, adder(1 + sums.length));
        vm.setUserMemoryRegion(1, FUNCTION, [code]);
        return true;
      });
      vm.setUserMemoryRegion(1, FUNCTION, [code]);
      vm.setUserMemoryRegion(2, DATA, [data]);
      start(vm.vcpus[0] as VcpuHandle);
      finish(rig, vm);
      let calls = 0, x0 = 0;
      const expected = Array.from({ length: ROUNDS }, (_, round) => {
        for (let i = 0; i < CALLS; i++) x0 += 1 + round + calls++;
        return BigInt(x0);
      });
      assert.deepEqual(sums, expected);
      return { machine: rig.machine, seen: sums.map(String) };
    }));
}

Deno.test("a VM's pages are the next one's, with other code in them", () =>
  onAllTiers((regions) => {
    const rig = makeRig(1, 4, { regions });
    const [code, data] = pagesWith(rig, [], []) as [number, number];
    const sums: string[] = [];
    for (let n = 1; n <= 6; n++) {
      fill(rig, code, adder(n));
      fill(rig, data, [0, 0]);
      let sum = 0n;
      const vm = makeVm(rig, caller(8).words(), 1, (handle) => {
        sum = handle.vcpu.run.exitReason === KVM_EXIT.MMIO ? handle.getOneReg(X(0)) : sum;
        return handle.vcpu.run.exitReason === KVM_EXIT.MMIO;
      });
      vm.setUserMemoryRegion(1, FUNCTION, [code]);
      vm.setUserMemoryRegion(2, DATA, [data]);
      start(vm.vcpus[0] as VcpuHandle);
      finish(rig, vm);
      const calls = 8 * CALLS;
      assert.equal(sum, BigInt(calls * n + calls * (calls - 1) / 2), `VM ${n}`);
      sums.push(String(sum));
      vm.destroy();
    }
    return { machine: rig.machine, seen: sums };
  }));

for (const mode of MODES) {
  Deno.test(`${mode}: two VMs with other code and data at the same addresses, by turns on one CPU`, () =>
    onAllTiers((regions) => {
      const rig = makeRig(1, 4, { mode, regions });
      const sums = [0n, 0n];
      const vms = [1, 0x100].map((n, i) => {
        const [code, data] = pagesWith(rig, adder(n), [0, 0]) as [number, number];
        const vm = makeVm(rig, caller(40 * ROUNDS).words(), 1, (handle) => {
          if (handle.vcpu.run.exitReason !== KVM_EXIT.MMIO) return false;
          sums[i] = handle.getOneReg(X(0));
          return true;
        });
        vm.setUserMemoryRegion(1, FUNCTION, [code]);
        vm.setUserMemoryRegion(2, DATA, [data]);
        start(vm.vcpus[0] as VcpuHandle);
        return vm;
      });
      finish(rig, ...vms);
      const calls = 40 * ROUNDS * CALLS, triangle = calls * (calls - 1) / 2;
      assert.deepEqual(sums, [BigInt(calls + triangle), BigInt(0x100 * calls + triangle)]);
      return { machine: rig.machine, seen: sums.map(String) };
    }));
}

// User space debugs

/** Counts in X0 and in memory for ever. */
function counting(): Asm {
  const a = new Asm(GUEST_RAM).mov(1, SCTLR.RES1 | SCTLR.I).msr("SCTLR_EL1", 1).isb();
  a.mov(0, 0).mov(12, GUEST_RAM + 0x3000).label("loop").ldr(3, 12);
  a.label("add").add(3, 3, 1).label("store").str(3, 12).bl("count").b("loop");
  return a.label("count").add(0, 0, 1).ret();
}

function debugged(mode: Mode, regions: Tier): { rig: Rig; seen: string[] } {
  const rig = makeRig(1, 4, { mode, regions });
  const code = counting();
  const vm = makeVm(rig, code.words(), 1);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  const seen: string[] = [];
  const at = (label: string) => BigInt(code.addressOf(label));
  const out = () => {
    for (let i = 0; i < 50 && vcpu.running; i++) rig.machine.run(2000, rig.machine.nowNs + MS);
    if (vcpu.running) vcpu.kick();
    for (let i = 0; i < 50 && vcpu.running; i++) rig.machine.run(2000, rig.machine.nowNs + MS);
    const [pc, x0] = [vcpu.getOneReg(PC), vcpu.getOneReg(X(0))];
    seen.push(`${vcpu.vcpu.run.exitReason} ${pc.toString(16)} ${x0}`);
    return pc;
  };
  const hw = { bcr: [0x1e7n], wcr: [], wvr: [] };
  start(vcpu);
  out();
  for (const label of ["add", "store", "count", "loop"]) {
    const control = KVM_GUESTDBG.ENABLE | KVM_GUESTDBG.USE_HW;
    vcpu.setGuestDebug({ control, ...hw, bvr: [at(label)] });
    vcpu.run();
    assert.equal(out(), at(label));
    // Steps on from there, then runs freely
    vcpu.setGuestDebug({ control: KVM_GUESTDBG.ENABLE | KVM_GUESTDBG.SINGLESTEP });
    for (let i = 0; i < 9; i++) {
      vcpu.run();
      out();
    }
    vcpu.setGuestDebug({
      control,
      bcr: [],
      bvr: [],
      wcr: [0x1fffn],
      wvr: [BigInt(GUEST_RAM + 0x3000)],
    });
    vcpu.run();
    assert.ok([at("loop"), at("store")].includes(out()));
    vcpu.setGuestDebug({ control: 0 });
    vcpu.run();
    out();
  }
  return { rig, seen };
}

for (const mode of MODES) {
  Deno.test(`${mode}: user space sets breakpoints in a hot loop, steps, watches, and lets it go`, () =>
    onAllTiers((regions) => {
      const { rig, seen } = debugged(mode, regions);
      assert.equal(seen.length, 1 + 4 * 12);
      return { machine: rig.machine, seen };
    }));
}
