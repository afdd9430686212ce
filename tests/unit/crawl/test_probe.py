"""A look at one node: what it says, what it really does, and every way in which the look may end early."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import coincurve
import pytest
import trio
from trio.testing import MockClock

from ethsync.commands.probe import lines
from ethsync.commands.targets import parse_target
from ethsync.crawl.facts import probe_facts
from ethsync.crawl.probe import Probe, Snap, probe_node
from ethsync.errors import ConfigError, PeerError
from ethsync.peers.greeting import ChainView
from ethsync.rlpx.connection import accept_connection
from ethsync.serve.demo import demo_network
from ethsync.serve.profiles import PROFILES
from ethsync.serve.server import ServerOptions, open_server
from ethsync.state.view import StateView
from ethsync.wire import keys
from ethsync.wire.enode import Enode
from ethsync.wire.enr import address_pairs, sign_record
from ethsync.wire.p2p import Capability, Hello

KEY = coincurve.PrivateKey(b"\1" * 32)
NETWORK = demo_network()


async def look_at(view: StateView, profile: str) -> Probe:
    async with open_server(view, network=NETWORK, options=ServerOptions(profile=PROFILES[profile])) as server:
        return await probe_node(server.enode, KEY, rng=Random(1))


async def test_a_node_that_serves_its_head_is_seen_to_serve_it(view: StateView) -> None:
    # When a healthy node is looked at, without saying beforehand which chain it is on
    probe = await look_at(view, "geth")
    # Then everything is known of it, and its accounts are proven against its own head.
    assert probe.error is None
    assert probe.client is not None
    assert probe.client.startswith("ethsync/")
    assert probe.status is not None
    assert probe.head is not None
    assert (probe.status.head_hash, probe.head.state_root) == (view.header.hash, view.state_root)
    assert probe.snap is Snap.SERVES
    assert probe.accounts > 0
    assert probe.connect is not None
    assert probe.latency is not None


@pytest.mark.parametrize(
    ("profile", "verdict"),
    [
        ("besu", Snap.EMPTY),
        ("changed-value", Snap.DISPROVED),
        ("corrupt-proof", Snap.DISPROVED),
        ("no-proof", Snap.MALFORMED),
    ],
)
async def test_a_node_that_only_claims_to_serve_snap_is_seen_through(
    view: StateView, profile: str, verdict: Snap
) -> None:
    probe = await look_at(view, profile)
    assert (probe.snap, probe.accounts) == (verdict, 0)
    assert probe.error is None


async def test_a_node_that_does_not_answer_snap_requests(view: StateView, mock_clock: MockClock) -> None:
    mock_clock.rate = 20
    assert (await look_at(view, "silent")).snap is Snap.SILENT


async def test_a_node_that_waits_for_our_status_gets_it(view: StateView, mock_clock: MockClock) -> None:
    """Given a node that sends its Status only after ours, and then shows whether ours was of its chain."""
    mock_clock.rate = 20
    theirs = coincurve.PrivateKey(b"\2" * 32)
    heard: list[int] = []

    async def serve(stream: trio.SocketStream) -> None:
        hello = Hello("shy/1", (Capability("eth", 69), Capability("snap", 1)), keys.identity(theirs.public_key))
        try:
            async with accept_connection(stream, key=theirs, hello=hello) as connection:
                message = await connection.receive()
                heard.append(message.code)
                await connection.send("eth", message.code, message.payload)
                await connection.receive()
        except PeerError:
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        enode = Enode(keys.identity(theirs.public_key), "127.0.0.1", listener.socket.getsockname()[1], 0)
        probe = await probe_node(enode, KEY, ChainView(NETWORK, 0, 0))
        nursery.cancel_scope.cancel()
    assert heard == [0]
    assert probe.status is not None
    assert probe.status.genesis_hash == NETWORK.genesis_hash


async def test_a_port_that_nobody_listens_at() -> None:
    with trio.socket.socket() as held:
        await held.bind(("127.0.0.1", 0))
        probe = await probe_node(Enode(keys.identity(KEY.public_key), "127.0.0.1", held.getsockname()[1], 0), KEY)
    assert not probe.reached
    assert probe.error == "no TCP connection: Connection refused"
    assert lines(probe, probe_facts(probe, [], 0))[0].endswith(f"cannot be reached: {probe.error}")


async def test_a_node_with_another_key_than_we_dialled(view: StateView) -> None:
    async with open_server(view, network=NETWORK) as server:
        other = keys.identity(coincurve.PrivateKey(b"\3" * 32).public_key)
        probe = await probe_node(replace(server.enode, public_key=other), KEY)
    assert probe.reached
    assert probe.client is None
    assert probe.error


async def test_facts_are_plain_values_and_name_the_network(view: StateView) -> None:
    probe = await look_at(view, "geth")
    now = view.header.timestamp + 60
    facts = probe_facts(probe, [NETWORK], now)
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["network"], facts["fork"], facts["head_age_s"]) == (NETWORK.name, "compatible", 60)
    assert (facts["snap"], facts["latest_block"]) == ("serves", view.header.number)
    text = "\n".join(lines(probe, facts))
    assert "really served for its head, and proven" in text
    # Of an unknown network only what the node says can be told.
    unknown = probe_facts(probe, [], now)
    assert (unknown["network"], unknown["fork"], unknown["network_id"]) == (None, None, NETWORK.network_id)


def test_a_node_record_names_a_target_as_well_as_an_enode() -> None:
    from ipaddress import IPv4Address, IPv6Address

    key = keys.identity(KEY.public_key)
    v4 = sign_record(KEY, 1, address_pairs(IPv4Address("192.0.2.1"), tcp=30303, udp=30301))
    assert parse_target(str(v4)) == Enode(key, "192.0.2.1", 30303, 30301)
    v6 = sign_record(KEY, 1, address_pairs(ip6=IPv6Address("2001:db8::1"), tcp6=30304))
    assert parse_target(str(v6)) == Enode(key, "2001:db8::1", 30304, 0)
    assert parse_target(f"enode://{key.hex()}@192.0.2.1:30303") == Enode(key, "192.0.2.1", 30303, 30303)
    with pytest.raises(ConfigError, match="no address with a TCP port"):
        parse_target(str(sign_record(KEY, 1, address_pairs(IPv4Address("192.0.2.1"), udp=30301))))
