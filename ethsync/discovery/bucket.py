"""One bucket of a node table: the nodes at one logarithmic distance, who waits to replace them, and their subnets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ethsync.discovery.addresses import is_lan, is_loopback, subnet

if TYPE_CHECKING:
    from ethsync.discovery.addresses import Subnet
    from ethsync.discovery.node import Node
    from ethsync.wire.enr import IPAddress

BUCKET_SIZE = 16
MOST_REPLACEMENTS = 10
SUBNET_PER_BUCKET = 2
SUBNET_PER_TABLE = 10
"""All four as in go-ethereum (p2p/discover/table.go: bucketSize, maxReplacements, bucketIPLimit, tableIPLimit)."""


@dataclass(slots=True, eq=False)
class Entry:
    """A node in the table. `credit` grows with answers; a node without credit has not answered at its address yet."""

    node: Node
    credit: int = 0
    silences: int = 0
    """In a row."""
    check_at: float = float("inf")

    @property
    def confirmed(self) -> bool:
        """Whether it has answered us at this address."""
        return self.credit > 0


class Shares:
    """How many nodes of each subnet there are, and that they are no more than `most`.

    Private and loopback addresses have no share unless `limit_private`: on a network of one's own all nodes are
    neighbours.
    """

    __slots__ = ("_limit_private", "_most", "_nodes")

    def __init__(self, most: int, *, limit_private: bool) -> None:
        self._most = most
        self._limit_private = limit_private
        self._nodes: Counter[Subnet] = Counter()

    def __getitem__(self, where: Subnet) -> int:
        return self._nodes[where]

    def has_room(self, ip: IPAddress) -> bool:
        """Whether one more node may have this address."""
        return self._nodes[subnet(ip)] < self._most or not self._limits(ip)

    def add(self, ip: IPAddress) -> None:
        """A node has this address."""
        if self._limits(ip):
            self._nodes[subnet(ip)] += 1

    def remove(self, ip: IPAddress) -> None:
        """A node has this address no longer."""
        if self._limits(ip):
            where = subnet(ip)
            self._nodes[where] -= 1
            if not self._nodes[where]:
                del self._nodes[where]

    def _limits(self, ip: IPAddress) -> bool:
        return self._limit_private or not (is_loopback(ip) or is_lan(ip))


@dataclass(slots=True, eq=False)
class Bucket:
    """Up to 16 entries, the one that answered last in front, and up to 10 replacements, the oldest first.

    Replacements have their part in the shares as well: otherwise one subnet could push out all others there.
    """

    shares: Shares
    entries: list[Entry] = field(default_factory=list)
    replacements: list[Entry] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether newcomers can be replacements only."""
        return len(self.entries) >= BUCKET_SIZE

    def replacement(self, node_id: bytes) -> Entry | None:
        """The replacement with this id."""
        return next((entry for entry in self.replacements if entry.node.node_id == node_id), None)

    def least(self) -> Entry | None:
        """The entry that has waited longest without ever answering; None if all have answered."""
        return next((entry for entry in self.entries if not entry.confirmed), None)

    def spare(self, *, for_confirmed: bool) -> Entry | None:
        """The replacement that a new one pushes out: the oldest that never answered. What has answered yields only to
        what has answered too, so that hearsay cannot displace it."""
        unproven = next((entry for entry in self.replacements if not entry.confirmed), None)
        return unproven or (self.replacements[0] if for_confirmed else None)

    def unproven_of(self, where: Subnet) -> Entry | None:
        """A node of this subnet that never answered, replacements first."""
        both = (*self.replacements, *self.entries)
        return next((entry for entry in both if not entry.confirmed and subnet(entry.node.endpoint.ip) == where), None)
