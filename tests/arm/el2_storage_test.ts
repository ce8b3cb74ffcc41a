/** Registers that the port moves as memory: the same values, masks and effects as by MRS and MSR. */
import assert from "node:assert/strict";
import { R, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import { El2Port } from "../../src/arm/el2_port.ts";
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

/** What a guest would run under: caches that a write may leave behind until the next ERET. */
function afterReturn(m: Machine): unknown[] {
  const { cpu, regs } = m.core();
  regs.set(R.SPSR_EL2, 5, 0);
  m.execute(0xd69f_03e0);
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

Deno.test("a list is moved and counted as its registers one by one are", () => {
  const { ported, port } = pair(RW | E2H | TGE);
  const seen: [string, number | string][] = [];
  port.log = (kind, operand) => seen.push([kind, operand]);
  const list = {
    regs: Uint16Array.of(R.TPIDR_EL0, R.MDSCR_EL1, R.SCTLR_EL12),
    offsets: Uint16Array.of(8, 0, 16),
  };
  const at = ported.at(0x4000_8000);
  for (let i = 0; i < 3; i++) ported.memory.st64(at + 8 * i, 0x1000n + BigInt(i));
  port.restoreAll(list, at);
  port.saveAll(list, at + 64);
  const { regs } = ported.core();
  assert.equal(regs.get("TPIDR_EL0"), 0x1001n);
  assert.equal(ported.memory.ld64(at + 64), regs.get("MDSCR_EL1"));
  assert.equal(ported.memory.ld64(at + 72), 0x1001n);
  assert.equal(ported.memory.ld64(at + 80), regs.get("SCTLR_EL1"));
  const kinds = ["sysregRestore", "sysregSave"].flatMap((kind) =>
    [...list.regs].map((reg): [string, number] => [kind, reg])
  );
  assert.deepEqual(seen, kinds);
  assert.deepEqual([port.counters.sysregSave, port.counters.sysregRestore], [3, 3]);
  assert.equal(port.counters.ns, 3 * 4 + 3 * 9);
  assert.equal(ported.clock.now(), port.counters.ns);
});
