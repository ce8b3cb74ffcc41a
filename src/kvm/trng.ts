/**
 * Random numbers for guests by the firmware interface. Mirrors arch/arm64/kvm/trng.c.
 *
 * What differs: the entropy is the VM's own generator, whose state is part of the machine, so that the
 * same run gives the same numbers.
 */
import { vcpuGetRegLo } from "./emulate.ts";
import { type Kvm, RET, type Vcpu } from "./kvm_host.ts";
import { smcccSetRetval } from "./psci.ts";
import { TRNG, TRNG_MAX_BITS64, TRNG_RET, TRNG_VERSION_1_0 } from "./psci_numbers.ts";

/** arm_smc_trng_uuid, as four little-endian words. */
const UUID = [0x00e0_210d, 0xeb11_8443, 0x4452_7080, 0x4c5a_4e55] as const;

const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);

/** get_random_long: the next 64 bits of the VM's generator (splitmix64). */
function getRandomLong(kvm: Kvm): bigint {
  const { state } = kvm;
  state.randomState = wrap(state.randomState + 0x9e37_79b9_7f4a_7c15n);
  let z = state.randomState;
  z = wrap((z ^ (z >> 30n)) * 0xbf58_476d_1ce4_e5b9n);
  z = wrap((z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn);
  return z ^ (z >> 31n);
}

/** kvm_trng_do_rnd: as many bits as asked for, right-aligned over X1 (highest) to X3. */
function kvmTrngDoRnd(vcpu: Vcpu, size: 32 | 64): void {
  const bits = vcpuGetRegLo(vcpu, 1);
  if (bits > 3 * size) return smcccSetRetval(vcpu, TRNG_RET.INVALID_PARAMETER);
  let value = 0n;
  for (let at = 0; at < bits; at += 64) value |= getRandomLong(vcpu.kvm) << BigInt(at);
  value = BigInt.asUintN(Math.min(bits, TRNG_MAX_BITS64), value);
  const part = (n: number) => BigInt.asUintN(size, value >> BigInt(n * size));
  smcccSetRetval(vcpu, TRNG_RET.SUCCESS, part(2), part(1), part(0));
}

/** kvm_trng_call. */
export function kvmTrngCall(vcpu: Vcpu): number {
  switch (vcpuGetRegLo(vcpu, 0)) {
    case TRNG.VERSION:
      smcccSetRetval(vcpu, TRNG_VERSION_1_0);
      break;
    case TRNG.FEATURES: {
      const has = Object.values<number>(TRNG).includes(vcpuGetRegLo(vcpu, 1));
      smcccSetRetval(vcpu, has ? TRNG_RET.SUCCESS : TRNG_RET.NOT_SUPPORTED);
      break;
    }
    case TRNG.GET_UUID:
      smcccSetRetval(vcpu, ...UUID);
      break;
    case TRNG.RND32:
      kvmTrngDoRnd(vcpu, 32);
      break;
    case TRNG.RND64:
      kvmTrngDoRnd(vcpu, 64);
      break;
  }
  return RET.GUEST;
}
