"""Storage tries, honest answers about them, made with the `trie` and `rlp` packages, and what is stored of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

import rlp
import trio
from trie import HexaryTrie

from ethsync.kernels.trie import LEAF
from ethsync.peers.track import Outcome
from ethsync.state.pages import decode_pages, decode_top, entries_of_tops, path_of, stored_path
from ethsync.state.tries import build
from ethsync.store.datadir import Datadir
from ethsync.store.schema import RECORD, STORAGE_PAGE, TOP, TrieRecord, decode_record
from ethsync.store.writer import Write, Writer
from ethsync.sync.big_contracts import RangeJob
from ethsync.sync.debts import PageDebt
from ethsync.sync.storage import StorageStage, TriesJob
from tests.oracles import messages
from tests.oracles.accounts import scalar
from tests.oracles.messages import Pair
from tests.oracles.tries import proof_of, trie_of

ZERO = bytes(32)
STATE_ROOT = b"\x77" * 32
BUDGET = 128 << 10
PAGE = path_of(b"\xa0" + bytes(31), 1)
ACCOUNT, TWIN = b"\xa1" * 32, b"\xa2" * 32
"""Accounts on that page."""


@dataclass(frozen=True)
class Storage:
    """One contract's storage: sorted (slot hash, RLP of the number), and its trie."""

    pairs: list[Pair]
    trie: HexaryTrie

    @property
    def root(self) -> bytes:
        return bytes(self.trie.root_hash)

    def __len__(self) -> int:
        return len(self.pairs)

    def proof(self, origin: bytes, last: bytes | None = None) -> list[bytes]:
        """The nodes on the two edges of a range; those of one edge if it is empty."""
        return proof_of(self.trie, origin, *([] if last is None else [last]))

    def range(self, origin: int, most: int) -> bytes:
        """The answer to a request for slots from `origin` on: at most so many, always with a proof."""
        key = origin.to_bytes(32, "big")
        found = [pair for pair in self.pairs if pair[0] >= key][:most]
        return messages.storage_ranges(1, [found] if found else [], self.proof(key, found[-1][0] if found else None))


def storage(seed: int, slots: int) -> Storage:
    """Slots at random places, with values of every length."""
    rng = Random(f"{seed} {slots}")
    return storage_at([rng.randbytes(32) for _ in range(slots)])


def storage_at(places: Iterable[bytes]) -> Storage:
    """Slots at these places."""
    keys = sorted(places)
    rng = Random(keys[0])
    values = [bytes(rlp.encode(scalar(rng.getrandbits(rng.choice((1, 7, 8, 64, 256))) | 1))) for _ in keys]
    return Storage(list(zip(keys, values, strict=True)), trie_of(keys, values))


def whole(*storages: Storage) -> bytes:
    """The answer that has all of several tries, without proof."""
    return messages.storage_ranges(1, [each.pairs for each in storages])


def cut_off(*storages: Storage, slots: int) -> bytes:
    """The answer that has all tries but the last, of which it has only the first slots, with a proof."""
    *complete, last = storages
    part = last.pairs[:slots]
    return messages.storage_ranges(1, [*(each.pairs for each in complete), part], last.proof(ZERO, part[-1][0]))


BIG = storage(1, 200)

NewStage = Callable[[], StorageStage]
"""What makes a stage as a new process has it."""


async def written(writer: Writer, datadir: Datadir) -> None:
    """Wait until everything queued so far is in the databases, but for what waits for a sync."""
    done = trio.Event()
    await writer.write(Write(datadir.headers, [], done=done.set))
    await done.wait()


def owing(contracts: int) -> PageDebt:
    """What is owed for the page with so many contracts."""
    return PageDebt(PAGE, contracts, contracts, 0)


async def first_chunk(stage: StorageStage, slots: int, trie: Storage = BIG) -> None:
    """The first request asks for whole tries; the reply has the beginning of one."""
    job = stage.take(BUDGET)
    assert isinstance(job, TriesJob)
    assert await stage.process(job, cut_off(trie, slots=slots)) is Outcome.SERVED


async def next_range(stage: StorageStage, most: int, trie: Storage = BIG) -> RangeJob:
    """Answer the next request for a range with so many slots at most."""
    job = stage.take(BUDGET)
    assert isinstance(job, RangeJob)
    assert await stage.process(job, trie.range(job.gap.resume, most)) is Outcome.SERVED
    return job


async def all_ranges(stage: StorageStage, most: int = 50) -> int:
    """Answer everything; return how many requests that took."""
    requests = 0
    while stage.ready():
        await next_range(stage, most)
        requests += 1
    return requests


def stored_slots(datadir: Datadir, account: bytes) -> list[Pair]:
    """All slots in the pages of an account, after a look at its paths and tops."""
    pages = [(stored_path(key), value) for key, value in datadir.storage.scan(STORAGE_PAGE + account)]
    leaves, _ = decode_pages([path for path, _ in pages], [value for _, value in pages], LEAF)
    assert all(a.end <= b.first for (a, _), (b, _) in itertools.pairwise(pages))
    return [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))]


def stored_root(datadir: Datadir, account: bytes) -> bytes:
    """The root that follows from the tops of an account's storage."""
    tops = [decode_top(record) for _, record in datadir.storage.scan(TOP + account)]
    return build(entries_of_tops(tops))[0].tobytes()


def stored_record(datadir: Datadir, account: bytes) -> TrieRecord | None:
    value = datadir.ledger.get(RECORD + account)
    return None if value is None else decode_record(value)


async def synced(datadir: Datadir, writer: Writer) -> None:
    """Wait until everything is written, what waits for a sync as well."""
    writer.close()
    await writer.finished.wait()
