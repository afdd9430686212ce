"""Random states, and what blocks make of them: every way in which an account can become another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from ethsync.serve.small_state import StatedAccount
from ethsync.state.pages import SMALL_TRIE

LARGE, GROWN = 200, 150
"""Slots of storage that does not share a bundle, at the most: of an account as it is made, and of one that changes."""


def some_storage(rng: Random, most: int) -> dict[bytes, int]:
    return {
        rng.randbytes(32): rng.choice((1, 0x7F, 0x80, rng.getrandbits(256) | 1)) for _ in range(rng.randint(1, most))
    }


def some_account(rng: Random) -> StatedAccount:
    kind = rng.randrange(10)
    storage = some_storage(rng, LARGE if kind == 0 else 12) if kind < 4 else {}
    code = rng.randbytes(rng.randint(1, 50)) if kind < 5 else b""
    return StatedAccount(rng.randbytes(32), rng.randrange(1000), rng.getrandbits(80), storage, code)


def changed_storage(rng: Random, storage: dict[bytes, int]) -> dict[bytes, int]:
    """Some slots are cleared, some get other values, some are new."""
    new = {key: value for key, value in storage.items() if rng.random() > 0.1}
    for key in list(new):
        if rng.random() < 0.1:
            new[key] = rng.getrandbits(256) | 1
    return new | (some_storage(rng, 5) if rng.random() < 0.5 else {})


def changed_account(rng: Random, account: StatedAccount) -> StatedAccount:
    """Another nonce and balance, other code, other storage, none, all new, or of another kind of size."""
    what = rng.randrange(7)
    if what == 0:
        return replace(account, storage={})
    if what == 1:
        return replace(account, storage=some_storage(rng, GROWN), code=rng.randbytes(20))
    if what == 2:
        return replace(account, storage=resized(rng, dict(account.storage)))
    if what <= 4:
        return replace(account, storage=changed_storage(rng, dict(account.storage)))
    if what == 5:
        return replace(account, code=rng.randbytes(30))
    return replace(account, balance=account.balance + 1, nonce=account.nonce + 1)


def resized(rng: Random, storage: dict[bytes, int]) -> dict[bytes, int]:
    """A big storage becomes one that shares a bundle, a small one outgrows its bundle."""
    if len(storage) > SMALL_TRIE:
        return dict(list(storage.items())[: rng.randint(1, SMALL_TRIE)])
    return storage | {rng.randbytes(32): rng.getrandbits(64) + 1 for _ in range(rng.randint(SMALL_TRIE + 1, GROWN))}


def changed(rng: Random, accounts: Sequence[StatedAccount], share: float) -> list[StatedAccount]:
    """Some accounts go, some change, some are added."""
    new = [changed_account(rng, each) if rng.random() < share else each for each in accounts]
    new = [each for each in new if rng.random() > share / 5]
    return new + [some_account(rng) for _ in range(int(len(accounts) * share / 3))]
