"""Messages as text: known ones by their fields, everything else as the RLP tree that it is."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

from ethsync.console.blocks import block_lines
from ethsync.errors import MalformedMessage
from ethsync.rlpx.capabilities import split_message_id
from ethsync.ui.numbers import printable
from ethsync.wire import eth, p2p, rlp, snap
from ethsync.wire.eth import EthMessage
from ethsync.wire.p2p import P2PMessage
from ethsync.wire.snap import REQUEST_DECODERS, SnapMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethsync.rlpx.capabilities import SharedCapability
    from ethsync.wire.rlp import RLPItem

WIDEST = 100
"""Characters of one line of an RLP tree; longer strings are cut in the middle."""

MOST_ITEMS = 8
"""Items of a list that are shown; the others are counted."""

DEEPEST = 6
"""Lists in lists that are shown; of what is in deeper ones, how much."""


def name_of(shared: Mapping[str, SharedCapability], message_id: int) -> str:
    """What a message is called: `eth/69 BLOCK_HEADERS (0x14)`."""
    if message_id < p2p.LENGTH:
        known = message_id in set(P2PMessage)
        return f"p2p {P2PMessage(message_id).name if known else 'UNKNOWN'} (0x{message_id:02x})"
    try:
        capability, code = split_message_id(shared, message_id)
    except MalformedMessage:
        return f"UNKNOWN (0x{message_id:02x}), an id of no shared protocol"
    names = {eth.NAME: EthMessage, snap.NAME: SnapMessage}.get(capability)
    name = names(code).name if names is not None and code in set(names) else "UNKNOWN"
    return f"{capability}/{shared[capability].version} {name} (0x{message_id:02x})"


def describe(shared: Mapping[str, SharedCapability], message_id: int, payload: bytes) -> list[str]:
    """The lines that show a payload (inflated). Never raises: what does not decode is said and shown in hex."""
    try:
        known = _fields(shared, message_id, payload)
        return known if known is not None else tree(rlp.decode(payload))
    except MalformedMessage as error:
        return [f"! does not decode: {error}", f"  {_hex(payload)}"]


def _fields(shared: Mapping[str, SharedCapability], message_id: int, payload: bytes) -> list[str] | None:
    """The named fields of a message that has a decoder; None for the others."""
    if message_id == P2PMessage.DISCONNECT:
        return [f"reason: {p2p.decode_disconnect(payload)}"]
    if message_id < p2p.LENGTH:
        return None
    capability, code = split_message_id(shared, message_id)
    if capability == eth.NAME:
        version = shared[capability].version
        packet = eth.decode(version, code, payload)
        if packet is None or isinstance(packet, eth.PooledTransactions):  # what is not looked into shows more as a tree
            return None
        return block_lines(version, packet) or _named(packet)
    decoder = REQUEST_DECODERS.get(SnapMessage(code)) if capability == snap.NAME else None
    return None if decoder is None else _named(decoder(payload))


def _named(packet: object) -> list[str]:
    if not is_dataclass(packet):
        return [str(packet)]
    return [f"{field.name}: {_value(getattr(packet, field.name))}" for field in fields(packet)]


def _value(value: object) -> str:
    if isinstance(value, bytes):
        return _hex(value)
    if isinstance(value, tuple):
        shown = ", ".join(_value(item) for item in value[:MOST_ITEMS])
        return f"[{shown}{f', … {len(value)} in all' if len(value) > MOST_ITEMS else ''}]"
    return str(value)


def tree(item: RLPItem, depth: int = 0) -> list[str]:
    """An RLP item as indented lines."""
    indent = "  " * depth
    if isinstance(item, bytes):
        return [indent + _hex(item)]
    if depth == DEEPEST:
        return [f"{indent}[… {len(item)} items]"]
    lines = [f"{indent}[" + ("]" if not item else "")]
    for inner in item[:MOST_ITEMS]:
        lines += tree(inner, depth + 1)
    if len(item) > MOST_ITEMS:
        lines.append(f"{indent}  … {len(item) - MOST_ITEMS} more of {len(item)}")
    return [*lines, f"{indent}]"] if item else lines


def _hex(data: bytes) -> str:
    text = f"0x{data.hex()}"
    if 0 < len(data) <= 8:
        text += f" ({int.from_bytes(data, 'big')})"
    if len(text) > WIDEST:
        half = WIDEST // 2
        text = f"{text[:half]}…{text[-half // 2 :]} ({len(data)} bytes)"
    return text


def hello_lines(hello: p2p.Hello) -> list[str]:
    """A Hello as text."""
    return [
        f"client: {printable(hello.client_id)}",
        f"p2p version: {hello.protocol_version}",
        f"capabilities: {', '.join(printable(str(each)) for each in hello.capabilities)}",
        f"listens on: {hello.listen_port}",
    ]
