"""Opening a data directory: one process at a time, the right network, a format we know."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ethsync.errors import ConfigError, DatadirBusy, DatadirMismatch, DiskFull
from ethsync.store.leveldb import Database
from ethsync.store.patches import Overlay, last_step, patched_key
from ethsync.store.schema import FACT_FORMAT, FORMAT_VERSION, Format, decode_format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shape:
    """How a database is tuned: bytes of a key that make a neighbourhood, bytes collected in memory before a flush."""

    neighbourhood: int
    write_buffer: int


LEDGER = "ledger"
PATCHES = "patches"
LAYERS = {"accounts": b"a", "bundles": b"b", "storage": b"s", LEDGER: b"l"}
"""What following changes, and by which letter its records begin."""

DATABASES = {
    "accounts": Shape(1, 32 << 20),
    "bundles": Shape(0, 16 << 20),
    "storage": Shape(32, 32 << 20),
    "codes": Shape(0, 64 << 20),
    "headers": Shape(0, 4 << 20),
    LEDGER: Shape(0, 4 << 20),
    PATCHES: Shape(0, 64 << 20),
}
"""A neighbourhood is a 256th of the account key space, and one contract. Every flush overlaps the one before it and is
merged with it, so fewer, larger flushes write less; codes and patches come in random
order, for which this counts most."""

FOLLOWED_BUFFERS = {"bundles": 32 << 20}
"""Other buffers for a directory that is to be followed: bundles that are folded are merged half as often."""

LOCK_FILE = "LOCK"
MARK = "ethsync"
"""A directory with this file is ours; we never create databases in one that holds something else."""

FOREIGN = frozenset({LOCK_FILE, "nodekey", "identity.json"})
"""What may lie in a directory before it is ours: who moves a node brings its identity along."""


@dataclass(frozen=True, slots=True)
class Datadir:
    """The open databases of a data directory."""

    path: Path
    format: Format
    accounts: Database
    bundles: Database
    storage: Database
    codes: Database
    headers: Database
    ledger: Database
    patches: Database

    def lay_over(self) -> None:
        """Have what following changed laid over the databases, if there is something; to be called when that changes.

        Without it, reading costs what it would cost if nobody had ever followed.
        """
        is_patched = last_step(self.patches) > 0
        for name, layer in LAYERS.items():
            database: Database = getattr(self, name)
            if (database.overlay is not None) != is_patched:
                database.overlay = Overlay(self.patches, layer) if is_patched else None

    def forget(self, fact: bytes) -> None:
        """Remove a fact about the state, also where following has changed it, and force that to the disk.

        What following says of it goes last: an older fact would show instead.
        """
        for database, key in ((self.accounts, fact), (self.patches, patched_key(LAYERS["accounts"], fact))):
            batch = database.batch()
            batch.delete(key)
            database.commit(batch, sync=True)

    def databases(self) -> tuple[Database, ...]:
        """All databases, in the order in which they must reach the disk: the ledger relies on the others.

        But for the patches: each step forces itself to the disk.
        """
        return self.bundles, self.storage, self.codes, self.headers, self.accounts, self.ledger


@contextmanager
def open_datadir(path: Path, create: Format | None = None, *, followed: bool = False) -> Iterator[Datadir]:
    """Open a data directory for this process alone.

    With `create` a missing directory is made for that network, and an existing one must belong to it. followed: it is
    tuned for following. Raises ConfigError (there is none), DatadirBusy, DatadirMismatch (other network, newer format),
    DatadirDamaged. Nothing is ever deleted.
    """
    if create is None and not (path / MARK).exists():
        raise ConfigError(f"{path} is not a data directory", hint="name the --datadir of an earlier `ethsync snap`")
    if create is None and not any((path / name).exists() for name in DATABASES):
        raise ConfigError(f"{path} is empty", hint="run `ethsync snap` into it first")
    with ExitStack() as stack:
        claim(path)
        with _explained(path):
            stack.enter_context(_locked(path))
        buffers = FOLLOWED_BUFFERS if followed else {}
        shapes = {
            name: replace(shape, write_buffer=buffers.get(name, shape.write_buffer))
            for name, shape in DATABASES.items()
        }
        opened = {name: _open(stack, path / name, create is not None, shape) for name, shape in shapes.items()}
        found = _check_format(path, opened["accounts"], create)
        datadir = Datadir(path, found, **opened)
        datadir.lay_over()
        yield datadir


def claim(path: Path) -> None:
    """Make a directory that will hold our data, or mark an empty one as ours.

    Raises ConfigError if it holds something else, or for lack of permission; DiskFull.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file, not a directory")
    with _explained(path):
        if path.exists() and not (path / MARK).exists() and any(each.name not in FOREIGN for each in path.iterdir()):
            raise ConfigError(f"{path} holds something else", hint="choose an empty or a new directory")
        path.mkdir(parents=True, exist_ok=True)
        (path / MARK).touch()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise ConfigError(f"no permission to use {path}: {error.strerror}") from error
    except OSError as error:
        raise DiskFull(f"{path} cannot be written: {error.strerror}") from error


def _open(stack: ExitStack, path: Path, create: bool, shape: Shape) -> Database:
    create = create or path.name == PATCHES  # directories from before there was following do not have it
    database = Database(path, create=create, neighbourhood=shape.neighbourhood, write_buffer=shape.write_buffer)
    stack.callback(database.close)
    return database


def _check_format(path: Path, accounts: Database, create: Format | None) -> Format:
    """Compare what the directory says with what is wanted; write it into a new one."""
    stored = accounts.get(FACT_FORMAT)
    if stored is None:
        if create is None:
            raise ConfigError(f"{path} is empty", hint="run `ethsync snap` into it first")
        accounts.put(FACT_FORMAT, create.encode(), sync=True)
        return create
    found = decode_format(stored)
    if found.version > FORMAT_VERSION:
        raise DatadirMismatch(
            f"{path} has format {found.version}, this ethsync knows {FORMAT_VERSION}", hint="use a newer ethsync"
        )
    if create is not None and found.genesis_hash != create.genesis_hash:
        raise DatadirMismatch(
            f"{path} holds {found.network} (genesis {found.genesis_hash[:10]}…), not {create.network} "
            f"(genesis {create.genesis_hash[:10]}…)",
            hint="use another --datadir",
        )
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file for as long as the directory is in use; the kernel lets go of it when the process dies."""
    with open(path / LOCK_FILE, "a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise DatadirBusy(f"{path} is in use by process {owner}", hint="wait for it or stop it") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def free_bytes(path: Path) -> int:
    """Bytes that an unprivileged process can still write to the file system of a directory."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
