"""Liars, each beside one honest peer and each alone.

Beside: the liar is believed in nothing, is dropped with a reason that fits, and the sync ends with the right root. The
honest peer has nothing to give until the liar is gone, so that no liar is spared by luck. Alone: a clear error, and
the directory is as good as before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from ethsync.errors import DisconnectReason, StateUnavailable
from ethsync.peers.drops import Drop
from ethsync.peers.track import CUT_SHORT_IN_A_ROW
from ethsync.serve import lies
from ethsync.serve.lies import Lie
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.serve.served import ServedStates
from ethsync.state.view import StateView
from ethsync.wire.snap import AccountRange, SnapMessage, SnapReply, SnapRequest, StorageRanges
from tests.faults.syncing import Host, assert_state, open_hosts, sync, sync_from

ACCOUNTS, STORAGE, CODES = SnapMessage.ACCOUNT_RANGE, SnapMessage.STORAGE_RANGES, SnapMessage.BYTE_CODES

LONG_PATIENCE = 15.0
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
        if isinstance(reply, AccountRange | StorageRanges) and reply.proof:
            return replace(reply, proof=change(reply.proof))
        return reply

    return lie


def flipped(node: bytes) -> bytes:
    return node[:-1] + bytes([node[-1] ^ 1])


def gap_in_bloated_proof(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """A leaf left out of a reply whose proof has nodes from all over the trie (geth's TestSyncBloatedProof)."""
    gapped = lies.gap(states, request, reply)
    return lies.bloated_proof(states, request, gapped) if gapped != reply else reply


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


def on_whole_tries(change: Lie) -> Lie:
    """A lie about storage replies without a proof."""

    def lie(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
        return change(states, request, reply) if isinstance(reply, StorageRanges) and not reply.proof else reply

    return lie


def on_proven_ranges(change: Lie) -> Lie:
    """A lie about replies that have a proof."""

    def lie(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
        return (
            change(states, request, reply) if isinstance(reply, AccountRange | StorageRanges) and reply.proof else reply
        )

    return lie


LEAF_LIES: dict[str, Lie] = {
    "gap": lies.gap,
    "added leaves": added,
    "changed key": lies.changed_key,
    "changed value": lies.changed_value,
}

RANGE_LIES: dict[str, Lie] = {
    "root node missing": lies.missing_proof_node,
    "all nodes missing but the root": on_proof(lambda nodes: nodes[:1]),
    "root node corrupt": on_proof(lambda nodes: (flipped(nodes[0]), *nodes[1:])),
    "all nodes corrupt but the root": on_proof(lambda nodes: (nodes[0], *map(flipped, nodes[1:]))),
    "nodes that are no trie nodes": on_proof(lambda nodes: tuple(b"\xc1" + node for node in nodes)),
    "proof of other keys": lies.misplaced_proof,
    "gap in a bloated proof": on_proven_ranges(gap_in_bloated_proof),
    **{name: on_proven_ranges(lie) for name, lie in LEAF_LIES.items()},
}
"""Replies that decode, and that the root contradicts."""

THRICE = "3 undecodable answers"

UNDECODABLE: dict[str, Lie] = {"reordered": lies.reordered, "duplicated": lies.duplicated}
"""Replies that are no range of any trie."""

MOST_BYTES = 4_000
"""What a liar sends at a time: the contract with 300 slots then takes several proven replies."""


@dataclass(frozen=True, slots=True)
class Case:
    """A lie about one kind of replies, how often it is tolerated, and words of the reason for dropping the liar."""

    name: str
    kind: SnapMessage
    lie: Lie
    tolerated: int
    reason: str

    def __str__(self) -> str:
        return f"{self.name} in {self.kind.name.lower()}"


CASES = [
    *(Case(name, kind, lie, 0, "") for name, lie in RANGE_LIES.items() for kind in (ACCOUNTS, STORAGE)),
    Case("no proof", ACCOUNTS, lies.no_proof, 0, ""),
    Case("no proof", STORAGE, lies.no_proof, CUT_SHORT_IN_A_ROW - 1, "a storage trie with root"),
    *(Case(name, kind, lie, 2, THRICE) for name, lie in UNDECODABLE.items() for kind in (ACCOUNTS, STORAGE)),
    *(
        Case(
            f"{name} of a whole trie", STORAGE, on_whole_tries(lie), CUT_SHORT_IN_A_ROW - 1, "a storage trie with root"
        )
        for name, lie in (LEAF_LIES | {"last leaf left out": lies.truncated}).items()
    ),
    Case("empty with a proof", STORAGE, emptied, 0, "a proof without slots"),
    Case("empty with a proof", ACCOUNTS, emptied, CUT_SHORT_IN_A_ROW - 1, "an empty reply hides leaves"),
    Case("wrong code", CODES, lies.wrong_code, 0, "which was not asked for"),
    Case("more codes than asked for", CODES, lies.unasked_code, 2, THRICE),
]


def liar_of(case: Case) -> tuple[Liar, Profile]:
    """A liar, and the profile of the server that is one."""
    liar = Liar(case.lie, case.tolerated + 1)
    return liar, replace(PROFILES["geth"], name="liar", kinds=frozenset({case.kind}), lie=liar, most_bytes=MOST_BYTES)


def assert_dropped(dropped: list[Drop], liar: Host, case: Case) -> None:
    """The liar, and nobody else, was dropped for its lie and told that it breached the protocol.

    A liar that is just sending more may find the connection closed before it reads why. One whose answers were only
    undecodable is let in again, and may then be told that the sync has ended.
    """
    assert len(dropped) == 1
    assert dropped[0].peer.endswith(f" at 127.0.0.1:{liar.server.enode.tcp_port}")
    assert case.reason in dropped[0].why
    assert {*liar.watch.farewells} <= {DisconnectReason.BREACH_OF_PROTOCOL, None} | (
        {DisconnectReason.CLIENT_QUITTING} if case.tolerated else set()
    )


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_liar_beside_an_honest_peer(
    case: Case, small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    liar, profile = liar_of(case)
    async with open_hosts(small_state, profile, "besu") as hosts, trio.open_nursery() as nursery:
        # Given an honest peer that has something to give only when the liar was hung up on
        async def become_honest() -> None:
            await hosts[0].watch.goodbye.wait()
            hosts[1].server.profile = PROFILES["geth"]

        nursery.start_soon(become_honest)
        synced = await sync_from(hosts, tmp_path / "d", patience=LONG_PATIENCE)
        nursery.cancel_scope.cancel()
    # Then the state is whole, and the liar is gone
    assert liar.told > case.tolerated
    assert_dropped(synced.progress.dropped, hosts[0], case)
    await assert_state(synced, small_state, tmp_path / "d")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_liar_alone(case: Case, small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    _, profile = liar_of(case)
    # When nobody else is there
    async with open_hosts(small_state, profile) as hosts:
        synced = await sync_from(hosts, tmp_path / "d", patience=8 if case.tolerated else 3)
    # Then the sync says that it failed, and why
    assert synced.verified is None
    assert isinstance(synced.error, StateUnavailable)
    assert_dropped(synced.progress.dropped, hosts[0], case)
    # And what is on the disk is a good beginning
    async with open_hosts(small_state, "geth") as hosts:
        synced = await sync_from(hosts, tmp_path / "d")
    await assert_state(synced, small_state, tmp_path / "d")


async def test_the_last_line_says_which_peer_was_dropped_how_often_and_why(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    # Given nobody but a peer whose codes cannot be decoded; it is dialled again, and is no better
    case = Case("more codes than asked for", CODES, lies.unasked_code, 2, THRICE)
    synced, (host,) = await sync(small_state, tmp_path / "d", liar_of(case)[1], patience=LONG_PATIENCE)
    assert host.watch.connections > 2
    # Then that is what is said, and not that its state is gone
    (drop,) = synced.progress.dropped
    assert drop.times >= 2
    address = f"127.0.0.1:{host.server.enode.tcp_port}"
    assert re.fullmatch(
        rf"no peer serves state root 0x\w{{64}}: ethsync\S+ at {address} was dropped {drop.times} times: 3 undecodable"
        r" answers in a row, the last to a request for codes: .+"
        r" \(everything so far is kept: run the same command again with another --peer\)",
        str(synced.error),
    )


async def test_a_liar_is_not_dialled_again(small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    synced, (host,) = await sync(small_state, tmp_path / "d", "changed-value", patience=8)
    assert "was dropped" in str(synced.error)
    assert host.watch.connections == 1


async def test_liars_of_all_kinds_around_one_honest_peer(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    profiles = [liar_of(case)[1] for case in CASES]
    synced, _ = await sync(small_state, tmp_path / "d", *profiles, "geth", patience=LONG_PATIENCE)
    await assert_state(synced, small_state, tmp_path / "d")


async def test_replies_to_ids_never_asked_end_the_connection(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    synced, (honest, wrong) = await sync(small_state, tmp_path / "d", "geth", "wrong-id", patience=LONG_PATIENCE)
    await assert_state(synced, small_state, tmp_path / "d")
    assert {*wrong.watch.farewells} <= {DisconnectReason.BREACH_OF_PROTOCOL, None}
    assert honest.watch.total_leaf_bytes > 0

    synced, (wrong,) = await sync(small_state, tmp_path / "alone", "wrong-id")
    assert "which was never made" in str(synced.error)
    assert DisconnectReason.BREACH_OF_PROTOCOL in wrong.watch.farewells
