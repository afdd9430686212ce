"""Endpoint proofs of discv4: who has shown us that it is where its packets come from, and who believes that of us.

A node may be sent much for little only after it answered a ping of ours, which nobody else could (discv4.md,
"Endpoint Proof"). The same holds the other way round: before we ask a node, it must have pinged us.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from ethsync.discovery.bounded import LRU

if TYPE_CHECKING:
    from ethsync.discovery.node import Endpoint, Node
    from ethsync.wire.enr import IPAddress

PROOF_LIFETIME = 24 * 3600.0
"""Seconds for which we answer a node after its pong: as go-ethereum (p2p/discover/v4_udp.go, bondExpiration). The
specification's 12 hours would leave a go-ethereum node, which relies on 24, without answers."""

RENEWAL_AGE = 12 * 3600.0
"""Seconds after which a proof is renewed: we ping back a node that pings us, and take it that one that pinged us so
long ago has forgotten us (discv4.md, "Endpoint Proof"). So no proof runs out between nodes that talk."""

FETCH_INTERVAL = 300.0
"""Seconds between two requests of our own for a node's record: one that announces a number it does not have is not
asked with every pong."""


@dataclass(slots=True)
class Proof:
    """The last valid pong of a node at an IP address.

    `port` is where it came from, `at` when, `seen` how it sees us; `seq` is the newest record that we have of it, and
    `asked_at` when we asked for one of our own accord.
    """

    port: int
    at: float
    tcp_port: int = 0
    seen: Endpoint | None = None
    seq: int = 0
    asked_at: float = float("-inf")

    def may_ask(self, announced: int, now: float) -> bool:
        """Whether its record with the number that it announced is news and it was not asked for lately."""
        return announced > self.seq and now >= self.asked_at + FETCH_INTERVAL


Place: TypeAlias = "tuple[bytes, Endpoint]"
"""Node id and endpoint."""


class Bonds:
    """Proofs by id and IP address, and when nodes showed last that they believe ours.

    The two are apart because anybody can fill the second with invented keys and forged addresses.
    """

    def __init__(self, capacity: int) -> None:
        self._proofs: LRU[tuple[bytes, IPAddress], Proof] = LRU(capacity)
        self._trusting: LRU[Place, float] = LRU(capacity)

    def proof(self, node: Node) -> Proof | None:
        """The proof of this id at this IP address, however old, from whatever port."""
        return self._proofs.get((node.node_id, node.endpoint.ip))

    def prove(self, node: Node, seen: Endpoint | None, now: float) -> Proof:
        """The node answered a ping of ours from its endpoint."""
        port = node.endpoint.port
        proof = self.proof(node)
        if proof is None:
            proof = Proof(port, now)
            self._proofs.put((node.node_id, node.endpoint.ip), proof)
        proof.port, proof.at = port, now
        proof.tcp_port, proof.seen = node.tcp_port or proof.tcp_port, seen or proof.seen
        if node.record is not None:
            proof.seq = max(proof.seq, node.record.seq)
        return proof

    def is_proven(self, node: Node, now: float, lifetime: float = PROOF_LIFETIME) -> bool:
        """Whether the node answered a ping of ours from exactly this endpoint in the last `lifetime` seconds."""
        proof = self.proof(node)
        return proof is not None and proof.port == node.endpoint.port and now - proof.at < lifetime

    def moved(self, node: Node, now: float) -> Node | None:
        """The node as it was proven at this IP address with another port: a NAT may have given it a new one."""
        proof = self.proof(node)
        if proof is None or proof.port == node.endpoint.port or now - proof.at >= PROOF_LIFETIME:
            return None
        return replace(node, tcp_port=proof.tcp_port)

    def trust(self, node: Node, now: float) -> None:
        """The node got a pong from us for its ping, or answered what only proven nodes are answered."""
        self._trusting.put((node.node_id, node.endpoint), now)

    def distrust(self, node: Node) -> None:
        """The node left a question of ours unanswered: perhaps it restarted and has forgotten us."""
        self._trusting.pop((node.node_id, node.endpoint))

    def is_trusted_by(self, node: Node, now: float) -> bool:
        """Whether the node should answer us without being asked for a ping first."""
        at = self._trusting.get((node.node_id, node.endpoint))
        return at is not None and now - at < RENEWAL_AGE
