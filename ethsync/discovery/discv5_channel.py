"""Messages of discv5 on their way: sessions, handshakes, and the requests that wait for them (discv5-theory.md).

Nothing unverified is answered with more than a WHOAREYOU, which is never longer than what caused it and is limited per
node, per network and in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ethsync.discovery import discv5_crypto as crypto
from ethsync.discovery import discv5_handshake as handshakes
from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.bounded import LRU, Outbox
from ethsync.discovery.discv5_calls import HANDSHAKE_TIMEOUT, REQUEST_TIMEOUT, Call, Calls, Phase
from ethsync.discovery.discv5_packets import Flag, Packet
from ethsync.discovery.discv5_sessions import Challenges, Place, Session, Sessions
from ethsync.discovery.node import Datagram
from ethsync.errors import MalformedMessage

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    import coincurve

    from ethsync.discovery.discv5_limits import Limits
    from ethsync.discovery.discv5_messages import Message
    from ethsync.discovery.node import Endpoint
    from ethsync.wire.enr import NodeRecord

RANDOM_BYTES = 20
"""Message of a packet that is only to provoke a challenge (go-ethereum v5wire/encoding.go, randomPacketMsgSize)."""


class Opened(NamedTuple):
    """A message that was read, under which session, and the record of the node if it has just made itself known."""

    session: Session
    plaintext: bytes
    met: NodeRecord | None = None


class Channel:
    """Between us and all others. `record` is our own; `counts` is added to."""

    def __init__(
        self,
        key: coincurve.PrivateKey,
        record: NodeRecord,
        counts: Counter[str],
        entropy: Callable[[int], bytes],
        limits: Limits,
    ) -> None:
        self.record = record
        self.sessions = Sessions(limits.sessions)
        self.challenges = Challenges(limits)
        self.calls = Calls(limits.calls, limits.calls_per_place)
        self._key = key
        self._counts = counts
        self._entropy = entropy
        self._records: LRU[bytes, NodeRecord] = LRU(limits.records)
        self._packets: Outbox[Datagram] = Outbox(limits.queued)
        self._by_flag = {
            Flag.MESSAGE: self._open_message,
            Flag.WHOAREYOU: self._take_whoareyou,
            Flag.HANDSHAKE: self._open_handshake,
        }

    # Requests of ours.

    def begin(self, call: Call, now: float) -> None:
        """Send a request, or let it wait for the handshake that is under way."""
        self.remember(call.node.record)
        self.calls.add(call)
        self._continue(call.place, now)

    def end(self, call: Call, now: float) -> None:
        """A request was answered."""
        self.calls.remove(call)
        self._continue(call.place, now)

    def abandon(self, call: Call, now: float) -> list[Call]:
        """The time of a request is up. Returns it and those that are lost with it.

        If there was no challenge either, nobody is there, and what waited for a session waits in vain.
        """
        if call.phase is not Phase.PROVOKES:
            self.end(call, now)
            return [call]
        lost = [call, *(each for each in self.calls.at(call.place) if each.phase is Phase.WAITS)]
        for each in lost:
            self.calls.remove(each)
        return lost

    def _continue(self, place: Place, now: float) -> None:
        """Send the requests that wait, unless one of them is still to bring about a session."""
        calls = self.calls.at(place)
        if any(call.is_shaking for call in calls):
            return
        session = self.sessions.get(place)
        for call in calls:
            if call.phase is Phase.WAITS:
                if session is None:
                    self._provoke(call, now)
                    return
                self.calls.sent(call, Phase.SENT, self.send(session, call.message), now + REQUEST_TIMEOUT)

    def _provoke(self, call: Call, now: float) -> None:
        """Without a session: send random bytes, which the other side cannot read and answers with a WHOAREYOU."""
        nonce, iv = self._entropy(packets.NONCE_SIZE), self._entropy(packets.IV_SIZE)
        start, _ = packets.mask(Flag.MESSAGE, nonce, self.record.node_id, call.node.node_id, iv)
        self._emit(Datagram(start + self._entropy(RANDOM_BYTES), call.node.endpoint), "random")
        self.calls.sent(call, Phase.PROVOKES, nonce, now + HANDSHAKE_TIMEOUT)

    def _settle(self, place: Place, now: float) -> None:
        """A session has proven good: nothing needs to wait for one any more."""
        for call in self.calls.at(place):
            if call.phase is Phase.PROVOKES:
                self.calls.wait(call)
            elif call.phase is Phase.SHAKES:
                call.phase = Phase.SENT
        self._continue(place, now)

    # Records of others.

    def remember(self, record: NodeRecord | None) -> None:
        """Keep the newest record of a node."""
        if record is not None:
            known = self._records.get(record.node_id)
            if known is None or known.seq <= record.seq:
                self._records.put(record.node_id, record)

    def known_record(self, node_id: bytes) -> NodeRecord | None:
        """The newest record of a node, or None."""
        return self._records.get(node_id)

    # Packets out.

    def packets(self) -> list[Datagram]:
        """What is to be sent, once."""
        return self._packets.take()

    def send(self, session: Session, message: Message) -> bytes:
        """Send a message under a session; return the packet's nonce."""
        nonce, iv = session.next_nonce(self._entropy), self._entropy(packets.IV_SIZE)
        start, ad = packets.mask(Flag.MESSAGE, nonce, self.record.node_id, session.node.node_id, iv)
        sealed = crypto.seal(session.write_key, nonce, message.encode(), ad)
        self._emit(Datagram(start + sealed, session.node.endpoint), type(message).__name__)
        return nonce

    def _emit(self, datagram: Datagram, kind: str) -> None:
        if self._packets.offer(datagram):
            self._counts[f"sent {kind}"] += 1

    # Packets in.

    def open(self, packet: Packet, source: Endpoint, now: float) -> Opened | None:
        """Read a packet, and do what a handshake asks for. None if there is no message in it that we can read.

        Raises MalformedMessage.
        """
        return self._by_flag[packet.flag](packet, source, now)

    def _drop(self, why: str) -> None:
        self._counts[f"dropped {why}"] += 1

    def _open_message(self, packet: Packet, source: Endpoint, now: float) -> Opened | None:
        place = (packet.authdata, source)
        opened = self.sessions.open(place, packet, now)
        if opened is None:  # a stranger, a node that lost the session, or somebody who pretends to be one
            self._challenge(place, packet.nonce, now)
            return None
        session, plaintext = opened
        if not session.confirmed:
            session.confirmed = True
            self._settle(place, now)
        return Opened(session, plaintext)

    def _challenge(self, place: Place, nonce: bytes, now: float) -> None:
        """Answer what cannot be read with a WHOAREYOU: the one that was just sent, or a new one."""
        known = self.sessions.get(place) is not None or bool(self.calls.at(place))
        if not place[1].port or not self.challenges.may_send(place, now, known=known):
            self._drop("unreadable")
            return
        challenge = self.challenges.fresh(place, now)
        if challenge is None:
            challenge = handshakes.challenge(place, nonce, self.known_record(place[0]), now, self._entropy)
            self.challenges.add(place, challenge)
        self._emit(challenge.datagram, "WHOAREYOU")

    def _take_whoareyou(self, packet: Packet, source: Endpoint, now: float) -> None:
        """Somebody could not read a packet of ours: prove who we are, once per request, and send it again.

        What else was sent there could not be read either; it waits until the new session has proven good.
        """
        call = self.calls.with_nonce(packet.nonce)
        if call is None or call.node.endpoint != source or call.challenged:
            self._drop("WHOAREYOU")
            return
        call.challenged = True
        plaintext = call.message.encode()
        data, nonce, session = handshakes.answer(self._key, self.record, call.node, packet, plaintext, self._entropy)
        self.sessions.begin(call.place, session, now)
        self._emit(Datagram(data, source), "handshake")
        self.calls.sent(call, Phase.SHAKES, nonce, now + REQUEST_TIMEOUT)
        for other in self.calls.at(call.place):
            if other is not call and other.phase is not Phase.WAITS:
                self.calls.wait(other)

    def _open_handshake(self, packet: Packet, source: Endpoint, now: float) -> Opened | None:
        handshake = packets.decode_handshake(packet.authdata)
        place = (handshake.source_id, source)
        challenge = self.challenges.open(place, now)
        if challenge is None:
            self._drop("handshake")
            return None
        try:
            record, session, plaintext = handshakes.accept(
                self._key, self.record.node_id, packet, handshake, source, challenge
            )
        except MalformedMessage:
            self.challenges.failed(place, challenge)
            raise
        self.challenges.close(place)
        self.remember(record)
        self.sessions.begin(place, session, now)
        self._settle(place, now)
        return Opened(session, plaintext, met=record)
