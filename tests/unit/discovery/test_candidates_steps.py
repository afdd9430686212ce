"""The dial pool's cost per dial does not grow with the number of candidates. Counted in steps, not in seconds."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address
from types import FrameType
from typing import Any, Self

import pytest

from ethsync.discovery.candidate import Reason, Source
from ethsync.discovery.node import Endpoint, Node
from tests.unit.discovery.crowds import pool


class Steps:
    """Counts the lines of Python that run."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.count += event == "line"
        return self

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


def steps_per_dial(known: int) -> float:
    """Lines from choosing to failing, among so many candidates of which each /24 has two."""
    candidates = pool(capacity=known)
    for number in range(known):
        endpoint = Endpoint(IPv4Address((20 << 24) + number * 128 + 1), 30303)
        identity = number.to_bytes(64, "big")
        assert candidates.offer(Node(identity[32:], identity, endpoint, 30303), Source.DISCV5, 0.0)
    assert len(candidates) == known
    steps = Steps()
    with steps:
        for tenth in range(300):
            now = tenth / 10
            candidate = candidates.next(now)
            assert candidate is not None
            candidates.dialled(candidate.public_key, now)
            candidates.failed(candidate.public_key, Reason.UNREACHABLE, now)
    return steps.count / 300


@pytest.mark.slow
def test_a_dial_among_a_hundred_thousand_takes_no_more_steps_than_one_among_a_thousand() -> None:
    few, many = steps_per_dial(1000), steps_per_dial(100_000)
    assert 10 < few < 1000
    assert many < 1.2 * few
