"""How to look for nodes, and whom to ask first. What does the looking, `start`, is imported only where it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.discovery.local_record import Announcement
from ethsync.discovery.node import node_of_enode, node_of_record
from ethsync.wire.enode import parse_enode
from ethsync.wire.enr import PREFIX, parse_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ethsync.discovery.node import Endpoint, Node
    from ethsync.wire.forkid import ForkId


@dataclass(frozen=True, slots=True)
class DiscoveryOptions:
    """How to look for nodes. `protocols` of "v5", "v4", "dns"; `boot_nodes` are enode:// URLs and enr: records."""

    protocols: frozenset[str]
    boot_nodes: Sequence[str]
    dns: Sequence[str]
    listen: Sequence[Endpoint]
    directory: Path
    fork_id: ForkId
    announce: Announcement = Announcement()  # noqa: RUF009 - frozen, so it may be shared


def boot_nodes(texts: Iterable[str]) -> Iterable[Node]:
    """The nodes of enode:// URLs and enr: records that can be asked over UDP. Raises ConfigError."""
    for text in texts:
        is_record = text.startswith(PREFIX)
        node = node_of_record(parse_record(text)) if is_record else node_of_enode(parse_enode(text))
        if node is not None:
            yield node
