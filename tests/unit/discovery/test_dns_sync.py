"""Following DNS node lists: what is asked, in which order and when; updates; owners and resolvers that misbehave."""

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
    FIRST_RETRY,
    MOST_ATTEMPTS,
    MOST_DEPTH,
    MOST_LINK_ENTRIES,
    MOST_RECORD_ENTRIES,
    Subtree,
)
from ethsync.discovery.dns_sync import (
    FIRST_ROOT_RETRY,
    LONGEST_ROOT_RETRY,
    MOST_MISSES,
    MOST_TEXTS,
    RECHECK,
    RECHECK_SOONER,
    TreeSync,
)
from ethsync.discovery.dns_tree import MOST_CHILDREN, Link, entry_name
from ethsync.errors import MalformedMessage
from ethsync.wire.enr import NodeRecord
from tests.oracles.node_lists import (
    GETH,
    OTHER_KEY,
    link_to,
    look_up,
    make_list,
    make_records,
    short_name,
    signed,
)

EMPTY = "enrtree-branch:"


def sync_of(domain: str = "n", seed: int = 1) -> TreeSync:
    return TreeSync(link_to(domain), random.Random(seed))


def branch(*texts: str) -> str:
    return EMPTY + ",".join(entry_name(text) for text in texts)


def ids(records: list[NodeRecord]) -> set[bytes]:
    return {record.node_id for record in records}


# Reading a list


def test_a_list_is_read_whole_every_record_once_and_every_name_asked_once() -> None:
    records = make_records(40)
    zone, sync = make_list("n", records), sync_of()
    names = look_up(sync, zone, 0.0)
    assert sorted(names) == sorted(zone)
    found = sync.records()
    assert len(found) == 40
    assert ids(found) == ids(records)
    assert sync.records() == []
    assert sync.settled


def test_the_lists_of_go_ethereum_are_read() -> None:
    sync = sync_of()
    look_up(sync, GETH["tree"], 0.0)
    assert {str(record) for record in sync.records()} == {t for t in GETH["tree"].values() if t.startswith("enr:")}
    assert [str(link) for link in sync.links] == [t for t in GETH["tree"].values() if t.startswith("enrtree://")]
    assert sync.root is not None
    assert sync.root.seq == 1


def test_a_record_that_cannot_be_read_is_left_out_and_the_rest_is_read() -> None:
    sync = sync_of()
    names = look_up(sync, GETH["tree_with_a_bad_record"], 0.0)
    assert sorted(names) == sorted(GETH["tree_with_a_bad_record"])
    assert sync.records() == []
    assert len(sync.links) == 1
    assert sync.records_half.refused == 1
    assert "INDMVBZEEQ4ESVYAKGIYU74EAA.n" in sync.trouble
    assert sync.settled
    assert look_up(sync, GETH["tree_with_a_bad_record"], 1000.0) == []  # its text cannot change: never asked again


def test_the_root_is_asked_first_then_all_links_then_records() -> None:
    links = [link_to(f"{number}.org") for number in range(20)]
    zone = make_list("n", make_records(20), links)
    names = look_up(sync_of(), zone, 0.0)
    of_links = (make_list("n", links=links).keys() & zone.keys()) - {"n"}
    assert names[0] == "n"
    assert len(of_links) == 23
    assert set(names[1:24]) == of_links


def test_records_are_read_in_an_order_of_chance() -> None:
    zone = make_list("n", make_records(20))
    orders = [look_up(sync_of(seed=seed), zone, 0.0) for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_an_empty_list_is_read_and_asked_for_again_only_when_its_root_is_due() -> None:
    sync, zone = sync_of(), make_list("n")
    look_up(sync, zone, 5.0)
    assert sync.settled
    assert sync.deadline == 5.0 + RECHECK
    assert look_up(sync, zone, 5.0 + RECHECK - 1) == []
    assert look_up(sync, zone, 5.0 + RECHECK) == ["n"]


def test_entries_may_be_named_by_hashes_of_any_length() -> None:
    record = str(make_records(1)[0])
    top = f"{EMPTY}{short_name(record)}"
    zone = {**signed(top, EMPTY), f"{short_name(record)}.n": record}
    sync = sync_of()
    look_up(sync, zone, 0.0)
    assert [str(each) for each in sync.records()] == [record]


def test_other_texts_beside_a_root_or_an_entry_do_no_harm() -> None:
    zone, sync = make_list("n", make_records(1)), sync_of()
    while (name := sync.next_name(0.0)) is not None:
        sync.resolved(name, ["v=spf1 -all", "", "enr:ä", "enr:\ud800", "x" * 5000, zone[name], "verification=1"], 0.0)
    assert len(sync.records()) == 1


def test_an_answer_to_a_question_that_was_not_asked_is_ignored() -> None:
    zone, sync = make_list("n", make_records(3)), sync_of()
    for name, text in zone.items():
        if name != "n":
            sync.resolved(name, [text], 0.0)
            sync.failed(name, 0.0, "no such name")
    assert len(look_up(sync, zone, 0.0)) == len(zone)


def test_nothing_is_asked_twice_while_the_answer_is_awaited() -> None:
    sync = sync_of()
    assert sync.next_name(0.0) == "n"
    assert sync.next_name(1.0) is None
    assert sync.deadline == float("inf")
    assert not sync.settled


# Roots


def test_a_root_that_is_not_signed_by_the_owner_leads_nowhere() -> None:
    sync = sync_of()
    assert look_up(sync, make_list("n", make_records(3), key=OTHER_KEY), 0.0) == ["n"]
    assert sync.root is None
    assert "wrong signature" in sync.trouble


def test_a_root_that_cannot_be_had_is_asked_for_again_ever_later() -> None:
    sync, now, waits = sync_of(), 0.0, []
    for _ in range(30):
        assert look_up(sync, {}, now) == ["n"]
        waits.append(sync.deadline - now)
        now = sync.deadline
    assert waits[:3] == [FIRST_ROOT_RETRY, 2 * FIRST_ROOT_RETRY, 4 * FIRST_ROOT_RETRY]
    assert max(waits) == waits[-1] == LONGEST_ROOT_RETRY
    assert sync.settled


def test_a_list_counts_as_settled_without_a_root_only_after_some_attempts() -> None:
    sync = sync_of()
    for _ in range(MOST_ATTEMPTS):
        assert not sync.settled
        look_up(sync, {}, sync.deadline if sync.deadline > 0 else 0.0)
    assert sync.settled


def test_a_root_whose_sequence_number_goes_back_is_refused() -> None:
    old, new, sync = make_list("n", make_records(5), seq=6), make_list("n", make_records(3), seq=7), sync_of()
    look_up(sync, new, 0.0)
    assert look_up(sync, old, RECHECK) == ["n"]
    assert sync.root is not None
    assert sync.root.seq == 7
    assert "sequence number 6 after 7" in sync.trouble
    assert len(sync.records()) == 3
    assert sync.deadline == RECHECK + FIRST_ROOT_RETRY


def test_of_several_roots_the_newest_valid_one_counts() -> None:
    sync, records = sync_of(), make_records(3)
    zones = [make_list("n", records[:number], seq=number) for number in (1, 3, 2)]
    forged = make_list("n", records, seq=9, key=OTHER_KEY)["n"]
    sync.next_name(0.0)
    sync.resolved("n", [*(zone["n"] for zone in zones), forged], 0.0)
    assert sync.root is not None
    assert sync.root.seq == 3


def test_only_so_many_texts_of_an_answer_are_looked_at() -> None:
    root = make_list("n")["n"]
    sync = sync_of()
    sync.next_name(0.0)
    sync.resolved("n", ["enrtree-root:v1 e=x"] * MOST_TEXTS + [root], 0.0)
    assert sync.root is None
    sync.next_name(sync.deadline)
    sync.resolved("n", ["v=spf1"] * 1000 + ["enrtree-root:v1 e=x"] * (MOST_TEXTS - 1) + [root], 0.0)
    assert sync.root is not None


# Updates


def test_of_a_new_version_only_what_is_new_is_asked_for_and_returned() -> None:
    records = make_records(60)
    old, new, sync = make_list("n", records[:59]), make_list("n", records, seq=2), sync_of()
    look_up(sync, old, 0.0)
    sync.records()
    names = look_up(sync, new, RECHECK)
    assert set(names) == {"n"} | (new.keys() - old.keys())
    assert len(names) < 10
    assert ids(sync.records()) == ids(records[59:])
    assert len(sync.records_half) == len(new) - 2  # of the old version nothing is remembered that the new one lacks


def test_a_version_that_comes_in_the_middle_of_another_is_read_whole() -> None:
    records = make_records(60)
    old, new, sync = make_list("n", records[:40]), make_list("n", records[20:], seq=2), sync_of()
    found: list[NodeRecord] = []
    for _ in range(30):
        name = sync.next_name(0.0)
        assert name is not None
        sync.resolved(name, [old[name]], 0.0)
    late = sync.next_name(0.0)
    assert late is not None
    found += sync.records()
    look_up(sync, new, RECHECK)
    sync.resolved(late, [old.get(late, "")], RECHECK)  # the answer to a question about the old version
    found += sync.records()
    assert ids(found) >= ids(records[20:])
    assert len(found) == len(ids(found))
    assert sync.settled


def test_what_was_read_of_a_version_is_remembered_past_one_that_was_not_read() -> None:
    records, sync = make_records(30), sync_of()
    first = make_list("n", records[:20])
    look_up(sync, first, 0.0)
    second = make_list("n", records[20:], seq=2)
    assert look_up(sync, {"n": second["n"]}, RECHECK)[0] == "n"  # and not one entry of it
    sync.records()
    third = make_list("n", records[1:20], seq=3)
    names = look_up(sync, third, 2 * RECHECK)
    assert not any(third[name].startswith("enr:") for name in names)
    assert sync.records() == []
    assert sync.settled


def test_not_more_is_remembered_of_old_versions_than_one_may_have() -> None:
    half = Subtree(NodeRecord, 20, random.Random(1))
    versions = [[str(record) for record in make_records(15, first=15 * number)] for number in range(4)]

    def lookups(texts: list[str]) -> int:
        """Follow a version that is never complete, because it lacks an entry. Returns how many records were asked."""
        top = branch(*texts, "missing")
        by_name = {entry_name(text): text for text in (top, *texts)}
        asked = 0
        half.follow(entry_name(top))
        while (missing := half.take(0.0)) is not None:
            if missing.name in by_name:
                asked += by_name[missing.name].startswith("enr:")
                half.accept(missing, by_name[missing.name])
        return asked

    assert [lookups(texts) for texts in versions] == [15, 15, 15, 15]
    assert lookups(versions[2]) == 15 - 4  # four of its leaves fitted beside the 16 entries of the last version
    assert lookups(versions[0]) == 15


def test_links_of_the_last_version_hold_until_the_new_one_was_read() -> None:
    first, second = link_to("first.org"), link_to("second.org")
    sync = sync_of()
    look_up(sync, make_list("n", links=[first]), 0.0)
    assert sync.links == (first,)
    new = make_list("n", links=[second], seq=2)
    look_up(sync, {"n": new["n"]}, RECHECK)
    assert sync.links == (first,)
    look_up(sync, new, RECHECK + FIRST_RETRY)
    assert sync.links == (second,)


def test_links_do_not_pile_up_while_an_owner_never_completes_a_version() -> None:
    sync, now = sync_of(), 0.0
    for seq in range(8):
        links = [link_to(f"{seq}.{number}.org") for number in range(40)]
        zone = make_list("n", links=links, seq=seq)
        del zone[next(name for name, text in zone.items() if text.startswith("enrtree://"))]
        look_up(sync, zone, now)
        now += RECHECK
    assert len(sync.links) == MOST_LINK_ENTRIES


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
