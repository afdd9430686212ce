"""Roots, forests and page tops: published vectors, small cases with a reason, and everything that must be refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest

from ethsync.errors import EthsyncError
from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.kernels.trie import BRANCH, LEAF, NO_DEPTH, SLIM_ACCOUNT, UNKNOWN
from ethsync.state import tries
from ethsync.state.columns import Entries, entries_of, leaves_of, no_leaves
from ethsync.state.tries import TrieError
from tests.oracles.accounts import EDGE_ACCOUNTS, NOT_SLIM_ACCOUNTS, Account
from tests.oracles.leaf_sets import leaf_set
from tests.oracles.tries import root_of, top_under, trie_of

KEY = bytes(range(32))
HASH = keccak256(b"some node")
LONGEST_ROOT_LEAF_VALUE = 503  # 543 bytes of node, less list header 3, path 34, string header 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: a path as hex digits; `kind` is one of `ethsync.kernels.trie`."""

    path: str
    value: bytes = HASH
    kind: int = BRANCH


def entries(*given: Entry) -> Entries:
    values = [entry.value for entry in given]
    lengths = np.array([len(value) for value in values], np.int64)
    return Entries(
        np.frombuffer(b"".join(bytes.fromhex(entry.path.ljust(64, "0")) for entry in given), np.uint8).reshape(-1, 32),
        np.array([len(entry.path) for entry in given], np.uint8),
        np.array([entry.kind for entry in given], np.uint8),
        np.frombuffer(b"".join(values), np.uint8),
        np.cumsum(lengths) - lengths,
        lengths,
    )


def leaf(path: str, value: bytes = b"\x05") -> Entry:
    return Entry(path.ljust(64, "0"), value, LEAF)


# Roots.


def test_the_trie_without_leaves_has_a_root() -> None:
    assert tries.root(no_leaves(LEAF)) == EMPTY_TRIE_ROOT
    assert tries.root_of([], []) == EMPTY_TRIE_ROOT


@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 55, 56, 136, 255, 256, LONGEST_ROOT_LEAF_VALUE])
def test_one_leaf(size: int) -> None:
    # Values of 55 and 56 bytes are where the string header grows; go-ethereum: TestStackTrie..., "ValLength56".
    value = bytes([0x80 | size & 0x7F]) * size
    assert tries.root_of([KEY], [value]) == root_of([KEY], [value])


@pytest.mark.parametrize("first", [0x00, 0x01, 0x7F, 0x80, 0xFF])
def test_a_value_of_one_byte_has_a_header_only_from_128_on(first: int) -> None:
    assert tries.root_of([KEY], [bytes([first])]) == root_of([KEY], [bytes([first])])


@pytest.mark.parametrize("shared_nibbles", range(64))
def test_two_leaves_that_part_at_any_depth(shared_nibbles: int) -> None:
    # Given two keys with that many nibbles in common: an extension of every length, leaves of every length,
    # and below nibble 57 a branch short enough to be embedded.
    prefix = KEY.hex()[:shared_nibbles]
    keys = [bytes.fromhex((prefix + digit).ljust(64, "7")) for digit in "3c"]
    for values in ([b"\x01", b"\x02"], [b"\x01" * 40, b"\x02"]):
        assert tries.root_of(keys, values) == root_of(keys, values)


def test_a_full_branch_of_hashes_is_the_longest_node() -> None:
    keys = [bytes([first << 4]) + KEY[1:] for first in range(16)]
    values = [b"\x99" * 32] * 16
    assert tries.root_of(keys, values) == root_of(keys, values)


@pytest.mark.parametrize("account", EDGE_ACCOUNTS)
def test_a_slim_account_becomes_the_full_account_as_leaf(account: Account) -> None:
    # Given the same account in both forms, alone and beside another
    for keys in ([KEY], [KEY, b"\xff" * 32]):
        n = len(keys)
        expected = root_of(keys, [account.full] * n)
        # Then both give the root that the full form gives in the oracle.
        assert tries.root(leaves_of(keys, [account.slim] * n, SLIM_ACCOUNT)) == expected
        assert tries.root(leaves_of(keys, [account.full] * n, LEAF)) == expected


def test_mainnet_style_account_vector() -> None:
    # Given the one-account trie whose leaf we can write down by hand (Yellow Paper, appendix D)
    full = Account(nonce=1, balance=10**18).full
    node = bytes([0xF8, 1 + 33 + 2 + len(full), 0xA1, 0x20]) + KEY + bytes([0xB8, len(full)]) + full
    assert tries.root(leaves_of([KEY], [Account(nonce=1, balance=10**18).slim], SLIM_ACCOUNT)) == keccak256(node)


# Forests.


def test_a_forest_gives_the_root_of_each_trie() -> None:
    # Given tries of many shapes and sizes one after another, which may repeat keys of their neighbours
    rng = Random(11)
    sets = [leaf_set(rng, shape, n) for n in (1, 2, 40) for shape in ("single", "deep", "shared_prefixes")]
    sets.append(sets[-1])
    starts = np.cumsum([0] + [len(given) for given in sets[:-1]])
    keys = [key for given in sets for key in given.keys]
    values = [value for given in sets for value in given.values]

    found = tries.roots(leaves_of(keys, values), starts)

    assert [row.tobytes() for row in found] == [root_of(given.keys, given.values) for given in sets]


def test_forest_with_page_depth_groups_never_span_two_tries() -> None:
    keys = [KEY, KEY, KEY[:-1] + b"\xff", KEY]
    leaves = leaves_of(keys, [b"\x01", b"\x02", b"\x03", b"\x04"])
    for page_depth in (0, 1, 62):
        _, tops = tries.build(entries_of(leaves), np.array([0, 1, 3]), page_depth=page_depth)
        assert tops.firsts.tolist() == [0, 1, 3, 4]


# Page tops.


def test_page_tops_of_one_page_per_trie_are_the_highest_branches() -> None:
    # Given pages: one leaf; two leaves that part at nibble 5; two whose branch is embedded
    near = KEY.hex()[:5]
    pages = [
        ([KEY], [b"\x01"]),
        ([bytes.fromhex((near + digit).ljust(64, "0")) for digit in "08"], [b"\x01" * 33, b"\x02" * 33]),
        ([KEY[:-1] + b"\x10", KEY[:-1] + b"\x1f"], [b"\x01", b"\x02"]),
    ]
    keys = [key for page in pages for key in page[0]]
    values = [value for page in pages for value in page[1]]

    tops = tries.page_tops(leaves_of(keys, values), np.array([0, 1, 3]))

    expected = [top_under(trie_of(*page), "") for page in pages]
    assert [(int(tops.depths[g]), tops.reference(g)) for g in range(3)] == expected
    assert tops.depths.tolist() == [64, 5, 63]
    assert tops.sizes.tolist()[:2] == [0, 32]
    assert 0 < tops.sizes[2] < 32


def test_without_a_page_depth_there_are_no_tops() -> None:
    _, tops = tries.build(entries_of(leaves_of([KEY], [b"\x01"])), page_depth=NO_DEPTH)
    assert len(tops) == 0


def test_unrooted_builds_have_no_roots_and_the_same_tops() -> None:
    given = leaf_set(Random(2), "shared_prefixes", 50)
    entered = entries_of(leaves_of(given.keys, given.values))
    rooted, with_root = tries.build(entered, page_depth=3)
    unrooted, without_root = tries.build(entered, page_depth=3, rooted=False)
    assert (len(rooted), len(unrooted)) == (1, 0)
    for column in ("firsts", "depths", "sizes"):
        assert getattr(with_root, column).tolist() == getattr(without_root, column).tolist()
    assert [with_root.reference(g) for g in range(len(with_root))] == [
        without_root.reference(g) for g in range(len(without_root))
    ]


# Opaque entries.


@pytest.mark.parametrize("kind", [BRANCH, UNKNOWN])
def test_a_single_reference_at_the_empty_path_is_the_root(kind: int) -> None:
    assert tries.build(entries(Entry("", HASH, kind)))[0].tobytes() == HASH


def test_a_lone_branch_at_a_path_is_reached_by_an_extension() -> None:
    # Given a branch at path 1234 (Yellow Paper, appendix C: an even path has the prefix byte 00)
    root = tries.build(entries(Entry("1234")))[0].tobytes()
    assert root == keccak256(b"\xe5\x83\x00\x12\x34\xa0" + HASH)


def test_unknown_references_stay_where_they_are() -> None:
    # Given two nodes of unknown kind directly under a branch at the root
    root = tries.build(entries(Entry("3", HASH, UNKNOWN), Entry("f", HASH, UNKNOWN)))[0].tobytes()
    node = b"\x80" * 3 + b"\xa0" + HASH + b"\x80" * 11 + b"\xa0" + HASH + b"\x80"
    assert root == keccak256(bytes([0xF8, len(node)]) + node)


# Refusals. Each code of the kernel, by what is wrong with the entries.


@dataclass(frozen=True, slots=True)
class Refusal:
    """Entries that are no trie, and words of the reason."""

    name: str
    given: Entries
    words: str
    starts: Sequence[int] = field(default=(0,))


def with_column(given: Entries, **columns: Sequence[int]) -> Entries:
    """Entries with some columns replaced."""
    fields = {name: getattr(given, name) for name in ("keys", "paths", "kinds", "buf", "offsets", "lengths")}
    return Entries(**{**fields, **{name: np.array(values, fields[name].dtype) for name, values in columns.items()}})


TWO = entries(leaf("12"), leaf("2"))
ORDER = "not strictly ascending, or one path is the beginning of another"
VALUE = "a value is empty, too long or outside its buffer"
REFERENCE = "a node reference has an impossible length"
MISPLACED = "would have to move under another parent"
COLUMNS = "columns do not fit together"

REFUSALS = [
    Refusal("descending", entries(leaf("2"), leaf("1")), ORDER),
    Refusal("descending in the last nibble", entries(leaf("0" * 63 + "2"), leaf("0" * 63 + "1")), ORDER),
    Refusal("duplicate leaf", entries(leaf("1"), leaf("1")), ORDER),
    Refusal("duplicate later on", entries(leaf("1"), leaf("2"), leaf("2")), ORDER),
    Refusal("duplicate in the second trie", entries(leaf("1"), leaf("1"), leaf("1")), ORDER, (0, 1)),
    Refusal("leaf under a reference", entries(Entry("12"), leaf("123")), ORDER),
    Refusal("leaf under a reference, padding equal", entries(Entry("12"), leaf("120")), ORDER),
    Refusal("reference under a reference", entries(Entry("12"), Entry("1200")), ORDER),
    Refusal("reference above a leaf", entries(leaf("120"), Entry("12")), ORDER),
    Refusal("the same reference twice", entries(Entry("12"), Entry("12")), ORDER),
    Refusal("empty path beside others", entries(Entry(""), leaf("1")), ORDER),
    Refusal("empty value", entries(leaf("1", b"")), VALUE),
    Refusal("value one byte too long", entries(leaf("1", b"\x99" * (LONGEST_ROOT_LEAF_VALUE + 1))), VALUE),
    Refusal("value of a megabyte", entries(leaf("1", b"\x99" * 2**20)), VALUE),
    Refusal("value before the buffer", with_column(TWO, offsets=[-1, 0]), VALUE),
    Refusal("value after the buffer", with_column(TWO, offsets=[0, 2]), VALUE),
    Refusal("value over the end", with_column(TWO, lengths=[1, 2]), VALUE),
    Refusal("negative length", with_column(TWO, lengths=[1, -1]), VALUE),
    Refusal("reference of 33 bytes", entries(Entry("1", b"\xc0" * 33)), REFERENCE),
    Refusal("path of 65 nibbles", with_column(entries(Entry("1")), paths=[65]), REFERENCE),
    Refusal("embedded node as root", entries(Entry("", b"\xc0" * 31)), REFERENCE),
    Refusal("unknown node alone", entries(Entry("1", HASH, UNKNOWN)), MISPLACED),
    Refusal("unknown node below its branch", entries(Entry("12", HASH, UNKNOWN), leaf("3")), MISPLACED),
    Refusal("leaf with a short path", with_column(TWO, paths=[63, 64]), COLUMNS),
    Refusal("a path too few", with_column(TWO, paths=[64]), COLUMNS),
    Refusal("a kind too few", with_column(TWO, kinds=[LEAF]), COLUMNS),
    Refusal("a value too few", with_column(TWO, lengths=[1]), COLUMNS),
    Refusal("an offset too few", with_column(TWO, offsets=[0]), COLUMNS),
    Refusal("no trie", TWO, COLUMNS, ()),
    Refusal("first trie not at 0", TWO, COLUMNS, (1,)),
    Refusal("an empty trie", TWO, COLUMNS, (0, 1, 1)),
    Refusal("a trie after the entries", TWO, COLUMNS, (0, 2)),
    Refusal("tries descending", TWO, COLUMNS, (0, 1, 0)),
    Refusal("a trie before the entries", TWO, COLUMNS, (0, -1)),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
@pytest.mark.parametrize("page_depth", [NO_DEPTH, 0, 2])
def test_what_is_not_a_trie_is_refused(refusal: Refusal, page_depth: int) -> None:
    with pytest.raises(TrieError, match=refusal.words):
        tries.build(refusal.given, np.array(refusal.starts, np.int64), page_depth=page_depth)


def test_trie_errors_belong_to_the_tree() -> None:
    assert issubclass(TrieError, EthsyncError)


@pytest.mark.parametrize("slim", NOT_SLIM_ACCOUNTS.values(), ids=NOT_SLIM_ACCOUNTS)
def test_an_account_that_is_not_canonical_is_refused(slim: bytes) -> None:
    # Given a bad account between good ones, so that the bytes around it are not to blame
    good = Account(nonce=7).slim
    keys = [bytes([first]) + KEY[1:] for first in (1, 2, 3)]
    with pytest.raises(TrieError, match="an account is not canonical"):
        tries.root(leaves_of(keys, [good, slim, good], SLIM_ACCOUNT))


def test_the_account_vectors_are_wrong_only_in_one_place() -> None:
    # A table of bad accounts proves nothing if the kernel refuses good ones as well.
    for account in EDGE_ACCOUNTS:
        assert account.slim not in NOT_SLIM_ACCOUNTS.values()
        tries.root(leaves_of([KEY], [account.slim], SLIM_ACCOUNT))


def test_the_longest_leaf_is_longer_below_a_branch() -> None:
    # Given two leaves under a branch at the root, whose paths are one nibble and so one byte shorter
    keys = [b"\x00" * 32, b"\xff" * 32]
    values = [b"\x99" * (LONGEST_ROOT_LEAF_VALUE + 1)] * 2
    assert tries.root_of(keys, values) == root_of(keys, values)
    with pytest.raises(TrieError, match=VALUE):
        tries.root_of(keys, [value + b"\x99" for value in values])


def test_building_from_no_entries_at_all_is_refused() -> None:
    # In a process of its own, because reading the first of no entries is a segmentation fault.
    script = (
        "from ethsync.state import columns, tries\n"
        "for _ in range(50):\n"
        "    try:\n"
        "        tries.build(columns.entries_of(columns.no_leaves(0)))\n"
        "    except tries.TrieError as error:\n"
        "        continue\n"
        "    raise SystemExit('accepted')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
