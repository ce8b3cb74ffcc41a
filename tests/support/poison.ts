/**
 * Random contents for every register that a vCPU may leave behind: put into a physical CPU each time
 * one has been taken out of it, so that whatever the next one sees of them is noticed.
 */
import { CpuLayout } from "../../src/arm/arch/cpu_state.ts";
import { type SysregName, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import type { Random } from "../../src/arm/isa/random.ts";
import { SAVED_SYSREGS } from "../../src/kvm/kvm_host.ts";
import type { KvmMachine } from "../../src/vmm/kvm_guest.ts";

/** Not storage of a guest's: identification, and what the host itself needs to keep. */
const KEPT = new Set<string>(["MPIDR_EL1", "TPIDR_EL0", "TPIDRRO_EL0", "SP_EL0", "MDSCR_EL1"]);
const DEBUG = /^DBG[BW][CV]R\d+_EL1$/;

/** The registers that are poisoned, besides the general and the FP registers. */
export const POISONED: readonly SysregName[] = SYSREGS.map(({ name }) => name).filter((name) =>
  (SAVED_SYSREGS as readonly string[]).includes(name) && !KEPT.has(name) || DEBUG.test(name)
);

/** Registers of EL1 by which a host without VHE itself runs: what a guest leaves there is put right with the rest. */
const HOST_EL1: readonly SysregName[] = ["SCTLR_EL1", "CPACR_EL1", "VBAR_EL1"];

/** Poisons a physical CPU after every vcpu_put; `puts` counts them. */
export class Poison {
  puts = 0;

  constructor(readonly kvmMachine: KvmMachine, readonly random: Random) {
    const { runner } = kvmMachine.kvm;
    const { host } = kvmMachine;
    const put = runner.kvmArchVcpuPut.bind(runner);
    const schedOut = runner.schedOut.bind(runner);
    runner.kvmArchVcpuPut = (vcpu) => {
      put(vcpu);
      this.puts++;
      this.#poison(host.currentCpu);
      // On the way to user space: another vCPU's turn, if one waits.
      host.scheduler.queue(host.currentCpu).needResched = true;
    };
    runner.schedOut = (thread) => {
      schedOut(thread);
      host.scheduler.queue(host.currentCpu).needResched = false;
    };
  }

  #poison(pcpu: number): void {
    const { random } = this;
    const core = this.kvmMachine.machine.cores[pcpu];
    if (core === undefined) throw new RangeError(`no CPU ${pcpu}`);
    const { cpu, regs } = core;
    const nvhe = this.kvmMachine.host.mode === "nvhe";
    for (const name of POISONED) {
      if (!nvhe || !HOST_EL1.includes(name)) regs.put(name, random.u64());
    }
    const { memory } = cpu;
    const fill = (at: number, bytes: number) => {
      for (let i = 0; i < bytes; i += 4) memory.st32(at + i, random.u32());
    };
    fill(cpu.base + CpuLayout.offset.vreg, 32 * 16);
    fill(cpu.base + CpuLayout.offset.gpr, 31 * 8);
    cpu.fpsr = random.u32() & 0x0800_009f;
    cpu.fpcr = random.u32() & 0x07c0_0000;
  }
}
