/** A whole stack for KVM's tests: machine, host kernel, KVM, and VMs whose guests are a few instructions. */
import { Arena } from "../../src/base/arena.ts";
import { Locks } from "../../src/base/lock.ts";
import type { SharedMemory } from "../../src/base/memory.ts";
import { type TracepointName, TraceRing } from "../../src/trace/tracepoints.ts";
import type { CpuModel } from "../../src/arm/arch/features.ts";
import type { RegionOptions } from "../../src/arm/engine/regions.ts";
import { Machine } from "../../src/arm/machine.ts";
import { Host, type HostMode } from "../../src/host/host.ts";
import { machineHardware } from "../../src/host/machine_hardware.ts";
import { type ExitHandler, KvmSystem, type VcpuHandle, type Vm } from "../../src/kvm/api.ts";
import { coreRegId } from "../../src/kvm/guest.ts";
import { VGIC_GRP, VGIC_V3_ADDR_TYPE } from "../../src/kvm/vgic/vgic_kvm_device.ts";

const MIB = 1 << 20;
export const GUEST_RAM = 0x4000_0000;
export const PAGE = 4096;

/** A running stack. */
export interface Rig {
  readonly machine: Machine;
  readonly host: Host;
  readonly kvm: KvmSystem;
  readonly trace: TraceRing;
}

export interface RigOptions {
  readonly mode?: HostMode;
  /** What the physical CPUs implement. */
  readonly cpu?: CpuModel;
  /** What of the guests' code is translated, and when. */
  readonly regions?: Partial<RegionOptions>;
  /** What the host kernel, and its code at EL2, has for the machine's memory. */
  readonly memoryOf?: (machine: Machine) => SharedMemory;
}

export function makeRig(
  pcpus = 1,
  lrs = 4,
  { mode = "vhe", cpu = "max", regions = {}, memoryOf }: RigOptions = {},
): Rig {
  const machine = new Machine({ pcpus, ramSize: 32 * MIB, lrs, cpu, regions });
  for (let i = 0; i < pcpus; i++) machine.start(i, 2, 0, 0);
  const { ram } = machine;
  const memory = memoryOf?.(machine) ?? machine.memory;
  const trace = new TraceRing(memory, machine.observeArena, 4096);
  const host = new Host({
    hardware: { ...machineHardware(machine), memory },
    mode,
    locks: new Locks(memory, "deterministic"),
    trace,
    arena: new Arena("kernel", memory, ram.at, ram.at + 8 * MIB),
    pages: { start: ram.pa + 8 * MIB, end: ram.pa + ram.size, shuffle: 11 },
  });
  host.boot();
  machine.el2 = host;
  return { machine, host, kvm: new KvmSystem(host, { observeArena: machine.observeArena }), trace };
}

/** A VM of `pages` pages at {@link GUEST_RAM} with `program` in them, and a GICv3. */
export function makeVm(
  { kvm, host, machine }: Rig,
  program: readonly number[],
  vcpus = 1,
  onExit: ExitHandler = () => false,
  pages = 16,
): Vm {
  const vm = kvm.createVm();
  const pfns = Array.from({ length: pages }, () => host.pages.allocate());
  vm.setUserMemoryRegion(0, GUEST_RAM, pfns);
  const bytes = new Uint8Array(new Uint32Array(program).buffer);
  for (let at = 0; at < bytes.length; at += PAGE) {
    machine.writeRam((pfns[at / PAGE] as number) * PAGE, bytes.subarray(at, at + PAGE));
  }
  for (let i = 0; i < vcpus; i++) vm.createVcpu(i, onExit);
  vm.createVgic();
  vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.DIST), 0x0800_0000n);
  vm.setVgicAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.REDIST), 0x080a_0000n);
  vm.setVgicAttr(VGIC_GRP.CTRL, 0n, 0n);
  return vm;
}

/** Id of X0 to X30, and of PC. */
export const X = (n: number): bigint => coreRegId(8 * n, 8);
export const PC = coreRegId(256, 8);

/** Sets a vCPU to start at `pc` and runs it. */
export function start(vcpu: VcpuHandle, pc = GUEST_RAM, x0 = 0n): void {
  vcpu.init();
  vcpu.setOneReg(PC, BigInt(pc));
  vcpu.setOneReg(X(0), x0);
  vcpu.run();
}

/** How often each event is in the trace. */
export function counts(trace: TraceRing): Partial<Record<TracepointName, number>> {
  const result: Partial<Record<TracepointName, number>> = {};
  for (let n = Math.max(0, trace.written - trace.capacity); n < trace.written; n++) {
    const name = trace.read(n)?.name;
    if (name) result[name] = (result[name] ?? 0) + 1;
  }
  return result;
}

/** The last `count` events as text. */
export function events(trace: TraceRing, from = 0): string[] {
  const result: string[] = [];
  for (let n = from; n < trace.written; n++) {
    const event = trace.read(n);
    if (event) result.push(`${event.name} ${event.text}`);
  }
  return result;
}
