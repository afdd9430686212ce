"""Synchronous read access to the state in a data directory: values, ranges as columns, and proofs.

Nothing here is "zero because we do not have it": what is not held raises NotHeld, what the state does not contain is
None. All methods may be called from any thread. Keys are hashes: Keccak-256 of the address or of the slot number.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ethsync.errors import DatadirDamaged, MalformedMessage, NotHeld
from ethsync.hashing import EMPTY_CODE_HASH
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.account import Account, decode_slim
from ethsync.state.columns import ZERO_KEY, Leaves, no_leaves
from ethsync.state.paged import PagedTrie, SmallTrie
from ethsync.state.pages import Bundle, PagePath, decode_bundle, path_of
from ethsync.state.prover import path_nodes
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    FACT_DEPTH,
    FACT_PIVOT,
    HEADER,
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    account_key,
    decode_marker,
    decode_record,
)
from ethsync.store.unpaid import unpaid
from ethsync.wire import rlp
from ethsync.wire.headers import Header, decode_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ethsync.store.datadir import Datadir

StorageTrie: TypeAlias = "PagedTrie | SmallTrie"

CACHED_BUNDLES = 64
"""Decoded bundles kept: about 20 KB each, and requests go through them in account order."""

CACHED_TRIES = 16
"""Big contracts whose upper trie is kept: a peer splits a few at a time."""


@dataclass(frozen=True, slots=True)
class SlotProof:
    """One storage slot: its value (0 if it is not set) and the nodes that show it."""

    key: bytes
    value: int
    nodes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AccountProof:
    """An account (None if there is none), the nodes that show it under the state root, and slots of it.

    The shape of eth_getProof (EIP-1186), by hashed keys.
    """

    state_root: bytes
    key: bytes
    account: Account | None
    nodes: tuple[bytes, ...]
    slots: tuple[SlotProof, ...]


class StateView:
    """The state of the block that a data directory is about."""

    def __init__(self, datadir: Datadir) -> None:
        """Raises NotHeld if there is no state in it yet, DatadirDamaged."""
        self.datadir = datadir
        raw, depth = datadir.accounts.get(FACT_PIVOT), datadir.accounts.get(FACT_DEPTH)
        if raw is None or depth is None:
            raise NotHeld(f"{datadir.path} holds no state yet", hint="run `ethsync snap` into it first")
        if len(depth) != 1 or depth[0] > 64:
            raise DatadirDamaged(f"{datadir.path} says that its pages have an impossible depth")
        try:
            self.header: Header = decode_header(raw)
        except MalformedMessage as error:
            raise DatadirDamaged(f"{datadir.path} does not say which block it holds") from error
        self.accounts = PagedTrie(datadir.accounts, ACCOUNT_PAGE, TOP, depth[0], SLIM_ACCOUNT)
        self._held = _intervals(datadir)
        self._bundle = lru_cache(CACHED_BUNDLES)(self._load_bundle)
        self._big_trie = lru_cache(CACHED_TRIES)(self._load_big_trie)

    @property
    def state_root(self) -> bytes:
        """Root of the state, from the block's header."""
        return self.header.state_root

    def headers(self, known: Mapping[int, bytes]) -> Iterator[Header]:
        """The headers that stand alone in the data directory and are not `known` by number. Raises DatadirDamaged."""
        for key, raw in self.datadir.headers.scan(HEADER):
            if known.get(int.from_bytes(key, "big")) == raw:
                continue
            try:
                yield decode_header(raw)
            except MalformedMessage as error:
                raise DatadirDamaged(f"a header in {self.datadir.path} is damaged") from error

    def is_held(self, key: bytes) -> bool:
        """Whether the part of the account trie around a key is stored."""
        at = bisect_right(self._held, (int.from_bytes(key, "big"), 1 << 257)) - 1
        return at >= 0 and int.from_bytes(key, "big") < self._held[at][1]

    def is_complete(self) -> bool:
        """Whether every account is stored, and nothing is owed for any. Says nothing about whether it was verified."""
        return is_all_held(self.datadir)

    def account(self, key: bytes) -> Account | None:
        """The account with this address hash, None if the state has none. Raises NotHeld, DatadirDamaged."""
        value = self.accounts.value(key)
        if value is None and not self.is_held(key):
            raise NotHeld(f"accounts around 0x{key.hex()} are not downloaded yet")
        if value is None:
            return None
        try:
            return decode_slim(value)
        except MalformedMessage as error:
            raise DatadirDamaged(f"account 0x{key.hex()} is damaged") from error

    def storage_trie(self, account: bytes) -> StorageTrie | None:
        """The storage of an account as a trie to read and prove from; None if nothing is stored for it.

        None does not mean that it is empty: only the account itself says that (see `storage`).
        """
        small = self.small_storage(account)
        return SmallTrie(small) if small is not None else self._big_trie(account)

    def storage(self, account: bytes) -> StorageTrie:
        """The storage of an account, of one that does not exist too. Raises NotHeld, DatadirDamaged."""
        found = self.account(account)
        if found is None or not found.has_storage:
            return SmallTrie(no_leaves(LEAF))
        trie = self.storage_trie(account)
        if trie is None:
            raise NotHeld(f"the storage of account 0x{account.hex()} is not downloaded yet")
        return trie

    def slot(self, account: bytes, slot: bytes) -> int:
        """The value of a storage slot; 0 if it is not set. Raises NotHeld, DatadirDamaged."""
        return _slot_value(self.storage(account).value(slot))

    def code(self, code_hash: bytes) -> bytes:
        """Bytecode by its hash. Raises NotHeld."""
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self.find_code(code_hash)
        if code is None:
            raise NotHeld(f"the bytecode 0x{code_hash.hex()} is not downloaded")
        return code

    def find_code(self, code_hash: bytes) -> bytes | None:
        """Bytecode by its hash, None if it is not held."""
        return self.datadir.codes.get(CODE + code_hash)

    def account_blocks(self, origin: bytes = ZERO_KEY, end: bytes | None = None) -> Iterator[Leaves]:
        """Accounts with keys in [origin, end) as columns, in key order, about 1 MiB at a time; values in slim form.

        Raises NotHeld where the stored part ends.
        """
        at = int.from_bytes(origin, "big")
        stop = int.from_bytes(end, "big") if end is not None else 1 << 256
        for first, last in self._held:
            if first <= at < last:
                at = last
        if at < stop:
            raise NotHeld(f"accounts from 0x{at:064x} on are not downloaded yet")
        yield from self.accounts.blocks(origin, end)

    def storage_blocks(self, account: bytes, origin: bytes = ZERO_KEY, end: bytes | None = None) -> Iterator[Leaves]:
        """Slots of an account with keys in [origin, end) as columns; values are RLP. Raises NotHeld."""
        yield from self.storage(account).blocks(origin, end)

    def proof(self, account: bytes, slots: Sequence[bytes] = ()) -> AccountProof:
        """Prove an account and some of its slots, present or absent, as eth_getProof does. Raises NotHeld."""
        found = self.account(account)
        nodes = tuple(path_nodes(self.accounts, account))
        if not slots:
            return AccountProof(self.state_root, account, found, nodes, ())
        trie = self.storage(account)
        proven = tuple(SlotProof(key, _slot_value(trie.value(key)), tuple(path_nodes(trie, key))) for key in slots)
        return AccountProof(self.state_root, account, found, nodes, proven)

    def bundle_path(self, account: bytes) -> PagePath | None:
        """Path of the page under which an account would share a bundle; None if no page covers it."""
        usual = path_of(account, self.accounts.depth)
        return usual if self.bundle(usual) is not None else self.accounts.page_path(account)

    def bundle(self, path: PagePath) -> Bundle | None:
        """The bundle of small storage tries of an account page, None if it has none."""
        return self._bundle(path)

    def small_storage(self, account: bytes) -> Leaves | None:
        """The slots of an account that shares a bundle, None if it does not."""
        path = self.bundle_path(account)
        bundle = None if path is None else self.bundle(path)
        if bundle is None:
            return None
        rows = np.flatnonzero((bundle.accounts == np.frombuffer(account, np.uint8)).all(axis=1))
        if not len(rows):
            return None
        row = int(rows[0])
        return bundle.leaves[int(bundle.starts[row]) : int(bundle.starts[row + 1])]

    def _load_bundle(self, path: PagePath) -> Bundle | None:
        value = self.datadir.bundles.get(account_key(BUNDLE, path))
        return None if value is None else decode_bundle(path, value)

    def _load_big_trie(self, account: bytes) -> PagedTrie | None:
        record = self.datadir.ledger.get(RECORD + account)
        if record is None:
            return None
        found = decode_record(record)
        if not found.complete:
            return None
        return PagedTrie(self.datadir.storage, STORAGE_PAGE + account, TOP + account, found.depth, LEAF)


def is_all_held(datadir: Datadir) -> bool:
    """Whether every account is stored, and nothing is owed for any; a directory may hold nothing yet.

    Raises DatadirDamaged.
    """
    return _intervals(datadir) == [(0, 1 << 256)] and next(unpaid(datadir), None) is None


def _slot_value(value: bytes | None) -> int:
    if value is None:
        return 0
    try:
        return rlp.integer(value, 32)
    except MalformedMessage as error:
        raise DatadirDamaged("a storage slot is damaged") from error


def _intervals(datadir: Datadir) -> list[tuple[int, int]]:
    """The stored parts [first, end) of the account key space, merged, ascending."""
    found: list[tuple[int, int]] = []
    for marker in sorted(
        (decode_marker(key, value) for key, value in datadir.accounts.scan(MARKER)), key=lambda marker: marker.origin
    ):
        if found and marker.origin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], marker.end))
        else:
            found.append((marker.origin, marker.end))
    return found
