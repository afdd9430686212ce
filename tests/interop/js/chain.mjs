// A valid post-merge chain on top of a genesis: with withdrawals only, or with transactions run by the VM.
import { createBlock, genWithdrawalsTrieRoot } from '@ethereumjs/block'
import { createCommonFromGethGenesis } from '@ethereumjs/common'
import { MerklePatriciaTrie } from '@ethereumjs/mpt'
import { RLP } from '@ethereumjs/rlp'
import { MerkleStateManager } from '@ethereumjs/statemanager'
import { createAccessList2930Tx, createFeeMarket1559Tx, createLegacyTx } from '@ethereumjs/tx'
import {
  Address,
  bigIntToUnpaddedBytes,
  bytesToBigInt,
  createAddressFromPrivateKey,
  createContractAddress,
  createWithdrawal,
  SHA256_NULL,
} from '@ethereumjs/util'
import { buildBlock, createVM, encodeReceipt } from '@ethereumjs/vm'
import { keccak256 } from 'ethereum-cryptography/keccak.js'
import { EMPTY, fromHex, toHex, ZERO_HASH } from './bytes.mjs'
import { EMPTY_CODE, EMPTY_ROOT, openTrie } from './state.mjs'

const GWEI = 10n ** 9n
const SECONDS_PER_SLOT = 12n

// go-ethereum's well-known test key; its address 0x71562b71… is funded by genesis.py.
const SENDER = fromHex('b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291')

const addressOf = (seed) => new Address(keccak256(Buffer.from(seed)).subarray(0, 20))
const word = (number) => number.toString(16).padStart(64, '0')

/** Create the rules of the chain and its genesis block. */
export function createGenesis(document, stateRoot) {
  const common = createCommonFromGethGenesis({ ...document, alloc: {} }, { chain: 'ethsync-interop' })
  common.setHardforkBy({ blockNumber: 0n, timestamp: BigInt(document.timestamp) })
  const shanghai = common.isActivatedEIP(4895)
  const header = {
    ...common.genesis(),
    number: 0,
    stateRoot,
    ...(shanghai ? { withdrawalsRoot: EMPTY_ROOT } : {}),
    ...(common.isActivatedEIP(7685) ? { requestsHash: SHA256_NULL } : {}),
  }
  const genesis = createBlock({ header, ...(shanghai ? { withdrawals: [] } : {}) }, { common, freeze: false })
  common.setForkHashes(genesis.hash())
  return { common, genesis }
}

const TRANSACTION_TYPES = [0, 2, 1, 2] // of the first ones of a block; the others are legacy ones

const withdrawalsOf = (number, count) =>
  [...Array(count).keys()].map((i) => ({
    index: BigInt((number - 1) * count + i),
    validatorIndex: BigInt(i),
    address: addressOf(`w${number}.${i}`),
    amount: BigInt(1 + i),
  }))

const headerAfter = (parent, common) => ({
  number: parent.header.number + 1n,
  parentHash: parent.hash(),
  timestamp: parent.header.timestamp + SECONDS_PER_SLOT,
  gasLimit: parent.header.gasLimit,
  difficulty: 0,
  baseFeePerGas: parent.header.calcNextBaseFee(),
  ...(common.isActivatedEIP(4844) ? { parentBeaconBlockRoot: ZERO_HASH } : {}),
})

/** Extend the genesis by `count` blocks with withdrawals only. Returns [blocks, receipts per block]. */
export async function withdrawalChain(common, genesis, count, withdrawals) {
  const blocks = [genesis]
  for (let number = 1; number <= count; number++) {
    const parent = blocks.at(-1)
    const paid = withdrawalsOf(number, withdrawals)
    const trie = openTrie(parent.header.stateRoot)
    for (const { address, amount } of paid) {
      const key = keccak256(address.bytes)
      const before = await trie.get(key)
      const [nonce, balance, root, code] = before ? RLP.decode(before) : [EMPTY, EMPTY, EMPTY_ROOT, EMPTY_CODE]
      const after = bigIntToUnpaddedBytes(bytesToBigInt(balance) + amount * GWEI)
      await trie.put(key, RLP.encode([nonce, after, root, code]))
    }
    const withdrawalsRoot = await genWithdrawalsTrieRoot(paid.map(createWithdrawal), new MerklePatriciaTrie())
    const header = {
      ...headerAfter(parent, common),
      stateRoot: trie.root(),
      withdrawalsRoot,
      ...(common.isActivatedEIP(4844) ? { excessBlobGas: 0n, blobGasUsed: 0n } : {}),
      ...(common.isActivatedEIP(7685) ? { requestsHash: SHA256_NULL } : {}),
    }
    blocks.push(createBlock({ header, withdrawals: paid }, { common, freeze: false }))
  }
  return [blocks, blocks.map(() => [])]
}

// Init code: fill slots 0-7, then deploy a contract that stores calldata[32:64] at slot calldata[0:32] and logs it.
const RUNTIME = '6020356000355560003560206000a100'
const INIT_CODE =
  '0x' +
  [...Array(8).keys()].map((slot) => `60${word(slot + 7).slice(-2)}60${word(slot).slice(-2)}55`).join('') +
  `6f${RUNTIME}60005260106010f3`

/** The accounts of a genesis that are meant to be changed: see genesis.py. Addresses in the order of the file. */
function changing(alloc) {
  const accounts = Object.entries(alloc)
  const withCode = (code) => accounts.filter(([, account]) => account.code?.startsWith('0x' + code))
  return {
    setters: withCode(RUNTIME).map(([address, { storage }]) => ({ address, slots: Object.keys(storage) })),
    mortals: withCode('33ff').map(([address]) => address),
    empty: accounts.filter(([, { balance, nonce, code }]) => !BigInt(balance) && !nonce && !code).map(([it]) => it),
  }
}

/** Calls that change what a genesis has for it, in block `number`: pairs of address and data. */
function changes({ setters, mortals, empty }, number) {
  const calls = []
  if (setters.length) {
    const [{ address, slots }, ...small] = setters
    const at = (place) => fromHex(slots[place % slots.length])
    const set = (slot, value) => calls.push([address, '0x' + toHex(slot).padStart(64, '0') + word(value)])
    set(at(3 * number), number) // overwritten
    set(at(3 * number + 1), 0) // cleared
    set(keccak256(Buffer.from(`slot ${number}`)), number) // new
    if (number <= small.length) calls.push([small[number - 1].address, '0x' + word(7) + word(0)]) // empty now
  }
  if (number <= mortals.length) calls.push([mortals[number - 1], '0x'])
  if (number <= empty.length) calls.push([empty[number - 1], '0x'])
  return calls.map(([address, data]) => ({ to: new Address(fromHex(address)), data }))
}

/**
 * Extend the genesis by `count` blocks of transactions: create, transfer, set a new slot, overwrite or clear; and what
 * changes accounts of the genesis that are meant to be changed.
 */
export async function transactionChain(common, genesis, count, withdrawals, alloc) {
  const trie = openTrie(genesis.header.stateRoot, true)
  const stateManager = new MerkleStateManager({ trie, common, prefixStorageTrieKeys: false })
  const vm = await createVM({ common, stateManager })
  const blocks = [genesis]
  const receipts = [[]]
  const contracts = []
  const meant = changing(alloc)
  const legacy = { gasLimit: 300000n, gasPrice: 10n * GWEI }
  const fees = { gasLimit: 300000n, maxFeePerGas: 10n * GWEI, maxPriorityFeePerGas: 1n, chainId: common.chainId() }
  const sign = (create, fields) => create(fields, { common }).sign(SENDER)
  let nonce = 0
  for (let number = 1; number <= count; number++) {
    const parentBlock = blocks.at(-1)
    const builder = await buildBlock(vm, {
      parentBlock,
      headerData: headerAfter(parentBlock, common),
      withdrawals: withdrawalsOf(number, withdrawals),
      blockOpts: { putBlockIntoBlockchain: false, common },
    })
    contracts.push(createContractAddress(createAddressFromPrivateKey(SENDER), BigInt(nonce)))
    const to = contracts[number >> 1]
    const setNew = '0x' + word(number * 1000) + word(number + 1)
    const overwrite = '0x' + word(number % 8) + word(number % 3 ? number : 0)
    await builder.addTransaction(sign(createLegacyTx, { nonce: nonce++, ...legacy, data: INIT_CODE }))
    const transfer = { nonce: nonce++, ...fees, to: addressOf('t' + number), value: 12345n }
    await builder.addTransaction(sign(createFeeMarket1559Tx, transfer))
    const accessList = { nonce: nonce++, ...legacy, chainId: common.chainId(), to, data: setNew }
    await builder.addTransaction(sign(createAccessList2930Tx, accessList))
    await builder.addTransaction(sign(createFeeMarket1559Tx, { nonce: nonce++, ...fees, to, data: overwrite }))
    for (const call of changes(meant, number)) {
      await builder.addTransaction(sign(createLegacyTx, { nonce: nonce++, ...legacy, ...call }))
    }
    const encoded = builder.transactionReceipts.map((receipt, i) => encodeReceipt(receipt, TRANSACTION_TYPES[i] ?? 0))
    blocks.push((await builder.build()).block)
    receipts.push(encoded.map((receipt) => (receipt[0] >= 0xc0 ? RLP.decode(receipt) : receipt)))
  }
  return [blocks, receipts]
}
