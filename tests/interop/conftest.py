"""Everything in this directory talks to a client that is not ours, and needs Node.js for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.peers import require_node

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.interop)


@pytest.fixture(autouse=True, scope="session")
def _node() -> None:
    require_node()
