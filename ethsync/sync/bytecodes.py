"""The bytecode stage: codes by their hash, each fetched once however many accounts share it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import trio

from ethsync.errors import Disproved, PeerError
from ethsync.kernels import keccak
from ethsync.peers.track import Outcome, RequestKind
from ethsync.state.columns import row_bytes
from ethsync.state.replies import scan_blobs
from ethsync.store.schema import CODE, FACT_CODES
from ethsync.store.writer import Write, Writer
from ethsync.sync.debts import stored_codes_of
from ethsync.sync.shortage import count_of
from ethsync.wire.snap import MAX_CODE_LOOKUPS, GetByteCodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethsync.counters import Counters
    from ethsync.store.datadir import Datadir
    from ethsync.sync.debts import DebtBook, PageDebt
    from ethsync.sync.fingerprints import Fingerprints

LIKELY_CODE = 6 << 10
"""Bytes of an average code until some have been seen (mainnet: 12.2 GB for 1.94 million codes, go-ethereum#33254)."""

LOOKED_UP_AT_ONCE = 1 << 12
"""Codes that the database is asked about in one call: some 50 ms of a thread if it has them all."""

MOST_EMPTY_ANSWERS = 3
"""Answers without anything for a code that no account may name any more; then it is left."""

CODES_A_TURN = 256
"""Codes accounted for between two looks at the other tasks: about a millisecond."""


@dataclass(frozen=True, slots=True, eq=False)
class CodeJob:
    """Ask for these codes."""

    hashes: tuple[bytes, ...]
    budget: int

    def make(self, request_id: int) -> GetByteCodes:
        """The request."""
        return GetByteCodes(request_id, self.hashes, self.budget)


def prove_codes(job: CodeJob, payload: bytes) -> dict[bytes, bytes]:
    """Hash the codes of a reply and match them to what was asked, whatever their order. Runs in a thread.

    Raises MalformedMessage; Disproved for a code that was not asked for.
    """
    blobs = scan_blobs(payload, len(job.hashes))
    digests = np.empty((len(blobs), 32), np.uint8)
    keccak.hash_many(blobs.buf, blobs.offsets, blobs.lengths, digests)
    starts, ends = blobs.offsets.tolist(), (blobs.offsets + blobs.lengths).tolist()
    found = dict(zip(row_bytes(digests), map(payload.__getitem__, map(slice, starts, ends)), strict=True))
    strange = found.keys() - set(job.hashes)
    if strange:
        raise Disproved(f"a code with hash {min(strange).hex()} was sent, which was not asked for")
    return found


class CodeStage:
    """Downloads bytecodes for whoever owes them."""

    kind = RequestKind.CODES

    def __init__(
        self,
        datadir: Datadir,
        writer: Writer,
        limiter: trio.CapacityLimiter,
        counters: Counters,
        debts: DebtBook,
        stored: Fingerprints,
    ) -> None:
        """`stored`: codes that are known to be stored; those that come are added."""
        self._datadir = datadir
        self._writer = writer
        self._limiter = limiter
        self.counters = counters
        self._debts = debts
        self._queue: deque[bytes] = deque()
        self._waiting: dict[bytes, list[PageDebt]] = {}
        self._claimed: set[bytes] = set()
        self._stored = stored
        self._writing: set[bytes] = set()
        self._written = int(datadir.codes.get(FACT_CODES) or b"0")
        self._average = float(LIKELY_CODE)
        self._out: set[CodeJob] = set()
        self._uncertain: dict[bytes, int] = {}
        self.resumed = False
        """Whether an earlier run stored codes: then the database is asked about those that this one has not seen."""

    @property
    def waiting(self) -> int:
        """Codes that are owed."""
        return len(self._waiting)

    @property
    def done(self) -> bool:
        """Whether every code that is owed is with the writer."""
        return not self._waiting

    def move(self) -> None:
        """The state root has moved: nobody may hold the codes any more that accounts named before."""
        for digest in self._waiting:
            self._uncertain.setdefault(digest, 0)

    async def look_up(self, hashes: Iterable[bytes]) -> None:
        """Find out which of these codes an earlier run stored, so that `owe` does not ask for them."""
        if not self.resumed:
            return
        unknown = [digest for digest in hashes if not self._is_known(digest)]
        for first in range(0, len(unknown), LOOKED_UP_AT_ONCE):
            some = unknown[first : first + LOOKED_UP_AT_ONCE]
            held = await trio.to_thread.run_sync(stored_codes_of, self._datadir, some, limiter=self._limiter)
            self._stored.update(held)

    def _is_known(self, digest: bytes) -> bool:
        return digest in self._waiting or digest in self._writing or digest in self._stored

    def owe(self, page: PageDebt, hashes: Iterable[bytes], *, certain: bool = True) -> None:
        """A page owes these codes. Those that are stored already are paid at once: `DebtBook.settle` must follow.

        They are certain if their accounts were proven under the state root that peers serve. `look_up` goes before.
        """
        for digest in hashes:
            waiting = self._waiting.get(digest)
            if waiting is not None:
                waiting.append(page)
                if certain:
                    self._uncertain.pop(digest, None)
            elif digest in self._writing or digest in self._stored:
                self._debts.code_stored(page)
            else:
                self._waiting[digest] = [page]
                self._queue.append(digest)
                if not certain:
                    self._uncertain[digest] = 0
        self.counters.owed = len(self._waiting)

    @property
    def missing(self) -> str:
        """How many codes are owed."""
        return count_of(len(self._waiting), "code")

    def ready(self) -> int:
        """Requests that the queue is good for."""
        return -(-len(self._queue) // self._batch(1 << 20))

    def _batch(self, budget: int) -> int:
        return max(1, min(int(budget / self._average) + 1, MAX_CODE_LOOKUPS))

    def take(self, budget: int) -> CodeJob:
        """Take as many hashes as are expected to fill the budget."""
        most = self._batch(budget)
        hashes = [self._queue.popleft()]
        uncertain = hashes[0] in self._uncertain
        while self._queue and len(hashes) < most and (self._queue[0] in self._uncertain) is uncertain:
            hashes.append(self._queue.popleft())
        job = CodeJob(tuple(hashes), budget)
        self._out.add(job)
        self.counters.in_flight = len(self._out)
        return job

    def give_back(self, job: CodeJob) -> None:
        """The codes must be asked for again, but for those that came with another answer."""
        if job in self._out:
            self._end(job)
            self._queue.extend(self._wanted(job.hashes))

    def _end(self, job: CodeJob) -> None:
        self._out.discard(job)
        self.counters.in_flight = len(self._out)

    def _wanted(self, digests: Iterable[bytes]) -> list[bytes]:
        """Those that are owed and that no answer has brought yet."""
        waiting, claimed = self._waiting, self._claimed
        return [digest for digest in digests if digest in waiting and digest not in claimed]

    async def process(self, job: CodeJob, payload: bytes) -> Outcome:
        """Check, write, and pay the debts that wait for these codes; what was left out is asked for again."""
        late = job not in self._out
        if late and not self._wanted(job.hashes):
            return Outcome.DUPLICATE
        try:
            found = await trio.to_thread.run_sync(prove_codes, job, payload, limiter=self._limiter)
        except PeerError:
            self.give_back(job)
            raise
        fresh = {digest: found[digest] for digest in self._wanted(found)}
        self._claimed.update(fresh)
        self.give_back(job)
        if late:
            self._queue = deque(self._wanted(self._queue))
        if not found:
            return self._nothing_for(job)
        if not fresh:
            return Outcome.DUPLICATE
        await self._keep(fresh)
        return Outcome.SERVED

    def _nothing_for(self, job: CodeJob) -> Outcome:
        """None of these came. What no account may name any more is left in the end; the debts of its pages stay."""
        uncertain = [digest for digest in self._wanted(job.hashes) if digest in self._uncertain]
        for digest in uncertain:
            self._uncertain[digest] += 1
            if self._uncertain[digest] >= MOST_EMPTY_ANSWERS:
                del self._waiting[digest], self._uncertain[digest]
        self._queue = deque(self._wanted(self._queue))
        self.counters.owed = len(self._waiting)
        return Outcome.DUPLICATE if uncertain else Outcome.EMPTY

    async def _keep(self, found: dict[bytes, bytes]) -> None:
        """Write codes and pay the debts that wait for them."""
        size = sum(map(len, found.values()))
        self._average += 0.2 * (size / len(found) - self._average)
        self.counters.items += len(found)
        self.counters.bytes += size
        self._writing.update(found)
        self._written += len(found)
        puts = [(CODE + digest, code) for digest, code in found.items()]
        puts.append((FACT_CODES, b"%d" % self._written))
        written = partial(self._writing.difference_update, tuple(found))
        await self._writer.write(Write(self._datadir.codes, puts, done=written))
        self._stored.update(found)
        for count, digest in enumerate(found, 1):
            self._uncertain.pop(digest, None)
            for page in self._waiting.pop(digest):
                self._debts.code_stored(page)
            if count % CODES_A_TURN == 0:
                await trio.lowlevel.checkpoint()
        self._claimed.difference_update(found)
        await self._debts.settle()
        self.counters.owed = len(self._waiting)
