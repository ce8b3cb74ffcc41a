/**
 * Guest memory: the slots that host pages lie behind, and stage-2 faults. Mirrors arch/arm64/kvm/mmu.c
 * and the memory slots of virt/kvm/kvm_main.c.
 *
 * What differs: a slot lists its host pages one by one, there being no user-space address space; a 2 MiB
 * block is mapped where 512 of them happen to follow each other. A slot cannot be moved.
 */
import { assert } from "../base/errors.ts";
import * as tlbLayout from "../arm/arch/tlb_layout.ts";
import type { RamRange } from "../arm/arch/tlb_layout.ts";
import * as faultModule from "./hyp/fault.ts";
import * as emulate from "./emulate.ts";
import * as pgtable from "./hyp/pgtable.ts";
import { type PgtableOps, PROT, Stage2 } from "./hyp/pgtable.ts";
import * as injectFault from "./inject_fault.ts";
import { kvmInjectDabt } from "./inject_fault.ts";
import * as kvmHost from "./kvm_host.ts";
import { type Kvm, KvmLayout, KvmMemslotLayout, type Vcpu } from "./kvm_host.ts";
import type { ViewOf } from "../base/struct.ts";
import * as mmio from "./mmio.ts";
import * as kvmTrace from "./trace.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { ramOffset } = tlbLayout;
const { FSC } = faultModule;
const {
  kvmIncrPc,
  kvmIsWriteFault,
  kvmVcpuAbtIss1tw,
  kvmVcpuAbtIssea,
  kvmVcpuDabtIsCm,
  kvmVcpuGetFaultIpa,
  kvmVcpuGetHfarOffset,
  kvmVcpuTrapFaultLevel,
  kvmVcpuTrapFaultType,
  kvmVcpuTrapIsIabt,
} = emulate;
const { granule, VTCR } = pgtable;
const { kvmInjectPabt, kvmInjectSizeFault, kvmInjectVabt } = injectFault;
const { ERRNO, KVM_DIRTY_LOG, KVM_IPA_BITS, KVM_MAX_MEMSLOTS, RET } = kvmHost;
const { ioMemAbort } = mmio;
const { esrOf, farOf, pcOf, TP, trace } = kvmTrace;

const PAGE = 4096;
const BLOCK = 512 * PAGE;
/** KVM_MEM_LOG_DIRTY_PAGES and KVM_MEM_READONLY. */
export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;
/** Lines of an instruction cache; more of them than a page's are invalidated all at once. */
const CACHE_LINE = 64;

export type Memslot = ViewOf<typeof KvmMemslotLayout>;
const SLOT = KvmMemslotLayout.offset, SLOT_BYTES = KvmMemslotLayout.size;

/** Slot `id` (0 to 15) of a VM. */
export function memslot(kvm: Kvm, id: number): Memslot {
  assert(id >= 0 && id < KVM_MAX_MEMSLOTS, "no such memory slot");
  const base = kvm.state.base + KvmLayout.offset.memslots + id * KvmMemslotLayout.size;
  return KvmMemslotLayout.at(kvm.state.memory, base);
}

/** Where the slot that holds an IPA lies; 0 for none. Each access to a device comes here and finds none. */
function slotAt(kvm: Kvm, ipa: number): number {
  const { memory, base } = kvm.state;
  const words = memory.i32, first = base + KvmLayout.offset.memslots;
  for (let id = 0; id < KVM_MAX_MEMSLOTS; id++) {
    const at = first + id * SLOT_BYTES;
    if (words[(at + SLOT.used) >>> 2] === 0) continue;
    const offset = ipa - memory.ld53(at + SLOT.baseIpa);
    if (offset >= 0 && offset < memory.ld32(at + SLOT.pages) * PAGE) return at;
  }
  return 0;
}

/** gfn_to_memslot: the slot that holds an IPA. */
export function ipaToMemslot(kvm: Kvm, ipa: number): Memslot | undefined {
  const at = slotAt(kvm, ipa);
  return at === 0 ? undefined : KvmMemslotLayout.at(kvm.state.memory, at);
}

/** The physical address behind an IPA within a slot. */
function slotPa(slot: Memslot, ipa: number): number {
  const offset = ipa - slot.baseIpa;
  const pfn = slot.memory.ld32(slot.pfns + 4 * Math.floor(offset / PAGE));
  return pfn * PAGE + offset % PAGE;
}

/** The byte offset in the shared memory of guest memory at `ipa`, up to the end of its page; -1 outside the slots. */
export function guestOffset(kvm: Kvm, ipa: number): number {
  const at = slotAt(kvm, ipa);
  if (at === 0) return -1;
  const { memory } = kvm.state;
  const offset = ipa - memory.ld53(at + SLOT.baseIpa);
  const pfn = memory.ld32(memory.ld32(at + SLOT.pfns) + 4 * Math.floor(offset / PAGE));
  return ramOffset(kvm.host.ram, pfn * PAGE + (ipa & (PAGE - 1)), 1);
}

const addressToPa = (ram: RamRange, address: number): number => address - ram.at + ram.pa;

/** The table walker's view of a VM, on the CPU that executes. */
function pgtableOps(kvm: Kvm): PgtableOps {
  const { host } = kvm;
  const port = () => host.port(host.currentCpu());
  return {
    memory: host.memory,
    ram: host.ram,
    zalloc: (pages) => {
      const address = host.kvzalloc(pages * PAGE);
      if (address === 0) return -1;
      kvm.state.stage2Pages += pages;
      return addressToPa(host.ram, address);
    },
    free: (pa, pages) => {
      kvm.state.stage2Pages -= pages;
      host.kvfree(ramOffset(host.ram, pa, PAGE), pages * PAGE);
    },
    tlbFlushIpa: (ipa, level) => host.hyp.kvmTlbFlushVmidIpa(port(), kvm.state, ipa, level),
    tlbFlushAll: () => host.hyp.kvmTlbFlushVmid(port(), kvm.state),
    icacheInvalidate: (pa, size) => icacheInvalidate(kvm, pa, size),
  };
}

/** invalidate_icache_guest_page. The host's own addresses are physical. */
function icacheInvalidate(kvm: Kvm, pa: number, size: number): void {
  const { host } = kvm;
  const port = host.port(host.currentCpu());
  if (size > PAGE) return port.ic("IALLUIS", 0, 0);
  for (let at = pa; at < pa + size; at += CACHE_LINE) {
    port.ic("IVAU", at >>> 0, Math.floor(at / 0x1_0000_0000));
  }
}

/** The VM's stage-2 tables. */
export function stage2Of(kvm: Kvm): Stage2 {
  return new Stage2(pgtableOps(kvm), kvm.state.pgdPa);
}

/** kvm_init_stage2_mmu: an empty table. 0 or an errno. */
export function kvmInitStage2Mmu(kvm: Kvm): number {
  const pa = Stage2.allocatePgd(pgtableOps(kvm));
  if (pa < 0) return ERRNO.ENOMEM;
  kvm.state.pgdPa = pa;
  kvm.state.vtcrLo = VTCR;
  kvm.state.vtcrHi = 0;
  return 0;
}

/** kvm_free_stage2_pgd: every table goes, and the TLBs forget the VM. */
export function kvmFreeStage2Pgd(kvm: Kvm): void {
  if (kvm.state.pgdPa === 0) return;
  pgtableOps(kvm).tlbFlushAll();
  stage2Of(kvm).destroy();
  kvm.state.pgdPa = 0;
}

/** The host's mmu_lock: held while tables change. */
function withMmuLock<T>(kvm: Kvm, body: () => T): T {
  return kvm.host.locks.with("mmu", kvm.state.base + KvmLayout.offset.mmuLock, body);
}

/**
 * kvm_set_memory_region: slot `id` is `pfns.length` pages from `baseIpa`; none deletes it. Of a slot in
 * use only KVM_MEM_LOG_DIRTY_PAGES can change. 0 or an errno.
 */
export function kvmSetMemoryRegion(
  kvm: Kvm,
  id: number,
  flags: number,
  baseIpa: number,
  pfns: ArrayLike<number>,
): number {
  if (id < 0 || id >= KVM_MAX_MEMSLOTS) return ERRNO.EINVAL;
  if ((flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)) !== 0) return ERRNO.EINVAL;
  const slot = memslot(kvm, id);
  if (pfns.length === 0) {
    if (!slot.used) return ERRNO.EINVAL;
    deleteSlot(kvm, slot);
    return 0;
  }
  const error = checkRegion(kvm, id, baseIpa, pfns.length);
  if (error !== 0) return error;
  return slot.used
    ? changeSlot(kvm, slot, flags, baseIpa, pfns)
    : createSlot(kvm, slot, flags, baseIpa, pfns);
}

function createSlot(
  kvm: Kvm,
  slot: Memslot,
  flags: number,
  baseIpa: number,
  pfns: ArrayLike<number>,
): number {
  const at = kvm.host.kvzalloc(4 * pfns.length);
  if (at === 0) return ERRNO.ENOMEM;
  slot.memory.u32.set(pfns, at >>> 2);
  slot.pfns = at;
  slot.pages = pfns.length;
  slot.baseIpa = baseIpa;
  slot.flags = flags;
  slot.dirtyBitmap = 0;
  slot.used = true;
  return changeLogging(kvm, slot, flags);
}

/** KVM_MR_FLAGS_ONLY: the pages, where they are and whether they can be written stay. */
function changeSlot(
  kvm: Kvm,
  slot: Memslot,
  flags: number,
  baseIpa: number,
  pfns: ArrayLike<number>,
): number {
  const samePages = pfns.length === slot.pages && slot.baseIpa === baseIpa &&
    Array.from(pfns).every((pfn, i) => pfn === slot.memory.ld32(slot.pfns + 4 * i));
  if (!samePages || ((flags ^ slot.flags) & KVM_MEM_READONLY) !== 0) return ERRNO.EINVAL;
  slot.flags = flags;
  return changeLogging(kvm, slot, flags);
}

function checkRegion(kvm: Kvm, id: number, baseIpa: number, pages: number): number {
  const end = baseIpa + pages * PAGE;
  if (baseIpa % PAGE !== 0 || baseIpa < 0) return ERRNO.EINVAL;
  if (end > 2 ** KVM_IPA_BITS) return ERRNO.EFAULT;
  for (let other = 0; other < KVM_MAX_MEMSLOTS; other++) {
    const slot = memslot(kvm, other);
    if (other === id || !slot.used) continue;
    if (baseIpa < slot.baseIpa + slot.pages * PAGE && slot.baseIpa < end) return ERRNO.EEXIST;
  }
  return 0;
}

function deleteSlot(kvm: Kvm, slot: Memslot): void {
  withMmuLock(kvm, () => stage2Of(kvm).unmap(slot.baseIpa, slot.pages * PAGE));
  changeLogging(kvm, slot, 0);
  kvm.host.kvfree(slot.pfns, 4 * slot.pages);
  slot.used = false;
  slot.pages = 0;
}

// Dirty logging: while a slot has a bitmap its pages are mapped one by one, and writable only once written.

/** Bytes of a slot's bitmap, in whole 64-bit words as user space gets it. */
function bitmapBytes(slot: Memslot): number {
  return 8 * Math.ceil(slot.pages / 64);
}

/** kvm_arch_commit_memory_region: a bitmap comes or goes; with it, whatever is mapped becomes read-only. */
function changeLogging(kvm: Kvm, slot: Memslot, flags: number): number {
  const log = (flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0;
  if (!log && slot.dirtyBitmap !== 0) {
    kvm.host.kvfree(slot.dirtyBitmap, bitmapBytes(slot));
    slot.dirtyBitmap = 0;
  }
  if (!log || slot.dirtyBitmap !== 0) return 0;
  slot.dirtyBitmap = kvm.host.kvzalloc(bitmapBytes(slot));
  if (slot.dirtyBitmap === 0) return ERRNO.ENOMEM;
  if ((kvm.state.manualDirtyLog & KVM_DIRTY_LOG.INITIALLY_SET) !== 0) {
    // All is dirty; pages become read-only as user space clears their bits.
    for (let page = 0; page < slot.pages; page++) setDirty(slot, page);
    return 0;
  }
  withMmuLock(kvm, () => {
    const stage2 = stage2Of(kvm);
    stage2.wrprotect(slot.baseIpa, slot.pages * PAGE);
    stage2.flushTlbs();
  });
  return 0;
}

/** mark_page_dirty: the page of an IPA was written. */
export function markPageDirty(kvm: Kvm, ipa: number): void {
  const at = slotAt(kvm, ipa);
  if (at === 0 || kvm.state.memory.ld32(at + SLOT.dirtyBitmap) === 0) return;
  const slot = KvmMemslotLayout.at(kvm.state.memory, at);
  setDirty(slot, Math.floor((ipa - slot.baseIpa) / PAGE));
}

function setDirty({ memory, dirtyBitmap }: Memslot, page: number): void {
  const at = dirtyBitmap + (page >> 3);
  memory.u8[at] = (memory.u8[at] as number) | (1 << (page & 7));
}

/** Clears bits of `mask` (a bit a page, from page `first`), and makes those that were set read-only. */
function clearDirty(kvm: Kvm, slot: Memslot, first: number, mask: Uint8Array): void {
  const { u8 } = slot.memory;
  withMmuLock(kvm, () => {
    const stage2 = stage2Of(kvm);
    mask.forEach((byte, i) => {
      const at = slot.dirtyBitmap + (first >> 3) + i;
      const was = (u8[at] as number) & byte;
      u8[at] = (u8[at] as number) & ~byte;
      for (let bit = 0; bit < 8; bit++) {
        if (((was >> bit) & 1) === 0) continue;
        stage2.wrprotect(slot.baseIpa + (first + 8 * i + bit) * PAGE, PAGE);
      }
    });
    stage2.flushTlbs();
  });
}

function loggedSlot(kvm: Kvm, id: number): Memslot | number {
  if (id < 0 || id >= KVM_MAX_MEMSLOTS) return ERRNO.EINVAL;
  const slot = memslot(kvm, id);
  return slot.used && slot.dirtyBitmap !== 0 ? slot : ERRNO.ENOENT;
}

/**
 * kvm_get_dirty_log_protect: a bit for each page of slot `id` that was written since the last call, or an
 * errno. Those pages are read-only again; with KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 nothing changes.
 */
export function kvmGetDirtyLog(kvm: Kvm, id: number): Uint8Array | number {
  const slot = loggedSlot(kvm, id);
  if (typeof slot === "number") return slot;
  const bits = slot.memory.u8.slice(slot.dirtyBitmap, slot.dirtyBitmap + bitmapBytes(slot));
  if (kvm.state.manualDirtyLog === 0) clearDirty(kvm, slot, 0, bits);
  return bits;
}

/**
 * kvm_clear_dirty_log_protect: the pages of `mask`, which begins with page `first` and is `pages` long,
 * count as not written and are read-only again. 0 or an errno.
 */
export function kvmClearDirtyLog(
  kvm: Kvm,
  id: number,
  first: number,
  pages: number,
  mask: Uint8Array,
): number {
  const slot = loggedSlot(kvm, id);
  if (typeof slot === "number") return slot;
  const rest = slot.pages - first;
  const whole = pages % 64 === 0 || pages === rest;
  if (first % 64 !== 0 || rest < 0 || pages > rest || !whole) return ERRNO.EINVAL;
  if (mask.length < Math.ceil(pages / 8)) return ERRNO.EFAULT;
  const used = mask.slice(0, Math.ceil(pages / 8));
  if (pages % 8 !== 0) used[used.length - 1] = (used.at(-1) as number) & ((1 << (pages % 8)) - 1);
  clearDirty(kvm, slot, first, used);
  return 0;
}

/** stage2_unmap_vm: every page faults in again, for a VM that starts over. */
export function stage2UnmapVm(kvm: Kvm): void {
  withMmuLock(kvm, () => {
    for (let id = 0; id < KVM_MAX_MEMSLOTS; id++) {
      const slot = memslot(kvm, id);
      if (slot.used) stage2Of(kvm).unmap(slot.baseIpa, slot.pages * PAGE);
    }
  });
}

/** Deletes every slot. The pages behind them are the caller's. */
export function kvmFreeMemslots(kvm: Kvm): void {
  for (let id = 0; id < KVM_MAX_MEMSLOTS; id++) {
    const slot = memslot(kvm, id);
    if (slot.used) deleteSlot(kvm, slot);
  }
}

/**
 * kvm_phys_addr_ioremap: the guest has the device at `pa` at `ipa`, `size` bytes of whole pages. 0 or an
 * errno.
 */
export function kvmPhysAddrIoremap(
  kvm: Kvm,
  ipa: number,
  pa: number,
  size: number,
  writable: boolean,
): number {
  const prot = PROT.DEVICE | PROT.R | (writable ? PROT.W : 0);
  for (let at = 0; at < size; at += PAGE) {
    const done = withMmuLock(kvm, () => stage2Of(kvm).map(ipa + at, PAGE, pa + at, prot));
    if (!done) return ERRNO.ENOMEM;
  }
  return 0;
}

/** stage2_flush_vm: the guest's caches change state. There are none in this machine that could differ from memory. */
export function stage2FlushVm(_: Kvm): void {}

/** transparent_hugepage_adjust: whether the 2 MiB around an IPA are one block of host memory. */
function fitsBlock(slot: Memslot, ipa: number): boolean {
  const start = ipa - ipa % BLOCK;
  if (start < slot.baseIpa || start + BLOCK > slot.baseIpa + slot.pages * PAGE) return false;
  const at = slot.pfns + 4 * ((start - slot.baseIpa) / PAGE);
  const first = slot.memory.ld32(at);
  if (first % 512 !== 0) return false;
  for (let i = 1; i < 512; i++) if (slot.memory.ld32(at + 4 * i) !== first + i) return false;
  return true;
}

/** user_mem_abort: maps what backs the IPA, or allows more of it. 0 or an errno. */
function userMemAbort(vcpu: Vcpu, faultIpa: number, slot: Memslot): number {
  const { kvm } = vcpu;
  const permission = kvmVcpuTrapFaultType(vcpu) === FSC.PERMISSION;
  const write = kvmIsWriteFault(vcpu);
  const exec = kvmVcpuTrapIsIabt(vcpu) && !kvmVcpuAbtIss1tw(vcpu);
  if (permission && !write && !exec) return ERRNO.EFAULT;
  const logging = slot.dirtyBitmap !== 0;
  const writable = (slot.flags & KVM_MEM_READONLY) === 0 && (write || !logging);
  const size = !logging && fitsBlock(slot, faultIpa) ? BLOCK : PAGE;
  const ipa = faultIpa - faultIpa % size;
  const prot = PROT.R | (writable ? PROT.W : 0) | (exec ? PROT.X : 0);
  const error = withMmuLock(kvm, () => {
    const stage2 = stage2Of(kvm);
    if (permission && size === granule(kvmVcpuTrapFaultLevel(vcpu))) {
      stage2.relaxPerms(ipa, prot);
      return 0;
    }
    return stage2.map(ipa, size, slotPa(slot, ipa), prot) ? 0 : ERRNO.ENOMEM;
  });
  if (error === 0 && writable && logging) markPageDirty(kvm, ipa);
  return error;
}

/** handle_access_fault: the page is young again. */
function handleAccessFault(vcpu: Vcpu, faultIpa: number): void {
  trace(vcpu, TP.kvm_access_fault, faultIpa);
  withMmuLock(vcpu.kvm, () => stage2Of(vcpu.kvm).mkyoung(faultIpa));
}

/** An abort where there is no memory to read from, or none to write to. */
function handleNoMemory(vcpu: Vcpu, faultIpa: number, slot: Memslot | undefined): number {
  if (kvmVcpuTrapIsIabt(vcpu)) {
    kvmInjectPabt(vcpu, vcpu.state.faultFar);
    return RET.GUEST;
  }
  if (kvmVcpuAbtIss1tw(vcpu)) {
    kvmInjectDabt(vcpu, vcpu.state.faultFar);
    return RET.GUEST;
  }
  if (slot === undefined && kvmVcpuDabtIsCm(vcpu)) {
    kvmIncrPc(vcpu);
    return RET.GUEST;
  }
  return ioMemAbort(vcpu, faultIpa + kvmVcpuGetHfarOffset(vcpu));
}

/** get_kvm_ipa_limit: physical address bits of the host, at most 48. */
const PARANGE_BITS = 48;

function isHandled(type: number): boolean {
  return type === FSC.TRANSLATION || type === FSC.PERMISSION || type === FSC.ACCESS_FLAG;
}

/** kvm_handle_guest_abort: every stage-2 fault, and external aborts. */
export function kvmHandleGuestAbort(vcpu: Vcpu): number {
  const type = kvmVcpuTrapFaultType(vcpu);
  const faultIpa = kvmVcpuGetFaultIpa(vcpu);
  const isIabt = kvmVcpuTrapIsIabt(vcpu);
  if (type === FSC.TRANSLATION && faultIpa >= 2 ** PARANGE_BITS) {
    kvmInjectSizeFault(vcpu, faultIpa, isIabt);
    return RET.GUEST;
  }
  // Between what the VM has and what a guest may believe to have from its identification registers.
  if (type === FSC.TRANSLATION && faultIpa >= 2 ** KVM_IPA_BITS) {
    const inject = isIabt ? kvmInjectPabt : kvmInjectDabt;
    inject(vcpu, BigInt(faultIpa + kvmVcpuGetHfarOffset(vcpu)));
    return RET.GUEST;
  }
  if (kvmVcpuAbtIssea(vcpu)) {
    kvmInjectVabt(vcpu);
    return RET.GUEST;
  }
  trace(vcpu, TP.kvm_guest_fault, faultIpa, esrOf(vcpu), farOf(vcpu), pcOf(vcpu));
  if (!isHandled(type)) return ERRNO.EFAULT;
  return resolveFault(vcpu, faultIpa, type);
}

function resolveFault(vcpu: Vcpu, faultIpa: number, type: number): number {
  const slot = ipaToMemslot(vcpu.kvm, faultIpa);
  const readOnly = slot !== undefined && (slot.flags & KVM_MEM_READONLY) !== 0;
  if (slot === undefined || (kvmIsWriteFault(vcpu) && readOnly)) {
    return handleNoMemory(vcpu, faultIpa, slot);
  }
  if (type === FSC.ACCESS_FLAG) {
    handleAccessFault(vcpu, faultIpa);
    return RET.GUEST;
  }
  const error = userMemAbort(vcpu, faultIpa, slot);
  return error === 0 ? RET.GUEST : error;
}
