"""Small networks of nodes with the real discv4 and discv5, in virtual time and without sockets."""

from __future__ import annotations

import pytest

from tests.simulation.wired import Network, WiredNode

COUNT = 10


def network(protocols: tuple[str, ...], *, loss: float = 0.0) -> Network:
    """Nodes that know nobody but the first of them."""
    net = Network(1, loss=loss)
    first = net.add(WiredNode(1, [], protocols))
    for number in range(2, COUNT + 1):
        net.add(WiredNode(number, [first.record], protocols))
    return net


def ids(net: Network, but: WiredNode) -> set[bytes]:
    return {node.record.node_id for node in net.nodes.values() if node is not but}


@pytest.mark.parametrize("protocol", ["discv4", "discv5"])
def test_everybody_finds_everybody_from_one_boot_node(protocol: str) -> None:
    net = network((protocol,))
    net.run(20)
    for node in net.nodes.values():
        assert set(node.found[protocol]) == ids(net, node)
        # Each came with its record, so that its fork can be checked before it is dialled.
        assert all(found.record is not None for found in node.found[protocol].values())


@pytest.mark.parametrize("protocol", ["discv4", "discv5"])
def test_lost_packets_cost_time_and_nothing_else(protocol: str) -> None:
    net = network((protocol,), loss=0.2)
    net.run(40)
    last = list(net.nodes.values())[-1]
    assert set(last.found[protocol]) == ids(net, last)


def test_both_protocols_share_a_port() -> None:
    net = network(("discv4", "discv5"))
    net.run(10)
    last = list(net.nodes.values())[-1]
    assert set(last.found["discv4"]) == set(last.found["discv5"]) == ids(net, last)
    assert last.finder.counts["of no protocol"] == 0


def test_others_say_where_they_see_us() -> None:
    net = network(("discv5",))
    net.run(10)
    for node in net.nodes.values():
        assert {report.endpoint for report in node.reports} == {node.endpoint}
        assert len({report.reporter for report in node.reports}) >= 3


@pytest.mark.parametrize("protocol", ["discv4", "discv5"])
def test_after_an_hour_without_network_nodes_are_found_again_within_a_minute(protocol: str) -> None:
    net = network((protocol,))
    net.run(10)
    ours = list(net.nodes.values())[-1]
    for node in net.nodes.values():
        node.finder.want(node is ours, net.now)
    # Given that for an hour nobody could be reached (what the others do meanwhile is of no interest)
    everybody, net.nodes = net.nodes, {ours.endpoint: ours}
    net.down.add(ours.endpoint)
    net.run(3600)
    net.nodes = everybody
    sent = ours.finder.counts["sent"]
    received = ours.finder.counts[f"{protocol} received"]
    net.down.clear()
    # When the network is back, then within a minute the table is full again and lookups are answered;
    net.run(60)
    assert ours.finder.lanes[protocol].table.confirmed >= COUNT // 2
    assert ours.finder.counts[f"{protocol} received"] - received >= COUNT
    # and the boot node was not hammered meanwhile: a question every half minute, and its handshake.
    assert sent < 3600
