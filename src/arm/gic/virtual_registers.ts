/** The registers of the virtual CPU interface: ICV_* under their ICC names, and ICH_*_EL2. */
import type { SysregName } from "../arch/sysregs.ts";
import { ICC_CTLR, ICH_VMCR, withField } from "../arch/gic.ts";
import { PRIORITY_MASK } from "./bank.ts";
import { binaryPoint, MIN_BPR0, MIN_BPR1, visibleBpr1 } from "./priorities.ts";
import { type RegisterRow, RegisterTable } from "./register_table.ts";
import type { VirtualInterface } from "./virtual_interface.ts";
import { MAX_LRS } from "./virtual_layout.ts";

type Row = RegisterRow<VirtualInterface>;

function setVmcr(v: VirtualInterface, bits: number, on: boolean): void {
  v.state.vmcr = on ? v.state.vmcr | bits : v.state.vmcr & ~bits;
}

function writeCtlr(v: VirtualInterface, value: number): void {
  setVmcr(v, ICH_VMCR.VCBPR, (value & ICC_CTLR.CBPR) !== 0);
  setVmcr(v, ICH_VMCR.VEOIM, (value & ICC_CTLR.EOImode) !== 0);
}

function writeBpr0(v: VirtualInterface, value: number): void {
  v.state.vmcr = withField(v.state.vmcr, ICH_VMCR.VBPR0, binaryPoint(value, MIN_BPR0));
}

function writeBpr1(v: VirtualInterface, value: number): void {
  if (v.common) return;
  v.state.vmcr = withField(v.state.vmcr, ICH_VMCR.VBPR1, binaryPoint(value, MIN_BPR1));
}

function writePmr(v: VirtualInterface, value: number): void {
  v.state.vmcr = withField(v.state.vmcr, ICH_VMCR.VPMR, value & PRIORITY_MASK);
}

/** The active priorities have one storage under two names. */
const activePriorities = (ap0: SysregName, ap1: SysregName): Row[] => [
  { name: ap0, read: (v) => v.state.ap0r, write: (v, lo) => v.state.ap0r = lo },
  { name: ap1, read: (v) => v.state.ap1r, write: (v, lo) => v.state.ap1r = lo },
];

const ofGroup = (group: 0 | 1, enable: number): Row[] => [
  // Its reading acts: see Gicv3.icvRead.
  { name: `ICC_IAR${group}_EL1` },
  { name: `ICC_EOIR${group}_EL1`, write: (v, lo) => v.endOfInterrupt(group, lo) },
  { name: `ICC_HPPIR${group}_EL1`, read: (v) => v.pending(group) },
  {
    name: `ICC_IGRPEN${group}_EL1`,
    read: (v) => (v.state.vmcr & enable) !== 0 ? 1 : 0,
    write: (v, lo) => setVmcr(v, enable, (lo & 1) !== 0),
  },
];

/** The ICV registers. SGI registers are not among them: a guest's SGI always traps. */
export const ICV_REGISTERS: RegisterTable<VirtualInterface> = new RegisterTable("ICV", [
  ...ofGroup(0, ICH_VMCR.VENG0),
  ...ofGroup(1, ICH_VMCR.VENG1),
  ...activePriorities("ICC_AP0R0_EL1", "ICC_AP1R0_EL1"),
  { name: "ICC_PMR_EL1", read: (v) => v.pmr, write: writePmr },
  { name: "ICC_BPR0_EL1", read: (v) => v.bpr0, write: writeBpr0 },
  { name: "ICC_BPR1_EL1", read: visibleBpr1, write: writeBpr1 },
  { name: "ICC_DIR_EL1", write: (v, lo) => v.deactivate(lo) },
  { name: "ICC_RPR_EL1", read: (v) => v.running },
  { name: "ICC_CTLR_EL1", read: (v) => v.ctlr, write: writeCtlr },
]);

const listRegister = (_: unknown, n: number): Row => ({
  name: `ICH_LR${n}_EL2` as SysregName,
  read: (v) => v.lrLo(n),
  readHi: (v) => v.lrHi(n),
  write: (v, lo, hi) => v.writeLr(n, lo, hi),
});

/** The ICH registers of an interface with `lrs` list registers. */
export function ichRegisters(lrs: number): RegisterTable<VirtualInterface> {
  return new RegisterTable("ICH", [
    ...activePriorities("ICH_AP0R0_EL2", "ICH_AP1R0_EL2"),
    { name: "ICH_HCR_EL2", read: (v) => v.state.hcr, write: (v, lo) => v.writeHcr(lo) },
    { name: "ICH_VTR_EL2", read: (v) => v.vtr },
    { name: "ICH_MISR_EL2", read: (v) => v.misr() },
    { name: "ICH_EISR_EL2", read: (v) => v.eisr() },
    { name: "ICH_ELRSR_EL2", read: (v) => v.elrsr() },
    { name: "ICH_VMCR_EL2", read: (v) => v.state.vmcr, write: (v, lo) => v.writeVmcr(lo) },
    ...Array.from({ length: Math.min(lrs, MAX_LRS) }, listRegister),
  ]);
}
