"""What we tell others of ourselves, changed during a run: kept on the disk first, then told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.identity import save_identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ethsync.discovery.address_vote import AddressVote
    from ethsync.discovery.local_record import LocalRecord
    from ethsync.discovery.protocol import AddressSeen
    from ethsync.wire.enr import NodeRecord
    from ethsync.wire.forkid import ForkId


class Announcer:
    """Keeps our record up to date. `tell` is called with each new one, after it is on the disk.

    A number that was told and then forgotten in a crash would be told again with other content. So a change waits for
    the disk, in a thread: fsync(2) takes long enough to hold up everything else.
    """

    def __init__(
        self, ours: LocalRecord, vote: AddressVote, directory: Path, tell: Callable[[NodeRecord], None]
    ) -> None:
        self._ours = ours
        self._vote = vote
        self._directory = directory
        self._tell = tell
        self._wanted = ours.announcement
        self._changed = trio.Event()

    def address_seen(self, seen: AddressSeen) -> None:
        """Somebody says what our address is; enough of those change it."""
        winner = self._vote.count(seen, trio.current_time())
        if winner is not None:
            self._wanted = self._wanted.at(winner)
            self._changed.set()

    def set_fork(self, fork_id: ForkId) -> None:
        """The head of our chain is at this fork now."""
        if fork_id != self._wanted.fork_id:
            self._wanted = replace(self._wanted, fork_id=fork_id)
            self._changed.set()

    async def run(self) -> None:
        """Make changes known until cancelled. Raises StoreError."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            if self._ours.update(self._wanted):
                record = self._ours.record
                winners = [self._vote.winner(version) for version in (4, 6)]
                seen = tuple(each for each in winners if each is not None)
                await trio.to_thread.run_sync(save_identity, self._directory, record, seen)
                self._tell(record)
