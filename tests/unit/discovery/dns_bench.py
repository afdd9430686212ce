"""What the tests of DNS node lists have in common."""

from __future__ import annotations

import random

from ethsync.discovery.dns_sync import TreeSync
from ethsync.discovery.dns_tree import entry_name
from ethsync.wire.enr import NodeRecord
from tests.oracles.node_lists import link_to

EMPTY = "enrtree-branch:"


def sync_of(domain: str = "n", seed: int = 1) -> TreeSync:
    return TreeSync(link_to(domain), random.Random(seed))


def branch(*texts: str) -> str:
    return EMPTY + ",".join(entry_name(text) for text in texts)


def ids(records: list[NodeRecord]) -> set[bytes]:
    return {record.node_id for record in records}
