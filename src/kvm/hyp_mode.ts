/**
 * Putting the hypervisor's code to EL2 on a host at EL1. Mirrors init_hyp_mode, cpu_prepare_hyp_mode and
 * cpu_init_hyp_mode of arch/arm64/kvm/arm.c, and create_hyp_mappings of mmu.c.
 *
 * What differs: the code is TypeScript; what is mapped as its text are pages that only give its vectors
 * and functions an address.
 */
import { InternalError } from "../base/errors.ts";
import type { El2Port } from "../arm/el2_port.ts";
import { HVC_STUB } from "../arm/arch/hyp_stub.ts";
import { R } from "../arm/arch/sysregs.ts";
import type { Host } from "../host/host.ts";
import { PAGE_SIZE } from "../host/pages.ts";
import { HypPgtable, PAGE_HYP, PAGE_HYP_EXEC, PAGE_HYP_RO } from "./hyp/hyp_pgtable.ts";
import {
  HOST_SMCCC_FUNC,
  hostSmcccId,
  HypRodataLayout,
  type HypSymbols,
  type HypVaLayout,
  kernHypVa,
  NvheInitParamsLayout,
  NvhePercpuLayout,
} from "./hyp/kvm_asm.ts";
import { HypMemory } from "./hyp/nvhe/hyp_memory.ts";
import { guestVector, hostVector } from "./hyp/nvhe/host.ts";
import { hypInitVector } from "./hyp/nvhe/hyp_init.ts";
import { HCR_HOST_NVHE } from "./hyp/nvhe/switch.ts";
import { KvmCpuContextLayout, SAVED } from "./kvm_host.ts";
import { kvmComputeLayout } from "./va_layout.ts";

/** TCR_EL2 bits taken from TCR_EL1, and RES1. T0SZ is that of the identity map, the same. */
const TCR_EL2_MASK = 0xff3f;
const TCR_EL2_RES1 = 0x8080_0000;

/** nvhe_hyp_panic_handler, in the kernel's text. */
const PANIC_HANDLER = { lo: 0x0802_a000, hi: 0xffff_8000 } as const;

/** Pages of the image: identity map, vectors, functions, read-only data. */
const IMAGE = { idmap: 0, vectors: 1, functions: 2, rodata: 3, pages: 4 } as const;

/** What the kernel keeps of EL2's world. */
export class HypMode {
  readonly va: HypVaLayout;
  readonly symbols: HypSymbols;
  readonly memory: HypMemory;
  readonly pgtable: HypPgtable;
  readonly #params: number[] = [];
  /** Bottom of what is allocated of the private range, which grows down from the identity map. */
  #ioMapBase: number;

  constructor(readonly kernel: Host) {
    const { hardware, arena } = kernel;
    const image = arena.reserve(IMAGE.pages * PAGE_SIZE, PAGE_SIZE);
    const page = (n: number) => image + n * PAGE_SIZE;
    const idmapPa = this.#pa(page(IMAGE.idmap));
    this.#ioMapBase = idmapPa;
    this.va = kvmComputeLayout(hardware.ram, idmapPa);
    this.symbols = {
      hypInit: idmapPa,
      hostVector: kernHypVa(this.va, page(IMAGE.vectors)),
      guestVector: kernHypVa(this.va, page(IMAGE.vectors)) + 0x800,
      functions: kernHypVa(this.va, page(IMAGE.functions)),
      rodata: kernHypVa(this.va, page(IMAGE.rodata)),
      stubVectors: kernel.hypStubPa,
      panicHandlerLo: PANIC_HANDLER.lo,
      panicHandlerHi: PANIC_HANDLER.hi,
    };
    this.memory = new HypMemory(hardware.memory, this.va, this.symbols);
    this.pgtable = new HypPgtable({
      memory: hardware.memory,
      ram: hardware.ram,
      zallocPage: () => this.#allocatePage(),
    });
    this.#map(idmapPa, idmapPa, PAGE_HYP_EXEC);
    this.#mapImage(page(IMAGE.vectors), 2 * PAGE_SIZE, PAGE_HYP_EXEC);
    HypRodataLayout.at(hardware.memory, page(IMAGE.rodata)).gicv3Cpuif = hardware.gic.type === 3
      ? 1
      : 0;
    this.#mapImage(page(IMAGE.rodata), PAGE_SIZE, PAGE_HYP_RO);
    for (let pcpu = 0; pcpu < hardware.pcpus; pcpu++) this.#params.push(this.#preparePcpu());
    this.#installCode();
  }

  #pa(address: number): number {
    const { ram } = this.kernel.hardware;
    return address - ram.at + ram.pa;
  }

  #allocatePage(): number {
    const pfn = this.kernel.pages.allocate();
    return pfn < 0 ? -1 : pfn * PAGE_SIZE;
  }

  #allocated(): number {
    const pa = this.#allocatePage();
    if (pa < 0) throw new InternalError("no memory for EL2");
    return pa;
  }

  /** What must be there for EL2 to work at all. */
  #map(va: number, pa: number, prot: number): void {
    if (!this.pgtable.map(va, pa, prot)) throw new InternalError("no memory for EL2's tables");
  }

  #mapImage(address: number, size: number, prot: number): void {
    if (!this.createHypMappings(address, size, prot)) {
      throw new InternalError("no memory for EL2's tables");
    }
  }

  /**
   * create_hyp_mappings of the pages that hold `size` bytes at `address` of the shared memory. False when
   * memory is out; what has been mapped stays.
   */
  createHypMappings(address: number, size: number, prot: number): boolean {
    for (let at = address - address % PAGE_SIZE; at < address + size; at += PAGE_SIZE) {
      if (!this.pgtable.map(kernHypVa(this.va, at), this.#pa(at), prot)) return false;
    }
    return true;
  }

  /** A stack of one page with an unmapped page below it: the address of its end. */
  #makeStack(): number {
    const size = 2 * PAGE_SIZE;
    const base = this.#ioMapBase - size - (this.#ioMapBase % size);
    this.#ioMapBase = base;
    this.#map(base + PAGE_SIZE, this.#allocated(), PAGE_HYP);
    return base + size;
  }

  /** cpu_prepare_hyp_mode, and a CPU's variables: the physical address of its parameters. */
  #preparePcpu(): number {
    const { memory, ram } = this.kernel.hardware;
    const pa = this.#allocated();
    const at = pa - ram.pa + ram.at;
    const percpu = NvhePercpuLayout.at(memory, at);
    if (NvhePercpuLayout.size > PAGE_SIZE) throw new InternalError("EL2's variables need a page");
    this.#mapImage(at, PAGE_SIZE, PAGE_HYP);
    percpu.kvmHypVector = this.symbols.guestVector;
    const params = NvheInitParamsLayout.at(memory, percpu.initParams);
    const port = this.kernel.port();
    params.tpidrEl2 = kernHypVa(this.va, at);
    params.stackHypVa = this.#makeStack();
    params.mairEl2 = port.readNum(R.MAIR_EL1);
    params.tcrEl2 = (port.readLo(R.TCR_EL1) & TCR_EL2_MASK) + TCR_EL2_RES1;
    params.pgdPa = this.pgtable.pgdPa;
    params.hcrEl2 = HCR_HOST_NVHE;
    params.vttbr = 0;
    params.vtcr = 0;
    return this.#pa(percpu.initParams);
  }

  /** What is behind the vectors: the code itself. */
  #installCode(): void {
    const { el2Code, hardware } = this.kernel;
    const { hypInit, hostVector: host, guestVector: guest } = this.symbols;
    el2Code.install(
      hypInit,
      (port, offset) => hypInitVector(port, hardware.memory, this.memory, offset),
    );
    el2Code.install(host, (port, offset) => hostVector(port, this.memory, offset));
    el2Code.install(guest, (port, offset) => guestVector(port, this.memory, offset));
  }

  /** cpu_hyp_reset and cpu_init_hyp_mode on the current CPU: from the stub to the hypervisor. */
  cpuInit(port: El2Port): void {
    const { kernel } = this;
    this.#stubCall(port, HVC_STUB.RESET_VECTORS, 0);
    this.#stubCall(port, HVC_STUB.SET_VECTORS, this.symbols.hypInit);
    port.setGpr(0, hostSmcccId(HOST_SMCCC_FUNC.__kvm_hyp_init), 0);
    const params = this.#params[kernel.currentCpu] ?? 0;
    port.setGpr(1, params, 0);
    kernel.hvc(port);
    if (port.gprLo(0) !== 0) throw new InternalError("EL2 cannot be set up");
    // kvm_init_host_cpu_context: the host's own identity is what its VMPIDR_EL2 shows.
    this.#initHostContext(port, params);
  }

  #initHostContext(port: El2Port, paramsPa: number): void {
    const { memory, ram } = this.kernel.hardware;
    const at = paramsPa - ram.pa + ram.at - NvhePercpuLayout.offset.initParams;
    const { hostCtxt } = NvhePercpuLayout.at(memory, at);
    port.save(R.MPIDR_EL1, hostCtxt + KvmCpuContextLayout.offset.sysregs + 8 * SAVED.MPIDR_EL1);
  }

  #stubCall(port: El2Port, call: number, pa: number): void {
    port.setGpr(0, call, 0);
    port.setGpr(1, pa, 0);
    this.kernel.hvc(port);
    if (port.gprLo(0) !== 0) throw new InternalError(`stub call ${call} fails`);
  }
}
