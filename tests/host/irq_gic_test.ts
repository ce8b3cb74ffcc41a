/** The host's driver of each interrupt controller, on the machine that has it. */
import assert from "node:assert/strict";
import { Machine } from "../../src/arm/machine.ts";
import { IPI, Irqs, PPI } from "../../src/host/irq.ts";
import { machineHardware } from "../../src/host/machine_hardware.ts";

const SPI = 40;

function boot(gic: 2 | 3, pcpus = 2): { machine: Machine; irqs: Irqs; seen: string[] } {
  const machine = new Machine({ pcpus, ramSize: 1 << 20, gic });
  for (let pcpu = 0; pcpu < pcpus; pcpu++) machine.start(pcpu, 2, 0, 0);
  const irqs = new Irqs(machineHardware(machine));
  const seen: string[] = [];
  const note = (intid: number, pcpu: number): void => {
    const { pending, active } = machine.platform.gic.interrupt(pcpu, intid) ?? {};
    seen.push(`${intid} on ${pcpu}${pending ? " pending" : ""}${active ? " active" : ""}`);
  };
  irqs.request(IPI.CALL_FUNC, note);
  irqs.request(SPI, (intid, pcpu) => {
    machine.platform.gic.setSpi(SPI, false);
    note(intid, pcpu);
  });
  irqs.request(PPI.VTIMER, note, true);
  irqs.initDistributor();
  for (let pcpu = 0; pcpu < pcpus; pcpu++) irqs.initCpu(pcpu, [0, 1, PPI.VTIMER]);
  return { machine, irqs, seen };
}

for (const gic of [2, 3] as const) {
  Deno.test(`GICv${gic}: an IPI reaches the CPU it is for, and is over after its handler`, () => {
    const { machine, irqs, seen } = boot(gic);
    irqs.sendIpi(0, 1, IPI.CALL_FUNC);
    assert.deepEqual([0, 1].map((n) => machine.irqPending(n)), [false, true]);
    irqs.dispatch(1);
    assert.deepEqual(seen, ["1 on 1 active"]);
    irqs.sendIpi(0, 1, IPI.CALL_FUNC);
    irqs.sendIpi(1, 1, IPI.CALL_FUNC);
    irqs.dispatch(1);
    // A GICv2 delivers one for each sender.
    assert.equal(seen.length, gic === 2 ? 3 : 2);
    assert.equal(machine.platform.gic.interrupt(1, IPI.CALL_FUNC)?.active, false);
  });

  Deno.test(`GICv${gic}: an SPI goes where it is enabled`, () => {
    const { machine, irqs, seen } = boot(gic);
    machine.platform.gic.setSpi(SPI, true);
    assert.equal(machine.irqPending(1), false);
    irqs.enableSpi(0, SPI, 1);
    assert.deepEqual([0, 1].map((n) => machine.irqPending(n)), [false, true]);
    irqs.dispatch(1);
    assert.deepEqual(seen, [`${SPI} on 1 active`]);
    assert.equal(machine.platform.gic.interrupt(0, SPI)?.active, false);
  });

  Deno.test(`GICv${gic}: a forwarded interrupt stays active, its priority dropped`, () => {
    const { machine, irqs, seen } = boot(gic);
    machine.platform.gic.setPpi(1, PPI.VTIMER, true);
    irqs.dispatch(1);
    assert.equal(seen.length, 1);
    assert.equal(irqs.getActive(1, PPI.VTIMER), true);
    assert.equal(irqs.getActive(0, PPI.VTIMER), false);
    irqs.sendIpi(0, 1, IPI.CALL_FUNC);
    assert.equal(machine.irqPending(1), true, "others come through");
    irqs.dispatch(1);
    irqs.setActive(1, PPI.VTIMER, false);
    assert.equal(machine.irqPending(1), true, "the line is still high");
  });

  Deno.test(`GICv${gic}: pending and active state are set and read of the right CPU`, () => {
    const { machine, irqs } = boot(gic);
    irqs.setPending(1, 20, true);
    assert.deepEqual([0, 1].map((n) => irqs.getPending(n, 20)), [false, true]);
    irqs.setPending(1, 20, false);
    assert.equal(irqs.getPending(1, 20), false);
    irqs.setPending(0, SPI, true);
    assert.equal(machine.platform.gic.interrupt(0, SPI)?.latch, true);
    irqs.setActive(0, SPI, true);
    assert.equal(irqs.getActive(1, SPI), true);
  });
}

Deno.test("GICv2: with a single CPU everything goes there", () => {
  const { machine, irqs, seen } = boot(2, 1);
  irqs.enableSpi(0, SPI, 0);
  machine.platform.gic.setSpi(SPI, true);
  irqs.dispatch(0);
  assert.deepEqual(seen, [`${SPI} on 0 active`]);
});
