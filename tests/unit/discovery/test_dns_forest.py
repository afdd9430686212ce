"""Following several DNS node lists: links between them, their turns, and the rate of lookups."""

from __future__ import annotations

import itertools
import random

import pytest

from ethsync.discovery.dns_forest import (
    LOOKUP_BURST,
    LOOKUPS_PER_SECOND,
    MOST_LINK_DEPTH,
    MOST_LINKED,
    Forest,
    Lookup,
)
from ethsync.discovery.dns_subtree import (
    MOST_DEPTH,
    MOST_RECORD_ENTRIES,
)
from ethsync.discovery.dns_sync import (
    RECHECK,
)
from ethsync.discovery.dns_tree import MOST_CHILDREN, Link, entry_name
from tests.oracles.node_lists import (
    OTHER_KEY,
    link_to,
    make_list,
    make_records,
)
from tests.unit.discovery.dns_bench import ids

# Several lists


def read_all(forest: Forest, *zones: dict[str, str]) -> tuple[list[Lookup], float]:
    """Answer everything until the forest is settled. Returns the lookups and the time at the end."""
    now = 0.0
    lookups: list[Lookup] = []
    while not forest.settled:
        now = max(now, forest.deadline)
        lookup = forest.next_lookup(now)
        assert lookup is not None
        lookups.append(lookup)
        texts = [zone[lookup.name] for zone in zones if lookup.name in zone]
        if texts:
            forest.resolved(lookup, texts, now)
        else:
            forest.failed(lookup, now, "no such name")
    return lookups, now


def forest_of(*domains: str) -> Forest:
    return Forest([link_to(domain) for domain in domains], random.Random(1))


def test_lists_that_link_to_each_other_and_themselves_are_read_once() -> None:
    records = make_records(20)
    links = [link_to("a"), link_to("b")]
    zone = make_list("a", records[:10], links) | make_list("b", records[10:], links)
    forest = forest_of("a")
    lookups, _ = read_all(forest, zone)
    assert ids(forest.records()) == ids(records)
    assert sorted(lookup.name for lookup in lookups) == sorted(zone)
    assert list(forest.trees) == links


def test_a_list_of_another_owner_at_the_same_domain_is_another_list() -> None:
    ours, theirs = make_list("a", make_records(3)), make_list("a", make_records(3, first=3), key=OTHER_KEY)
    forest = Forest([link_to("a"), link_to("a", OTHER_KEY)], random.Random(1))
    read_all(forest, theirs, ours)
    assert ids(forest.records()) == ids(make_records(6))


def test_a_lookup_knows_whether_it_is_for_a_root() -> None:
    assert Lookup(link_to("a.org"), "a.org").entry == ""
    assert Lookup(link_to("a.org"), f"{entry_name('x')}.a.org").entry == entry_name("x")


def test_links_are_followed_only_so_many_steps() -> None:
    steps = MOST_LINK_DEPTH + 3
    zone: dict[str, str] = {}
    for number in range(steps):
        zone |= make_list(f"{number}.org", make_records(1, first=number), [link_to(f"{number + 1}.org")])
    forest = forest_of("0.org")
    read_all(forest, zone)
    assert len(forest.trees) == len(forest.records()) == MOST_LINK_DEPTH + 1


def test_links_are_followed_only_to_so_many_lists_and_those_asked_for_always() -> None:
    given = [f"given{number}.org" for number in range(MOST_LINKED + 5)]
    zone = make_list(given[0], links=[link_to(f"{number}.org") for number in range(3 * MOST_LINKED)])
    for domain in (*given[1:], *(f"{number}.org" for number in range(3 * MOST_LINKED))):
        zone |= make_list(domain)
    forest = forest_of(*given, given[0])
    read_all(forest, zone)
    assert len(forest.trees) == len(given) + MOST_LINKED
    assert set(forest.trees) >= {link_to(domain) for domain in given}


def test_a_list_that_is_no_longer_linked_to_is_forgotten_with_all_that_only_it_linked_to() -> None:
    zone = make_list("a", links=[link_to("b")]) | make_list("b", links=[link_to("c")]) | make_list("c")
    forest = forest_of("a")
    _, now = read_all(forest, zone)
    assert list(forest.trees) == [link_to("a"), link_to("b"), link_to("c")]
    late = Lookup(link_to("b"), "b")
    zone |= make_list("a", links=[link_to("d")], seq=2) | make_list("d")
    now += RECHECK
    while (lookup := forest.next_lookup(now)) is not None:
        forest.resolved(lookup, [zone[lookup.name]], now)
        now = max(now, forest.deadline if forest.deadline < now + 10 else now)
    assert list(forest.trees) == [link_to("a"), link_to("d")]
    forest.resolved(late, [zone["b"]], now)
    forest.failed(late, now, "no such name")
    assert list(forest.trees) == [link_to("a"), link_to("d")]


def test_a_list_that_cannot_be_had_does_not_hold_up_another() -> None:
    forest = forest_of("dead.org", "a.org")
    read_all(forest, make_list("a.org", make_records(30)))
    assert len(forest.records()) == 30
    assert forest.trees[link_to("dead.org")].root is None


def test_after_a_first_burst_lookups_keep_to_their_rate() -> None:
    forest, times = forest_of("a"), []
    zone, now = make_list("a", make_records(60)), 100.0
    while not forest.settled:
        now = max(now, forest.deadline)
        lookup = forest.next_lookup(now)
        assert lookup is not None
        times.append(now)
        forest.resolved(lookup, [zone[lookup.name]], now)
    assert times[:LOOKUP_BURST] == [100.0] * LOOKUP_BURST
    assert forest.next_lookup(now) is None
    for sooner, later in itertools.pairwise(times[LOOKUP_BURST:]):
        assert later - sooner == pytest.approx(1 / LOOKUPS_PER_SECOND)
    assert times[-1] - times[0] == pytest.approx((len(times) - LOOKUP_BURST) / LOOKUPS_PER_SECOND)


def test_after_a_pause_there_is_no_more_than_one_burst() -> None:
    forest = forest_of(*(f"{number}.org" for number in range(50)))
    for now in (0.0, 10_000.0):
        asked = 0
        while forest.next_lookup(now) is not None:
            asked += 1
        assert LOOKUP_BURST - 1 <= asked <= LOOKUP_BURST  # one less where a third is not exact


def test_without_lists_there_is_nothing_to_do() -> None:
    forest = Forest([], random.Random(1))
    assert forest.settled
    assert forest.deadline == float("inf")
    assert forest.next_lookup(0.0) is None


def test_all_lists_have_their_turn() -> None:
    zone = make_list("a", make_records(100)) | make_list("b", make_records(100, first=100))
    lookups, _ = read_all(forest_of("a", "b"), zone)
    turns = [lookup.link for lookup in lookups[:40]]
    assert min(turns.count(link) for link in {*turns}) >= 10
    assert len({*turns}) == 2


def test_the_limits_hold_a_real_list_with_room_to_spare() -> None:
    """Mainnet's list of all nodes had some thousand records in 2025; branches of 13 children hold it in few levels."""
    assert MOST_CHILDREN**MOST_DEPTH > MOST_RECORD_ENTRIES >= 10_000


def test_links_are_values() -> None:
    assert len({link_to("a"), Link(link_to("a").public_key, "a"), link_to("b")}) == 2
