"""Which contract of a synthetic state has how many slots, and which ones share their storage or their code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.serve.random_leaves import Kind, words

if TYPE_CHECKING:
    from ethsync.arrays import Ints
    from ethsync.serve.spec import SyntheticSpec

GIANT_SHARE = 3  # one contract has a third of all slots
MIDDLING_SHARE = 10  # those of middling size have a tenth together
MIDDLING = 250  # one contract in so many is of middling size
SHARED = 20  # one of the others in so many has the same storage as some more
SHARERS = 10  # contracts that have it, on average
SPARE_CODES = 20  # besides the contracts, one account in so many codes has a code that another has too

_HARMONIC_UNIT = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class StoragePlan:
    """Per contract: sizes (n,) in slots, and templates (n,): equal numbers mean equal storage."""

    sizes: Ints
    templates: Ints


def plan_storage(spec: SyntheticSpec) -> StoragePlan:
    """Distribute exactly `spec.slots` over the contracts; whatever rounding leaves goes to the giant."""
    n = spec.contracts
    templates = np.arange(n, dtype=np.int64)
    sizes = np.ones(n, np.int64)
    if not n:
        return StoragePlan(sizes, templates)
    giant = n // 2
    rest = np.delete(templates, giant)
    middling = rest[MIDDLING // 2 :: MIDDLING]
    small = np.setdiff1d(rest, middling)
    for_middling = spec.slots // MIDDLING_SHARE
    for_small = spec.slots - max(1, spec.slots // GIANT_SHARE) - for_middling
    if for_small < len(small) or for_middling < len(middling):
        middling, small, for_small = rest[:0], rest, len(rest)
    sizes[middling] = _harmonic(for_middling, len(middling))
    numbers = words(spec.seed, Kind.STORAGE_SHARING, small, 2)
    shares = numbers[:, 0] % np.uint64(SHARED) == 0
    groups = np.uint64(max(1, len(small) // (SHARED * SHARERS)))
    templates[small] = np.where(shares, n + (numbers[:, 1] % groups).astype(np.int64), small)
    sizes[small] = _skewed(spec.seed, for_small, templates[small])
    sizes[giant] = 0
    sizes[giant] = spec.slots - sizes.sum()
    return StoragePlan(sizes, templates)


def _harmonic(total: int, count: int) -> Ints:
    """Sizes in proportion to 1, 1/2, 1/3 …, at least 1."""
    shares = _HARMONIC_UNIT // np.arange(1, count + 1)
    return np.maximum(1, total * shares // max(1, int(shares.sum())))


def _skewed(seed: int, total: int, templates: Ints) -> Ints:
    """Sizes in proportion to the product of two uniform numbers, at least 1, the same for the same template."""
    drawn = words(seed, Kind.STORAGE_SIZE, templates, 2) >> np.uint64(50)
    weights = (drawn[:, 0] * drawn[:, 1]).astype(np.int64)
    spare = total - len(templates)
    return 1 + spare * weights // max(1, int(weights.sum()))


def coded_accounts(spec: SyntheticSpec) -> int:
    """Accounts with code: all contracts, and as many more as it takes to use every code and share some."""
    return min(spec.accounts, max(spec.contracts, spec.codes + spec.codes // SPARE_CODES))


def code_numbers(spec: SyntheticSpec, first: int, last: int) -> Ints:
    """Which code each of the coded accounts [first, last) has: the first ones every code once, the others any."""
    numbers = np.arange(first, last, dtype=np.int64)
    drawn = words(spec.seed, Kind.CODE_CHOICE, numbers, 1)[:, 0] % np.uint64(max(1, spec.codes))
    return np.where(numbers < spec.codes, numbers, drawn.astype(np.int64))
