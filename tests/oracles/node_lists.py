"""Node lists to read in tests, and the vectors."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import coincurve

from ethsync.discovery.dns_sync import TreeSync
from ethsync.discovery.dns_tree import Link, build_tree, encode_base32, entry_name
from ethsync.hashing import keccak256
from ethsync.wire.enr import NodeRecord, address_pairs, sign_record

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "dnsdisc" / "lists.json").read_text())
GETH: dict[str, Any] = VECTORS["go-ethereum"]
KEY = coincurve.PrivateKey.from_hex(GETH["signing_key"])
OTHER_KEY = coincurve.PrivateKey(b"\x01" * 32)


def make_records(count: int, *, first: int = 0, seq: int = 1) -> list[NodeRecord]:
    """Records of the nodes number `first` on, each with an address of its own."""
    return [
        sign_record(
            coincurve.PrivateKey(keccak256(f"node {number}".encode())),
            seq,
            address_pairs(IPv4Address(f"192.0.2.{number % 256}"), tcp=30303, udp=30303 + number // 256),
        )
        for number in range(first, first + count)
    ]


def make_list(
    domain: str,
    records: Sequence[NodeRecord] = (),
    links: Sequence[Link] = (),
    *,
    seq: int = 1,
    key: coincurve.PrivateKey = KEY,
) -> dict[str, str]:
    """The texts of a list by name."""
    return build_tree(records, links, domain, key, seq)


def link_to(domain: str, key: coincurve.PrivateKey = KEY) -> Link:
    """Where such a list is."""
    return Link(key.public_key.format(), domain)


def signed(
    records: str, links: str, *, seq: int = 1, key: coincurve.PrivateKey = KEY, domain: str = "n"
) -> dict[str, str]:
    """The texts of a list with these two topmost entries, whatever they are."""
    root = make_list(domain, seq=seq, key=key)[domain]
    for name, text in (("e", records), ("l", links)):
        root = root.replace(f" {name}={entry_name('enrtree-branch:')}", f" {name}={entry_name(text)}")
    return {
        domain: resign(root, key),
        f"{entry_name(records)}.{domain}": records,
        f"{entry_name(links)}.{domain}": links,
    }


def resign(root: str, key: coincurve.PrivateKey = KEY) -> str:
    """The same root, whatever it says, with a signature that holds."""
    body = root.partition(" sig=")[0]
    signature = key.sign_recoverable(keccak256(body.encode()), hasher=None)
    return f"{body} sig={encode_base64url(signature)}"


def encode_base64url(data: bytes) -> str:
    """Base64url without padding, another way than the one under test."""
    return base64.b64encode(data, altchars=b"-_").decode().rstrip("=")


def look_up(sync: TreeSync, zone: Mapping[str, str], now: float) -> list[str]:
    """Answer everything that `sync` asks at this time. Returns the names in the order of the questions."""
    names: list[str] = []
    while (name := sync.next_name(now)) is not None:
        names.append(name)
        if name in zone:
            sync.resolved(name, [zone[name]], now)
        else:
            sync.failed(name, now, f"{name} is missing")
    return names


def short_name(text: str) -> str:
    """An entry's name with the least bytes that are allowed."""
    return encode_base32(keccak256(text.encode())[:12])
