"""Sets of leaves of every shape that tries treat differently. Deterministic in the generator that is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

VALUE_SIZES = (1, 1, 2, 5, 31, 32, 33, 60, 300)
SHORT_VALUE_SIZES = (1, 1, 2, 3)
CHUNKS = 16


@dataclass(frozen=True, slots=True)
class LeafSet:
    """Leaves in ascending order of their 32-byte keys."""

    shape: str
    keys: list[bytes]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.keys)

    def between(self, first: bytes, last: bytes) -> tuple[list[bytes], list[bytes]]:
        """Keys and values from `first` to `last`, both included."""
        inside = [i for i, key in enumerate(self.keys) if first <= key <= last]
        return [self.keys[i] for i in inside], [self.values[i] for i in inside]


def random_keys(rng: Random, n: int) -> set[bytes]:
    return {rng.randbytes(32) for _ in range(n)}


def shared_prefixes(rng: Random, n: int) -> set[bytes]:
    """Long extensions, and leaves of every path length."""
    base = rng.randbytes(32)
    return {base[:cut] + rng.randbytes(32 - cut) for cut in (rng.choice((1, 2, 8, 20, 28, 30)) for _ in range(n))}


def deep(rng: Random, n: int) -> set[bytes]:
    """Keys that part only in their last bytes: with short values whole branches are embedded in their parents."""
    base = rng.randbytes(28)
    return {base + bytes(rng.choice((0, 1, 16, 17, 255)) for _ in range(4)) for _ in range(n)}


def single(rng: Random, n: int) -> set[bytes]:
    return {rng.randbytes(32)}


def chunk_borders(rng: Random, n: int) -> set[bytes]:
    """Keys exactly on the first and last places of the chunks into which a key space is split, and 0 and 2^256 - 1."""
    step = 2**256 // CHUNKS
    places = [k * step for k in range(CHUNKS)] + [(k + 1) * step - 1 for k in range(CHUNKS)]
    return {place.to_bytes(32, "big") for place in rng.sample(places, min(n, len(places)))}


SHAPES: dict[str, Callable[[Random, int], set[bytes]]] = {
    shape.__name__: shape for shape in (random_keys, shared_prefixes, deep, single, chunk_borders)
}


def leaf_set(rng: Random, shape: str, n: int) -> LeafSet:
    """About n leaves; in half of the sets all values are short enough to be embedded."""
    keys = sorted(SHAPES[shape](rng, n))
    sizes = rng.choice((VALUE_SIZES, SHORT_VALUE_SIZES))
    return LeafSet(shape, keys, [rng.randbytes(rng.choice(sizes)) for _ in keys])


def any_leaf_set(rng: Random, most: int) -> LeafSet:
    return leaf_set(rng, rng.choice(list(SHAPES)), rng.choice((1, 2, 3, 5, most // 4 + 1, most)))
