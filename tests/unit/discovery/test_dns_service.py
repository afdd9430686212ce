"""Reading node lists over time: records handed on, waiting for whoever uses them, updates, failures, the cache."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
import trio
import trio.testing

from ethsync.discovery import dns_service
from ethsync.discovery.dns_forest import LOOKUP_BURST, Forest
from ethsync.discovery.dns_service import CACHED_ENTRIES, Reader, run_dns
from ethsync.discovery.dns_sync import LONGEST_ROOT_RETRY, RECHECK
from ethsync.discovery.dns_tree import Link
from ethsync.errors import LookupFailed
from ethsync.wire.enr import NodeRecord
from tests.oracles.node_lists import link_to, make_list, make_records


class Zone:
    """Names and their texts; `asked` is every name in the order of the questions."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.asked: list[str] = []

    async def resolve(self, name: str) -> list[str]:
        self.asked.append(name)
        await trio.sleep(0.02)
        if name not in self.texts:
            raise LookupFailed(f"cannot look up {name}: there is no such name")
        return [self.texts[name]]


async def start(
    nursery: trio.Nursery, zone: Zone, links: Iterable[Link], room: float
) -> tuple[Forest, trio.MemoryReceiveChannel[NodeRecord]]:
    found, records = trio.open_memory_channel[NodeRecord](room)
    forest = await nursery.start(run_dns, list(links), zone.resolve, found, random.Random(1))
    return forest, records


def taken(records: trio.MemoryReceiveChannel[NodeRecord]) -> set[bytes]:
    found: set[bytes] = set()
    while True:
        try:
            found.add(records.receive_nowait().node_id)
        except trio.WouldBlock:
            return found


def ids(records: Iterable[NodeRecord]) -> set[bytes]:
    return {record.node_id for record in records}


async def test_every_record_of_a_list_and_of_those_it_links_to_is_handed_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    records = make_records(30)
    zone = Zone(make_list("a.org", records[:20], [link_to("b.org")]) | make_list("b.org", records[20:]))
    async with trio.open_nursery() as nursery:
        forest, channel = await start(nursery, zone, [link_to("a.org")], 1000)
        await trio.sleep(60)
        assert taken(channel) == ids(records)
        assert forest.settled
        assert len(zone.asked) == len(zone.texts)
        nursery.cancel_scope.cancel()


async def test_while_nobody_takes_records_nothing_is_looked_up(autojump_clock: trio.testing.MockClock) -> None:
    zone = Zone(make_list("a.org", make_records(40)))
    async with trio.open_nursery() as nursery:
        _, channel = await start(nursery, zone, [link_to("a.org")], 2)
        await trio.sleep(600)
        asked = len(zone.asked)
        assert asked <= 10  # the root, some branches, and no more than three records
        await trio.sleep(600)
        assert len(zone.asked) == asked
        await channel.receive()
        await trio.sleep(600)
        assert asked < len(zone.asked) <= asked + 5
        nursery.cancel_scope.cancel()


async def test_reading_ends_when_nobody_listens_any_more(autojump_clock: trio.testing.MockClock) -> None:
    zone = Zone(make_list("a.org", make_records(3)))
    async with trio.open_nursery() as nursery:
        _, channel = await start(nursery, zone, [link_to("a.org")], 1)
        await channel.aclose()
    assert len(zone.asked) < len(zone.texts)


async def test_a_new_version_is_noticed_within_half_an_hour(autojump_clock: trio.testing.MockClock) -> None:
    records = make_records(20)
    zone = Zone(make_list("a.org", records[:10]))
    async with trio.open_nursery() as nursery:
        _, channel = await start(nursery, zone, [link_to("a.org")], 1000)
        await trio.sleep(60)
        assert taken(channel) == ids(records[:10])
        zone.texts = make_list("a.org", records, seq=2)
        await trio.sleep(RECHECK)
        assert taken(channel) == ids(records[10:])
        nursery.cancel_scope.cancel()


async def test_names_that_cannot_be_looked_up_are_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    zone = Zone({})
    async with trio.open_nursery() as nursery:
        forest, channel = await start(nursery, zone, [link_to("a.org")], 1000)
        await trio.sleep(3600)
        assert set(zone.asked) == {"a.org"}
        assert 3600 / LONGEST_ROOT_RETRY <= len(zone.asked) <= 3600 / LONGEST_ROOT_RETRY + 10
        assert forest.trees[link_to("a.org")].trouble == "cannot look up a.org: there is no such name"
        zone.texts = make_list("a.org", make_records(5))
        await trio.sleep(LONGEST_ROOT_RETRY + 10)
        assert len(taken(channel)) == 5
        nursery.cancel_scope.cancel()


async def test_without_lists_it_sleeps(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        await start(nursery, Zone({}), [], 1)
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()


async def test_lookups_are_made_one_at_a_time_and_at_their_rate(autojump_clock: trio.testing.MockClock) -> None:
    records, under_way, most = make_records(40), 0, 0
    zone = Zone(make_list("a.org", records[:20]) | make_list("b.org", records[20:]))

    async def resolve(name: str) -> list[str]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        texts = await zone.resolve(name)
        under_way -= 1
        return texts

    reader = Reader(Forest([link_to("a.org"), link_to("b.org")], random.Random(1)), resolve)
    began = trio.current_time()
    while not reader.forest.settled:
        await reader.read_next()
    assert most == 1
    lookups = len(zone.asked) + 1  # the empty link subtree that both have is kept, but counts
    assert trio.current_time() - began == pytest.approx((lookups - LOOKUP_BURST) / 3, abs=0.1)


async def read(zone: Zone, *links: Link) -> set[bytes]:
    reader = Reader(Forest(links, random.Random(1)), zone.resolve)
    found: set[bytes] = set()
    while not reader.forest.settled:
        found |= ids(await reader.read_next())
    return found


async def test_a_record_in_two_lists_is_looked_up_once(autojump_clock: trio.testing.MockClock) -> None:
    records = make_records(10)
    zone = Zone(make_list("all.org", records) | make_list("snap.org", records[:5]))
    assert await read(zone, link_to("all.org"), link_to("snap.org")) == ids(records)
    entries = [name.partition(".")[0] for name in zone.asked]
    assert len(entries) == len(set(entries)) < len(zone.texts)


async def test_roots_are_never_kept(autojump_clock: trio.testing.MockClock) -> None:
    zone = Zone(make_list("a.org"))
    forest = Forest([link_to("a.org")], random.Random(1))
    reader = Reader(forest, zone.resolve)
    for _ in range(5):
        await reader.read_next()
    assert zone.asked.count("a.org") == 3


async def test_a_text_with_another_hash_than_its_name_is_never_kept(autojump_clock: trio.testing.MockClock) -> None:
    right = make_list("a.org", make_records(1))
    zone = Zone({name: text if not text.startswith("enr:") else "enrtree-branch:" for name, text in right.items()})
    record = next(name for name, text in right.items() if text.startswith("enr:"))

    async def resolve(name: str) -> list[str]:
        texts = await zone.resolve(name)
        zone.texts[record] = right[record]
        return texts if name != record or zone.asked.count(record) > 1 else ["enrtree-branch:"]

    reader = Reader(Forest([link_to("a.org")], random.Random(1)), resolve)
    found: list[NodeRecord] = []
    while not reader.forest.settled:
        found += await reader.read_next()
    assert len(found) == 1
    assert zone.asked.count(record) == 2


async def test_only_so_many_texts_are_kept(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CACHED_ENTRIES == 1000
    monkeypatch.setattr(dns_service, "CACHED_ENTRIES", 3)
    records = make_records(30)
    zone = Zone(make_list("all.org", records) | make_list("snap.org", records))
    assert await read(zone, link_to("all.org"), link_to("snap.org")) == ids(records)
    assert len(zone.asked) >= len(zone.texts) - 10


async def test_whatever_a_resolver_returns_reading_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    rng = random.Random(1)
    right = make_list("a.org", make_records(10))
    answers = ["", "enr:", "enr:-----", "enrtree-branch:", "enrtree://", "enrtree-root:v1", "x" * 60_000, "\u00e4"]

    async def resolve(name: str) -> list[str]:
        await trio.sleep(0.01)
        if rng.random() < 0.3:
            raise LookupFailed(f"cannot look up {name}: no answer in time")
        return [rng.choice(answers) for _ in range(rng.randrange(4))] if rng.random() < 0.5 else [right[name]]

    found: set[bytes] = set()
    reader = Reader(Forest([link_to("a.org")], random.Random(1)), resolve)
    with trio.move_on_after(6 * 3600):
        while len(found) < 10:
            found |= ids(await reader.read_next())
    assert len(found) == 10
