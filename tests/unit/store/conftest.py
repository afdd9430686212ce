"""A new data directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.schema import FORMAT_VERSION, Format

NETWORK = Format(FORMAT_VERSION, "testnet", 7, "0x" + "ab" * 32)


@pytest.fixture
def network() -> Format:
    return NETWORK


@pytest.fixture
def datadir(tmp_path: Path, network: Format) -> Iterator[Datadir]:
    with open_datadir(tmp_path / "data", network) as opened:
        yield opened
