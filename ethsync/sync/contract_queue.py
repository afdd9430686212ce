"""Contracts whose storage is owed: which to ask for next, who else has the same root, and what is known already."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ethsync.state.columns import Leaves
    from ethsync.sync.debts import Contract

POPULAR_BYTES = 8 << 20
"""Small tries kept because another account may have the same root. A set of all roots would be 2.8 GB on mainnet."""


class ContractQueue:
    """Contracts by storage root. Of those with the same root the first is asked for, and stands for all of them.

    `begun` says of a contract whether a part of its storage has come: then nobody asks for the whole any more.
    """

    def __init__(self, begun: Callable[[Contract], bool]) -> None:
        self._begun = begun
        self._queue: deque[Contract] = deque()
        self._waiting: dict[bytes, list[Contract]] = {}
        self._popular: dict[bytes, Leaves] = {}
        self._popular_bytes = 0

    def __len__(self) -> int:
        """Contracts to be asked for."""
        return len(self._queue)

    def known(self, root: bytes) -> Leaves | None:
        """The trie with this root, if it is kept because several accounts have it."""
        return self._popular.get(root)

    def add(self, contract: Contract) -> None:
        """Wait for a contract's storage; it is asked for unless another one has the same root."""
        waiting = self._waiting.setdefault(contract.root, [])
        waiting.append(contract)
        if len(waiting) == 1:
            self._queue.append(contract)

    def add_begun(self, contract: Contract) -> None:
        """Wait for one that is not asked for here; those that were added before it with the same root get copies."""
        if contract.root in self._waiting:
            self._queue = deque(queued for queued in self._queue if queued.root != contract.root)
        self._waiting.setdefault(contract.root, []).append(contract)

    def take(self, most: int) -> list[Contract]:
        """The first contracts that were proven under one state root."""
        batch = [self._queue.popleft()]
        while self._queue and len(batch) < most and self._queue[0].state_root == batch[0].state_root:
            batch.append(self._queue.popleft())
        return batch

    def put_back(self, contracts: Sequence[Contract]) -> None:
        """Ask for these again, before all others, as far as they are still wanted."""
        self._queue.extendleft(filter(self.wants, reversed(contracts)))

    def put_last(self, contracts: Iterable[Contract]) -> None:
        """Ask for these again, after all others, as far as they are still wanted."""
        self._queue.extend(filter(self.wants, contracts))

    def wants(self, contract: Contract) -> bool:
        """Whether nothing of a contract that is asked for, for itself and all with its root, has come yet."""
        waiting = self._waiting.get(contract.root)
        return waiting is not None and waiting[0] is contract and not self._begun(contract)

    def forget_stored(self) -> None:
        """Take those out of the queue whose storage came in another way than by asking for it from the queue."""
        self._queue = deque(filter(self.wants, self._queue))

    def claim(self, root: bytes) -> list[Contract]:
        """All contracts that wait for a trie, in the order in which they were added; they do not wait any more."""
        return self._waiting.pop(root, [])

    def wait_again(self, contracts: list[Contract]) -> None:
        """Have contracts with one root wait, which nobody stands for any more. The first is asked for, unless some
        other is begun."""
        self._waiting[contracts[0].root] = contracts
        if not any(map(self._begun, contracts)):
            self._queue.append(contracts[0])

    def remember(self, root: bytes, leaves: Leaves) -> None:
        """Keep a trie that more than one account has; the oldest ones go when there are too many."""
        self._popular[root] = leaves
        self._popular_bytes += leaves.nbytes
        while self._popular_bytes > POPULAR_BYTES:
            self._popular_bytes -= self._popular.pop(next(iter(self._popular))).nbytes
