"""DNS node lists that are incomplete, and owners and resolvers that misbehave."""

from __future__ import annotations

import itertools
import random

import pytest

from ethsync.discovery.dns_subtree import (
    FIRST_RETRY,
    MOST_DEPTH,
    MOST_LINK_ENTRIES,
    MOST_RECORD_ENTRIES,
    Subtree,
)
from ethsync.discovery.dns_sync import (
    MOST_MISSES,
    RECHECK,
    RECHECK_SOONER,
)
from ethsync.discovery.dns_tree import entry_name
from ethsync.errors import MalformedMessage
from ethsync.wire.enr import NodeRecord
from tests.oracles.node_lists import (
    link_to,
    look_up,
    make_list,
    make_records,
    short_name,
    signed,
)
from tests.unit.discovery.dns_bench import EMPTY, branch, ids, sync_of

# What is missing


def test_a_missing_entry_is_asked_for_again_later_and_then_given_up() -> None:
    zone = make_list("n", make_records(3))
    gone = next(name for name, text in zone.items() if text.startswith("enr:"))
    sync = sync_of()
    whole = dict(zone)
    del zone[gone]
    look_up(sync, zone, 0.0)
    assert not sync.settled
    assert sync.deadline == FIRST_RETRY
    assert look_up(sync, zone, FIRST_RETRY) == [gone]
    assert look_up(sync, zone, 3 * FIRST_RETRY - 0.1) == []
    assert look_up(sync, zone, 3 * FIRST_RETRY) == [gone]
    assert sync.settled
    assert sync.records_half.lost == 1
    assert len(sync.records()) == 2
    # The next look at the root makes it wanted again, although nothing has changed.
    assert look_up(sync, whole, RECHECK_SOONER) == ["n", gone]
    assert len(sync.records()) == 1
    assert sync.records_half.lost == 0


def test_after_a_missing_entry_the_root_is_looked_at_sooner_but_less_and_less_often_if_nothing_has_changed() -> None:
    zone, sync, now = make_list("n", make_records(3)), sync_of(), 0.0
    del zone[next(name for name, text in zone.items() if text.startswith("enr:"))]
    checks: list[float] = []
    while len(checks) < 9:
        if "n" in look_up(sync, zone, now):
            checks.append(now)
        now = max(now, sync.deadline)
    gaps = [later - sooner for sooner, later in itertools.pairwise(checks)]
    assert gaps[:5] == [RECHECK_SOONER * 2**number for number in range(5)]
    assert gaps[5:] == [RECHECK] * 3


def test_when_many_entries_in_a_row_are_missing_the_list_waits_for_its_root() -> None:
    records = make_records(60)
    sync = sync_of()
    old, new = make_list("n", records[:30]), make_list("n", records[30:], seq=2)
    branches = {name: text for name, text in old.items() if not text.startswith("enr:")}
    names = look_up(sync, branches, 0.0)
    assert len([name for name in names if name not in branches]) == MOST_MISSES + 1
    assert sync.settled
    assert sync.deadline == RECHECK_SOONER
    look_up(sync, new, RECHECK_SOONER)
    assert ids(sync.records()) == ids(records[30:])


def test_entries_missing_here_and_there_do_not_stop_the_reading() -> None:
    zone, sync = make_list("n", make_records(100)), sync_of()
    gone = [name for name, text in zone.items() if text.startswith("enr:")][::6]
    names = look_up(sync, {name: text for name, text in zone.items() if name not in gone}, 0.0)
    assert len(gone) > 2 * MOST_MISSES
    assert sorted(names) == sorted(zone)
    assert len(sync.records()) == 100 - len(gone)


def test_an_entry_with_another_hash_than_its_name_counts_as_missing() -> None:
    zone, sync = make_list("n", make_records(2)), sync_of()
    first, second = (name for name, text in zone.items() if text.startswith("enr:"))
    look_up(sync, {**zone, first: zone[second]}, 0.0)
    assert len(sync.records()) == 1
    assert "hash" in sync.trouble
    assert look_up(sync, zone, FIRST_RETRY) == [first]
    assert len(sync.records()) == 1


def test_a_forged_text_beside_the_right_one_does_no_harm() -> None:
    zone, sync = make_list("n", make_records(3)), sync_of()
    forged = str(make_records(1, first=99)[0])
    while (name := sync.next_name(0.0)) is not None:
        sync.resolved(name, [forged, EMPTY, zone[name]], 0.0)
    assert ids(sync.records()) == ids(make_records(3))


# Owners that misbehave: everything below is properly signed


def test_a_link_among_records_and_a_record_among_links_are_refused() -> None:
    record, link = str(make_records(1)[0]), str(link_to("other.org"))
    sync = sync_of()
    look_up(sync, signed(link, record), 0.0)
    assert sync.records() == []
    assert sync.links == ()
    assert [half.refused for half in sync.halves] == [1, 1]


def test_an_entry_that_is_named_many_times_is_asked_for_once() -> None:
    record = str(make_records(1)[0])
    lower = f"{EMPTY}{entry_name(record)},{short_name(record)},{entry_name(record)}"
    top = f"{EMPTY}{entry_name(lower)},{short_name(lower)},{entry_name(record)}"
    zone = {**signed(top, EMPTY), f"{entry_name(lower)}.n": lower, f"{entry_name(record)}.n": record}
    zone |= {f"{short_name(text)}.n": text for text in (lower, record)}
    sync = sync_of()
    assert len(look_up(sync, zone, 0.0)) == 5  # the root, the empty branch, and the three entries
    assert len(sync.records()) == 1


@pytest.mark.parametrize(("branches", "found"), [(MOST_DEPTH, 1), (MOST_DEPTH + 1, 0), (MOST_DEPTH + 20, 0)])
def test_branches_are_followed_down_to_a_certain_depth(branches: int, found: int) -> None:
    text = str(make_records(1)[0])
    zone = {f"{entry_name(text)}.n": text}
    for _ in range(branches):
        text = branch(text)
        zone[f"{entry_name(text)}.n"] = text
    sync = sync_of()
    names = look_up(sync, {**zone, **signed(text, EMPTY)}, 0.0)
    assert len(sync.records()) == found
    assert sync.records_half.beyond == 1 - found
    assert len(names) <= MOST_DEPTH + 3


def test_a_list_without_end_takes_a_bounded_number_of_entries() -> None:
    rng = random.Random(1)
    made: dict[str, str] = {}

    def more(levels: int) -> str:
        """A branch of 100 children that are random, or branches themselves."""
        children = [more(levels - 1) if levels else EMPTY + str(rng.random()) for _ in range(100 if levels < 2 else 5)]
        text = branch(*children)
        made[f"{entry_name(text)}.n"] = text
        return text

    half = Subtree(NodeRecord, 2000, rng)
    half.follow(entry_name(more(2)))
    while (missing := half.take(0.0)) is not None:
        text = made.get(f"{missing.name}.n")
        if text is not None:
            half.accept(missing, text)
        assert half.unresolved <= 2000
        assert len(half) <= 2001
    assert half.beyond > 5000


def test_a_list_that_names_the_same_entries_again_and_again_is_bounded_too() -> None:
    shared = [f"{EMPTY}{entry_name(str(number))}" for number in range(100)]
    tops = [branch(*shared[number:], *shared[:number]) for number in range(100)]
    half = Subtree(NodeRecord, 500, random.Random(1))
    texts = {entry_name(text): text for text in (*shared, *tops, branch(*tops))}
    half.follow(entry_name(branch(*tops)))
    while (missing := half.take(0.0)) is not None:
        if missing.name in texts:
            half.accept(missing, texts[missing.name])
    assert half.beyond >= 95 * 100


def test_both_halves_of_a_list_have_their_limit() -> None:
    sync = sync_of()
    children = 150
    texts = [EMPTY + ",".join(entry_name(f"{a} {b}") for b in range(children)) for a in range(children)]
    top = branch(*texts)
    zone = {f"{entry_name(text)}.n": text for text in texts}
    zone |= signed(top, top)
    while (name := sync.next_name(0.0)) is not None:
        if name in zone:
            sync.resolved(name, [zone[name]], 0.0)
    assert len(sync.links_half) + sync.links_half.unresolved <= MOST_LINK_ENTRIES + 1
    assert len(sync.records_half) + sync.records_half.unresolved <= MOST_RECORD_ENTRIES + 1
    assert all(half.beyond for half in sync.halves)


def test_a_refused_entry_says_what_is_wrong() -> None:
    half = Subtree(NodeRecord, 10, random.Random(1))
    half.follow(entry_name("nonsense"))
    missing = half.take(0.0)
    assert missing is not None
    with pytest.raises(MalformedMessage, match="no entry"):
        half.accept(missing, "nonsense")
