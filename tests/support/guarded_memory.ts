/**
 * The shared memory with an eye on it: while code at EL2 of a host without VHE runs, every access must
 * be to a page that EL2's own tables map, and a write to one that they map writable.
 */
import { SharedMemory } from "../../src/base/memory.ts";
import type { Machine } from "../../src/arm/machine.ts";
import type { El2Code } from "../../src/host/el2_code.ts";
import type { El2Port } from "../../src/arm/el2_port.ts";
import { R } from "../../src/arm/arch/sysregs.ts";
import { FP_STATE_BYTES, GPR_STATE_BYTES } from "../../src/arm/el2_port.ts";
import { walkHyp } from "./hyp_walk.ts";

const PAGE = 4096;
const WIDTHS = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8 } as const;
type ArrayName = keyof typeof WIDTHS;

export class GuardedMemory extends SharedMemory {
  /** Set while code at EL2 runs: its CPU's port. */
  at: El2Port | undefined;
  /** Accesses made at EL2, and those that EL2's tables do not allow. */
  accesses = 0;
  readonly wrong: string[] = [];
  #pages = new Map<number, boolean>();
  #root = 0;

  constructor(readonly machine: Machine) {
    super(machine.memory.memory);
    for (const [name, width] of Object.entries(WIDTHS)) this.#guardArray(name as ArrayName, width);
    for (const port of machine.ports) this.#guardPort(port);
  }

  #guardArray(name: ArrayName, width: number): void {
    const value = this.#guarded(this.machine.memory[name], 0, width);
    Object.defineProperty(this, name, { value });
  }

  override wordsAt(at: number, count: number): Uint32Array {
    return this.#guarded(super.wordsAt(at, count), at, 4) as Uint32Array;
  }

  /** Accesses of the array, whose first element of `width` bytes lies at `from`, are checked. */
  #guarded(target: object, from: number, width: number): object {
    const element = (key: string | symbol) => typeof key === "string" && /^\d+$/.test(key);
    return new Proxy(target, {
      get: (array, key) => {
        if (element(key)) this.check(from + Number(key) * width, width, false);
        const value = Reflect.get(array, key) as unknown;
        return typeof value === "function" ? value.bind(array) : value;
      },
      set: (array, key, value) => {
        if (element(key)) this.check(from + Number(key) * width, width, true);
        return Reflect.set(array, key, value);
      },
    });
  }

  /** The port's operations between registers and memory go past this object: by their addresses. */
  #guardPort(port: El2Port): void {
    const guard = (name: keyof El2Port, index: number, size: number, write: boolean) => {
      const plain = (port[name] as (...args: number[]) => void).bind(port);
      Object.defineProperty(port, name, {
        value: (...args: number[]) => {
          this.check(args[index] ?? 0, size, write);
          plain(...args);
        },
      });
    };
    guard("save", 1, 8, true);
    guard("restore", 1, 8, false);
    guard("saveGprs", 0, GPR_STATE_BYTES, true);
    guard("restoreGprs", 0, GPR_STATE_BYTES, false);
    guard("saveFp", 0, FP_STATE_BYTES, true);
    guard("restoreFp", 0, FP_STATE_BYTES, false);
  }

  /** Watches what `code` runs from now on. */
  watch(code: El2Code): void {
    const run = code.run.bind(code);
    code.run = (port) => {
      this.at = port;
      try {
        run(port);
      } finally {
        this.at = undefined;
      }
    };
  }

  #allowed(page: number, write: boolean): boolean {
    const known = this.#pages.get(page);
    return known !== undefined && (known || !write);
  }

  /** Reads the tables again: what is mapped may have grown. */
  #readTables(): void {
    const { ram, memory } = this.machine;
    this.#pages = new Map();
    for (const { pa, writable } of walkHyp(memory, ram, this.#root)) {
      this.#pages.set((pa - ram.pa + ram.at) / PAGE, writable);
    }
  }

  /** An access of `size` bytes at `at`. */
  check(at: number, size: number, write: boolean): void {
    if (this.at === undefined) return;
    const { regs } = this.at.core;
    // The MMU of EL2 is off until the hypervisor is there.
    if ((regs.lo(R.SCTLR_EL2) & 1) === 0) return;
    this.accesses++;
    for (const byte of [at, at + size - 1]) {
      const page = Math.floor(byte / PAGE);
      if (this.#allowed(page, write)) continue;
      this.#root = regs.lo(R.TTBR0_EL2) + regs.hi(R.TTBR0_EL2) * 2 ** 32;
      this.#readTables();
      if (!this.#allowed(page, write)) {
        this.wrong.push(`${write ? "write" : "read"} at 0x${byte.toString(16)}`);
      }
    }
  }
}
