import assert from "node:assert/strict";
import type { VcpuHandle } from "../../src/kvm/api.ts";
import { FW_REG } from "../../src/kvm/guest.ts";
import { kvmHvcCallHandler } from "../../src/kvm/hypercalls.ts";
import { RET } from "../../src/kvm/kvm_host.ts";
import { SMCCC, TRNG } from "../../src/kvm/psci_numbers.ts";
import { makeRig, makeVm, type Rig, X } from "./kvm_rig.ts";

function initialised(rig: Rig = makeRig()): VcpuHandle {
  const vcpu = makeVm(rig, []).vcpus[0] as VcpuHandle;
  vcpu.init();
  return vcpu;
}

/** X0 to X3 after a call. */
function call(vcpu: VcpuHandle, fn: number, arg = 0n): bigint[] {
  vcpu.setOneReg(X(0), BigInt(fn));
  vcpu.setOneReg(X(1), arg);
  assert.equal(kvmHvcCallHandler(vcpu.vcpu), RET.GUEST);
  return [0, 1, 2, 3].map((n) => vcpu.getOneReg(X(n)));
}

const MINUS = (n: number): bigint => BigInt.asUintN(64, BigInt(-n));
const NOT_SUPPORTED = [MINUS(1), 0n, 0n, 0n];

Deno.test("hypercalls: mitigations are not required", () => {
  const vcpu = initialised();
  const features = (fn: number) => call(vcpu, SMCCC.ARCH_FEATURES, BigInt(fn))[0];
  assert.equal(features(SMCCC.ARCH_WORKAROUND_1), 1n);
  assert.equal(features(SMCCC.ARCH_WORKAROUND_2), MINUS(2));
  assert.equal(features(SMCCC.ARCH_WORKAROUND_3), 1n);
  assert.equal(features(SMCCC.HV_PV_TIME_FEATURES), 0n);
  assert.equal(features(0x8000_7ffe), MINUS(1));
});

Deno.test("hypercalls: random numbers as many bits as asked for, the same for the same VM", () => {
  const [first, second] = [initialised(), initialised()];
  assert.equal(call(first, TRNG.VERSION)[0], 0x1_0000n);
  assert.equal(call(first, TRNG.FEATURES, BigInt(TRNG.RND64))[0], 0n);
  assert.equal(call(first, TRNG.FEATURES, 0x8400_0054n)[0], MINUS(1));
  assert.deepEqual(call(first, TRNG.GET_UUID), [
    0x00e0_210dn,
    0xeb11_8443n,
    0x4452_7080n,
    0x4c5a_4e55n,
  ]);
  assert.deepEqual(call(first, TRNG.RND64, 193n), [MINUS(2), 0n, 0n, 0n]);
  assert.deepEqual(call(first, TRNG.RND32, 97n), [MINUS(2), 0n, 0n, 0n]);
  const numbers = call(first, TRNG.RND64, 192n);
  assert.equal(new Set(numbers).size, 4);
  assert.deepEqual(call(second, TRNG.RND64, 192n), numbers);
  assert.notDeepEqual(call(first, TRNG.RND64, 192n), numbers);
});

Deno.test("hypercalls: bits beyond those asked for are zero", () => {
  const vcpu = initialised();
  const seen = [0n, 0n, 0n, 0n];
  for (let i = 0; i < 64; i++) {
    call(vcpu, TRNG.RND64, 68n).forEach((value, n) => seen[n] = (seen[n] as bigint) | value);
  }
  assert.deepEqual(seen, [0n, 0n, 15n, 2n ** 64n - 1n]);
  const [status, high, middle, low] = call(vcpu, TRNG.RND32, 40n) as [
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  assert.deepEqual([status, high], [0n, 0n]);
  assert.ok(middle < 256n && low < 2n ** 32n);
});

Deno.test("hypercalls: what user space takes away is not there", () => {
  const vcpu = initialised();
  assert.equal(call(vcpu, SMCCC.VENDOR_HYP_UID)[0], 0xb66f_b428n);
  assert.equal(call(vcpu, SMCCC.VENDOR_HYP_FEATURES)[0], 3n);
  vcpu.setOneReg(FW_REG.STD_BMAP, 0n);
  vcpu.setOneReg(FW_REG.STD_HYP_BMAP, 0n);
  vcpu.setOneReg(FW_REG.VENDOR_HYP_BMAP, 1n);
  assert.equal(call(vcpu, SMCCC.VENDOR_HYP_FEATURES)[0], 1n);
  for (const fn of [TRNG.VERSION, TRNG.RND64, SMCCC.HV_PV_TIME_FEATURES, SMCCC.VENDOR_HYP_PTP]) {
    assert.deepEqual(call(vcpu, fn), NOT_SUPPORTED);
  }
  assert.equal(call(vcpu, SMCCC.ARCH_FEATURES, BigInt(SMCCC.HV_PV_TIME_FEATURES))[0], MINUS(1));
});

Deno.test("hypercalls: PTP gives the host's time with either counter", () => {
  const vcpu = initialised();
  const counter = (which: bigint) => {
    const [high, low, countHigh, countLow] = call(vcpu, SMCCC.VENDOR_HYP_PTP, which);
    const wide = (hi = 0n, lo = 0n) => (hi << 32n) | lo;
    return { real: wide(high, low), count: wide(countHigh, countLow) };
  };
  const { real, count } = counter(1n);
  assert.equal(new Date(Number(real / 1_000_000n)).getUTCFullYear(), 2024);
  const offset = BigInt(vcpu.vcpu.timers[1].cntvoff);
  assert.ok(counter(0n).count - (count - offset) < 1000n);
  assert.deepEqual(call(vcpu, SMCCC.VENDOR_HYP_PTP, 2n), NOT_SUPPORTED);
});
