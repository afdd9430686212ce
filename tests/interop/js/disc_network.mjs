// A network of discovery nodes on the loopback interface, whose protocols share no code with ethsync: discv4 of
// @ethereumjs/devp2p, or discv5 of @chainsafe/discv5. Node k knows node k - 1 and nobody else: who wants to find them
// all has to ask one after another.
//
//   node --import ./loopback.mjs disc_network.mjs v4|v5 COUNT [--fork-id HEX8]
//     --fork-id HEX8   every other discv5 node has an `eth` entry with this fork hash in its record
//
// Prints `READY {"nodes": [URL]}`, with enode URLs of discv4 and records of discv5. Reads commands from standard input
// and answers each with `OK {json}`:
//     tables        {"tables": [[URL]]}: whom each node knows
//     newcomer URL  {"known": [URL]}: start a node that knows only the one at this URL, and wait until it knows one more
//                   than there are nodes here
// Ends when standard input ends, so it never outlives the process that started it.
import { createHash } from 'node:crypto'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { keccak256 } from 'ethereum-cryptography/keccak.js'
import { secp256k1 } from 'ethereum-cryptography/secp256k1.js'
import { fromHex, toHex } from './bytes.mjs'

const HOST = '127.0.0.1'
const PATIENCE = 25_000 // ms for a newcomer to find everybody
const RARELY = 3_600_000 // ms: no lookups of their own
const OFTEN = 2_000 // ms: EthereumJS asks a tenth of those it knows ten times in this span

const { values: options, positionals } = parseArgs({
  options: { 'fork-id': { type: 'string' } },
  allowPositionals: true,
})
const [version, count] = [positionals[0], Number(positionals[1])]

const enodeUrl = (key, { udpPort, tcpPort }) => `enode://${toHex(key)}@${HOST}:${tcpPort}?discport=${udpPort}`

/**
 * The key of a node. Ids begin with 0 and 1 in turn: so the nodes that know each other have a distance of 256, which
 * discv5, where questions are for distances, asks about most often. Others a chain of single links might hide for long.
 */
function privateKey(number) {
  for (let attempt = 0; ; attempt++) {
    const key = new Uint8Array(createHash('sha256').update(`discovery ${number} ${attempt}`).digest())
    const id = keccak256(secp256k1.getPublicKey(key, false).subarray(1))
    if (id[0] >> 7 === number % 2) return key
  }
}

/** A UDP port that is free now. */
async function freePort() {
  const socket = dgram.createSocket('udp4').bind(0, HOST)
  await once(socket, 'listening')
  const { port } = socket.address()
  await new Promise((closed) => socket.close(closed))
  return port
}

async function discv4() {
  const { DPT } = await import('@ethereumjs/devp2p')
  const start = async (number, refreshInterval) => {
    const port = await freePort()
    const endpoint = { address: HOST, udpPort: port, tcpPort: port }
    const dpt = new DPT(privateKey(number), { endpoint, refreshInterval, timeout: 2_000 })
    dpt.events.on('error', (error) => console.error(`node ${number}: ${error.message}`))
    const listening = new Promise((ready) => dpt.events.once('listening', ready))
    dpt.bind(port, HOST)
    await listening
    return { dpt, endpoint, url: enodeUrl(dpt.id, endpoint) }
  }
  return {
    start: (number) => start(number, RARELY),
    introduce: (node, other) => node.dpt.addPeer(other.endpoint),
    // A node that is named to itself enters its own table.
    known: ({ dpt, url }) =>
      dpt
        .getPeers()
        .map((peer) => enodeUrl(peer.id, peer))
        .filter((known) => known !== url),
    async joined(number, url, isComplete) {
      const node = await start(number, OFTEN)
      const { port, searchParams } = new URL(url)
      await node.dpt.bootstrap({ address: HOST, udpPort: Number(searchParams.get('discport')), tcpPort: Number(port) })
      while (!isComplete(node)) await sleep(50)
      return node
    },
  }
}

async function discv5() {
  const { Discv5 } = await import('@chainsafe/discv5')
  const { SignableENR } = await import('@chainsafe/enr')
  const { multiaddr } = await import('@multiformats/multiaddr')
  const start = async (number) => {
    const port = await freePort()
    const raw = privateKey(number)
    const address = multiaddr(`/ip4/${HOST}/udp/${port}`)
    const enr = SignableENR.createV4(raw)
    enr.setLocationMultiaddr(address)
    enr.tcp = port
    if (options['fork-id'] && number % 2) enr.set('eth', [[fromHex(options['fork-id']), new Uint8Array()]])
    const node = Discv5.create({
      enr,
      privateKey: { type: 'secp256k1', raw },
      bindAddrs: { ip4: address },
      config: { enrUpdate: false },
    })
    await node.start()
    return { node, url: node.enr.encodeTxt() }
  }
  return {
    start,
    introduce: ({ node }, other) => {
      node.addEnr(other.url)
      return node.sendPing(node.getKadValue(other.node.enr.nodeId))
    },
    known: ({ node }) => node.kadValues().map((enr) => enr.encodeTxt()),
    async joined(number, url, isComplete) {
      const node = await start(number)
      node.node.addEnr(url)
      while (!isComplete(node)) await node.node.findRandomNode()
      return node
    },
  }
}

const protocol = await { v4: discv4, v5: discv5 }[version]()
const nodes = []
for (let number = 0; number < count; number++) {
  nodes.push(await protocol.start(number))
  if (number) await protocol.introduce(nodes[number], nodes[number - 1])
}
let newcomers = 0

const commands = {
  tables: () => ({ tables: nodes.map((node) => protocol.known(node)) }),
  newcomer: async (url) => {
    const isComplete = (node) => protocol.known(node).length > nodes.length // and the one that it began with
    const joined = protocol.joined(count + newcomers++, url, isComplete)
    const node = await Promise.race([joined, sleep(PATIENCE)])
    return { known: node ? protocol.known(node) : [] }
  },
}

console.log('READY ' + JSON.stringify({ nodes: nodes.map((node) => node.url) }))

createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const [command, ...words] = line.trim().split(/\s+/)
    console.log('OK ' + JSON.stringify(await commands[command](...words)))
  })
  .on('close', () => process.exit(0))
