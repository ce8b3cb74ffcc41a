/** A second VM on a machine that has one: the unit guest at the same guest physical addresses, in pages of its own. */
import image from "../../fixtures/guests/unit/unit.bin" with { type: "bytes" };
import { type VcpuHandle, type Vm } from "../../src/kvm/api.ts";
import { coreRegId } from "../../src/kvm/guest.ts";
import { KVM_EXIT } from "../../src/kvm/kvm_host.ts";
import { VGIC_CTRL_INIT, VGIC_GRP, VGIC_V3_ADDR_TYPE } from "../../src/kvm/vgic/vgic_kvm_device.ts";
import type { KvmMachine } from "../../src/vmm/kvm_guest.ts";
import { UNIT } from "./unit_guest.ts";
import type { Operation } from "./unit_operations.ts";

const PAGE = 4096;
const RAM = 0x4000_0000;
const REG_PC = coreRegId(256, 8);

export class NeighbourVm {
  readonly vm: Vm;
  readonly pfns: Uint32Array;
  /** It has ended its script. */
  off = false;

  constructor(readonly kvmMachine: KvmMachine, bytes: number) {
    this.pfns = kvmMachine.allocatePages(bytes, false);
    this.vm = kvmMachine.kvm.createVm();
    this.vm.createVgic(3);
    this.vm.setUserMemoryRegion(0, RAM, this.pfns);
    const vcpu = this.vm.createVcpu(0, (handle) => this.#onExit(handle));
    vcpu.init();
    vcpu.setOneReg(REG_PC, BigInt(UNIT.entry));
    this.vm.setVgicAttr(VGIC_GRP.NR_IRQS, 0n, 256n);
    this.vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.DIST), 0x0800_0000n);
    this.vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.REDIST), 0x080a_0000n);
    this.vm.setVgicAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n);
    this.#load();
  }

  #onExit({ vcpu: { run } }: VcpuHandle): boolean {
    if (run.exitReason === KVM_EXIT.SYSTEM_EVENT) this.off = true;
    if (!run.mmioIsWrite) run.mmioData = 0n;
    return run.exitReason === KVM_EXIT.MMIO;
  }

  #load(): void {
    const { memory } = this.kvmMachine.machine;
    for (let done = 0; done < image.length; done += PAGE) {
      memory.u8.set(image.subarray(done, done + PAGE), this.#offsetOf(UNIT.entry + done));
    }
  }

  #offsetOf(ipa: number): number {
    const pfn = this.pfns[Math.floor((ipa - RAM) / PAGE)];
    if (pfn === undefined) throw new RangeError(`IPA 0x${ipa.toString(16)}`);
    const { ram } = this.kvmMachine.machine;
    return ram.at + pfn * PAGE - ram.pa + (ipa % PAGE);
  }

  /** Puts operations into the block of CPU 0. */
  script(operations: readonly Operation[]): this {
    const { memory } = this.kvmMachine.machine;
    operations.forEach((words, i) =>
      words.forEach((word, w) => {
        const ipa = UNIT.commands.at + i * UNIT.commands.operation + 8 * w;
        memory.st64(this.#offsetOf(ipa), BigInt.asUintN(64, BigInt(word)));
      })
    );
    return this;
  }

  read64(ipa: number): bigint {
    return this.kvmMachine.machine.memory.ld64(this.#offsetOf(ipa));
  }

  /** Results of operation `operation`, oldest first: intid and value. */
  results(operation: number): { intid: bigint; value: bigint }[] {
    const { log } = UNIT;
    const count = Number(this.read64(log.at));
    if (count > log.entries) throw new RangeError("the log has wrapped");
    return Array.from({ length: count }, (_, n) => log.at + log.header + n * log.entry)
      .filter((at) => this.read64(at) === BigInt(0x100 + operation))
      .map((at) => ({ intid: this.read64(at + 8), value: this.read64(at + 24) }));
  }
}
