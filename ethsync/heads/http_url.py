"""Addresses of HTTP services, which may contain secrets and are never shown whole."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ethsync.errors import ConfigError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """Where an HTTP service is. `path` is what goes before each request's path; providers put keys into it."""

    scheme: str
    host: str
    port: int
    path: str = field(default="", repr=False)
    authorization: str | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """Host and port as the Host header wants them (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Without path, user and password: they may be secrets."""
        return f"{self.scheme}://{self.authority}"


def parse_http_url(text: str) -> HttpUrl:
    """Read `http[s]://[USER:PASSWORD@]HOST[:PORT][/PATH]`. Raises ConfigError, which does not repeat secrets."""
    hint = "write http://HOST:PORT or https://HOST/PATH"
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
        (host or "").encode("idna")  # the name service would refuse it later, with a traceback
    except ValueError as error:
        raise ConfigError(f"a URL cannot be read: {error}", hint=hint) from None
    if parts.scheme not in _PORTS or not host or parts.query or parts.fragment or not _is_printable(text):
        raise ConfigError(f"'{parts.scheme}://{host or ''}…' is not the URL of an HTTP service", hint=hint)
    authorization = None
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(secret.encode()).decode('ascii')}"
    return HttpUrl(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"), authorization)


def _is_printable(text: str) -> bool:
    """Whether it can be sent as it is: no blanks, which would end the path, no line ends, nothing but ASCII."""
    return text.isascii() and text.isprintable() and " " not in text
