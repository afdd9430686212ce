"""States that are given account by account, as those of genesis files are."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from ethsync.errors import DatadirMismatch
from ethsync.genesis import network_from_genesis
from ethsync.hashing import keccak256
from ethsync.serve.demo import demo_genesis, demo_network, head_header
from ethsync.serve.served import ServedStates
from ethsync.serve.small_state import StatedAccount, create_genesis_state, create_state
from ethsync.serve.snap import serve
from ethsync.state.proofs import verify_range
from ethsync.state.replies import scan_account_range
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.wire.snap import GetAccountRange
from tests.oracles.served import truth_of


def genesis() -> dict[str, Any]:
    rng = Random(1)
    document = demo_genesis()
    for number in range(40):
        slots = (0, 0, 3, 90)[number % 4]  # none, a few, more than a bundle takes
        document["alloc"][f"0x{number:040x}"] = {
            "balance": hex(rng.getrandbits(80)),
            "nonce": hex(number),
            "code": "0x" + rng.randbytes(number % 3).hex(),
            "storage": {hex(slot): hex(rng.getrandbits(200) + 1) for slot in range(slots)},
        }
    return document


def test_a_genesis_state_is_held_whole_under_its_root(tmp_path: Path) -> None:
    # Given a genesis whose header is computed elsewhere
    document = genesis()
    network = network_from_genesis(document)
    # When its state is written
    header = create_genesis_state(document, tmp_path / "state")
    # Then the header is the genesis header, and everything can be read and proven.
    assert header.hash == network.genesis_hash
    with open_datadir(tmp_path / "state") as datadir:
        view = StateView(datadir)
        assert view.is_complete()
        for number, (address, fields) in enumerate(document["alloc"].items()):
            key = keccak256(bytes.fromhex(address[2:]))
            account = view.account(key)
            assert account is not None
            assert (account.nonce, hex(account.balance)) == (number, fields["balance"])
            assert view.code(account.code_hash).hex() == fields["code"][2:]
            for slot, value in fields["storage"].items():
                assert hex(view.slot(key, keccak256(int(slot, 16).to_bytes(32, "big")))) == value
        reply = serve(ServedStates(view), GetAccountRange(1, header.state_root, bytes(32), b"\xff" * 32, 10**6))
        scanned = scan_account_range(reply.payload)
        assert not verify_range(header.state_root, bytes(32), scanned.leaves, scanned.proof).more


@pytest.mark.parametrize("count", [0, 1, 2, 3_000])
def test_states_of_any_size_are_written(count: int, tmp_path: Path) -> None:
    accounts = [StatedAccount(keccak256(number.to_bytes(4, "big")), number) for number in range(count)]
    header = create_state(accounts, tmp_path / "state", demo_network(), lambda root: head_header(root, 1))
    with open_datadir(tmp_path / "state") as datadir:
        view = StateView(datadir)
        assert view.header == header
        assert [key for key, _ in truth_of(view).accounts] == sorted(account.key for account in accounts)
        reply = serve(ServedStates(view), GetAccountRange(1, header.state_root, bytes(32), b"\xff" * 32, 10**7))
        scanned = scan_account_range(reply.payload)
        assert not verify_range(header.state_root, bytes(32), scanned.leaves, scanned.proof).more


def test_a_directory_with_a_state_is_not_written_over(tmp_path: Path) -> None:
    create_genesis_state(genesis(), tmp_path / "state")
    with pytest.raises(DatadirMismatch):
        create_genesis_state(genesis(), tmp_path / "state")
