"""Whole syncs from EthereumJS: a server of state that shares no code with ours, honest and lying."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ethsync.errors import EthsyncError, StateUnavailable
from ethsync.networks import load_network
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.sync.chain import only_block
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, Verified, run_snap
from ethsync.wire.enode import parse_enode
from tests.faults.syncing import findings
from tests.interop.peers import JsPeer, open_js_peer, open_js_peers

PATIENCE = 3.0
"""Real seconds without anything useful after which a sync gives up."""

ALL = 1_000_000
"""More answers than a test needs."""

KEYS = b"\x47" * 32, b"\x48" * 32


@pytest.fixture
def quicker_clock() -> trio.abc.Clock:
    """Time limits for peers that do not answer end five times as soon; those of child processes are generous."""
    return MockClock(rate=5)


async def sync(peers: Sequence[JsPeer], datadir: Path, *, patience: float = 60.0) -> tuple[Verified, Progress]:
    """Sync the head of the first peer from all of them. Raises one of our own errors."""
    options = SnapOptions(
        load_network(peers[0].genesis_path),
        [parse_enode(peer.enode) for peer in peers],
        only_block(peers[0].head.hash),
        datadir,
        space_floor=0,
        patience=patience,
    )
    progress = Progress(trio.current_time())
    try:
        return await run_snap(options, progress), progress
    except* EthsyncError as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[EthsyncError]) -> EthsyncError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def assert_held(verified: Verified, peer: JsPeer, datadir: Path) -> None:
    """The state of the peer's head, as it reports it, is on our disk."""
    assert verified.state_root == f"0x{peer.head.state_root.hex()}"
    assert verified.accounts == peer.head.accounts
    found = await findings(datadir)
    assert found.problems == []
    with open_datadir(datadir) as opened:
        assert StateView(opened).header.number == peer.head.number


async def test_a_state_after_real_transactions(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=600, contracts=40, slots=20, blocks=3, transactions=True) as peer:
        verified, _ = await sync([peer], tmp_path / "d")
        await assert_held(verified, peer, tmp_path / "d")
    assert verified.block_number == 3
    assert verified.slots > 1_500  # contract 0 alone has a thousand
    assert verified.codes > 20


async def test_replies_of_two_kilobytes(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=300, contracts=20, slots=10, max_bytes=2_000) as peer:
        verified, progress = await sync([peer], tmp_path / "d")
        await assert_held(verified, peer, tmp_path / "d")
    assert progress.outcomes["accounts served"] > 5
    assert progress.outcomes["storage served"] > 10


@pytest.mark.parametrize("fault", ["drop", "badproof", "empty", "cut"])
async def test_a_faulty_peer_beside_an_honest_one(fault: str, tmp_path: Path, quicker_clock: trio.abc.Clock) -> None:
    async with open_js_peers(tmp_path, *KEYS, max_bytes=4_000) as (faulty, honest):
        await faulty.command(f"fault {fault} {ALL}")
        verified, _ = await sync([faulty, honest], tmp_path / "d")
        await assert_held(verified, honest, tmp_path / "d")


async def test_a_liar_alone_is_named_and_an_honest_peer_completes_what_was_begun(tmp_path: Path) -> None:
    async with open_js_peers(tmp_path, *KEYS, max_bytes=4_000) as (liar, honest):
        await liar.command(f"fault badproof {ALL}")
        with pytest.raises(StateUnavailable, match=r"ethsync-interop/0 at 127\.0\.0\.1:\d+ was dropped: "):
            await sync([liar], tmp_path / "d", patience=PATIENCE)
        # It stays banned: who tells the truth is another.
        verified, _ = await sync([honest], tmp_path / "d")
        await assert_held(verified, honest, tmp_path / "d")


async def test_a_state_that_left_the_window_is_reported(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=50, contracts=4, slots=4, blocks=4, window=2) as peer:
        await peer.command("head 1")
        old = peer.head
        await peer.command("head 4")
        assert peer.head.number == 4
        peer.head = old
        with pytest.raises(StateUnavailable, match="serves state root"):
            await sync([peer], tmp_path / "d", patience=PATIENCE)
