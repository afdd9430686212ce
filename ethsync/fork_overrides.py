"""Forks that the user puts elsewhere (`--override-fork`): those whose date was still open when this version was made.

A fork has a block number or a time, never both: those up to the merge have numbers, all later ones have times
(EIP-6122). Which it is follows from its name.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ethsync.errors import ConfigError
from ethsync.networks import BLOCK_FORKS, TIME_FORKS, Fork, fork_schedule
from ethsync.wire.forkid import TIMESTAMP_THRESHOLD
from ethsync.wire.headers import FORK_FIELDS, decode_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethsync.networks import Network

LATEST_TIME = 10**11
"""No fork is later: the year 5138. A larger number is a time in milliseconds, or a slip."""

LATEST_BLOCK = TIMESTAMP_THRESHOLD
"""No fork by number is later: everybody takes a larger number for a time (geth core/forkid)."""

_ORDER = (*BLOCK_FORKS, *TIME_FORKS)
_MOST_DIGITS = 20  # of a number that is looked at: enough to see that it is too large
_SIMILAR = 0.8  # likeness (difflib's ratio) from which a name is a misspelling: Amsterdm is, BPO6 for BPO5 is not
_HINT = "write for example Amsterdam=1791294816, or 'Gray Glacier=15050000' for a fork by block number"


def with_overrides(network: Network, texts: Iterable[str]) -> Network:
    """The same network with all these `NAME=TIME` and `NAME=BLOCK`. Raises `ConfigError` as `with_forks` does."""
    return with_forks(network, [parse_fork_override(text) for text in texts])


def parse_fork_override(text: str) -> tuple[str, int]:
    """Read `NAME=TIME` or `NAME=BLOCK`. Raises `ConfigError`."""
    name, _, at = text.partition("=")
    if not (_plain(name) and name.isascii() and name.isprintable() and at.isascii() and at.isdigit()):
        raise ConfigError(f"'{text}' is not a fork with its time or block number", hint=_HINT)
    return name.strip(), int(at[:_MOST_DIGITS])


def with_forks(network: Network, overrides: Iterable[tuple[str, int]]) -> Network:
    """Return the same network with forks at another time (seconds since 1970) or block number, or with more forks.

    The fork id follows. Letter case, spaces and hyphens of a name do not matter; a name that nobody knows is that of a
    fork by time wherever there are any. Raises `ConfigError` if a time or number can be none, if forks would come in
    another order than in `BLOCK_FORKS` and `TIME_FORKS`, or if a name is given twice or looks like a misspelt one.
    """
    forks = {fork.name: fork for fork in network.named_forks}
    moved: dict[str, Fork] = {}
    for name, at in overrides:
        fork = _fork_called(name, at, network)
        if fork.name in moved:
            raise ConfigError(f"{fork.name} is given twice", hint="a fork is at one time or block")
        _check_place(fork, network)
        moved[fork.name] = forks[fork.name] = fork
    for fork in moved.values():
        _check_order(fork, forks.values(), network)
    named_forks = tuple(sorted(forks.values(), key=lambda each: (each.by_time, each.at)))
    schedule = fork_schedule(network.genesis_hash, network.genesis_time, named_forks)
    return replace(network, forks=schedule, named_forks=named_forks)


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def _fork_called(name: str, at: int, network: Network) -> Fork:
    """The fork of that name, as it is written elsewhere, at this time or block. Raises `ConfigError`."""
    kinds = dict.fromkeys(BLOCK_FORKS, False) | dict.fromkeys(TIME_FORKS, True)
    kinds |= {fork.name: fork.by_time for fork in network.named_forks}
    known = {_plain(each): each for each in kinds}
    found = known.get(_plain(name))
    if found is not None:
        return Fork(found, at, kinds[found])
    similar = get_close_matches(_plain(name), known, cutoff=_SIMILAR)
    if similar:
        raise ConfigError(f"no fork is called '{name}'", hint=f"did you mean {known[similar[0]]}?")
    return Fork(name, at, by_time=bool(network.forks.time_forks) or at > LATEST_BLOCK)


def _check_place(fork: Fork, network: Network) -> None:
    """Whether a fork can be there at all, and whether it is one of those after the genesis. Raises `ConfigError`."""
    if fork.by_time and not network.genesis_time < fork.at < LATEST_TIME:
        hint = "give the time in seconds since 1970, after the genesis"
        raise ConfigError(f"{fork.name} cannot be at {fork.at} on {network.name}", hint=hint)
    if not fork.by_time and not 0 < fork.at <= LATEST_BLOCK:
        hint = "it is a fork by block number: give that, not a time"
        raise ConfigError(f"{fork.name} cannot be at block {fork.at} on {network.name}", hint=hint)
    if any(each.name == fork.name for each in network.named_forks) or fork.name not in _ORDER:
        return
    # Some forks are optional and can come in between: only what is before the first listed one is of the genesis.
    first = min((_rank(each) for each in network.named_forks if each.name in _ORDER), default=0)
    if _rank(fork) < first or _rank(fork) <= _rank_at_genesis(network):
        raise ConfigError(f"{fork.name} is in force since the genesis of {network.name} and cannot be moved")


def _check_order(fork: Fork, others: Iterable[Fork], network: Network) -> None:
    """Compare a changed or new fork with the others of its network. Raises `ConfigError`."""
    for other in others:
        if other.by_time is not fork.by_time or other.name not in _ORDER:
            continue
        first, second = sorted((fork, other), key=_rank)
        if first.at > second.at:
            raise ConfigError(
                f"{second.name} at {second.at} would come before {first.name} at {first.at} on {network.name}",
                hint="forks keep their order",
            )


def _rank(fork: Fork) -> int:
    """Position of a fork among all; those that we do not know come last."""
    return _ORDER.index(fork.name) if fork.name in _ORDER else len(_ORDER)


def _rank_at_genesis(network: Network) -> int:
    """Position of the last fork that the genesis header shows; -1 if it shows none or is not known."""
    if network.genesis_header_raw is None:
        return -1
    header = decode_header(network.genesis_header_raw)
    shown = [name for name, field in FORK_FIELDS.items() if getattr(header, field) is not None]
    return max(map(_ORDER.index, shown), default=-1)
