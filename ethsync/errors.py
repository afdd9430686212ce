"""The one error tree of ethsync.

Three questions decide where an error belongs: is it the user's input (`ConfigError`), somebody else's fault
(`PeerError`), or the ground we stand on (`StoreError`, `SyncError`)? Anything outside this tree is a bug of ours and
may crash the program. Every message says what happened and to which file or peer; `hint` says what to do about it.
"""

from __future__ import annotations

from enum import IntEnum


class EthsyncError(Exception):
    """Root of the tree. `hint` is one sentence telling a person what to do next, or empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(EthsyncError):
    """The command line, a network file or a combination of options cannot work."""


class LocalProtocolError(EthsyncError):
    """We were about to break a protocol ourselves: a bug in ethsync, never a peer's fault."""


class DisconnectReason(IntEnum):
    """Reasons of the devp2p `Disconnect` message (devp2p rlpx.md, "Disconnect (0x01)")."""

    REQUESTED = 0x00
    TCP_ERROR = 0x01
    BREACH_OF_PROTOCOL = 0x02
    USELESS_PEER = 0x03
    TOO_MANY_PEERS = 0x04
    ALREADY_CONNECTED = 0x05
    INCOMPATIBLE_VERSION = 0x06
    NULL_IDENTITY = 0x07
    CLIENT_QUITTING = 0x08
    UNEXPECTED_IDENTITY = 0x09
    CONNECTED_TO_SELF = 0x0A
    PING_TIMEOUT = 0x0B
    SUBPROTOCOL = 0x10


class PeerError(EthsyncError):
    """Something a remote node did or failed to do. `reason` is what we tell it when we hang up."""

    reason: DisconnectReason = DisconnectReason.BREACH_OF_PROTOCOL


class MalformedMessage(PeerError):
    """Bytes that do not decode as the message they claim to be."""


class HandshakeFailed(PeerError):
    """The encrypted handshake, Hello or Status did not come to an agreement."""

    def __init__(
        self, message: str, *, hint: str = "", reason: DisconnectReason = DisconnectReason.BREACH_OF_PROTOCOL
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class UselessPeer(HandshakeFailed):
    """An honest node that cannot help us: other network, other fork, no common capability."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, reason=DisconnectReason.USELESS_PEER)


class OtherChain(UselessPeer):
    """It follows another network, genesis block or fork."""


class NoSlot(HandshakeFailed):
    """We have no room for it, or need its slot for another one: nobody's fault."""

    def __init__(
        self, message: str, *, hint: str = "", reason: DisconnectReason = DisconnectReason.TOO_MANY_PEERS
    ) -> None:
        super().__init__(message, hint=hint, reason=reason)


class Disproved(PeerError):
    """Data that contradicts the hash it was asked for by: a lie, not an accident."""


class CutShort(Disproved):
    """Leaves are missing where the trie has some. A lie, if it is a habit.

    An honest geth does it once in a while: its iterator over accounts or slots fails when a block is imported in the
    middle of an answer, and it sends what it has so far, as if that were all (eth/protocols/snap/handlers.go).
    """


class RequestTimeout(PeerError):
    """A request got no answer in its time. The peer stays connected."""

    reason = DisconnectReason.PING_TIMEOUT


class LookupFailed(PeerError):
    """A name could not be looked up: there is no such name, or no server gave an answer."""


class PeerGone(PeerError):
    """The connection ended. `remote_reason` is what the peer gave as its reason, if it did."""

    reason = DisconnectReason.TCP_ERROR

    def __init__(self, message: str, *, hint: str = "", remote_reason: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.remote_reason = remote_reason


class Unreachable(PeerGone):
    """There was no connection at all: nobody listens, or nothing comes through."""


class StoreError(EthsyncError):
    """The data directory cannot be used as it is. Nothing is ever deleted because of one of these."""


class DatadirBusy(StoreError):
    """Another process holds the data directory."""


class DatadirDamaged(StoreError):
    """Bytes on disk are not what was written."""


class DatadirMismatch(StoreError):
    """The data directory belongs to another network, another block, or a newer format."""


class DiskFull(StoreError):
    """Too little free space to go on."""


class SyncError(EthsyncError):
    """The sync cannot go on, although everything kept so far is safe."""


class StateUnavailable(SyncError):
    """No peer serves the wanted state root any more."""


class VerificationFailed(SyncError):
    """A recomputed root or hash differs from what it must be."""


class NotHeld(EthsyncError):
    """The data directory does not hold what was asked for (which is not the same as: it does not exist)."""
