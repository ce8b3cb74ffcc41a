/** Lists against arrays. */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  listAdd,
  listAddTail,
  listDel,
  listEmpty,
  listInit,
  listLength,
  listNext,
  listNode,
  listNodes,
  listPrev,
  listSort,
} from "../../src/base/list.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { layout, u32 } from "../../src/base/struct.ts";

const HEADS = [64, 72] as const;
const NODES = Array.from({ length: 8 }, (_, i) => 128 + 8 * i);

/** Two lists and the nodes that may be in them. */
class Model {
  readonly lists: number[][] = [[], []];
  listOf(node: number): number[] | undefined {
    return this.lists.find((list) => list.includes(node));
  }
}

class Real {
  readonly m = SharedMemory.create(4096);
  constructor() {
    for (const head of HEADS) listInit(this.m, head);
  }
}

function agree(model: Model, { m }: Real): void {
  HEADS.forEach((head, i) => {
    const expected = model.lists[i] ?? [];
    assert.deepEqual(listNodes(m, head), expected);
    assert.equal(listLength(m, head), expected.length);
    assert.equal(listEmpty(m, head), expected.length === 0);
    const ring = [head, ...expected];
    ring.forEach((node, n) => {
      assert.equal(listNext(m, node), ring[(n + 1) % ring.length]);
      assert.equal(listPrev(m, node), ring[(n + ring.length - 1) % ring.length]);
    });
  });
}

type Command = fc.Command<Model, Real>;

class Insert implements Command {
  constructor(readonly list: 0 | 1, readonly node: number, readonly tail: boolean) {}
  check(model: Model): boolean {
    return model.listOf(this.node) === undefined;
  }
  run(model: Model, real: Real): void {
    const list = model.lists[this.list] ?? [];
    if (this.tail) list.push(this.node);
    else list.unshift(this.node);
    (this.tail ? listAddTail : listAdd)(real.m, this.node, HEADS[this.list]);
    agree(model, real);
  }
  toString(): string {
    return `add ${this.node} to ${this.list} ${this.tail ? "last" : "first"}`;
  }
}

class Remove implements Command {
  constructor(readonly node: number) {}
  check(model: Model): boolean {
    return model.listOf(this.node) !== undefined;
  }
  run(model: Model, real: Real): void {
    const list = model.listOf(this.node) ?? [];
    list.splice(list.indexOf(this.node), 1);
    listDel(real.m, this.node);
    assert.deepEqual([listNext(real.m, this.node), listPrev(real.m, this.node)], [0, 0]);
    agree(model, real);
  }
  toString(): string {
    return `remove ${this.node}`;
  }
}

class Sort implements Command {
  constructor(readonly list: 0 | 1, readonly modulus: number) {}
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    // Many equal keys: the order among them must stay.
    const compare = (a: number, b: number) => (a / 8) % this.modulus - (b / 8) % this.modulus;
    model.lists[this.list]?.sort(compare);
    listSort(real.m, HEADS[this.list], compare);
    agree(model, real);
  }
  toString(): string {
    return `sort ${this.list} by modulus ${this.modulus}`;
  }
}

Deno.test("two lists behave as two arrays, over random commands", () => {
  const list = fc.constantFrom<(0 | 1)[]>(0, 1);
  const node = fc.constantFrom(...NODES);
  const commands = fc.commands([
    fc.tuple(list, node, fc.boolean()).map(([l, n, tail]) => new Insert(l, n, tail)),
    node.map((n) => new Remove(n)),
    fc.tuple(list, fc.constantFrom(1, 2, 3, 1000)).map(([l, modulus]) => new Sort(l, modulus)),
  ], { maxCommands: 60 });
  fc.assert(
    fc.property(
      commands,
      (cmds) => fc.modelRun(() => ({ model: new Model(), real: new Real() }), cmds),
    ),
    { numRuns: 200 },
  );
});

Deno.test("nodes may be removed while going through a list", () => {
  const { m } = new Real();
  for (const node of NODES) listAddTail(m, node, HEADS[0]);
  for (const node of listNodes(m, HEADS[0])) if (node % 16 === 0) listDel(m, node);
  assert.deepEqual(listNodes(m, HEADS[0]), NODES.filter((node) => node % 16 !== 0));
});

Deno.test("a node is a field of 8 bytes", () => {
  const Linked = layout("linked", { before: u32(), link: listNode(), after: u32() });
  assert.equal(Linked.offset.link, 8);
  assert.equal(Linked.offset.after, 16);
});
