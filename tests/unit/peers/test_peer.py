"""One peer: replies find their requests, timeouts begin when the peer's turn does, and nobody waits for a dead one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.errors import MalformedMessage, PeerGone, RequestTimeout
from ethsync.peers.courtesy import ANSWERS
from ethsync.peers.peer import MOST_OVERDUE, Peer, Request, run_peer
from ethsync.peers.rtt import CAP
from ethsync.peers.track import Outcome, RequestKind
from ethsync.rlpx.capabilities import negotiate
from ethsync.wire import eth, eth7542, rlp, snap
from ethsync.wire.block_range import BlockRange, BlockRangeUpdate
from ethsync.wire.eth import EthMessage, GetBlockHeaders
from ethsync.wire.p2p import Capability
from ethsync.wire.snap import GetAccountRange, GetByteCodes, SnapMessage
from tests.unit.peers.stubs import StubConnection, stub_peer

UNKNOWN = CAP / 2  # what a peer gets that has never answered


def accounts(request_id: int) -> Request:
    return GetAccountRange(request_id, bytes(32), bytes(32), b"\xff" * 32, 1000)


def codes(request_id: int) -> Request:
    return GetByteCodes(request_id, (bytes(32),), 1000)


class Asker:
    """Requests under way, and how each of them ended."""

    def __init__(self, peer: Peer, nursery: trio.Nursery) -> None:
        self._peer = peer
        self._nursery = nursery
        self.ended: dict[str, bytes | Exception] = {}
        self.at: dict[str, float] = {}
        self.verdict: Exception | None = None

    async def ask(
        self, name: str, kind: RequestKind = RequestKind.ACCOUNTS, make: Callable[[int], Request] = accounts
    ) -> None:
        """Make a request and wait until it is sent."""
        self._nursery.start_soon(self._ask, name, kind, make)
        await wait_all_tasks_blocked()

    async def _ask(self, name: str, kind: RequestKind, make: Callable[[int], Request]) -> None:
        try:
            self.ended[name] = await self._peer.request(kind, make)
        except (RequestTimeout, PeerGone) as error:
            self.ended[name] = error
        self.at[name] = trio.current_time()

    async def receive(self) -> None:
        """Run the peer; keep the error with which it ends."""
        try:
            await run_peer(self._peer)
        except (PeerGone, MalformedMessage) as error:
            self.verdict = error


@asynccontextmanager
async def asking(peer: Peer) -> AsyncIterator[Asker]:
    """A peer that receives, and somebody who asks it."""
    async with trio.open_nursery() as nursery:
        asker = Asker(peer, nursery)
        nursery.start_soon(asker.receive)
        yield asker
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.fixture
def peer() -> Peer:
    return stub_peer()[0]


def speak(peer: Peer, version: int) -> None:
    """Let a peer have agreed on a version of eth."""
    stub(peer).capabilities = negotiate(
        (Capability("eth", version), Capability("snap", 1)), (Capability("eth", version), Capability("snap", 1))
    )


def stub(peer: Peer) -> StubConnection:
    assert isinstance(peer.connection, StubConnection)
    return peer.connection


# Requests and replies


async def test_a_reply_goes_to_the_request_with_its_id(peer: Peer) -> None:
    async with asking(peer) as asker:
        # Given three requests under way, of two kinds
        await asker.ask("a")
        await asker.ask("b", RequestKind.CODES, codes)
        await asker.ask("c")
        assert [(message.capability, message.code) for message in stub(peer).sent] == [
            ("snap", SnapMessage.GET_ACCOUNT_RANGE),
            ("snap", SnapMessage.GET_BYTE_CODES),
            ("snap", SnapMessage.GET_ACCOUNT_RANGE),
        ]
        ids = [snap.peek_request_id(message.payload) for message in stub(peer).sent]
        assert len(set(ids)) == 3
        # When replies come in another order, then each finds its request.
        third = stub(peer).reply(ids[2], tail=b"third")
        await wait_all_tasks_blocked()
        assert asker.ended == {"c": third}
        second = stub(peer).reply(ids[1], SnapMessage.BYTE_CODES)
        first = stub(peer).reply(ids[0])
        await wait_all_tasks_blocked()
        assert asker.ended == {"a": first, "b": second, "c": third}


async def test_headers_are_asked_for_over_eth(peer: Peer) -> None:
    async with asking(peer) as asker:
        await asker.ask("head", RequestKind.HEADERS, lambda number: GetBlockHeaders(number, bytes(32), 1))
        (request,) = stub(peer).sent
        assert (request.capability, request.code) == ("eth", EthMessage.GET_BLOCK_HEADERS)
        payload = rlp.encode([1, []])
        stub(peer).arrive("eth", EthMessage.BLOCK_HEADERS, payload)
        await wait_all_tasks_blocked()
        assert asker.ended == {"head": payload}


@pytest.mark.parametrize("request_id", [0, 2, 99, 2**63])
async def test_an_answer_to_what_was_never_asked_ends_the_connection(peer: Peer, request_id: int) -> None:
    async with asking(peer) as asker:
        await asker.ask("a")
        stub(peer).reply(request_id)
    assert isinstance(asker.verdict, MalformedMessage)
    assert f"request {request_id}, which was never made" in str(asker.verdict)
    # Whoever waits for an honest answer hears of it.
    assert isinstance(asker.ended["a"], PeerGone)


async def test_another_message_with_a_known_id_ends_the_connection(peer: Peer) -> None:
    async with asking(peer) as asker:
        await asker.ask("a")
        stub(peer).reply(1, SnapMessage.BYTE_CODES)
    assert isinstance(asker.verdict, MalformedMessage)
    assert "a request for accounts with another message" in str(asker.verdict)


async def test_bytes_without_an_id_end_the_connection(peer: Peer) -> None:
    stub(peer).arrive("snap", SnapMessage.ACCOUNT_RANGE, b"\x80")
    with pytest.raises(MalformedMessage):
        await run_peer(peer)


async def test_a_second_reply_is_ignored(peer: Peer) -> None:
    async with asking(peer) as asker:
        await asker.ask("a")
        first = stub(peer).reply(1)
        await wait_all_tasks_blocked()
        stub(peer).reply(1, tail=b"again")
        await wait_all_tasks_blocked()
        assert asker.ended == {"a": first}
        assert asker.verdict is None


async def test_a_second_reply_that_comes_with_the_first_is_ignored_too(peer: Peer) -> None:
    async with asking(peer) as asker:
        await asker.ask("a")
        first = stub(peer).reply(1)
        stub(peer).reply(1, tail=b"again")
        await wait_all_tasks_blocked()
        assert asker.ended == {"a": first}
        assert asker.verdict is None


async def test_a_request_that_is_cancelled_is_forgotten(peer: Peer) -> None:
    late: list[bytes] = []
    async with asking(peer) as asker:
        with trio.move_on_after(0):
            await peer.request(RequestKind.ACCOUNTS, accounts, late.append)
        stub(peer).reply(1)
        await wait_all_tasks_blocked()
        assert (late, asker.verdict) == ([], None)


# Time


async def test_a_request_without_answer_times_out_and_the_peer_stays(peer: Peer, autojump_clock: MockClock) -> None:
    async with asking(peer) as asker:
        await asker.ask("a")
        await trio.sleep(UNKNOWN + 0.1)
        assert isinstance(asker.ended["a"], RequestTimeout)
        assert asker.at["a"] == pytest.approx(UNKNOWN)
        # A reply that comes later does no harm, and the next request is answered as usual.
        stub(peer).reply(1)
        await asker.ask("b")
        payload = stub(peer).reply(2)
        await trio.sleep(1)
        assert asker.ended["b"] == payload


async def test_the_clock_of_a_request_starts_when_the_reply_before_it_has_ended(
    peer: Peer, autojump_clock: MockClock
) -> None:
    # Given a peer that answers in order, 10 s each, and three requests made at once
    async with asking(peer) as asker:
        for name in "abc":
            await asker.ask(name)
        for number in (1, 2, 3):
            await trio.sleep(10)
            stub(peer).reply(number)
        await trio.sleep(1)
    # Then none of them times out, although the last took 30 s in all,
    assert all(isinstance(ended, bytes) for ended in asker.ended.values())
    assert [asker.at[name] for name in "abc"] == pytest.approx([10, 20, 30])
    # and the peer is known to take 10 s for one.
    assert peer.record.tracks[RequestKind.ACCOUNTS].round_trip.smoothed == pytest.approx(10)


async def test_requests_of_other_kinds_wait_their_turn_as_well(peer: Peer, autojump_clock: MockClock) -> None:
    async with asking(peer) as asker:
        await asker.ask("a")
        await asker.ask("b", RequestKind.CODES, codes)
        await trio.sleep(12)
        stub(peer).reply(1)
        await trio.sleep(12)
        assert "b" not in asker.ended
        stub(peer).reply(2, SnapMessage.BYTE_CODES)
        await trio.sleep(1)
        assert isinstance(asker.ended["b"], bytes)
    assert peer.record.tracks[RequestKind.CODES].round_trip.smoothed == pytest.approx(12)


async def test_after_the_last_reply_a_silent_peer_times_out(peer: Peer, autojump_clock: MockClock) -> None:
    # Given a peer that takes a second
    async with asking(peer) as asker:
        await asker.ask("first")
        await trio.sleep(1)
        stub(peer).reply(1)
        # When it answers one of two requests
        await asker.ask("a")
        await asker.ask("b")
        await trio.sleep(1)
        stub(peer).reply(2)
        await trio.sleep(CAP)
    # Then the other one has about 3 s from then on: once and four deviations.
    assert isinstance(asker.ended["b"], RequestTimeout)
    assert asker.at["b"] == pytest.approx(2 + 3, abs=0.5)


async def test_a_request_is_not_held_open_by_answers_to_younger_ones(peer: Peer, autojump_clock: MockClock) -> None:
    # Given a peer that leaves the oldest request unanswered, and answers all that follow
    async with asking(peer) as asker:
        await asker.ask("oldest")
        for number in range(2, 12):
            await asker.ask(f"younger {number}")
            await trio.sleep(UNKNOWN / 5)
            stub(peer).reply(number)
        await trio.sleep(1)
    # Then the oldest one has the time that it had when it was made, and not a moment more.
    assert isinstance(asker.ended["oldest"], RequestTimeout)
    assert asker.at["oldest"] == pytest.approx(UNKNOWN)
    assert all(isinstance(asker.ended[f"younger {number}"], bytes) for number in range(2, 12))


async def test_the_idle_time_before_a_request_does_not_count(peer: Peer, autojump_clock: MockClock) -> None:
    async with asking(peer) as asker:
        await trio.sleep(100)
        await asker.ask("a")
        await trio.sleep(0.5)
        stub(peer).reply(1)
        await trio.sleep(100)
        await asker.ask("b")
        await trio.sleep(0.5)
        stub(peer).reply(2)
        await trio.sleep(1)
    assert peer.record.tracks[RequestKind.ACCOUNTS].round_trip.smoothed == pytest.approx(0.5)
    assert peer.record.tracks[RequestKind.ACCOUNTS].rate > 0


# Late replies


async def timed_out(peer: Peer, requests: int = 1) -> list[bytes]:
    """Make requests one after another, none of which is answered in time; what comes late is put into the list."""
    late: list[bytes] = []
    for _ in range(requests):
        with pytest.raises(RequestTimeout):
            await peer.request(RequestKind.ACCOUNTS, accounts, late.append)
        peer.record.note(RequestKind.ACCOUNTS, Outcome.TIMEOUT, trio.current_time())
    return late


async def test_a_late_reply_is_handed_over_once(peer: Peer, autojump_clock: MockClock) -> None:
    async with asking(peer):
        late = await timed_out(peer)
        payload = stub(peer).reply(1)
        stub(peer).reply(1, tail=b"again")
        await wait_all_tasks_blocked()
        assert late == [payload]


async def test_a_late_reply_teaches_the_timeout(peer: Peer, autojump_clock: MockClock) -> None:
    # Given a peer that needs 16 s, one more than it gets
    async with asking(peer) as asker:
        await timed_out(peer)
        await trio.sleep(1)
        stub(peer).reply(1)
        await wait_all_tasks_blocked()
        # When it is asked again, then it gets the time that it needs.
        track = peer.record.tracks[RequestKind.ACCOUNTS]
        assert track.round_trip.smoothed == pytest.approx(16)
        assert track.round_trip.backoff == 1.0
        await asker.ask("b")
        await trio.sleep(16)
        payload = stub(peer).reply(2)
        await trio.sleep(1)
        assert asker.ended["b"] == payload


async def test_what_was_asked_later_had_to_wait_for_a_late_reply(peer: Peer, autojump_clock: MockClock) -> None:
    # Given a peer that answers in order, and a request that follows one without answer
    async with asking(peer) as asker:
        await timed_out(peer)
        await asker.ask("b")
        # When the answer to the first takes 15 + 29 s, and that to the second as long again
        await trio.sleep(29)
        stub(peer).reply(1)
        await trio.sleep(29)
        payload = stub(peer).reply(2)
        await trio.sleep(1)
    # Then the second is not late.
    assert asker.ended["b"] == payload
    assert peer.record.tracks[RequestKind.ACCOUNTS].round_trip.smoothed == pytest.approx(44 - 15 / 8)


async def test_another_message_with_the_id_of_an_overdue_request_ends_the_connection(
    peer: Peer, autojump_clock: MockClock
) -> None:
    async with asking(peer) as asker:
        late = await timed_out(peer)
        stub(peer).reply(1, SnapMessage.BYTE_CODES)
    assert isinstance(asker.verdict, MalformedMessage)
    assert late == []


async def test_of_many_overdue_requests_the_oldest_are_forgotten(peer: Peer, autojump_clock: MockClock) -> None:
    async with asking(peer) as asker:
        late = await timed_out(peer, MOST_OVERDUE + 2)
        replies = [stub(peer).reply(number) for number in range(1, MOST_OVERDUE + 3)]
        await wait_all_tasks_blocked()
        assert late == replies[2:]
        assert asker.verdict is None


# The end


async def test_the_end_of_the_connection_wakes_everyone(peer: Peer) -> None:
    async with asking(peer) as asker:
        await asker.ask("a")
        await asker.ask("b", RequestKind.CODES, codes)
        stub(peer).hang_up()
    assert isinstance(asker.verdict, PeerGone)
    assert [str(ended) for ended in asker.ended.values()] == ["it hung up"] * 2
    # Whoever asks afterwards is told at once.
    with pytest.raises(PeerGone, match="it hung up"):
        await peer.request(RequestKind.ACCOUNTS, accounts)
    assert len(stub(peer).sent) == 2


async def test_a_cancelled_peer_wakes_everyone_too(peer: Peer) -> None:
    async with trio.open_nursery() as outer:
        asker = Asker(peer, outer)
        async with trio.open_nursery() as inner:
            inner.start_soon(asker.receive)
            await asker.ask("a")
            inner.cancel_scope.cancel()
    assert isinstance(asker.ended["a"], PeerGone)


async def test_a_reply_that_came_before_the_end_still_counts(peer: Peer) -> None:
    async with asking(peer) as asker:
        await asker.ask("a")
        payload = stub(peer).reply(1)
        stub(peer).hang_up()
    assert asker.ended == {"a": payload}


# What peers ask us


@pytest.mark.parametrize("version", eth.VERSIONS)
@pytest.mark.parametrize(("capability", "code"), list(ANSWERS), ids=str)
async def test_every_request_is_answered_with_nothing(peer: Peer, version: int, capability: str, code: int) -> None:
    # Given any request that the version has
    if capability == eth7542.NAME or (capability == "eth" and code not in eth.VERSIONS[version].messages):
        return
    speak(peer, version)
    async with asking(peer):
        stub(peer).arrive(capability, code, rlp.encode([12345, [b"whatever"]]))
        await wait_all_tasks_blocked()
    # Then the reply has its id, and is one that decodes.
    (answer,) = stub(peer).sent
    assert (answer.capability, answer.code) == (capability, code + 1)
    assert snap.peek_request_id(answer.payload) == 12345
    if capability == "snap":
        snap.decode(answer.code, answer.payload)
    else:
        eth.decode(version, answer.code, answer.payload)


def test_all_requests_of_both_protocols_have_an_answer() -> None:
    requests = {("snap", int(code)) for code in SnapMessage if code % 2 == 0}
    requests |= {("eth", int(code)) for code in EthMessage if code.name.startswith("GET_")}
    requests.add((eth7542.NAME, eth7542.Message7542.REQUEST_BLOCK_RANGE))
    assert set(ANSWERS) == requests


async def test_announcements_are_checked_or_ignored(peer: Peer) -> None:
    for code in (EthMessage.TRANSACTIONS, EthMessage.NEW_POOLED_TRANSACTION_HASHES):
        stub(peer).arrive("eth", code, b"whatever it is")
    async with asking(peer) as asker:
        await wait_all_tasks_blocked()
        assert asker.verdict is None
        stub(peer).arrive("eth", EthMessage.BLOCK_RANGE_UPDATE, b"nonsense")
    assert isinstance(asker.verdict, MalformedMessage)
    assert stub(peer).sent == []


async def test_access_lists_that_we_lack_are_marked_one_by_one(peer: Peer) -> None:
    # Given a request for more of them than a server looks at
    speak(peer, 71)
    async with asking(peer):
        stub(peer).arrive("eth", EthMessage.GET_BLOCK_ACCESS_LISTS, rlp.encode([7, [bytes(32)] * 1030]))
        await wait_all_tasks_blocked()
    # Then each of those looked at is said not to be held: an empty list would be an access list.
    (answer,) = stub(peer).sent
    assert eth.decode(71, answer.code, answer.payload) == eth.BlockAccessLists(7, 1024 * (b"\x80",))


async def test_a_peers_block_range_is_its_last_word(peer: Peer) -> None:
    speak(peer, 70)
    assert peer.block_range is None
    update = BlockRangeUpdate(5, 42, b"h" * 32)
    async with asking(peer):
        for each in (BlockRangeUpdate(5, 10, b"g" * 32), update):
            stub(peer).arrive("eth", EthMessage.BLOCK_RANGE_UPDATE, each.encode())
        await wait_all_tasks_blocked()
    assert peer.block_range == BlockRange(5, 42, b"h" * 32)
    assert [number in update.range for number in (4, 5, 42, 43)] == [False, True, True, False]
