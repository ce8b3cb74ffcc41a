/** What is counted of a vCPU's exits. No kernel file: kvm_stat has less. */
import { TWO32 } from "../base/bits.ts";
import * as memoryModule from "../base/memory.ts";
import * as kvmHost from "./kvm_host.ts";
import type { Vcpu } from "./kvm_host.ts";
import * as kvmWords from "./kvm_words.ts";
import * as stats from "./stats.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const add = memoryModule.addSmall;
const { ARM_EXCEPTION } = kvmHost;
const { STAT_WORD: STAT, VCPU_WORD: WORD } = kvmWords;
const { SWITCH_REASON } = stats;

/**
 * Counts an exit by `code`, an {@link ARM_EXCEPTION}, and exception class `ec`. `insns`: the two words in which the
 * physical CPU counts its instructions.
 */
export function accountExit(vcpu: Vcpu, code: number, ec: number, insns: Int32Array): void {
  const { words, statWords } = vcpu;
  add(statWords, STAT.EXITS, 1);
  countInsns(vcpu, insns);
  words[WORD.EXIT_CODE] = code | 0;
  if (code === ARM_EXCEPTION.IRQ) add(statWords, STAT.IRQ_EXITS, 1);
  else if (code === ARM_EXCEPTION.TRAP) add(statWords, STAT.BY_CLASS + 2 * ec, 1);
  else if (code === ARM_EXCEPTION.EL1_SERROR) vcpu.stat.serrorExits++;
  vcpu.meter?.because(code === ARM_EXCEPTION.TRAP ? ec : switchReason(vcpu, code));
}

/** What the guest has retired since it was entered. */
function countInsns({ words, statWords, stat }: Vcpu, insns: Int32Array): void {
  const lo = words[WORD.ENTRY_INSNS] as number, hi = words[WORD.ENTRY_INSNS + 1] as number;
  const done = ((insns[0] as number) - lo) | 0, above = ((insns[1] as number) - hi) | 0;
  // A guest that is not left for long has done more than a small number holds.
  if (above === 0 && done >= 0) add(statWords, STAT.INSNS, done);
  else stat.insns += ((insns[0] as number) >>> 0) - (lo >>> 0) + above * TWO32;
}

/** Under which reason a switch is counted that was no trap: its exception class, or what is none. */
function switchReason({ words }: Vcpu, code: number): number {
  if (code === ARM_EXCEPTION.IRQ) return SWITCH_REASON.IRQ;
  if (code === ARM_EXCEPTION.IL) return (words[WORD.ESR] as number) >>> 26;
  return code === ARM_EXCEPTION.HYP_GONE ? SWITCH_REASON.HYP_GONE : SWITCH_REASON.SERROR;
}
