"""Reading a finished state back: values, columns and proofs; what is not held is never taken for absent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
import rlp
from trie import HexaryTrie

from ethsync.errors import DatadirDamaged, NotHeld
from ethsync.hashing import EMPTY_CODE_HASH
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.account import decode_slim
from ethsync.state.pages import SMALL_TRIE
from ethsync.state.view import StateView, is_all_held
from ethsync.store.datadir import open_datadir
from ethsync.store.leveldb import Database
from ethsync.store.schema import (
    BUNDLE,
    DEBT,
    FACT_DEPTH,
    FACT_PIVOT,
    FORMAT_VERSION,
    MARKER,
    PAID,
    RECORD,
    Debt,
    Format,
    Marker,
    TrieRecord,
    decode_record,
)
from tests.oracles.served import Truth


def erase(database: Database, key: bytes) -> None:
    batch = database.batch()
    batch.delete(key)
    database.commit(batch)


def some(truth: Truth, *, big: bool) -> bytes:
    """A contract with a big storage trie, or one with a small."""
    return next(key for key, slots in truth.storage.items() if (len(slots) > SMALL_TRIE) is big)


def test_every_account_is_found(view: StateView, truth: Truth) -> None:
    for key, slim in truth.accounts[::17]:
        account = view.account(key)
        assert account is not None
        assert account.slim() == slim
        assert view.account(bytes([*key[:-1], key[-1] ^ 1])) is None


@pytest.mark.parametrize("big", [False, True])
def test_every_slot_is_found(view: StateView, truth: Truth, big: bool) -> None:
    account = some(truth, big=big)
    for key, value in truth.storage[account][::5]:
        assert view.slot(account, key) == int.from_bytes(rlp.decode(value), "big")
        assert view.slot(account, bytes([*key[:-1], key[-1] ^ 1])) == 0


def test_accounts_without_storage_and_absent_ones_have_zeros(view: StateView, truth: Truth) -> None:
    without = next(key for key, _ in truth.accounts if key not in truth.storage)
    assert view.slot(without, bytes(32)) == 0
    assert view.slot(b"\x12" * 32, bytes(32)) == 0
    assert list(view.storage_blocks(without)) == []


@pytest.mark.parametrize("big", [False, True])
def test_an_account_and_its_slots_are_proven(view: StateView, truth: Truth, big: bool) -> None:
    # Given slots that are there and one that is not
    key = some(truth, big=big)
    slots = dict(truth.storage[key][:4])
    absent = b"\x77" * 32
    # When they are proven
    proof = view.proof(key, [*slots, absent])
    # Then the independent trie believes the account under the state root
    full = HexaryTrie.get_from_proof(proof.state_root, key, [rlp.decode(node) for node in proof.nodes])
    assert proof.account is not None
    assert full == proof.account.full()
    # and each slot under the storage root.
    for slot in proof.slots:
        nodes = [rlp.decode(node) for node in slot.nodes]
        value = HexaryTrie.get_from_proof(proof.account.storage_root, slot.key, nodes)
        assert value == slots.get(slot.key, b"")
        assert slot.value == (int.from_bytes(rlp.decode(value), "big") if value else 0)


def test_an_absent_account_is_proven(view: StateView) -> None:
    proof = view.proof(b"\x55" * 32, [b"\x01" * 32])
    nodes = [rlp.decode(node) for node in proof.nodes]
    assert HexaryTrie.get_from_proof(view.state_root, b"\x55" * 32, nodes) == b""
    assert proof.account is None
    assert [(slot.value, slot.nodes) for slot in proof.slots] == [(0, ())]


def test_code_is_found_by_its_hash(view: StateView, truth: Truth) -> None:
    assert view.code(EMPTY_CODE_HASH) == b""
    with pytest.raises(NotHeld):
        view.code(b"\x01" * 32)


def test_columns_cover_a_part_of_the_key_space(view: StateView, truth: Truth) -> None:
    origin, end = b"\x20" + bytes(31), b"\x30" + bytes(31)
    found = [block.key(row) for block in view.account_blocks(origin, end) for row in range(len(block))]
    assert found == [key for key, _ in truth.accounts if origin <= key < end]


def test_threads_get_the_same_answers(view: StateView, truth: Truth) -> None:
    keys = Random(1).sample([key for key, _ in truth.accounts], 200)
    expected = {key: view.proof(key).nodes for key in keys}
    fresh = StateView(view.datadir)
    with ThreadPoolExecutor(4) as threads:
        assert dict(zip(keys, threads.map(lambda key: fresh.proof(key).nodes, keys), strict=True)) == expected


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_synthetic(SyntheticSpec(accounts=400, contracts=10, slots=600, codes=3, code_bytes=40), tmp_path / "state")
    return tmp_path / "state"


def test_a_finished_state_is_complete_until_something_is_owed(path: Path) -> None:
    with open_datadir(path) as datadir:
        assert StateView(datadir).is_complete()
        datadir.accounts.put(DEBT + b"\x00", bytes([Debt.STORAGE]))
        assert not StateView(datadir).is_complete()
        datadir.ledger.put(PAID + b"\x00", b"")
        assert StateView(datadir).is_complete()


def test_a_directory_that_does_not_say_how_deep_its_pages_are_has_not_all(path: Path) -> None:
    with open_datadir(path) as datadir:
        assert is_all_held(datadir)
        erase(datadir.accounts, FACT_DEPTH)
        for key, _ in list(datadir.accounts.scan(MARKER)):
            erase(datadir.accounts, MARKER + key)
        assert not is_all_held(datadir)


def test_accounts_outside_the_markers_are_not_held(path: Path) -> None:
    # Given a directory in which only a quarter of the key space is marked as stored
    with open_datadir(path) as datadir:
        for key, _ in list(datadir.accounts.scan(MARKER)):
            erase(datadir.accounts, MARKER + key)
        for first in (0, 1 << 253):
            key, value = Marker(first, first + (1 << 253), 0, 0).encode()
            datadir.accounts.put(MARKER + key, value)
        view = StateView(datadir)
        # Then an absent account in it is absent, one beyond it is not known,
        assert view.account(b"\x3f" + b"\xff" * 31) is None
        with pytest.raises(NotHeld):
            view.account(b"\x40" + bytes(31))
        # and columns end with an error, not quietly.
        assert list(view.account_blocks(bytes(32), b"\x40" + bytes(31)))
        with pytest.raises(NotHeld):
            list(view.account_blocks())
        assert not view.is_complete()


def test_storage_that_is_owed_is_not_held(path: Path) -> None:
    with open_datadir(path) as datadir:
        for key, _ in list(datadir.bundles.scan(BUNDLE)):
            erase(datadir.bundles, BUNDLE + key)
        records = list(datadir.ledger.scan(RECORD))
        for key, value in records:
            record = decode_record(value)
            unfinished = TrieRecord(record.root, record.depth, False, 0, 0)
            datadir.ledger.put(RECORD + key, unfinished.encode())
        view = StateView(datadir)
        owed = [
            block.key(row) for block in view.account_blocks() for row in range(len(block))
            if decode_slim(block.value(row)).has_storage
        ]  # fmt: skip
        assert len(owed) == 10 > len(records) > 0
        for account in owed:
            with pytest.raises(NotHeld):
                view.slot(account, bytes(32))
            with pytest.raises(NotHeld):
                view.proof(account, [bytes(32)])


def test_a_directory_without_a_state_is_not_held(tmp_path: Path) -> None:
    with open_datadir(tmp_path / "new", Format(FORMAT_VERSION, "demo", 1, "0x")) as datadir, pytest.raises(NotHeld):
        StateView(datadir)


@pytest.mark.parametrize(("fact", "value"), [(FACT_DEPTH, b"\xff"), (FACT_DEPTH, b""), (FACT_PIVOT, b"\xc0")])
def test_damaged_facts_are_damage(path: Path, fact: bytes, value: bytes) -> None:
    with open_datadir(path) as datadir:
        datadir.accounts.put(fact, value)
        with pytest.raises(DatadirDamaged):
            StateView(datadir)
