"""Requests of snap/1, both directions (devp2p caps/snap.md).

They are written by hand from fixed-width fields: one with 1,024 hashes costs the event loop a fraction of a
millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire import rlp
from ethsync.wire.snap_protocol import SnapMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def _hash_list(hashes: Sequence[bytes]) -> bytes:
    """Encode a list of 32-byte hashes; the width is checked once for all of them."""
    if not hashes:
        return b"\xc0"
    if set(map(len, hashes)) != {32}:
        raise LocalProtocolError("a request names a hash that has not 32 bytes")
    return rlp.list_prefix(33 * len(hashes)) + b"\xa0" + b"\xa0".join(hashes)


def _hash(data: bytes) -> bytes:
    if len(data) != 32:
        raise LocalProtocolError(f"a hash has 32 bytes, not {len(data)}")
    return b"\xa0" + data


_SINGLE_PATH = tuple(rlp.list_prefix(length + 1) + rlp.string_prefix(length) for length in range(55))
"""Prefixes of a list of one byte string, by its length: nearly all path sets of a healing request look like this."""


def _path_set(paths: tuple[bytes, ...]) -> bytes:
    """Encode one element of GetTrieNodes; a healing request has up to 1,024 of them."""
    if len(paths) == 1 and 1 < len(paths[0]) < len(_SINGLE_PATH):
        return _SINGLE_PATH[len(paths[0])] + paths[0]
    return rlp.encode_list([rlp.encode_bytes(path) for path in paths])


@dataclass(frozen=True, slots=True)
class GetAccountRange:
    """Ask for the accounts whose hashes lie in [`origin`, `limit`] of the state `root`, up to `response_bytes`."""

    message: ClassVar[SnapMessage] = SnapMessage.GET_ACCOUNT_RANGE
    request_id: int
    root: bytes
    origin: bytes
    limit: bytes
    response_bytes: int

    def encode(self) -> bytes:
        """Return the payload `[id, root, origin, limit, bytes]`."""
        return rlp.encode_list(
            (
                rlp.encode_int(self.request_id),
                _hash(self.root),
                _hash(self.origin),
                _hash(self.limit),
                rlp.encode_int(self.response_bytes),
            )
        )


@dataclass(frozen=True, slots=True)
class GetStorageRanges:
    """Ask for storage of `accounts` (hashes) in the state `root`.

    `origin` and `limit` (slot hashes, 32 bytes, or empty for the whole key space) bind the first account only.
    """

    message: ClassVar[SnapMessage] = SnapMessage.GET_STORAGE_RANGES
    request_id: int
    root: bytes
    accounts: tuple[bytes, ...]
    origin: bytes
    limit: bytes
    response_bytes: int

    def encode(self) -> bytes:
        """Return the payload `[id, root, [account, ...], origin, limit, bytes]`."""
        return rlp.encode_list(
            (
                rlp.encode_int(self.request_id),
                _hash(self.root),
                _hash_list(self.accounts),
                _hash(self.origin) if self.origin else b"\x80",
                _hash(self.limit) if self.limit else b"\x80",
                rlp.encode_int(self.response_bytes),
            )
        )


@dataclass(frozen=True, slots=True)
class GetByteCodes:
    """Ask for bytecodes by hash."""

    message: ClassVar[SnapMessage] = SnapMessage.GET_BYTE_CODES
    request_id: int
    hashes: tuple[bytes, ...]
    response_bytes: int

    def encode(self) -> bytes:
        """Return the payload `[id, [hash, ...], bytes]`."""
        return rlp.encode_list(
            (rlp.encode_int(self.request_id), _hash_list(self.hashes), rlp.encode_int(self.response_bytes))
        )


@dataclass(frozen=True, slots=True)
class GetTrieNodes:
    """Ask for trie nodes by path in the state `root`.

    Each element of `paths` is `(account path,)` for a node of the account trie, or `(account hash, storage path,
    ...)` for nodes of one storage trie. Partial paths are hex-prefix encoded, full keys are plain 32 bytes.
    """

    message: ClassVar[SnapMessage] = SnapMessage.GET_TRIE_NODES
    request_id: int
    root: bytes
    paths: tuple[tuple[bytes, ...], ...]
    response_bytes: int

    def encode(self) -> bytes:
        """Return the payload `[id, root, [[path, ...], ...], bytes]`."""
        if not all(self.paths):
            raise LocalProtocolError("an empty path set makes geth hang up")
        return rlp.encode_list(
            (
                rlp.encode_int(self.request_id),
                _hash(self.root),
                rlp.encode_list([_path_set(paths) for paths in self.paths]),
                rlp.encode_int(self.response_bytes),
            )
        )


SnapRequest = GetAccountRange | GetStorageRanges | GetByteCodes | GetTrieNodes


def _width_checked(data: bytes, what: str) -> bytes:
    if len(data) != 32:
        raise MalformedMessage(f"{what} has {len(data)} bytes instead of 32")
    return data


def _bound(encoded: bytes, what: str) -> bytes:
    """Read an optional slot hash: empty, or at most 32 bytes, padded on the left as geth does."""
    data = rlp.string(encoded)
    if len(data) > 32:
        raise MalformedMessage(f"{what} has {len(data)} bytes, more than 32")
    return data.rjust(32, b"\0") if data else b""


def _hashes(encoded: bytes, what: str) -> tuple[bytes, ...]:
    return tuple(_width_checked(item, what) for item in rlp.strings(encoded))


def decode_get_account_range(payload: bytes) -> GetAccountRange:
    """Decode the message, or raise `MalformedMessage`."""
    request_id, root, origin, limit, size = rlp.split_fields(payload, 5, "GetAccountRange")
    return GetAccountRange(
        rlp.integer(request_id),
        rlp.fixed_string(root, 32, "state root"),
        rlp.fixed_string(origin, 32, "origin"),
        rlp.fixed_string(limit, 32, "limit"),
        rlp.integer(size),
    )


def decode_get_storage_ranges(payload: bytes) -> GetStorageRanges:
    """Decode the message, or raise `MalformedMessage`."""
    request_id, root, accounts, origin, limit, size = rlp.split_fields(payload, 6, "GetStorageRanges")
    return GetStorageRanges(
        rlp.integer(request_id),
        rlp.fixed_string(root, 32, "state root"),
        _hashes(accounts, "account hash"),
        _bound(origin, "origin"),
        _bound(limit, "limit"),
        rlp.integer(size),
    )


def decode_get_byte_codes(payload: bytes) -> GetByteCodes:
    """Decode the message, or raise `MalformedMessage`."""
    request_id, hashes, size = rlp.split_fields(payload, 3, "GetByteCodes")
    return GetByteCodes(rlp.integer(request_id), _hashes(hashes, "code hash"), rlp.integer(size))


def decode_get_trie_nodes(payload: bytes) -> GetTrieNodes:
    """Decode the message, or raise `MalformedMessage`, also for an empty path set (as geth does)."""
    request_id, root, encoded, size = rlp.split_fields(payload, 4, "GetTrieNodes")
    paths = tuple(rlp.strings(item) for item in rlp.split_list(encoded))
    if not all(paths):
        raise MalformedMessage("GetTrieNodes with an empty path set")
    return GetTrieNodes(rlp.integer(request_id), rlp.fixed_string(root, 32, "state root"), paths, rlp.integer(size))


REQUEST_DECODERS: Mapping[SnapMessage, Callable[[bytes], SnapRequest]] = {
    SnapMessage.GET_ACCOUNT_RANGE: decode_get_account_range,
    SnapMessage.GET_STORAGE_RANGES: decode_get_storage_ranges,
    SnapMessage.GET_BYTE_CODES: decode_get_byte_codes,
    SnapMessage.GET_TRIE_NODES: decode_get_trie_nodes,
}
"""Decoders of what a server receives."""
