"""The console against a serving node over real sockets, and the description of what comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator

import coincurve
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from ethsync.console.describe import describe, name_of
from ethsync.console.session import run_console
from ethsync.errors import PeerGone
from ethsync.rlpx.capabilities import negotiate
from ethsync.serve.demo import demo_network
from ethsync.serve.server import Server, open_server
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.wire.enode import Enode
from ethsync.wire.p2p import Capability

KEY = coincurve.PrivateKey(b"\1" * 32)
SHARED = negotiate(*[(Capability("eth", 69), Capability("snap", 1))] * 2)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path = tmp_path_factory.mktemp("talked-to") / "state"
    create_synthetic(SyntheticSpec(accounts=60, contracts=4, slots=20, codes=2, seed=2, code_bytes=50), path)
    with open_datadir(path) as datadir:
        yield StateView(datadir)


class Person:
    """Types the next line when the answer to the one before it is on the screen."""

    def __init__(self, *steps: tuple[str, str]) -> None:
        self.steps = steps
        """Pairs of what must be on the screen first, and the line typed then."""
        self.screen: list[str] = []
        self._changed = trio.Event()

    def write(self, line: str) -> None:
        self.screen.append(line)
        self._changed.set()

    @property
    def text(self) -> str:
        return "\n".join(self.screen)

    async def lines(self) -> AsyncGenerator[str, None]:
        seen = 0
        for awaited, line in self.steps:
            while awaited not in "\n".join(self.screen[seen:]):
                self._changed = trio.Event()
                await self._changed.wait()
            seen = len(self.screen)
            yield line


async def talk(view: StateView, person: Person, meddle: Callable[[Server], None] = lambda _: None) -> None:
    async with open_server(view, network=demo_network()) as server:
        meddle(server)
        with trio.fail_after(30):
            await run_console(server.enode, KEY, person.lines(), person.write)


async def test_a_conversation(view: StateView, mock_clock: MockClock) -> None:
    mock_clock.rate = 10
    # Given a person who asks for the head, then for accounts of its state, makes a mistake and leaves
    person = Person(
        ("< eth/71 STATUS", "ping"),
        ("< p2p PONG", "headers head"),
        ("< eth/71 BLOCK_HEADERS", "accounts bytes=100"),
        ("< snap/1 ACCOUNT_RANGE", "bogus"),
        ("? there is no command", "quit"),
    )
    await talk(view, person)
    # Then every frame of either direction has been on the screen, decoded.
    assert "client: ethsync/" in person.text
    assert "shared: eth/71 from 0x10, snap/1 from 0x24" in person.text
    assert "> eth/71 STATUS (0x10)" in person.text
    assert f"0x{view.header.hash.hex()}" in person.text
    assert f"root: 0x{view.state_root.hex()}" in person.text


async def test_the_node_says_why_it_leaves(view: StateView, mock_clock: MockClock) -> None:
    mock_clock.rate = 10
    person = Person(("< eth/71 STATUS", "raw 0x7f c0"), ("never", ""))
    await talk(view, person)
    assert "> UNKNOWN (0x7f)" in person.text
    assert "< p2p DISCONNECT (0x01)" in person.text
    assert "reason: breach of protocol" in person.text
    assert "the connection ended" in person.screen[-1]


async def test_a_node_that_is_not_there() -> None:
    person = Person()
    with trio.socket.socket() as held:
        await held.bind(("127.0.0.1", 0))
        with pytest.raises(PeerGone, match="cannot reach"):
            await run_console(
                Enode(b"\1" * 64, "127.0.0.1", held.getsockname()[1], 0), KEY, person.lines(), person.write
            )


@settings(max_examples=300)
@given(st.integers(0, 0xFF), st.binary(max_size=200))
def test_whatever_comes_can_be_shown(message_id: int, payload: bytes) -> None:
    lines = [name_of(SHARED, message_id), *describe(SHARED, message_id, payload)]
    assert lines
    assert all(line.isprintable() for line in lines)
