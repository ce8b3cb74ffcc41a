/**
 * Why an interrupt is, or is not, being delivered right now: the conditions between a device's line
 * and the guest's vector, in the order in which KVM and the virtual CPU interface look at them.
 *
 * The first row that stops is the answer. The order is vgicQueueIrqUnlock and vgicTargetOracle (is it
 * pending, enabled, on, routed), the thread of the vCPU (online, scheduled, woken), vgicFlushLrState
 * (a place in a list register), and then the virtual CPU interface of the Arm GIC manual (ICH_HCR_EL2.En,
 * group enable, priority mask, running priority, highest priority pending) and PSTATE.
 */
import { fieldOf, ICH_HCR, ICH_VMCR, lrFields } from "../../arm/arch/gic.ts";
import type { Frame, FrameIrq, FrameVcpu } from "../../vmm/frame.ts";
import { duration, hex } from "./format.ts";
import { irqName, type LiveState, liveState, stateOf } from "./model.ts";
import { type RegisterNames, registerNames } from "./register_names.ts";

/** How a condition turned out: it holds; it ends the way; the way is still being gone; not looked at. */
export type CheckStatus = "pass" | "stop" | "wait" | "skip";

/** One condition. */
export interface Check {
  readonly id: CheckId;
  readonly status: CheckStatus;
  readonly sentence: string;
}

export type CheckId =
  | "active"
  | "pending"
  | "enabled"
  | "distributor"
  | "target"
  | "online"
  | "priorityMask"
  | "group"
  | "apList"
  | "blocked"
  | "scheduled"
  | "listRegister"
  | "interfaceEnabled"
  | "runningPriority"
  | "highestPending"
  | "pstate"
  | "paused"
  | "delivered";

/** The whole answer. */
export interface Explanation {
  readonly title: string;
  readonly checks: readonly Check[];
  /** The row that decides. */
  readonly verdict: Check;
  /** What happened to it before. */
  readonly past: string;
}

interface Facts extends LiveState {
  readonly frame: Frame;
  readonly irq: FrameIrq;
  readonly names: RegisterNames;
  symbol(pc: bigint): string | undefined;
}

type Outcome = Omit<Check, "id">;
const pass = (sentence: string): Outcome => ({ status: "pass", sentence });
const stop = (sentence: string): Outcome => ({ status: "stop", sentence });
const wait = (sentence: string): Outcome => ({ status: "wait", sentence });

function checkActive({ irq, active, pending, vcpu }: Facts): Outcome {
  if (!active) return pass("The guest is not handling it: it is not active.");
  const who = vcpu === undefined ? "The guest" : `vCPU ${vcpu.vcpuIdx}`;
  const again = pending
    ? "; it is pending again, and comes again after that"
    : irq.config === 1 && irq.lineLevel
    ? "; its line is still high, so it comes again after that"
    : "";
  return stop(
    `Delivered: ${who} has acknowledged it and handles it until it deactivates it (EOIR, or DIR with EOImode)${again}.`,
  );
}

function checkPending({ irq, pending, lrState }: Facts): Outcome {
  if (!pending) {
    const sentence = irq.config === 1
      ? "Not pending: its line is low and its pending latch is clear. Nothing is there to deliver."
      : irq.lineLevel
      ? "Not pending: its line is high, but it is edge-triggered and that edge has been delivered. Only the next rise counts."
      : "Not pending: no edge has come since the last one was taken.";
    return stop(sentence);
  }
  if (irq.pendingLatch) return pass("Pending: its latch is set.");
  if (irq.config === 1 && irq.lineLevel) {
    return pass("Pending: level-triggered, and its line is high.");
  }
  return pass(`Pending: the list register says "${lrState}".`);
}

/** What a list register holds is presented until the vCPU leaves the guest, whatever the distributor says meanwhile. */
function stillPresented({ vcpu, lr }: Facts): boolean {
  return lr >= 0 && vcpu?.inGuest === true;
}

function checkEnabled(f: Facts): Outcome {
  const { irq, vcpu, names } = f;
  if (!irq.enabled && stillPresented(f)) {
    return pass(`Disabled since, but vCPU ${vcpu?.vcpuIdx} still has it in a list register.`);
  }
  return irq.enabled ? pass("Enabled.") : stop(
    `Disabled: the guest has not set its bit in ${names.enable(irq.intid)}.`,
  );
}

function checkDistributor(f: Facts): Outcome {
  const { frame, irq, names } = f;
  const on = frame.vms.find((vm) => vm.vmId === irq.vm)?.distEnabled ?? false;
  if (!on && stillPresented(f)) {
    return pass("The distributor is off since, but a list register still holds it.");
  }
  return on
    ? pass(`The distributor forwards: ${names.distributorGroup} is set.`)
    : stop(`Group disabled: the distributor is off, ${names.distributorGroup} is 0.`);
}

function checkTarget({ irq, vcpu, names }: Facts): Outcome {
  if (vcpu === undefined) {
    return stop(`Routed nowhere: ${names.route(irq.intid)} names no vCPU of this VM.`);
  }
  if (irq.vcpu >= 0 && irq.targetVcpu >= 0 && irq.vcpu !== irq.targetVcpu) {
    return wait(
      `Routed elsewhere: it is to go to vCPU ${irq.targetVcpu} but is on the ap_list of vCPU ${irq.vcpu}, ` +
        `whose own thread moves it when it leaves the guest next.`,
    );
  }
  return pass(`It goes to vCPU ${vcpu.vcpuIdx}.`);
}

function checkOnline({ vcpu }: Facts): Outcome {
  return vcpu !== undefined && stateOf(vcpu) === "off"
    ? stop(`vCPU ${vcpu.vcpuIdx} is off (PSCI): it takes nothing until CPU_ON.`)
    : pass(`vCPU ${vcpu?.vcpuIdx} is on.`);
}

function checkApList({ irq, vcpu }: Facts): Outcome {
  if (irq.vcpu < 0) {
    return wait(
      "On no ap_list: it has not been queued yet. It will be when its state changes next.",
    );
  }
  return pass(
    `On the ap_list of vCPU ${vcpu?.vcpuIdx}` +
      (irq.apListPosition >= 0
        ? `, position ${irq.apListPosition} of ${vcpu?.apListLength}.`
        : "."),
  );
}

function checkGroup({ irq, vcpu, names }: Facts): Outcome {
  const bit = irq.group === 0 ? ICH_VMCR.VENG0 : ICH_VMCR.VENG1;
  const register = names.group(irq.group);
  return ((vcpu?.vgicVmcr ?? 0) & bit) !== 0
    ? pass(`Group ${irq.group} is enabled at the CPU interface (${register}).`)
    : stop(
      `Group disabled: vCPU ${vcpu?.vcpuIdx} has not enabled Group ${irq.group} (${register} is 0).`,
    );
}

function checkPriorityMask({ irq, vcpu, names }: Facts): Outcome {
  const pmr = fieldOf(vcpu?.vgicVmcr ?? 0, ICH_VMCR.VPMR);
  return irq.priority < pmr
    ? pass(`Its priority ${hex(irq.priority, 2)} is above the mask ${hex(pmr, 2)} (${names.pmr}).`)
    : stop(
      `Masked by priority: ${hex(irq.priority, 2)} is not below ${names.pmr}, which is ${
        hex(pmr, 2)
      }.`,
    );
}

/** The group priority field that preemption compares, by the binary point (Arm GIC, ICC_BPR1_EL1). */
function groupPriority(priority: number, group: number, vmcr: number): number {
  const bpr0 = fieldOf(vmcr, ICH_VMCR.VBPR0);
  const bpr1 = fieldOf(vmcr, ICH_VMCR.VBPR1);
  const common = (vmcr & ICH_VMCR.VCBPR) !== 0;
  const subpriorityBits = group === 0 || common ? bpr0 + 1 : Math.max(1, bpr1);
  return priority & ~((1 << subpriorityBits) - 1) & 0xff;
}

function checkRunningPriority({ irq, vcpu, names }: Facts): Outcome {
  if (vcpu === undefined || vcpu.rpr === 0xff) return pass("No active interrupt is in its way.");
  const mine = groupPriority(irq.priority, irq.group, vcpu.vgicVmcr);
  return mine < vcpu.rpr
    ? pass(
      `It preempts what is active: ${hex(mine, 2)} is above ${hex(vcpu.rpr, 2)} (${names.rpr}).`,
    )
    : stop(
      `Lower priority than running: vCPU ${vcpu.vcpuIdx} handles one of ${hex(vcpu.rpr, 2)} ` +
        `(${names.rpr}), and ${hex(mine, 2)} does not preempt that.`,
    );
}

function sleeps(vcpu: FrameVcpu | undefined): boolean {
  return vcpu !== undefined && (stateOf(vcpu) === "wfi" || stateOf(vcpu) === "blocked");
}

function checkBlocked({ vcpu }: Facts): Outcome {
  if (vcpu === undefined) return pass("");
  return sleeps(vcpu)
    ? wait(
      `vCPU ${vcpu.vcpuIdx} sleeps and has been kicked: it wakes when its thread is scheduled.`,
    )
    : pass(`vCPU ${vcpu.vcpuIdx} is awake.`);
}

function checkScheduled({ vcpu }: Facts): Outcome {
  if (sleeps(vcpu)) return pass("It needs no physical CPU while it sleeps.");
  if (vcpu === undefined || vcpu.pcpu >= 0) {
    return pass(`vCPU ${vcpu?.vcpuIdx} is loaded on physical CPU ${vcpu?.pcpu}.`);
  }
  return wait(`vCPU ${vcpu.vcpuIdx} waits for a physical CPU.`);
}

function checkListRegister({ frame, irq, vcpu, lr, names }: Facts): Outcome {
  if (lr >= 0) return pass(`In list register ${lr} of vCPU ${vcpu?.vcpuIdx}.`);
  if (vcpu?.inGuest && vcpu.usedLrs >= frame.nrLr) {
    const how = vcpu.vgicHcr & ICH_HCR.UIE
      ? `a maintenance interrupt (${names.hcr}.UIE) comes when they empty`
      : "they are filled anew at the next entry";
    return stop(
      `No list register is free: all ${frame.nrLr} hold interrupts that come first ` +
        `(it is at position ${irq.apListPosition} of the ap_list); ${how}.`,
    );
  }
  if (!vcpu?.inGuest && irq.apListPosition >= frame.nrLr) {
    return stop(
      `No list register for it: ${irq.apListPosition} interrupts come first and there are ${frame.nrLr}.`,
    );
  }
  return wait(
    vcpu?.inGuest
      ? `In no list register yet: vCPU ${vcpu.vcpuIdx} is in the guest and has been kicked; the next entry fills them.`
      : `In no list register yet: the next entry of vCPU ${vcpu?.vcpuIdx} fills them.`,
  );
}

function checkInterface({ vcpu, lr, names }: Facts): Outcome {
  // Outside the guest the interface is off for the host; the next entry turns it on.
  if (lr < 0 || !vcpu?.inGuest) {
    return pass("The virtual CPU interface is on while the guest runs.");
  }
  return vcpu.vgicHcr & ICH_HCR.En
    ? pass(`The virtual CPU interface is on: ${names.hcr}.En is set.`)
    : stop(`The virtual CPU interface is off: ${names.hcr}.En is 0, no list register counts.`);
}

/** An enabled, unmasked interrupt that the interface would choose before this one. */
function better(f: Facts): { intid: number; priority: number } | undefined {
  const { vcpu } = f;
  if (vcpu === undefined) return undefined;
  const others = vcpu.lr.slice(0, vcpu.usedLrs).map(({ lo, hi }) => lrFields(lo, hi));
  const enabled = (group: number): boolean =>
    (vcpu.vgicVmcr & (group === 0 ? ICH_VMCR.VENG0 : ICH_VMCR.VENG1)) !== 0;
  return others.find((other, n) =>
    n !== f.lr && other.state === "pending" && enabled(other.group) &&
    (other.priority < f.irq.priority || (other.priority === f.irq.priority && n < f.lr))
  );
}

function checkHighest(f: Facts): Outcome {
  const first = better(f);
  return first === undefined ? pass("It is the highest priority pending interrupt.") : wait(
    `Interrupt ${first.intid} comes first: it is pending at ${
      hex(first.priority, 2)
    } in a list register of the same vCPU.`,
  );
}

function placeOf(pc: bigint, symbol: Facts["symbol"]): string {
  const name = symbol(pc);
  return `pc ${hex(pc, 16)}${name === undefined ? "" : ` (${name})`}`;
}

function checkPstate({ irq, vcpu, symbol }: Facts): Outcome {
  // With a GICv3 VFIQEn is always set.
  const fiq = irq.group === 0 && ((vcpu?.vgicVmcr ?? 0) & ICH_VMCR.VFIQEn) !== 0;
  const [bit, name] = fiq ? [1 << 6, "PSTATE.F"] : [1 << 7, "PSTATE.I"];
  const clear = ((vcpu?.pstate ?? 0) & bit) === 0;
  if (!clear && sleeps(vcpu)) {
    return pass(`${name} is set, which keeps no WFI asleep; the guest clears it when it is awake.`);
  }
  return clear ? pass(`${name} is clear: the guest takes interrupts.`) : stop(
    `Masked by the guest: ${name} of vCPU ${vcpu?.vcpuIdx} is set (DAIF), at ${
      placeOf(vcpu?.pc ?? 0n, symbol)
    }.`,
  );
}

function checkPaused({ frame, vcpu }: Facts): Outcome {
  if (!frame.paused && vcpu !== undefined && stateOf(vcpu) === "paused") {
    return wait(
      `vCPU ${vcpu.vcpuIdx} is kept out of the guest while another one changes active interrupts.`,
    );
  }
  return frame.paused
    ? wait("The machine is paused: nothing moves until it is resumed (Space) or stepped (s, S).")
    : pass("The machine is running.");
}

function checkDelivered({ vcpu }: Facts): Outcome {
  return wait(
    `Nothing stops it: vCPU ${vcpu?.vcpuIdx} takes it at its next instruction.`,
  );
}

/** The conditions in their order. */
const CHECKS: readonly { readonly id: CheckId; check(f: Facts): Outcome }[] = [
  { id: "active", check: checkActive },
  { id: "pending", check: checkPending },
  { id: "enabled", check: checkEnabled },
  { id: "distributor", check: checkDistributor },
  { id: "target", check: checkTarget },
  { id: "apList", check: checkApList },
  { id: "online", check: checkOnline },
  { id: "interfaceEnabled", check: checkInterface },
  { id: "group", check: checkGroup },
  { id: "priorityMask", check: checkPriorityMask },
  { id: "runningPriority", check: checkRunningPriority },
  { id: "blocked", check: checkBlocked },
  { id: "scheduled", check: checkScheduled },
  { id: "listRegister", check: checkListRegister },
  { id: "highestPending", check: checkHighest },
  { id: "pstate", check: checkPstate },
  { id: "paused", check: checkPaused },
  { id: "delivered", check: checkDelivered },
];

/** Conditions after which there is nothing to look at: without them the others are about nothing. */
const FINAL: ReadonlySet<CheckId> = new Set(["active", "pending", "target", "online"]);

function pastOf(frame: Frame, irq: FrameIrq): string {
  const last = irq.lastEventNs >= Number.MAX_SAFE_INTEGER
    ? "never seen"
    : `last event ${duration(frame.virtualNs - irq.lastEventNs)} ago`;
  const latency = irq.latencyCount === 0
    ? ""
    : `, latency p50 ${duration(irq.latencyP50Ns)}, p99 ${duration(irq.latencyP99Ns)}`;
  return `injected ${irq.injected}, acknowledged ${irq.acked}, ended ${irq.eoied}; ${last}${latency}`;
}

/** Goes through the conditions. Later ones are still looked at, so that a second obstacle shows too. */
export function explain(
  frame: Frame,
  irq: FrameIrq,
  symbol: (pc: bigint) => string | undefined = () => undefined,
): Explanation {
  const names = registerNames(frame.gic);
  const facts: Facts = { ...liveState(frame, irq), frame, irq, names, symbol };
  let over = false;
  const checks = CHECKS.map(({ id, check }): Check => {
    if (over) return { id, status: "skip", sentence: "" };
    const outcome = check(facts);
    over = outcome.status !== "pass" && FINAL.has(id);
    return { id, ...outcome };
  });
  const verdict = checks.find((c) => c.status === "stop") ??
    checks.find((c) => c.status === "wait") ?? checks[checks.length - 1] as Check;
  return { title: irqName(irq), checks, verdict, past: pastOf(frame, irq) };
}
