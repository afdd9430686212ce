"""What replies to storage requests prove: whole tries by their roots, beginnings and ranges by their proofs."""

from __future__ import annotations

import pytest

from ethsync.errors import Disproved, MalformedMessage
from ethsync.state.columns import Leaves
from ethsync.state.pages import KEY_SPACE, SMALL_TRIE
from ethsync.sync.storage_proofs import SmallReply, prove_storage_range, prove_tries
from ethsync.sync.sweep import Gap
from tests.oracles import messages
from tests.oracles.messages import Pair
from tests.unit.sync.storages import ZERO, cut_off, storage, whole

A, B, C, D = (storage(seed, slots) for seed, slots in ((1, 1), (2, 5), (3, 30), (4, SMALL_TRIE)))
BIG = storage(5, 300)
ROOTS = [A.root, B.root, C.root, D.root]


def pairs(leaves: Leaves) -> list[Pair]:
    return [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))]


def tries(reply: SmallReply) -> dict[int, list[Pair]]:
    """The complete tries of a reply by their position in the request."""
    starts = reply.starts.tolist()
    return {position: pairs(reply.leaves[starts[k] : starts[k + 1]]) for k, position in enumerate(reply.matched)}


# Whole tries


def test_all_tries_that_were_asked_for() -> None:
    reply = prove_tries(whole(A, B, C, D), ROOTS)
    assert tries(reply) == {0: A.pairs, 1: B.pairs, 2: C.pairs, 3: D.pairs}
    assert (reply.skipped, reply.rest, reply.begun, reply.paged, reply.empty) == ([], 4, None, {}, False)


def test_a_peer_that_has_nothing() -> None:
    reply = prove_tries(whole(), ROOTS)
    assert reply.empty
    assert (reply.matched, reply.skipped, reply.rest) == ([], [], 0)


def test_a_reply_that_ends_early_leaves_the_rest_to_be_asked_for() -> None:
    reply = prove_tries(whole(A, B), ROOTS)
    assert (sorted(tries(reply)), reply.skipped, reply.rest) == ([0, 1], [], 2)


def test_tries_that_the_peer_passed_over_are_named() -> None:
    # Given a peer that leaves out what it does not know, as geth and others do
    reply = prove_tries(whole(B, D), ROOTS)
    assert tries(reply) == {1: B.pairs, 3: D.pairs}
    assert (reply.skipped, reply.rest) == ([0, 2], 4)


def test_a_trie_that_nobody_asked_for_is_a_lie() -> None:
    with pytest.raises(Disproved, match=f"root {BIG.root.hex()}"):
        prove_tries(whole(A, BIG), ROOTS)


def test_tries_in_another_order_are_a_lie() -> None:
    with pytest.raises(Disproved):
        prove_tries(whole(B, A), ROOTS)


def test_a_trie_sent_twice_is_a_lie() -> None:
    with pytest.raises(Disproved):
        prove_tries(whole(A, A), ROOTS)


def test_storage_that_has_changed_since_may_be_what_that_of_a_later_account_was() -> None:
    # Given accounts proven under an older state, of which the first has come to the storage of the second by now,
    # and the second to another one
    reply = prove_tries(whole(B, BIG), [A.root, B.root], may_differ=True)
    # Then that is no lie. Which account it is cannot be told, nor need it: the trie is right for whoever names it.
    assert tries(reply) == {1: B.pairs}
    assert (reply.skipped, reply.rest) == ([0], 2)


def test_of_the_same_trie_for_two_accounts_one_is_used() -> None:
    reply = prove_tries(whole(B, B, D), [A.root, B.root, C.root, D.root], may_differ=True)
    assert tries(reply) == {1: B.pairs, 3: D.pairs}
    assert (reply.skipped, reply.rest) == ([0, 2], 4)


def test_the_beginning_of_a_changed_trie_behind_all_that_were_asked_for_is_left() -> None:
    reply = prove_tries(cut_off(B, BIG, slots=10), [A.root, B.root], may_differ=True)
    assert tries(reply) == {1: B.pairs}
    assert (reply.begun, reply.skipped, reply.rest) == (None, [0], 2)


@pytest.mark.parametrize("defect", ["missing", "changed value", "changed key", "added"])
def test_a_changed_trie_is_a_lie(defect: str) -> None:
    changed = {
        "missing": C.pairs[:7] + C.pairs[8:],
        "changed value": [*C.pairs[:7], (C.pairs[7][0], b"\x05"), *C.pairs[8:]],
        "changed key": [*C.pairs[:7], (C.pairs[7][0][:-1] + b"\0", C.pairs[7][1]), *C.pairs[8:]],
        "added": [*C.pairs, (b"\xff" * 32, b"\x05")],
    }[defect]
    with pytest.raises(Disproved):
        prove_tries(messages.storage_ranges(1, [A.pairs, changed]), [A.root, C.root])


@pytest.mark.parametrize("defect", ["reversed", "repeated"])
def test_slots_out_of_order_are_no_trie(defect: str) -> None:
    broken = C.pairs[::-1] if defect == "reversed" else [C.pairs[0], *C.pairs]
    with pytest.raises(MalformedMessage, match="cannot be a trie"):
        prove_tries(messages.storage_ranges(1, [broken]), [C.root])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_trie_without_a_slot_is_malformed(place: int) -> None:
    sets = [A.pairs, B.pairs]
    sets.insert(place, [])
    with pytest.raises(MalformedMessage, match="without a single slot"):
        prove_tries(messages.storage_ranges(1, sets), ROOTS)


def test_more_tries_than_were_asked_for_are_malformed() -> None:
    with pytest.raises(MalformedMessage):
        prove_tries(whole(A, B), [A.root])


def test_a_large_trie_in_one_piece_comes_with_its_pages() -> None:
    # Given a trie with one slot more than fits into a bundle, between two that fit
    large = storage(6, SMALL_TRIE + 1)
    reply = prove_tries(whole(A, large, D), [A.root, large.root, D.root])
    assert tries(reply) == {0: A.pairs, 1: large.pairs, 2: D.pairs}
    assert list(reply.paged) == [1]
    assert pairs(reply.paged[1].leaves) == large.pairs
    assert reply.paged[1].covered == KEY_SPACE


# The beginning of a trie, with a proof


@pytest.mark.parametrize("slots", [1, 10, 299])
def test_a_trie_that_was_cut_off_is_begun(slots: int) -> None:
    reply = prove_tries(cut_off(A, BIG, slots=slots), [A.root, BIG.root, C.root])
    assert tries(reply) == {0: A.pairs}
    assert reply.begun is not None
    position, chunk = reply.begun
    assert (position, reply.rest, reply.empty) == (1, 2, False)
    # Everything it brought is either stored or in hand for the next request.
    rest = chunk.assembled.rest
    assert rest is not None
    in_hand = pairs(rest.carry) if rest.carry is not None else []
    assert pairs(chunk.assembled.leaves) + in_hand == BIG.pairs[:slots]
    assert BIG.pairs[slots - 1][0] < rest.resume.to_bytes(32, "big") <= BIG.pairs[slots][0]


def test_the_size_of_a_trie_that_was_cut_off_is_estimated() -> None:
    reply = prove_tries(cut_off(BIG, slots=150), [BIG.root])
    assert reply.begun is not None
    assert reply.begun[1].estimate == pytest.approx(300, rel=0.2)


def test_a_trie_may_be_cut_off_after_others_were_passed_over() -> None:
    reply = prove_tries(cut_off(B, BIG, slots=9), [A.root, B.root, C.root, BIG.root, D.root])
    assert reply.begun is not None
    assert (reply.matched, reply.begun[0], reply.skipped, reply.rest) == ([1], 3, [0, 2], 4)


def test_only_the_beginning_of_one_trie() -> None:
    reply = prove_tries(cut_off(BIG, slots=9), [BIG.root])
    assert (reply.matched, len(reply.leaves), reply.starts.tolist(), reply.empty) == ([], 0, [0], False)


@pytest.mark.parametrize("trie", [A, D, BIG], ids=["one slot", "small", "big"])
def test_a_full_set_with_a_proof_that_it_does_not_need(trie: object) -> None:
    assert trie in (A, D, BIG)
    full = next(each for each in (A, D, BIG) if each is trie)
    reply = prove_tries(cut_off(C, full, slots=len(full)), [C.root, full.root])
    assert tries(reply) == {0: C.pairs, 1: full.pairs}
    assert (reply.begun, reply.rest) == (None, 2)
    assert list(reply.paged) == ([1] if len(full) > SMALL_TRIE else [])


def test_a_proof_of_another_trie_is_a_lie() -> None:
    message = messages.storage_ranges(1, [BIG.pairs[:9]], C.proof(ZERO, C.pairs[3][0]))
    with pytest.raises(Disproved, match="a proof for another trie"):
        prove_tries(message, [BIG.root])


def test_a_proof_of_a_trie_that_was_passed_is_a_lie() -> None:
    # Sets come in the order of the request; what was complete is not begun again.
    message = messages.storage_ranges(1, [B.pairs, C.pairs[:9]], C.proof(ZERO, C.pairs[8][0]))
    with pytest.raises(Disproved):
        prove_tries(message, [C.root, B.root])


def test_a_gap_in_the_beginning_is_a_lie() -> None:
    message = messages.storage_ranges(1, [BIG.pairs[:3] + BIG.pairs[4:9]], BIG.proof(ZERO, BIG.pairs[8][0]))
    with pytest.raises(Disproved):
        prove_tries(message, [BIG.root])


def test_a_beginning_that_leaves_out_the_first_slot_is_a_lie() -> None:
    message = messages.storage_ranges(1, [BIG.pairs[1:9]], BIG.proof(ZERO, BIG.pairs[8][0]))
    with pytest.raises(Disproved):
        prove_tries(message, [BIG.root])


def test_a_beginning_without_its_proof_is_a_lie() -> None:
    with pytest.raises(Disproved):
        prove_tries(messages.storage_ranges(1, [BIG.pairs[:9]]), [BIG.root])


@pytest.mark.parametrize("sets", [[], [[]]])
def test_a_proof_without_slots_is_a_lie(sets: list[list[Pair]]) -> None:
    with pytest.raises(Disproved, match="a proof without slots"):
        prove_tries(messages.storage_ranges(1, sets, BIG.proof(ZERO)), [BIG.root])


def test_bytes_that_are_no_reply_are_malformed() -> None:
    with pytest.raises(MalformedMessage):
        prove_tries(b"\xc3\x01\xc0", ROOTS)


# Ranges of one trie


def at(row: int) -> int:
    return int.from_bytes(BIG.pairs[row][0], "big")


def test_a_range_from_its_proof() -> None:
    gap = Gap(0, KEY_SPACE, at(100))
    proven = prove_storage_range(BIG.range(gap.resume, 50), BIG.root, Gap(gap.resume, KEY_SPACE, gap.resume), 0)
    assert proven is not None
    assembled = proven.assembled
    assert assembled.rest is not None
    assert assembled.rest.carry is not None
    assert pairs(assembled.rest.carry) == BIG.pairs[100:150]
    assert (proven.keys, proven.depth) == (at(149) + 1 - at(100), 0)


def test_the_keys_that_a_range_covers_reach_to_its_end_if_there_is_no_more() -> None:
    gap = Gap(KEY_SPACE // 2, KEY_SPACE, KEY_SPACE // 2)
    proven = prove_storage_range(BIG.range(gap.resume, 1000), BIG.root, gap, 1)
    assert proven is not None
    assembled = proven.assembled
    assert (assembled.covered, assembled.rest, proven.keys) == (KEY_SPACE, None, KEY_SPACE // 2)
    assert pairs(assembled.leaves) == [pair for pair in BIG.pairs if pair[0] >= b"\x80"]


def test_an_empty_end_is_believed_with_its_proof_only() -> None:
    beyond = at(299) + 1
    gap = Gap(0, KEY_SPACE, beyond)
    proven = prove_storage_range(BIG.range(beyond, 9), BIG.root, Gap(beyond, KEY_SPACE, beyond), 0)
    assert proven is not None
    assert (len(proven.assembled.leaves), proven.assembled.rest, proven.keys) == (0, None, KEY_SPACE - beyond)
    # Without one the peer simply has nothing, as a peer that lost the state.
    assert prove_storage_range(whole(), BIG.root, gap, 0) is None


def test_an_empty_range_in_the_middle_is_a_lie() -> None:
    message = messages.storage_ranges(1, [], BIG.proof(at(100).to_bytes(32, "big")))
    with pytest.raises(Disproved):
        prove_storage_range(message, BIG.root, Gap(0, KEY_SPACE, at(100)), 0)


def test_a_range_of_another_trie_is_a_lie() -> None:
    with pytest.raises(Disproved):
        prove_storage_range(C.range(at(100), 9), BIG.root, Gap(0, KEY_SPACE, at(100)), 0)


def test_a_range_without_proof_is_malformed() -> None:
    message = messages.storage_ranges(1, [BIG.pairs[100:109]])
    with pytest.raises(MalformedMessage, match="without a proof"):
        prove_storage_range(message, BIG.root, Gap(0, KEY_SPACE, at(100)), 0)


def test_a_range_of_two_accounts_is_malformed() -> None:
    message = messages.storage_ranges(1, [BIG.pairs[:9], B.pairs], BIG.proof(ZERO, BIG.pairs[8][0]))
    with pytest.raises(MalformedMessage):
        prove_storage_range(message, BIG.root, Gap(0, KEY_SPACE, 0), 0)


def test_a_range_that_begins_too_early_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="before the origin"):
        prove_storage_range(BIG.range(at(99), 9), BIG.root, Gap(0, KEY_SPACE, at(100)), 0)
