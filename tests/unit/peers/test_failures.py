"""Which reason the dial pool is given for which error."""

from __future__ import annotations

import coincurve
import pytest
import trio

from ethsync.discovery.candidate import Reason
from ethsync.errors import (
    DisconnectReason,
    Disproved,
    HandshakeFailed,
    MalformedMessage,
    OtherChain,
    PeerError,
    PeerGone,
    RequestTimeout,
    UselessPeer,
)
from ethsync.peers.failures import reason_of
from ethsync.peers.greeting import dial_peer
from ethsync.wire import keys
from ethsync.wire.enode import Enode
from ethsync.wire.forkid import ForkId, ForkSchedule
from tests.unit.peers.stubs import VIEW

SCHEDULE = ForkSchedule(b"\xaa" * 32, 1000, (), ())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Disproved("x"), Reason.LIED),
        (OtherChain("x"), Reason.OTHER_CHAIN),
        (UselessPeer("x"), Reason.NO_SNAP),
        (HandshakeFailed("x"), Reason.HANDSHAKE),
        (MalformedMessage("x"), Reason.HANDSHAKE),
        (RequestTimeout("x"), Reason.HUNG_UP),
        (PeerGone("x"), Reason.HUNG_UP),
        (PeerGone("x", remote_reason=DisconnectReason.TOO_MANY_PEERS), Reason.TOO_MANY_PEERS),
        (PeerGone("x", remote_reason=DisconnectReason.USELESS_PEER), Reason.UNWANTED),
        (PeerGone("x", remote_reason=0x10), Reason.UNWANTED),
        (PeerGone("x", remote_reason=DisconnectReason.CLIENT_QUITTING), Reason.HUNG_UP),
        (PeerGone("x", remote_reason=0x7777), Reason.HUNG_UP),
    ],
)
def test_errors_have_the_reason_that_decides_when_to_try_again(error: PeerError, reason: Reason) -> None:
    assert reason_of(error) is reason


def test_a_fork_id_that_does_not_fit_is_another_chain() -> None:
    with pytest.raises(OtherChain) as caught:
        SCHEDULE.validate(ForkId(b"\1\2\3\4", 0), 5, 2000)
    assert reason_of(caught.value) is Reason.OTHER_CHAIN


async def test_a_port_where_nobody_listens_is_out_of_reach() -> None:
    # Given a port of this machine that was just given back
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    key = coincurve.PrivateKey(b"\1" * 32)
    enode = Enode(keys.identity(coincurve.PrivateKey(b"\2" * 32).public_key), "127.0.0.1", port, 0)
    with pytest.raises(PeerGone) as caught:
        async with dial_peer(1, enode, key, VIEW):
            pass
    assert reason_of(caught.value) is Reason.UNREACHABLE
