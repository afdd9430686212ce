"""A lane: whom it asks and when, what it makes of the answers, and what it hands on."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, pairwise

import pytest

from ethsync.discovery.finder import Finder
from ethsync.discovery.findings import FIRST_FETCH_PAUSE, MOST_FOUND
from ethsync.discovery.lane import (
    EAGER_PAUSE,
    FIRST_BOOT_PAUSE,
    IDLE_PAUSE,
    LONGEST_BOOT_PAUSE,
    LONGEST_EAGER_PAUSE,
    MOST_FETCHES,
    MOST_LOOKUPS,
    MOST_PINGS,
    MOST_REPORTS,
    SELF_PAUSE,
    SILENCE,
)
from ethsync.discovery.node import Node
from ethsync.discovery.protocol import AddressSeen, Found, Met, Pong, RecordFetched, Unanswered
from ethsync.discovery.table import MOST_SILENCES
from ethsync.wire.enr import NodeRecord
from tests.unit.discovery.lane_bench import BOOT, KEY, LOCAL, SOMEWHERE, Scene, others

# Beginning


def test_it_begins_by_asking_the_boot_nodes_for_our_neighbours() -> None:
    scene = Scene()
    scene.at(0.0)
    assert set(scene.asked()) == set(BOOT)
    assert scene.targets() == {LOCAL}
    assert next(iter(scene.script.searches.values()))[1].public_key == KEY


def test_where_nodes_are_named_by_key_we_are_not_looked_for_without_our_key() -> None:
    scene = Scene(needs_records=True, key=None)
    scene.at(0.0)
    assert set(scene.asked()) == set(BOOT)
    assert LOCAL not in scene.targets()


def test_boot_nodes_that_do_not_answer_are_asked_again_less_and_less_often() -> None:
    scene = Scene()
    scene.at(0.0)
    times = []
    while scene.now < 3600:
        times += [scene.now] * (BOOT[0] in scene.asked())
        scene.stay_silent()
        scene.at(scene.lane.deadline)
    pauses = [after - before for before, after in pairwise(times) if after > before]
    # In the beginning within seconds, in the end twice a minute,
    assert min(pauses[:5]) <= 1.2 * FIRST_BOOT_PAUSE
    assert all(0.8 * LONGEST_BOOT_PAUSE <= pause <= 1.2 * LONGEST_BOOT_PAUSE for pause in pauses[-20:])
    # and never in lockstep with others.
    assert max(pauses[-20:]) - min(pauses[-20:]) > 0.2 * LONGEST_BOOT_PAUSE


def test_without_boot_nodes_it_waits_for_somebody_to_come() -> None:
    scene = Scene(boot=[])
    scene.at(0.0)
    assert scene.script.searches == {}
    somebody = others(1)[0]
    scene.say(Met(somebody))
    scene.at(scene.lane.deadline)
    assert somebody in [*scene.asked(), *scene.script.pings.values()]


# Answers


def test_who_answers_a_question_is_confirmed_and_whom_it_names_is_known() -> None:
    scene = Scene()
    scene.at(0.0)
    named = others(4)
    token, (asked, _) = next(iter(scene.script.searches.items()))
    scene.say(Found(token, asked, tuple(named)))
    assert scene.table.is_confirmed(asked.node_id)
    assert all(node.node_id in scene.table and not scene.table.is_confirmed(node.node_id) for node in named)


def test_nodes_are_handed_on_once_for_every_version_of_their_record() -> None:
    scene = Scene()
    scene.settle(*BOOT)
    first, second = others(1, seq=1)[0], others(1, seq=2)[0]
    for node, expected in ((first, [first]), (first, []), (second, [second]), (first, []), (second, [])):
        scene.say(Found(0, BOOT[0], (node,)))
        assert scene.taken() == expected


def test_a_node_known_by_hearsay_is_handed_on_again_when_it_answers_itself() -> None:
    scene = Scene()
    scene.settle(*BOOT)
    (node,) = others(1)
    scene.say(Found(0, BOOT[0], (node,)))
    assert [each.answered for each in scene.taken()] == [False]
    scene.say(Pong(0, node))
    assert [each.answered for each in scene.taken()] == [True]
    # Once is enough, and a newer version does not make it hearsay again.
    scene.say(Pong(0, node), Found(0, node, ()))
    assert scene.taken() == []
    scene.say(Found(0, BOOT[0], (others(1, seq=2)[0],)))
    assert [each.answered for each in scene.taken()] == [True]


def test_who_comes_to_us_is_handed_on_too() -> None:
    scene = Scene()
    scene.settle(*BOOT)
    (node,) = others(1)
    scene.say(Met(node))
    assert scene.taken() == [node]
    assert node.node_id in scene.table


def test_what_we_know_of_a_node_goes_before_what_others_say() -> None:
    # Given a node that answers us,
    scene = Scene(needs_records=True)
    (ours,) = others(1)
    scene.settle(*BOOT, ours)
    # when somebody names it at another address,
    scene.at(scene.lane.deadline)
    elsewhere = replace(ours, endpoint=SOMEWHERE, record=None)
    scene.answer_searches(elsewhere)
    # then it is not asked there, nor for the record that we have.
    every = [*scene.asked(), *scene.script.pings.values(), *scene.script.fetches.values()]
    assert SOMEWHERE not in {node.endpoint for node in every}
    assert scene.table.get(ours.node_id) == ours


def test_silence_at_an_invented_address_does_not_evict_the_node() -> None:
    scene = Scene()
    (ours,) = others(1)
    scene.settle(*BOOT, ours)
    scene.at(scene.lane.deadline)
    token, (asked, _) = next(iter(scene.script.searches.items()))
    for _ in range(SILENCE - 1):
        scene.say(Unanswered(token, replace(asked, endpoint=SOMEWHERE), "no answer"))
    assert scene.table.is_confirmed(asked.node_id)


def test_who_comes_from_another_address_without_a_record_is_asked_there() -> None:
    scene = Scene(needs_records=True)
    (ours,) = others(1)
    scene.settle(*BOOT, ours)
    moved = replace(ours, endpoint=SOMEWHERE, record=None)
    scene.say(Met(moved))
    assert moved in scene.script.pings.values()
    scene.answer_pings()
    known = scene.table.get(ours.node_id)
    assert known is not None
    assert known.endpoint == SOMEWHERE
    assert known.record == ours.record


def test_what_others_say_of_our_address_is_passed_on() -> None:
    scene = Scene()
    reports = [AddressSeen(bytes([number]), SOMEWHERE, SOMEWHERE) for number in range(3)]
    scene.say(*reports)
    finder = Finder({"discv5": scene.lane})
    assert finder.address_reports() == reports
    assert finder.address_reports() == []


def test_nodes_and_reports_that_nobody_takes_are_bounded() -> None:
    scene = Scene()
    for number in range(MOST_FOUND + 10):
        node_id = number.to_bytes(32, "big")
        scene.say(Met(Node(node_id, bytes(64), SOMEWHERE, 1, NodeRecord(b"", 1, bytes(64), node_id, ()))))
        scene.say(AddressSeen(node_id, SOMEWHERE, SOMEWHERE))
    assert len(scene.lane.findings.found) == MOST_FOUND
    assert len(scene.lane.reports) == MOST_REPORTS


# The pace of lookups


def test_while_nodes_are_wanted_four_lookups_are_under_way_and_begin_half_a_second_apart() -> None:
    scene = Scene()
    scene.at(0.0)
    for begun in range(1, MOST_LOOKUPS):
        scene.at((begun - 0.01) * EAGER_PAUSE)
        assert len(scene.targets()) == begun
        scene.at(begun * EAGER_PAUSE)
        assert len(scene.targets()) == begun + 1
    assert MOST_LOOKUPS == 4
    scene.at(10 * EAGER_PAUSE)
    assert len(scene.targets()) == MOST_LOOKUPS


SEQS = count(2)


def run_lookups(scene: Scene, count: int, *, new: bool = False) -> list[float]:
    """Run lookups one after another; return the pauses between their starts."""
    starts: list[float] = []
    for _ in range(count):
        while not scene.script.searches:
            scene.at(scene.lane.deadline)
            scene.answer_pings()
        starts.append(scene.now)
        scene.answer_searches(*others(1, seq=next(SEQS) if new else 1))
    return [after - before for before, after in pairwise(starts)]


def test_lookups_that_find_nothing_new_become_rare() -> None:
    scene = Scene()
    scene.settle(*BOOT)
    run_lookups(scene, 2, new=True)
    pauses = run_lookups(scene, 12)
    assert pauses == sorted(pauses)
    assert pauses[:4] == [pytest.approx(EAGER_PAUSE * 2**step) for step in range(4)]
    assert pauses[-3:] == [pytest.approx(LONGEST_EAGER_PAUSE)] * 3
    # Something new makes them frequent again.
    run_lookups(scene, 2, new=True)
    assert run_lookups(scene, 4, new=True) == [pytest.approx(EAGER_PAUSE)] * 3


def test_lookups_are_rare_while_no_nodes_are_wanted_and_begin_at_once_when_they_are() -> None:
    scene = Scene()
    scene.settle(*BOOT)
    scene.lane.want(False, scene.now)
    run_lookups(scene, 2)
    assert run_lookups(scene, 3) == [pytest.approx(IDLE_PAUSE)] * 2
    assert scene.lane.deadline > scene.now
    scene.lane.want(True, scene.now)
    assert scene.lane.deadline == scene.now
    scene.at(scene.now)
    assert len(scene.targets()) == 1


def test_we_are_looked_for_again_every_half_hour() -> None:
    scene = Scene()
    scene.settle(*BOOT)
    times = []
    scene.lane.want(False, scene.now)
    while scene.now < 4 * SELF_PAUSE:
        scene.at(scene.lane.deadline)
        times += [scene.now] * (LOCAL in scene.targets())
        scene.answer_pings()
        scene.answer_searches()
    pauses = [after - before for before, after in pairwise(times)]
    assert len(pauses) >= 2
    assert all(0.8 * SELF_PAUSE <= pause <= 1.2 * SELF_PAUSE + IDLE_PAUSE for pause in pauses)


def test_all_other_lookups_go_to_different_places() -> None:
    scene = Scene()
    scene.settle(*BOOT)
    targets = set()
    for _ in range(20):
        while not scene.script.searches:
            scene.at(scene.lane.deadline)
            scene.answer_pings()
        targets |= scene.targets()
        scene.answer_searches()
    assert len(targets) >= 19


# Checks


def test_nodes_that_are_due_are_pinged_and_stay_while_they_answer() -> None:
    scene = Scene(boot=[])
    nodes = others(5)
    for node in nodes:
        scene.say(Met(node))
    for _ in range(200):
        scene.at(scene.lane.deadline)
        assert scene.script.searches or scene.script.pings
        scene.answer_pings()
        scene.answer_searches()
    assert all(scene.table.is_confirmed(node.node_id) for node in nodes)


def test_a_node_that_no_longer_answers_goes() -> None:
    scene = Scene()
    (node,) = others(1)
    scene.settle(*BOOT)
    scene.say(Met(node))
    for _ in range(200):
        scene.at(scene.lane.deadline)
        silent = [token for token, pinged in scene.script.pings.items() if pinged == node]
        silent += [token for token, (asked, _) in scene.script.searches.items() if asked == node]
        for token in silent:
            scene.script.pings.pop(token, None)
            scene.script.searches.pop(token, None)
            scene.say(Unanswered(token, node, "no answer"))
        scene.answer_pings()
        for token in list(scene.script.searches)[:1]:
            asked, _ = scene.script.searches.pop(token)
            scene.say(Found(token, asked, ()))
    assert node.node_id not in scene.table
    assert scene.lane.counts["unanswered: no answer"] >= MOST_SILENCES


def test_sixteen_nodes_are_checked_at_a_time() -> None:
    scene = Scene(boot=[])
    for away in range(200, 205):
        for node in others(16, away=away):
            scene.say(Met(node))
    scene.at(5.0)
    assert len(scene.script.pings) == MOST_PINGS
    token, node = scene.script.pings.popitem()
    scene.say(Pong(token, node))
    assert len(scene.script.pings) == MOST_PINGS


# Records that are fetched


def test_a_node_named_without_its_record_is_asked_for_it_and_then_handed_on() -> None:
    scene = Scene(needs_records=True)
    scene.settle(*BOOT)
    (bare,), (whole,) = others(1, seq=None), others(1, seq=7)
    scene.say(Found(0, BOOT[0], (bare, bare)))
    assert list(scene.script.fetches.values()) == [bare]
    assert scene.taken() == []
    scene.say(RecordFetched(scene.script.fetches.popitem()[0], whole))
    assert scene.taken() == [whole]
    assert scene.table.is_confirmed(whole.node_id)
    # Named again, by others who do not know the record, it is not asked again.
    scene.now += 10_000
    scene.say(Found(0, BOOT[0], (bare,)))
    assert scene.script.fetches == {}
    assert scene.taken() == []


def test_a_node_that_keeps_its_record_to_itself_is_handed_on_without_it_if_it_lives() -> None:
    scene = Scene(needs_records=True)
    alive, dead = others(2, seq=None)
    scene.settle(*BOOT, alive)
    scene.say(Found(0, BOOT[0], (alive, dead)))
    while scene.script.fetches:
        token, node = scene.script.fetches.popitem()
        scene.say(Unanswered(token, node, "no answer"))
    assert scene.taken() == [alive]


def test_records_that_did_not_come_are_asked_for_again_less_and_less_often() -> None:
    scene = Scene(needs_records=True)
    scene.settle(*BOOT)
    (dead,) = others(1, seq=None)
    times = []
    for second in range(400):
        scene.now = float(second)
        scene.say(Found(0, BOOT[0], (dead,)))
        while scene.script.fetches:
            times.append(scene.now)
            scene.say(Unanswered(scene.script.fetches.popitem()[0], dead, "no answer"))
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[:5] == [FIRST_FETCH_PAUSE * 2**step for step in range(5)]


def test_eight_records_are_asked_for_at_a_time_and_new_nodes_go_before_old_ones() -> None:
    scene = Scene(needs_records=True)
    scene.settle(*BOOT)
    dead = others(20, away=254, seq=None)
    scene.say(Found(0, BOOT[0], tuple(dead)))
    assert len(scene.script.fetches) == MOST_FETCHES
    while scene.script.fetches:
        scene.say(Unanswered(*scene.script.fetches.popitem(), "no answer"))
        scene.say(Found(0, BOOT[0], ()))
    # When the same are named again, together with some others,
    scene.now += FIRST_FETCH_PAUSE
    new = others(MOST_FETCHES, away=253, seq=None)
    scene.say(Found(0, BOOT[0], (*dead, *new)))
    # then the others have their turn first.
    assert set(scene.script.fetches.values()) == set(new)


def test_no_records_are_fetched_while_no_nodes_are_wanted() -> None:
    scene = Scene(needs_records=True)
    scene.settle(*BOOT)
    scene.lane.want(False, scene.now)
    scene.say(Found(0, BOOT[0], tuple(others(2, seq=None))))
    assert scene.script.fetches == {}
    scene.lane.want(True, scene.now)
    scene.at(scene.lane.deadline)
    assert len(scene.script.fetches) == 2


# When nobody answers


def cut_off(scene: Scene, seconds: float) -> None:
    end = scene.now + seconds
    while scene.lane.deadline < end:
        scene.at(max(scene.now, scene.lane.deadline))
        scene.stay_silent()
    scene.now = end


def test_when_nobody_answers_any_more_nobody_is_blamed() -> None:
    # Given a table of nodes that have answered,
    scene = Scene()
    nodes = others(16, away=255) + others(16, away=254) + others(16, away=253)
    for _ in range(3):
        scene.settle(*BOOT, *nodes)
    # when the network is down for an hour,
    cut_off(scene, 3600)
    # then those are still there who were not asked before that was clear.
    assert scene.table.confirmed >= len(nodes) - SILENCE


def test_when_nobody_answers_boot_nodes_are_asked_and_all_else_waits() -> None:
    scene = Scene()
    scene.settle(*BOOT, *others(16))
    cut_off(scene, 600)
    before = scene.lane.counts["queries"]
    cut_off(scene, 600)
    # A lookup every half minute, that asks the boot nodes and whom it finds in the table.
    lookups = 600 / (0.8 * LONGEST_BOOT_PAUSE)
    assert scene.lane.counts["queries"] - before <= lookups * (len(BOOT) + 16)


def test_the_first_answer_after_an_outage_sets_everything_going() -> None:
    scene = Scene()
    scene.settle(*BOOT, *others(16))
    cut_off(scene, 3600)
    back = scene.now
    while not scene.script.searches:
        scene.at(max(scene.now, scene.lane.deadline))
    assert scene.now - back <= 1.2 * LONGEST_BOOT_PAUSE
    lookups = scene.lane.counts["lookups"]
    scene.say(Found(0, scene.asked()[0], ()))
    assert scene.lane.counts["lookups"] == lookups + 1
    assert scene.targets() - {LOCAL}
    # Another outage would begin with short pauses.
    assert scene.lane._boot_pause == FIRST_BOOT_PAUSE


def test_requests_that_cannot_be_made_do_not_keep_it_busy() -> None:
    scene = Scene()
    scene.settle(*BOOT, *others(16))
    scene.script.fails_at_once = True
    for _ in range(100):
        scene.at(scene.lane.deadline)
        assert scene.lane.deadline > scene.now
    assert scene.now > 10


def test_reasons_are_counted_without_what_strangers_make_of_them() -> None:
    scene = Scene()
    scene.at(0.0)
    scene.stay_silent("its record is not valid: node record of 301 bytes, more than 300")
    assert scene.lane.counts["unanswered: its record is not valid"] == len(BOOT)
