/** Exclusive and ordered loads and stores of Armv8.0 (manual: C4.1.94, "Load/store exclusive"). */
import { type Row, row, xr, xsp, xw } from "./row.ts";
import {
  addressText,
  baseOf,
  orderedLoad,
  orderedStore,
  pairSizeOf,
  sizeOf,
  sizeSuffix,
} from "./sized_access.ts";
import { reg } from "./text.ts";

export const loadsAndStoresExclusive: readonly Row[] = [
  row({
    name: "STXR",
    pattern: "ss001000000wwwwwauuuuunnnnnttttt",
    disassemble: (f) =>
      addressText(
        `st${f.a ? "l" : ""}xr${sizeSuffix(f)}`,
        f.n,
        reg(0, f.w),
        reg(f.s === 3, f.t),
      ),
    predecode: (f) => ({
      shape: { size: sizeOf(f), ordered: f.a === 1, sp: f.n === 31 },
      slots: { w: xw(f.w), t: xr(f.t), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b, o, { size, ordered, sp }) => {
      const base = baseOf(b, sp, o.n);
      b.setW(o.w, b.storeExclusive(base, size, b.x(o.t), { ordered }));
    },
  }),
  row({
    name: "LDXR",
    pattern: "ss001000010wwwwwauuuuunnnnnttttt",
    disassemble: (f) =>
      addressText(`ld${f.a ? "a" : ""}xr${sizeSuffix(f)}`, f.n, reg(f.s === 3, f.t)),
    predecode: (f) => ({
      shape: { size: sizeOf(f), ordered: f.a === 1, sp: f.n === 31 },
      slots: { t: xw(f.t), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b, o, { size, ordered, sp }) =>
      b.setX(o.t, b.loadExclusive(baseOf(b, sp, o.n), size, { ordered })),
  }),
  row({
    name: "STXP",
    pattern: "1s001000001wwwwwauuuuunnnnnttttt",
    disassemble: (f) =>
      addressText(`st${f.a ? "l" : ""}xp`, f.n, reg(0, f.w), reg(f.s, f.t), reg(f.s, f.u)),
    predecode: (f) => ({
      shape: { size: pairSizeOf(f), ordered: f.a === 1, sp: f.n === 31 },
      slots: { w: xw(f.w), t: xr(f.t), u: xr(f.u), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b, o, { size, ordered, sp }) => {
      const base = baseOf(b, sp, o.n);
      const values = [b.x(o.t), b.x(o.u)] as const;
      b.setW(o.w, b.storeExclusivePair(base, size, values, { ordered }));
    },
  }),
  row({
    name: "LDXP",
    pattern: "1s001000011wwwwwauuuuunnnnnttttt",
    disassemble: (f) => addressText(`ld${f.a ? "a" : ""}xp`, f.n, reg(f.s, f.t), reg(f.s, f.u)),
    predecode: (f) => ({
      shape: { size: pairSizeOf(f), ordered: f.a === 1, sp: f.n === 31 },
      slots: { t: xw(f.t), u: xw(f.u), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b, o, { size, ordered, sp }) => {
      const [t, u] = b.loadExclusivePair(baseOf(b, sp, o.n), size, { ordered });
      b.setX(o.t, t);
      b.setX(o.u, u);
    },
  }),
  row({
    name: "STLR",
    pattern: "ss001000100wwwww1uuuuunnnnnttttt",
    ...orderedStore("stlr"),
  }),
  row({
    name: "LDAR",
    pattern: "ss001000110wwwww1uuuuunnnnnttttt",
    ...orderedLoad("ldar"),
  }),
];
