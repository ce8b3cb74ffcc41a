/** The kernel's error numbers that KVM's functions return negated (include/uapi/asm-generic/errno-base.h). */
export const ENOENT = 2;
export const ENXIO = 6;
export const E2BIG = 7;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOSPC = 28;
