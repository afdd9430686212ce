"""A connection from the greeting to its end: a slot in the pool, the peer's work, and what it was good for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.discovery.candidate import Reason, Usefulness
from ethsync.errors import Disproved, NoSlot, PeerError
from ethsync.peers.peer import run_peer
from ethsync.peers.standing import standing

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from ethsync.discovery.candidates import Candidates
    from ethsync.peers.peer import Peer
    from ethsync.peers.pool import PeerPool
    from ethsync.peers.standing import Standing


async def be_peer(
    pool: PeerPool,
    candidates: Candidates,
    greeting: AbstractAsyncContextManager[Peer],
    greeted: Callable[[], None],
) -> None:
    """Greet a node, whoever dialled, and be its peer until the connection has ended.

    `greeted` is called in between. The dial pool is told of those that became peers, and in the end what they were good
    for. Raises what ended it: a PeerError, at once NoSlot if there is no slot for it.
    """
    peer: Peer | None = None
    before: Standing | None = None
    end: PeerError | None = None
    try:
        async with greeting as peer:
            greeted()
            with pool.connected(peer):
                now = trio.current_time()
                before = standing(peer.record, now)
                candidates.connected(peer.enode.public_key, peer.client, now)
                await run_peer(peer)
    except PeerError as error:
        end = error
        raise
    finally:
        if peer is not None and before is not None:
            now = trio.current_time()
            candidates.ended(peer.enode.public_key, usefulness(peer, before, end, now), now)


def usefulness(peer: Peer, before: Standing, end: PeerError | None, now: float) -> Usefulness:
    """What a connection was good for, of which `before` was the beginning. `end` is None if all of us ends.

    Answers about the chain alone do not make a peer useful: any node has those.
    """
    after = standing(peer.record, now)
    served = after.served - before.served
    return Usefulness(
        asked=after.asked - before.asked,
        served_bytes=peer.connection.bytes_received if served else 0,
        score=after.score,
        reason=Reason.LIED if isinstance(end, Disproved) else None,
        we_left=end is None or isinstance(end, NoSlot),
    )
