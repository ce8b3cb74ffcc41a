import assert from "node:assert/strict";
import { Arena } from "../../src/base/arena.ts";
import { InternalError } from "../../src/base/errors.ts";
import { LOCK_CLASSES, LOCK_RANK, type LockClass, Locks } from "../../src/base/lock.ts";
import { SharedMemory } from "../../src/base/memory.ts";

const at = (lockClass: LockClass, instance = 0): number =>
  64 + 4 * (LOCK_CLASSES.indexOf(lockClass) * 16 + instance);

function locks(): Locks {
  return new Locks(SharedMemory.create(4096), "deterministic");
}

Deno.test("all classes may be nested in their order, and only so", () => {
  for (const [i, outer] of LOCK_CLASSES.entries()) {
    for (const [j, inner] of LOCK_CLASSES.entries()) {
      const l = locks();
      l.take(outer, at(outer));
      if (j > i) l.take(inner, at(inner, 1));
      else {
        assert.throws(
          () => l.take(inner, at(inner, 1)),
          new RegExp(`lock order: ${inner} .* under ${outer}`),
        );
      }
    }
  }
});

Deno.test("a whole chain, outermost first", () => {
  const l = locks();
  for (const c of LOCK_CLASSES) l.take(c, at(c));
  assert.equal(l.heldCount, LOCK_CLASSES.length);
  for (const c of [...LOCK_CLASSES].reverse()) l.drop(c, at(c));
  assert.equal(l.heldCount, 0);
});

Deno.test("two of one class go by their number, lowest first", () => {
  const l = locks();
  l.take("apList", at("apList", 3), 3);
  assert.throws(() => l.take("apList", at("apList", 3 + 1), 3), InternalError);
  assert.throws(() => l.take("apList", at("apList", 1), 1), InternalError);
  l.take("apList", at("apList", 5), 5);
  assert.equal(l.heldCount, 2);
});

Deno.test("a lock taken and dropped at once is counted, in its order and free; not where others can come between", () => {
  const irq = LOCK_CLASSES.indexOf("irq");
  const l = locks();
  l.take("apList", at("apList"));
  assert.equal(l.passRank(irq, at("irq"), 0), true);
  assert.deepEqual([l.heldCount, l.stats.irq.acquisitions], [1, 1]);
  l.take("irq", at("irq"));
  assert.throws(() => l.passRank(irq, at("irq", 1), 0), /lock order: irq/);
  assert.equal(l.passRank(irq, at("irq", 1), 1), true);
  assert.throws(() => l.passRank(irq, at("irq"), 1), /deadlock/);
  l.schedulePoint = () => {};
  assert.equal(l.passRank(irq, at("irq", 1), 1), false);
  const parallel = new Locks(SharedMemory.create(4096), "parallel");
  assert.equal(parallel.passRank(irq, at("irq"), 0), false);
  assert.equal(parallel.stats.irq.acquisitions, 0);
});

Deno.test("locks passed alone are counted, with interrupts off; nobody is alone with a lock held, at schedule points or in parallel", () => {
  const l = locks();
  const { apList, irq, kvm } = LOCK_RANK;
  assert.equal(l.alone, true);
  l.passed(kvm, 1);
  l.passed(irq, 2);
  l.passedWithin(apList, irq, 3);
  const counts = () => [l.stats.kvm, l.stats.apList, l.stats.irq].map((s) => s.acquisitions);
  assert.deepEqual(counts(), [1, 1, 5]);
  l.passedIrqs(1, 2);
  assert.deepEqual(counts(), [1, 2, 7]);
  assert.equal(l.heldCount, 0);
  l.irqsOff = () => false;
  l.passed(kvm, 1);
  assert.throws(() => l.passed(irq, 1), /interrupts on/);
  assert.throws(() => l.passedWithin(apList, irq, 1), /interrupts on/);
  assert.throws(() => l.passedIrqs(0, 1), /interrupts on/);
  l.with("kvm", at("kvm"), () => assert.equal(l.alone, false));
  l.schedulePoint = () => {};
  assert.equal(l.alone, false);
  assert.equal(new Locks(SharedMemory.create(4096), "parallel").alone, false);
});

Deno.test("a lock that was refused is not held, and its word is free", () => {
  const l = locks();
  l.take("irq", at("irq"));
  assert.throws(() => l.take("kvm", at("kvm")), InternalError);
  assert.equal(l.heldCount, 1);
  assert.equal(l.memory.ld32(at("kvm")), 0);
  assert.equal(l.stats.kvm.acquisitions, 0);
});

Deno.test("a lock found held in deterministic mode is a deadlock", () => {
  const one = locks();
  const other = new Locks(one.memory, "deterministic");
  one.take("kvm", at("kvm"));
  assert.throws(() => other.take("kvm", at("kvm")), /deadlock: kvm lock/);
  assert.equal(other.heldCount, 0);
  one.drop("kvm", at("kvm"));
  other.take("kvm", at("kvm"));
});

Deno.test("from the ap_list lock inward interrupts must be off", () => {
  const inner = LOCK_CLASSES.slice(LOCK_CLASSES.indexOf("apList"));
  assert.deepEqual(inner, ["apList", "lpiList", "irq", "vmid", "timerQueue", "runQueue"]);
  for (const c of LOCK_CLASSES) {
    const l = locks();
    l.irqsOff = () => false;
    if (inner.includes(c)) assert.throws(() => l.take(c, at(c)), /interrupts on/);
    else l.take(c, at(c));
    l.irqsOff = () => true;
    if (inner.includes(c)) l.take(c, at(c));
  }
});

Deno.test("what is not held cannot be dropped", () => {
  const l = locks();
  assert.throws(() => l.drop("irq", at("irq")), InternalError);
  l.take("irq", at("irq"));
  assert.throws(() => l.drop("irq", at("irq", 1)), InternalError);
  l.drop("irq", at("irq"));
  assert.throws(() => l.drop("irq", at("irq")), InternalError);
});

Deno.test("locks may be dropped out of order, and the order of the rest still holds", () => {
  const l = locks();
  l.take("kvm", at("kvm"));
  l.take("irq", at("irq"));
  l.drop("kvm", at("kvm"));
  assert.throws(() => l.take("kvm", at("kvm")), /lock order/);
  l.drop("irq", at("irq"));
  l.take("kvm", at("kvm"));
});

Deno.test("acquisitions are counted by class", () => {
  const l = locks();
  for (let i = 0; i < 3; i++) l.with("irq", at("irq"), () => {});
  l.with("kvm", at("kvm"), () => {});
  assert.deepEqual(l.stats.irq, { acquisitions: 3, contended: 0 });
  assert.deepEqual(l.stats.kvm, { acquisitions: 1, contended: 0 });
  assert.deepEqual(l.stats.mmu, { acquisitions: 0, contended: 0 });
});

Deno.test("with gives the result, and drops the lock also after an error", () => {
  const l = locks();
  assert.equal(l.with("irq", at("irq"), () => l.heldCount), 1);
  assert.throws(() =>
    l.with("irq", at("irq"), () => {
      throw new Error("inside");
    }), /inside/);
  assert.equal(l.heldCount, 0);
  assert.equal(l.memory.ld32(at("irq")), 0);
});

Deno.test("schedule points come before a lock is taken and after it is dropped", () => {
  const l = locks();
  const seen: string[] = [];
  l.schedulePoint = (event, lockClass, where) =>
    seen.push(`${event} ${lockClass} ${l.memory.ld32(where)} ${l.heldCount}`);
  l.with("kvm", at("kvm"), () => l.with("irq", at("irq"), () => {}));
  assert.deepEqual(seen, ["take kvm 0 0", "take irq 0 1", "drop irq 0 1", "drop kvm 0 0"]);
});

Deno.test("at the point before a lock another context may take and drop it", () => {
  const l = locks();
  const other = new Locks(l.memory, "deterministic");
  l.schedulePoint = (event) => {
    if (event === "take") other.with("irq", at("irq"), () => {});
  };
  l.with("irq", at("irq"), () => {});
  assert.equal(other.stats.irq.acquisitions, 1);
});

Deno.test("contexts in parallel count together where they are given a place", () => {
  const memory = SharedMemory.create(1 << 16);
  const make = () => new Locks(memory, "parallel", new Arena("observe", memory, 32768, 1 << 16));
  const [one, other] = [make(), make()];
  one.with("irq", at("irq"), () => {});
  other.with("irq", at("irq"), () => {});
  other.with("kvm", at("kvm"), () => {});
  for (const { stats } of [one, other]) {
    assert.deepEqual([stats.irq.acquisitions, stats.kvm.acquisitions, stats.irq.contended], [
      2,
      1,
      0,
    ]);
  }
});
