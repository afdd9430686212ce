"""snap/1 requests → replies, with the limits and habits of geth (eth/protocols/snap/handlers.go).

Pure functions over a stored state, run in worker threads. Every habit that a client must cope with is kept: the one
key at or after the limit, no proof for storage that begins at zero and is not cut, sets of empty tries left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from ethsync.hashing import EMPTY_CODE_HASH
from ethsync.serve.served import write_pairs
from ethsync.state.columns import KEY_BYTES, MAX_KEY, ZERO_KEY
from ethsync.state.node_tables import read_compact_paths
from ethsync.state.prover import path_nodes
from ethsync.wire import rlp
from ethsync.wire.snap import (
    MAX_CODE_LOOKUPS,
    MAX_TRIE_NODE_LOOKUPS,
    SOFT_RESPONSE_LIMIT,
    GetAccountRange,
    GetByteCodes,
    GetStorageRanges,
    GetTrieNodes,
    SnapMessage,
    encode_account_range,
    encode_byte_codes,
    encode_storage_ranges,
    encode_trie_nodes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ethsync.serve.served import ServedState, ServedStates
    from ethsync.state.columns import Leaves
    from ethsync.state.prover import BranchSource
    from ethsync.state.view import StorageTrie
    from ethsync.wire.snap import SnapRequest

SLACK_DIVISOR = 10
"""A storage reply may be longer than asked for by a tenth before it is cut inside a trie (geth, stateLookupSlack)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An encoded reply. items: accounts, slots, codes or nodes in it; size: bytes of their keys and values."""

    message: SnapMessage
    payload: bytes
    items: int
    size: int


def account_range(states: ServedStates, request: GetAccountRange) -> Reply:
    """Accounts from the origin on, and the proof of both ends."""
    state = states.get(request.root)
    if state is None:
        return empty_reply(request)
    trie = state.view.accounts
    leaves = trie.read(request.origin, request.limit, min(request.response_bytes, SOFT_RESPONSE_LIMIT))
    proof = _range_proof(trie, request.origin, leaves)
    payload = encode_account_range(request.request_id, bytes(write_pairs(leaves, accounts=True)), proof)
    return Reply(SnapMessage.ACCOUNT_RANGE, payload, len(leaves), leaves_size(leaves))


def storage_ranges(states: ServedStates, request: GetStorageRanges) -> Reply:
    """Slots of the accounts asked for, whole tries as far as possible; a proof only for a part of a trie."""
    state = states.get(request.root)
    if state is None:
        return empty_reply(request)
    soft = min(request.response_bytes, SOFT_RESPONSE_LIMIT)
    hard = soft + soft // SLACK_DIVISOR
    origin, limit = request.origin or ZERO_KEY, request.limit or MAX_KEY
    sets: list[bytes] = []
    proof: list[bytes] = []
    items = size = 0
    for account in request.accounts:
        if size >= soft:
            break
        whole = state.small_set(account) if origin == ZERO_KEY and limit == MAX_KEY else None
        if whole is not None and size + whole.size < hard:
            sets.append(whole.payload)
            items, size = items + whole.slots, size + whole.size
            continue
        part, ends = _storage_part(state, account, origin, limit, hard - size)
        if len(part):
            pairs = write_pairs(part, accounts=False)
            sets += (rlp.list_prefix(len(pairs)), bytes(pairs))
            items, size = items + len(part), size + leaves_size(part)
        if ends is not None:
            proof = ends
            break
        origin, limit = ZERO_KEY, MAX_KEY
    payload = encode_storage_ranges(request.request_id, b"".join(sets), proof)
    return Reply(SnapMessage.STORAGE_RANGES, payload, items, size)


def _storage_part(
    state: ServedState, account: bytes, origin: bytes, limit: bytes, room: int
) -> tuple[Leaves, list[bytes] | None]:
    """One account's slots, until they fill the room, and the proof of their ends if one is due; it ends the reply."""
    trie = state.view.storage_trie(account) or state.view.storage(account)
    # geth stops before a slot once the reply has reached its limit; `read` stops after the one that exceeds it.
    leaves = trie.read(origin, limit, room - 1)
    cut = leaves_size(leaves) >= room and leaves.key(-1) < limit and _goes_on(trie, leaves.key(-1))
    return leaves, _range_proof(trie, origin, leaves) if cut or origin != ZERO_KEY else None


def _goes_on(trie: StorageTrie, key: bytes) -> bool:
    """Whether a trie has a leaf after a key that is not the last possible one."""
    following = (int.from_bytes(key, "big") + 1).to_bytes(KEY_BYTES, "big")
    return len(trie.read(following, following, 0)) > 0


def byte_codes(states: ServedStates, request: GetByteCodes) -> Reply:
    """Codes in the order asked for; unknown ones are left out, empty code is an empty item."""
    most = min(request.response_bytes, SOFT_RESPONSE_LIMIT)
    codes: list[bytes] = []
    size = 0
    for code_hash in request.hashes[:MAX_CODE_LOOKUPS]:
        code = b"" if code_hash == EMPTY_CODE_HASH else states.code(code_hash)
        if code is not None:
            codes.append(code)
            size += len(code)
        if size > most:
            break
    return Reply(SnapMessage.BYTE_CODES, encode_byte_codes(request.request_id, codes), len(codes), size)


def trie_nodes(states: ServedStates, request: GetTrieNodes) -> Reply:
    """Nodes in the order asked for.

    As in geth an empty item stands for a path that the trie does not have; nodes inside their parents and nodes of
    accounts that do not exist are left out.
    """
    state = states.get(request.root)
    if state is None:
        return empty_reply(request)
    most = min(request.response_bytes, SOFT_RESPONSE_LIMIT)
    nodes: list[bytes] = []
    size = 0
    lookups = 0
    for node in chain.from_iterable(_nodes_of(state, paths) for paths in _path_sets(request)):
        lookups += 1
        if node is None:
            continue
        nodes.append(node)
        size += len(node)
        if size > most or lookups >= MAX_TRIE_NODE_LOOKUPS:
            break
    return Reply(SnapMessage.TRIE_NODES, encode_trie_nodes(request.request_id, nodes), len(nodes), size)


def _path_sets(request: GetTrieNodes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Accounts and paths in their storage tries; paths in the account trie, under no account, as many as there are in
    one after another."""
    for single, sets in groupby(request.paths, lambda paths: len(paths) == 1):
        if single:
            yield b"", [path for (path,) in sets]
        else:
            yield from ((account.rjust(KEY_BYTES, b"\0")[-KEY_BYTES:], paths) for account, *paths in sets)


def _nodes_of(state: ServedState, paths: tuple[bytes, list[bytes]]) -> Iterator[bytes | None]:
    """The nodes of one trie; none for an account that does not exist."""
    account, encoded = paths
    if account and state.view.account(account) is None:
        return iter(())
    trie = state.view.storage(account) if account else state.view.accounts
    # What is beyond the limit of lookups would be read for nothing.
    return state.nodes(account, trie, read_compact_paths(encoded[:MAX_TRIE_NODE_LOOKUPS]))


def _range_proof(trie: BranchSource, origin: bytes, leaves: Leaves) -> list[bytes]:
    """Nodes on the paths to the origin and to the last leaf, each once, from the root down."""
    nodes = dict.fromkeys(path_nodes(trie, origin))
    if len(leaves):
        nodes.update(dict.fromkeys(path_nodes(trie, leaves.key(-1))))
    return list(nodes)


def leaves_size(leaves: Leaves) -> int:
    """Bytes of keys and values, which is what a reply's limit is about."""
    return leaves.nbytes


SERVICES: Mapping[type[SnapRequest], Callable[[ServedStates, Any], Reply]] = {
    GetAccountRange: account_range,
    GetStorageRanges: storage_ranges,
    GetByteCodes: byte_codes,
    GetTrieNodes: trie_nodes,
}

_EMPTY: Mapping[type[SnapRequest], tuple[SnapMessage, int]] = {
    GetAccountRange: (SnapMessage.ACCOUNT_RANGE, 2),
    GetStorageRanges: (SnapMessage.STORAGE_RANGES, 2),
    GetByteCodes: (SnapMessage.BYTE_CODES, 1),
    GetTrieNodes: (SnapMessage.TRIE_NODES, 1),
}
"""Reply to each request, and how many lists it has after the id."""


def serve(states: ServedStates, request: SnapRequest) -> Reply:
    """Answer one request. Raises DatadirDamaged, NotHeld for a state of which parts are missing."""
    return SERVICES[type(request)](states, request)


def empty_reply(request: SnapRequest) -> Reply:
    """What a client answers that does not have the state: lists without an element."""
    message, lists = _EMPTY[type(request)]
    payload = rlp.encode_list([rlp.encode_int(request.request_id), *[b"\xc0"] * lists])
    return Reply(message, payload, 0, 0)
