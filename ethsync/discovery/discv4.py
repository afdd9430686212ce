"""The discv4 node: endpoint proofs, requests and answers, without I/O (devp2p discv4.md, EIP-868).

Against abuse: until an address has answered a ping it gets a pong for its ping and, rarely, a ping; answers count only
for our own requests, from whom they were sent to; floods are dropped before anything is computed for them; every map is
bounded (see `ethsync.discovery.discv4_limits`).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.bounded import Outbox
from ethsync.discovery.discv4_bonds import RENEWAL_AGE, Bonds, Proof
from ethsync.discovery.discv4_calls import Call, Calls, Phase, Purpose
from ethsync.discovery.discv4_limits import DEFAULT_LIMITS, Gate, Limits
from ethsync.discovery.discv4_nodes import answer_parts, named_node, own_contact, with_record
from ethsync.discovery.discv4_packets import Contact
from ethsync.discovery.node import Datagram, Node, seen_at
from ethsync.discovery.protocol import AddressSeen, Event, Found, Met, Pong, RecordFetched, Target, Unanswered
from ethsync.errors import MalformedMessage
from ethsync.wire import keys
from ethsync.wire.enr import decode_record

if TYPE_CHECKING:
    from collections.abc import Callable

    import coincurve

    from ethsync.discovery.node import Endpoint
    from ethsync.discovery.protocol import NodeSource
    from ethsync.wire.enr import NodeRecord

REPLY_TIMEOUT = 0.5  # seconds for an answer (go-ethereum p2p/discover/v4_udp.go, respTimeout)
PING_BACK_TIMEOUT = 0.5
"""Seconds for a node that answered our ping to ping us too; then it is asked in any case (go-ethereum, ensureBond)."""
SETTLING_TIME = 0.05
"""Seconds between our pong and our question. Packets may overtake each other, and some nodes do not handle them in
turn: the question would come from somebody unproven. go-ethereum waits half a second."""

EXPIRATION = 20  # seconds for which our packets are valid (go-ethereum, expiration)
END_OF_TIME = 1 << 63
"""Expirations from here on are negative numbers where times are signed (go-ethereum, v4wire.Expired), so long past."""

RESULT_LIMIT = 16  # nodes in an answer (discv4.md, "FindNode Packet": k)
MOST_TRIES = 16
"""Neighbors whose signature is checked for one question: as if each had one node."""


class Discv4:
    """A `DiscoveryProtocol`. `wall_clock` is Unix time in seconds, for expirations; all else goes by `now`."""

    def __init__(
        self,
        key: coincurve.PrivateKey,
        record: NodeRecord,
        nodes: NodeSource,
        *,
        wall_clock: Callable[[], float] = time.time,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Packets sent, received and dropped, by kind or reason."""
        self.bonds = Bonds(limits.bonds)
        self.calls = Calls(limits.calls, limits.calls_per_endpoint)
        self._key = key
        self._public_key = keys.identity(key.public_key)
        self._record = record
        self._nodes = nodes
        self._wall_clock = wall_clock
        self._gate = Gate(limits)
        self._tokens = 0
        self._packets: Outbox[Datagram] = Outbox(limits.queued)
        self._events: Outbox[Event] = Outbox(limits.queued)
        self._by_message: dict[type[wire.Message], Callable[[Any, bytes, Node, float], None]] = {
            wire.Ping: self._on_ping,
            wire.Pong: self._on_pong,
            wire.FindNode: self._on_find_node,
            wire.Neighbors: self._on_neighbors,
            wire.RecordRequest: self._on_record_request,
            wire.RecordResponse: self._on_record_response,
        }
        self._awaits: dict[type[wire.Message], Callable[[Any, Endpoint], bool]] = {
            wire.Pong: self._awaits_pong,
            wire.Neighbors: self._awaits_neighbors,
            wire.RecordResponse: self._awaits_record,
        }
        self._on_deadline: dict[Phase, Callable[[Call, float], None]] = {
            Phase.AWAITS_PONG: lambda call, now: self._give_up(call, "no answer to our ping"),
            Phase.AWAITS_PING: self._ask,
            Phase.SENT: self._end_waiting,
        }

    # What the owner calls: see DiscoveryProtocol.

    def receive(self, data: bytes, source: Endpoint, now: float) -> bool:
        """Take one datagram. False if it is none of this protocol. Never raises, whatever the bytes are."""
        if not wire.is_packet(data):
            return False
        try:
            self._take(data, source, now)
        except MalformedMessage:
            self._drop("malformed")
        return True

    def advance(self, now: float) -> None:
        """Let the time pass: give up what waited too long, ask those that had their time to ping us."""
        for call in self.calls.due(now):
            self._on_deadline[call.phase](call, now)

    @property
    def deadline(self) -> float:
        """When `advance` should be called next; infinity if nothing waits."""
        return self.calls.deadline

    def packets(self) -> list[Datagram]:
        """What is to be sent, once."""
        return self._packets.take()

    def events(self) -> list[Event]:
        """What happened, once."""
        return self._events.take()

    def ping(self, node: Node, now: float) -> int:
        """Ask for a sign of life."""
        return self._start(Call(self._token(), node, Purpose.PING), now)

    def find_nodes(self, node: Node, target: Target, now: float) -> int:
        """Ask for the nodes that it knows near the target. Ends with the 16th, or at the timeout with what has come."""
        return self._start(Call(self._token(), node, Purpose.FIND, target.public_key), now)

    def fetch_record(self, node: Node, now: float) -> int:
        """Ask for its record (EIP-868)."""
        return self._start(Call(self._token(), node, Purpose.RECORD), now)

    def set_record(self, record: NodeRecord) -> None:
        """Our own record changed; others learn of it by the sequence number in our pings and pongs."""
        self._record = record

    # Requests of ours.

    def _token(self) -> int:
        self._tokens += 1
        return self._tokens

    def _start(self, call: Call, now: float) -> int:
        endpoint = call.node.endpoint
        if not endpoint.port:
            self._report(call, Unanswered(call.token, call.node, "it has no discovery port"))
        elif not self.calls.has_room(endpoint):
            self._report(call, Unanswered(call.token, call.node, "too many requests wait for answers"))
        else:
            self.calls.add(call)
            if call.purpose is Purpose.PING or self.bonds.is_trusted_by(call.node, now):
                self._ask(call, now)
            elif self.bonds.is_proven(call.node, now, PING_BACK_TIMEOUT):
                self.calls.wait(call, Phase.AWAITS_PING, now + PING_BACK_TIMEOUT)
            else:
                self.calls.wait(call, Phase.AWAITS_PONG, now + REPLY_TIMEOUT)
                self._ping_for(call, now)
        return call.token

    def _ping_for(self, waiting: Call, now: float) -> None:
        """Ping a node that waits to be asked: there is one such ping per waiting call at most, so none is refused."""
        if not self._is_pinging(waiting.node):
            call = Call(self._token(), waiting.node, Purpose.PING, unasked=True)
            self.calls.add(call)
            self._ask(call, now)

    def _is_pinging(self, node: Node) -> bool:
        return any(call.purpose is Purpose.PING for call in self.calls.to(node))

    def _ask(self, call: Call, now: float) -> None:
        if call.purpose is Purpose.FIND and self.calls.search(call.node) is not None:
            self.calls.queue(call)
            return
        packet_hash = self._send(self._question(call), call.node.endpoint)
        self.calls.sent(call, packet_hash, now + REPLY_TIMEOUT)

    def _question(self, call: Call) -> wire.Message:
        questions: dict[Purpose, Callable[[], wire.Message]] = {
            Purpose.PING: lambda: self._make_ping(call.node),
            Purpose.FIND: lambda: wire.FindNode(call.target, self._expiration()),
            Purpose.RECORD: lambda: wire.RecordRequest(self._expiration()),
        }
        return questions[call.purpose]()

    def _end_waiting(self, call: Call, now: float) -> None:
        if call.parts:
            self._finish_search(call, now)
            return
        self._give_up(call, "no answer")
        if call.purpose is not Purpose.PING:
            self.bonds.distrust(call.node)
        if call.purpose is Purpose.FIND:
            for queued in self.calls.queued(call.node):
                self._give_up(queued, "no answer to the question before")

    def _finish_search(self, call: Call, now: float) -> None:
        self._finish(call, Found(call.token, call.node, tuple(call.found.values())))
        for queued in self.calls.queued(call.node)[:1]:
            self._ask(queued, now)

    def _give_up(self, call: Call, why: str) -> None:
        self._finish(call, Unanswered(call.token, call.node, why))

    def _finish(self, call: Call, event: Event) -> None:
        self.calls.remove(call)
        self._report(call, event)

    def _report(self, call: Call, event: Event) -> None:
        """Tell the outcome of a call. Of those that nobody asked for only records are news."""
        if not call.unasked or isinstance(event, RecordFetched):
            self._events.put(event)

    def _tell(self, event: Met | AddressSeen) -> None:
        """Tell what no token belongs to, if there is room."""
        self._events.offer(event)

    # Packets out.

    def _send(self, message: wire.Message, to: Endpoint) -> bytes:
        """Queue a packet; return its hash."""
        packet = wire.encode_packet(self._key, message)
        if self._packets.offer(Datagram(packet, to)):
            self.counts[f"sent {type(message).__name__}"] += 1
        return packet[: wire.HASH_SIZE]

    def _expiration(self) -> int:
        return int(self._wall_clock()) + EXPIRATION

    def _make_ping(self, node: Node) -> wire.Ping:
        proof = self.bonds.proof(node)
        sender = own_contact(self._record, proof.seen if proof is not None else None, node.endpoint)
        return wire.Ping(sender, Contact.of(node.endpoint), self._expiration(), self._record.seq)

    # Packets in.

    def _take(self, data: bytes, source: Endpoint, now: float) -> None:
        """Cheapest first: a signature is checked only if nothing else speaks against the packet."""
        if not source.port or not self._gate.admits_packet(source, now):
            return self._drop("too many packets")
        if wire.is_answer(data) and not self.calls.at(source):
            return self._drop("unsolicited")
        message = wire.decode_message(data)
        if message is None:
            return self._drop("unknown type")
        if not isinstance(message, wire.RecordResponse) and self._is_expired(message.expiration):
            return self._drop("expired")
        awaits = self._awaits.get(type(message))
        if awaits is not None and not awaits(message, source):
            return self._drop("unsolicited")
        if awaits is None and not (self._is_asking(source) or self._gate.admits_request(now)):
            return self._drop("too many requests")
        public_key = wire.signer(data)
        if public_key == self._public_key:
            return self._drop("our own")
        self.counts[f"received {type(message).__name__}"] += 1
        sender = Node(keys.node_id(public_key), public_key, source, 0)
        self._by_message[type(message)](message, data[: wire.HASH_SIZE], sender, now)

    def _is_asking(self, source: Endpoint) -> bool:
        """Whether we wait for something from there of our own accord: its ping must come through a flood of others."""
        return any(not call.meets for call in self.calls.at(source))

    def _drop(self, why: str) -> None:
        self.counts[f"dropped {why}"] += 1

    def _is_expired(self, expiration: int) -> bool:
        return not self._wall_clock() <= expiration < END_OF_TIME

    # Requests of others.

    def _on_ping(self, message: wire.Ping, packet_hash: bytes, sender: Node, now: float) -> None:
        if not self._gate.may_pong(sender.endpoint, now):
            return self._drop("too many pings")
        sender = replace(sender, tcp_port=message.sender.tcp)
        contact = Contact.of(sender.endpoint, sender.tcp_port)
        self._send(wire.Pong(contact, packet_hash, self._expiration(), self._record.seq), sender.endpoint)
        self.bonds.trust(sender, now)
        for call in self.calls.to(sender):
            if call.phase in (Phase.AWAITS_PONG, Phase.AWAITS_PING):
                self.calls.wait(call, Phase.AWAITS_PING, min(call.deadline, now + SETTLING_TIME))
        if self.bonds.is_proven(sender, now, RENEWAL_AGE):
            self._tell(Met(sender))
        else:
            self._ping_back(sender, now)

    def _ping_back(self, node: Node, now: float) -> None:
        """Ask for the endpoint proof of a node that contacted us."""
        if self._is_pinging(node) or not self._gate.may_ping_back(node.endpoint, now):
            return
        self._start(Call(self._token(), node, Purpose.PING, unasked=True, meets=True), now)

    def _has_proof(self, sender: Node, now: float) -> bool:
        if self.bonds.is_proven(sender, now):
            return True
        self._drop("unproven")
        moved = self.bonds.moved(sender, now)
        if moved is not None:
            self._ping_back(moved, now)
        return False

    def _on_find_node(self, message: wire.FindNode, packet_hash: bytes, sender: Node, now: float) -> None:
        if not self._has_proof(sender, now):
            return
        nearest = self._nodes.closest(keys.node_id(message.target), RESULT_LIMIT)
        for part in answer_parts(nearest, sender.endpoint):
            self._send(wire.Neighbors(part, self._expiration()), sender.endpoint)

    def _on_record_request(self, message: wire.RecordRequest, packet_hash: bytes, sender: Node, now: float) -> None:
        if self._has_proof(sender, now):
            self._send(wire.RecordResponse(packet_hash, self._record.raw), sender.endpoint)

    # Answers to us.

    def _awaits_pong(self, message: wire.Pong, source: Endpoint) -> bool:
        return bool(self.calls.answered_by(message.ping_hash, Purpose.PING, source))

    def _awaits_record(self, message: wire.RecordResponse, source: Endpoint) -> bool:
        return bool(self.calls.answered_by(message.request_hash, Purpose.RECORD, source))

    def _awaits_neighbors(self, message: wire.Neighbors, source: Endpoint) -> bool:
        """Before the signature is known any search there may be meant: each has a number of tries."""
        searches = [call for call in self.calls.at(source) if call.is_searching and call.tries < MOST_TRIES]
        for call in searches:
            call.tries += 1
        return bool(searches)

    def _on_pong(self, message: wire.Pong, packet_hash: bytes, sender: Node, now: float) -> None:
        calls = self.calls.answered(message.ping_hash, Purpose.PING, sender)
        if not calls:
            return self._drop("unsolicited")
        claim = message.recipient.endpoint
        seen = seen_at(claim, sender.endpoint) if claim is not None else None
        proof = self.bonds.prove(calls[0].node, seen, now)
        if seen is not None:
            self._tell(AddressSeen(sender.node_id, seen, sender.endpoint))
        for call in calls:
            self._finish(call, Pong(call.token, call.node))
            if call.meets:
                self._tell(Met(call.node))
        for call in self.calls.to(sender):
            if call.phase is Phase.AWAITS_PONG:
                self.calls.wait(call, Phase.AWAITS_PING, now + PING_BACK_TIMEOUT)
        self._fetch_if_newer(calls[0].node, proof, message.enr_seq, now)

    def _fetch_if_newer(self, node: Node, proof: Proof, announced: int, now: float) -> None:
        """Ask for a record that a pong announced, unless somebody does already."""
        fetching = any(call.purpose is Purpose.RECORD for call in self.calls.to(node))
        if not fetching and proof.may_ask(announced, now) and self._gate.may_fetch_record(now):
            proof.asked_at = now
            self._start(Call(self._token(), node, Purpose.RECORD, unasked=True), now)

    def _on_neighbors(self, message: wire.Neighbors, packet_hash: bytes, sender: Node, now: float) -> None:
        """Take some more nodes. Nothing says which packet is the last one, but an empty one is the only one."""
        call = self.calls.search(sender)
        if call is None:
            return self._drop("unsolicited")
        self.bonds.trust(sender, now)
        call.parts += 1
        for neighbor in message.nodes:
            if len(call.named) < RESULT_LIMIT and neighbor.public_key not in call.named:
                call.named.add(neighbor.public_key)
                node = named_node(neighbor, sender.endpoint)
                if node is not None and node.public_key != self._public_key:
                    call.found[node.node_id] = node
        if len(call.named) == RESULT_LIMIT or not message.nodes:
            self._finish_search(call, now)

    def _on_record_response(self, message: wire.RecordResponse, packet_hash: bytes, sender: Node, now: float) -> None:
        calls = self.calls.answered(message.request_hash, Purpose.RECORD, sender)
        if not calls:
            return self._drop("unsolicited")
        self.bonds.trust(sender, now)
        try:
            record = decode_record(message.record)
        except MalformedMessage:
            why = "its record is not valid"
        else:
            why = "" if record.public_key == sender.public_key else "it sent the record of another node"
        for call in calls:
            if why:
                self._give_up(call, why)
            else:
                self._finish(call, RecordFetched(call.token, with_record(call.node, record)))
        proof = self.bonds.proof(sender)
        if proof is not None and not why:
            proof.seq = max(proof.seq, record.seq)
