// The server's side of snap/1. Limits and stopping rules follow go-ethereum's eth/protocols/snap handlers.
import { createMerkleProof } from '@ethereumjs/mpt'
import { RLP } from '@ethereumjs/rlp'
import { bytesToBigInt, equalsBytes, setLengthLeft } from '@ethereumjs/util'
import { keccak256 } from 'ethereum-cryptography/keccak.js'
import { compare, EMPTY, fromCompact, isLeaf, MAX_HASH, toHex, ZERO_HASH } from './bytes.mjs'
import { codeOf, EMPTY_CODE, EMPTY_ROOT, flatten, rawNode } from './state.mjs'

const MAX_LOOKUPS = 1024 // codes or node path sets per request
const STORAGE_SLACK = 1.1 // a storage reply may exceed the byte limit by a tenth

/** Index of the first key that is not less than `key`. */
function lowerBound(keys, key) {
  let low = 0
  let high = keys.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (compare(keys[middle], key) < 0) low = middle + 1
    else high = middle
  }
  return low
}

function findAccount(state, hash) {
  const i = lowerBound(state.keys, hash)
  return i < state.keys.length && equalsBytes(state.keys[i], hash) ? RLP.decode(state.values[i]) : null
}

async function prove(trie, keys) {
  const nodes = new Map()
  for (const key of keys) {
    for (const node of await createMerkleProof(trie, key)) nodes.set(toHex(keccak256(node)), node)
  }
  return [...nodes.values()]
}

const bound = (bytes, absent) => (bytes.length === 0 ? absent : setLengthLeft(bytes, 32))

/** RLP of the node at a nibble path under a root; empty if there is none or if it is embedded in its parent. */
function nodeAt(root, path) {
  let raw = rawNode(root)
  if (!raw) return EMPTY
  let node = RLP.decode(raw)
  while (path.length) {
    let next
    if (node.length === 17) {
      next = node[path[0]]
      path = path.slice(1)
    } else {
      const shared = fromCompact(node[0])
      if (isLeaf(node) || path.length < shared.length || shared.some((nibble, i) => nibble !== path[i])) return EMPTY
      path = path.slice(shared.length)
      next = node[1]
    }
    if (Array.isArray(next)) {
      raw = EMPTY
      node = next
    } else {
      raw = next.length === 32 ? rawNode(next) : undefined
      if (!raw) return EMPTY
      node = RLP.decode(raw)
    }
  }
  return raw
}

/**
 * Handlers by request code, each [reply code, function]. `stateAt(root)` gives the state as `flatten` does, or null if
 * it is not served; `maxBytes` caps every reply.
 */
export function snapHandlers(stateAt, maxBytes) {
  const capped = (bytes) => Math.min(Number(bytesToBigInt(bytes)), maxBytes)

  async function accountRange([id, root, origin, limit, bytes]) {
    const state = stateAt(root)
    if (!state) return [id, [], []]
    const start = bound(origin, ZERO_HASH)
    const end = bound(limit, MAX_HASH)
    const accounts = []
    let size = 0
    let last = null
    for (let i = lowerBound(state.keys, start); i < state.keys.length; i++) {
      last = state.keys[i]
      const [nonce, balance, storageRoot, codeHash] = RLP.decode(state.values[i])
      const slim = [
        nonce,
        balance,
        equalsBytes(storageRoot, EMPTY_ROOT) ? EMPTY : storageRoot,
        equalsBytes(codeHash, EMPTY_CODE) ? EMPTY : codeHash,
      ]
      accounts.push([last, slim])
      size += 34 + slim.reduce((sum, field) => sum + 1 + field.length, 0)
      if (compare(last, end) >= 0 || size > capped(bytes)) break
    }
    return [id, accounts, await prove(state.trie, last ? [start, last] : [start])]
  }

  async function storageRanges([id, root, accounts, origin, limit, bytes]) {
    const state = stateAt(root)
    if (!state) return [id, [], []]
    const sets = []
    let size = 0
    for (let a = 0; a < accounts.length && size < capped(bytes); a++) {
      const start = a === 0 ? bound(origin, ZERO_HASH) : ZERO_HASH
      const end = a === 0 ? bound(limit, MAX_HASH) : MAX_HASH
      const { trie, keys, values } = flatten(findAccount(state, accounts[a])?.[2] ?? EMPTY_ROOT)
      const slots = []
      let last = null
      let cut = false
      for (let i = lowerBound(keys, start); i < keys.length; i++) {
        if (size >= capped(bytes) * STORAGE_SLACK) {
          cut = true
          break
        }
        last = keys[i]
        slots.push([last, values[i]])
        size += 32 + values[i].length
        if (compare(last, end) >= 0) {
          cut = i + 1 < keys.length
          break
        }
      }
      if (slots.length) sets.push(slots)
      if (!equalsBytes(start, ZERO_HASH) || (cut && slots.length)) {
        return [id, sets, await prove(trie, last ? [start, last] : [start])]
      }
    }
    return [id, sets, []]
  }

  function byteCodes([id, hashes, bytes]) {
    const found = []
    let size = 0
    for (const hash of hashes.slice(0, MAX_LOOKUPS)) {
      const code = equalsBytes(hash, EMPTY_CODE) ? EMPTY : codeOf(hash)
      if (code) found.push(code)
      size += code?.length ?? 0
      if (size > capped(bytes)) break
    }
    return [id, found]
  }

  function trieNodes([id, root, pathSets, bytes]) {
    const state = stateAt(root)
    if (!state) return [id, []]
    const nodes = []
    let size = 0
    for (const [first, ...storagePaths] of pathSets.slice(0, MAX_LOOKUPS)) {
      const trieRoot = storagePaths.length ? findAccount(state, first)?.[2] : root
      for (const path of storagePaths.length ? storagePaths : [first]) {
        if (!trieRoot || size > capped(bytes)) break
        nodes.push(nodeAt(trieRoot, fromCompact(path)))
        size += nodes.at(-1).length
      }
    }
    return [id, nodes]
  }

  return { 0: [1, accountRange], 2: [3, storageRanges], 4: [5, byteCodes], 6: [7, trieNodes] }
}
