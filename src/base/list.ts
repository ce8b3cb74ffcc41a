/**
 * Intrusive doubly linked lists over the shared memory, after the kernel's `list_head`: a node is two
 * 32-bit addresses (next, previous) inside the structure it links; a head is a node of its own. All
 * functions take addresses of nodes.
 */
import type { SharedMemory } from "./memory.ts";
import { type ArrayAddress, type Field, space } from "./struct.ts";

/** A layout field that holds one list node or head (8 bytes). */
export const listNode = (): Field<ArrayAddress> => space(8);

/** Makes `head` an empty list. */
export function listInit(m: SharedMemory, head: number): void {
  m.st32(head, head);
  m.st32(head + 4, head);
}

/** The node after `node`, or the head itself at the end. */
export function listNext(m: SharedMemory, node: number): number {
  return m.ld32(node);
}

/** The node before `node`, or the head itself at the start. */
export function listPrev(m: SharedMemory, node: number): number {
  return m.ld32(node + 4);
}

export function listEmpty(m: SharedMemory, head: number): boolean {
  return m.ld32(head) === head;
}

function link(m: SharedMemory, node: number, before: number, after: number): void {
  m.st32(node, after);
  m.st32(node + 4, before);
  m.st32(before, node);
  m.st32(after + 4, node);
}

/** Puts `node` first. */
export function listAdd(m: SharedMemory, node: number, head: number): void {
  link(m, node, head, m.ld32(head));
}

/** Puts `node` last. */
export function listAddTail(m: SharedMemory, node: number, head: number): void {
  link(m, node, m.ld32(head + 4), head);
}

/** Takes `node` out of the list it is in and clears its links. */
export function listDel(m: SharedMemory, node: number): void {
  const next = m.ld32(node);
  const prev = m.ld32(node + 4);
  m.st32(prev, next);
  m.st32(next + 4, prev);
  m.st32(node, 0);
  m.st32(node + 4, 0);
}

/** The nodes in order, as an array: safe to change the list while going through it. */
export function listNodes(m: SharedMemory, head: number): number[] {
  const nodes: number[] = [];
  for (let at = m.ld32(head); at !== head; at = m.ld32(at)) nodes.push(at);
  return nodes;
}

export function listLength(m: SharedMemory, head: number): number {
  let n = 0;
  for (let at = m.ld32(head); at !== head; at = m.ld32(at)) n++;
  return n;
}

/**
 * A stable insertion sort of the list by `compare` on node addresses, after `list_sort`. Lists here
 * are short (interrupts in flight), and mostly sorted already.
 */
export function listSort(
  m: SharedMemory,
  head: number,
  compare: (a: number, b: number) => number,
): void {
  let at = m.ld32(m.ld32(head));
  while (at !== head) {
    const next = m.ld32(at);
    let before = m.ld32(at + 4);
    if (before !== head && compare(before, at) > 0) {
      listDel(m, at);
      while (before !== head && compare(before, at) > 0) before = m.ld32(before + 4);
      link(m, at, before, m.ld32(before));
    }
    at = next;
  }
}
