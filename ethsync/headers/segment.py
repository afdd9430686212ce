"""Headers with consecutive numbers as they came in one reply, checked in bulk: bytes in, columns out.

What a reply proves depends on how it was asked for. Asked by a hash that is proven to be on the chain, its headers are
on the chain, link by link. Asked by number they hold together, and nothing more, until the header above them is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import Disproved, MalformedMessage, VerificationFailed
from ethsync.kernels import headers as kernel
from ethsync.kernels.keccak import hash_many
from ethsync.kernels.rlp import TOO_MANY
from ethsync.store.header_pages import Edge
from ethsync.wire.eth import GetBlockHeaders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.arrays import Bytes, Ints
    from ethsync.headers.rules import ChainRules
    from ethsync.store.headers import Link

FAULTS = {
    kernel.WRONG_TAIL: "has not the fields of its fork",
    kernel.WRONG_GAS: "used more gas than its limit",
    kernel.WRONG_SEAL: "has ommers, a nonce or long extraData after the merge",
    kernel.WRONG_TIME: "is not later than its parent",
    kernel.WRONG_DIFFICULTY: "has a difficulty although its parent is after the merge",
    kernel.WRONG_NUMBER: "has not the number after its parent's",
}


@dataclass(frozen=True, slots=True, eq=False)
class HeaderQuery:
    """Ask for `limit` headers from `number` downwards; by `hash` if that is proven to be the hash of `number`."""

    number: int
    limit: int
    hash: bytes | None = None

    def make(self, request_id: int) -> GetBlockHeaders:
        """The request."""
        origin = self.number if self.hash is None else self.hash
        return GetBlockHeaders(request_id, origin, self.limit, reverse=True)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """n headers in ascending order of their numbers.

    rows (n, COLUMNS): see `ethsync.kernels.headers`, places are in buf; hashes (n, 32).
    """

    buf: Bytes
    rows: Ints
    hashes: Bytes

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def first(self) -> int:
        """Number of the lowest header."""
        return int(self.rows[0, kernel.NUMBER])

    @property
    def last(self) -> int:
        """Number of the highest header."""
        return int(self.rows[-1, kernel.NUMBER])

    @property
    def hash(self) -> bytes:
        """Hash of the highest header."""
        return bytes(self.hashes[-1])

    @property
    def parent(self) -> bytes:
        """Parent hash of the lowest header."""
        at = int(self.rows[0, kernel.PARENT])
        return self.buf[at : at + 32].tobytes()

    @property
    def bottom(self) -> Edge:
        """What the parent of the lowest header is checked against."""
        return Edge(int(self.rows[0, kernel.TIME]), int(self.rows[0, kernel.DIFFICULTY]))

    @property
    def top(self) -> Edge:
        """What the child of the highest header is checked against."""
        return Edge(int(self.rows[-1, kernel.TIME]), int(self.rows[-1, kernel.DIFFICULTY]))

    @property
    def nbytes(self) -> int:
        """Bytes of the headers."""
        return int(self.rows[:, kernel.LENGTH].sum())

    def raw(self, number: int) -> bytes:
        """The bytes of one header."""
        row = self.rows[number - self.first]
        return self.buf[row[kernel.OFFSET] : row[kernel.OFFSET] + row[kernel.LENGTH]].tobytes()

    def headers(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Number, bytes and hash of each."""
        names = self.hashes.tobytes()
        for row, number in enumerate(range(self.first, self.last + 1)):
            yield number, self.raw(number), names[32 * row : 32 * row + 32]


def segment_of(raw: bytes) -> Segment:
    """One trusted header as a segment. Raises MalformedMessage."""
    buf = np.frombuffer(raw, np.uint8)
    rows, counts = np.zeros((1, kernel.COLUMNS), np.int64), np.zeros(2, np.int64)
    if kernel.scan_page(buf, rows, counts) < 0 or counts[1] != 1:
        raise MalformedMessage("not one block header")
    return Segment(buf, rows, hash_rows(buf, rows))


def read_headers(payload: bytes, query: HeaderQuery, rules: ChainRules) -> Segment | None:
    """Check a BlockHeaders reply; None if it is empty. A few milliseconds for a thousand headers: run it in a thread.

    Raises MalformedMessage for what does not answer the query; Disproved for headers that do not hold together, or are
    not the ones whose hash was asked for; VerificationFailed if the proven chain itself breaks a rule of its network.
    """
    buf, rows = _scan(payload, query)
    if not len(rows):
        return None
    hashes = hash_rows(buf, rows)
    wrong = np.flatnonzero(rows[:, kernel.NUMBER] != query.number - np.arange(len(rows)))
    if query.hash is None and len(wrong):
        raise MalformedMessage(f"header {query.number - int(wrong[0])} was due, another number came")
    if query.hash is not None and hashes[0].tobytes() != query.hash:
        raise Disproved(f"another header came instead of {query.number} (0x{query.hash.hex()})")
    parents = np.ascontiguousarray(rows[:, kernel.PARENT])
    linked = kernel.count_linked(buf, parents, hashes, True)
    if linked < len(rows):
        raise Disproved(f"header {query.number - linked} is not the parent of {query.number - linked + 1}")
    _check_rules(rows, hashes, query, rules, wrong)
    return Segment(buf, np.ascontiguousarray(rows[::-1]), np.ascontiguousarray(hashes[::-1]))


def _scan(payload: bytes, query: HeaderQuery) -> tuple[Bytes, Ints]:
    buf = np.frombuffer(payload, np.uint8)
    rows, counts = np.zeros((query.limit, kernel.COLUMNS), np.int64), np.zeros(2, np.int64)
    code = kernel.scan_headers(buf, rows, counts)
    if code == TOO_MANY:
        raise MalformedMessage(f"more than the {query.limit} headers that were asked for")
    if code < 0:
        raise MalformedMessage("BlockHeaders is not the RLP that devp2p caps/eth.md describes")
    return buf, rows[: int(counts[1])]


def hash_rows(buf: Bytes, rows: Ints) -> Bytes:
    """Hash the headers of these rows: (n, 32)."""
    hashes = np.empty((len(rows), 32), np.uint8)
    offsets, lengths = rows[:, kernel.OFFSET], rows[:, kernel.LENGTH]
    hash_many(buf, np.ascontiguousarray(offsets), np.ascontiguousarray(lengths), hashes)
    return hashes


def _check_rules(rows: Ints, hashes: Bytes, query: HeaderQuery, rules: ChainRules, wrong: Ints) -> None:
    where = np.zeros(1, np.int64)
    fault = int(kernel.find_fault(rows, rules.schedule, True, where))
    if fault == kernel.FAULTLESS and len(wrong):
        fault, where[0] = kernel.WRONG_NUMBER, wrong[0]
    what = f"header {query.number - int(where[0])} {FAULTS[fault]}" if fault != kernel.FAULTLESS else ""
    if not what and rows[-1, kernel.NUMBER] == 0 and hashes[-1].tobytes() != rules.genesis_hash:
        what = f"header 0 is 0x{hashes[-1].tobytes().hex()} and not the genesis of this network"
    if what and query.hash is None:
        raise MalformedMessage(what)
    if what:
        raise broken_chain(what)


def family_fault(link: Link, parent: Edge) -> int:
    """The rule that is broken between the child that names `link` and a parent with this edge."""
    if link.child is None:
        return kernel.FAULTLESS
    return int(kernel.family_fault(link.number + 1, *link.child, link.number, *parent))


def are_family(link: Link, parent: Edge) -> bool:
    """Whether no rule is broken between them."""
    return family_fault(link, parent) == kernel.FAULTLESS


def check_family(link: Link, parent: Edge) -> None:
    """Check the rules between a proven header and its parent. Raises VerificationFailed."""
    fault = family_fault(link, parent)
    if fault != kernel.FAULTLESS:
        raise broken_chain(f"header {link.number + 1} {FAULTS[fault]}")


def broken_chain(what: str) -> VerificationFailed:
    """The error for a chain that is proven to be the trusted one, and breaks a rule."""
    return VerificationFailed(
        f"{what}, and it is an ancestor of the trusted head",
        hint="the head is of another network, or of a fork that this network's forks lack: see --override-fork",
    )
