/**
 * `--dtb`: a device tree of the user's instead of the machine's own. As on QEMU, what only this run
 * knows is filled in: memory, command line, where the initrd lies.
 */
import { UserError } from "../base/errors.ts";
import type { AddressRange } from "./boot_plan.ts";
import { cells, cells64, type FdtNode, node, readCells, readFdt, text, writeFdt } from "./fdt.ts";

/** What this run adds. */
export interface DtbAdditions {
  readonly ram: { readonly base: number; readonly size: number };
  /** Empty: the tree's own stays. */
  readonly bootargs: string;
  readonly initrd: AddressRange | undefined;
}

/** The finished blob. UserError, in one line, for a damaged one. */
export function completeDtb(blob: Uint8Array, { ram, bootargs, initrd }: DtbAdditions): Uint8Array {
  const tree = readFdt(blob);
  const { root } = tree;
  root.children = root.children.filter((child) => !isMemory(child));
  root.children.push(node(`memory@${ram.base.toString(16)}`, {
    reg: new Uint8Array([...addressOf(root, ram.base), ...sizeOf(root, ram.size)]),
    device_type: text("memory"),
  }));
  const chosen = chosenOf(root);
  if (bootargs !== "") chosen.properties.set("bootargs", text(bootargs));
  if (initrd !== undefined) {
    chosen.properties.set("linux,initrd-start", cells64(initrd.start));
    chosen.properties.set("linux,initrd-end", cells64(initrd.end));
  }
  return writeFdt(tree);
}

function isMemory({ name }: FdtNode): boolean {
  return name === "memory" || name.startsWith("memory@");
}

function chosenOf(root: FdtNode): FdtNode {
  const found = root.children.find(({ name }) => name === "chosen");
  if (found !== undefined) return found;
  const chosen = node("chosen", {});
  root.children.push(chosen);
  return chosen;
}

function cellsProperty(root: FdtNode, name: string, otherwise: number): number {
  const value = root.properties.get(name);
  const [count] = value === undefined ? [otherwise] : readCells(value);
  if (count === 1 || count === 2) return count;
  throw new UserError(`device tree: ${name} of the root is ${count}, not 1 or 2`);
}

function numberIn(count: number, value: number): Uint8Array {
  if (count === 1 && value >= 2 ** 32) {
    throw new UserError("device tree: memory does not fit one cell");
  }
  return count === 1 ? cells(value) : cells64(value);
}

function addressOf(root: FdtNode, value: number): Uint8Array {
  return numberIn(cellsProperty(root, "#address-cells", 2), value);
}

function sizeOf(root: FdtNode, value: number): Uint8Array {
  return numberIn(cellsProperty(root, "#size-cells", 1), value);
}
