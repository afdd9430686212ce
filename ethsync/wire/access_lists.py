"""Block access lists: what a block read and changed of the state, by account (EIP-7928).

`[[address, [[slot, [[index, value], ...]], ...], [slot read, ...], [[index, balance], ...], [[index, nonce], ...],
[[index, code], ...]], ...]`, everything in ascending order. An index says when: 0 before the transactions, i in the
i-th of them, one more than there are after them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ethsync.errors import MalformedMessage
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INDEX_BYTES = 4  # BlockAccessIndex is uint32 (EIP-7928)
NONCE_BYTES = 8  # uint64
WORD_BYTES = 32  # storage keys and values and balances are uint256

_T = TypeVar("_T", int, bytes)


@dataclass(frozen=True, slots=True)
class AccountChanges:
    """What happened to one account. Each change is (index, value after it).

    storage: changed slots and their changes, at least one each. reads: slots read or written without a change.
    """

    address: bytes
    storage: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = ()
    reads: tuple[int, ...] = ()
    balances: tuple[tuple[int, int], ...] = ()
    nonces: tuple[tuple[int, int], ...] = ()
    codes: tuple[tuple[int, bytes], ...] = ()


def decode_access_list(raw: bytes) -> tuple[AccountChanges, ...]:
    """Decode a list and check its order. Raises MalformedMessage.

    Whether it is the block's is for `ethsync.state.block_roots.check_access_list` to say, from the same bytes. Takes at
    most 100 bytes for each byte of `raw`.
    """
    accounts = tuple(_account(item) for item in rlp.split_list(raw))
    _ascending([account.address for account in accounts], "addresses")
    return accounts


def _account(item: bytes) -> AccountChanges:
    address, storage, reads, balances, nonces, codes = rlp.split_fields(item, 6, "account changes")
    changed = tuple(_slot(slot) for slot in rlp.split_list(storage))
    read = tuple(_word(slot) for slot in rlp.split_list(reads))
    _ascending([slot for slot, _ in changed], "changed slots")
    _ascending(read, "slots read")
    if not {slot for slot, _ in changed}.isdisjoint(read):
        raise MalformedMessage("access list with a slot both changed and only read")
    return AccountChanges(
        rlp.fixed_string(address, 20, "address in an access list"),
        changed,
        read,
        _changes(balances, lambda value: rlp.integer(value, WORD_BYTES)),
        _changes(nonces, lambda value: rlp.integer(value, NONCE_BYTES)),
        _changes(codes, rlp.string),
    )


def _slot(item: bytes) -> tuple[int, tuple[tuple[int, int], ...]]:
    key, encoded = rlp.split_fields(item, 2, "slot changes")
    changes = _changes(encoded, _word)
    if not changes:
        raise MalformedMessage("access list with a changed slot without a change")
    return _word(key), changes


def _changes(encoded: bytes, value: Callable[[bytes], _T]) -> tuple[tuple[int, _T], ...]:
    pairs = [rlp.split_fields(item, 2, "change") for item in rlp.split_list(encoded)]
    changes = tuple((rlp.integer(index, INDEX_BYTES), value(after)) for index, after in pairs)
    _ascending([index for index, _ in changes], "indexes of changes")
    return changes


def _word(encoded: bytes) -> int:
    """A storage key or value: an integer in EIP-7928 and in geth, 32 bytes in devp2p caps/eth.md. Both are read."""
    data = rlp.string(encoded)
    return int.from_bytes(data, "big") if len(data) == WORD_BYTES else rlp.to_int(data, WORD_BYTES)


def _ascending(values: Sequence[int] | Sequence[bytes], what: str) -> None:
    for one, following in itertools.pairwise(values):
        if one >= following:  # type: ignore[operator]
            raise MalformedMessage(f"access list whose {what} are not in ascending order")
