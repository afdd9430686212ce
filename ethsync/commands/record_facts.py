"""What a node record says, as facts for JSON and as lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeAlias

from ethsync.commands.targets import enode_of_record
from ethsync.errors import MalformedMessage
from ethsync.networks import name_fork_id
from ethsync.wire import rlp
from ethsync.wire.forkid import TIMESTAMP_THRESHOLD, ForkId, decode_fork_id

if TYPE_CHECKING:
    from ethsync.networks import Network
    from ethsync.wire.enr import NodeRecord, SignedRecord

Value: TypeAlias = "str | int | list[Value] | dict[str, Value] | None"
"""What JSON can hold of an entry."""

Decoder: TypeAlias = Callable[[bytes], Value]
"""RLP of a value -> the value for JSON. Raises MalformedMessage, ValueError or IndexError if it has another form."""

ETH2_SIZE = 16  # SSZ of ENRForkID: digest and next version of 4 bytes each, epoch of 8 (consensus-specs, phase0)
NEVER = 2**64 - 1  # FAR_FUTURE_EPOCH (the same): no next fork is planned


def record_facts(record: SignedRecord, networks: Iterable[Network]) -> dict[str, Any]:
    """Everything that a record says. Entries whose form is not the usual one are shown as RLP, in hexadecimal."""
    content = record.content
    enode = enode_of_record(content)
    fork_id = content.fork_id
    return {
        "record": str(content),
        "signature": "valid" if record.is_signed else "wrong",
        "node_id": content.node_id.hex(),
        "public_key": content.public_key.hex(),
        "seq": content.seq,
        "size": len(content.raw),
        "enode": None if enode is None else str(enode),
        "chain": None if fork_id is None else name_fork_id(fork_id, networks),
        "next_fork": None if fork_id is None else fork_id.next,
        "entries": {_name(key): _value(key, value) for key, value in content.pairs},
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    if "error" in facts:
        return [f"{facts['record'][:60]}…", f"malformed    {facts['error']}"]
    rows = {
        "signature": facts["signature"],
        "node id": facts["node_id"],
        "public key": facts["public_key"],
        "seq": _sequence(facts["seq"]),
        "size": f"{facts['size']} bytes",
        "chain": _chain(facts),
        "enode": facts["enode"] or "none: it has no address with a TCP port",
    }
    return [
        *(f"{name:<12} {text}" for name, text in rows.items()),
        "entries",
        *(f"  {name:<10} {_shown(value)}" for name, value in facts["entries"].items()),
    ]


def fork_text(fork_id: ForkId | None, networks: Iterable[Network]) -> str:
    """Which chain and fork an `eth` entry means, for people."""
    if fork_id is None:
        return "no execution chain: it has no eth entry"
    return _fork_text(name_fork_id(fork_id, networks), fork_id.next)


def _chain(facts: dict[str, Any]) -> str:
    if facts["next_fork"] is None:
        return "none: it has no eth entry"
    return _fork_text(facts["chain"], facts["next_fork"])


def _fork_text(name: str | None, following: int) -> str:
    known = name or "none that is built in"
    if not following:
        return known
    if following > TIMESTAMP_THRESHOLD:
        return f"{known}; next fork at {following}{_date(following)}"
    return f"{known}; next fork at block {following}"


def _date(time: int) -> str:
    """The date of a time in seconds, unless that is beyond what a calendar holds."""
    return f" ({datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC)" if time < 1 << 36 else ""


def _sequence(seq: int) -> str:
    """Most begin with a time in milliseconds, as geth's do: then it tells when."""
    seconds = seq // 1000
    return f"{seq}{_date(seconds)}" if seconds > TIMESTAMP_THRESHOLD else str(seq)


def _name(key: bytes) -> str:
    return key.decode("ascii") if key.isascii() and key.decode("ascii").isprintable() else f"0x{key.hex()}"


def _value(key: bytes, encoded: bytes) -> Value:
    try:
        return DECODERS.get(key, _any)(encoded)
    except (MalformedMessage, ValueError, IndexError):
        pass
    try:
        return _any(encoded)
    except MalformedMessage:
        return f"rlp:{encoded.hex()}"


def _any(encoded: bytes) -> Value:
    """Byte strings in hexadecimal, in as many lists as there are."""

    def plain(item: rlp.RLPItem) -> Value:
        return f"0x{item.hex()}" if isinstance(item, bytes) else [plain(each) for each in item]

    return plain(rlp.decode(encoded))


def _text(encoded: bytes) -> str:
    text = rlp.string(encoded).decode("utf-8")
    if not text.isprintable():
        raise MalformedMessage("text with control characters")
    return text


def _texts(encoded: bytes) -> Value:
    return [_text(item) for item in rlp.split_list(encoded)]


def _address(encoded: bytes) -> str:
    return str(ip_address(rlp.string(encoded)))


def _port(encoded: bytes) -> int:
    return rlp.integer(encoded, 2)


def _fork_ids(encoded: bytes) -> Value:
    fork_id = decode_fork_id(rlp.split_list(encoded)[0])  # further elements are for later versions (enr-entries/eth.md)
    return {"fork_hash": fork_id.hash.hex(), "fork_next": fork_id.next}


def _eth2(encoded: bytes) -> Value:
    data = rlp.fixed_string(encoded, ETH2_SIZE, "eth2 entry")
    epoch = int.from_bytes(data[8:], "little")
    return {
        "fork_digest": data[:4].hex(),
        "next_fork_version": data[4:8].hex(),
        "next_fork_epoch": None if epoch == NEVER else epoch,
    }


DECODERS: dict[bytes, Decoder] = {
    b"id": _text,
    b"ip": _address,
    b"ip6": _address,
    b"tcp": _port,
    b"udp": _port,
    b"tcp6": _port,
    b"udp6": _port,
    b"eth": _fork_ids,
    b"client": _texts,
    b"eth2": _eth2,
    b"quic": _port,
    b"quic6": _port,
    b"cgc": rlp.integer,
}
"""Keys whose values have a form of their own: EIP-778, devp2p enr-entries/eth.md, EIP-7636 (`client`), and those of the
consensus layer (consensus-specs, phase0 and fulu, p2p-interface.md)."""


def _shown(value: Value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {'none' if each is None else each}" for name, each in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def brief_facts(record: NodeRecord) -> dict[str, Any]:
    """What one asks first of one record among many."""
    return {
        "record": str(record),
        "node_id": record.node_id.hex(),
        **address_facts(record),
        "fork_id": None if record.fork_id is None else str(record.fork_id),
    }


def brief_line(record: NodeRecord) -> str:
    """The same for people: node id, address, fork id."""
    address = "-"
    if record.ip is not None:
        address = f"{record.ip}:{record.tcp or '-'}"
    elif record.ip6 is not None:
        address = f"[{record.ip6}]:{record.tcp6 or '-'}"
    return f"{record.node_id.hex()}  {address:<21}  {record.fork_id or '-'}"


def address_facts(record: NodeRecord) -> dict[str, Any]:
    """The addresses and ports of a record; None where it has none."""
    v4, v6 = record.ip is not None, record.ip6 is not None
    return {
        "ip": str(record.ip) if v4 else None,
        "tcp": record.tcp or None,
        "udp": record.udp or None,
        "ip6": str(record.ip6) if v6 else None,
        "tcp6": (record.tcp6 or None) if v6 else None,
        "udp6": (record.udp6 or None) if v6 else None,
    }
