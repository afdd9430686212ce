"""Reading a stored state back from Python: values, columns, proofs, and what is not held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ethsync
from ethsync.api import account_hash, slot_hash
from ethsync.errors import ConfigError, Disproved, NotHeld, VerificationFailed
from ethsync.genesis import genesis_state
from ethsync.hashing import EMPTY_CODE_HASH, keccak256
from ethsync.serve.small_state import create_genesis_state
from ethsync.state.single_proof import check_proof
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import ACCOUNT_PAGE, CODE, DEBT, PAID

RICH = "0x71562b71999873db5b286df957af199ec94617f7"
CONTRACT = "0x" + "c0" * 20
NOBODY = "0x" + "ee" * 20
BALANCE = 2**200 + 7
CODE_BYTES = bytes.fromhex("6001600255")

GENESIS = {
    "config": {"chainId": 99, "londonBlock": 0, "terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0},
    "timestamp": "0x1",
    "gasLimit": "0x1c9c380",
    "difficulty": "0x0",
    "alloc": {
        RICH: {"balance": hex(BALANCE), "nonce": "0x109"},
        CONTRACT: {
            "balance": "0x0",
            "code": "0x" + CODE_BYTES.hex(),
            "storage": {"0x01": "0x2a", "0x02": "0x" + "ff" * 32},
        },
        **{f"0x{number:040x}": {"balance": hex(number)} for number in range(1, 300)},
    },
}


@pytest.fixture
def datadir(tmp_path: Path) -> Path:
    """A stored state with 301 accounts."""
    create_genesis_state(GENESIS, tmp_path / "state")
    return tmp_path / "state"


async def test_values_are_those_of_the_genesis(datadir: Path) -> None:
    # given: a stored state
    async with ethsync.open_state(datadir) as state:
        # when: an account is asked for by address, by hash and as text
        by_text, by_bytes = await state.account(RICH), await state.account(bytes.fromhex(RICH[2:]))
        by_hash = await state.account(keccak256(bytes.fromhex(RICH[2:])))
        # then: it is the same, with its exact balance
        assert by_text == by_bytes == by_hash
        assert by_text is not None
        assert (by_text.nonce, by_text.balance, by_text.code_hash) == (0x109, BALANCE, EMPTY_CODE_HASH)
        # and: slots and code are those of the contract; what is not set is zero, what is not there is nothing
        assert await state.storage(CONTRACT, 1) == 42
        assert await state.storage(CONTRACT, slot_hash(2)) == 2**256 - 1
        assert await state.storage(CONTRACT, 3) == 0
        assert await state.code(CONTRACT) == CODE_BYTES
        assert await state.code(RICH) == b""
        assert await state.account(NOBODY) is None


async def test_columns_hold_every_account_once_and_in_order(datadir: Path) -> None:
    # given: what the genesis says
    expected = {keccak256(account.address): account for account in genesis_state(GENESIS)}
    # when: all accounts are iterated over
    seen: list[bytes] = []
    async with ethsync.open_state(datadir) as state, state.accounts() as blocks:
        async for block in blocks:
            for row in range(len(block)):
                key = block.hashes[row].tobytes()
                seen.append(key)
                # then: each row says what the genesis says
                assert int(block.nonces[row]) == expected[key].nonce
                assert int.from_bytes(block.balances[row].tobytes(), "big") == expected[key].balance
                assert (block.code_hashes[row].tobytes() != EMPTY_CODE_HASH) == bool(expected[key].code)
            assert np.allclose(block.ether, [expected[key].balance / 1e18 for key in seen[-len(block) :]])
    assert seen == sorted(expected)


@pytest.mark.parametrize("prefix", ["0", "0x7f", "abc", "f" * 64])
async def test_a_prefix_selects_the_accounts_below_it(datadir: Path, prefix: str) -> None:
    expected = sorted(
        digest
        for digest in (keccak256(account.address).hex() for account in genesis_state(GENESIS))
        if digest.startswith(prefix.removeprefix("0x"))
    )
    async with ethsync.open_state(datadir) as state, state.accounts(prefix) as blocks:
        found = [block.hashes[row].tobytes().hex() async for block in blocks for row in range(len(block))]
    assert found == expected


def test_slots_come_as_columns(datadir: Path) -> None:
    with ethsync.open_state_now(datadir) as state:
        blocks = list(state.slots(CONTRACT))
    values = {
        block.hashes[row].tobytes(): int.from_bytes(block.values[row].tobytes(), "big")
        for block in blocks
        for row in range(len(block))
    }
    assert values == {slot_hash(1): 42, slot_hash(2): 2**256 - 1}


def test_proofs_show_presence_and_absence(datadir: Path) -> None:
    with ethsync.open_state_now(datadir) as state:
        # when: a contract with a set and an unset slot, and a missing account, are proven
        there, missing = state.proof(CONTRACT, [1, 3]), state.proof(NOBODY)
    # then: the proofs hold on their own
    assert there.account is not None
    assert check_proof(there.state_root, there.key, there.nodes) == there.account.full()
    assert [slot.value for slot in there.slots] == [42, 0]
    assert missing.account is None
    assert check_proof(missing.state_root, missing.key, missing.nodes) is None
    # and: with a node less they show nothing
    with pytest.raises(Disproved, match="lacks the node"):
        check_proof(there.state_root, there.key, there.nodes[:-1])


def test_a_state_that_still_owes_something_proves_nothing(datadir: Path) -> None:
    # given: a page whose debt is not paid
    with open_datadir(datadir) as opened:
        path = next(iter(opened.accounts.scan(ACCOUNT_PAGE)))[0]
        opened.accounts.put(DEBT + path, b"\x01")
    # then: values can be read, but not proven
    with ethsync.open_state_now(datadir) as state:
        assert state.account(RICH) is not None
        with pytest.raises(NotHeld, match="not complete yet"):
            state.proof(RICH)
    # and: once it is paid they can
    with open_datadir(datadir) as opened:
        opened.ledger.put(PAID + path, b"")
    with ethsync.open_state_now(datadir) as state:
        assert state.proof(RICH).account is not None


def test_what_is_not_held_is_an_error_and_never_zero(datadir: Path) -> None:
    with open_datadir(datadir) as opened:
        batch = opened.codes.batch()
        batch.delete(CODE + keccak256(CODE_BYTES))
        opened.codes.commit(batch)
    with ethsync.open_state_now(datadir) as state, pytest.raises(NotHeld, match="is not downloaded"):
        state.code(CONTRACT)


def test_a_changed_value_is_caught_by_its_proof(datadir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ethsync.open_state_now(datadir) as state:
        view = state._view
        honest = view.proof(account_hash(RICH))
        assert honest.account is not None
        forged = replace(honest, account=replace(honest.account, balance=1))
        monkeypatch.setattr(view, "proof", lambda *_: forged)
        with pytest.raises(VerificationFailed, match="does not prove what it says"):
            state.proof(RICH)


@pytest.mark.parametrize("name", ["0x12", "zz" * 20, b"\x01" * 21])
def test_names_that_are_no_accounts_are_refused(name: str | bytes) -> None:
    with pytest.raises(ConfigError, match="neither an address nor an account hash"):
        account_hash(name)


def test_a_directory_without_a_state_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a data directory"), ethsync.open_state_now(tmp_path):
        pass
