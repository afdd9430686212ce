"""Discovery put together: identity and record, the protocols that are wanted, boot nodes, lists, and the service."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.address_vote import AddressVote
from ethsync.discovery.addresses import is_loopback
from ethsync.discovery.announcer import Announcer
from ethsync.discovery.candidate import Source
from ethsync.discovery.discv4 import Discv4
from ethsync.discovery.discv5 import Discv5
from ethsync.discovery.finder import Finder
from ethsync.discovery.identity import open_identity, save_identity
from ethsync.discovery.lane import Lane
from ethsync.discovery.local_record import Announcement, LocalRecord
from ethsync.discovery.node import node_of_record
from ethsync.discovery.options import boot_nodes
from ethsync.discovery.service import run_discovery
from ethsync.discovery.table import Table
from ethsync.discovery.udp import Sockets, open_sockets
from ethsync.wire.enr import NodeRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ethsync.discovery.identity import Identity
    from ethsync.discovery.node import Node
    from ethsync.discovery.options import DiscoveryOptions
    from ethsync.discovery.protocol import DiscoveryProtocol

DNS_QUEUE = 16
"""Records of DNS lists that wait to be taken: they are looked up as fast as they are used."""

SOURCES = {"discv4": Source.DISCV4, "discv5": Source.DISCV5}


@dataclass(frozen=True, slots=True)
class Discovery:
    """Discovery at work: who finds nodes, and who tells others of us."""

    finder: Finder
    announcer: Announcer


@asynccontextmanager
async def open_discovery(
    options: DiscoveryOptions, wall_time: float, found: Callable[[Source, Node], None]
) -> AsyncIterator[Discovery]:
    """Look for nodes inside the block; `found` is called with each. `wall_time`: now, in Unix seconds.

    Raises ConfigError, StoreError.
    """
    identity = await trio.to_thread.run_sync(open_identity, options.directory)
    async with open_sockets(options.listen) as sockets, trio.open_nursery() as nursery:
        ours = _local_record(options, identity, sockets, wall_time)
        await trio.to_thread.run_sync(save_identity, options.directory, ours.record, identity.seen)
        finder = _finder(options, identity, ours.record)
        vote = AddressVote(max((each.port for each in sockets.bound), default=0), _announced(options.announce))
        announcer = Announcer(ours, vote, options.directory, finder.set_record)

        def hand_on(protocol: str, node: Node) -> None:
            found(SOURCES[protocol], node)

        await nursery.start(run_discovery, finder, sockets, hand_on, announcer.address_seen)
        nursery.start_soon(announcer.run)
        if "dns" in options.protocols and options.dns:
            nursery.start_soon(_run_lists, options.dns, found)
        yield Discovery(finder, announcer)
        nursery.cancel_scope.cancel()


def _announced(announce: Announcement) -> list[int]:
    return [version for version, ip in ((4, announce.ip), (6, announce.ip6)) if ip is not None]


def _local_record(options: DiscoveryOptions, identity: Identity, sockets: Sockets, wall_time: float) -> LocalRecord:
    """What is announced: what the user said, else the address that we are bound to if it is one of its own."""
    announcement = replace(options.announce, fork_id=options.fork_id)
    for endpoint in sockets.bound:
        if isinstance(endpoint.ip, IPv4Address):
            announcement = replace(
                announcement, tcp=announcement.tcp or endpoint.port, udp=announcement.udp or endpoint.port
            )
            if announcement.ip is None and not endpoint.ip.is_unspecified:
                announcement = replace(announcement, ip=endpoint.ip)
        elif isinstance(endpoint.ip, IPv6Address):
            announcement = replace(
                announcement, tcp6=announcement.tcp6 or endpoint.port, udp6=announcement.udp6 or endpoint.port
            )
            if announcement.ip6 is None and not endpoint.ip.is_unspecified:
                announcement = replace(announcement, ip6=endpoint.ip)
    return LocalRecord(identity.key, announcement, identity.record, wall_time)


def _finder(options: DiscoveryOptions, identity: Identity, record: NodeRecord) -> Finder:
    rng = random.Random()
    entries = list(boot_nodes(options.boot_nodes))
    lanes: dict[str, Lane] = {}
    if "v4" in options.protocols:
        table = Table(record.node_id, rng)
        protocol: DiscoveryProtocol = Discv4(identity.key, record, table)
        lanes["discv4"] = Lane(protocol, table, entries, rng, needs_records=True, public_key=record.public_key)
    if "v5" in options.protocols:
        table = Table(record.node_id, rng)
        protocol = Discv5(identity.key, record, table)
        lanes["discv5"] = Lane(protocol, table, entries, rng, needs_records=False)
    return Finder(lanes)


async def _run_lists(links: Sequence[str], found: Callable[[Source, Node], None]) -> None:
    # Only here: dnspython takes a while to import, and not every command looks names up.
    from ethsync.discovery.dns_resolver import open_resolver
    from ethsync.discovery.dns_service import run_dns
    from ethsync.discovery.dns_tree import parse_link

    send, receive = trio.open_memory_channel[NodeRecord](DNS_QUEUE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_dns, [parse_link(link) for link in links], open_resolver(), send, random.Random())
        async for record in receive:
            node = node_of_record(record)
            if node is not None and not is_loopback(node.endpoint.ip):
                found(Source.DNS, node)
