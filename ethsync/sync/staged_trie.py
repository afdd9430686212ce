"""One trie with changes that are in memory only: what healing found, before it is proven and written as patches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import LocalProtocolError
from ethsync.kernels.trie import LEAF
from ethsync.state.columns import Leaves, entries_of, leaves_of
from ethsync.state.pages import PagePath, Top, depth_for, encode_pages, path_of, tops_of
from ethsync.state.tries import build, page_tops
from ethsync.store.merging import page_changes
from ethsync.store.patches import Kind, Patch
from ethsync.store.schema import STORAGE_PAGE, TOP
from ethsync.sync.local_trie import LocalTrie

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ethsync.sync.page_updates import UpdatedPage

WHOLE_TRIE = PagePath(bytes(32), 0)
_PAGE, _TOP = b"S", b"T"


@dataclass(slots=True, eq=False)
class StagedTrie:
    """The changes to one trie. `changes` holds pages of changed leaves (docs/format.md), None for pages that go."""

    local: LocalTrie
    changes: dict[PagePath, bytes | None] = field(default_factory=dict)
    tops: dict[PagePath, Top | None] = field(default_factory=dict)
    touched: int = 0
    """Leaves that are others than before, there or not."""
    more: int = 0
    """Leaves that there are more than before."""
    more_bytes: int = 0
    """Bytes of keys and values that there are more than before."""

    def stage(self, page: UpdatedPage) -> int:
        """Take note of a page that changes. Returns the bytes that this takes."""
        if page.path in self.tops:
            raise LocalProtocolError(f"page {page.path} was finished twice in one step")
        change = _change(page) if page.value is not None else None
        self.changes[page.path], self.tops[page.path] = change, page.top
        self.touched += len({*map(page.gone.key, range(len(page.gone))), *map(page.come.key, range(len(page.come)))})
        self.more += len(page.come) - len(page.gone)
        self.more_bytes += page.come.nbytes - page.gone.nbytes
        return len(change or b"") + len(page.top.encode() if page.top is not None else b"") + 2 * len(page.path.stored)

    def root(self) -> bytes:
        """Root of the trie with these changes."""
        return self.changed().root

    def changed(self) -> LocalTrie:
        """The trie with these changes; its pages can be read once they are stored."""
        return self.local.changed(self.tops)

    def patches(self, layer: bytes, pages: bytes, tops: bytes) -> Iterator[Patch]:
        """The same for readers. `pages`, `tops`: key prefixes of the trie's pages and top records."""
        for path, change in self.changes.items():
            top = self.tops[path]
            if change is None or top is None:
                yield Patch(layer, pages + path.stored, Kind.GONE)
                yield Patch(layer, tops + path.stored, Kind.GONE)
            else:
                yield Patch(layer, pages + path.stored, Kind.PAGE, change)
                yield Patch(layer, tops + path.stored, Kind.VALUE, top.encode())


def _change(page: UpdatedPage) -> bytes:
    """The changed leaves as a page: an empty value for those that go."""
    news = {page.gone.key(row): b"" for row in range(len(page.gone))}
    news |= {page.come.key(row): page.come.value(row) for row in range(len(page.come))}
    keys = sorted(news)
    leaves = leaves_of(keys, [news[key] for key in keys], page.come.kind)
    return encode_pages(leaves, np.array([0, len(keys)]), page.path.depth)[0]


class SmallPages:
    """A small storage trie as one page in memory."""

    def __init__(self, leaves: Leaves) -> None:
        starts = np.array([0, len(leaves)])
        self._records: dict[bytes, bytes] = {}
        if len(leaves):
            path = WHOLE_TRIE.stored
            self._records[_PAGE + path] = encode_pages(leaves, starts, 0)[0]
            self._records[_TOP + path] = tops_of(page_tops(leaves, starts[:-1]), leaves)[0].encode()

    def get(self, key: bytes) -> bytes | None:
        """See local_trie.Pages."""
        return self._records.get(key)

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """See local_trie.Pages."""
        return [(key[len(prefix) :], value) for key, value in self._records.items() if key.startswith(prefix)]


def small_trie(leaves: Leaves) -> LocalTrie:
    """A trie whose leaves lie in memory; none for one that is new."""
    return LocalTrie(SmallPages(leaves), _PAGE, _TOP, 0, LEAF)


@dataclass(slots=True, eq=False)
class StagedSmall(StagedTrie):
    """A storage trie that is in a bundle, or new. `slots`: all of it, as it is to be."""

    slots: dict[bytes, bytes] = field(default_factory=dict)

    def stage(self, page: UpdatedPage) -> int:
        """See StagedTrie; the page is the whole trie."""
        self.slots = page_changes(page.value) if page.value is not None else {}
        return StagedTrie.stage(self, page)

    def changed_slots(self) -> dict[bytes, bytes]:
        """Slots that are others than before, empty for those that go."""
        change = self.changes.get(WHOLE_TRIE)
        return page_changes(change) if change is not None else {}


@dataclass(frozen=True, slots=True)
class NewPages:
    """Pages of a trie that had none: their depth, bytes, and the patches that store them."""

    depth: int
    size: int
    patches: list[Patch]


def new_pages(layer: bytes, account: bytes, slots: dict[bytes, bytes]) -> NewPages:
    """Cut the storage of a contract, which is too large for a bundle, into pages of its own."""
    keys = sorted(slots)
    leaves = leaves_of(keys, [slots[key] for key in keys])
    depth = depth_for(len(leaves))
    _, tops = build(entries_of(leaves), page_depth=depth, rooted=False)
    pages, records = encode_pages(leaves, tops.firsts, depth), tops_of(tops, leaves)
    patches = []
    for row, page, record in zip(tops.firsts.tolist(), pages, records, strict=False):
        path = path_of(leaves.key(row), depth).stored
        patches.append(Patch(layer, STORAGE_PAGE + account + path, Kind.VALUE, page))
        patches.append(Patch(layer, TOP + account + path, Kind.VALUE, record.encode()))
    return NewPages(depth, sum(map(len, pages)), patches)
