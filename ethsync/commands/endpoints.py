"""Addresses with ports, as people write them on the command line."""

from __future__ import annotations

from ipaddress import ip_address

from ethsync.discovery.node import Endpoint

LONGEST_PORT = 5  # digits of 65535


def parse_endpoint(text: str, *, port: int, host: str = "") -> Endpoint:
    """Read `IP`, `IP:PORT`, `[IPv6]`, `[IPv6]:PORT` or, where there is a usual `host`, `:PORT`.

    `port` counts where none is written. Raises ValueError for anything else.
    """
    bare, digits = text, None
    if text.startswith("["):
        bare, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("a bracket that is not closed, or something behind it")
        digits = rest[1:] if rest else None
    elif text.count(":") == 1:
        bare, _, digits = text.partition(":")
    return Endpoint(ip_address(bare or host), port if digits is None else _parse_port(digits))


def _parse_port(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_PORT and int(digits) < 65536):
        raise ValueError("a port that is none")
    return int(digits)
