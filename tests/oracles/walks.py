"""A stored trie brought to another by hand: walk, compare, rewrite, with nodes from the `trie` package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from ethsync.kernels.trie import LEAF
from ethsync.state.columns import leaves_of
from ethsync.state.difference import Wanted
from ethsync.state.pages import PagePath, decode_pages, stored_path
from ethsync.state.replies import Blobs
from ethsync.store.leveldb import Database
from ethsync.sync.local_trie import LocalTrie, PageCache
from ethsync.sync.page_updates import UpdatedPage, page_writes, updated_pages
from ethsync.sync.walk import Openings, Region, Walk
from tests.oracles.stored_tries import PAGES, TOPS, store
from tests.oracles.tries import trie_of

Contents = dict[bytes, bytes]


def put(database: Database, contents: Contents, depth: int, split: str | None = None) -> None:
    """Write a trie as pages."""
    keys = sorted(contents)
    if keys:
        store(database, leaves_of(keys, [contents[key] for key in keys]), depth, split)


def held(database: Database) -> Contents:
    """All leaves in the pages of a trie."""
    found: Contents = {}
    for key, value in database.scan(PAGES):
        leaves, _ = decode_pages([stored_path(key)], [value], LEAF)
        found |= {leaves.key(row): leaves.value(row) for row in range(len(leaves))}
    return found


def blobs_of(nodes: Sequence[bytes]) -> Blobs:
    """Nodes as if a message had brought them."""
    lengths = np.array([len(node) for node in nodes], np.int64)
    return Blobs(1, np.frombuffer(b"".join(nodes), np.uint8), np.cumsum(lengths) - lengths, lengths)


@dataclass
class Healing:
    """One walk from what is in a database toward other contents."""

    database: Database
    depth: int
    after: Contents
    asked: int = 0
    came: set[tuple[bytes, int]] = field(default_factory=set)
    pages: list[UpdatedPage] = field(default_factory=list)
    openings: Openings = field(default_factory=Openings)
    cache: PageCache = field(default_factory=PageCache)

    def __post_init__(self) -> None:
        keys = sorted(self.after)
        self.remote = trie_of(keys, [self.after[key] for key in keys])
        self.local = LocalTrie(self.database, PAGES, TOPS, self.depth, LEAF)
        self.walk = Walk(self.remote.root_hash, self.depth, self._pages_under, self.openings)

    def _pages_under(self, path: PagePath) -> Iterable[PagePath]:
        return map(self.local.path, self.local.under(path))

    def answer(self, wanted: Wanted) -> None:
        """These nodes came."""
        self.asked += len(wanted)
        names = {*zip(map(bytes, wanted.paths), wanted.depths.tolist(), strict=True)}
        assert len(names) == len(wanted)
        assert not names & self.came  # nothing comes twice, so nothing is asked for twice
        self.came |= names
        blobs = blobs_of([self.remote.db[digest.tobytes()] for digest in wanted.hashes])
        self.walk.supply(wanted, self.local.compare(blobs, np.arange(len(wanted)), wanted, self.cache))

    def write(self, regions: list[Region]) -> None:
        """Write the pages of these regions anew."""
        pages = updated_pages(self.local, regions)
        puts, deletes = page_writes(pages, PAGES, TOPS)
        batch = self.database.batch()
        for key, value in puts:
            batch.put(key, value)
        for key in deletes:
            batch.delete(key)
        self.database.commit(batch)
        self.pages += pages

    def run(self, rng: Random, most: int = 7) -> None:
        """Walk to the end, with answers in any order, some of them late, some not whole."""
        out: list[Wanted] = []
        while not self.walk.done:
            if self.walk.waiting and (not out or rng.random() < 0.7):
                out.append(self.walk.take(rng.randrange(1, most)))
                continue
            wanted = out.pop(rng.randrange(len(out)))
            rows = np.arange(len(wanted))
            cut = rng.randrange(len(wanted) + 1) if rng.random() < 0.3 else len(wanted)
            self.walk.give_back(wanted.rows(rows[cut:]))
            self.answer(wanted.rows(rows[:cut]))
            self.write(self.walk.take_finished())
        assert not out
