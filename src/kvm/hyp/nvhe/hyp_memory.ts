/**
 * Pointers at EL2. What a hypercall's argument or a variable of EL2's points to is reached by EL2's own
 * stage 1: the address is translated page by page, and one that is not mapped, or only readable, is an
 * exception of EL2 itself. The views that come of it are caches of nothing but the address.
 *
 * Pointers within structures are kernel addresses, of which only the low half is stored.
 */
import type { SharedMemory } from "../../../base/memory.ts";
import type { El2Port } from "../../../arm/el2_port.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import {
  type HypVcpu,
  type KvmCpuContext,
  KvmCpuContextLayout,
  KvmLayout,
  type KvmState,
  KvmVcpuLayout,
  VgicCpuLayout,
  type VgicV3CpuIf,
  VgicV3CpuIfLayout,
} from "../../kvm_host.ts";
import {
  HypRodataLayout,
  type HypSymbols,
  type HypVaLayout,
  kernHypVa,
  NvhePercpuLayout,
  type NvhePercpuState,
} from "../kvm_asm.ts";

const PAGE = 4096;
/** BRK of BUG() (BUG_BRK_IMM). */
const BUG_BRK_IMM = 0x800;

/** One CPU's variables at EL2. */
export interface NvhePercpu {
  readonly state: NvhePercpuState;
  readonly hostCtxt: KvmCpuContext;
  readonly hypCtxt: KvmCpuContext;
}

/** Views of what is at an address, made once for each. */
class Views<T> {
  readonly #known = new Map<number, T>();

  constructor(readonly make: (at: number) => T) {}

  at(address: number): T {
    let view = this.#known.get(address);
    if (view === undefined) {
      view = this.make(address);
      this.#known.set(address, view);
    }
    return view;
  }
}

/** EL2's memory, with the addresses of its code and data. */
export class HypMemory {
  readonly #percpus;
  readonly #vcpus;
  readonly #kvms;
  readonly #cpuIfs;
  readonly #rodata;

  constructor(memory: SharedMemory, readonly va: HypVaLayout, readonly symbols: HypSymbols) {
    this.#percpus = new Views((at): NvhePercpu => {
      const state = NvhePercpuLayout.at(memory, at);
      return {
        state,
        hostCtxt: KvmCpuContextLayout.at(memory, state.hostCtxt),
        hypCtxt: KvmCpuContextLayout.at(memory, state.hypCtxt),
      };
    });
    this.#vcpus = new Views((at): HypVcpu => {
      const state = KvmVcpuLayout.at(memory, at);
      return {
        state,
        base: at,
        words: memory.signedAt(at, KvmVcpuLayout.size >>> 2),
        ctxt: KvmCpuContextLayout.at(memory, state.ctxt),
        hostCtxt: KvmCpuContextLayout.at(memory, state.hostCtxt),
        cpuIf: VgicV3CpuIfLayout.at(memory, VgicCpuLayout.at(memory, state.vgicCpu).cpuIf),
      };
    });
    this.#kvms = new Views((at) => KvmLayout.at(memory, at));
    this.#cpuIfs = new Views((at) => VgicV3CpuIfLayout.at(memory, at));
    this.#rodata = new Views((at) => HypRodataLayout.at(memory, at));
  }

  /**
   * Where the `size` bytes at hyp VA `va` lie. They must be as consecutive as the linear map is; every
   * page of them is translated.
   */
  pointer(port: El2Port, va: number, size: number, write: boolean): number {
    const inFirst = PAGE - va % PAGE;
    const at = port.translate(va, Math.min(size, inFirst), write);
    for (let done = inFirst; done < size; done += PAGE) {
      const next = port.translate(va + done, Math.min(size - done, PAGE), write);
      if (next !== at + done) this.bug(port);
    }
    return at;
  }

  /** BUG(): something that cannot be has been. */
  bug(port: El2Port): never {
    port.brk(BUG_BRK_IMM);
  }

  /** this_cpu_ptr of EL2's variables, by TPIDR_EL2. */
  percpu(port: El2Port): NvhePercpu {
    const va = port.readNum(R.TPIDR_EL2);
    return this.#percpus.at(this.pointer(port, va, NvhePercpuLayout.size, true));
  }

  /** The vCPU at hyp VA `va`. */
  vcpu(port: El2Port, va: number): HypVcpu {
    return this.#vcpus.at(this.pointer(port, va, KvmVcpuLayout.size, true));
  }

  /** The VM at hyp VA `va`, to be read. */
  kvm(port: El2Port, va: number): KvmState {
    return this.#kvms.at(this.pointer(port, va, KvmLayout.size, false));
  }

  /** kern_hyp_va(vcpu->kvm). */
  kvmOf(port: El2Port, vcpu: HypVcpu): KvmState {
    return this.kvm(port, kernHypVa(this.va, vcpu.state.kvm));
  }

  /** The vgic's shadow of the CPU interface at hyp VA `va`. */
  cpuIf(port: El2Port, va: number, write: boolean): VgicV3CpuIf {
    return this.#cpuIfs.at(this.pointer(port, va, VgicV3CpuIfLayout.size, write));
  }

  /** kvm_vgic_global_state.gicv3_cpuif. */
  gicv3Cpuif(port: El2Port): boolean {
    const at = this.pointer(port, this.symbols.rodata, HypRodataLayout.size, false);
    return this.#rodata.at(at).gicv3Cpuif !== 0;
  }
}
