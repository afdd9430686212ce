"""geth's way of answering range requests (eth/protocols/snap/handlers.go), item by item over Python lists."""

from __future__ import annotations

from dataclasses import dataclass

from ethsync.state.view import StateView

SOFT_LIMIT = 2 * 1024 * 1024
MAX_KEY = b"\xff" * 32

Pairs = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Truth:
    """All leaves of a state: slim accounts, and the slots of every account that has some."""

    accounts: Pairs
    storage: dict[bytes, Pairs]

    def account_range(self, origin: bytes, limit: bytes, most: int) -> Pairs:
        """What one AccountRange holds."""
        found: Pairs = []
        size = 0
        for key, value in self.accounts:
            if key < origin:
                continue
            found.append((key, value))
            size += 32 + len(value)
            if key >= limit or size > min(most, SOFT_LIMIT):
                break
        return found

    def storage_ranges(self, accounts: list[bytes], origin: bytes, limit: bytes, most: int) -> tuple[list[Pairs], bool]:
        """What one StorageRanges holds, and whether its last set is proven."""
        soft = min(most, SOFT_LIMIT)
        hard = int(soft * 1.1)
        found: list[Pairs] = []
        size = 0
        for number, account in enumerate(accounts):
            if size >= soft:
                break
            first, last = (origin, limit) if number == 0 else (b"", b"")
            part: Pairs = []
            cut = False
            for key, value in self.storage.get(account, []):
                if key < (first or bytes(32)):
                    continue
                if size >= hard:
                    cut = True
                    break
                part.append((key, value))
                size += 32 + len(value)
                if key >= (last or MAX_KEY):
                    break
            if part:
                found.append(part)
            if cut or (first or bytes(32)) != bytes(32):
                return found, True
        return found, False


def truth_of(view: StateView) -> Truth:
    """Read a whole state out of a data directory."""
    accounts = [(block.key(row), block.value(row)) for block in view.account_blocks() for row in range(len(block))]
    storage = {}
    for key, _ in accounts:
        slots = [(block.key(row), block.value(row)) for block in view.storage_blocks(key) for row in range(len(block))]
        if slots:
            storage[key] = slots
    return Truth(accounts, storage)
