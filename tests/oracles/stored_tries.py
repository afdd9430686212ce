"""Tries written as pages by hand, without what a sync needs besides."""

from __future__ import annotations

import numpy as np

from ethsync.state.columns import Leaves, entries_of
from ethsync.state.pages import encode_pages, path_of, tops_of
from ethsync.state.tries import build
from ethsync.store.leveldb import Database

PAGES, TOPS = b"A", b"T"


def store(database: Database, leaves: Leaves, depth: int, split: str | None = None) -> None:
    """Write pages of `depth` nibbles; where their path begins with `split`, pages of one nibble more."""
    for level, wanted in ((depth, False), (depth + 1, True)):
        _, tops = build(entries_of(leaves), page_depth=level, rooted=False)
        rows = tops.firsts.tolist()
        for first, last, top in zip(rows, rows[1:], tops_of(tops, leaves), strict=False):
            path = path_of(leaves.key(first), level)
            if (split is not None and leaves.key(first).hex().startswith(split)) is not wanted:
                continue
            page = encode_pages(leaves, np.array([first, last]), level)[0]
            database.put(PAGES + path.stored, page)
            database.put(TOPS + path.stored, top.encode())
