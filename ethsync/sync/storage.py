"""The storage stage: small tries by the hundreds in one request, big ones in ranges, equal roots fetched once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import trio

from ethsync.errors import CutShort, Disproved, PeerError
from ethsync.peers.track import Outcome, RequestKind
from ethsync.state.pages import depth_for
from ethsync.sync.big_contracts import BigContract, BigContracts, RangeJob
from ethsync.sync.contract_queue import ContractQueue
from ethsync.sync.debts import Contract, DebtBook, PageDebt, Part, make_bundles
from ethsync.sync.healing import HealingStage
from ethsync.sync.local_trie import local_storage
from ethsync.sync.shortage import count_of
from ethsync.sync.storage_proofs import SmallReply, prove_storage_range, prove_tries
from ethsync.wire.snap import GetStorageRanges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethsync.state.columns import Leaves
    from ethsync.store.datadir import Datadir
    from ethsync.store.writer import Writer
    from ethsync.sync.progress import Progress

LIKELY_TRIE = 1000.0
"""Bytes of a small storage trie on the wire until some have been seen."""

MOST_ACCOUNTS = 1024
"""Accounts in one request: what geth's own codes and trie node requests allow (eth/protocols/snap/sync.go)."""

MOST_HEALED = 64
"""Contracts healed at a time: each has the references of its pages in memory, and most are a few pages."""

MOST_EMPTY_ANSWERS = 3
"""Answers without anything for a contract that was proven under another state root; then it is left for later."""

PAGES_A_TURN = 32
"""Account pages served from a reply between two looks at the other tasks: about a millisecond."""


@dataclass(frozen=True, slots=True, eq=False)
class TriesJob:
    """Ask for the whole storage of these contracts."""

    contracts: list[Contract]
    root: bytes
    budget: int

    @property
    def may_differ(self) -> bool:
        """Whether the accounts were proven under another state root, so that their storage may have changed."""
        return self.contracts[0].state_root != self.root

    def make(self, request_id: int) -> GetStorageRanges:
        """The request: no origin and no limit, for a limit with origin zero brings no proof (geth)."""
        accounts = tuple(contract.account for contract in self.contracts)
        return GetStorageRanges(request_id, self.root, accounts, b"", b"", self.budget)


class StorageStage:
    """Downloads the storage of contracts whose accounts are proven under the same state root."""

    kind = RequestKind.STORAGE

    def __init__(
        self,
        root: bytes,
        datadir: Datadir,
        writer: Writer,
        limiter: trio.CapacityLimiter,
        progress: Progress,
        debts: DebtBook,
    ) -> None:
        self.root = root
        self._limiter = limiter
        self.counters = progress.storage
        self._progress = progress
        self._debts = debts
        self._average = LIKELY_TRIE
        self._unstored = 0
        self._turn = False
        self._out: set[TriesJob | RangeJob] = set()
        self._datadir = datadir
        self._to_heal: deque[BigContract] = deque()
        self._healing = 0
        self.big = BigContracts(root, datadir, writer, progress.storage)
        self._queue = ContractQueue(self.big.has)
        self.nodes = HealingStage(root, limiter, progress.healing)
        """Heals contracts that have pages of another storage root: a stage of its own for the download."""

    @property
    def waiting(self) -> int:
        """Contracts whose storage is owed."""
        return self._unstored

    @property
    def done(self) -> bool:
        """Whether the storage of every contract that is owed is with the writer."""
        return not self._unstored

    async def move(self, root: bytes) -> None:
        """Ask under another state root from now on. What was proven under the one before may have changed."""
        self.root = self.big.root = root
        await self.nodes.move(root)
        for big in self.big.under_healing():
            if not big.parked:  # with another one that has the same root
                await self._park(big.contract)
        await self._begin_healing()
        self.counters.owed = self._unstored

    async def owe(self, page: PageDebt, contracts: Iterable[tuple[bytes, bytes]], state_root: bytes) -> None:
        """A page owes the storage of these accounts (hash, storage root), as proven under a state root."""
        for account, root in contracts:
            contract = Contract(page, account, root, state_root)
            self._unstored += 1
            leaves = self._queue.known(root)
            if leaves is None:
                self._queue.add(contract)
            else:
                self._keep_small([contract], [0, len(leaves)], leaves)
        await self._bundle([page])
        self.counters.owed = self._unstored

    def resume_big(self, page: PageDebt, account: bytes, root: bytes, state_root: bytes) -> bool:
        """Take up a big contract that an earlier run began; False if none of it is stored."""
        contract = Contract(page, account, root, state_root)
        big = self.big.resume(contract)
        if big is None:
            return False
        self._unstored += 1
        page.unbundled -= 1
        if self.big.others_with(big):
            return True  # both were begun, perhaps at different depths: each is a download of its own
        self._queue.add_begun(contract)
        return True

    async def close_whole(self) -> None:
        """Close the contracts that were taken up with all ranges stored: no answer will come that does it."""
        for big in self.big.whole():
            await self._finish_big(big)
        self.counters.owed = self._unstored

    @property
    def missing(self) -> str:
        """How many contracts' storage is owed."""
        return f"the storage of {count_of(self._unstored, 'contract')}" if self._unstored else ""

    def ready(self) -> int:
        """Requests that the queue and the open ranges of big contracts are good for."""
        small = 0 if self.big.crowded else -(-len(self._queue) // self._batch(1 << 20))
        return small + self.big.ready()

    def _batch(self, budget: int) -> int:
        return max(1, min(int(budget / self._average), MOST_ACCOUNTS))

    def take(self, budget: int) -> TriesJob | RangeJob:
        """Take a range of a big contract or a batch of small ones, in turn while there are both."""
        self._turn = not self._turn
        if self.big.ready() and (self._turn or self.big.crowded or not self._queue):
            job: TriesJob | RangeJob = self.big.take(budget)
        else:
            job = TriesJob(self._queue.take(self._batch(budget)), self.root, budget)
        self._out.add(job)
        self.counters.in_flight = len(self._out)
        return job

    def give_back(self, job: TriesJob | RangeJob) -> None:
        """The contracts or the range must be asked for again, but for what came with another answer."""
        if job not in self._out:
            return
        self._end(job)
        if isinstance(job, RangeJob):
            job.big.sweep.give_back(job.gap)
        else:
            self._queue.put_back(job.contracts)

    def _end(self, job: TriesJob | RangeJob) -> None:
        self._out.discard(job)
        self.counters.in_flight = len(self._out)

    async def process(self, job: TriesJob | RangeJob, payload: bytes) -> Outcome:
        """Prove, write, and pay the debts of the pages concerned."""
        try:
            if isinstance(job, RangeJob):
                return await self._process_range(job, payload)
            return await self._process_tries(job, payload)
        finally:
            self.counters.owed = self._unstored

    async def _process_range(self, job: RangeJob, payload: bytes) -> Outcome:
        big = job.big
        if big.parked or (job not in self._out and not big.sweep.wants(job.gap)):
            return Outcome.DUPLICATE
        try:
            proven = await trio.to_thread.run_sync(
                prove_storage_range, payload, big.contract.root, job.gap, big.sweep.depth, limiter=self._limiter
            )
        except PeerError as error:
            self.give_back(job)
            if isinstance(error, Disproved) and not isinstance(error, CutShort) and big.contract.state_root != job.root:
                await self._park(big.contract)
                return Outcome.DUPLICATE
            raise
        if proven is None:
            self.give_back(job)
            return await self._nothing_for([big.contract], job.root)
        if big.parked:
            return Outcome.DUPLICATE
        assembled = proven.assembled
        # Two answers to one request, proven at the same time, may have given two depths: the pages of a trie have one.
        fits = big.sweep.depth in (None, proven.depth)
        claimed = big.sweep.claim(job.gap, assembled.covered, assembled.rest) if fits else None
        if claimed is None:
            self.give_back(job)
            return Outcome.DUPLICATE
        self._end(job)
        big.sweep.depth = proven.depth
        if proven.keys > 0:
            big.keys_per_byte = proven.keys / len(payload)
        await self.big.keep(big, claimed, assembled)
        # Nothing may be awaited between settling the range and looking whether it was the last.
        self._declare_if_big(big)
        if big.done:
            await self._finish_big(big)
        else:
            await self._bundle([big.contract.page])
        return Outcome.SERVED

    async def _process_tries(self, job: TriesJob, payload: bytes) -> Outcome:
        late = job not in self._out
        if late and not any(map(self._queue.wants, job.contracts)):
            return Outcome.DUPLICATE
        roots = [contract.root for contract in job.contracts]
        prove = partial(prove_tries, may_differ=job.may_differ)
        try:
            reply = await trio.to_thread.run_sync(prove, payload, roots, limiter=self._limiter)
        except PeerError:
            self.give_back(job)
            raise
        skipped = [job.contracts[position] for position in reply.skipped]
        if not late:
            self._end(job)
            self._queue.put_back(job.contracts[reply.rest :])
            self._queue.put_last(skipped)
        if job.may_differ:
            await self._park_all(skipped)
        if reply.empty and not skipped:
            return await self._nothing_for(job.contracts, job.root)
        self._average += 0.2 * (len(payload) / (len(reply.matched) + 1) - self._average)
        kept = await self._keep_tries(job, reply)
        if late:
            self._queue.forget_stored()
        return Outcome.SERVED if kept else Outcome.DUPLICATE

    async def _nothing_for(self, contracts: list[Contract], root: bytes) -> Outcome:
        """Nothing came for these. That is no fault if they may have no storage any more; then nothing ever comes."""
        if contracts[0].state_root == root:
            return Outcome.EMPTY
        for contract in contracts:
            contract.empty_answers += 1
        given_up = [contract for contract in contracts if contract.empty_answers >= MOST_EMPTY_ANSWERS]
        for contract in given_up:
            if self._queue.wants(contract) or self.big.has(contract):
                await self._park(contract)
        self._queue.forget_stored()
        return Outcome.DUPLICATE

    async def _park_all(self, contracts: list[Contract]) -> None:
        for contract in filter(self._queue.wants, contracts):
            await self._park(contract)
        self._queue.forget_stored()

    async def _park(self, contract: Contract) -> None:
        """Leave a contract until its account has been proven anew: its storage is not what it was, or seems so.

        The debt of its page stays as it is, so that whoever reads the debts next finds it.
        """
        waiting = self._queue.claim(contract.root)
        parked = dict.fromkeys([contract, *(each for each in waiting if each.state_root != self.root)])
        for each in parked:
            big = self.big.park(each)
            self._healing -= big is not None and big.healing
            self._unstored -= 1
            self._progress.parked += 1
            each.page.unbundled -= 0 if big is not None and big.declared else 1
        proven = [each for each in waiting if each not in parked]
        if proven:
            self._queue.wait_again(proven)
        await self._bundle(dict.fromkeys(each.page for each in parked))

    async def _keep_tries(self, job: TriesJob, reply: SmallReply) -> bool:
        """Sort a reply into parts of bundles, by page, and pages of their own; False if all of it was there already.

        Whatever a contract's state is looked at for, it is acted upon before anything is awaited.
        """
        leaves = reply.leaves.compact()
        starts = reply.starts.tolist()
        run: list[tuple[Contract, int]] = []
        touched: dict[PageDebt, None] = {}
        for k, position in enumerate(reply.matched):
            contract = job.contracts[position]
            paged = reply.paged.get(position)
            if run and (paged is not None or run[0][0].page is not contract.page or run[-1][1] != k - 1):
                self._keep_run(run, starts, leaves, touched)
                run = []
                if len(touched) % PAGES_A_TURN == 0:
                    await trio.lowlevel.checkpoint()
            if not self._queue.wants(contract):
                continue
            if paged is None:
                run.append((contract, k))
                continue
            big = self.big.begin(contract, paged, depth_for(len(paged.leaves)), 0.0)
            await self.big.write(big, paged)
            await self._finish_big(big)
            touched[contract.page] = None
        if run:
            self._keep_run(run, starts, leaves, touched)
        if reply.begun is not None and self._queue.wants(job.contracts[reply.begun[0]]):
            position, chunk = reply.begun
            big = self.big.begin(job.contracts[position], chunk.assembled, chunk.depth, chunk.estimate)
            await self.big.write(big, chunk.assembled)
            self._declare_if_big(big)
            touched[big.contract.page] = None
        await self._bundle(touched)
        return bool(touched)

    def _keep_run(
        self, run: list[tuple[Contract, int]], starts: list[int], leaves: Leaves, touched: dict[PageDebt, None]
    ) -> None:
        """Keep consecutive small tries of one page, and the same for accounts with the same roots."""
        first, last = run[0][1], run[-1][1] + 1
        base = starts[first]
        part = leaves[base : starts[last]]
        self._keep_small([contract for contract, _ in run], [at - base for at in starts[first : last + 1]], part)
        touched[run[0][0].page] = None
        for contract, k in run:
            waiting = self._queue.claim(contract.root)
            if len(waiting) == 1:
                continue
            trie = leaves[starts[k] : starts[k + 1]].compact()
            self._queue.remember(contract.root, trie)
            for twin in waiting:
                if twin is not contract:
                    self._keep_small([twin], [0, len(trie)], trie)
                    touched[twin.page] = None

    def _keep_small(self, contracts: list[Contract], starts: list[int], leaves: Leaves) -> None:
        """Add tries of one page to what its bundle is going to be made of."""
        page = contracts[0].page
        page.parts.append(Part(contracts, np.array(starts, np.int64), leaves))
        page.unbundled -= len(contracts)
        self.counters.items += len(leaves)

    async def _bundle(self, pages: Iterable[PageDebt]) -> None:
        """Write the bundles of those pages whose small tries are all there: encoded together, in one go of a thread."""
        ready = [(page, page.parts) for page in pages if not page.unbundled and page.parts]
        if not ready:
            return
        for page, _ in ready:
            page.parts = []
        values = await trio.to_thread.run_sync(self._encode, ready, limiter=self._limiter)
        self.counters.bytes += sum(map(len, values))
        await self._debts.write_bundles((page, value) for (page, _), value in zip(ready, values, strict=True))
        for page, parts in ready:
            self._paid(page, sum(len(part.contracts) for part in parts))
        await self._debts.settle()

    def _encode(self, ready: list[tuple[PageDebt, list[Part]]]) -> list[bytes]:
        """Encode bundles, with what is in them already. Runs in a thread."""
        stored = [[self._debts.stored_bundle(page)] if page.bundled else [] for page, _ in ready]
        return make_bundles([(old + parts, page.path.depth) for old, (page, parts) in zip(stored, ready, strict=True)])

    def _paid(self, page: PageDebt, contracts: int) -> None:
        self._unstored -= contracts
        self._progress.contracts += contracts
        self._debts.storage_stored(page, contracts)

    async def _begin_healing(self) -> None:
        """Heal the contracts that wait for it, a few at a time."""
        while self._to_heal and self._healing < MOST_HEALED:
            self._healing += 1
            await self._heal(self._to_heal.popleft())

    async def _heal(self, big: BigContract) -> None:
        """All ranges are stored: if they do not give the storage root, go and look where they differ."""
        contract = big.contract
        await self.big.reached()
        local = await trio.to_thread.run_sync(
            local_storage, self._datadir, contract.account, big.depth, limiter=self._limiter
        )
        same = local.root == contract.root
        if big.parked or same or contract.state_root != self.root:
            self._healing -= 1
        if big.parked:
            return
        if same:
            big.mixed = False
            await self._finish_big(big)
        elif contract.state_root != self.root:
            await self._park(contract)
        else:
            big.healing = True
            await self.big.begin_record(big)
            keep, finished = partial(self.big.rewrite, big), partial(self._healed, big)
            self.nodes.heal(contract.account, local, contract.root, keep, finished)

    async def _healed(self, big: BigContract) -> None:
        self._healing -= 1
        big.mixed = big.healing = False
        await self._finish_big(big)
        await self._begin_healing()

    def _declare_if_big(self, big: BigContract) -> None:
        """Once a contract is certain not to belong into the bundle of its page, the bundle need not wait for it."""
        if big.certainly_big and not big.declared and not big.parked:
            big.declared = True
            big.contract.page.unbundled -= 1

    async def _finish_big(self, big: BigContract) -> None:
        """All ranges of a contract are with the writer: close its record; do the same for accounts with its root.

        One that has pages of another storage root is healed first. One that was left for later while its last range
        was written stays so.
        """
        contract = big.contract
        if big.parked:
            return
        if big.mixed:
            self._to_heal.append(big)
            await self._begin_healing()
            return
        small = await self.big.finish(big)
        if big.parked:
            return
        waiting = self._queue.claim(contract.root)
        # Who was begun as well, perhaps at another depth, is a download of its own.
        twins = [twin for twin in waiting if twin is not contract and not self.big.has(twin)]
        if twins and waiting[0] is not contract:
            self._queue.forget_stored()  # another contract with this root was begun, and ended, before
        if small is not None:
            for each in (contract, *twins):
                self._keep_small([each], [0, len(small)], small)
        else:
            self._declare_if_big(big)
            self._paid(contract.page, 1)
            for twin in twins:
                await self.big.copy(big, twin)
                twin.page.unbundled -= 1
                self._paid(twin.page, 1)
        await self._debts.settle()
        await self._bundle(dict.fromkeys(each.page for each in (contract, *twins)))
