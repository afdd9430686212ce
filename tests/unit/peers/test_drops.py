"""What is remembered of dropped nodes."""

from __future__ import annotations

from ethsync.peers.drops import MOST_DROPS, Drop, Drops

A, B = b"\x0a" * 64, b"\x0b" * 64


def test_a_node_is_counted_once_for_each_connection_that_we_ended() -> None:
    drops = Drops()
    drops.note(A, "geth at 192.0.2.1:30303", "first", 1)
    drops.note(A, "geth at 192.0.2.1:30303", "also on that connection", 1)
    assert str(drops.get(A)) == "geth at 192.0.2.1:30303 was dropped: first"
    drops.note(A, "geth at 192.0.2.1:30303", "second", 7)
    assert str(drops.get(A)) == "geth at 192.0.2.1:30303 was dropped 2 times: second"


def test_a_lie_is_what_counts_of_a_connection() -> None:
    drops = Drops()
    drops.note(A, "geth", "undecodable", 1)
    drops.note(A, "geth", "a lie", 1, banned=True)
    drops.note(A, "geth", "undecodable again", 1)
    assert drops.get(A) == Drop("geth", "a lie", 1, banned=True)


def test_a_reason_that_begins_with_the_peer_does_not_name_it_twice() -> None:
    drops = Drops()
    drops.note(A, "geth", "geth answered what was never asked", 1)
    assert str(drops.get(A)) == "geth was dropped: answered what was never asked"


def test_the_last_one_is_at_the_end() -> None:
    drops = Drops()
    for connection, key in enumerate([A, B, A]):
        drops.note(key, key.hex()[:2], "", connection)
    assert [drop.peer for drop in drops.all()] == ["0b", "0a"]


def test_the_memory_is_bounded() -> None:
    drops = Drops()
    for number in range(MOST_DROPS + 5):
        drops.note(number.to_bytes(64, "big"), str(number), "", number)
    assert len(drops) == MOST_DROPS
    assert drops.get((4).to_bytes(64, "big")) is None
    assert (5).to_bytes(64, "big") in drops
