"""What an answer to FINDNODE costs among 1,000 and among 100,000 known nodes. Counted in steps, not in seconds.

That choosing whom to dial costs no more either is in tests/unit/discovery/test_candidates_steps.py.
"""

from __future__ import annotations

import random
from ipaddress import IPv4Address

from ethsync.discovery.discv5_answers import RESULT_LIMIT, Answers
from ethsync.discovery.discv5_messages import FindNode, Nodes
from ethsync.discovery.discv5_nodes import lookup_distances
from ethsync.discovery.node import Endpoint, Node, distance
from ethsync.discovery.table import Table
from ethsync.wire.enr import NodeRecord
from tests.unit.discovery.test_candidates_steps import Steps

FEW, MANY = 1_000, 100_000
QUESTIONS = 200


def answering(known: int) -> Answers:
    """A node that has met so many others, all of which answered."""
    rng = random.Random(known)
    local_id = bytes(32)
    table = Table(local_id, rng)
    record = NodeRecord(bytes(150), 1, bytes(64), local_id, ())
    for number in range(known):
        node_id = rng.randbytes(32)
        endpoint = Endpoint(IPv4Address((20 << 24) + number * 256 + 1), 30303)
        told = NodeRecord(bytes(150), 1, node_id * 2, node_id, ())
        table.confirm(Node(node_id, node_id * 2, endpoint, 30303, told), number / 100)
    return Answers(record, table, {})


def questions() -> list[FindNode]:
    """What lookups of random targets ask us for."""
    rng = random.Random("questions")
    return [
        FindNode(number.to_bytes(8, "big"), lookup_distances(distance(bytes(32), rng.randbytes(32))))
        for number in range(QUESTIONS)
    ]


ASKER = Node(b"\1" * 32, b"\1" * 64, Endpoint(IPv4Address("20.0.0.1"), 30303), 30303)


def steps_per_answer(answers: Answers) -> float:
    """Lines of Python that run for one answer, on average."""
    asked = questions()
    steps = Steps()
    with steps:
        for question in asked:
            answers.to(question, ASKER)
    return steps.count / QUESTIONS


def test_an_answer_among_a_hundred_thousand_nodes_takes_no_more_steps_than_one_among_a_thousand() -> None:
    few, many = answering(FEW), answering(MANY)
    told = [sum(len(part.records) for part in many.to(each, ASKER) if isinstance(part, Nodes)) for each in questions()]
    assert max(told) == RESULT_LIMIT
    assert sum(told) > QUESTIONS * RESULT_LIMIT / 2
    assert 10 < steps_per_answer(few) < 10_000
    assert steps_per_answer(many) < 2 * steps_per_answer(few)
