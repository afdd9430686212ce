"""Who we are: the node key of a data directory, and what we last told others about ourselves.

Two files lie in the directory. `nodekey` holds the private key in geth's format, 64 hexadecimal digits, for its owner
alone. `identity.json` holds our last record and what others saw as our address; without it we are still the same node.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import coincurve

from ethsync.discovery.node import Endpoint
from ethsync.errors import ConfigError, DatadirDamaged, StoreError
from ethsync.wire import keys
from ethsync.wire.enr import parse_record

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.wire.enr import NodeRecord

KEY_FILE = "nodekey"  # geth's name (node/config.go, datadirPrivateKey)
IDENTITY_FILE = "identity.json"

_KEY_DIGITS = 64  # hexadecimal digits of a private key of secp256k1 (geth, crypto.LoadECDSA)
_MOST_BYTES = 1 << 16  # of a file that is read: hundreds of times what we write


@dataclass(frozen=True, slots=True)
class Identity:
    """Our key, and what is remembered of us: the last record that we signed, and how others saw us."""

    key: coincurve.PrivateKey
    record: NodeRecord | None = None
    seen: tuple[Endpoint, ...] = ()


def open_identity(directory: Path) -> Identity:
    """Read who we are from a data directory; a key is made if there is none.

    Raises `ConfigError` if others may read the key, `DatadirDamaged` if it is none, `StoreError` if the directory
    cannot be used. An `identity.json` that cannot be read counts as none: record numbers then begin anew from the
    clock, which is always ahead of where they were (`LocalRecord`).
    """
    path = directory / KEY_FILE
    try:
        if not path.exists():
            _create(path, coincurve.PrivateKey().secret.hex().encode("ascii"))
        key = read_node_key(path)
        record, seen = _remembered(directory / IDENTITY_FILE)
    except OSError as error:
        raise StoreError(
            f"{error.filename or directory} cannot be used: {error.strerror}", hint="is it yours to write to?"
        ) from error
    ours = record is not None and record.public_key == keys.identity(key.public_key)
    return Identity(key, record if ours else None, seen)


def read_node_key(path: Path) -> coincurve.PrivateKey:
    """Read a private key as geth writes it. Raises `ConfigError`, `DatadirDamaged`, OSError."""
    with open(path, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        text = file.read(_MOST_BYTES).strip()
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        # As ssh does with its keys: whoever has this one can speak and sign in our name.
        raise ConfigError(f"{path} may be used by others (mode {mode:04o})", hint=f"chmod 600 {path}")
    try:
        secret = bytes.fromhex(text.decode("ascii"))
        if (len(text), len(secret)) != (_KEY_DIGITS, _KEY_DIGITS // 2):  # fromhex passes over spaces
            raise ValueError
        return coincurve.PrivateKey(secret)
    except ValueError:
        raise DatadirDamaged(
            f"{path} is not a private key in {_KEY_DIGITS} hexadecimal digits",
            hint="restore it, or remove it to become a new node",
        ) from None


def save_identity(directory: Path, record: NodeRecord, seen: tuple[Endpoint, ...] = ()) -> None:
    """Remember a record before it is told to anybody, so that its number never goes back. Forces it to the disk.

    Raises `StoreError`.
    """
    path = directory / IDENTITY_FILE
    facts = {"record": str(record), "seen": [str(endpoint) for endpoint in seen]}
    try:
        written = _write_beside(path, json.dumps(facts, indent=1).encode("ascii"))
        os.replace(written, path)
        _force(directory)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", hint="is it yours to write to?") from error


def _remembered(path: Path) -> tuple[NodeRecord | None, tuple[Endpoint, ...]]:
    try:
        with open(path, "rb") as file:
            facts: dict[str, Any] = json.loads(file.read(_MOST_BYTES))
        return parse_record(facts["record"]), tuple(_parse_endpoint(text) for text in facts["seen"])
    except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError, RecursionError, ConfigError):
        return None, ()


def _parse_endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return Endpoint(ip_address(host.strip("[]")), int(port))


def _create(path: Path, content: bytes) -> None:
    """Make a file that did not exist, in one step: a kill leaves either none or a whole one."""
    written = _write_beside(path, content)
    try:
        os.link(written, path)
    except FileExistsError:
        pass  # another process was faster, and its key is ours
    finally:
        os.unlink(written)
    _force(path.parent)


def _write_beside(path: Path, content: bytes) -> Path:
    """Write a new file for us alone beside `path`, down to the disk."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        os.unlink(beside)
        raise
    return beside


def _force(directory: Path) -> None:
    """Force a directory's entries to the disk (fsync(2): a file's own fsync does not)."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
