"""What a server holds of blocks: headers by number and hash, and bodies, receipts and access lists by hash.

A node that follows a chain without its history has headers alone; then everything else is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ethsync.store.headers import HeaderStore
from ethsync.wire import rlp
from ethsync.wire.eth import MAX_MESSAGE_SIZE, MAX_SERVED, SOFT_RESPONSE_LIMIT, UNAVAILABLE
from ethsync.wire.receipts import RECEIPT_ENCODINGS, Receipt, encode_block_receipts

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.state.view import StateView
    from ethsync.wire.eth import GetBlockHeaders
    from ethsync.wire.headers import Header

BlockReceipts: TypeAlias = Mapping[bytes, Sequence[Receipt]]
"""Receipts of blocks by block hash."""

LONGEST_PREFIX = 4
"""Bytes before the items of a list of up to 16 MiB."""

REPLY_LIMIT = MAX_MESSAGE_SIZE - 64
"""Bytes of receipts that a message of eth/70 holds: the rest is for the request id, the flag and two prefixes."""


class HeaderChain:
    """The headers held, of which there may be few: found by number and by hash. `store` has more of the same chain."""

    def __init__(self, headers: Sequence[Header], head: Header, store: HeaderStore | None = None) -> None:
        self.head = head
        self._store = store
        self._raws = {header.number: header.raw for header in (*headers, head)}
        self._numbers = {header.hash: header.number for header in (*headers, head)}

    def _raw(self, number: int) -> bytes | None:
        found = self._raws.get(number)
        return self._store.raw(number) if found is None and self._store is not None and number >= 0 else found

    def _number(self, origin: bytes | int) -> int | None:
        if isinstance(origin, int):
            return origin
        found = self._numbers.get(origin)
        return self._store.number_of(origin) if found is None and self._store is not None else found

    def select(self, request: GetBlockHeaders) -> list[bytes]:
        """Headers as asked for, up to the first that is not held; all are those of one chain."""
        number = self._number(request.origin)
        step = (request.skip + 1) * (-1 if request.reverse else 1)
        found: list[bytes] = []
        size = 0
        while number is not None and len(found) < min(request.limit, MAX_SERVED) and size < SOFT_RESPONSE_LIMIT:
            raw = self._raw(number)
            if raw is None:
                break
            found.append(raw)
            size += len(raw)
            number += step
        return found


def held_chain(view: StateView) -> HeaderChain:
    """The headers that the data directory of a state holds, with that of the state as the head.

    Those that hang on the trusted header are the store's, which has looked into each of them; others may stand alone.
    Raises DatadirDamaged.
    """
    store = HeaderStore(view.datadir.headers)
    return HeaderChain(list(view.headers(store.singles)), view.header, store)


@dataclass(frozen=True, slots=True)
class BlockData:
    """What is held of blocks besides headers, by block hash: bodies and access lists as their RLP."""

    bodies: Mapping[bytes, bytes] = field(default_factory=dict)
    receipts: BlockReceipts = field(default_factory=dict)
    access_lists: Mapping[bytes, bytes] = field(default_factory=dict)
    earliest: int | None = None
    """Number of the first block from which on there are bodies and receipts; None if there are none."""


def _served(hashes: Sequence[bytes], find: Callable[[bytes], bytes | None]) -> tuple[bytes, ...]:
    """Items in the order asked for, up to the first that is not held (geth eth/protocols/eth/handlers.go)."""
    found: list[bytes] = []
    size = 0
    for block_hash in hashes[:MAX_SERVED]:
        item = find(block_hash) if size < SOFT_RESPONSE_LIMIT else None
        if item is None:
            break
        found.append(item)
        size += len(item)
    return tuple(found)


def select_bodies(held: Mapping[bytes, bytes], hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    """Bodies in the order asked for, up to the first that is not held."""
    return _served(hashes, held.get)


def select_access_lists(held: Mapping[bytes, bytes], hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    """Access lists in the order asked for; one that is not held is marked, and those after it still come (EIP-8159)."""
    return _served(hashes, lambda block_hash: held.get(block_hash, UNAVAILABLE))


def select_receipts(held: BlockReceipts, version: int, hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    """Whole lists in the order asked for, in the form of eth/68 or eth/69, up to the first that is not held."""

    def find(block_hash: bytes) -> bytes | None:
        receipts = held.get(block_hash)
        return None if receipts is None else encode_block_receipts(version, receipts)

    return _served(hashes, find)


def select_partial_receipts(
    held: BlockReceipts, version: int, hashes: Sequence[bytes], first_index: int, limit: int = REPLY_LIMIT
) -> tuple[tuple[bytes, ...], bool]:
    """The same for eth/70 (EIP-7975): the first list begins at an index, the last one may end early.

    Returns the lists, and whether the last one lacks its end because the message would be longer than `limit` bytes.
    """
    found: list[bytes] = []
    size = 0
    for block_hash in hashes[:MAX_SERVED]:
        receipts = held.get(block_hash)
        if receipts is None or size >= SOFT_RESPONSE_LIMIT:
            break
        items = [RECEIPT_ENCODINGS[version].encode(receipt) for receipt in receipts[first_index:]]
        first_index = 0
        fitting = _fitting(items, limit - size)
        if items and not fitting:
            break
        found.append(rlp.encode_list(items[:fitting]))
        size += len(found[-1])
        if fitting < len(items):
            return tuple(found), True
    return tuple(found), False


def _fitting(items: Sequence[bytes], room: int) -> int:
    """How many items from the first on make a list of at most `room` bytes."""
    size = LONGEST_PREFIX
    for count, item in enumerate(items):
        size += len(item)
        if size > room:
            return count
    return len(items)
