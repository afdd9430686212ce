"""The state after changes: how many accounts and slots differ from the state before, and that its roots are true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from ethsync.errors import ConfigError
from ethsync.serve import synthetic
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.account import decode_slim
from ethsync.state.pages import SMALL_TRIE
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.sync.verifier import verify
from ethsync.sync.verify import Findings
from tests.oracles.served import Truth, truth_of

SPEC = SyntheticSpec(accounts=4_000, contracts=200, slots=9_000, codes=60, seed=3, code_bytes=60)


async def made(spec: SyntheticSpec, path: Path) -> tuple[Truth, Findings]:
    """A state, and what `ethsync verify` says of it."""
    create_synthetic(spec, path)
    with open_datadir(path) as datadir:
        view = StateView(datadir)
        found = await verify(datadir, view.state_root, trio.CapacityLimiter(2), lambda share: None)
        return truth_of(view), found


@pytest.mark.parametrize("slice_leaves", [300, 131_072])
async def test_as_many_accounts_change_as_were_said(
    slice_leaves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a state, made in many slices or in one, and the same with 800 changed accounts
    monkeypatch.setattr(synthetic, "SLICE_LEAVES", slice_leaves)
    before, _ = await made(SPEC, tmp_path / "a")
    after, found = await made(replace(SPEC, changed=800), tmp_path / "b")
    # then the second is a whole state with true roots,
    assert found.problems == []
    # in which 50 accounts are gone, 50 are new, and nearly 700 others differ (some were chosen twice),
    old, new = dict(before.accounts), dict(after.accounts)
    assert len(old.keys() - new.keys()) == 50
    assert len(new.keys() - old.keys()) == 50
    both = old.keys() & new.keys()
    differ = {key for key in both if old[key] != new[key]}
    assert 650 <= len(differ) <= 700
    # of some of which the storage differs, in small and in big contracts, and nobody else's;
    other = {key for key in both if before.storage.get(key) != after.storage.get(key)}
    assert 85 <= len(other) <= 100
    assert other <= differ
    sizes = sorted(len(before.storage[key]) for key in other)
    assert sizes[0] < SMALL_TRIE < sizes[-1] == max(map(len, before.storage.values()))
    # slots change, come and go.
    giant = max(other, key=lambda key: len(before.storage[key]))
    slots, now = dict(before.storage[giant]), dict(after.storage[giant])
    assert 5 <= len(slots.keys() - now.keys()) == len(now.keys() - slots.keys()) <= 20
    assert 5 <= sum(slots[key] != now[key] for key in slots.keys() & now.keys()) <= 20
    assert {decode_slim(slim).code_hash for slim in old.values()} >= {decode_slim(s).code_hash for s in new.values()}


@pytest.mark.parametrize("spec", [
    SyntheticSpec(accounts=1, changed=1),
    SyntheticSpec(accounts=3, contracts=2, slots=2, changed=3),
    SyntheticSpec(accounts=50, contracts=50, slots=50, codes=50, changed=50),
    SyntheticSpec(accounts=2_000, changed=10),
])  # fmt: skip
async def test_odd_changes_give_whole_states(spec: SyntheticSpec, tmp_path: Path) -> None:
    before, _ = await made(replace(spec, changed=0), tmp_path / "a")
    after, found = await made(spec, tmp_path / "b")
    assert found.problems == []
    assert 0 < len(set(before.accounts) ^ set(after.accounts)) <= 2 * spec.changed


def test_no_more_accounts_change_than_there_are() -> None:
    with pytest.raises(ConfigError):
        SyntheticSpec(accounts=10, changed=11)
