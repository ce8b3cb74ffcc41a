/**
 * A VM for random code. Its vectors and stage-1 tables lie in read-only memory, so that nothing the
 * random code does can take them away: they skip what faulted, and go to another place of the code when
 * there is nothing to skip or the timer says that it is enough.
 */
import { sysreg, type SysregName } from "../../src/arm/arch/sysregs.ts";
import type { RegionOptions } from "../../src/arm/engine/regions.ts";
import type { Random } from "../../src/arm/isa/random.ts";
import { VCPU_FEATURE, type VcpuHandle, type Vm } from "../../src/kvm/api.ts";
import { coreRegId, sysRegId } from "../../src/kvm/guest.ts";
import { ERRNO, KVM_EXIT } from "../../src/kvm/kvm_host.ts";
import { KVM_MEM_READONLY } from "../../src/kvm/mmu.ts";
import { VGIC_CTRL_INIT, VGIC_GRP, VGIC_V3_ADDR_TYPE } from "../../src/kvm/vgic/vgic_kvm_device.ts";
import { KvmMachine } from "../../src/vmm/kvm_guest.ts";
import { Asm, COND } from "./asm.ts";

const PAGE = 4096;
const MIB = 1 << 20;

/** Guest physical addresses. */
export const FUZZ = {
  stub: { ipa: 0x4000_0000, bytes: 4 * PAGE },
  code: { ipa: 0x4020_0000, bytes: 4 * PAGE },
  data: { ipa: 0x4040_0000, bytes: 64 * PAGE },
} as const;

const VECTORS = FUZZ.stub.ipa;
const ENTRY = FUZZ.stub.ipa + 0x800;
const LEVEL1 = FUZZ.stub.ipa + PAGE;
const LEVEL2 = FUZZ.stub.ipa + 2 * PAGE;

const TIMER_TICKS = 900;
const GICR_SGI_FRAMES = [0x080b_0000, 0x080d_0000];
const SPSR_IL = 20;

/** Exception to a place of the code by the counter, times 297 so that near times go to far places. */
function goElsewhere(asm: Asm): void {
  const words = Math.log2(FUZZ.code.bytes / 4);
  asm.mrs(0, "CNTVCT_EL0").addShifted(0, 0, 0, 3).addShifted(0, 0, 0, 5)
    .mov(1, FUZZ.code.ipa).bfi(1, 0, 2, words).msr("ELR_EL1", 1);
}

/** The timer fires again soon, whatever the code has done with it. */
function armTimer(asm: Asm): void {
  asm.mov(1, TIMER_TICKS).msr("CNTV_TVAL_EL0", 1).mov(1, 1).msr("CNTV_CTL_EL0", 1);
}

/** Vectors, the start of a round, and the handlers. X0 to X2 are theirs. */
function stubCode(): number[] {
  const asm = new Asm(VECTORS);
  const kinds = ["sync", "irq", "fiq", "serror"];
  for (let vector = 0; vector < 16; vector++) {
    asm.org(VECTORS + 0x80 * vector).b(kinds[vector % 4] as string);
  }
  asm.org(ENTRY).mov(0, VECTORS).msr("VBAR_EL1", 0);
  for (const frame of GICR_SGI_FRAMES) {
    asm.mov(0, frame).mov(1, 0xffff_ffff).strW(1, 0, 0x380).strW(1, 0, 0x80).strW(1, 0, 0x100);
  }
  asm.mov(0, 0x0800_0000).mov(1, 0x12).strW(1, 0, 0);
  asm.msr("ICC_CTLR_EL1", 31).msr("ICC_AP1R0_EL1", 31).msr("ICC_AP0R0_EL1", 31);
  asm.mov(1, 0xff).msr("ICC_PMR_EL1", 1).mov(1, 1).msr("ICC_IGRPEN1_EL1", 1)
    .msr("ICC_IGRPEN0_EL1", 1);
  armTimer(asm);
  asm.isb().eret();

  asm.label("irq").mrs(0, "ICC_IAR1_EL1").msr("ICC_EOIR1_EL1", 0).b("elsewhere");
  asm.label("fiq").mrs(0, "ICC_IAR0_EL1").msr("ICC_EOIR0_EL1", 0).label("elsewhere");
  armTimer(asm);
  goElsewhere(asm);
  asm.mrs(0, "SPSR_EL1").clearBit(0, 0, SPSR_IL).msr("SPSR_EL1", 0).eret();
  // Instruction aborts and PC alignment faults, EC 0x20 to 0x23: there is nothing to skip.
  asm.label("sync").mrs(0, "ESR_EL1").lsr(0, 0, 28).subs(31, 0, 0x20 >> 2)
    .bCond(COND.EQ, "elsewhere");
  asm.label("serror").mrs(0, "ELR_EL1").add(0, 0, 4).msr("ELR_EL1", 0).eret();
  return asm.words();
}

const AF = 1 << 10, ISH = 3 << 8, NORMAL = 1 << 2;
const AP_EL0 = 1 << 6, AP_RO = 1 << 7;
const BLOCK = 1, TABLE = 3;

/** Identity map of 39 bits: devices in one block, then the three ranges of RAM in blocks of 2 MiB. */
function tables(): { level1: bigint[]; level2: bigint[] } {
  const level1 = [BigInt(BLOCK | AF | AP_EL0), BigInt(LEVEL2 | TABLE)];
  const level2 = Array.from({ length: 512 }, () => 0n);
  const block = (ipa: number, ap: number) =>
    level2[(ipa - FUZZ.stub.ipa) / (2 * MIB)] = BigInt(ipa | BLOCK | AF | ISH | NORMAL | ap);
  block(FUZZ.stub.ipa, AP_RO);
  block(FUZZ.code.ipa, AP_RO | AP_EL0);
  block(FUZZ.data.ipa, AP_EL0);
  return { level1, level2 };
}

const SCTLR_RES1 = 0x30d0_0800n;
const SCTLR_M_C_I = 0x1005n;
/** A, SA, SA0, UMA, DZE, UCT, nTWI, nTWE, UCI: what EL0 may, and alignment checks. */
const SCTLR_ANY = [1n, 3n, 4n, 9n, 14n, 15n, 16n, 18n, 26n];
/** T0SZ 25, cacheable inner shareable walks, no TTBR1, 40 bits of output. */
const TCR = 25n | (1n << 8n) | (1n << 10n) | (3n << 12n) | (1n << 23n) | (2n << 32n);
const MAIR = 0xff04n;

const sysRegOf = (name: SysregName): bigint => sysRegId(sysreg(name).key);
const REG = {
  x: (n: number) => coreRegId(8 * n, 8),
  spEl0: coreRegId(248, 8),
  pc: coreRegId(256, 8),
  spEl1: coreRegId(272, 8),
  elrEl1: coreRegId(280, 8),
  spsrEl1: coreRegId(288, 8),
} as const;

/** How a round's code runs. */
export interface RoundOptions {
  readonly el: 0 | 1;
  readonly mmu: boolean;
}

/** The machine with the VM on it. */
export class FuzzGuest {
  readonly kvmMachine: KvmMachine;
  readonly vm: Vm;
  /** Host page frames of the VM's memory, all ranges. */
  readonly pfns: number[] = [];
  /** Returns to user space by exit reason; negative: KVM_RUN's error. */
  readonly userExits = new Map<number, number>();
  readonly #ranges: { readonly ipa: number; readonly pfns: Uint32Array }[] = [];

  constructor(
    readonly random: Random,
    options: {
      vcpus: number;
      pcpus: number;
      lrs: number;
      mode?: "vhe" | "nvhe";
      regions?: Partial<RegionOptions>;
    },
  ) {
    const { vcpus, pcpus, lrs, mode = "vhe", regions = {} } = options;
    this.kvmMachine = new KvmMachine({
      pcpus,
      guestRam: 8 * MIB,
      lrs,
      mode,
      shuffle: 77,
      quantum: 700,
      regions,
    });
    this.vm = this.#createVm(vcpus);
    this.vm.vcpus.forEach((vcpu, i) => vcpu.setAffinity(1 << (i % pcpus)));
    const { level1, level2 } = tables();
    this.#write(FUZZ.stub.ipa, Uint32Array.from(stubCode()));
    this.#write(LEVEL1, BigUint64Array.from(level1));
    this.#write(LEVEL2, BigUint64Array.from(level2));
  }

  #createVm(vcpus: number): Vm {
    const vm = this.kvmMachine.kvm.createVm();
    vm.createVgic(3);
    Object.values(FUZZ).forEach(({ ipa, bytes }, slot) => {
      const pfns = this.kvmMachine.allocatePages(bytes, false);
      const readOnly = ipa === FUZZ.stub.ipa;
      vm.setUserMemoryRegion(slot, ipa, pfns, readOnly ? KVM_MEM_READONLY : 0);
      this.#ranges.push({ ipa, pfns });
      this.pfns.push(...pfns);
    });
    for (let id = 0; id < vcpus; id++) vm.createVcpu(id, (vcpu, ret) => this.#onExit(vcpu, ret));
    vm.setVgicAttr(VGIC_GRP.NR_IRQS, 0n, 128n);
    vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.DIST), 0x0800_0000n);
    vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.REDIST), 0x080a_0000n);
    vm.setVgicAttr(VGIC_GRP.CTRL, BigInt(VGIC_CTRL_INIT), 0n);
    return vm;
  }

  /** User space: devices that read as noise, and take anything; what KVM cannot decode is skipped. */
  #onExit(handle: VcpuHandle, ret: number): boolean {
    const { run } = handle.vcpu;
    const reason = ret < 0 ? ret : run.exitReason;
    this.userExits.set(reason, (this.userExits.get(reason) ?? 0) + 1);
    if (ret === ERRNO.ENOSYS) {
      handle.setOneReg(REG.pc, BigInt.asUintN(64, handle.getOneReg(REG.pc) + 4n));
      return true;
    }
    if (ret < 0 || run.exitReason !== KVM_EXIT.MMIO) return false;
    if (!run.mmioIsWrite) run.mmioData = this.random.u64();
    return true;
  }

  /** Byte offset in the shared memory of guest memory; -1 outside. */
  offsetOf(ipa: number): number {
    const { ram } = this.kvmMachine.machine;
    for (const range of this.#ranges) {
      const pfn = range.pfns[Math.floor((ipa - range.ipa) / PAGE)];
      if (pfn !== undefined) return ram.at + pfn * PAGE - ram.pa + (ipa % PAGE);
    }
    return -1;
  }

  #write(ipa: number, words: Uint32Array | BigUint64Array): void {
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    for (let done = 0; done < bytes.length; done += PAGE) {
      this.kvmMachine.machine.memory.u8.set(
        bytes.subarray(done, done + PAGE),
        this.offsetOf(ipa + done),
      );
    }
  }

  /** Gets every vCPU out of KVM_RUN. */
  stop(): void {
    const { host, machine } = this.kvmMachine;
    machine.power = undefined;
    host.runAs(0, () => this.vm.vcpus.filter((v) => v.running).forEach((v) => v.kick()));
    for (let i = 0; i < 1000 && this.vm.vcpus.some((v) => v.running); i++) machine.run(1);
    if (this.vm.vcpus.some((v) => v.running)) throw new Error("a vCPU does not leave KVM_RUN");
  }

  /** Starts a round: new code, every register at random. The vCPUs must be out of KVM_RUN. */
  start(code: Uint32Array, { el, mmu }: RoundOptions): void {
    this.#write(FUZZ.code.ipa, code);
    this.kvmMachine.machine.interpreter.invalidateAll();
    const { host } = this.kvmMachine;
    host.runAs(0, () => this.vm.vcpus.forEach((vcpu) => this.#startVcpu(vcpu, el, mmu)));
  }

  #startVcpu(vcpu: VcpuHandle, el: 0 | 1, mmu: boolean): void {
    const { random } = this;
    vcpu.init([VCPU_FEATURE.PSCI_0_2]);
    for (let n = 0; n < 31; n++) vcpu.setOneReg(REG.x(n), random.value());
    vcpu.setOneReg(REG.spEl0, BigInt(FUZZ.data.ipa + random.below(0x1_0000) * 16));
    vcpu.setOneReg(REG.spEl1, BigInt(FUZZ.data.ipa + random.below(0x1_0000) * 16));
    vcpu.setOneReg(REG.pc, BigInt(ENTRY));
    vcpu.setOneReg(REG.elrEl1, BigInt(FUZZ.code.ipa + 4 * random.below(FUZZ.code.bytes / 4)));
    vcpu.setOneReg(REG.spsrEl1, el === 0 ? 0n : 5n);
    const may = SCTLR_ANY.reduce((bits, n) => bits | (BigInt(random.below(2)) << n), 0n);
    vcpu.setOneReg(sysRegOf("SCTLR_EL1"), SCTLR_RES1 | may | (mmu ? SCTLR_M_C_I : 0n));
    vcpu.setOneReg(sysRegOf("TCR_EL1"), TCR);
    vcpu.setOneReg(sysRegOf("MAIR_EL1"), MAIR);
    vcpu.setOneReg(sysRegOf("TTBR0_EL1"), BigInt(LEVEL1));
    vcpu.setOneReg(sysRegOf("VBAR_EL1"), BigInt(VECTORS));
    vcpu.setOneReg(sysRegOf("CPACR_EL1"), random.below(4) === 0 ? 0n : 3n << 20n);
    vcpu.run();
  }
}
