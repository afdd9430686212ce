"""RLPx in the simulated network, up to Status and no data: what happens when a citizen is dialled, or dials us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address

import trio

from ethsync.discovery.node import Endpoint
from ethsync.errors import DisconnectReason, HandshakeFailed, PeerError
from ethsync.networks import Network
from ethsync.peers.greeting import OFFERED, ChainView, our_status
from ethsync.rlpx.connection import Connection, accept_connection, open_connection
from ethsync.wire.eth import EthMessage
from ethsync.wire.p2p import Hello
from ethsync.wire.status import encode_status
from tests.simulation.roads import OUR_ADDRESS, MemoryStream, Roads, refused
from tests.simulation.world import HEAD, NETWORK, Citizen, Door, World

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
    hello = Hello(_client(citizen), OFFERED, citizen.public_key)
    network = replace(world.network, network_id=7) if citizen.door is Door.OTHER_CHAIN else world.network
    try:
        async with accept_connection(stream, key=citizen.key, hello=hello) as connection:
            if citizen.door is Door.FULL:
                raise HandshakeFailed("full", reason=DisconnectReason.TOO_MANY_PEERS)
            await _stay(connection, network)
    except* PeerError:
        pass


async def call_on_us(roads: Roads, citizen: Citizen, our_key: bytes) -> None:
    """A citizen dials us and stays for as long as it may."""
    hello = Hello(_client(citizen), OFFERED, citizen.public_key)
    try:
        stream = await roads.dial(OUR_ADDRESS, (str(citizen.endpoint.ip), citizen.endpoint.port))
        dialling = open_connection(stream, key=citizen.key, remote_public_key=our_key, hello=hello)
        async with dialling as connection:
            await _stay(connection, NETWORK)
    except* (PeerError, OSError):
        pass


async def _stay(connection: Connection, network: Network) -> None:
    status = our_status(connection.capabilities["eth"].version, ChainView(network, *HEAD))
    await connection.send("eth", EthMessage.STATUS, encode_status(status))
    while True:
        await connection.receive()


def _client(citizen: Citizen) -> str:
    return f"{CLIENTS[citizen.number % len(CLIENTS)]}/v1.0.0/simulated"
