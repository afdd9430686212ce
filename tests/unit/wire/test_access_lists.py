"""Block access lists: those that geth served say what geth's state says, and disorder is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import rlp as oracle

from ethsync.errors import MalformedMessage
from ethsync.wire.access_lists import AccountChanges, decode_access_list
from tests.oracles.amsterdam import blocks_around_amsterdam

ADDRESS = b"a" * 20
EMPTY: list[Any] = [ADDRESS, [], [], [], [], []]


def test_the_last_changes_are_the_state_after_the_block() -> None:
    # Given the access lists of geth's blocks after Amsterdam
    lists = [(block, block.access_list) for block in blocks_around_amsterdam() if block.access_list]
    assert len(lists) == 2
    changed: Counter[str] = Counter()
    for block, raw in lists:
        accounts = decode_access_list(raw)
        assert {account.address for account in accounts} == set(block.after)
        for account in accounts:
            # Then the last change of every value is what geth's RPC gives after the block.
            after = block.after[account.address]
            for name, changes in (("balance", account.balances), ("nonce", account.nonces), ("code", account.codes)):
                if changes:
                    assert after[name] == changes[-1][1]
                    changed[name] += 1
            assert after["slots"] == {slot: changes[-1][1] for slot, changes in account.storage}
            changed["slots"] += len(account.storage)
    assert changed == {"balance": 75, "nonce": 20, "code": 2, "slots": 89}


def test_an_empty_list_is_an_access_list() -> None:
    assert decode_access_list(b"\xc0") == ()


def test_storage_keys_of_32_bytes_are_read_like_integers() -> None:
    # devp2p's caps/eth.md writes them so, EIP-7928 and geth as integers.
    padded = [ADDRESS, [[bytes(31) + b"\x07", [[b"\x01", bytes(32)]]]], [bytes(32)], [], [], []]
    short = [ADDRESS, [[b"\x07", [[b"\x01", b""]]]], [b""], [], [], []]
    expected = (AccountChanges(ADDRESS, ((7, ((1, 0),)),), (0,)),)
    assert decode_access_list(oracle.encode([padded])) == decode_access_list(oracle.encode([short])) == expected


def with_field(index: int, value: Any) -> list[Any]:
    return [*EMPTY[:index], value, *EMPTY[index + 1 :]]


ONE, TWO = [b"\x01", b"\x05"], [b"\x02", b"\x05"]


@pytest.mark.parametrize(
    "accounts",
    [
        b"string",
        [b"string"],
        [EMPTY[:5]],
        [[*EMPTY, []]],
        [with_field(0, b"a" * 19)],
        [EMPTY, EMPTY],
        [with_field(0, b"b" * 20), EMPTY],
        [with_field(1, [[b"\x07", []]])],  # changed, but no change
        [with_field(1, [[b"\x07", [ONE]], [b"\x07", [ONE]]])],
        [with_field(1, [[b"\x08", [ONE]], [b"\x07", [ONE]]])],
        [with_field(1, [[b"\x07", [TWO, ONE]]])],
        [with_field(1, [[b"\x07", [[*ONE, b""]]]])],
        [with_field(1, [[b"\x07" * 33, [ONE]]])],
        [with_field(1, [[b"\x00\x07", [ONE]]])],
        [with_field(2, [b"\x02", b"\x01"])],
        [with_field(2, [b"\x02", b"\x02"])],
        [[ADDRESS, [[b"\x07", [ONE]]], [b"\x07"], [], [], []]],  # changed and only read
        [with_field(3, [TWO, ONE])],
        [with_field(3, [ONE, ONE])],
        [with_field(3, [[b"\x01" * 5, b"\x05"]])],
        [with_field(3, [[b"\x01", b"\x05" * 33]])],
        [with_field(4, [[b"\x01", b"\x05" * 9]])],
        [with_field(4, [[b"\x01", b"\x00"]])],
        [with_field(5, [[b"\x01", []]])],
    ],
)
def test_broken_lists(accounts: Any) -> None:
    with pytest.raises(MalformedMessage):
        decode_access_list(oracle.encode(accounts))
