"""HTTP requests over real sockets: what comes back, and how each failure is named."""

from __future__ import annotations

import ssl
from base64 import b64encode
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ethsync.errors import ConfigError, MalformedMessage, PeerGone, RequestTimeout, Unreachable
from ethsync.heads.http_client import HttpClient, HttpRefused, open_http
from ethsync.heads.http_url import HttpUrl, parse_http_url
from tests.oracles.beacon_node import FakeBeaconNode, Reply, open_beacon_node

TLS = Path(__file__).parents[2] / "vectors" / "tls"


async def test_a_body_and_its_headers_arrive() -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies["/a"] = Reply(b"hello", headers=(("Eth-Consensus-Version", "fulu"),))
        response = await http.get_response("/a", 100)
    assert (response.status, response.body, response.headers["eth-consensus-version"]) == (200, b"hello", "fulu")


async def test_requests_in_a_row_share_a_connection() -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies |= {"/a": Reply(b"one"), "/b": Reply(b"two")}
        assert [await http.get("/a", 9), await http.get("/b", 9)] == [b"one", b"two"]
    assert node.connections == 1


async def test_a_connection_that_the_server_closed_is_opened_again() -> None:
    # Given a server that answers and then hangs up without having said so
    async with open_beacon_node(FakeBeaconNode(close_after_answer=True)) as node, open_http(node.url) as http:
        node.replies |= {"/a": Reply(b"one"), "/b": Reply(b"two")}
        # Then the second request goes over a new connection.
        assert [await http.get("/a", 9), await http.get("/b", 9)] == [b"one", b"two"]
    assert node.connections == 2


async def test_a_server_that_says_it_closes_is_believed() -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies["/a"] = Reply(b"one", headers=(("Connection", "close"),))
        assert [await http.get("/a", 9), await http.get("/a", 9)] == [b"one", b"one"]
    assert node.connections == 2


async def test_a_body_in_chunks_is_joined() -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies["/a"] = Reply(b"x" * 100_000, headers=(("Transfer-Encoding", "chunked"),))
        assert await http.get("/a", 100_000) == b"x" * 100_000


async def test_the_path_of_the_service_comes_first_and_its_password_goes_along() -> None:
    async with open_beacon_node() as node:
        node.replies["/key/a"] = Reply(b"found")
        url = parse_http_url(f"http://me:s%20ecret@127.0.0.1:{node.url.port}/key/")
        async with open_http(url) as http:
            assert await http.get("/a", 9) == b"found"
    headers = dict(node.requests[0].headers)
    assert headers[b"authorization"] == b"Basic " + b64encode(b"me:s ecret")
    assert headers[b"host"] == f"127.0.0.1:{node.url.port}".encode()


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_an_answer_other_than_success_is_an_error_with_its_status(status: int) -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies["/a"] = Reply(b"sorry", status)
        with pytest.raises(HttpRefused, match=str(status)) as caught:
            await http.get("/a", 9)
    assert caught.value.status == status


async def test_a_redirection_is_not_followed() -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies["/a"] = Reply(b"", 302, (("Location", "/b"),))
        with pytest.raises(HttpRefused, match="redirection"):
            await http.get("/a", 9)
    assert node.asked == ["/a"]


@pytest.mark.parametrize("headers", [(), (("Transfer-Encoding", "chunked"),)])
async def test_a_body_that_is_too_long_is_cut_off(headers: tuple[tuple[str, str], ...]) -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies["/a"] = Reply(b"x" * 1000, headers=headers)
        with pytest.raises(MalformedMessage, match="more than 999 bytes"):
            await http.get("/a", 999)
        # Then the next request is not disturbed by what was left over.
        assert await http.get("/a", 1000) == b"x" * 1000


async def test_a_server_that_does_not_answer_is_given_up(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with open_beacon_node() as node, open_http(node.url, timeout=7) as http:
        node.replies |= {"/a": Reply(b"", hang=True), "/b": Reply(b"fine")}
        began = trio.current_time()
        with pytest.raises(RequestTimeout, match="within 7 s"):
            await http.get("/a", 9)
        assert trio.current_time() - began == pytest.approx(7, abs=0.1)
        assert await http.get("/b", 9) == b"fine"


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A" * 100_000,
    ],
)
async def test_what_is_not_http_is_malformed(raw: bytes) -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies["/a"] = Reply(b"", raw=raw)
        with pytest.raises(MalformedMessage, match="HTTP"):
            await http.get("/a", 9)


async def test_a_server_that_hangs_up_is_gone() -> None:
    async with open_beacon_node() as node, open_http(node.url) as http:
        node.replies["/a"] = Reply(b"", raw=b"")
        with pytest.raises(PeerGone, match="closed the connection"):
            await http.get("/a", 9)


async def test_nobody_there_is_unreachable() -> None:
    async with open_beacon_node() as node:
        url = node.url
    with pytest.raises(Unreachable, match=f"127.0.0.1:{url.port} cannot be reached"):
        await HttpClient(url).get("/a", 9)


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    return context


async def test_https_with_a_trusted_certificate() -> None:
    trusted = ssl.create_default_context(cafile=str(TLS / "certificate.pem"))
    async with open_beacon_node(tls=server_tls()) as node, open_http(node.url, trusted) as http:
        node.replies["/a"] = Reply(b"secret")
        assert [await http.get("/a", 9), await http.get("/a", 9)] == [b"secret", b"secret"]
    assert node.connections == 1


async def test_https_with_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    async with open_beacon_node(tls=server_tls()) as node:
        with pytest.raises(PeerGone, match="self-signed certificate"):
            await HttpClient(node.url).get("/a", 9)
    assert node.asked == []


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:5052", HttpUrl("http", "127.0.0.1", 5052)),
        ("https://example.org/", HttpUrl("https", "example.org", 443)),
        ("http://[::1]:80/x/", HttpUrl("http", "::1", 80, "/x")),
    ],
)
def test_urls_are_read(text: str, url: HttpUrl) -> None:
    assert parse_http_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1:5052", "ftp://host", "http://", "http://h:99999", "http://h:x", "http://h/?a=b", "http://h/a b",
     "http://h/#x", "http://h/\r\nX: y", "http://hé/", "http://a..b/", "http://[::1"],
)  # fmt: skip
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_http_url(text)


def test_urls_are_shown_without_what_may_be_secret() -> None:
    # Given a provider's URL with a key in its path, a user and a password
    url = parse_http_url("https://alice:hunter2@node.example.org:8443/v1/APIKEY")
    # Then none of them can get into a log.
    assert str(url) == "https://node.example.org:8443"
    for secret in ("alice", "hunter2", "APIKEY", "Basic"):
        assert secret not in repr(url)
    with pytest.raises(ConfigError) as caught:
        parse_http_url("ftp://alice:hunter2@host/APIKEY")
    assert "hunter2" not in str(caught.value)
    assert "APIKEY" not in str(caught.value)
