/**
 * Guests of a few instructions for KVM's tests. Each is assembled code with its text; branches and
 * addresses are relative, so that it runs wherever it lies.
 */

/** Words at `offset` bytes from the start of the guest. */
interface Chunk {
  readonly offset: number;
  readonly words: readonly number[];
}

function image(...chunks: readonly Chunk[]): number[] {
  const end = Math.max(...chunks.map((c) => c.offset / 4 + c.words.length));
  const words = new Array<number>(end).fill(0);
  for (const { offset, words: some } of chunks) some.forEach((w, i) => words[offset / 4 + i] = w);
  return words;
}

/** X4 times: HVC 7, a user-space MMIO read at 0x09000000; then SYSTEM_OFF. */
export const EXITS: readonly number[] = image(
  {
    offset: 0x0,
    words: [
      0xd2a12009, // mov x9, #0x9000000
      0xd40000e2, // hvc #0x7
      0xb940012a, // ldr w10, [x9]
      0xf1000000, // subs x0, x0, #0x0
      0x52800023, // mov w3, #0x1
      0xd1000484, // sub x4, x4, #0x1
      0xb5ffff64, // cbnz x4, 4
      0x18000040, // ldr w0, 24
      0xd4000002, // hvc #0x0
      0x84000008, // .word 0x84000008
    ],
  },
);

/** Keeps X0 in FP and thread registers and compares for ever; X3 counts; HVC 9 when one has changed. */
export const KEEPER: readonly number[] = image(
  {
    offset: 0x0,
    words: [
      0xd2a00609, // mov x9, #0x300000
      0xd5181049, // msr cpacr_el1, x9
      0xd5033fdf, // isb
      0xd518d080, // msr tpidr_el1, x0
      0xd51bd040, // msr tpidr_el0, x0
      0x9e670001, // fmov d1, x0
      0x9e67001f, // fmov d31, x0
      0xd2800003, // mov x3, #0x0
      0x9e660022, // fmov x2, d1
      0xeb00005f, // cmp x2, x0
      0x54000181, // b.ne 58
      0x9e6603e2, // fmov x2, d31
      0xeb00005f, // cmp x2, x0
      0x54000121, // b.ne 58
      0xd538d082, // mrs x2, tpidr_el1
      0xeb00005f, // cmp x2, x0
      0x540000c1, // b.ne 58
      0xd53bd042, // mrs x2, tpidr_el0
      0xeb00005f, // cmp x2, x0
      0x54000061, // b.ne 58
      0x91000463, // add x3, x3, #0x1
      0x17fffff3, // b 20
      0xd4000122, // hvc #0x9
    ],
  },
);

/**
 * An UNDEFINED register, MMIO reads of user space with and without sign extension, a fetch from nowhere; the handler at
 * 0xa00 leaves ESR, FAR, ELR in X10 to X12 and the count in X13; then SYSTEM_OFF.
 */
export const ABORTS: readonly number[] = image(
  {
    offset: 0x0,
    words: [
      0x10004001, // adr x1, 800
      0xd518c001, // msr vbar_el1, x1
      0xd5033fdf, // isb
      0xd51b9c00, // msr pmcr_el0, x0
      0xd2a12001, // mov x1, #0x9000000
      0x39800c25, // ldrsb x5, [x1, #3]
      0xf9400426, // ldr x6, [x1, #8]
      0xd2c00029, // mov x9, #0x100000000
      0x91004129, // add x9, x9, #0x10
      0xd61f0120, // br x9
    ],
  },
  {
    offset: 0xa00,
    words: [
      0xd538520a, // mrs x10, esr_el1
      0xd538600b, // mrs x11, far_el1
      0xd538402c, // mrs x12, elr_el1
      0x910005ad, // add x13, x13, #0x1
      0xf10009bf, // cmp x13, #0x2
      0x54000080, // b.eq a24
      0x9100118c, // add x12, x12, #0x4
      0xd518402c, // msr elr_el1, x12
      0xd69f03e0, // eret
      0x18000040, // ldr w0, a2c
      0xd4000002, // hvc #0x0
      0x84000008, // .word 0x84000008
    ],
  },
);

/**
 * Two vCPUs: the first starts the second by PSCI, then, 20 times, sleeps 100 us by the virtual timer,
 * sends it SGI 3, and reads an active-state register. Interrupts are counted; at the end the counts of
 * the second and the first vCPU are written to user space at 0x09000004 and 0x09000008.
 */
export const SMP: readonly number[] = image(
  {
    offset: 0x0,
    words: [
      0xd2800014, // mov x20, #0x0
      0x14000002, // b c
      0xaa0003f4, // mov x20, x0
      0x10003fa1, // adr x1, 800
      0xd518c001, // msr vbar_el1, x1
      0xd5033fdf, // isb
      0x580085c2, // ldr x2, 10d0
      0x8b144442, // add x2, x2, x20, lsl #17
      0xb900145f, // str wzr, [x2, #20]
      0x91404043, // add x3, x2, #0x10, lsl #12
      0x12800004, // mov w4, #0xffffffff
      0xb9008064, // str w4, [x3, #128]
      0x18008484, // ldr w4, 10c0
      0xb9010064, // str w4, [x3, #256]
      0xb5000094, // cbnz x20, 48
      0x580084e5, // ldr x5, 10d8
      0x52800264, // mov w4, #0x13
      0xb90000a4, // str w4, [x5]
      0xd2800024, // mov x4, #0x1
      0xd518cca4, // msr icc_sre_el1, x4
      0xd5033fdf, // isb
      0xd2801e04, // mov x4, #0xf0
      0xd5184604, // msr icc_pmr_el1, x4
      0xd2800024, // mov x4, #0x1
      0xd518cce4, // msr icc_igrpen1_el1, x4
      0xd5033fdf, // isb
      0xd50342ff, // msr daifclr, #0x2
      0x10007aaa, // adr x10, fc0
      0x8b14194a, // add x10, x10, x20, lsl #6
      0xb5000434, // cbnz x20, f8
      0x18008260, // ldr w0, 10c4
      0xd2800021, // mov x1, #0x1
      0x10fffc42, // adr x2, 8
      0xd2800023, // mov x3, #0x1
      0xd4000002, // hvc #0x0
      0xaa0003f5, // mov x21, x0
      0x5800828b, // ldr x11, 10e0
      0xb9000175, // str w21, [x11]
      0x580081c2, // ldr x2, 10d0
      0x91404043, // add x3, x2, #0x10, lsl #12
      0xb9430064, // ldr w4, [x3, #768]
      0xd280028c, // mov x12, #0x14
      0xd53be045, // mrs x5, cntvct_el0
      0x580081e6, // ldr x6, 10e8
      0x8b0600a5, // add x5, x5, x6
      0xd51be345, // msr cntv_cval_el0, x5
      0xd2800026, // mov x6, #0x1
      0xd51be326, // msr cntv_ctl_el0, x6
      0xd503207f, // wfi
      0x58008166, // ldr x6, 10f0
      0xd518cba6, // msr icc_sgi1r_el1, x6
      0xd5033fdf, // isb
      0xb9430064, // ldr w4, [x3, #768]
      0xf100058c, // subs x12, x12, #0x1
      0x54fffe81, // b.ne a8
      0x1000772d, // adr x13, fc0
      0xf94021ae, // ldr x14, [x13, #64]
      0xb900056e, // str w14, [x11, #4]
      0xf94001ae, // ldr x14, [x13]
      0xb900096e, // str w14, [x11, #8]
      0x18007ec0, // ldr w0, 10c8
      0xd4000002, // hvc #0x0
      0xd503207f, // wfi
      0x17ffffff, // b f8
      0xa9bf07e0, // stp x0, x1, [sp, #-16]!
      0xd538cc00, // mrs x0, icc_iar1_el1
      0xf9400141, // ldr x1, [x10]
      0x91000421, // add x1, x1, #0x1
      0xf9000141, // str x1, [x10]
      0xf1006c1f, // cmp x0, #0x1b
      0x54000061, // b.ne 124
      0xd51be33f, // msr cntv_ctl_el0, xzr
      0xd5033fdf, // isb
      0xd518cc20, // msr icc_eoir1_el1, x0
      0xa8c107e0, // ldp x0, x1, [sp], #16
      0xd69f03e0, // eret
    ],
  },
  {
    offset: 0xf80,
    words: [
      0x14000001, // b f84
      0x9100015f, // mov sp, x10
      0x9100c3ff, // add sp, sp, #0x30
      0x17fffc5d, // b 100
    ],
  },
  {
    offset: 0x10c0,
    words: [
      0x0800ffff, // .word
      0xc4000003, // .word
      0x84000008, // .word
      0x00000000, // .word
      0x080a0000, // .word
      0x00000000, // .word
      0x08000000, // .word
      0x00000000, // .word
      0x09000000, // .word
      0x00000000, // .word
      0x0000186a, // .word
      0x00000000, // .word
      0x03000002, // .word
      0x00000000, // .word
    ],
  },
  // The vectors: each a branch to 0xf84
  ...Array.from({ length: 15 }, (_, i) => ({
    offset: 0x800 + 0x80 * i,
    words: [0x14000000 + (0xf84 - 0x800 - 0x80 * i) / 4],
  })),
);
