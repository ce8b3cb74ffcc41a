/**
 * Reading and writing the performance monitors' registers once the access is allowed. Source: Arm
 * Architecture Reference Manual (DDI 0487), D19, the PM* registers.
 */
import {
  counterRegister,
  COUNTERS_MASK,
  CYCLE_COUNTER,
  EVENT_COUNTERS,
  PMCCFILTR_KEEP,
  PMCEID0,
  PMCR,
  PMCR_KEEP,
  PMEVTYPER_KEEP,
  PMU_EVENT,
  PMUSERENR,
  typeRegister,
} from "./arch/pmu.ts";
import { R, type SysregName } from "./arch/sysregs.ts";
import type { Core } from "./parts.ts";
import { countEvent, guestCounters, pmuChanged, syncPmu, syncPmuForRead } from "./pmu.ts";
import type { View, Views } from "./sysreg_views.ts";

/** Event counters that the current level reaches. */
function reachable(core: Core): number {
  return core.cpu.el === 2 ? EVENT_COUNTERS : guestCounters(core);
}

/** Bits of the counters that the current level reaches. */
function reachableMask(core: Core): number {
  return (0x8000_0000 | ((1 << reachable(core)) - 1)) >>> 0;
}

/** Carries out a write: the counters have their values of before it. */
function change(core: Core, write: () => void): void {
  syncPmu(core);
  write();
  pmuChanged(core);
}

/** PMCR_EL0: N is MDCR_EL2.HPMN below EL2; P resets the event counters that the level reaches. */
const control: View = {
  read: (core, index, out) => {
    out.lo = core.regs.lo(index) | PMCR.LC | (reachable(core) << PMCR.N_SHIFT);
    out.hi = 0;
  },
  write: (core, index, lo) =>
    change(core, () => {
      core.regs.set(index, lo & PMCR_KEEP, 0);
      if (lo & PMCR.C) core.regs.set(R.PMCCNTR_EL0, 0, 0);
      for (let n = 0; lo & PMCR.P && n < reachable(core); n++) {
        core.regs.set(counterRegister(n), 0, 0);
      }
    }),
};

/** A register of one bit per counter under its two names, of which one sets and one clears. */
function mask(storage: number, sets: boolean): View {
  return {
    read: (core, _, out) => {
      syncPmuForRead(core);
      out.lo = (core.regs.lo(storage) & reachableMask(core)) >>> 0;
      out.hi = 0;
    },
    write: (core, _, lo) =>
      change(core, () => {
        const bits = lo & reachableMask(core), old = core.regs.lo(storage);
        core.regs.set(storage, ((sets ? old | bits : old & ~bits) & COUNTERS_MASK) >>> 0, 0);
      }),
  };
}

/** PMSELR_EL0.SEL. */
function selected(core: Core): number {
  return core.regs.lo(R.PMSELR_EL0) & 31;
}

function counterView(of: (core: Core, index: number) => number): View {
  return {
    read: (core, index, out) => {
      syncPmuForRead(core);
      const register = counterRegister(of(core, index));
      out.lo = core.regs.lo(register);
      out.hi = core.regs.hi(register);
    },
    write: (core, index, lo, hi) =>
      change(core, () => {
        const n = of(core, index);
        core.regs.set(counterRegister(n), lo >>> 0, n === CYCLE_COUNTER ? hi >>> 0 : 0);
      }),
  };
}

function typeView(of: (core: Core, index: number) => number): View {
  return {
    read: (core, index, out) => {
      out.lo = core.regs.lo(typeRegister(of(core, index)));
      out.hi = 0;
    },
    write: (core, index, lo) =>
      change(core, () => {
        const n = of(core, index);
        const keep = n === CYCLE_COUNTER ? PMCCFILTR_KEEP : PMEVTYPER_KEEP;
        core.regs.set(typeRegister(n), (lo & keep) >>> 0, 0);
      }),
  };
}

function numbered(): Views {
  const views: [SysregName, View][] = [];
  for (let n = 0; n < EVENT_COUNTERS; n++) {
    views.push([`PMEVCNTR${n}_EL0` as SysregName, counterView(() => n)]);
    views.push([`PMEVTYPER${n}_EL0` as SysregName, typeView(() => n)]);
  }
  return Object.fromEntries(views);
}

const stored = (keep: number): View => ({
  write: (core, index, lo) => core.regs.set(index, (lo & keep) >>> 0, 0),
  storage: { masks: [[keep, 0, 0, 0], [keep, 0, 0, 0]], effects: undefined },
});

/** The registers' views by name. */
export const PMU_VIEWS: Views = {
  PMCR_EL0: control,
  PMCNTENSET_EL0: mask(R.PMCNTENSET_EL0, true),
  PMCNTENCLR_EL0: mask(R.PMCNTENSET_EL0, false),
  PMOVSSET_EL0: mask(R.PMOVSSET_EL0, true),
  PMOVSCLR_EL0: mask(R.PMOVSSET_EL0, false),
  PMINTENSET_EL1: mask(R.PMINTENSET_EL1, true),
  PMINTENCLR_EL1: mask(R.PMINTENSET_EL1, false),
  PMSWINC_EL0: {
    write: (core, _, lo) => countEvent(core, PMU_EVENT.SW_INCR, lo & reachableMask(core)),
  },
  PMSELR_EL0: stored(31),
  PMUSERENR_EL0: stored(PMUSERENR.KEEP),
  PMCEID0_EL0: { read: (_, __, out) => void ((out.lo = PMCEID0), (out.hi = 0)) },
  PMCCNTR_EL0: counterView(() => CYCLE_COUNTER),
  PMCCFILTR_EL0: typeView(() => CYCLE_COUNTER),
  PMXEVCNTR_EL0: counterView(selected),
  PMXEVTYPER_EL0: typeView(selected),
  ...numbered(),
};

/** Whether PMSELR_EL0 selects a counter that the level reaches; PMXEVTYPER_EL0 also reaches the cycle counter's filter. */
export function selectsCounter(core: Core, type: boolean): boolean {
  const n = selected(core);
  return n < reachable(core) || (type && n === CYCLE_COUNTER);
}

/** Whether the current level reaches event counter `n`. */
export function reachesCounter(core: Core, n: number): boolean {
  return n < reachable(core);
}
