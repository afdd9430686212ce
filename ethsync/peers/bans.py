"""Who lied to us, remembered for a while and between runs. Times are wall-clock, in Unix seconds."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Any

from ethsync import jsonfile
from ethsync.discovery.addresses import is_public, subnet

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.discovery.addresses import Subnet
    from ethsync.wire.enr import IPAddress

DURATION = 86400.0
"""A day: long enough to cost a liar its use, short enough that a node which was repaired comes back."""

LONGEST = 30 * 86400.0
"""No ban lasts longer, whatever the file says and however the clock was set."""

MOST = 4096
"""Bans at a time, 2 MB; each takes a proven lie over a connection. The one that would end first makes room."""

OFFENDERS = 3
"""Banned keys at one address from which the address itself is banned, until the first of them is free. A key costs
nothing; an address does. One liar alone does not ban it: others may share it."""

LONGEST_REASON = 500
"""Characters that are kept of a reason."""

VERSION = 1
"""Of the file's form; one of another version is set aside."""


@dataclass(frozen=True, slots=True)
class Ban:
    """Until when, and why."""

    until: float
    why: str
    ip: IPAddress | None


@dataclass(slots=True)
class Bans:
    """Bans by public key (64 bytes), and by address for repeated offences."""

    _by_key: dict[bytes, Ban] = field(default_factory=dict)
    _by_address: defaultdict[Subnet, set[bytes]] = field(default_factory=lambda: defaultdict(set))

    def __len__(self) -> int:
        return len(self._by_key)

    def ban(self, key: bytes, why: str, now: float, duration: float = DURATION, *, ip: IPAddress | None = None) -> None:
        """Ban a key, and count it against its address. A ban is never shortened by a later one."""
        self.expire(now)
        old = self._by_key.get(key)
        until = now + min(duration, LONGEST)
        if old is not None:
            until = max(until, old.until)
            self._remove(key)
        if len(self._by_key) >= MOST:
            self._remove(min(self._by_key, key=lambda each: self._by_key[each].until))
        self._by_key[key] = Ban(until, why[:LONGEST_REASON], ip if ip is not None or old is None else old.ip)
        address = _address(self._by_key[key].ip)
        if address is not None:
            self._by_address[address].add(key)

    def is_banned(self, key: bytes, now: float, ip: IPAddress | None = None) -> str | None:
        """Why a node is banned, by its key or its address; None if it is not."""
        ban = self._by_key.get(key)
        if ban is not None and ban.until > now:
            return ban.why
        return self.is_address_banned(ip, now)

    def is_address_banned(self, ip: IPAddress | None, now: float) -> str | None:
        """The same of an address alone, before its key is known."""
        address = _address(ip)
        if address is None or address not in self._by_address:
            return None
        offenders = sum(self._by_key[key].until > now for key in self._by_address[address])
        return f"{offenders} nodes at its address are banned" if offenders >= OFFENDERS else None

    def expire(self, now: float) -> None:
        """Forget the bans that are over."""
        for key in [key for key, ban in self._by_key.items() if ban.until <= now]:
            self._remove(key)

    def document(self, now: float) -> dict[str, Any]:
        """What `save` writes; a copy, so that a thread may write it."""
        self.expire(now)
        rows = [
            [key.hex(), ban.until, ban.why, None if ban.ip is None else str(ban.ip)]
            for key, ban in self._by_key.items()
        ]
        return {"version": VERSION, "bans": rows}

    def _remove(self, key: bytes) -> None:
        address = _address(self._by_key.pop(key).ip)
        if address is not None:
            self._by_address[address].discard(key)
            if not self._by_address[address]:
                del self._by_address[address]


def save(document: dict[str, Any], path: Path) -> bool:
    """Write a document of `Bans`. Returns whether that worked; it is never an error."""
    return jsonfile.write_json(path, document)


def load(path: Path, now: float) -> Bans:
    """Read the bans still in force; none if there is no such file. A damaged one is set aside with a warning."""
    document = jsonfile.read_json(path, VERSION)
    bans = Bans()
    if document is None:
        return bans
    try:
        for key, until, why, ip in document["bans"][:MOST]:
            _restore(bans, key, until, why, ip, now)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        jsonfile.set_aside(path, f"it is damaged: {type(error).__name__}: {error}")
        return Bans()
    return bans


def _restore(bans: Bans, key: str, until: float, why: str, ip: str | None, now: float) -> None:
    """Take over one row. Raises TypeError, ValueError or OverflowError if it is none."""
    raw = bytes.fromhex(key)
    if len(raw) != 64 or not math.isfinite(until) or not isinstance(why, str):
        raise ValueError("a ban without a key, a time or a reason")
    address = None if ip is None else ip_address(ip)
    if until > now:
        bans.ban(raw, why, now, until - now, ip=address)


def _address(ip: IPAddress | None) -> Subnet | None:
    """What counts as one address: an IPv4 address, an IPv6 /64; nothing at home, where all may be one machine."""
    if ip is None or not is_public(ip):
        return None
    return (4, int(ip)) if isinstance(ip, IPv4Address) else subnet(ip)
