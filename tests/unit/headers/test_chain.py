"""The chain below the trusted head: ways down, islands, heads that move, branches, and who is to blame."""

from __future__ import annotations

from random import Random

import pytest

from ethsync.errors import VerificationFailed
from ethsync.hashing import keccak256
from ethsync.headers.chain import RECENT, recent_floor
from ethsync.headers.descent import SETTLED, STALLED
from ethsync.peers.track import Outcome
from ethsync.wire.headers import decode_header
from tests.oracles.header_world import Server, World
from tests.oracles.headers import demo_chain, relinked

PAGE = 1024
LENGTH = 5_200
RAWS = demo_chain(LENGTH + 1)
OTHER = demo_chain(LENGTH + 1, seed=2)
FORK = 5_100
BRANCH = relinked(RAWS, FORK, coinbase=b"\x01" * 20)
"""The same chain up to a block; from there on another one."""


def world(*servers: Server, head: int = LENGTH) -> World:
    found = World(dict(enumerate(servers or (Server(RAWS),))))
    found.follow(RAWS[head])
    return found


def test_the_first_request_is_by_hash_and_those_far_below_by_number() -> None:
    # Given a head in the middle of a page
    here = world()
    jobs = [here.ask(0) for _ in range(5)]
    # Then what hangs on it is asked for by hash, the page next to it waits, and those below are asked for by number.
    queries = [job.query for job in jobs if job is not None]
    assert (queries[0].number, queries[0].hash) == (LENGTH - 1, keccak256(RAWS[LENGTH - 1]))
    assert [query.number for query in queries[1:]] == [4 * PAGE - 1, 3 * PAGE - 1, 2 * PAGE - 1, PAGE - 1]
    assert all(query.hash is None for query in queries[1:])
    assert queries[1].number <= LENGTH - SETTLED < queries[1].number + PAGE
    assert here.chain.ready() == 0


def test_pages_in_any_order_become_one_chain() -> None:
    here = world()
    jobs = [here.ask(0) for _ in range(5)]
    for job in jobs[:0:-1]:
        assert job is not None
        assert here.answer(job) is Outcome.SERVED
        # Islands are written and not shown.
        here.write()
        assert here.shown() == RAWS[LENGTH:]
    here.finish(Random(1))
    assert here.shown() == RAWS
    assert here.servers[0].serves == LENGTH


def test_islands_of_an_earlier_run_are_not_fetched_again() -> None:
    here = world()
    for job in [here.ask(0) for _ in range(5)][1:]:
        assert job is not None
        here.answer(job)
    here.write()
    served = here.servers[0].serves
    # When the process dies, and another one goes on
    again = World(here.servers, here.disk)
    again.follow(RAWS[LENGTH])
    again.finish(Random(1))
    # Then it asks for what is missing.
    assert again.shown() == RAWS
    assert again.servers[0].serves == LENGTH
    assert served == 4 * PAGE


def test_headers_of_another_chain_are_given_up_with_all_that_their_bearer_brought() -> None:
    # Given a liar that brings three of four pages
    here = world(Server(RAWS), Server(OTHER))
    jobs = [here.ask(peer) for peer in (0, 1, 0, 1, 1)]
    for job in jobs[:0:-1]:
        assert job is not None
        assert here.answer(job) is Outcome.SERVED
    here.write()
    # When the way down reaches the first of them
    here.answer(here.jobs[0])
    here.ask(0)
    here.answer(here.jobs[0])
    # Then it is named, and its other pages go too; the honest page stays.
    assert here.blamed == {1}
    here.write()
    assert sorted(here.chain.store.islands) == [2 * PAGE]
    here.finish(Random(1))
    assert here.shown() == RAWS


def test_a_peer_that_contradicts_the_chain_in_the_middle_of_a_page_is_found_out() -> None:
    # Given the upper half of a page by an honest peer, and the lower half by a liar
    for first, second, liar in ((0, 1, 1), (1, 0, 1)):
        here = world(Server(RAWS), Server(OTHER))
        anchored = here.ask(0)
        job = here.ask(first, 512)
        assert job is not None
        here.answer(job)
        rest = here.ask(second)
        assert rest is not None
        assert rest.query.number == job.query.number - 512
        # Then nobody is blamed while nobody can know,
        assert here.answer(rest) is Outcome.DUPLICATE
        assert here.blamed == set()
        # and the right one when the hash is known.
        assert anchored is not None
        here.answer(anchored)
        here.finish(Random(1))
        assert here.blamed == {liar}
        assert here.shown() == RAWS


def test_an_answer_by_number_that_comes_when_its_hash_is_known() -> None:
    here = world(Server(RAWS), Server(OTHER))
    anchored, guess = here.ask(0), here.ask(1)
    assert anchored is not None
    assert guess is not None
    here.answer(anchored)
    next_page = here.ask(0)
    assert next_page is not None
    here.answer(next_page)
    # Now the hash of what the liar was asked for is known.
    assert here.answer(guess) is Outcome.DUPLICATE
    assert here.blamed == {1}
    here.finish(Random(1))
    assert here.shown() == RAWS


def test_a_wrong_answer_by_hash_is_a_lie() -> None:
    liar = Server(OTHER)
    liar.numbers = Server(RAWS).numbers
    here = world(Server(RAWS), liar)
    job = here.ask(1)
    assert job is not None
    assert here.answer(job) is Outcome.DISPROVED
    here.finish(Random(1))
    assert here.shown() == RAWS


def test_what_everything_waits_for_is_asked_of_others_after_a_while() -> None:
    here = world(Server(RAWS), Server(RAWS))
    slow = here.ask(1)
    assert here.chain.stalled() == (STALLED, frozenset({1}))
    repeated = here.chain.repeat(1024, 0, STALLED)
    assert slow is not None
    assert (repeated.query.number, repeated.query.hash) == (slow.query.number, slow.query.hash)
    assert here.chain.stalled() == (2 * STALLED, frozenset({0, 1}))
    assert here.answer(repeated) is Outcome.SERVED
    assert here.answer(slow) is Outcome.DUPLICATE
    here.finish(Random(1))
    assert here.shown() == RAWS


def test_late_answers_are_used_while_they_are_of_use() -> None:
    here = world()
    job = here.ask(0)
    assert job is not None
    here.chain.give_back(job)
    assert here.answer(job) is Outcome.SERVED
    assert here.answer(job) is Outcome.DUPLICATE


def test_small_answers_add_up() -> None:
    here = world()
    here.finish(Random(1), most=100)
    assert here.shown() == RAWS
    assert here.servers[0].serves == LENGTH


def test_only_recent_headers() -> None:
    assert recent_floor(100) == 0
    assert recent_floor(20 * PAGE + 5) == 20 * PAGE - RECENT
    here = World({0: Server(RAWS)}, floor=3 * PAGE)
    here.follow(RAWS[LENGTH])
    here.finish(Random(1))
    assert here.shown() == RAWS[3 * PAGE :]
    assert (here.chain.left, here.chain.counters.items) == (0, LENGTH + 1 - 3 * PAGE)


# Heads


def test_a_head_that_is_the_next_block_needs_nobody() -> None:
    here = world(head=3_000)
    here.finish(Random(1))
    here.follow(RAWS[3_001])
    here.write()
    assert here.chain.done
    assert here.shown() == RAWS[:3_002]


def test_a_page_is_made_when_its_last_header_comes() -> None:
    here = world(head=PAGE - 2)
    here.finish(Random(1))
    for number in (PAGE - 1, PAGE, PAGE + 1):
        here.follow(RAWS[number])
        here.write()
        assert here.shown() == RAWS[: number + 1]
        assert here.chain.store.raw(5) == RAWS[5]
    assert sorted(here.chain.store.singles) == [PAGE, PAGE + 1]
    assert here.chain.store.indexed == {0}
    assert not any(key[:1] == b"H" and int.from_bytes(key[1:], "big") < PAGE for key in here.disk.entries)


def test_a_new_head_does_not_touch_the_way_back() -> None:
    here = world(head=3_000)
    first = here.ask(0)
    here.follow(RAWS[LENGTH])
    # The old chain is shown until the new head hangs on it.
    assert here.chain.store.top is not None
    assert here.chain.store.top.number == 3_000
    assert first is not None
    here.answer(first)
    low = here.chain.store.low
    while here.chain.store.top.number == 3_000:
        job = here.ask(0)
        assert job is not None
        here.answer(job)
    assert here.chain.store.low <= low
    here.finish(Random(1))
    assert here.shown() == RAWS
    assert here.servers[0].serves == LENGTH - 1


def test_a_newer_head_waits_for_the_one_before_unless_that_gets_nowhere() -> None:
    here = world(head=3_000)
    here.follow(BRANCH[FORK + 5])  # on a branch that nobody follows
    here.follow(RAWS[LENGTH])
    assert here.chain.waiting
    here.chain.hurry()
    assert not here.chain.waiting
    here.finish(Random(1))
    assert here.shown() == RAWS


@pytest.mark.parametrize("depth", [1, 5, 70, 99, 100, 1_100])
def test_a_reorganisation_replaces_the_top(depth: int) -> None:
    # Given a chain whose last blocks the new head does not follow
    branch = relinked(RAWS, LENGTH - depth, coinbase=b"\x02" * 20)
    here = world(Server(branch))
    here.servers[1] = Server(RAWS)
    here.blamed.add(0)
    here.finish(Random(1))
    assert here.shown() == RAWS
    # When the branch wins, in a block of the same height
    here.blamed = {1}
    here.follow(branch[LENGTH])
    here.finish(Random(1))
    assert here.shown() == branch
    # Then only the top was fetched again: what stood alone in steps of 64, or whole pages.
    assert here.servers[0].serves <= depth + 64 + PAGE
    # And back again, to a lower head.
    here.blamed = {0}
    here.follow(RAWS[LENGTH - 1])
    here.finish(Random(1))
    assert here.shown() == RAWS[:LENGTH]


def test_another_chain_altogether_replaces_everything() -> None:
    here = world(head=3_000)
    here.finish(Random(1))
    here.servers = {0: Server(OTHER)}
    here.follow(OTHER[LENGTH])
    here.finish(Random(1))
    assert here.shown() == OTHER


def test_heads_that_are_known_or_too_old_change_nothing() -> None:
    here = World({0: Server(RAWS)}, floor=2 * PAGE)
    here.follow(RAWS[LENGTH])
    here.finish(Random(1))
    for number in (LENGTH, 3_000, 5):
        here.follow(RAWS[number])
        assert here.chain.done
    assert here.servers[0].serves == LENGTH - 2 * PAGE


# The chain's own faults


def test_a_head_of_another_network_is_found_out_at_the_genesis() -> None:
    raws = relinked(RAWS[:50], 0, extra_data=b"another")
    here = World({0: Server(raws)})
    here.follow(raws[-1])
    with pytest.raises(VerificationFailed, match="genesis"):
        here.finish(Random(1))
    with pytest.raises(VerificationFailed, match="genesis"):
        World({}).follow(raws[0])


def test_pages_that_join_but_cannot_be_parent_and_child() -> None:
    # Given a chain whose page begins with the time at which the one before it ends
    time = decode_header(RAWS[2 * PAGE - 1]).timestamp
    raws = relinked(RAWS, 2 * PAGE, timestamp=time)
    here = world(Server(raws))
    here = World({0: Server(raws)})
    here.follow(raws[LENGTH])
    with pytest.raises(VerificationFailed, match=f"header {2 * PAGE} is not later"):
        here.finish(Random(1))
