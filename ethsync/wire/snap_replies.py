"""Replies of snap/1: encoders for servers, and decoders for tests, servers and people (devp2p caps/snap.md).

The encoders take the bulk of a reply as bytes that are RLP already (a kernel makes them) and only put the frame
around it. The decoders make Python objects of every item: never use them on the way of a sync.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ethsync.errors import MalformedMessage
from ethsync.wire import rlp
from ethsync.wire.snap_protocol import MAX_PROOF_NODES, SnapMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_LEAVES = 1 << 20
"""Accounts, storage tries or slots of one trie that the decoders make; 10 MiB hold a quarter of that."""


@dataclass(frozen=True, slots=True)
class AccountRange:
    """`accounts`: (account hash, slim account as raw RLP list) in ascending order. `proof`: trie nodes."""

    message: ClassVar[SnapMessage] = SnapMessage.ACCOUNT_RANGE
    request_id: int
    accounts: tuple[tuple[bytes, bytes], ...]
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StorageRanges:
    """`slots`: per account, (slot hash, trie leaf value) in ascending order. `proof`: for the last account only."""

    message: ClassVar[SnapMessage] = SnapMessage.STORAGE_RANGES
    request_id: int
    slots: tuple[tuple[tuple[bytes, bytes], ...], ...]
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ByteCodes:
    """Bytecodes in the order of the request; unknown ones are left out."""

    message: ClassVar[SnapMessage] = SnapMessage.BYTE_CODES
    request_id: int
    codes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TrieNodes:
    """Trie nodes in the order of the request; missing ones are left out."""

    message: ClassVar[SnapMessage] = SnapMessage.TRIE_NODES
    request_id: int
    nodes: tuple[bytes, ...]


SnapReply = AccountRange | StorageRanges | ByteCodes | TrieNodes


def _encode_reply(request_id: int, *lists: Sequence[bytes]) -> bytes:
    """Encode `[id, list, ...]` from lists of encoded items, copying every byte once."""
    parts = [b"", rlp.encode_int(request_id)]
    for items in lists:
        parts.append(rlp.list_prefix(sum(map(len, items))))
        parts.extend(items)
    parts[0] = rlp.list_prefix(sum(map(len, parts)))
    return b"".join(parts)


def _strings(items: Sequence[bytes]) -> list[bytes]:
    return [rlp.encode_bytes(item) for item in items]


def encode_account_range(request_id: int, accounts_payload: bytes, proof: Sequence[bytes]) -> bytes:
    """Encode AccountRange. `accounts_payload` is the concatenation of encoded `[hash, slim account]` lists."""
    return _encode_reply(request_id, (accounts_payload,), _strings(proof))


def encode_storage_ranges(request_id: int, sets_payload: bytes, proof: Sequence[bytes]) -> bytes:
    """Encode StorageRanges. `sets_payload` is the concatenation of encoded lists, one per account."""
    return _encode_reply(request_id, (sets_payload,), _strings(proof))


def encode_byte_codes(request_id: int, codes: Sequence[bytes]) -> bytes:
    """Encode ByteCodes."""
    return _encode_reply(request_id, _strings(codes))


def encode_trie_nodes(request_id: int, nodes: Sequence[bytes]) -> bytes:
    """Encode TrieNodes."""
    return _encode_reply(request_id, _strings(nodes))


def _proof(encoded: bytes) -> tuple[bytes, ...]:
    nodes = rlp.strings(encoded)
    if len(nodes) > MAX_PROOF_NODES:
        raise MalformedMessage(f"proof of {len(nodes)} nodes, more than {MAX_PROOF_NODES}")
    return nodes


def _account(encoded: bytes) -> tuple[bytes, bytes]:
    key, body = rlp.split_fields(encoded, 2, "account")
    rlp.split_fields(body, 4, "slim account")
    return rlp.fixed_string(key, 32, "account hash"), body


def _slot(encoded: bytes) -> tuple[bytes, bytes]:
    key, value = rlp.split_fields(encoded, 2, "storage slot")
    return rlp.fixed_string(key, 32, "slot hash"), rlp.string(value)


def decode_account_range(payload: bytes) -> AccountRange:
    """Decode the message, or raise `MalformedMessage`. Order and proof are not checked."""
    request_id, accounts, proof = rlp.split_fields(payload, 3, "AccountRange")
    return AccountRange(
        rlp.integer(request_id), tuple(_account(item) for item in rlp.split_list(accounts, MAX_LEAVES)), _proof(proof)
    )


def decode_storage_ranges(payload: bytes) -> StorageRanges:
    """Decode the message, or raise `MalformedMessage`. Order and proof are not checked."""
    request_id, sets, proof = rlp.split_fields(payload, 3, "StorageRanges")
    slots = tuple(
        tuple(_slot(item) for item in rlp.split_list(one, MAX_LEAVES)) for one in rlp.split_list(sets, MAX_LEAVES)
    )
    return StorageRanges(rlp.integer(request_id), slots, _proof(proof))


def decode_byte_codes(payload: bytes) -> ByteCodes:
    """Decode the message, or raise `MalformedMessage`. Hashes are not checked."""
    request_id, codes = rlp.split_fields(payload, 2, "ByteCodes")
    return ByteCodes(rlp.integer(request_id), rlp.strings(codes))


def decode_trie_nodes(payload: bytes) -> TrieNodes:
    """Decode the message, or raise `MalformedMessage`. Hashes are not checked."""
    request_id, nodes = rlp.split_fields(payload, 2, "TrieNodes")
    return TrieNodes(rlp.integer(request_id), rlp.strings(nodes))


REPLY_DECODERS: Mapping[SnapMessage, Callable[[bytes], SnapReply]] = {
    SnapMessage.ACCOUNT_RANGE: decode_account_range,
    SnapMessage.STORAGE_RANGES: decode_storage_ranges,
    SnapMessage.BYTE_CODES: decode_byte_codes,
    SnapMessage.TRIE_NODES: decode_trie_nodes,
}
"""Decoders of what a client receives."""
