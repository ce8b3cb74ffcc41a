/** Each folder imports only from those above it in DESIGN's list, and some from fewer. */
import assert from "node:assert/strict";

const ROOT = new URL("../", import.meta.url);

/** Layers from the bottom up: the longest prefix of a file's path names its layer. */
const LAYERS = [
  "src/base/",
  "src/trace/",
  "src/arm/arch/",
  "src/arm/fp/",
  "src/arm/isa/",
  "src/arm/engine/",
  "src/arm/mmu/",
  "src/arm/gic/",
  "src/arm/",
  "src/host/",
  "src/kvm/",
  "src/vmm/",
  "src/dashboard/",
  "main.ts",
];

/** Narrower lists: files under the prefix may import only what starts with one of these. */
const NARROW: Readonly<Record<string, readonly string[]>> = {
  "src/kvm/": [
    "src/base/",
    "src/trace/",
    "src/arm/arch/",
    "src/arm/el2_port.ts",
    "src/host/",
    "src/kvm/",
  ],
  // User space knows KVM's API; the dashboard knows what user space makes of it.
  "src/vmm/": [
    "src/base/",
    "src/trace/",
    "src/arm/",
    "src/host/",
    "src/kvm/api.ts",
    "src/vmm/",
    "fixtures/guests/",
  ],
  "src/dashboard/": ["src/base/", "src/trace/", "src/arm/arch/", "src/vmm/", "src/dashboard/"],
  "src/kvm/hyp/": [
    "src/base/",
    "src/arm/arch/",
    "src/arm/el2_port.ts",
    "src/kvm/hyp/",
    "src/kvm/kvm_host.ts",
    "src/kvm/kvm_words.ts",
  ],
};

function layerOf(path: string): number {
  let best = -1;
  LAYERS.forEach((prefix, i) => {
    if (path.startsWith(prefix) && prefix.length > (LAYERS[best]?.length ?? 0)) best = i;
  });
  return best;
}

/** The narrowest list that holds for `path`. */
function narrowListOf(path: string): readonly string[] | undefined {
  const prefix =
    Object.keys(NARROW).filter((p) => path.startsWith(p)).sort((a, b) => b.length - a.length)[0];
  return prefix === undefined ? undefined : NARROW[prefix];
}

function* filesUnder(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(new URL(folder, ROOT))) {
    if (entry.isDirectory) yield* filesUnder(`${folder}${entry.name}/`);
    else if (entry.name.endsWith(".ts")) yield `${folder}${entry.name}`;
  }
}

/** Project-relative paths that a file imports at run time or for types. */
function importsOf(path: string): { target: string; typeOnly: boolean }[] {
  const text = Deno.readTextFileSync(new URL(path, ROOT));
  const pattern =
    /(?:import|export)\s+(type\s+)?[^;"']*?from\s*"(\.[^"]+)"|import\(\s*"(\.[^"]+)"/g;
  return [...text.matchAll(pattern)].map((m) => ({
    target: new URL(m[2] ?? m[3] ?? "", new URL(path, ROOT)).href.slice(ROOT.href.length),
    typeOnly: m[1] !== undefined,
  }));
}

/** Code at EL2 for hosts with VHE and for hosts without know nothing of each other. */
function crossesHypModes(path: string, target: string): boolean {
  const [vhe, nvhe] = ["src/kvm/hyp/vhe/", "src/kvm/hyp/nvhe/"] as const;
  return (path.startsWith(vhe) && target.startsWith(nvhe)) ||
    (path.startsWith(nvhe) && target.startsWith(vhe));
}

/** Why `path` may not import `target`, or undefined. */
function violation(path: string, target: string, typeOnly: boolean): string | undefined {
  const [from, to] = [layerOf(path), layerOf(target)];
  if (to > from && !target.endsWith(".json")) return `${path} imports upward: ${target}`;
  if (crossesHypModes(path, target)) {
    return `${path} is of one kind of host, ${target} of the other`;
  }
  const allowed = narrowListOf(path);
  if (!allowed || allowed.some((p) => target.startsWith(p))) return undefined;
  // HYP may name the types of host structures, never run host code.
  return typeOnly && path.startsWith("src/kvm/hyp/") && target.startsWith("src/kvm/")
    ? undefined
    : `${path} may not import ${target}`;
}

const readable = Deno.permissions.querySync({ name: "read", path: ROOT }).state === "granted";

Deno.test("imports go down the layers only", { ignore: !readable }, () => {
  const files = [...filesUnder("src/"), "main.ts"];
  assert.ok(files.length > 50);
  const wrong = files.flatMap((path) =>
    importsOf(path).map(({ target, typeOnly }) => violation(path, target, typeOnly))
  ).filter((v) => v !== undefined);
  assert.deepEqual(wrong, []);
});

Deno.test("the check of import directions can fail", () => {
  assert.ok(violation("src/kvm/arm.ts", "src/arm/mmu/mmu.ts", false));
  assert.ok(violation("src/kvm/hyp/tlb.ts", "src/host/host.ts", false));
  assert.ok(violation("src/kvm/hyp/nvhe/switch.ts", "src/host/host.ts", false));
  assert.ok(violation("src/kvm/hyp/nvhe/switch.ts", "src/kvm/hyp/vhe/tlb.ts", false));
  assert.ok(violation("src/kvm/hyp/nvhe/switch.ts", "src/trace/tracepoints.ts", false));
  assert.ok(violation("src/vmm/kvm_guest.ts", "src/kvm/vgic/vgic.ts", true));
  assert.ok(violation("src/dashboard/app.ts", "src/kvm/api.ts", true));
  assert.ok(violation("src/base/bits.ts", "src/arm/cpu.ts", true));
  assert.equal(violation("src/kvm/arm.ts", "src/arm/el2_port.ts", false), undefined);
});
