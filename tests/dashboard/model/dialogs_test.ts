import assert from "node:assert/strict";
import {
  type Dialog,
  type DialogField as Field,
  lineDialog,
  migrateDialog,
  moveVcpuDialog,
  type Plan,
  planOf,
  resetDialog,
  sgiDialog,
  turn,
  typeInto,
  withField,
} from "../../../src/dashboard/model/dialogs.ts";
import { type Frame, type FrameIrq, readFrame } from "../../../src/vmm/frame.ts";
import { FakeMachine } from "../../screens/fake_machine.ts";

function frameOf(machine = new FakeMachine()): Frame {
  machine.writer.publish(machine);
  return readFrame(machine.memory, 0) as Frame;
}
const irqOf = (frame: Frame, intid: number, owner = -1): FrameIrq =>
  frame.irqs.find((i) => i.intid === intid && i.ownerVcpu === owner) as FrameIrq;

function put(dialog: Dialog, field: number, text: string): Dialog {
  const change = (d: Dialog, by: string): Dialog => withField(d, (f) => typeInto(f, by));
  const cleared = withField({ ...dialog, focus: field }, (f) => ({ ...f, text: "" }));
  return [...text].reduce(change, cleared);
}

function commandOf(plan: Plan): unknown {
  assert.equal(plan.error, false, plan.sentence);
  return plan.commands[0];
}

Deno.test("a line: what is sent and what is said, for SPI and PPI, edge and level", () => {
  const frame = frameOf();
  const dialog = lineDialog(frame, irqOf(frame, 40), 2);
  const pulse = planOf(frame, dialog);
  assert.deepEqual(commandOf(pulse), { op: "pulseLine", vm: 0, kind: 1, intid: 40, vcpu: 0 });
  assert.match(pulse.sentence, /pulse the line of SPI 40: an edge/);
  const raise = planOf(frame, put(put(dialog, 0, "r"), 1, "33"));
  assert.deepEqual(commandOf(raise), { op: "raiseLine", vm: 0, kind: 1, intid: 33, vcpu: 0 });
  assert.match(raise.sentence, /as long as the line is high/);
  const lower = planOf(frame, put(put(put(dialog, 0, "l"), 1, "27"), 2, "3"));
  assert.deepEqual(commandOf(lower), { op: "lowerLine", vm: 0, kind: 2, intid: 27, vcpu: 3 });
  assert.match(lower.sentence, /PPI 27 of vCPU 3/);
});

Deno.test("a line starts with what makes sense for the selected interrupt", () => {
  const machine = new FakeMachine();
  machine.irq(33).lineLevel = true;
  const frame = frameOf(machine);
  const op = (intid: number, owner = -1): unknown =>
    planOf(frame, lineDialog(frame, irqOf(frame, intid, owner), 0)).commands[0]?.op;
  assert.deepEqual([op(33), op(34), op(40)], ["lowerLine", "raiseLine", "pulseLine"]);
  // An SGI has no line.
  assert.equal(planOf(frame, lineDialog(frame, irqOf(frame, 1, 2), 0)).error, false);
});

Deno.test("what cannot be raised is refused with the range", () => {
  const frame = frameOf();
  for (const text of ["", "15", "64", "99999"]) {
    const plan = planOf(frame, put(lineDialog(frame, irqOf(frame, 40), 0), 1, text));
    assert.deepEqual([plan.error, plan.commands.length], [true, 0]);
    assert.match(plan.sentence, /32 to 63/);
  }
});

Deno.test("migrating: the next vCPU is offered; private ones and the same target are refused", () => {
  const frame = frameOf();
  const dialog = migrateDialog(frame, irqOf(frame, 40));
  assert.deepEqual(commandOf(planOf(frame, dialog)), {
    op: "migrateInterrupt",
    vm: 0,
    intid: 40,
    vcpu: 1,
  });
  assert.match(planOf(frame, put(dialog, 1, "0")).sentence, /already/);
  assert.match(planOf(frame, migrateDialog(frame, irqOf(frame, 27, 1))).sentence, /only an SPI/);
});

Deno.test("an SGI goes to one vCPU or to every one", () => {
  const frame = frameOf(new FakeMachine(34));
  const dialog = put(sgiDialog(frame, 0, 2), 0, "7");
  const to = (vcpu: string): unknown => commandOf(planOf(frame, put(dialog, 1, vcpu)));
  const sgi = { op: "sendSgi", vm: 0, intid: 7 };
  assert.deepEqual(to("2"), { ...sgi, targets: 4, targetsHi: 0 });
  const last = turn(turn({ ...(dialog.fields[1] as Field), index: 0 }, -1), -1);
  const plan = planOf(frame, { ...dialog, fields: [dialog.fields[0] as Field, last] });
  assert.deepEqual(commandOf(plan), { ...sgi, targets: 0, targetsHi: 2 });
  assert.deepEqual(to("e"), { ...sgi, targets: 2 ** 32 - 1, targetsHi: 3 });
  assert.equal(planOf(frame, put(dialog, 0, "16")).error, true);
});

Deno.test("moving a vCPU: the other physical CPU is offered", () => {
  const frame = frameOf();
  const vcpu = frame.vcpus[0];
  assert.ok(vcpu);
  const plan = planOf(frame, moveVcpuDialog(frame, vcpu));
  assert.deepEqual(commandOf(plan), { op: "moveVcpu", vm: 0, vcpu: 0, pcpu: 1 });
  assert.match(plan.sentence, /vcpu_put .* vcpu_load .* physical CPU 1/);
});

Deno.test("a reset says that it cannot be undone", () => {
  const plan = planOf(frameOf(), resetDialog());
  assert.deepEqual(commandOf(plan), { op: "resetCounters" });
  assert.match(plan.sentence, /cannot be undone/);
});

Deno.test("arrows go round the choices and count numbers", () => {
  const frame = frameOf();
  const [, number, of] = lineDialog(frame, irqOf(frame, 40), 3).fields;
  assert.ok(number && of);
  assert.equal(turn(number, 1).text, "41");
  assert.equal(turn(of, 1).index, 0);
  assert.equal(turn({ ...of, index: 0 }, -1).index, 3);
});
