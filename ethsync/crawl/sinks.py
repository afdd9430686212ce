"""Where a crawl's nodes are written: JSON lines, or a table in SQLite. Used from one thread at a time."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from ethsync.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

COLUMNS: Mapping[str, str] = {
    "node_id": "TEXT PRIMARY KEY",
    "at": "INTEGER",
    "source": "TEXT",
    "enode": "TEXT",
    "record": "TEXT",
    "host": "TEXT",
    "tcp_port": "INTEGER",
    "reached": "INTEGER",
    "connect_ms": "REAL",
    "client": "TEXT",
    "capabilities": "TEXT",
    "eth_version": "INTEGER",
    "network_id": "INTEGER",
    "network": "TEXT",
    "genesis_hash": "TEXT",
    "fork_id": "TEXT",
    "record_fork_id": "TEXT",
    "fork": "TEXT",
    "earliest_block": "INTEGER",
    "latest_block": "INTEGER",
    "head_hash": "TEXT",
    "head_age_s": "INTEGER",
    "state_root": "TEXT",
    "latency_ms": "REAL",
    "snap": "TEXT",
    "accounts_proven": "INTEGER",
    "disconnect_reason": "INTEGER",
    "error": "TEXT",
}
"""Columns of the table `nodes`: the fields of `ethsync.crawl.facts`, with what discovery knows of the node."""


class Sink(Protocol):
    """Takes one node after another."""

    def write(self, facts: Mapping[str, Any]) -> None:
        """Keep a node's facts; a node that was written before is replaced, or follows as another line."""
        ...


class _Lines:
    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8")

    def write(self, facts: Mapping[str, Any]) -> None:
        self.file.write(json.dumps(facts) + "\n")
        self.file.flush()


class _Table:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE IF NOT EXISTS nodes ({columns}) WITHOUT ROWID")
        self._insert = f"INSERT OR REPLACE INTO nodes VALUES ({', '.join('?' * len(COLUMNS))})"

    def write(self, facts: Mapping[str, Any]) -> None:
        values = [facts.get(name) for name in COLUMNS]
        flat = [", ".join(value) if isinstance(value, list) else value for value in values]
        with self._connection:
            self._connection.execute(self._insert, flat)


@contextmanager
def open_sink(path: Path) -> Iterator[Sink]:
    """Open `nodes.jsonl` or `nodes.sqlite`, by the name's ending; what is in it already stays. Raises ConfigError."""
    try:
        if path.suffix == ".jsonl":
            lines = _Lines(path)
            with lines.file:
                yield lines
        elif path.suffix in (".sqlite", ".db"):
            # The writer is always one thread at a time, but not always the same.
            with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
                yield _Table(connection)
        else:
            raise ConfigError(f"'{path}' has an ending that says nothing", hint="use .jsonl or .sqlite")
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"cannot write {path}: {error}", hint="choose another --output") from error
