"""Heads from a consensus client that drives us through the Engine API."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.udp import endpoint_of
from ethsync.errors import ConfigError
from ethsync.heads.engine_methods import Engine
from ethsync.heads.eth_methods import EthMethods
from ethsync.heads.fork_windows import fork_times
from ethsync.heads.head import HeadPhase
from ethsync.heads.http_server import Service, run_http_server
from ethsync.heads.json_rpc import answer
from ethsync.heads.jwt import check_authorization

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.discovery.node import Endpoint
    from ethsync.heads.head import HeadFeed
    from ethsync.networks import Network

SILENCE = 120.0
"""Seconds without a call after which the consensus client counts as lost: it calls every slot of 12 s, and at least
every minute where nothing happens."""


@dataclass(slots=True)
class Calls:
    """When the consensus client last called, in seconds of trio's clock."""

    last: float = field(default_factory=trio.current_time)


async def run_engine(
    network: Network,
    feed: HeadFeed,
    address: Endpoint,
    secret: bytes,
    *,
    wall_clock: Callable[[], float] = time.time,
    task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the Engine API until cancelled; publish the heads that come in. Reports where it listens.

    `secret` has 32 bytes; `wall_clock` gives seconds since 1970, for tokens. Raises ConfigError if the address cannot
    be used.
    """
    calls = Calls()
    methods = {
        **EthMethods(feed, network).methods(),
        **Engine(feed, fork_times(network), wall_clock).methods(),
    }

    async def answer_call(body: bytes) -> bytes:
        calls.last = trio.current_time()
        return await answer(body, methods)

    service = Service(lambda header: check_authorization(header, secret, wall_clock()), answer_call)
    try:
        listeners = await trio.open_tcp_listeners(address.port, host=str(address.ip))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on TCP {address}: {error.strerror or error}", hint="choose another address with --authrpc"
        ) from error
    bound = endpoint_of(listeners[0].socket.getsockname())
    feed.report(HeadPhase.WAITING, trio.current_time(), f"no consensus client has called {bound} yet")
    async with trio.open_nursery() as nursery:
        await nursery.start(run_http_server, service, listeners)
        task_status.started(bound)
        await _watch(calls, feed)


async def _watch(calls: Calls, feed: HeadFeed) -> None:
    """Say when the consensus client has been silent for long. What it does is said where it does it."""
    while True:
        seen = calls.last
        await trio.sleep_until(seen + SILENCE)
        if calls.last == seen:
            phase = HeadPhase.WAITING if feed.head is None else HeadPhase.LOST
            feed.report(phase, trio.current_time(), f"the consensus client has not called for {SILENCE:.0f} s")
            calls.last = trio.current_time()
