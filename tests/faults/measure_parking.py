"""What storage costs that is asked for before its accounts are proven anew: `python -m tests.faults.measure_parking`.

All accounts of a state are stored and all of their storage is owed, when the pivot moves: the worst moment. Then
a share of the contracts has other storage. Counted are requests, and bytes of requests and replies, of one peer: as
it is done (decision 9), and what proving the accounts first would take, one by one (a range of one account each), or by
fetching all ranges of accounts again. The account trie is healed in any case.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import trio
from trio.testing import MockClock

from ethsync.serve.served import ServedStates
from ethsync.serve.small_state import StatedAccount
from ethsync.serve.snap import serve
from ethsync.state.account import decode_slim
from ethsync.state.view import StateView
from ethsync.store.schema import FACT_VERIFIED
from ethsync.wire.snap import GetAccountRange, SnapMessage
from tests.faults.at_once import ServedConnection, bring_to, built, lying_on, nothing_waits, whole
from tests.faults.changing_states import changed_storage, some_storage
from tests.oracles.memory_disk import MemoryDisk, Write

ACCOUNTS, CONTRACTS, LARGE = 40_000, 4_000, 20
SHARES = (0.0, 0.001, 0.01, 0.1, 1.0)
STORAGE, ACCOUNT = SnapMessage.GET_STORAGE_RANGES, SnapMessage.GET_ACCOUNT_RANGE


@dataclass(frozen=True, slots=True)
class Cost:
    requests: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.requests:6,} requests {self.bytes / 1e6:7.2f} MB"

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.requests - other.requests, self.bytes - other.bytes)


def cost(connection: ServedConnection, kind: SnapMessage) -> Cost:
    return Cost(connection.asked[kind], connection.traffic[kind])


def some_accounts(rng: Random) -> list[StatedAccount]:
    """One in ten is a contract, most with a few slots, some with thousands."""
    sizes = [rng.randint(1_000, 5_000) for _ in range(LARGE)] + [rng.randint(1, 30) for _ in range(CONTRACTS - LARGE)]
    return [
        StatedAccount(rng.randbytes(32), 1, rng.getrandbits(60), some_storage(rng, sizes[k]) if k < CONTRACTS else {})
        for k in range(ACCOUNTS)
    ]


def with_other_storage(rng: Random, accounts: Sequence[StatedAccount], share: float) -> list[StatedAccount]:
    return [
        replace(each, balance=each.balance + 1, storage=changed_storage(rng, dict(each.storage)))
        if each.storage and rng.random() < share
        else each
        for each in accounts
    ]


def only_accounts(journal: Sequence[Write]) -> MemoryDisk:
    """What is left of a sync that has stored its accounts, and nothing that they owe."""
    kept = [write for write in journal if write.path.name in ("accounts", "headers")]
    return MemoryDisk().after([write for write in kept if all(key != FACT_VERIFIED for key, _ in write.changes)])


def one_by_one(view: StateView) -> Cost:
    """A range of one account for each contract."""
    states, requests, size = ServedStates(view), 0, 0
    for block in view.account_blocks():
        for row in range(len(block)):
            if decode_slim(block.value(row)).has_storage:
                key = block.key(row)
                limit = (int.from_bytes(key, "big") + 1).to_bytes(32, "big")
                request = GetAccountRange(1, view.state_root, key, limit, 1 << 10)
                requests, size = requests + 1, size + len(request.encode()) + len(serve(states, request).payload)
    return Cost(requests, size)


async def measure(path: Path) -> None:
    """Print a table."""
    rng = Random(1)
    accounts = some_accounts(rng)
    disk = MemoryDisk()
    at_first = await bring_to(built(accounts), lying_on(disk, path))
    all_again = cost(at_first, ACCOUNT)
    for share in SHARES:
        view = built(with_other_storage(rng, accounts, share))
        fresh = MemoryDisk()
        await bring_to(view, lying_on(fresh, path))
        needed = cost(await bring_to(view, lying_on(only_accounts(fresh.journal), path)), STORAGE)
        left = only_accounts(disk.journal)
        asked = cost(await bring_to(view, lying_on(left, path)), STORAGE)
        assert whole(lying_on(left, path)).storage == whole(view.datadir).storage
        print(f"{share:6.1%} changed | needed {needed} | in vain {asked - needed} | "
              f"one by one {one_by_one(view)} | all again {all_again}")  # fmt: skip


async def main() -> None:
    """All of it in one go."""
    with tempfile.TemporaryDirectory() as place, nothing_waits(1):
        await measure(Path(place))


if __name__ == "__main__":
    trio.run(main, clock=MockClock(autojump_threshold=0))
