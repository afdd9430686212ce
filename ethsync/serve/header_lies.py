"""What a peer does to an honest reply of headers. Each is a function (request, headers) → headers, None for silence.

Requests for a single header are answered honestly, so that a head can be found first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from ethsync.serve.demo_chain import demo_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.wire.eth import GetBlockHeaders

Raws: TypeAlias = tuple[bytes, ...]
HeaderLie: TypeAlias = "Callable[[GetBlockHeaders, Raws], Raws | None]"

FEW = 10
"""Headers that a stingy peer sends at a time."""

OTHER_SEED = 0x0DD
"""Seed of the chain that nobody else follows."""

_BLOCKS_AT_ONCE = 1 << 14


def silent(request: GetBlockHeaders, raws: Raws) -> Raws | None:
    """Say nothing at all."""
    return None


def empty(request: GetBlockHeaders, raws: Raws) -> Raws:
    """Hold no headers."""
    return ()


def few(request: GetBlockHeaders, raws: Raws) -> Raws:
    """Not a lie: a server may send fewer than were asked for."""
    return raws[:FEW]


def gap(request: GetBlockHeaders, raws: Raws) -> Raws:
    """Leave one out."""
    return raws[: len(raws) // 2] + raws[len(raws) // 2 + 1 :] if len(raws) > 2 else raws


def upside_down(request: GetBlockHeaders, raws: Raws) -> Raws:
    """Send them in the opposite order."""
    return raws[::-1]


def too_many(request: GetBlockHeaders, raws: Raws) -> Raws:
    """Send the last one more often than was asked for."""
    return raws + raws[-1:] * max(1, request.limit - len(raws) + 1)


def changed(request: GetBlockHeaders, raws: Raws) -> Raws:
    """Change one bit in the bloom of one."""
    middle = len(raws) // 2
    if not raws:
        return raws
    raw = raws[middle]
    place = len(raw) // 2
    return (*raws[:middle], raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :], *raws[middle + 1 :])


def undecodable(request: GetBlockHeaders, raws: Raws) -> Raws:
    """Send something else than headers."""
    return tuple(b"\x83abc" for _ in raws)


def other_chain(request: GetBlockHeaders, raws: Raws) -> Raws:
    """Answer by number from a chain that holds together and that nobody else follows; by hash honestly."""
    if isinstance(request.origin, bytes) or not raws:
        return raws
    step = -(request.skip + 1) if request.reverse else request.skip + 1
    chain = _chain(-(-(request.origin + 1 + len(raws) * (request.skip + 1)) // _BLOCKS_AT_ONCE))
    return tuple(chain[request.origin + k * step] for k in range(len(raws)))


@lru_cache(maxsize=1)
def _chain(blocks: int) -> list[bytes]:
    return list(demo_headers(OTHER_SEED, blocks * _BLOCKS_AT_ONCE))
