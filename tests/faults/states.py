"""States to be served in tests, written into data directories as a finished sync leaves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ethsync.genesis import GenesisAccount
from ethsync.hashing import EMPTY_CODE_HASH, keccak256
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.networks import Network
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.page_writer import Batch, PageWriter
from ethsync.state.account import Account
from ethsync.state.columns import Leaves, join, leaves_of
from ethsync.state.pages import SMALL_TRIE, Bundle, PagePath, depth_for, encode_bundle
from ethsync.state.tries import root
from ethsync.state.view import StateView
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    FACT_DEPTH,
    FACT_PIVOT,
    FORMAT_VERSION,
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Format,
    Marker,
    TrieRecord,
    account_key,
    header_key,
)
from ethsync.wire import rlp
from ethsync.wire.headers import Header

KEY_SPACE = 1 << 256


@dataclass(frozen=True, slots=True)
class PlainAccount:
    """One account by the hash of its address. `storage` maps slot hashes to their values as the trie holds them."""

    key: bytes
    nonce: int = 0
    balance: int = 0
    storage: Mapping[bytes, bytes] = field(default_factory=dict)
    code: bytes = b""


def plain(account: GenesisAccount) -> PlainAccount:
    """An account of a genesis file, hashed as the state trie has it."""
    slots = {keccak256(slot.to_bytes(32, "big")): rlp.encode_int(value) for slot, value in account.storage.items()}
    return PlainAccount(keccak256(account.address), account.nonce, account.balance, slots, account.code)


def demo_head(state_root: bytes) -> Header:
    """A block of the demo network with this state."""
    return head_header(state_root, 1)


def format_of(network: Network) -> Format:
    """What a data directory says about the network it holds."""
    return Format(FORMAT_VERSION, network.name, network.chain_id, f"0x{network.genesis_hash.hex()}")


def write_state(
    path: Path,
    accounts: Sequence[PlainAccount],
    *,
    network: Network | None = None,
    head: Callable[[bytes], Header] = demo_head,
    depth: int | None = None,
) -> Header:
    """Write a whole state into a new data directory; `head` makes the header of its block from the state root."""
    accounts = sorted(accounts, key=lambda account: account.key)
    with open_datadir(path, format_of(network or demo_network())) as datadir:
        storage = {account.key: _sorted_slots(account) for account in accounts if account.storage}
        roots = {key: root(slots) for key, slots in storage.items()}
        slim = [_account(account, roots).slim() for account in accounts]
        leaves = leaves_of([account.key for account in accounts], slim, SLIM_ACCOUNT)
        batch = Batch(datadir.accounts)
        writer = PageWriter(batch, ACCOUNT_PAGE, TOP, depth_for(len(accounts)) if depth is None else depth)
        for place, first, last in writer.add(leaves):
            within = [account.key for account in accounts[first:last] if account.key in storage]
            _write_bundle(datadir, place, [key for key in within if len(storage[key]) <= SMALL_TRIE], storage, roots)
        for key, slots in storage.items():
            if len(slots) > SMALL_TRIE:
                _write_big(datadir, key, slots)
        for account in accounts:
            if account.code:
                datadir.codes.put(CODE + keccak256(account.code), account.code)
        key, value = Marker(0, KEY_SPACE, len(accounts), leaves.nbytes).encode()
        batch.put(MARKER + key, value)
        batch.write()
        found = writer.root()
        header = head(found)
        if header.state_root != found:
            raise AssertionError(f"the accounts give root {found.hex()}, the header says {header.state_root.hex()}")
        datadir.accounts.put(FACT_DEPTH, bytes([writer.depth]))
        datadir.headers.put(header_key(header.number), header.raw)
        datadir.accounts.put(FACT_PIVOT, header.raw)
    return header


def _sorted_slots(account: PlainAccount) -> Leaves:
    keys = sorted(account.storage)
    return leaves_of(keys, [account.storage[key] for key in keys])


def _account(account: PlainAccount, roots: Mapping[bytes, bytes]) -> Account:
    empty = Account(account.nonce, account.balance, leafless_root(), EMPTY_CODE_HASH)
    code_hash = keccak256(account.code) if account.code else EMPTY_CODE_HASH
    return replace(empty, storage_root=roots.get(account.key, empty.storage_root), code_hash=code_hash)


def leafless_root() -> bytes:
    """Root of a trie without leaves."""
    return root(leaves_of([], [], LEAF))


def _write_bundle(
    datadir: Datadir, place: PagePath, keys: list[bytes], storage: Mapping[bytes, Leaves], roots: Mapping[bytes, bytes]
) -> None:
    if not keys:
        return
    starts = np.cumsum([0, *(len(storage[key]) for key in keys)])
    bundle = Bundle(
        np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32),
        np.frombuffer(b"".join(roots[key] for key in keys), np.uint8).reshape(-1, 32),
        starts,
        join([storage[key] for key in keys]),
    )
    datadir.bundles.put(account_key(BUNDLE, place), encode_bundle(bundle, place.depth))


def _write_big(datadir: Datadir, key: bytes, slots: Leaves) -> None:
    batch = Batch(datadir.storage)
    writer = PageWriter(batch, STORAGE_PAGE + key, TOP + key, depth_for(len(slots)))
    writer.add(slots)
    datadir.ledger.put(RECORD + key, TrieRecord(writer.root(), writer.depth, True, writer.leaves, writer.size).encode())
    batch.write()


@contextmanager
def opened(path: Path) -> Iterator[StateView]:
    """The state in a data directory, for as long as the block lasts."""
    with open_datadir(path) as datadir:
        yield StateView(datadir)
