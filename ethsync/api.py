"""The Python interface to a stored state: read it, iterate over it as NumPy columns, prove it.

    async with ethsync.open_state(datadir) as state:
        account = await state.account("0x00000000219ab540356cBB839Cbe05303d7705Fa")
        async with state.accounts(prefix="0a") as blocks:
            async for block in blocks:
                print(block.hashes.shape, block.nonces.sum())

Accounts are named by address (20 bytes) or by account hash (the Keccak hash of the address, 32 bytes), as bytes or as
hexadecimal text; storage slots by number or by slot hash. Snap sync brings hashes only: addresses cannot be listed.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import trio

from ethsync.errors import ConfigError, DatadirDamaged, Disproved, NotHeld, VerificationFailed
from ethsync.hashing import keccak256
from ethsync.kernels import columns as kernel
from ethsync.state.single_proof import check_proof
from ethsync.state.view import AccountProof, StateView
from ethsync.store.datadir import open_datadir
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from numpy.typing import NDArray

    from ethsync.state.account import Account
    from ethsync.state.columns import Leaves
    from ethsync.wire.headers import Header

_T = TypeVar("_T")

READERS = 4
"""Threads that read at the same time: LevelDB reads wait for the disk, and a block of columns takes milliseconds."""

AccountName = bytes | str
SlotName = int | bytes | str


@dataclass(frozen=True, slots=True, eq=False)
class AccountColumns:
    """n accounts in order of their hashes.

    hashes (n, 32) uint8; nonces (n,) uint64; balances (n, 32) uint8, big-endian wei; storage_roots (n, 32) uint8;
    code_hashes (n, 32) uint8. Accounts without storage or code have the root of the empty trie, the hash of no code.
    """

    hashes: NDArray[np.uint8]
    nonces: NDArray[np.uint64]
    balances: NDArray[np.uint8]
    storage_roots: NDArray[np.uint8]
    code_hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def ether(self) -> NDArray[np.float64]:
        """Balances in ether, as float64 (53 bits): for statistics, not for book-keeping."""
        return _floats(self.balances) / 1e18


@dataclass(frozen=True, slots=True, eq=False)
class SlotColumns:
    """n storage slots of one account in order of their hashes: hashes (n, 32), values (n, 32) uint8, big-endian."""

    hashes: NDArray[np.uint8]
    values: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.hashes)


def _floats(rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    words = rows.view(">u8").astype(np.float64)
    weights = np.array([2.0**192, 2.0**128, 2.0**64, 1.0])
    return np.asarray(words @ weights, np.float64)


def account_hash(name: AccountName) -> bytes:
    """The account hash of an address or of an account hash. Raises ConfigError."""
    try:
        value = bytes.fromhex(name.removeprefix("0x")) if isinstance(name, str) else bytes(name)
    except ValueError:
        value = b""
    if len(value) not in (20, 32):
        raise ConfigError(f"'{name!r}' is neither an address nor an account hash", hint="20 or 32 bytes")
    return keccak256(value) if len(value) == 20 else value


def slot_hash(name: SlotName) -> bytes:
    """The slot hash of a slot's number, or of a slot hash (32 bytes). Raises ConfigError."""
    if isinstance(name, int):
        if not 0 <= name < 1 << 256:
            raise ConfigError(f"{name} is not the number of a storage slot", hint="a number below 2^256")
        return keccak256(name.to_bytes(32, "big"))
    try:
        value = bytes.fromhex(name.removeprefix("0x")) if isinstance(name, str) else bytes(name)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise ConfigError(f"'{name!r}' is not a slot hash", hint="32 bytes, or the slot's number as an int")
    return value


def _bounds(prefix: str) -> tuple[bytes, bytes | None]:
    """First key under a prefix of hexadecimal digits, and the first key after it (None: there is none)."""
    digits = prefix.removeprefix("0x")
    try:
        first = bytes.fromhex(digits.ljust(64, "0"))
        last = bytes.fromhex(digits.ljust(64, "f"))
    except ValueError as error:
        raise ConfigError(f"'{prefix}' is not a prefix of hexadecimal digits") from error
    if len(first) != 32:
        raise ConfigError(f"'{prefix}' is longer than a hash")
    after = int.from_bytes(last, "big") + 1
    return first, after.to_bytes(32, "big") if after < 1 << 256 else None


class State:
    """A stored state, synchronously. Every answer is for one block; what is not held is an error, never zero."""

    def __init__(self, view: StateView) -> None:
        """Made by `open_state` and `open_state_now`."""
        self._view = view

    @property
    def block(self) -> Header:
        """The block whose state this is."""
        return self._view.header

    def account(self, name: AccountName) -> Account | None:
        """The account, or None if the state has none of that name. Raises NotHeld, DatadirDamaged."""
        return self._view.account(account_hash(name))

    def storage(self, name: AccountName, slot: SlotName) -> int:
        """The value of a storage slot, 0 if it is not set. Raises NotHeld, DatadirDamaged."""
        return self._view.slot(account_hash(name), slot_hash(slot))

    def code(self, name: AccountName) -> bytes:
        """The bytecode of an account, empty if it has none. Raises NotHeld, DatadirDamaged."""
        account = self.account(name)
        return b"" if account is None else self._view.code(account.code_hash)

    def proof(self, name: AccountName, slots: Sequence[SlotName] = ()) -> AccountProof:
        """Account and slots with Merkle proofs (the content of eth_getProof, EIP-1186), checked against the root.

        Raises NotHeld while the state is not complete, VerificationFailed if a proof does not hold.
        """
        if not self._view.is_complete():
            raise NotHeld("the state is not complete yet, so nothing in it can be proven", hint="finish the sync first")
        found = self._view.proof(account_hash(name), [slot_hash(slot) for slot in slots])
        _check(found)
        return found

    def accounts(self, prefix: str = "") -> Iterator[AccountColumns]:
        """All accounts whose hash begins with these hexadecimal digits, in key order, some 10,000 at a time.

        Raises NotHeld where the stored part ends.
        """
        for leaves in self._view.account_blocks(*_bounds(prefix)):
            yield _account_columns(leaves)

    def slots(self, name: AccountName, prefix: str = "") -> Iterator[SlotColumns]:
        """All slots of an account whose hash begins with these hexadecimal digits, in key order."""
        for leaves in self._view.storage_blocks(account_hash(name), *_bounds(prefix)):
            yield _slot_columns(leaves)


def _account_columns(leaves: Leaves) -> AccountColumns:
    n = len(leaves)
    nonces = np.empty(n, np.uint64)
    balances, roots, codes = np.empty((n, 32), np.uint8), np.empty((n, 32), np.uint8), np.empty((n, 32), np.uint8)
    if kernel.account_columns(leaves.buf, leaves.offsets, leaves.lengths, nonces, balances, roots, codes) < 0:
        raise DatadirDamaged("a stored account is damaged", hint="run `ethsync verify`")
    return AccountColumns(leaves.keys, nonces, balances, roots, codes)


def _slot_columns(leaves: Leaves) -> SlotColumns:
    values = np.empty((len(leaves), 32), np.uint8)
    if kernel.slot_values(leaves.buf, leaves.offsets, leaves.lengths, values) < 0:
        raise DatadirDamaged("a stored storage slot is damaged", hint="run `ethsync verify`")
    return SlotColumns(leaves.keys, values)


def _check(found: AccountProof) -> None:
    """The proofs must show exactly what was read, under the block's state root."""
    try:
        leaf = check_proof(found.state_root, found.key, found.nodes)
        slots = [
            (slot, check_proof(found.account.storage_root, slot.key, slot.nodes) if found.account else None)
            for slot in found.slots
        ]
    except Disproved as error:
        raise VerificationFailed(f"the stored state does not prove what it says: {error}") from error
    wrong = leaf != (found.account.full() if found.account is not None else None)
    wrong |= any((rlp.encode_int(slot.value) if slot.value else None) != value for slot, value in slots)
    if wrong:
        raise VerificationFailed("the stored state does not prove what it says", hint="run `ethsync verify`")


@contextmanager
def open_state_now(datadir: Path | str) -> Iterator[State]:
    """Open a stored state without trio, for scripts and notebooks. Raises ConfigError, NotHeld, StoreError."""
    with open_datadir(Path(datadir)) as opened:
        yield State(StateView(opened))


class AsyncState:
    """A stored state in a trio program: the methods of `State`, run in threads."""

    def __init__(self, state: State) -> None:
        """Made by `open_state`."""
        self._state = state
        self._limiter = trio.CapacityLimiter(READERS)

    @property
    def block(self) -> Header:
        """The block whose state this is."""
        return self._state.block

    async def account(self, name: AccountName) -> Account | None:
        """See State.account."""
        return await trio.to_thread.run_sync(self._state.account, name, limiter=self._limiter)

    async def storage(self, name: AccountName, slot: SlotName) -> int:
        """See State.storage."""
        return await trio.to_thread.run_sync(self._state.storage, name, slot, limiter=self._limiter)

    async def code(self, name: AccountName) -> bytes:
        """See State.code."""
        return await trio.to_thread.run_sync(self._state.code, name, limiter=self._limiter)

    async def proof(self, name: AccountName, slots: Sequence[SlotName] = ()) -> AccountProof:
        """See State.proof."""
        return await trio.to_thread.run_sync(self._state.proof, name, slots, limiter=self._limiter)

    @asynccontextmanager
    async def accounts(self, prefix: str = "") -> AsyncIterator[AsyncIterator[AccountColumns]]:
        """See State.accounts: a context manager around the iterator, so that it is closed when you leave early."""
        async with aclosing(_stepped(self._state.accounts(prefix), self._limiter)) as blocks:
            yield blocks

    @asynccontextmanager
    async def slots(self, name: AccountName, prefix: str = "") -> AsyncIterator[AsyncIterator[SlotColumns]]:
        """See State.slots; a context manager around the iterator."""
        async with aclosing(_stepped(self._state.slots(name, prefix), self._limiter)) as blocks:
            yield blocks


async def _stepped(blocks: Iterator[_T], limiter: trio.CapacityLimiter) -> AsyncGenerator[_T, None]:
    """Take the steps of an iterator in threads."""
    while True:
        block = await trio.to_thread.run_sync(next, blocks, None, limiter=limiter)
        if block is None:
            return
        yield block


@asynccontextmanager
async def open_state(datadir: Path | str) -> AsyncIterator[AsyncState]:
    """Open a stored state. Raises ConfigError, NotHeld (nothing in it yet), StoreError."""
    manager = open_state_now(datadir)
    state = await trio.to_thread.run_sync(manager.__enter__)
    try:
        yield AsyncState(state)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(manager.__exit__, None, None, None)
