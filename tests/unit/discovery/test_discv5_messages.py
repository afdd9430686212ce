"""Messages of discv5.1: as the `rlp` package writes them, and those that break the rules."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
import rlp

from ethsync.discovery.discv5_messages import (
    FindNode,
    Message,
    Nodes,
    Ping,
    Pong,
    TalkRequest,
    TalkResponse,
    decode_message,
)
from ethsync.discovery.node import Endpoint
from ethsync.errors import MalformedMessage

ID = b"\x00\x01abc"
V6 = ip_address("2001:4860::8888")
RECORD = [b"not a record", b"\x07"]

CASES: list[tuple[Message, int, list[Any]]] = [
    (Ping(ID, 5), 1, [ID, 5]),
    (Ping(b"", 0), 1, [b"", 0]),
    (Ping(b"\x01" * 8, 2**64 - 1), 1, [b"\x01" * 8, 2**64 - 1]),
    (Pong(ID, 5, Endpoint(ip_address("1.2.3.4"), 30303)), 2, [ID, 5, b"\x01\x02\x03\x04", 30303]),
    (Pong(ID, 5, Endpoint(V6, 0)), 2, [ID, 5, V6.packed, 0]),
    (FindNode(ID, (0, 256, 255)), 3, [ID, [0, 256, 255]]),
    (FindNode(ID, ()), 3, [ID, []]),
    (Nodes(ID, 3, (rlp.encode(RECORD), rlp.encode(RECORD))), 4, [ID, 3, [RECORD, RECORD]]),
    (Nodes(ID, 1, ()), 4, [ID, 1, []]),
    (TalkRequest(ID, b"\x7f", b"\x00"), 5, [ID, b"\x7f", b"\x00"]),
    (TalkResponse(ID, b""), 6, [ID, b""]),
]


@pytest.mark.parametrize(("message", "kind", "fields"), CASES, ids=str)
def test_a_message_is_its_type_and_rlp(message: Message, kind: int, fields: list[Any]) -> None:
    encoded = bytes([kind]) + rlp.encode(fields)
    assert message.encode() == encoded
    assert decode_message(encoded) == message


def test_an_ipv4_address_mapped_into_ipv6_is_taken_for_what_it_is() -> None:
    packed = ip_address("::ffff:1.2.3.4").packed
    assert decode_message(b"\x02" + rlp.encode([ID, 5, packed, 30303])) == Pong(
        ID, 5, Endpoint(ip_address("1.2.3.4"), 30303)
    )


@pytest.mark.parametrize("kind", [0, *range(7, 256)])
def test_messages_of_other_versions_are_not_known_and_no_offence(kind: int) -> None:
    assert decode_message(bytes([kind]) + b"whatever") is None


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (1, [b"i" * 9, 5]),
        (1, [ID]),
        (1, [ID, 5, 6]),
        (1, [ID, b"\x00\x05"]),
        (1, [ID, 2**64]),
        (1, [[], 5]),
        (2, [ID, 5, b"\x01\x02\x03", 30303]),
        (2, [ID, 5, b"", 30303]),
        (2, [ID, 5, b"\x01\x02\x03\x04", 65536]),
        (2, [ID, 5, b"\x01\x02\x03\x04"]),
        (3, [ID, 256]),
        (3, [ID, [[1]]]),
        (3, [ID, [2**64]]),
        (3, [ID, [1] * 258]),
        (4, [ID, 256, []]),
        (4, [ID, 1, b"records"]),
        (4, [ID, [], []]),
        (5, [ID, b"protocol"]),
        (5, [ID, [], b"request"]),
        (6, [ID, [b"response"]]),
    ],
    ids=str,
)
def test_what_breaks_the_rules_is_malformed(kind: int, fields: list[Any]) -> None:
    with pytest.raises(MalformedMessage):
        decode_message(bytes([kind]) + rlp.encode(fields))


@pytest.mark.parametrize("plaintext", [b"", b"\x01", b"\x01\x80", b"\x01" + rlp.encode([ID, 5]) + b"\x00"])
def test_what_is_no_list_or_more_than_one_is_malformed(plaintext: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_message(plaintext)
