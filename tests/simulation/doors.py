"""What happens behind the doors of the simulated network: RLPx up to Status, and no data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address

import trio

from ethsync.discovery.node import Endpoint
from ethsync.errors import DisconnectReason, HandshakeFailed, PeerError
from ethsync.peers.greeting import OFFERED, ChainView, our_status
from ethsync.rlpx.connection import accept_connection
from ethsync.wire import keys
from ethsync.wire.eth import EthMessage
from ethsync.wire.p2p import Hello
from ethsync.wire.status import encode_status
from tests.simulation.roads import MemoryStream, refused
from tests.simulation.world import HEAD, Citizen, Door, World

CLIENTS = ("Geth", "Nethermind", "besu", "reth", "erigon")


def welcome(world: World) -> Callable[[str, int], Awaitable[Callable[[MemoryStream], Awaitable[None]]]]:
    """What the nodes of a world do when they are dialled, for `Roads`."""

    async def answer(host: str, port: int) -> Callable[[MemoryStream], Awaitable[None]]:
        citizen = world.at.get(Endpoint(IPv4Address(host), port))
        if citizen is None or citizen.door is Door.SILENT:
            await trio.sleep_forever()
        assert citizen is not None
        if citizen.door is Door.REFUSED:
            raise refused()
        return partial(_be_dialled, world, citizen)

    return answer


async def _be_dialled(world: World, citizen: Citizen, stream: MemoryStream) -> None:
    if citizen.door is Door.RUDE:
        await stream.aclose()
        return
    client = f"{CLIENTS[citizen.number % len(CLIENTS)]}/v1.0.0/simulated"
    hello = Hello(client, OFFERED, keys.identity(citizen.key.public_key))
    network = replace(world.network, network_id=7) if citizen.door is Door.OTHER_CHAIN else world.network
    try:
        async with accept_connection(stream, key=citizen.key, hello=hello) as connection:
            if citizen.door is Door.FULL:
                raise HandshakeFailed("full", reason=DisconnectReason.TOO_MANY_PEERS)
            status = our_status(connection.capabilities["eth"].version, ChainView(network, *HEAD))
            await connection.send("eth", EthMessage.STATUS, encode_status(status))
            while True:
                await connection.receive()
    except* PeerError:
        pass
