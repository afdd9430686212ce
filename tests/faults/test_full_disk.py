"""Disks that fill up: the sync stops, says so, keeps what it has, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ethsync.errors import DiskFull
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store import writer
from tests.faults.processes import run, run_ethsync, snap_command
from tests.faults.states import opened
from tests.faults.syncing import assert_state, open_hosts, sync, sync_from

SPEC = SyntheticSpec(accounts=30_000, contracts=1_500, slots=40_000, codes=500, seed=13, code_bytes=2_000)
"""Some 5 MB on disk."""

MIB = 1 << 20


@pytest.fixture(scope="module")
def roomy_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path = tmp_path_factory.mktemp("served") / "state"
    create_synthetic(SPEC, path)
    with opened(path) as view:
        yield view


def mount(place: Path, options: str) -> None:
    """Mount a tmpfs, or skip the test with the reason why that cannot be done here."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted (that takes root): {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount(place, "size=3m")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_disk_that_is_full_in_the_middle(roomy_state: StateView, small_disk: Path, tmp_path: Path) -> None:
    _, (host,) = await sync(roomy_state, tmp_path / "undisturbed", "geth")
    whole = host.watch.total_leaf_bytes
    datadir = small_disk / "d"
    async with open_hosts(roomy_state, "geth") as hosts:
        command = snap_command(roomy_state, hosts, datadir)
        # When the disk is full in the middle of a sync
        ended = await run(command)
        # Then it ends with one line that says so,
        assert ended.code == 1, ended.errors
        assert "Traceback" not in ended.errors
        assert ended.errors.splitlines()[-1].startswith("ethsync: no space left")
        # the same command says the same as long as nothing changes,
        again = await run(command)
        assert (again.code, "no space left" in again.errors) == (1, True)
        # and when there is room it finishes the sync, from where it was.
        before = hosts[0].watch.total_leaf_bytes
        mount(small_disk, "remount,size=64m")
        ended = await run(command)
        assert ended.code == 0, ended.errors
        assert hosts[0].watch.total_leaf_bytes - before < 0.8 * whole
    verdict = await run_ethsync("verify", "--datadir", str(datadir))
    assert verdict.code == 0


async def test_the_floor_is_kept_free(
    roomy_state: StateView, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a look at the free space after each MiB instead of each 64
    monkeypatch.setattr(writer, "SPACE_CHECK_BYTES", MIB)
    mount(small_disk, "remount,size=32m")
    datadir = small_disk / "d"
    async with open_hosts(roomy_state, "geth") as hosts:
        synced = await sync_from(hosts, datadir, floor=29 * MIB)
        assert isinstance(synced.error, DiskFull)
        assert "the floor is 29 MiB" in str(synced.error)
        assert free(datadir) > 25 * MIB  # what was on its way to the disk is written still
        synced = await sync_from(hosts, datadir, floor=8 * MIB)
    await assert_state(synced, roomy_state, datadir)
    assert synced.progress.accounts.kept_items > 0


def free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


async def test_a_floor_above_what_is_free_stops_the_sync_before_it_begins(state: StateView, tmp_path: Path) -> None:
    async with open_hosts(state, "geth") as hosts:
        ended = await run([*snap_command(state, hosts, tmp_path / "d"), "--min-free", str(1 << 40)])
        assert hosts[0].watch.connections == 0
    assert ended.code == 1
    assert "free space and run the same command again" in ended.errors
