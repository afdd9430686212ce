"""`ethsync serve`: a data directory or a synthetic state, for other nodes."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from ethsync.commands.places import synthetic_datadir
from ethsync.errors import ConfigError
from ethsync.networks import load_network
from ethsync.serve.demo import GENESIS_FILE
from ethsync.serve.profiles import PROFILES
from ethsync.serve.run import serve_datadir, serve_synthetic
from ethsync.serve.server import ServerOptions
from ethsync.serve.spec import parse_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.serve.server import Server


def run(
    datadir: Path | None, synthetic: str | None, network: str | None, listen: str, profile: str, as_json: bool,
    *, eip7542: bool = False,
) -> int:  # fmt: skip
    """Serve until SIGINT or SIGTERM. Raises EthsyncError."""
    if profile not in PROFILES:
        raise ConfigError(f"there is no profile '{profile}'", hint=f"choose one of {', '.join(sorted(PROFILES))}")
    host, port = _address(listen)
    options = ServerOptions(host, port, profile=PROFILES[profile], eip7542=eip7542)
    if synthetic is not None:
        spec = parse_spec(synthetic)
        datadir = datadir or synthetic_datadir(spec)
        datadir.parent.mkdir(parents=True, exist_ok=True)
        click.echo(f"making the synthetic state in {datadir}, unless it is there", err=True)
        trio.run(_serve, partial(serve_synthetic, spec, datadir, options=options), datadir / GENESIS_FILE, as_json)
        return 0
    if datadir is None:
        raise ConfigError("nothing to serve", hint="name a --datadir or a --synthetic state")
    genesis = Path(network) if network is not None else datadir / GENESIS_FILE
    chosen = load_network(network) if network is not None else None
    trio.run(_serve, partial(serve_datadir, datadir, network=chosen, options=options), genesis, as_json)
    return 0


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"'{listen}' is not an address to listen on", hint="write HOST:PORT, port 0 for any")
    return host.strip("[]"), int(port)


async def _serve(serving: Callable[..., Any], genesis: Path, as_json: bool) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            server: Server = await nursery.start(serving)
            click.echo(_as_json(server, genesis) if as_json else _as_text(server, genesis))


def _as_json(server: Server, genesis: Path) -> str:
    facts = {
        "enode": str(server.enode),
        "network": server.network.name,
        "genesis": str(genesis),
        "head_number": server.head.number,
        "head_hash": f"0x{server.head.hash.hex()}",
        "state_root": f"0x{server.head.state_root.hex()}",
    }
    return json.dumps(facts)


def _as_text(server: Server, genesis: Path) -> str:
    return (
        f"serving block {server.head.number} of {server.network.name} at {server.enode}\n"
        f"sync from it: ethsync snap --network {genesis} --peer '{server.enode}' "
        f"--head hash:0x{server.head.hash.hex()} --datadir DIR"
    )
