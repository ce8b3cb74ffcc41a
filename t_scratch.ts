import { Machine } from "./src/arm/machine.ts";
import { Host } from "./src/host/host.ts";
import { machineHardware } from "./src/host/machine_hardware.ts";
import { Arena } from "./src/base/arena.ts";
import { Locks } from "./src/base/lock.ts";
import { TraceRing } from "./src/trace/tracepoints.ts";
import { KvmSystem } from "./src/kvm/api.ts";
import g1 from "/tmp/ws/kg/g1.bin" with { type: "bytes" };

const pcpus = Number(Deno.args[0] ?? 1);
const machine = new Machine({ pcpus, ramSize: 128 << 20 });
for (let i = 0; i < pcpus; i++) machine.start(i, 2, 0, 0);
const hw = machineHardware(machine);
const ramPa = machine.ram.pa;
const kernelBytes = 16 << 20;
const arena = new Arena("kernel", machine.memory, machine.ram.at, machine.ram.at + kernelBytes);
const trace = new TraceRing(machine.memory, machine.observeArena, 4096);
const host = new Host({ hardware: hw, locks: new Locks(machine.memory, "deterministic"), trace, arena,
  pages: { start: ramPa + kernelBytes, end: ramPa + machine.ram.size, shuffle: 7 } });
host.boot();
machine.el2 = host;
const kvm = new KvmSystem(host, { observeArena: machine.observeArena });
const vm = kvm.createVm();
const pfns = Array.from({ length: 1024 }, () => host.pages.allocate());
vm.setUserMemoryRegion(0, 0x4000_0000, pfns);
for (let o = 0; o < g1.length; o += 4096) machine.writeRam(pfns[o / 4096]! * 4096, g1.subarray(o, o + 4096));
const vcpu = vm.createVcpu(0, (v, ret) => {
  const r = v.vcpu.run;
  console.log("exit", ret, r.exitReason, r.mmioPhysAddr.toString(16), r.mmioIsWrite, r.mmioData, r.systemEventType);
  if (r.exitReason === 6) { if (!r.mmioIsWrite) r.mmioData = 0x1234n; return true; }
  return false;
});
vm.createVgic(3);
vm.setVgicAttr(0, 2n, 0x0800_0000n);
vm.setVgicAttr(0, 3n, 0x080a_0000n);
vm.setVgicAttr(4, 0n, 0n);
vcpu.init();
vcpu.setOneReg(0x6030_0000_0010_0040n, 0x4000_0000n);
vcpu.run();
console.log(machine.run(10_000_000, 1e9), machine.nowNs, machine.insns);
for (let n = Math.max(0, trace.written - 4096); n < trace.written; n++) {
  const e = trace.read(n)!;
  if (n < 60 || n > trace.written - 10) console.log(e.timeNs, e.pcpu, e.name, e.text);
}
console.log(vcpu.vcpu.stat.exits, vcpu.vcpu.stat.hvc_exit_stat, vcpu.getOneReg(0x6030_0000_0010_0000n + 16n).toString(16));
