"""The Kademlia table of a node: whom it knows, by distance (Maymounkov and Mazières 2002; go-ethereum p2p/discover).

256 buckets of at most 16 nodes, each with up to 10 replacements. Only nodes that answered us are given to others. Nodes
of one subnet can take no more than their share, so that an attacker needs many networks and not only many keys.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING

from ethsync.discovery.addresses import is_usable, subnet
from ethsync.discovery.bucket import MOST_REPLACEMENTS, SUBNET_PER_BUCKET, SUBNET_PER_TABLE, Bucket, Entry, Shares
from ethsync.discovery.node import distance

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from ethsync.discovery.addresses import Subnet
    from ethsync.discovery.node import Endpoint, Node

FIRST_CHECK = 1.0
"""Seconds within which a node is asked for the first time; when, is drawn by lot."""
FAST_CHECK = 10.0
"""Seconds until a node that failed, or was confirmed once only, is asked again."""
SLOW_CHECK = 600.0
"""Seconds between two checks of a node that keeps answering. go-ethereum checks one node of all every 4.5 s on average
(p2p/discover/table_reval.go), which with 200 nodes comes to much the same."""
MOST_CREDIT = 9
"""Answers that count: a node that always answered survives two silences (`CREDIT_LOSS`)."""
CREDIT_LOSS = 3  # a silence costs two thirds (go-ethereum p2p/discover/table_reval.go, handleResponse)
MOST_SILENCES = 3
"""Silences in a row after which a node goes even if nobody waits for its place. UDP loses packets: where one in five
is lost, a third of all questions stay unanswered, and a small table would run empty."""
STALE_CHECKS = 4
"""Planned checks per node, counting those that were put off since, from which on the plan is made anew: its bound."""


class Table:
    """A `NodeSource`. `limit_private`: private and loopback addresses are limited by subnet as well."""

    def __init__(self, local_id: bytes, rng: random.Random, *, limit_private: bool = False) -> None:
        self.local_id = local_id
        self.examined = 0
        """Entries looked at to answer questions (`closest`, `at_distances`)."""
        self._local = int.from_bytes(local_id, "big")
        self._rng = rng
        self._limit_private = limit_private
        self._buckets: dict[int, Bucket] = {}
        self._occupied = 0
        """Bit d - 1 is set if there are entries at distance d."""
        self._entries: dict[bytes, Entry] = {}
        self._shares = Shares(SUBNET_PER_TABLE, limit_private=limit_private)
        self._checks: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, node_id: bytes) -> bool:
        return node_id in self._entries

    @property
    def confirmed(self) -> int:
        """Nodes that answered."""
        return sum(entry.confirmed for entry in self._entries.values())

    @property
    def replacements(self) -> int:
        """Nodes that wait for a place."""
        return sum(len(bucket.replacements) for bucket in self._buckets.values())

    def share_of(self, where: Subnet) -> int:
        """Entries and replacements of one subnet."""
        return self._shares[where]

    def get(self, node_id: bytes) -> Node | None:
        """The node with this id, or None. Replacements are not in the table."""
        entry = self._entries.get(node_id)
        return None if entry is None else entry.node

    def is_confirmed(self, node_id: bytes) -> bool:
        """Whether this node is in the table and has answered us."""
        entry = self._entries.get(node_id)
        return entry is not None and entry.confirmed

    # What is learnt of nodes.

    def see(self, node: Node, now: float) -> None:
        """A node was heard of. It enters if there is room, else it may replace a node that fails later.

        Of a node that is known, only a newer record is taken, which it has signed itself.
        """
        if node.node_id == self.local_id or not node.endpoint.port or not is_usable(node.endpoint.ip):
            return
        bucket = self._bucket(node.node_id)
        entry = self._entries.get(node.node_id)
        known = entry or bucket.replacement(node.node_id)
        if known is not None:
            if _seq(node) > _seq(known.node) and self._move(bucket, known, node) and not known.confirmed and entry:
                self._check_at(known, now)
        elif not bucket.is_full and self._has_room(bucket, node.endpoint):
            self._insert(bucket, self._counted(bucket, Entry(node)), now)
        else:
            self._wait_in_line(bucket, Entry(node))

    def confirm(self, node: Node, now: float) -> None:
        """A node answered us at its address: it goes to the front of its bucket, with the newer of the two records.

        In a full bucket it takes the place of a node that never answered. One whose new address has no room in the
        shares of its subnet stays as it was.
        """
        if node.node_id == self.local_id:
            return
        bucket = self._bucket(node.node_id)
        entry = self._entries.get(node.node_id)
        if entry is None:
            entry = self._admit(bucket, node, now)
        elif not self._answered(bucket, entry, node):
            return
        if entry is not None:
            entry.credit, entry.silences = min(entry.credit + 1, MOST_CREDIT), 0
            bucket.entries.remove(entry)
            bucket.entries.insert(0, entry)
            if entry.credit > 1:
                self._check_in(entry, SLOW_CHECK, now)
            elif entry.check_at > now + FAST_CHECK:  # else its first check is still to come
                self._check_in(entry, FAST_CHECK, now)

    def fail(self, node: Node, now: float) -> None:
        """A node did not answer at that address. Without credit it goes as soon as another one waits for its place, any
        of which gets it, or in the end.

        If we know it at another address that says nothing: whoever told us the wrong one shall not evict it.
        """
        bucket = self._bucket(node.node_id)
        entry = self._entries.get(node.node_id)
        known = entry or bucket.replacement(node.node_id)
        if known is None or known.node.endpoint != node.endpoint:
            return
        if entry is None:
            self._drop_replacement(bucket, known)
            return
        entry.credit //= CREDIT_LOSS
        entry.silences += 1
        if entry.credit or (entry.silences < MOST_SILENCES and not bucket.replacements):
            self._check_in(entry, FAST_CHECK, now)
            return
        self._remove(bucket, entry)
        if bucket.replacements:
            chosen = bucket.replacements.pop(self._rng.randrange(len(bucket.replacements)))
            chosen.credit = chosen.silences = 0  # it may have gone while it waited
            self._insert(bucket, chosen, now)

    # Questions.

    def closest(self, target: bytes, count: int, *, confirmed: bool = True) -> list[Node]:
        """The known nodes nearest to a node id, nearest first, without a look at buckets that hold none of them."""
        wanted = int.from_bytes(target, "big")
        found: list[Node] = []
        for at in self._outward(wanted):
            if len(found) >= count:
                break
            nodes = self._members(at, confirmed=confirmed)
            found += sorted(nodes, key=lambda node: int.from_bytes(node.node_id, "big") ^ wanted)
        return found[:count]

    def at_distances(self, distances: list[int], count: int) -> list[Node]:
        """Up to `count` nodes that answered us, at these distances from us; of several that fit, any."""
        found: list[Node] = []
        for at in dict.fromkeys(distances):
            if len(found) >= count:
                break
            nodes = self._members(at, confirmed=True)
            self._rng.shuffle(nodes)
            found += nodes
        return found[:count]

    def _outward(self, target: int) -> Iterator[int]:
        """Distances from us at which there are nodes, so that each holds only nodes nearer to the target than the next.

        A node at distance d from us differs from us in bit d - 1 and in none above. Where the target differs from us
        too, going there makes a node nearer to the target, the more the higher the bit; elsewhere it leads away.
        """
        towards = self._occupied & (self._local ^ target)
        away = self._occupied ^ towards
        while towards:
            at = towards.bit_length()
            towards ^= 1 << (at - 1)
            yield at
        while away:
            lowest = away & -away
            away ^= lowest
            yield lowest.bit_length()

    def _members(self, at: int, *, confirmed: bool) -> list[Node]:
        bucket = self._buckets.get(at)
        if bucket is None:
            return []
        self.examined += len(bucket.entries)
        return [entry.node for entry in bucket.entries if entry.confirmed or not confirmed]

    # Checks.

    def due(self, now: float) -> Node | None:
        """A node whose turn to be checked has come; its next turn is far off unless `confirm` or `fail` says more."""
        if self.next_due > now:
            return None
        _, node_id = heapq.heappop(self._checks)
        entry = self._entries[node_id]
        self._check_in(entry, SLOW_CHECK, now)
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

    def _check_in(self, entry: Entry, seconds: float, now: float) -> None:
        self._check_at(entry, now + seconds * self._rng.uniform(0.8, 1.2))

    def _check_at(self, entry: Entry, at: float) -> None:
        entry.check_at = at
        heapq.heappush(self._checks, (at, entry.node.node_id))
        if len(self._checks) > STALE_CHECKS * (len(self._entries) + 1):
            self._checks = [(each.check_at, node_id) for node_id, each in self._entries.items()]
            heapq.heapify(self._checks)

    # Places and shares.

    def _bucket(self, node_id: bytes) -> Bucket:
        at = distance(self.local_id, node_id)
        bucket = self._buckets.get(at)
        if bucket is None:
            bucket = self._buckets[at] = Bucket(Shares(SUBNET_PER_BUCKET, limit_private=self._limit_private))
        return bucket

    def _has_room(self, bucket: Bucket, endpoint: Endpoint) -> bool:
        return bucket.shares.has_room(endpoint.ip) and self._shares.has_room(endpoint.ip)

    def _counted(self, bucket: Bucket, entry: Entry) -> Entry:
        for shares in (bucket.shares, self._shares):
            shares.add(entry.node.endpoint.ip)
        return entry

    def _discount(self, bucket: Bucket, entry: Entry) -> None:
        for shares in (bucket.shares, self._shares):
            shares.remove(entry.node.endpoint.ip)

    def _insert(self, bucket: Bucket, entry: Entry, now: float) -> None:
        """Give an entry, which has its part in the shares, a place."""
        node_id = entry.node.node_id
        bucket.entries.append(entry)
        self._entries[node_id] = entry
        self._occupied |= 1 << (distance(self.local_id, node_id) - 1)
        self._check_at(entry, now + FIRST_CHECK * self._rng.random())

    def _remove(self, bucket: Bucket, entry: Entry) -> None:
        node_id = entry.node.node_id
        self._discount(bucket, entry)
        bucket.entries.remove(entry)
        del self._entries[node_id]
        if not bucket.entries:
            self._occupied &= ~(1 << (distance(self.local_id, node_id) - 1))

    def _wait_in_line(self, bucket: Bucket, entry: Entry) -> None:
        """Make an entry a replacement, if the shares have room and one that it may push out is found."""
        if not self._has_room(bucket, entry.node.endpoint):
            return
        if len(bucket.replacements) >= MOST_REPLACEMENTS:
            spare = bucket.spare(for_confirmed=entry.confirmed)
            if spare is None:
                return
            self._drop_replacement(bucket, spare)
        bucket.replacements.append(self._counted(bucket, entry))

    def _drop_replacement(self, bucket: Bucket, entry: Entry) -> None:
        bucket.replacements.remove(entry)
        self._discount(bucket, entry)

    def _admit(self, bucket: Bucket, node: Node, now: float) -> Entry | None:
        """Give a node that answered a place. Those that never answered make room, in the bucket and in its subnet."""
        waiting = bucket.replacement(node.node_id)
        if waiting is not None:
            self._drop_replacement(bucket, waiting)
            node = _with_newer_record(node, waiting.node)
        rival = bucket.unproven_of(subnet(node.endpoint.ip))
        if rival is not None and not self._has_room(bucket, node.endpoint):
            (self._drop_replacement if rival in bucket.replacements else self._remove)(bucket, rival)
        if not self._has_room(bucket, node.endpoint):
            return None
        least = bucket.least() if bucket.is_full else None
        if bucket.is_full and least is None:
            self._wait_in_line(bucket, Entry(node, credit=1))
            return None
        if least is not None:
            self._remove(bucket, least)
            self._wait_in_line(bucket, least)
        entry = self._counted(bucket, Entry(node))
        self._insert(bucket, entry, now)
        return entry

    def _answered(self, bucket: Bucket, entry: Entry, node: Node) -> bool:
        """Take over where a node answered from. False if that says nothing of where it is now, or has no room."""
        if node.endpoint != entry.node.endpoint and node.record is not None and _seq(node) < _seq(entry.node):
            return False  # it has moved since we asked
        return self._move(bucket, entry, _with_newer_record(node, entry.node))

    def _move(self, bucket: Bucket, entry: Entry, node: Node) -> bool:
        """Take a node as it is now. At another address it has to answer again; False if that one has no room for it."""
        if node.endpoint != entry.node.endpoint:
            self._discount(bucket, entry)
            if not self._has_room(bucket, node.endpoint):
                self._counted(bucket, entry)
                return False
            entry.node, entry.credit = node, 0
            self._counted(bucket, entry)
        entry.node = node
        return True


def _seq(node: Node) -> int:
    """The version of a node's record; -1 without one."""
    return -1 if node.record is None else node.record.seq


def _with_newer_record(node: Node, other: Node) -> Node:
    """`node`, with the record of `other` if that is newer."""
    return replace(node, record=other.record, tcp_port=other.tcp_port) if _seq(other) > _seq(node) else node
