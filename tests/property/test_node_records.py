"""Node records: whatever can be put into one comes out of it; no bytes make the decoder do anything else than return a
valid record or raise an error of our own tree."""

from __future__ import annotations

import base64
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import coincurve
import pytest
import rlp as oracle
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ethsync.discovery.node import node_of_record
from ethsync.errors import ConfigError, LocalProtocolError, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import keys
from ethsync.wire.enr import NodeRecord, address_pairs, decode_record, parse_record, sign_record

KEY = coincurve.PrivateKey(b"\x17" * 32)
UINT64 = st.integers(0, 2**64 - 1)
PORT = st.integers(0, 65535)
NESTED: st.SearchStrategy[Any] = st.recursive(st.binary(max_size=20), lambda inner: st.lists(inner, max_size=3))
KNOWN = st.sampled_from([b"ip", b"ip6", b"tcp", b"udp", b"tcp6", b"udp6", b"eth", b"snap", b"id", b"secp256k1"])
PAIRS = st.dictionaries(KNOWN | st.binary(max_size=6), NESTED, max_size=6)


def look_at(record: NodeRecord) -> None:
    """Everything that a record can be asked for."""
    assert record.ip is None or isinstance(record.ip, IPv4Address)
    assert record.ip6 is None or isinstance(record.ip6, IPv6Address)
    assert all(0 <= port < 65536 for port in (record.tcp, record.udp, record.tcp6, record.udp6))
    assert record.fork_id is None or len(record.fork_id.hash) == 4
    node = node_of_record(record)
    assert node is None or node.endpoint.port > 0


@given(UINT64, PAIRS)
def test_what_is_signed_is_read_back(seq: int, values: dict[bytes, Any]) -> None:
    try:
        record = sign_record(KEY, seq, {name: oracle.encode(value) for name, value in values.items()})
    except LocalProtocolError:
        assume(False)
    read = decode_record(record.raw)

    assert read == record
    assert parse_record(str(record)) == record
    fields = oracle.decode(record.raw)
    assert int.from_bytes(fields[1], "big") == seq
    found = dict(zip(fields[2::2], fields[3::2], strict=True))
    assert list(found) == sorted(found)
    assert found == {**values, b"id": b"v4", b"secp256k1": KEY.public_key.format()}
    assert coincurve.PublicKey(b"\4" + read.public_key) == KEY.public_key
    look_at(read)


@given(st.none() | st.ip_addresses(v=4), st.none() | st.ip_addresses(v=6), st.tuples(PORT, PORT, PORT, PORT))
def test_addresses_are_read_back(ip: IPv4Address | None, ip6: IPv6Address | None, ports: tuple[int, ...]) -> None:
    tcp, udp, tcp6, udp6 = ports
    record = sign_record(KEY, 1, address_pairs(ip, ip6, tcp=tcp, udp=udp, tcp6=tcp6, udp6=udp6))

    assert (record.ip, record.ip6, record.tcp, record.udp) == (ip, ip6, tcp, udp)
    assert (record.tcp6, record.udp6) == (tcp6 or tcp, udp6 or udp)


@given(st.binary(max_size=310))
def test_bytes_of_chance_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_record(data)


@given(NESTED, NESTED, st.lists(NESTED, max_size=8))
def test_lists_of_chance_are_refused(signature: Any, seq: Any, rest: list[Any]) -> None:
    with pytest.raises(MalformedMessage):
        decode_record(oracle.encode([signature, seq, *rest]))


@given(NESTED, st.lists(st.tuples(KNOWN | st.binary(max_size=6) | NESTED, NESTED), max_size=6), st.booleans())
def test_signed_nonsense_is_refused_or_valid(seq: Any, pairs: list[tuple[Any, Any]], ordered: bool) -> None:
    """The signature holds, so only the form decides."""
    if ordered:
        own = {b"id": b"v4", b"secp256k1": KEY.public_key.format()}
        names = {name: value for name, value in pairs if isinstance(name, bytes)} | own
        pairs = sorted(names.items())
    content = [seq, *(part for pair in pairs for part in pair)]
    raw = oracle.encode([keys.sign(KEY, keccak256(oracle.encode(content))), *content])
    with suppress(MalformedMessage):
        record = decode_record(raw)
        assert oracle.decode(record.raw)[1:] == content
        look_at(record)


@settings(max_examples=60)
@given(st.data())
def test_a_changed_record_is_refused(data: st.DataObject) -> None:
    record = sign_record(KEY, 7, address_pairs(IPv4Address("1.2.3.4"), tcp=30303, udp=30303))
    changed = bytearray(record.raw)
    position = data.draw(st.integers(0, len(changed) - 1))
    change = data.draw(st.sampled_from(["replace", "insert", "remove"]))
    byte = data.draw(st.integers(0, 255))
    changed[position : position + (change != "insert")] = b"" if change == "remove" else bytes([byte])
    assume(changed != record.raw)

    with pytest.raises(MalformedMessage):
        decode_record(changed)


@given(st.text(max_size=60) | st.binary(max_size=300).map(lambda data: base64.urlsafe_b64encode(data).decode("ascii")))
def test_texts_of_chance_are_explained(text: str) -> None:
    for form in (text, f"enr:{text}", f"enr:{text.rstrip('=')}"):
        with pytest.raises(ConfigError):
            parse_record(form)
