"""What the commands that look at a node say of EthereumJS."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from pathlib import Path

import coincurve
import trio

from ethsync.commands.probe import lines
from ethsync.console.session import run_console
from ethsync.crawl.facts import probe_facts
from ethsync.crawl.probe import Snap, probe_node
from ethsync.networks import load_network
from ethsync.wire.enode import parse_enode
from tests.interop.peers import open_js_peer


async def test_probe_proves_that_it_serves(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=50, contracts=3, slots=5, blocks=2) as peer:
        network = load_network(peer.genesis_path)
        probe = await probe_node(parse_enode(peer.enode), coincurve.PrivateKey())
    assert probe.error is None
    assert (probe.snap, probe.accounts > 0) == (Snap.SERVES, True)
    assert probe.head is not None
    assert (probe.head.hash, probe.head.state_root) == (peer.head.hash, peer.head.state_root)
    facts = probe_facts(probe, [network], int(time.time()))
    assert facts["network"] == network.name
    assert facts["fork"] == "compatible"
    text = "\n".join(lines(probe, facts))
    assert "eth/68" in text
    assert "really served for its head, and proven" in text


async def test_the_console_shows_what_it_says(tmp_path: Path) -> None:
    shown: list[str] = []
    news, heard = trio.open_memory_channel[str](1000)

    def show(text: str) -> None:
        shown.append(text)
        news.send_nowait(text)

    async def typed() -> AsyncGenerator[str, None]:
        dialogue = {"STATUS": "headers head", "BLOCK_HEADERS": "accounts bytes=300", "ACCOUNT_RANGE": "quit"}
        for awaited, line in dialogue.items():
            async for text in heard:
                if text.startswith("<") and awaited in text:
                    break
            yield line

    async with open_js_peer(tmp_path, accounts=50, contracts=3, slots=5, blocks=2) as peer:
        with trio.move_on_after(15):
            await run_console(parse_enode(peer.enode), coincurve.PrivateKey(), typed(), show)
    text = "\n".join(shown)
    assert f"head_hash: 0x{peer.head.hash.hex()}" in text
    assert f"state root 0x{peer.head.state_root.hex()}" in text
    assert "< snap/1 ACCOUNT_RANGE" in text
    assert "! does not decode" not in text
