"""Node records (EIP-778, devp2p enr.md): who a node is and where it listens, signed by itself.

A record is `[signature, seq, key, value, …]` with ascending keys. Values stay encoded here: only a few keys have a
meaning for us, and what others put into theirs must survive a round trip.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import string
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, TypeAlias

from ethsync.errors import ConfigError, LocalProtocolError, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import keys, rlp
from ethsync.wire.forkid import ForkId, decode_fork_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    import coincurve

IPAddress: TypeAlias = "IPv4Address | IPv6Address"

MAX_SIZE = 300  # bytes of a whole record (EIP-778)
PREFIX = "enr:"  # of the text form (EIP-778, "Text Encoding")
SCHEME = b"v4"  # the one identity scheme that is in use (EIP-778)

_HINT = "write enr: followed by the record in base64url"
_SHOWN = 60  # characters of a wrong text that an error repeats: enough to find it again
_BASE64URL = frozenset(string.ascii_letters + string.digits + "-_")  # RFC 4648, section 5


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A record whose signature holds.

    `raw` is the whole record in RLP, `seq` its version, `public_key` has 64 bytes, `node_id` 32. `pairs` are its keys,
    ascending, with their values still in RLP.
    """

    raw: bytes
    seq: int
    public_key: bytes
    node_id: bytes
    pairs: tuple[tuple[bytes, bytes], ...]

    def __str__(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(self.raw).rstrip(b"=").decode("ascii")

    def value(self, key: bytes) -> bytes | None:
        """The RLP of a key's value, or None."""
        return next((value for name, value in self.pairs if name == key), None)

    @property
    def ip(self) -> IPv4Address | None:
        """Its IPv4 address; None if there is none, or one of a wrong length."""
        packed = self._string(b"ip")
        return IPv4Address(packed) if len(packed) == 4 else None

    @property
    def ip6(self) -> IPv6Address | None:
        """Its IPv6 address."""
        packed = self._string(b"ip6")
        return IPv6Address(packed) if len(packed) == 16 else None

    @property
    def tcp(self) -> int:
        """RLPx port at `ip`; 0 if it has none."""
        return self._port(b"tcp")

    @property
    def udp(self) -> int:
        """Discovery port at `ip`; 0 if it has none."""
        return self._port(b"udp")

    @property
    def tcp6(self) -> int:
        """RLPx port at `ip6`: the one of IPv4 unless the record names another (EIP-778)."""
        return self._port(b"tcp6") or self.tcp

    @property
    def udp6(self) -> int:
        """Discovery port at `ip6`: the one of IPv4 unless the record names another (EIP-778)."""
        return self._port(b"udp6") or self.udp

    @property
    def fork_id(self) -> ForkId | None:
        """What its `eth` entry says (devp2p enr-entries/eth.md): `[[hash, next], …]`; None without a valid one."""
        value = self.value(b"eth")
        if value is None:
            return None
        try:
            return decode_fork_id(rlp.split_list(value)[0])
        except (MalformedMessage, IndexError):
            return None

    @property
    def serves_snap(self) -> bool:
        """Whether it has a `snap` entry, as geth's servers do."""
        return self.value(b"snap") is not None

    def _string(self, key: bytes) -> bytes:
        value = self.value(key)
        try:
            return b"" if value is None else rlp.string(value)
        except MalformedMessage:
            return b""

    def _port(self, key: bytes) -> int:
        value = self.value(key)
        try:
            return 0 if value is None else rlp.integer(value, 2)
        except MalformedMessage:
            return 0


def decode_record(raw: rlp.Buffer) -> NodeRecord:
    """Decode a record and check its form and signature. Raises `MalformedMessage`."""
    record = split_record(raw)
    if not record.is_signed:
        raise MalformedMessage("node record with a wrong signature")
    return record.content


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record whose form is right, and whether its signature is."""

    content: NodeRecord
    signature: bytes
    is_signed: bool


def split_record(raw: rlp.Buffer) -> SignedRecord:
    """Decode a record and find out whether its signature holds. Raises `MalformedMessage` only for a wrong form."""
    if len(raw) > MAX_SIZE:
        raise MalformedMessage(f"node record of {len(raw)} bytes, more than {MAX_SIZE}")
    raw = bytes(raw)
    fields = rlp.split_list(raw)
    if len(fields) < 2 or len(fields) % 2:
        raise MalformedMessage("node record without a sequence number or with a key that has no value")
    signature, seq = rlp.string(fields[0]), rlp.integer(fields[1])
    names = [rlp.string(name) for name in fields[2::2]]
    if any(left >= right for left, right in itertools.pairwise(names)):
        raise MalformedMessage("node record whose keys do not ascend")
    pairs = tuple(zip(names, fields[3::2], strict=True))
    values = dict(pairs)
    if rlp.string(values.get(b"id", b"\x80")) != SCHEME:
        raise MalformedMessage("node record with another identity scheme than v4")
    point = keys.decompress(rlp.string(values.get(b"secp256k1", b"\x80")))
    is_signed = keys.is_signed_by(point, keccak256(rlp.encode_list(fields[1:])), signature)
    public_key = keys.identity(point)
    return SignedRecord(NodeRecord(raw, seq, public_key, keys.node_id(public_key), pairs), signature, is_signed)


def parse_record(text: str) -> NodeRecord:
    """Read the text form `enr:…`. Raises `ConfigError` that says what is wrong with it."""
    record = parse_unverified(text)
    if not record.is_signed:
        raise ConfigError(f"not a node record: {_shortened(text)}: the signature is wrong", hint=_HINT)
    return record.content


def parse_unverified(text: str) -> SignedRecord:
    """Read the text form, whether its signature holds or not. Raises `ConfigError` for a wrong form."""
    text = text.strip()
    if not text.startswith(PREFIX):
        raise ConfigError(f"not a node record: {_shortened(text)} does not begin with {PREFIX}", hint=_HINT)
    try:
        return split_record(decode_base64url(text.removeprefix(PREFIX)))
    except MalformedMessage as error:
        raise ConfigError(f"not a node record: {_shortened(text)}: {error}", hint=_HINT) from error


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"


def decode_base64url(text: str) -> bytes:
    """Decode base64url without padding (RFC 4648, section 5). Raises `MalformedMessage`."""
    if not _BASE64URL.issuperset(text):  # Python would take the other alphabet and padding too
        raise MalformedMessage("text is not base64url")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise MalformedMessage("text is not base64url") from error


def sign_record(key: coincurve.PrivateKey, seq: int, pairs: Mapping[bytes, bytes]) -> NodeRecord:
    """Make a record. `pairs` are further keys with their values in RLP; `id` and `secp256k1` are added.

    Raises `LocalProtocolError` if it gets longer than 300 bytes or if `seq` does not fit 64 bits.
    """
    if not 0 <= seq < 1 << 64:
        raise LocalProtocolError(f"our node record would have the sequence number {seq}, which is not one of 64 bits")
    every = {
        **pairs,
        b"id": rlp.encode_bytes(SCHEME),
        b"secp256k1": rlp.encode_bytes(key.public_key.format(compressed=True)),
    }
    ordered = tuple(sorted(every.items()))
    content = [rlp.encode_int(seq), *(part for name, value in ordered for part in (rlp.encode_bytes(name), value))]
    signature = keys.sign(key, keccak256(rlp.encode_list(content)))
    raw = rlp.encode_list([rlp.encode_bytes(signature), *content])
    if len(raw) > MAX_SIZE:
        raise LocalProtocolError(f"our node record would have {len(raw)} bytes, more than {MAX_SIZE}")
    public_key = keys.identity(key.public_key)
    return NodeRecord(raw, seq, public_key, keys.node_id(public_key), ordered)


def address_pairs(
    ip: IPv4Address | None = None,
    ip6: IPv6Address | None = None,
    *,
    tcp: int = 0,
    udp: int = 0,
    tcp6: int = 0,
    udp6: int = 0,
) -> dict[bytes, bytes]:
    """The address keys of a record, for `sign_record`; what is None or 0 is left out."""
    pairs = {b"ip": ip, b"ip6": ip6}
    ports = {b"tcp": tcp, b"udp": udp, b"tcp6": tcp6, b"udp6": udp6}
    return {
        **{name: rlp.encode_bytes(address.packed) for name, address in pairs.items() if address is not None},
        **{name: rlp.encode_int(port) for name, port in ports.items() if port},
    }
