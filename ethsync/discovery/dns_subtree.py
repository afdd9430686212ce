"""One half of a DNS node list: the entries below one root hash, what of them is known and what is missing.

An entry never changes, because its name is its hash. So what is known of one version of a list holds for the next, and
only what is new must be looked up.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ethsync.discovery.dns_tree import SHORTEST_NAME, Branch, Link, decode_entry
from ethsync.errors import MalformedMessage

if TYPE_CHECKING:
    import random

    from ethsync.wire.enr import NodeRecord

MOST_DEPTH = 16
"""Branches above a leaf: five levels of 13 children hold 371,293 records, 16 levels of two children still 65,536."""
MOST_RECORD_ENTRIES = 16_384
"""Entries of a list that we follow: several times what mainnet's list has, and at most 8 MB, measured."""
MOST_LINK_ENTRIES = 128
"""Links are far fewer, and we follow few of them (`MOST_LINKED` in dns_forest)."""

MOST_ATTEMPTS = 3
"""Lookups of an entry until it counts as lost; the next look at the list's root makes it wanted again."""
FIRST_RETRY = 10.0
"""Seconds until a failed lookup is tried again, then twice as long: twice the time that a lookup itself may take."""

KEY_CHARACTERS = SHORTEST_NAME * 8 // 5
"""Characters of a name that do not depend on where its hash was cut off: 19, of 5 bits each."""

Leaf: TypeAlias = "Link | NodeRecord"


@dataclass(slots=True, eq=False)
class Missing:
    """An entry that has not been found yet. `name` is its hash in base32, `depth` counts branches above it."""

    name: str
    depth: int
    attempts: int = 0

    @property
    def key(self) -> str:
        """What two spellings of one hash, longer or shorter, have in common."""
        return self.name[:KEY_CHARACTERS]


class Subtree:
    """The entries below `root`; its leaves are of one type. Memory is bounded by `most_entries`, whatever they say."""

    def __init__(self, leaf: type[Link | NodeRecord], most_entries: int, rng: random.Random) -> None:
        self.refused = 0
        """Entries that cannot be read or have no business here."""
        self.beyond = 0
        """Entries left out because the tree is too deep or too large."""
        self._leaf = leaf
        self._most_entries = most_entries
        self._rng = rng
        self._known: dict[str, Branch | Link | None] = {}
        """None: a record, which was handed out, or an entry that was refused."""
        self._former: dict[str, Branch | Link | None] = {}
        """The same of earlier versions, until this one is complete: its branches may be new and its leaves not."""
        self._seen: set[str] = set()
        self._ready: list[Missing] = []
        self._waiting: list[tuple[float, int, Missing]] = []
        self._lost: list[Missing] = []
        self._references = 0
        self._failures = 0
        self._root = ""

    def __len__(self) -> int:
        """Entries found."""
        return len(self._known)

    @property
    def unresolved(self) -> int:
        """Entries that are to be looked up, now or again later."""
        return len(self._ready) + len(self._waiting)

    @property
    def lost(self) -> int:
        """Entries that nobody has, as far as we could see."""
        return len(self._lost)

    @property
    def complete(self) -> bool:
        """Whether every entry was found."""
        return len(self._known) == len(self._seen)

    @property
    def links(self) -> list[Link]:
        """The links found."""
        return [entry for entry in self._known.values() if isinstance(entry, Link)]

    @property
    def deadline(self) -> float:
        """When `take` has something; infinity if nothing is missing."""
        if self._ready:
            return float("-inf")
        return self._waiting[0][0] if self._waiting else float("inf")

    def follow(self, root: str) -> None:
        """Make `root` the topmost entry; what was lost is wanted again.

        What is known stays known if it still belongs to the tree.
        """
        if root == self._root:
            for missing in self._lost:
                missing.attempts = 0
            self._ready += self._lost
            self._lost = []
            return
        leaves = {key: entry for key, entry in self._former.items() if not isinstance(entry, Branch)}
        former = {**leaves, **self._known}
        surplus = max(0, len(former) - self._most_entries)
        self._former = dict(itertools.islice(former.items(), surplus, None))
        self._known, self._seen = {}, set()
        self._ready, self._waiting, self._lost = [], [], []
        self._root, self._references, self.beyond = root, 0, 0
        self._want([(root, 0)])

    def take(self, now: float) -> Missing | None:
        """An entry to look up: any of those that are ready, so that many readers do not all ask for the same ones."""
        while self._waiting and self._waiting[0][0] <= now:
            self._ready.append(heapq.heappop(self._waiting)[2])
        if not self._ready:
            return None
        index = self._rng.randrange(len(self._ready))
        self._ready[index], self._ready[-1] = self._ready[-1], self._ready[index]
        return self._ready.pop()

    def accept(self, missing: Missing, text: str) -> Leaf | None:
        """Take the text of an entry, which has the right hash. Returns the leaf if it is a new one.

        Raises `MalformedMessage` if it is no entry, or one of the other half; it is not looked up again.
        """
        key = missing.key
        if key in self._known or key not in self._seen:  # the root has changed since the question
            return None
        try:
            entry = decode_entry(text)
            if not isinstance(entry, (Branch, self._leaf)):
                raise MalformedMessage(f"{type(entry).__name__} in the wrong half of a node list")
        except MalformedMessage:
            self._known[key] = None
            self.refused += 1
            raise
        if isinstance(entry, Branch):
            self._want(self._open(key, entry, missing.depth))
        else:
            self._known[key] = entry if isinstance(entry, Link) else None
        if self.complete:
            self._former = {}
        return None if isinstance(entry, Branch) else entry

    def put_back(self, missing: Missing, now: float) -> None:
        """The lookup failed: try again later, but not for ever."""
        if missing.key in self._known or missing.key not in self._seen:
            return
        missing.attempts += 1
        if missing.attempts >= MOST_ATTEMPTS:
            self._lost.append(missing)
            return
        self._failures += 1
        later = now + FIRST_RETRY * 2 ** (missing.attempts - 1)
        heapq.heappush(self._waiting, (later, self._failures, missing))

    def _open(self, key: str, branch: Branch, depth: int) -> list[tuple[str, int]]:
        """What is below a branch, with its depth, if there is room for it. Otherwise the tree is never complete.

        How often entries are named is what counts, because names take memory too.
        """
        if self._references + len(branch.children) > self._most_entries:
            self.beyond += len(branch.children)
            return []
        self._references += len(branch.children)
        self._known[key] = branch
        return [(child, depth + 1) for child in branch.children]

    def _want(self, names: list[tuple[str, int]]) -> None:
        """Add entries and whatever is known below them. An entry met twice counts once, so a loop ends here."""
        while names:
            name, depth = names.pop()
            key = name[:KEY_CHARACTERS]
            if key in self._seen:
                continue
            if depth > MOST_DEPTH:
                self.beyond += 1
                continue
            self._seen.add(key)
            if key not in self._former:
                self._ready.append(Missing(name, depth))
                continue
            entry = self._former[key]
            if isinstance(entry, Branch):
                names += self._open(key, entry, depth)
            else:
                self._known[key] = entry
