"""Which codes are stored: their hashes as sorted arrays, 40 bytes for each, 78 MB for mainnet's 1.94 million.

Whole hashes, because whoever looks here wants to be certain: two codes whose hashes share eight bytes can be found
with some effort. Python's set of them takes three times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.arrays import Bytes

PARTS = 16
"""Parts by the first nibble of a hash, so that as many threads can read them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    hashes: Bytes
    """(n, 32), sorted."""
    beginnings: np.ndarray[tuple[int], np.dtype[np.uint64]]
    """(n,), the first eight bytes of each as a number: what can be searched quickly."""


class HeldCodes:
    """Hashes in `PARTS` sorted arrays (n, 32)."""

    def __init__(self, parts: Sequence[Bytes]) -> None:
        self._parts = [_Part(hashes, _beginnings(hashes)) for hashes in parts]

    def __len__(self) -> int:
        return sum(len(part.hashes) for part in self._parts)

    def missing(self, wanted: Bytes) -> list[bytes]:
        """Those of (m, 32) hashes that are not held, in any order and perhaps several times."""
        found = []
        for number, part in enumerate(self._parts):
            rows = wanted[wanted[:, 0] >> 4 == number]
            found += [rows[k].tobytes() for k in _not_first_of_beginning(part, rows) if not _is_in(part, rows[k])]
        return found


def _beginnings(hashes: Bytes) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.ascontiguousarray(hashes[:, :8]).view(">u8").ravel().astype(np.uint64)


def _not_first_of_beginning(part: _Part, rows: Bytes) -> list[int]:
    """Rows other than the first hash that is held with the same beginning: nearly always those that are not held."""
    if not len(part.hashes):
        return list(range(len(rows)))
    places = np.searchsorted(part.beginnings, _beginnings(rows)).clip(max=len(part.hashes) - 1)
    return np.flatnonzero((part.hashes[places] != rows).any(axis=1)).tolist()


def _is_in(part: _Part, row: Bytes) -> bool:
    """Look at all hashes with the same beginning."""
    beginning = _beginnings(row[None])
    first, end = (int(np.searchsorted(part.beginnings, beginning, side)[0]) for side in ("left", "right"))
    return bool((part.hashes[first:end] == row).all(axis=1).any())
