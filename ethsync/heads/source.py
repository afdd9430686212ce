"""Where trusted heads come from: one of three sources, as the user chose it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import trio

from ethsync.heads.head import HeadPhase, TrustedHead

if TYPE_CHECKING:
    from ethsync.discovery.node import Endpoint
    from ethsync.heads.head import HeadFeed
    from ethsync.heads.http_url import HttpUrl
    from ethsync.networks import Network


@dataclass(frozen=True, slots=True)
class FixedHead:
    """One block, followed no further."""

    block_hash: bytes


@dataclass(frozen=True, slots=True)
class BeaconNodes:
    """Consensus clients whose REST API is asked; they must agree."""

    urls: tuple[HttpUrl, ...]


@dataclass(frozen=True, slots=True)
class EngineApi:
    """A consensus client that calls us at this address, with tokens made from this secret of 32 bytes."""

    address: Endpoint
    secret: bytes


HeadSource: TypeAlias = "FixedHead | BeaconNodes | EngineApi"


async def run_head_source(
    source: HeadSource,
    network: Network,
    feed: HeadFeed,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish heads into the feed; until cancelled, except that a fixed head is published once.

    Raises ConfigError, in a group: an address that cannot be used, a beacon node of another chain.
    """
    match source:
        case FixedHead(block_hash):
            feed.publish(TrustedHead(block_hash))
            feed.report(HeadPhase.FIXED, trio.current_time())
            task_status.started()
        case BeaconNodes(urls):
            from ethsync.heads.beacon import run_beacon  # as below: HTTP takes a while to import

            await run_beacon(urls, feed, chain_id=network.chain_id, task_status=task_status)
        case EngineApi(address, secret):
            from ethsync.heads.engine import run_engine

            async with trio.open_nursery() as nursery:
                await nursery.start(functools.partial(run_engine, network, feed, address, secret))
                task_status.started()
