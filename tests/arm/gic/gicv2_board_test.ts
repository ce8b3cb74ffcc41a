/** A GICv2 on the board: its frames, what CPUs say of it, and how EL2 software reaches it. */
import assert from "node:assert/strict";
import { GICD } from "../../../src/arm/arch/gic.ts";
import { GICC, GICH } from "../../../src/arm/arch/gicv2.ts";
import { R } from "../../../src/arm/arch/sysregs.ts";
import { type El2Port, PORT_COST } from "../../../src/arm/el2_port.ts";
import { BOARD } from "../../../src/arm/board.ts";
import { Machine } from "../../../src/arm/machine.ts";

function boot(gic: 2 | 3): { machine: Machine; ports: readonly El2Port[] } {
  const machine = new Machine({ pcpus: 2, ramSize: 1 << 20, lrs: 6, gic });
  for (const pcpu of [0, 1]) machine.start(pcpu, 2, 0, 0);
  return { machine, ports: machine.ports };
}

Deno.test("each CPU sees its own side of the frames", () => {
  const { ports: [first, second] } = boot(2);
  assert.ok(first && second);
  second.mmioWrite(BOARD.gicc.pa + GICC.PMR, 0xf0);
  second.mmioWrite(BOARD.gich.pa + GICH.HCR, 1);
  second.mmioWrite(BOARD.gicv.pa + GICC.CTLR, 1);
  const seen = (port: El2Port): number[] => [
    port.mmioRead(BOARD.gicc.pa + GICC.PMR),
    port.mmioRead(BOARD.gich.pa + GICH.HCR),
    port.mmioRead(BOARD.gich.pa + GICH.VMCR) & 1,
    port.mmioRead(BOARD.gicd.pa + GICD.ITARGETSR) & 0xff,
  ];
  assert.deepEqual([seen(first), seen(second)], [[0, 0, 0, 1], [0xf0, 1, 1, 2]]);
  assert.equal(first.mmioRead(BOARD.gich.pa + GICH.VTR) & 0x3f, 5);
});

Deno.test("accesses by the port are counted and take time", () => {
  const { machine, ports: [port] } = boot(2);
  assert.ok(port);
  const before = machine.nowNs;
  port.mmioRead(BOARD.gich.pa + GICH.VTR);
  port.mmioWrite(BOARD.gich.pa + GICH.HCR, 0);
  port.mmioWrite(BOARD.gich.pa + GICH.HCR, 0);
  const { gicMmioRead, gicMmioWrite } = port.counters;
  assert.deepEqual([gicMmioRead, gicMmioWrite], [1, 2]);
  assert.equal(machine.nowNs - before, PORT_COST.gicMmioRead + 2 * PORT_COST.gicMmioWrite);
  assert.throws(() => port.mmioRead(BOARD.gicr.pa), /no device at 0x80a0000/);
});

Deno.test("system registers are a GICv3's, frames a GICv2's", () => {
  const [v2, v3] = [boot(2).ports[0], boot(3).ports[0]];
  assert.ok(v2 && v3);
  const gicField = (port: El2Port): number => (port.readLo(R.ID_AA64PFR0_EL1) >>> 24) & 15;
  assert.deepEqual([gicField(v2), gicField(v3)], [0, 1]);
  for (const reg of [R.ICC_SRE_EL2, R.ICC_PMR_EL1, R.ICH_VTR_EL2, R.ICH_LR0_EL2]) {
    assert.throws(() => v2.readLo(reg), /not possible at EL2/);
    v3.readLo(reg);
  }
  assert.throws(() => v3.mmioRead(BOARD.gicc.pa), /no device/);
});
