"""Kernels over RLP: room that runs out, pairs written for serving, values gathered, what accounts still need."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import rlp as oracle

from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT
from ethsync.kernels import rlp
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Leaves, leaves_of
from ethsync.state.replies import scan_account_range, scan_storage_ranges
from tests.oracles import messages
from tests.oracles.accounts import EDGE_ACCOUNTS, NOT_SLIM_ACCOUNTS, Account, random_account, scalar

SENTINEL = 0xEE


def keys_for(n: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(n)]


# Room.


def test_an_account_range_needs_room_for_every_account() -> None:
    pairs = [(key, Account(nonce=5).slim) for key in keys_for(5)]
    buf = np.frombuffer(messages.account_range(1, pairs, [b"node"] * 3), np.uint8)

    def scan(accounts: int, nodes: int) -> int:
        keys, ints = np.full((accounts + 2, 32), SENTINEL, np.uint8), np.full((4, 16), -7, np.int64)
        counts = np.zeros(3, np.int64)
        code = rlp.scan_account_range(
            buf, keys[:accounts], ints[0, :accounts], ints[1, :accounts], ints[2, :nodes], ints[3, :nodes], counts
        )
        # Nothing is written outside the columns that were given.
        assert (keys[accounts:] == SENTINEL).all()
        assert (ints[:2, accounts:] == -7).all()
        assert (ints[2:, nodes:] == -7).all()
        return int(code)

    assert scan(5, 3) == 0
    assert [scan(accounts, 3) for accounts in range(5)] == [rlp.TOO_MANY] * 5
    assert [scan(5, nodes) for nodes in range(3)] == [rlp.TOO_MANY] * 3


def test_storage_ranges_need_room_for_every_slot_and_set() -> None:
    sets = [[(key, b"\x05") for key in keys_for(2)], [], [(keys_for(1)[0], b"\x06")]]
    buf = np.frombuffer(messages.storage_ranges(1, sets), np.uint8)

    def scan(slots: int, sets_: int) -> int:
        keys, ints = np.full((slots + 2, 32), SENTINEL, np.uint8), np.full((5, 16), -7, np.int64)
        code = rlp.scan_storage_ranges(
            buf,
            keys[:slots],
            ints[0, :slots],
            ints[1, :slots],
            ints[2, :sets_],
            ints[3],
            ints[4],
            np.zeros(4, np.int64),
        )
        assert (keys[slots:] == SENTINEL).all()
        assert (ints[:2, slots:] == -7).all()
        assert (ints[2, sets_:] == -7).all()
        return int(code)

    assert scan(3, 3) == 0
    assert [scan(slots, 3) for slots in range(3)] == [rlp.TOO_MANY] * 3
    assert [scan(3, sets_) for sets_ in range(3)] == [rlp.TOO_MANY] * 3


# Writing pairs.


def written(leaves: Leaves, *, lists: bool) -> bytes:
    out = np.full(leaves.nbytes + len(leaves) * 39 + 8, SENTINEL, np.uint8)
    size = rlp.write_pairs(leaves.keys, leaves.buf, leaves.offsets, leaves.lengths, lists, out[:-8])
    assert size >= 0
    assert (out[-8:] == SENTINEL).all()
    return out[:size].tobytes()


SIZES = (1, 2, 20, 21, 22, 33, 55, 56, 57, 100, 217, 218, 219, 220, 222, 223, 255, 256, 257, 1000, 0xFF00)


def test_slots_are_written_as_the_rlp_package_writes_them() -> None:
    # Given values of all lengths at which a header grows, and single bytes below and above 128
    values = [b"\xaa" * size for size in SIZES] + [b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff"]
    keys = keys_for(len(values))
    expected = b"".join(oracle.encode([key, value]) for key, value in zip(keys, values, strict=True))
    assert written(leaves_of(keys, values, LEAF), lists=False) == expected


def test_accounts_are_written_as_the_rlp_package_writes_them() -> None:
    rng = Random(1)
    accounts = [*EDGE_ACCOUNTS, *(random_account(rng) for _ in range(50))]
    keys = keys_for(len(accounts))
    expected = b"".join(
        oracle.encode([key, oracle.decode(account.slim)]) for key, account in zip(keys, accounts, strict=True)
    )
    assert written(leaves_of(keys, [account.slim for account in accounts], SLIM_ACCOUNT), lists=True) == expected


def listed(payload: bytes) -> bytes:
    size = scalar(len(payload))
    return bytes([0xF7 + len(size)]) + size + payload


def test_written_accounts_are_scanned_again() -> None:
    rng = Random(2)
    slim = [random_account(rng).slim for _ in range(100)]
    pairs = written(leaves_of(keys_for(100), slim, SLIM_ACCOUNT), lists=True)
    found = scan_account_range(listed(b"\x07" + listed(pairs) + b"\xc0")).leaves
    assert [found.key(row) for row in range(100)] == keys_for(100)
    assert [found.value(row) for row in range(100)] == slim


def test_written_slots_are_scanned_again() -> None:
    rng = Random(3)
    values = [oracle.encode(scalar(rng.getrandbits(8 * rng.randint(1, 32)) | 1)) for _ in range(100)]
    pairs = written(leaves_of(keys_for(100), values), lists=False)
    found = scan_storage_ranges(listed(b"\x07" + listed(listed(pairs)) + b"\xc0"), 1).leaves
    assert [found.key(row) for row in range(100)] == keys_for(100)
    assert [found.value(row) for row in range(100)] == values


def test_nothing_is_written_from_no_leaves() -> None:
    assert written(leaves_of([], []), lists=False) == b""


def test_writing_refuses_what_does_not_fit() -> None:
    leaves = leaves_of(keys_for(2), [b"abc", b"de"])
    out = np.zeros(200, np.uint8)

    def write(offsets: list[int], lengths: list[int], room: int = 200) -> int:
        columns = np.array(offsets, np.int64), np.array(lengths, np.int64)
        return int(rlp.write_pairs(leaves.keys, leaves.buf, *columns, False, out[:room]))

    assert write([0, 3], [3, 2]) > 0
    assert write([0, 3], [3, 2], 5 + 2 * rlp.PAIR_OVERHEAD) > 0
    assert write([0, 3], [3, 2], 5 + 2 * rlp.PAIR_OVERHEAD - 1) == rlp.TOO_MANY
    assert write([0], [3]) == rlp.TOO_MANY
    for offsets, lengths in (
        ([0, 3], [3, 3]), ([0, -1], [3, 1]), ([0, 6], [3, 1]), ([0, 3], [3, 0]), ([0, 3], [3, -1]),
    ):  # fmt: skip
        assert write(offsets, lengths) == rlp.MALFORMED
    long = leaves_of(keys_for(1), [b"x" * (rlp.LONGEST_VALUE + 1)])
    big = np.zeros(1 << 17, np.uint8)
    assert rlp.write_pairs(long.keys, long.buf, long.offsets, long.lengths, False, big) == rlp.MALFORMED


# Gathering.


def test_gather_copies_values_one_after_another() -> None:
    buf = np.frombuffer(b"0123456789", np.uint8)
    out, starts = np.full(12, SENTINEL, np.uint8), np.full(5, -7, np.int64)
    code = rlp.gather(buf, np.array([8, 0, 10, 3]), np.array([2, 3, 0, 4]), out, starts)
    assert code == 9
    assert out.tobytes() == b"890123456" + bytes([SENTINEL]) * 3
    assert starts.tolist() == [0, 2, 5, 5, -7]


def test_gather_refuses_what_does_not_fit() -> None:
    buf, out, starts = np.zeros(10, np.uint8), np.zeros(5, np.uint8), np.zeros(2, np.int64)

    def gather(offsets: list[int], lengths: list[int], room: int = 5) -> int:
        return int(rlp.gather(buf, np.array(offsets, np.int64), np.array(lengths, np.int64), out[:room], starts))

    assert gather([0, 5], [2, 3]) == 5
    assert gather([0, 5], [2, 3], 4) == rlp.TOO_MANY
    assert gather([0, 5, 5], [0, 0, 0]) == rlp.TOO_MANY
    assert gather([0, 5], [2]) == rlp.TOO_MANY
    for offset, length in ((-1, 1), (0, -1), (8, 3), (11, 0)):
        assert gather([0, offset], [1, length]) == rlp.MALFORMED


# What accounts need.


def needs(values: list[bytes]) -> tuple[int, list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """The kernel's answer, (row, storage root) and (row, code hash) of the accounts that have one."""
    leaves = leaves_of(keys_for(len(values)), values, SLIM_ACCOUNT)
    n = len(values)
    rows, hashes, counts = np.zeros((2, n), np.int64), np.zeros((2, n, 32), np.uint8), np.zeros(2, np.int64)
    code = int(
        rlp.account_needs(leaves.buf, leaves.offsets, leaves.lengths, rows[0], hashes[0], rows[1], hashes[1], counts)
    )
    found = [[(int(rows[kind, k]), hashes[kind, k].tobytes()) for k in range(int(counts[kind]))] for kind in (0, 1)]
    return code, found[0], found[1]


def test_accounts_with_storage_and_with_code() -> None:
    rng = Random(4)
    accounts = [*EDGE_ACCOUNTS, *(random_account(rng) for _ in range(300))]
    code, storage, codes = needs([account.slim for account in accounts])
    assert code == 0
    # Then the empty root and the hash of no code are needs of nobody, however they are written.
    assert storage == [
        (row, account.root) for row, account in enumerate(accounts) if account.root not in (b"", EMPTY_TRIE_ROOT)
    ]
    assert codes == [
        (row, account.code) for row, account in enumerate(accounts) if account.code not in (b"", EMPTY_CODE_HASH)
    ]
    assert len(storage) > 50


@pytest.mark.parametrize("slim", NOT_SLIM_ACCOUNTS.values(), ids=NOT_SLIM_ACCOUNTS)
def test_an_account_that_is_not_canonical_is_malformed(slim: bytes) -> None:
    good = Account(nonce=1).slim
    assert needs([good, slim, good])[0] == rlp.MALFORMED


def test_needs_refuse_places_outside_the_buffer_and_too_little_room() -> None:
    slim = Account(nonce=1).slim
    buf = np.frombuffer(slim, np.uint8)
    ints, hashes, counts = np.zeros(2, np.int64), np.zeros((2, 32), np.uint8), np.zeros(2, np.int64)
    for offset, length in ((-1, len(slim)), (1, len(slim)), (0, len(slim) + 1), (0, -1), (len(slim), 5)):
        columns = np.array([offset], np.int64), np.array([length], np.int64)
        assert rlp.account_needs(buf, *columns, ints, hashes, ints, hashes, counts) == rlp.MALFORMED
    three = np.zeros(3, np.int64), np.full(3, len(slim), np.int64)
    assert rlp.account_needs(buf, *three, ints, hashes, ints, hashes, counts) == rlp.TOO_MANY
