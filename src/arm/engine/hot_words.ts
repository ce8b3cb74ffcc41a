/**
 * An instruction of each shape that is compiled into the interpreter's main loop, the most frequent first:
 * 98% of what Linux executes from its start to the power off before it is translated. All other shapes are
 * compiled when they are met.
 */
export const HOT_WORDS: readonly number[] = [
  0xaa00_03f4, // mov x20, x0
  0x5400_0040, // b.eq 0x8
  0xf940_0002, // ldr x2, [x0]
  0x9100_0000, // add x0, x0, #0x0
  0xd503_245f, // bti c
  0xd280_0082, // mov x2, #0x4
  0xa901_53f3, // stp x19, x20, [sp, #16]
  0xeb01_001f, // cmp x0, x1
  0xd503_201f, // nop
  0xa941_53f3, // ldp x19, x20, [sp, #16]
  0x9400_0006, // bl 0x18
  0xb940_0000, // ldr w0, [x0]
  0xd65f_03c0, // ret
  0x2a00_03e1, // mov w1, w0
  0x8b02_0000, // add x0, x0, x2
  0x7100_bc1f, // cmp w0, #0x2f
  0xb400_0041, // cbz x1, 0x8
  0x0b02_00c6, // add w6, w6, w2
  0x1459_a363, // b 0x1668d8c
  0xf940_1bf7, // ldr x23, [sp, #48]
  0x3500_0160, // cbnz w0, 0x2c
  0x4a01_0003, // eor w3, w0, w1
  0xf900_1bf7, // str x23, [sp, #48]
  0xa8c2_7bfd, // ldp x29, x30, [sp], #32
  0xa9bd_7bfd, // stp x29, x30, [sp, #-48]!
  0xf900_0022, // str x2, [x1]
  0xd000_3260, // adrp x0, 0x64e000
  0xf862_6803, // ldr x3, [x0, x2]
  0xd538_4101, // mrs x1, sp_el0
  0x6b03_001f, // cmp w0, w3
  0xd350_4c63, // ubfx x3, x3, #16, #4
  0x1381_4021, // ror w1, w1, #16
  0x3400_0160, // cbz w0, 0x2c
  0xf100_201f, // cmp x0, #0x8
  0x926b_a861, // and x1, x3, #0xffffffffffe00000
  0xcb0a_016d, // sub x13, x11, x10
  0x1200_1c21, // and w1, w1, #0xff
  0x9a81_0421, // cinc x1, x1, ne
  0xd100_0443, // sub x3, x2, #0x1
  0xb900_0181, // str w1, [x12]
  0x9348_2c21, // sbfx x1, x1, #8, #4
  0x1100_1126, // add w6, w9, #0x4
  0x37f8_0380, // tbnz w0, #31, 0x70
  0x3940_0260, // ldrb w0, [x19]
  0x36ff_fdc0, // tbz w0, #31, 0xffffffffffffffb8
  0x9b04_7c25, // mul x5, x1, x4
  0xf82a_780c, // str x12, [x0, x10, lsl #3]
  0x9a85_80c5, // csel x5, x6, x5, hi
  0xb5ff_ff23, // cbnz x3, 0xffffffffffffffe4
  0xb240_058c, // orr x12, x12, #0x3
  0x7200_1c1f, // tst w0, #0xff
  0x4b16_0263, // sub w3, w19, w22
  0xf240_085f, // tst x2, #0x7
  0x8b35_c275, // add x21, x19, w21, sxtw
  0xa900_0415, // stp x21, x1, [x0]
  0xf281_0000, // movk x0, #0x800
  0x1a9f_37e5, // cset w5, cs
  0xf980_0271, // prfm pstl1strm, [x19]
  0x5100_0421, // sub w1, w1, #0x1
  0x3100_049f, // cmn w4, #0x1
  0xca05_00c6, // eor x6, x6, x5
  0x0a04_02d6, // and w22, w22, w4
  0xd538_d080, // mrs x0, tpidr_el1
  0xb875_6a81, // ldr w1, [x20, x21]
  0x92cf_ffe5, // mov x5, #0xffff8000ffffffff
  0xa940_0c22, // ldp x2, x3, [x1]
  0x4ac4_7042, // eor w2, w2, w4, ror #28
  0xd63f_0000, // blr x0
  0xb940_5be0, // ldr w0, [sp, #88]
  0x531c_6c20, // lsl w0, w1, #4
  0xaa37_03f9, // mvn x25, x23
  0x9e66_000c, // fmov x12, d0
  0x9eae_000c, // fmov x12, v0.d[1]
  0xb900_5bff, // str wzr, [sp, #88]
  0x3861_c841, // ldrb w1, [x2, w1, sxtw]
  0x7a40_a8a0, // ccmp w5, #0x0, #0x0, ge
  0x2944_1261, // ldp w1, w4, [x19, #32]
  0x9ac3_2042, // lsl x2, x2, x3
  0xab19_02f6, // adds x22, x23, x25
  0xdac0_0c84, // rev x4, x4
  0x3840_1406, // ldrb w6, [x0], #1
  0x8a05_0129, // and x9, x9, x5
  0x8b44_0c00, // add x0, x0, x4, lsr #3
  0x9ac6_2421, // lsr x1, x1, x6
  0x8803_7c04, // stxr w3, w4, [x0]
  0x7940_0002, // ldrh w2, [x0]
  0x3900_0107, // strb w7, [x8]
  0xfa45_a068, // ccmp x3, x5, #0x8, ge
  0x7a45_1060, // ccmp w3, w5, #0x0, ne
  0xf85f_812e, // ldur x14, [x9, #-8]
  0x1a80_9020, // csel w0, w1, w0, ls
  0xd503_3fbf, // dmb sy
  0xb100_1042, // adds x2, x2, #0x4
  0x885f_fe60, // ldaxr w0, [x19]
  0x089f_fe61, // stlrb w1, [x19]
  0x321f_77e0, // mov w0, #0x7ffffffe
  0xd503_3f9f, // dsb sy
  0x3840_1c01, // ldrb w1, [x0, #1]!
  0xf840_8406, // ldr x6, [x0], #8
  0x5ac0_0800, // rev w0, w0
  0xa8c1_b52c, // ldp x12, x13, [x9], #24
  0xd503_3fdf, // isb
  0x6a02_0000, // ands w0, w0, w2
  0x3878_6a80, // ldrb w0, [x20, x24]
  0xd503_43df, // msr daifset, #0x3
  0xfa40_5a4d, // ccmp x18, #0x0, #0xd, pl
  0xcb23_c042, // sub x2, x2, w3, sxtw
  0x8a23_0021, // bic x1, x1, x3
  0xb980_0002, // ldrsw x2, [x0]
  0xf860_5840, // ldr x0, [x2, w0, uxtw #3]
  0xc803_7e62, // stxr w3, x2, [x19]
  0x2900_1025, // stp w5, w4, [x1]
  0xd51b_4238, // msr daif, x24
  0x885f_7c04, // ldxr w4, [x0]
  0xb823_7806, // str w6, [x0, x3, lsl #2]
  0x5a9f_a273, // csinv w19, w19, wzr, ge
  0xc85f_7c60, // ldxr x0, [x3]
  0xf800_8507, // str x7, [x8], #8
  0xea25_0084, // bics x4, x4, x5
  0x2b01_0000, // adds w0, w0, w1
  0x4a40_2020, // eor w0, w1, w0, lsr #8
  0x790f_b0b8, // strh w24, [x5, #2008]
  0xd503_20ff, // xpaclri
  0xa984_1d07, // stp x7, x7, [x8, #64]!
  0xcb87_32b3, // sub x19, x21, x7, asr #12
  0xd53b_4221, // mrs x1, daif
  0xdac0_1129, // clz x9, x9
];
