"""Fixtures of the tests of peers."""

from __future__ import annotations

import pytest
import trio

from ethsync.peers import dialer
from ethsync.peers.pool import PeerPool
from tests.unit.peers.dial_bench import Nodes
from tests.unit.peers.stubs import VIEW


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """The nodes that all dials go to."""
    found = Nodes()
    monkeypatch.setattr(dialer, "dial_peer", found.open)
    return found


@pytest.fixture
def pool() -> PeerPool:
    """A pool whose clock on the wall is that of the test."""
    return PeerPool(lambda: None, VIEW, wall=lambda: 1e9 + trio.current_time())
