"""The download: three stages fed by one pool of peers, at the same time, until nothing is owed.

One task decides (`assignment.assign`, pure) whenever anything changed; each request is a task of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from ethsync.errors import CutShort, Disproved, MalformedMessage, PeerGone, RequestTimeout, StateUnavailable
from ethsync.peers.assignment import Demand, assign
from ethsync.peers.track import CUT_SHORT_IN_A_ROW, Outcome, RequestKind
from ethsync.sync.shortage import shortage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ethsync.peers.changes import Changes
    from ethsync.peers.peer import Peer
    from ethsync.peers.pool import PeerPool
    from ethsync.sync.patience import Patience
    from ethsync.sync.progress import Progress
    from ethsync.sync.stage import Stage

UNPROVEN_BYTES = 24 << 20
"""Replies waiting to be proven, beyond which nothing more is asked: two cores prove this much in half a second."""

REPLY_SLACK = 256 << 10
"""Bytes that a reply may have beyond twice what was asked for (geth p2p/tracker allows the double): proofs of 128 nodes
take 68 KiB, and the last code or slot may go over the limit."""


HAS_NOTHING = frozenset({Outcome.EMPTY, Outcome.MALFORMED})
"""How peers answer that have nothing of a state any more: geth with empty lists, Nethermind with what cannot be decoded
(`ethsync.serve.profiles`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """A reply to be looked at, and the state root that was wanted when it was asked for."""

    peer: Peer
    stage: Stage[Any]
    job: Any
    root: bytes
    payload: bytes


@dataclass(slots=True, eq=False)
class Download:
    """What the tasks of a download share."""

    pool: PeerPool
    changes: Changes
    progress: Progress
    state_root: bytes
    patience: Patience
    on_stale: Callable[[], None] = lambda: None
    """Called when most peers that have served state before have nothing of this one any more, or nobody gives any."""
    in_flight: int = 0
    late: list[Reply] = field(default_factory=list)
    """Those that came after their requests had been given up; their bytes count as unproven."""
    asking: set[trio.CancelScope] = field(default_factory=set)
    """Requests that wait for their replies."""
    _without: set[int] = field(default_factory=set)
    _told: bool = False

    def look(self, now: float) -> float:
        """When patience ends. If nothing useful came for half of it, the state may be gone: that is told once."""
        end = self.patience.look(now, excused=self.pool.awaits_peers)
        if now >= self.doubtful_from(end):
            self._told = True
            self.on_stale()
        return end

    def doubtful_from(self, end: float) -> float:
        """When that is to be told, infinity if it was; `end`: of patience."""
        return float("inf") if self._told else end - self.patience.seconds / 2

    def move(self, state_root: bytes) -> None:
        """Another state is asked for now: what peers did not have of the last one says nothing of it."""
        self.state_root = state_root
        self.patience.renew(trio.current_time())
        self._told = False
        self._without.clear()
        for peer in self.pool.peers.values():
            peer.record.forgive()
        self.changes.ring()

    def note(self, peer: Peer, kind: RequestKind, outcome: Outcome, root: bytes, why: str = "") -> None:
        """Record how a request under a state root ended, and whether too many have nothing of that state any more."""
        wanted = root == self.state_root
        if outcome in HAS_NOTHING and not wanted:
            outcome = Outcome.DUPLICATE
        self.pool.note(peer, kind, outcome, why)
        if outcome is Outcome.SERVED:
            self.patience.renew(trio.current_time())
            self._told = False
        if not wanted or kind is RequestKind.CODES:  # these are found without a state
            return
        if outcome is Outcome.SERVED:
            self._without.discard(peer.number)
        elif outcome in HAS_NOTHING and peer.record.has_served_state:
            self._without.add(peer.number)
            servers = [other.number for other in self.pool.peers.values() if other.record.has_served_state]
            if 2 * len(self._without.intersection(servers)) > len(servers):
                self.on_stale()


async def run_download(download: Download, stages: Sequence[Stage[Any]]) -> None:
    """Run the stages until all are done; earlier stages in the list are served first.

    Raises StateUnavailable when nobody serves the state any more; what is stored stays.
    """
    async with trio.open_nursery() as nursery:
        while not all(stage.done for stage in stages):
            changed = download.changes.next()
            now = trio.current_time()
            _keep_time(stages, now)
            patient_until = download.look(now)
            # At the end of patience only those count who did not fail yet: silent ones would be asked for ever.
            may_ask = now < patient_until or any(peer.record.promising for peer in download.pool.peers.values())
            _take_late(download, nursery)
            if may_ask and download.progress.unproven_bytes < UNPROVEN_BYTES:
                _assign(download, stages, nursery, now)
            if now >= patient_until and download.in_flight == 0:
                raise _unavailable(download, stages)
            deadline = min(download.pool.next_pause_end(now), download.doubtful_from(patient_until))
            with trio.move_on_at(deadline if download.in_flight else min(deadline, patient_until)):
                await changed.wait()
        _keep_time(stages, trio.current_time())
        for scope in download.asking:
            scope.cancel()  # what is still asked for came from somebody else


def _keep_time(stages: Sequence[Stage[Any]], now: float) -> None:
    for stage in stages:
        stage.counters.keep_time(now, done=stage.done)


def _assign(download: Download, stages: Sequence[Stage[Any]], nursery: trio.Nursery, now: float) -> None:
    """Ask for everything that peers have room for."""
    by_kind = {stage.kind: stage for stage in stages}
    demands = [Demand(stage.kind, stage.ready()) for stage in stages if stage.ready()]
    for assignment in assign(download.pool.askable(now), demands):
        stage, peer = by_kind[assignment.kind], download.pool.peers[assignment.peer]
        if not stage.ready():
            continue
        track = peer.record.tracks[stage.kind]
        job = stage.take(track.budget)
        track.in_flight += 1
        download.in_flight += 1
        nursery.start_soon(_ask, download, peer, stage, job)


def _take_late(download: Download, nursery: trio.Nursery) -> None:
    late, download.late = download.late, []
    for reply in late:
        download.in_flight += 1
        nursery.start_soon(_use_late, download, reply)


async def _use_late(download: Download, reply: Reply) -> None:
    try:
        await _process(download, reply)
    finally:
        download.progress.unproven_bytes -= len(reply.payload)
        download.in_flight -= 1
        download.changes.ring()


async def _ask(download: Download, peer: Peer, stage: Stage[Any], job: Any) -> None:
    """One request and all that follows from it."""
    root = download.state_root
    try:
        payload = await _request(download, peer, stage, job)
        if payload is not None:
            download.progress.unproven_bytes += len(payload)
            try:
                await _process(download, Reply(peer, stage, job, root, payload))
            finally:
                download.progress.unproven_bytes -= len(payload)
    finally:
        download.in_flight -= 1
        download.changes.ring()


async def _request(download: Download, peer: Peer, stage: Stage[Any], job: Any) -> bytes | None:
    """The payload of the reply, None if there is none in time. One that comes later is used if it still can be."""

    root = download.state_root

    def came_late(payload: bytes) -> None:
        if download.progress.unproven_bytes < UNPROVEN_BYTES:
            download.progress.unproven_bytes += len(payload)
            download.late.append(Reply(peer, stage, job, root, payload))
            download.changes.ring()

    outcome: Outcome | None = None
    scope = trio.CancelScope()
    download.asking.add(scope)
    try:
        with scope:
            return await peer.request(stage.kind, job.make, came_late)
    except RequestTimeout:
        outcome = Outcome.TIMEOUT
    except PeerGone:
        outcome = Outcome.DISCONNECTED
    finally:
        download.asking.discard(scope)
        peer.record.tracks[stage.kind].in_flight -= 1
        download.changes.ring()
    stage.give_back(job)
    if outcome is not None:
        download.pool.note(peer, stage.kind, outcome)
    return None


async def _process(download: Download, reply: Reply) -> None:
    peer, stage, job, size = reply.peer, reply.stage, reply.job, len(reply.payload)
    fault = ""
    try:
        if size > 2 * job.budget + REPLY_SLACK:
            stage.give_back(job)
            raise MalformedMessage(f"{peer} sent {size} bytes where about {job.budget} were asked for")
        outcome = await stage.process(job, reply.payload)
    except Disproved as error:
        if isinstance(error, CutShort):
            download.note(peer, stage.kind, Outcome.CUT_SHORT, reply.root)
            if peer.record.tracks[stage.kind].cut_short_in_a_row < CUT_SHORT_IN_A_ROW:
                return
        download.pool.note(peer, stage.kind, Outcome.DISPROVED)
        download.pool.drop(peer, error)
        return
    except MalformedMessage as error:
        outcome, fault = Outcome.MALFORMED, str(error)
    download.note(peer, stage.kind, outcome, reply.root, fault)


def _unavailable(download: Download, stages: Sequence[Stage[Any]]) -> StateUnavailable:
    found = shortage(download.pool, trio.current_time())
    missing = " and ".join(filter(None, (stage.missing for stage in stages)))
    return StateUnavailable(
        f"no peer serves state root 0x{download.state_root.hex()}: {found.why}; what is missing: {missing}",
        hint=f"everything so far is kept: {found.advice}",
    )
