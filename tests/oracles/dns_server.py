"""A name server on loopback that serves TXT records over UDP and TCP, and misbehaves where it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import trio
from dns.rdtypes.ANY.TXT import TXT

from ethsync.discovery.node import Endpoint

LOOPBACK = "127.0.0.1"
LARGEST_WITHOUT_TCP = 512

Misbehaviour = Callable[[dns.message.Message], list[bytes]]
"""What to send over UDP instead of the answer: any number of packets."""


@dataclass(slots=True)
class DnsServer:
    """`texts` by name, without final dot; names not in it do not exist."""

    texts: Mapping[str, list[str]]
    endpoint: Endpoint
    rcodes: dict[str, dns.rcode.Rcode] = field(default_factory=dict)
    misbehaviour: dict[str, Misbehaviour] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    over_udp: list[str] = field(default_factory=list)
    over_tcp: list[str] = field(default_factory=list)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """The whole answer."""
        response = dns.message.make_response(query)
        asked = query.question[0].name
        name = asked.to_text(omit_final_dot=True)
        if name in self.aliases:
            target = dns.name.from_text(self.aliases[name])
            response.answer.append(dns.rrset.from_text(asked, 60, "IN", "CNAME", target.to_text()))
            asked, name = target, self.aliases[name]
        if name in self.rcodes:
            response.set_rcode(self.rcodes[name])
        elif name not in self.texts:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif self.texts[name]:
            response.answer.append(dns.rrset.from_rdata_list(asked, 60, [txt(text) for text in self.texts[name]]))
        return response

    def packets(self, data: bytes) -> list[bytes]:
        """What is sent over UDP: the answer if it fits, otherwise one that says that it was cut off."""
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text(omit_final_dot=True)
        self.over_udp.append(name)
        if name in self.misbehaviour:
            return self.misbehaviour[name](query)
        try:
            return [self.answer(query).to_wire(max_size=LARGEST_WITHOUT_TCP)]
        except dns.exception.TooBig:
            return [truncated(query).to_wire()]


def txt(text: str) -> TXT:
    """A record with parts of at most 255 bytes."""
    data = text.encode()
    parts = [data[at : at + 255] for at in range(0, len(data), 255)] or [b""]
    return TXT(dns.rdataclass.IN, dns.rdatatype.TXT, parts)


def truncated(query: dns.message.Message) -> dns.message.Message:
    """An answer without content that asks for TCP."""
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return response


@asynccontextmanager
async def open_dns_server(texts: Mapping[str, list[str]], *, tcp: bool = True) -> AsyncIterator[DnsServer]:
    """Serve until the block is left."""
    listener, sock = await _bind()
    server = DnsServer(texts, Endpoint(IPv4Address(LOOPBACK), sock.getsockname()[1]))

    async def serve_udp() -> None:
        while True:
            data, client = await sock.recvfrom(4096)
            for packet in server.packets(data):
                await sock.sendto(packet, client)

    async def serve_tcp(stream: trio.SocketStream) -> None:
        if not tcp:
            await stream.aclose()
            return
        data = await stream.receive_some(4096)
        query = dns.message.from_wire(bytes(data[2:]))
        server.over_tcp.append(query.question[0].name.to_text(omit_final_dot=True))
        answer = server.answer(query).to_wire()
        await stream.send_all(len(answer).to_bytes(2, "big") + answer)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_udp)
        nursery.start_soon(trio.serve_listeners, serve_tcp, [listener])
        yield server
        nursery.cancel_scope.cancel()
    sock.close()


async def _bind() -> tuple[trio.SocketListener, trio.socket.SocketType]:
    """One port for both. The one that TCP was given can be taken for UDP, but hardly several times in a row."""
    for _ in range(20):
        listener = (await trio.open_tcp_listeners(0, host=LOOPBACK))[0]
        sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        try:
            await sock.bind((LOOPBACK, listener.socket.getsockname()[1]))
        except OSError:
            sock.close()
            await listener.aclose()
        else:
            return listener, sock
    raise AssertionError("no port is free for both UDP and TCP")
