"""`ethsync rlpx console`: talk to a node by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import coincurve
import trio

from ethsync.commands.targets import parse_target
from ethsync.console.session import run_console

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ethsync.wire.enode import Enode

PROMPT = "rlpx> "


def run(target: str, quiet: bool) -> int:
    """Hold the conversation; 0 at its end. Raises ConfigError, PeerError."""
    enode = parse_target(target)
    trio.run(_run, enode, quiet)
    return 0


async def _run(enode: Enode, quiet: bool) -> None:
    await run_console(enode, coincurve.PrivateKey(), read_lines(), click.echo, quiet=quiet)


async def read_lines() -> AsyncGenerator[str, None]:
    """Lines of standard input; a prompt is shown if a person types them."""
    stdin = trio.wrap_file(sys.stdin)
    while True:
        if sys.stdin.isatty():
            click.echo(PROMPT, nl=False)
        line = await stdin.readline()
        if not line:
            return
        yield line
