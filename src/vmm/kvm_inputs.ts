/**
 * What each input from outside does to a guest under KVM. Everything goes the way the real thing would:
 * lines by KVM_IRQ_LINE, routing and SGIs by the same register writes that a guest makes.
 */
import { GICD, GICR_SGI } from "../arm/arch/gic.ts";
import { GICD_SGIR, SGIR_FILTER } from "../arm/arch/gicv2.ts";
import { IRQ_TYPE, VCPU_MODE, type VcpuHandle } from "../kvm/api.ts";
import { LINE_KIND } from "./command_ring.ts";
import type { KvmGuest } from "./kvm_guest.ts";
import { bytesOfHex, type Input } from "./recording.ts";
import { GICR_FRAME_SIZE, mpidrAffinity, VIRT_MAP } from "./virt_map.ts";

const EAGAIN = 11;

/** A store of `length` bytes to an in-kernel device, as vCPU `vcpu` would make it. */
function storeToDevice(
  guest: KvmGuest,
  vcpu: VcpuHandle,
  ipa: number,
  length: number,
  value: number,
): void {
  const { kvm } = guest.vm;
  const range = kvm.ioBus.find((r) => ipa >= r.baseIpa && ipa + length <= r.baseIpa + r.length);
  range?.ops.write(vcpu.vcpu, ipa - range.baseIpa, length, value);
}

function setLine(guest: KvmGuest, kind: number, vcpu: number, intid: number, level: boolean): void {
  guest.vm.irqLine(kind === LINE_KIND.PPI ? IRQ_TYPE.PPI : IRQ_TYPE.SPI, vcpu, intid, level);
}

const isGicv2 = (guest: KvmGuest): boolean => guest.options.gic === 2;

/** GICD_IROUTER or GICD_ITARGETSR: the SPI goes to another vCPU from now on. */
function route(guest: KvmGuest, intid: number, vcpu: number): void {
  const handle = guest.vm.vcpus[vcpu];
  if (!handle) return;
  const gicd = VIRT_MAP.gicd.base;
  if (isGicv2(guest)) storeToDevice(guest, handle, gicd + GICD.ITARGETSR + intid, 1, 1 << vcpu);
  else storeToDevice(guest, handle, gicd + GICD.IROUTER + 8 * intid, 8, mpidrAffinity(vcpu));
}

const SGIR_SELF = SGIR_FILTER.SELF << GICD_SGIR.TargetListFilter.shift;

/** GICR_ISPENDR0 of each target, or its own GICD_SGIR: the SGI becomes pending there. */
function sendSgi(guest: KvmGuest, intid: number, targets: number, targetsHi: number): void {
  guest.vm.vcpus.forEach((handle, n) => {
    const mask = n < 32 ? targets >>> n : targetsHi >>> (n - 32);
    if ((mask & 1) === 0) return;
    if (isGicv2(guest)) {
      return storeToDevice(guest, handle, VIRT_MAP.gicd.base + GICD.SGIR, 4, SGIR_SELF | intid);
    }
    const frame = VIRT_MAP.gicr.base + n * GICR_FRAME_SIZE;
    storeToDevice(guest, handle, frame + GICR_SGI.ISPENDR0, 4, 2 ** intid);
  });
}

/** What the input does, to be run as host code; undefined when it is not one of these. */
export function workOf(input: Input): ((guest: KvmGuest) => void) | undefined {
  switch (input.op) {
    case "consoleBytes":
      return (guest) => guest.board.consoleInput(bytesOfHex(input.hex));
    case "pressPowerButton":
      return (guest) => guest.board.gpio.pressPowerButton();
    case "raiseLine":
    case "lowerLine":
      return (guest) =>
        setLine(guest, input.kind, input.vcpu, input.intid, input.op === "raiseLine");
    case "pulseLine":
      return (guest) => {
        setLine(guest, input.kind, input.vcpu, input.intid, true);
        setLine(guest, input.kind, input.vcpu, input.intid, false);
      };
    case "migrateInterrupt":
      return input.intid < 32 ? undefined : (guest) => route(guest, input.intid, input.vcpu);
    case "sendSgi":
      return input.intid > 15
        ? undefined
        : (guest) => sendSgi(guest, input.intid, input.targets, input.targetsHi);
    case "moveVcpu":
      return (guest) => guest.vm.vcpus[input.vcpu]?.setAffinity(2 ** input.pcpu);
    default:
      return undefined;
  }
}

/** Rounds after which a step is given up: the vCPU waits for something that does not come. */
const MAX_ROUNDS = 100_000;
/** Rounds in which the others go one instruction at a time, too. */
const FINE_ROUNDS = 1000;

/** Lets the vCPU retire one instruction, the others about as many. */
function stepInstruction(guest: KvmGuest, { vcpu: { state } }: VcpuHandle): number {
  const { machine } = guest;
  const { cpus } = machine.platform;
  for (let i = 0; i < MAX_ROUNDS; i++) {
    const pcpu = state.cpu;
    const cpu = pcpu >= 0 && state.mode !== VCPU_MODE.OUTSIDE_GUEST_MODE ? cpus[pcpu] : undefined;
    const before = cpu?.insns ?? 0;
    if (!machine.stepRound(i < FINE_ROUNDS ? 1 : machine.quantum)) return -EAGAIN;
    if (cpu && state.cpu === pcpu && cpu.insns > before) return 0;
  }
  return -EAGAIN;
}

/** Runs until the vCPU has left the guest once more. */
function stepExit(guest: KvmGuest, { vcpu: { stat } }: VcpuHandle): number {
  const before = stat.exits;
  for (let i = 0; i < MAX_ROUNDS; i++) {
    if (!guest.machine.stepRound(guest.machine.quantum)) return -EAGAIN;
    if (stat.exits > before) return 0;
  }
  return -EAGAIN;
}

/** The input as a step of the whole machine; undefined when it is none. */
export function stepOf(input: Input): ((guest: KvmGuest) => number) | undefined {
  if (input.op !== "stepInstruction" && input.op !== "stepExit") return undefined;
  const step = input.op === "stepInstruction" ? stepInstruction : stepExit;
  return (guest) => {
    const handle = guest.vm.vcpus[input.vcpu];
    return handle ? step(guest, handle) : -EAGAIN;
  };
}
