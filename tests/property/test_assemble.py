"""Tries that arrive in replies of every size and order: the pages hold each leaf once, and their tops give the root."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
from trie import HexaryTrie

from ethsync.arrays import Ints
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Leaves, entries_of, leaves_of
from ethsync.state.pages import KEY_SPACE, SMALL_TRIE, PagePath, Top, decode_pages, depth_for, entries_of_tops, path_of
from ethsync.state.proofs import Proven, verify_range
from ethsync.state.replies import ProofNodes
from ethsync.state.tries import Tops, build
from ethsync.sync.assemble import (
    MOST_CARRIED,
    Assembled,
    Page,
    assemble,
    assemble_whole,
    estimated_leaves,
    first_depth,
    in_hand,
)
from ethsync.sync.sweep import Gap, Sweep
from tests.oracles.accounts import random_account
from tests.oracles.leaf_sets import SHAPES, LeafSet, leaf_set
from tests.oracles.ranges import proof_nodes
from tests.oracles.tries import proof_of, trie_of

NO_PROOF = ProofNodes(np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64))
Pair = tuple[bytes, bytes]


@dataclass
class Server:
    """An honest peer: leaves from an origin on, at most so many, and one past the limit as geth has it."""

    truth: LeafSet
    trie: HexaryTrie
    kind: int = LEAF

    def prove(self, gap: Gap, most: int, depth: int) -> Proven:
        """The proven reply to a request for a gap."""
        keys = self.truth.keys
        origin = gap.resume.to_bytes(32, "big")
        first = sum(key < origin for key in keys)
        beyond = sum(int.from_bytes(key, "big") < gap.end for key in keys) + 1
        last = min(first + most, max(beyond, first + 1), len(keys))
        leaves = leaves_of(keys[first:last], self.truth.values[first:last], self.kind)
        whole = last - first == len(keys) and not gap.resume
        nodes = NO_PROOF if whole else proof_nodes(proof_of(self.trie, origin, *keys[first:last][-1:]))
        return verify_range(bytes(self.trie.root_hash), origin, leaves, nodes, page_depth=depth)


@dataclass
class Stored:
    """What the pipeline would have written."""

    pages: dict[PagePath, Page] = field(default_factory=dict)
    leaves: list[Pair] = field(default_factory=list)

    def keep(self, gap: Gap, assembled: Assembled) -> None:
        """Store the pages of a reply, and look whether they are all of [gap.origin, covered)."""
        row = 0
        for page in assembled.pages:
            assert page.path not in self.pages
            assert page.first == row
            assert gap.origin <= page.path.first < page.path.end <= assembled.covered
            row = page.last
            self.pages[page.path] = page
        assert row == len(assembled.leaves)
        self.leaves += pairs(assembled.leaves)


def pairs(leaves: Leaves) -> list[Pair]:
    return [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))]


def download(rng: Random, server: Server, depth: int, most: int) -> Stored:
    """Sweep the key space: ranges of any width, up to three at once, answered in any order by any number of leaves.

    Some are given up before they are answered, and asked for anew; whichever answer comes first is kept.
    """
    stored, sweep, under_way, overdue = Stored(), Sweep(depth=depth), list[Gap](), list[Gap]()
    while not sweep.done:
        if sweep.open_gaps and (not under_way or (len(under_way) < 3 and rng.random() < 0.6)):
            under_way.append(sweep.take(KEY_SPACE // rng.choice((1, 3, 16, 100, 5000))))
            continue
        gap = under_way.pop(rng.randrange(len(under_way)))
        if rng.random() < 0.3:
            sweep.give_back(gap)
            overdue.append(gap)
            continue
        if overdue and rng.random() < 0.5:
            under_way.append(gap)
            gap = overdue.pop(rng.randrange(len(overdue)))
        assembled = assemble(gap, server.prove(gap, rng.randint(1, most), depth), depth)
        claimed = sweep.claim(gap, assembled.covered, assembled.rest)
        if claimed is None:
            continue
        stored.keep(gap, assembled)
        sweep.settle(claimed)
        if assembled.rest is not None:
            check_rest(gap, assembled.rest, assembled.covered, depth)
    assert not any(map(sweep.wants, overdue))
    return stored


def check_rest(gap: Gap, rest: Gap, covered: int, depth: int) -> None:
    """What remains begins with the leaves in hand, of one page and not too many, up to where the next request begins.

    A page that is going to be too large ends at a longer path.
    """
    assert (rest.origin, rest.end) == (covered, gap.end)
    assert gap.resume < rest.resume < rest.end
    if rest.carry is None:
        assert rest.resume == rest.origin
        assert covered % (KEY_SPACE >> 4 * depth) == 0
    else:
        assert int.from_bytes(rest.carry.key(-1), "big") == rest.resume - 1
        assert int.from_bytes(rest.carry.key(0), "big") >= rest.origin
        assert path_of(rest.carry.key(0), depth) == path_of(rest.carry.key(-1), depth)
        assert len(rest.carry) <= MOST_CARRIED


def check(stored: Stored, truth: LeafSet, root: bytes, kind: int = LEAF) -> None:
    """Pages hold exactly the leaves, do not overlap, and their top records alone give the root."""
    pages = [stored.pages[path] for path in sorted(stored.pages)]
    leaves, firsts = decode_pages([page.path for page in pages], [page.value for page in pages], kind)
    expected = list(zip(truth.keys, truth.values, strict=True))
    assert pairs(leaves) == expected
    assert sorted(stored.leaves) == expected
    assert np.diff(firsts).tolist() == [page.last - page.first for page in pages]
    assert all(before.path.end <= after.path.first for before, after in itertools.pairwise(pages))
    for page, first, last in zip(pages, firsts.tolist(), firsts.tolist()[1:], strict=False):
        assert (
            path_of(leaves.key(first), page.path.depth) == path_of(leaves.key(last - 1), page.path.depth) == page.path
        )
    assert root_of_tops([page.top for page in pages]) == root


def root_of_tops(tops: list[Top]) -> bytes:
    return build(entries_of_tops(tops))[0].tobytes()


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_trie_in_any_replies(shape: str, depth: int) -> None:
    for seed in range(6):
        # Given a trie and an honest peer
        rng = Random(f"{shape} {depth} {seed}")
        truth = leaf_set(rng, shape, rng.choice((1, 2, 20, 80)))
        server = Server(truth, trie_of(truth.keys, truth.values))
        # When replies have from one leaf to all of them
        stored = download(rng, server, depth, rng.choice((1, 3, 30, 200)))
        # Then
        check(stored, truth, bytes(server.trie.root_hash))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_accounts_in_any_replies(depth: int) -> None:
    # Given accounts, which travel and are stored in another form than the one that is hashed
    rng = Random(depth)
    keys = sorted(rng.randbytes(32) for _ in range(60))
    accounts = [random_account(rng) for _ in keys]
    trie = trie_of(keys, [account.full for account in accounts])
    truth = LeafSet("accounts", keys, [account.slim for account in accounts])
    for most in (1, 7, 100):
        stored = download(rng, Server(truth, trie, SLIM_ACCOUNT), depth, most)
        check(stored, truth, bytes(trie.root_hash), SLIM_ACCOUNT)


@pytest.mark.parametrize("most_leaves", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_pages_that_are_too_large_are_split(shape: str, most_leaves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a small limit for pages, and for what is in hand of them, and keys that share prefixes, as if mined
    monkeypatch.setattr("ethsync.sync.assemble.MOST_LEAVES", most_leaves)
    monkeypatch.setattr("ethsync.sync.assemble.MOST_CARRIED", most_leaves)
    monkeypatch.setattr(f"{__name__}.MOST_CARRIED", most_leaves)
    for seed in range(4):
        rng = Random(f"{shape} {most_leaves} {seed}")
        truth = leaf_set(rng, shape, 50)
        server = Server(truth, trie_of(truth.keys, truth.values))
        # When
        stored = download(rng, server, rng.choice((0, 1, 2)), rng.choice((1, 4, 200)))
        # Then no page has more, and all is well otherwise.
        check(stored, truth, bytes(server.trie.root_hash))
        assert all(page.last - page.first <= most_leaves for page in stored.pages.values())


def test_a_split_takes_only_as_many_nibbles_as_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given five leaves under a1, of which four are under a1b, and one leaf elsewhere
    monkeypatch.setattr("ethsync.sync.assemble.MOST_LEAVES", 4)
    keys = [bytes.fromhex(f"a1{digits}".ljust(64, "0")) for digits in ("b1", "b2", "b3", "b4", "c0")]
    leaves = leaves_of([*keys, b"\xd0" * 32], [b"value"] * 6)
    root, tops = build_pages(leaves, 2)
    # When pages have two nibbles
    assembled = assemble(Gap(0, KEY_SPACE, 0), Proven(leaves, False, tops.firsts, tops, False, False), 2)
    # Then only the one that is too large gets a third.
    assert [str(page.path) for page in assembled.pages] == ["a1b", "a1c", "d0"]
    assert root_of_tops([page.top for page in assembled.pages]) == root


@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_trie_in_one_reply(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in (1, 4, 384):
        monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", target)
        truth = leaf_set(Random(target), shape, SMALL_TRIE + 30)
        stored = Stored()
        assembled = assemble_whole(leaves_of(truth.keys, truth.values))
        assert (assembled.covered, assembled.rest) == (KEY_SPACE, None)
        stored.keep(Gap(0, KEY_SPACE, 0), assembled)
        check(stored, truth, bytes(trie_of(truth.keys, truth.values).root_hash))


def build_pages(leaves: Leaves, depth: int) -> tuple[bytes, Tops]:
    root, tops = build(entries_of(leaves), page_depth=depth)
    return root.tobytes(), tops


# What one reply adds


KEYS = [bytes([first]) + bytes(30) + b"\1" for first in (0x10, 0x11, 0x12, 0x20, 0x21, 0x30, 0xF0)]


@pytest.fixture
def server() -> Server:
    """Seven leaves: three under the nibble 1, two under 2, one under 3 and one under f."""
    values = [b"value %d" % number for number in range(len(KEYS))]
    return Server(LeafSet("seven", KEYS, values), trie_of(KEYS, values))


def at(nibbles: str) -> int:
    return int(nibbles.ljust(64, "0"), 16)


def test_a_reply_that_ends_within_a_page_leaves_it_open(server: Server) -> None:
    gap = Gap(0, KEY_SPACE, 0)
    # When four leaves came, the last of them the first one of page 2
    assembled = assemble(gap, server.prove(gap, 4, 1), 1)
    # Then page 1 is stored and the fourth leaf is kept in hand.
    assert [str(page.path) for page in assembled.pages] == ["1"]
    assert assembled.covered == at("2")
    rest = assembled.rest
    assert rest is not None
    assert rest.carry is not None
    assert (rest.origin, rest.end, rest.resume) == (at("2"), KEY_SPACE, int.from_bytes(KEYS[3], "big") + 1)
    assert pairs(rest.carry) == [(KEYS[3], b"value 3")]


def test_the_leaves_in_hand_and_the_next_reply_make_a_page(server: Server) -> None:
    gap = Gap(0, KEY_SPACE, 0)
    rest = assemble(gap, server.prove(gap, 4, 1), 1).rest
    assert rest is not None
    # When the next two leaves come, of which the first belongs to the same page
    assembled = assemble(rest, server.prove(rest, 2, 1), 1)
    # Then both pages are complete: the proof shows that page 3 has nothing more.
    assert [(str(page.path), page.first, page.last) for page in assembled.pages] == [("2", 0, 2), ("3", 2, 3)]
    assert assembled.covered == at("4")
    assert assembled.rest is not None
    assert assembled.rest.carry is None


def test_a_page_grows_by_one_leaf_at_a_time(server: Server) -> None:
    # Given a peer that sends one leaf at a time
    gap: Gap | None = Gap(0, at("2"), 0)
    in_hand = []
    for _ in range(3):
        assert gap is not None
        assembled = assemble(gap, server.prove(gap, 1, 1), 1)
        gap = assembled.rest
        in_hand.append(len(gap.carry) if gap is not None and gap.carry is not None else 0)
    # Then the page comes together all the same.
    assert in_hand == [1, 2, 0]
    assert [str(page.path) for page in assembled.pages] == ["1"]
    assert assembled.covered == at("2")


def test_the_key_past_the_limit_is_not_stored_and_closes_the_range(server: Server) -> None:
    gap = Gap(at("1"), at("2"), at("1"))
    proven = server.prove(gap, 100, 1)
    assert proven.leaves.key(-1) == KEYS[3]
    assembled = assemble(gap, proven, 1)
    assert [(str(page.path), page.last - page.first) for page in assembled.pages] == [("1", 3)]
    assert (assembled.covered, assembled.rest) == (at("2"), None)


def test_a_reply_that_ends_with_the_last_leaf_of_the_range_closes_it_too(server: Server) -> None:
    # Given a peer that stops at the limit, not behind it; the proof shows that page 1 has nothing more
    gap = Gap(at("1"), at("2"), at("1"))
    assembled = assemble(gap, server.prove(gap, 3, 1), 1)
    assert [(str(page.path), page.last - page.first) for page in assembled.pages] == [("1", 3)]
    assert (assembled.covered, assembled.rest) == (at("2"), None)


def test_a_range_without_leaves_is_covered_by_the_key_past_its_limit(server: Server) -> None:
    gap = Gap(at("4"), at("e"), at("4"))
    assembled = assemble(gap, server.prove(gap, 100, 1), 1)
    assert (len(assembled.leaves), assembled.pages, assembled.covered, assembled.rest) == (0, [], at("e"), None)


def test_leaves_in_hand_are_a_page_when_nothing_more_comes(server: Server) -> None:
    # Given a gap whose leaves are all in hand, and a reply that has only the key past its limit
    carry = leaves_of(KEYS[:3], server.truth.values[:3])
    gap = Gap(at("1"), at("2"), int.from_bytes(KEYS[2], "big") + 1, carry)
    assembled = assemble(gap, server.prove(gap, 1, 1), 1)
    assert [(str(page.path), page.first, page.last) for page in assembled.pages] == [("1", 0, 3)]
    assert pairs(assembled.leaves) == list(zip(KEYS[:3], server.truth.values[:3], strict=True))
    assert assembled.rest is None


def test_leaves_in_hand_are_a_page_when_the_trie_has_ended() -> None:
    # Given the same at the end of a trie: the reply is empty, with a proof
    keys, values = KEYS[:3], [b"value"] * 3
    server = Server(LeafSet("three", keys, values), trie_of(keys, values))
    gap = Gap(at("1"), KEY_SPACE, int.from_bytes(keys[2], "big") + 1, leaves_of(keys, values))
    proven = server.prove(gap, 5, 1)
    assert not len(proven.leaves)
    assembled = assemble(gap, proven, 1)
    assert [(str(page.path), page.first, page.last) for page in assembled.pages] == [("1", 0, 3)]
    assert (assembled.covered, assembled.rest) == (KEY_SPACE, None)


def test_the_top_of_a_page_that_is_one_leaf_has_the_value_of_the_trie() -> None:
    # Given one account under its page's path
    rng = Random(3)
    account = random_account(rng)
    key = rng.randbytes(32)
    trie = trie_of([key], [account.full])
    server = Server(LeafSet("one", [key], [account.slim]), trie, SLIM_ACCOUNT)
    gap = Gap(0, KEY_SPACE, 0)
    (page,) = assemble(gap, server.prove(gap, 9, 2), 2).pages
    assert page.top == Top(key, 64, account.full)
    assert page.top.is_leaf


# Guessing sizes


def test_the_density_of_the_first_leaves_says_how_many_there_are() -> None:
    # Given the leaves of an eighth of the key space
    rng = Random(1)
    keys = sorted(bytes([rng.randrange(32)]) + rng.randbytes(31) for _ in range(500))
    leaves = leaves_of(keys, [b"v"] * 500)
    gap = Gap(0, KEY_SPACE, 0)
    assert estimated_leaves(gap, leaves, more=True) == pytest.approx(4000, rel=0.05)
    assert estimated_leaves(gap, leaves, more=False) == 500
    assert estimated_leaves(gap, leaves[:0], more=False) == 0
    # Then pages of one nibble have 250 of them each.
    assert first_depth(gap, proven_beginning(leaves)) == 1
    assert first_depth(gap, Proven(leaves, False, *no_groups(), False, False)) == 0


def proven_beginning(leaves: Leaves) -> Proven:
    """Leaves of which there are more, proven without regard to pages."""
    return Proven(leaves, True, *no_groups(), False, True)


def no_groups() -> tuple[Ints, Tops]:
    firsts, none = np.zeros(1, np.int64), np.empty(0, np.int64)
    return firsts, Tops(firsts, none, np.empty((0, 32), np.uint8), np.empty(0, np.uint8))


def test_a_few_leaves_do_not_say_how_many_there_are() -> None:
    # Given a peer that sends five leaves at a time
    rng = Random(2)
    keys = sorted(bytes([rng.randrange(32)]) + rng.randbytes(31) for _ in range(500))
    leaves = leaves_of(keys, [b"v"] * 500)
    gap = Gap(0, KEY_SPACE, 0)
    seen = 0
    while (depth := first_depth(gap, proven_beginning(leaves[seen : seen + 5]))) is None:
        # Then they are kept in hand, and nothing is called stored.
        assembled = in_hand(gap, leaves[seen : seen + 5])
        seen += 5
        assert (assembled.pages, assembled.covered, len(assembled.leaves)) == ([], 0, 0)
        assert assembled.rest is not None
        assert assembled.rest.carry is not None
        assert pairs(assembled.rest.carry) == pairs(leaves[:seen])
        assert assembled.rest.resume == int.from_bytes(keys[seen - 1], "big") + 1
        gap = assembled.rest
    # Until there are enough, all of which count.
    assert seen + 5 == 35
    estimate = estimated_leaves(Gap(0, KEY_SPACE, 0), leaves[:35], more=True)
    assert depth == depth_for(estimate) == 1


def test_the_density_counts_from_where_the_request_began() -> None:
    leaves = leaves_of([at("81").to_bytes(32, "big")], [b"v"])
    assert estimated_leaves(Gap(0, KEY_SPACE, at("80")), leaves, more=True) == pytest.approx(256, rel=0.01)
