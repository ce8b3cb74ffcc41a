/**
 * Saving and restoring the virtual CPU interface at EL2. Mirrors arch/arm64/kvm/hyp/vgic-v3-sr.c.
 *
 * What differs: only what a GICv3 guest (ICC_SRE_EL1.SRE always 1) needs; the emulation of
 * trapped ICC_* registers is left out, since no supported core needs those traps. HYP's rules hold
 * here: no tracing, no host kernel, no allocation; everything goes through the port.
 */
import { ICC_SRE, ICH_HCR, ICH_LR_HI, ICH_VTR } from "../../arm/arch/gic.ts";
import { R } from "../../arm/arch/sysregs.ts";
import { once } from "../../base/once.ts";
import {
  type At,
  at,
  type El2Port,
  type Sequence,
  sequence,
  type SequenceStep,
  STEP,
} from "../../arm/el2_port.ts";
import { type HypVcpu, type VgicV3CpuIf, VgicV3CpuIfLayout } from "../kvm_host.ts";
import * as kvmWords from "../kvm_words.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { VCPU_WORD: WORD } = kvmWords;

/** The state in bits 63 to 32 of a list register. */
const STATE = ICH_LR_HI.PENDING | ICH_LR_HI.ACTIVE;

/** Number of implemented list registers less one, from ICH_VTR_EL2; bit 4 of the field is ignored (at most 16). */
export function vtrToMaxLrIdx(vtr: number): number {
  return vtr & 0xf;
}

/** Number of active priority registers per group, from ICH_VTR_EL2: 1, 2 or 4. */
function vtrToNrAprRegs(vtr: number): number {
  const preBits = ((vtr >>> ICH_VTR.PREbits.shift) & 7) + 1;
  return preBits === 7 ? 4 : preBits === 6 ? 2 : 1;
}

const { vgicHcr: HCR_AT, lr: LR_AT } = VgicV3CpuIfLayout.offset;
const MAX_LRS = 16;
const lrAt = (n: number): At => at(LR_AT + 8 * n);
const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

/** What of a vCPU has the interface's shadow. */
type CpuIfOwner = Pick<HypVcpu, "base" | "words">;
/** Where that is in its structure. */
const CPU_IF = 4 * WORD.CPU_IF;

/** By the number of list registers in use. Argument 0 of all below is the interface's shadow. */
const RESTORE = once(() =>
  numbers(MAX_LRS + 1).map((used) =>
    sequence(
      STEP.loadWord(R.ICH_HCR_EL2, at(HCR_AT)),
      numbers(used).map((n) => STEP.restore(R.ICH_LR0_EL2 + n, lrAt(n))),
    )
  )
);

/** The same after an exit: what is free, off with the interface, and its list registers emptied. */
const SAVE = once(() =>
  numbers(MAX_LRS + 1).map((used) =>
    sequence(
      STEP.tell(R.ICH_ELRSR_EL2, (1 << used) - 1),
      STEP.loadWord(R.ICH_HCR_EL2, at(HCR_AT), ICH_HCR.En),
      numbers(used).map((n) => [
        STEP.saveUnless(n, R.ICH_LR0_EL2 + n, lrAt(n), STATE),
        STEP.write(R.ICH_LR0_EL2 + n, 0),
      ]).flat(),
    )
  )
);

/**
 * After an exit: reads the used list registers back, or only notes the empty state of those that
 * ICH_ELRSR_EL2 reports free, and turns the interface off.
 */
export function __vgicV3SaveState(port: El2Port, { words, base }: CpuIfOwner): void {
  const used = words[WORD.USED_LRS] as number;
  if (used !== 0) port.run(SAVE()[used] as Sequence, base + CPU_IF);
}

/** Before an entry: turns the interface on and fills the used list registers. Nothing when none is used. */
export function __vgicV3RestoreState(port: El2Port, { words, base }: CpuIfOwner): void {
  const used = words[WORD.USED_LRS] as number;
  if (used !== 0) port.run(RESTORE()[used] as Sequence, base + CPU_IF);
}

/** Keeps the guest from ICC_SRE_EL1. */
export function __vgicV3ActivateTraps(port: El2Port, _cpuIf: VgicV3CpuIf): void {
  port.write(R.ICC_SRE_EL2, (port.readLo(R.ICC_SRE_EL2) & ~ICC_SRE.Enable) >>> 0, 0);
}

/** Gives ICC_SRE_EL1 back to the host. */
export function __vgicV3DeactivateTraps(port: El2Port, _cpuIf: VgicV3CpuIf): void {
  port.write(R.ICC_SRE_EL2, (port.readLo(R.ICC_SRE_EL2) | ICC_SRE.Enable) >>> 0, 0);
}

/** Reads the active priorities back, highest-numbered register first. */
export function __vgicV3SaveAprs(port: El2Port, cpuIf: VgicV3CpuIf): void {
  const count = vtrToNrAprRegs(port.readLo(R.ICH_VTR_EL2));
  const m = cpuIf.memory;
  for (let i = count - 1; i >= 0; i--) m.st32(cpuIf.ap0r + 4 * i, port.readLo(R.ICH_AP0R0_EL2 + i));
  for (let i = count - 1; i >= 0; i--) m.st32(cpuIf.ap1r + 4 * i, port.readLo(R.ICH_AP1R0_EL2 + i));
}

/** Writes the active priorities, highest-numbered register first. */
export function __vgicV3RestoreAprs(port: El2Port, cpuIf: VgicV3CpuIf): void {
  const count = vtrToNrAprRegs(port.readLo(R.ICH_VTR_EL2));
  const m = cpuIf.memory;
  for (let i = count - 1; i >= 0; i--) {
    port.write(R.ICH_AP0R0_EL2 + i, m.ld32(cpuIf.ap0r + 4 * i), 0);
  }
  for (let i = count - 1; i >= 0; i--) {
    port.write(R.ICH_AP1R0_EL2 + i, m.ld32(cpuIf.ap1r + 4 * i), 0);
  }
}

const { vgicVmcr: VMCR_AT, ap0r: AP0R_AT, ap1r: AP1R_AT } = VgicV3CpuIfLayout.offset;

/** The active priority registers of one group, `count` of them, highest-numbered first. */
function aprs(
  step: (reg: number, place: At) => SequenceStep,
  first: number,
  to: number,
  count: number,
): SequenceStep[] {
  return Array.from({ length: count }, (_, i) => count - 1 - i).map((n) =>
    step(first + n, at(to + 4 * n))
  );
}

/** Sequences by the number of active priority registers, 1, 2 or 4. */
function byAprs(steps: (count: number) => Sequence): (ichVtr: number) => Sequence {
  const one = steps(1);
  const byCount = [one, one, steps(2), one, steps(4)];
  return (ichVtr) => byCount[vtrToNrAprRegs(ichVtr)] ?? one;
}

/** The registers and traps of vgic_v3_load and vgic_v3_put with VHE, as one sequence. Argument 0 is the interface's shadow. */
const LOAD_VHE = byAprs((count) =>
  sequence(
    STEP.loadWord(R.ICH_VMCR_EL2, at(VMCR_AT)),
    STEP.look(R.ICH_VTR_EL2),
    aprs(STEP.loadWord, R.ICH_AP0R0_EL2, AP0R_AT, count),
    aprs(STEP.loadWord, R.ICH_AP1R0_EL2, AP1R_AT, count),
    STEP.change(R.ICC_SRE_EL2, ICC_SRE.Enable, 0),
  )
);
const PUT_VHE = byAprs((count) =>
  sequence(
    STEP.readWord(R.ICH_VMCR_EL2, at(VMCR_AT)),
    STEP.look(R.ICH_VTR_EL2),
    aprs(STEP.readWord, R.ICH_AP0R0_EL2, AP0R_AT, count),
    aprs(STEP.readWord, R.ICH_AP1R0_EL2, AP1R_AT, count),
    STEP.change(R.ICC_SRE_EL2, 0, ICC_SRE.Enable),
  )
);

/** __vgic_v3_write_vmcr, __vgic_v3_restore_aprs and __vgic_v3_activate_traps. `ichVtr`: ICH_VTR_EL2. */
export function vgicV3LoadVhe(port: El2Port, cpuIf: VgicV3CpuIf, ichVtr: number): void {
  port.run(LOAD_VHE(ichVtr), cpuIf.base);
}

/** __vgic_v3_read_vmcr, __vgic_v3_save_aprs and __vgic_v3_deactivate_traps. */
export function vgicV3PutVhe(port: El2Port, cpuIf: VgicV3CpuIf, ichVtr: number): void {
  port.run(PUT_VHE(ichVtr), cpuIf.base);
}

/** Clears every implemented list register. */
export function __vgicV3InitLrs(port: El2Port): void {
  const last = vtrToMaxLrIdx(port.readLo(R.ICH_VTR_EL2));
  for (let i = 0; i <= last; i++) port.write(R.ICH_LR0_EL2 + i, 0, 0);
}

/** ICH_VTR_EL2. There is no MMIO-based CPU interface to look for. */
export function __vgicV3GetGicConfig(port: El2Port): number {
  return port.readLo(R.ICH_VTR_EL2);
}

export function __vgicV3ReadVmcr(port: El2Port): number {
  return port.readLo(R.ICH_VMCR_EL2);
}

export function __vgicV3WriteVmcr(port: El2Port, vmcr: number): void {
  port.write(R.ICH_VMCR_EL2, vmcr, 0);
}
