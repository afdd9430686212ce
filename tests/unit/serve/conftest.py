"""One small synthetic state for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ethsync.serve.served import ServedStates
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from tests.oracles.served import Truth, truth_of

SPEC = SyntheticSpec(accounts=2_000, contracts=150, slots=5_000, codes=60, seed=3, code_bytes=200)


@pytest.fixture(scope="session")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path: Path = tmp_path_factory.mktemp("synthetic") / "state"
    create_synthetic(SPEC, path)
    with open_datadir(path) as datadir:
        yield StateView(datadir)


@pytest.fixture(scope="session")
def truth(view: StateView) -> Truth:
    return truth_of(view)


@pytest.fixture
def states(view: StateView) -> ServedStates:
    return ServedStates(view)
