"""Discovery put together, over real sockets on loopback: what we announce, whom we find, what is kept."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from pathlib import Path

import coincurve
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.discovery import dns_resolver
from ethsync.discovery.candidate import Source
from ethsync.discovery.finder import Finder
from ethsync.discovery.identity import KEY_FILE, open_identity
from ethsync.discovery.local_record import Announcement
from ethsync.discovery.node import Endpoint, Node
from ethsync.discovery.options import DiscoveryOptions, boot_nodes
from ethsync.discovery.start import open_discovery
from ethsync.errors import ConfigError
from ethsync.hashing import keccak256
from ethsync.wire import keys
from ethsync.wire.enode import Enode
from ethsync.wire.enr import NodeRecord, address_pairs, sign_record
from ethsync.wire.forkid import ForkId
from tests.oracles.node_lists import link_to, make_list
from tests.unit.discovery.discv5_bench import endpoint, key_number, record_at

LOOPBACK = Endpoint(IPv4Address("127.0.0.1"), 0)
LOOPBACK_6 = Endpoint(IPv6Address("::1"), 0)
EVERYWHERE = Endpoint(IPv4Address(0), 0)
NOW = 1_770_000_000.0
NOTHING = Announcement()
SOURCES = {"v4": Source.DISCV4, "v5": Source.DISCV5}
FORK = ForkId(bytes.fromhex("01020304"), 0)
GIVES_UP = 4.0  # seconds after which both protocols have given up a request, several times over
PATIENCE = 10.0  # real seconds, for what takes a tenth of one


@dataclass
class Ours:
    """Our node at work."""

    finder: Finder
    record: NodeRecord
    found: dict[tuple[Source, bytes], Node]
    news: trio.Event = field(default_factory=trio.Event)

    async def finds(self, source: Source, record: NodeRecord) -> Node:
        with trio.fail_after(PATIENCE):
            while (source, record.node_id) not in self.found:
                self.news = trio.Event()
                await self.news.wait()
        return self.found[source, record.node_id]


def settle(directory: Path, *, opposite: bool) -> None:
    """Make a directory with a key whose id begins with a 1, or a 0.

    So a boot node has all others at a distance of 256, and names each of them to each other at the first question.
    """
    directory.mkdir(exist_ok=True)
    keyring = (keccak256(f"{directory.name} {number}".encode()) for number in count())
    secret = next(each for each in keyring if is_opposite(coincurve.PrivateKey(each)) == opposite)
    file = os.open(directory / KEY_FILE, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(file, secret.hex().encode())
    os.close(file)


def is_opposite(key: coincurve.PrivateKey) -> bool:
    return keys.node_id(keys.identity(key.public_key))[0] < 0x80


@asynccontextmanager
async def looking(
    directory: Path,
    *,
    protocols: Sequence[str] = ("v5",),
    boot: Sequence[str] = (),
    listen: Sequence[Endpoint] = (LOOPBACK,),
    announce: Announcement = NOTHING,
    dns: Sequence[str] = (),
    is_boot_node: bool = False,
) -> AsyncIterator[Ours]:
    settle(directory, opposite=is_boot_node)
    options = DiscoveryOptions(frozenset(protocols), boot, dns, listen, directory, FORK, announce)
    found: dict[tuple[Source, bytes], Node] = {}
    ours: list[Ours] = []

    def note(source: Source, node: Node) -> None:
        found[source, node.node_id] = node
        for each in ours:
            each.news.set()

    async with open_discovery(options, NOW, note) as discovery:
        record = open_identity(directory).record
        assert record is not None
        ours.append(Ours(discovery.finder, record, found))
        yield ours[0]


@pytest.fixture
def quick_clock() -> trio.abc.Clock:
    return MockClock(rate=10)


# What we announce


async def test_bound_to_an_address_we_announce_it_and_our_fork(tmp_path: Path) -> None:
    async with looking(tmp_path) as ours:
        assert (ours.record.ip, ours.record.ip6) == (LOOPBACK.ip, None)
        assert ours.record.udp == ours.record.tcp > 0
        assert ours.record.fork_id == FORK


async def test_bound_everywhere_we_announce_no_address_but_our_ports(tmp_path: Path) -> None:
    async with looking(tmp_path, protocols=(), listen=[EVERYWHERE]) as ours:
        assert (ours.record.ip, ours.record.ip6) == (None, None)
        assert ours.record.udp == ours.record.tcp > 0


async def test_the_announced_address_is_another_than_the_one_we_listen_on(tmp_path: Path) -> None:
    public = Announcement(ip=IPv4Address("8.8.4.4"), tcp=1111, udp=2222)
    async with looking(tmp_path, protocols=(), announce=public) as ours:
        assert (ours.record.ip, ours.record.tcp, ours.record.udp) == (IPv4Address("8.8.4.4"), 1111, 2222)


async def test_of_two_ports_the_one_that_is_not_announced_is_where_we_listen(tmp_path: Path) -> None:
    async with looking(tmp_path, announce=Announcement(tcp=1111)) as ours:
        assert ours.record.tcp == 1111
        assert ours.record.udp not in (0, 1111)


async def test_with_both_ip_versions_each_has_its_address_and_ports(tmp_path: Path) -> None:
    async with looking(tmp_path, listen=[LOOPBACK, LOOPBACK_6]) as ours:
        assert (ours.record.ip, ours.record.ip6) == (LOOPBACK.ip, LOOPBACK_6.ip)
        assert ours.record.udp6 == ours.record.tcp6 > 0
        assert ours.record.udp6 != ours.record.udp > 0


async def test_the_record_is_kept_before_anybody_hears_it_and_stays_the_same_while_nothing_changes(
    tmp_path: Path,
) -> None:
    fixed = Announcement(tcp=1111, udp=2222)
    async with looking(tmp_path, announce=fixed) as first:
        pass
    async with looking(tmp_path, announce=fixed) as second:
        assert second.record == first.record
    async with looking(tmp_path, announce=Announcement(tcp=1111, udp=3333)) as third:
        assert third.record.seq > second.record.seq


# Whom we find


@pytest.mark.parametrize("protocol", SOURCES)
@pytest.mark.parametrize("here", [LOOPBACK, LOOPBACK_6], ids=["IPv4", "IPv6"])
async def test_nodes_that_know_the_same_boot_node_find_each_other(
    protocol: str, here: Endpoint, tmp_path: Path
) -> None:
    async with looking(tmp_path / "boot", protocols=[protocol], listen=[here], is_boot_node=True) as boot:
        begin = [str(boot.record)]
        apart = Announcement(tcp=1111, tcp6=1111)
        async with (
            looking(tmp_path / "a", protocols=[protocol], listen=[here], boot=begin, announce=apart) as first,
            looking(tmp_path / "b", protocols=[protocol], listen=[here], boot=begin, announce=apart) as second,
        ):
            for one, other in ((first, second), (second, first)):
                node = await one.finds(SOURCES[protocol], other.record)
                assert node.record == other.record
                assert node.endpoint.ip == here.ip
                assert (node.tcp_port, node.endpoint.port != 1111) == (1111, True)


async def test_a_node_with_both_ip_versions_brings_those_together_that_have_one(tmp_path: Path) -> None:
    async with looking(tmp_path / "both", listen=[LOOPBACK, LOOPBACK_6], is_boot_node=True) as both:
        key, seq = open_identity(tmp_path / "both").key, both.record.seq
        six = sign_record(key, seq, address_pairs(ip6=IPv6Address("::1"), udp6=both.record.udp6))
        four = sign_record(key, seq, address_pairs(IPv4Address("127.0.0.1"), udp=both.record.udp))
        async with (
            looking(tmp_path / "4", boot=[str(four)]) as first,
            looking(tmp_path / "6", boot=[str(six)], listen=[LOOPBACK_6]) as second,
        ):
            # Each hears of the other, though it cannot ask it.
            assert (await first.finds(Source.DISCV5, second.record)).endpoint.ip == LOOPBACK_6.ip
            assert (await second.finds(Source.DISCV5, first.record)).endpoint.ip == LOOPBACK.ip


async def test_both_protocols_work_on_one_port(tmp_path: Path) -> None:
    every = ["v4", "v5"]
    async with (
        looking(tmp_path / "a", protocols=every) as first,
        looking(tmp_path / "b", protocols=every, boot=[str(first.record)]) as second,
    ):
        for source in SOURCES.values():
            await first.finds(source, second.record)
            await second.finds(source, first.record)
        assert first.finder.counts["of no protocol"] == second.finder.counts["of no protocol"] == 0


async def test_a_boot_node_that_does_not_exist_is_asked_and_nothing_else_happens(
    tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    async with looking(tmp_path / "gone") as gone:
        pass
    async with looking(tmp_path / "a", protocols=["v4", "v5"], boot=[str(gone.record)]) as ours:
        await trio.sleep(GIVES_UP)
        for lane in ours.finder.lanes.values():
            assert sum(number for name, number in lane.counts.items() if name.startswith("unanswered")) > 0
    assert ours.found == {}


async def test_nodes_of_lists_are_handed_on_unless_they_would_be_on_our_own_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, own, unreachable = (
        record_at(key_number(11), endpoint("8.8.8.8")),
        record_at(key_number(12), endpoint("127.0.0.1")),
        sign_record(key_number(13), 1, {}),
    )
    texts = make_list("a.org", [own, unreachable, public])

    async def resolve(name: str) -> list[str]:
        return [texts[name]]

    monkeypatch.setattr(dns_resolver, "open_resolver", lambda: resolve)
    async with looking(tmp_path, protocols=["dns"], dns=[str(link_to("a.org"))]) as ours:
        assert (await ours.finds(Source.DNS, public)).record == public
        await wait_all_tasks_blocked()
        assert len(ours.found) == 1


# Boot nodes


def test_boot_nodes_are_enodes_and_records() -> None:
    record = record_at(key_number(5), endpoint("8.8.8.8"))
    enode = Enode(record.public_key, "8.8.8.8", 30303, 30301)
    first, second = boot_nodes([str(record), str(enode)])
    assert first.record == record
    assert (second.record, second.endpoint, second.tcp_port) == (None, endpoint("8.8.8.8", 30301), 30303)
    assert first.node_id == second.node_id


def test_boot_nodes_that_cannot_be_asked_over_udp_are_passed_over() -> None:
    key = record_at(key_number(5), endpoint("8.8.8.8")).public_key
    no_port = sign_record(key_number(5), 1, address_pairs(IPv4Address("8.8.8.8"), tcp=30303))
    assert list(boot_nodes([str(Enode(key, "8.8.8.8", 30303, 0)), str(no_port)])) == []


@pytest.mark.parametrize("text", ["enr:nothing", "enode://12@1.2.3.4:5", "http://1.2.3.4", ""])
def test_what_is_no_boot_node_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        list(boot_nodes([text]))


async def test_a_key_that_others_may_read_is_refused_before_a_port_is_opened(tmp_path: Path) -> None:
    async with looking(tmp_path):
        pass
    os.chmod(tmp_path / "nodekey", 0o644)
    with pytest.raises(ConfigError, match="nodekey"):
        async with looking(tmp_path):
            pass
