"""`ethsync serve`: a data directory or a synthetic state, for other nodes."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import trio

from ethsync.commands.places import cache_directory
from ethsync.errors import ConfigError
from ethsync.networks import BUILT_IN, Network, load_network
from ethsync.serve.demo import GENESIS_FILE, demo_network
from ethsync.serve.profiles import PROFILES
from ethsync.serve.server import Server, run_server
from ethsync.serve.spec import parse_spec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir


def run(datadir: Path | None, synthetic: str | None, listen: str, profile: str, as_json: bool) -> int:
    """Serve until SIGINT or SIGTERM. Raises EthsyncError."""
    if profile not in PROFILES:
        raise ConfigError(f"there is no profile '{profile}'", hint=f"choose one of {', '.join(sorted(PROFILES))}")
    host, port = _address(listen)
    if synthetic is not None:
        spec = parse_spec(synthetic)
        datadir = datadir or cache_directory() / f"synthetic-{str(spec).replace('=', '').replace(',', '-')}"
        datadir.parent.mkdir(parents=True, exist_ok=True)
        click.echo(f"making the synthetic state in {datadir}, unless it is there", err=True)
        create_synthetic(spec, datadir)
    if datadir is None:
        raise ConfigError("nothing to serve", hint="name a --datadir or a --synthetic state")
    with ExitStack() as stack:
        opened = stack.enter_context(open_datadir(datadir))
        view = StateView(opened)
        network = _network(opened.format.network, datadir)
        serving = partial(run_server, view, network=network, host=host, port=port, profile=PROFILES[profile])
        trio.run(_serve, serving, datadir / GENESIS_FILE, as_json)
    return 0


def _network(name: str, datadir: Path) -> Network:
    if name in BUILT_IN:
        return load_network(name)
    if name == demo_network().name:
        return demo_network()
    genesis = datadir / GENESIS_FILE
    if not genesis.exists():
        raise ConfigError(f"{datadir} belongs to the private network '{name}'", hint=f"put its genesis JSON at {genesis}")
    return load_network(genesis)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"'{listen}' is not an address to listen on", hint="write HOST:PORT, port 0 for any")
    return host.strip("[]"), int(port)


async def _serve(serving: partial[None], genesis: Path, as_json: bool) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serving)
            head = server.head
            facts = {
                "enode": str(server.enode),
                "network": server.network.name,
                "genesis": str(genesis),
                "head_number": head.number,
                "head_hash": f"0x{head.hash.hex()}",
                "state_root": f"0x{head.state_root.hex()}",
            }
            if as_json:
                click.echo(json.dumps(facts))
            else:
                click.echo(f"serving block {head.number} of {server.network.name} at {server.enode}")
                click.echo(f"sync from it: ethsync snap --network {genesis} --peer '{server.enode}' "
                           f"--head hash:0x{head.hash.hex()} --datadir DIR")  # fmt: skip
            async for _ in signals:
                nursery.cancel_scope.cancel()
