"""Who may call the Engine API: a shared secret, and tokens made with it (execution-apis, src/engine/authentication.md).

A token is `header.claims.signature`, each in base64url without padding; HS256 is HMAC-SHA-256 (RFC 7519, RFC 7515).
"""

from __future__ import annotations

import hmac
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from ethsync.errors import ConfigError, MalformedMessage, PeerError
from ethsync.heads.json_fields import JsonValue, mapping, parse_json

if TYPE_CHECKING:
    from pathlib import Path

LEEWAY = 60
"""Seconds that a token's time of issue may differ from now (authentication.md, "JWT Claims")."""

SECRET_BYTES = 32
"""Bytes of the secret (authentication.md, "Key distribution")."""

MOST_TOKEN = 4096
"""Characters of a token that is looked at: an ordinary one has under 200."""

_HEADER = b'{"alg":"HS256","typ":"JWT"}'


class NotAuthorized(PeerError):
    """A call without a valid token."""


def load_secret(path: Path) -> bytes:
    """Read the secret from a file of 64 hexadecimal digits, with or without 0x; make file and secret if there is none.

    A new file can be read by its owner only. Raises ConfigError; a file with other content is never replaced.
    """
    try:
        text = path.read_bytes()[: MOST_TOKEN + 1].decode("ascii", "replace").strip().removeprefix("0x")
    except FileNotFoundError:
        return _make_secret(path)
    except OSError as error:
        raise ConfigError(f"the secret {path} cannot be read: {error.strerror}") from error
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES or len(text) != 2 * SECRET_BYTES:
        raise ConfigError(
            f"{path} does not hold a secret of 64 hexadecimal digits",
            hint="give the file that the consensus client has, or remove it and both sides get a new one",
        )
    return secret


def _make_secret(path: Path) -> bytes:
    secret = secrets.token_bytes(SECRET_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"0x{secret.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(
            f"the secret {path} cannot be written: {error.strerror}", hint="choose another place with --jwt-secret"
        ) from error
    return secret


def make_token(secret: bytes, claims: bytes) -> str:
    """A token that carries these claims, which are JSON."""
    signed = f"{_encode(_HEADER)}.{_encode(claims)}"
    return f"{signed}.{_encode(_sign(secret, signed))}"


def check_authorization(header: str | None, secret: bytes, now: float) -> None:
    """Check an Authorization header. `now` is in seconds since 1970. Raises NotAuthorized, which says why.

    Claims other than `iat` and `exp` are ignored, as the specification wants. `exp` is not in it, but whoever gives a
    token an end means it (RFC 7519, section 4.1.4).
    """
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthorized("there is no bearer token")
    try:
        claims = mapping(_claims(token.strip(), secret), "claims")
    except MalformedMessage as error:
        raise NotAuthorized(f"the token cannot be read: {error}") from None
    issued, expires = claims.get("iat"), claims.get("exp")
    if isinstance(issued, bool) or not isinstance(issued, int | float) or not abs(int(now) - issued) <= LEEWAY:
        raise NotAuthorized(f"the token was not issued within {LEEWAY} s of now")
    if expires is not None and (not isinstance(expires, int | float) or now >= expires):
        raise NotAuthorized("the token is past its end")


def _claims(token: str, secret: bytes) -> JsonValue:
    parts = token.split(".")
    if len(token) > MOST_TOKEN or len(parts) != 3 or not token.isascii():
        raise MalformedMessage("it does not have three parts in ASCII")
    if mapping(parse_json(_decode(parts[0])), "its header").get("alg") != "HS256":
        raise MalformedMessage("it is not signed with HS256")
    if not hmac.compare_digest(_decode(parts[2]), _sign(secret, f"{parts[0]}.{parts[1]}")):
        raise MalformedMessage("its signature is wrong")
    return parse_json(_decode(parts[1]))


def _sign(secret: bytes, signed: str) -> bytes:
    return hmac.digest(secret, signed.encode("ascii"), sha256)


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    """Base64url without padding. What is left over in the last character must be zero, so that there is one form."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        data = b""
    if _encode(data) != text:
        raise MalformedMessage("it is not in base64url")
    return data
