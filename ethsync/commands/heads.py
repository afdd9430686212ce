"""Options of the command line about the trusted head, turned into what `ethsync.heads.source` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.commands.endpoints import parse_endpoint
from ethsync.errors import ConfigError
from ethsync.heads.http_url import parse_http_url
from ethsync.heads.jwt import load_secret
from ethsync.heads.source import BeaconNodes, EngineApi, FixedHead
from ethsync.store.datadir import claim
from ethsync.sync.heads import parse_head

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.discovery.node import Endpoint
    from ethsync.heads.http_url import HttpUrl
    from ethsync.heads.source import HeadSource

FORMS = "beacon:URL[,URL…], engine or hash:0x…"
"""What `--head` takes."""

CHOICES = (
    "name who vouches for it: --head beacon:URL[,URL…] for a consensus client's REST API, --head engine for one that "
    "drives us, or --head hash:0x… for one block that is followed no further; peers cannot be asked"
)

MOST_BEACON_NODES = 8
"""Beacon nodes that are asked: each more is one more that can hold up all."""

AUTHRPC_PORT = 8551  # execution-apis, src/engine/authentication.md, "JWT specifications"
LOCALHOST, LOOPBACK = "localhost", "127.0.0.1"
AUTHRPC = f"{LOOPBACK}:{AUTHRPC_PORT}"

SECRET_NAME = "jwt.hex"  # the same place, "Key distribution"


def make_head_source(text: str | None, *, authrpc: str | None, jwt_secret: Path | None, directory: Path) -> HeadSource:
    """Read `--head`, `--authrpc` and `--jwt-secret`. Without the last, the secret is in the data directory.

    For `engine`, a secret that does not exist is made. Raises ConfigError, StoreError.
    """
    if text is None:
        raise ConfigError("which block is to be trusted?", hint=CHOICES)
    if text != "engine" and (authrpc is not None or jwt_secret is not None):
        raise ConfigError("--authrpc and --jwt-secret are for --head engine", hint="leave them out")
    if text == "engine":
        address = parse_authrpc(AUTHRPC if authrpc is None else authrpc)
        return EngineApi(address, load_secret(_default_secret(directory) if jwt_secret is None else jwt_secret))
    scheme, _, rest = text.partition(":")
    if scheme == "beacon":
        return BeaconNodes(_parse_urls(rest))
    if scheme == "hash":
        return FixedHead(parse_head(text))
    raise ConfigError(f"'{text.partition('//')[0]}' does not name a head to trust", hint=f"write {FORMS}")


def _parse_urls(text: str) -> tuple[HttpUrl, ...]:
    urls = tuple(parse_http_url(url.strip()) for url in text.split(",") if url.strip())
    if not 1 <= len(urls) <= MOST_BEACON_NODES or len(set(urls)) < len(urls):
        raise ConfigError(
            f"--head beacon: takes 1 to {MOST_BEACON_NODES} different URLs", hint="write beacon:http://127.0.0.1:5052"
        )
    return urls


def parse_authrpc(text: str) -> Endpoint:
    """Read `IP`, `IP:PORT`, `[IPv6]:PORT`, `localhost:PORT` or `:PORT`. Raises ConfigError."""
    if text.startswith(LOCALHOST):
        text = LOOPBACK + text.removeprefix(LOCALHOST)
    try:
        return parse_endpoint(text, port=AUTHRPC_PORT, host=LOOPBACK)
    except ValueError:
        raise ConfigError(f"'{text}' is not an address to listen on", hint="write IP:PORT or [IPv6]:PORT") from None


def _default_secret(directory: Path) -> Path:
    claim(directory)
    return directory / SECRET_NAME
