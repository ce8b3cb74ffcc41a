/**
 * The machine that guests see: the physical address map and interrupt numbers of QEMU's `virt` board,
 * for the devices we have, plus one small device of our own (see test_device.ts).
 *
 * Source of the numbers: the device tree that `qemu-system-aarch64 -M virt,dumpdtb=` writes, and where
 * that program puts kernel, initrd and device tree.
 */

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** A named range of guest physical addresses (IPA under KVM, PA on the bare machine), in bytes. */
export interface MapRegion {
  readonly name: string;
  readonly base: number;
  readonly size: number;
}

/** Number of virtio-mmio slots in their window. */
export const VIRTIO_MMIO_SLOTS = 32;
/** Bytes of one virtio-mmio slot. */
export const VIRTIO_MMIO_SLOT_SIZE = 0x200;
/** Bytes that one vCPU takes in the redistributor region: RD frame and SGI frame of 64 KiB each. */
export const GICR_FRAME_SIZE = 0x20000;

/**
 * The map, in address order. The size of `ram` is the most it can be; a machine has less. With a GICv2
 * there are gicc, gich and gicv, with a GICv3 gicr.
 */
export const VIRT_MAP = {
  gicd: { name: "gicd", base: 0x0800_0000, size: 0x1_0000 },
  gicc: { name: "gicc", base: 0x0801_0000, size: 0x1_0000 },
  gich: { name: "gich", base: 0x0803_0000, size: 0x1_0000 },
  gicv: { name: "gicv", base: 0x0804_0000, size: 0x1_0000 },
  gicr: { name: "gicr", base: 0x080a_0000, size: 0xf6_0000 },
  uart: { name: "pl011", base: 0x0900_0000, size: 0x1000 },
  rtc: { name: "pl031", base: 0x0901_0000, size: 0x1000 },
  fwCfg: { name: "fw-cfg", base: 0x0902_0000, size: 0x18 },
  gpio: { name: "pl061", base: 0x0903_0000, size: 0x1000 },
  /** Stolen time, 64 bytes a vCPU. */
  pvtime: { name: "pvtime", base: 0x090a_0000, size: 0x1000 },
  virtioMmio: {
    name: "virtio-mmio",
    base: 0x0a00_0000,
    size: VIRTIO_MMIO_SLOTS * VIRTIO_MMIO_SLOT_SIZE,
  },
  testDevice: { name: "test-device", base: 0x0b00_0000, size: 0x1000 },
  ram: { name: "ram", base: 0x4000_0000, size: 255 * GIB },
} as const satisfies Record<string, MapRegion>;

/** Most vCPUs whose redistributors fit the map. */
export const MAX_VCPUS = VIRT_MAP.gicr.size / GICR_FRAME_SIZE;

/** Most vCPUs with a GICv2: GICD_ITARGETSR and GICD_SGIR have a bit for each. */
export const GICV2_MAX_VCPUS = 8;

/** INTID of a private peripheral interrupt, by its number in a device tree (0 to 15). */
function ppiIntid(ppi: number): number {
  return 16 + ppi;
}

/** INTID of a shared peripheral interrupt, by its number in a device tree (0 to 987). */
function spiIntid(spi: number): number {
  return 32 + spi;
}

/** Interrupt numbers of the board, as INTIDs. All are level, except the virtio slots. */
export const VIRT_INTID = {
  pmu: ppiIntid(7),
  gicMaintenance: ppiIntid(9),
  timerHypPhys: ppiIntid(10),
  timerVirt: ppiIntid(11),
  timerHypVirt: ppiIntid(12),
  timerSecurePhys: ppiIntid(13),
  timerPhys: ppiIntid(14),
  uart: spiIntid(1),
  rtc: spiIntid(2),
  gpio: spiIntid(7),
  testDevice: spiIntid(8),
  virtioMmio0: spiIntid(16),
} as const;

/** The region that holds an address, if any does; `ramSize` bytes of RAM are there. */
export function regionAt(address: number, ramSize: number): MapRegion | undefined {
  return Object.values(VIRT_MAP).find((region) => {
    const size = region === VIRT_MAP.ram ? ramSize : region.size;
    return address >= region.base && address < region.base + size;
  });
}

/**
 * The affinity fields of MPIDR_EL1 (Aff2:Aff1:Aff0) that vCPU `index` gets.
 *
 * 16 vCPUs share Aff1, as many as one write of ICC_SGI1R_EL1 reaches; so do KVM (reset_mpidr in
 * arch/arm64/kvm/sys_regs.c) and QEMU with GICv3.
 */
export function mpidrAffinity(index: number): number {
  return (index & 0xf) | (((index >> 4) & 0xff) << 8) | (((index >> 12) & 0xff) << 16);
}

/** Where a flat binary goes, and how far into RAM a kernel that does not say wants to be. */
export const FLAT_OFFSET = 0x8_0000;
/** Address a flat binary is loaded at and entered at. */
export const FLAT_BASE = VIRT_MAP.ram.base + FLAT_OFFSET;

/** Alignment of the base that an arm64 Image counts its text_offset from (booting.rst). */
export const IMAGE_ALIGN = 2 * MIB;
/** The device tree gets its own 2 MiB block, so that any kernel can map it (booting.rst). */
export const DTB_ALIGN = 2 * MIB;
/** Largest device tree that a kernel must accept (booting.rst). */
export const DTB_MAX_SIZE = 2 * MIB;

/** QEMU keeps the first page of RAM for its boot stub; a guest finds its kernel where QEMU puts it. */
const BOOT_STUB_SIZE = 4 * KIB;
const PAGE_SIZE = 4 * KIB;
const INITRD_MAX_OFFSET = 128 * MIB;

/** The next multiple of `align`, a power of two, at or above `value`. */
export function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

/** Where an arm64 Image with this `textOffset` (bytes) is placed in RAM at `ramBase`. */
export function imageBase(textOffset: number, ramBase: number): number {
  return ramBase + textOffset + (textOffset < BOOT_STUB_SIZE ? IMAGE_ALIGN : 0);
}

/** Where the initrd goes: half of RAM up, at most 128 MiB, or behind a kernel that ends later. */
export function initrdBase(ramBase: number, ramSize: number, kernelEnd: number): number {
  const preferred = ramBase + Math.min(ramSize / 2, INITRD_MAX_OFFSET);
  return alignUp(Math.max(preferred, kernelEnd), PAGE_SIZE);
}

/** Where the device tree goes: the next 2 MiB block behind the initrd (or the initrd's place). */
export function dtbBase(initrdEnd: number): number {
  return alignUp(initrdEnd, DTB_ALIGN);
}
