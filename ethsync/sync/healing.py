"""The healing stage: tries that were downloaded under several roots, made into that of one.

Each trie is walked from its root; only nodes whose hash differs from ours are asked for, and the pages under them are
written anew. A trie that is right already costs its root node, and the account trie not even that: whoever starts a
walk has compared the roots first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import trio

from ethsync.errors import PeerError
from ethsync.peers.track import Outcome, RequestKind
from ethsync.state.difference import Difference, Wanted, join_wanted, match_nodes
from ethsync.state.replies import scan_blobs
from ethsync.sync.local_trie import PageCache
from ethsync.sync.page_updates import UpdatedPage, updated_pages
from ethsync.sync.shortage import share_from
from ethsync.sync.walk import Openings, Walk
from ethsync.wire.snap import MAX_TRIE_NODE_LOOKUPS, GetTrieNodes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from ethsync.arrays import Ints
    from ethsync.counters import Counters
    from ethsync.state.replies import Blobs
    from ethsync.sync.local_trie import LocalTrie
    from ethsync.sync.walk import Region

    Mask = NDArray[np.bool_]

LIKELY_NODE = 400.0
"""Bytes of a node on the wire until some have been seen: a branch with 12 children, a leaf has a third of it."""


@dataclass(slots=True, eq=False)
class HealedTrie:
    """One trie under way. account: hash of whose storage it is, empty for the account trie.

    keep: stores pages that change. finished: called once everything is with the writer.
    """

    account: bytes
    local: LocalTrie
    walk: Walk
    keep: Callable[[list[UpdatedPage]], Awaitable[None]]
    finished: Callable[[], Awaitable[None]]
    writing: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class NodesJob:
    """Ask for nodes of one or more tries under the same state root."""

    parts: list[tuple[HealedTrie, Wanted]]
    root: bytes
    budget: int

    @property
    def nodes(self) -> int:
        """How many nodes are asked for."""
        return sum(len(wanted) for _, wanted in self.parts)

    def make(self, request_id: int) -> GetTrieNodes:
        """The request: one path set per node of the account trie, one per storage trie."""
        sets: list[tuple[bytes, ...]] = []
        for trie, wanted in self.parts:
            paths = compact_paths(wanted)
            sets += [(trie.account, *paths)] if trie.account else [(path,) for path in paths]
        return GetTrieNodes(request_id, self.root, tuple(sets), self.budget)


def compact_paths(wanted: Wanted) -> list[bytes]:
    """Hex-prefix encoding of the paths of nodes (Yellow Paper, appendix C); none of them is that of a leaf's key."""
    paths = wanted.paths.tobytes()
    found = []
    for k, depth in enumerate(wanted.depths.tolist()):
        whole = paths[32 * k : 32 * k + (depth + 1) // 2]
        if depth & 1:
            number = (1 << 4 * depth) | int.from_bytes(whole, "big") >> 4
            found.append(number.to_bytes(len(whole), "big"))
        else:
            found.append(b"\0" + whole)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Matched:
    """The nodes of a reply by their hashes: of each that was asked for whether it came, and its number in the reply."""

    blobs: Blobs
    came: Mask
    places: Ints


def match_reply(job: NodesJob, payload: bytes) -> _Matched:
    """Check the nodes of a reply by their hashes. Runs in a thread.

    Raises MalformedMessage; Disproved for a node that was not asked for.
    """
    blobs = scan_blobs(payload, job.nodes)
    everything = join_wanted([wanted for _, wanted in job.parts])
    rows, numbers = match_nodes(blobs, everything)
    came = np.zeros(len(everything), np.bool_)
    came[rows] = True
    places = np.zeros(len(everything), np.int64)
    places[rows] = numbers
    return _Matched(blobs, came, places)


def compare_nodes(blobs: Blobs, parts: Sequence[_Part], cache: PageCache) -> list[Difference]:
    """Compare nodes with what is stored. Runs in a thread. Raises MalformedMessage, DatadirDamaged."""
    return [part.trie.local.compare(blobs, part.places, part.served, cache) for part in parts]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Nodes of one trie that are to be used, and where they are in the reply (n,)."""

    trie: HealedTrie
    served: Wanted
    places: Ints


@dataclass(slots=True, eq=False)
class HealingStage:
    """Heals tries, the oldest first. `root` is the state root under which peers are asked."""

    root: bytes
    limiter: trio.CapacityLimiter
    counters: Counters
    report: Callable[[float], None] = lambda share: None
    """Told the share of the key space that is proven equal."""
    tries: list[HealedTrie] = field(default_factory=list)
    kind: RequestKind = RequestKind.NODES
    _openings: Openings = field(default_factory=Openings)
    _cache: PageCache = field(default_factory=PageCache)
    _node_bytes: float = LIKELY_NODE
    _out: dict[NodesJob, list[Mask]] = field(default_factory=dict)
    """Requests that are not answered yet, and of each of their tries which nodes are still to come (n,)."""

    @property
    def done(self) -> bool:
        """Whether every trie is healed, and its pages are with the writer."""
        return not self.tries

    @property
    def share(self) -> float:
        """Share of the key space of all tries under way that is proven equal, 0 to 1."""
        return sum(trie.walk.equal for trie in self.tries) / len(self.tries) if self.tries else 1.0

    def heal(
        self,
        account: bytes,
        local: LocalTrie,
        root: bytes,
        keep: Callable[[list[UpdatedPage]], Awaitable[None]],
        finished: Callable[[], Awaitable[None]],
    ) -> None:
        """Heal one more trie, toward this root. The rest as for `HealedTrie`."""
        walk = Walk(root, local.depth, lambda path: map(local.path, local.under(path)), self._openings)
        self.tries.append(HealedTrie(account, local, walk, keep, finished))

    @property
    def missing(self) -> str:
        """The share of the account trie that is not proven equal. What contracts lack is said where they are owed."""
        for trie in self.tries:
            first = trie.walk.first_waiting
            if not trie.account and first is not None:
                return share_from(trie.walk.share_waiting, first)
        return ""

    def ready(self) -> int:
        """Requests that the waiting nodes are good for."""
        waiting = sum(trie.walk.waiting for trie in self.tries)
        return -(-waiting // MAX_TRIE_NODE_LOOKUPS)

    def take(self, budget: int) -> NodesJob:
        """Take as many nodes as are expected to fill the budget, from the first tries that have some."""
        room = max(1, min(int(budget / self._node_bytes), MAX_TRIE_NODE_LOOKUPS))
        parts = []
        for trie in self.tries:
            if room and trie.walk.waiting:
                wanted = trie.walk.take(room)
                room -= len(wanted)
                parts.append((trie, wanted))
        job = NodesJob(parts, self.root, budget)
        self._out[job] = [np.ones(len(wanted), np.bool_) for _, wanted in parts]
        self.counters.in_flight = len(self._out)
        return job

    def give_back(self, job: NodesJob) -> None:
        """The nodes must be asked for again, but for those that came with another answer."""
        if job in self._out:
            for (trie, wanted), still in zip(job.parts, self._end(job), strict=True):
                trie.walk.give_back(wanted.rows(np.flatnonzero(still)))

    def _end(self, job: NodesJob) -> list[Mask]:
        """A request is over; returns what was still to come of it."""
        still = self._out.pop(job)
        self.counters.in_flight = len(self._out)
        return still

    async def process(self, job: NodesJob, payload: bytes) -> Outcome:
        """Check the nodes, go on below those that differ, and write the pages that are finished by it.

        What comes after its time is used as far as nobody else has brought the same.
        """
        if not any(trie in self.tries for trie, _ in job.parts):
            return Outcome.DUPLICATE
        try:
            matched = await trio.to_thread.run_sync(match_reply, job, payload, limiter=self.limiter)
        except PeerError:
            self.give_back(job)
            raise
        if not matched.came.any():
            self.give_back(job)
            return Outcome.EMPTY
        parts = self._claim(job, matched)
        try:
            found = await trio.to_thread.run_sync(
                compare_nodes, matched.blobs, parts, self._cache, limiter=self.limiter
            )
        except PeerError:
            for part in parts:
                if part.trie in self.tries:
                    part.trie.walk.give_back(part.served)
            raise
        if not any(part.trie in self.tries for part in parts):
            return Outcome.DUPLICATE
        self._openings.limit(self._cache.room)
        nodes = sum(len(part.served) for part in parts)
        self._node_bytes += 0.2 * (len(payload) / int(matched.came.sum()) - self._node_bytes)
        self.counters.items += nodes
        self.counters.bytes += len(payload)
        for part, difference in zip(parts, found, strict=True):
            if part.trie in self.tries:
                part.trie.walk.supply(part.served, difference)
        self.report(self.share)
        for part in parts:
            await self._write(part.trie, part.trie.walk.take_finished())
            await self._look_at(part.trie)
        return Outcome.SERVED

    def _claim(self, job: NodesJob, matched: _Matched) -> list[_Part]:
        """What is to be used of a reply: that which is still to come. What the reply lacks is to be asked for again."""
        known = self._end(job) if job in self._out else None
        parts = []
        first = 0
        for number, (trie, wanted) in enumerate(job.parts):
            came = matched.came[first : first + len(wanted)]
            places = matched.places[first : first + len(wanted)]
            first += len(wanted)
            if known is not None:
                trie.walk.give_back(wanted.rows(np.flatnonzero(~came & known[number])))
                rows = np.flatnonzero(came & known[number])
            else:
                rows = np.flatnonzero(came)
                rows = rows[trie.walk.claim(wanted.rows(rows), self._asked_of(trie))]
            if len(rows):
                parts.append(_Part(trie, wanted.rows(rows), places[rows]))
        return parts

    def _asked_of(self, trie: HealedTrie) -> list[tuple[Wanted, Mask]]:
        """Nodes of a trie that somebody is asked for, and which of them are still to come."""
        return [
            (wanted, still)
            for job, masks in self._out.items()
            for (each, wanted), still in zip(job.parts, masks, strict=True)
            if each is trie
        ]

    async def move(self, root: bytes) -> None:
        """Ask under another state root from now on. All walks end; what they found so far is written."""
        self.root = root
        tries, self.tries = self.tries, []
        self._out.clear()
        self.counters.in_flight = 0
        for trie in tries:
            await self._write(trie, trie.walk.abandon())

    async def _write(self, trie: HealedTrie, regions: list[Region]) -> None:
        if not regions:
            return
        trie.writing += 1
        try:
            pages = await trio.to_thread.run_sync(updated_pages, trie.local, regions, limiter=self.limiter)
            if pages:
                await trie.keep(pages)
        finally:
            trie.writing -= 1

    async def _look_at(self, trie: HealedTrie) -> None:
        if trie in self.tries and trie.walk.done and not trie.writing:
            self.tries.remove(trie)
            await trie.finished()
