/** Registers that the port moves as memory: the same values, masks and effects as by MRS and MSR. */
import assert from "node:assert/strict";
import { R, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import { El2Port } from "../../src/arm/el2_port.ts";
import { exceptionReturn } from "../../src/arm/exceptions.ts";
import { isTge } from "../../src/arm/pstate.ts";
import { VERDICT } from "../../src/arm/sysreg_traps.ts";
import { E2H, Machine, RW, TGE } from "./core_fixture.ts";

const VALUES = [[0xffff_ffff, 0xffff_ffff], [0, 0], [0x8765_4321, 0x0fed_cba9]] as const;

interface Pair {
  /** Reached by the port. */
  readonly ported: Machine;
  readonly port: El2Port;
  /** Reached as by instructions. */
  readonly instructed: Machine;
}

function pair(hcr: bigint, cpu: "max" | "v8.0" = "max"): Pair {
  const make = () => {
    const m = new Machine({ cpu });
    m.set({ HCR_EL2: hcr });
    return m;
  };
  const ported = make();
  return { ported, port: new El2Port(ported.core(), ported.arena), instructed: make() };
}

function registerFile(m: Machine): Uint32Array {
  const at = m.core().regs.addressOf(0) >>> 2;
  return m.memory.u32.slice(at, at + 2 * SYSREGS.length);
}

/** What a guest would run under: caches that a write may leave behind until the next ERET to it. */
function afterReturn(m: Machine): unknown[] {
  const { cpu, regs } = m.core();
  regs.set(R.SPSR_EL2, isTge(regs) ? 0 : 5, 0);
  exceptionReturn(m.core());
  assert.notEqual(cpu.el, 2);
  const { fpEnabled, checkIrq, single, debugArmed, pmuActive, alignMask, spAlignMask } = cpu;
  return [cpu.el, fpEnabled, checkIrq, single, debugArmed, pmuActive, alignMask, spAlignMask];
}

for (const model of ["max", "v8.0"] as const) {
  for (const hcr of [RW, RW | E2H | TGE]) {
    Deno.test(`every register by the port and by MSR, ${model}, HCR_EL2 ${hcr.toString(16)}`, () => {
      for (const { index, name } of SYSREGS) {
        // Each operation of the port takes virtual time, and these count from it.
        if (/^CNT.*(TVAL|CTL|CT)_EL|^PM/.test(name)) continue;
        const { ported, port, instructed } = pair(hcr, model);
        const { sysregs } = instructed.core();
        for (const [lo, hi] of VALUES) {
          const done = sysregs.tryWrite(index, lo, hi) === VERDICT.OK;
          if (!done) assert.throws(() => port.write(index, lo, hi), name);
          else port.write(index, lo, hi);
          assert.deepEqual(registerFile(ported), registerFile(instructed), name);
          if (sysregs.tryRead(index) !== VERDICT.OK) continue;
          assert.equal(port.readLo(index), sysregs.lo >>> 0, name);
          assert.equal(port.readHi(index), sysregs.hi >>> 0, name);
        }
        assert.deepEqual(afterReturn(ported), afterReturn(instructed), name);
      }
    });
  }
}
