"""Our record, changed during a run."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ethsync.discovery import announcer as module
from ethsync.discovery.address_vote import FEWEST_VOTES, AddressVote
from ethsync.discovery.announcer import Announcer
from ethsync.discovery.identity import open_identity
from ethsync.discovery.local_record import Announcement, LocalRecord
from ethsync.discovery.node import Endpoint
from ethsync.discovery.protocol import AddressSeen
from ethsync.wire.enr import NodeRecord
from ethsync.wire.forkid import ForkId

OLD, NEW = ForkId(b"old!", 9), ForkId(b"new!", 0)
US = Endpoint(IPv4Address("8.8.1.1"), 30303)


class Told:
    """What others hear of us, and whether it was on the disk by then."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records: list[NodeRecord] = []
        self.kept: list[bool] = []
        self.ours = LocalRecord(open_identity(directory).key, Announcement(tcp=1, udp=1, fork_id=OLD), None, 1e9)
        self.announcer = Announcer(self.ours, AddressVote(30303, []), directory, self.hear)

    def hear(self, record: NodeRecord) -> None:
        """Stands in for `Finder.set_record`."""
        self.records.append(record)
        self.kept.append(open_identity(self.directory).record == record)

    async def until(self, count: int) -> None:
        """Wait until so many records were told."""
        with trio.fail_after(5):
            while len(self.records) < count:
                await wait_all_tasks_blocked(0.001)


async def test_a_fork_that_has_passed_is_told_once_it_is_on_the_disk(tmp_path: Path) -> None:
    told = Told(tmp_path)
    seq = told.ours.record.seq
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.announcer.run)
        told.announcer.set_fork(OLD)
        await wait_all_tasks_blocked(0.01)
        assert told.records == []
        told.announcer.set_fork(NEW)
        await told.until(1)
        nursery.cancel_scope.cancel()
    assert told.kept == [True]
    assert told.records[0].fork_id == NEW
    assert told.records[0].seq == seq + 1


async def test_an_address_that_enough_others_see_is_told_with_the_fork_that_passed_meanwhile(tmp_path: Path) -> None:
    told = Told(tmp_path)
    async with trio.open_nursery() as nursery:
        for n in range(FEWEST_VOTES):
            told.announcer.address_seen(AddressSeen(bytes([n]) * 32, US, Endpoint(IPv4Address(f"20.{n}.1.1"), 1)))
        told.announcer.set_fork(NEW)
        nursery.start_soon(told.announcer.run)
        await told.until(1)
        nursery.cancel_scope.cancel()
    (record,) = told.records
    assert (record.ip, record.udp, record.fork_id) == (US.ip, US.port, NEW)
    # And how others see us is kept as well.
    assert open_identity(tmp_path).seen == (US,)


async def test_the_disk_does_not_hold_up_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(tmp_path)
    threads: list[bool] = []

    def save(*_: object) -> None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            threads.append(True)

    monkeypatch.setattr(module, "save_identity", save)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.announcer.run)
        told.announcer.set_fork(NEW)
        await told.until(1)
        nursery.cancel_scope.cancel()
    assert threads == [True]
