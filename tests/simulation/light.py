"""A node of the simulated network over UDP: real discv5 packets, and answers computed when they are asked for."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.bucket import SUBNET_PER_BUCKET
from ethsync.discovery.discv5_answers import RESULT_LIMIT, split_records
from ethsync.discovery.discv5_calls import Call, Purpose
from ethsync.discovery.discv5_channel import Channel
from ethsync.discovery.discv5_limits import Limits
from ethsync.discovery.discv5_messages import FindNode, Nodes, Ping, Pong, Response, decode_message
from ethsync.discovery.node import Datagram, Endpoint, Node
from ethsync.errors import MalformedMessage
from tests.simulation.world import BUCKET_SIZE, OTHER, Citizen, Index, Manner, World

LIMITS = Limits(sessions=4, challenges=4, places=4, records=4, calls=4)
"""One node talks to it: ours."""

MANY = 200
"""Packets that a liar announces and does not send."""


class LightNode:
    """One citizen, awake."""

    def __init__(self, citizen: Citizen, world: World) -> None:
        self.citizen = citizen
        self.answered: Counter[type] = Counter()
        """Requests that it got, by kind."""
        self._world = world
        entropy = random.Random(citizen.number).randbytes
        self._channel = Channel(citizen.key, citizen.record, Counter(), entropy, LIMITS)
        self._tokens = itertools.count()

    def receive(self, data: bytes, source: Endpoint, now: float) -> list[Datagram]:
        """Take a packet; what it sends because of it."""
        packet = packets.unmask(data, self.citizen.node_id)
        try:
            opened = self._channel.open(packet, source, now) if packet is not None else None
        except MalformedMessage:
            return []
        if opened is not None:
            message = decode_message(opened.plaintext)
            if isinstance(message, Ping | FindNode):
                self.answered[type(message)] += 1
                for response in self._answers(message, source):
                    self._channel.send(opened.session, response)
        return self._channel.packets()

    def call_on(self, node: Node, now: float) -> list[Datagram]:
        """Make itself known to a node, with a PING of its own."""
        number = next(self._tokens)
        call = Call(number, node, Purpose.PING, Ping(number.to_bytes(8, "big"), 1))
        for earlier in self._channel.calls.at(call.place):
            self._channel.calls.remove(earlier)
        self._channel.begin(call, now)
        return self._channel.packets()

    def _answers(self, message: Ping | FindNode, source: Endpoint) -> Sequence[Response]:
        if isinstance(message, Ping):
            return [Pong(message.request_id, self.citizen.record.seq, source)]
        if message.distances == (0,):
            return [Nodes(message.request_id, 1, (self.citizen.record.raw,))]
        named = names(self._world, self.citizen, message)
        parts = split_records([one.record.raw for one in named])
        total = MANY if self.citizen.manner is Manner.PROMISES else len(parts)
        return [Nodes(message.request_id, total, part) for part in parts]


def _known_in(choose: Callable[[World], Index]) -> Callable[[World, Citizen, FindNode], Iterable[Citizen]]:
    def named(world: World, citizen: Citizen, message: FindNode) -> Iterable[Citizen]:
        index = choose(world)
        return (one for each in message.distances if each for one in index.bucket(citizen.number, each))

    return named


def _truth(world: World, citizen: Citizen, message: FindNode) -> Iterable[Citizen]:
    """Attackers are in the tables of honest nodes too, but no more than two of each subnet in a bucket, as with us."""
    for each in message.distances:
        intruders = world.attackers.bucket(citizen.number, each) if each else ()
        places: Counter[int] = Counter()
        for one in intruders:
            place = int(one.endpoint.ip) >> 8
            places[place] += 1
            if places[place] <= SUBNET_PER_BUCKET:
                yield one
        room = BUCKET_SIZE - sum(min(count, SUBNET_PER_BUCKET) for count in places.values())
        yield from (world.residents.bucket(citizen.number, each) if each else ())[:room]


def _strays(world: World, citizen: Citizen, message: FindNode) -> Iterable[Citizen]:
    wrong = [each for each in range(256, 0, -1) if each not in message.distances]
    return (one for each in wrong for one in world.residents.bucket(citizen.number, each))


_NAMES: dict[Manner, Callable[[World, Citizen, FindNode], Iterable[Citizen]]] = {
    Manner.HONEST: _truth,
    Manner.INVENTS: _known_in(lambda world: world.inventions),
    Manner.STRAYS: _strays,
    Manner.MISLEADS: lambda *asked: (one for one in _truth(*asked) if one.fork == OTHER),
    Manner.PROMISES: _truth,
    Manner.ATTACKS: _known_in(lambda world: world.attackers),
}


def names(world: World, citizen: Citizen, message: FindNode) -> list[Citizen]:
    """Whom a node names when it is asked for some distances."""
    return list(itertools.islice(_NAMES[citizen.manner](world, citizen, message), RESULT_LIMIT))
