"""The handshake of discv5.1: challenge, answer and acceptance, as functions (discv5-theory.md, "Handshake Steps")."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import coincurve

from ethsync.discovery import discv5_crypto as crypto
from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.discv5_packets import Flag, Handshake, Whoareyou
from ethsync.discovery.discv5_sessions import Challenge, Session
from ethsync.discovery.node import Datagram, Node
from ethsync.errors import MalformedMessage
from ethsync.wire import keys
from ethsync.wire.enr import decode_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.discovery.discv5_packets import Packet
    from ethsync.discovery.discv5_sessions import Place
    from ethsync.discovery.node import Endpoint
    from ethsync.wire.enr import NodeRecord


class Answer(NamedTuple):
    """What the challenged side sends, and the session that it has from then on."""

    data: bytes
    nonce: bytes
    session: Session


class Accepted(NamedTuple):
    """What the challenging side has after a handshake that holds."""

    record: NodeRecord
    session: Session
    plaintext: bytes


def challenge(
    place: Place, nonce: bytes, known: NodeRecord | None, now: float, entropy: Callable[[int], bytes]
) -> Challenge:
    """A WHOAREYOU for the packet with this nonce. `known` is the record that we have of the node."""
    node_id, source = place
    authdata = Whoareyou(entropy(packets.ID_NONCE_SIZE), known.seq if known is not None else 0).encode()
    data, plain = packets.mask(Flag.WHOAREYOU, nonce, authdata, node_id, entropy(packets.IV_SIZE))
    return Challenge(plain, Datagram(data, source), known, now)


def answer(
    key: coincurve.PrivateKey,
    own: NodeRecord,
    node: Node,
    whoareyou: Packet,
    plaintext: bytes,
    entropy: Callable[[int], bytes],
) -> Answer:
    """Prove to `node`, who sent a WHOAREYOU, that we have the key of our record `own`, and send a message along.

    The record goes along unless the other side has it. Raises MalformedMessage if the node's key is no point.
    """
    ephemeral = coincurve.PrivateKey(entropy(32))
    ephemeral_key = ephemeral.public_key.format(compressed=True)
    secret = crypto.ecdh(keys.public_key(node.public_key), ephemeral)
    write_key, read_key = crypto.derive_keys(secret, own.node_id, node.node_id, whoareyou.ad)
    session = Session(node, write_key, read_key, confirmed=False)
    known_seq = packets.decode_whoareyou(whoareyou.authdata).enr_seq
    record = own.raw if known_seq == 0 or known_seq < own.seq else b""
    signature = crypto.sign_id(key, whoareyou.ad, ephemeral_key, node.node_id)
    authdata = Handshake(own.node_id, signature, ephemeral_key, record).encode()
    nonce = session.next_nonce(entropy)
    start, ad = packets.mask(Flag.HANDSHAKE, nonce, authdata, node.node_id, entropy(packets.IV_SIZE))
    return Answer(start + crypto.seal(write_key, nonce, plaintext, ad), nonce, session)


def accept(
    key: coincurve.PrivateKey,
    local_id: bytes,
    packet: Packet,
    handshake: Handshake,
    source: Endpoint,
    challenge: Challenge,
) -> Accepted:
    """Check record, signature and message of the answer to a challenge of ours. Raises MalformedMessage."""
    record = _newest_record(handshake, challenge.record)
    public = keys.public_key(record.public_key)
    if not crypto.is_id_signed(public, handshake.signature, challenge.data, handshake.ephemeral_key, local_id):
        raise MalformedMessage("handshake with a wrong signature")
    secret = crypto.ecdh(keys.decompress(handshake.ephemeral_key), key)
    read_key, write_key = crypto.derive_keys(secret, handshake.source_id, local_id, challenge.data)
    plaintext = crypto.unseal(read_key, packet.nonce, packet.message, packet.ad)
    tcp_port = record.tcp6 if source.ip.version == 6 else record.tcp
    node = Node(record.node_id, record.public_key, source, tcp_port, record)
    return Accepted(record, Session(node, write_key, read_key, confirmed=True), plaintext)


def _newest_record(handshake: Handshake, known: NodeRecord | None) -> NodeRecord:
    if handshake.record:
        sent = decode_record(handshake.record)
        if sent.node_id != handshake.source_id:
            raise MalformedMessage("handshake with the record of another node")
        return sent if known is None or sent.seq >= known.seq else known
    if known is None:
        raise MalformedMessage("handshake of a node whose record is not known")
    return known
