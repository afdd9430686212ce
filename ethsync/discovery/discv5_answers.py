"""What a discv5 node says to the requests of others (discv5-wire.md, "Protocol Messages")."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ethsync.discovery.addresses import is_relayable
from ethsync.discovery.discv5_messages import FindNode, Nodes, Ping, Pong, TalkRequest, TalkResponse
from ethsync.discovery.discv5_packets import MAX_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ethsync.discovery.discv5_messages import Request, Response
    from ethsync.discovery.node import Node
    from ethsync.discovery.protocol import NodeSource
    from ethsync.wire.enr import NodeRecord

TalkHandler: TypeAlias = "Callable[[Node, bytes], bytes]"
"""Gives the response to a request; of a longer one than fits into a packet nothing is sent. It must not raise."""

RESULT_LIMIT = 16  # records in an answer to FINDNODE (discv5-wire.md)
MOST_PARTS = 5
"""NODES in an answer, of others and of ours (go-ethereum p2p/discover/v5_udp.go, totalNodesResponseLimit)."""
RECORD_BYTES = MAX_MESSAGE - 32
"""Records in one NODES: what type (1), request id (9), total (2) and prefixes (6) leave, with some to spare."""


class Answers:
    """`record` is our own; `talk` gives the handlers of the protocols that are spoken in TALKREQ."""

    def __init__(self, record: NodeRecord, nodes: NodeSource, talk: Mapping[bytes, TalkHandler]) -> None:
        self.record = record
        self._nodes = nodes
        self._talk = dict(talk)
        self._by_request: dict[type[Request], Callable[..., Sequence[Response]]] = {
            Ping: self._pong,
            FindNode: self._known_nodes,
            TalkRequest: self._talk_response,
        }

    def to(self, message: Request, asker: Node) -> Sequence[Response]:
        """The messages to send to a node that has a session with us."""
        return self._by_request[type(message)](message, asker)

    def _pong(self, message: Ping, asker: Node) -> Sequence[Response]:
        return [Pong(message.request_id, self.record.seq, asker.endpoint)]

    def _known_nodes(self, message: FindNode, asker: Node) -> Sequence[Response]:
        """Our record for distance 0, then nodes of the table; distances beyond 256 exist nowhere."""
        wanted = list(dict.fromkeys(each for each in message.distances if each <= 256))
        records = [self.record.raw] if 0 in wanted else []
        others = [each for each in wanted if each]
        if others:
            known = self._nodes.at_distances(others, RESULT_LIMIT - len(records))
            records += [
                node.record.raw
                for node in known[: RESULT_LIMIT - len(records)]
                if node.record is not None and is_relayable(node.endpoint.ip, asker.endpoint.ip)
            ]
        parts = split_records(records)
        return [Nodes(message.request_id, len(parts), part) for part in parts]

    def _talk_response(self, message: TalkRequest, asker: Node) -> Sequence[Response]:
        handler = self._talk.get(message.protocol)
        answer = TalkResponse(message.request_id, b"" if handler is None else handler(asker, message.request))
        return [answer if len(answer.encode()) <= MAX_MESSAGE else TalkResponse(message.request_id, b"")]


def split_records(records: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Divide records among NODES that fit into a packet each; at least one, which may be empty.

    What does not fit into `MOST_PARTS` is left out: nobody would wait for it.
    """
    parts: list[list[bytes]] = [[]]
    for record in records:
        if sum(map(len, parts[-1])) + len(record) > RECORD_BYTES:
            parts.append([])
        parts[-1].append(record)
    return [tuple(part) for part in parts[:MOST_PARTS]]
