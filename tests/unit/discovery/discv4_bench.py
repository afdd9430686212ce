"""A discv4 node on the bench: its clock stands still unless moved, and the nodes around it do what a test says."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeVar

import coincurve

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4 import Discv4
from ethsync.discovery.discv4_limits import DEFAULT_LIMITS, Limits
from ethsync.discovery.discv4_packets import Contact
from ethsync.discovery.node import Endpoint, Node
from ethsync.discovery.protocol import Event, Target
from ethsync.wire import keys
from ethsync.wire.enr import NodeRecord, address_pairs, sign_record

EPOCH = 1_800_000_000  # Unix time when a bench's clock shows 0
OUR_KEY = coincurve.PrivateKey(b"\x01" * 32)
OUR_ENDPOINT = Endpoint(ip_address("8.8.4.4"), 30303)
TARGET = Target(b"\x55" * 64, keys.node_id(b"\x55" * 64))

M = TypeVar("M")


def endpoint(text: str, port: int = 30303) -> Endpoint:
    return Endpoint(ip_address(text), port)


def key_number(number: int) -> coincurve.PrivateKey:
    return coincurve.PrivateKey(number.to_bytes(32, "big"))


def record_at(key: coincurve.PrivateKey, at: Endpoint, seq: int = 1) -> NodeRecord:
    ip = {"ip6": at.ip} if at.ip.version == 6 else {"ip": at.ip}
    return sign_record(key, seq, address_pairs(**ip, tcp=at.port, udp=at.port))


def node_number(number: int, at: Endpoint | None = None) -> Node:
    public_key = keys.identity(key_number(number).public_key)
    at = at or endpoint(f"9.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    return Node(keys.node_id(public_key), public_key, at, at.port)


def neighbor(node: Node) -> wire.Neighbor:
    return wire.Neighbor(Contact.of(node.endpoint, node.tcp_port), node.public_key)


@dataclass
class Table:
    """A `NodeSource` with fixed contents."""

    nodes: list[Node] = field(default_factory=list)

    def closest(self, target: bytes, count: int) -> list[Node]:
        aim = int.from_bytes(target, "big")
        return sorted(self.nodes, key=lambda node: int.from_bytes(node.node_id, "big") ^ aim)[:count]

    def at_distances(self, distances: list[int], count: int) -> list[Node]:
        raise AssertionError("discv4 has no distances")


class Sent(NamedTuple):
    message: wire.Message
    to: Endpoint
    hash: bytes
    size: int


class Bench:
    """`discv4` is the node under test."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS, record: NodeRecord | None = None) -> None:
        self.now = 0.0
        self.table = Table()
        self.record = record or record_at(OUR_KEY, OUR_ENDPOINT, seq=7)
        self.discv4 = Discv4(OUR_KEY, self.record, self.table, wall_clock=self.wall_clock, limits=limits)

    def wall_clock(self) -> float:
        return EPOCH + self.now

    def sent(self) -> list[Sent]:
        """The packets since the last call, each of which must be one that others can read."""
        return [read(data, to) for data, to in self.discv4.packets()]

    def sent_one(self, kind: type[M]) -> tuple[M, Sent]:
        """The one packet since the last call, which must be of a kind."""
        (sent,) = self.sent()
        assert isinstance(sent.message, kind)
        return sent.message, sent

    def pass_time(self, seconds: float) -> None:
        """Let the time pass, `advance` being called at every deadline."""
        end = self.now + seconds
        while self.discv4.deadline <= end:
            self.now = max(self.now, self.discv4.deadline)
            self.discv4.advance(self.now)
        self.now = end

    def events(self, kind: type[M]) -> list[M]:
        """The events since the last call, if they are of a kind."""
        return [event for event in self.discv4.events() if isinstance(event, kind)]


def read(data: bytes, to: Endpoint) -> Sent:
    assert wire.is_packet(data)
    message = wire.decode_message(data)
    assert message is not None
    assert len(data) <= wire.LARGEST_PACKET
    return Sent(message, to, data[: wire.HASH_SIZE], len(data))


class Remote:
    """Another node, with a key and an address."""

    def __init__(self, bench: Bench, number: int = 100, at: Endpoint | None = None) -> None:
        self.bench = bench
        self.key = key_number(number)
        self.node = node_number(number, at)
        self.endpoint = self.node.endpoint
        self.expiration = EPOCH + 10**6

    def say(self, message: wire.Message, source: Endpoint | None = None) -> bytes:
        """Send a message to the bench; return its hash."""
        packet = wire.encode_packet(self.key, message)
        assert self.bench.discv4.receive(packet, source or self.endpoint, self.bench.now)
        return packet[: wire.HASH_SIZE]

    def ping(self, source: Endpoint | None = None, **changes: Any) -> bytes:
        contact = Contact.of(self.endpoint, self.node.tcp_port)
        fields = {"sender": contact, "recipient": Contact.of(OUR_ENDPOINT), "expiration": self.expiration, **changes}
        return self.say(wire.Ping(**fields), source)

    def pong(self, ping_hash: bytes, source: Endpoint | None = None, **changes: Any) -> bytes:
        fields = {"recipient": Contact.of(OUR_ENDPOINT), "expiration": self.expiration, **changes}
        return self.say(wire.Pong(ping_hash=ping_hash, **fields), source)

    def find_node(self, source: Endpoint | None = None, **changes: Any) -> bytes:
        fields = {"target": TARGET.public_key, "expiration": self.expiration, **changes}
        return self.say(wire.FindNode(**fields), source)

    def name(self, nodes: list[Node], source: Endpoint | None = None, **changes: Any) -> bytes:
        fields = {"expiration": self.expiration, **changes}
        return self.say(wire.Neighbors(tuple(map(neighbor, nodes)), **fields), source)

    def bond(self) -> None:
        """Both prove their endpoints, as after a ping of the remote."""
        self.ping()
        (back,) = (sent for sent in self.bench.sent() if isinstance(sent.message, wire.Ping))
        self.pong(back.hash)
        self.bench.discv4.events()


class Network:
    """Several nodes and the lines between them: datagrams are late, and sometimes lost, doubled or out of order.

    `delay` is the range of seconds that one takes; `loss` and `doubling` are shares.
    """

    def __init__(
        self, seed: int, *, delay: tuple[float, float] = (0.01, 0.01), loss: float = 0.0, doubling: float = 0.0
    ) -> None:
        self.now = 0.0
        self.nodes: dict[Endpoint, Discv4] = {}
        self.events: dict[Endpoint, list[Event]] = {}
        self.carried = 0
        self._random = random.Random(seed)
        self._delay, self._loss, self._doubling = delay, loss, doubling
        self._lines: list[tuple[float, int, bytes, Endpoint, Endpoint]] = []

    def add(self, number: int, table: Table | None = None, seq: int = 1) -> Node:
        key, node = key_number(number), node_number(number)
        record = record_at(key, node.endpoint, seq)
        table = table or Table()
        self.nodes[node.endpoint] = Discv4(key, record, table, wall_clock=lambda: EPOCH + self.now)
        self.events[node.endpoint] = []
        return node

    def at(self, node: Node) -> Discv4:
        return self.nodes[node.endpoint]

    def run(self, seconds: float) -> None:
        """Let the time pass."""
        end = self.now + seconds
        while True:
            self._collect()
            due = min([node.deadline for node in self.nodes.values()] + [line[0] for line in self._lines[:1]])
            if due > end:
                break
            self.now = max(self.now, due)
            while self._lines and self._lines[0][0] <= self.now:
                _, _, data, source, to = heapq.heappop(self._lines)
                if to in self.nodes:
                    self.nodes[to].receive(data, source, self.now)
            for node in self.nodes.values():
                node.advance(self.now)
        self.now = end

    def _collect(self) -> None:
        for place, node in self.nodes.items():
            self.events[place] += node.events()
            for data, to in node.packets():
                copies = (self._random.random() >= self._loss) * (1 + (self._random.random() < self._doubling))
                for _ in range(copies):
                    self.carried += 1
                    late = self._random.uniform(*self._delay)
                    heapq.heappush(self._lines, (self.now + late, self.carried, data, place, to))


def search(bench: Bench, remote: Remote, target: Target = TARGET) -> int:
    return bench.discv4.find_nodes(remote.node, target, bench.now)


def answer_ping(bench: Bench, remote: Remote, **changes: Any) -> None:
    _, sent = bench.sent_one(wire.Ping)
    remote.pong(sent.hash, **changes)


def respond(bench: Bench, remote: Remote, record: bytes) -> None:
    _, sent = bench.sent_one(wire.RecordRequest)
    remote.say(wire.RecordResponse(sent.hash, record))


def record_of(remote: Remote, seq: int = 3) -> NodeRecord:
    return record_at(remote.key, remote.endpoint, seq)
