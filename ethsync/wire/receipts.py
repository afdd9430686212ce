"""Receipts: how versions of eth write them, and what the receipts trie stores.

eth/68 sends the consensus form with its bloom filter (Yellow Paper 4.3.1, EIP-2718), eth/69 and later a flat list
without it (EIP-7642). Both decode to the same `Receipt`; the bloom is computed from the logs when it is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

BLOOM_SIZE = 256  # bytes (Yellow Paper 4.3.1)
_BLOOM_BITS = 8 * BLOOM_SIZE - 1  # mask of the 11 bits that choose one of 2048 (Yellow Paper 4.3.1, M3:2048)

MAX_TYPE = 0x7F
"""Largest transaction type (EIP-2718)."""

MAX_TOPICS = 4
"""Topics of one log (Yellow Paper, appendix H, LOG4)."""

_OUTCOMES = (b"", b"\x01")  # failed, succeeded (EIP-658); before Byzantium a state root stood there


@dataclass(frozen=True, slots=True)
class Receipt:
    """One transaction's receipt. `outcome` is b"" for failed, b"\\x01" for succeeded, 32 bytes before Byzantium.

    `logs` is the RLP list of logs, checked. Takes at most 64 bytes for each byte that it was decoded from.
    """

    tx_type: int
    outcome: bytes
    cumulative_gas: int
    logs: bytes

    def bloom(self) -> bytes:
        """The bloom filter of its logs, 256 bytes."""
        bits = 0
        for entry in _bloom_entries(self.logs):
            digest = keccak256(entry)
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & _BLOOM_BITS)
        return bits.to_bytes(BLOOM_SIZE, "big")

    def consensus(self) -> bytes:
        """What the receipts trie stores: the RLP list with bloom, after the type unless that is 0."""
        fields = (rlp.encode_bytes(self.outcome), rlp.encode_int(self.cumulative_gas), rlp.encode_bytes(self.bloom()))
        encoded = rlp.encode_list((*fields, self.logs))
        return bytes((self.tx_type,)) + encoded if self.tx_type else encoded


def _lists(data: bytes, start: int, end: int, what: str) -> Iterator[tuple[int, int]]:
    """Where the payloads of the lists in a payload begin and end."""
    while start < end:
        is_list, first, start = rlp.item_bounds(data, start, end)
        if not is_list:
            raise MalformedMessage(f"{what} is a byte string")
        yield first, start


def _fixed(data: bytes, start: int, end: int, width: int, what: str) -> tuple[bytes, int]:
    is_list, first, last = rlp.item_bounds(data, start, end)
    if is_list or last - first != width:
        raise MalformedMessage(f"{what} of a log is not {width} bytes")
    return data[first:last], last


def _bloom_entries(logs: bytes) -> Iterator[bytes]:
    """Addresses and topics of logs `[[address, [topic, ...], data], ...]`. Raises MalformedMessage for other shapes."""
    is_list, start, end = rlp.item_bounds(logs, 0, len(logs))
    if not is_list or end != len(logs):
        raise MalformedMessage("logs are not one list")
    for first, last in _lists(logs, start, end, "a log"):
        address, at = _fixed(logs, first, last, 20, "the address")
        yield address
        is_list, topic, topics_end = rlp.item_bounds(logs, at, last)
        if not is_list or topics_end - topic > MAX_TOPICS * 33:
            raise MalformedMessage("a log without a list of at most four topics")
        while topic < topics_end:
            entry, topic = _fixed(logs, topic, topics_end, 32, "a topic")
            yield entry
        is_list, _, data_end = rlp.item_bounds(logs, topics_end, last)
        if is_list or data_end != last:
            raise MalformedMessage("a log that does not end in its data")


def _checked(tx_type: int, outcome: bytes, encoded_gas: bytes, logs: bytes) -> Receipt:
    if tx_type > MAX_TYPE:
        raise MalformedMessage(f"receipt of a transaction of type {tx_type}, more than {MAX_TYPE}")
    if outcome not in _OUTCOMES and len(outcome) != 32:
        raise MalformedMessage(f"receipt with 0x{outcome.hex()} for its outcome")
    for _ in _bloom_entries(logs):
        pass
    return Receipt(tx_type, outcome, rlp.integer(encoded_gas), logs)


def _decode_flat(item: bytes) -> Receipt:
    encoded_type, outcome, gas, logs = rlp.split_fields(item, 4, "receipt")
    # Besu wrote type 0 as the byte 0x00, which is no canonical integer, until it was mended.
    tx_type = 0 if encoded_type == b"\0" else rlp.integer(encoded_type, 1)
    return _checked(tx_type, rlp.string(outcome), gas, logs)


def _decode_with_bloom(item: bytes) -> Receipt:
    is_list, start, end = rlp.item_bounds(item, 0, len(item))
    tx_type = 0
    if not is_list:
        if end - start < 2 or end != len(item) or item[start] == 0:
            raise MalformedMessage("typed receipt without a type")
        tx_type, item = item[start], item[start + 1 : end]
    outcome, gas, bloom, logs = rlp.split_fields(item, 4, "receipt")
    receipt = _checked(tx_type, rlp.string(outcome), gas, logs)
    if rlp.fixed_string(bloom, BLOOM_SIZE, "bloom of a receipt") != receipt.bloom():
        raise MalformedMessage("the bloom of a receipt does not fit its logs")
    return receipt


def _encode_flat(receipt: Receipt) -> bytes:
    fields = (
        rlp.encode_int(receipt.tx_type),
        rlp.encode_bytes(receipt.outcome),
        rlp.encode_int(receipt.cumulative_gas),
    )
    return rlp.encode_list((*fields, receipt.logs))


def _encode_with_bloom(receipt: Receipt) -> bytes:
    return rlp.encode_bytes(receipt.consensus()) if receipt.tx_type else receipt.consensus()


@dataclass(frozen=True, slots=True)
class ReceiptEncoding:
    """How one receipt is written as an RLP item, and read."""

    encode: Callable[[Receipt], bytes]
    decode: Callable[[bytes], Receipt]


_WITH_BLOOM = ReceiptEncoding(_encode_with_bloom, _decode_with_bloom)
_FLAT = ReceiptEncoding(_encode_flat, _decode_flat)

RECEIPT_ENCODINGS: Mapping[int, ReceiptEncoding] = {68: _WITH_BLOOM, 69: _FLAT, 70: _FLAT, 71: _FLAT}
"""The form of a receipt by eth version."""


def decode_block_receipts(version: int, raw: bytes) -> tuple[Receipt, ...]:
    """Decode the receipts of one block from its list in a reply of that eth version. Raises MalformedMessage.

    Says nothing of whether they are the block's: see `ethsync.state.block_roots`.
    """
    decode = RECEIPT_ENCODINGS[version].decode
    return tuple(decode(item) for item in rlp.split_list(raw))


def encode_block_receipts(version: int, receipts: Iterable[Receipt]) -> bytes:
    """The list of one block's receipts as a reply of that eth version holds it."""
    return rlp.encode_list(map(RECEIPT_ENCODINGS[version].encode, receipts))
