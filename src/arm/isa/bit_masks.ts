/** The masks of logical immediates and bit-field instructions. Manual: DecodeBitMasks(). */

function ones(count: number): bigint {
  return (1n << BigInt(count)) - 1n;
}

function rotateRight(value: bigint, by: number, width: number): bigint {
  const amount = BigInt(by % width);
  return ((value >> amount) | (value << (BigInt(width) - amount))) & ones(width);
}

/**
 * The immediate of AND, ORR, EOR, ANDS: `N:immr:imms` as a value of 64 bits (`sf`) or 32; null
 * where the encoding is unallocated.
 */
export function logicalImmediate(
  sf: number,
  n: number,
  immr: number,
  imms: number,
): bigint | null {
  if (sf === 0 && n === 1) return null;
  const length = 31 - Math.clz32((n << 6) | (~imms & 0x3f));
  if (length < 1) return null;
  const size = 1 << length;
  const s = imms & (size - 1);
  if (s === size - 1) return null;
  const element = rotateRight(ones(s + 1), immr & (size - 1), size);
  let value = 0n;
  for (let at = 0; at < (sf ? 64 : 32); at += size) value |= element << BigInt(at);
  return value;
}

/** The bits of the result that BFM and UBFM take from the source rotated right by `immr`. */
export function bitfieldMask(sf: number, immr: number, imms: number): bigint {
  const width = sf ? 64 : 32;
  return imms >= immr ? ones(imms - immr + 1) : ones(imms + 1) << BigInt(width - immr);
}
