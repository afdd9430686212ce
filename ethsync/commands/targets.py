"""Nodes as people name them on the command line: enode:// URLs and node records."""

from __future__ import annotations

from ethsync.errors import ConfigError
from ethsync.wire.enode import Enode, parse_enode
from ethsync.wire.enr import PREFIX, parse_record


def parse_target(text: str) -> Enode:
    """Read `enode://…` or `enr:…` as a node to dial over TCP. Raises ConfigError."""
    if not text.strip().startswith(PREFIX):
        return parse_enode(text)
    record = parse_record(text)
    if record.ip is not None and record.tcp:
        return Enode(record.public_key, str(record.ip), record.tcp, record.udp)
    if record.ip6 is not None and record.tcp6:
        return Enode(record.public_key, str(record.ip6), record.tcp6, record.udp6)
    raise ConfigError("the node record has no address with a TCP port", hint="give an enode:// URL with one")
