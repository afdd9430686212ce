"""A discv4 node under test, and one that it talks to."""

from __future__ import annotations

import pytest

from tests.unit.discovery.discv4_bench import Bench, Remote


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def remote(bench: Bench) -> Remote:
    return Remote(bench)


@pytest.fixture
def bonded(remote: Remote) -> Remote:
    """A remote that we may ask at once."""
    remote.bond()
    return remote
