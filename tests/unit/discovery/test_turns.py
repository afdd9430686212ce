"""The set that turns are drawn from, and whose address is whose."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.discovery.turns import RandomSet, network


class Item:
    """Counts how often any two of its kind are compared."""

    compared = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        Item.compared += 1
        return isinstance(other, Item) and self.number == other.number


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 25)), max_size=100))
def test_a_random_set_is_a_set(events: list[tuple[bool, int]]) -> None:
    found: RandomSet[int] = RandomSet()
    expected: set[int] = set()
    for adds, item in events:
        (found.add if adds else found.discard)(item)
        (expected.add if adds else expected.discard)(item)
        assert len(found) == len(expected)
        assert set(found) == expected
        assert all((each in found) == (each in expected) for each in range(26))


@pytest.mark.parametrize("size", [3, 30])
def test_all_items_are_drawn_equally_often(size: int) -> None:
    items: RandomSet[int] = RandomSet()
    for item in range(size):
        items.add(item)
    rng = random.Random(1)
    drawn = Counter(items.draw(rng) for _ in range(1000 * size))
    assert set(drawn) == set(range(size))
    assert all(800 < count < 1200 for count in drawn.values())


def test_nothing_can_be_drawn_from_an_empty_set() -> None:
    with pytest.raises(IndexError):
        RandomSet[int]().draw(random.Random(1))


def test_in_a_large_set_nothing_is_searched_for() -> None:
    items: RandomSet[Item] = RandomSet()
    for number in range(10_000):
        items.add(Item(number))
    Item.compared = 0
    for number in range(0, 10_000, 100):
        items.discard(Item(number))
    assert len(items) == 9900
    assert Item.compared < 1000


def test_a_network_is_a_24_of_ipv4_and_a_32_of_ipv6() -> None:
    assert network(ip_address("20.1.2.3")) == network(ip_address("20.1.2.200")) != network(ip_address("20.1.3.3"))
    assert network(ip_address("2a01:4f8:1::1")) == network(ip_address("2a01:4f8:ffff::1"))
    assert network(ip_address("2a01:4f8:1::1")) != network(ip_address("2a01:4f9:1::1"))
