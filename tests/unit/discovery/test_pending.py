"""Requests in flight: what is due is found whatever happened to them before, and nobody has more than his share."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.discovery.pending import Pending

INFINITY = float("inf")


@dataclass(eq=False)
class Request:
    token: int
    place: str
    deadline: float = INFINITY


def test_there_is_room_for_so_many_in_all_and_at_one_place() -> None:
    pending: Pending[Request, str] = Pending(3, 2)
    first = Request(1, "here")
    for request in (first, Request(2, "here")):
        assert pending.has_room("here")
        pending.add(request)
    assert not pending.has_room("here")
    assert pending.has_room("there")
    pending.add(Request(3, "there"))
    assert not pending.has_room("elsewhere")
    pending.remove(first)
    assert pending.has_room("here")
    assert [request.token for request in pending.at("here")] == [2]


STEPS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, INFINITY, 1.0, 2.0, 3.0])), max_size=40)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_whatever_they_waited_for_before_each_is_due_once_at_its_last_deadline(
    steps: list[tuple[int, float | None]],
) -> None:
    # Given requests that begin, wait for one thing after another, and end (None)
    pending: Pending[Request, str] = Pending(100, 100)
    held: dict[int, Request] = {}
    for token, deadline in steps:
        if deadline is not None:
            if token not in held:
                held[token] = Request(token, "here")
                pending.add(held[token])
            pending.wait_until(held[token], deadline)
        elif token in held:
            pending.remove(held.pop(token))
        # then the next deadline is the first of those that are left,
        assert pending.deadline == min((request.deadline for request in held.values()), default=INFINITY)
        assert len(pending) == len(held)
    # and at any time exactly those are due whose deadline has come, the earliest first.
    due = []
    for request in pending.due(2.0):
        due.append((request.deadline, request.token))
        pending.remove(request)
    assert due == sorted((each.deadline, each.token) for each in held.values() if each.deadline <= 2.0)
