/**
 * VMIDs: 8 bits, given out in generations, as a VM needs one to run. Mirrors arch/arm64/kvm/vmid.c.
 */
import type { Arena } from "../base/arena.ts";
import type { Locks } from "../base/lock.ts";
import type { SharedMemory } from "../base/memory.ts";
import * as struct from "../base/struct.ts";
import { array, u32, u53, type ViewOf } from "../base/struct.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { CallHyp } from "./call_hyp.ts";
import * as kvmHost from "./kvm_host.ts";
import { KvmLayout, type KvmState } from "./kvm_host.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { layout } = struct;
const { MAX_PCPUS } = kvmHost;

const VMID_BITS = 8;
export const VMIDS = 1 << VMID_BITS;
/** One generation more. A VMID as stored is the generation plus the 8 bits. */
const VMID_FIRST_VERSION = VMIDS;
/** In `active` of a CPU whose vCPU is put: matches no VMID, and is not reserved at a rollover. */
const VMID_ACTIVE_INVALID = VMID_FIRST_VERSION;

const AllocatorLayout = layout("kvm_vmid_allocator", {
  lock: u32(),
  nextIndex: u32(),
  generation: u53(),
  active: array("u53", MAX_PCPUS),
  reserved: array("u53", MAX_PCPUS),
  map: array("u32", VMIDS / 32),
});

// As constants of this module alone, V8 knows them.
const WHOLE = -VMIDS, VMID_WORD = KvmLayout.offset.vmid >>> 2;
const WORD = {
  GENERATION: AllocatorLayout.offset.generation >>> 2,
  ACTIVE: AllocatorLayout.offset.active >>> 2,
} as const;

/** The allocator of all VMs. */
export class VmidAllocator {
  readonly #state: ViewOf<typeof AllocatorLayout>;
  readonly #memory: SharedMemory;
  /** Those of its state. */
  readonly #words: Int32Array;

  constructor(arena: Arena, readonly locks: Locks, readonly pcpus: number, readonly hyp: CallHyp) {
    this.#memory = arena.memory;
    this.#state = arena.make(AllocatorLayout);
    this.#words = this.#memory.signedAt(this.#state.base, AllocatorLayout.size >>> 2);
    this.#state.generation = VMID_FIRST_VERSION;
    this.#state.nextIndex = 1;
  }

  #matches(vmid: number): boolean {
    return Math.floor(vmid / VMIDS) === this.#state.generation / VMIDS;
  }

  #taken(index: number): boolean {
    const word = this.#memory.ld32(this.#state.map + 4 * (index >> 5));
    return ((word >>> (index & 31)) & 1) === 1;
  }

  #take(index: number): void {
    const at = this.#state.map + 4 * (index >> 5);
    this.#memory.st32(at, this.#memory.ld32(at) | (1 << (index & 31)));
  }

  #find(from: number): number {
    for (let index = from; index < VMIDS; index++) if (!this.#taken(index)) return index;
    return -1;
  }

  /** flush_context: a new generation keeps only what is running now; all TLBs forget the rest. */
  #flushContext(port: El2Port): void {
    const m = this.#memory;
    for (let i = 0; i < VMIDS / 32; i++) m.st32(this.#state.map + 4 * i, 0);
    for (let pcpu = 0; pcpu < this.pcpus; pcpu++) {
      const active = m.ld53(this.#state.active + 8 * pcpu);
      m.st53(this.#state.active + 8 * pcpu, 0);
      const vmid = active === 0 ? m.ld53(this.#state.reserved + 8 * pcpu) : active;
      this.#take(vmid % VMIDS);
      m.st53(this.#state.reserved + 8 * pcpu, vmid);
    }
    this.hyp.kvmFlushVmContext(port);
  }

  /** Whether a CPU keeps this VMID through the rollover; it is renewed in place. */
  #updateReserved(vmid: number, newVmid: number): boolean {
    let hit = false;
    for (let pcpu = 0; pcpu < this.pcpus; pcpu++) {
      const at = this.#state.reserved + 8 * pcpu;
      if (this.#memory.ld53(at) !== vmid) continue;
      hit = true;
      this.#memory.st53(at, newVmid);
    }
    return hit;
  }

  #newVmid(port: El2Port, old: number): number {
    const s = this.#state;
    if (old !== 0) {
      const renewed = s.generation + old % VMIDS;
      if (this.#updateReserved(old, renewed)) return renewed;
      if (!this.#taken(old % VMIDS)) {
        this.#take(old % VMIDS);
        return renewed;
      }
    }
    let index = this.#find(s.nextIndex);
    if (index < 0) {
      s.generation += VMID_FIRST_VERSION;
      this.#flushContext(port);
      index = this.#find(1);
    }
    this.#take(index);
    s.nextIndex = index;
    return s.generation + index;
  }

  /** kvm_arm_vmid_update: the VM has a VMID of this generation and it is the one active on `pcpu`. */
  update(port: El2Port, pcpu: number, kvm: KvmState): void {
    const words = this.#words, all = this.#memory.i32;
    const active = WORD.ACTIVE + 2 * pcpu, vmid = (kvm.base >>> 2) + VMID_WORD;
    const lo = all[vmid] as number, hi = all[vmid + 1] as number;
    const isOfNow = ((lo ^ (words[WORD.GENERATION] as number)) & WHOLE) === 0 &&
      hi === words[WORD.GENERATION + 1];
    if (isOfNow && ((words[active] as number) | (words[active + 1] as number)) !== 0) {
      words[active] = lo;
      words[active + 1] = hi;
    } else this.#renew(port, this.#state.active + 8 * pcpu, kvm);
  }

  #renew(port: El2Port, at: number, kvm: KvmState): void {
    const flags = port.irqSave();
    this.locks.with("vmid", this.#state.base, () => {
      if (!this.#matches(kvm.vmid)) kvm.vmid = this.#newVmid(port, kvm.vmid);
      this.#memory.st53(at, kvm.vmid);
    });
    port.irqRestore(flags);
  }

  /** kvm_arm_vmid_clear_active, at vcpu_put. */
  clearActive(pcpu: number): void {
    this.#memory.st53(this.#state.active + 8 * pcpu, VMID_ACTIVE_INVALID);
  }
}
