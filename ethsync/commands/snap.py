"""`ethsync snap`: options → a sync with display, signals and report."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from ethsync.cli import EXIT_INTERRUPTED
from ethsync.commands.allocator import share_one_arena
from ethsync.commands.child import open_serving_process
from ethsync.commands.finding import PROTOCOLS, make_finding, parse_protocols
from ethsync.commands.heads import CHOICES, make_head_source
from ethsync.commands.places import default_datadir, synthetic_datadir
from ethsync.commands.targets import parse_target
from ethsync.errors import ConfigError, EthsyncError
from ethsync.fork_overrides import with_overrides
from ethsync.heads.source import FixedHead
from ethsync.logs import LogFormat, configure_logging, json_line
from ethsync.networks import BUILT_IN, Network, check_private, load_network
from ethsync.peers.slots import MOST_PEERS
from ethsync.serve.spec import DEMO_SPEC
from ethsync.sync.chain import ALL, NONE, ChainOptions, only_block
from ethsync.sync.heads import parse_head
from ethsync.sync.progress import Phase, Progress
from ethsync.sync.snap import SnapOptions, Verified, run_snap
from ethsync.ui.display import run_display
from ethsync.ui.lines import held_line, kept_line, success_line
from ethsync.ui.machine import read_machine, read_resources, utc_now
from ethsync.ui.measure import LoopLag, PeakMemory, run_memory_sampler
from ethsync.ui.report import build_report, write_report
from ethsync.ui.watch import run_watch
from ethsync.wire.enode import parse_enode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

DEMO = "demo"

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class SnapCommand:
    """The command line of `ethsync snap`. Sizes in bytes, times in seconds."""

    network: str
    peers: Sequence[str]
    head: str | None
    datadir: Path | None
    report: Path | None
    min_free: int
    patience: float
    log_format: str
    log_level: str
    arguments: Sequence[str]
    discovery: str | None = None
    """Protocols as `--discovery` names them; None for all on built-in networks and none on others."""
    max_peers: int = MOST_PEERS
    listen: Sequence[str] = ()
    announce: str | None = None
    boot_nodes: Sequence[str] = ()
    forks: Sequence[str] = ()
    """Forks with their times or block numbers, as `--override-fork` names them."""
    trusted_peers: Sequence[str] = ()
    authrpc: str | None = None
    """Where a consensus client may call, for `--head engine`."""
    jwt_secret: Path | None = None
    headers: str | None = None
    """How far back: "all" or "recent"; None for what suits the head."""
    follow: bool = False
    """Stay on the head after the end."""
    eip7542: bool = False
    """Also speak EIP-7542 under its own name."""


def run(command: SnapCommand) -> int:
    """Run the sync; return the exit code. Raises EthsyncError."""
    if command.report is not None and not os.access(command.report.absolute().parent, os.W_OK):
        raise ConfigError(f"the report {command.report} cannot be written", hint="its directory must exist")
    configure_logging(LogFormat(command.log_format), command.log_level)
    share_one_arena()
    gc.freeze()  # what imports have made stays: the collector need not walk it
    lag = LoopLag()
    return trio.run(_run, command, lag, instruments=[lag])


async def _run(command: SnapCommand, lag: LoopLag) -> int:
    """The sync beside its display; a signal ends it in good order."""
    progress = Progress(trio.current_time())
    memory = PeakMemory()
    received: list[int] = []
    failure: EthsyncError | None = None
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                async for number in signals:
                    received.append(number)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            await nursery.start(run_memory_sampler, memory)
            try:
                await _sync(command, progress)
            except* EthsyncError as errors:  # and nothing else: a signal's cancellation goes on to the nursery
                failure = _first(errors)
            nursery.cancel_scope.cancel()
    now = trio.current_time()
    if command.report is not None:
        reason = str(failure) if failure is not None else ("interrupted" if received else None)
        write_report(
            command.report,
            build_report(
                progress, now=now, date=utc_now(), command=command.arguments, machine=read_machine(),
                resources=read_resources(), peak_anonymous=memory.peak, lag=lag, error=reason,
            ),
        )  # fmt: skip
    if failure is not None:
        raise failure
    if received and progress.phase is not Phase.DONE:
        temporary = command.network == DEMO and command.datadir is None
        click.echo("interrupted: the demo keeps nothing" if temporary else kept_line(progress), err=True)
        return EXIT_INTERRUPTED
    click.echo(success_line(progress, now))
    return 0


def _first(errors: BaseExceptionGroup[EthsyncError]) -> EthsyncError:
    """The first error of a group of groups."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _sync(command: SnapCommand, progress: Progress) -> None:
    async with _options(command) as options:
        options = replace(options, holds=partial(_say_held, progress, LogFormat(command.log_format)))
        progress.started = trio.current_time()
        async with trio.open_nursery() as nursery:
            show = await nursery.start(_display_scope, progress, LogFormat(command.log_format))
            try:
                await run_snap(options, progress)
            finally:
                show.cancel()


async def _display_scope(
    progress: Progress, log_format: LogFormat, *, task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await run_display(progress, log_format=log_format)
        # Until cancelled: only a state that is followed has more to say.
        await run_watch(progress, log_format=log_format)


@asynccontextmanager
async def _options(command: SnapCommand) -> AsyncIterator[SnapOptions]:
    """What to sync; for the demo with a serving process that lives as long as the block."""
    async with AsyncExitStack() as stack:
        if command.network == DEMO:
            if command.follow:
                raise ConfigError("the demo has one block only", hint="leave out --follow")
            if command.peers or command.head or command.eip7542:
                raise ConfigError(
                    "the demo brings its own peer and block", hint="leave out --peer, --head and --eip-7542"
                )
            if command.forks:
                raise ConfigError("the demo has all its forks at the genesis", hint="leave out --override-fork")
            server = await stack.enter_async_context(
                open_serving_process("--synthetic", str(DEMO_SPEC), "--datadir", str(synthetic_datadir(DEMO_SPEC)))
            )
            place = command.datadir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ethsync-demo-")))
            network = replace(load_network(server.genesis), name=DEMO)
            yield SnapOptions(
                network, [parse_enode(server.enode)], only_block(parse_head(server.head)), place,
                command.min_free, command.patience,
            )  # fmt: skip
            return
        network = with_overrides(load_network(command.network), command.forks)
        if command.eip7542:
            check_private(network)
        place = command.datadir or default_datadir(network.name)
        finding = make_finding(
            network, place, protocols=_protocols(command, network), max_peers=command.max_peers, listen=command.listen,
            announce=command.announce, more_boot_nodes=command.boot_nodes, trusted=command.trusted_peers,
        )  # fmt: skip
        peers = [parse_target(text) for text in command.peers]
        if not peers and not finding.trusted and not finding.discovery.protocols:
            raise ConfigError("no peer to sync from", hint="name nodes with --peer, or find some with --discovery v5")
        chain = _chain(command, place)
        if command.follow and isinstance(chain.source, FixedHead):
            raise ConfigError("--head hash: names one block, which is followed no further", hint=CHOICES)
        yield SnapOptions(
            network, peers, chain, place, command.min_free, command.patience, finding=finding, follow=command.follow,
            eip7542=command.eip7542,
        )  # fmt: skip


def _say_held(progress: Progress, log_format: LogFormat, verified: Verified) -> None:
    """A line for each block while following."""
    if progress.followed is None:
        raise AssertionError("a block is said to be held once it is")
    now = time.time()
    text = held_line(progress.followed, verified.state_root, now - progress.block_time)
    if log_format is LogFormat.JSON:
        text = json_line(now, "info", "ethsync.follow", text, {"held": asdict(progress.followed)})
    click.echo(text, err=True)


def _protocols(command: SnapCommand, network: Network) -> frozenset[str]:
    default = ",".join(PROTOCOLS) if network.name in BUILT_IN else "none"
    return parse_protocols(default if command.discovery is None else command.discovery)


def _chain(command: SnapCommand, place: Path) -> ChainOptions:
    """Who names the head and how far back headers are wanted: of one block's chain none, unless asked for."""
    source = make_head_source(command.head, authrpc=command.authrpc, jwt_secret=command.jwt_secret, directory=place)
    return ChainOptions(source, command.headers or (NONE if isinstance(source, FixedHead) else ALL))
