"""enode URLs as people paste them."""

from __future__ import annotations

import pytest

from ethsync.errors import ConfigError
from ethsync.wire.enode import Enode, parse_enode

# go-ethereum, p2p/enode/urlv4_test.go
KEY = (
    "1dd9d65c4552b5eb43d5ad55a2ee3f56c6cbc1c64a5c8d659f51fcd51bace243"
    "51232b8d7821617d2b29b54b81cdefb9b3e9c37d7fd5f63270bcc9e1a6f6a439"
)


@pytest.mark.parametrize(
    ("text", "host", "tcp", "udp"),
    [
        (f"enode://{KEY}@127.0.0.1:52150", "127.0.0.1", 52150, 52150),
        (f"enode://{KEY}@127.0.0.1:52150?discport=22334", "127.0.0.1", 52150, 22334),
        (f"enode://{KEY}@127.0.0.1:52150?discport=0", "127.0.0.1", 52150, 0),
        (f"enode://{KEY}@[2001:db8:3c4d:15::abcd:ef12]:52150", "2001:db8:3c4d:15::abcd:ef12", 52150, 52150),
        (f"enode://{KEY}@node.example.org:30303", "node.example.org", 30303, 30303),
    ],
)
def test_a_url_is_parsed_and_printed_again(text: str, host: str, tcp: int, udp: int) -> None:
    node = parse_enode(text)
    assert node == Enode(bytes.fromhex(KEY), host, tcp, udp)
    assert str(node) == text


def test_space_around_a_url_and_capital_digits_do_no_harm() -> None:
    assert parse_enode(f"  enode://{KEY.upper()}@127.0.0.1:1\n").public_key.hex() == KEY


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not begin with enode"),
        (f"http://{KEY}@127.0.0.1:1", "does not begin with enode"),
        ("enr:-IS4QHCYrYZbAKW", "does not begin with enode"),
        (f"enode://{KEY}", "without host or port"),
        (f"enode://{KEY}@127.0.0.1", "without host or port"),
        (f"enode://{KEY}@:30303", "without host or port"),
        (f"enode://{KEY}@127.0.0.1:0", "without host or port"),
        (f"enode://{KEY}@127.0.0.1:99999", "not a node address"),
        (f"enode://{KEY}@127.0.0.1:port", "not a node address"),
        (f"enode://{KEY}@[::1:30303", "not a node address"),
        ("enode://01@127.0.0.1:30303", "not 128 hex digits"),
        (f"enode://{'z' * 128}@127.0.0.1:30303", "not 128 hex digits"),
        (f"enode://{KEY[:-1]}8@127.0.0.1:30303", "not a point"),
        (f"enode://{'ff' * 64}@127.0.0.1:30303", "not a point"),
        (f"enode://{'00' * 64}@127.0.0.1:30303", "not a point"),
        (f"enode://{KEY}@127.0.0.1:1?discport=foo", "bad discport"),
        (f"enode://{KEY}@127.0.0.1:1?discport=65536", "bad discport"),
        (f"enode://{KEY}@127.0.0.1:1?discport=-1", "bad discport"),
    ],
)
def test_a_broken_url_is_explained(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_enode(text)
