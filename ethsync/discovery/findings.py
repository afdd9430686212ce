"""Nodes that a protocol has found: each is handed on once for each version of its record, which may be missing."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from ethsync.discovery.bounded import LRU

if TYPE_CHECKING:
    from ethsync.discovery.node import Node

MOST_TO_FETCH = 1000
"""Nodes whose record is still to be asked for; what goes beyond that comes again in another lookup."""
FIRST_FETCH_PAUSE = 5.0
LONGEST_FETCH_PAUSE = 3600.0
"""Seconds until a node's record is asked for again, doubled each time: packets get lost, but most nodes that do not
answer are gone, and others go on to name them."""
MOST_GIVEN = 50_000
"""Nodes remembered as handed on already, 10 MB."""
WITHOUT_RECORD = -1
"""What is remembered for a node instead of the version of its record."""
MOST_FOUND = 10_000
"""Nodes that wait to be taken: as many as there are candidates to dial."""


class Findings:
    """What was found. `needs_records`: whether nodes are named without their record, as in discv4."""

    def __init__(self, *, needs_records: bool) -> None:
        self.found: deque[Node] = deque(maxlen=MOST_FOUND)
        """Handed on: whoever takes them empties it."""
        self._needs_records = needs_records
        self._has_news = False
        self._to_fetch: deque[Node] = deque(maxlen=MOST_TO_FETCH)
        """New ones in front, those that are asked again behind."""
        self._fetches: LRU[bytes, tuple[float, float]] = LRU(MOST_GIVEN)
        """By id: when a record may be asked for again, and the pause after that."""
        self._given: LRU[bytes, tuple[int, bool]] = LRU(MOST_GIVEN)
        """By id: the version of the record, and whether the node had answered us."""

    def hear_of(self, node: Node, now: float, *, answered: bool = False) -> None:
        """Hand a node on; where its record is missing, it is one to be asked for that first."""
        if node.record is not None or not self._needs_records:
            self.give(node, answered=answered)
            return
        given = self._given.get(node.node_id)
        if given is not None and given[0] > WITHOUT_RECORD:
            return
        again, pause = self._fetches.get(node.node_id) or (now, FIRST_FETCH_PAUSE)
        if now < again or (pause > FIRST_FETCH_PAUSE and len(self._to_fetch) >= MOST_TO_FETCH):
            return
        self._fetches.put(node.node_id, (now + pause, min(2 * pause, LONGEST_FETCH_PAUSE)))
        if pause > FIRST_FETCH_PAUSE:
            self._to_fetch.append(node)
        else:
            self._to_fetch.appendleft(node)

    def give(self, node: Node, *, answered: bool = False) -> None:
        """Hand a node on as it is, if it is news: a version of its record, or that it has answered us itself."""
        seq = node.record.seq if node.record is not None else WITHOUT_RECORD
        known, lives = self._given.get(node.node_id) or (WITHOUT_RECORD - 1, False)
        if seq > known or (answered and not lives and seq == known):
            self._given.put(node.node_id, (seq, answered or lives))
            self.found.append(replace(node, answered=answered or lives))
            self._has_news |= seq > known

    def next_without_record(self) -> Node | None:
        """A node to be asked for its record, once; None if there is none."""
        return self._to_fetch.popleft() if self._to_fetch else None

    def take_news(self) -> bool:
        """Whether new nodes, or new records, were handed on since this was asked last."""
        has_news, self._has_news = self._has_news, False
        return has_news
