"""The command line of `ethsync snap`, turned into what the sync takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ethsync.commands.snap import SnapCommand, _options
from ethsync.errors import ConfigError
from ethsync.sync.snap import SnapOptions
from ethsync.wire.enode import Enode

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


async def options(directory: Path, forks: Sequence[str]) -> SnapOptions:
    command = SnapCommand(
        "mainnet", [str(PEER)], f"hash:0x{'11' * 32}", directory, None, 0, 60.0, "text", "warning", [],
        discovery="none", forks=forks,
    )  # fmt: skip
    async with _options(command) as found:
        return found


async def test_a_fork_can_be_put_at_another_time(tmp_path: Path) -> None:
    """What the warning about unknown forks tells people to do works."""
    usual = (await options(tmp_path, [])).network
    moved = (await options(tmp_path, ["Amsterdam=4000000000"])).network
    assert 4_000_000_000 in moved.forks.time_forks
    assert 4_000_000_000 not in usual.forks.time_forks
    now = max(usual.forks.time_forks)
    assert moved.forks.fork_id(1 << 62, now).next == 4_000_000_000


async def test_a_fork_without_a_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'Amsterdam' is not a fork with its time"):
        await options(tmp_path, ["Amsterdam"])
