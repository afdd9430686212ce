"""DNS node lists (EIP-1459, devp2p dnsdisc.md): the texts of a signed tree, read and written.

A tree is a set of TXT records. Its root, at the list's own name, is signed; every other entry is found at the hash of
its text, so that nobody between us and the list's owner can change one. An entry is a branch (hashes of further ones),
a node record, or a link to another list.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ethsync.errors import ConfigError, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import enr, keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import coincurve

    from ethsync.wire.enr import NodeRecord

LINK_PREFIX = "enrtree://"
BRANCH_PREFIX = "enrtree-branch:"
ROOT_PREFIX = "enrtree-root:v1"

NAME_BYTES = 16  # of a hash, in the names that we write: as in the example of dnsdisc.md, and in go-ethereum
SHORTEST_NAME = 12  # bytes (EIP-1459, "the abbreviated hash", and minHashLength in go-ethereum p2p/dnsdisc/tree.go)
LONGEST_NAME = 32  # bytes: a whole hash
MOST_CHILDREN = 13
"""In a branch that we write: a TXT record of 27 bytes a hash still fits a DNS answer of 512 bytes (tree.go)."""
LONGEST_TEXT = 4096
"""Characters of an entry that we read: eight times what it should have. A longer one would hold up everything else."""
LONGEST_DOMAIN = 200
"""Characters, so that a whole hash in base32, a dot and the domain are a valid name (253; RFC 1035, section 2.3.4)."""
MOST_SEQ = 2**64 - 1  # go-ethereum reads the sequence number into a machine word

_ROOT = re.compile(
    r"(?P<signed>enrtree-root:v1 e=(?P<e>[A-Z2-7]+) l=(?P<l>[A-Z2-7]+) seq=(?P<seq>[0-9]{1,20}))"
    r" sig=(?P<sig>[A-Za-z0-9_-]{87})"  # 65 bytes
)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")  # RFC 1035, section 2.3.1, and underscores
_BASE32 = re.compile(r"[A-Z2-7]*")
_HINT = "write enrtree://<key in base32>@<domain>"


@dataclass(frozen=True, slots=True)
class Link:
    """Where a list is and who signs it. `public_key` is compressed, 33 bytes; `domain` in lower case, no final dot."""

    public_key: bytes
    domain: str

    def __str__(self) -> str:
        return f"{LINK_PREFIX}{encode_base32(self.public_key)}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Root:
    """A root whose signature holds: the names of both subtrees, and the version."""

    records: str
    links: str
    seq: int


@dataclass(frozen=True, slots=True)
class Branch:
    """The names of further entries."""

    children: tuple[str, ...]


Entry: TypeAlias = "Branch | Link | NodeRecord"


def encode_base32(data: bytes) -> str:
    """Base32 without padding (RFC 4648, section 6)."""
    return base64.b32encode(data).rstrip(b"=").decode("ascii")


def decode_base32(text: str) -> bytes:
    """Decode base32 without padding, upper case only. Raises `MalformedMessage`."""
    if not _BASE32.fullmatch(text):
        raise MalformedMessage("text is not base32")
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error as error:
        raise MalformedMessage("text is not base32") from error


def decode_name(name: str) -> bytes:
    """The abbreviated hash (12 to 32 bytes) that an entry's name stands for. Raises `MalformedMessage`."""
    digest = decode_base32(name)
    if not SHORTEST_NAME <= len(digest) <= LONGEST_NAME:
        raise MalformedMessage(f"hash of {len(digest)} bytes in a node list, not {SHORTEST_NAME} to {LONGEST_NAME}")
    return digest


def entry_name(text: str) -> str:
    """The name (26 characters) below the domain where this text belongs."""
    return encode_base32(keccak256(text.encode())[:NAME_BYTES])


def is_named(text: str, name: str) -> bool:
    """Whether this text is the one that belongs at `name`. Raises `MalformedMessage` if that is no name."""
    return keccak256(text.encode()).startswith(decode_name(name))


def parse_link(text: str) -> Link:
    """Read `enrtree://KEY@domain`. Raises `ConfigError` that says what is wrong with it."""
    text = text.strip()
    if not text.startswith(LINK_PREFIX):
        raise ConfigError(f"not a node list: {text!r} does not begin with {LINK_PREFIX}", hint=_HINT)
    try:
        return _decode_link(text)
    except MalformedMessage as error:
        raise ConfigError(f"not a node list: {text!r}: {error}", hint=_HINT) from error


def decode_root(text: str, public_key: bytes) -> Root:
    """Read a root and check that the owner of this compressed key (33 bytes) signed it. Raises `MalformedMessage`.

    Of the 65 bytes of a signature the last one only helps to find the key, which we know; go-ethereum ignores it too.
    """
    match = _ROOT.fullmatch(text)
    if match is None:
        raise MalformedMessage("root of a node list in another form than e=… l=… seq=… sig=…")
    for name in match["e"], match["l"]:
        decode_name(name)
    seq = int(match["seq"])
    if seq > MOST_SEQ:
        raise MalformedMessage("root of a node list with a sequence number of more than 64 bits")
    signature = enr.decode_base64url(match["sig"])
    if not keys.is_signed_by(keys.decompress(public_key), keccak256(match["signed"].encode()), signature[:64]):
        raise MalformedMessage("root of a node list with a wrong signature")
    return Root(match["e"], match["l"], seq)


def decode_entry(text: str) -> Entry:
    """Read a branch, a link or a node record. Raises `MalformedMessage`.

    Whether the text is at its place is for `is_named` to say.
    """
    if len(text) > LONGEST_TEXT:
        raise MalformedMessage(f"entry of a node list with {len(text)} characters, more than {LONGEST_TEXT}")
    for prefix, decode in _DECODERS.items():
        if text.startswith(prefix):
            return decode(text)
    raise MalformedMessage("text is no entry of a node list")


def _decode_branch(text: str) -> Branch:
    """A branch may be empty: so is the link subtree of most lists."""
    body = text.removeprefix(BRANCH_PREFIX)
    children = tuple(body.split(",")) if body else ()
    for name in children:
        decode_name(name)
    return Branch(children)


def _decode_link(text: str) -> Link:
    key, at, domain = text.removeprefix(LINK_PREFIX).partition("@")
    if not at:
        raise MalformedMessage("link to a node list without a key")
    public_key = decode_base32(key)
    keys.decompress(public_key)
    labels = domain.removesuffix(".").split(".")
    if len(domain) > LONGEST_DOMAIN or not all(_LABEL.fullmatch(label) for label in labels):
        raise MalformedMessage("link to a node list at something that is not a domain")
    return Link(public_key, ".".join(labels).lower())


def _decode_record(text: str) -> NodeRecord:
    return enr.decode_record(enr.decode_base64url(text.removeprefix(enr.PREFIX)))


_DECODERS: Mapping[str, Callable[[str], Entry]] = {
    BRANCH_PREFIX: _decode_branch,
    LINK_PREFIX: _decode_link,
    enr.PREFIX: _decode_record,
}


def build_tree(
    records: Iterable[NodeRecord], links: Iterable[Link], domain: str, key: coincurve.PrivateKey, seq: int
) -> dict[str, str]:
    """Make the TXT records of a list: text by full name, the root's first.

    Records are ordered by node id, links stay in order, and branches are filled from the left, as go-ethereum does it;
    so equal lists give equal trees.
    """
    entries: dict[str, str] = {}
    ordered = sorted(records, key=lambda record: record.node_id)
    top = _plant([str(record) for record in ordered], entries)
    top_link = _plant([str(link) for link in links], entries)
    signed = f"{ROOT_PREFIX} e={top} l={top_link} seq={seq}"
    signature = key.sign_recoverable(keccak256(signed.encode()), hasher=None)
    root = f"{signed} sig={base64.urlsafe_b64encode(signature).rstrip(b'=').decode('ascii')}"
    return {domain: root, **{f"{name}.{domain}": text for name, text in entries.items()}}


def _plant(texts: Sequence[str], entries: dict[str, str]) -> str:
    """Put leaves and the branches over them into `entries`; returns the name of the topmost."""

    def put(text: str) -> str:
        name = entry_name(text)
        entries[name] = text
        return name

    names = [put(text) for text in texts]
    if not names:
        return put(BRANCH_PREFIX)
    while len(names) > 1:
        names = [
            group[0] if len(group) == 1 else put(BRANCH_PREFIX + ",".join(group))
            for group in _groups(names, MOST_CHILDREN)
        ]
    return names[0]


def _groups(names: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    rest = iter(names)
    while group := tuple(itertools.islice(rest, size)):
        yield group
