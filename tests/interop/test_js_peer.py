"""The EthereumJS peer itself: it starts, agrees with us about its chain, takes commands, and proves what it serves."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import trio

from ethsync.networks import load_network
from tests.interop.peers import DIRECTORY, JsPeer, node_command, open_js_peer


async def run_verifier(peer: JsPeer) -> dict[str, int]:
    """Let the EthereumJS client download and verify the whole state of the peer's head."""
    command = node_command(
        "verify_peer.mjs",
        *("--genesis", str(peer.genesis_path)),
        *("--genesis-hash", peer.genesis_hash.hex()),
        *("--enode", peer.enode),
        *("--head", peer.head.hash.hex()),
        *("--root", peer.head.state_root.hex()),
    )
    finished = await trio.run_process(command, cwd=DIRECTORY, capture_stdout=True)
    verified: dict[str, int] = json.loads(finished.stdout.decode().removeprefix("VERIFIED "))
    return verified


async def test_it_computes_the_same_genesis_as_we_do(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=50, contracts=6, slots=5, fork="prague") as peer:
        network = load_network(peer.genesis_path)

        assert network.genesis_state_root == peer.genesis_state_root
        assert network.genesis_hash == peer.genesis_hash
        assert network.chain_id == peer.chain_id


async def test_its_client_verifies_its_server_after_real_transactions(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=800, contracts=30, slots=20, blocks=3, transactions=True) as peer:
        verified = await run_verifier(peer)
        await peer.command("stats")

    assert verified["accounts"] == peer.head.accounts > 830
    assert verified["slots"] > 1000  # contract 0 alone, in several proven ranges
    assert verified["headers"] == 4
    assert peer.answered["snap/0"] > 1


async def test_the_head_moves_on_command(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=5, contracts=1, slots=2, blocks=3) as peer:
        newest = astuple(peer.head)
        await peer.command("head 1")

        assert peer.head.number == 1
        assert astuple(peer.head) != newest
