// Small helpers on byte strings and nibble paths, shared by the other modules.
import { bytesToHex, hexToBytes } from '@ethereumjs/util'

export const EMPTY = new Uint8Array()
export const ZERO_HASH = new Uint8Array(32)
export const MAX_HASH = new Uint8Array(32).fill(255)

export const toHex = (bytes) => bytesToHex(bytes).slice(2)

/** Bytes of a hexadecimal string, with or without 0x; an odd number of digits gets a leading zero. */
export function fromHex(text) {
  const digits = text.replace(/^0x/, '')
  return hexToBytes('0x' + (digits.length % 2 ? '0' : '') + digits)
}

export const compare = (left, right) => Buffer.compare(left, right)

export const nibblesOf = (bytes) => [...bytes].flatMap((byte) => [byte >> 4, byte & 15])

/** Hex-prefix encoding (Yellow Paper, appendix C). */
export function toCompact(nibbles, isLeaf) {
  const odd = nibbles.length & 1
  const encoded = [((isLeaf ? 2 : 0) + odd) << 4]
  if (odd) encoded[0] |= nibbles[0]
  for (let i = odd; i < nibbles.length; i += 2) encoded.push(nibbles[i] * 16 + nibbles[i + 1])
  return Uint8Array.from(encoded)
}

export function fromCompact(encoded) {
  const nibbles = nibblesOf(encoded)
  return nibbles.slice(nibbles[0] & 1 ? 1 : 2)
}

export const isLeaf = (node) => Boolean((node[0][0] >> 4) & 2)
