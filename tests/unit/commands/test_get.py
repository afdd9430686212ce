"""`ethsync get`: values of one block with their proofs checked, by number or by hash; what is not held is an error."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

import ethsync
from ethsync.commands import get
from ethsync.errors import ConfigError
from ethsync.hashing import keccak256
from ethsync.serve.small_state import StatedAccount
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import MARKER
from tests.faults.states import create_demo_state

ADDRESS = bytes.fromhex("00000000219ab540356cbb839cbe05303d7705fa")
CODE = b"\x60\x01\x60\x02"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with a contract whose slots 0 and 7 are 5 and 2^255, among other accounts."""
    rng = Random(1)
    slots = {keccak256(number.to_bytes(32, "big")): value for number, value in ((0, 5), (7, 1 << 255))}
    contract = StatedAccount(keccak256(ADDRESS), nonce=3, balance=10**18, storage=slots, code=CODE)
    made = tmp_path_factory.mktemp("get") / "d"
    create_demo_state(made, [contract, *(StatedAccount(rng.randbytes(32), balance=k) for k in range(40))])
    return made


def printed(
    capsys: pytest.CaptureFixture[str], name: str, slots: tuple[str, ...], path: Path, *, code: bool = False
) -> list[str]:
    assert get.run(name, slots, code, path, as_json=False) == 0
    return capsys.readouterr().out.splitlines()


def test_an_account_with_slots_and_code(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, f"0x{ADDRESS.hex()}", ("0", "0x7", "8"), path, code=True)
    assert lines[0].startswith("block 1000 (0x")
    assert lines[0].endswith("), proof checked against its state root")
    assert lines[1:3] == ["nonce         3", "balance       1000000000000000000 wei"]
    assert lines[-4:] == [
        f"slot 0x0      0x{5:064x}", f"slot 0x7      0x{1 << 255:064x}", f"slot 0x8      0x{0:064x}",
        f"code          0x{CODE.hex()}",
    ]  # fmt: skip


def test_the_same_by_hashes_and_for_programs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slot = f"hash:0x{keccak256(bytes(32)).hex()}"
    assert get.run(keccak256(ADDRESS).hex(), (slot,), True, path, as_json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["exists"], facts["proof"], facts["balance"]) == (True, "checked", str(10**18))
    assert facts["slots"] == {slot: f"0x{5:064x}"}
    assert facts["code"] == f"0x{CODE.hex()}"


def test_sixty_four_digits_are_a_number_and_not_a_hash(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # As positions of mappings are, which eth_getStorageAt takes.
    lines = printed(capsys, ADDRESS.hex(), (f"0x{7:064x}",), path)
    assert lines[-1] == f"slot 0x7      0x{1 << 255:064x}"


def test_that_an_account_does_not_exist_is_proven(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "11" * 20
    assert printed(capsys, name, (), path)[1:] == [
        f"there is no account with hash 0x{keccak256(bytes.fromhex(name)).hex()} in this state"
    ]


def test_what_is_not_held_is_an_error_and_never_zero(tmp_path: Path) -> None:
    create_demo_state(tmp_path / "d", [StatedAccount(keccak256(ADDRESS), balance=1)])
    with open_datadir(tmp_path / "d") as datadir:
        batch = datadir.accounts.batch()
        for key, _ in datadir.accounts.scan(MARKER):
            batch.delete(MARKER + key)
        datadir.accounts.commit(batch)
    for name in (ADDRESS.hex(), "22" * 32):
        with pytest.raises(ethsync.NotHeld):
            get.run(name, ("0",), True, tmp_path / "d", as_json=False)


@pytest.mark.parametrize("name", ["", "0x", "zz", "11" * 19, "11" * 33])
def test_what_is_no_account_is_wrong_usage(name: str, path: Path) -> None:
    with pytest.raises(ConfigError, match="neither an address nor an account hash"):
        get.run(name, (), False, path, as_json=False)


@pytest.mark.parametrize("slot", ["", "-1", "x", str(1 << 256), "hash:", "hash:0x12", "hash:" + "zz" * 32])
def test_what_is_no_slot_is_wrong_usage(slot: str, path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the number of a storage slot"):
        get.run(ADDRESS.hex(), (slot,), False, path, as_json=False)
