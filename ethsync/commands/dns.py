"""`ethsync dns`: reading a DNS node list, and making one."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import trio

from ethsync.cli import EXIT_FAILED
from ethsync.commands.endpoints import parse_endpoint
from ethsync.commands.key_files import read_key_file
from ethsync.commands.record_facts import brief_facts, brief_line
from ethsync.discovery.dns_forest import Forest
from ethsync.discovery.dns_resolver import open_resolver
from ethsync.discovery.dns_service import Reader
from ethsync.discovery.dns_tree import Link, build_tree, parse_link
from ethsync.errors import ConfigError, LookupFailed
from ethsync.ui.numbers import several
from ethsync.wire.enr import parse_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ethsync.discovery.dns_service import Resolve
    from ethsync.discovery.dns_sync import TreeSync
    from ethsync.discovery.node import Endpoint
    from ethsync.wire.enr import NodeRecord

DNS_PORT = 53  # RFC 1035, section 4.2
ROOT_TTL = 60  # seconds (the example zone of dnsdisc.md): a root changes, everything else never does
ENTRY_TTL = 86900  # seconds (the same)
LONGEST_STRING = 255  # bytes of one part of a TXT record (RFC 1035, section 3.3)


@dataclass(slots=True)
class ListReader:
    """Reads the list `link` and those that it links to, once. `limit` is how many records are wanted, None for all."""

    link: Link
    limit: int | None
    as_json: bool
    live: bool
    """Whether to show, on a terminal, how far it is."""
    printed: int = 0

    async def read(self, forest: Forest, resolve: Resolve) -> int:
        """Print every record as it is found. Returns an exit code; raises LookupFailed if the list has no root."""
        reader, shown = Reader(forest, resolve), set()
        while not (forest.settled or self.enough):
            for record in await reader.read_next():
                if record.raw not in shown:
                    shown.add(record.raw)
                    self._print(record)
            self._progress(forest)
        self._erase()
        return self._conclude(forest)

    @property
    def enough(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.printed >= self.limit

    def _print(self, record: NodeRecord) -> None:
        self._erase()
        click.echo(json.dumps(brief_facts(record)) if self.as_json else brief_line(record))
        self.printed += 1

    def _progress(self, forest: Forest) -> None:
        if not self.live:
            return
        halves = [half for tree in forest.trees.values() for half in tree.halves]
        read, left = sum(len(half) for half in halves), sum(half.unresolved for half in halves)
        click.echo(f"\r\x1b[K{self.printed} records; {read} entries read, {left} to go", err=True, nl=False)

    def _erase(self) -> None:
        if self.live:
            click.echo("\r\x1b[K", err=True, nl=False)

    def _conclude(self, forest: Forest) -> int:
        tree = forest.trees[self.link]
        if tree.root is None:
            raise LookupFailed(f"cannot read this node list: {tree.trouble}")
        click.echo(
            f"{several(self.printed, 'record', 'records')}, version {tree.root.seq} of {self.link.domain}", err=True
        )
        if self.enough:
            return 0
        for each in forest.trees.values():
            refused = sum(half.refused for half in each.halves)
            if refused:
                click.echo(f"{each.link.domain}: entries that are not valid: {refused} ({each.trouble})", err=True)
        missing = [line for each in forest.trees.values() for line in shortcomings(each)]
        for line in missing:
            click.echo(line, err=True)
        return EXIT_FAILED if missing else 0


def shortcomings(tree: TreeSync) -> Iterator[str]:
    """What of a list was not read, one line for each reason."""
    domain = tree.link.domain
    if tree.root is None:
        yield f"the linked list {domain} cannot be read: {tree.trouble}"
    missing = sum(half.lost + half.unresolved for half in tree.halves)
    if missing:
        yield f"{domain}: entries that could not be had: {missing} ({tree.trouble})"
    beyond = sum(half.beyond for half in tree.halves)
    if beyond:
        yield f"{domain}: entries left out, because the list is too large or too deep: {beyond}"


def run_resolve(link: str, limit: int | None, nameservers: Sequence[str], rate: float, as_json: bool) -> int:
    """Print the records of a list; 0 if all (or `limit`) were read, 1 otherwise. Raises ConfigError, LookupFailed."""
    reader = ListReader(parse_link(link), limit, as_json, sys.stderr.isatty())
    forest = Forest([reader.link], random.Random(), rate)
    resolve = open_resolver([parse_nameserver(text) for text in nameservers] or None)
    return trio.run(reader.read, forest, resolve)


def run_make(records: Path, key: Path, domain: str, seq: int, links: Sequence[str], as_json: bool) -> int:
    """Print the TXT records of a list made of a file with one record a line; 0. Raises ConfigError."""
    lines = [line.strip() for line in _read(records).splitlines()]
    nodes = [parse_record(line) for line in lines if line and not line.startswith("#")]
    signer = read_key_file(key)
    link = parse_link(str(Link(signer.public_key.format(), domain)))
    texts = build_tree(nodes, [parse_link(text) for text in links], link.domain, signer, seq)
    click.echo(json.dumps(texts) if as_json else "\n".join(zone_lines(texts)))
    click.echo(str(link), err=True)
    return 0


def zone_lines(texts: dict[str, str]) -> Iterator[str]:
    """TXT records, the root's first, as lines of a zone file (RFC 1035, section 5.1)."""
    for number, (name, text) in enumerate(texts.items()):
        parts = (text[at : at + LONGEST_STRING] for at in range(0, len(text), LONGEST_STRING))
        yield f"{name}. {ENTRY_TTL if number else ROOT_TTL} IN TXT " + " ".join(f'"{part}"' for part in parts)


def parse_nameserver(text: str) -> Endpoint:
    """Read `IP`, `IP:PORT` or `[IP]:PORT`. Raises ConfigError."""
    try:
        endpoint = parse_endpoint(text, port=DNS_PORT)
        if not endpoint.port:
            raise ValueError("there is no port 0")
    except ValueError as error:
        raise ConfigError(f"not a name server: {text!r}: {error}", hint="write IP, IP:PORT or [IPv6]:PORT") from error
    return endpoint


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="name a file with one enr: record a line") from error
