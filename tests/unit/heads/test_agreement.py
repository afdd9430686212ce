"""Which block several beacon nodes agree on."""

from __future__ import annotations

from random import Random

from ethsync.heads.agreement import LEEWAY, REMEMBERED, Agreement
from ethsync.heads.beacon_blocks import ExecutionRef


def block(number: int, branch: int = 0, parent_branch: int | None = None) -> ExecutionRef:
    """Block `number` of a branch; its parent is on the same branch unless said otherwise."""
    parent = bytes((branch if parent_branch is None else parent_branch,)) + (number - 1).to_bytes(31, "big")
    return ExecutionRef(number, bytes((branch,)) + number.to_bytes(31, "big"), parent, number, False)


def test_one_node_is_believed_at_once() -> None:
    heads = Agreement(1)
    assert heads.agreed() is None
    heads.note(0, block(5))
    assert heads.agreed() == block(5)
    # Also when it goes back.
    heads.note(0, block(4))
    assert heads.agreed() == block(4)


def test_of_two_nodes_the_slower_one_decides() -> None:
    heads = Agreement(2)
    heads.note(0, block(5))
    assert heads.agreed() is None
    heads.note(1, block(5))
    heads.note(0, block(6))
    assert heads.agreed() == block(5)
    heads.note(1, block(6))
    assert heads.agreed() == block(6)


def test_a_node_that_missed_a_block_still_agrees_about_its_parent() -> None:
    # Given one node that was seen at 5 and another that was first seen at 6, built on 5
    heads = Agreement(2)
    heads.note(0, block(5))
    heads.note(1, block(6))
    assert heads.agreed() == block(5)


def test_nodes_on_different_branches_agree_on_what_came_before() -> None:
    heads = Agreement(2)
    for node in (0, 1):
        heads.note(node, block(5))
    for number in range(6, 6 + LEEWAY):
        heads.note(0, block(number, 1, 0 if number == 6 else None))
        heads.note(1, block(number, 2, 0 if number == 6 else None))
        assert heads.agreed() == block(5)
    # And it is said that they differ.
    assert not heads.is_close(block(5))
    assert heads.newest() == [block(5 + LEEWAY, 1).block_hash, block(5 + LEEWAY, 2).block_hash]


def test_what_was_named_long_ago_is_forgotten() -> None:
    heads = Agreement(2)
    for node in (0, 1):
        heads.note(node, block(5))
    for number in range(6, 6 + REMEMBERED + 1):
        heads.note(0, block(number, 1))
        heads.note(1, block(number, 2))
    assert heads.agreed() is None
    assert all(len(named) == REMEMBERED for named in heads._named)
    assert len(heads._refs) <= 2 * REMEMBERED


def test_no_order_of_answers_makes_a_block_the_head_that_a_node_never_named() -> None:
    rng = Random(7)
    for _ in range(200):
        heads, named = Agreement(3), [set[bytes](), set[bytes](), set[bytes]()]
        for _ in range(40):
            node, ref = rng.randrange(3), block(rng.randrange(1, 9), rng.randrange(2))
            heads.note(node, ref)
            assert ref.parent_hash is not None
            named[node] |= {ref.block_hash, ref.parent_hash}
            agreed = heads.agreed()
            assert agreed is None or all(agreed.block_hash in each for each in named)
