"""Whatever a DNS answer says, reading a node list returns a value, raises an error of ours, or waits; it never grows
without bound. And every list that we can write, we can read."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.discovery.dns_subtree import MOST_LINK_ENTRIES, MOST_RECORD_ENTRIES
from ethsync.discovery.dns_sync import TreeSync
from ethsync.discovery.dns_tree import (
    Branch,
    Link,
    Root,
    decode_base32,
    decode_entry,
    decode_name,
    decode_root,
    encode_base32,
    entry_name,
    is_named,
    parse_link,
)
from ethsync.errors import ConfigError, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire.enr import NodeRecord
from tests.oracles.node_lists import GETH, KEY, link_to, look_up, make_list, make_records, resign, short_name, signed

RECORDS = make_records(60)
LINKS = [link_to(f"{number}.example.org") for number in range(30)]
VALID = [*GETH["tree"].values(), *GETH["entries"]["valid"]]

NAMES = st.sampled_from([entry_name(str(number)) for number in range(30)] + [short_name(str(n)) for n in range(30)])
BRANCHES = st.lists(NAMES, max_size=20).map(lambda names: "enrtree-branch:" + ",".join(names))


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A valid text with some characters changed, left out or repeated."""
    text: str = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=3)) + text[at + draw(st.integers(0, 2)) :]
    return text


TEXTS = st.one_of(damaged(), st.text(max_size=60), BRANCHES, st.sampled_from(["enr:", "enrtree://", "enrtree-root:v1"]))

DECODERS: dict[str, Callable[[str], object]] = {
    "link": parse_link,
    "root": partial(decode_root, public_key=KEY.public_key.format()),
    "entry": decode_entry,
    "name": decode_name,
    "base32": decode_base32,
}


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
@given(text=TEXTS)
def test_no_text_makes_a_decoder_fail_otherwise_than_by_an_error_of_ours(
    decoder: Callable[[str], object], text: str
) -> None:
    with suppress(MalformedMessage, ConfigError):
        decoder(text)


@given(text=TEXTS)
def test_what_was_read_is_what_was_written(text: str) -> None:
    with suppress(MalformedMessage):
        entry = decode_entry(text)
        if isinstance(entry, Branch):
            assert text == "enrtree-branch:" + ",".join(entry.children)
        elif isinstance(entry, NodeRecord):
            assert text.rstrip("=") == str(entry)
        else:
            assert decode_entry(str(entry)) == entry


@given(data=st.binary(max_size=40))
def test_base32_is_that_of_the_standard_library_without_padding(data: bytes) -> None:
    encoded = encode_base32(data)
    assert encoded == base64.b32encode(data).decode().rstrip("=")
    assert decode_base32(encoded) == data


@given(text=TEXTS, cut=st.integers(12, 32))
def test_a_text_is_at_its_hash_however_short_and_no_other_text_is(text: str, cut: int) -> None:
    name = encode_base32(keccak256(text.encode())[:cut])
    assert is_named(text, name)
    assert not is_named(text + " ", name)


@given(seq=st.integers(0, 2**64 - 1), records=BRANCHES, links=BRANCHES)
def test_every_root_that_is_signed_is_read(seq: int, records: str, links: str) -> None:
    texts = signed(records, links, seq=seq)
    assert decode_root(texts["n"], KEY.public_key.format()) == Root(entry_name(records), entry_name(links), seq)


@settings(max_examples=40, deadline=None)
@given(
    records=st.lists(st.sampled_from(RECORDS), unique_by=lambda record: record.node_id),
    links=st.lists(st.sampled_from(LINKS), unique=True),
    seed=st.integers(0, 2**32),
)
def test_every_list_that_we_write_we_read(records: list[NodeRecord], links: list[Link], seed: int) -> None:
    zone, sync = make_list("n", records, links), TreeSync(link_to("n"), random.Random(seed))
    look_up(sync, zone, 0.0)
    assert sorted(record.raw for record in sync.records()) == sorted(record.raw for record in records)
    assert set(sync.links) == set(links)
    assert sync.settled


@settings(max_examples=40, deadline=None)
@given(
    versions=st.lists(st.sets(st.integers(0, 59)), min_size=1, max_size=5),
    steps=st.lists(st.integers(0, 80), min_size=5, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_however_often_a_list_changes_while_it_is_read_its_last_version_is_found(
    versions: list[set[int]], steps: list[int], seed: int
) -> None:
    sync, now, found = TreeSync(link_to("n"), random.Random(seed)), 0.0, set[bytes]()
    for seq, (members, most) in enumerate(zip(versions, steps, strict=False)):
        zone = make_list("n", [RECORDS[number] for number in sorted(members)], seq=seq)
        for _ in range(most if seq < len(versions) - 1 else 1000):
            name = sync.next_name(now)
            if name is None:
                break
            sync.resolved(name, [zone.get(name, "")], now)
        found |= {record.node_id for record in sync.records()}
        now += 1800.0
    assert found >= {RECORDS[number].node_id for number in versions[-1]}
    assert sync.settled


@settings(max_examples=60, deadline=None)
@given(
    tops=st.lists(st.tuples(TEXTS.filter(str.isascii), TEXTS.filter(str.isascii)), min_size=1, max_size=4),
    answers=st.lists(st.none() | st.lists(TEXTS, max_size=3), max_size=30),
    waits=st.lists(st.floats(0, 4000), min_size=60, max_size=60),
)
def test_no_answers_make_the_sync_fail_or_grow(
    tops: list[tuple[str, str]], answers: list[list[str] | None], waits: list[float]
) -> None:
    """The root is signed, so that an owner's own texts are tried too."""
    sync, now, pending = TreeSync(link_to("n"), random.Random(1)), 0.0, list(answers)
    for number, wait in enumerate(waits):
        now += wait
        name = sync.next_name(now)
        if name is None:
            assert sync.deadline > now
            continue
        zone = signed(*tops[number % len(tops)], seq=number)
        if name in zone:
            sync.resolved(name, [zone[name] if name != "n" else resign(zone[name])], now)
        elif pending and (texts := pending.pop()) is not None:
            sync.resolved(name, texts, now)
        else:
            sync.failed(name, now, "no such name")
        assert len(sync.links) <= MOST_LINK_ENTRIES
        assert sum(half.unresolved + len(half) for half in sync.halves) <= MOST_LINK_ENTRIES + MOST_RECORD_ENTRIES + 2
