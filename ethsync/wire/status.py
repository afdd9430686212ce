"""The Status handshake of eth/68 to eth/71, independent of the version once decoded (devp2p eth.md, EIP-7642)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.errors import DisconnectReason, HandshakeFailed, LocalProtocolError, OtherChain
from ethsync.wire import rlp
from ethsync.wire.block_range import BlockRange, check_block_range
from ethsync.wire.forkid import ForkId, ForkSchedule, decode_fork_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Status:
    """What a node says about its chain. All hashes are 32 bytes.

    `total_difficulty` exists in eth/68 only; `earliest` and `latest`, the range of blocks it holds, from eth/69 on.
    `head_hash` is a hint: nothing proves it.
    """

    version: int
    network_id: int
    genesis_hash: bytes
    fork_id: ForkId
    head_hash: bytes
    total_difficulty: int | None = None
    earliest: int | None = None
    latest: int | None = None

    @property
    def block_range(self) -> BlockRange | None:
        """The blocks held, None where the version does not say."""
        if self.earliest is None or self.latest is None:
            return None
        return BlockRange(self.earliest, self.latest, self.head_hash)


@dataclass(frozen=True, slots=True)
class _Field:
    encode: Callable[[Status], bytes]
    decode: Callable[[bytes], object]


def _number(name: str, max_bytes: int) -> _Field:
    def encode(status: Status) -> bytes:
        value = getattr(status, name)
        if value is None:
            raise LocalProtocolError(f"eth/{status.version} Status needs {name}")
        return rlp.encode_int(value)

    return _Field(encode, lambda item: rlp.integer(item, max_bytes))


def _hash(name: str) -> _Field:
    return _Field(
        lambda status: rlp.encode_bytes(getattr(status, name)),
        lambda item: rlp.fixed_string(item, 32, f"{name} in Status"),
    )


_FIELDS: Mapping[str, _Field] = {
    "version": _number("version", 4),
    "network_id": _number("network_id", 8),
    "total_difficulty": _number("total_difficulty", 32),
    "head_hash": _hash("head_hash"),
    "genesis_hash": _hash("genesis_hash"),
    "fork_id": _Field(lambda status: status.fork_id.encode(), decode_fork_id),
    "earliest": _number("earliest", 8),
    "latest": _number("latest", 8),
}

_ETH_69 = ("version", "network_id", "genesis_hash", "fork_id", "earliest", "latest", "head_hash")

LAYOUTS: Mapping[int, tuple[str, ...]] = {
    68: ("version", "network_id", "total_difficulty", "head_hash", "genesis_hash", "fork_id"),
    69: _ETH_69,
    70: _ETH_69,
    71: _ETH_69,
}
"""Fields of Status in wire order, by eth version."""


def _layout(version: int) -> tuple[str, ...]:
    if version not in LAYOUTS:
        raise LocalProtocolError(f"eth/{version} is not spoken here")
    return LAYOUTS[version]


def encode_status(status: Status) -> bytes:
    """Encode a Status in the layout of its version. Raises `LocalProtocolError` if that lacks a field."""
    return rlp.encode_list(_FIELDS[name].encode(status) for name in _layout(status.version))


def decode_status(version: int, payload: bytes) -> Status:
    """Decode a Status in the layout of the negotiated `version`. Raises `MalformedMessage`."""
    names = _layout(version)
    encoded = rlp.split_fields(payload, len(names), f"eth/{version} Status")
    values = {name: _FIELDS[name].decode(item) for name, item in zip(names, encoded, strict=True)}
    return Status(**values)  # type: ignore[arg-type]


def check_status(
    remote: Status, *, version: int, network_id: int, schedule: ForkSchedule, head_number: int, head_time: int
) -> None:
    """Check a peer's Status as geth does (eth/protocols/eth/handshake.go): version, network, genesis, forks, range.

    `head_number` and `head_time` (Unix seconds) are those of our trusted head. Raises `OtherChain` for an honest
    node of another chain, `HandshakeFailed` or `MalformedMessage` for one that breaks the protocol.
    """
    if remote.version != version:
        raise HandshakeFailed(
            f"Status announces eth/{remote.version} on an eth/{version} connection",
            reason=DisconnectReason.INCOMPATIBLE_VERSION,
        )
    if remote.network_id != network_id:
        raise OtherChain(f"the peer is on network {remote.network_id}, not {network_id}")
    if remote.genesis_hash != schedule.genesis_hash:
        raise OtherChain(
            f"the peer's genesis block is 0x{remote.genesis_hash.hex()}, not 0x{schedule.genesis_hash.hex()}"
        )
    schedule.validate(remote.fork_id, head_number, head_time)
    if remote.earliest is not None and remote.latest is not None:
        check_block_range(remote.earliest, remote.latest, remote.head_hash)
