"""`ethsync enr decode` and `ethsync enr sign`: node records, taken apart and made."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ethsync.cli import EXIT_FAILED
from ethsync.commands.key_files import read_key_file
from ethsync.commands.record_facts import lines, record_facts
from ethsync.discovery.forks import presumed_head
from ethsync.discovery.local_record import MILLISECONDS
from ethsync.errors import ConfigError, LocalProtocolError, MalformedMessage
from ethsync.fork_overrides import with_overrides
from ethsync.networks import built_in_networks, load_network
from ethsync.wire import rlp
from ethsync.wire.enr import PREFIX, address_pairs, parse_unverified, sign_record

if TYPE_CHECKING:
    from collections.abc import Sequence

IP = TypeVar("IP", IPv4Address, IPv6Address)

LARGEST_INPUT = 64 << 20
"""Bytes of a file that are read: 200,000 records, far more than any published list has."""

STDIN = "-"
RAW = "rlp:"
"""Before a value of --set that is in RLP already, such as a list."""


def run_decode(source: str, as_json: bool) -> int:
    """Show every record in `source`: a text `enr:…`, a file, or `-`. Return 0 if all signatures hold, 1 otherwise.

    Raises ConfigError if there is no record, or if the only one is malformed.
    """
    texts = _records_in(_text_of(source))
    if not texts:
        raise ConfigError(f"{source} holds no node record", hint="a node record begins with enr:")
    networks = built_in_networks()
    all_hold = True
    for number, text in enumerate(texts):
        try:
            record = parse_unverified(text)
        except ConfigError as error:
            if len(texts) == 1:
                raise
            facts: dict[str, Any] = {"record": text, "error": str(error)}
        else:
            facts = record_facts(record, networks)
        all_hold = all_hold and facts.get("signature") == "valid"
        if number and not as_json:
            click.echo()
        click.echo(json.dumps(facts) if as_json else "\n".join(lines(facts)))
    return 0 if all_hold else EXIT_FAILED


def _text_of(source: str) -> str:
    if source == STDIN:
        return sys.stdin.read(LARGEST_INPUT)
    if source.strip().startswith(PREFIX):
        return source
    try:
        with Path(source).open(encoding="utf-8", errors="replace") as file:
            return file.read(LARGEST_INPUT)
    except OSError as error:
        hint = f"give {PREFIX}…, a file, or - for standard input"
        raise ConfigError(f"{source} is no node record and cannot be read: {error.strerror}", hint=hint) from error


def _records_in(text: str) -> list[str]:
    """The records in a text, however it separates them: lines, a YAML or JSON list, comments beside them."""
    words = (word.strip("\"',[]") for word in text.replace(",", " ").split())
    return [word for word in words if word.startswith(PREFIX)]


@dataclass(frozen=True, slots=True)
class SignCommand:
    """The options of `ethsync enr sign`, as they were given."""

    key: Path
    ip: str | None
    ip6: str | None
    ports: dict[str, int]
    """Under `tcp`, `udp`, `tcp6` and `udp6`; 0 is none."""
    seq: int | None
    settings: Sequence[str]
    network: str | None
    forks: Sequence[str] = ()
    """Those of the network that are elsewhere, as `--override-fork` names them."""


def run_sign(command: SignCommand) -> int:
    """Print the record that the options describe. Raises ConfigError."""
    now = time.time()
    pairs = address_pairs(_parse_ip(command.ip, IPv4Address), _parse_ip(command.ip6, IPv6Address), **command.ports)
    if command.network is not None:
        forks = with_overrides(load_network(command.network), command.forks).forks
        pairs[b"eth"] = rlp.encode_list([forks.fork_id(*presumed_head(forks, now)).encode()])
    elif command.forks:
        raise ConfigError("--override-fork needs the chain whose fork it is", hint="add --network NAME")
    pairs.update(_parse_setting(text) for text in command.settings)
    key = read_key_file(command.key)
    seq = int(now * MILLISECONDS) if command.seq is None else command.seq
    try:
        click.echo(str(sign_record(key, seq, pairs)))
    except LocalProtocolError as error:
        raise ConfigError(str(error), hint="leave something out") from error
    return 0


def _parse_ip(text: str | None, kind: type[IP]) -> IP | None:
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError as error:
        name, example = ("IPv4", "192.0.2.1") if kind is IPv4Address else ("IPv6", "2001:db8::1")
        raise ConfigError(f"'{text}' is not an {name} address", hint=f"write one like {example}") from error


def _parse_setting(text: str) -> tuple[bytes, bytes]:
    """Read KEY=HEX: a key of a record, and its value in RLP. Raises ConfigError."""
    name, equals, digits = text.partition("=")
    hint = f"write KEY=HEX, or KEY={RAW}HEX for a value that is in RLP already"
    try:
        value = bytes.fromhex(digits.removeprefix(RAW).removeprefix("0x"))
        if digits.startswith(RAW):
            rlp.decode(value)
        else:
            value = rlp.encode_bytes(value)
    except (ValueError, MalformedMessage) as error:
        raise ConfigError(f"'{text}' has no value that can be put into a record: {error}", hint=hint) from error
    if not equals or not name:
        raise ConfigError(f"'{text}' is not a key with a value", hint=hint)
    if name in ("id", "secp256k1"):
        raise ConfigError(f"'{name}' follows from the key that signs and cannot be set", hint="leave it out")
    return name.encode("utf-8"), value
