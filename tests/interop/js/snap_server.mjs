// A peer that serves snap/1 and eth/68, made of EthereumJS libraries: RLPx, ECIES, Snappy, RLP, tries and proofs that
// share no code with ethsync.
//
//   node --import ./loopback.mjs snap_server.mjs --genesis G.json [options]
//     --port N         TCP port; 0 takes a free one                    (0)
//     --key HEX32      node key
//     --blocks N       blocks on top of the genesis                    (0)
//     --withdrawals N  withdrawals per block                           (16)
//     --vm             run transactions as well: four per block, and some for accounts that are meant to be changed
//     --window N       serve the state of the newest N blocks only     (all)
//     --max-bytes N    largest reply                                   (2 MiB)
//     --delay MS       wait before every reply                         (0)
//     --fast           build the genesis tries bottom-up
//     --export FILE    write the blocks in go-ethereum's chain.rlp format
//     --log            report what happens on standard error
//
// Prints `READY {json}` when it listens. Reads commands from standard input and answers each with `OK {json}`:
//     head N                              make block N the newest one
//     fault drop|badproof|empty|cut [N]   spoil the next N snap answers
//     stats                               only answer
// Ends when standard input ends, so it never outlives the process that started it.
import { readFileSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { ETH, RLPx, SNAP } from '@ethereumjs/devp2p'
import { bigIntToUnpaddedBytes, bytesToHex, bytesToInt } from '@ethereumjs/util'
import { fromHex, toHex } from './bytes.mjs'
import { createGenesis, transactionChain, withdrawalChain } from './chain.mjs'
import { snapHandlers } from './snap.mjs'
import { buildGenesisState, flatten } from './state.mjs'

const { values: options } = parseArgs({
  options: {
    genesis: { type: 'string' },
    port: { type: 'string', default: '0' },
    key: { type: 'string', default: '46'.repeat(32) },
    blocks: { type: 'string', default: '0' },
    withdrawals: { type: 'string', default: '16' },
    vm: { type: 'boolean', default: false },
    window: { type: 'string', default: 'Infinity' },
    'max-bytes': { type: 'string', default: String(2 << 20) },
    delay: { type: 'string', default: '0' },
    fast: { type: 'boolean', default: false },
    export: { type: 'string' },
    log: { type: 'boolean', default: false },
  },
})
const log = (...words) => options.log && console.error(...words)

// ---- chain and state

const document = JSON.parse(readFileSync(options.genesis))
const genesisRoot = await buildGenesisState(document.alloc, { fast: options.fast })
const { common, genesis } = createGenesis(document, genesisRoot)
const extend = options.vm ? transactionChain : withdrawalChain
const [blocks, receipts] = await extend(
  common,
  genesis,
  Number(options.blocks),
  Number(options.withdrawals),
  document.alloc,
)
if (options.export) writeFileSync(options.export, Buffer.concat(blocks.slice(1).map((block) => block.serialize())))

const numberByHash = new Map(blocks.map((block, number) => [toHex(block.hash()), number]))
const numberByRoot = new Map(blocks.map((block, number) => [toHex(block.header.stateRoot), number]))
let head = blocks.length - 1

function stateAt(root) {
  const number = numberByRoot.get(toHex(root))
  const served = number !== undefined && number <= head && number > head - Number(options.window)
  return served ? flatten(root) : null
}

// ---- requests

const MAX_ANSWERS = 1024 // headers, bodies or receipts per reply, as in go-ethereum

function headers([id, [start, count, skip, reverse]]) {
  const found = []
  const step = (bytesToInt(skip) + 1) * (bytesToInt(reverse) ? -1 : 1)
  let number = start.length === 32 ? (numberByHash.get(toHex(start)) ?? -1) : bytesToInt(start)
  for (let left = Math.min(bytesToInt(count), MAX_ANSWERS); left > 0 && number >= 0 && number <= head; left--) {
    found.push(blocks[number].header.raw())
    number += step
  }
  return [id, found]
}

const known = (hashes) =>
  hashes
    .slice(0, MAX_ANSWERS)
    .map((hash) => numberByHash.get(toHex(hash)))
    .filter((number) => number !== undefined && number <= head)

const handlers = {
  eth: {
    0x03: [0x04, headers],
    0x05: [0x06, ([id, hashes]) => [id, known(hashes).map((number) => blocks[number].raw().slice(1))]],
    0x09: [0x0a, ([id]) => [id, []]],
    0x0f: [0x10, ([id, hashes]) => [id, known(hashes).map((number) => receipts[number])]],
  },
  snap: snapHandlers(stateAt, Number(options['max-bytes'])),
}

// ---- faults on demand

const fault = { kind: '', left: 0 }

const faults = {
  drop: () => null,
  empty: (reply) => [reply[0], ...reply.slice(1).map(() => [])],
  cut: (reply) => [reply[0], reply[1].slice(0, -1), ...reply.slice(2)],
  badproof: (reply) => {
    const blobs = reply[2]?.length ? reply[2] : reply[1]
    if (blobs[0] instanceof Uint8Array) {
      blobs[0] = Uint8Array.from(blobs[0])
      blobs[0][blobs[0].length - 1] ^= 1
    }
    return reply
  },
}

function spoil(reply) {
  if (!fault.left) return reply
  fault.left--
  return faults[fault.kind](reply)
}

// ---- network

const answered = {} // requests answered, by protocol and message code
const rlpx = new RLPx(fromHex(options.key), {
  capabilities: [ETH.eth68, SNAP.snap],
  common,
  maxPeers: 25,
  timeout: 30000,
  clientId: Buffer.from('ethsync-interop/0'),
  listenPort: Number(options.port) || null,
})
rlpx.events.on('error', (error) => log('rlpx:', error.message))
rlpx.events.on('peer:error', (_, error) => log('peer:', error.message))
rlpx.events.on('peer:removed', (_, reason, byUs) => log('peer removed: reason', reason, 'by us', byUs))

async function answer(protocol, name, code, payload) {
  const [replyCode, handler] = handlers[name][code]
  answered[`${name}/${code}`] = (answered[`${name}/${code}`] ?? 0) + 1
  const reply = await handler(payload)
  const sent = name === 'snap' ? spoil(reply) : reply
  if (Number(options.delay)) await new Promise((resolve) => setTimeout(resolve, Number(options.delay)))
  if (sent) protocol.sendMessage(replyCode, sent)
}

rlpx.events.on('peer:added', (peer) => {
  log('peer:', peer.getHelloMessage().clientId)
  for (const protocol of peer.getProtocols()) {
    const name = protocol.constructor.name.toLowerCase()
    let turn = Promise.resolve() // one request after another, as go-ethereum does
    protocol.events.on('message', (code, payload) => {
      if (!handlers[name]?.[code]) return
      turn = turn
        .then(() => answer(protocol, name, code, payload))
        .catch((error) => {
          log('handler:', name, code, error.stack)
          peer.disconnect(3)
        })
    })
    if (name === 'eth') {
      protocol.sendStatus({
        td: bigIntToUnpaddedBytes(genesis.header.difficulty),
        bestHash: blocks[head].hash(),
        genesisHash: genesis.hash(),
        latestBlock: bigIntToUnpaddedBytes(BigInt(head)),
      })
    }
  }
})

const describeHead = () => ({
  headNumber: head,
  headHash: bytesToHex(blocks[head].hash()),
  headStateRoot: bytesToHex(blocks[head].header.stateRoot),
  accounts: flatten(blocks[head].header.stateRoot).keys.length,
})

rlpx.events.once('listening', () => {
  const ready = {
    enode: `enode://${toHex(rlpx.id)}@127.0.0.1:${rlpx._server.address().port}`,
    chainId: Number(common.chainId()),
    genesisHash: bytesToHex(genesis.hash()),
    genesisStateRoot: bytesToHex(genesisRoot),
    ...describeHead(),
  }
  console.log('READY ' + JSON.stringify(ready))
})
rlpx.listen(Number(options.port), '127.0.0.1')

// ---- commands

const commands = {
  head: (number) => {
    head = Math.min(Number(number), blocks.length - 1)
  },
  fault: (kind, count = '1') => {
    if (!faults[kind]) throw new Error(`no such fault: ${kind}`)
    Object.assign(fault, { kind, left: Number(count) })
  },
  stats: () => {},
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [command, ...words] = line.trim().split(/\s+/)
    commands[command](...words)
    console.log('OK ' + JSON.stringify({ ...describeHead(), answered }))
  })
  .on('close', () => process.exit(0))
