"""Proving StorageRanges: whole small tries by the hundreds, and ranges of big ones. Runs in worker threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import CutShort, Disproved, MalformedMessage
from ethsync.kernels import keccak
from ethsync.kernels.trie import NO_DEPTH
from ethsync.state.columns import ZERO_KEY, Leaves, entries_of, only_tries, row_bytes
from ethsync.state.pages import KEY_SPACE, SMALL_TRIE
from ethsync.state.proofs import verify_range
from ethsync.state.replies import StorageRanges, scan_storage_ranges
from ethsync.state.tries import TrieError, build
from ethsync.sync.assemble import Assembled, assemble, assemble_whole, estimated_leaves, first_depth, in_hand
from ethsync.sync.sweep import Gap

if TYPE_CHECKING:
    from ethsync.arrays import Ints


@dataclass(frozen=True, slots=True, eq=False)
class FirstChunk:
    """The beginning of a trie that did not fit into a reply, with its size as estimated from its density.

    depth: of its pages; None if the beginning is too short to say.
    """

    assembled: Assembled
    depth: int | None
    estimate: float


@dataclass(frozen=True, slots=True, eq=False)
class SmallReply:
    """What a reply for many whole tries holds, by position in the request.

    matched (m,): positions of the tries that are complete, ascending; trie k has rows starts[k] to starts[k + 1] of
    leaves. paged: position → pages of a complete trie too large for a bundle. begun: position and first chunk of the
    trie that was cut off. skipped: positions that the peer passed over; rest: the first position it did not reach.
    """

    matched: list[int]
    starts: Ints
    leaves: Leaves
    paged: dict[int, Assembled]
    begun: tuple[int, FirstChunk] | None
    skipped: list[int]
    rest: int

    @property
    def empty(self) -> bool:
        """Whether the peer had none of it."""
        return not self.matched and self.begun is None


def prove_tries(payload: bytes, roots: list[bytes], *, may_differ: bool = False) -> SmallReply:
    """Prove a reply to a request for the whole storage of accounts with these roots, in this order.

    Peers leave out accounts that they do not know, so sets are matched to accounts by the root they give. With
    `may_differ` the roots were proven under another state root than the one asked under: then a set that matches none
    is the changed storage of the next account, and counts as skipped. Raises MalformedMessage, Disproved.
    """
    reply = scan_storage_ranges(payload, len(roots))
    complete = len(reply) - (1 if len(reply.proof) and len(reply) else 0)
    starts = reply.starts[: complete + 1]
    if (np.diff(starts) <= 0).any():
        raise MalformedMessage("a storage trie was sent without a single slot")
    leaves = reply.leaves[: int(starts[-1])] if complete else reply.leaves[:0]
    places, skipped, at = _match(_roots(leaves, starts[:-1]), roots, may_differ)
    matched = [position for position in places if position is not None]
    ours = [position is not None for position in places]
    begun: tuple[int, FirstChunk] | None = None
    if complete < len(reply):
        passed, begun = _prove_last(reply, roots, at, may_differ)
        skipped += passed
        at += len(passed) + (begun is not None)
        if begun is not None and begun[1].assembled.covered == KEY_SPACE:
            # A whole trie with a proof that it did not need.
            matched.append(begun[0])
            ours.append(True)
            starts, leaves, begun = reply.starts, reply.leaves, None
    if len(reply) == 0 and len(reply.proof):
        raise Disproved("a proof without slots was sent for tries that are not empty")
    if not all(ours):
        leaves, starts = only_tries(leaves, starts, np.array(ours, np.bool_))
    sizes = np.diff(starts)
    paged = {
        matched[k]: assemble_whole(leaves[int(starts[k]) : int(starts[k + 1])])
        for k in np.flatnonzero(sizes > SMALL_TRIE).tolist()
    }
    return SmallReply(matched, starts, leaves, paged, begun, skipped, at)


def _roots(leaves: Leaves, starts: Ints) -> list[bytes]:
    if not len(starts):
        return []
    try:
        return row_bytes(build(entries_of(leaves), starts)[0])
    except TrieError as error:
        raise MalformedMessage(f"storage that cannot be a trie: {error}") from error


def _next_with(root: bytes, roots: list[bytes], at: int) -> int | None:
    try:
        return roots.index(root, at)
    except ValueError:
        return None


def _match(found: list[bytes], roots: list[bytes], may_differ: bool) -> tuple[list[int | None], list[int], int]:
    """Match the roots found, in order, to those wanted: positions by set, positions skipped, where it ended.

    With `may_differ` a set has no position if it is the changed storage of some account. That may be what the storage
    of a later one was, so that such sets can be left when no account is.
    """
    places: list[int | None] = []
    skipped: list[int] = []
    at = 0
    for root in found:
        position = _next_with(root, roots, at)
        if position is None and not may_differ:
            raise CutShort(f"a storage trie with root {root.hex()} was sent, which no account asked for has")
        places.append(position)
        end = min(at + 1, len(roots)) if position is None else position
        skipped.extend(range(at, end))
        at = end if position is None else position + 1
    return places, skipped, at


def _position_of(reply: StorageRanges, roots: list[bytes], at: int) -> int | None:
    """Which of the tries from `at` on the last set, which came with a proof, is the beginning of."""
    nodes = np.empty((len(reply.proof), 32), np.uint8)
    keccak.hash_many(reply.proof.buf, reply.proof.offsets, reply.proof.lengths, nodes)
    shown = {node.tobytes() for node in nodes}
    return next((k for k in range(at, len(roots)) if roots[k] in shown), None)


def _prove_last(
    reply: StorageRanges, roots: list[bytes], at: int, may_differ: bool
) -> tuple[list[int], tuple[int, FirstChunk] | None]:
    """Prove the last set, which came with a proof, if it is the beginning of a trie from `at` on.

    Returns the positions that were passed over before it, or that of the account whose storage has changed.
    """
    position = _position_of(reply, roots, at)
    if position is not None:
        return list(range(at, position)), (position, _first_chunk(reply, roots[position]))
    if not may_differ:
        raise Disproved("a storage range came with a proof for another trie")
    return list(range(at, min(at + 1, len(roots)))), None


def _first_chunk(reply: StorageRanges, root: bytes) -> FirstChunk:
    """Prove that the last set is the beginning of the trie with this root."""
    leaves = reply.leaves[int(reply.starts[-2]) :]
    if not len(leaves):
        raise Disproved("a proof without slots was sent for a trie that is not empty")
    gap = Gap(0, KEY_SPACE, 0)
    proven = verify_range(root, ZERO_KEY, leaves, reply.proof)
    depth = first_depth(gap, proven)
    assembled = Assembled(leaves, [], KEY_SPACE, None)
    if depth is None:
        assembled = in_hand(gap, leaves)
    elif proven.more:
        proven = verify_range(root, ZERO_KEY, leaves, reply.proof, page_depth=depth)
        assembled = assemble(gap, proven, depth)
    return FirstChunk(assembled, depth, estimated_leaves(gap, leaves, proven.more))


@dataclass(frozen=True, slots=True, eq=False)
class ProvenRange:
    """A range of one trie: what it adds, how many keys it covers, and the trie's page depth, None if still unknown."""

    assembled: Assembled
    keys: int
    depth: int | None


def prove_storage_range(payload: bytes, root: bytes, gap: Gap, depth: int | None) -> ProvenRange | None:
    """Prove a reply to a request for one range of one trie; None if the peer had nothing.

    The page depth is chosen if there is none yet. Raises MalformedMessage, Disproved.
    """
    reply = scan_storage_ranges(payload, 1)
    if not len(reply) and not len(reply.proof):
        return None
    origin = gap.resume.to_bytes(32, "big")
    proven = verify_range(root, origin, reply.leaves, reply.proof, page_depth=NO_DEPTH if depth is None else depth)
    if depth is None:
        depth = first_depth(gap, proven)
        if depth is not None:
            proven = verify_range(root, origin, reply.leaves, reply.proof, page_depth=depth)
    assembled = in_hand(gap, proven.leaves) if depth is None else assemble(gap, proven, depth)
    resume = assembled.rest.resume if assembled.rest is not None else assembled.covered
    return ProvenRange(assembled, resume - gap.resume, depth)
