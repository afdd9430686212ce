"""Fills the pool: dials candidates as long as there are slots for them, and tells them what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.discovery.candidates import MOST_DIALS
from ethsync.errors import PeerError
from ethsync.peers.failures import reason_of
from ethsync.peers.greeting import dial_peer
from ethsync.peers.membership import be_peer

if TYPE_CHECKING:
    from collections.abc import Callable

    import coincurve

    from ethsync.discovery.candidate import Candidate, Source
    from ethsync.discovery.candidates import Candidates
    from ethsync.discovery.node import Node
    from ethsync.peers.pool import PeerPool
    from ethsync.wire.enode import Enode

BANNED_PAUSE = 600.0
"""Seconds until a banned candidate is looked at again: bans end (`bans.DURATION`), though none of them that soon."""

IDLE_PAUSE = 1.0
"""Seconds between two looks at the candidates while all slots are taken, so that twenty thousand of them whose pauses
end one after another do not keep us busy. A slot that becomes free is noticed at once."""


class Dialer:
    """Dials for one pool. `offer` may be called from anywhere on the event loop.

    `wanted`, once set, is called with whether more nodes are wanted whenever that changes.
    """

    def __init__(self, pool: PeerPool, candidates: Candidates, key: coincurve.PrivateKey) -> None:
        self.candidates = candidates
        self._pool = pool
        self._key = key
        self.wanted: Callable[[bool], None] | None = None
        self._dials = 0
        self._changed = trio.Event()
        self._was_wanted = True

    def offer(self, source: Source, node: Node | Enode) -> None:
        """A source named a node."""
        self.candidates.offer(node, source, trio.current_time())
        self.look()

    def look(self) -> None:
        """Something has changed: look whether somebody can be dialled."""
        self._changed.set()

    async def run(self) -> None:
        """Dial until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                now = trio.current_time()
                while (candidate := self._next(now)) is not None:
                    self.candidates.dialled(candidate.public_key, now)
                    self._dials += 1
                    nursery.start_soon(self._dial, candidate)
                self._say_wanted()
                wake_at = self.candidates.wake_at()
                if self._dials >= self._most_dials:
                    wake_at = max(wake_at, now + IDLE_PAUSE)
                with trio.move_on_at(wake_at):
                    await self._changed.wait()

    @property
    def _most_dials(self) -> int:
        """How many dials of nodes that the user did not name may be under way."""
        return min(MOST_DIALS, self._pool.slots.useful_dials)

    def _next(self, now: float) -> Candidate | None:
        """Whom to dial now. Named nodes come first, and need no free slot."""
        while (candidate := self.candidates.next(now, self._pool.slots)) is not None:
            key = candidate.public_key
            banned = self._pool.is_banned(key, candidate.ip)
            if banned is not None:
                if key in self._pool.named:
                    self._pool.failures[key] = f"{candidate.enode.host}:{candidate.tcp_port} is banned: {banned}"
                self.candidates.defer(key, now + BANNED_PAUSE)
            elif not candidate.is_fixed and self._dials >= self._most_dials:
                return None
            elif self._pool.slots.refuses(candidate) is not None:
                self.candidates.defer(key, now + self.candidates.redial)
            else:
                return candidate
        return None

    def _say_wanted(self) -> None:
        wanted = self._pool.slots.free_outbound > 0
        if wanted != self._was_wanted and self.wanted is not None:
            self._was_wanted = wanted
            self.wanted(wanted)

    async def _dial(self, candidate: Candidate) -> None:
        """One connection from its dial to its end."""
        key, pool = candidate.public_key, self._pool
        dialling = True
        failure: PeerError | None = None

        def greeted() -> None:
            nonlocal dialling
            dialling = False
            self._dials -= 1

        try:
            greeting = dial_peer(pool.next_number(), candidate.enode, self._key, pool.view)
            await be_peer(pool, self.candidates, greeting, greeted)
        except PeerError as error:
            failure = error
            if key in pool.named and key not in pool.slots:
                pool.failures[key] = str(error)
        finally:
            now = trio.current_time()
            self._dials -= dialling
            if dialling and failure is not None:
                self.candidates.failed(key, reason_of(failure), now)
            else:
                self.candidates.abandoned(key, now)
            self.look()
            pool.changed()


async def run_dialer(dialer: Dialer, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Keep the pool full until cancelled. Nodes' faults end their connection, never this."""
    task_status.started()
    await dialer.run()
