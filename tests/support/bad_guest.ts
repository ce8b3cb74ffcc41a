/** A guest of a few instructions on the whole stack, two vCPUs on one CPU, for tests of what goes wrong. */
import assert from "node:assert/strict";
import { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import { LINE_KIND } from "../../src/vmm/command_ring.ts";

const MIB = 1 << 20;
const BASE = 0x4008_0000;
const CORE = 0x6030_0000_0010_0000n;
/** An SPI that no device has. */
const SPI = 60;

/** vCPU 0 starts at {@link BASE}; vCPU 1 is off. */
export class BadGuest {
  readonly guest: KvmGuest;

  /** `words` at the entry, and 64-bit words of data by their addresses. */
  constructor(words: readonly number[], data: readonly (readonly [number, bigint])[] = []) {
    this.guest = new KvmGuest({
      vcpus: 2,
      pcpus: 1,
      memory: 16 * MIB,
      lrs: 4,
      shuffle: 0,
      transmit: () => {},
    });
    const segments = [
      { name: "kernel" as const, pa: BASE, bytes: new Uint8Array(new Uint32Array(words).buffer) },
      ...data.map(([pa, value]) => ({
        name: "kernel" as const,
        pa,
        bytes: new Uint8Array(new BigUint64Array([value]).buffer),
      })),
    ].map((segment) => ({ ...segment, memSize: segment.bytes.length }));
    const registers = { pc: BASE, x0: 0, x1: 0, x2: 0, x3: 0 };
    this.guest.boot({ segments, dtb: 0, initrd: undefined, registers });
  }

  /** Runs for `ns` of virtual time; why it stopped. */
  run(ns: number): string {
    const { machine } = this.guest;
    return machine.run(2_000_000, machine.nowNs + ns);
  }

  get #first() {
    const [first] = this.guest.vm.vcpus;
    assert.ok(first);
    return first;
  }

  /** Gets vCPU 0 out, reads a register, and lets it go on. */
  #reg(id: bigint): bigint {
    const first = this.#first;
    const { host } = this.guest.kvmMachine;
    host.runAs(0, () => first.kick());
    for (let i = 0; i < 1000 && first.running; i++) this.guest.machine.run(1);
    assert.equal(first.running, false, "the vCPU does not come out");
    const value = first.getOneReg(id);
    host.runAs(0, () => first.run());
    return value;
  }

  x(n: number): bigint {
    return this.#reg(CORE + BigInt(2 * n));
  }

  pc(): bigint {
    return this.#reg(CORE + 64n);
  }

  exits(): number {
    return this.#first.vcpu.stat.exits;
  }

  exitsOf(ec: number): number {
    const { stat } = this.#first.vcpu;
    return stat.memory.ld53(stat.byClass + 8 * ec);
  }

  /** Nothing failed; a step, a line and a reset do what they should. */
  assertInHand(): void {
    const { guest } = this;
    assert.equal(guest.failure, undefined);
    guest.apply({ op: "stepInstruction", vm: 0, vcpu: 0 });
    const line = { vm: 0, kind: LINE_KIND.SPI, vcpu: 0, intid: SPI } as const;
    assert.equal(guest.apply({ op: "raiseLine", ...line }), 0);
    assert.equal(guest.apply({ op: "lowerLine", ...line }), 0);
    guest.reset();
    assert.equal(this.#first.vcpu.stat.exits, 0);
    this.run(100_000);
    assert.ok(this.#first.vcpu.stat.entries > 0);
    assert.equal(guest.failure, undefined);
  }
}
