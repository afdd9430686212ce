"""A serving peer in a process of its own: for the demo and for measuring."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from subprocess import PIPE
from typing import TYPE_CHECKING

import trio

from ethsync.errors import EthsyncError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STOP_SECONDS = 5.0
"""How long the process may take to end by itself."""


@dataclass(frozen=True, slots=True)
class ServingProcess:
    """A running `ethsync serve`."""

    pid: int
    enode: str
    genesis: str
    head: str


@asynccontextmanager
async def open_serving_process(*arguments: str) -> AsyncIterator[ServingProcess]:
    """Run `ethsync serve` with these arguments until the block ends; wait until it listens.

    Raises EthsyncError if it does not come up; what it says on stderr is shown as it comes.
    """
    command = [sys.executable, "-m", "ethsync", "serve", "--json", *arguments]
    run = partial(trio.run_process, command, stdin=PIPE, stdout=PIPE, check=False, deliver_cancel=_end)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(run)
        if process.stdout is None:
            raise AssertionError("the process was started with a pipe")
        line = b""
        async for chunk in process.stdout:
            line += chunk
            if b"\n" in line:
                break
        if b"\n" not in line:
            raise EthsyncError("the serving process ended before it was ready", hint="see its messages above")
        ready = json.loads(line)
        yield ServingProcess(process.pid, ready["enode"], ready["genesis"], f"hash:{ready['head_hash']}")
        nursery.cancel_scope.cancel()


async def _end(process: trio.Process) -> None:
    """Ask the process to end, then make it."""
    process.terminate()
    with trio.move_on_after(STOP_SECONDS):
        await process.wait()
        return
    process.kill()
