"""Stored headers are read back, and whatever is wrong with them is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ethsync.hashing import keccak256
from ethsync.headers.audit import HeaderFindings, audit_headers
from ethsync.headers.rules import ChainRules
from ethsync.serve.demo_chain import write_chain
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.header_index import page_index_key
from ethsync.store.header_pages import PAGE, build_page
from ethsync.store.headers import HeaderStore
from ethsync.store.schema import FACT_TOP, FORMAT_VERSION, HEADER_PAGE, Format, header_key
from tests.oracles.headers import demo_chain, demo_rules, relinked

RAWS = demo_chain(2 * PAGE + 40)


@pytest.fixture
def datadir(tmp_path: Path) -> Iterator[Datadir]:
    with open_datadir(tmp_path / "data", Format(FORMAT_VERSION, "test", 1, "0x00")) as opened:
        write_chain(opened.headers, RAWS)
        yield opened


def audited(datadir: Datadir, rules: ChainRules | None = None) -> HeaderFindings:
    shares: list[float] = []
    found = audit_headers(HeaderStore(datadir.headers), rules or demo_rules(), shares.append)
    assert shares == sorted(shares)
    assert shares[-1:] in ([], [1.0])
    return found


def test_a_sound_chain_has_no_problems(datadir: Datadir) -> None:
    found = audited(datadir)
    assert found == HeaderFindings(len(RAWS), sum(map(len, RAWS)), [])


def test_nothing_stored_is_nothing_wrong(tmp_path: Path) -> None:
    with open_datadir(tmp_path / "data", Format(FORMAT_VERSION, "test", 1, "0x00")) as opened:
        assert audited(opened) == HeaderFindings()


def put_page(datadir: Datadir, raws: list[bytes]) -> None:
    """Replace a page, but not its marker."""
    marker, page, _ = build_page(raws)
    datadir.headers.put(header_key(marker.first, HEADER_PAGE), page)


def test_a_page_of_other_headers_is_found(datadir: Datadir) -> None:
    put_page(datadir, demo_chain(2 * PAGE, seed=2)[PAGE:])
    problems = audited(datadir).problems
    assert f"header {PAGE} does not name header {PAGE - 1} as its parent" in problems
    assert f"header {2 * PAGE} does not name header {2 * PAGE - 1} as its parent" in problems
    assert f"header {PAGE} is not found by its hash" in problems


def test_a_changed_header_is_found(datadir: Datadir) -> None:
    changed = RAWS[500][:300] + bytes([RAWS[500][300] ^ 1]) + RAWS[500][301:]
    put_page(datadir, [*RAWS[:500], changed, *RAWS[501:PAGE]])
    assert audited(datadir).problems == [f"the headers from 0 to {PAGE - 1} do not hang together"]


def test_a_header_that_breaks_a_rule_is_found(datadir: Datadir) -> None:
    raws = relinked(RAWS[:PAGE], 7, gas_used=2**62)
    put_page(datadir, raws)
    assert "header 7 used more gas than its limit" in audited(datadir).problems


def test_damaged_and_missing_pages_are_found(datadir: Datadir) -> None:
    datadir.headers.put(header_key(PAGE, HEADER_PAGE), b"\x01")
    assert audited(datadir).problems == [f"the page of headers from {PAGE} on is damaged"]
    batch = datadir.headers.batch()
    batch.delete(header_key(PAGE, HEADER_PAGE))
    datadir.headers.commit(batch)
    assert audited(datadir).problems == [f"the headers from {PAGE} to {2 * PAGE - 1} cannot be read"]


def test_a_hole_in_the_index_is_found(datadir: Datadir) -> None:
    batch = datadir.headers.batch()
    batch.delete(page_index_key(0))
    datadir.headers.commit(batch)
    assert audited(datadir).problems == [f"header {number} is not found by its hash" for number in (0, PAGE - 1)]


def test_another_genesis_and_another_top_are_found(datadir: Datadir) -> None:
    other = ChainRules(demo_rules().schedule, b"\x01" * 32)
    assert audited(datadir, other).problems == ["header 0 is not the genesis of this network"]
    store = HeaderStore(datadir.headers)
    assert store.top is not None
    top = store.top.number
    # A top whose hash no header has: nothing hangs on it, so nothing is shown, and that is said.
    datadir.headers.put(FACT_TOP, top.to_bytes(8, "big") + keccak256(b"none"))
    assert len(audited(datadir).problems) == 1
