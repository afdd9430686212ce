"""The trusted header: named by the user, fetched from whoever has it, checked by its hash."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ethsync.errors import ConfigError, Disproved, StateUnavailable
from ethsync.peers.changes import Changes
from ethsync.peers.peer import Peer, run_peer
from ethsync.peers.pool import PeerPool
from ethsync.sync.heads import check_header, fetch_header, parse_head
from ethsync.wire import rlp
from ethsync.wire.eth import BlockHeaders, EthMessage
from ethsync.wire.headers import build_header
from tests.unit.peers.stubs import VIEW, StubConnection, stub_peer

HEADER = build_header(number=7, state_root=b"\x55" * 32)
OTHER = build_header(number=8, state_root=b"\x66" * 32)
PATIENCE = 60.0


def answer(stub: StubConnection, *headers: bytes) -> None:
    """Answer the last request for headers."""
    request_id = rlp.integer(rlp.split_list(stub.sent[-1].payload)[0])
    stub.arrive("eth", EthMessage.BLOCK_HEADERS, BlockHeaders(request_id, headers).encode())


async def test_silent_peers_do_not_keep_an_honest_one_from_being_asked(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    # Given two peers that say nothing, each for its whole timeout
    changes = Changes()
    pool = PeerPool(changes.ring, VIEW)
    silent: list[Peer] = [stub_peer(number)[0] for number in (1, 2)]
    pool.peers = {peer.number: peer for peer in silent}
    found: list[bytes] = []

    async def fetch() -> None:
        found.append((await fetch_header(pool, changes, HEADER.hash, PATIENCE)).hash)

    nursery.start_soon(fetch)
    await wait_all_tasks_blocked()
    # When an honest one joins a second later
    await trio.sleep(1)
    honest, stub = stub_peer(3)
    nursery.start_soon(run_peer, honest)
    pool.peers[3] = honest
    changes.ring()
    await wait_all_tasks_blocked()
    answer(stub, HEADER.raw)
    await wait_all_tasks_blocked()
    # Then its header is what counts, at once.
    assert found == [HEADER.hash]
    assert trio.current_time() < PATIENCE / 10
    nursery.cancel_scope.cancel()


async def test_nobody_having_it_ends_after_the_patience(autojump_clock: trio.testing.MockClock) -> None:
    changes = Changes()
    pool = PeerPool(changes.ring, VIEW)
    pool.peers = {1: stub_peer(1)[0]}
    started = trio.current_time()
    with pytest.raises(
        StateUnavailable,
        match=r"no peer sent the header of block 0x\w{64}: stub/1 at 127\.0\.0\.1:30303 did not answer in time",
    ):
        await fetch_header(pool, changes, HEADER.hash, PATIENCE)
    assert trio.current_time() - started == pytest.approx(PATIENCE)


async def test_while_peers_are_looked_for_and_none_is_connected_patience_does_not_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # Given that nobody is found for an hour, and then one who does not answer
    changes = Changes()
    pool = PeerPool(changes.ring, VIEW, explain=lambda now: "nobody answers")

    async def come() -> None:
        await trio.sleep(3600)
        pool.peers = {1: stub_peer(1)[0]}
        changes.ring()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come)
        with pytest.raises(StateUnavailable):
            await fetch_header(pool, changes, HEADER.hash, PATIENCE)
    # Then that one has the whole time.
    assert trio.current_time() == pytest.approx(3600 + PATIENCE)


def test_another_header_is_a_lie_and_none_is_not() -> None:
    assert check_header(HEADER.hash, BlockHeaders(1, ()).encode()) is None
    assert check_header(HEADER.hash, BlockHeaders(1, (HEADER.raw,)).encode()) == HEADER
    with pytest.raises(Disproved, match="came instead of"):
        check_header(HEADER.hash, BlockHeaders(1, (OTHER.raw,)).encode())


@pytest.mark.parametrize("text", ["", "0x" + "11" * 32, "hash:0x11", "hash:" + "zz" * 32, "beacon:http://localhost"])
def test_a_head_that_names_no_hash_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="does not name a block to trust"):
        parse_head(text)


def test_a_head_is_a_hash() -> None:
    assert parse_head("hash:0x" + "ab" * 32) == parse_head("hash:" + "ab" * 32) == b"\xab" * 32
