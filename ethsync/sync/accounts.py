"""The account stage: ranges of the state trie in ascending order, proven, cut into pages, written with their debts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from ethsync.errors import PeerError
from ethsync.kernels.trie import NO_DEPTH
from ethsync.peers.track import Outcome, RequestKind
from ethsync.state.pages import KEY_SPACE
from ethsync.state.proofs import verify_range
from ethsync.state.replies import scan_account_range
from ethsync.store.schema import ACCOUNT_PAGE, DEBT, FACT_DEPTH, MARKER, TOP, Debt, Marker, account_key
from ethsync.store.writer import Write, Writer
from ethsync.sync.assemble import Assembled, Page, assemble, first_depth, in_hand
from ethsync.sync.debts import PageNeeds, needs_by_page
from ethsync.sync.leftovers import remove_leftovers
from ethsync.sync.shortage import share_from
from ethsync.wire.snap import GetAccountRange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from ethsync.state.pages import PagePath
    from ethsync.store.datadir import Datadir
    from ethsync.sync.progress import Progress
    from ethsync.sync.sweep import Gap, Sweep

FILL = 0.85
"""Ranges are made so wide that their leaves fill this share of the budget: replies then end at a page border, and
only a few are cut short by the server."""


@dataclass(frozen=True, slots=True, eq=False)
class AccountJob:
    """Ask for the accounts of a gap."""

    gap: Gap
    root: bytes
    budget: int

    def make(self, request_id: int) -> GetAccountRange:
        """The request: from where the gap resumes to its last key."""
        origin, limit = self.gap.resume.to_bytes(32, "big"), (self.gap.end - 1).to_bytes(32, "big")
        return GetAccountRange(request_id, self.root, origin, limit, self.budget)


@dataclass(frozen=True, slots=True, eq=False)
class _Proven:
    origin: int
    assembled: Assembled
    needs: list[PageNeeds]
    doubtful: set[PagePath]
    """Pages with accounts that were in hand before the state root moved: under this root they may be others."""
    puts: list[tuple[bytes, bytes]]
    accounts: int
    size: int
    keys_seen: int
    empty: bool


def prove_accounts(job: AccountJob, payload: bytes, depth: int | None) -> tuple[_Proven, int | None]:
    """Prove an AccountRange and make everything that is written of it. Runs in a thread.

    Returns it with the page depth, chosen from the density of this very range if there is none yet; without enough of
    it there still is none. Raises MalformedMessage, Disproved.
    """
    reply = scan_account_range(payload)
    gap = job.gap
    origin = gap.resume.to_bytes(32, "big")
    if not len(reply.leaves) and not len(reply.proof):
        return _Proven(gap.origin, Assembled(reply.leaves, [], gap.origin, gap), [], set(), [], 0, 0, 0, True), depth
    proven = verify_range(job.root, origin, reply.leaves, reply.proof, page_depth=NO_DEPTH if depth is None else depth)
    if depth is None:
        depth = first_depth(gap, proven)
        if depth is not None:
            proven = verify_range(job.root, origin, reply.leaves, reply.proof, page_depth=depth)
    assembled = in_hand(gap, proven.leaves) if depth is None else assemble(gap, proven, depth)
    in_doubt = len(gap.carry) if gap.carry is not None and gap.state_root != job.root else 0
    if assembled.rest is not None and assembled.rest.carry is not None:
        rest = replace(assembled.rest, state_root=b"" if in_doubt else job.root)
        assembled = replace(assembled, rest=rest)
    pages = assembled.pages
    needs = needs_by_page(assembled.leaves, [(page.path, page.first, page.last) for page in pages])
    doubtful = {page.path for page in pages if page.first < in_doubt}
    puts = _records(pages, needs)
    accounts, size = sum(page.last - page.first for page in pages), sum(len(value) for _, value in puts)
    if assembled.covered > gap.origin:
        key, value = Marker(gap.origin, assembled.covered, accounts, size).encode()
        puts.append((MARKER + key, value))
    resume = assembled.rest.resume if assembled.rest is not None else assembled.covered
    return _Proven(
        gap.origin, assembled, needs, doubtful, puts, accounts, size, resume - gap.resume, False
    ), depth  # fmt: skip


def _records(pages: Iterable[Page], needs: Iterable[PageNeeds]) -> list[tuple[bytes, bytes]]:
    """What is stored of pages: themselves, their tops, and what they owe."""
    records = [(account_key(ACCOUNT_PAGE, page.path), page.value) for page in pages]
    records += [(account_key(TOP, page.path), page.top.encode()) for page in pages]
    for need in needs:
        owed = (Debt.STORAGE if need.contracts else 0) | (Debt.CODES if need.codes else 0)
        records.append((account_key(DEBT, need.path), bytes([owed])))
    return records


class AccountStage:
    """Downloads the state trie. `owed` is called with what the pages of a range owe, once they are with the
    writer, and with the state root under which they were proven, empty if that was more than one. `root` may change at
    any time."""

    kind = RequestKind.ACCOUNTS

    def __init__(
        self,
        root: bytes,
        sweep: Sweep,
        datadir: Datadir,
        writer: Writer,
        limiter: trio.CapacityLimiter,
        progress: Progress,
        owed: Callable[[list[PageNeeds], bytes], Awaitable[None]],
        may_go_on: Callable[[], bool],
    ) -> None:
        self.root = root
        self.sweep = sweep
        self._datadir = datadir
        self._writer = writer
        self._limiter = limiter
        self.counters = progress.accounts
        self._progress = progress
        self._owed = owed
        self._may_go_on = may_go_on
        self._keys_per_byte: float | None = None
        self._processing = 0
        self._out: set[AccountJob] = set()

    @property
    def done(self) -> bool:
        """Whether all accounts are with the writer and their debts are known."""
        return self.sweep.done and not self._processing

    @property
    def missing(self) -> str:
        """The share of the key space that is not stored."""
        first = self.sweep.first_open
        return share_from(1 - self.sweep.share, first.to_bytes(32, "big")) if first is not None else ""

    def ready(self) -> int:
        """One request until the page depth is known; then as many as are wanted, while later stages keep up."""
        if not self.sweep.open_gaps or not self._may_go_on():
            return 0
        if self._keys_per_byte is None:
            return 0 if self.sweep.in_flight else 1
        return 1 << 10

    def take(self, budget: int) -> AccountJob:
        """Take as much key space as is expected to fill the budget."""
        width = KEY_SPACE if self._keys_per_byte is None else int(self._keys_per_byte * budget * FILL)
        job = AccountJob(self.sweep.take(width), self.root, budget)
        self._out.add(job)
        self.counters.in_flight = len(self._out)
        return job

    def give_back(self, job: AccountJob) -> None:
        """The range must be asked for again, unless an answer that came late has brought it."""
        if job in self._out:
            self._end(job)
            self.sweep.give_back(job.gap)

    def _end(self, job: AccountJob) -> None:
        self._out.discard(job)
        self.counters.in_flight = len(self._out)

    async def process(self, job: AccountJob, payload: bytes) -> Outcome:
        """Prove, write, and pass on what the accounts owe."""
        if job not in self._out and not self.sweep.wants(job.gap):
            return Outcome.DUPLICATE
        self._processing += 1
        try:
            try:
                proven, depth = await trio.to_thread.run_sync(
                    prove_accounts, job, payload, self.sweep.depth, limiter=self._limiter
                )
            except PeerError:
                self.give_back(job)
                raise
            if proven.empty:
                self.give_back(job)
                return Outcome.EMPTY
            assembled = proven.assembled
            # A probe that was answered twice may have given two depths: the pages of a trie have one.
            fits = self.sweep.depth in (None, depth)
            claimed = self.sweep.claim(job.gap, assembled.covered, assembled.rest) if fits else None
            if claimed is None:
                self.give_back(job)
                return Outcome.DUPLICATE
            self._end(job)
            await self._keep(proven, depth, len(payload), job.root)
            self.sweep.settle(claimed)
            self._progress.key_space = self.sweep.share
            return Outcome.SERVED
        finally:
            self._processing -= 1

    async def _keep(self, proven: _Proven, depth: int | None, size: int, root: bytes) -> None:
        puts = proven.puts
        if self.sweep.depth is None and depth is not None:
            self.sweep.depth = depth
            # Forced to the disk: pages that a power cut left without it would get others of another depth beside them
            note = partial(self._datadir.accounts.put, FACT_DEPTH, bytes([depth]), sync=True)
            await trio.to_thread.run_sync(note, limiter=self._limiter)
        if proven.keys_seen > 0:
            self._keys_per_byte = proven.keys_seen / size
        self.counters.items += proven.accounts
        self.counters.bytes += proven.size
        if puts:
            await remove_leftovers(self._datadir, self._writer, proven.origin, proven.assembled.covered)
            await self._writer.write(Write(self._datadir.accounts, puts))
        await self._owed([need for need in proven.needs if need.path in proven.doubtful], b"")
        await self._owed([need for need in proven.needs if need.path not in proven.doubtful], root)
