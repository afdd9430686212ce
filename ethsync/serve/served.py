"""What a server answers from: states by root, and small storage tries encoded once for many requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import LocalProtocolError
from ethsync.kernels import rlp as kernel
from ethsync.state.columns import KEY_BYTES
from ethsync.state.node_tables import NodeTables
from ethsync.state.pages import PagePath
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.arrays import Ints
    from ethsync.state.columns import Leaves
    from ethsync.state.node_tables import NodePaths
    from ethsync.state.pages import Bundle
    from ethsync.state.view import StateView, StorageTrie

HEADS_SERVED = 128
"""States kept behind the head: geth serves the last 128 (triedb/pathdb/config.go)."""

CACHED_SETS = 64
"""Account pages whose small storage tries are kept encoded, some 30 KB each: requests go through them in order."""


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """A small storage trie as an element of StorageRanges. size: keys and values, as geth counts a reply's bytes."""

    payload: bytes
    slots: int
    size: int


class ServedState:
    """One state, ready to be served. Used from worker threads."""

    def __init__(self, view: StateView, tables: NodeTables) -> None:
        """`tables` are shared by all states, so that they are bounded together."""
        self.view = view
        self._tables = tables
        self._sets = lru_cache(CACHED_SETS)(self._encode_sets)
        self._prefix_bytes = (view.accounts.depth + 1) // 2
        self._odd = view.accounts.depth % 2 == 1

    def small_set(self, account: bytes) -> EncodedSet | None:
        """The whole storage of an account that shares a bundle, None if it does not."""
        prefix = account[: self._prefix_bytes]
        if self._odd:
            prefix = prefix[:-1] + bytes((prefix[-1] & 0xF0,))
        found = self._sets(prefix, self.view.accounts.depth)
        if found is None:  # keys are crowded here, so that pages have longer paths; or none has small storage
            path = self.view.bundle_path(account)
            found = None if path is None else self._sets(path.prefix, path.depth)
        return None if found is None else found.get(account)

    def nodes(self, account: bytes, trie: StorageTrie, paths: NodePaths) -> Iterator[bytes | None]:
        """Nodes of the storage of an account, of the account trie for none; see NodeTables."""
        return self._tables.nodes(self.view.state_root + account, trie, paths)

    def _encode_sets(self, prefix: bytes, depth: int) -> dict[bytes, EncodedSet] | None:
        bundle = self.view.bundle(PagePath(prefix.ljust(KEY_BYTES, b"\0"), depth))
        return None if bundle is None else _encode_bundle(bundle)


class ServedStates:
    """States by root, the newest last. A window of them is kept, as clients do."""

    def __init__(self, *views: StateView, window: int = HEADS_SERVED) -> None:
        self._window = window
        self._tables = NodeTables()
        self._states: dict[bytes, ServedState] = {}
        for view in views:
            self.add(view)

    def add(self, view: StateView) -> None:
        """Serve another state; the oldest is forgotten when there are more than the window allows."""
        self._states[view.state_root] = ServedState(view, self._tables)
        while len(self._states) > self._window:
            del self._states[next(iter(self._states))]

    def forget_root(self, root: bytes) -> None:
        """Answer like a client that does not have this state any more. A root that is not known is no error."""
        self._states.pop(root, None)

    def get(self, root: bytes) -> ServedState | None:
        """The state with a root, if it is served."""
        return self._states.get(root)

    def code(self, code_hash: bytes) -> bytes | None:
        """A bytecode of any of the states."""
        for state in reversed(self._states.values()):
            code = state.view.find_code(code_hash)
            if code is not None:
                return code
        return None


def write_pairs(leaves: Leaves, *, accounts: bool) -> memoryview:
    """The leaves as items of AccountRange (slim accounts) or of a set of StorageRanges (slots), one after another."""
    out = np.empty(int(leaves.lengths.sum()) + len(leaves) * kernel.PAIR_OVERHEAD, np.uint8)
    size = kernel.write_pairs(leaves.keys, leaves.buf, leaves.offsets, leaves.lengths, accounts, out)
    if size < 0:
        raise LocalProtocolError("stored leaves do not make a reply")
    return out[:size].data


def slot_sizes(leaves: Leaves) -> Ints:
    """Bytes of each slot as `write_pairs` writes it: (n,) int64."""
    bare = (leaves.lengths == 1) & (leaves.buf[leaves.offsets] < 0x80)
    payload = 33 + leaves.lengths + ~bare
    sizes: Ints = payload + np.where(payload < 56, 1, 2)
    return sizes


def _encode_bundle(bundle: Bundle) -> dict[bytes, EncodedSet]:
    pairs = write_pairs(bundle.leaves, accounts=False)
    starts = bundle.starts
    ends = np.concatenate([[0], np.cumsum(slot_sizes(bundle.leaves))])[starts].tolist()
    sizes = np.concatenate([[0], np.cumsum(bundle.leaves.lengths + KEY_BYTES)])[starts].tolist()
    firsts = starts.tolist()
    accounts = bundle.accounts.tobytes()
    found = {}
    for row in range(len(bundle)):
        first, last = ends[row], ends[row + 1]
        payload = rlp.list_prefix(last - first) + pairs[first:last]
        account = accounts[row * KEY_BYTES : (row + 1) * KEY_BYTES]
        found[account] = EncodedSet(payload, firsts[row + 1] - firsts[row], sizes[row + 1] - sizes[row])
    return found
