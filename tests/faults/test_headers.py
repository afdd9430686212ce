"""Headers over real sockets: from honest, odd and lying servers, through kills and heads that move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.counters import Counters
from ethsync.hashing import keccak256
from ethsync.headers.chain import RECENT
from ethsync.headers.service import open_header_chain
from ethsync.serve.demo import demo_network
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.headers import HeaderStore
from ethsync.store.schema import FACT_TOP
from ethsync.wire.headers import decode_header
from tests.faults.header_runs import download_all, downloading, format_of, killed_after, stored
from tests.faults.states import opened
from tests.faults.syncing import open_hosts

LENGTH = 9_000
"""Eight pages and a part of one; all but the first page below the head may be asked for by number."""

PAGE = 1024


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path = tmp_path_factory.mktemp("chain") / "state"
    create_synthetic(SyntheticSpec(accounts=20, headers=LENGTH), path)
    with opened(path) as view:
        yield view


@pytest.fixture(scope="module")
def raws(chain: StateView) -> list[bytes]:
    store = HeaderStore(chain.datadir.headers)
    return [store.raw(number) or b"" for number in range(LENGTH + 1)]


async def test_all_headers_back_to_the_genesis_are_stored(chain: StateView, raws: list[bytes], tmp_path: Path) -> None:
    async with open_hosts(chain, "geth") as (host,):
        download = await download_all(tmp_path / "d", [host.server.enode], chain.header)
    assert stored(tmp_path / "d") == raws
    # Nothing came twice, and the counters say so.
    assert host.watch.headers == LENGTH
    counters = download.chain.counters
    assert (counters.items, counters.owed, counters.in_flight) == (LENGTH + 1, 0, 0)
    assert counters.bytes == sum(map(len, raws[:-1]))
    assert counters.started is not None
    assert counters.ended is not None
    assert counters.started <= counters.ended


async def test_stored_headers_are_found_by_number_and_by_hash(
    chain: StateView, raws: list[bytes], tmp_path: Path
) -> None:
    async with open_hosts(chain, "geth") as (host,):
        await download_all(tmp_path / "d", [host.server.enode], chain.header)
    with open_datadir(tmp_path / "d") as datadir:
        store = HeaderStore(datadir.headers)
        for number in (0, 1, PAGE - 1, PAGE, 5000, LENGTH - 1, LENGTH):
            header = store.header(number)
            assert header == decode_header(raws[number])
            assert store.by_hash(keccak256(raws[number])) == header
        assert store.header(LENGTH + 1) is None
        assert store.by_hash(b"\x01" * 32) is None


async def test_recent_headers_only(chain: StateView, raws: list[bytes], tmp_path: Path) -> None:
    async with open_hosts(chain, "geth") as (host,):
        await download_all(tmp_path / "d", [host.server.enode], chain.header, floor=5 * PAGE)
        assert stored(tmp_path / "d") == raws[5 * PAGE :]
        # Whoever looks at the directory knows that none are missing.
        with open_datadir(tmp_path / "d") as datadir:
            assert HeaderStore(datadir.headers).missing == 0
        # Whoever wants all of them later goes on from there.
        await download_all(tmp_path / "d", [host.server.enode], chain.header)
    assert stored(tmp_path / "d") == raws
    assert host.watch.headers == LENGTH


def test_after_a_restart_recent_headers_are_those_below_the_stored_head(tmp_path: Path) -> None:
    # Given a run that was killed when it knew a head and had no pivot yet
    with open_datadir(tmp_path / "d", format_of(demo_network())) as datadir:
        datadir.headers.put(FACT_TOP, (20 * PAGE + 5).to_bytes(8, "big") + bytes(32))
        # Then another one does not want all headers.
        assert open_header_chain(datadir, demo_network(), Counters(), None).left == RECENT + 6
        assert open_header_chain(datadir, demo_network(), Counters()).left == 20 * PAGE + 6


@pytest.mark.parametrize(
    "odd",
    ["few-headers", "no-headers", "silent-about-headers", "header-gap", "headers-upside-down", "too-many-headers",
     "changed-header", "undecodable-headers", "other-chain", "wrong-id"],
)  # fmt: skip
async def test_one_honest_peer_is_enough(
    odd: str, chain: StateView, raws: list[bytes], tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    async with open_hosts(chain, odd, "geth", odd) as hosts:
        enodes = [host.server.enode for host in hosts]
        download = await download_all(tmp_path / "d", enodes, chain.header)
    assert stored(tmp_path / "d") == raws
    # And nobody blamed it.
    assert enodes[1].public_key not in download.pool.dropped


async def test_a_stingy_peer_alone_gets_there(chain: StateView, raws: list[bytes], tmp_path: Path) -> None:
    async with open_hosts(chain, "few-headers") as (host,):
        await download_all(tmp_path / "d", [host.server.enode], chain.header, floor=7 * PAGE)
    assert stored(tmp_path / "d") == raws[7 * PAGE :]
    assert host.watch.headers == LENGTH - 7 * PAGE


@pytest.mark.parametrize("seed", range(3))
async def test_killed_at_any_write_nothing_is_lost_or_fetched_again(
    seed: int, chain: StateView, raws: list[bytes], tmp_path: Path
) -> None:
    rng = Random(seed)
    kills = 0
    async with open_hosts(chain, "geth") as (host,):
        enodes = [host.server.enode]
        while await killed_after(tmp_path / "d", enodes, chain.header, rng.randrange(1, 5)):
            kills += 1
            # What a new process finds hangs together down from the head.
            found = stored(tmp_path / "d")
            assert found == raws[LENGTH + 1 - len(found) :]
    assert stored(tmp_path / "d") == raws
    assert kills > 1
    # In flight were two requests of a page at the most, and as many pages may have been in parts.
    assert host.watch.headers <= LENGTH + kills * 4 * PAGE


async def test_a_head_that_moves_on_is_followed_while_the_past_is_fetched(
    chain: StateView, raws: list[bytes], tmp_path: Path
) -> None:
    heads = [decode_header(raws[number]) for number in (6_500, 6_501, 6_620, 8_700, LENGTH)]
    async with open_hosts(chain, "geth") as (host,):
        with open_datadir(tmp_path / "d", format_of(demo_network())) as datadir:
            async with downloading(datadir, [host.server.enode], heads[0]) as download:
                for head in heads[1:]:
                    while download.chain.store.low > heads[0].number - 500:
                        await download.changes.next().wait()
                    low = download.chain.store.low
                    download.chain.follow(head)
                    download.changes.ring()
                    assert download.chain.store.low == low
                with trio.fail_after(20):
                    await download.finished.wait()
    assert stored(tmp_path / "d") == raws
    assert host.watch.headers <= LENGTH


async def test_an_old_head_and_a_known_one_change_nothing(chain: StateView, raws: list[bytes], tmp_path: Path) -> None:
    async with open_hosts(chain, "geth") as (host,):
        await download_all(tmp_path / "d", [host.server.enode], chain.header)
        for number in (LENGTH, LENGTH - 1, 3):
            await download_all(tmp_path / "d", [host.server.enode], decode_header(raws[number]))
    assert stored(tmp_path / "d") == raws
    assert host.watch.headers == LENGTH
