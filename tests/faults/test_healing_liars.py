"""Peers that lie, withhold, stall or follow another chain while a stored state is healed to a newer one.

Beside an honest peer, which has nothing to give until the liar has lied: the state is healed. Alone: the sync says
which root is not served and which share of the key space is missing, and what is on the disk is as good as before.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.errors import StateUnavailable
from ethsync.serve.blocks import HeaderChain
from ethsync.serve.lies import Lie
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.serve.served import ServedStates
from ethsync.serve.snap import serve
from ethsync.state.view import StateView
from ethsync.wire.snap import GetTrieNodes, SnapMessage, SnapReply, SnapRequest, TrieNodes, decode_trie_nodes
from tests.faults.changing_states import changed, some_account
from tests.faults.live_chain import follow, make_chain, open_live_chain, open_states
from tests.faults.states import create_demo_state, opened
from tests.faults.syncing import Host, Synced, assert_state, open_hosts, sync, sync_from
from tests.faults.test_liars import LONG_PATIENCE, Liar

NODES = SnapMessage.TRIE_NODES
MOST_BYTES = 4_000


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)


def nibbles(compact: bytes) -> str:
    """A path in hex-prefix encoding (Yellow Paper, appendix C)."""
    return compact.hex()[1 if compact[0] & 0x10 else 2 :]


def withheld(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """All nodes but those of accounts whose keys begin with a."""
    if not isinstance(reply, TrieNodes) or not isinstance(request, GetTrieNodes):
        return reply
    asked = [(len(paths) > 1, nibbles(path)) for paths in request.paths for path in (paths[1:] or paths)]
    kept = [node for (other, path), node in zip(asked, reply.nodes, strict=False) if other or path[:1] != "a"]
    return replace(reply, nodes=tuple(kept))


def one_changed(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """One bit of the node in the middle is another one."""
    if not isinstance(reply, TrieNodes) or not reply.nodes:
        return reply
    middle = len(reply.nodes) // 2
    node = reply.nodes[middle]
    return replace(reply, nodes=(*reply.nodes[:middle], node[:-1] + bytes([node[-1] ^ 1]), *reply.nodes[middle + 1 :]))


def one_more(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """A node that nobody asked for."""
    if not isinstance(reply, TrieNodes) or not reply.nodes:
        return reply
    return replace(reply, nodes=(*reply.nodes[:-1], b"\xc2\x20\x01", reply.nodes[-1]))


def reversed_order(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
    """Right nodes in the wrong order; fewer than two cannot be."""
    return replace(reply, nodes=reply.nodes[::-1]) if isinstance(reply, TrieNodes) else reply


def of_another_head(view: StateView) -> Lie:
    """The same places in the trie of another block."""
    others = ServedStates(view)

    def lie(states: ServedStates, request: SnapRequest, reply: SnapReply) -> SnapReply:
        if not isinstance(request, GetTrieNodes):
            return reply
        return decode_trie_nodes(serve(others, replace(request, root=view.state_root)).payload)

    return lie


@dataclass(frozen=True, slots=True)
class Case:
    """A lie, whether the liar is dropped for it, and what is said to be missing when there is nobody else."""

    name: str
    lie: Lie | None
    is_dropped: bool
    missing: str
    enough: int = 1
    """How often it is told until that has consequences."""

    def __str__(self) -> str:
        return self.name


ALL, SOME = "100 % of the key space, from 0x0 on", "6.25 % of the key space, from 0xa on"

CASES = [
    Case("a subtree withheld", withheld, False, SOME, 3),
    Case("one node changed", one_changed, True, ALL),
    Case("one node more", one_more, True, ALL, 3),
    Case("the wrong order", reversed_order, True, "% of the key space, from 0x"),
    Case("another head", None, True, ALL),
]


@dataclass(slots=True)
class Scene:
    """A directory that holds state A, and state B, to which it is to be healed."""

    datadir: Path
    before: StateView
    after: StateView

    def profile(self, case: Case) -> tuple[Liar, Profile]:
        liar = Liar(case.lie or of_another_head(self.before), case.enough)
        return liar, replace(PROFILES["geth"], kinds=frozenset({NODES}), lie=liar, most_bytes=MOST_BYTES)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Some accounts under each of the first nibbles, of which many change."""
    rng = Random(60)
    before = [some_account(rng) for _ in range(200)]
    create_demo_state(tmp_path / "a", before)
    create_demo_state(tmp_path / "b", changed(rng, before, 0.5))
    with opened(tmp_path / "a") as old, opened(tmp_path / "b") as new:
        await sync(old, tmp_path / "d", "geth")
        yield Scene(tmp_path / "d", old, new)


def assert_dropped(synced: Synced, host: Host, case: Case) -> None:
    expected = [host.server.enode.tcp_port] if case.is_dropped else []
    assert [int(drop.peer.rpartition(":")[2]) for drop in synced.progress.dropped] == expected


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_beside_an_honest_peer(case: Case, scene: Scene, quick_clock: trio.abc.Clock) -> None:
    liar, profile = scene.profile(case)
    async with open_hosts(scene.after, profile, "besu") as hosts:

        def become_honest() -> None:
            hosts[1].server.profile = PROFILES["geth"]

        liar.caught = become_honest
        synced = await sync_from(hosts, scene.datadir, patience=LONG_PATIENCE)
    assert liar.told > 0
    assert_dropped(synced, hosts[0], case)
    await assert_state(synced, scene.after, scene.datadir)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_alone(case: Case, scene: Scene, quick_clock: trio.abc.Clock) -> None:
    _, profile = scene.profile(case)
    async with open_hosts(scene.after, profile) as hosts:
        synced = await sync_from(hosts, scene.datadir, patience=4.0)
    # Then it is said which root nobody serves, and which share of it;
    assert isinstance(synced.error, StateUnavailable)
    assert f"no peer serves state root 0x{scene.after.state_root.hex()}" in str(synced.error)
    assert re.search(rf"; what is missing: .*{case.missing}", str(synced.error))
    assert_dropped(synced, hosts[0], case)
    # and an honest peer gives the rest.
    synced, _ = await sync(scene.after, scene.datadir, "geth")
    await assert_state(synced, scene.after, scene.datadir)


async def test_one_that_stalls(scene: Scene, quick_clock: trio.abc.Clock) -> None:
    stalling = replace(PROFILES["silent"], kinds=frozenset({NODES}))
    async with open_hosts(scene.after, stalling, "geth") as hosts:
        synced = await sync_from(hosts, scene.datadir, patience=LONG_PATIENCE)
    assert synced.progress.dropped == []
    await assert_state(synced, scene.after, scene.datadir)


async def test_only_one_that_stalls(scene: Scene, quick_clock: trio.abc.Clock) -> None:
    stalling = replace(PROFILES["silent"], kinds=frozenset({NODES}))
    synced, (host,) = await sync(scene.after, scene.datadir, stalling)
    assert isinstance(synced.error, StateUnavailable)
    assert f"127.0.0.1:{host.server.enode.tcp_port} did not answer in time" in str(synced.error)
    assert ALL in str(synced.error)


async def test_a_peer_on_another_branch(tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    # Given two peers, of which one follows a branch that nobody trusts, with states of its own
    rng = Random(61)
    before = [some_account(rng) for _ in range(200)]
    states = {10: before, 67: changed(rng, before, 0.1)}
    other = {68: changed(rng, before, 0.1)}
    async with open_states(tmp_path / "x", states) as views, open_states(tmp_path / "y", other) as strangers:
        chain = make_chain(views, 132)
        branch = chain.branch(40, strangers, 132, seed=2)
        little = replace(PROFILES["geth"], most_bytes=MOST_BYTES)
        async with open_live_chain(chain, 74, little, little) as live, trio.open_nursery() as nursery:

            def leave() -> None:
                live.hosts[1].server.service.chain = HeaderChain(branch.headers[:131], branch.headers[131])
                live.hosts[1].server.states = ServedStates(*strangers.values())

            async def move() -> None:
                await live.served(8_000)
                live.grow(131)
                leave()

            leave()
            nursery.start_soon(move)
            # When the pivot moves on the chain that is trusted
            synced = await follow(live, tmp_path / "d", patience=LONG_PATIENCE)
            nursery.cancel_scope.cancel()
        # Then the other peer has nothing to give, and does no harm.
        assert synced.progress.pivot_moves == 1
        await assert_state(synced, views[67], tmp_path / "d")
