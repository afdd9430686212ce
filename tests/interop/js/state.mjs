// The state at every block, in one node database that all tries and roots share.
import { MerklePatriciaTrie } from '@ethereumjs/mpt'
import { RLP } from '@ethereumjs/rlp'
import {
  bigIntToUnpaddedBytes,
  equalsBytes,
  KECCAK256_NULL,
  KECCAK256_RLP,
  MapDB,
  setLengthLeft,
  unpadBytes,
  ValueEncoding,
} from '@ethereumjs/util'
import { keccak256 } from 'ethereum-cryptography/keccak.js'
import { compare, EMPTY, fromCompact, fromHex, isLeaf, nibblesOf, toCompact, toHex } from './bytes.mjs'

export const EMPTY_ROOT = KECCAK256_RLP
export const EMPTY_CODE = KECCAK256_NULL
const FLAT_TRIES = 4096 // tries kept as sorted leaves

const database = new MapDB()

export const openTrie = (root, useKeyHashing = false) =>
  new MerklePatriciaTrie({
    db: database,
    useKeyHashing,
    valueEncoding: ValueEncoding.Bytes,
    ...(root && !equalsBytes(root, EMPTY_ROOT) ? { root } : {}),
  })

/** RLP of the node with this hash, or undefined. */
export const rawNode = (hash) => database._database.get(toHex(hash))

// MerkleStateManager keeps codes under the byte 'c' and their hash; contracts made by the VM are found here as well.
const codeKey = (hash) => '63' + toHex(hash)
export const codeOf = (hash) => database._database.get(codeKey(hash))

/** Build a trie bottom-up from sorted keys: much faster than inserting one by one, and checked against it in tests. */
function buildFast(entries) {
  const paths = entries.map(([key]) => nibblesOf(key))
  const store = (node, isRoot) => {
    const raw = RLP.encode(node)
    if (raw.length < 32 && !isRoot) return node
    const hash = keccak256(raw)
    database._database.set(toHex(hash), raw)
    return hash
  }
  const subtrie = (from, to, depth) => {
    if (to - from === 1) return store([toCompact(paths[from].slice(depth), true), entries[from][1]], depth === 0)
    let fork = depth
    while (paths[from][fork] === paths[to - 1][fork]) fork++
    const branch = Array(17).fill(EMPTY)
    for (let first = from; first < to;) {
      let next = first
      while (next < to && paths[next][fork] === paths[first][fork]) next++
      branch[paths[first][fork]] = subtrie(first, next, fork + 1)
      first = next
    }
    const reference = store(branch, fork === 0)
    return fork > depth ? store([toCompact(paths[from].slice(depth, fork), false), reference], depth === 0) : reference
  }
  return subtrie(0, entries.length, 0)
}

async function build(entries, fast) {
  if (!entries.length) return EMPTY_ROOT
  entries.sort(([left], [right]) => compare(left, right))
  if (fast) return buildFast(entries)
  const trie = openTrie()
  for (const [key, value] of entries) await trie.put(key, value)
  return trie.root()
}

const storageEntries = (storage) =>
  Object.entries(storage)
    .map(([slot, value]) => [keccak256(setLengthLeft(fromHex(slot), 32)), unpadBytes(fromHex(value))])
    .filter(([, value]) => value.length)
    .map(([key, value]) => [key, RLP.encode(value)])

/** Put the accounts of a genesis `alloc` into the database and return the state root. */
export async function buildGenesisState(alloc, { fast }) {
  const entries = []
  for (const [address, account] of Object.entries(alloc)) {
    let codeHash = EMPTY_CODE
    if (account.code && account.code.length > 2) {
      const code = fromHex(account.code)
      codeHash = keccak256(code)
      database._database.set(codeKey(codeHash), code)
    }
    const nonce = bigIntToUnpaddedBytes(BigInt(account.nonce ?? 0))
    const balance = bigIntToUnpaddedBytes(BigInt(account.balance ?? 0))
    const storageRoot = await build(storageEntries(account.storage ?? {}), fast)
    entries.push([keccak256(fromHex(address)), RLP.encode([nonce, balance, storageRoot, codeHash])])
  }
  return build(entries, fast)
}

const flatTries = new Map() // least recently used first

/** The trie with this root as `{ root, trie, keys, values }`, sorted by key. */
export function flatten(root) {
  const id = toHex(root)
  const known = flatTries.get(id)
  flatTries.delete(id)
  const flat = known ?? { root, trie: openTrie(root), ...leavesUnder(root) }
  flatTries.set(id, flat)
  if (flatTries.size > FLAT_TRIES) flatTries.delete(flatTries.keys().next().value)
  return flat
}

const SHARED_DEPTH = 2 // nibbles
let subtries = new Map() // leaves under nodes at that depth: from block to block most stay as they are

function leavesUnder(root) {
  const keys = []
  const values = []
  const walk = (reference, path) => {
    if (path.length !== SHARED_DEPTH || Array.isArray(reference)) return walkNode(reference, path)
    const id = path.join() + toHex(reference)
    let known = subtries.get(id)
    if (!known) {
      const first = keys.length
      walkNode(reference, path)
      known = { keys: keys.slice(first), values: values.slice(first) }
      if (subtries.size > FLAT_TRIES * 16) subtries = new Map()
      subtries.set(id, known)
    } else {
      keys.push(...known.keys)
      values.push(...known.values)
    }
  }
  const walkNode = (reference, path) => {
    const node = Array.isArray(reference) ? reference : RLP.decode(rawNode(reference))
    if (node.length === 17) {
      for (let i = 0; i < 16; i++) if (node[i].length) walk(node[i], [...path, i])
      return
    }
    const deeper = [...path, ...fromCompact(node[0])]
    if (!isLeaf(node)) return walk(node[1], deeper)
    keys.push(Buffer.from(deeper.map((nibble) => nibble.toString(16)).join(''), 'hex'))
    values.push(node[1])
  }
  if (!equalsBytes(root, EMPTY_ROOT)) walk(root, [])
  return { keys, values }
}
