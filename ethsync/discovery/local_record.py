"""Our own node record: signed anew whenever what it says of us changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from ethsync.wire import rlp
from ethsync.wire.enr import address_pairs, sign_record

if TYPE_CHECKING:
    import coincurve

    from ethsync.discovery.node import Endpoint
    from ethsync.wire.enr import NodeRecord
    from ethsync.wire.forkid import ForkId

MILLISECONDS = 1000
"""A first sequence number is the time in milliseconds, as geth's (p2p/enode/nodedb.go, localSeq)."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a record says of us. Ports are 0 where there are none; `serves_snap` sets geth's `snap` entry."""

    ip: IPv4Address | None = None
    ip6: IPv6Address | None = None
    tcp: int = 0
    udp: int = 0
    tcp6: int = 0
    udp6: int = 0
    fork_id: ForkId | None = None
    serves_snap: bool = False

    def at(self, endpoint: Endpoint) -> Announcement:
        """The same with another UDP address, of the IP version that `endpoint` has."""
        if isinstance(endpoint.ip, IPv4Address):
            return replace(self, ip=endpoint.ip, udp=endpoint.port)
        return replace(self, ip6=endpoint.ip, udp6=endpoint.port)

    def pairs(self) -> dict[bytes, bytes]:
        """Keys and values (in RLP) of the record. A port that both IP versions share stands there once (enr.md)."""
        has_ip6 = self.ip6 is not None
        pairs = address_pairs(
            self.ip,
            self.ip6,
            tcp=self.tcp,
            udp=self.udp,
            tcp6=self.tcp6 if has_ip6 and self.tcp6 != self.tcp else 0,
            udp6=self.udp6 if has_ip6 and self.udp6 != self.udp else 0,
        )
        if self.fork_id is not None:
            pairs[b"eth"] = rlp.encode_list([self.fork_id.encode()])  # [[hash, next]], devp2p enr-entries/eth.md
        if self.serves_snap:
            pairs[b"snap"] = rlp.encode_list([])  # geth, eth/protocols/snap/discovery.go
        return pairs


class LocalRecord:
    """Our record. Its sequence number rises with every change and, from one start to the next, never goes back.

    `last` is the record that was signed last, if it is known: one that says the same is kept, so that nobody fetches it
    for nothing; otherwise the number goes on from it. Without it the number is the time `now` (seconds since 1970) in
    milliseconds, which is ahead of all earlier ones, since a record changes less than a thousand times per second.
    """

    def __init__(
        self, key: coincurve.PrivateKey, announcement: Announcement, last: NodeRecord | None, now: float
    ) -> None:
        self._key = key
        self.announcement = announcement
        self.record: NodeRecord = (
            sign_record(key, int(now * MILLISECONDS), announcement.pairs())
            if last is None
            else self._following(last, announcement)
        )

    def update(self, announcement: Announcement) -> bool:
        """Announce something else; whether the record had to change."""
        before = self.record
        self.record = self._following(before, announcement)
        self.announcement = announcement
        return self.record is not before

    def _following(self, last: NodeRecord, announcement: Announcement) -> NodeRecord:
        following = sign_record(self._key, last.seq + 1, announcement.pairs())
        return last if following.pairs == last.pairs else following
