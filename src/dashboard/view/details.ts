/** Everything about one row: all its columns, and what has no column. */
import type { Frame, FrameVcpu } from "../../vmm/frame.ts";
import { count, duration, hex, mebibytes, percent } from "../model/format.ts";
import { exitName, vcpuKey } from "../model/model.ts";
import { registerNames } from "../model/register_names.ts";
import { panelTable, type TablePanelId } from "../model/panels.ts";
import { pad } from "../terminal/glyph.ts";
import type { Line } from "./overlays.ts";
import { columnContext, type View } from "./screen.ts";

const row = (label: string, value: string): Line => [
  [pad(label, 22), "keyLabel"],
  [value, value === "0" || value === "-" ? "dim" : "text"],
];

/** kvm_stat's counters of a vCPU, and its exits by class. */
function vcpuExtras(frame: Frame, v: FrameVcpu): Line[] {
  const names = registerNames(frame.gic);
  const classes = v.byClass.flatMap((n, reason) =>
    n === 0 ? [] : [row(exitName(reason), count(n))]
  );
  return [
    [],
    [["Counters", "strong"]],
    row("instructions", count(v.insns)),
    row("translated", `${count(v.translatedInsns)}, ${percent(v.translatedInsns, v.insns)}`),
    row("exits", count(v.exits)),
    row("entries", count(v.entries)),
    row("hvc_exit_stat", count(v.hvc_exit_stat)),
    row("wfi_exit_stat", count(v.wfi_exit_stat)),
    row("wfe_exit_stat", count(v.wfe_exit_stat)),
    row("mmio_exit_user", count(v.mmio_exit_user)),
    row("mmio_exit_kernel", count(v.mmio_exit_kernel)),
    row("signal_exits", count(v.signal_exits)),
    row("halt_wakeup", count(v.halt_wakeup)),
    row("halt_wait", duration(v.halt_wait_ns)),
    [],
    [["Exits by class", "strong"]],
    row("IRQ", count(v.irqExits)),
    ...classes,
    [],
    [["Virtual CPU interface", "strong"]],
    row(names.hcr, hex(v.vgicHcr, 8)),
    row(names.vmcr, hex(v.vgicVmcr, 8)),
    row(names.misr, hex(v.misr, 2)),
    row(names.eisr, hex(v.eisr, 4)),
    row(names.elrsr, hex(v.elrsr, 4)),
    row(names.apr, hex(frame.gic === 2 ? v.ap0r : v.ap1r, 8)),
    row("running priority", hex(v.rpr, 2)),
  ];
}

/** What the engine has done since the start. */
function engineLines(f: Frame): Line[] {
  return [
    [],
    [["Translated code, the whole machine", "strong"]],
    row("instructions", count(f.insns)),
    row("translated", `${count(f.translatedInsns)}, ${percent(f.translatedInsns, f.insns)}`),
    row("regions in use", count(f.regions)),
    row("code cache", `${mebibytes(f.codeBytes)} of ${mebibytes(f.codeBytesMax)}`),
    row("modules made", count(f.regionModules)),
    row("regions evicted", count(f.regionsEvicted)),
    row("data TLB misses", count(f.dataMisses)),
    row("code TLB misses", count(f.codeMisses)),
  ];
}

/** What a world switch goes through, by kind, and what the locks saw. */
function machineExtras(view: View): Line[] {
  const { frame } = view.model;
  if (frame === undefined) return [];
  return [
    [],
    [["Operations at EL2, all switches", "strong"]],
    ...frame.el2Ops.map((op) => row(op.name, count(op.count))),
    [],
    [["Locks: taken, contended", "strong"]],
    ...frame.locks.map((l) =>
      row(l.name, `${count(l.acquisitions).padStart(6)}  ${count(l.contended)}`)
    ),
    ...engineLines(frame),
  ];
}

/** The lines of a row's details. */
export function detailLines(view: View, panel: TablePanelId, key: string, _width: number): Line[] {
  const context = columnContext(view);
  if (context === undefined) return [];
  const table = panelTable(panel, context, true);
  const at = Array.from({ length: table.count }, (_, i) => i).find((i) => table.key(i) === key);
  if (at === undefined) return [[["It is gone.", "text"]]];
  const columns = table.columns.map((c, i): Line => {
    const cell = table.cell(at, i);
    return [[pad(c.title, 22), "keyLabel"], [cell.text, cell.role]];
  });
  const vcpu = context.frame.vcpus.find((v) => vcpuKey(v) === key);
  if (panel === "vcpus" && vcpu !== undefined) {
    return [...columns, ...vcpuExtras(context.frame, vcpu)];
  }
  return panel === "worldSwitches" ? [...columns, ...machineExtras(view)] : columns;
}
