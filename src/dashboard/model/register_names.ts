/** What registers of the guest's interrupt controller are called, by its version. */

/** Names for the same thing. Functions take an INTID or a group. */
export interface RegisterNames {
  enable(intid: number): string;
  readonly distributorGroup: string;
  route(intid: number): string;
  group(group: number): string;
  readonly pmr: string;
  readonly rpr: string;
  readonly hcr: string;
  readonly vmcr: string;
  readonly misr: string;
  readonly eisr: string;
  readonly elrsr: string;
  readonly apr: string;
  readonly lr: string;
}

const GICV3: RegisterNames = {
  enable: (intid) => intid < 32 ? "GICR_ISENABLER0" : `GICD_ISENABLER${intid >>> 5}`,
  distributorGroup: "GICD_CTLR.EnableGrp1",
  route: (intid) => `GICD_IROUTER${intid}`,
  group: (group) => `ICC_IGRPEN${group}_EL1`,
  pmr: "ICC_PMR_EL1",
  rpr: "ICC_RPR_EL1",
  hcr: "ICH_HCR_EL2",
  vmcr: "ICH_VMCR_EL2",
  misr: "ICH_MISR_EL2",
  eisr: "ICH_EISR_EL2",
  elrsr: "ICH_ELRSR_EL2",
  apr: "ICH_AP1R0_EL2",
  lr: "ICH_LR<n>_EL2",
};

const GICV2: RegisterNames = {
  enable: (intid) => `GICD_ISENABLER${intid >>> 5}`,
  distributorGroup: "GICD_CTLR.EnableGrp0",
  route: (intid) => `GICD_ITARGETSR${intid >>> 2}`,
  group: (group) => `GICC_CTLR.EnableGrp${group}`,
  pmr: "GICC_PMR",
  rpr: "GICC_RPR",
  hcr: "GICH_HCR",
  vmcr: "GICH_VMCR",
  misr: "GICH_MISR",
  eisr: "GICH_EISR0",
  elrsr: "GICH_ELRSR0",
  apr: "GICH_APR",
  lr: "GICH_LR<n>",
};

/** The names that go with a frame's `gic`. */
export function registerNames(gic: number): RegisterNames {
  return gic === 2 ? GICV2 : GICV3;
}
