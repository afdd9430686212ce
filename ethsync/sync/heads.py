"""The trusted block: its header, fetched from peers and checked against the hash that the user trusts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.errors import ConfigError, Disproved, MalformedMessage, PeerGone, RequestTimeout, StateUnavailable
from ethsync.peers.track import Outcome, RequestKind
from ethsync.sync.patience import Patience
from ethsync.sync.shortage import HEADER, shortage
from ethsync.wire.eth import GetBlockHeaders, decode_block_headers
from ethsync.wire.headers import Header, decode_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.peers.changes import Changes
    from ethsync.peers.peer import Peer
    from ethsync.peers.pool import PeerPool

FORM = "hash:0x followed by 64 hexadecimal digits"


def parse_head(text: str) -> bytes:
    """Read `hash:0x…`. Raises ConfigError."""
    scheme, _, digits = text.partition(":")
    digits = digits.removeprefix("0x")
    try:
        block_hash = bytes.fromhex(digits)
    except ValueError:
        block_hash = b""
    if scheme != "hash" or len(block_hash) != 32:
        raise ConfigError(f"'{text}' does not name a block to trust", hint=f"write {FORM}")
    return block_hash


def check_header(block_hash: bytes, payload: bytes) -> Header | None:
    """Read the reply to a request for one header; None if the peer does not have it.

    Raises Disproved if it is another header, MalformedMessage.
    """
    headers = decode_block_headers(payload).headers
    if not headers:
        return None
    header = decode_header(headers[0])
    if header.hash != block_hash:
        raise Disproved(f"the header of 0x{header.hash.hex()} came instead of that of 0x{block_hash.hex()}")
    return header


async def fetch_header(pool: PeerPool, changes: Changes, block_hash: bytes, patience: float) -> Header:
    """Ask every peer at once, newcomers too, until one has the header. Raises StateUnavailable after `patience` s.

    One after another would not do: each silent peer takes its whole timeout. While nobody is connected, and peers are
    looked for, patience does not run.
    """
    found: list[Header] = []
    asked: set[int] = set()
    left = Patience(patience, trio.current_time())
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def ask(peer: Peer) -> None:
                header = await _ask(pool, peer, block_hash)
                asked.discard(peer.number)
                if header is not None:
                    found.append(header)
                    nursery.cancel_scope.cancel()
                changes.ring()

            while True:
                changed = changes.next()
                scope.deadline = left.look(trio.current_time(), excused=pool.awaits_peers)
                for peer in list(pool.peers.values()):
                    if peer.number not in asked and _may_be_asked(peer):
                        asked.add(peer.number)
                        nursery.start_soon(ask, peer)
                with trio.move_on_at(pool.next_pause_end(trio.current_time())):
                    await changed.wait()
    if found:
        return found[0]
    lack = shortage(pool, trio.current_time(), HEADER)
    if not pool.peers and not pool.dropped:
        raise StateUnavailable(f"no peer could be reached within {patience:.0f} s: {lack.why}", hint=lack.advice)
    raise StateUnavailable(
        f"no peer sent the header of block 0x{block_hash.hex()}: {lack.why}",
        hint=lack.advice if pool.dropped else "choose a block of this network, at most 128 blocks old",
    )


def _may_be_asked(peer: Peer) -> bool:
    return peer.record.tracks[RequestKind.HEADERS].paused_until <= trio.current_time()


async def _ask(pool: PeerPool, peer: Peer, block_hash: bytes) -> Header | None:
    kind = RequestKind.HEADERS
    make: Callable[[int], GetBlockHeaders] = lambda request_id: GetBlockHeaders(request_id, block_hash, 1)  # noqa: E731
    try:
        header = check_header(block_hash, await peer.request(kind, make))
    except RequestTimeout:
        pool.note(peer, kind, Outcome.TIMEOUT)
    except PeerGone:
        pool.note(peer, kind, Outcome.DISCONNECTED)
    except MalformedMessage as error:
        pool.note(peer, kind, Outcome.MALFORMED, str(error))
    except Disproved as error:
        pool.note(peer, kind, Outcome.DISPROVED)
        pool.drop(peer, error)
    else:
        pool.note(peer, kind, Outcome.SERVED if header else Outcome.EMPTY)
        return header
    return None
