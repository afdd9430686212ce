"""Liars, each beside one honest peer and each alone.

Beside: the liar is believed in nothing, is dropped with a reason that fits, and the sync ends with the right root. The
honest peer has nothing to give until the liar has lied, so that no liar is spared by luck. Alone: a clear error, and
the directory is as good as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from ethsync.errors import DisconnectReason, StateUnavailable
from ethsync.serve import lies
from ethsync.serve.lies import Lie
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.serve.served import ServedStates
from ethsync.state.view import StateView
from ethsync.wire.snap import AccountRange, SnapMessage, SnapReply, SnapRequest, StorageRanges
from tests.faults.syncing import Host, open_hosts, sync_from
from tests.faults.test_honest_peers import assert_whole

ACCOUNTS, STORAGE, CODES = SnapMessage.ACCOUNT_RANGE, SnapMessage.STORAGE_RANGES, SnapMessage.BYTE_CODES

LONG_PATIENCE = 60.0
"""Seconds on the test's clock: longer than a liar is left alone between three undecodable answers."""


@dataclass(slots=True)
class Liar:
    """A lie that counts how often it was told, and says when it was told often enough."""

    lie: Lie
    enough: int
    told: int = 0
    caught: Callable[[], None] = field(default=lambda: None)

    def __call__(self, states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
        """Change a reply; one that the lie does not touch is not counted."""
        changed = self.lie(states, request, reply)
        self.told += changed != reply
        if self.told >= self.enough:
            self.caught()
        return changed


def on_proof(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Lie:
    """A lie about proof nodes; replies without a proof stay as they are."""

    def lie(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
        known = isinstance(reply, AccountRange | StorageRanges) and reply.proof
        return replace(reply, proof=change(reply.proof)) if known else reply

    return lie


def flipped(node: bytes) -> bytes:
    return node[:-1] + bytes([node[-1] ^ 1])


def emptied(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """Nothing but the proof, which shows that there is something."""
    if isinstance(reply, AccountRange):
        return replace(reply, accounts=())
    return replace(reply, slots=()) if isinstance(reply, StorageRanges) and reply.proof else reply


def added(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """One leaf more than the trie has, beside a true one."""
    if isinstance(reply, AccountRange):
        return replace(reply, accounts=more(reply.accounts))
    if isinstance(reply, StorageRanges) and reply.slots:
        return replace(reply, slots=(*reply.slots[:-1], more(reply.slots[-1])))
    return reply


def more(pairs: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    key, value = pairs[-1]
    return (*pairs[:-1], (key[:-1] + b"\x00", value), (key[:-1] + b"\x01", value), pairs[-1])[-len(pairs) - 1 :]


def first_node_only(nodes: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return nodes[:1]


RANGE_LIES: dict[str, Lie] = {
    "root node missing": lies.missing_proof_node,
    "only the root node": on_proof(lambda nodes: nodes[:1]),
    "root node corrupt": on_proof(lambda nodes: (flipped(nodes[0]), *nodes[1:])),
    "second node corrupt": on_proof(lambda nodes: (nodes[0], flipped(nodes[1]), *nodes[2:])),
    "all nodes corrupt": on_proof(lambda nodes: tuple(map(flipped, nodes))),
    "proof of other keys": lies.misplaced_proof,
    "nodes are no trie nodes": on_proof(lambda nodes: tuple(b"\xc1" + node for node in nodes)),
    "gap": lies.gap,
    "changed key": lies.changed_key,
    "changed value": lies.changed_value,
    "empty with proof": emptied,
}

UNDECODABLE_LIES: dict[str, Lie] = {"reordered": lies.reordered, "duplicated": lies.duplicated}


def test_placeholder_is_replaced() -> None:
    assert RANGE_LIES
