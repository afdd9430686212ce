"""What `ethsync serve` runs: a data directory or a synthetic state, opened, checked and served. Prints nothing."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from ethsync.errors import ConfigError, DatadirMismatch, NotHeld
from ethsync.networks import BUILT_IN, check_private, load_network
from ethsync.serve import demo
from ethsync.serve.server import DEFAULT_OPTIONS, Server, ServerOptions, run_server
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from ethsync.networks import Network
    from ethsync.serve.spec import SyntheticSpec
    from ethsync.store.schema import Format


def _nothing(share: float) -> None:
    """Progress that nobody looks at."""


async def serve_synthetic(
    spec: SyntheticSpec,
    directory: Path,
    *,
    options: ServerOptions = DEFAULT_OPTIONS,
    progress: Callable[[float], None] = _nothing,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Make a synthetic state in a directory, unless it is there already, and serve it until cancelled.

    `progress` gets the share made, 0 to 1, in a worker thread. Reports the `Server` (enode, head, network). A client
    in another process finds its `--network` in the file demo.GENESIS_FILE of the directory. Raises as
    `create_synthetic` and `serve_datadir`.
    """
    await trio.to_thread.run_sync(partial(create_synthetic, spec, directory, progress=progress))
    await serve_datadir(directory, network=demo.demo_network(), options=options, task_status=task_status)


async def serve_datadir(
    path: Path,
    *,
    network: Network | None = None,
    options: ServerOptions = DEFAULT_OPTIONS,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the finished state in a data directory until cancelled; report the `Server`.

    The network is needed unless it is a built-in one or the demo's. Raises ConfigError, StoreError, and NotHeld if the
    sync of the directory is not finished.
    """
    async with _open_view(path) as view:
        chosen = _network_of(view.datadir.format, network)
        if options.eip7542:
            check_private(chosen)
        await run_server(view, network=chosen, options=options, task_status=task_status)


@asynccontextmanager
async def _open_view(path: Path) -> AsyncIterator[StateView]:
    stack = ExitStack()
    try:
        yield await trio.to_thread.run_sync(_complete_view, stack, path)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(stack.close)


def _complete_view(stack: ExitStack, path: Path) -> StateView:
    view = StateView(stack.enter_context(open_datadir(path)))
    if not view.is_complete():
        raise NotHeld(f"{path} does not hold a whole state", hint="finish its sync first: run `ethsync snap` again")
    view.accounts.top()  # reads the upper trie, so that the first request does not wait for it
    return view


def _network_of(held: Format, network: Network | None) -> Network:
    """The network to announce, which must be the one that the data directory belongs to."""
    if network is None and held.network == demo.NAME:
        network = demo.demo_network()
    if network is None and held.network in BUILT_IN:
        network = load_network(held.network)
    if network is None:
        raise ConfigError(f"the network '{held.network}' is not built in", hint="name its genesis file with --network")
    if network.genesis_hash.hex() != held.genesis_hash.removeprefix("0x"):
        raise DatadirMismatch(
            f"the data directory belongs to {held.network}, not to {network.name}",
            hint="leave out --network, or name the genesis file that it was synced with",
        )
    return network
