"""The command line of `ethsync snap`, turned into what the sync takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ethsync.commands import snap as module
from ethsync.commands.places import synthetic_datadir
from ethsync.commands.snap import SnapCommand, _options
from ethsync.errors import ConfigError
from ethsync.serve.spec import DEMO_SPEC
from ethsync.sync.snap import SnapOptions
from ethsync.wire.enode import Enode
from tests.oracles.headers import ETHTEST

PEER = Enode(
    bytes.fromhex(
        "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
    ),
    "127.0.0.1",
    30303,
    30303,
)
"""The generator of secp256k1."""


COMMAND = SnapCommand(
    "mainnet", [str(PEER)], f"hash:0x{'11' * 32}", None, None, 0, 60.0, "text", "warning", [], discovery="none"
)


async def options(directory: Path, forks: Sequence[str]) -> SnapOptions:
    async with _options(replace(COMMAND, datadir=directory, forks=forks)) as found:
        return found


async def test_a_fork_can_be_put_at_another_time(tmp_path: Path) -> None:
    """What the warning about unknown forks tells people to do works."""
    usual = (await options(tmp_path, [])).network
    moved = (await options(tmp_path, ["Amsterdam=4000000000"])).network
    assert 4_000_000_000 in moved.forks.time_forks
    assert 4_000_000_000 not in usual.forks.time_forks
    now = max(usual.forks.time_forks)
    assert moved.forks.fork_id(1 << 62, now).next == 4_000_000_000


async def test_a_fork_can_be_put_at_another_block(tmp_path: Path) -> None:
    moved = (await options(tmp_path, ["Gray Glacier=15050001", "Amsterdam=4000000000"])).network
    assert (15_050_001 in moved.forks.block_forks, 15_050_000 in moved.forks.block_forks) == (True, False)
    assert 4_000_000_000 in moved.forks.time_forks


async def test_the_demo_has_no_forks_to_move(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the demo has all its forks at the genesis"):
        async with _options(SnapCommand(
            "demo", [], None, tmp_path, None, 0, 60.0, "text", "warning", [], forks=["Amsterdam=4000000000"]
        )):  # fmt: skip
            pass


async def test_a_fork_without_a_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'Amsterdam' is not a fork with its time"):
        await options(tmp_path, ["Amsterdam"])


async def test_eip_7542_is_for_private_networks(tmp_path: Path) -> None:
    assert not (await options(tmp_path, [])).eip7542
    with pytest.raises(ConfigError, match="nobody on mainnet speaks it"):
        async with _options(replace(COMMAND, datadir=tmp_path, eip7542=True)):
            pass
    private = replace(COMMAND, network=str(ETHTEST / "genesis.json"), datadir=tmp_path, eip7542=True)
    async with _options(private) as found:
        assert found.eip7542


async def test_one_block_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="followed no further"):
        async with _options(replace(COMMAND, datadir=tmp_path, follow=True)):
            pass


async def test_a_head_that_moves_is_followed(tmp_path: Path) -> None:
    head = "beacon:http://127.0.0.1:5052"
    async with _options(replace(COMMAND, head=head, datadir=tmp_path, follow=True)) as found:
        assert found.follow


async def test_the_demo_does_not_stumble_over_a_state_that_an_older_version_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given another spec than today's, then its state is kept somewhere else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    older = replace(DEMO_SPEC, headers=1)
    assert synthetic_datadir(older) != synthetic_datadir(DEMO_SPEC)
    served: list[tuple[str, ...]] = []

    def refuse(*arguments: str) -> None:
        served.append(arguments)
        raise ConfigError("not now")

    monkeypatch.setattr(module, "open_serving_process", refuse)
    with pytest.raises(ConfigError, match="not now"):
        async with _options(replace(COMMAND, network="demo", peers=[], head=None, datadir=tmp_path)):
            pass
    assert served == [("--synthetic", str(DEMO_SPEC), "--datadir", str(synthetic_datadir(DEMO_SPEC)))]
