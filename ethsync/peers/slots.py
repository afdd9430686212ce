"""Who may be our peer: a bounded number, from many networks, the useful ones kept. Pure: the time is an argument."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ethsync.discovery.addresses import is_public, subnet
from ethsync.discovery.turns import network
from ethsync.errors import DisconnectReason
from ethsync.peers.standing import Standing, Worth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.discovery.addresses import Subnet
    from ethsync.discovery.candidate import Candidate
    from ethsync.wire.enr import IPAddress

MOST_PEERS = 50
"""As geth (node/defaults.go, MaxPeers)."""

INBOUND_SHARE = 1 / 3
"""The other way round than geth, which dials one peer in three (p2p/server.go, defaultDialRatio). Whoever dials us has
reasons of its own, while we choose whom we dial; and a sync takes more than it gives."""

MOST_PER_SUBNET = 2
"""Peers per public /24 or /64, as geth allows in a bucket of its table (p2p/discover/table.go, bucketIPLimit)."""

MOST_PER_NETWORK_6 = 4
"""Peers per IPv6 /32, in which /64s cost nothing."""

DIALS_PER_SLOT = 8
"""Dials under way for each free slot, where geth has two (p2p/dial.go, freeDialSlots). Of the nodes of a network one in
five welcomes us, where half of them are dead or lie one in ten: with two the last five of 50 peers took a minute of
their own (tests/simulation). Whoever comes too many is told so."""

TRIAL = 30.0
"""Seconds in which a new peer is not replaced by a stranger: the longest time that one request may take (`rtt.CAP`)."""

ROTATION = 10.0
"""Seconds between two rotations, so that a pause of the whole network does not cost us all peers at once."""

DOMINANT = 3 / 4
"""Share of the peers of one direction from which one client is so common that an untried peer of it makes room for a
client that we have none of: what one client does wrong, all its peers do."""

CLIENTS = ("geth", "nethermind", "besu", "erigon", "reth", "ethrex", "nimbus", "ethereumjs")
"""Names at the beginning of a Hello's client id. All others count as one, so that inventing names gains nothing."""

NETWORK_6 = -6
"""Stands for the IP version of a /32 of IPv6, which a subnet (a /64) has too."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Welcome."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Hang up, telling it `reason`; `why` is for us."""

    reason: DisconnectReason
    why: str


@dataclass(frozen=True, slots=True)
class Replaces:
    """Welcome, and the peer with the key `other` has to go: hang up on it. It has left its slot already."""

    other: bytes
    why: str


Admission: TypeAlias = "Admitted | Refused | Replaces"


@dataclass(slots=True, eq=False)
class _Held:
    key: bytes
    inbound: bool
    ip: IPAddress | None
    client: str
    fixed: bool
    trusted: bool
    since: float
    standing: Standing = field(default_factory=Standing)
    before: Standing | None = None
    """Standing when it came, as far as it was known already."""

    @property
    def places(self) -> tuple[Subnet, ...]:
        """The subnets that it takes a place of."""
        return () if self.fixed else _places(self.ip)


class Slots:
    """The slots for peers. Keys have 64 bytes; `ip` is None if it is not known, `now` is in seconds.

    Inbound and outbound peers have slots of their own, so that neither crowds out the other. But dialled peers are lent
    inbound slots as long as nobody wants them: behind a router nobody ever calls. A caller then takes that of the least
    useful of them, unless all have been of use. Peers that the user named (static, trusted) have no limits but their
    number.
    """

    def __init__(
        self,
        max_peers: int = MOST_PEERS,
        *,
        inbound_share: float = INBOUND_SHARE,
        per_subnet: int = MOST_PER_SUBNET,
    ) -> None:
        self.max_peers = max_peers
        self.max_inbound = int(max_peers * inbound_share)
        self.max_outbound = max_peers - self.max_inbound
        self.per_subnet = per_subnet
        self._held: dict[bytes, _Held] = {}
        self._places: Counter[Subnet] = Counter()
        self._last_rotation = float("-inf")

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    @property
    def free_outbound(self) -> int:
        """Peers that may still be dialled, where inbound slots are free also into these."""
        return max(0, self.max_peers - len(self._held))

    @property
    def useful_dials(self) -> int:
        """How many dials are worth having under way."""
        return DIALS_PER_SLOT * self.free_outbound

    def refuses(self, candidate: Candidate) -> str | None:
        """Why a candidate should not be dialled now; None if it may. `admit` has the last word once it is connected."""
        if candidate.public_key in self._held:
            return "it is connected"
        if candidate.is_fixed:
            return None
        if not self.free_outbound:
            return "all slots are taken"
        return self._crowded(candidate.ip)

    def admit(
        self,
        key: bytes,
        ip: IPAddress | None,
        client: str,
        now: float,
        *,
        inbound: bool,
        fixed: bool = False,
        trusted: bool = False,
    ) -> Admission:
        """Decide on a node that has greeted us; unless it is refused it has its slot from now on.

        A static peer takes somebody's slot if it has to, a trusted one is let in beyond the maximum, as by geth
        (p2p/server.go, postHandshakeChecks).
        """
        if key in self._held:
            return Refused(DisconnectReason.ALREADY_CONNECTED, "it is connected already")
        newcomer = _Held(key, inbound, ip, _client(client), fixed or trusted, trusted, now)
        if newcomer.fixed:
            return self._admit_fixed(newcomer)
        crowded = self._crowded(ip)
        if crowded is not None:
            return Refused(DisconnectReason.TOO_MANY_PEERS, crowded)
        entitled = not inbound or self._count(inbound=True) < self.max_inbound
        if entitled and len(self._held) < self.max_peers:
            self._hold(newcomer)
            return Admitted()
        other = self._lent(now) if inbound and entitled else self._makes_room_for(newcomer, now)
        if other is None:
            return Refused(DisconnectReason.TOO_MANY_PEERS, "all slots are taken")
        return self._replace(other, newcomer)

    def judge(self, key: bytes, standing: Standing) -> None:
        """What a peer has been worth so far; the first judgement of a connection is what it came with."""
        held = self._held.get(key)
        if held is not None:
            if held.before is None:
                held.before = standing
            held.standing = standing.since(held.before)

    def left(self, key: bytes) -> None:
        """A peer has gone. Nothing happens if it had no slot."""
        held = self._held.pop(key, None)
        if held is not None:
            self._places.subtract(held.places)
            self._places += Counter()  # drops what is zero

    def rotation(self, now: float, replacements: int) -> bytes | None:
        """A peer to hang up on, because another may be better; None if all should stay. It keeps its slot until `left`.

        `replacements` is how many candidates could be dialled at once. Only a peer that never gave anything goes. It
        goes if its slot is needed and there is somebody to take it, or if it was tried often enough. Where others gave
        something and none does now, it is the state root that nobody has, and all stay. Where nobody ever gave
        anything, only those who were tried often enough make room: it may be the root, or we are among the useless.
        """
        best = max((held.standing.worth for held in self._held.values()), default=Worth.UNTRIED)
        needed = replacements > 0 and not self.free_outbound
        if now - self._last_rotation < ROTATION or best is Worth.STALE or (best < Worth.STALE and not needed):
            return None
        worst = Worth.DOUBTFUL if needed and best is Worth.SERVES else Worth.USELESS
        victims = [
            held
            for held in self._held.values()
            if self._is_loose(held, now) and held.standing.worth <= (Worth.USELESS if held.inbound else worst)
        ]
        if not victims:
            return None
        self._last_rotation = now
        return self._worst(victims).key

    # Inside

    def _admit_fixed(self, newcomer: _Held) -> Admission:
        """There is always a slot: at worst that of the least useful peer that the user did not name."""
        others = [held for held in self._held.values() if not held.fixed]
        if len(self._held) < self.max_peers or newcomer.trusted or not others:
            self._hold(newcomer)
            return Admitted()
        return self._replace(self._worst(others), newcomer)

    def _lent(self, now: float) -> _Held | None:
        """The dialled peer that gives back an inbound slot: one that had its chance and gave nothing so far."""
        dialled = [held for held in self._held.values() if not held.inbound]
        victims = [held for held in dialled if self._is_loose(held, now) and held.standing.worth <= Worth.UNTRIED]
        return self._worst(victims) if len(dialled) > self.max_outbound and victims else None

    def _makes_room_for(self, newcomer: _Held, now: float) -> _Held | None:
        """Who of the same direction has had its chance, or is one too many of its kind."""
        same = [held for held in self._held.values() if held.inbound is newcomer.inbound]
        clients = Counter(held.client for held in same)
        common = {client for client, count in clients.items() if count > DOMINANT * len(same)}
        victims = [
            held
            for held in same
            if self._is_loose(held, now)
            and (
                held.standing.worth < Worth.UNTRIED
                or (held.standing.worth is Worth.UNTRIED and held.client in common and newcomer.client not in clients)
            )
        ]
        return self._worst(victims) if victims else None

    def _is_loose(self, held: _Held, now: float) -> bool:
        return not held.fixed and now - held.since >= TRIAL

    def _worst(self, among: Sequence[_Held]) -> _Held:
        """Of the least useful ones those whose client is most common, of those the one with the lowest score."""
        clients = Counter(held.client for held in self._held.values())
        return min(
            among, key=lambda held: (held.standing.worth, -clients[held.client], held.standing.score, -held.since)
        )

    def _crowded(self, ip: IPAddress | None) -> str | None:
        for place in _places(ip):
            most = MOST_PER_NETWORK_6 if place[0] == NETWORK_6 else self.per_subnet
            if self._places[place] >= most:
                return f"{most} peers are of its network already"
        return None

    def _count(self, *, inbound: bool) -> int:
        return sum(held.inbound is inbound for held in self._held.values())

    def _hold(self, newcomer: _Held) -> None:
        self._held[newcomer.key] = newcomer
        self._places.update(newcomer.places)

    def _replace(self, other: _Held, newcomer: _Held) -> Replaces:
        self.left(other.key)
        self._hold(newcomer)
        return Replaces(other.key, "another peer needs the slot")


def _places(ip: IPAddress | None) -> tuple[Subnet, ...]:
    """Subnets with a limit that an address is in; none for private ones."""
    if ip is None or not is_public(ip):
        return ()
    if ip.version == 4:
        return (subnet(ip),)
    return subnet(ip), (NETWORK_6, network(ip)[1])


def _client(name: str) -> str:
    """The kind of a client id, such as 'geth' of 'Geth/v1.16.7-stable/linux-amd64/go1.25'."""
    kind = name.partition("/")[0].lower()
    return kind if kind in CLIENTS else ""
