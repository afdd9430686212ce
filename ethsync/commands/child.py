"""A serving peer in a process of its own, and a sync from one: for the demo and for measuring."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import trio

from ethsync.errors import EthsyncError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ethsync.serve.spec import SyntheticSpec

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


async def sync_in_process(spec: SyntheticSpec, state: Path, place: Path) -> dict[str, Any]:
    """Serve a synthetic state in one process and sync it into the directory `place` in another, as a user would.

    Returns the report. What an earlier call left in `place` is continued. Raises EthsyncError if it fails.
    """
    async with open_serving_process("--synthetic", str(spec), "--datadir", str(state)) as server:
        report = place / "report.json"
        command = [
            sys.executable, "-m", "ethsync", "snap", "--network", server.genesis, "--peer", server.enode,
            "--head", server.head, "--datadir", str(place / "state"), "--report", str(report),
        ]  # fmt: skip
        done = await trio.run_process(
            command, check=False, capture_stdout=True, capture_stderr=True, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise EthsyncError(f"the sync failed: {done.stderr.decode(errors='replace').strip()}")
        found: dict[str, Any] = json.loads(report.read_text())
        return found
