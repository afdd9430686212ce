"""`--head`, `--authrpc` and `--jwt-secret`."""

from __future__ import annotations

import stat
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from ethsync.commands.heads import MOST_BEACON_NODES, make_head_source, parse_authrpc
from ethsync.discovery.node import Endpoint
from ethsync.errors import ConfigError
from ethsync.heads.http_url import HttpUrl
from ethsync.heads.source import BeaconNodes, EngineApi, FixedHead, HeadSource
from ethsync.store.datadir import claim

LOOPBACK = IPv4Address("127.0.0.1")
HASH = "ab" * 32


def source(
    text: str | None, directory: Path, *, authrpc: str | None = None, jwt_secret: Path | None = None
) -> HeadSource:
    return make_head_source(text, authrpc=authrpc, jwt_secret=jwt_secret, directory=directory)


def test_a_hash_is_one_head(tmp_path: Path) -> None:
    assert source(f"hash:0x{HASH}", tmp_path) == FixedHead(bytes.fromhex(HASH))


def test_one_or_several_beacon_nodes(tmp_path: Path) -> None:
    one, other = HttpUrl("http", "127.0.0.1", 5052), HttpUrl("https", "example.org", 443, "/key")
    assert source("beacon:http://127.0.0.1:5052", tmp_path) == BeaconNodes((one,))
    assert source("beacon:http://127.0.0.1:5052, https://example.org/key", tmp_path) == BeaconNodes((one, other))


def test_the_engine_has_its_usual_port_and_a_secret_in_the_data_directory(tmp_path: Path) -> None:
    # Given a data directory that does not exist yet
    directory = tmp_path / "data"
    found = source("engine", directory)
    assert isinstance(found, EngineApi)
    assert found.address == Endpoint(LOOPBACK, 8551)
    path = directory / "jwt.hex"
    assert path.read_text().strip() == f"0x{found.secret.hex()}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # Then the sync can use the directory, and the next start has the same secret.
    claim(directory)
    assert source("engine", directory) == found


def test_the_engine_takes_address_and_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(HASH)
    found = source("engine", tmp_path / "data", authrpc="0.0.0.0:9999", jwt_secret=path)
    assert found == EngineApi(Endpoint(IPv4Address("0.0.0.0"), 9999), bytes.fromhex(HASH))
    assert not (tmp_path / "data").exists()


def test_without_a_head_the_choices_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        source(None, tmp_path)
    for choice in ("beacon:URL", "--head engine", "hash:0x", "peers cannot be asked"):
        assert choice in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "", "latest", "engine:", "hash:", "hash:0x12", f"hash:{HASH}0", "beacon:", "beacon:,", "beacon:127.0.0.1:5052",
        "beacon:http://a,http://a", "beacon:" + ",".join(f"http://h{n}" for n in range(MOST_BEACON_NODES + 1)),
        HASH, "http://127.0.0.1:5052",
    ],
)  # fmt: skip
def test_what_names_no_head_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        source(text, tmp_path)


@pytest.mark.parametrize("text", [f"hash:0x{HASH}", "beacon:http://127.0.0.1:5052"])
def test_options_of_the_engine_are_for_the_engine(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="for --head engine"):
        source(text, tmp_path, authrpc="127.0.0.1:8551")
    with pytest.raises(ConfigError, match="for --head engine"):
        source(text, tmp_path, jwt_secret=tmp_path / "secret")


def test_a_secret_that_is_none_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("my diary")
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        source("engine", tmp_path, jwt_secret=path)
    assert path.read_text() == "my diary"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:1", Endpoint(LOOPBACK, 1)),
        ("127.0.0.1", Endpoint(LOOPBACK, 8551)),
        ("localhost:9", Endpoint(LOOPBACK, 9)),
        (":9", Endpoint(LOOPBACK, 9)),
        ("[::1]:9", Endpoint(IPv6Address("::1"), 9)),
        ("::1", Endpoint(IPv6Address("::1"), 8551)),
    ],
)
def test_addresses_to_listen_on(text: str, endpoint: Endpoint) -> None:
    assert parse_authrpc(text) == endpoint


@pytest.mark.parametrize("text", ["example.org:1", "127.0.0.1:x", "127.0.0.1:70000", "[::1", "1.2.3:5"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not an address"):
        parse_authrpc(text)
