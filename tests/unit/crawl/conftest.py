"""A serving node with a small synthetic state, as something to look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir

SPEC = SyntheticSpec(accounts=500, contracts=20, slots=200, codes=8, seed=2, code_bytes=50)


@pytest.fixture(scope="session")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path = tmp_path_factory.mktemp("looked-at") / "state"
    create_synthetic(SPEC, path)
    with open_datadir(path) as datadir:
        yield StateView(datadir)
