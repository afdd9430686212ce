"""Any state of moderate size, written into a data directory as a finished sync would have left it.

For genesis states and for tests: everything is in memory once, as Python objects (some 100,000 accounts at most).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirMismatch
from ethsync.genesis import genesis_header, genesis_state, network_from_genesis
from ethsync.hashing import EMPTY_CODE_HASH, keccak256
from ethsync.kernels.trie import SLIM_ACCOUNT
from ethsync.serve.page_writer import Batch, PageWriter
from ethsync.state.account import Account
from ethsync.state.columns import Leaves, leaves_of
from ethsync.state.pages import KEY_SPACE, SMALL_TRIE, Bundle, depth_for, encode_bundle
from ethsync.state.tries import root
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    FACT_DEPTH,
    FACT_PIVOT,
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ethsync.genesis import GenesisAccount, GenesisSource
    from ethsync.networks import Network
    from ethsync.store.datadir import Datadir
    from ethsync.wire.headers import Header


@dataclass(frozen=True, slots=True)
class StatedAccount:
    """One account: `key` is the hash of its address, `storage` maps hashes of slots to values, none of them zero."""

    key: bytes
    nonce: int = 0
    balance: int = 0
    storage: Mapping[bytes, int] = field(default_factory=dict)
    code: bytes = b""


def create_genesis_state(source: GenesisSource, path: Path) -> Header:
    """Write the state of a go-ethereum genesis JSON; return its header, which is the directory's block too.

    Raises ConfigError, DatadirBusy, DatadirMismatch if the directory holds a state already.
    """
    accounts = map(stated, genesis_state(source))
    return create_state(accounts, path, network_from_genesis(source), lambda found: genesis_header(source, found))


def stated(account: GenesisAccount) -> StatedAccount:
    """An account of a genesis file, under the hashes by which a state trie has it."""
    return StatedAccount(
        keccak256(account.address),
        account.nonce,
        account.balance,
        {keccak256(slot.to_bytes(32, "big")): value for slot, value in account.storage.items()},
        account.code,
    )


def create_state(
    accounts: Iterable[StatedAccount],
    path: Path,
    network: Network,
    header_of: Callable[[bytes], Header],
    *,
    depth: int | None = None,
) -> Header:
    """Write these accounts, in any order, and the header that `header_of` makes of the state root.

    `depth` of the account pages is that of a sync of so many accounts unless it is given.
    """
    held = Format.of(network.name, network.chain_id, network.genesis_hash)
    with open_datadir(path, held) as datadir:
        if datadir.accounts.get(FACT_DEPTH) is not None:
            raise DatadirMismatch(f"{path} holds a state already", hint="use another directory")
        return fill(datadir, accounts, network, header_of, depth=depth)


def fill(
    datadir: Datadir,
    accounts: Iterable[StatedAccount],
    network: Network,
    header_of: Callable[[bytes], Header],
    *,
    depth: int | None = None,
) -> Header:
    """As `create_state`, into databases that are open and hold no state."""
    ordered = sorted(accounts, key=lambda account: account.key)
    header = header_of(_write(datadir, ordered, depth_for(len(ordered)) if depth is None else depth))
    if network.genesis_header_raw is not None:
        datadir.headers.put(header_key(0), network.genesis_header_raw)
    datadir.headers.put(header_key(header.number), header.raw)
    datadir.accounts.put(FACT_PIVOT, header.raw, sync=True)
    return header


def _write(datadir: Datadir, ordered: list[StatedAccount], depth: int) -> bytes:
    """Write codes, storage and accounts; return the state root."""
    codes, accounts = Batch(datadir.codes), Batch(datadir.accounts)
    storage, ledger = Batch(datadir.storage), Batch(datadir.ledger)
    tries = [_slots(account) for account in ordered]
    roots = [root(leaves) if len(leaves) <= SMALL_TRIE else b"" for leaves in tries]
    for row, (account, leaves) in enumerate(zip(ordered, tries, strict=True)):
        if account.code:
            codes.put(CODE + keccak256(account.code), account.code)
        if not roots[row]:
            roots[row] = _write_big(storage, ledger, account.key, leaves)
    writer = PageWriter(accounts, ACCOUNT_PAGE, TOP, depth)
    values = [_slim(account, storage_root) for account, storage_root in zip(ordered, roots, strict=True)]
    places = writer.add(leaves_of([account.key for account in ordered], values, SLIM_ACCOUNT)) if ordered else []
    for place, first, last in places:
        small = [row for row in range(first, last) if 0 < len(tries[row]) <= SMALL_TRIE]
        if small:
            bundle = _bundle([(ordered[row].key, roots[row], tries[row]) for row in small])
            datadir.bundles.put(account_key(BUNDLE, place), encode_bundle(bundle, depth))
    key, value = Marker(0, KEY_SPACE, writer.leaves, writer.size).encode()
    accounts.put(MARKER + key, value)
    accounts.put(FACT_DEPTH, bytes([depth]))
    for batch in (codes, storage, accounts, ledger):
        batch.write()
    return writer.root()


def _slots(account: StatedAccount) -> Leaves:
    ordered = sorted(account.storage.items())
    return leaves_of([slot for slot, _ in ordered], [rlp.encode_int(value) for _, value in ordered])


def _slim(account: StatedAccount, storage_root: bytes) -> bytes:
    code_hash = keccak256(account.code) if account.code else EMPTY_CODE_HASH
    return Account(account.nonce, account.balance, storage_root, code_hash).slim()


def _write_big(storage: Batch, ledger: Batch, account: bytes, leaves: Leaves) -> bytes:
    depth = depth_for(len(leaves))
    writer = PageWriter(storage, STORAGE_PAGE + account, TOP + account, depth)
    writer.add(leaves)
    found = writer.root()
    ledger.put(RECORD + account, TrieRecord(found, depth, True, writer.leaves, writer.size).encode())
    return found


def _bundle(tries: list[tuple[bytes, bytes, Leaves]]) -> Bundle:
    keys = b"".join(key for key, _, _ in tries)
    roots = b"".join(found for _, found, _ in tries)
    rows = [(leaves.key(row), leaves.value(row)) for _, _, leaves in tries for row in range(len(leaves))]
    return Bundle(
        np.frombuffer(keys, np.uint8).reshape(-1, 32),
        np.frombuffer(roots, np.uint8).reshape(-1, 32),
        np.cumsum([0, *(len(leaves) for _, _, leaves in tries)]),
        leaves_of([slot for slot, _ in rows], [value for _, value in rows]),
    )
