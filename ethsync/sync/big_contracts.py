"""Contracts whose storage does not fit into one reply, or not into a bundle: ranges, pages, a record of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby, islice
from typing import TYPE_CHECKING

from ethsync.state.columns import Leaves, join
from ethsync.state.pages import KEY_SPACE, SMALL_TRIE
from ethsync.store.schema import (
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Marker,
    TrieRecord,
    decode_marker,
    decode_record,
    storage_key,
)
from ethsync.store.writer import Write, Writer
from ethsync.sync.page_updates import page_writes
from ethsync.sync.sweep import Gap, Sweep
from ethsync.wire.snap import GetStorageRanges

if TYPE_CHECKING:
    from ethsync.counters import Counters
    from ethsync.store.datadir import Datadir
    from ethsync.sync.assemble import Assembled
    from ethsync.sync.debts import Contract
    from ethsync.sync.page_updates import UpdatedPage

FILL = 0.85
"""As for accounts: ranges are made to fill this share of the budget."""

REQUESTS_AT_ONCE = 4
"""Ranges of one contract under way: enough to keep a few peers busy, few enough that its pages come nearly in order."""

SLOT_BYTES = 68.0
"""Bytes of a slot on the wire until a range has been seen: a 32-byte key, about as much value and framing."""

MOST_ACTIVE = 32
"""Contracts under way before small tries, which may turn out to be big ones, wait: each holds a page in memory."""

COPY_PAGES = 64
"""Pages copied in one batch: about 2 MiB."""


@dataclass(slots=True, eq=False)
class BigContract:
    """One contract under way."""

    contract: Contract
    sweep: Sweep
    leaves: int = 0
    size: int = 0
    keys_per_byte: float = 0.0
    recorded: bool = False
    """Whether its record, not complete yet, is with the writer."""
    declared: bool = False
    """Whether the bundle of its page no longer waits for it."""
    leftover: list[bytes] = field(default_factory=list)
    """Keys in the database that nothing speaks for, to be deleted with the first write."""
    mixed: bool = False
    """Whether pages of it may be of another storage root: whether they are is looked at in the end."""
    healing: bool = False
    """Whether they are, and it is being healed."""
    parked: bool = False
    """Whether it was left for later; then nothing more is to be done with it."""
    small: Leaves | None = None
    """All its leaves, if they turned out to fit into a bundle after all."""
    marked: list[bytes] = field(default_factory=list)
    """Where its markers begin."""

    @property
    def depth(self) -> int:
        """Page depth; zero as long as it is not known."""
        return self.sweep.depth or 0

    @property
    def done(self) -> bool:
        """Whether all its ranges are with the writer."""
        return self.sweep.done

    @property
    def certainly_big(self) -> bool:
        """Whether it can no longer turn out to be small."""
        return self.depth > 0 or self.leaves > SMALL_TRIE


@dataclass(frozen=True, slots=True, eq=False)
class RangeJob:
    """Ask for a range of one contract's storage."""

    big: BigContract
    gap: Gap
    root: bytes
    budget: int

    def make(self, request_id: int) -> GetStorageRanges:
        """The request. A limit goes with an origin only: with origin zero it would bring no proof (geth)."""
        gap = self.gap
        origin = gap.resume.to_bytes(32, "big") if gap.resume else b""
        limit = (gap.end - 1).to_bytes(32, "big") if gap.resume else b""
        return GetStorageRanges(request_id, self.root, (self.big.contract.account,), origin, limit, self.budget)


class BigContracts:
    """All big contracts under way, in the order in which they were found."""

    def __init__(self, root: bytes, datadir: Datadir, writer: Writer, counters: Counters) -> None:
        self.root = root
        self._datadir = datadir
        self._writer = writer
        self._counters = counters
        self._active: dict[bytes, BigContract] = {}

    def begin(self, contract: Contract, assembled: Assembled, depth: int | None, estimate: float) -> BigContract:
        """Take up a contract from its first chunk, or from all of it. `estimate`: about so many slots; 0 if unknown."""
        sweep = Sweep(depth=depth)
        gap = sweep.take(KEY_SPACE)
        sweep.claim(gap, assembled.covered, assembled.rest)
        sweep.settle(gap)
        big = BigContract(contract, sweep, leftover=self._leftover(contract.account))
        if estimate:
            big.keys_per_byte = KEY_SPACE / (estimate * SLOT_BYTES)
        self._active[contract.account] = big
        return big

    def _leftover(self, account: bytes) -> list[bytes]:
        """What a power cut can leave: pages whose record was lost. They may be cut at another depth than ours."""
        return [
            family + account + key
            for family in (STORAGE_PAGE, TOP, MARKER)
            for key, _ in self._datadir.storage.scan(family + account, keys_only=True)
        ]

    def resume(self, contract: Contract) -> BigContract | None:
        """Take up a contract that has a record; None if there is none, or if it says that this is stored."""
        value = self._datadir.ledger.get(RECORD + contract.account)
        if value is None:
            return None
        record = decode_record(value)
        if record.complete and record.root == contract.root:
            return None
        found = list(self._datadir.storage.scan(MARKER + contract.account))
        markers = [decode_marker(key, value) for key, value in found]
        sweep = Sweep(((marker.origin, marker.end) for marker in markers), record.depth)
        big = BigContract(contract, sweep, declared=True, mixed=True, marked=[key for key, _ in found])
        if not found:  # a copy that was interrupted has pages already: those that come now may be cut in other ways
            big.leftover = self._leftover(contract.account)
        big.recorded = record.root == contract.root
        # Steps of following count in the record only.
        big.leaves = record.leaves if record.complete else sum(marker.leaves for marker in markers)
        big.size = record.size if record.complete else sum(marker.size for marker in markers)
        if big.leaves:
            big.keys_per_byte = sweep.stored / (big.leaves * SLOT_BYTES)
        self._active[contract.account] = big
        return big

    def park(self, contract: Contract) -> BigContract | None:
        """Leave a contract for later, if it is under way. Its record is not complete, and its pages stay."""
        big = self._active.pop(contract.account, None)
        if big is not None:
            big.parked = True
        return big

    async def begin_record(self, big: BigContract) -> None:
        """Say in its record, before any of its pages changes, that it is not complete and of which root it is to be."""
        if not big.recorded:
            begun = TrieRecord(big.contract.root, big.depth, False, 0, 0).encode()
            await self._writer.write(Write(self._datadir.ledger, [(RECORD + big.contract.account, begun)]))
            big.recorded = True

    def under_healing(self) -> list[BigContract]:
        """Contracts whose pages are being healed."""
        return [big for big in self._active.values() if big.healing]

    async def reached(self) -> None:
        """Wait until all pages that were handed over can be read."""
        await self._writer.reached(self._datadir.storage)

    async def rewrite(self, big: BigContract, pages: list[UpdatedPage]) -> None:
        """Hand pages over that healing made anew."""
        account = big.contract.account
        puts, deletes = page_writes(pages, STORAGE_PAGE + account, TOP + account)
        self._counters.bytes += sum(len(value) for _, value in puts)
        # A power cut may have taken pages that are counted, or left some that are not: counts never fall below nothing.
        big.leaves = max(0, big.leaves + sum(len(page.come) - len(page.gone) for page in pages))
        big.size = max(0, big.size + sum(page.come.nbytes - page.gone.nbytes for page in pages))
        await self._count_in_marker(big, puts, deletes)

    async def _count_in_marker(self, big: BigContract, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """From now on one marker counts what there is, in the batch that changes it."""
        account = big.contract.account
        deletes += [MARKER + account + origin for origin in big.marked]
        big.marked = []
        puts.append(_whole_marker(account, big.leaves, big.size))
        await self._writer.write(Write(self._datadir.storage, puts, deletes))

    async def begin_records(self) -> None:
        """Say of all contracts that were taken up, before anything else of the state changes, that they are begun.

        Pages of them may be of another storage root than the record says: if the contract had its former storage again
        in a later state, it would be taken for complete.
        """
        for big in self._active.values():
            if not big.recorded and big.done:
                await self._count_in_marker(big, [], [])  # a record that is begun counts nothing
            await self.begin_record(big)

    async def remove(self, account: bytes) -> None:
        """Remove everything of a contract that has no storage any more, or has it in a bundle; its record last."""
        storage = self._datadir.storage
        markers = [MARKER + account + key for key, _ in storage.scan(MARKER + account, keys_only=True)]
        stored = (storage.scan(family + account, keys_only=True) for family in (STORAGE_PAGE, TOP))
        paths = (path for (path, _), _ in groupby(merge(*stored)))
        while batch := list(islice(paths, COPY_PAGES)):
            # A page goes with its top, and markers with each batch: whichever a power cut takes, no top is left that
            # stands for a removed page, and no marker.
            keys = [family + account + path for path in batch for family in (STORAGE_PAGE, TOP)]
            await self._writer.write(Write(storage, [], markers + keys))
        await self._writer.write(Write(storage, [], markers))
        await self._writer.write(Write(self._datadir.ledger, [], [RECORD + account], after_sync=True))

    def has(self, contract: Contract) -> bool:
        """Whether a contract is under way."""
        return contract.account in self._active

    def whole(self) -> list[BigContract]:
        """Contracts of which every range is with the writer, but not the record that says so."""
        return [big for big in self._active.values() if big.done]

    def others_with(self, big: BigContract) -> bool:
        """Whether another contract under way has the same storage root."""
        return any(other is not big and other.contract.root == big.contract.root for other in self._active.values())

    @property
    def crowded(self) -> bool:
        """Whether so many contracts are under way that no new ones should be begun."""
        return len(self._active) >= MOST_ACTIVE

    def ready(self) -> int:
        """Requests that could be made now."""
        return sum(self._free(big) for big in self._active.values())

    def _free(self, big: BigContract) -> int:
        if not big.sweep.open_gaps:
            return 0
        return max(0, (REQUESTS_AT_ONCE if big.depth else 1) - big.sweep.asked)

    def take(self, budget: int) -> RangeJob:
        """Take a range of the oldest contract that has one."""
        big = next(big for big in self._active.values() if self._free(big))
        width = int(big.keys_per_byte * budget * FILL) or KEY_SPACE
        return RangeJob(big, big.sweep.take(width), self.root, budget)

    async def keep(self, big: BigContract, claimed: Gap, assembled: Assembled) -> None:
        """Write what was claimed of a range and settle it."""
        await self.write(big, assembled, claimed)
        big.sweep.settle(claimed)

    async def write(self, big: BigContract, assembled: Assembled, gap: Gap | None = None) -> None:
        """Hand pages, tops and marker of a range to the writer, and the record with the first of them."""
        account = big.contract.account
        leaves = sum(page.last - page.first for page in assembled.pages)
        origin = gap.origin if gap else 0
        whole = (origin, assembled.covered) == (0, KEY_SPACE)
        if big.depth == 0 and whole and leaves <= SMALL_TRIE and not big.declared:
            big.small = join([assembled.leaves])
            return
        puts = [(storage_key(STORAGE_PAGE, account, page.path), page.value) for page in assembled.pages]
        puts += [(storage_key(TOP, account, page.path), page.top.encode()) for page in assembled.pages]
        if not puts:
            return
        size = sum(len(value) for _, value in puts)
        big.leaves += leaves
        big.size += size
        self._counters.items += leaves
        self._counters.bytes += size
        key, value = Marker(origin, assembled.covered, leaves, size).encode()
        puts.append((MARKER + account + key, value))
        big.marked.append(key)
        await self.begin_record(big)
        leftover, big.leftover = big.leftover, []
        await self._writer.write(Write(self._datadir.storage, puts, leftover))

    async def _clear(self, big: BigContract) -> None:
        """Remove what is left over of a contract of which no page was written."""
        leftover, big.leftover = big.leftover, []
        if leftover:
            await self._writer.write(Write(self._datadir.storage, [], leftover))

    async def finish(self, big: BigContract) -> Leaves | None:
        """Close a contract: its record says complete now. Returns its leaves instead if they belong into a bundle."""
        await self._clear(big)
        if big.small is None:
            record = TrieRecord(big.contract.root, big.depth, True, big.leaves, big.size).encode()
            await self._writer.write(
                Write(self._datadir.ledger, [(RECORD + big.contract.account, record)], after_sync=True)
            )
        self._active.pop(big.contract.account, None)
        return big.small

    async def copy(self, big: BigContract, twin: Contract) -> None:
        """Store a finished trie once more for another account with the same storage root, from our own disk."""
        source, target = big.contract.account, twin.account
        begun = TrieRecord(twin.root, big.depth, False, 0, 0).encode()
        await self._writer.write(Write(self._datadir.ledger, [(RECORD + target, begun)]))
        await self._writer.write(Write(self._datadir.storage, [], self._leftover(target)))
        await self.reached()
        stored = (self._datadir.storage.scan(family + source) for family in (STORAGE_PAGE, TOP))
        pairs = zip(*stored, strict=True)
        while some := list(islice(pairs, COPY_PAGES)):
            # A page goes with its top: if a power cut takes it, its trie has another root, and that is seen.
            puts = [(STORAGE_PAGE + target + path, value) for (path, value), _ in some]
            puts += [(TOP + target + path, value) for _, (path, value) in some]
            await self._writer.write(Write(self._datadir.storage, puts))
        marker = _whole_marker(target, big.leaves, big.size)
        await self._writer.write(Write(self._datadir.storage, [marker]))
        record = TrieRecord(twin.root, big.depth, True, big.leaves, big.size).encode()
        await self._writer.write(Write(self._datadir.ledger, [(RECORD + target, record)], after_sync=True))
        self._counters.items += big.leaves
        self._counters.bytes += big.size


def _whole_marker(account: bytes, leaves: int, size: int) -> tuple[bytes, bytes]:
    """Key and value of the only marker of a contract all of whose ranges are stored."""
    key, value = Marker(0, KEY_SPACE, leaves, size).encode()
    return MARKER + account + key, value
