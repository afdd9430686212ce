"""Forks as node records tell of them: which nodes are worth dialling, and whether most know a fork that we do not."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zlib import crc32

from ethsync.errors import UselessPeer
from ethsync.wire.forkid import TIMESTAMP_THRESHOLD

if TYPE_CHECKING:
    from ethsync.wire.enr import NodeRecord
    from ethsync.wire.forkid import ForkId, ForkSchedule

MOST_VOTERS = 1000
"""Nodes that are remembered: far more than a majority needs, some 100 kB at most."""

FEWEST_VOTERS = 10
"""Nodes that must have spoken before a majority means anything."""

_ALL_ONES = 0xFFFFFFFF  # CRC-32 begins and ends with an inversion of its 32 bits
_CRC_TABLE = tuple(crc32(bytes([byte]), _ALL_ONES) ^ _ALL_ONES for byte in range(256))
_CRC_INDEX = {entry >> 24: byte for byte, entry in enumerate(_CRC_TABLE)}


def presumed_head(schedule: ForkSchedule, now: float) -> tuple[int, int]:
    """Number and time of the head that a synced node has now, as far as forks are concerned.

    For as long as our own head is not known: with that of the genesis we would take nodes that are years behind. On a
    chain that has forks by time, all forks by number are past (EIP-6122); otherwise the number cannot be told, and the
    genesis counts. `now` is in seconds since 1970.
    """
    if not schedule.time_forks:
        return 0, schedule.genesis_time
    return max(schedule.block_forks, default=0), max(int(now), schedule.genesis_time)


def check_fork_entry(record: NodeRecord, schedule: ForkSchedule, head_number: int, head_time: int) -> str | None:
    """Return why the node of this record need not be dialled, as a sentence, or None if it may be.

    By all rules of EIP-2124, against our head's number and time. Nodes without an `eth` entry (devp2p
    enr-entries/eth.md), such as consensus clients, still help to find others.
    """
    if record.value(b"eth") is None:
        return "its record has no eth entry: it does not speak the eth protocol"
    if record.fork_id is None:
        return "the eth entry of its record is malformed"
    try:
        schedule.validate(record.fork_id, head_number, head_time)
    except UselessPeer as error:
        return str(error)
    return None


def fork_between(before: bytes, after: bytes) -> int:
    """The one number under 2³² that leads from one fork hash to another: CRC-32 of it (8 bytes) after `before`.

    CRC-32 can be run backwards over four bytes, so a hash that we do not know tells when its fork was, if it is one
    fork ahead of ours. Of hashes that have nothing to do with each other the number is as if drawn by lot.
    """
    register = int.from_bytes(after, "big") ^ _ALL_ONES
    for _ in range(4):
        byte = _CRC_INDEX[register >> 24]
        register = ((register ^ _CRC_TABLE[byte]) << 8 | byte) & _ALL_ONES
    start = crc32(bytes(4), int.from_bytes(before, "big")) ^ _ALL_ONES
    return int.from_bytes((register ^ start).to_bytes(4, "little"), "big")


class NextForks:
    """Counts which fork the nodes on our chain announce next, or have passed, that our schedule does not have.

    Records are cheap to make, so this is a hint for a person, never a reason to change anything by ourselves.
    """

    def __init__(self, schedule: ForkSchedule) -> None:
        self._schedule = schedule
        self._votes: dict[bytes, int] = {}

    def see(self, node_id: bytes, announced: ForkId, head_number: int, head_time: int) -> None:
        """Count what a node (id of 32 bytes) announces; its earlier word is forgotten. Our head is as in `validate`."""
        time = self._unknown_fork(announced, head_number, head_time)
        if time is None:
            return
        self._votes.pop(node_id, None)
        self._votes[node_id] = time
        if len(self._votes) > MOST_VOTERS:
            del self._votes[next(iter(self._votes))]

    def hint(self, now: float) -> str | None:
        """A sentence if most nodes agree on a fork that we do not know; `now` is in seconds since 1970."""
        if len(self._votes) < FEWEST_VOTERS:
            return None
        [(time, votes)] = Counter(self._votes.values()).most_common(1)
        if not time or votes * 2 <= len(self._votes):
            return None
        day = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        verb = "expect" if now < time else "passed"
        most = f"most nodes ({votes} of {len(self._votes)})"
        return (
            f"{most} {verb} a fork at {time} ({day}) that this version does not know; use --override-fork NAME={time}"
        )

    def _unknown_fork(self, announced: ForkId, head_number: int, head_time: int) -> int | None:
        """When the fork is that a node knows and we do not; 0 if it knows none; None if the node does not count."""
        ours = self._schedule.fork_id(head_number, head_time)
        if announced.hash == ours.hash:
            return announced.next if self._is_news(announced.next, head_time) else 0
        if self._schedule.passed(announced.hash) is not None:
            return None  # behind us, or ahead of us by a fork that we know
        time = fork_between(ours.hash, announced.hash)
        return time if self._is_news(time, head_time) and time <= head_time else None

    def _is_news(self, time: int, head_time: int) -> bool:
        """Whether there can be a fork then that is none of ours: a time, and after the last fork that we passed."""
        passed = max((fork for fork in self._schedule.time_forks if fork <= head_time), default=0)
        return max(passed, self._schedule.genesis_time, TIMESTAMP_THRESHOLD) < time < _ALL_ONES and (
            time not in self._schedule.time_forks
        )
