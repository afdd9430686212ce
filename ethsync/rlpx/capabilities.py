"""Which protocols two nodes share, and where each one's message ids begin (devp2p rlpx.md, "Capability Messaging")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.errors import LocalProtocolError, MalformedMessage, UselessPeer
from ethsync.wire import eth, eth7542, p2p, snap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ethsync.wire.p2p import Capability

LENGTHS: Mapping[str, Mapping[int, int]] = {
    eth.NAME: eth.LENGTHS,
    eth7542.NAME: eth7542.LENGTHS,
    snap.NAME: {snap.VERSION: snap.LENGTH},
}
"""Message ids that a capability occupies, by name and version. A wrong one silently breaks those that follow."""


@dataclass(frozen=True, slots=True)
class SharedCapability:
    """A protocol both sides speak: the absolute ids `offset` to `offset + length - 1` belong to it."""

    name: str
    version: int
    offset: int
    length: int


def negotiate(ours: Iterable[Capability], theirs: Iterable[Capability]) -> dict[str, SharedCapability]:
    """Return the shared capabilities by name: the highest common version of each, in alphabetical order.

    Raises `UselessPeer` if there are none, or if snap is shared without eth (as geth does).
    """
    versions = {each.name: each.version for each in sorted(set(ours) & set(theirs))}  # the highest one comes last
    if not versions:
        raise UselessPeer("the peer speaks no protocol that we speak")
    if snap.NAME in versions and eth.NAME not in versions:
        raise UselessPeer("the peer shares snap with us, but no version of eth")
    shared: dict[str, SharedCapability] = {}
    offset = p2p.LENGTH
    for name, version in versions.items():
        length = _length(name, version)
        shared[name] = SharedCapability(name, version, offset, length)
        offset += length
    return shared


def _length(name: str, version: int) -> int:
    try:
        return LENGTHS[name][version]
    except KeyError:
        raise LocalProtocolError(f"we announce {name}/{version} without knowing how many messages it has") from None


def split_message_id(shared: Mapping[str, SharedCapability], message_id: int) -> tuple[str, int]:
    """Return (capability name, code within it) of an absolute id from 0x10 on. Raises `MalformedMessage`."""
    for each in shared.values():
        if each.offset <= message_id < each.offset + each.length:
            return each.name, message_id - each.offset
    raise MalformedMessage(f"message id 0x{message_id:02x} belongs to no shared protocol")
