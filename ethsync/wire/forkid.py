"""Fork identifiers: which chain, and which rules of it, a node follows (EIP-2124, EIP-6122)."""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from ethsync.errors import MalformedMessage, OtherChain
from ethsync.wire import rlp

TIMESTAMP_THRESHOLD = 1438269973
"""Time of the mainnet genesis block: a larger `next` can only be a time, not a block number (geth core/forkid)."""


@dataclass(frozen=True, slots=True)
class ForkId:
    """`hash`: CRC-32 (4 bytes) of the genesis hash and all passed forks; `next`: the next fork, or 0."""

    hash: bytes
    next: int

    def encode(self) -> bytes:
        """Return the RLP list `[hash, next]` (EIP-2124)."""
        return rlp.encode([self.hash, self.next])

    def __str__(self) -> str:
        return f"{self.hash.hex()}/{self.next}"


def decode_fork_id(encoded: bytes) -> ForkId:
    """Decode `[hash, next]`. Raises `MalformedMessage`.

    A hash that lost its leading zero bytes (EthereumJS encodes it as a number) is padded again.
    """
    checksum, following = rlp.split_fields(encoded, 2, "fork id")
    digest = rlp.string(checksum)
    if len(digest) > 4:
        raise MalformedMessage(f"fork hash has {len(digest)} bytes instead of 4")
    return ForkId(digest.rjust(4, b"\0"), rlp.integer(following))


@dataclass(frozen=True, slots=True)
class ForkSchedule:
    """The forks of one chain.

    `block_forks` (numbers) and `time_forks` (Unix seconds) may repeat and come in any order; those active in the
    genesis block already (number 0, time up to `genesis_time`) do not count (EIP-6122).
    """

    genesis_hash: bytes
    genesis_time: int
    block_forks: tuple[int, ...]
    time_forks: tuple[int, ...]
    _forks: tuple[tuple[int, bool], ...] = field(init=False, repr=False, compare=False)
    _checksums: tuple[bytes, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        blocks = [(number, False) for number in sorted({number for number in self.block_forks if number > 0})]
        times = [(time, True) for time in sorted({time for time in self.time_forks if time > self.genesis_time})]
        checksum = crc32(self.genesis_hash)
        checksums = [checksum]
        for fork, _ in blocks + times:
            checksum = crc32(fork.to_bytes(8, "big"), checksum)
            checksums.append(checksum)
        object.__setattr__(self, "_forks", (*blocks, *times))
        object.__setattr__(self, "_checksums", tuple(value.to_bytes(4, "big") for value in checksums))

    @property
    def points(self) -> tuple[int, ...]:
        """Block numbers and times of all forks that count, in the order in which they are passed."""
        return tuple(point for point, _ in self._forks)

    def passed(self, fork_hash: bytes) -> int | None:
        """How many of the forks a node with this fork hash has passed; None if the hash is none of this chain."""
        return self._checksums.index(fork_hash) if fork_hash in self._checksums else None

    def fork_id(self, head_number: int, head_time: int) -> ForkId:
        """Return the fork id of a node whose head has this number and time (Unix seconds)."""
        passed = self._passed(head_number, head_time)
        following = self._forks[passed][0] if passed < len(self._forks) else 0
        return ForkId(self._checksums[passed], following)

    def validate(self, remote: ForkId, head_number: int, head_time: int) -> None:
        """Check a remote fork id against our head by the rules of EIP-2124. Raises `OtherChain`."""
        passed = self._passed(head_number, head_time)
        if remote.hash == self._checksums[passed]:
            self._check_same_forks(remote, passed, head_number, head_time)  # rule 1
        elif remote.hash in self._checksums[:passed]:
            following = self._forks[self._checksums.index(remote.hash)][0]
            if remote.next != following:  # rule 2
                raise OtherChain(f"the peer's software is too old: it does not know the fork at {following}")
        elif remote.hash not in self._checksums:  # rule 4; a hash that is still ahead of us is rule 3
            raise OtherChain(f"the peer follows another chain or a fork we do not know (fork id {remote})")

    def _passed(self, head_number: int, head_time: int) -> int:
        for index, (fork, is_time) in enumerate(self._forks):
            if (head_time if is_time else head_number) < fork:
                return index
        return len(self._forks)

    def _check_same_forks(self, remote: ForkId, passed: int, head_number: int, head_time: int) -> None:
        by_time = self._counts_time(passed)
        reached = (head_time if by_time else head_number) >= remote.next
        if remote.next and (reached or (remote.next > TIMESTAMP_THRESHOLD and head_time >= remote.next)):
            raise OtherChain(f"the peer passed a fork at {remote.next} that we do not know (fork id {remote})")

    def _counts_time(self, passed: int) -> bool:
        """Whether the fork after `passed` ones is a matter of time; a chain without time forks counts blocks."""
        if passed < len(self._forks):
            return self._forks[passed][1]
        return bool(self._forks) and self._forks[-1][1]
