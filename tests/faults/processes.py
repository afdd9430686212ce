"""`ethsync` as a process of its own, against servers of this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from ethsync.serve.demo import GENESIS_FILE
from ethsync.state.view import StateView
from tests.faults.syncing import Host

TIME_LIMIT = 60.0
"""Seconds for one process: some ten times what it takes."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    code: int
    output: str
    errors: str


def snap_command(
    state: StateView, hosts: Sequence[Host], datadir: Path, *more: str, head: str | None = None
) -> list[str]:
    """The command line that syncs a state of the demo network from these servers, or follows another `--head`."""
    return [
        *(sys.executable, "-m", "ethsync", "snap"),
        *("--network", str(state.datadir.path / GENESIS_FILE)),
        *(word for host in hosts for word in ("--peer", str(host.server.enode))),
        *("--head", head or f"hash:0x{state.header.hash.hex()}"),
        *("--datadir", str(datadir)),
        *("--min-free", "0"),
        *more,
    ]


async def run(command: Sequence[str]) -> Ended:
    """Run a command to its end."""
    with trio.fail_after(TIME_LIMIT):
        done = await trio.run_process(list(command), capture_stdout=True, capture_stderr=True, check=False)
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


async def run_ethsync(*arguments: str) -> Ended:
    """Run `ethsync` with these arguments to its end."""
    return await run([sys.executable, "-m", "ethsync", *arguments])


@dataclass(slots=True, eq=False)
class Running:
    """A process under way."""

    process: trio.Process

    async def stop(self, number: int) -> Ended:
        """Send a signal, and wait until the process has ended."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> Ended:
        """Wait for the end, and read what the process said."""
        said: dict[str, bytes] = {}

        async def read(name: str, stream: trio.abc.ReceiveStream | None) -> None:
            assert stream is not None
            said[name] = b"".join([chunk async for chunk in stream])

        with trio.fail_after(TIME_LIMIT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, "output", self.process.stdout)
                nursery.start_soon(read, "errors", self.process.stderr)
            code = await self.process.wait()
        return Ended(code, said["output"].decode(), said["errors"].decode())


@asynccontextmanager
async def open_process(command: Sequence[str]) -> AsyncIterator[Running]:
    """Run a command for the block; whatever is left of it then is killed."""
    process = await trio.lowlevel.open_process(list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield Running(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                await stream.aclose()
