/**
 * Dialogs: what is asked before a command is sent. Each says in one line what will happen, and makes
 * the commands; what it cannot do it says instead.
 */
import { type Command, LINE_KIND } from "../../vmm/command_ring.ts";
import type { Frame, FrameIrq, FrameVcpu } from "../../vmm/frame.ts";
import { irqOf, irqType, vcpuOf } from "./model.ts";

/** A field with fixed choices, or a number that is typed. */
export interface DialogField {
  readonly label: string;
  readonly choices?: readonly { readonly label: string; readonly value: number }[];
  /** Position of the choice taken. */
  readonly index: number;
  /** What was typed. */
  readonly text: string;
}

export type DialogKind = "line" | "migrate" | "sgi" | "moveVcpu" | "resetTotals";

/** An open dialog. */
export interface Dialog {
  readonly kind: DialogKind;
  readonly title: string;
  readonly vm: number;
  readonly fields: readonly DialogField[];
  readonly focus: number;
}

/** What a dialog would do: a sentence, and the commands; or what is wrong and no commands. */
export interface Plan {
  readonly sentence: string;
  readonly commands: readonly Command[];
  readonly error: boolean;
}

type Choice = { readonly label: string; readonly value: number };

const choice = (label: string, choices: readonly Choice[], value: number): DialogField => ({
  label,
  choices,
  index: Math.max(0, choices.findIndex((c) => c.value === value)),
  text: "",
});
const typed = (label: string, text: string): DialogField => ({ label, index: 0, text });
const vcpuChoices = (frame: Frame, vm: number): Choice[] =>
  frame.vcpus.filter((v) => v.vm === vm).map((v) => ({
    label: `vCPU ${v.vcpuIdx}`,
    value: v.vcpuIdx,
  }));

const LINE_ACTIONS = [
  { label: "pulse", value: 0, op: "pulseLine" },
  { label: "raise", value: 1, op: "raiseLine" },
  { label: "lower", value: 2, op: "lowerLine" },
] as const;

/** The number that an interrupt dialog starts with when no SPI or PPI is selected. */
const FIRST_SPI = 32;

/** Raise, lower or pulse a line. */
export function lineDialog(frame: Frame, irq: FrameIrq | undefined, vcpu: number): Dialog {
  const vm = irq?.vm ?? 0;
  const usable = irq !== undefined && irq.intid >= 16;
  return {
    kind: "line",
    title: "Interrupt line",
    vm,
    fields: [
      choice("do", LINE_ACTIONS, usable && irq.lineLevel ? 2 : irq?.config === 1 ? 1 : 0),
      typed("interrupt", String(usable ? irq.intid : FIRST_SPI)),
      choice(
        "of (PPI only)",
        vcpuChoices(frame, vm),
        irq && irq.ownerVcpu >= 0 ? irq.ownerVcpu : vcpu,
      ),
    ],
    focus: 0,
  };
}

/** Route an SPI to another vCPU. */
export function migrateDialog(frame: Frame, irq: FrameIrq): Dialog {
  const choices = vcpuChoices(frame, irq.vm);
  const next = choices.find((c) => c.value > irq.targetVcpu) ?? choices[0];
  return {
    kind: "migrate",
    title: `Migrate interrupt ${irq.intid}`,
    vm: irq.vm,
    fields: [typed("interrupt", String(irq.intid)), choice("to", choices, next?.value ?? 0)],
    focus: 1,
  };
}

const ALL_VCPUS = -1;

/** Send an SGI. */
export function sgiDialog(frame: Frame, vm: number, vcpu: number): Dialog {
  const targets = [...vcpuChoices(frame, vm), { label: "every vCPU", value: ALL_VCPUS }];
  return {
    kind: "sgi",
    title: "Send an SGI",
    vm,
    fields: [typed("SGI (0 to 15)", "0"), choice("to", targets, vcpu)],
    focus: 0,
  };
}

/** Bind a vCPU to another physical CPU. */
export function moveVcpuDialog(frame: Frame, vcpu: FrameVcpu): Dialog {
  const pcpus = frame.pcpus.map((p) => ({ label: `physical CPU ${p.pcpu}`, value: p.pcpu }));
  const next = pcpus.find((c) => c.value > vcpu.pcpu) ?? pcpus[0];
  return {
    kind: "moveVcpu",
    title: `Move vCPU ${vcpu.vcpuIdx}`,
    vm: vcpu.vm,
    fields: [
      choice("vCPU", vcpuChoices(frame, vcpu.vm), vcpu.vcpuIdx),
      choice("to", pcpus, next?.value ?? 0),
    ],
    focus: 1,
  };
}

/** Start all totals from zero. */
export function resetDialog(): Dialog {
  return { kind: "resetTotals", title: "Reset totals", vm: 0, fields: [], focus: 0 };
}

const wrong = (sentence: string): Plan => ({ sentence, commands: [], error: true });
const plan = (sentence: string, ...commands: Command[]): Plan => ({
  sentence,
  commands,
  error: false,
});

/** The value of a field: its choice's, or the number typed; NaN when there is none. */
function fieldValue(field: DialogField | undefined): number {
  if (field === undefined) return NaN;
  if (field.choices !== undefined) return field.choices[field.index]?.value ?? NaN;
  return /^\d{1,5}$/.test(field.text) ? Number(field.text) : NaN;
}

/** The interrupt of that number: the vCPU's own below 32. */
function irqAt(frame: Frame, vm: number, intid: number, vcpu: number): FrameIrq | undefined {
  return irqOf(frame, `${vm}.${intid < 32 ? vcpu : -1}.${intid}`);
}

const LINE_EFFECTS: Readonly<Record<string, readonly [edge: string, level: string]>> = {
  pulseLine: [
    "an edge: it becomes pending once",
    "high and low again: pending only if sampled between",
  ],
  raiseLine: ["an edge: it becomes pending once", "it is pending for as long as the line is high"],
  lowerLine: ["means nothing to an edge-triggered one", "no longer pending unless it is latched"],
};

function planLine(frame: Frame, { vm, fields }: Dialog): Plan {
  const action = LINE_ACTIONS[fieldValue(fields[0])] ?? LINE_ACTIONS[0];
  const [intid, vcpu] = [fieldValue(fields[1]), fieldValue(fields[2])];
  const last = 31 + (frame.vms.find((v) => v.vmId === vm)?.nrSpis ?? 0);
  if (!(intid >= 16 && intid <= last)) return wrong(`A PPI is 16 to 31, an SPI 32 to ${last}.`);
  const kind = intid < 32 ? LINE_KIND.PPI : LINE_KIND.SPI;
  const irq = irqAt(frame, vm, intid, vcpu);
  const effect = LINE_EFFECTS[action.op]?.[irq?.config === 1 ? 1 : 0] ?? "";
  const of = kind === LINE_KIND.PPI ? ` of vCPU ${vcpu}` : "";
  return plan(
    `Will ${action.label} the line of ${irqType(intid)} ${intid}${of}: ${effect}.`,
    { op: action.op, vm, kind, intid, vcpu: kind === LINE_KIND.PPI ? vcpu : 0 },
  );
}

function planMigrate(frame: Frame, { vm, fields }: Dialog): Plan {
  const [intid, vcpu] = [fieldValue(fields[0]), fieldValue(fields[1])];
  if (intid < 32) return wrong("A private interrupt belongs to its vCPU: only an SPI can migrate.");
  const irq = irqAt(frame, vm, intid, -1);
  if (irq === undefined) return wrong("There is no such SPI.");
  if (irq.targetVcpu === vcpu) return wrong(`SPI ${intid} goes to vCPU ${vcpu} already.`);
  const now = irq.vcpu >= 0
    ? `, now on the ap_list of vCPU ${irq.vcpu}, moves when that vCPU leaves the guest`
    : " arrives there from now on";
  return plan(`SPI ${intid} will be routed to vCPU ${vcpu}: it${now}.`, {
    op: "migrateInterrupt",
    vm,
    intid,
    vcpu,
  });
}

function planSgi(frame: Frame, { vm, fields }: Dialog): Plan {
  const [intid, vcpu] = [fieldValue(fields[0]), fieldValue(fields[1])];
  if (!(intid >= 0 && intid < 16)) return wrong("An SGI is 0 to 15.");
  const targets = vcpu === ALL_VCPUS
    ? frame.vcpus.filter((v) => v.vm === vm).map((v) => v.vcpuIdx)
    : [vcpu];
  const mask = (from: number): number =>
    targets.filter((t) => t >= from && t < from + 32).reduce((m, t) => m + 2 ** (t - from), 0);
  const who = vcpu === ALL_VCPUS ? "every vCPU" : `vCPU ${vcpu}`;
  return plan(`SGI ${intid} becomes pending at ${who}.`, {
    op: "sendSgi",
    vm,
    intid,
    targets: mask(0),
    targetsHi: mask(32),
  });
}

function planMove(frame: Frame, { vm, fields }: Dialog): Plan {
  const [vcpu, pcpu] = [fieldValue(fields[0]), fieldValue(fields[1])];
  const now = vcpuOf(frame, vm, vcpu);
  if (now === undefined) return wrong("There is no such vCPU.");
  if (now.pcpu === pcpu) return wrong(`vCPU ${vcpu} is on physical CPU ${pcpu} already.`);
  return plan(
    `vCPU ${vcpu} leaves the guest, vcpu_put saves it, and vcpu_load loads it on physical CPU ${pcpu}.`,
    { op: "moveVcpu", vm, vcpu, pcpu },
  );
}

const PLANS: Readonly<Record<DialogKind, (frame: Frame, dialog: Dialog) => Plan>> = {
  line: planLine,
  migrate: planMigrate,
  sgi: planSgi,
  moveVcpu: planMove,
  resetTotals: () =>
    plan("All totals, histories and latencies start from zero. This cannot be undone.", {
      op: "resetCounters",
    }),
};

/** What the dialog would do as it stands. */
export function planOf(frame: Frame, dialog: Dialog): Plan {
  return PLANS[dialog.kind](frame, dialog);
}

/** The dialog with its focused field changed. */
export function withField(dialog: Dialog, change: (field: DialogField) => DialogField): Dialog {
  const fields = dialog.fields.map((field, i) => i === dialog.focus ? change(field) : field);
  return { ...dialog, fields };
}

/** The next or previous choice, around the end. A typed number counts up or down. */
export function turn(field: DialogField, by: 1 | -1): DialogField {
  if (field.choices === undefined) {
    const value = fieldValue(field);
    return Number.isNaN(value) ? field : { ...field, text: String(Math.max(0, value + by)) };
  }
  const { length } = field.choices;
  return { ...field, index: (field.index + by + length) % Math.max(1, length) };
}

/** What typing does: digits go into a number; elsewhere a character takes the next choice with it. */
export function typeInto(field: DialogField, text: string): DialogField {
  if (field.choices === undefined) {
    return /^\d$/.test(text) && field.text.length < 5
      ? { ...field, text: field.text + text }
      : field;
  }
  const fits = (c: Choice): boolean =>
    c.label.toLowerCase().startsWith(text.toLowerCase()) || c.label.endsWith(" " + text);
  const found = field.choices.findIndex(fits);
  return found < 0 ? field : { ...field, index: found };
}
