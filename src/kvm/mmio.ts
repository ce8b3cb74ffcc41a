/**
 * Accesses to memory that is no RAM: decoded from the syndrome, given to an in-kernel device or to user
 * space. Mirrors arch/arm64/kvm/mmio.c and the I/O bus of virt/kvm/kvm_main.c.
 *
 * What differs: a device may answer that other vCPUs must halt first; the access is then made again.
 */
import { InternalError } from "../base/errors.ts";
import { ABORT } from "../arm/arch/syndrome.ts";
import { trace } from "./trace.ts";
import {
  kvmIncrPc,
  kvmVcpuDabtGetAs,
  kvmVcpuDabtGetRd,
  kvmVcpuDabtIssext,
  kvmVcpuDabtIssf,
  kvmVcpuDabtIsvalid,
  kvmVcpuDabtIswrite,
  vcpuGetReg,
  vcpuSetReg,
} from "./emulate.ts";
import {
  ERRNO,
  EXCEPT,
  IFLAG,
  type Kvm,
  KVM_EXIT,
  type KvmIoDeviceOps,
  type KvmIoRange,
  RET,
  type Vcpu,
  vcpuGetFlag,
  WAIT,
} from "./kvm_host.ts";

export { type KvmIoDeviceOps, WAIT } from "./kvm_host.ts";

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
}

/** kvm_io_bus_unregister_dev. */
export function kvmIoBusUnregister(kvm: Kvm, ops: KvmIoDeviceOps): void {
  for (let i = kvm.ioBus.length - 1; i >= 0; i--) {
    if (kvm.ioBus[i]?.ops === ops) kvm.ioBus.splice(i, 1);
  }
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

/** A value read, as the load puts it into its register. */
export function extendMmioData(
  data: bigint,
  length: number,
  signed: boolean,
  sixtyFour: boolean,
): bigint {
  const narrow = BigInt.asUintN(8 * length, data);
  const wide = signed ? BigInt.asIntN(8 * length, narrow) : narrow;
  return BigInt.asUintN(sixtyFour ? 64 : 32, wide);
}

/** kvm_handle_mmio_return: ends an access that user space or a device has answered. Always {@link RET.GUEST}. */
export function kvmHandleMmioReturn(vcpu: Vcpu): number {
  if (!vcpu.state.mmioNeeded || kvmPendingSyncException(vcpu)) return RET.GUEST;
  vcpu.state.mmioNeeded = false;
  if (!kvmVcpuDabtIswrite(vcpu)) {
    const length = kvmVcpuDabtGetAs(vcpu);
    const data = extendMmioData(
      vcpu.run.mmioData,
      length,
      kvmVcpuDabtIssext(vcpu),
      kvmVcpuDabtIssf(vcpu),
    );
    trace(vcpu, "kvm_mmio", KVM_TRACE_MMIO.READ, length, vcpu.run.mmioPhysAddr, data);
    vcpuSetReg(vcpu, kvmVcpuDabtGetRd(vcpu), data);
  }
  kvmIncrPc(vcpu);
  return RET.GUEST;
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
    run.mmioData = BigInt.asUintN(8 * length, vcpuGetReg(vcpu, kvmVcpuDabtGetRd(vcpu)));
    trace(vcpu, "kvm_mmio", KVM_TRACE_MMIO.WRITE, length, faultIpa, run.mmioData);
  } else {
    run.mmioData = 0n;
    trace(vcpu, "kvm_mmio", KVM_TRACE_MMIO.READ_UNSATISFIED, length, faultIpa, 0);
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
    const value = run.mmioLen === 8 ? run.mmioData : Number(run.mmioData);
    return ops.write(vcpu, offset, run.mmioLen, value) !== WAIT;
  }
  const answer = ops.read(vcpu, offset, run.mmioLen);
  if (answer === WAIT) return false;
  run.mmioData = BigInt.asUintN(8 * run.mmioLen, BigInt(answer));
  return true;
}
