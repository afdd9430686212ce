"""The command line: options, their checks, exit codes. What commands do is in `ethsync.commands`.

Exit codes: 0 done and verified; 1 failed, with one line that says why and what to do; 2 wrong usage; 130 interrupted,
with everything kept.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import ethsync
from ethsync.errors import ConfigError, EthsyncError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILED = 1
EXIT_USAGE = 2  # as click exits when options are wrong
EXIT_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells say it

COLLECT_AFTER = (100_000, 50, 100)
"""When Python's cycle collector walks the objects of each generation. Next to nothing here is cyclic; with the defaults
(700, 10, 10) it took 17 % of the interpreter's time in a sync and a tenth of a start's (measured)."""

DATADIR = click.option(
    "--datadir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory of an earlier sync."
)
FORKS = click.option(
    "--override-fork", "forks", multiple=True, metavar="NAME=TIME|BLOCK", help="Where a fork is; may be repeated."
)
EIP_7542 = click.option(
    "--eip-7542", "eip7542", is_flag=True, help="Also tell block ranges as eth7542; private networks only."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(ethsync.__version__, prog_name="ethsync")
def commands() -> None:
    """Fetch, prove and use Ethereum's whole state."""


@commands.command()
@click.option("--network", required=True, help="mainnet, sepolia, hoodi, holesky, a geth genesis JSON, or demo.")
@click.option(
    "--peer", "peers", multiple=True, metavar="ENODE|ENR", help="A node that always has a slot; may be repeated."
)
@click.option("--trusted-peer", "trusted", multiple=True, metavar="ENODE|ENR", help="The same, beyond --max-peers.")
@click.option("--discovery", metavar="v5,v4,dns|none", help="How to find peers.  [default: all, on built-in networks]")
@click.option("--bootnode", "boot_nodes", multiple=True, metavar="ENODE|ENR", help="Another node to begin with.")
@click.option("--max-peers", type=click.IntRange(min=1), default=50, show_default=True, help="A third may dial us.")
@click.option("--listen", multiple=True, metavar="IP[:PORT]", help="UDP and TCP; twice for both IP versions.")
@click.option("--announce", metavar="IP[:TCP[:UDP]]", help="Our public address, where it is not the one we listen on.")
@click.option("--head", metavar="beacon:URL[,URL…]|engine|hash:0x…", help="Who vouches for the head of the chain.")
@click.option("--authrpc", metavar="IP[:PORT]", help="Where a consensus client may call.  [default: 127.0.0.1:8551]")
@click.option("--jwt-secret", type=click.Path(path_type=Path), help="Its secret.  [default: jwt.hex in the datadir]")
@click.option("--headers", type=click.Choice(["all", "recent"]), help="How far back.  [default: all, none for hash:]")
@click.option("--follow", is_flag=True, help="After the end stay on the head, block by block, until interrupted.")
@EIP_7542
@FORKS
@click.option("--datadir", type=click.Path(path_type=Path), help="Where to keep the state.  [default: per network]")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a JSON report at the end.")
@click.option("--min-free", default=512, show_default=True, metavar="MIB", help="Stop when less disk space is free.")
@click.option("--patience", default=60.0, show_default=True, metavar="S", help="Give up after so long without data.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="warning")
def snap(
    network: str,
    peers: tuple[str, ...],
    trusted: tuple[str, ...],
    discovery: str | None,
    boot_nodes: tuple[str, ...],
    max_peers: int,
    listen: tuple[str, ...],
    announce: str | None,
    head: str | None,
    authrpc: str | None,
    jwt_secret: Path | None,
    headers: str | None,
    follow: bool,
    eip7542: bool,
    forks: tuple[str, ...],
    datadir: Path | None,
    report: Path | None,
    min_free: int,
    patience: float,
    log_format: str,
    log_level: str,
) -> int:
    """Sync the whole state of a block: download, prove, store, verify. Run it again to continue."""
    from ethsync.commands.snap import SnapCommand, run

    return run(
        SnapCommand(
            network, peers, head, datadir, report, min_free << 20, patience, log_format, log_level, sys.argv,
            discovery, max_peers, listen, announce, boot_nodes, forks, trusted, authrpc, jwt_secret, headers, follow,
            eip7542,
        )
    )  # fmt: skip


@commands.command()
@DATADIR
@AS_JSON
def status(datadir: Path, as_json: bool) -> int:
    """Show what a data directory holds and what is missing."""
    from ethsync.commands.status import run

    return run(datadir, as_json)


@commands.command()
@DATADIR
@click.option("--network", help="Genesis JSON of a private network, by whose rules headers are read.")
@FORKS
@AS_JSON
def verify(datadir: Path, network: str | None, forks: tuple[str, ...], as_json: bool) -> int:
    """Recompute every root and every hash from the bytes on disk, of the state and of the headers."""
    from ethsync.commands.verify import run

    return run(datadir, network, as_json, forks)


@commands.command()
@click.argument("account", metavar="ADDRESS|0xHASH")
@click.option(
    "--slot",
    "slots",
    multiple=True,
    metavar="N",
    help="A storage slot: its number, decimal or 0x…, or hash:0x…; may be repeated.",
)
@click.option("--code", is_flag=True, help="Print the bytecode too.")
@DATADIR
@AS_JSON
def get(account: str, slots: tuple[str, ...], code: bool, datadir: Path, as_json: bool) -> int:
    """Read an account, storage slots and code back, with their proof checked."""
    from ethsync.commands.get import run

    return run(account, slots, code, datadir, as_json)


@commands.command()
@click.option("--datadir", type=click.Path(file_okay=False, path_type=Path), help="A complete state to serve.")
@click.option("--synthetic", metavar="SPEC", help="Or one made up: accounts=1000000,contracts=50000,slots=…,seed=1")
@click.option("--network", help="Name or genesis JSON of the state's network, where it is a private one.")
@click.option("--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT")
@click.option("--profile", default="geth", show_default=True, help="Whose behaviour to imitate; for tests.")
@EIP_7542
@AS_JSON
def serve(
    datadir: Path | None,
    synthetic: str | None,
    network: str | None,
    listen: str,
    profile: str,
    eip7542: bool,
    as_json: bool,
) -> int:
    """Serve a state to other nodes over snap/1 and eth/68-71."""
    from ethsync.commands.serve import run

    return run(datadir, synthetic, network, listen, profile, as_json, eip7542=eip7542)


@commands.command()
@click.option("--accounts", default=1_000_000, show_default=True)
@click.option("--slots", default=1_400_000, show_default=True)
@click.option("--codes", default=50_000, show_default=True)
@click.option("--healing", is_flag=True, help="Measure instead how that state is healed after some of it has changed.")
@AS_JSON
def bench(accounts: int, slots: int, codes: int, healing: bool, as_json: bool) -> int:
    """Measure the kernels, then a whole sync from a second process over loopback."""
    from ethsync.commands.bench import run

    return run(accounts, slots, codes, healing, as_json)


@commands.command()
@click.argument("node", metavar="ENODE|ENR")
@click.option("--network", default="mainnet", show_default=True, help="What to say if the node waits for our Status.")
@FORKS
@AS_JSON
def probe(node: str, network: str, forks: tuple[str, ...], as_json: bool) -> int:
    """Look at one node: client, chain, fork, latency, and whether it really serves snap for its head."""
    from ethsync.commands.probe import run

    return run(node, network, as_json, forks)


@commands.command()
@DATADIR
@AS_JSON
def peers(datadir: Path, as_json: bool) -> int:
    """Show the peers of a running or past sync: score, latency, bytes, outcomes, direction, client."""
    from ethsync.commands.peers import run

    return run(datadir, as_json)


@commands.group()
def dns() -> None:
    """Node lists in DNS (EIP-1459)."""


@dns.command()
@click.argument("link", metavar="ENRTREE")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after so many records.")
@click.option(
    "--nameserver", "nameservers", multiple=True, metavar="IP[:PORT]", help="A server to ask; may be repeated."
)
@click.option("--rate", type=click.FloatRange(0.1, 100), default=3.0, show_default=True, help="Lookups per second.")
@AS_JSON
def resolve(link: str, limit: int | None, nameservers: tuple[str, ...], rate: float, as_json: bool) -> int:
    """Read a whole list, given as enrtree://KEY@domain, check it, and print its node records."""
    from ethsync.commands.dns import run_resolve

    return run_resolve(link, limit, nameservers, rate, as_json)


@dns.command()
@click.argument("records", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--key", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File with the owner's key."
)
@click.option("--domain", required=True, help="Where the list will be.")
@click.option("--seq", type=click.IntRange(0, 2**64 - 1), required=True, help="Its version; larger than the last one.")
@click.option("--link", "links", multiple=True, metavar="ENRTREE", help="Another list to link to; may be repeated.")
@AS_JSON
def make(records: Path, key: Path, domain: str, seq: int, links: tuple[str, ...], as_json: bool) -> int:
    """Make a list of a file with one enr:… a line, and print its TXT records as a zone file or JSON."""
    from ethsync.commands.dns import run_make

    return run_make(records, key, domain, seq, links, as_json)


@commands.command()
@click.option("--network", default="mainnet", show_default=True, help="Where to begin, and what to tell shy nodes.")
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="….jsonl or ….sqlite")
@click.option("--discovery", default="v5,v4,dns", show_default=True)
@click.option("--listen", multiple=True, metavar="IP[:PORT]", help="UDP address to search from.")
@click.option("--bootnode", "boot_nodes", multiple=True, metavar="ENODE|ENR", help="Another node to begin with.")
@FORKS
def crawl(
    network: str, minutes: float, output: Path, discovery: str, listen: tuple[str, ...], boot_nodes: tuple[str, ...],
    forks: tuple[str, ...],
) -> int:  # fmt: skip
    """Look at all nodes that can be found: client, version, fork, snap really served or not."""
    from ethsync.commands.crawl import run

    return run(network, minutes, output, discovery, listen, boot_nodes, forks)


@commands.group()
def rlpx() -> None:
    """The encrypted transport."""


@rlpx.command()
@click.argument("node", metavar="ENODE|ENR")
@click.option("--quiet", is_flag=True, help="Send nothing by itself: no Status, no Pong.")
def console(node: str, quiet: bool) -> int:
    """Talk to a node: send any message, see every frame decoded. `help` in it lists what can be said."""
    from ethsync.commands.console import run

    return run(node, quiet)


@commands.group()
def node() -> None:
    """Who this node is."""


_OUR_DATADIR = click.option("--datadir", type=click.Path(file_okay=False, path_type=Path), help="Whose identity.")
_OUR_NETWORK = click.option("--network", metavar="NAME", help="Whose default directory, and chain.  [default: mainnet]")


@node.command()
@_OUR_DATADIR
@_OUR_NETWORK
@AS_JSON
def info(datadir: Path | None, network: str | None, as_json: bool) -> int:
    """Show our key, record and address, and where others see us. Makes a node key if there is none."""
    from ethsync.commands.node import run_info

    return run_info(datadir, network, as_json)


@node.command("enr")
@_OUR_DATADIR
@_OUR_NETWORK
def own_record(datadir: Path | None, network: str | None) -> int:
    """Print our node record and nothing else."""
    from ethsync.commands.node import run_enr

    return run_enr(datadir, network)


@commands.group()
def enr() -> None:
    """Node records (EIP-778)."""


@enr.command()
@click.argument("source", metavar="ENR|FILE|-")
@AS_JSON
def decode(source: str, as_json: bool) -> int:
    """Show all that a record says, or every record in a file or on standard input; check the signatures."""
    from ethsync.commands.enr import run_decode

    return run_decode(source, as_json)


@enr.command()
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File with the node key.")
@click.option("--ip", metavar="IPV4")
@click.option("--ip6", metavar="IPV6")
@click.option("--tcp", type=click.IntRange(0, 65535), default=0, metavar="PORT")
@click.option("--udp", type=click.IntRange(0, 65535), default=0, metavar="PORT")
@click.option("--tcp6", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Where it differs from --tcp.")
@click.option("--udp6", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Where it differs from --udp.")
@click.option("--seq", type=click.IntRange(0, 2**64 - 1), help="Its version.  [default: the time in milliseconds]")
@click.option("--set", "settings", multiple=True, metavar="KEY=HEX", help="Another entry (rlp:HEX if it is RLP).")
@click.option("--network", metavar="NAME", help="Announce this chain and its present fork.")
@FORKS
def sign(
    key: Path, ip: str | None, ip6: str | None, seq: int | None, settings: tuple[str, ...], network: str | None,
    forks: tuple[str, ...], **ports: int,
) -> int:  # fmt: skip
    """Make a record and print it."""
    from ethsync.commands.enr import SignCommand, run_sign

    return run_sign(SignCommand(key, ip, ip6, ports, seq, settings, network, forks))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(*COLLECT_AFTER)
    # NumPy's linear algebra, of which there is none here, would start a thread per core that waits busily for work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = commands.main(arguments, prog_name="ethsync", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = EXIT_USAGE
    except click.Abort:
        code = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = EXIT_INTERRUPTED
    except (EthsyncError, BaseExceptionGroup) as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt):
            click.echo("interrupted", err=True)
            code = EXIT_INTERRUPTED
        else:
            code = _complain(error)
    sys.exit(code or 0)


def _complain(error: BaseException) -> int:
    """Print our own errors as one line; anything else is a bug and is raised again with its traceback."""
    ours = list(_own_errors(error))
    if not ours:
        raise error
    click.echo(f"ethsync: {ours[0]}", err=True)
    return EXIT_USAGE if isinstance(ours[0], ConfigError) else EXIT_FAILED


def _own_errors(error: BaseException) -> list[EthsyncError]:
    """All errors of our tree in a group, unless something else is among them."""
    if isinstance(error, EthsyncError):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return []
    found = [_own_errors(each) for each in error.exceptions]
    return [each for part in found for each in part] if all(found) else []
