"""Endpoint proofs: how long they hold, what they are bound to, and that there are not too many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ethsync.discovery.discv4_bonds import FETCH_INTERVAL, PROOF_LIFETIME, RENEWAL_AGE, Bonds
from ethsync.discovery.node import Endpoint, Node
from tests.unit.discovery.discv4_bench import endpoint, key_number, node_number, record_at

NODE = node_number(1, endpoint("9.9.9.9", 30303))
HOUR = 3600.0


@pytest.fixture
def bonds() -> Bonds:
    return Bonds(100)


def test_a_node_is_proven_for_24_hours_after_its_pong(bonds: Bonds) -> None:
    assert not bonds.is_proven(NODE, 0.0)
    bonds.prove(NODE, None, 0.0)
    assert bonds.is_proven(NODE, 24 * HOUR - 1)
    assert not bonds.is_proven(NODE, 24 * HOUR)
    assert PROOF_LIFETIME == 24 * HOUR


def test_a_proof_of_12_hours_is_renewed_although_it_holds(bonds: Bonds) -> None:
    bonds.prove(NODE, None, 0.0)
    assert bonds.is_proven(NODE, 12 * HOUR - 1, RENEWAL_AGE)
    assert not bonds.is_proven(NODE, 12 * HOUR, RENEWAL_AGE)
    assert bonds.is_proven(NODE, 12 * HOUR)


@pytest.mark.parametrize(
    "other",
    [
        replace(NODE, node_id=b"other" * 6 + b"id"),
        replace(NODE, endpoint=endpoint("9.9.9.10", 30303)),
        replace(NODE, endpoint=endpoint("9.9.9.9", 30304)),
        replace(NODE, endpoint=endpoint("2001:4860::9", 30303)),
    ],
    ids=["id", "ip", "port", "version"],
)
def test_a_proof_holds_for_one_id_at_one_endpoint(bonds: Bonds, other: Node) -> None:
    bonds.prove(NODE, None, 0.0)
    assert not bonds.is_proven(other, 1.0)


def test_a_node_whose_port_changed_is_known_as_moved_and_its_tcp_port_too(bonds: Bonds) -> None:
    bonds.prove(NODE, None, 0.0)
    there = replace(NODE, endpoint=Endpoint(NODE.endpoint.ip, 50001), tcp_port=0)
    assert bonds.moved(there, 1.0) == replace(there, tcp_port=NODE.tcp_port)
    assert bonds.moved(NODE, 1.0) is None
    assert bonds.moved(there, PROOF_LIFETIME) is None
    bonds.prove(there, None, 2.0)
    assert bonds.is_proven(there, 3.0)
    assert not bonds.is_proven(NODE, 3.0)


def test_we_are_trusted_for_12_hours_unless_a_question_stays_unanswered(bonds: Bonds) -> None:
    assert not bonds.is_trusted_by(NODE, 0.0)
    bonds.trust(NODE, 0.0)
    assert bonds.is_trusted_by(NODE, 12 * HOUR - 1)
    assert not bonds.is_trusted_by(NODE, 12 * HOUR)
    bonds.trust(NODE, 12 * HOUR)
    bonds.distrust(NODE)
    assert not bonds.is_trusted_by(NODE, 12 * HOUR)


def test_a_ping_proves_nothing(bonds: Bonds) -> None:
    bonds.trust(NODE, 0.0)
    assert not bonds.is_proven(NODE, 0.0)


def test_the_oldest_proofs_make_room(bonds: Bonds) -> None:
    nodes = [node_number(number) for number in range(1, 151)]
    for node in nodes:
        bonds.prove(node, None, 0.0)
    assert [bonds.is_proven(node, 1.0) for node in nodes] == [False] * 50 + [True] * 100


def test_strangers_that_only_ping_push_no_proof_out(bonds: Bonds) -> None:
    bonds.prove(NODE, None, 0.0)
    for number in range(2, 400):
        bonds.trust(node_number(number), 0.0)
    assert bonds.is_proven(NODE, 1.0)


def test_a_record_is_asked_for_if_it_is_newer_than_ours_and_not_too_often(bonds: Bonds) -> None:
    record = record_at(key_number(1), NODE.endpoint, seq=5)
    proof = bonds.prove(replace(NODE, record=record), None, 0.0)
    assert not proof.may_ask(5, 1.0)
    assert proof.may_ask(6, 1.0)
    proof.asked_at = 1.0
    assert not proof.may_ask(6, FETCH_INTERVAL)
    assert proof.may_ask(6, FETCH_INTERVAL + 1.0)


def test_an_older_record_does_not_make_us_forget_the_newer_one(bonds: Bonds) -> None:
    for seq in (5, 4):
        proof = bonds.prove(replace(NODE, record=record_at(key_number(1), NODE.endpoint, seq)), None, 0.0)
    assert not proof.may_ask(5, 1.0)


def test_where_a_node_sees_us_is_not_forgotten_by_a_pong_without_it(bonds: Bonds) -> None:
    seen = endpoint("8.8.8.8", 1234)
    bonds.prove(NODE, seen, 0.0)
    assert bonds.prove(NODE, None, 1.0).seen == seen
