"""enode:// URLs: where a node listens and which key it must prove to have (devp2p enode.md)."""

from __future__ import annotations

import string
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from ethsync.errors import ConfigError

_FIELD_PRIME = 2**256 - 2**32 - 977  # secp256k1 (SEC 2, section 2.4.1): y² = x³ + 7 modulo this prime
_HINT = "write enode://<128 hex digits>@<host>:<port>"


@dataclass(frozen=True, slots=True)
class Enode:
    """A node's address. `public_key` has 64 bytes; `host` is a name or an IP address without brackets."""

    public_key: bytes
    host: str
    tcp_port: int
    udp_port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        suffix = "" if self.udp_port == self.tcp_port else f"?discport={self.udp_port}"
        return f"enode://{self.public_key.hex()}@{host}:{self.tcp_port}{suffix}"


def parse_enode(text: str) -> Enode:
    """Parse an enode URL. Raises `ConfigError` that says what is wrong with it."""
    try:
        url = urlsplit(text.strip())
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ConfigError(f"not a node address: {text!r}: {error}", hint=_HINT) from error
    if url.scheme != "enode":
        raise ConfigError(f"not a node address: {text!r} does not begin with enode://", hint=_HINT)
    if not host or not port:
        raise ConfigError(f"node address without host or port: {text!r}", hint=_HINT)
    return Enode(_parse_key(url.username or "", text), host, port, _parse_discport(url.query, port, text))


def _parse_key(digits: str, text: str) -> bytes:
    if len(digits) != 128 or not set(digits) <= set(string.hexdigits):
        raise ConfigError(f"node address whose key is not 128 hex digits: {text!r}", hint=_HINT)
    key = bytes.fromhex(digits)
    x, y = int.from_bytes(key[:32], "big"), int.from_bytes(key[32:], "big")
    on_curve = max(x, y) < _FIELD_PRIME and (y * y - x**3 - 7) % _FIELD_PRIME == 0
    if not on_curve:
        raise ConfigError(f"node address whose key is not a point of secp256k1: {text!r}")
    return key


def _parse_discport(query: str, default: int, text: str) -> int:
    values = parse_qs(query).get("discport")
    if values is None:
        return default
    digits = values[-1]
    if not (digits.isascii() and digits.isdigit() and int(digits[:6]) < 65536):
        raise ConfigError(f"node address with a bad discport: {text!r}", hint=_HINT)
    return int(digits[:6])
