"""The server over real sockets: several peers, all messages, bad guests, and an end without leftovers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from ethsync.errors import ConfigError, DatadirMismatch, DisconnectReason, NotHeld, PeerGone
from ethsync.serve.demo import demo_network
from ethsync.serve.profiles import PROFILES
from ethsync.serve.run import serve_datadir, serve_synthetic
from ethsync.serve.served import ServedStates
from ethsync.serve.server import Server, ServerOptions, open_server, run_server
from ethsync.serve.session import _hand_on
from ethsync.serve.snap import serve
from ethsync.serve.spec import SyntheticSpec
from ethsync.state.proofs import verify_range
from ethsync.state.replies import scan_account_range
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import DEBT, FORMAT_VERSION, Format
from ethsync.wire import eth
from ethsync.wire.enode import parse_enode
from ethsync.wire.eth import BlockHeaders, EthMessage, GetBlockBodies, GetBlockHeaders
from ethsync.wire.headers import decode_header
from ethsync.wire.snap import GetAccountRange, GetByteCodes, GetTrieNodes, SnapMessage, SnapRequest
from ethsync.wire.status import decode_status, encode_status
from tests.unit.serve.dialling import client, dial, receive, send

ZERO, MAX = bytes(32), b"\xff" * 32
SMALL = SyntheticSpec(accounts=300, contracts=20, slots=400, codes=8, seed=1, code_bytes=40)


@pytest.fixture
async def server(view: StateView) -> AsyncIterator[Server]:
    async with open_server(view, network=demo_network()) as running:
        yield running


async def goodbye(talk: Callable[[], Awaitable[None]]) -> int | None:
    """The reason with which the server ends a conversation."""
    with pytest.raises(PeerGone) as gone:
        await talk()
    return gone.value.remote_reason


def accounts(view: StateView, number: int = 1, most: int = 5_000) -> GetAccountRange:
    return GetAccountRange(number, view.state_root, bytes([number]) + ZERO[1:], MAX, most)


@pytest.mark.parametrize("version", eth.VERSIONS)
async def test_state_is_served_and_proven(server: Server, view: StateView, version: int) -> None:
    async with client(server, version) as connection:
        # Given a peer that follows the head's hash to the state root
        await connection.send("eth", EthMessage.GET_BLOCK_HEADERS, GetBlockHeaders(1, server.head.hash, 1).encode())
        message = await connection.receive()
        answer = eth.decode(version, message.code, message.payload)
        assert isinstance(answer, BlockHeaders)
        root = decode_header(answer.headers[0]).state_root
        # When it asks for accounts
        await send(connection, GetAccountRange(5, root, ZERO, MAX, 2**21))
        message = await connection.receive()
        # Then it can prove what comes.
        scanned = scan_account_range(message.payload)
        assert not verify_range(root, ZERO, scanned.leaves, scanned.proof).more
        assert len(scanned.leaves) == server.counters.items[SnapMessage.ACCOUNT_RANGE] == 2_000


async def test_requests_in_flight_are_answered_in_order(server: Server, view: StateView) -> None:
    requests: list[SnapRequest] = [accounts(view, number) for number in range(1, 40)]
    requests[20] = GetTrieNodes(21, view.state_root, ((b"\x00",),), 1000)
    requests[30] = GetByteCodes(31, (b"\x01" * 32,), 1000)
    async with client(server) as connection, trio.open_nursery() as nursery:

        async def send_all() -> None:
            for request in requests:
                await send(connection, request)

        nursery.start_soon(send_all)
        assert [(await receive(connection)).request_id for _ in requests] == list(range(1, 40))
    assert server.counters.requests[SnapMessage.ACCOUNT_RANGE] == 37
    expected = sum(serve(ServedStates(view), request).size for request in requests)
    assert server.counters.total_leaf_bytes == expected


async def test_peers_are_served_side_by_side(server: Server, view: StateView) -> None:
    async def fetch(number: int) -> None:
        async with client(server) as connection:
            await send(connection, accounts(view, number))
            assert (await receive(connection)).request_id == number

    async with trio.open_nursery() as nursery:
        for number in range(1, 6):
            nursery.start_soon(fetch, number)
    assert server.counters.connections == 5


async def test_a_bad_guest_ends_only_its_own_connection(server: Server, view: StateView) -> None:
    async with client(server) as good:
        # Given one that speaks another protocol, one that sends rubbish, and one of another chain
        async with await trio.open_tcp_stream(server.enode.host, server.enode.tcp_port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n" * 200)
            with suppress(trio.BrokenResourceError):  # a reset, if it hangs up before it has read everything
                assert not await stream.receive_some(1)

        async def rubbish() -> None:
            async with client(server) as bad:
                await bad.send("snap", SnapMessage.GET_ACCOUNT_RANGE, b"\xc1\xc1\xc1")
                await bad.receive()

        async def stranger() -> None:
            async with dial(server) as other:
                status = decode_status(69, (await other.receive()).payload)
                await other.send("eth", 0, encode_status(replace(status, network_id=1)))
                await other.receive()

        assert await goodbye(rubbish) == DisconnectReason.BREACH_OF_PROTOCOL
        assert await goodbye(stranger) == DisconnectReason.USELESS_PEER
        # Then the others do not notice.
        await send(good, accounts(view))
        assert (await receive(good)).request_id == 1


@pytest.mark.parametrize(("capability", "code"), [("snap", 0), ("eth", 3)])
async def test_something_else_before_status_is_refused(server: Server, capability: str, code: int) -> None:
    async def impatient() -> None:
        async with dial(server) as connection:
            await connection.receive()
            await connection.send(capability, code, GetBlockHeaders(1, 0, 1).encode())
            await connection.receive()

    assert await goodbye(impatient) == DisconnectReason.BREACH_OF_PROTOCOL


async def test_announcements_and_unasked_replies_are_ignored(server: Server, view: StateView) -> None:
    async with client(server) as connection:
        await connection.send("eth", EthMessage.TRANSACTIONS, b"\xc0")
        await connection.send("eth", EthMessage.BLOCK_RANGE_UPDATE, b"\xe3\x80\x05\xa0" + MAX)
        await connection.send("snap", SnapMessage.BYTE_CODES, b"\xc2\x01\xc0")
        await connection.send("eth", EthMessage.GET_BLOCK_BODIES, GetBlockBodies(3, (MAX,)).encode())
        assert (await connection.receive()).payload == b"\xc2\x03\xc0"


async def test_a_task_whose_partner_has_failed_waits_for_that_error(autojump_clock: trio.testing.MockClock) -> None:
    """Given a task of a session that has closed its end, then the other one adds no error that is not the peer's."""
    send_channel, receive_channel = trio.open_memory_channel[int](1)
    receive_channel.close()
    with trio.move_on_after(60) as until_cancelled:
        await _hand_on(send_channel, 1)
    assert until_cancelled.cancelled_caught


async def test_too_many_peers_are_told_so(view: StateView) -> None:
    async with (
        open_server(view, network=demo_network(), options=ServerOptions(max_connections=1)) as server,
        client(server),
    ):

        async def second() -> None:
            async with dial(server) as connection:
                await connection.receive()

        assert await goodbye(second) == DisconnectReason.TOO_MANY_PEERS


async def test_a_forgotten_root_is_gone_for_everyone(server: Server, view: StateView) -> None:
    async with client(server) as connection:
        server.states.forget_root(view.state_root)
        await send(connection, accounts(view))
        await receive(connection)
        assert server.counters.items.total() == 0


async def test_a_disconnecting_peer_answers_a_few_requests(server: Server, view: StateView) -> None:
    server.profile = replace(PROFILES["disconnecting"], disconnect_after=2)
    answered: list[int] = []

    async def fetch() -> None:
        async with client(server) as connection:
            for number in range(1, 9):
                await send(connection, accounts(view, number))
                answered.append((await receive(connection)).request_id)

    await goodbye(fetch)
    assert answered == [1, 2]


async def test_late_duplicates_follow_the_next_reply(server: Server, view: StateView) -> None:
    server.profile = PROFILES["late-duplicates"]
    async with client(server) as connection:
        for number in (1, 2, 3):
            await send(connection, accounts(view, number))
        assert [(await receive(connection)).request_id for _ in range(5)] == [1, 2, 1, 3, 2]


async def test_a_silent_peer_answers_the_rest(server: Server, view: StateView) -> None:
    server.profile = replace(PROFILES["silent"], kinds=frozenset({SnapMessage.ACCOUNT_RANGE}))
    async with client(server) as connection:
        await send(connection, accounts(view, 1))
        await send(connection, GetByteCodes(2, (), 1))
        assert (await receive(connection)).request_id == 2


async def test_a_slow_peer_takes_its_time(server: Server, view: StateView) -> None:
    server.profile = replace(PROFILES["slow"], delay=0.02)
    async with client(server) as connection:
        started = trio.current_time()
        await send(connection, accounts(view))
        await receive(connection)
        assert trio.current_time() - started >= 0.02


async def test_the_server_ends_while_peers_are_connected(view: StateView) -> None:
    connected = trio.Event()

    async def stay(server: Server) -> None:
        async with client(server) as connection:
            connected.set()
            await connection.receive()

    with trio.fail_after(2):
        async with trio.open_nursery() as nursery, open_server(view, network=demo_network()) as server:
            nursery.start_soon(goodbye, partial(stay, server))
            await connected.wait()


async def test_an_address_that_is_taken_is_a_clear_error(server: Server, view: StateView) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        await run_server(view, network=demo_network(), options=ServerOptions(port=server.enode.tcp_port))


async def test_a_synthetic_state_is_made_and_served(tmp_path: Path) -> None:
    shares: list[float] = []
    async with trio.open_nursery() as nursery:
        made: Server = await nursery.start(partial(serve_synthetic, SMALL, tmp_path / "s", progress=shares.append))
        assert parse_enode(str(made.enode)) == made.enode
        assert shares[-1] == 1.0
        async with client(made) as connection:
            await send(connection, GetAccountRange(1, made.head.state_root, ZERO, MAX, 2**20))
            assert len((await receive(connection)).accounts) == SMALL.accounts  # type: ignore[union-attr]
        nursery.cancel_scope.cancel()
    # The directory is free again, and can be served as any other.
    async with trio.open_nursery() as nursery:
        again: Server = await nursery.start(serve_datadir, tmp_path / "s")
        assert again.head == made.head
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_synthetic, SMALL, tmp_path / "s")
        nursery.cancel_scope.cancel()
    other = replace(demo_network(), forks=replace(demo_network().forks, genesis_hash=MAX))
    with pytest.raises(DatadirMismatch):
        await serve_datadir(tmp_path / "s", network=other)
    with open_datadir(tmp_path / "s") as datadir:
        datadir.accounts.put(DEBT + b"\x00", b"\x01")
    with pytest.raises(NotHeld):
        await serve_datadir(tmp_path / "s")
    with open_datadir(tmp_path / "empty", Format(FORMAT_VERSION, "elsewhere", 1, "0x")):
        pass
    with pytest.raises(NotHeld):
        await serve_datadir(tmp_path / "empty")
