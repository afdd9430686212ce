"""What a lying peer does to an honest reply. Each is a function (states, request, reply) → reply.

They are aimed: a reply too small for a lie to matter comes back unchanged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ethsync.hashing import keccak256
from ethsync.state.columns import MAX_KEY, ZERO_KEY
from ethsync.state.prover import path_nodes
from ethsync.wire.snap import MAX_PROOF_NODES, AccountRange, ByteCodes, GetStorageRanges, StorageRanges

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.serve.served import ServedStates
    from ethsync.state.prover import BranchSource
    from ethsync.wire.snap import SnapReply, SnapRequest

Lie: TypeAlias = "Callable[[ServedStates, SnapRequest, SnapReply], SnapReply]"
Pairs: TypeAlias = tuple[tuple[bytes, bytes], ...]

EXTRA_PATHS = 8
"""Paths in a bloated proof: enough to be noticed, and under the 128 nodes that peers accept."""


def _on_leaves(change: Callable[[Pairs], Pairs]) -> Lie:
    """A lie about leaves: of an account range, or of the largest set of a storage reply."""

    def lie(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
        if isinstance(reply, AccountRange):
            return replace(reply, accounts=change(reply.accounts))
        if isinstance(reply, StorageRanges) and reply.slots:
            largest = max(range(len(reply.slots)), key=lambda k: len(reply.slots[k]))
            changed = change(reply.slots[largest])
            return replace(reply, slots=(*reply.slots[:largest], changed, *reply.slots[largest + 1 :]))
        return reply

    return lie


def _on_proof(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Lie:
    """A lie about the proof of a range."""

    def lie(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
        return replace(reply, proof=change(reply.proof)) if isinstance(reply, AccountRange | StorageRanges) else reply

    return lie


def _on_codes(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Lie:
    """A lie about bytecodes."""

    def lie(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
        return replace(reply, codes=change(reply.codes)) if isinstance(reply, ByteCodes) else reply

    return lie


def _flipped(data: bytes) -> bytes:
    """The same length with one bit of the last byte changed."""
    return data[:-1] + bytes((data[-1] ^ 1,)) if data else b"\x01"


def _without_middle(items: Pairs) -> Pairs:
    """Leave out one that is neither the first nor the last."""
    return items[: len(items) // 2] + items[len(items) // 2 + 1 :] if len(items) > 2 else items


def _swapped(items: Pairs) -> Pairs:
    middle = len(items) // 2
    return (*items[: middle - 1], items[middle], items[middle - 1], *items[middle + 1 :]) if len(items) > 1 else items


def _twice(items: Pairs) -> Pairs:
    middle = len(items) // 2
    return items[: middle + 1] + items[middle:]


def _with_other_key(items: Pairs) -> Pairs:
    middle = len(items) // 2
    if not items:
        return items
    key, value = items[middle]
    return (*items[:middle], (_flipped(key), value), *items[middle + 1 :])


def _with_other_value(items: Pairs) -> Pairs:
    """Change a value so that it stays canonical: take over that of another leaf, or flip a bit."""
    middle = len(items) // 2
    if not items:
        return items
    key, value = items[middle]
    other = next((candidate for _, candidate in items if candidate != value), None) or _flipped(value)
    return (*items[:middle], (key, other), *items[middle + 1 :])


gap = _on_leaves(_without_middle)
truncated = _on_leaves(lambda items: items[:-1])
"""The last leaf is left out, which the proof was made for. That leaves a true claim about fewer leaves, if the proof
still shows what follows; of a whole trie without a proof it makes a lie."""


def interrupted(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """What a geth sends whose iterator fails because a block is imported: what it has so far, as if that were all.

    No account with the proof of the origin; of storage asked for whole, a part of one set and no proof; of a range of
    it that begins elsewhere, no slot with the proof of its origin.
    """
    if isinstance(reply, AccountRange):
        return replace(reply, accounts=())
    if isinstance(reply, StorageRanges) and isinstance(request, GetStorageRanges):
        if request.origin not in (b"", ZERO_KEY):
            return replace(reply, slots=())
        if not reply.proof:
            return _on_leaves(lambda items: items[: len(items) // 2] or items)(states, request, reply)
    return reply


reordered = _on_leaves(_swapped)
duplicated = _on_leaves(_twice)
changed_key = _on_leaves(_with_other_key)
changed_value = _on_leaves(_with_other_value)

missing_proof_node = _on_proof(lambda nodes: nodes[1:])
"""Without the root node, which every proof needs."""
corrupt_proof = _on_proof(lambda nodes: (*nodes[:1], *map(_flipped, nodes[1:])))
"""The root is right, and none of the nodes below it."""
reversed_proof = _on_proof(lambda nodes: nodes[::-1])
"""Not a lie: the order of proof nodes means nothing."""
no_proof = _on_proof(lambda nodes: ())

wrong_code = _on_codes(lambda codes: (*codes[:-1], _flipped(codes[-1])) if codes else codes)
missing_codes = _on_codes(lambda codes: codes[1::2])
"""Not a lie: unknown codes may be left out."""
reordered_codes = _on_codes(lambda codes: codes[::-1])
unasked_code = _on_codes(lambda codes: (*codes, b"\x5b nobody asked for this"))


def _proven_trie(states: ServedStates, request: SnapRequest, reply: SnapReply) -> BranchSource | None:
    """The trie that a reply's proof is about."""
    state = states.get(request.root) if hasattr(request, "root") else None
    if state is None or not isinstance(reply, AccountRange | StorageRanges):
        return None
    if isinstance(reply, AccountRange):
        return state.view.accounts
    if not reply.slots or not isinstance(request, GetStorageRanges):
        return None
    return state.view.storage(request.accounts[len(reply.slots) - 1])


def bloated_proof(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """Add nodes on paths that nobody asked about. Not a lie: extra nodes are harmless, and geth accepts them."""
    trie = _proven_trie(states, request, reply)
    if trie is None or not isinstance(reply, AccountRange | StorageRanges) or not reply.proof:
        return reply
    nodes = dict.fromkeys(reply.proof)
    for number in range(EXTRA_PATHS):
        nodes.update(dict.fromkeys(path_nodes(trie, keccak256(bytes([number])))))
    return replace(reply, proof=tuple(nodes)[:MAX_PROOF_NODES])


def misplaced_proof(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """Prove other keys than the ends of the range: nodes of the same trie, at the wrong places."""
    trie = _proven_trie(states, request, reply)
    if trie is None or not isinstance(reply, AccountRange | StorageRanges) or not reply.proof:
        return reply
    last = (reply.accounts if isinstance(reply, AccountRange) else reply.slots[-1])[-1:]
    wrong = bytes(byte ^ 0x88 for byte in last[0][0]) if last else ZERO_KEY
    nodes = dict.fromkeys([*path_nodes(trie, wrong), *path_nodes(trie, MAX_KEY)])
    return replace(reply, proof=tuple(nodes))


def proof_of_full_set(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """Prove the last storage trie although it is complete. Not a lie, but geth's client must cope with it."""
    trie = _proven_trie(states, request, reply)
    if trie is None or not isinstance(reply, StorageRanges) or reply.proof:
        return reply
    last = reply.slots[-1][-1][0]
    return replace(reply, proof=tuple(dict.fromkeys([*path_nodes(trie, ZERO_KEY), *path_nodes(trie, last)])))
