"""Synthetic state: what the spec says, the same for the same seed, and true to its root by an independent trie."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ethsync.errors import ConfigError, DatadirMismatch
from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, keccak256
from ethsync.networks import load_network
from ethsync.serve import synthetic
from ethsync.serve.demo import GENESIS_FILE, demo_network
from ethsync.serve.plan import plan_storage
from ethsync.serve.random_leaves import NONCE_LENGTHS, VALUE_LENGTHS
from ethsync.serve.spec import SyntheticSpec, parse_spec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.account import decode_slim
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import FACT_DEPTH, FACT_PIVOT, FACT_VERIFIED, MARKER, decode_marker
from tests.oracles.accounts import Account
from tests.oracles.served import Truth, truth_of
from tests.oracles.tries import root_of
from tests.unit.serve.conftest import SPEC

SMALL = SyntheticSpec(accounts=300, contracts=20, slots=400, codes=8, seed=1, code_bytes=40)


def test_the_state_root_is_that_of_the_trie_package(view: StateView, truth: Truth) -> None:
    full = []
    for _, slim in truth.accounts:
        account = decode_slim(slim)
        full.append(Account(account.nonce, account.balance, account.storage_root, account.code_hash).full)
    assert root_of([key for key, _ in truth.accounts], full) == view.state_root


def test_every_storage_root_is_that_of_the_trie_package(truth: Truth) -> None:
    for key, slim in truth.accounts:
        slots = truth.storage.get(key, [])
        expected = root_of([slot for slot, _ in slots], [value for _, value in slots])
        assert decode_slim(slim).storage_root == expected


def test_every_code_is_held_under_its_hash_and_some_are_shared(view: StateView, truth: Truth) -> None:
    hashes = Counter(decode_slim(slim).code_hash for _, slim in truth.accounts)
    del hashes[EMPTY_CODE_HASH]
    assert len(hashes) == SPEC.codes
    assert max(hashes.values()) > 1
    for code_hash in hashes:
        assert keccak256(view.code(code_hash)) == code_hash


def test_the_numbers_are_those_of_the_spec_and_the_sizes_are_skewed(truth: Truth) -> None:
    sizes = sorted(len(slots) for slots in truth.storage.values())
    assert len(truth.accounts) == SPEC.accounts
    assert len(sizes) == SPEC.contracts
    assert sum(sizes) == SPEC.slots
    assert SPEC.slots // 3 <= sizes[-1] < SPEC.slots // 2
    assert sizes[len(sizes) // 2] < 30


def test_some_contracts_share_their_storage(truth: Truth) -> None:
    roots = Counter(decode_slim(slim).storage_root for _, slim in truth.accounts)
    del roots[EMPTY_TRIE_ROOT]
    assert sum(count for count in roots.values() if count > 1) >= SPEC.contracts // 50


def test_values_have_every_length(truth: Truth) -> None:
    lengths = {len(value) - (value[0] >= 0x80) for slots in truth.storage.values() for _, value in slots}
    assert lengths == set(range(1, 33)) == set(VALUE_LENGTHS.tolist())
    nonces = {(decode_slim(slim).nonce.bit_length() + 7) // 8 for _, slim in truth.accounts}
    assert nonces == set(range(9)) == set(NONCE_LENGTHS.tolist())


def made(spec: SyntheticSpec, path: Path) -> tuple[bytes, Truth]:
    header = create_synthetic(spec, path)
    with open_datadir(path) as datadir:
        return header.hash, truth_of(StateView(datadir))


def test_the_same_seed_gives_the_same_block_and_another_seed_another(tmp_path: Path) -> None:
    first, second = made(SMALL, tmp_path / "1"), made(SMALL, tmp_path / "2")
    assert first == second
    other = made(replace(SMALL, seed=2), tmp_path / "3")
    assert first[0] != other[0]
    assert not {key for key, _ in first[1].accounts} & {key for key, _ in other[1].accounts}


def test_slices_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given slices so small that accounts and the biggest contract are made in many
    monkeypatch.setattr(synthetic, "SLICE_LEAVES", 64)
    spec = SyntheticSpec(accounts=9_000, contracts=40, slots=6_000, codes=5, code_bytes=40)
    _block, truth = made(spec, tmp_path / "sliced")
    # Then all of it is there, in order, with true roots.
    assert [len(truth.accounts), sum(map(len, truth.storage.values()))] == [spec.accounts, spec.slots]
    assert truth.accounts == sorted(truth.accounts)
    giant = max(truth.storage, key=lambda key: len(truth.storage[key]))
    slots = truth.storage[giant]
    assert (
        root_of([key for key, _ in slots], [value for _, value in slots])
        == decode_slim(dict(truth.accounts)[giant]).storage_root
    )
    with open_datadir(tmp_path / "sliced") as datadir:
        markers = [decode_marker(key, value) for key, value in datadir.accounts.scan(MARKER)]
        assert len(markers) > 1
        assert sum(marker.leaves for marker in markers) == spec.accounts
        assert StateView(datadir).is_complete()


def test_a_directory_with_the_same_state_is_used_again(tmp_path: Path) -> None:
    shares: list[float] = []
    header = create_synthetic(SMALL, tmp_path / "state", progress=shares.append)
    assert shares[-1] == 1.0
    shares.clear()
    assert create_synthetic(SMALL, tmp_path / "state", progress=shares.append) == header
    assert shares == []


def test_an_interrupted_state_is_made_again_in_place(tmp_path: Path) -> None:
    def interrupt(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_synthetic(SMALL, tmp_path / "state", progress=interrupt)
    assert create_synthetic(SMALL, tmp_path / "state") == create_synthetic(SMALL, tmp_path / "other")


def test_other_contents_are_not_touched(tmp_path: Path) -> None:
    create_synthetic(SMALL, tmp_path / "state")
    with pytest.raises(DatadirMismatch):
        create_synthetic(replace(SMALL, seed=9), tmp_path / "state")
    with open_datadir(tmp_path / "state") as datadir:
        datadir.accounts.put(FACT_PIVOT, datadir.accounts.get(FACT_PIVOT) or b"")
        batch = datadir.accounts.batch()
        batch.delete(synthetic.FACT_SYNTHETIC)
        datadir.accounts.commit(batch)
    with pytest.raises(DatadirMismatch, match="synced"):
        create_synthetic(SMALL, tmp_path / "state")


def test_nothing_says_that_it_was_verified(view: StateView) -> None:
    assert view.datadir.accounts.get(FACT_VERIFIED) is None
    assert view.datadir.accounts.get(FACT_DEPTH) is not None


def test_a_client_can_be_given_the_genesis_file(tmp_path: Path) -> None:
    create_synthetic(SMALL, tmp_path / "state")
    network = load_network(tmp_path / "state" / GENESIS_FILE)
    assert replace(network, name="demo") == demo_network()


@pytest.mark.parametrize(
    "spec",
    [
        SyntheticSpec(accounts=1),
        SyntheticSpec(accounts=1, contracts=1, slots=1, codes=1),
        SyntheticSpec(accounts=5, contracts=5, slots=5),
        SyntheticSpec(accounts=40, contracts=2, slots=500, codes=40, code_bytes=18),
        SyntheticSpec(accounts=3, codes=3),
    ],
)
def test_odd_specs_give_complete_states(spec: SyntheticSpec, tmp_path: Path) -> None:
    _, truth = made(spec, tmp_path / "state")
    assert [len(truth.accounts), sum(map(len, truth.storage.values()))] == [spec.accounts, spec.slots]
    assert len(truth.storage) == spec.contracts


@pytest.mark.parametrize("contracts", [1, 2, 10, 300, 5_000])
@pytest.mark.parametrize("per_contract", [1, 2, 30])
def test_slots_are_distributed_to_the_last_one(contracts: int, per_contract: int) -> None:
    spec = SyntheticSpec(accounts=contracts, contracts=contracts, slots=contracts * per_contract)
    plan = plan_storage(spec)
    assert plan.sizes.sum() == spec.slots
    assert plan.sizes.min() >= 1
    shared = plan.templates >= contracts
    for template in np.unique(plan.templates[shared]):
        assert len(set(plan.sizes[plan.templates == template].tolist())) == 1


def test_a_spec_is_read_from_the_command_line() -> None:
    spec = parse_spec("accounts=1_000_000,contracts=50000, slots=1400000,codes=50000,seed=7")
    assert spec == SyntheticSpec(1_000_000, 50_000, 1_400_000, 50_000, seed=7)
    assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    ["", "accounts", "accounts=", "accounts=x", "accounts=-1", "accounts=1,accounts=1", "slots=1", "accounts=0",
     "accounts=1,contracts=2,slots=2", "accounts=9,contracts=2,slots=1", "accounts=9,slots=1", "accounts=1,codes=2",
     "accounts=1,code_bytes=1", "accounts=٣", "accounts=1,colour=2"],
)  # fmt: skip
def test_a_spec_that_cannot_be_is_a_usage_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_spec(text)
