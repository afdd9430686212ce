"""`ethsync verify`: the state and the headers of a data directory, and what it says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ethsync.commands.verify import run
from ethsync.errors import ConfigError
from ethsync.serve.demo import demo_network, head_header, write_genesis
from ethsync.serve.demo_chain import write_chain
from ethsync.serve.small_state import StatedAccount, create_state
from ethsync.store.datadir import open_datadir
from ethsync.store.header_pages import PAGE, build_page
from ethsync.store.schema import FACT_VERIFIED, HEADER_PAGE, header_key
from ethsync.wire.headers import decode_header
from tests.oracles.headers import demo_chain

ACCOUNTS = [StatedAccount(bytes([n]) * 32, 1, 5, {bytes([n]) * 32: n}, bytes([n])) for n in range(1, 30)]
RAWS = demo_chain(PAGE + 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_state(ACCOUNTS, tmp_path / "d", demo_network(), lambda root: head_header(root, 1))
    with open_datadir(tmp_path / "d") as datadir:
        write_chain(datadir.headers, RAWS)
        datadir.accounts.put(FACT_VERIFIED, b"{}")
    return tmp_path / "d"


@pytest.fixture
def genesis(tmp_path: Path) -> str:
    return str(write_genesis(tmp_path))


def replace_page(path: Path, raws: list[bytes]) -> None:
    marker, page, _ = build_page(raws)
    with open_datadir(path) as datadir:
        datadir.headers.put(header_key(marker.first, HEADER_PAGE), page)


def test_state_and_headers_hold(path: Path, genesis: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(path, genesis, as_json=False) == 0
    assert capsys.readouterr().out.endswith(f"29 accounts, 29 slots, 29 codes, {PAGE + 20:,} headers; holds\n")
    assert run(path, genesis, as_json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["holds"] is True
    assert facts["headers"] == {"headers": PAGE + 20, "bytes": sum(map(len, RAWS)), "problems": []}


def test_a_changed_header_is_named_and_the_state_stays_verified(
    path: Path, genesis: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = RAWS[500][:300] + bytes([RAWS[500][300] ^ 1]) + RAWS[500][301:]
    replace_page(path, [*RAWS[:500], changed, *RAWS[501:PAGE]])
    assert run(path, genesis, as_json=False) == 1
    text = capsys.readouterr().out
    assert f"- the headers from 0 to {PAGE - 1} do not hang together\n" in text
    assert "does not hold: 1 problem\n" in text
    with open_datadir(path) as datadir:
        assert datadir.accounts.get(FACT_VERIFIED) is not None


def test_headers_of_a_private_network_need_its_name(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(path, None, as_json=False) == 0
    assert (
        "headers were not looked at: name the genesis JSON of their network with --network" in capsys.readouterr().out
    )
    assert run(path, None, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["headers"] is None


def test_headers_are_read_by_forks_that_the_command_line_moves(
    path: Path, genesis: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chain's headers lack Prague's field. Given Prague before its last header, they break the rules."""
    last = decode_header(RAWS[-1]).timestamp
    assert run(path, genesis, as_json=False, forks=[f"Prague={last + 1}"]) == 0
    assert run(path, genesis, as_json=False, forks=[f"Prague={last}"]) == 1
    assert "does not hold" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="did you mean Prague"):
        run(path, genesis, as_json=False, forks=["Pragu=5"])


def test_another_network_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="mainnet has another genesis than this data directory"):
        run(path, "mainnet", as_json=False)
