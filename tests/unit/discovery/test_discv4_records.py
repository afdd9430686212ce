"""Records that a discv4 node fetches, and which it believes."""

from __future__ import annotations

from dataclasses import replace

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4_bonds import FETCH_INTERVAL
from ethsync.discovery.protocol import Met, RecordFetched, Unanswered
from ethsync.wire.enr import sign_record
from tests.unit.discovery.discv4_bench import (
    Bench,
    Remote,
    answer_ping,
    endpoint,
    key_number,
    record_at,
    record_of,
    respond,
)

# Records.


def test_a_record_is_fetched_and_belongs_to_the_node_from_then_on(bench: Bench, bonded: Remote) -> None:
    record = record_at(bonded.key, endpoint("9.8.7.6", 4444), 3)
    token = bench.discv4.fetch_record(bonded.node, 0.0)
    respond(bench, bonded, record.raw)
    assert bench.discv4.events() == [RecordFetched(token, replace(bonded.node, record=record, tcp_port=4444))]


def test_a_record_without_tcp_port_leaves_the_one_that_we_know(bench: Bench, bonded: Remote) -> None:
    record = sign_record(bonded.key, 3, {})
    token = bench.discv4.fetch_record(bonded.node, 0.0)
    respond(bench, bonded, record.raw)
    assert bonded.node.tcp_port
    assert bench.discv4.events() == [RecordFetched(token, replace(bonded.node, record=record))]


def test_the_newer_of_two_records_stays(bench: Bench, bonded: Remote) -> None:
    node = replace(bonded.node, record=record_of(bonded, 4))
    bench.discv4.fetch_record(node, 0.0)
    respond(bench, bonded, record_of(bonded, 3).raw)
    assert bench.events(RecordFetched)[0].node == node


def test_a_record_with_a_wrong_signature_is_no_answer(bench: Bench, bonded: Remote) -> None:
    raw = bytearray(record_of(bonded).raw)
    raw[20] ^= 1
    bench.discv4.fetch_record(bonded.node, 0.0)
    respond(bench, bonded, bytes(raw))
    (event,) = bench.events(Unanswered)
    assert "not valid" in event.why


def test_the_record_of_another_node_is_no_answer(bench: Bench, bonded: Remote) -> None:
    bench.discv4.fetch_record(bonded.node, 0.0)
    respond(bench, bonded, record_at(key_number(5), bonded.endpoint).raw)
    (event,) = bench.events(Unanswered)
    assert "another node" in event.why


def test_a_record_counts_only_with_the_right_hash_key_and_address(bench: Bench, bonded: Remote) -> None:
    bench.discv4.fetch_record(bonded.node, 0.0)
    request_hash = bench.sent_one(wire.RecordRequest)[1].hash
    raw = record_of(bonded).raw
    bonded.say(wire.RecordResponse(bytes(32), raw))
    bonded.say(wire.RecordResponse(request_hash, raw), source=endpoint("9.9.9.9"))
    Remote(bench, 101).say(wire.RecordResponse(request_hash, raw), source=bonded.endpoint)
    assert bench.discv4.events() == []
    bench.pass_time(0.5)
    assert len(bench.events(Unanswered)) == 1


def test_requests_of_one_second_are_the_same_packet_and_every_node_answers_its_own(bench: Bench) -> None:
    remotes = [Remote(bench, 101), Remote(bench, 102)]
    for remote in remotes:
        remote.bond()
    tokens = [bench.discv4.fetch_record(remote.node, 0.0) for remote in remotes]
    first, second = bench.sent()
    assert first.hash == second.hash
    for remote in reversed(remotes):
        remote.say(wire.RecordResponse(first.hash, record_of(remote).raw))
    fetched = {event.token: event.node.public_key for event in bench.events(RecordFetched)}
    assert fetched == dict(zip(tokens, [remote.node.public_key for remote in remotes], strict=True))


# Records that a pong announces.


def test_a_record_that_a_pong_announces_is_fetched(bench: Bench, bonded: Remote) -> None:
    known = replace(bonded.node, record=record_of(bonded, 3))
    bench.discv4.ping(known, 0.0)
    answer_ping(bench, bonded, enr_seq=4)
    bench.discv4.events()
    newer = record_of(bonded, 4)
    respond(bench, bonded, newer.raw)
    assert [event.node.record for event in bench.events(RecordFetched)] == [newer]


def test_a_record_that_we_have_is_not_fetched(bench: Bench, bonded: Remote) -> None:
    bench.discv4.ping(replace(bonded.node, record=record_of(bonded, 3)), 0.0)
    answer_ping(bench, bonded, enr_seq=3)
    assert bench.sent() == []


def test_the_record_of_a_node_that_was_met_is_fetched(bench: Bench, remote: Remote) -> None:
    remote.ping()
    remote.pong(bench.sent()[1].hash, enr_seq=1)
    assert bench.events(Met) == [Met(remote.node)]
    respond(bench, remote, record_of(remote).raw)
    assert len(bench.events(RecordFetched)) == 1


def test_a_record_that_was_fetched_is_not_fetched_again(bench: Bench, remote: Remote) -> None:
    remote.ping()
    remote.pong(bench.sent()[1].hash, enr_seq=3)
    respond(bench, remote, record_of(remote, 3).raw)
    bench.pass_time(FETCH_INTERVAL)
    bench.discv4.ping(remote.node, bench.now)
    answer_ping(bench, remote, enr_seq=3)
    assert bench.sent() == []


def test_a_record_that_does_not_come_is_asked_for_again_only_after_a_while_and_in_silence(
    bench: Bench, bonded: Remote
) -> None:
    bench.discv4.ping(bonded.node, 0.0)
    answer_ping(bench, bonded, enr_seq=4)
    bench.sent_one(wire.RecordRequest)
    bench.pass_time(0.5)
    assert bench.events(Unanswered) == []
    bonded.ping()
    bench.sent()
    bench.discv4.ping(bonded.node, bench.now)
    answer_ping(bench, bonded, enr_seq=4)
    assert bench.sent() == []
    bench.pass_time(FETCH_INTERVAL)
    bench.discv4.ping(bonded.node, bench.now)
    answer_ping(bench, bonded, enr_seq=4)
    bench.sent_one(wire.RecordRequest)


def test_a_record_that_is_being_fetched_is_not_asked_for_twice(bench: Bench, remote: Remote) -> None:
    bench.discv4.fetch_record(remote.node, 0.0)
    answer_ping(bench, remote, enr_seq=4)
    remote.ping()
    bench.sent_one(wire.Pong)
    bench.pass_time(0.05)
    bench.sent_one(wire.RecordRequest)
