"""A disk and peers for the chain of headers, without sockets and tasks: whoever drives it decides what happens next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import cast

from ethsync.counters import Counters
from ethsync.errors import Disproved, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.headers.chain import ProvenChain
from ethsync.headers.descent import HeaderJob
from ethsync.headers.segment import HeaderQuery, check_family, read_headers
from ethsync.peers.track import Outcome
from ethsync.store.headers import Change, HeaderStore
from ethsync.store.leveldb import Database
from ethsync.wire.eth import BlockHeaders
from ethsync.wire.headers import decode_header
from tests.oracles.headers import demo_rules


@dataclass
class Disk:
    """A database in memory, of which `HeaderStore` needs little."""

    entries: dict[bytes, bytes] = field(default_factory=dict)
    path: Path = Path("memory")
    log: list[Change] = field(default_factory=list)

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def scan(self, prefix: bytes, *, start: bytes = b"", keys_only: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.entries):
            if key.startswith(prefix) and key >= prefix + start:
                yield key[len(prefix) :], b"" if keys_only else self.entries[key]

    def apply(self, change: Change) -> None:
        """Deletes first, as the writing task does it."""
        self.log.append(change)
        for key in change.deletes:
            self.entries.pop(key, None)
        self.entries.update(change.puts)

    def lose(self, first: int, count: int) -> None:
        """A power cut: LevelDB may lose an earlier log that was not synced, and keep a later one."""
        kept = self.log[:first] + self.log[first + count :]
        self.entries, self.log = {}, []
        for change in kept:
            self.apply(change)


@dataclass
class Server:
    """A peer that follows a chain."""

    raws: Sequence[bytes]
    serves: int = 0
    numbers: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers = {keccak256(raw): number for number, raw in enumerate(self.raws)}

    def answer(self, query: HeaderQuery, most: int = 1024) -> bytes:
        number = query.number if query.hash is None else self.numbers.get(query.hash, -1)
        count = min(query.limit, most, number + 1) if number < len(self.raws) else 0
        found = [self.raws[number - k] for k in range(count)]
        self.serves += len(found)
        return BlockHeaders(1, tuple(found)).encode()


class World:
    """A chain on a disk, with peers by number."""

    def __init__(self, servers: dict[int, Server], disk: Disk | None = None, floor: int = 0) -> None:
        self.servers = servers
        self.disk = disk or Disk()
        self.rules = demo_rules()
        self.chain = ProvenChain(HeaderStore(cast("Database", self.disk), check_family), self.rules, Counters(), floor)
        self.jobs: list[HeaderJob] = []
        self.banned: set[int] = set()
        self.blamed: set[int] = set()
        self.time = 0.0

    def follow(self, raw: bytes) -> None:
        self.chain.follow(decode_header(raw))

    def ask(self, peer: int, limit: int = 1024) -> HeaderJob | None:
        """Make a request of a peer, if there is one to be made."""
        if not self.chain.ready():
            return None
        self.jobs.append(self.chain.take(limit, peer, self.time))
        return self.jobs[-1]

    def answer(self, job: HeaderJob, most: int = 1024) -> Outcome:
        """A peer answers its request."""
        if job in self.jobs:
            self.jobs.remove(job)
        try:
            segment = read_headers(self.servers[job.peer].answer(job.query, most), job.query, self.rules)
        except Disproved:
            self.banned.add(job.peer)
            self.chain.give_back(job)
            return Outcome.DISPROVED
        except MalformedMessage:
            self.chain.give_back(job)
            return Outcome.MALFORMED
        if segment is None:
            self.chain.give_back(job)
            return Outcome.EMPTY
        outcome = self.chain.accept(job, segment)
        while self.chain.refuted:
            self.blamed |= self.chain.refuted.popleft().peers
        return outcome

    def write(self, batches: int = -1) -> None:
        """Have the disk write some of what waits for it, or everything."""
        while self.chain.outbox and batches:
            change, done = self.chain.outbox.popleft()
            self.disk.apply(change)
            done()
            batches -= 1

    def finish(self, rng: Random, most: int = 1024) -> None:
        """Go on with random peers until all is done; peers that were found out are not asked again."""
        for _ in range(10_000):
            self.write()
            if self.chain.done:
                return
            honest = [peer for peer in self.servers if peer not in self.banned | self.blamed]
            self.ask(rng.choice(honest))
            if self.jobs:
                self.answer(rng.choice(self.jobs), most)
        raise AssertionError("it does not end")

    def shown(self) -> list[bytes | None]:
        """All proven headers, as a new process finds them."""
        store = HeaderStore(cast("Database", self.disk))
        return [] if store.top is None else [store.raw(number) for number in range(store.low, store.top.number + 1)]
