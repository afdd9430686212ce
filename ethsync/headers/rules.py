"""What a chain of headers must be like: which tail fields since when, and which header at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.wire.headers import FORK_FIELDS, decode_header

if TYPE_CHECKING:
    from ethsync.arrays import Ints
    from ethsync.networks import Network

APPENDED = {"London": 1, "Shanghai": 1, "Cancun": 3, "Prague": 1, "Amsterdam": 2}
"""Header fields that each fork appended: EIP-1559; EIP-4895; EIP-4844 and EIP-4788; EIP-7685; EIP-7928 and EIP-7843."""

NEVER = 2**63 - 1
"""No block has this number or time."""


@dataclass(frozen=True, slots=True, eq=False)
class ChainRules:
    """schedule (5,): since when each fork of `APPENDED` is in force; genesis_hash: 32 bytes."""

    schedule: Ints
    genesis_hash: bytes


def chain_rules(network: Network) -> ChainRules:
    """The rules of a network."""
    return ChainRules(field_schedule(network), network.genesis_hash)


def field_schedule(network: Network) -> Ints:
    """Since when each of the five forks of `APPENDED` is in force: London's block number, then times; 0: always.

    A network lists the forks after its genesis. Of those that it does not list, the ones before a listed one are in
    force since the genesis; for the others the genesis header decides, where it is known.
    """
    listed = {fork.name: fork.at for fork in network.named_forks if fork.name in APPENDED}
    at_genesis = 0
    if network.genesis_header_raw is not None:
        at_genesis = _forks_in(network.genesis_header_raw)
    names = list(APPENDED)
    last = max((names.index(name) for name in listed), default=-1)
    found = [listed.get(name, 0 if number < max(last, at_genesis) else NEVER) for number, name in enumerate(names)]
    return np.array(found, np.int64)


def _forks_in(raw: bytes) -> int:
    """How many of the forks a header shows."""
    header = decode_header(raw)
    return sum(getattr(header, name) is not None for name in FORK_FIELDS.values())
