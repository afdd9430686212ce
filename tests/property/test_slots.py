"""The peer slots under any sequence of events: no limit is exceeded, and nobody of use is lost to a stranger."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.discovery.addresses import is_public, subnet
from ethsync.peers.slots import MOST_PER_SUBNET, Admitted, Refused, Replaces, Slots
from ethsync.peers.standing import Standing
from ethsync.peers.track import Outcome
from ethsync.wire.enr import IPAddress
from tests.unit.discovery.crowds import key

MOST_PEERS = 12
FEW_FIXED = 4
FEW_TRUSTED = 2
ADDRESSES = [ip_address(f"{net}.{host}") for net in ("20.1.1", "20.1.2", "20.1.3", "10.0.0") for host in range(1, 6)]
ADDRESSES += [ip_address(f"20.2.{n}.1") for n in range(20)]
CLIENTS = ("Geth/v1", "Nethermind/v1", "besu/v25", "whoever/v0")


class History:
    """Random events on the slots, next to the plainest possible books."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.slots = Slots(MOST_PEERS)
        self.now = 0.0
        self.held: dict[bytes, tuple[bool, bool, IPAddress]] = {}
        """Inbound, fixed, address by key."""
        self.useful: set[bytes] = set()

    def ask(self) -> None:
        number = self.rng.randrange(60)
        fixed, trusted = number < FEW_FIXED, number < FEW_TRUSTED
        inbound, public_key, ip = self.rng.random() < 0.5, key(number), self.rng.choice(ADDRESSES)
        client = self.rng.choice(CLIENTS)
        lent = sum(not was_inbound for was_inbound, _, _ in self.held.values()) > self.slots.max_outbound
        admission = self.slots.admit(public_key, ip, client, self.now, inbound=inbound, fixed=fixed, trusted=trusted)
        if isinstance(admission, Refused):
            assert not fixed or public_key in self.held, "a node that the user named was refused"
            return
        assert isinstance(admission, Admitted | Replaces)
        if isinstance(admission, Replaces):
            was_inbound, was_fixed, _ = self.held.pop(admission.other)
            assert not was_fixed
            assert not trusted
            assert fixed or admission.other not in self.useful
            assert fixed or was_inbound is inbound or (inbound and lent)
        self.held[public_key] = inbound, fixed, ip
        self.useful.discard(public_key)

    def judge(self) -> None:
        if self.held:
            public_key = self.rng.choice(list(self.held))
            served = self.rng.choice([0, 0, 3]) or (3 if public_key in self.useful else 0)
            if served:
                self.useful.add(public_key)
            last = self.rng.choice([Outcome.SERVED, Outcome.EMPTY])
            self.slots.judge(public_key, Standing(served, self.rng.randrange(20), self.rng.randrange(9), last))

    def rotate(self) -> None:
        public_key = self.slots.rotation(self.now, self.rng.randrange(3))
        if public_key is not None:
            assert not self.held[public_key][1]
            assert public_key not in self.useful
            assert public_key in self.slots
            self.leave(public_key)

    def leave(self, public_key: bytes | None = None) -> None:
        if self.held:
            gone = public_key or self.rng.choice(list(self.held))
            self.slots.left(gone)
            del self.held[gone]
            self.useful.discard(gone)

    def step(self) -> None:
        self.now += self.rng.choice([0.0, 1.0, 20.0])
        self.rng.choice([self.ask] * 6 + [self.judge] * 6 + [self.rotate, self.rotate, self.leave])()
        self.check()

    def check(self) -> None:
        strangers = [(inbound, ip) for inbound, fixed, ip in self.held.values() if not fixed]
        trusted = sum(key(number) in self.held for number in range(FEW_TRUSTED))
        assert len(self.slots) == len(self.held) <= MOST_PEERS + trusted
        assert all(public_key in self.slots for public_key in self.held)
        assert sum(inbound for inbound, _ in strangers) <= self.slots.max_inbound
        places = Counter(subnet(ip) for _, ip in strangers if is_public(ip))
        assert max(places.values(), default=0) <= MOST_PER_SUBNET


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_all_limits_hold(seed: int) -> None:
    history = History(seed)
    for _ in range(400):
        history.step()
