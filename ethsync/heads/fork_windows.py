"""When forks are in force, for methods of the Engine API that belong to one or a few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ethsync.networks import TIME_FORKS
from ethsync.wire.headers import FORK_FIELDS, decode_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethsync.networks import Network

ForkTimes: TypeAlias = "Mapping[str, int | None]"
"""Time from which each fork of `TIME_FORKS` is in force, in Unix seconds; None for those that are not scheduled."""


def fork_times(network: Network) -> ForkTimes:
    """When each fork by time is in force on this network.

    A network lists the forks after its genesis. One that it does not list is in force from the beginning if a later one
    is listed, or if the genesis header has its field.
    """
    genesis = decode_header(network.genesis_header_raw) if network.genesis_header_raw is not None else None
    listed = {fork.name: fork.at for fork in network.named_forks if fork.by_time}
    times: dict[str, int | None] = {}
    later_in_force = False
    for name in reversed(TIME_FORKS):
        field = FORK_FIELDS.get(name)
        at_genesis = genesis is not None and field is not None and getattr(genesis, field) is not None
        times[name] = listed.get(name, 0 if later_in_force or at_genesis else None)
        # Blob parameter forks are optional: their absence says nothing, and their presence that Osaka came before.
        later_in_force = later_in_force or times[name] is not None
    return {name: times[name] for name in TIME_FORKS if name in listed or not name.startswith("BPO")}


def in_force(times: ForkTimes, fork: str, timestamp: int) -> bool:
    """Whether a fork is in force at a block's time."""
    start = times.get(fork)
    return start is not None and timestamp >= start


def within(times: ForkTimes, timestamp: int, first: str | None, end: str | None) -> bool:
    """Whether a time is in the forks from `first` (None: any) until `end`, which is not among them (None: none)."""
    return (first is None or in_force(times, first, timestamp)) and not (end and in_force(times, end, timestamp))
