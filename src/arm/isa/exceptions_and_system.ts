/**
 * Exception generation, hints, barriers, PSTATE and system instructions (manual: C4.1.93). Which
 * system registers and operations exist, and who may use them, is not decided here but where they are
 * executed: a row only carries their encoding.
 */
import { sysregKey } from "../arch/sysregs.ts";
import { type Row, row, xr, xw } from "./row.ts";
import { systemOperationText, systemRegisterName } from "./system_names.ts";
import { hex, reg } from "./text.ts";

/** By CRm:op2; the others print their number. */
const HINT_NAMES: Readonly<Record<number, string>> = {
  0: "nop",
  1: "yield",
  2: "wfe",
  3: "wfi",
  4: "sev",
  5: "sevl",
  7: "xpaclri",
  8: "pacia1716",
  10: "pacib1716",
  12: "autia1716",
  14: "autib1716",
  16: "esb",
  17: "psb\tcsync",
  18: "tsb\tcsync",
  20: "csdb",
  22: "clearbhb",
  24: "paciaz",
  25: "paciasp",
  26: "pacibz",
  27: "pacibsp",
  28: "autiaz",
  29: "autiasp",
  30: "autibz",
  31: "autibsp",
  32: "bti",
  34: "bti\tc",
  36: "bti\tj",
  38: "bti\tjc",
};

function hintText(number: number): string {
  return HINT_NAMES[number] ?? `hint\t${hex(number)}`;
}

/** By CRm; an option without a name prints its number. */
const BARRIER_OPTIONS: Readonly<Record<number, string>> = {
  1: "oshld",
  2: "oshst",
  3: "osh",
  5: "nshld",
  6: "nshst",
  7: "nsh",
  9: "ishld",
  10: "ishst",
  11: "ish",
  13: "ld",
  14: "st",
  15: "sy",
};

function barrierText(name: string, crm: number): string {
  return `${name}\t${BARRIER_OPTIONS[crm] ?? `#0x${crm.toString(16).padStart(2, "0")}`}`;
}

/** Only CRm 0 and 1 have the field's name. */
function pstateText(name: string, op1: number, op2: number, crm: number): string {
  return crm > 1 ? `msr\ts0_${op1}_c4_c${crm}_${op2}, xzr` : `msr\t${name}, ${hex(crm)}`;
}

interface SystemFields {
  readonly p: number;
  readonly n: number;
  readonly m: number;
  readonly o: number;
}

function operationKey(f: SystemFields): number {
  return sysregKey(1, f.p, f.n, f.m, f.o);
}

function registerKey(f: SystemFields & { readonly q: number }): number {
  return sysregKey(2 + f.q, f.p, f.n, f.m, f.o);
}

export const exceptionsAndSystem: readonly Row[] = [
  row({
    name: "SVC",
    pattern: "11010100000iiiiiiiiiiiiiiii00001",
    slow: true,
    disassemble: (f) => `svc\t${hex(f.i)}`,
    predecode: (f) => ({ shape: {}, slots: {}, consts: { imm: f.i } }),
    semantics: (b, o) => b.exceptionCall("svc", o.imm),
  }),
  row({
    name: "HVC",
    pattern: "11010100000iiiiiiiiiiiiiiii00010",
    slow: true,
    disassemble: (f) => `hvc\t${hex(f.i)}`,
    predecode: (f) => ({ shape: {}, slots: {}, consts: { imm: f.i } }),
    semantics: (b, o) => b.exceptionCall("hvc", o.imm),
  }),
  row({
    name: "SMC",
    pattern: "11010100000iiiiiiiiiiiiiiii00011",
    slow: true,
    disassemble: (f) => `smc\t${hex(f.i)}`,
    predecode: (f) => ({ shape: {}, slots: {}, consts: { imm: f.i } }),
    semantics: (b, o) => b.exceptionCall("smc", o.imm),
  }),
  row({
    name: "BRK",
    pattern: "11010100001iiiiiiiiiiiiiiii00000",
    slow: true,
    disassemble: (f) => `brk\t${hex(f.i)}`,
    predecode: (f) => ({ shape: {}, slots: {}, consts: { imm: f.i } }),
    semantics: (b, o) => b.exceptionCall("brk", o.imm),
  }),
  row({
    name: "HLT",
    pattern: "11010100010iiiiiiiiiiiiiiii00000",
    slow: true,
    disassemble: (f) => `hlt\t${hex(f.i)}`,
    predecode: (f) => ({ shape: {}, slots: {}, consts: { imm: f.i } }),
    semantics: (b, o) => b.exceptionCall("hlt", o.imm),
  }),
  row({
    name: "ERET",
    pattern: "11010110100111110000001111100000",
    slow: true,
    disassemble: () => "eret",
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.eret(),
  }),
  row({
    name: "NOP_YIELD",
    pattern: "11010101000000110010000000o11111",
    disassemble: (f) => hintText(f.o),
    predecode: (f) => ({
      shape: { hint: f.o ? "yield" as const : "nop" as const },
      slots: {},
      consts: {},
    }),
    semantics: (b, _, { hint }) => b.hint(hint),
  }),
  row({
    name: "WFE_WFI",
    pattern: "11010101000000110010000001o11111",
    slow: true,
    disassemble: (f) => hintText(2 + f.o),
    predecode: (f) => ({
      shape: { hint: f.o ? "wfi" as const : "wfe" as const },
      slots: {},
      consts: {},
    }),
    semantics: (b, _, { hint }) => b.hint(hint),
  }),
  row({
    name: "SEV_SEVL",
    pattern: "11010101000000110010000010o11111",
    slow: true,
    disassemble: (f) => hintText(4 + f.o),
    predecode: (f) => ({
      shape: { hint: f.o ? "sevl" as const : "sev" as const },
      slots: {},
      consts: {},
    }),
    semantics: (b, _, { hint }) => b.hint(hint),
  }),
  // Hints of later architecture versions and those never allocated: NOP.
  row({
    name: "HINT_6_7",
    pattern: "11010101000000110010000011o11111",
    disassemble: (f) => hintText(6 + f.o),
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.hint("nop"),
  }),
  row({
    name: "HINT",
    pattern: "11010101000000110010mmmmooo11111",
    disassemble: (f) => hintText(f.m * 8 + f.o),
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.hint("nop"),
  }),
  row({
    name: "CLREX",
    pattern: "11010101000000110011mmmm01011111",
    disassemble: (f) => f.m === 15 ? "clrex" : `clrex\t${hex(f.m)}`,
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.clearExclusive(),
  }),
  row({
    name: "DSB",
    pattern: "11010101000000110011mmmm10011111",
    disassemble: (f) => f.m === 0 ? "ssbb" : f.m === 4 ? "pssbb" : barrierText("dsb", f.m),
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.barrier("dsb"),
  }),
  row({
    name: "DMB",
    pattern: "11010101000000110011mmmm10111111",
    disassemble: (f) => barrierText("dmb", f.m),
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.barrier("dmb"),
  }),
  row({
    name: "ISB",
    pattern: "11010101000000110011mmmm11011111",
    disassemble: (f) => f.m === 15 ? "isb" : `isb\t${hex(f.m)}`,
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.barrier("isb"),
  }),
  row({
    name: "MSR_imm_DAIF",
    pattern: "11010101000000110100mmmm11o11111",
    disassemble: (f) => `msr\t${f.o ? "daifclr" : "daifset"}, ${hex(f.m)}`,
    predecode: (f) => ({ shape: { op1: 3, op2: 6 + f.o }, slots: {}, consts: { imm: f.m } }),
    semantics: (b, o, { op1, op2 }) => b.msrImmediate(op1, op2, o.imm),
  }),
  row({
    name: "MSR_imm_SPSel",
    pattern: "11010101000000000100mmmm10111111",
    slow: true,
    disassemble: (f) => pstateText("spsel", 0, 5, f.m),
    predecode: (f) => ({ shape: { op1: 0, op2: 5 }, slots: {}, consts: { imm: f.m } }),
    semantics: (b, o, { op1, op2 }) => b.msrImmediate(op1, op2, o.imm),
  }),
  row({
    name: "MSR_imm_PAN",
    pattern: "11010101000000000100mmmm10011111",
    feature: "FEAT_PAN",
    slow: true,
    disassemble: (f) => pstateText("pan", 0, 4, f.m),
    predecode: (f) => ({ shape: { op1: 0, op2: 4 }, slots: {}, consts: { imm: f.m } }),
    semantics: (b, o, { op1, op2 }) => b.msrImmediate(op1, op2, o.imm),
  }),
  row({
    name: "MSR_imm_UAO",
    pattern: "11010101000000000100mmmm01111111",
    feature: "FEAT_UAO",
    slow: true,
    disassemble: (f) => pstateText("uao", 0, 3, f.m),
    predecode: (f) => ({ shape: { op1: 0, op2: 3 }, slots: {}, consts: { imm: f.m } }),
    semantics: (b, o, { op1, op2 }) => b.msrImmediate(op1, op2, o.imm),
  }),
  row({
    name: "MSR_imm_DIT",
    pattern: "11010101000000110100mmmm01011111",
    feature: "FEAT_DIT",
    slow: true,
    disassemble: (f) => pstateText("dit", 3, 2, f.m),
    predecode: (f) => ({ shape: { op1: 3, op2: 2 }, slots: {}, consts: { imm: f.m } }),
    semantics: (b, o, { op1, op2 }) => b.msrImmediate(op1, op2, o.imm),
  }),
  row({
    name: "SB",
    pattern: "11010101000000110011000011111111",
    feature: "FEAT_SB",
    disassemble: () => "sb",
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.barrier("sb"),
  }),
  row({
    name: "SYS",
    pattern: "1101010100001pppnnnnmmmmooottttt",
    disassemble: (f) => systemOperationText(operationKey(f), reg(1, f.t)),
    predecode: (f) => ({
      shape: { key: operationKey(f) },
      slots: { t: xr(f.t) },
      consts: {},
    }),
    semantics: (b, o, { key }) => b.sys(key, b.x(o.t)),
  }),
  row({
    name: "SYSL",
    pattern: "1101010100101pppnnnnmmmmooottttt",
    slow: true,
    disassemble: (f) => `sysl\t${reg(1, f.t)}, #${f.p}, C${f.n}, C${f.m}, #${f.o}`,
    predecode: (f) => ({
      shape: { key: operationKey(f) },
      slots: { t: xw(f.t) },
      consts: {},
    }),
    semantics: (b, o, { key }) => b.sysl(key, o.t),
  }),
  row({
    name: "MSR_reg",
    pattern: "110101010001qpppnnnnmmmmooottttt",
    disassemble: (f) => `msr\t${systemRegisterName(registerKey(f), true)}, ${reg(1, f.t)}`,
    predecode: (f) => ({
      shape: { key: registerKey(f) },
      slots: { t: xr(f.t) },
      consts: {},
    }),
    semantics: (b, o, { key }) => b.msr(key, b.x(o.t)),
  }),
  row({
    name: "MRS",
    pattern: "110101010011qpppnnnnmmmmooottttt",
    disassemble: (f) => `mrs\t${reg(1, f.t)}, ${systemRegisterName(registerKey(f), false)}`,
    predecode: (f) => ({
      shape: { key: registerKey(f) },
      slots: { t: xw(f.t) },
      consts: {},
    }),
    semantics: (b, o, { key }) => b.mrs(key, o.t),
  }),
];
