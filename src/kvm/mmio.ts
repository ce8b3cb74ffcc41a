/**
 * Accesses to memory that is no RAM: decoded from the syndrome, given to an in-kernel device or to user
 * space. Mirrors arch/arm64/kvm/mmio.c and the I/O bus of virt/kvm/kvm_main.c.
 *
 * What differs: a device may answer that other vCPUs must halt first; the access is then made again.
 */
import * as bits from "../base/bits.ts";
import { InternalError } from "../base/errors.ts";
import { ABORT } from "../arm/arch/syndrome.ts";
import * as kvmTrace from "./trace.ts";
import type { TraceArg } from "./trace.ts";
import * as emulate from "./emulate.ts";
import * as kvmHost from "./kvm_host.ts";
import {
  type Kvm,
  type KvmIoDeviceOps,
  type KvmIoRange,
  mmioDataLo,
  type Vcpu,
  WAIT,
} from "./kvm_host.ts";

export { type KvmIoDeviceOps, WAIT } from "./kvm_host.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { TWO32 } = bits;
const { TP, trace } = kvmTrace;
const {
  kvmIncrPc,
  kvmVcpuDabtGetAs,
  kvmVcpuDabtGetRd,
  kvmVcpuDabtIssext,
  kvmVcpuDabtIssf,
  kvmVcpuDabtIsvalid,
  kvmVcpuDabtIswrite,
  vcpuGetRegHi,
  vcpuGetRegLo,
  vcpuSetRegHalves,
} = emulate;
const { ERRNO, EXCEPT, IFLAG, KVM_EXIT, mmioDataHi, RET, setMmioData, vcpuGetFlag } = kvmHost;

/** The first argument of the `kvm_mmio` event. */
const KVM_TRACE_MMIO = { READ_UNSATISFIED: 0, READ: 1, WRITE: 2 } as const;

/** kvm_io_bus_register_dev: InternalError where two regions overlap. */
export function kvmIoBusRegister(
  kvm: Kvm,
  baseIpa: number,
  length: number,
  ops: KvmIoDeviceOps,
): void {
  const end = baseIpa + length;
  if (kvm.ioBus.some((r) => baseIpa < r.baseIpa + r.length && r.baseIpa < end)) {
    throw new InternalError(`in-kernel devices overlap at IPA 0x${baseIpa.toString(16)}`);
  }
  kvm.ioBus.push({ baseIpa, length, ops });
  kvm.ioBus.sort((a, b) => a.baseIpa - b.baseIpa);
  kvm.host.objectsChanged?.();
}

/** kvm_io_bus_unregister_dev. */
export function kvmIoBusUnregister(kvm: Kvm, ops: KvmIoDeviceOps): void {
  for (let i = kvm.ioBus.length - 1; i >= 0; i--) {
    if (kvm.ioBus[i]?.ops === ops) kvm.ioBus.splice(i, 1);
  }
  kvm.host.objectsChanged?.();
}

function findRange(kvm: Kvm, ipa: number, length: number): KvmIoRange | undefined {
  for (const range of kvm.ioBus) {
    if (ipa >= range.baseIpa && ipa + length <= range.baseIpa + range.length) return range;
  }
  return undefined;
}

/** Fields of an abort's syndrome that are valid without ISV: CM, WnR and FSC (kvm_vcpu_dabt_iss_nisv_sanitized). */
const NISV_ISS = ABORT.CM | ABORT.WNR | 0x3f;

function kvmPendingSyncException(vcpu: Vcpu): boolean {
  return vcpuGetFlag(vcpu, IFLAG.PENDING_EXCEPTION) &&
    vcpu.state.pendingException === EXCEPT.AA64_EL1_SYNC;
}

/** Halves of what {@link extendMmioData} came to. */
export const extended = { lo: 0, hi: 0 };

/** Puts a value read into {@link extended} as the load puts it into its register: the low `length` bytes of (lo, hi). */
export function extendMmioData(
  lo: number,
  hi: number,
  length: number,
  signed: boolean,
  sixtyFour: boolean,
): void {
  const unused = length < 4 ? 32 - 8 * length : 0;
  const shifted = lo << unused;
  const narrow = signed ? shifted >> unused : shifted >>> unused;
  const above = signed && narrow < 0 ? 0xffff_ffff : 0;
  extended.lo = narrow >>> 0;
  extended.hi = sixtyFour ? (length === 8 ? hi >>> 0 : above) : 0;
}

/** kvm_handle_mmio_return: ends an access that user space or a device has answered. Always {@link RET.GUEST}. */
export function kvmHandleMmioReturn(vcpu: Vcpu): number {
  if (!vcpu.state.mmioNeeded || kvmPendingSyncException(vcpu)) return RET.GUEST;
  vcpu.state.mmioNeeded = false;
  if (!kvmVcpuDabtIswrite(vcpu)) {
    const { run } = vcpu;
    const length = kvmVcpuDabtGetAs(vcpu);
    const signed = kvmVcpuDabtIssext(vcpu), sixtyFour = kvmVcpuDabtIssf(vcpu);
    extendMmioData(mmioDataLo(run), mmioDataHi(run), length, signed, sixtyFour);
    const { lo, hi } = extended;
    trace(vcpu, TP.kvm_mmio, KVM_TRACE_MMIO.READ, length, run.mmioPhysAddr, argOf(lo, hi));
    vcpuSetRegHalves(vcpu, kvmVcpuDabtGetRd(vcpu), lo, hi);
  }
  kvmIncrPc(vcpu);
  return RET.GUEST;
}

function argOf(lo: number, hi: number): TraceArg {
  return hi < 0x20_0000 ? lo + hi * TWO32 : (BigInt(hi) << 32n) | BigInt(lo);
}

/** io_mem_abort: an access outside the memory slots, at `faultIpa`. */
export function ioMemAbort(vcpu: Vcpu, faultIpa: number): number {
  const { run } = vcpu;
  if (!kvmVcpuDabtIsvalid(vcpu)) {
    // No syndrome says what the instruction did: user space may know what to do, else nobody does.
    if (!vcpu.kvm.state.nisvToUser) return ERRNO.ENOSYS;
    run.exitReason = KVM_EXIT.ARM_NISV;
    run.nisvEsrIss = vcpu.state.faultEsr & NISV_ISS;
    run.nisvFaultIpa = faultIpa;
    return RET.USER;
  }
  const length = kvmVcpuDabtGetAs(vcpu);
  const isWrite = kvmVcpuDabtIswrite(vcpu);
  if (isWrite) {
    const rd = kvmVcpuDabtGetRd(vcpu);
    setMmioData(run, vcpuGetRegLo(vcpu, rd), vcpuGetRegHi(vcpu, rd), length);
    const value = argOf(mmioDataLo(run), mmioDataHi(run));
    trace(vcpu, TP.kvm_mmio, KVM_TRACE_MMIO.WRITE, length, faultIpa, value);
  } else {
    setMmioData(run, 0, 0);
    trace(vcpu, TP.kvm_mmio, KVM_TRACE_MMIO.READ_UNSATISFIED, length, faultIpa, 0);
  }
  run.mmioIsWrite = isWrite;
  run.mmioPhysAddr = faultIpa;
  run.mmioLen = length;
  vcpu.state.mmioNeeded = true;
  return ioMemAccess(vcpu);
}

/** The access itself, from what {@link ioMemAbort} left in kvm_run: again after each wait for the other vCPUs. */
export function ioMemAccess(vcpu: Vcpu): number {
  const { run } = vcpu;
  const range = findRange(vcpu.kvm, run.mmioPhysAddr, run.mmioLen);
  if (range === undefined) {
    vcpu.stat.mmio_exit_user++;
    run.exitReason = KVM_EXIT.MMIO;
    return RET.USER;
  }
  if (!accessDevice(vcpu, range)) return RET.WAIT_ACK;
  vcpu.stat.mmio_exit_kernel++;
  return kvmHandleMmioReturn(vcpu);
}

/** False when the device asked to wait. */
function accessDevice(vcpu: Vcpu, { baseIpa, ops }: KvmIoRange): boolean {
  const { run } = vcpu;
  const offset = run.mmioPhysAddr - baseIpa;
  if (run.mmioIsWrite) {
    const value = run.mmioLen === 8 ? run.mmioData : mmioDataLo(run);
    return ops.write(vcpu, offset, run.mmioLen, value) !== WAIT;
  }
  const answer = ops.read(vcpu, offset, run.mmioLen);
  if (answer === WAIT) return false;
  if (typeof answer === "bigint") run.mmioData = BigInt.asUintN(8 * run.mmioLen, answer);
  else setMmioData(run, answer >>> 0, (answer / TWO32) >>> 0, run.mmioLen);
  return true;
}
