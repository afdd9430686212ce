"""Reading DNS node lists: lookups made one after the other, records handed on as they are found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import trio

from ethsync.discovery.bounded import LRU
from ethsync.discovery.dns_forest import Forest
from ethsync.discovery.dns_tree import is_named
from ethsync.errors import LookupFailed

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from ethsync.discovery.dns_tree import Link
    from ethsync.wire.enr import NodeRecord

CACHED_ENTRIES = 1000
"""Texts kept (go-ethereum p2p/dnsdisc/client.go, CacheLimit), for lists that have records in common."""

Resolve: TypeAlias = Callable[[str], Awaitable[list[str]]]
"""Looks up the TXT records of a name, each with its parts joined. Raises `LookupFailed`, within a bounded time."""


class Reader:
    """A forest with the means to look names up."""

    def __init__(self, forest: Forest, resolve: Resolve) -> None:
        self.forest = forest
        self._resolve = resolve
        self._cache: LRU[str, str] = LRU(CACHED_ENTRIES)

    async def read_next(self) -> list[NodeRecord]:
        """Wait until something may be looked up, and look it up. Returns the records found so: none or one."""
        await trio.sleep_until(self.forest.deadline)
        lookup = self.forest.next_lookup(trio.current_time())
        if lookup is None:
            return []
        try:
            texts = await self._texts(lookup.name, lookup.entry)
        except LookupFailed as error:
            self.forest.failed(lookup, trio.current_time(), str(error))
        else:
            self.forest.resolved(lookup, texts, trio.current_time())
        return self.forest.records()

    async def _texts(self, name: str, entry: str) -> list[str]:
        """Only what has the hash of its name is kept; roots have none, and change."""
        kept = self._cache.get(entry)
        if kept is not None:
            return [kept]
        texts = await self._resolve(name)
        for text in texts:
            if entry and is_named(text, entry):
                self._cache.put(entry, text)
        return texts


async def run_dns(
    links: Sequence[Link],
    resolve: Resolve,
    found: trio.MemorySendChannel[NodeRecord],
    rng: random.Random,
    *,
    task_status: trio.TaskStatus[Forest] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Read lists and follow their changes until cancelled, or until nobody listens to `found` any more.

    While `found` is full nothing is looked up: a list is read as fast as its nodes are used (dnsdisc.md, "Client
    Protocol"). The forest is returned to whoever starts this, to be looked at.
    """
    reader = Reader(Forest(links, rng), resolve)
    task_status.started(reader.forest)
    while True:
        for record in await reader.read_next():
            try:
                await found.send(record)
            except trio.BrokenResourceError:
                return
