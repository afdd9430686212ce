"""Following one DNS node list, without I/O: which name to look up next, and what the answer means (devp2p dnsdisc.md,
"Client Protocol"). Times are in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.discovery.dns_subtree import MOST_ATTEMPTS, MOST_LINK_ENTRIES, MOST_RECORD_ENTRIES, Missing, Subtree
from ethsync.discovery.dns_tree import ROOT_PREFIX, Link, Root, decode_root, is_named
from ethsync.errors import MalformedMessage
from ethsync.wire.enr import NodeRecord

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

RECHECK = 1800.0  # between two looks at the root (go-ethereum p2p/dnsdisc/client.go, RecheckInterval)
RECHECK_SOONER = 60.0
"""The same after an entry was missing, because then the list may have changed. Sooner than this the old root may still
be in a resolver's cache (its time to live in the example of dnsdisc.md). If nothing had changed, the next time waits
twice as long, lest a list with a hole in it be asked again and again."""
FIRST_ROOT_RETRY = 1.0  # after a root could not be had; then twice as long each time
LONGEST_ROOT_RETRY = 60.0  # we may only be offline, and want to notice when we no longer are

MOST_MISSES = 5
"""Entries missing in a row after which no more are asked for until the root was seen again (rootRecheckFailCount in
go-ethereum p2p/dnsdisc/sync.go): the list has changed, or its server is gone."""
MOST_TEXTS = 16
"""Texts of one answer that we look at. A name has one; others may stand beside a root, but do not look like ours."""

_PREFIXES = ("enrtree", "enr:")


class TreeSync:
    """One list: its newest root, and its two halves.

    Ask `next_name`, look it up, and say `resolved` or `failed` before asking again: two entries can have one name, such
    as the empty branches of both halves. `deadline` is when there is a name again.
    """

    def __init__(self, link: Link, rng: random.Random) -> None:
        self.link = link
        self.root: Root | None = None
        self.links: tuple[Link, ...] = ()
        """The lists that this one links to: of its last version too until the newest one was read."""
        self.trouble = ""
        """What went wrong last, if anything."""
        self.records_half = Subtree(NodeRecord, MOST_RECORD_ENTRIES, rng)
        self.links_half = Subtree(Link, MOST_LINK_ENTRIES, rng)
        self._found: list[NodeRecord] = []
        self._asked: dict[str, tuple[Subtree, Missing]] = {}
        self._root_at = float("-inf")
        self._root_due = float("-inf")
        self._root_failures = 0
        self._misses = 0
        self._sooner = RECHECK_SOONER

    @property
    def halves(self) -> tuple[Subtree, Subtree]:
        """Both halves; that of the links first, because it is small and leads to more (dnsdisc.md, "Rationale")."""
        return self.links_half, self.records_half

    @property
    def deadline(self) -> float:
        """When there is a name to look up: now, if in the past; infinity while the root is being looked up."""
        if self._waits_for_root:
            return self._root_due
        return min(self._root_due, *(half.deadline for half in self.halves))

    @property
    def settled(self) -> bool:
        """Whether everything was read that can be had for now. It may be nothing: `root` is None then."""
        if self.root is None:
            return self._root_failures >= MOST_ATTEMPTS
        return self._waits_for_root or not (self._asked or any(half.unresolved for half in self.halves))

    @property
    def _waits_for_root(self) -> bool:
        return self.root is None or self._misses > MOST_MISSES

    def next_name(self, now: float) -> str | None:
        """The full name whose TXT records are wanted, or None before `deadline`."""
        if now >= self._root_due:
            self._root_due = float("inf")
            return self.link.domain
        if self._waits_for_root:
            return None
        for half in self.halves:
            missing = half.take(now)
            if missing is not None:
                name = f"{missing.name}.{self.link.domain}"
                self._asked[name] = half, missing
                return name
        return None

    def resolved(self, name: str, texts: Sequence[str], now: float) -> None:
        """The TXT records of a name, each with its parts joined. Never raises, whatever the texts are."""
        ours = [text for text in texts if text.isascii() and text.startswith(_PREFIXES)][:MOST_TEXTS]
        if name == self.link.domain:
            self._take_root(ours, now)
            return
        half, missing = self._asked.get(name, (None, None))
        if half is None or missing is None:
            return
        text = next((text for text in ours if is_named(text, missing.name)), None)
        if text is None:
            self.failed(name, now, f"{name}: no text there has the hash that the name says")
            return
        del self._asked[name]
        self._misses = 0
        try:
            leaf = half.accept(missing, text)
        except MalformedMessage as error:
            self.trouble = f"{name}: {error}"
            return
        if isinstance(leaf, NodeRecord):
            self._found.append(leaf)
        if half is self.links_half:
            self._relink()

    def failed(self, name: str, now: float, why: str) -> None:
        """A name could not be looked up, or holds nothing of use; `why` is for people."""
        self.trouble = why
        if name == self.link.domain:
            self._root_failures += 1
            backoff = FIRST_ROOT_RETRY * 2 ** min(self._root_failures - 1, 16)
            self._root_due = now + min(backoff, LONGEST_ROOT_RETRY)
            return
        half, missing = self._asked.pop(name, (None, None))
        if half is None or missing is None:
            return
        half.put_back(missing, now)
        self._misses += 1
        self._root_due = min(self._root_due, max(now, self._root_at + self._sooner))

    def records(self) -> list[NodeRecord]:
        """Records found since the last call. Each record of a list is returned once."""
        found, self._found = self._found, []
        return found

    def _take_root(self, texts: Sequence[str], now: float) -> None:
        """Of several roots, such as an old and a new one while the owner replaces it, the newest counts."""
        valid: list[Root] = []
        domain = self.link.domain
        why = f"{domain}: no root of a node list there"
        for text in texts:
            if not text.startswith(ROOT_PREFIX):
                continue
            try:
                valid.append(decode_root(text, self.link.public_key))
            except MalformedMessage as error:
                why = f"{domain}: {error}"
        if not valid:
            self.failed(domain, now, why)
            return
        root = max(valid, key=lambda each: each.seq)
        if self.root is not None and root.seq < self.root.seq:
            self.failed(domain, now, f"{domain}: sequence number {root.seq} after {self.root.seq}")
            return
        self._sooner = RECHECK_SOONER if root != self.root else min(2 * self._sooner, RECHECK)
        self._root_at, self._root_due = now, now + RECHECK
        self._root_failures = self._misses = 0
        self.root = root
        self.links_half.follow(root.links)
        self.records_half.follow(root.records)
        self._relink()

    def _relink(self) -> None:
        found = self.links_half.links
        if self.links_half.complete:
            self.links = tuple(found)
        else:
            self.links = tuple(dict.fromkeys([*found, *self.links]))[:MOST_LINK_ENTRIES]
