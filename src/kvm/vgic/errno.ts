/** Error numbers that the vgic's functions return (include/uapi/asm-generic/errno-base.h). */
import { ERRNO as HOST_ERRNO } from "../kvm_host.ts";

/** Those of kvm_host.ts and the ones that only the vgic has a use for. */
export const ERRNO = { ...HOST_ERRNO, ENXIO: -6, E2BIG: -7, EAGAIN: -11, ENOSPC: -28 } as const;
