"""Asking one peer for headers, bodies, receipts and access lists: one call, one value, nothing of it proven.

`ethsync.state.block_roots` proves what comes. Every call raises RequestTimeout, PeerGone, or MalformedMessage, also for
an answer with more than was asked for. An answer may hold less: a server ends it at what it does not have, or after
2 MiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.peers.receipt_pages import ReceiptPages
from ethsync.peers.track import RequestKind
from ethsync.wire import eth
from ethsync.wire.bodies import Body, decode_body
from ethsync.wire.headers import Header, decode_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.peers.peer import Peer
    from ethsync.wire.receipts import Receipt

MOST_ASKED = {
    RequestKind.HEADERS: eth.MAX_SERVED,
    RequestKind.BODIES: 128,
    RequestKind.RECEIPTS: 256,
    RequestKind.ACCESS_LISTS: 128,
}
"""Items of one request: as many as geth asks for (eth/downloader/downloader.go), all that it serves for headers."""


async def request_headers(
    peer: Peer, origin: bytes | int, limit: int, *, skip: int = 0, reverse: bool = False
) -> tuple[Header, ...]:
    """Headers from `origin` (hash of 32 bytes, or number) on, each decoded and hashed.

    Between two of them `skip` are left out; `reverse` leads towards the genesis.
    """
    _check_count(RequestKind.HEADERS, limit)
    payload = await peer.request(
        RequestKind.HEADERS, lambda request_id: eth.GetBlockHeaders(request_id, origin, limit, skip, reverse)
    )
    raw = eth.decode_block_headers(payload).headers
    _check_answer(len(raw), limit, "headers")
    return tuple(decode_header(item) for item in raw)


async def request_bodies(peer: Peer, hashes: Sequence[bytes]) -> tuple[Body, ...]:
    """Bodies of blocks by hash, in their order, up to the first that the peer does not have."""
    _check_count(RequestKind.BODIES, len(hashes))
    payload = await peer.request(RequestKind.BODIES, lambda request_id: eth.GetBlockBodies(request_id, tuple(hashes)))
    raw = eth.decode_block_bodies(payload).bodies
    _check_answer(len(raw), len(hashes), "bodies")
    return tuple(decode_body(item) for item in raw)


async def request_receipts(peer: Peer, headers: Sequence[Header]) -> tuple[tuple[Receipt, ...], ...]:
    """Receipts of blocks, in their order, up to the first that the peer does not have.

    From eth/70 on a block's list may come in several answers, which are asked for one after another.
    """
    _check_count(RequestKind.RECEIPTS, len(headers))
    pages = ReceiptPages(peer.eth_version, headers)
    while not pages.done:
        pages.take(await peer.request(RequestKind.RECEIPTS, pages.request))
    return tuple(pages.lists)


async def request_access_lists(peer: Peer, hashes: Sequence[bytes]) -> tuple[bytes | None, ...]:
    """RLP of the access lists of blocks by hash, in their order; None for each that the peer does not have (EIP-8159).

    Raises LocalProtocolError if the peer speaks less than eth/71.
    """
    _check_count(RequestKind.ACCESS_LISTS, len(hashes))
    if eth.EthMessage.GET_BLOCK_ACCESS_LISTS not in eth.VERSIONS[peer.eth_version].messages:
        raise LocalProtocolError(f"there are no block access lists in eth/{peer.eth_version}")
    payload = await peer.request(
        RequestKind.ACCESS_LISTS, lambda request_id: eth.GetBlockAccessLists(request_id, tuple(hashes))
    )
    raw = eth.decode_block_access_lists(payload).access_lists
    _check_answer(len(raw), len(hashes), "access lists")
    return tuple(None if item == eth.UNAVAILABLE else item for item in raw)


def _check_count(kind: RequestKind, count: int) -> None:
    if not 0 < count <= MOST_ASKED[kind]:
        raise LocalProtocolError(f"{count} {kind.value} in one request, not 1 to {MOST_ASKED[kind]}")


def _check_answer(found: int, wanted: int, what: str) -> None:
    if found > wanted:
        raise MalformedMessage(f"{found} {what} came, {wanted} were asked for")
