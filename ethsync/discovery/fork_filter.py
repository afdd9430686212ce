"""Whether a node is worth dialling, by what its record says of its chain, before a connection is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.errors import UselessPeer

if TYPE_CHECKING:
    from ethsync.discovery.node import Node
    from ethsync.wire.forkid import ForkSchedule

OTHER_FORK = "on another fork"
NO_CHAIN = "nodes of the consensus layer or of no chain at all"


def why_not_dial(node: Node, schedule: ForkSchedule, head_number: int, head_time: int) -> str | None:
    """What the node is, if it is not worth dialling; None if it may be on our chain.

    A record without an `eth` entry (devp2p enr-entries/eth.md) is no execution node's: discv5 is shared with the
    consensus layer. A node without a record gets the benefit of the doubt. go-ethereum filters alike
    (eth/protocols/eth/discovery.go). `head_number` and `head_time` are those of the head that we check Status at.
    """
    if node.record is None:
        return None
    fork = node.record.fork_id
    if fork is None:
        return NO_CHAIN
    try:
        schedule.validate(fork, head_number, head_time)
    except UselessPeer:
        return f"{OTHER_FORK} (fork id {fork})"
    return None
