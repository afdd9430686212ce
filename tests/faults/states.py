"""States to be served in tests, in data directories as a finished sync leaves them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.small_state import StatedAccount, create_state
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.wire.headers import Header


def create_demo_state(path: Path, accounts: Sequence[StatedAccount], depth: int | None = None) -> Header:
    """Write a whole state of the demo network into a new data directory; return the header of its block."""
    return create_state(accounts, path, demo_network(), lambda root: head_header(root, 1), depth=depth)


@contextmanager
def opened(path: Path) -> Iterator[StateView]:
    """The state in a data directory, for as long as the block lasts."""
    with open_datadir(path) as datadir:
        yield StateView(datadir)
