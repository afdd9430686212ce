"""The Kademlia table of a node: whom it knows, by distance (Maymounkov and Mazières 2002; go-ethereum p2p/discover).

256 buckets of at most 16 nodes, each with up to 10 replacements. Only nodes that answered us are given to others. Nodes
of one subnet can take no more than their share, so that an attacker needs many networks and not only many keys.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ethsync.discovery.addresses import is_lan, is_loopback, subnet
from ethsync.discovery.node import distance

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from ethsync.discovery.addresses import Subnet
    from ethsync.discovery.node import Node

BUCKET_SIZE = 16
MOST_REPLACEMENTS = 10
SUBNET_PER_BUCKET = 2
SUBNET_PER_TABLE = 10
"""All four as in go-ethereum (p2p/discover/table.go: bucketSize, maxReplacements, bucketIPLimit, tableIPLimit)."""

FIRST_CHECK = 1.0
FAST_CHECK = 10.0
"""Seconds until a node that failed, or was confirmed once only, is asked again."""
SLOW_CHECK = 600.0
"""Seconds between two checks of a node that keeps answering; go-ethereum takes 30 s times a factor for all of them
together, one after another, which with 200 nodes comes to much the same."""
MOST_CREDIT = 9
"""Answers that count: a node that always answered survives two silences (`CREDIT_LOSS`)."""
CREDIT_LOSS = 3  # as go-ethereum (p2p/discover/table_reval.go): a silence costs two thirds
MOST_SILENCES = 3
"""Silences in a row after which a node goes even if nobody waits for its place. UDP loses packets: where one in five
is lost, a third of all questions stay unanswered, and a small table would run empty."""


@dataclass(slots=True, eq=False)
class Entry:
    """A node in the table. `credit` grows with answers; a node without credit has not answered yet."""

    node: Node
    credit: int = 0
    silences: int = 0
    """In a row."""
    check_at: float = 0.0

    @property
    def confirmed(self) -> bool:
        """Whether it has answered us at this address."""
        return self.credit > 0


@dataclass(slots=True, eq=False)
class _Bucket:
    entries: list[Entry] = field(default_factory=list)
    replacements: list[Node] = field(default_factory=list)
    subnets: Counter[Subnet] = field(default_factory=Counter)
    """Entries per subnet."""


class Table:
    """A `NodeSource`. `limit_private`: count private and loopback addresses by subnet as well; tests do."""

    def __init__(self, local_id: bytes, rng: random.Random, *, limit_private: bool = False) -> None:
        self.local_id = local_id
        self._rng = rng
        self._limit_private = limit_private
        self._buckets: dict[int, _Bucket] = {}
        self._entries: dict[bytes, Entry] = {}
        self._subnets: Counter[Subnet] = Counter()
        self._checks: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, node_id: bytes) -> bool:
        return node_id in self._entries

    @property
    def confirmed(self) -> int:
        """Nodes that answered."""
        return sum(entry.confirmed for entry in self._entries.values())

    def get(self, node_id: bytes) -> Node | None:
        """The node with this id, or None."""
        entry = self._entries.get(node_id)
        return None if entry is None else entry.node

    def see(self, node: Node, now: float) -> None:
        """A node was heard of. It enters if there is room, else it may replace a node that fails later."""
        if node.node_id == self.local_id:
            return
        entry = self._entries.get(node.node_id)
        if entry is not None:
            self._renew(entry, node, now)
            return
        bucket = self._buckets.setdefault(distance(self.local_id, node.node_id), _Bucket())
        if len(bucket.entries) < BUCKET_SIZE and self._has_room(bucket, node):
            self._insert(bucket, Entry(node), now + FIRST_CHECK * self._rng.random())
        elif self._has_room(bucket, node):
            self._replace_later(bucket, node)

    def confirm(self, node: Node, now: float) -> None:
        """A node answered us at its address."""
        self.see(node, now)
        entry = self._entries.get(node.node_id)
        if entry is None or entry.node.endpoint != node.endpoint:
            return
        entry.credit, entry.silences = min(entry.credit + 1, MOST_CREDIT), 0
        entries = self._bucket_of(node.node_id).entries
        entries.remove(entry)
        entries.insert(0, entry)
        wait = SLOW_CHECK if entry.credit > 1 else FAST_CHECK
        self._check_at(entry, now + wait * self._rng.uniform(0.8, 1.2))

    def fail(self, node_id: bytes, now: float) -> None:
        """A node did not answer. Without credit it goes as soon as another one waits for its place, or in the end."""
        entry = self._entries.get(node_id)
        if entry is None:
            return
        entry.credit //= CREDIT_LOSS
        entry.silences += 1
        bucket = self._bucket_of(node_id)
        if entry.credit or (entry.silences < MOST_SILENCES and not bucket.replacements):
            self._check_at(entry, now + FAST_CHECK * self._rng.uniform(0.8, 1.2))
            return
        self._remove(bucket, entry)
        while bucket.replacements:
            node = bucket.replacements.pop(self._rng.randrange(len(bucket.replacements)))
            if self._has_room(bucket, node):
                self._insert(bucket, Entry(node), now + FIRST_CHECK * self._rng.random())
                return

    def closest(self, target: bytes, count: int, *, confirmed: bool = True) -> list[Node]:
        """The known nodes nearest to a node id, nearest first, without a look at the others.

        Of the buckets, the target's own holds what is nearest to it; all nearer to us than that are equally far from
        it in logarithmic distance; those beyond follow one by one.
        """
        own = distance(self.local_id, target)
        wanted = int.from_bytes(target, "big")
        found: list[Node] = []
        for group in ([own], range(1, own), *([each] for each in range(own + 1, 257))):
            if len(found) >= count:
                break
            members = self._members(group, confirmed=confirmed)
            found += sorted(members, key=lambda node: int.from_bytes(node.node_id, "big") ^ wanted)
        return found[:count]

    def at_distances(self, distances: list[int], count: int) -> list[Node]:
        """Up to `count` nodes that answered us, at these distances from us."""
        found = self._members(distances, confirmed=True)
        return found if len(found) <= count else self._rng.sample(found, count)

    def due(self, now: float) -> Node | None:
        """A node whose turn to be checked has come. It counts as being checked until `confirm` or `fail`."""
        if self.next_due > now:
            return None
        _, node_id = heapq.heappop(self._checks)
        entry = self._entries[node_id]
        entry.check_at = float("inf")
        return entry.node

    @property
    def next_due(self) -> float:
        """When the next check is due; infinity if none is."""
        while self._checks:
            at, node_id = self._checks[0]
            entry = self._entries.get(node_id)
            if entry is not None and entry.check_at == at:
                return at
            heapq.heappop(self._checks)
        return float("inf")

    def share_of(self, where: Subnet) -> int:
        """Entries of one subnet."""
        return self._subnets[where]

    def _members(self, distances: Iterable[int], *, confirmed: bool) -> list[Node]:
        buckets = (self._buckets.get(each) for each in distances)
        return [
            entry.node
            for bucket in buckets
            if bucket is not None
            for entry in bucket.entries
            if entry.confirmed or not confirmed
        ]

    def _bucket_of(self, node_id: bytes) -> _Bucket:
        return self._buckets[distance(self.local_id, node_id)]

    def _counts(self, node: Node) -> bool:
        ip = node.endpoint.ip
        return self._limit_private or not (is_loopback(ip) or is_lan(ip))

    def _has_room(self, bucket: _Bucket, node: Node) -> bool:
        where = subnet(node.endpoint.ip)
        return not self._counts(node) or (
            bucket.subnets[where] < SUBNET_PER_BUCKET and self._subnets[where] < SUBNET_PER_TABLE
        )

    def _insert(self, bucket: _Bucket, entry: Entry, check_at: float) -> None:
        self._entries[entry.node.node_id] = entry
        bucket.entries.append(entry)
        self._count(bucket, entry.node, 1)
        self._check_at(entry, check_at)

    def _remove(self, bucket: _Bucket, entry: Entry) -> None:
        del self._entries[entry.node.node_id]
        bucket.entries.remove(entry)
        self._count(bucket, entry.node, -1)

    def _count(self, bucket: _Bucket, node: Node, change: int) -> None:
        if not self._counts(node):
            return
        where = subnet(node.endpoint.ip)
        for counter in (bucket.subnets, self._subnets):
            counter[where] += change
            if not counter[where]:
                del counter[where]

    def _replace_later(self, bucket: _Bucket, node: Node) -> None:
        known = [each for each in bucket.replacements if each.node_id != node.node_id]
        bucket.replacements = [*known, node][-MOST_REPLACEMENTS:]

    def _renew(self, entry: Entry, node: Node, now: float) -> None:
        """Take a newer record of a node that is known; at another address it has to answer again."""
        old, new = entry.node.record, node.record
        if new is None or (old is not None and new.seq <= old.seq):
            return
        if node.endpoint == entry.node.endpoint:
            entry.node = node
            return
        bucket = self._bucket_of(node.node_id)
        self._remove(bucket, entry)
        if self._has_room(bucket, node):
            self._insert(bucket, Entry(node), now)

    def _check_at(self, entry: Entry, at: float) -> None:
        entry.check_at = at
        heapq.heappush(self._checks, (at, entry.node.node_id))
