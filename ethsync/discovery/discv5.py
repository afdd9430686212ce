"""The discv5.1 node: handshakes, sessions, requests and answers, without I/O (devp2p discv5-wire.md, -theory.md).

Against abuse: nothing unverified is answered with more than a WHOAREYOU, which is never longer than what caused it and
is limited per node and in all; answers count only for our own requests, from whom they were sent to; every map is
bounded.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, cast

import coincurve

from ethsync.discovery import discv5_crypto as crypto
from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.addresses import is_relayable
from ethsync.discovery.bounded import LRU
from ethsync.discovery.discv5_calls import HANDSHAKE_TIMEOUT, REQUEST_TIMEOUT, Call, Calls, Purpose
from ethsync.discovery.discv5_messages import (
    FindNode,
    Message,
    Nodes,
    Ping,
    Pong,
    TalkRequest,
    TalkResponse,
    decode_message,
)
from ethsync.discovery.discv5_packets import Flag, Handshake, Packet, Whoareyou
from ethsync.discovery.discv5_sessions import Challenge, Challenges, Place, Session, Sessions
from ethsync.discovery.node import Datagram, Node, distance, node_of_record
from ethsync.discovery.protocol import AddressSeen, Event, Found, Met, RecordFetched, Target, Unanswered
from ethsync.discovery.protocol import Pong as PongEvent
from ethsync.errors import MalformedMessage
from ethsync.wire import keys
from ethsync.wire.enr import NodeRecord, decode_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ethsync.discovery.node import Endpoint
    from ethsync.discovery.protocol import NodeSource

RESULT_LIMIT = 16  # records in an answer to FINDNODE (discv5-wire.md)
MOST_PARTS = 5  # NODES taken for one request (go-ethereum p2p/discover/v5_udp.go, totalNodesResponseLimit)
DISTANCES_ASKED = 3  # a lookup's distances in one FINDNODE (go-ethereum, lookupDistances)
RECORD_BYTES = 1150
"""Records in one NODES: 1,280 bytes less header, tag and prefixes."""
MOST_RECORDS = 4096
"""Records of other nodes kept for handshakes that come without one; 2 MB."""

TalkHandler: TypeAlias = "Callable[[Node, bytes], bytes]"


@dataclass(frozen=True, slots=True)
class TalkAnswered:
    """`node` answered a TALKREQ; empty if it does not speak the protocol."""

    token: int
    node: Node
    response: bytes


class Discv5:
    """A `DiscoveryProtocol`. `entropy(n)` gives n random bytes; only tests pass another than the system's."""

    def __init__(
        self,
        key: coincurve.PrivateKey,
        record: NodeRecord,
        nodes: NodeSource,
        *,
        talk: Mapping[bytes, TalkHandler] | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.local_id = keys.node_id(keys.identity(key.public_key))
        self.counts: Counter[str] = Counter()
        """Packets sent, received and dropped, by kind or reason."""
        self.sessions = Sessions()
        self.challenges = Challenges()
        self.calls = Calls()
        self._key = key
        self._record = record
        self._nodes = nodes
        self._talk = dict(talk or {})
        self._entropy = entropy
        self._records: LRU[bytes, NodeRecord] = LRU(MOST_RECORDS)
        self._tokens = 0
        self._packets: list[Datagram] = []
        self._events: list[Event | TalkAnswered] = []
        self._by_flag = {
            Flag.MESSAGE: self._take_message,
            Flag.WHOAREYOU: self._take_whoareyou,
            Flag.HANDSHAKE: self._take_handshake,
        }
        self._by_message: dict[type[Message], Callable[..., None]] = {
            Ping: self._on_ping,
            Pong: self._on_pong,
            FindNode: self._on_find_node,
            Nodes: self._on_nodes,
            TalkRequest: self._on_talk_request,
            TalkResponse: self._on_talk_response,
        }

    # What the owner calls: see DiscoveryProtocol.

    def receive(self, data: bytes, source: Endpoint, now: float) -> bool:
        """Take one datagram. False if it is none of this protocol. Never raises, whatever the bytes are."""
        try:
            packet = packets.unmask(data, self.local_id)
            if packet is None:
                return False
            self._by_flag[packet.flag](packet, source, now)
        except MalformedMessage:
            self.counts["dropped malformed"] += 1
        return True

    def advance(self, now: float) -> None:
        """Give up the requests whose time is up, and with a handshake that failed all that waited for it."""
        for call in self.calls.expired(now):
            if call.found or call.parts:
                self._finish_nodes(call)
            else:
                self._give_up(call, "no answer")

    @property
    def deadline(self) -> float:
        """When `advance` should be called next; infinity if nothing waits."""
        return self.calls.deadline

    def packets(self) -> list[Datagram]:
        """What is to be sent, once."""
        taken, self._packets = self._packets, []
        return taken

    def events(self) -> list[Event]:
        """What happened, once. Answers to `talk_request` are among them as `TalkAnswered`."""
        taken, self._events = self._events, []
        return cast("list[Event]", taken)

    def set_record(self, record: NodeRecord) -> None:
        """Our own record changed; others learn of it by the sequence number in our PINGs and PONGs."""
        self._record = record

    def ping(self, node: Node, now: float) -> int:
        """Ask for a sign of life."""
        return self._call(node, Purpose.PING, lambda request_id: Ping(request_id, self._record.seq), now)

    def find_nodes(self, node: Node, target: Target, now: float) -> int:
        """Ask for the nodes at the three distances that are nearest to the target's, seen from the asked node."""
        wanted = lookup_distances(distance(node.node_id, target.node_id))
        return self._call(node, Purpose.FIND, lambda request_id: FindNode(request_id, wanted), now)

    def fetch_record(self, node: Node, now: float, *, ours: bool = False) -> int:
        """Ask for its record: FINDNODE with distance 0."""
        return self._call(node, Purpose.RECORD, lambda request_id: FindNode(request_id, (0,)), now, ours=ours)

    def talk_request(self, node: Node, protocol: bytes, request: bytes, now: float) -> int:
        """Send a request of a protocol on top of this one."""
        return self._call(node, Purpose.TALK, lambda request_id: TalkRequest(request_id, protocol, request), now)

    # Requests of ours.

    def _call(
        self,
        node: Node,
        purpose: Purpose,
        make: Callable[[bytes], Ping | FindNode | TalkRequest],
        now: float,
        *,
        ours: bool = False,
    ) -> int:
        self._tokens += 1
        message = make(self._entropy(8))
        call = Call(self._tokens, node, purpose, message, now + HANDSHAKE_TIMEOUT + REQUEST_TIMEOUT, ours)
        if not self.calls.has_room(call.place):
            self._report(call, Unanswered(call.token, node, "too many requests wait for answers"))
            return call.token
        shaking_hands = bool(self.calls.at(call.place))
        self.calls.add(call)
        session = self.sessions.get(call.place)
        if session is not None:
            self._send_call(call, session, now)
        elif not shaking_hands:
            self._provoke(call, now)
        return call.token

    def _send_call(self, call: Call, session: Session, now: float) -> None:
        nonce = self._send(session, call.place, call.message.encode())
        self.calls.sent(call, nonce, now + REQUEST_TIMEOUT)

    def _provoke(self, call: Call, now: float) -> None:
        """Without a session: send random bytes, which the other side cannot read and answers with a WHOAREYOU."""
        nonce = self._entropy(packets.NONCE_SIZE)
        start, _ = packets.mask(Flag.MESSAGE, nonce, self.local_id, call.node.node_id, self._entropy(packets.IV_SIZE))
        self._emit(start + self._entropy(packets.TAG_SIZE + 4), call.node.endpoint, "random")
        self.calls.sent(call, nonce, now + HANDSHAKE_TIMEOUT)

    def _give_up(self, call: Call, why: str) -> None:
        self.calls.remove(call)
        self._report(call, Unanswered(call.token, call.node, why))
        for waiting in self.calls.at(call.place):
            if waiting.nonce is None:
                self.calls.remove(waiting)
                self._report(waiting, Unanswered(waiting.token, waiting.node, why))

    def _report(self, call: Call, event: Event | TalkAnswered) -> None:
        if call.ours and isinstance(event, Unanswered):
            return
        self._events.append(event)

    # Packets out.

    def _emit(self, data: bytes, to: Endpoint, kind: str) -> None:
        self.counts[f"sent {kind}"] += 1
        self._packets.append(Datagram(data, to))

    def _send(self, session: Session, place: Place, plaintext: bytes) -> bytes:
        """Send a message under a session; return the packet's nonce."""
        node_id, endpoint = place
        nonce = session.next_nonce(self._entropy)
        start, ad = packets.mask(Flag.MESSAGE, nonce, self.local_id, node_id, self._entropy(packets.IV_SIZE))
        self._emit(start + crypto.seal(session.write_key, nonce, plaintext, ad), endpoint, "message")
        return nonce

    # Packets in.

    def _take_message(self, packet: Packet, source: Endpoint, now: float) -> None:
        place = (packet.authdata, source)
        session = self.sessions.get(place)
        if session is None:
            self._challenge(place, packet.nonce, now)
            return
        try:
            plaintext = session.open(packet)
        except MalformedMessage:  # it has lost the session, or somebody else uses its address
            self._challenge(place, packet.nonce, now)
            return
        self._dispatch(session, place, plaintext, now)

    def _dispatch(self, session: Session, place: Place, plaintext: bytes, now: float) -> None:
        message = decode_message(plaintext)
        if message is None:  # of a later version: nobody's fault
            self.counts["dropped unknown message"] += 1
            return
        self.counts[f"received {type(message).__name__}"] += 1
        self._by_message[type(message)](session, place, message, now)

    def _challenge(self, place: Place, nonce: bytes, now: float) -> None:
        """Answer what cannot be read with a WHOAREYOU: the one that is still open, or a new one."""
        node_id, source = place
        if not self.challenges.may_send(place, now):
            self.counts["dropped unreadable"] += 1
            return
        challenge = self.challenges.open(place, now)
        if challenge is None:
            record = self._records.get(node_id)
            whoareyou = Whoareyou(self._entropy(packets.ID_NONCE_SIZE), record.seq if record is not None else 0)
            start, data = packets.mask(
                Flag.WHOAREYOU, nonce, whoareyou.encode(), node_id, self._entropy(packets.IV_SIZE)
            )
            challenge = Challenge(data, Datagram(start, source), record, now)
            self.challenges.add(place, challenge)
        self._emit(challenge.datagram.data, source, "whoareyou")

    def _take_whoareyou(self, packet: Packet, source: Endpoint, now: float) -> None:
        """Somebody could not read a packet of ours: prove who we are, once per request, and send it again."""
        call = self.calls.with_nonce(packet.nonce)
        if call is None or call.node.endpoint != source or call.challenged:
            self.counts["dropped whoareyou"] += 1
            return
        call.challenged = True
        challenge = packets.decode_whoareyou(packet.authdata)
        ephemeral = coincurve.PrivateKey(self._entropy(32))
        ephemeral_key = ephemeral.public_key.format(compressed=True)
        node_id = call.node.node_id
        secret = crypto.ecdh(keys.public_key(call.node.public_key), ephemeral)
        write_key, read_key = crypto.derive_keys(secret, self.local_id, node_id, packet.ad)
        session = Session(call.node, write_key, read_key)
        self.sessions.begin(call.place, session)
        record = self._record.raw if challenge.enr_seq < self._record.seq else b""
        signature = crypto.sign_id(self._key, packet.ad, ephemeral_key, node_id)
        authdata = Handshake(self.local_id, signature, ephemeral_key, record).encode()
        nonce = session.next_nonce(self._entropy)
        start, ad = packets.mask(Flag.HANDSHAKE, nonce, authdata, node_id, self._entropy(packets.IV_SIZE))
        self._emit(start + crypto.seal(write_key, nonce, call.message.encode(), ad), source, "handshake")
        self.calls.sent(call, nonce, now + REQUEST_TIMEOUT)
        for waiting in self.calls.at(call.place):
            if waiting.nonce is None:
                self._send_call(waiting, session, now)

    def _take_handshake(self, packet: Packet, source: Endpoint, now: float) -> None:
        handshake = packets.decode_handshake(packet.authdata)
        place = (handshake.source_id, source)
        challenge = self.challenges.open(place, now)
        if challenge is None:
            self.counts["dropped handshake"] += 1
            return
        try:
            record, session, plaintext = self._check_handshake(packet, handshake, source, challenge)
        except MalformedMessage:
            self.challenges.failed(place, challenge)
            raise
        self.challenges.close(place)
        self._records.put(record.node_id, record)
        self.sessions.begin(place, session)
        node = node_of_record(record, prefer_ip6=source.ip.version == 6)
        if node is not None and is_relayable(node.endpoint.ip, source.ip):
            self._events.append(Met(node))
        self._dispatch(session, place, plaintext, now)

    def _check_handshake(
        self, packet: Packet, handshake: Handshake, source: Endpoint, challenge: Challenge
    ) -> tuple[NodeRecord, Session, bytes]:
        """Check record, signature and message of a handshake. Raises MalformedMessage."""
        record = challenge.record
        if handshake.record:
            sent = decode_record(handshake.record)
            if sent.node_id != handshake.source_id:
                raise MalformedMessage("handshake with the record of another node")
            record = sent if record is None or sent.seq >= record.seq else record
        if record is None:
            raise MalformedMessage("handshake of a node whose record is not known")
        public = keys.public_key(record.public_key)
        if not crypto.is_id_signed(public, handshake.signature, challenge.data, handshake.ephemeral_key, self.local_id):
            raise MalformedMessage("handshake with a wrong signature")
        secret = crypto.ecdh(keys.decompress(handshake.ephemeral_key), self._key)
        read_key, write_key = crypto.derive_keys(secret, handshake.source_id, self.local_id, challenge.data)
        plaintext = crypto.unseal(read_key, packet.nonce, packet.message, packet.ad)
        node = Node(record.node_id, record.public_key, source, record.tcp, record)
        return record, Session(node, write_key, read_key), plaintext

    # Requests of others.

    def _may_answer(self, session: Session, now: float) -> bool:
        if session.allowance.take(now):
            return True
        self.counts["dropped too many requests"] += 1
        return False

    def _on_ping(self, session: Session, place: Place, message: Ping, now: float) -> None:
        if self._may_answer(session, now):
            self._send(session, place, Pong(message.request_id, self._record.seq, place[1]).encode())
            self._renew(session, message.enr_seq, now)

    def _on_find_node(self, session: Session, place: Place, message: FindNode, now: float) -> None:
        if not self._may_answer(session, now):
            return
        wanted = sorted({each for each in message.distances if 0 <= each <= 256})
        records = [self._record.raw] if 0 in wanted else []
        others = [each for each in wanted if each]
        if others:
            known = self._nodes.at_distances(others, RESULT_LIMIT - len(records))
            asker = place[1].ip
            records += [node.record.raw for node in known if node.record and is_relayable(node.endpoint.ip, asker)]
        parts = split_records(records[:RESULT_LIMIT])
        for part in parts:
            self._send(session, place, Nodes(message.request_id, len(parts), part).encode())

    def _on_talk_request(self, session: Session, place: Place, message: TalkRequest, now: float) -> None:
        if self._may_answer(session, now):
            handler = self._talk.get(message.protocol)
            response = handler(session.node, message.request) if handler is not None else b""
            self._send(session, place, TalkResponse(message.request_id, response).encode())

    # Answers of others.

    def _unsolicited(self) -> None:
        self.counts["dropped unsolicited"] += 1

    def _on_pong(self, session: Session, place: Place, message: Pong, now: float) -> None:
        call = self.calls.matching(place, message.request_id, lambda purpose: purpose is Purpose.PING)
        if call is None:
            self._unsolicited()
            return
        self.calls.remove(call)
        self._report(call, PongEvent(call.token, call.node))
        self._events.append(AddressSeen(place[0], message.recipient, place[1]))
        self._renew(session, message.enr_seq, now)

    def _renew(self, session: Session, enr_seq: int, now: float) -> None:
        """Fetch a record that is newer than ours, one request at a time per node."""
        record = session.node.record
        if record is not None and enr_seq <= record.seq:
            return
        node = replace(session.node)
        place = (node.node_id, node.endpoint)
        if not any(call.purpose is Purpose.RECORD for call in self.calls.at(place)):
            self.fetch_record(node, now, ours=True)

    def _on_nodes(self, session: Session, place: Place, message: Nodes, now: float) -> None:
        call = self.calls.matching(place, message.request_id, lambda p: p in (Purpose.FIND, Purpose.RECORD))
        if call is None:
            self._unsolicited()
            return
        call.parts += 1
        wanted = cast("FindNode", call.message).distances
        for raw in message.records[:RESULT_LIMIT]:
            node = self._checked(raw, call.node, wanted, place[1])
            if node is not None and len(call.found) < RESULT_LIMIT:
                call.found[node.node_id] = node
        if call.parts >= min(message.total, MOST_PARTS) or len(call.found) == RESULT_LIMIT:
            self._finish_nodes(call)

    def _checked(self, raw: bytes, asked: Node, wanted: tuple[int, ...], source: Endpoint) -> Node | None:
        """The node of a record in an answer, if it is what was asked for and its address may be relayed."""
        try:
            record = decode_record(raw)
        except MalformedMessage:
            self.counts["dropped record malformed"] += 1
            return None
        if distance(record.node_id, asked.node_id) not in wanted:
            self.counts["dropped record not asked for"] += 1
            return None
        if record.node_id == asked.node_id:  # where it is we know better than its record: it answers from there
            return replace(asked, record=record, tcp_port=record.tcp or asked.tcp_port)
        node = node_of_record(record, prefer_ip6=source.ip.version == 6)
        if node is None or record.node_id == self.local_id or not is_relayable(node.endpoint.ip, source.ip):
            return None
        return node

    def _finish_nodes(self, call: Call) -> None:
        self.calls.remove(call)
        if call.purpose is Purpose.FIND:
            self._report(call, Found(call.token, call.node, tuple(call.found.values())))
            return
        node = call.found.get(call.node.node_id)
        if node is None or node.record is None:
            self._report(call, Unanswered(call.token, call.node, "it did not send its record"))
            return
        self._records.put(node.node_id, node.record)
        session = self.sessions.get(call.place)
        if session is not None:
            session.node = node
        self._report(call, RecordFetched(call.token, node))

    def _on_talk_response(self, session: Session, place: Place, message: TalkResponse, now: float) -> None:
        call = self.calls.matching(place, message.request_id, lambda purpose: purpose is Purpose.TALK)
        if call is None:
            self._unsolicited()
            return
        self.calls.remove(call)
        self._report(call, TalkAnswered(call.token, call.node, message.response))


def lookup_distances(to_target: int) -> tuple[int, ...]:
    """The distance of a target and those next to it, in turn above and below, from 1 to 256."""
    nearest = [to_target] if to_target else []
    for step in range(1, 256):
        nearest += [each for each in (to_target + step, to_target - step) if 1 <= each <= 256]
        if len(nearest) >= DISTANCES_ASKED:
            break
    return tuple(nearest[:DISTANCES_ASKED])


def split_records(records: list[bytes]) -> list[tuple[bytes, ...]]:
    """Divide records among NODES that fit into a packet each; at least one, which may be empty."""
    parts: list[list[bytes]] = [[]]
    for record in records:
        if sum(map(len, parts[-1])) + len(record) > RECORD_BYTES:
            parts.append([])
        parts[-1].append(record)
    return [tuple(part) for part in parts]
