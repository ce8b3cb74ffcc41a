/** The roles of a machine's state, checked against its hash. */
import assert from "node:assert/strict";
import type { Machine } from "../../src/arm/machine.ts";

/**
 * Flips a bit in the first and in the last byte of each field, of the first and the last instance of
 * everything placed in the machine's `arch` arena: the hash must change for `arch` fields, and not for
 * others. Returns how many fields of each role there were.
 */
export function checkHashedFields(machine: Machine): Record<"arch" | "cache" | "observe", number> {
  const { arena, memory } = machine;
  const counts = { arch: 0, cache: 0, observe: 0 };
  const before = machine.stateHash();
  for (const { layout, base, count } of arena.placements) {
    const last = base + (count - 1) * layout.size;
    for (const { name, offset, field } of layout.places) {
      counts[field.role]++;
      const bytes = field.width * field.count;
      for (const at of [base + offset, last + offset + bytes - 1]) {
        memory.st8(at, memory.ld8(at) ^ 0x10);
        const changed = machine.stateHash() !== before;
        memory.st8(at, memory.ld8(at) ^ 0x10);
        assert.equal(changed, field.role === "arch", `${layout.name}.${name} is ${field.role}`);
      }
    }
  }
  assert.equal(machine.stateHash(), before);
  return counts;
}
