"""Packets that strangers forge, for both protocols: what each kind is, and streams of them from invented addresses."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

from ethsync.discovery import discv4_packets as v4
from ethsync.discovery import discv5_packets as v5
from ethsync.discovery.discv5_packets import Flag
from ethsync.discovery.node import Endpoint
from ethsync.hashing import keccak256
from tests.unit.discovery.discv4_bench import EPOCH, key_number, node_number, record_at

DISTINCT = 100
"""Different packets of each kind. Their sources are all different, so that nothing is known of any."""

EXPIRATION = EPOCH + 3600
NEIGHBORS = tuple(v4.Neighbor(v4.UNKNOWN, node_number(number).public_key) for number in range(1, 13))


def most_in_a_second(times: list[float]) -> int:
    """The largest number of events in any second, wherever it begins."""
    return max((bisect_left(times, at + 1.0) - place for place, at in enumerate(times)), default=0)


class Forger:
    """Makes packets for the node with an id. `known_id` is that of a node with which it has a session."""

    def __init__(self, local_id: bytes, known_id: bytes, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._local_id = local_id
        self._known_id = known_id
        self._keys = (key_number(number) for number in range(1_000_000, 2_000_000))
        self.kinds: dict[str, Callable[[], bytes]] = {
            "noise": lambda: self._rng.randbytes(self._rng.randrange(1500)),
            "discv5 message of a stranger": lambda: self._message(self._rng.randbytes(32)),
            "discv5 message in the name of a known node": lambda: self._message(self._known_id),
            "discv5 WHOAREYOU for nothing": lambda: self._masked(Flag.WHOAREYOU, self._rng.randbytes(24)),
            "discv5 handshake without a challenge": lambda: self._handshake(self._rng.randbytes(32)),
            "discv5 handshake in the name of a known node": lambda: self._handshake(self._known_id),
            "discv4 packet with a wrong hash": lambda: self._rng.randbytes(32) + self._signed(self._ping())[32:],
            "discv4 packet with an impossible signature": self._badly_signed,
            "discv4 Ping": lambda: self._signed(self._ping()),
            "discv4 FindNode": lambda: self._signed(v4.FindNode(self._rng.randbytes(64), EXPIRATION)),
            "discv4 ENRRequest": lambda: self._signed(v4.RecordRequest(EXPIRATION)),
            "discv4 Pong for nothing": lambda: self._signed(v4.Pong(v4.UNKNOWN, self._rng.randbytes(32), EXPIRATION)),
            "discv4 Neighbors for nothing": lambda: self._signed(v4.Neighbors(NEIGHBORS, EXPIRATION)),
            "discv4 ENRResponse for nothing": self._record_response,
            "discv4 Ping of the day before": lambda: self._signed(self._ping(EPOCH - 86_400)),
        }

    def sources(self) -> Iterator[Endpoint]:
        """Invented addresses of both IP versions."""
        rng = self._rng
        while True:
            yield Endpoint(IPv4Address(rng.getrandbits(32)), rng.randrange(1, 65536))
            yield Endpoint(IPv6Address(0x2A << 120 | rng.getrandbits(112)), rng.randrange(1, 65536))

    def flood(self) -> Iterator[tuple[bytes, Endpoint]]:
        """Packets of all kinds in random order, and whence they seem to come."""
        packets = [make() for make in self.kinds.values() for _ in range(DISTINCT)]
        sources = self.sources()
        while True:
            self._rng.shuffle(packets)
            yield from zip(packets, sources, strict=False)

    def _masked(self, flag: Flag, authdata: bytes) -> bytes:
        start, _ = v5.mask(flag, self._rng.randbytes(12), authdata, self._local_id, self._rng.randbytes(16))
        return start

    def _message(self, source_id: bytes) -> bytes:
        return self._masked(Flag.MESSAGE, source_id) + self._rng.randbytes(self._rng.randrange(17, 1000))

    def _handshake(self, source_id: bytes) -> bytes:
        key = next(self._keys)
        record = record_at(key, node_number(1).endpoint).raw
        authdata = v5.Handshake(source_id, self._rng.randbytes(64), key.public_key.format(), record).encode()
        return self._masked(Flag.HANDSHAKE, authdata) + self._rng.randbytes(100)

    def _signed(self, message: v4.Message) -> bytes:
        return v4.encode_packet(next(self._keys), message)

    def _ping(self, expiration: int = EXPIRATION) -> v4.Ping:
        return v4.Ping(v4.UNKNOWN, v4.UNKNOWN, expiration)

    def _badly_signed(self) -> bytes:
        signed = b"\xff" * v4.SIGNATURE_SIZE + self._signed(self._ping())[v4.HEAD_SIZE :]
        return keccak256(signed) + signed

    def _record_response(self) -> bytes:
        key = next(self._keys)
        record = record_at(key, node_number(1).endpoint).raw
        return v4.encode_packet(key, v4.RecordResponse(self._rng.randbytes(32), record))
