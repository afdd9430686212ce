"""What a peer is worth: read off the outcomes of requests for state."""

from __future__ import annotations

import pytest

from ethsync.peers.standing import MANY, SILENCES, Standing, Worth, standing
from ethsync.peers.track import Outcome, RequestKind, new_record

ACCOUNTS, CODES, HEADERS = RequestKind.ACCOUNTS, RequestKind.CODES, RequestKind.HEADERS


@pytest.mark.parametrize(
    ("outcomes", "worth"),
    [
        ([], Worth.UNTRIED),
        ([Outcome.DISCONNECTED], Worth.UNTRIED),
        ([Outcome.TIMEOUT] * (SILENCES - 1), Worth.UNTRIED),
        ([Outcome.TIMEOUT] * SILENCES, Worth.DOUBTFUL),
        ([Outcome.EMPTY], Worth.DOUBTFUL),
        ([Outcome.MALFORMED], Worth.DOUBTFUL),
        ([Outcome.EMPTY] * MANY, Worth.USELESS),
        ([Outcome.EMPTY] * (MANY - 1) + [Outcome.TIMEOUT] * SILENCES, Worth.USELESS),
        ([Outcome.SERVED], Worth.SERVES),
        ([Outcome.SERVED, Outcome.TIMEOUT], Worth.SERVES),
        ([Outcome.EMPTY] * MANY + [Outcome.SERVED], Worth.SERVES),
        ([Outcome.SERVED] + [Outcome.EMPTY] * 100, Worth.STALE),
        ([Outcome.SERVED, Outcome.EMPTY, Outcome.SERVED], Worth.SERVES),
    ],
)
def test_a_peer_is_judged_by_what_it_gave_and_by_refusals_only_if_it_never_gave_anything(
    outcomes: list[Outcome], worth: Worth
) -> None:
    record = new_record()
    for number, outcome in enumerate(outcomes):
        record.note((ACCOUNTS, CODES)[number % 2], outcome, float(number))
    assert standing(record, 0.0).worth is worth


def test_headers_say_nothing_of_state() -> None:
    record = new_record()
    for outcome in (Outcome.SERVED, Outcome.EMPTY, Outcome.TIMEOUT):
        record.note(HEADERS, outcome, 0.0)
    found = standing(record, 0.0)
    assert (found.served, found.refused, found.silent, found.asked, found.last) == (0, 0, 0, 0, None)
    assert found.worth is Worth.UNTRIED


def test_the_score_is_that_of_the_record() -> None:
    record = new_record()
    record.note(ACCOUNTS, Outcome.SERVED, 0.0)
    assert standing(record, 120.0).score == record.score(120.0) == 0.5


def test_what_happened_since_leaves_old_refusals_out_but_not_old_merits() -> None:
    before = Standing(served=1, refused=5, silent=4)
    after = Standing(served=1, refused=7, silent=4, last=Outcome.EMPTY, score=-2.0)
    assert after.since(before) == Standing(served=1, refused=2, silent=0, last=Outcome.EMPTY, score=-2.0)
    assert after.since(before).worth is Worth.STALE
