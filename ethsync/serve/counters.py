"""What a server has served: how tests and benchmarks see what was downloaded, and what was downloaded again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ethsync.serve.snap import Reply
    from ethsync.wire.snap import SnapMessage


@dataclass(slots=True)
class ServerCounters:
    """Running totals by reply. items: accounts, slots, codes, nodes; leaf_bytes: their keys and values, without RLP and
    proofs; payload_bytes: whole messages before compression. headers: block headers."""

    connections: int = 0
    requests: Counter[SnapMessage] = field(default_factory=Counter)
    replies: Counter[SnapMessage] = field(default_factory=Counter)
    items: Counter[SnapMessage] = field(default_factory=Counter)
    leaf_bytes: Counter[SnapMessage] = field(default_factory=Counter)
    payload_bytes: Counter[SnapMessage] = field(default_factory=Counter)
    headers: int = 0

    def count(self, reply: Reply) -> None:
        """Add a reply that is about to be sent."""
        self.replies[reply.message] += 1
        self.items[reply.message] += reply.items
        self.leaf_bytes[reply.message] += reply.size
        self.payload_bytes[reply.message] += len(reply.payload)

    def count_headers(self, count: int) -> None:
        """Add a reply of so many block headers."""
        self.headers += count

    @property
    def total_leaf_bytes(self) -> int:
        """Keys, values, codes and nodes of all replies."""
        return self.leaf_bytes.total()
