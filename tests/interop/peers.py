"""Peers made of EthereumJS libraries, started as child processes on the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pytest
import trio

from tests.interop.genesis import Fork, make_genesis

DIRECTORY = Path(__file__).parent / "js"
MINIMUM_NODE = (20, 11)  # package.json, "engines"
START_TIMEOUT = 60.0  # seconds; building the genesis tries is the slow part
COMMAND_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block a peer knows, as it reports it. Hashes are 32 bytes."""

    number: int
    hash: bytes
    state_root: bytes
    accounts: int


@dataclass(slots=True)
class JsPeer:
    """A running peer that serves snap/1 and eth/68."""

    enode: str
    chain_id: int
    genesis_path: Path
    genesis_hash: bytes
    genesis_state_root: bytes
    head: Head
    answered: dict[str, int]
    """Requests answered so far, by protocol and message code, e.g. "snap/0"; as of the last command."""
    _send: Callable[[str], Awaitable[dict[str, Any]]]

    @property
    def identity(self) -> bytes:
        """The node's public key, 64 bytes."""
        return bytes.fromhex(self.enode.removeprefix("enode://").partition("@")[0])

    @property
    def port(self) -> int:
        return int(self.enode.rpartition(":")[2])

    async def command(self, line: str) -> None:
        """Send one of the commands that snap_server.mjs explains: `head N`, `fault KIND N`, `stats`."""
        reply = await self._send(line)
        self.head = _head(reply)
        self.answered = reply["answered"]


def require_node() -> None:
    """Make sure that Node.js is there and the packages of the peers are installed. Call it before trio runs.

    Skips the test with the reason where Node.js is missing; under CI that is a failure instead.
    """
    complaint = _complaint()
    if complaint and os.environ.get("CI"):
        pytest.fail(f"{complaint}; under CI the tests against other clients are mandatory", pytrace=False)
    if complaint:
        pytest.skip(f"{complaint}; tests against EthereumJS need Node.js 20.11 and npm")
    _install_packages()


def _complaint() -> str:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return "Node.js or npm is missing"
    text = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    version = tuple(int(part) for part in text.removeprefix("v").split(".")[:2])
    return "" if version >= MINIMUM_NODE else f"Node.js {text} is too old"


def _install_packages() -> None:
    """Install what package-lock.json names, unless that very file was installed before."""
    lock = (DIRECTORY / "package-lock.json").read_bytes()
    installed = DIRECTORY / "node_modules" / ".ethsync-lock"
    if installed.is_file() and installed.read_bytes() == lock:
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    finished = subprocess.run(command, cwd=DIRECTORY, capture_output=True, text=True, check=False)
    if finished.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{finished.stderr[-2000:]}")
    installed.write_bytes(lock)


def node_command(script: str, *arguments: str) -> list[str]:
    """Return the command line of one of the programs in js/, confined to the loopback interface."""
    return ["node", "--import", "./loopback.mjs", script, *arguments]


class Settings(TypedDict, total=False):
    """What peers serve, and how."""

    accounts: int
    contracts: int
    slots: int
    """How much the genesis has: 300, 20 and 10 for each unless said otherwise."""
    fork: Fork
    changing: int
    blocks: int
    """Blocks on top of the genesis: none unless said otherwise."""
    transactions: bool
    """Whether these have transactions."""
    withdrawals: int
    """How many each has: 16 unless said otherwise."""
    window: int
    """Of how many of the newest blocks state is served: of all unless said otherwise."""
    max_bytes: int
    delay: int
    """Milliseconds that each reply waits."""
    fast: bool
    """Build the genesis tries bottom-up."""


def _arguments(settings: Settings) -> list[str]:
    """The command line of snap_server.mjs for all settings but those of the genesis."""
    arguments = ["--blocks", str(settings.get("blocks", 0)), "--withdrawals", str(settings.get("withdrawals", 16))]
    arguments += ["--vm"] if settings.get("transactions") else []
    arguments += ["--fast"] if settings.get("fast") else []
    arguments += ["--window", str(settings["window"])] if "window" in settings else []
    arguments += ["--delay", str(settings["delay"])] if "delay" in settings else []
    arguments += ["--max-bytes", str(settings["max_bytes"])] if "max_bytes" in settings else []
    return arguments


@asynccontextmanager
async def open_js_peer(
    directory: Path, *, key: bytes = b"\x46" * 32, **settings: Unpack[Settings]
) -> AsyncIterator[JsPeer]:
    """Run a peer for the duration of the block; needs `require_node` before. Its genesis goes into the directory."""
    async with open_js_peers(directory, key, **settings) as (peer,):
        yield peer


@asynccontextmanager
async def open_js_peers(
    directory: Path, *keys: bytes, **settings: Unpack[Settings]
) -> AsyncIterator[list[JsPeer]]:  # fmt: skip
    """Peers with these keys that serve the same chain. They start at the same time."""
    genesis = directory / "genesis.json"
    document = make_genesis(
        settings.get("accounts", 300), settings.get("contracts", 20), settings.get("slots", 10),
        fork=settings.get("fork", "cancun"), changing=settings.get("changing", 0),
    )  # fmt: skip
    genesis.write_text(json.dumps(document))
    arguments = ["--genesis", str(genesis), *_arguments(settings)]
    async with open_programs(*(["snap_server.mjs", "--key", key.hex(), *arguments] for key in keys)) as programs:
        yield [
            JsPeer(
                enode=ready["enode"],
                chain_id=ready["chainId"],
                genesis_path=genesis,
                genesis_hash=_bytes(ready["genesisHash"]),
                genesis_state_root=_bytes(ready["genesisStateRoot"]),
                head=_head(ready),
                answered={},
                _send=lines.command,
            )
            for ready, lines in programs
        ]


@asynccontextmanager
async def open_programs(*programs: Sequence[str]) -> AsyncIterator[list[tuple[dict[str, Any], Lines]]]:
    """Run programs of js/ with their arguments for the duration of the block: what each said when it was ready, and
    its lines. They start at the same time."""
    # No nursery, so that errors of the body come out as they are.
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(_started(*program)) for program in programs]
        with trio.fail_after(START_TIMEOUT):
            ready = [await lines.read("READY ") for lines in started]
        yield list(zip(ready, started, strict=True))


@asynccontextmanager
async def _started(script: str, *arguments: str) -> AsyncIterator[Lines]:
    process = await trio.lowlevel.open_process(
        node_command(script, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=DIRECTORY
    )
    lines = Lines(process)
    try:
        yield lines
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await lines.aclose()


class Lines:
    """The line protocol of the programs in js/, over a child's standard input and output."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input = process.stdin
        self._output = process.stdout
        self._buffer = b""

    async def read(self, prefix: str) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            chunk = await self._output.receive_some()
            if not chunk:
                raise RuntimeError(f"the peer ended before it said {prefix.strip()}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        text = line.decode()
        if not text.startswith(prefix):
            raise RuntimeError(f"expected {prefix.strip()} from the peer, got: {text[:200]}")
        reply: dict[str, Any] = json.loads(text.removeprefix(prefix))
        return reply

    async def aclose(self) -> None:
        await self._input.aclose()
        await self._output.aclose()

    async def command(self, line: str) -> dict[str, Any]:
        with trio.fail_after(COMMAND_TIMEOUT):
            await self._input.send_all(line.encode() + b"\n")
            return await self.read("OK ")


def _head(report: dict[str, Any]) -> Head:
    return Head(
        number=report["headNumber"],
        hash=_bytes(report["headHash"]),
        state_root=_bytes(report["headStateRoot"]),
        accounts=report["accounts"],
    )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
