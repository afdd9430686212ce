"""The chain of headers below a synthetic state: back to the genesis, deterministic in its seed."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.serve.demo import BASE_FEE, GAS_LIMIT, GENESIS_TIME, SLOT_SECONDS, demo_network, head_header
from ethsync.store.header_pages import PAGE, build_page
from ethsync.store.headers import Change, HeaderStore, Link
from ethsync.wire import rlp
from ethsync.wire.headers import EMPTY_OMMERS_HASH, decode_header
from ethsync.wire.receipts import BLOOM_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ethsync.store.leveldb import Database
    from ethsync.wire.headers import Header


def demo_headers(seed: int, count: int) -> Iterator[bytes]:
    """The genesis and the `count` - 1 headers after it, each with the hash of the one before.

    Blooms and roots are random, so that they compress as little as those of mainnet. 100,000 take two seconds.
    """
    rng = Random(seed)
    raw = demo_network().genesis_header_raw or b""
    for number in range(1, count + 1):
        yield raw
        raw = _header(keccak256(raw), number, rng)


def _header(parent: bytes, number: int, rng: Random) -> bytes:
    """One Cancun header, put together by hand: `build_header` takes ten times as long."""
    payload = b"".join(
        (
            b"\xa0", parent, b"\xa0", EMPTY_OMMERS_HASH, b"\x94", bytes(20),
            b"\xa0", rng.randbytes(32), b"\xa0", EMPTY_TRIE_ROOT, b"\xa0", EMPTY_TRIE_ROOT,
            b"\xb9\x01\x00", rng.randbytes(BLOOM_SIZE), b"\x80",
            rlp.encode_int(number), rlp.encode_int(GAS_LIMIT), b"\x80",
            rlp.encode_int(GENESIS_TIME + SLOT_SECONDS * number), b"\x80",
            b"\xa0", rng.randbytes(32), b"\x88", bytes(8), rlp.encode_int(BASE_FEE),
            b"\xa0", EMPTY_TRIE_ROOT, b"\x80\x80", b"\xa0", rng.randbytes(32),
        )
    )  # fmt: skip
    return rlp.list_prefix(len(payload)) + payload


def write_demo_chain(database: Database, state_root: bytes, seed: int, number: int) -> Header:
    """Write the chain up to a head with this number and state root; return the head."""

    def headers() -> Iterator[bytes]:
        raw = b""
        for raw in demo_headers(seed, number):
            yield raw
        yield head_header(state_root, seed, number, keccak256(raw)).raw

    return decode_header(write_chain(database, headers()))


def write_chain(database: Database, raws: Iterable[bytes]) -> bytes:
    """Write whole headers in ascending order from the genesis on, and trust the last one; return it."""
    store = HeaderStore(database)
    waiting: list[bytes] = []
    last, count = b"", 0
    for last in raws:
        waiting.append(last)
        count += 1
        if len(waiting) == PAGE:
            _commit(database, store.put_page(*build_page(waiting)))
            waiting = []
    alone = enumerate(waiting, count - len(waiting))
    change = store.put_singles((number, raw, keccak256(raw)) for number, raw in alone)
    change.puts += store.set_top(Link(count - 1, keccak256(last))).puts
    _commit(database, change)
    return last


def _commit(database: Database, change: Change) -> None:
    batch = database.batch()
    for key, value in change.puts:
        batch.put(key, value)
    database.commit(batch)
