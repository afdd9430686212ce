"""Our RLPx, Hello, Status and snap/1 messages against EthereumJS, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import coincurve
import trio
from trie import HexaryTrie

from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT
from ethsync.networks import load_network
from ethsync.rlpx.connection import Connection, open_connection
from ethsync.wire import eth, keys, rlp, snap
from ethsync.wire.p2p import Capability, Hello
from ethsync.wire.status import Status, check_status, decode_status, encode_status
from tests.interop.peers import JsPeer, open_js_peer

KEY = coincurve.PrivateKey(b"\x11" * 32)


@asynccontextmanager
async def connect(peer: JsPeer) -> AsyncIterator[Connection]:
    hello = Hello(
        client_id="ethsync/test",
        capabilities=(Capability("eth", 68), Capability("eth", 69), Capability("snap", 1)),
        node_id=keys.identity(KEY.public_key),
    )
    stream = await trio.open_tcp_stream("127.0.0.1", peer.port)
    async with open_connection(stream, key=KEY, remote_public_key=peer.identity, hello=hello) as connection:
        yield connection


async def exchange_status(connection: Connection, peer: JsPeer) -> Status:
    network = load_network(peer.genesis_path)
    ours = Status(
        version=68,
        network_id=network.network_id,
        genesis_hash=network.genesis_hash,
        fork_id=network.forks.fork_id(0, network.genesis_time),
        head_hash=network.genesis_hash,
        total_difficulty=0,
    )
    await connection.send("eth", eth.EthMessage.STATUS, encode_status(ours))
    message = await connection.receive()
    assert (message.capability, message.code) == ("eth", eth.EthMessage.STATUS)
    theirs = decode_status(68, message.payload)
    check_status(
        theirs,
        version=68,
        network_id=network.network_id,
        schedule=network.forks,
        head_number=0,
        head_time=network.genesis_time,
    )
    return theirs


def root_of_slim_accounts(accounts: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """State root by the `trie` package, from accounts as snap sends them (empty root and code hash left out)."""
    trie = HexaryTrie({})
    for account_hash, slim in accounts:
        nonce, balance, root, code_hash = rlp.split_list(slim)
        full = [rlp.string(root) or EMPTY_TRIE_ROOT, rlp.string(code_hash) or EMPTY_CODE_HASH]
        trie[account_hash] = rlp.encode_list([nonce, balance, *map(rlp.encode_bytes, full)])
    root_hash: bytes = trie.root_hash
    return root_hash


async def test_hello_agrees_on_eth_68_and_snap(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path) as peer, connect(peer) as connection:
        assert connection.remote_hello.client_id == "ethsync-interop/0"
        assert connection.capabilities["eth"].version == 68
        assert connection.capabilities["snap"].offset == 0x21  # after the 16 + 17 ids of p2p and eth/68


async def ask_for_all_accounts(connection: Connection, root: bytes, request_id: int) -> snap.AccountRange:
    request = snap.GetAccountRange(request_id, root, bytes(32), b"\xff" * 32, 2 << 20)
    await connection.send("snap", request.message, request.encode())
    reply = snap.decode_account_range((await connection.receive()).payload)
    assert reply.request_id == request_id
    return reply


async def test_one_account_range_is_the_whole_state(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, blocks=2) as peer, connect(peer) as connection:
        status = await exchange_status(connection, peer)
        reply = await ask_for_all_accounts(connection, peer.head.state_root, 7)

    assert status.head_hash == peer.head.hash
    assert len(reply.accounts) == peer.head.accounts
    assert root_of_slim_accounts(reply.accounts) == peer.head.state_root


async def test_only_the_newest_states_are_served_and_answers_are_spoilt_on_command(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=5, blocks=3, window=2) as peer, connect(peer) as connection:
        await exchange_status(connection, peer)
        old = await ask_for_all_accounts(connection, peer.genesis_state_root, 1)
        whole = await ask_for_all_accounts(connection, peer.head.state_root, 2)
        await peer.command("fault cut 1")
        cut = await ask_for_all_accounts(connection, peer.head.state_root, 3)
        await peer.command("fault badproof 1")
        lie = await ask_for_all_accounts(connection, peer.head.state_root, 4)
        truth = await ask_for_all_accounts(connection, peer.head.state_root, 5)

    assert (old.accounts, old.proof) == ((), ())
    assert cut.accounts == whole.accounts[:-1]
    assert lie.accounts == whole.accounts
    assert lie.proof != whole.proof
    assert truth.proof == whole.proof
