"""What an error says of the node that was dialled: the reason by which the dial pool decides when to try it again."""

from __future__ import annotations

from ethsync.discovery.candidate import Reason
from ethsync.errors import (
    DisconnectReason,
    Disproved,
    HandshakeFailed,
    MalformedMessage,
    OtherChain,
    PeerError,
    PeerGone,
    Unreachable,
    UselessPeer,
)

_TOLD = {
    DisconnectReason.TOO_MANY_PEERS: Reason.TOO_MANY_PEERS,
    DisconnectReason.USELESS_PEER: Reason.UNWANTED,
    DisconnectReason.INCOMPATIBLE_VERSION: Reason.UNWANTED,
    DisconnectReason.SUBPROTOCOL: Reason.UNWANTED,
}
"""What nodes tell us when they hang up, as far as it matters for the next dial (devp2p rlpx.md; geth sends SUBPROTOCOL
for a Status that it does not like, p2p/peer_error.go)."""

_MEANING: tuple[tuple[type[PeerError], Reason], ...] = (
    (Disproved, Reason.LIED),
    (OtherChain, Reason.OTHER_CHAIN),
    (UselessPeer, Reason.NO_SNAP),
    (HandshakeFailed, Reason.HANDSHAKE),
    (MalformedMessage, Reason.HANDSHAKE),
    (Unreachable, Reason.UNREACHABLE),
)
"""The first that fits."""


def reason_of(error: PeerError) -> Reason:
    """Why a dial or a connection ended with this error."""
    if isinstance(error, PeerGone) and error.remote_reason in _TOLD:
        return _TOLD[DisconnectReason(error.remote_reason)]
    return next((reason for kind, reason in _MEANING if isinstance(error, kind)), Reason.HUNG_UP)
