/**
 * Adjusting the guest's PC before it is entered: past an emulated instruction, or to its own exception
 * vector. Mirrors arch/arm64/kvm/hyp/exception.c and hyp/adjust_pc.h.
 *
 * What differs: AArch64 EL1 only, as there are no other guests.
 */
import { SCTLR, SPSR } from "../../arm/arch/fields.ts";
import * as memoryModule from "../../base/memory.ts";
import { R } from "../../arm/arch/sysregs.ts";
import type { El2Port } from "../../arm/el2_port.ts";
import * as kvmHost from "../kvm_host.ts";
import { type HypVcpu, KvmCpuContextLayout, SAVED } from "../kvm_host.ts";
import * as kvmWords from "../kvm_words.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { addSmall } = memoryModule;
const { IFLAG } = kvmHost;
const { VCPU_WORD: WORD } = kvmWords;

const MODE_MASK = 0x1f;
const MODE_EL1H = 5;
const MODE_EL1T = 4;
/** Offsets into the vector table by where the exception comes from; the type adds 0x80 each. */
const FROM = { EL1T: 0x000, EL1H: 0x200, LOWER: 0x400 } as const;
const DAIF_ALL = 15 << SPSR.DAIF_SHIFT;
const NZCV = 15 << SPSR.NZCV_SHIFT;
/** Of PSTATE: SS and BTYPE. */
const STEPPED = SPSR.SS | (3 << 10);

function sctlrLo(port: El2Port, vcpu: HypVcpu): number {
  if (vcpu.state.sysregsLoadedOnCpu) return port.readLo(R.SCTLR_EL12);
  return vcpu.state.memory.ld32(vcpu.ctxt.sysregs + 8 * SAVED.SCTLR_EL1);
}

/** Copies a 64-bit word of the context into a register that may be in the CPU. */
function store(
  port: El2Port,
  vcpu: HypVcpu,
  reg: number,
  saved: number,
  from: number,
): void {
  if (vcpu.state.sysregsLoadedOnCpu) port.restore(reg, from);
  else vcpu.state.memory.copy64(vcpu.ctxt.sysregs + 8 * saved, from);
}

function load(port: El2Port, vcpu: HypVcpu, reg: number, saved: number, to: number): void {
  if (vcpu.state.sysregsLoadedOnCpu) port.save(reg, to);
  else vcpu.state.memory.copy64(to, vcpu.ctxt.sysregs + 8 * saved);
}

/** PSTATE on entry to EL1 from `old` (enter_exception64). */
export function exceptionPstate(old: number, sctlr: number): number {
  const pan = (sctlr & SCTLR.SPAN) === 0 ? SPSR.PAN : old & SPSR.PAN;
  return ((old & NZCV) | pan | DAIF_ALL | MODE_EL1H) >>> 0;
}

function vectorFrom(mode: number): number {
  return mode === MODE_EL1H ? FROM.EL1H : mode === MODE_EL1T ? FROM.EL1T : FROM.LOWER;
}

function enterException64(port: El2Port, vcpu: HypVcpu, type: number): void {
  const m = vcpu.state.memory;
  const pcAt = vcpu.ctxt.base + KvmCpuContextLayout.offset.pc;
  const pstateAt = vcpu.ctxt.base + KvmCpuContextLayout.offset.pstate;
  const old = m.ld32(pstateAt);
  store(port, vcpu, R.ELR_EL12, SAVED.ELR_EL1, pcAt);
  store(port, vcpu, R.SPSR_EL12, SAVED.SPSR_EL1, pstateAt);
  load(port, vcpu, R.VBAR_EL12, SAVED.VBAR_EL1, pcAt);
  addSmall(vcpu.words, WORD.PC, vectorFrom(old & MODE_MASK) + 0x80 * type);
  m.st32(pstateAt, exceptionPstate(old, sctlrLo(port, vcpu)));
  m.st32(pstateAt + 4, 0);
}

/** kvm_skip_instr64: past the instruction, out of a step, BTYPE gone. */
function skipInstruction(words: Int32Array): void {
  addSmall(words, WORD.PC, 4);
  words[WORD.PSTATE] = (words[WORD.PSTATE] as number) & ~STEPPED;
}

/** __kvm_adjust_pc: carries out what {@link kvmIncrPc} or an injected exception asked for. */
export function kvmAdjustPc(port: El2Port, vcpu: HypVcpu): void {
  const { words } = vcpu, flags = words[WORD.IFLAGS] as number;
  if ((flags & IFLAG.PENDING_EXCEPTION) !== 0) {
    enterException64(port, vcpu, vcpu.state.pendingException);
    words[WORD.IFLAGS] = flags & ~IFLAG.PENDING_EXCEPTION;
  } else if ((flags & IFLAG.INCREMENT_PC) !== 0) {
    skipInstruction(words);
    words[WORD.IFLAGS] = flags & ~IFLAG.INCREMENT_PC;
  }
}
