"""The discv5.1 node: handshakes, sessions, requests and answers, without I/O (devp2p discv5-wire.md, -theory.md).

`ethsync.discovery.discv5_channel` gets messages to and from other nodes; here is what they mean. Against abuse: answers
count only for our own requests, from whom they were sent to; requests of a node are answered at a limited rate; every
map is bounded (see `ethsync.discovery.discv5_limits`).
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.bounded import Outbox, RateLimiter, TokenBucket
from ethsync.discovery.discv5_answers import MOST_PARTS, RESULT_LIMIT, Answers
from ethsync.discovery.discv5_calls import Call, Purpose
from ethsync.discovery.discv5_channel import Channel
from ethsync.discovery.discv5_limits import DEFAULT_LIMITS, Limits
from ethsync.discovery.discv5_messages import (
    FindNode,
    Message,
    Nodes,
    Ping,
    Pong,
    Request,
    TalkRequest,
    TalkResponse,
    decode_message,
)
from ethsync.discovery.discv5_nodes import claimed_node, lookup_distances, relayed_node
from ethsync.discovery.node import Datagram, Node, distance, seen_at
from ethsync.discovery.protocol import AddressSeen, Event, Found, Met, RecordFetched, Target, Unanswered
from ethsync.discovery.protocol import Pong as PongEvent
from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire.enr import NodeRecord, decode_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import coincurve

    from ethsync.discovery.discv5_answers import TalkHandler
    from ethsync.discovery.discv5_channel import Opened
    from ethsync.discovery.discv5_sessions import Session
    from ethsync.discovery.node import Endpoint
    from ethsync.discovery.protocol import NodeSource


@dataclass(frozen=True, slots=True)
class TalkAnswered:
    """`node` answered a TALKREQ; empty if it does not speak the protocol."""

    token: int
    node: Node
    response: bytes


class Discv5:
    """A `DiscoveryProtocol`. `record` is ours, signed with `key`; `talk` answers TALKREQs, by protocol.

    `entropy(n)` gives n random bytes for keys and nonces; only tests pass another than the system's.
    """

    def __init__(
        self,
        key: coincurve.PrivateKey,
        record: NodeRecord,
        nodes: NodeSource,
        *,
        talk: Mapping[bytes, TalkHandler] | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.local_id = record.node_id
        self.counts: Counter[str] = Counter()
        """Packets sent, received and dropped, by kind or reason."""
        self._channel = Channel(key, record, self.counts, entropy, limits)
        self._answers = Answers(record, nodes, talk or {})
        self._entropy = entropy
        self._requests: RateLimiter[bytes] = RateLimiter(limits.requests, limits.request_burst, limits.sessions)
        self._renewals: RateLimiter[bytes] = RateLimiter(limits.renewals, limits.renewal_burst, limits.sessions)
        self._all_renewals = TokenBucket(limits.all_renewals, limits.all_renewals)
        self._tokens = 0
        self._events: Outbox[Event | TalkAnswered] = Outbox(limits.queued)
        self._by_message: dict[type[Message], Callable[..., None]] = {
            Ping: self._on_ping,
            Pong: self._on_pong,
            FindNode: self._on_request,
            Nodes: self._on_nodes,
            TalkRequest: self._on_request,
            TalkResponse: self._on_talk_response,
        }

    # What the owner calls: see DiscoveryProtocol.

    def receive(self, data: bytes, source: Endpoint, now: float) -> bool:
        """Take one datagram. False if it is none of this protocol. Never raises, whatever the bytes are."""
        try:
            packet = packets.unmask(data, self.local_id)
            if packet is None:
                return False
            opened = self._channel.open(packet, source, now)
            if opened is not None:
                self._dispatch(opened, now)
        except MalformedMessage:
            self._drop("malformed")
        return True

    def advance(self, now: float) -> None:
        """Give up the requests whose time is up; of an answer in parts what has come is used."""
        for call in self._channel.calls.due(now):
            if call.parts:
                self._finish_nodes(call, now)
                continue
            for lost in self._channel.abandon(call, now):
                why = "no answer" if lost is call else "no answer to the request before"
                self._report(lost, Unanswered(lost.token, lost.node, why))

    @property
    def deadline(self) -> float:
        """When `advance` should be called next; infinity if nothing waits."""
        return self._channel.calls.deadline

    def packets(self) -> list[Datagram]:
        """What is to be sent, once."""
        return self._channel.packets()

    def events(self) -> list[Event]:
        """What happened, once. Answers to `talk_request` are among them as `TalkAnswered`."""
        return cast("list[Event]", self._events.take())

    def set_record(self, record: NodeRecord) -> None:
        """Our own record changed; others learn of it by the sequence number in our PINGs and PONGs."""
        self._answers.record = self._channel.record = record

    def ping(self, node: Node, now: float) -> int:
        """Ask for a sign of life."""
        return self._call(node, Purpose.PING, Ping(self._request_id(), self._answers.record.seq), now)

    def find_nodes(self, node: Node, target: Target, now: float) -> int:
        """Ask for the nodes at the three distances that are nearest to the target's, seen from the asked node."""
        wanted = lookup_distances(distance(node.node_id, target.node_id))
        return self._call(node, Purpose.FIND, FindNode(self._request_id(), wanted), now)

    def fetch_record(self, node: Node, now: float) -> int:
        """Ask for its record: FINDNODE with distance 0."""
        return self._call(node, Purpose.RECORD, FindNode(self._request_id(), (0,)), now)

    def talk_request(self, node: Node, protocol: bytes, request: bytes, now: float) -> int:
        """Send a request of a protocol on top of this one. Raises LocalProtocolError if it is too long for a packet."""
        message = TalkRequest(self._request_id(), protocol, request)
        size = len(message.encode())
        if size > packets.MAX_HANDSHAKE_MESSAGE:
            raise LocalProtocolError(f"TALKREQ of {size} bytes, more than {packets.MAX_HANDSHAKE_MESSAGE}")
        return self._call(node, Purpose.TALK, message, now)

    # Requests of ours.

    def _request_id(self) -> bytes:
        return self._entropy(8)

    def _call(self, node: Node, purpose: Purpose, message: Request, now: float, *, ours: bool = False) -> int:
        self._tokens += 1
        call = Call(self._tokens, node, purpose, message, ours)
        if not node.endpoint.port:
            self._report(call, Unanswered(call.token, node, "it has no discovery port"))
        elif not self._channel.calls.has_room(call.place):
            self._report(call, Unanswered(call.token, node, "too many requests wait for answers"))
        else:
            self._channel.begin(call, now)
        return call.token

    def _finish(self, call: Call, event: Event | TalkAnswered, now: float) -> None:
        self._channel.end(call, now)
        self._report(call, event)

    def _report(self, call: Call, event: Event | TalkAnswered) -> None:
        """Tell the outcome of a call. Of those that nobody asked for only records are news."""
        if not (call.ours and isinstance(event, Unanswered)):
            self._events.put(event)

    def _tell(self, event: Met | AddressSeen) -> None:
        """Tell what no token belongs to, if there is room."""
        self._events.offer(event)

    def _drop(self, why: str) -> None:
        self.counts[f"dropped {why}"] += 1

    # Messages of others.

    def _dispatch(self, opened: Opened, now: float) -> None:
        session, plaintext, met = opened
        node = relayed_node(met, session.node.endpoint) if met is not None else None
        if node is not None:
            self._tell(Met(node))
        message = decode_message(plaintext)
        if message is None:  # of a later version: nobody's fault
            self._drop("unknown message")
            return
        self.counts[f"received {type(message).__name__}"] += 1
        self._by_message[type(message)](session, message, now)

    def _on_request(self, session: Session, message: Request, now: float) -> None:
        if not self._requests.allow(session.node.node_id, now):
            self._drop("too many requests")
            return
        for response in self._answers.to(message, session.node):
            self._channel.send(session, response)

    def _on_ping(self, session: Session, message: Ping, now: float) -> None:
        self._on_request(session, message, now)
        self._renew(session.node, message.enr_seq, now)

    def _renew(self, node: Node, announced: int, now: float) -> None:
        """Fetch a record that is newer than the one we have, one request at a time per node."""
        known = self._channel.known_record(node.node_id)
        if known is not None and announced <= known.seq:
            return
        if any(call.purpose is Purpose.RECORD for call in self._channel.calls.at((node.node_id, node.endpoint))):
            return
        if self._renewals.allow(node.node_id, now) and self._all_renewals.take(now):
            self._call(node, Purpose.RECORD, FindNode(self._request_id(), (0,)), now, ours=True)

    # Answers of others.

    def _answered(self, session: Session, message: Message, *purposes: Purpose) -> Call | None:
        """The call that a message answers, by its request id and where it came from."""
        place = (session.node.node_id, session.node.endpoint)
        call = self._channel.calls.answered_by(place, message.request_id, purposes)
        if call is None:
            self._drop("unsolicited")
        return call

    def _on_pong(self, session: Session, message: Pong, now: float) -> None:
        call = self._answered(session, message, Purpose.PING)
        if call is None:
            return
        self._finish(call, PongEvent(call.token, call.node), now)
        source = call.node.endpoint
        seen = seen_at(message.recipient, source)
        if seen is not None:
            self._tell(AddressSeen(call.node.node_id, seen, source))
        self._renew(call.node, message.enr_seq, now)

    def _on_talk_response(self, session: Session, message: TalkResponse, now: float) -> None:
        call = self._answered(session, message, Purpose.TALK)
        if call is not None:
            self._finish(call, TalkAnswered(call.token, call.node, message.response), now)

    def _on_nodes(self, session: Session, message: Nodes, now: float) -> None:
        """Take a part of an answer. The answer is complete when all parts have come, or as many records as we want."""
        call = self._answered(session, message, Purpose.FIND, Purpose.RECORD)
        if call is None:
            return
        if message.records in call.parts:  # the network delivered it twice
            return
        call.parts.add(message.records)
        for raw in message.records[: RESULT_LIMIT - call.examined]:
            call.examined += 1
            node = self._checked(raw, call)
            if node is not None:
                call.found[node.node_id] = node
        if len(call.parts) >= min(message.total, MOST_PARTS) or call.examined == RESULT_LIMIT:
            self._finish_nodes(call, now)

    def _checked(self, raw: bytes, call: Call) -> Node | None:
        """The node of a record in an answer, if it is valid and what was asked for."""
        try:
            record = decode_record(raw)
        except MalformedMessage:
            self._drop("record: malformed")
            return None
        node = claimed_node(record, call.node, cast("FindNode", call.message).distances)
        if node is None or node.node_id == self.local_id:
            self._drop("record: unwanted")
            return None
        return node

    def _finish_nodes(self, call: Call, now: float) -> None:
        if call.purpose is Purpose.FIND:
            self._finish(call, Found(call.token, call.node, tuple(call.found.values())), now)
            return
        node = call.found.get(call.node.node_id)
        if node is None:
            self._finish(call, Unanswered(call.token, call.node, "it did not send its record"), now)
            return
        self._channel.remember(node.record)
        self._finish(call, RecordFetched(call.token, node), now)
