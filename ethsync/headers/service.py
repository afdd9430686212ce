"""Downloading headers: one loop over the pool of peers, beside whatever else the pool is used for.

What is under way at a peer is counted in the same records that the state's download looks at, so each knows of the
other's load. No error of a peer ends the loop; neither does having nobody to ask.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from ethsync.errors import Disproved, MalformedMessage, OtherChain, PeerGone, RequestTimeout
from ethsync.headers.chain import ProvenChain, recent_floor
from ethsync.headers.rules import chain_rules
from ethsync.headers.segment import check_family, read_headers
from ethsync.peers.assignment import Demand, assign
from ethsync.peers.track import Outcome, RequestKind
from ethsync.store.headers import HeaderStore
from ethsync.store.writer import Write
from ethsync.wire.eth import MAX_SERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ethsync.counters import Counters
    from ethsync.headers.descent import HeaderJob
    from ethsync.networks import Network
    from ethsync.peers.changes import Changes
    from ethsync.peers.peer import Peer
    from ethsync.peers.pool import PeerPool
    from ethsync.store.datadir import Datadir
    from ethsync.store.writer import Writer

KIND = RequestKind.HEADERS

LIKELY_HEADER = 600
"""Bytes of a header until some were seen (those of recent mainnet blocks)."""

SMALLEST_LIMIT = 64
"""Headers asked for of the slowest peer: less would be all latency."""

HURRY = 10.0
"""Seconds without progress after which the way to a former head is given up for a newer one: it may be on a branch that
nobody follows any more."""


@dataclass(slots=True, eq=False)
class HeaderDownload:
    """What the tasks of the download share. `last_served`: when headers were used for the last time (trio's clock)."""

    chain: ProvenChain
    datadir: Datadir
    writer: Writer
    pool: PeerPool
    changes: Changes
    limiter: trio.CapacityLimiter
    last_served: float = 0.0
    finished: trio.Event = field(default_factory=trio.Event)
    """Set when everything from the head that is trusted at that time down to the floor is on the disk."""
    _size: float = LIKELY_HEADER
    _late: list[tuple[Peer, HeaderJob, bytes]] = field(default_factory=list)

    def limit(self, budget: int) -> int:
        """Headers that fill a peer's byte budget."""
        return max(SMALLEST_LIMIT, min(int(budget / self._size), MAX_SERVED))

    def learn_size(self, size: int, count: int) -> None:
        """So many headers took so many bytes."""
        self._size += 0.1 * (size / count - self._size)

    def came_late(self, peer: Peer, job: HeaderJob, payload: bytes) -> None:
        """Keep a late reply to be looked at; one per peer at a time, at most 10 MiB each."""
        if all(other is not peer for other, _, _ in self._late):
            self._late.append((peer, job, payload))
            self.changes.ring()

    def take_late(self) -> list[tuple[Peer, HeaderJob, bytes]]:
        """The late replies."""
        late, self._late = self._late, []
        return late


def open_header_chain(datadir: Datadir, network: Network, counters: Counters, floor: int | None = 0) -> ProvenChain:
    """The chain as it is stored, to be continued down to `floor`; None: as far as recent headers reach below its head.
    Reads the disk: run it in a thread.

    Raises DatadirDamaged; VerificationFailed if what is stored breaks a rule of the network.
    """
    store = HeaderStore(datadir.headers, check_family)
    if floor is None:
        floor = recent_floor(store.top.number) if store.top is not None else 0
    return ProvenChain(store, chain_rules(network), counters, floor)


async def run_headers(
    download: HeaderDownload, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Download headers until cancelled; `download.chain.follow(head)` may be called at any time, then `changes.ring()`.

    Raises VerificationFailed if the chain that is proven breaks a rule of the network, StoreError.
    """
    chain, pool = download.chain, download.pool
    download.last_served = trio.current_time()
    async with trio.open_nursery() as nursery:
        task_status.started()
        while True:
            changed = download.changes.next()
            now = trio.current_time()
            for late in download.take_late():
                nursery.start_soon(_use, download, *late)
            if chain.waiting and now >= download.last_served + HURRY:
                chain.hurry()
                download.last_served = now
            _assign(download, nursery, now)
            while chain.mergeable:
                nursery.start_soon(_merge, download, chain.mergeable.popleft())
            _tell_off(download)
            await _write(download)
            chain.counters.keep_time(now, done=chain.done)
            if chain.done and not download.finished.is_set():
                download.finished.set()
                download.changes.ring()
            hurry = download.last_served + HURRY if chain.waiting else float("inf")
            with trio.move_on_at(min(pool.next_pause_end(now), hurry, _later(chain.stalled()[0], now))):
                await changed.wait()


def _assign(download: HeaderDownload, nursery: trio.Nursery, now: float) -> None:
    """Ask for everything that peers have room for, and one more peer for what is stalled."""
    chain, pool = download.chain, download.pool
    if chain.ready():
        for assignment in assign(pool.askable(now), [Demand(KIND, chain.ready())]):
            if chain.ready():
                _start(download, nursery, pool.peers[assignment.peer], chain.take, now)
    due, asked = chain.stalled()
    if due <= now:
        others = [each for each in pool.askable(now) if each.number not in asked]
        for assignment in assign(others, [Demand(KIND, 1)]):
            _start(download, nursery, pool.peers[assignment.peer], chain.repeat, now)


def _start(
    download: HeaderDownload, nursery: trio.Nursery, peer: Peer, job_for: Callable[[int, int, float], HeaderJob],
    now: float,
) -> None:  # fmt: skip
    track = peer.record.tracks[KIND]
    job = job_for(download.limit(track.budget), peer.number, now)
    track.in_flight += 1
    nursery.start_soon(_ask, download, peer, job)


def _later(due: float, now: float) -> float:
    """A time to wake up at. What is overdue waits for a peer to be free, and that rings."""
    return due if due > now else float("inf")


async def _ask(download: HeaderDownload, peer: Peer, job: HeaderJob) -> None:
    """One request and all that follows from it."""
    outcome: Outcome | None = None
    payload = b""
    try:
        payload = await peer.request(KIND, job.make, lambda late: download.came_late(peer, job, late))
    except RequestTimeout:
        outcome = Outcome.TIMEOUT
    except PeerGone:
        outcome = Outcome.DISCONNECTED
    finally:
        peer.record.tracks[KIND].in_flight -= 1
    if outcome is None:
        await _use(download, peer, job, payload)
        return
    download.chain.give_back(job)
    download.pool.note(peer, KIND, outcome)
    download.changes.ring()


async def _use(download: HeaderDownload, peer: Peer, job: HeaderJob, payload: bytes) -> None:
    """Check a reply, use it, and note what the peer did."""
    chain, pool = download.chain, download.pool
    with _answered(download, job):
        try:
            segment = await trio.to_thread.run_sync(
                read_headers, payload, job.query, chain.rules, limiter=download.limiter
            )
        except Disproved as error:
            pool.note(peer, KIND, Outcome.DISPROVED)
            pool.drop(peer, error)
            return
        except MalformedMessage as error:
            pool.note(peer, KIND, Outcome.MALFORMED, str(error))
            return
        if segment is None:
            pool.note(peer, KIND, Outcome.EMPTY)
            return
        download.learn_size(len(payload), len(segment))
        outcome = chain.accept(job, segment)
        if outcome is Outcome.SERVED:
            download.last_served = trio.current_time()
        pool.note(peer, KIND, outcome)


@contextmanager
def _answered(download: HeaderDownload, job: HeaderJob) -> Iterator[None]:
    """Whatever comes of an answer, its job is over then."""
    try:
        yield
    finally:
        download.chain.give_back(job)
        download.changes.ring()


def _tell_off(download: HeaderDownload) -> None:
    """Hang up on peers whose headers were not those of the chain. They may be on a branch of their own, and sincere:
    nobody is banned for that."""
    while download.chain.refuted:
        refuted = download.chain.refuted.popleft()
        for number in refuted.peers:
            peer = download.pool.peers.get(number)
            if peer is not None:
                verdict = OtherChain(f"its header {refuted.number} is not an ancestor of the trusted head")
                download.pool.note(peer, KIND, Outcome.MALFORMED, str(verdict))
                download.pool.drop(peer, verdict)


async def _write(download: HeaderDownload) -> None:
    """Hand over what is to be written, in order."""
    outbox = download.chain.outbox
    while outbox:
        change, done = outbox.popleft()

        def written(done: Callable[[], None] = done) -> None:
            done()
            download.changes.ring()

        await download.writer.write(Write(download.datadir.headers, change.puts, change.deletes, written))


async def _merge(download: HeaderDownload, first: int) -> None:
    """Make a large run of the index out of small ones."""
    store = download.chain.store
    change = await trio.to_thread.run_sync(store.merge, first, limiter=download.limiter)
    download.chain.merge_written(first, change)
    download.changes.ring()
