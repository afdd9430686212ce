"""The chain below a synthetic state, and how it is served out of its pages."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from ethsync.headers.audit import audit_headers
from ethsync.headers.rules import chain_rules
from ethsync.serve.blocks import HeaderChain, held_chain
from ethsync.serve.demo import demo_network
from ethsync.serve.demo_chain import demo_headers, write_demo_chain
from ethsync.state.view import StateView
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.headers import HeaderStore
from ethsync.store.schema import FACT_DEPTH, FACT_PIVOT, FORMAT_VERSION, Format, header_key
from ethsync.wire.eth import GetBlockHeaders
from ethsync.wire.headers import Header, build_header, decode_header
from tests.oracles.headers import eels_hash, eels_header

ROOT = b"\x05" * 32
LENGTH = 2_100


@pytest.fixture
def datadir(tmp_path: Path) -> Iterator[Datadir]:
    with open_datadir(tmp_path / "data", Format(FORMAT_VERSION, "demo", 1, "0x00")) as opened:
        yield opened


@pytest.fixture
def chain(datadir: Datadir) -> HeaderChain:
    head = write_demo_chain(datadir.headers, ROOT, 1, LENGTH)
    return HeaderChain([head], head, HeaderStore(datadir.headers))


def test_it_is_a_chain_of_cancun_headers_from_the_genesis_on() -> None:
    headers = [decode_header(raw) for raw in demo_headers(1, 300)]
    assert headers[0].hash == demo_network().genesis_hash
    for parent, child in itertools.pairwise(headers):
        assert (child.number, child.parent_hash) == (parent.number + 1, parent.hash)
    assert eels_hash(eels_header("cancun", headers[-1].raw)) == headers[-1].hash
    # It depends on the seed and nothing else.
    assert list(demo_headers(1, 5)) == [header.raw for header in headers[:5]]
    assert list(demo_headers(2, 5)) != [header.raw for header in headers[:5]]


@pytest.mark.parametrize("length", [1, 1022, 1023, 1024, 2048])
def test_a_chain_of_any_length_is_sound_and_ends_with_the_state(length: int, datadir: Datadir) -> None:
    head = write_demo_chain(datadir.headers, ROOT, 1, length)
    assert (head.number, head.state_root) == (length, ROOT)
    store = HeaderStore(datadir.headers)
    assert store.header(length) == head
    findings = audit_headers(store, chain_rules(demo_network()), lambda share: None)
    assert (findings.headers, findings.problems) == (length + 1, [])


def selected(chain: HeaderChain, request: GetBlockHeaders) -> list[Header]:
    return [decode_header(raw) for raw in chain.select(request)]


@pytest.mark.parametrize(
    ("origin", "limit", "skip", "reverse", "numbers"),
    [
        (LENGTH, 2_000, 0, True, range(LENGTH, LENGTH - 1024, -1)),
        (1_030, 20, 0, True, range(1_030, 1_010, -1)),  # across two pages
        (1_010, 20, 0, False, range(1_010, 1_030)),
        (3, 10, 0, True, range(3, -1, -1)),  # no further than the genesis
        (LENGTH - 2, 10, 0, False, range(LENGTH - 2, LENGTH + 1)),
        (0, 5, 499, False, range(0, 2_001, 500)),
        (LENGTH + 1, 5, 0, True, ()),
        (2**63, 5, 0, True, ()),
    ],
)
@pytest.mark.parametrize("by_hash", [False, True])
def test_headers_are_served_out_of_pages(
    origin: int, limit: int, skip: int, reverse: bool, numbers: range, by_hash: bool, chain: HeaderChain
) -> None:
    found = selected(chain, GetBlockHeaders(1, origin, 1))
    start = found[0].hash if by_hash and found else (b"\x01" * 32 if by_hash else origin)
    headers = selected(chain, GetBlockHeaders(1, start, limit, skip, reverse))
    assert [header.number for header in headers] == list(numbers)


def test_headers_that_hang_on_nothing_are_served_beside_the_chain(datadir: Datadir) -> None:
    # Given the state of a block, the chain below it, and a header of another branch that was kept for itself
    head = write_demo_chain(datadir.headers, ROOT, 1, 40)
    stray = build_header(number=50, extra_data=b"elsewhere")
    datadir.headers.put(header_key(stray.number), stray.raw)
    datadir.accounts.put(FACT_PIVOT, head.raw)
    datadir.accounts.put(FACT_DEPTH, b"\x01")
    view = StateView(datadir)
    # then all of them are served,
    chain = held_chain(view)
    assert selected(chain, GetBlockHeaders(1, stray.hash, 1)) == [stray]
    assert [header.number for header in selected(chain, GetBlockHeaders(1, head.hash, 50, reverse=True))] == [
        *range(40, -1, -1)
    ]
    # and only the one that the store of headers has not looked into is decoded for that.
    assert list(view.headers(HeaderStore(datadir.headers).singles)) == [stray]
