"""The sentence that says why no peer comes, and the numbers behind it."""

from __future__ import annotations

from ethsync.discovery.candidate import Reason, Source, Usefulness
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.node import Node
from ethsync.discovery.tally import UDP_BLOCKED, Statistics
from tests.unit.discovery.crowds import key, node, offer_all, pool, scattered


def try_all(candidates: Candidates, nodes: list[Node], reason: Reason) -> None:
    """Dial nodes at time 0, all for the same end."""
    for each in nodes:
        candidates.dialled(each.public_key, 0.0)
        candidates.failed(each.public_key, reason, 0.0)


def test_without_any_node_udp_is_suspected() -> None:
    candidates = pool()
    assert candidates.explain(5.0) == UDP_BLOCKED == "no node found yet by discovery: is UDP blocked?"
    candidates.offer(node(1, "20.1.1.1"), Source.BOOT, 0.0)  # which we knew without looking
    assert candidates.explain(5.0) == UDP_BLOCKED


def test_unless_nobody_looks_for_nodes() -> None:
    assert pool().explain(5.0, discovering=False) is None


def test_nodes_that_are_about_to_be_dialled_need_no_explanation() -> None:
    candidates = pool()
    offer_all(candidates, scattered(20))
    assert candidates.explain(0.0) is None
    candidates.dialled(key("honest 1"), 0.0)
    assert candidates.explain(1.0) is None


def test_if_all_nodes_found_are_on_another_fork_it_says_so_with_an_example() -> None:
    sentence = "the peer follows another chain or a fork we do not know (fork id {}/0)"
    whys = {key(f"honest {n}"): sentence.format("0badf00d" if n < 200 else "12345678") for n in range(312)}
    candidates = pool(refuses=lambda each: whys[each.public_key])
    offer_all(candidates, scattered(312))
    assert candidates.explain(9.0) == (
        "discovery finds nodes, but none of the 312 can be of use: "
        "the peer follows another chain or a fork we do not know (fork id 0badf00d/0) (312 times)"
    )


def test_different_causes_are_counted_apart() -> None:
    def refuses(each: Node) -> str:
        return "its record has no eth entry: x" if each.endpoint.ip.packed[2] < 100 else "the software is too old: y"

    candidates = pool(refuses=refuses)
    offer_all(candidates, scattered(150))
    assert candidates.explain(9.0) == (
        "discovery finds nodes, but none of the 150 can be of use: "
        "its record has no eth entry: x (100 times); the software is too old: y (50 times)"
    )


def test_if_nobody_at_all_can_be_reached_tcp_is_suspected() -> None:
    candidates = pool()
    nodes = scattered(412)
    offer_all(candidates, nodes)
    try_all(candidates, nodes[:411], Reason.UNREACHABLE)
    assert candidates.explain(1.0) == "411 nodes tried, none reachable: is outbound TCP blocked?"


def test_a_few_in_vain_are_no_reason_for_suspicion() -> None:
    candidates = pool()
    nodes = scattered(9)
    offer_all(candidates, nodes)
    try_all(candidates, nodes[:1], Reason.UNREACHABLE)
    assert candidates.explain(1.0) == "1 node tried, none reachable so far"
    try_all(candidates, nodes[1:7], Reason.UNREACHABLE)
    assert candidates.explain(1.0) == "7 nodes tried, none reachable so far"


def test_mixed_failures_are_listed_the_most_frequent_first() -> None:
    candidates = pool()
    nodes = scattered(70)
    offer_all(candidates, nodes)
    try_all(candidates, nodes[:30], Reason.TOO_MANY_PEERS)
    try_all(candidates, nodes[30:50], Reason.UNREACHABLE)
    assert candidates.explain(1.0) == ("50 nodes tried: 30 had no room for another peer and 20 could not be reached")
    try_all(candidates, nodes[50:60], Reason.OTHER_CHAIN)
    try_all(candidates, nodes[60:65], Reason.NO_SNAP)
    assert candidates.explain(1.0) == (
        "65 nodes tried: 30 had no room for another peer, 20 could not be reached, "
        "10 followed another chain or fork and 5 for other reasons"
    )


def test_with_a_static_node_out_of_reach_and_nothing_found_both_are_said() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.STATIC, 0.0)
    candidates.dialled(key(1), 0.0)
    candidates.failed(key(1), Reason.UNREACHABLE, 0.0)
    assert (candidates.explain(0.0) or "").startswith(
        f"1 node tried, none reachable so far; {UDP_BLOCKED} (next try in "
    )
    assert (candidates.explain(0.0, discovering=False) or "").startswith("1 node tried, none reachable so far (next")


def test_while_everybody_is_left_alone_it_says_for_how_long() -> None:
    candidates = pool()
    candidates.offer(node(1, "192.168.0.1"), Source.DISCV5, 0.0)
    candidates.dialled(key(1), 0.0)
    candidates.failed(key(1), Reason.NO_SNAP, 0.0)
    (candidate,) = candidates
    assert candidates.explain(candidate.due - 600.0) == "1 node tried: 1 offered no snap (next try in 600 s)"


def test_nodes_that_were_not_tried_are_mentioned_too() -> None:
    candidates = pool(refuses=lambda each: "its record has no eth entry" if each.endpoint.ip.packed[2] >= 10 else None)
    nodes = scattered(30)
    offer_all(candidates, nodes)
    try_all(candidates, nodes[:9], Reason.UNREACHABLE)
    assert candidates.explain(1.0) == (
        "9 nodes tried, none reachable: is outbound TCP blocked? "
        "20 more were not tried: its record has no eth entry (20 times)"
    )


def test_once_a_peer_has_come_there_is_nothing_to_explain() -> None:
    candidates = pool()
    nodes = scattered(20)
    offer_all(candidates, nodes)
    try_all(candidates, nodes[:19], Reason.UNREACHABLE)
    candidates.connected(nodes[19].public_key, "Geth/v1", 1.0)
    assert candidates.explain(1.0) is None
    candidates.ended(nodes[19].public_key, Usefulness(0, 0), 2.0)
    assert candidates.explain(2.0) is not None


def test_the_numbers_are_those_of_the_present() -> None:
    candidates = pool(refuses=lambda each: "no" if each.public_key == key("honest 19") else None)
    nodes = scattered(20)
    offer_all(candidates, nodes)
    try_all(candidates, nodes[:5], Reason.UNREACHABLE)
    try_all(candidates, nodes[4:6], Reason.TOO_MANY_PEERS)
    candidates.dialled(nodes[6].public_key, 0.0)
    candidates.connected(nodes[7].public_key, "Geth/v1", 0.0)
    candidates.offer(nodes[8], Source.DNS, 0.0)
    assert candidates.statistics() == Statistics(
        known=19,
        ready=11,
        dialling=1,
        connected=1,
        tried=7,
        by_source={Source.DNS: 1, Source.DISCV5: 19},
        by_reason={Reason.UNREACHABLE: 4, Reason.TOO_MANY_PEERS: 2},
        passed_over=1,
        tried_by_source={Source.DISCV5: 7},
    )
