"""Looking up TXT records with dnspython over trio. Imported only where lookups are made: dnspython loads slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver
import trio
from dns.rdtypes.ANY.TXT import TXT

from ethsync.errors import ConfigError, LookupFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ethsync.discovery.dns_service import Resolve
    from ethsync.discovery.node import Endpoint

TIMEOUT = 5.0  # seconds a lookup, with everything in it (go-ethereum p2p/dnsdisc/client.go, Timeout)
ATTEMPT = 2.0  # seconds until the question is sent again, or to the next server: the packet may have been lost

_WHY: Mapping[type[dns.exception.DNSException], str] = {
    dns.resolver.NXDOMAIN: "there is no such name",
    dns.resolver.NoAnswer: "no text is there",
    dns.resolver.LifetimeTimeout: "no answer in time",
}


def open_resolver(nameservers: Sequence[Endpoint] | None = None, timeout: float = TIMEOUT) -> Resolve:
    """Return a function that asks these servers, or those that the system uses, for the TXT records of a name.

    Each record is one string, its parts joined; those that are not ASCII are left out, because no node list has them.
    A truncated answer is asked for again over TCP. `timeout` is in seconds. The function raises `LookupFailed`. No
    socket is kept between lookups, so there is nothing to close. Raises `ConfigError` if the system has no server.
    """
    resolver, backend = _configured(nameservers), dns.asyncbackend.get_backend("trio")
    resolver.timeout = min(ATTEMPT, timeout)

    async def resolve(name: str) -> list[str]:
        with trio.move_on_after(timeout):
            try:
                answer = await resolver.resolve(
                    f"{name}.", dns.rdatatype.TXT, search=False, lifetime=timeout, backend=backend
                )
            except dns.exception.DNSException as error:
                raise LookupFailed(f"cannot look up {name}: {_reason(error)}") from error
            joined = (b"".join(record.strings) for record in answer if isinstance(record, TXT))
            return [text.decode("ascii") for text in joined if text.isascii()]
        raise LookupFailed(f"cannot look up {name}: no answer in {timeout:g} s")

    return resolve


def _configured(nameservers: Sequence[Endpoint] | None) -> dns.asyncresolver.Resolver:
    try:
        resolver = dns.asyncresolver.Resolver(configure=nameservers is None)
    except dns.resolver.NoResolverConfiguration as error:
        raise ConfigError("this system has no DNS server configured", hint="name one: --nameserver IP") from error
    if nameservers is not None:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(str(each.ip), each.port) for each in nameservers]
    return resolver


def _reason(error: dns.exception.DNSException) -> str:
    """What went wrong, in a few words; with several servers, what the last of them did."""
    if isinstance(error, dns.resolver.NoNameservers):
        errors = error.kwargs.get("errors") or [(None, None, None, "it was not asked")]
        return f"the server failed: {errors[-1][3]}"
    return _WHY.get(type(error), str(error))
