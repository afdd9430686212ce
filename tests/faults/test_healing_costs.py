"""What healing costs: nothing if nothing changed, and otherwise requests and bytes that grow with the changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.wire.snap import SnapMessage
from tests.faults.states import opened
from tests.faults.syncing import assert_state, sync

SPEC = SyntheticSpec(accounts=20_000, seed=4)


async def test_a_state_that_did_not_change_needs_no_healing(tmp_path: Path) -> None:
    create_synthetic(replace(SPEC, accounts=2_000, contracts=100, slots=3_000), tmp_path / "a")
    with opened(tmp_path / "a") as state:
        synced, (host,) = await sync(state, tmp_path / "d", "geth")
        await assert_state(synced, state, tmp_path / "d")
    assert host.watch.requests[SnapMessage.TRIE_NODES] == 0
    assert synced.progress.healing.items == 0


@pytest.mark.parametrize("changed", [10, 400])
async def test_a_changed_account_costs_a_few_nodes_however_many_there_are(changed: int, tmp_path: Path) -> None:
    # Given a datadir with 20,000 accounts,
    create_synthetic(SPEC, tmp_path / "a")
    with opened(tmp_path / "a") as state:
        await sync(state, tmp_path / "d", "geth")
    # when some of them have changed,
    create_synthetic(replace(SPEC, changed=changed), tmp_path / "b")
    with opened(tmp_path / "b") as state:
        synced, (host,) = await sync(state, tmp_path / "d", "geth")
        await assert_state(synced, state, tmp_path / "d")
    # then at most 8 nodes are fetched for each, and no account besides.
    assert 0 < synced.progress.healing.items <= 8 * changed
    assert synced.progress.healing.bytes <= 4_000 * changed
    assert host.watch.requests[SnapMessage.TRIE_NODES] <= 8
    assert host.watch.requests[SnapMessage.ACCOUNT_RANGE] == 0
