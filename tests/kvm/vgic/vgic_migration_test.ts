/** Interrupts on their way from one vCPU's ap_list to another's, and what may happen between the locks. */
import assert from "node:assert/strict";
import { listAddTail, listDel, listEmpty } from "../../../src/base/list.ts";
import { VgicCpuLayout, VgicIrqLayout } from "../../../src/kvm/kvm_host.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import { VgicCpuStatLayout } from "../../../src/kvm/vgic/vgic_stat.ts";
import { SPURIOUS, World } from "./world.ts";

const lists = (w: World): number[][] => w.kvm.vcpus.map(apListIntids);

/** Edge SPI 40, enabled, at vCPU 0. */
function pendingEdge(vcpus = 3): World {
  const w = new World({ vcpus });
  w.setEdge(40);
  w.enable(40);
  w.inject(40, true);
  w.kicks.length = 0;
  return w;
}

/** Every interrupt is on the list it says it is on, and on no other. */
function checkLists(w: World): void {
  const seen = new Set<number>();
  for (const vcpu of w.kvm.vcpus) {
    for (const intid of apListIntids(vcpu)) {
      assert.equal(seen.has(intid), false, `${intid} is on two lists`);
      seen.add(intid);
      assert.equal(w.irq(intid).vcpu, vcpu.state.base);
    }
  }
  for (let intid = 32; intid < 128; intid++) {
    assert.equal(w.irq(intid).vcpu !== 0, seen.has(intid), `${intid} thinks it is listed`);
  }
}

/** Runs `body` once, right after the lock of `lockClass` (at `at`, if given) was dropped the `nth` time. */
function afterDrop(
  w: World,
  lockClass: "apList" | "irq",
  at: number | undefined,
  nth: number,
  body: () => void,
): { done: () => boolean } {
  let drops = 0;
  let ran = false;
  w.locks.schedulePoint = (event, dropped, where) => {
    if (event !== "drop" || dropped !== lockClass || (at !== undefined && where !== at)) return;
    if (++drops !== nth) return;
    w.locks.schedulePoint = undefined;
    ran = true;
    body();
  };
  return { done: () => ran };
}

const apListLock = (w: World, n: number): number =>
  w.vcpu(n).vgic.base + VgicCpuLayout.offset.apListLock;

Deno.test("re-routed while pending: moves when its vCPU leaves the guest, and kicks the new one", () => {
  const w = pendingEdge();
  w.route(40, 2);
  assert.deepEqual(lists(w), [[40], [], []]);
  w.enter(0);
  assert.equal(w.virq(0), false);
  w.exit(0);
  assert.deepEqual(lists(w), [[], [], [40]]);
  assert.deepEqual(w.kicks, [2]);
  assert.deepEqual(w.serveAll(2), [40]);
  assert.deepEqual(w.serveAll(0), []);
  assert.equal(VgicCpuStatLayout.at(w.memory, w.vcpu(0).vgic.cpuStat).migrated, 1);
});

Deno.test("moves to a lower-numbered vCPU as well", () => {
  const w = pendingEdge();
  w.route(40, 2);
  w.run(0, () => {});
  w.route(40, 1);
  w.run(2, () => {});
  assert.deepEqual(lists(w), [[], [40], []]);
});

Deno.test("re-routed while in a list register and pending: the guest did not take it, so it moves", () => {
  const w = pendingEdge();
  w.enter(0);
  w.route(40, 1);
  w.exit(0);
  assert.deepEqual(lists(w), [[], [40], []]);
  assert.deepEqual(w.serveAll(1), [40]);
});

Deno.test("re-routed while active: ends where it is, the next one arrives at the new vCPU", () => {
  const w = pendingEdge();
  w.run(0, () => assert.equal(w.ack(0), 40));
  w.route(40, 1);
  w.inject(40, true);
  w.run(0, () => {});
  assert.deepEqual(lists(w), [[40], [], []]);
  w.run(0, () => {
    assert.equal(w.lr(0, 0).state, "pending and active");
    w.eoi(0, 40);
    // Still masked or simply not taken: on exit it belongs to vCPU 1.
  });
  assert.deepEqual(lists(w), [[], [40], []]);
  assert.deepEqual(w.serveAll(1), [40]);
});

Deno.test("re-routed while an active level interrupt's line stays high", () => {
  const w = new World({ vcpus: 2 });
  w.enable(40);
  w.inject(40, true);
  w.run(0, () => assert.equal(w.ack(0), 40));
  w.route(40, 1);
  w.run(0, () => {
    w.eoi(0, 40);
    assert.equal(w.ack(0), SPURIOUS);
  });
  assert.deepEqual(lists(w), [[], [40]]);
  w.run(1, () => assert.equal(w.ack(1), 40));
});

Deno.test("routed to nobody: leaves the list and is pending still", () => {
  const w = pendingEdge();
  w.route(40, 9);
  w.run(0, () => {});
  assert.deepEqual(lists(w), [[], [], []]);
  assert.equal(w.irq(40).pendingLatch, true);
});

Deno.test("between the locks of a move: routed back, so it stays", () => {
  const w = pendingEdge();
  w.route(40, 1);
  const hook = afterDrop(w, "apList", apListLock(w, 0), 2, () => w.route(40, 0));
  w.run(0, () => {});
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[40], [], []]);
  checkLists(w);
  assert.deepEqual(w.serveAll(0), [40]);
});

Deno.test("between the locks of a move: routed on, so it goes to the last one only", () => {
  const w = pendingEdge();
  w.route(40, 1);
  const hook = afterDrop(w, "apList", apListLock(w, 0), 2, () => w.route(40, 2));
  w.run(0, () => {});
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[], [], [40]]);
  assert.deepEqual(w.kicks, [2]);
});

Deno.test("between the locks of a move: no longer pending, so it is on no list", () => {
  const w = pendingEdge();
  w.route(40, 1);
  const hook = afterDrop(w, "apList", apListLock(w, 0), 2, () => {
    w.irq(40).pendingLatch = false;
  });
  w.run(0, () => {});
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[], [], []]);
  assert.deepEqual(w.kicks, []);
  w.inject(40, true);
  assert.deepEqual(lists(w), [[], [40], []]);
});

Deno.test("between the locks of a move: dropped and raised again at the new place, once", () => {
  const w = pendingEdge();
  w.route(40, 1);
  const hook = afterDrop(w, "apList", apListLock(w, 0), 2, () => {
    w.disable(40);
    w.enable(40);
    w.inject(40, true);
  });
  w.run(0, () => {});
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[], [40], []]);
  assert.deepEqual(w.serveAll(1), [40]);
});

Deno.test("between the locks of a move: taken off the list by another hand, so it is not put on one", () => {
  const w = pendingEdge();
  w.route(40, 1);
  const hook = afterDrop(w, "apList", apListLock(w, 0), 2, () => {
    listDel(w.memory, w.irq(40).base + VgicIrqLayout.offset.apList);
    w.irq(40).vcpu = 0;
  });
  w.run(0, () => {});
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[], [], []]);
  assert.equal(w.irq(40).vcpu, 0);
});

Deno.test("between the locks of a move: moved by another hand, so it is not this vCPU's to move", () => {
  const w = pendingEdge();
  w.route(40, 1);
  const hook = afterDrop(w, "apList", apListLock(w, 0), 2, () => {
    const node = w.irq(40).base + VgicIrqLayout.offset.apList;
    listDel(w.memory, node);
    listAddTail(w.memory, node, w.vcpu(2).vgic.apListHead);
    w.irq(40).vcpu = w.vcpu(2).state.base;
  });
  w.run(0, () => {});
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[], [], [40]]);
  assert.deepEqual(w.kicks, []);
});

Deno.test("between the locks of a move: another interrupt joins the list and is not missed", () => {
  const w = pendingEdge();
  w.enable(41);
  w.route(40, 1);
  const hook = afterDrop(w, "apList", apListLock(w, 0), 2, () => w.inject(41, true));
  w.run(0, () => {});
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[41], [40], []]);
});

Deno.test("between the locks of queueing: re-routed, so it is queued at the new vCPU", () => {
  const w = new World({ vcpus: 2 });
  w.enable(40);
  const hook = afterDrop(w, "irq", undefined, 1, () => w.route(40, 1));
  w.inject(40, true);
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[], [40]]);
  assert.deepEqual(w.kicks, [1]);
});

Deno.test("between the locks of queueing: disabled, so it is not queued", () => {
  const w = new World({ vcpus: 2 });
  w.enable(40);
  const hook = afterDrop(w, "irq", undefined, 1, () => w.disable(40));
  w.inject(40, true);
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[], []]);
  assert.ok(listEmpty(w.memory, w.vcpu(0).vgic.apListHead));
});

Deno.test("between the locks of queueing: somebody else queues it, and it is listed once", () => {
  const w = new World({ vcpus: 2 });
  w.setEdge(40);
  w.enable(40);
  const hook = afterDrop(w, "irq", undefined, 1, () => w.inject(40, true));
  w.inject(40, true);
  assert.ok(hook.done());
  assert.deepEqual(lists(w), [[40], []]);
  assert.deepEqual(w.serveAll(0), [40]);
});

/** A small generator of numbers below `n`: the same every run (LCG of Numerical Recipes). */
function random(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** Something that another CPU could do at any time. */
function disturb(w: World, next: (n: number) => number, injected: Map<number, number>): void {
  const intid = 40 + next(6);
  const kind = next(4);
  if (kind === 0) w.route(intid, next(3));
  else if (kind === 1) w.disable(intid);
  else if (kind === 2) w.enable(intid);
  else {
    injected.set(intid, (injected.get(intid) ?? 0) + 1);
    w.inject(intid, true);
  }
}

for (const lrs of [1, 4]) {
  Deno.test(`any interleaving: no edge is lost, none is doubled, no list is wrong (${lrs} list registers)`, () => {
    for (let seed = 1; seed <= 60; seed++) {
      const w = new World({ vcpus: 3, lrs });
      const next = random(seed);
      const injected = new Map<number, number>();
      const served = new Map<number, number>();
      const count = (intids: number[]): void => {
        for (const intid of intids) served.set(intid, (served.get(intid) ?? 0) + 1);
      };
      for (let i = 0; i < 6; i++) w.setEdge(40 + i);
      let nested = false;
      w.locks.schedulePoint = (event) => {
        if (event !== "drop" || nested || w.locks.heldCount > 0 || next(4) !== 0) return;
        nested = true;
        disturb(w, next, injected);
        nested = false;
      };
      for (let step = 0; step < 60; step++) {
        if (next(3) === 0) {
          const n = next(3);
          w.run(n, () => count(next(2) ? w.serve(n) : []));
        } else disturb(w, next, injected);
        checkLists(w);
      }
      w.locks.schedulePoint = undefined;
      for (let i = 0; i < 6; i++) {
        w.enable(40 + i);
        w.route(40 + i, i % 3);
      }
      for (let round = 0; round < 3; round++) {
        for (const n of [0, 1, 2]) count(w.serveAll(n));
      }
      for (let i = 0; i < 6; i++) {
        const raised = injected.get(40 + i) ?? 0;
        const taken = served.get(40 + i) ?? 0;
        assert.ok(raised === 0 ? taken === 0 : taken >= 1 && taken <= raised, `seed ${seed}`);
        assert.equal(w.irq(40 + i).pendingLatch, false);
      }
      assert.deepEqual(lists(w), [[], [], []]);
    }
  });
}
