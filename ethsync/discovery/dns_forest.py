"""All DNS node lists that are followed: those that were asked for, and those that they link to. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.discovery.dns_sync import TreeSync

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from ethsync.discovery.dns_tree import Link
    from ethsync.wire.enr import NodeRecord

MOST_LINKED = 8
"""Lists followed only because of links: an owner could link to any number of lists of his own, of 8 MB each."""
MOST_LINK_DEPTH = 3
"""Links in a row that are followed; beyond, nobody whom the user trusts has had a say for long."""

LOOKUPS_PER_SECOND = 3.0  # go-ethereum p2p/dnsdisc/client.go, RateLimit: resolvers are shared with others
LOOKUP_BURST = 10  # at once, before that rate applies (the same, NewClient)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A name whose TXT records the list `link` wants. `entry` is the hash at its front, empty for a root."""

    link: Link
    name: str

    @property
    def entry(self) -> str:
        """The first label, if it is a hash."""
        return self.name.removesuffix(self.link.domain).removesuffix(".")


class Pace:
    """Allows `rate` steps per second, after `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._slack = (burst - 1) * self._interval
        self._settled = float("-inf")
        """When as many at once as ever are allowed again."""

    @property
    def next(self) -> float:
        """When the next step is allowed."""
        return self._settled - self._slack

    def take(self, now: float) -> None:
        """Count a step."""
        self._settled = max(self._settled, now) + self._interval


class Forest:
    """The trees of all lists. Lookups are made one at a time, of a random tree that has something to ask.

    `trees` are those followed now, by link. Times are in seconds, `rate` in lookups per second.
    """

    def __init__(self, links: Sequence[Link], rng: random.Random, rate: float = LOOKUPS_PER_SECOND) -> None:
        self.trees: dict[Link, TreeSync] = {}
        self._given = tuple(dict.fromkeys(links))
        self._rng = rng
        self._pace = Pace(rate, LOOKUP_BURST)
        self._found: list[NodeRecord] = []
        self._choose_trees()

    @property
    def deadline(self) -> float:
        """When there is something to look up: now, if in the past; infinity if every list waits for an answer."""
        return max(self._pace.next, min((tree.deadline for tree in self.trees.values()), default=float("inf")))

    @property
    def settled(self) -> bool:
        """Whether every list was read as far as it can be had for now."""
        return all(tree.settled for tree in self.trees.values())

    def next_lookup(self, now: float) -> Lookup | None:
        """What to look up; None before `deadline`."""
        if now < self.deadline:
            return None
        tree = self._rng.choice([tree for tree in self.trees.values() if tree.deadline <= now])
        name = tree.next_name(now)
        if name is None:
            return None
        self._pace.take(now)
        return Lookup(tree.link, name)

    def resolved(self, lookup: Lookup, texts: Sequence[str], now: float) -> None:
        """The TXT records of the name."""
        tree = self.trees.get(lookup.link)
        if tree is None:  # no longer linked to
            return
        links = tree.links
        tree.resolved(lookup.name, texts, now)
        self._found += tree.records()
        if tree.links != links:
            self._choose_trees()

    def failed(self, lookup: Lookup, now: float, why: str) -> None:
        """The name could not be looked up; `why` is for people."""
        tree = self.trees.get(lookup.link)
        if tree is not None:
            tree.failed(lookup.name, now, why)

    def records(self) -> list[NodeRecord]:
        """Records found since the last call: at most one for each lookup. Lists may have records in common."""
        found, self._found = self._found, []
        return found

    def _choose_trees(self) -> None:
        """Follow what was asked for and what can be reached from there, breadth first; forget the rest."""
        depths = dict.fromkeys(self._given, 0)
        for link in (queue := list(self._given)):
            tree = self.trees.get(link)
            if tree is None or depths[link] == MOST_LINK_DEPTH:
                continue
            for further in tree.links:
                if further not in depths and len(depths) < len(self._given) + MOST_LINKED:
                    depths[further] = depths[link] + 1
                    queue.append(further)
        self.trees = {link: self.trees.get(link) or TreeSync(link, self._rng) for link in depths}
