/** A machine without an engine: cores that execute single instructions out of RAM. */
import { type Cpu, CpuLayout, SLOT } from "../../src/arm/arch/cpu_state.ts";
import type { CpuModel } from "../../src/arm/arch/features.ts";
import { R, sysreg, type SysregName } from "../../src/arm/arch/sysregs.ts";
import type { RamRange } from "../../src/arm/arch/tlb_layout.ts";
import { Bus } from "../../src/arm/bus.ts";
import { Clock } from "../../src/arm/clock.ts";
import { CpuCore } from "../../src/arm/cpu.ts";
import { contextSwitched, refreshInterrupts } from "../../src/arm/exceptions.ts";
import { type Conduit, Firmware } from "../../src/arm/firmware.ts";
import { GenericTimer } from "../../src/arm/generic_timer.ts";
import { Gicv3 } from "../../src/arm/gic/gicv3.ts";
import { type CoreModel, coreModel, mpidrOf } from "../../src/arm/id_registers.ts";
import { contextBytes, Mmu } from "../../src/arm/mmu/mmu.ts";
import type { Core, Platform, PowerEvent } from "../../src/arm/parts.ts";
import { setElAndSpsel } from "../../src/arm/pstate.ts";
import { resetCpu } from "../../src/arm/reset.ts";
import { Arena } from "../../src/base/arena.ts";
import { SharedMemory } from "../../src/base/memory.ts";

const MIB = 2 ** 20;
export const RAM = 0x4000_0000;
export const CODE = RAM + 0x1000;
export const VBAR1 = RAM + 0x1_0000;
export const VBAR2 = RAM + 0x2_0000;

export interface Options {
  readonly cpus?: number;
  readonly el?: 1 | 2;
  readonly lrs?: number;
  readonly conduit?: Conduit;
  readonly cpu?: CpuModel;
}

export class Machine implements Platform {
  readonly memory: SharedMemory;
  readonly arena: Arena;
  readonly ram: RamRange;
  readonly mmu: Mmu;
  readonly gic: Gicv3;
  readonly clock: Clock;
  readonly timer: GenericTimer;
  readonly bus = new Bus();
  readonly model: CoreModel;
  readonly cores: Core[] = [];
  readonly cpus: Cpu[];
  readonly power: PowerEvent[] = [];
  readonly invalidated: (number | "all")[] = [];
  /** Whether each of these reaches all CPUs. */
  readonly broadcasts: boolean[] = [];
  endedSlices = 0;
  readonly hooks = {
    onInstructionCacheInvalidate: (pa: number | "all", broadcast: boolean) => {
      this.invalidated.push(pa);
      this.broadcasts.push(broadcast);
    },
    onEndSlice: () => void this.endedSlices++,
    onPower: (event: PowerEvent) => void this.power.push(event),
  };

  constructor({ cpus = 1, el = 2, lrs = 4, conduit, cpu = "max" }: Options = {}) {
    this.model = coreModel(cpu);
    const state = MIB * Math.ceil(2 + cpus / 4 + contextBytes(cpus) / MIB);
    this.memory = SharedMemory.create(state + MIB);
    this.arena = new Arena("state", this.memory, 4096, state);
    this.ram = { pa: RAM, size: MIB, at: state };
    this.cpus = Array.from({ length: cpus }, (_, index) => {
      const cpu = this.arena.make(CpuLayout);
      cpu.index = index;
      cpu.mpidr = mpidrOf(index);
      return cpu;
    });
    this.mmu = new Mmu(this.memory, this.ram, this.arena, cpus);
    this.gic = new Gicv3(this.memory, this.arena, { cpus: this.cpus, lrs });
    this.gic.linesChanged = (cpu) => refreshInterrupts(this.core(cpu));
    this.clock = new Clock(this.arena);
    this.timer = new GenericTimer(
      this.arena,
      this.cpus,
      this.clock,
      (cpu, intid, level) => this.gic.setPpi(cpu, intid, level),
    );
    const firmware = conduit && new Firmware(conduit);
    for (const cpu of this.cpus) {
      const core = firmware ? new CpuCore(this, cpu, firmware) : new CpuCore(this, cpu);
      this.cores.push(core);
      resetCpu(core, { el, pc: CODE, x0: 0 });
      core.regs.setNum(R.VBAR_EL1, VBAR1);
      core.regs.setNum(R.VBAR_EL2, VBAR2);
    }
  }

  core(index = 0): CpuCore {
    return this.cores[index] as CpuCore;
  }

  /** Moves a core to a level, SPSel set but at EL0, as if it had always been there. */
  enter(el: number, core = this.core()): void {
    setElAndSpsel(core.cpu, el, el === 0 ? 0 : 1);
    core.cpu.daif = 0;
    contextSwitched(core);
  }

  /** Sets raw register contents, then recomputes what depends on them. */
  set(values: Partial<Record<SysregName, bigint>>, core = this.core()): void {
    for (const [name, value] of Object.entries(values)) core.regs.put(name as SysregName, value);
    contextSwitched(core);
  }

  /** Puts `word` at the code address and executes it there. */
  execute(word: number, core = this.core()): void {
    this.memory.st32(this.ram.at + CODE - RAM, word);
    core.cpu.pc = BigInt(CODE);
    core.executeSlow();
  }

  /** MRS X`rt`; returns the register's value afterwards. */
  mrs(name: SysregName, rt = 1, core = this.core()): bigint {
    this.execute(mrsWord(sysreg(name).key, rt), core);
    return this.x(rt, core);
  }

  /** MSR from X`rt`. */
  msr(name: SysregName, value: bigint, rt = 1, core = this.core()): void {
    this.setX(rt, value, core);
    this.execute(msrWord(sysreg(name).key, rt), core);
  }

  x(n: number, core = this.core()): bigint {
    return this.memory.ld64(core.cpu.gpr + 8 * n);
  }

  setX(n: number, value: bigint, core = this.core()): void {
    this.memory.st64(core.cpu.gpr + 8 * n, value);
  }

  sp(core = this.core()): bigint {
    return this.x(SLOT.SP, core);
  }

  /** Byte offset in the shared memory of RAM at `pa`. */
  at(pa: number): number {
    return this.ram.at + pa - RAM;
  }
}

export const mrsWord = (key: number, rt: number): number => (0xd520_0000 | (key << 5) | rt) >>> 0;
export const msrWord = (key: number, rt: number): number => (0xd500_0000 | (key << 5) | rt) >>> 0;
export const WFI = 0xd503_207f;
export const WFE = 0xd503_205f;
export const SEV = 0xd503_209f;
export const ERET = 0xd69f_03e0;
export const svc = (imm: number): number => 0xd400_0001 + imm * 32;
export const hvc = (imm: number): number => 0xd400_0002 + imm * 32;
export const smc = (imm: number): number => 0xd400_0003 + imm * 32;
export const brk = (imm: number): number => 0xd420_0000 + imm * 32;

/** HCR_EL2 values. */
export const RW = 1n << 31n;
export const E2H = 1n << 34n;
export const VM = 1n;
export const TGE = 1n << 27n;
