/** Hash, snapshot and restoration of a machine's state, by how much of its RAM is in use. */
import { Machine } from "../src/arm/machine.ts";
import { type Bench, type Contender, type Report, yardstick } from "./harness.ts";

const MIB = 1 << 20;

function machineUsing(mib: number): Machine {
  const machine = new Machine({ pcpus: 4, ramSize: 128 * MIB });
  const { at } = machine.ram;
  machine.memory.u32.fill(0x12345678, at >>> 2, (at + mib * MIB) >>> 2);
  return machine;
}

function operations(mib: number): Contender[] {
  const machine = machineUsing(mib);
  const snapshot = machine.snapshot();
  const work = { work: mib, unit: "MiB touched" };
  return [
    { name: `stateHash, ${mib} of 128 MiB touched`, ...work, run: () => void machine.stateHash() },
    { name: `snapshot, ${mib} of 128 MiB touched`, ...work, run: () => void machine.snapshot() },
    {
      name: `restore, ${mib} of 128 MiB touched`,
      ...work,
      run: () => machine.restore(snapshot),
    },
  ];
}

export const state: Bench = {
  name: "state",
  run: async (report: Report) => {
    await report.compare("state", 5, [yardstick(), ...operations(0), ...operations(32)]);
  },
};
