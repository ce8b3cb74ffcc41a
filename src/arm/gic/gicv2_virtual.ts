/**
 * The virtual CPU interface of a GICv2 as memory: GICH for the hypervisor, GICV for the guest (IHI 0048,
 * chapter 5). GICV looks as GICC does; its interrupts come out of the list registers.
 */
import { fieldOf, ICH_VMCR, ICH_VTR, withField } from "../arch/gic.ts";
import { GICC, GICC_CTLR, GICC_IAR, GICH, lrHiOf, lrLoOf, lrOf } from "../arch/gicv2.ts";
import { PRIORITY_MASK } from "./bank.ts";
import { GICC_IIDR, readHppir, readIar } from "./gicv2_cpu_interface.ts";
import { binaryPoint, MIN_BPR0, MIN_BPR1, visibleBpr1 } from "./priorities.ts";
import { type Region, RegionTable, register } from "./regions.ts";
import type { VirtualInterface } from "./virtual_interface.ts";
import { MAX_LRS } from "./virtual_layout.ts";

type Row = Region<VirtualInterface>;
type Read = (v: VirtualInterface) => number;
type Write = (v: VirtualInterface, value: number) => void;

/** GICV_CTLR's bits are at the same places in GICH_VMCR. */
const CTLR_BITS = GICC_CTLR.EnableGrp0 | GICC_CTLR.EnableGrp1 | GICC_CTLR.AckCtl | GICC_CTLR.FIQEn |
  GICC_CTLR.CBPR | GICC_CTLR.EOImode;
const { INTID, CPUID } = GICC_IAR;
const ID_BITS = (1 << (INTID.width + CPUID.width)) - 1;

function setVmcr(v: VirtualInterface, field: Parameters<typeof withField>[1], value: number): void {
  v.state.vmcr = withField(v.state.vmcr, field, value);
}

function writeBpr1(v: VirtualInterface, value: number): void {
  if (!v.common) setVmcr(v, ICH_VMCR.VBPR1, binaryPoint(value, MIN_BPR1));
}

function writeEoir(v: VirtualInterface, value: number): void {
  const id = value & ID_BITS;
  v.endOfInterrupt(v.ackCtl ? v.groupOfActive(id) : 0, id);
}

const gicv = (name: keyof typeof GICC, read: Read, write?: Write): Row =>
  register(`GICV_${name}`, GICC[name], read, write);
const none = (): number => 0;

/** The GICV frame. */
export const GICV_REGIONS: RegionTable<VirtualInterface> = new RegionTable<VirtualInterface>([
  gicv("CTLR", (v) => v.state.vmcr & CTLR_BITS, (v, value) => {
    v.state.vmcr = (v.state.vmcr & ~CTLR_BITS) | (value & CTLR_BITS);
  }),
  gicv("PMR", (v) => v.pmr, (v, value) => setVmcr(v, ICH_VMCR.VPMR, value & PRIORITY_MASK)),
  gicv(
    "BPR",
    (v) => v.bpr0,
    (v, value) => setVmcr(v, ICH_VMCR.VBPR0, binaryPoint(value, MIN_BPR0)),
  ),
  gicv("IAR", readIar),
  gicv("EOIR", none, writeEoir),
  gicv("RPR", (v) => v.running),
  gicv("HPPIR", readHppir),
  gicv("ABPR", visibleBpr1, writeBpr1),
  gicv("AIAR", (v) => v.acknowledge(1)),
  gicv("AEOIR", none, (v, value) => v.endOfInterrupt(1, value & ID_BITS)),
  gicv("AHPPIR", (v) => v.pending(1)),
  gicv("APR0", (v) => v.state.ap0r, (v, value) => v.state.ap0r = value),
  gicv("IIDR", () => GICC_IIDR),
  gicv("DIR", none, (v, value) => v.deactivate(value & ID_BITS)),
]);

const VTR_FIELDS = [ICH_VTR.ListRegs, ICH_VTR.PREbits, ICH_VTR.PRIbits] as const;

/** GICH_VTR: of ICH_VTR_EL2 the fields that a GICv2 has. */
function vtr(v: VirtualInterface): number {
  return VTR_FIELDS.reduce((value, field) => withField(value, field, fieldOf(v.vtr, field)), 0);
}

const gich = (name: keyof typeof GICH, read: Read, write?: Write): Row =>
  register(`GICH_${name}`, GICH[name], read, write);

/** The GICH frame. List registers that do not exist are RAZ/WI. */
export const GICH_REGIONS: RegionTable<VirtualInterface> = new RegionTable<VirtualInterface>([
  gich("HCR", (v) => v.state.hcr, (v, value) => v.writeHcr(value)),
  gich("VTR", vtr),
  gich("VMCR", (v) => v.state.vmcr, (v, value) => v.writeVmcr(value)),
  gich("MISR", (v) => v.misr()),
  gich("EISR0", (v) => v.eisr()),
  gich("EISR1", none),
  gich("ELRSR0", (v) => v.elrsr()),
  gich("ELRSR1", none),
  gich("APR", (v) => v.state.ap0r, (v, value) => v.state.ap0r = value),
  {
    name: "GICH_LR",
    offset: GICH.LR0,
    size: 4 * MAX_LRS,
    extra: "none",
    read: (v, n) => n < v.lrs ? lrOf(v.lrLo(n), v.lrHi(n)) : 0,
    write: (v, n, value) => {
      if (n < v.lrs) v.writeLr(n, lrLoOf(value), lrHiOf(value));
    },
  },
]);
