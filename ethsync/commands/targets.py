"""Nodes as people name them on the command line: enode:// URLs and node records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.errors import ConfigError
from ethsync.wire.enode import Enode, parse_enode
from ethsync.wire.enr import PREFIX, parse_record

if TYPE_CHECKING:
    from ethsync.wire.enr import NodeRecord


def parse_target(text: str) -> Enode:
    """Read `enode://…` or `enr:…` as a node to dial over TCP. Raises ConfigError."""
    if not text.strip().startswith(PREFIX):
        return parse_enode(text)
    enode = enode_of_record(parse_record(text))
    if enode is None:
        raise ConfigError("the node record has no address with a TCP port", hint="give an enode:// URL with one")
    return enode


def enode_of_record(record: NodeRecord) -> Enode | None:
    """The URL of the node that a record describes; None if it has no address with a TCP port."""
    if record.ip is not None and record.tcp:
        return Enode(record.public_key, str(record.ip), record.tcp, record.udp)
    if record.ip6 is not None and record.tcp6:
        return Enode(record.public_key, str(record.ip6), record.tcp6, record.udp6)
    return None
