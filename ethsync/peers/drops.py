"""On whom we hung up in this run, how often, and why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

MOST_DROPS = 1024
"""Nodes remembered, those dropped last; 400 kB. Nobody reads more reasons than that."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a node was dropped. `why` is the last reason of `times`, `connection` the number of the connection that it
    ended; a banned node is not dialled again."""

    peer: str
    why: str
    connection: int
    times: int = 1
    banned: bool = False

    def __str__(self) -> str:
        often = f" {self.times} times" if self.times > 1 else ""
        return f"{self.peer} was dropped{often}: {self.why}"


@dataclass(slots=True)
class Drops:
    """The dropped nodes by public key (64 bytes). Those who were only undecodable may be connected again by now."""

    _by_key: dict[bytes, Drop] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: bytes) -> bool:
        return key in self._by_key

    def note(self, key: bytes, peer: str, why: str, connection: int, *, banned: bool = False) -> None:
        """A node was dropped; it is the last one then. What else was wrong on the same connection is not counted."""
        why = why.removeprefix(f"{peer} ")
        before = self._by_key.pop(key, None)
        drop = Drop(peer, why, connection, 1 if before is None else before.times + 1, banned)
        if before is not None and before.connection == connection:
            drop = replace(before, banned=banned or before.banned, why=why if banned else before.why)
        self._by_key[key] = drop
        if len(self._by_key) > MOST_DROPS:
            del self._by_key[next(iter(self._by_key))]

    def get(self, key: bytes) -> Drop | None:
        """What is known of one node; None if it was not dropped, or long ago."""
        return self._by_key.get(key)

    def all(self) -> list[Drop]:
        """All of them, the last one at the end."""
        return list(self._by_key.values())
