"""Following one DNS node list: what is asked, in which order and when; its root and its updates."""

from __future__ import annotations

import random

from ethsync.discovery.dns_subtree import (
    FIRST_RETRY,
    MOST_ATTEMPTS,
    MOST_LINK_ENTRIES,
    Subtree,
)
from ethsync.discovery.dns_sync import (
    FIRST_ROOT_RETRY,
    LONGEST_ROOT_RETRY,
    MOST_TEXTS,
    RECHECK,
)
from ethsync.discovery.dns_tree import entry_name
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
from tests.unit.discovery.dns_bench import EMPTY, branch, ids, sync_of

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
