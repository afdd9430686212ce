// A client for our server: downloads the whole state of one block over snap/1 and verifies it with @ethereumjs/mpt.
//
//   node --import ./loopback.mjs verify_peer.mjs --genesis G.json --genesis-hash 0x… --enode enode://… --head 0x… --root 0x…
//     --bytes N   size asked for per reply, small enough to get many of them   (30000)
//
// Checks every account range and storage range against its proof, the roots of whole storage tries, every code hash, a
// few trie nodes, and the parent links of the headers below the head. Prints `VERIFIED {json}`, or fails.
import { readFileSync } from 'node:fs'
import { strict as assert } from 'node:assert'
import { parseArgs } from 'node:util'
import { createCommonFromGethGenesis } from '@ethereumjs/common'
import { ETH, RLPx, SNAP } from '@ethereumjs/devp2p'
import { MerklePatriciaTrie, verifyMerkleRangeProof } from '@ethereumjs/mpt'
import { RLP } from '@ethereumjs/rlp'
import { bytesToBigInt, bigIntToBytes, bytesToInt, intToUnpaddedBytes, setLengthLeft } from '@ethereumjs/util'
import { keccak256 } from 'ethereum-cryptography/keccak.js'
import { EMPTY, fromHex, MAX_HASH, toHex, ZERO_HASH } from './bytes.mjs'
import { EMPTY_CODE, EMPTY_ROOT } from './state.mjs'

const { values: options } = parseArgs({
  options: {
    genesis: { type: 'string' },
    'genesis-hash': { type: 'string' },
    enode: { type: 'string' },
    head: { type: 'string' },
    root: { type: 'string' },
    bytes: { type: 'string', default: '30000' },
  },
})
const TIMEOUT = 10_000 // ms, per request
const STORAGE_BATCH = 16 // accounts per storage request
const CODE_BATCH = 40 // hashes per code request

const genesisHash = fromHex(options['genesis-hash'])
const root = fromHex(options.root)
const bytes = intToUnpaddedBytes(Number(options.bytes))

// ---- connection

const document = JSON.parse(readFileSync(options.genesis))
const common = createCommonFromGethGenesis({ ...document, alloc: {} }, { chain: 'ethsync-interop' })
common.setForkHashes(genesisHash)
common.setHardforkBy({ blockNumber: 0n, timestamp: BigInt(document.timestamp) })

const [, id, address, port] = /^enode:\/\/([0-9a-f]{128})@([\d.]+):(\d+)/.exec(options.enode)
const rlpx = new RLPx(fromHex('13'.repeat(32)), {
  capabilities: [ETH.eth68, SNAP.snap],
  common,
  maxPeers: 5,
  timeout: 30000,
})
const connected = new Promise((resolve) => rlpx.events.once('peer:added', resolve))
await rlpx.connect({ id: fromHex(id), address, tcpPort: Number(port) })
const peer = await connected
peer._socket.setNoDelay(true)
const [eth, snap] = ['ETH', 'SNAP'].map((name) => peer.getProtocols().find((p) => p.constructor.name === name))

const status = new Promise((resolve) => eth.events.once('status', resolve))
eth.sendStatus({ td: new Uint8Array(), bestHash: genesisHash, genesisHash })
await status

const waiting = new Map()
function settle(payload) {
  const number = bytesToInt(payload[0])
  waiting.get(number)?.(payload)
  waiting.delete(number)
}
snap.events.on('message', (_, payload) => settle(payload))
eth.events.on('message', (code, payload) => code !== 0 && settle(payload))

let requests = 0
function ask(protocol, code, ...fields) {
  const number = ++requests
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer to message ${code}`)), TIMEOUT)
    waiting.set(number, (payload) => {
      clearTimeout(timer)
      resolve(payload)
    })
    protocol.sendMessage(code, [intToUnpaddedBytes(number), ...fields])
  })
}

// ---- verification

const after = (hash) => setLengthLeft(bigIntToBytes(bytesToBigInt(hash) + 1n), 32)

async function rootOf(entries) {
  const trie = new MerklePatriciaTrie()
  for (const [key, value] of entries) await trie.put(key, value)
  return toHex(trie.root())
}

const verifyRange = (expected, origin, entries, proof) =>
  verifyMerkleRangeProof(
    expected,
    origin,
    entries.length ? entries.at(-1)[0] : null,
    entries.map(([key]) => key),
    entries.map(([, value]) => value),
    proof,
  )

const fullAccount = ([nonce, balance, storageRoot, codeHash]) =>
  RLP.encode([nonce, balance, storageRoot.length ? storageRoot : EMPTY_ROOT, codeHash.length ? codeHash : EMPTY_CODE])

async function fetchAccounts() {
  const accounts = []
  let origin = ZERO_HASH
  for (let more = true; more;) {
    const [, slim, proof] = await ask(snap, 0, root, origin, MAX_HASH, bytes)
    const entries = slim.map(([hash, body]) => [hash, fullAccount(body)])
    more = await verifyRange(root, origin, entries, proof)
    accounts.push(...slim)
    if (more) origin = after(slim.at(-1)[0])
  }
  const whole = accounts.map(([hash, body]) => [hash, fullAccount(body)])
  assert.equal(await rootOf(whole), toHex(root), 'state root')
  return accounts
}

/** Fetch the rest of one storage trie whose first part came with a proof. Returns its number of slots. */
async function fetchLargeStorage(account, storageRoot, first, firstProof) {
  let slots = first.length
  let origin = ZERO_HASH
  let part = first
  let proof = firstProof
  while (await verifyRange(storageRoot, origin, part, proof)) {
    origin = after(part.at(-1)[0])
    const [, [next], nextProof] = await ask(snap, 2, root, [account], origin, MAX_HASH, bytes)
    part = next
    proof = nextProof
    slots += part.length
  }
  return slots
}

async function fetchStorage(accounts) {
  let slots = 0
  for (let done = 0; done < accounts.length;) {
    const batch = accounts.slice(done, done + STORAGE_BATCH)
    const hashes = batch.map(([hash]) => hash)
    const [, sets, proof] = await ask(snap, 2, root, hashes, EMPTY, EMPTY, bytes)
    assert.ok(sets.length, 'storage of an account that has some')
    for (const [i, set] of sets.entries()) {
      const [hash, [, , storageRoot]] = batch[i]
      if (i === sets.length - 1 && proof.length) {
        slots += await fetchLargeStorage(hash, storageRoot, set, proof)
      } else {
        assert.equal(await rootOf(set), toHex(storageRoot), 'storage root')
        slots += set.length
      }
    }
    done += sets.length
  }
  return slots
}

async function fetchCodes(accounts) {
  const wanted = new Set(accounts.map(([, body]) => toHex(body[3])))
  const left = [...wanted]
  while (left.length) {
    const batch = left.splice(0, CODE_BATCH)
    const [, codes] = await ask(snap, 4, batch.map(fromHex), bytes)
    assert.ok(codes.length, 'codes of accounts that have some')
    const received = new Set(codes.map((code) => toHex(keccak256(code))))
    left.push(...batch.filter((hash) => !received.has(hash)))
  }
  return wanted.size
}

async function checkTrieNodes(account) {
  const rootPath = Uint8Array.of(0)
  const paths = account ? [[rootPath], [account[0], rootPath]] : [[rootPath]]
  const [, nodes] = await ask(snap, 6, root, paths, bytes)
  assert.equal(toHex(keccak256(nodes[0])), toHex(root), 'root node')
  if (account) assert.equal(toHex(keccak256(nodes[1])), toHex(account[1][2]), 'storage root node')
  return nodes.length
}

async function checkHeaders() {
  const [, headers] = await ask(eth, 3, [fromHex(options.head), ...[1024, 0, 1].map(intToUnpaddedBytes)])
  let expected = fromHex(options.head)
  for (const header of headers) {
    assert.equal(toHex(keccak256(RLP.encode(header))), toHex(expected), 'header hash')
    expected = header[0]
  }
  assert.equal(toHex(headers[0][3]), toHex(root), 'state root of the head')
  return headers.length
}

const accounts = await fetchAccounts()
const contracts = accounts.filter(([, body]) => body[2].length)
const verified = {
  accounts: accounts.length,
  contracts: contracts.length,
  slots: await fetchStorage(contracts),
  codes: await fetchCodes(accounts.filter(([, body]) => body[3].length)),
  nodes: await checkTrieNodes(contracts[0]),
  headers: await checkHeaders(),
  requests,
}
console.log('VERIFIED ' + JSON.stringify(verified))
rlpx.destroy()
process.exit(0)
