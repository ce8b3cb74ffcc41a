/**
 * Predecoded instructions: one 32-byte record each, 1024 to a page of code and one more that leads on
 * to the next page. Records are keyed by physical page and `cache` state: dropped when the guest
 * invalidates its instruction cache.
 */
import type { Consts, Slots } from "../isa/row.ts";
import type { SharedMemory } from "../../base/memory.ts";

export const RECORD_SIZE = 32;
export const RECORDS_PER_PAGE = 1024;
/** Offset in a page of records of the code they were made from, and of what of it is not decoded, as it was last compared. */
export const RECORD_WORDS = (RECORDS_PER_PAGE + 1) * RECORD_SIZE;
/**
 * Offset in a page of records of what stands behind the entry of a translated region, a word for each
 * instruction: the handler of the instruction itself, and the region's place in the table.
 */
export const RECORD_REGIONS = RECORD_WORDS + RECORDS_PER_PAGE * 4;
export const REGION_ENTRY = { HANDLER: 0, PLACE: 2 } as const;
/** Bytes of one page of records with all that belongs to it. */
export const RECORD_PAGE_SIZE = RECORD_REGIONS + RECORDS_PER_PAGE * 4;

/** Address of the record of the instruction at byte `offset` of a page. */
export function recordAt(records: number, offset: number): number {
  return records + offset * (RECORD_SIZE / 4);
}

/**
 * Where a record holds what: the handler (16 bits), how many more times it may be branched to before
 * it counts as hot (16 bits), slots (16-bit byte offsets into the CPU state), constants.
 */
export const RECORD = { HANDLER: 0, COUNT: 2, SLOTS: 4, WORD: 12, C64: 16 } as const;

/** Taken branches to an instruction that make it hot, unless said otherwise. */
export const HOT_COUNT = 30_000;

/** Where each of a row's operands lies in its records, from the operands' names in order. */
export interface RecordPlan {
  readonly slots: ReadonlyMap<string, number>;
  readonly consts: ReadonlyMap<string, { offset: number; type: "i32" | "i64" }>;
}

/** Slots that a record holds, the last two in place of its first 32-bit constant. */
const MAX_SLOTS = 6;

/** Places up to 6 slots and constants of at most 20 bytes, 16 with more than 4 slots. RangeError for more. */
export function planRecord(slots: Slots, consts: Consts): RecordPlan {
  const slotNames = Object.keys(slots);
  if (slotNames.length > MAX_SLOTS) throw new RangeError(`${slotNames.length} slots`);
  const places = new Map<string, { offset: number; type: "i32" | "i64" }>();
  const free = slotNames.length > 4 ? [16, 20, 24, 28] : [12, 16, 20, 24, 28];
  const take = (offset: number) => free.splice(free.indexOf(offset), 1);
  for (const [name, value] of Object.entries(consts)) {
    if (typeof value !== "bigint") continue;
    const offset = [16, 24].find((o) => free.includes(o));
    if (offset === undefined) throw new RangeError("more than two 64-bit constants");
    take(offset);
    take(offset + 4);
    places.set(name, { offset, type: "i64" });
  }
  for (const [name, value] of Object.entries(consts)) {
    if (typeof value === "bigint") continue;
    const offset = free.shift();
    if (offset === undefined) throw new RangeError("too many constants");
    places.set(name, { offset, type: "i32" });
  }
  return {
    slots: new Map(slotNames.map((name, i) => [name, RECORD.SLOTS + 2 * i])),
    consts: places,
  };
}

/** Writes the handler of the record at `at`, with a fresh count. */
export function writeHandler(m: SharedMemory, at: number, handler: number, count: number): void {
  m.st32(at, handler | (count << 16));
}

/** Writes one record at byte address `at`. */
export function writeRecord(
  m: SharedMemory,
  at: number,
  handler: number,
  plan: RecordPlan,
  slots: Slots,
  consts: Consts,
  count: number = HOT_COUNT,
): void {
  writeHandler(m, at, handler, count);
  for (const [name, offset] of plan.slots) m.st16(at + offset, slots[name] as number);
  for (const [name, { offset, type }] of plan.consts) {
    const value = consts[name] as number | bigint;
    if (type === "i64") m.st64(at + offset, value as bigint);
    else m.st32(at + offset, value as number);
  }
}
