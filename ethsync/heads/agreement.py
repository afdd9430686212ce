"""When several beacon nodes are asked, a block is the head only if all of them have named it.

Nodes see a new block within seconds of one another, so that at any moment one may be ahead. Therefore each node's last
heads are remembered, and the newest block that all of them have is the agreed one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.heads.beacon_blocks import ExecutionRef

REMEMBERED = 64
"""Heads of each node that are remembered: two epochs. Nodes that agree are within two or three slots."""

LEEWAY = 3
"""Newest heads of each node among which the agreed one must be: one that is two blocks behind does not disagree."""


class Agreement:
    """The last heads of `count` nodes, newest first."""

    def __init__(self, count: int) -> None:
        self._named: list[list[bytes]] = [[] for _ in range(count)]
        self._refs: dict[bytes, ExecutionRef] = {}

    def note(self, node: int, ref: ExecutionRef) -> None:
        """A node names this block as its head. Its parent counts as named before it: polls may miss a slot."""
        named = self._named[node]
        if ref.parent_hash is not None and ref.parent_hash not in named:
            named.insert(0, ref.parent_hash)
        if ref.block_hash in named:
            named.remove(ref.block_hash)
        named.insert(0, ref.block_hash)
        del named[REMEMBERED:]
        self._refs[ref.block_hash] = ref
        if len(self._refs) > len(self._named) * REMEMBERED:
            kept = {block_hash for hashes in self._named for block_hash in hashes}
            self._refs = {block_hash: ref for block_hash, ref in self._refs.items() if block_hash in kept}

    def agreed(self) -> ExecutionRef | None:
        """The newest block that all nodes have named; None as long as there is none."""
        first, others = self._named[0], self._named[1:]
        for block_hash in first:
            if block_hash in self._refs and all(block_hash in named for named in others):
                return self._refs[block_hash]
        return None

    def is_close(self, ref: ExecutionRef) -> bool:
        """Whether this block is among the newest few of every node."""
        return all(ref.block_hash in named[:LEEWAY] for named in self._named)

    def newest(self) -> Sequence[bytes | None]:
        """What each node names now."""
        return [named[0] if named else None for named in self._named]
